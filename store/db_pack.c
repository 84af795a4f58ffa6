/* SPDX-License-Identifier: Apache-2.0 */
#include "db_pack.h"

#include "db.h"

static const struct db_stmt stmt_open = {
	.name = "pack_open",
	/* none for a repository that was dropped: its sweep has listed its packs, or will */
	.sql = "INSERT INTO pack (repo_id, state) SELECT id, $2 FROM repo WHERE id = $1"
	       " AND name IS NOT NULL FOR SHARE RETURNING id",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_INT2},
};
static const struct db_stmt stmt_close = {
	.name = "pack_close",
	.sql = "UPDATE pack SET state = $2, bytes = $3, closed_at = coalesce(closed_at, now())"
	       " WHERE id = $1",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_INT2, DB_INT8},
};
static const struct db_stmt stmt_delete = {
	.name = "pack_delete",
	.sql = "DELETE FROM pack WHERE id = $1",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_last_id = {
	.name = "pack_last_id",
	.sql = "SELECT coalesce(pg_sequence_last_value("
	       "pg_get_serial_sequence('pack', 'id')::regclass), 0)",
	.params = 0,
};
static const struct db_stmt stmt_reserve = {
	.name = "pack_reserve_ids",
	.sql = "SELECT setval(s, $1) FROM pg_get_serial_sequence('pack', 'id') AS s"
	       " WHERE $1 > coalesce(pg_sequence_last_value(s::regclass), 0)",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_list_open = {
	.name = "pack_list_open",
	.sql = "SELECT id FROM pack WHERE state = 0 ORDER BY id LIMIT $1",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_list = {
	.name = "pack_list",
	.sql = "SELECT id FROM pack WHERE repo_id = $1 AND id > $2 AND state <> 4"
	       " ORDER BY id LIMIT $3",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_INT8, DB_INT8},
};
static const struct db_stmt stmt_list_state = {
	.name = "pack_list_state",
	.sql = "SELECT id FROM pack WHERE state = $1 AND id > $2 ORDER BY id LIMIT $3",
	.params = 3,
	.types = (const uint32_t[]){DB_INT2, DB_INT8, DB_INT8},
};

struct query {
	const struct db_stmt *stmt;
	uint64_t numbers[3];
	uint64_t *out;
	size_t limit;
	size_t *count;
};

/* All statements here take integers and give at most one column of ids. */
static enum rc
run(struct db_tx *tx, void *arg, struct err *err)
{
	struct query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_numbers(&p, q->stmt, q->numbers);
	enum rc rc = db_exec(tx, q->stmt, &p, &r, err);
	if (rc == RC_OK && q->out != NULL) {
		size_t n = db_rows(r) < q->limit ? db_rows(r) : q->limit;
		for (size_t i = 0; i < n; i++)
			q->out[i] = (uint64_t)db_get_i64(r, i, 0);
		if (q->count != NULL)
			*q->count = n;
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_pack_open(struct db *db, uint64_t repo_id, enum pack_state state, uint64_t *id, struct err *err)
{
	size_t count = 0;
	struct query q = {&stmt_open, {repo_id, (uint64_t)state}, id, 1, &count};

	enum rc rc = db_run(db, run, &q, err);
	if (rc == RC_OK && count == 0)
		rc = err_set(err, RC_NOT_FOUND, "repo-not-found", "the repository was dropped");
	return rc;
}

enum rc
db_pack_close(struct db *db, uint64_t id, enum pack_state state, uint64_t bytes, struct err *err)
{
	struct query q = {&stmt_close, {id, state, bytes}, NULL, 0, NULL};

	return db_run(db, run, &q, err);
}

enum rc
db_pack_delete(struct db *db, uint64_t id, struct err *err)
{
	struct query q = {&stmt_delete, {id}, NULL, 0, NULL};

	return db_run(db, run, &q, err);
}

enum rc
db_pack_last_id(struct db *db, uint64_t *id, struct err *err)
{
	struct query q = {&stmt_last_id, {0}, id, 1, NULL};

	return db_run_readonly(db, run, &q, err);
}

enum rc
db_pack_reserve_ids(struct db *db, uint64_t id, struct err *err)
{
	struct query q = {&stmt_reserve, {id}, NULL, 0, NULL};

	return db_run(db, run, &q, err);
}

enum rc
db_pack_list_open(struct db *db, uint64_t *ids, size_t limit, size_t *count, struct err *err)
{
	struct query q = {&stmt_list_open, {limit}, ids, limit, count};

	return db_run_readonly(db, run, &q, err);
}

enum rc
db_pack_list(struct db *db, uint64_t repo_id, uint64_t after, uint64_t *ids, size_t limit,
	size_t *count, struct err *err)
{
	struct query q = {&stmt_list, {repo_id, after, limit}, ids, limit, count};

	return db_run_readonly(db, run, &q, err);
}

enum rc
db_pack_list_state(struct db *db, enum pack_state state, uint64_t after, uint64_t *ids,
	size_t limit, size_t *count, struct err *err)
{
	struct query q = {&stmt_list_state, {state, after, limit}, ids, limit, count};

	return db_run_readonly(db, run, &q, err);
}
