/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_FILTER_FILE_H
#define DG_FILTER_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "bloom.h"
#include "db_filter.h"
#include "err.h"

/* filter_file: a filter of known chunks in a file, from one run of the server to the next.
 *
 * The file says under which id of table chunk_writer (db_filter.h) its filter was whole. It is
 * written at the end of that run, after the last chunk row, and is good for one start: the next
 * run changes the id in the database before it adds a row. So whatever the database goes through
 * (a crash, a backup put back, a copy elsewhere), while it holds that id it holds no key that the
 * filter does not. doc/FORMAT.md has the layout. Threads: one at a time a path. Blocks on disk. */

/* Write aside, sync, rename, sync the directory. Nobody may be adding to b. On failure there is no
 * new file; an old one may be there. RC_IO, RC_FULL, RC_NOMEM, RC_TOO_LARGE: the path. */
enum rc filter_file_save(const char *path, const uint8_t id[DB_FILTER_ID_BYTES],
	const struct bloom *b, struct err *err);

/* *out is the caller's. RC_NOT_FOUND: there is none, or one of another id or version. RC_CORRUPT:
 * damaged, or above bytes_max of filter. RC_IO, RC_NOMEM. The file stays. */
enum rc filter_file_load(const char *path, const uint8_t id[DB_FILTER_ID_BYTES], size_t bytes_max,
	struct bloom **out, struct err *err);

/* Remove it and what a save that was cut left; absent is fine. Not synced: a file that comes back
 * has an id that the database has not. */
void filter_file_remove(const char *path);

#endif
