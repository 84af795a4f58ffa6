/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_STAGE_H
#define DG_DB_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "sha256.h"

/* db_stage: rows of tables stage, stage_batch and upload. */

struct db;
struct db_tx;

#define DB_STAGE_NAME_BYTES 101

struct stage_row {
	uint64_t id;
	uint64_t repo_id;
	char name[DB_STAGE_NAME_BYTES];
	int state;
	int64_t created_us;
	int64_t expires_us;
	bool has_commit;
	struct sha256 commit_id;
};

/* Insert, or read what is there under that name; *created says which. counters is emptied and gets
 * the saved counters (may be empty). RC_NOT_FOUND kind "repo-not-found": it was dropped. */
enum rc db_stage_open(struct db *db, uint64_t repo_id, const char *name, int64_t expires_us,
	struct stage_row *out, struct buf *counters, bool *created, struct err *err);
/* RC_NOT_FOUND kind "stage-not-found". */
enum rc db_stage_find(struct db *db, uint64_t repo_id, const char *name, struct stage_row *out,
	struct buf *counters, struct err *err);
/* Stages of a repository by name after `after`, up to limit rows into out. */
enum rc db_stage_list(struct db *db, uint64_t repo_id, const char *after, size_t limit,
	struct stage_row *out, size_t *count, struct err *err);
/* Stages whose time has come, in any repository. */
enum rc db_stage_due(struct db *db, int64_t now_us, size_t limit, struct stage_row *out,
	size_t *count, struct err *err);
/* Delete the stage, its log and its half uploads with their recipe parts. */
enum rc db_stage_delete(struct db *db, uint64_t stage_id, struct err *err);
/* What a write of the transaction did, told as db_exec_later tells it: rows is 1, or 0 if the
 * stage's row is gone or not open any more, and then nothing was written. */
typedef void db_stage_told_fn(void *arg, uint64_t rows);
/* Of an open stage. */
enum rc db_stage_set_state(struct db_tx *tx, uint64_t stage_id, int state,
	const struct sha256 *commit_id, db_stage_told_fn *fn, void *arg, struct err *err);
/* Stages left in state committing by a process that died are open again. */
enum rc db_stage_reopen_all(struct db *db, struct err *err);

struct stage_batch_row {
	uint64_t stage_id;
	uint64_t seq;
	const uint8_t *records;
	size_t records_bytes;
	uint64_t checksum;
};
enum rc db_stage_batch_put(struct db_tx *tx, const struct stage_batch_row *row,
	db_stage_told_fn *fn, void *arg, struct err *err);
/* The log of a stage after seq, in order, a few batches a call: fn for each. */
enum rc db_stage_batches(struct db *db, uint64_t stage_id, uint64_t after_seq, size_t limit,
	enum rc (*fn)(void *arg, const struct stage_batch_row *row, struct err *err), void *arg,
	size_t *count, struct err *err);
enum rc db_stage_counters(
	struct db_tx *tx, uint64_t stage_id, const uint8_t *data, size_t len, struct err *err);

struct upload_row {
	uint64_t stage_id;
	const char *path;
	size_t path_len;
	uint64_t recipe_id;
	uint64_t chunk_bytes;
	uint64_t chunks;
	const uint8_t *tail;
	size_t tail_len;
	bool has_total;
	uint64_t total;
	const uint8_t *id_state; /* ingest's running state, see stage_put.c */
	size_t id_state_len;
	const uint8_t *sha_state; /* NULL: none is kept */
	size_t sha_state_len;
};
/* Insert or replace. A replaced row of another recipe loses its parts. fn as above. */
enum rc db_upload_put(struct db_tx *tx, const struct upload_row *row, db_stage_told_fn *fn,
	void *arg, struct err *err);
/* Delete; the parts of its recipe go with it unless the recipe is keep_recipe. */
enum rc db_upload_delete(struct db_tx *tx, uint64_t stage_id, const char *path, size_t path_len,
	uint64_t keep_recipe, struct err *err);
/* RC_NOT_FOUND kind "path-not-found". The bytes of *out are in mem. */
enum rc db_upload_find(struct db *db, uint64_t stage_id, const char *path, size_t path_len,
	struct upload_row *out, struct buf *mem, struct err *err);

#endif
