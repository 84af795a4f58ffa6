/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_IMPORT_FILES_H
#define DG_IMPORT_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "stage.h"

/* import_files: the files of an imported directory, from when they are found until they are staged
 * all at once.
 *
 * Until a file was read the size of its content is what the walk found; what becomes of it stands
 * in the same item, so an import of a million files takes 150 MB and not twice that. A file that
 * could not be taken loses its path. Threads: one at a time while it grows; once it does not, each
 * item belongs to whoever reads it. */

/* Where the workload's border lies (STAGE_SMALL_BYTES), and above which size a file fills slabs of
 * its own. */
#define IMPORT_LARGE_BYTES ((uint64_t)1 << 20)

enum import_class {
	IMPORT_SMALL,  /* up to STAGE_SMALL_BYTES */
	IMPORT_MEDIUM, /* up to IMPORT_LARGE_BYTES */
	IMPORT_LARGE,
	IMPORT_CLASSES,
};

struct import_sizes {
	uint64_t files[IMPORT_CLASSES];
	uint64_t bytes[IMPORT_CLASSES];
};
enum import_class import_class_of(uint64_t bytes);
uint64_t import_sizes_files(const struct import_sizes *s);
uint64_t import_sizes_bytes(const struct import_sizes *s);
/* As a stage counts them. */
struct stage_sizes import_sizes_for_stage(const struct import_sizes *s);

struct import_files {
	struct stage_change *items; /* paths NUL-terminated */
	size_t count, cap;
	struct import_sizes sizes;
	struct import_names *names; /* blocks of bytes, newest first */
};

/* Zeroed is empty. NULL is allowed. */
void import_files_done(struct import_files *f);
/* "dir/name" ("name" if dir is "", and dir's own slash if it ends with one), copied, borrowed until
 * done. NULL: no memory. */
const char *import_files_name(
	struct import_files *f, const char *dir, size_t dir_len, const char *name, size_t name_len);
/* path is one that import_files_name gave, PATH_BYTES_MAX at most. RC_NOMEM; RC_TOO_LARGE above
 * 2^32. */
enum rc import_files_add(
	struct import_files *f, const char *path, size_t path_len, uint64_t bytes, struct err *err);
/* Drop the items that have no path; indexes change. */
void import_files_compact(struct import_files *f);

#endif
