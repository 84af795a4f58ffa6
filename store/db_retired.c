/* SPDX-License-Identifier: Apache-2.0 */
#include "db_retired.h"

#include "db.h"

static const struct db_stmt stmt_due = {
	.name = "retired_due",
	.sql = "SELECT p.id, p.repo_id, p.bytes FROM pack p JOIN repo r ON r.id = p.repo_id"
	       " WHERE p.state = 3 AND r.name IS NOT NULL"
	       " AND coalesce(p.retired_at, '-infinity') <= now() - $1 * interval '1 microsecond'"
	       " ORDER BY p.retired_at NULLS FIRST, p.id LIMIT $2",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_INT8},
};
/* A few packs hold what was in one. */
static const struct db_stmt stmt_uses = {
	.name = "retired_uses",
	.sql = "SELECT DISTINCT c.pack_id, c.state FROM unnest($2::bytea[]) AS u (hash)"
	       " JOIN chunk c ON c.repo_id = $1 AND c.hash = u.hash",
	.params = 2,
};
static const struct db_stmt stmt_lock = {
	.name = "retired_lock",
	.sql = "SELECT 1 FROM pack WHERE id = $1 AND state = 3 FOR UPDATE",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_named = {
	.name = "retired_named",
	.sql = "SELECT 1 FROM unnest($2::bytea[]) AS u (hash)"
	       " JOIN chunk c ON c.repo_id = $1 AND c.hash = u.hash AND c.pack_id = $3 LIMIT 1",
	.params = 3,
};
static const struct db_stmt stmt_delete = {
	.name = "retired_delete",
	.sql = "DELETE FROM pack WHERE id = $1 AND state = 3",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_keep = {
	.name = "retired_keep",
	.sql = "UPDATE pack SET retired_at = now() WHERE id = $1 AND state = 3",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

/* ---- which ---- */

struct due_query {
	uint64_t grace_us;
	struct retired_pack *packs;
	size_t limit;
	size_t *count;
};

static enum rc
run_due(struct db_tx *tx, void *arg, struct err *err)
{
	struct due_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	*q->count = 0;
	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->grace_us);
	db_add_i64(&p, (int64_t)q->limit);
	enum rc rc = db_exec(tx, &stmt_due, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r); i++)
		q->packs[(*q->count)++] = (struct retired_pack){
			.id = (uint64_t)db_get_i64(r, i, 0),
			.repo_id = (uint64_t)db_get_i64(r, i, 1),
			.bytes = (uint64_t)db_get_i64(r, i, 2),
		};
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_retired_due(struct db *db, uint64_t grace_us, struct retired_pack *packs, size_t limit,
	size_t *count, struct err *err)
{
	struct due_query q = {grace_us, packs, limit, count};

	return db_run_readonly(db, run_due, &q, err);
}

/* ---- who needs one ---- */

static void
add_chunks(struct db_params *p, const struct retired_pack *pack, const struct pack_chunk *chunks,
	size_t count)
{
	db_add_i64(p, (int64_t)pack->repo_id);
	db_add_bytea_array(p, count, chunks->hash.b, sizeof *chunks, sizeof chunks->hash.b);
}

struct uses_query {
	const struct retired_pack *pack;
	const struct pack_chunk *chunks;
	size_t count;
	struct retired_uses *out;
};

static enum rc
run_uses(struct db_tx *tx, void *arg, struct err *err)
{
	struct uses_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	q->out->is_named = false;
	q->out->is_bad = false;
	q->out->other_count = 0;
	db_params_init(&p);
	add_chunks(&p, q->pack, q->chunks, q->count);
	enum rc rc = db_exec(tx, &stmt_uses, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r); i++) {
		uint64_t id = (uint64_t)db_get_i64(r, i, 0);
		bool is_bad = db_get_i16(r, i, 1) != 0;
		if (id == q->pack->id)
			q->out->is_named = true;
		if (is_bad)
			q->out->is_bad = true;
		else if (id != q->pack->id && q->out->other_count < DB_RETIRED_BATCH)
			q->out->others[q->out->other_count++] = id;
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_retired_uses(struct db *db, const struct retired_pack *pack, const struct pack_chunk *chunks,
	size_t count, struct retired_uses *out, struct err *err)
{
	struct uses_query q = {pack, chunks, count, out};

	return db_run_readonly(db, run_uses, &q, err);
}

/* ---- the end of one ---- */

static enum rc
look_for_names(
	struct db_tx *tx, const struct db_retired_removal *q, bool *is_named, struct err *err)
{
	enum rc rc = RC_OK;

	*is_named = false;
	for (size_t at = 0; rc == RC_OK && !*is_named && at < q->chunk_count;
		at += DB_RETIRED_BATCH) {
		size_t left = q->chunk_count - at;
		struct db_result *r = NULL;
		struct db_params p;
		db_params_init(&p);
		add_chunks(&p, &q->pack, q->chunks + at,
			left < DB_RETIRED_BATCH ? left : DB_RETIRED_BATCH);
		db_add_i64(&p, (int64_t)q->pack.id);
		rc = db_exec(tx, &stmt_named, &p, &r, err);
		*is_named = rc == RC_OK && db_rows(r) > 0;
		db_result_free(r);
		db_params_done(&p);
	}
	return rc;
}

static enum rc
run_remove(struct db_tx *tx, void *arg, struct err *err)
{
	struct db_retired_removal *q = arg;
	bool is_named = false;
	uint64_t rows = 0;

	q->removed = true;
	enum rc rc = db_exec_numbers(tx, &stmt_lock, &q->pack.id, &rows, err);
	if (rc != RC_OK || rows == 0)
		return rc;
	rc = look_for_names(tx, q, &is_named, err);
	q->removed = !is_named;
	if (rc == RC_OK && q->removed)
		rc = q->remove(q->arg, q->pack.id, err);
	return rc == RC_OK && q->removed ? db_exec_numbers(tx, &stmt_delete, &q->pack.id, NULL, err)
					 : rc;
}

enum rc
db_retired_remove(struct db *db, struct db_retired_removal *r, struct err *err)
{
	return db_run(db, run_remove, r, err);
}

struct keep_query {
	uint64_t id;
};

static enum rc
run_keep(struct db_tx *tx, void *arg, struct err *err)
{
	const struct keep_query *q = arg;

	return db_exec_numbers(tx, &stmt_keep, &q->id, NULL, err);
}

enum rc
db_retired_keep(struct db *db, uint64_t id, struct err *err)
{
	struct keep_query q = {id};

	return db_run(db, run_keep, &q, err);
}
