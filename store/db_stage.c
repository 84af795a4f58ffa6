/* SPDX-License-Identifier: Apache-2.0 */
#include "db_stage.h"

#include <stdio.h>
#include <string.h>

#include "db.h"

#define STAGE_COLUMNS "id, repo_id, name, state, created_at, expires_at, commit_id, counters"

static void
read_stage(const struct db_result *r, size_t row, struct stage_row *out, struct buf *counters)
{
	*out = (struct stage_row){
		.id = (uint64_t)db_get_i64(r, row, 0),
		.repo_id = (uint64_t)db_get_i64(r, row, 1),
		.state = db_get_i16(r, row, 3),
		.created_us = db_get_timestamptz_us(r, row, 4),
		.expires_us = db_get_timestamptz_us(r, row, 5),
		.has_commit = !db_is_null(r, row, 6),
	};
	snprintf(out->name, sizeof out->name, "%s", db_get_text(r, row, 2, NULL));
	if (out->has_commit)
		db_get_bytea_into(r, row, 6, out->commit_id.b, sizeof out->commit_id.b);
	if (counters == NULL)
		return;
	buf_clear(counters);
	if (!db_is_null(r, row, 7)) {
		size_t len;
		const uint8_t *data = db_get_bytea(r, row, 7, &len);
		buf_add(counters, data, len);
	}
}

/* ---- stages ---- */

/* The repository must still have its name: one that is being swept gets no new stages. */
static const struct db_stmt stmt_open = {
	.name = "stage_open",
	.sql = "INSERT INTO stage (repo_id, name, expires_at)"
	       " SELECT id, $2, $3 FROM repo WHERE id = $1 AND name IS NOT NULL FOR SHARE"
	       " ON CONFLICT (repo_id, name) DO NOTHING RETURNING " STAGE_COLUMNS,
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT, DB_TIMESTAMPTZ},
};
static const struct db_stmt stmt_find = {
	.name = "stage_find",
	.sql = "SELECT " STAGE_COLUMNS " FROM stage WHERE repo_id = $1 AND name = $2",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT},
};

struct open_query {
	uint64_t repo_id;
	const char *name;
	int64_t expires_us;
	struct stage_row *out;
	struct buf *counters;
	bool *created;
};

static enum rc
find(struct db_tx *tx, struct open_query *q, struct err *err)
{
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_add_str(&p, q->name);
	enum rc rc = db_exec(tx, &stmt_find, &p, &r, err);
	if (rc == RC_OK && db_rows(r) == 0)
		rc = err_set(err, RC_NOT_FOUND, "stage-not-found",
			"there is no stage \"%s\" in this repository", q->name);
	else if (rc == RC_OK)
		read_stage(r, 0, q->out, q->counters);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

static enum rc
run_open(struct db_tx *tx, void *arg, struct err *err)
{
	struct open_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_add_str(&p, q->name);
	db_add_timestamptz_us(&p, q->expires_us);
	enum rc rc = db_exec(tx, &stmt_open, &p, &r, err);
	bool created = rc == RC_OK && db_rows(r) == 1;
	if (created)
		read_stage(r, 0, q->out, q->counters);
	db_result_free(r);
	db_params_done(&p);
	if (rc != RC_OK)
		return rc;
	*q->created = created;
	if (created)
		return RC_OK;
	rc = find(tx, q, err);
	if (rc == RC_NOT_FOUND) {
		err_clear(err);
		return err_set(err, RC_NOT_FOUND, "repo-not-found", "the repository was dropped");
	}
	return rc;
}

enum rc
db_stage_open(struct db *db, uint64_t repo_id, const char *name, int64_t expires_us,
	struct stage_row *out, struct buf *counters, bool *created, struct err *err)
{
	struct open_query q = {repo_id, name, expires_us, out, counters, created};

	return db_run(db, run_open, &q, err);
}

static enum rc
run_find(struct db_tx *tx, void *arg, struct err *err)
{
	return find(tx, arg, err);
}

enum rc
db_stage_find(struct db *db, uint64_t repo_id, const char *name, struct stage_row *out,
	struct buf *counters, struct err *err)
{
	struct open_query q = {repo_id, name, 0, out, counters, NULL};

	return db_run_readonly(db, run_find, &q, err);
}

static const struct db_stmt stmt_list = {
	.name = "stage_list",
	.sql = "SELECT " STAGE_COLUMNS " FROM stage WHERE repo_id = $1 AND name COLLATE \"C\" > $2"
	       " ORDER BY name COLLATE \"C\" LIMIT $3",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT, DB_INT8},
};
static const struct db_stmt stmt_due = {
	.name = "stage_due",
	.sql = "SELECT " STAGE_COLUMNS
	       " FROM stage WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2",
	.params = 2,
	.types = (const uint32_t[]){DB_TIMESTAMPTZ, DB_INT8},
};

struct list_query {
	const struct db_stmt *stmt;
	uint64_t repo_id;
	const char *after;
	int64_t now_us;
	size_t limit;
	struct stage_row *out;
	size_t *count;
};

static enum rc
run_list(struct db_tx *tx, void *arg, struct err *err)
{
	struct list_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	if (q->stmt == &stmt_list) {
		db_add_i64(&p, (int64_t)q->repo_id);
		db_add_str(&p, q->after);
	} else {
		db_add_timestamptz_us(&p, q->now_us);
	}
	db_add_i64(&p, (int64_t)q->limit);
	*q->count = 0;
	enum rc rc = db_exec(tx, q->stmt, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r) && i < q->limit; i++)
		read_stage(r, i, &q->out[(*q->count)++], NULL);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_stage_list(struct db *db, uint64_t repo_id, const char *after, size_t limit,
	struct stage_row *out, size_t *count, struct err *err)
{
	struct list_query q = {&stmt_list, repo_id, after, 0, limit, out, count};

	return db_run_readonly(db, run_list, &q, err);
}

enum rc
db_stage_due(struct db *db, int64_t now_us, size_t limit, struct stage_row *out, size_t *count,
	struct err *err)
{
	struct list_query q = {&stmt_due, 0, NULL, now_us, limit, out, count};

	return db_run_readonly(db, run_list, &q, err);
}

/* A half upload owns its recipe parts: nothing else can name them. */
static const struct db_stmt stmt_delete_parts = {
	.name = "stage_delete_parts",
	.sql = "DELETE FROM recipe_part WHERE recipe_id IN"
	       " (SELECT recipe_id FROM upload WHERE stage_id = $1 AND recipe_id <> 0)",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_delete = {
	.name = "stage_delete",
	.sql = "DELETE FROM stage WHERE id = $1",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

static enum rc
run_delete(struct db_tx *tx, void *arg, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t) * (const uint64_t *)arg);
	enum rc rc = db_exec(tx, &stmt_delete_parts, &p, NULL, err);
	if (rc == RC_OK)
		rc = db_exec(tx, &stmt_delete, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_stage_delete(struct db *db, uint64_t stage_id, struct err *err)
{
	return db_run(db, run_delete, &stage_id, err);
}

static const struct db_stmt stmt_set_state = {
	.name = "stage_set_state",
	.sql = "UPDATE stage SET state = $2, commit_id = $3 WHERE id = $1 AND state = 0",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_INT2, DB_BYTEA},
};

enum rc
db_stage_set_state(struct db_tx *tx, uint64_t stage_id, int state, const struct sha256 *commit_id,
	db_stage_told_fn *fn, void *arg, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)stage_id);
	db_add_i16(&p, (int16_t)state);
	if (commit_id != NULL)
		db_add_bytea(&p, commit_id->b, sizeof commit_id->b);
	else
		db_add_null(&p);
	enum rc rc = db_exec_later(tx, &stmt_set_state, &p, fn, arg, err);
	db_params_done(&p);
	return rc;
}

static const struct db_stmt stmt_reopen = {
	.name = "stage_reopen_all",
	.sql = "UPDATE stage SET state = 0 WHERE state = 1",
	.params = 0,
};

static enum rc
run_reopen(struct db_tx *tx, void *arg, struct err *err)
{
	(void)arg;
	return db_exec(tx, &stmt_reopen, NULL, NULL, err);
}

enum rc
db_stage_reopen_all(struct db *db, struct err *err)
{
	return db_run(db, run_reopen, NULL, err);
}

/* ---- the log ---- */

/* The lock on the stage's row keeps it from being deleted or committed before this transaction
 * ends, and its absence is an answer, not a failure that would take a whole group with it. */
static const struct db_stmt stmt_batch_put = {
	.name = "stage_batch_put",
	.sql = "INSERT INTO stage_batch (stage_id, seq, records, checksum)"
	       " SELECT id, $2, $3, $4 FROM stage WHERE id = $1 AND state = 0 FOR SHARE",
	.params = 4,
	.types = (const uint32_t[]){DB_INT8, DB_INT8, DB_BYTEA, DB_INT8},
};

enum rc
db_stage_batch_put(struct db_tx *tx, const struct stage_batch_row *row, db_stage_told_fn *fn,
	void *arg, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)row->stage_id);
	db_add_i64(&p, (int64_t)row->seq);
	db_add_bytea(&p, row->records, row->records_bytes);
	db_add_i64(&p, (int64_t)row->checksum);
	enum rc rc = db_exec_later(tx, &stmt_batch_put, &p, fn, arg, err);
	db_params_done(&p);
	return rc;
}

static const struct db_stmt stmt_batches = {
	.name = "stage_batches",
	.sql = "SELECT seq, records, checksum FROM stage_batch WHERE stage_id = $1 AND seq > $2"
	       " ORDER BY seq LIMIT $3",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_INT8, DB_INT8},
};

struct batches_query {
	uint64_t stage_id, after_seq;
	size_t limit;
	struct db_result *result;
};

static enum rc
run_batches(struct db_tx *tx, void *arg, struct err *err)
{
	struct batches_query *q = arg;
	struct db_params p;

	db_result_free(q->result);
	q->result = NULL;
	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->stage_id);
	db_add_i64(&p, (int64_t)q->after_seq);
	db_add_i64(&p, (int64_t)q->limit);
	enum rc rc = db_exec(tx, &stmt_batches, &p, &q->result, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_stage_batches(struct db *db, uint64_t stage_id, uint64_t after_seq, size_t limit,
	enum rc (*fn)(void *arg, const struct stage_batch_row *row, struct err *err), void *arg,
	size_t *count, struct err *err)
{
	struct batches_query q = {stage_id, after_seq, limit, NULL};

	*count = 0;
	enum rc rc = db_run_readonly(db, run_batches, &q, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(q.result); i++) {
		struct stage_batch_row row = {
			.stage_id = stage_id,
			.seq = (uint64_t)db_get_i64(q.result, i, 0),
			.checksum = (uint64_t)db_get_i64(q.result, i, 2),
		};
		row.records = db_get_bytea(q.result, i, 1, &row.records_bytes);
		rc = fn(arg, &row, err);
		++*count;
	}
	db_result_free(q.result);
	return rc;
}

static const struct db_stmt stmt_counters = {
	.name = "stage_counters",
	.sql = "UPDATE stage SET counters = $2 WHERE id = $1",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_BYTEA},
};

enum rc
db_stage_counters(
	struct db_tx *tx, uint64_t stage_id, const uint8_t *data, size_t len, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)stage_id);
	db_add_bytea(&p, data, len);
	enum rc rc = db_exec(tx, &stmt_counters, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

/* ---- half uploads ---- */

static const struct db_stmt stmt_upload_parts = {
	.name = "upload_delete_parts",
	.sql = "DELETE FROM recipe_part WHERE recipe_id IN (SELECT recipe_id FROM upload"
	       " WHERE stage_id = $1 AND path = $2 AND recipe_id <> 0 AND recipe_id <> $3)",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_BYTEA, DB_INT8},
};
static const struct db_stmt stmt_upload_delete = {
	.name = "upload_delete",
	.sql = "DELETE FROM upload WHERE stage_id = $1 AND path = $2",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_BYTEA},
};
static const struct db_stmt stmt_upload_put = {
	.name = "upload_put",
	.sql = "INSERT INTO upload (stage_id, path, recipe_id, chunk_bytes, chunks, tail, total, "
	       "id_state,"
	       " sha_state) SELECT id, $2, $3, $4, $5, $6, $7, $8, $9"
	       " FROM stage WHERE id = $1 AND state = 0 FOR SHARE"
	       " ON CONFLICT (stage_id, path) DO UPDATE SET recipe_id = excluded.recipe_id,"
	       " chunk_bytes = excluded.chunk_bytes, chunks = excluded.chunks, tail = "
	       "excluded.tail,"
	       " total = excluded.total, id_state = excluded.id_state, sha_state = "
	       "excluded.sha_state,"
	       " updated_at = now()",
	.params = 9,
	.types = (const uint32_t[]){DB_INT8, DB_BYTEA, DB_INT8, DB_INT8, DB_INT8, DB_BYTEA, DB_INT8,
		DB_BYTEA, DB_BYTEA},
};
static const struct db_stmt stmt_upload_find = {
	.name = "upload_find",
	.sql = "SELECT recipe_id, chunk_bytes, chunks, tail, total, id_state, sha_state FROM upload"
	       " WHERE stage_id = $1 AND path = $2",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_BYTEA},
};

static enum rc
delete_parts(struct db_tx *tx, uint64_t stage_id, const char *path, size_t path_len,
	uint64_t keep_recipe, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)stage_id);
	db_add_bytea(&p, path, path_len);
	db_add_i64(&p, (int64_t)keep_recipe);
	enum rc rc = db_exec_later(tx, &stmt_upload_parts, &p, NULL, NULL, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_upload_put(struct db_tx *tx, const struct upload_row *row, db_stage_told_fn *fn, void *arg,
	struct err *err)
{
	struct db_params p;

	enum rc rc = delete_parts(tx, row->stage_id, row->path, row->path_len, row->recipe_id, err);
	if (rc != RC_OK)
		return rc;
	db_params_init(&p);
	db_add_i64(&p, (int64_t)row->stage_id);
	db_add_bytea(&p, row->path, row->path_len);
	db_add_i64(&p, (int64_t)row->recipe_id);
	db_add_i64(&p, (int64_t)row->chunk_bytes);
	db_add_i64(&p, (int64_t)row->chunks);
	db_add_bytea(&p, row->tail, row->tail_len);
	if (row->has_total)
		db_add_i64(&p, (int64_t)row->total);
	else
		db_add_null(&p);
	db_add_bytea(&p, row->id_state, row->id_state_len);
	if (row->sha_state != NULL)
		db_add_bytea(&p, row->sha_state, row->sha_state_len);
	else
		db_add_null(&p);
	rc = db_exec_later(tx, &stmt_upload_put, &p, fn, arg, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_upload_delete(struct db_tx *tx, uint64_t stage_id, const char *path, size_t path_len,
	uint64_t keep_recipe, struct err *err)
{
	struct db_params p;

	enum rc rc = delete_parts(tx, stage_id, path, path_len, keep_recipe, err);
	if (rc != RC_OK)
		return rc;
	db_params_init(&p);
	db_add_i64(&p, (int64_t)stage_id);
	db_add_bytea(&p, path, path_len);
	rc = db_exec_later(tx, &stmt_upload_delete, &p, NULL, NULL, err);
	db_params_done(&p);
	return rc;
}

struct upload_query {
	uint64_t stage_id;
	const char *path;
	size_t path_len;
	struct db_result *result;
};

static enum rc
run_upload_find(struct db_tx *tx, void *arg, struct err *err)
{
	struct upload_query *q = arg;
	struct db_params p;

	db_result_free(q->result);
	q->result = NULL;
	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->stage_id);
	db_add_bytea(&p, q->path, q->path_len);
	enum rc rc = db_exec(tx, &stmt_upload_find, &p, &q->result, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_upload_find(struct db *db, uint64_t stage_id, const char *path, size_t path_len,
	struct upload_row *out, struct buf *mem, struct err *err)
{
	struct upload_query q = {stage_id, path, path_len, NULL};

	enum rc rc = db_run_readonly(db, run_upload_find, &q, err);
	if (rc != RC_OK)
		goto out;
	if (db_rows(q.result) == 0) {
		rc = err_set(
			err, RC_NOT_FOUND, "path-not-found", "nothing of this file has arrived");
		goto out;
	}
	size_t tail_len, id_len, sha_len = 0;
	const uint8_t *tail = db_get_bytea(q.result, 0, 3, &tail_len);
	const uint8_t *id = db_get_bytea(q.result, 0, 5, &id_len);
	const uint8_t *sha = NULL;
	if (!db_is_null(q.result, 0, 6))
		sha = db_get_bytea(q.result, 0, 6, &sha_len);
	buf_clear(mem);
	buf_reserve(mem, tail_len + id_len + sha_len + 1);
	buf_add(mem, tail, tail_len);
	buf_add(mem, id, id_len);
	buf_add(mem, sha, sha_len);
	if (!buf_ok(mem)) {
		rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
		goto out;
	}
	*out = (struct upload_row){
		.stage_id = stage_id,
		.path = path,
		.path_len = path_len,
		.recipe_id = (uint64_t)db_get_i64(q.result, 0, 0),
		.chunk_bytes = (uint64_t)db_get_i64(q.result, 0, 1),
		.chunks = (uint64_t)db_get_i64(q.result, 0, 2),
		.tail = mem->data,
		.tail_len = tail_len,
		.has_total = !db_is_null(q.result, 0, 4),
		.id_state = mem->data + tail_len,
		.id_state_len = id_len,
		.sha_state = sha != NULL ? mem->data + tail_len + id_len : NULL,
		.sha_state_len = sha_len,
	};
	if (out->has_total)
		out->total = (uint64_t)db_get_i64(q.result, 0, 4);
out:
	db_result_free(q.result);
	return rc;
}
