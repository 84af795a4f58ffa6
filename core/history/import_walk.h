/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_IMPORT_WALK_H
#define DG_IMPORT_WALK_H

#include <stdatomic.h>
#include <stdint.h>

#include "err.h"
#include "import_files.h"
#include "import_report.h"

/* import_walk: finds the files below a directory, however hostile what lies there.
 *
 * Each directory is opened anew by its path from the top, without following a link and without
 * crossing into another mount, so a tree that is moved about while it is walked leads nowhere else.
 * There is a list of directories to go and no recursion: depth costs nothing and ends where paths
 * get too long. Directories are looked into by as many threads as call import_walk_run, one
 * descriptor each.
 *
 *   regular file        found; hard links are files of their own, by each of their names
 *   directory           walked; an empty one leaves no trace, as trees hold files only
 *   link, device, fifo,
 *   socket, mount point reported as special; never opened
 *   unreadable, gone,
 *   name not allowed    reported as failed; a directory with all that is below it */

struct import_walk;

/* How far an import is, for whoever looks. Any thread. */
struct import_tally {
	_Atomic uint64_t directories;
	_Atomic uint64_t found_files[IMPORT_CLASSES];
	_Atomic uint64_t found_bytes[IMPORT_CLASSES];
	_Atomic uint64_t read_files; /* read to the end, or left out */
	_Atomic uint64_t read_bytes;
};

struct import_walk_options {
	int dir;            /* borrowed */
	const char *prefix; /* "" or "some/dir/": put before every path */
	uint64_t entries_max;
	uint64_t bytes_max;
	struct import_files *files; /* empty; the walk's until it is closed */
	struct import_report *report;
	struct import_tally *tally;
	const atomic_bool *stop; /* once true: end soon */
};

/* options is copied, what it points at outlives the walk. RC_NOMEM. */
enum rc import_walk_open(
	const struct import_walk_options *options, struct import_walk **out, struct err *err);
/* Take part until nothing is left to look into. Any number of threads at once. Blocks. */
void import_walk_run(struct import_walk *w);
/* After all threads have come back. RC_TOO_LARGE kind "import-too-large": more entries or bytes
 * than allowed; RC_NOMEM; RC_IO: out of descriptors. Frees w; NULL is allowed. */
enum rc import_walk_close(struct import_walk *w, struct err *err);

#endif
