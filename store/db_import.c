/* SPDX-License-Identifier: Apache-2.0 */
#include "db_import.h"

#include "db.h"

static enum rc
not_found(uint64_t id, struct err *err)
{
	return err_set(err, RC_NOT_FOUND, "import-not-found",
		"there is no import %llu in this repository", (unsigned long long)id);
}

/* ---- writing ---- */

/* The repository must still have its name: one that is being swept gets no new rows. */
static const struct db_stmt stmt_add = {
	.name = "import_add",
	.sql = "INSERT INTO import (repo_id, skips, path, prefix, stage, ref)"
	       " SELECT id, $2, $3, $4, $5, $6 FROM repo WHERE id = $1 AND name IS NOT NULL FOR "
	       "SHARE"
	       " RETURNING id, created_at",
	.params = 6,
	.types = (const uint32_t[]){DB_INT8, DB_INT2, DB_TEXT, DB_TEXT, DB_TEXT, DB_TEXT},
};
static const struct db_stmt stmt_end = {
	.name = "import_end",
	.sql = "UPDATE import SET state = $2, started_at = $3, ended_at = $4, result = $5,"
	       " commit_id = $6, error_kind = $7, error_text = $8 WHERE id = $1",
	.params = 8,
	.types = (const uint32_t[]){DB_INT8, DB_INT2, DB_TIMESTAMPTZ, DB_TIMESTAMPTZ, DB_BYTEA,
		DB_BYTEA, DB_TEXT, DB_TEXT},
};
static const struct db_stmt stmt_delete = {
	.name = "import_delete",
	.sql = "DELETE FROM import WHERE repo_id = $1 AND id = $2",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_INT8},
};
static const struct db_stmt stmt_interrupt = {
	.name = "import_interrupt",
	.sql = "UPDATE import SET ended_at = now(), commit_id = left_behind.commit_id,"
	       " state = CASE WHEN left_behind.commit_id IS NULL THEN 5 ELSE 2 END"
	       " FROM (SELECT i.id, s.commit_id FROM import i LEFT JOIN stage s ON s.repo_id = "
	       "i.repo_id"
	       " AND s.name = i.stage AND s.state = 2 AND i.ref IS NOT NULL WHERE i.state = 0)"
	       " AS left_behind WHERE import.id = left_behind.id",
};
static const struct db_stmt stmt_expire = {
	.name = "import_expire",
	.sql = "DELETE FROM import WHERE ended_at < $1",
	.params = 1,
	.types = (const uint32_t[]){DB_TIMESTAMPTZ},
};

static void
add_text(struct db_params *p, const char *text)
{
	if (text != NULL)
		db_add_str(p, text);
	else
		db_add_null(p);
}

static void
add_time(struct db_params *p, int64_t us)
{
	if (us != 0)
		db_add_timestamptz_us(p, us);
	else
		db_add_null(p);
}

struct add_query {
	const struct import_row *row;
	uint64_t *id;
	int64_t *created_us;
};

static enum rc
run_add(struct db_tx *tx, void *arg, struct err *err)
{
	struct add_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->row->repo_id);
	db_add_i16(&p, (int16_t)q->row->skips);
	db_add_str(&p, q->row->path);
	db_add_str(&p, q->row->prefix);
	db_add_str(&p, q->row->stage);
	add_text(&p, q->row->ref);
	enum rc rc = db_exec(tx, &stmt_add, &p, &r, err);
	if (rc == RC_OK && db_rows(r) == 0) {
		rc = err_set(err, RC_NOT_FOUND, "repo-not-found", "the repository was dropped");
	} else if (rc == RC_OK) {
		*q->id = (uint64_t)db_get_i64(r, 0, 0);
		*q->created_us = db_get_timestamptz_us(r, 0, 1);
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_import_add(struct db *db, const struct import_row *row, uint64_t *id, int64_t *created_us,
	struct err *err)
{
	struct add_query q = {row, id, created_us};

	return db_run(db, run_add, &q, err);
}

/* Run a statement that should touch the row id. */
static enum rc
exec_on(struct db_tx *tx, const struct db_stmt *stmt, const struct db_params *p, uint64_t id,
	struct err *err)
{
	struct db_result *r = NULL;

	enum rc rc = db_exec(tx, stmt, p, &r, err);
	if (rc == RC_OK && db_affected(r) == 0)
		rc = not_found(id, err);
	db_result_free(r);
	return rc;
}

static enum rc
run_end(struct db_tx *tx, void *arg, struct err *err)
{
	const struct import_row *row = arg;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)row->id);
	db_add_i16(&p, (int16_t)row->state);
	add_time(&p, row->started_us);
	add_time(&p, row->ended_us);
	if (row->result != NULL)
		db_add_bytea(&p, row->result, row->result_bytes);
	else
		db_add_null(&p);
	if (row->commit_id != NULL)
		db_add_bytea(&p, row->commit_id->b, sizeof row->commit_id->b);
	else
		db_add_null(&p);
	add_text(&p, row->error_kind);
	add_text(&p, row->error_text);
	enum rc rc = exec_on(tx, &stmt_end, &p, row->id, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_import_end(struct db *db, const struct import_row *row, struct err *err)
{
	struct import_row copy = *row;

	return db_run(db, run_end, &copy, err);
}

struct id_query {
	uint64_t repo_id, id;
};

static enum rc
run_delete(struct db_tx *tx, void *arg, struct err *err)
{
	const struct id_query *q = arg;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_add_i64(&p, (int64_t)q->id);
	enum rc rc = exec_on(tx, &stmt_delete, &p, q->id, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_import_delete(struct db *db, uint64_t repo_id, uint64_t id, struct err *err)
{
	struct id_query q = {repo_id, id};

	return db_run(db, run_delete, &q, err);
}

static enum rc
run_interrupt(struct db_tx *tx, void *arg, struct err *err)
{
	(void)arg;
	return db_exec(tx, &stmt_interrupt, NULL, NULL, err);
}

enum rc
db_import_interrupt_all(struct db *db, struct err *err)
{
	return db_run(db, run_interrupt, NULL, err);
}

static enum rc
run_expire(struct db_tx *tx, void *arg, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_timestamptz_us(&p, *(const int64_t *)arg);
	enum rc rc = db_exec(tx, &stmt_expire, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_import_expire(struct db *db, int64_t before_us, struct err *err)
{
	return db_run(db, run_expire, &before_us, err);
}

/* ---- reading ---- */

#define COLUMNS                                                                                    \
	"id, repo_id, state, skips, path, prefix, stage, ref, created_at, started_at, ended_at,"   \
	" result, commit_id, error_kind, error_text"

static const struct db_stmt stmt_find = {
	.name = "import_find",
	.sql = "SELECT " COLUMNS " FROM import WHERE repo_id = $1 AND id = $2",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_INT8},
};
static const struct db_stmt stmt_list = {
	.name = "import_list",
	.sql = "SELECT " COLUMNS
	       " FROM import WHERE repo_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_INT8, DB_INT8},
};

static const char *
get_text(const struct db_result *r, size_t row, unsigned col)
{
	return db_is_null(r, row, col) ? NULL : db_get_text(r, row, col, NULL);
}

static int64_t
get_time(const struct db_result *r, size_t row, unsigned col)
{
	return db_is_null(r, row, col) ? 0 : db_get_timestamptz_us(r, row, col);
}

static enum rc
give_row(const struct db_result *r, size_t i, import_row_fn *fn, void *arg, struct err *err)
{
	struct sha256 commit_id;
	struct import_row row = {
		.id = (uint64_t)db_get_i64(r, i, 0),
		.repo_id = (uint64_t)db_get_i64(r, i, 1),
		.state = db_get_i16(r, i, 2),
		.skips = db_get_i16(r, i, 3),
		.path = db_get_text(r, i, 4, NULL),
		.prefix = db_get_text(r, i, 5, NULL),
		.stage = db_get_text(r, i, 6, NULL),
		.ref = get_text(r, i, 7),
		.created_us = db_get_timestamptz_us(r, i, 8),
		.started_us = get_time(r, i, 9),
		.ended_us = get_time(r, i, 10),
		.error_kind = get_text(r, i, 13),
		.error_text = get_text(r, i, 14),
	};

	if (!db_is_null(r, i, 11))
		row.result = db_get_bytea(r, i, 11, &row.result_bytes);
	if (!db_is_null(r, i, 12)) {
		db_get_bytea_into(r, i, 12, commit_id.b, sizeof commit_id.b);
		row.commit_id = &commit_id;
	}
	return fn(arg, &row, err);
}

struct rows_query {
	const struct db_stmt *stmt;
	uint64_t repo_id, id;
	size_t limit;
	struct db_result *result;
};

static enum rc
run_rows(struct db_tx *tx, void *arg, struct err *err)
{
	struct rows_query *q = arg;
	struct db_params p;

	db_result_free(q->result);
	q->result = NULL;
	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_add_i64(&p, (int64_t)q->id);
	if (q->stmt == &stmt_list)
		db_add_i64(&p, (int64_t)q->limit);
	enum rc rc = db_exec(tx, q->stmt, &p, &q->result, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_import_find(
	struct db *db, uint64_t repo_id, uint64_t id, import_row_fn *fn, void *arg, struct err *err)
{
	struct rows_query q = {&stmt_find, repo_id, id, 1, NULL};

	enum rc rc = db_run_readonly(db, run_rows, &q, err);
	if (rc == RC_OK)
		rc = db_rows(q.result) == 1 ? give_row(q.result, 0, fn, arg, err)
					    : not_found(id, err);
	db_result_free(q.result);
	return rc;
}

enum rc
db_import_list(struct db *db, uint64_t repo_id, uint64_t before, size_t limit, import_row_fn *fn,
	void *arg, struct err *err)
{
	struct rows_query q = {&stmt_list, repo_id, before, limit, NULL};

	enum rc rc = db_run_readonly(db, run_rows, &q, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(q.result); i++)
		rc = give_row(q.result, i, fn, arg, err);
	db_result_free(q.result);
	return rc;
}
