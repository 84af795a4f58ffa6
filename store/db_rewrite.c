/* SPDX-License-Identifier: Apache-2.0 */
#include "db_rewrite.h"

#include <string.h>

#include "db.h"

#define MOVE_BATCH  4096u          /* rows of one statement: some 50 ms */
#define MOVE_MS_MAX (120u * 1000u) /* of one statement, on a slow disk */

/* FOR SHARE: a drop waits for us, or we see it. */
static const struct db_stmt stmt_repo = {
	.name = "rewrite_repo",
	.sql = "SELECT 1 FROM repo WHERE id = $1 AND name IS NOT NULL FOR SHARE",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_sources = {
	.name = "rewrite_sources",
	.sql = "SELECT id FROM pack WHERE id = ANY ($1::bigint[]) AND repo_id = $2"
	       " AND state IN (1, 2) ORDER BY id FOR UPDATE",
	.params = 2,
};
static const struct db_stmt stmt_target = {
	.name = "rewrite_target",
	.sql = "UPDATE pack SET state = 1, bytes = $3, raw_bytes = $4, bytes_before = $5,"
	       " squeeze = $6, closed_at = now() WHERE id = $1 AND repo_id = $2 AND state = 4",
	.params = 6,
	.types = (const uint32_t[]){DB_INT8, DB_INT8, DB_INT8, DB_INT8, DB_INT8, DB_INT2},
};
static const struct db_stmt stmt_lock = {
	.name = "rewrite_lock",
	.sql = "SELECT 1 FROM unnest($2::bytea[]) AS u (hash)"
	       " JOIN chunk c ON c.repo_id = $1 AND c.hash = u.hash"
	       " ORDER BY c.repo_id, c.hash FOR NO KEY UPDATE OF c",
	.params = 2,
};
static const struct db_stmt stmt_move = {
	.name = "rewrite_move",
	.sql = "UPDATE chunk c SET pack_id = u.pack_id, frame_offset = u.frame_offset,"
	       " frame_bytes = u.frame_bytes, raw_offset = u.raw_offset"
	       " FROM unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],"
	       " $7::bigint[], $8::bigint[], $9::bigint[]) AS u (hash, from_pack, from_offset,"
	       " pack_id, frame_offset, frame_bytes, raw_offset, length)"
	       " WHERE c.repo_id = $1 AND c.hash = u.hash AND c.state = 0"
	       " AND c.pack_id = u.from_pack AND c.frame_offset = u.from_offset"
	       " AND c.length = u.length",
	.params = 9,
};
static const struct db_stmt stmt_mark = {
	.name = "rewrite_mark",
	.sql = "UPDATE chunk c SET state = 1"
	       " FROM unnest($2::bytea[], $3::bigint[], $4::bigint[])"
	       " AS u (hash, from_pack, from_offset)"
	       " WHERE c.repo_id = $1 AND c.hash = u.hash AND c.state = 0"
	       " AND c.pack_id = u.from_pack AND c.frame_offset = u.from_offset",
	.params = 4,
};
static const struct db_stmt stmt_retire = {
	.name = "rewrite_retire",
	.sql = "UPDATE pack SET state = 3, retired_at = now() WHERE id = ANY ($1::bigint[])",
	.params = 1,
};
static const struct db_stmt stmt_total = {
	.name = "rewrite_total",
	.sql = "UPDATE recompression SET packs_before = packs_before + $1,"
	       " packs_after = packs_after + $2,"
	       " bytes_before = bytes_before + $3, bytes_after = bytes_after + $4,"
	       " raw_bytes = raw_bytes + $5, frames = frames + $6, cpu_us = cpu_us + $7",
	.params = 7,
	.types = (const uint32_t[]){DB_INT8, DB_INT8, DB_INT8, DB_INT8, DB_INT8, DB_INT8, DB_INT8},
};
static const struct db_stmt stmt_claim = {
	.name = "rewrite_claim",
	.sql = "SELECT 1 FROM pack WHERE id = $1 AND state = 4 FOR UPDATE",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_forget = {
	.name = "rewrite_forget",
	.sql = "DELETE FROM pack WHERE id = $1 AND state = 4",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

static const struct db_stmt stmt_shelve = {
	.name = "rewrite_shelve",
	.sql = "UPDATE pack SET state = 3, bytes = $2, closed_at = now(), retired_at = now()"
	       " WHERE id = $1 AND state = 4",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_INT8},
};

/* ---- statements ---- */

static void
add_hashes(struct db_params *p, const struct chunk_move *moves, size_t count)
{
	db_add_bytea_array(p, count, moves->hash.b, sizeof *moves, sizeof moves->hash.b);
}

static enum rc
repo_gone(struct err *err)
{
	return err_set(err, RC_NOT_FOUND, "repo-not-found", "the repository was dropped");
}

/* ---- the transaction ---- */

static enum rc
pack_conflict(struct err *err, const char *what)
{
	err_set(err, RC_CONFLICT, "pack-conflict", "a pack is not in the state it was in");
	return err_detail(err, "%s", what);
}

static enum rc
lock_sources(struct db_tx *tx, const struct db_rewrite *w, struct err *err)
{
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64_column(&p, w->source_count, w->sources, sizeof *w->sources);
	db_add_i64(&p, (int64_t)w->repo_id);
	enum rc rc = db_exec(tx, &stmt_sources, &p, &r, err);
	if (rc == RC_OK && db_rows(r) != w->source_count)
		rc = pack_conflict(err, "a source was retired or removed");
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

static enum rc
set_targets(struct db_tx *tx, const struct db_rewrite *w, struct err *err)
{
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < w->target_count; i++) {
		const struct rewritten_pack *t = &w->targets[i];
		const uint64_t numbers[] = {t->id, w->repo_id, t->bytes, t->raw_bytes,
			t->bytes_before, (uint64_t)w->squeeze};
		uint64_t rows = 0;
		rc = db_exec_numbers(tx, &stmt_target, numbers, &rows, err);
		if (rc == RC_OK && rows != 1)
			rc = pack_conflict(err, "a new pack is not being rewritten");
	}
	return rc;
}

static enum rc
move_batch(struct db_tx *tx, struct db_rewrite *w, const struct chunk_move *moves, size_t count,
	struct err *err)
{
	static const size_t columns[] = {
		offsetof(struct chunk_move, from_pack),
		offsetof(struct chunk_move, from_offset),
		offsetof(struct chunk_move, pack_id),
		offsetof(struct chunk_move, frame_offset),
		offsetof(struct chunk_move, frame_bytes),
		offsetof(struct chunk_move, raw_offset),
		offsetof(struct chunk_move, length),
	};
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)w->repo_id);
	add_hashes(&p, moves, count);
	enum rc rc = db_exec(tx, &stmt_lock, &p, NULL, err);
	if (rc == RC_OK) {
		for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
			db_add_i64_column(
				&p, count, (const char *)moves + columns[i], sizeof *moves);
		rc = db_exec(tx, &stmt_move, &p, &r, err);
	}
	if (rc == RC_OK)
		w->moved += db_affected(r);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

static enum rc
move_rows(struct db_tx *tx, struct db_rewrite *w, struct err *err)
{
	enum rc rc = RC_OK;

	for (size_t at = 0; rc == RC_OK && at < w->move_count; at += MOVE_BATCH) {
		size_t n = w->move_count - at < MOVE_BATCH ? w->move_count - at : MOVE_BATCH;
		rc = move_batch(tx, w, w->moves + at, n, err);
	}
	return rc;
}

/* Few, if any. */
static enum rc
mark_rows(struct db_tx *tx, const struct db_rewrite *w, struct err *err)
{
	enum rc rc = RC_OK;

	for (size_t at = 0; rc == RC_OK && at < w->bad_count; at += MOVE_BATCH) {
		size_t n = w->bad_count - at < MOVE_BATCH ? w->bad_count - at : MOVE_BATCH;
		struct db_params p;
		db_params_init(&p);
		db_add_i64(&p, (int64_t)w->repo_id);
		add_hashes(&p, w->bad + at, n);
		db_add_i64_column(&p, n, &w->bad[at].from_pack, sizeof *w->bad);
		db_add_i64_column(&p, n, &w->bad[at].from_offset, sizeof *w->bad);
		rc = db_exec(tx, &stmt_mark, &p, NULL, err);
		db_params_done(&p);
	}
	return rc;
}

static enum rc
retire_sources(struct db_tx *tx, const struct db_rewrite *w, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64_column(&p, w->source_count, w->sources, sizeof *w->sources);
	enum rc rc = db_exec(tx, &stmt_retire, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

static enum rc
add_totals(struct db_tx *tx, const struct db_rewrite *w, struct err *err)
{
	uint64_t n[7] = {w->source_count, w->target_count};

	if (w->squeeze != PACK_RECOMPRESSED || w->target_count == 0)
		return RC_OK;
	for (size_t i = 0; i < w->target_count; i++) {
		n[2] += w->targets[i].bytes_before;
		n[3] += w->targets[i].bytes;
		n[4] += w->targets[i].raw_bytes;
	}
	n[5] = w->frames;
	n[6] = w->cpu_us;
	return db_exec_numbers(tx, &stmt_total, n, NULL, err);
}

/* The order of locks: repository, packs by id, chunks by hash; the row of totals last, because all
 * rewrites want it. */
static enum rc
run_commit(struct db_tx *tx, void *arg, struct err *err)
{
	struct db_rewrite *w = arg;
	uint64_t rows = 0;

	w->moved = 0;
	enum rc rc = db_set_timeouts(tx, MOVE_MS_MAX, DB_LOCK_TIMEOUT_MS, err);
	if (rc == RC_OK)
		rc = db_exec_numbers(tx, &stmt_repo, &w->repo_id, &rows, err);
	if (rc == RC_OK && rows == 0)
		rc = repo_gone(err);
	if (rc == RC_OK)
		rc = lock_sources(tx, w, err);
	if (rc == RC_OK)
		rc = set_targets(tx, w, err);
	if (rc == RC_OK)
		rc = move_rows(tx, w, err);
	if (rc == RC_OK)
		rc = mark_rows(tx, w, err);
	if (rc == RC_OK)
		rc = retire_sources(tx, w, err);
	return rc == RC_OK ? add_totals(tx, w, err) : rc;
}

enum rc
db_rewrite_commit(struct db *db, struct db_rewrite *w, struct err *err)
{
	return db_run(db, run_commit, w, err);
}

/* ---- forgetting ---- */

struct discard_query {
	uint64_t id;
	db_pack_remove_fn *remove;
	void *arg;
};

static enum rc
run_discard(struct db_tx *tx, void *arg, struct err *err)
{
	const struct discard_query *q = arg;
	uint64_t rows = 0;

	/* waits for a COMMIT whose answer was lost */
	enum rc rc = db_exec_numbers(tx, &stmt_claim, &q->id, &rows, err);
	if (rc != RC_OK || rows == 0)
		return rc;
	rc = q->remove(q->arg, q->id, err);
	return rc == RC_OK ? db_exec_numbers(tx, &stmt_forget, &q->id, NULL, err) : rc;
}

enum rc
db_rewrite_discard(
	struct db *db, uint64_t id, db_pack_remove_fn *remove, void *arg, struct err *err)
{
	struct discard_query q = {id, remove, arg};

	return db_run(db, run_discard, &q, err);
}

static enum rc
run_retire(struct db_tx *tx, void *arg, struct err *err)
{
	return db_exec_numbers(tx, &stmt_shelve, arg, NULL, err);
}

enum rc
db_rewrite_retire(struct db *db, uint64_t id, uint64_t bytes, struct err *err)
{
	uint64_t numbers[] = {id, bytes};

	return db_run(db, run_retire, numbers, err);
}
