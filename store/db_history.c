/* SPDX-License-Identifier: Apache-2.0 */
#include "db_history.h"

#include <stdio.h>
#include <string.h>

#include "db.h"

/* ---- tree nodes ---- */

static const struct db_stmt stmt_node_put = {
	.name = "tree_node_put",
	.sql = "INSERT INTO tree_node (repo_id, hash, data)"
	       " SELECT $1, * FROM unnest($2::bytea[], $3::bytea[]) ON CONFLICT DO NOTHING",
	.params = 3,
};
static const struct db_stmt stmt_node_get = {
	.name = "tree_node_get",
	.sql = "SELECT data FROM tree_node WHERE repo_id = $1 AND hash = $2",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_BYTEA},
};

enum rc
db_tree_node_put(struct db_tx *tx, uint64_t repo_id, const struct tree_node_row *rows, size_t count,
	struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)repo_id);
	db_add_bytea_array(&p, count, rows[0].hash.b, sizeof *rows, sizeof rows[0].hash.b);
	db_array_begin(&p, DB_BYTEA);
	for (size_t i = 0; i < count; i++)
		db_array_bytea(&p, rows[i].data, rows[i].data_bytes);
	db_array_end(&p);
	enum rc rc = db_exec_later(tx, &stmt_node_put, &p, NULL, NULL, err);
	db_params_done(&p);
	return rc;
}

/* A query by repository and hash whose first column is a bytea. */
struct blob_query {
	const struct db_stmt *stmt;
	uint64_t repo_id;
	const struct sha256 *hash;
	struct buf *out;
	bool found;
};

static enum rc
run_blob(struct db_tx *tx, void *arg, struct err *err)
{
	struct blob_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_add_bytea(&p, q->hash->b, sizeof q->hash->b);
	enum rc rc = db_exec(tx, q->stmt, &p, &r, err);
	q->found = rc == RC_OK && db_rows(r) == 1;
	if (q->found) {
		size_t len;
		const uint8_t *data = db_get_bytea(r, 0, 0, &len);
		buf_add(q->out, data, len);
		if (!buf_ok(q->out))
			rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_tree_node_get(struct db *db, uint64_t repo_id, const struct sha256 *hash, struct buf *out,
	struct err *err)
{
	struct blob_query q = {&stmt_node_get, repo_id, hash, out, false};

	enum rc rc = db_run_readonly(db, run_blob, &q, err);
	if (rc == RC_OK && !q.found)
		rc = err_set(err, RC_NOT_FOUND, "corrupt-data", "a node of this tree is missing");
	return rc;
}

/* ---- commits ---- */

static const struct db_stmt stmt_commit_put = {
	.name = "commit_put",
	.sql = "INSERT INTO commit (repo_id, id, parent, tree, created_at, canonical)"
	       " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
	.params = 6,
	.types =
		(const uint32_t[]){DB_INT8, DB_BYTEA, DB_BYTEA, DB_BYTEA, DB_TIMESTAMPTZ, DB_BYTEA},
};
static const struct db_stmt stmt_commit_get = {
	.name = "commit_get",
	.sql = "SELECT canonical FROM commit WHERE repo_id = $1 AND id = $2",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_BYTEA},
};
static const struct db_stmt stmt_commit_between = {
	.name = "commit_between",
	.sql = "SELECT id FROM commit WHERE repo_id = $1 AND id >= $2 AND id <= $3 ORDER BY id "
	       "LIMIT $4",
	.params = 4,
	.types = (const uint32_t[]){DB_INT8, DB_BYTEA, DB_BYTEA, DB_INT8},
};

enum rc
db_commit_put(struct db_tx *tx, const struct commit_row *row, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)row->repo_id);
	db_add_bytea(&p, row->id.b, sizeof row->id.b);
	if (row->parent != NULL)
		db_add_bytea(&p, row->parent->b, sizeof row->parent->b);
	else
		db_add_null(&p);
	db_add_bytea(&p, row->tree.b, sizeof row->tree.b);
	db_add_timestamptz_us(&p, row->created_us);
	db_add_bytea(&p, row->canonical, row->canonical_bytes);
	enum rc rc = db_exec_later(tx, &stmt_commit_put, &p, NULL, NULL, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_commit_get(
	struct db *db, uint64_t repo_id, const struct sha256 *id, struct buf *out, struct err *err)
{
	struct blob_query q = {&stmt_commit_get, repo_id, id, out, false};
	char hex[SHA256_HEX_BYTES];

	buf_clear(out);
	enum rc rc = db_run_readonly(db, run_blob, &q, err);
	sha256_hex(id, hex);
	if (rc == RC_OK && !q.found)
		rc = err_set(err, RC_NOT_FOUND, "commit-not-found", "there is no commit %s", hex);
	return rc;
}

struct between_query {
	uint64_t repo_id;
	const struct sha256 *low, *high;
	size_t limit;
	struct sha256 *out;
	size_t *count;
};

static enum rc
run_between(struct db_tx *tx, void *arg, struct err *err)
{
	struct between_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	*q->count = 0;
	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_add_bytea(&p, q->low->b, sizeof q->low->b);
	db_add_bytea(&p, q->high->b, sizeof q->high->b);
	db_add_i64(&p, (int64_t)q->limit);
	enum rc rc = db_exec(tx, &stmt_commit_between, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r); i++)
		db_get_bytea_into(r, i, 0, q->out[(*q->count)++].b, sizeof q->out->b);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_commit_between(struct db *db, uint64_t repo_id, const struct sha256 *low,
	const struct sha256 *high, size_t limit, struct sha256 *out, size_t *count, struct err *err)
{
	struct between_query q = {repo_id, low, high, limit, out, count};

	return db_run_readonly(db, run_between, &q, err);
}

static const struct db_stmt stmt_commit_exists = {
	.name = "commit_exists",
	.sql = "SELECT 1 FROM commit WHERE repo_id = $1 AND id = $2 FOR KEY SHARE",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_BYTEA},
};

enum rc
db_commit_exists(
	struct db_tx *tx, uint64_t repo_id, const struct sha256 *id, bool *exists, struct err *err)
{
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)repo_id);
	db_add_bytea(&p, id->b, sizeof id->b);
	enum rc rc = db_exec(tx, &stmt_commit_exists, &p, &r, err);
	*exists = rc == RC_OK && db_rows(r) == 1;
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

/* ---- refs ---- */

static const struct db_stmt stmt_ref_get = {
	.name = "ref_get",
	.sql = "SELECT name, commit_id, updated_at FROM ref WHERE repo_id = $1 AND name = $2",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT},
};
static const struct db_stmt stmt_ref_list = {
	.name = "ref_list",
	.sql = "SELECT name, commit_id, updated_at FROM ref WHERE repo_id = $1 AND name > $2"
	       " AND starts_with(name, $3) ORDER BY name LIMIT $4",
	.params = 4,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT, DB_TEXT, DB_INT8},
};

struct ref_query {
	uint64_t repo_id;
	const char *name, *prefix;
	size_t limit;
	struct db_ref *out;
	size_t *count;
};

static void
read_ref(const struct db_result *r, size_t row, struct db_ref *out)
{
	snprintf(out->name, sizeof out->name, "%s", db_get_text(r, row, 0, NULL));
	db_get_bytea_into(r, row, 1, out->commit_id.b, sizeof out->commit_id.b);
	out->updated_us = db_get_timestamptz_us(r, row, 2);
}

static enum rc
run_ref_get(struct db_tx *tx, void *arg, struct err *err)
{
	struct ref_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_add_str(&p, q->name);
	enum rc rc = db_exec(tx, &stmt_ref_get, &p, &r, err);
	if (rc == RC_OK && db_rows(r) == 0)
		rc = err_set(err, RC_NOT_FOUND, "ref-not-found", "there is no ref \"%s\"", q->name);
	else if (rc == RC_OK)
		read_ref(r, 0, q->out);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_ref_get(struct db *db, uint64_t repo_id, const char *name, struct db_ref *out, struct err *err)
{
	struct ref_query q = {repo_id, name, NULL, 1, out, NULL};

	return db_run_readonly(db, run_ref_get, &q, err);
}

static enum rc
run_ref_list(struct db_tx *tx, void *arg, struct err *err)
{
	struct ref_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	*q->count = 0;
	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_add_str(&p, q->name);
	db_add_str(&p, q->prefix);
	db_add_i64(&p, (int64_t)q->limit);
	enum rc rc = db_exec(tx, &stmt_ref_list, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r); i++)
		read_ref(r, i, &q->out[(*q->count)++]);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_ref_list(struct db *db, uint64_t repo_id, const char *prefix, const char *after, size_t limit,
	struct db_ref *out, size_t *count, struct err *err)
{
	struct ref_query q = {repo_id, after, prefix, limit, out, count};

	return db_run_readonly(db, run_ref_list, &q, err);
}

static const struct db_stmt stmt_ref_add = {
	.name = "ref_add",
	.sql = "INSERT INTO ref (repo_id, name, commit_id) VALUES ($1, $2, $3) ON CONFLICT DO "
	       "NOTHING",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT, DB_BYTEA},
};
static const struct db_stmt stmt_ref_swap = {
	.name = "ref_swap",
	.sql = "UPDATE ref SET commit_id = $3, updated_at = now()"
	       " WHERE repo_id = $1 AND name = $2 AND commit_id = $4",
	.params = 4,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT, DB_BYTEA, DB_BYTEA},
};
static const struct db_stmt stmt_ref_delete = {
	.name = "ref_delete",
	.sql = "DELETE FROM ref WHERE repo_id = $1 AND name = $2 AND commit_id = $3",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT, DB_BYTEA},
};

static enum rc
read_head(struct db_tx *tx, uint64_t repo_id, const char *name, bool *has_head, struct sha256 *head,
	struct err *err)
{
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)repo_id);
	db_add_str(&p, name);
	enum rc rc = db_exec(tx, &stmt_ref_get, &p, &r, err);
	*has_head = rc == RC_OK && db_rows(r) == 1;
	if (*has_head)
		db_get_bytea_into(r, 0, 1, head->b, sizeof head->b);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_ref_swap(struct db_tx *tx, uint64_t repo_id, const char *name, const struct sha256 *expected,
	const struct sha256 *target, bool *swapped, bool *has_head, struct sha256 *head,
	struct err *err)
{
	const struct db_stmt *stmt = &stmt_ref_swap;
	struct db_result *r = NULL;
	struct db_params p;

	if (expected == NULL && target == NULL) { /* delete what must not exist */
		enum rc there = read_head(tx, repo_id, name, has_head, head, err);
		*swapped = there == RC_OK && !*has_head;
		return there;
	}
	db_params_init(&p);
	db_add_i64(&p, (int64_t)repo_id);
	db_add_str(&p, name);
	if (target != NULL)
		db_add_bytea(&p, target->b, sizeof target->b);
	else
		stmt = &stmt_ref_delete;
	if (expected != NULL)
		db_add_bytea(&p, expected->b, sizeof expected->b);
	else
		stmt = &stmt_ref_add;
	enum rc rc = db_exec(tx, stmt, &p, &r, err);
	*swapped = rc == RC_OK && db_affected(r) == 1;
	db_result_free(r);
	db_params_done(&p);
	if (rc == RC_OK && !*swapped)
		rc = read_head(tx, repo_id, name, has_head, head, err);
	return rc;
}

static const struct db_stmt stmt_ref_set = {
	.name = "ref_set",
	.sql = "INSERT INTO ref (repo_id, name, commit_id) VALUES ($1, $2, $3)"
	       " ON CONFLICT (repo_id, name) DO UPDATE SET commit_id = excluded.commit_id,"
	       " updated_at = now() RETURNING xmax <> 0",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT, DB_BYTEA},
};

enum rc
db_ref_set(struct db_tx *tx, uint64_t repo_id, const char *name, const struct sha256 *target,
	bool *existed, struct err *err)
{
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)repo_id);
	db_add_str(&p, name);
	db_add_bytea(&p, target->b, sizeof target->b);
	enum rc rc = db_exec(tx, &stmt_ref_set, &p, &r, err);
	if (rc == RC_OK)
		*existed = db_rows(r) == 1 && db_get_bool(r, 0, 0);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

/* ---- idempotency ---- */

static const struct db_stmt stmt_idem_put = {
	.name = "idempotency_put",
	.sql = "INSERT INTO idempotency (repo_id, key, request, status, body)"
	       " VALUES ($1, $2, $3, $4, $5)",
	.params = 5,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT, DB_BYTEA, DB_INT4, DB_BYTEA},
};
static const struct db_stmt stmt_idem_get = {
	.name = "idempotency_get",
	.sql = "SELECT request, status, body FROM idempotency WHERE repo_id = $1 AND key = $2",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_TEXT},
};
static const struct db_stmt stmt_idem_expire = {
	.name = "idempotency_expire",
	.sql = "DELETE FROM idempotency WHERE created_at < $1",
	.params = 1,
	.types = (const uint32_t[]){DB_TIMESTAMPTZ},
};

enum rc
db_idempotency_put(struct db_tx *tx, uint64_t repo_id, const char *key,
	const struct sha256 *request, int status, const uint8_t *body, size_t body_bytes,
	struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)repo_id);
	db_add_str(&p, key);
	db_add_bytea(&p, request->b, sizeof request->b);
	db_add_i32(&p, status);
	db_add_bytea(&p, body, body_bytes);
	enum rc rc = db_exec_later(tx, &stmt_idem_put, &p, NULL, NULL, err);
	db_params_done(&p);
	return rc;
}

struct idem_query {
	uint64_t repo_id;
	const char *key;
	struct sha256 *request;
	int *status;
	struct buf *body;
};

static enum rc
run_idem_get(struct db_tx *tx, void *arg, struct err *err)
{
	struct idem_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_add_str(&p, q->key);
	enum rc rc = db_exec(tx, &stmt_idem_get, &p, &r, err);
	if (rc == RC_OK && db_rows(r) == 0) {
		rc = err_set(err, RC_NOT_FOUND, NULL, "this key was not used");
	} else if (rc == RC_OK) {
		size_t len;
		const uint8_t *data = db_get_bytea(r, 0, 2, &len);
		db_get_bytea_into(r, 0, 0, q->request->b, sizeof q->request->b);
		*q->status = db_get_i32(r, 0, 1);
		buf_clear(q->body);
		buf_add(q->body, data, len);
		if (!buf_ok(q->body))
			rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_idempotency_get(struct db *db, uint64_t repo_id, const char *key, struct sha256 *request,
	int *status, struct buf *body, struct err *err)
{
	struct idem_query q = {repo_id, key, request, status, body};

	return db_run_readonly(db, run_idem_get, &q, err);
}

static enum rc
run_idem_expire(struct db_tx *tx, void *arg, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_timestamptz_us(&p, *(const int64_t *)arg);
	enum rc rc = db_exec(tx, &stmt_idem_expire, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_idempotency_expire(struct db *db, int64_t before_us, struct err *err)
{
	return db_run(db, run_idem_expire, &before_us, err);
}

static const struct db_stmt stmt_log_delete = {
	.name = "stage_log_delete",
	.sql = "DELETE FROM stage_batch WHERE stage_id = $1",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

enum rc
db_stage_log_delete(struct db_tx *tx, uint64_t stage_id, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)stage_id);
	enum rc rc = db_exec_later(tx, &stmt_log_delete, &p, NULL, NULL, err);
	db_params_done(&p);
	return rc;
}
