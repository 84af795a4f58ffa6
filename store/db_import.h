/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_IMPORT_H
#define DG_DB_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "sha256.h"

/* db_import: rows of table import. */

struct db;

struct import_row {
	uint64_t id;
	uint64_t repo_id;
	int state; /* numbers as in the comment on the table */
	int skips;
	const char *path, *prefix, *stage;
	const char *ref;                          /* NULL: none */
	int64_t created_us, started_us, ended_us; /* 0: not yet */
	const uint8_t *result;                    /* NULL: none */
	size_t result_bytes;
	const struct sha256 *commit_id;      /* NULL: none */
	const char *error_kind, *error_text; /* NULL: none */
};
typedef enum rc import_row_fn(void *arg, const struct import_row *row, struct err *err);

/* Insert what was asked for (repo_id, skips, path, prefix, stage, ref), not ended; *id and
 * *created_us are its own. RC_NOT_FOUND kind "repo-not-found": the repository was dropped. */
enum rc db_import_add(struct db *db, const struct import_row *row, uint64_t *id,
	int64_t *created_us, struct err *err);
/* Write how it ended: state, started_us, ended_us, result, commit_id, error_kind, error_text of the
 * row id. RC_NOT_FOUND kind "import-not-found": the row is gone. */
enum rc db_import_end(struct db *db, const struct import_row *row, struct err *err);
/* fn gets the row, borrowed for the call. RC_NOT_FOUND kind "import-not-found". */
enum rc db_import_find(struct db *db, uint64_t repo_id, uint64_t id, import_row_fn *fn, void *arg,
	struct err *err);
/* Rows of a repository with an id below `before`, the newest first, up to limit: fn for each. */
enum rc db_import_list(struct db *db, uint64_t repo_id, uint64_t before, size_t limit,
	import_row_fn *fn, void *arg, struct err *err);
/* RC_NOT_FOUND kind "import-not-found". */
enum rc db_import_delete(struct db *db, uint64_t repo_id, uint64_t id, struct err *err);
/* Imports that a process left behind when it died: those whose stage was made a commit for their
 * ref are done, all others interrupted. */
enum rc db_import_interrupt_all(struct db *db, struct err *err);
/* Forget those that ended before. */
enum rc db_import_expire(struct db *db, int64_t before_us, struct err *err);

#endif
