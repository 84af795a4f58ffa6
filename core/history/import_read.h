/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_IMPORT_READ_H
#define DG_IMPORT_READ_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "import_files.h"
#include "import_report.h"
#include "import_walk.h"
#include "ingest.h"

/* import_read: reads the files that were found and hands them to ingest, by as many threads as call
 * import_read_run: large files one by one, the largest first, small ones in batches.
 *
 * Bytes go from the file straight into ingest's slabs (ingest_reserve). Files are not mapped: a
 * mapping of a file that somebody cuts off takes the process down, and it was not faster.
 * A file is taken if it is the same before and after it was read: the file at its path has the same
 * device, inode, size, times of change of its data and of itself. Else it is reported, and dropped
 * whole. That is as fine as the clock of the file system, and blind for bytes that another process
 * changed through a mapping without having them written back.
 * Memory: 1.5 KiB for each of IMPORT_FLIGHTS files a thread that are on their way. */

#define IMPORT_FLIGHTS     1024 /* files of a thread that are not durable yet: a few groups' worth */
#define IMPORT_BATCH_FILES 32   /* small files a thread takes at a time */

struct import_read;

struct import_read_options {
	int dir;                    /* borrowed */
	size_t prefix_len;          /* of every path: what comes after it is found below dir */
	struct import_files *files; /* items are written; no other member */
	struct import_report *report;
	struct import_tally *tally;
	const atomic_bool *stop; /* once true: end soon, what is not read is not taken */
	/* Go on without what cannot be taken; else the first such file ends it. */
	bool skip_special, skip_failed;
	uint64_t bytes_max;
	struct ingest *ingest;
	const struct ingest_space *space;
	struct meter *meter;
	/* Bytes were read, or (0) a file is through. Any thread, must not block. */
	void (*progress)(void *arg, uint64_t bytes);
	void *arg;
};

/* options is copied, what it points at outlives the read. RC_NOMEM. */
enum rc import_read_open(
	const struct import_read_options *options, struct import_read **out, struct err *err);
/* Take part until all files have been read and are durable. Any number of threads at once. Blocks
 * on the file system and on ingest. */
void import_read_run(struct import_read *r);
/* After all threads have come back. Of files that were taken the items have content, mode and
 * mtime; the others have lost their path. *receipt is the sum over those taken. Else what ingest
 * failed with, or RC_TOO_LARGE kind "import-too-large": files grew. Frees r; NULL is allowed. */
enum rc import_read_close(struct import_read *r, struct ingest_receipt *receipt, struct err *err);

#endif
