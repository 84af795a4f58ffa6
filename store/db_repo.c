/* SPDX-License-Identifier: Apache-2.0 */
#include "db_repo.h"

#include <string.h>

#include "db.h"

#define COLUMNS "id, name, uuid, chunker, hash_alg, chunk_target, description, created_at"

static enum rc
give_row(const struct db_result *r, size_t i, db_repo_fn *fn, void *arg, struct err *err)
{
	struct repo_row row = {
		.id = (uint64_t)db_get_i64(r, i, 0),
		.name = db_get_text(r, i, 1, NULL),
		.chunker = db_get_i16(r, i, 3),
		.hash_alg = db_get_i16(r, i, 4),
		.chunk_target = (uint64_t)db_get_i64(r, i, 5),
		.description = db_get_text(r, i, 6, NULL),
		.created_us = db_get_timestamptz_us(r, i, 7),
	};

	db_get_uuid(r, i, 2, row.uuid);
	return fn(arg, &row, err);
}

static const struct db_stmt stmt_find = {
	.name = "repo_find",
	.sql = "SELECT " COLUMNS " FROM repo WHERE name = $1",
	.params = 1,
	.types = (const uint32_t[]){DB_TEXT},
};
static const struct db_stmt stmt_create = {
	.name = "repo_create",
	.sql = "INSERT INTO repo (name, uuid, chunker, hash_alg, chunk_target, description)"
	       " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING RETURNING " COLUMNS,
	.params = 6,
	.types = (const uint32_t[]){DB_TEXT, DB_UUID, DB_INT2, DB_INT2, DB_INT8, DB_TEXT},
};
static const struct db_stmt stmt_list = {
	.name = "repo_list",
	.sql = "SELECT " COLUMNS " FROM repo WHERE name COLLATE \"C\" > $1"
	       " ORDER BY name COLLATE \"C\" LIMIT $2",
	.params = 2,
	.types = (const uint32_t[]){DB_TEXT, DB_INT8},
};

/* The rows outlive the transaction, so the callbacks run outside it. */
struct query {
	const struct repo_row *row;
	const char *name;
	size_t limit;
	bool *created;
	struct db_result *result;
};

static enum rc
run_find(struct db_tx *tx, void *arg, struct err *err)
{
	struct query *q = arg;
	struct db_params p;

	db_result_free(q->result);
	q->result = NULL;
	db_params_init(&p);
	db_add_str(&p, q->name);
	enum rc rc = db_exec(tx, &stmt_find, &p, &q->result, err);
	if (rc == RC_OK && db_rows(q->result) == 0)
		rc = err_set(err, RC_NOT_FOUND, "repo-not-found", "there is no repository \"%s\"",
			q->name);
	db_params_done(&p);
	return rc;
}

static enum rc
run_create(struct db_tx *tx, void *arg, struct err *err)
{
	struct query *q = arg;
	struct db_params p;

	db_result_free(q->result);
	q->result = NULL;
	db_params_init(&p);
	db_add_str(&p, q->row->name);
	db_add_uuid(&p, q->row->uuid);
	db_add_i16(&p, (int16_t)q->row->chunker);
	db_add_i16(&p, (int16_t)q->row->hash_alg);
	db_add_i64(&p, (int64_t)q->row->chunk_target);
	db_add_str(&p, q->row->description);
	enum rc rc = db_exec(tx, &stmt_create, &p, &q->result, err);
	db_params_done(&p);
	*q->created = rc == RC_OK && db_rows(q->result) == 1;
	if (rc != RC_OK || *q->created)
		return rc;
	return run_find(tx, q, err);
}

static enum rc
run_list(struct db_tx *tx, void *arg, struct err *err)
{
	struct query *q = arg;
	struct db_params p;

	db_result_free(q->result);
	q->result = NULL;
	db_params_init(&p);
	db_add_str(&p, q->name);
	db_add_i64(&p, (int64_t)q->limit);
	enum rc rc = db_exec(tx, &stmt_list, &p, &q->result, err);
	db_params_done(&p);
	return rc;
}

static enum rc
give_rows(struct query *q, enum rc rc, db_repo_fn *fn, void *arg, struct err *err)
{
	for (size_t i = 0; rc == RC_OK && i < db_rows(q->result); i++)
		rc = give_row(q->result, i, fn, arg, err);
	db_result_free(q->result);
	return rc;
}

enum rc
db_repo_find(struct db *db, const char *name, db_repo_fn *fn, void *arg, struct err *err)
{
	struct query q = {.name = name};

	return give_rows(&q, db_run_readonly(db, run_find, &q, err), fn, arg, err);
}

enum rc
db_repo_create(struct db *db, const struct repo_row *row, bool *created, db_repo_fn *fn, void *arg,
	struct err *err)
{
	struct query q = {.row = row, .name = row->name, .created = created};

	return give_rows(&q, db_run(db, run_create, &q, err), fn, arg, err);
}

enum rc
db_repo_list(
	struct db *db, const char *after, size_t limit, db_repo_fn *fn, void *arg, struct err *err)
{
	struct query q = {.name = after, .limit = limit};

	return give_rows(&q, db_run_readonly(db, run_list, &q, err), fn, arg, err);
}

static const struct db_stmt stmt_drop = {
	.name = "repo_drop",
	.sql = "UPDATE repo SET name = NULL, dropped_at = now() WHERE id = $1 AND name IS NOT NULL",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

static enum rc
exec_id(struct db_tx *tx, const struct db_stmt *stmt, uint64_t id, uint64_t *affected,
	struct err *err)
{
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)id);
	enum rc rc = db_exec(tx, stmt, &p, &r, err);
	if (rc == RC_OK)
		*affected = db_affected(r);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

static enum rc
run_drop(struct db_tx *tx, void *arg, struct err *err)
{
	uint64_t affected = 0;

	enum rc rc = exec_id(tx, &stmt_drop, *(const uint64_t *)arg, &affected, err);
	if (rc == RC_OK && affected == 0)
		rc = err_set(
			err, RC_NOT_FOUND, "repo-not-found", "the repository was dropped already");
	return rc;
}

enum rc
db_repo_drop(struct db *db, uint64_t id, struct err *err)
{
	return db_run(db, run_drop, &id, err);
}

static const struct db_stmt stmt_describe = {
	.name = "repo_describe",
	.sql = "UPDATE repo SET description = $2 WHERE id = $1",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT},
};

struct describe_query {
	uint64_t id;
	const char *description;
};

static enum rc
run_describe(struct db_tx *tx, void *arg, struct err *err)
{
	const struct describe_query *q = arg;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->id);
	db_add_str(&p, q->description);
	enum rc rc = db_exec(tx, &stmt_describe, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_repo_describe(struct db *db, uint64_t id, const char *description, struct err *err)
{
	struct describe_query q = {id, description};

	return db_run(db, run_describe, &q, err);
}

static const struct db_stmt stmt_dropped = {
	.name = "repo_dropped",
	.sql = "SELECT id FROM repo WHERE name IS NULL ORDER BY id LIMIT 1",
	.params = 0,
};

/* In the order of who refers to whom. Each deletes a bounded number of rows. */
#define SWEEP(table, key)                                                                          \
	{                                                                                          \
		.name = "repo_sweep_" table,                                                       \
		.sql = "DELETE FROM " table " WHERE ctid = ANY (ARRAY(SELECT ctid FROM " table     \
		       " WHERE " key " LIMIT $2))",                                                \
		.params = 2, .types = (const uint32_t[]){DB_INT8, DB_INT8},                        \
	}
static const struct db_stmt stmt_sweep[] = {
	SWEEP("ref", "repo_id = $1"),
	SWEEP("commit", "repo_id = $1"),
	{
		/* a content or half upload goes together with the parts it alone names */
		.name = "repo_sweep_file",
		.sql = "WITH f AS (DELETE FROM file WHERE ctid = ANY (ARRAY(SELECT ctid FROM file"
		       " WHERE repo_id = $1 LIMIT $2)) RETURNING recipe_id),"
		       " p AS (DELETE FROM recipe_part p USING f WHERE p.recipe_id = f.recipe_id)"
		       " SELECT 1 FROM f",
		.params = 2,
		.types = (const uint32_t[]){DB_INT8, DB_INT8},
	},
	{
		.name = "repo_sweep_upload",
		.sql = "WITH u AS (DELETE FROM upload WHERE ctid = ANY (ARRAY(SELECT u.ctid FROM "
		       "upload u"
		       " JOIN stage s ON s.id = u.stage_id WHERE s.repo_id = $1 LIMIT $2))"
		       " RETURNING recipe_id),"
		       " p AS (DELETE FROM recipe_part p USING u WHERE p.recipe_id = u.recipe_id)"
		       " SELECT 1 FROM u",
		.params = 2,
		.types = (const uint32_t[]){DB_INT8, DB_INT8},
	},
	SWEEP("stage", "repo_id = $1"),
	SWEEP("import", "repo_id = $1"),
	SWEEP("tree_node", "repo_id = $1"),
	SWEEP("idempotency", "repo_id = $1"),
	SWEEP("chunk", "repo_id = $1"),
};
#define SWEEP_COUNT (sizeof stmt_sweep / sizeof *stmt_sweep)
#define SWEEP_CHUNK (SWEEP_COUNT - 1)

struct sweep_query {
	size_t limit;
	struct db_repo_swept *out;
};

static enum rc
run_sweep(struct db_tx *tx, void *arg, struct err *err)
{
	struct sweep_query *q = arg;
	struct db_result *r = NULL;

	*q->out = (struct db_repo_swept){.left = false};
	enum rc rc = db_exec(tx, &stmt_dropped, NULL, &r, err);
	if (rc != RC_OK || db_rows(r) == 0) {
		db_result_free(r);
		return rc;
	}
	uint64_t id = (uint64_t)db_get_i64(r, 0, 0);
	db_result_free(r);
	q->out->left = true;
	size_t budget = q->limit;
	for (size_t i = 0; i < SWEEP_COUNT && budget > 0; i++) {
		struct db_params p;
		r = NULL;
		db_params_init(&p);
		db_add_i64(&p, (int64_t)id);
		db_add_i64(&p, (int64_t)budget);
		rc = db_exec(tx, &stmt_sweep[i], &p, &r, err);
		db_params_done(&p);
		uint64_t gone = rc == RC_OK ? db_affected(r) : 0;
		db_result_free(r);
		if (rc != RC_OK)
			return rc;
		q->out->chunks += i == SWEEP_CHUNK ? gone : 0;
		budget -= gone < budget ? (size_t)gone : budget;
	}
	if (budget > 0)
		q->out->id = id;
	return RC_OK;
}

enum rc
db_repo_sweep(struct db *db, size_t limit, struct db_repo_swept *out, struct err *err)
{
	struct sweep_query q = {limit, out};

	return db_run(db, run_sweep, &q, err);
}

/* One that is being rewritten keeps the repository: who writes it will see that it is dropped. */
static const struct db_stmt stmt_delete_packs = {
	.name = "repo_delete_packs",
	.sql = "DELETE FROM pack WHERE repo_id = $1 AND state <> 4",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_delete = {
	.name = "repo_delete",
	.sql = "DELETE FROM repo WHERE id = $1 AND name IS NULL"
	       " AND NOT EXISTS (SELECT 1 FROM pack WHERE repo_id = $1)",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

static enum rc
run_delete(struct db_tx *tx, void *arg, struct err *err)
{
	uint64_t n;
	uint64_t id = *(const uint64_t *)arg;

	enum rc rc = exec_id(tx, &stmt_delete_packs, id, &n, err);
	if (rc == RC_OK)
		rc = exec_id(tx, &stmt_delete, id, &n, err);
	return rc;
}

enum rc
db_repo_delete(struct db *db, uint64_t id, struct err *err)
{
	return db_run(db, run_delete, &id, err);
}

static const struct db_stmt stmt_counts = {
	.name = "repo_counts",
	.sql = "SELECT c.n, c.bytes, p.n, p.bytes, (SELECT count(*) FROM stage WHERE repo_id = $1),"
	       " (SELECT count(*) FROM commit WHERE repo_id = $1),"
	       " (SELECT count(*) FROM ref WHERE repo_id = $1)"
	       " FROM (SELECT count(*) AS n, coalesce(sum(length), 0)::bigint AS bytes FROM chunk"
	       " WHERE repo_id = $1) AS c,"
	       " (SELECT count(*) AS n, coalesce(sum(bytes), 0)::bigint AS bytes FROM pack"
	       " WHERE repo_id = $1 AND state < 3) AS p",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

struct counts_query {
	uint64_t id;
	struct repo_counts *out;
};

static enum rc
run_counts(struct db_tx *tx, void *arg, struct err *err)
{
	struct counts_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	/* one repository may be nearly all there is */
	enum rc rc = db_allow_scans(tx, err);
	if (rc != RC_OK)
		return rc;
	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->id);
	rc = db_exec(tx, &stmt_counts, &p, &r, err);
	if (rc == RC_OK && db_rows(r) == 1)
		*q->out = (struct repo_counts){
			.chunks = (uint64_t)db_get_i64(r, 0, 0),
			.chunk_bytes = (uint64_t)db_get_i64(r, 0, 1),
			.packs = (uint64_t)db_get_i64(r, 0, 2),
			.pack_bytes = (uint64_t)db_get_i64(r, 0, 3),
			.stages = (uint64_t)db_get_i64(r, 0, 4),
			.commits = (uint64_t)db_get_i64(r, 0, 5),
			.refs = (uint64_t)db_get_i64(r, 0, 6),
		};
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_repo_counts(struct db *db, uint64_t id, struct repo_counts *out, struct err *err)
{
	struct counts_query q = {id, out};

	return db_run(db, run_counts, &q, err);
}

static const struct db_stmt stmt_live = {
	.name = "repo_is_live",
	.sql = "SELECT 1 FROM repo WHERE id = $1 AND name IS NOT NULL",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

struct live_query {
	uint64_t id;
	bool is_live;
};

static enum rc
run_live(struct db_tx *tx, void *arg, struct err *err)
{
	struct live_query *q = arg;
	uint64_t rows = 0;

	enum rc rc = exec_id(tx, &stmt_live, q->id, &rows, err);
	q->is_live = rows > 0;
	return rc;
}

enum rc
db_repo_is_live(struct db *db, uint64_t id, bool *is_live, struct err *err)
{
	struct live_query q = {.id = id};

	enum rc rc = db_run_readonly(db, run_live, &q, err);
	*is_live = q.is_live;
	return rc;
}

static const struct db_stmt stmt_by_uuid = {
	.name = "repo_by_uuid",
	.sql = "SELECT id FROM repo WHERE uuid = $1",
	.params = 1,
	.types = (const uint32_t[]){DB_UUID},
};

struct uuid_query {
	const uint8_t *uuid;
	uint64_t *id;
};

static enum rc
run_by_uuid(struct db_tx *tx, void *arg, struct err *err)
{
	struct uuid_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_uuid(&p, q->uuid);
	enum rc rc = db_exec(tx, &stmt_by_uuid, &p, &r, err);
	if (rc == RC_OK && db_rows(r) == 0)
		rc = err_set(
			err, RC_NOT_FOUND, "repo-not-found", "no repository has this identity");
	else if (rc == RC_OK)
		*q->id = (uint64_t)db_get_i64(r, 0, 0);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_repo_by_uuid(struct db *db, const uint8_t uuid[16], uint64_t *id, struct err *err)
{
	struct uuid_query q = {uuid, id};

	return db_run_readonly(db, run_by_uuid, &q, err);
}
