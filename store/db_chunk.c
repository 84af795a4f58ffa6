/* SPDX-License-Identifier: Apache-2.0 */
#include "db_chunk.h"

#include <stdlib.h>
#include <string.h>

#include "db.h"

#define WHOLE_TABLE_MS_MAX (600u * 1000) /* a billion rows at 2 million a second */

int
chunk_row_cmp(const void *a, const void *b)
{
	const struct chunk_row *x = *(const struct chunk_row *const *)a;
	const struct chunk_row *y = *(const struct chunk_row *const *)b;

	if (x->repo_id != y->repo_id)
		return x->repo_id < y->repo_id ? -1 : 1;
	return sha256_cmp(&x->hash, &y->hash);
}

static const struct db_stmt stmt_upsert = {
	.name = "chunk_upsert",
	.sql = "INSERT INTO chunk (repo_id, hash, pack_id, frame_offset, frame_bytes, raw_offset, "
	       "length)"
	       " SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], "
	       "$5::bigint[],"
	       " $6::bigint[], $7::bigint[])"
	       " ON CONFLICT (repo_id, hash) DO UPDATE SET pack_id = excluded.pack_id,"
	       " frame_offset = excluded.frame_offset, frame_bytes = excluded.frame_bytes,"
	       " raw_offset = excluded.raw_offset, length = excluded.length, state = 0"
	       " WHERE chunk.state <> 0",
	.params = 7,
};

static void
add_column(struct db_params *p, const struct chunk_row *const *rows, size_t count, size_t offset)
{
	db_array_begin(p, DB_INT8);
	for (size_t i = 0; i < count; i++) {
		uint64_t v;
		memcpy(&v, (const char *)rows[i] + offset, sizeof v);
		db_array_i64(p, (int64_t)v);
	}
	db_array_end(p);
}

enum rc
db_chunk_upsert(
	struct db_tx *tx, const struct chunk_row *const *rows, size_t count, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	add_column(&p, rows, count, offsetof(struct chunk_row, repo_id));
	db_array_begin(&p, DB_BYTEA);
	for (size_t i = 0; i < count; i++)
		db_array_bytea(&p, rows[i]->hash.b, sizeof rows[i]->hash.b);
	db_array_end(&p);
	add_column(&p, rows, count, offsetof(struct chunk_row, pack_id));
	add_column(&p, rows, count, offsetof(struct chunk_row, frame_offset));
	add_column(&p, rows, count, offsetof(struct chunk_row, frame_bytes));
	add_column(&p, rows, count, offsetof(struct chunk_row, raw_offset));
	add_column(&p, rows, count, offsetof(struct chunk_row, length));
	enum rc rc = db_exec_later(tx, &stmt_upsert, &p, NULL, NULL, err);
	db_params_done(&p);
	return rc;
}

/* ord is 1-based: unnest WITH ORDINALITY tells which element a row answers. */
static const struct db_stmt stmt_known = {
	.name = "chunk_known",
	.sql = "SELECT u.ord FROM unnest($2::bytea[]) WITH ORDINALITY AS u (hash, ord)"
	       " JOIN chunk c ON c.repo_id = $1 AND c.hash = u.hash WHERE c.state = 0",
	.params = 2,
};

struct known_query {
	uint64_t repo_id;
	const struct sha256 *const *hashes;
	size_t count;
	bool *found;
};

static enum rc
run_known(struct db_tx *tx, void *arg, struct err *err)
{
	struct known_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	memset(q->found, 0, q->count * sizeof *q->found);
	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_array_begin(&p, DB_BYTEA);
	for (size_t i = 0; i < q->count; i++)
		db_array_bytea(&p, q->hashes[i]->b, sizeof q->hashes[i]->b);
	db_array_end(&p);
	enum rc rc = db_exec(tx, &stmt_known, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r); i++) {
		int64_t ord = db_get_i64(r, i, 0);
		if (ord >= 1 && (size_t)ord <= q->count)
			q->found[ord - 1] = true;
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_chunk_known(struct db *db, uint64_t repo_id, const struct sha256 *const *hashes, size_t count,
	bool *found, struct err *err)
{
	struct known_query q = {repo_id, hashes, count, found};

	return db_run_readonly(db, run_known, &q, err);
}

static const struct db_stmt stmt_locate = {
	.name = "chunk_locate",
	.sql = "SELECT u.ord, c.pack_id, c.frame_offset, c.frame_bytes, c.raw_offset, c.length"
	       " FROM unnest($2::bytea[]) WITH ORDINALITY AS u (hash, ord)"
	       " JOIN chunk c ON c.repo_id = $1 AND c.hash = u.hash WHERE c.state = 0",
	.params = 2,
};

struct locate_query {
	uint64_t repo_id;
	const struct sha256 *hashes;
	size_t count;
	struct chunk_row *rows;
	size_t *found;
};

static enum rc
run_locate(struct db_tx *tx, void *arg, struct err *err)
{
	struct locate_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	*q->found = 0;
	for (size_t i = 0; i < q->count; i++)
		q->rows[i] = (struct chunk_row){.repo_id = q->repo_id, .hash = q->hashes[i]};
	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_add_bytea_array(&p, q->count, q->hashes, sizeof *q->hashes, sizeof q->hashes->b);
	enum rc rc = db_exec(tx, &stmt_locate, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r); i++) {
		int64_t ord = db_get_i64(r, i, 0);
		if (ord < 1 || (size_t)ord > q->count)
			continue;
		struct chunk_row *row = &q->rows[ord - 1];
		row->pack_id = (uint64_t)db_get_i64(r, i, 1);
		row->frame_offset = (uint64_t)db_get_i64(r, i, 2);
		row->frame_bytes = (uint64_t)db_get_i64(r, i, 3);
		row->raw_offset = (uint64_t)db_get_i64(r, i, 4);
		row->length = (uint64_t)db_get_i64(r, i, 5);
		++*q->found;
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_chunk_locate(struct db *db, uint64_t repo_id, const struct sha256 *hashes, size_t count,
	struct chunk_row *rows, size_t *found, struct err *err)
{
	struct locate_query q = {repo_id, hashes, count, rows, found};

	return db_run_readonly(db, run_locate, &q, err);
}

static const struct db_stmt stmt_mark_bad = {
	.name = "chunk_mark_bad",
	.sql = "UPDATE chunk SET state = 1 WHERE repo_id = $1 AND pack_id = $2"
	       " AND frame_offset = $3",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_INT8, DB_INT8},
};

static enum rc
run_mark_bad(struct db_tx *tx, void *arg, struct err *err)
{
	const struct chunk_row *row = arg;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)row->repo_id);
	db_add_i64(&p, (int64_t)row->pack_id);
	db_add_i64(&p, (int64_t)row->frame_offset);
	enum rc rc = db_exec(tx, &stmt_mark_bad, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_chunk_mark_bad(struct db *db, const struct chunk_row *row, struct err *err)
{
	struct chunk_row copy = *row;

	return db_run(db, run_mark_bad, &copy, err);
}

static const struct db_stmt stmt_keys = {
	.name = "chunk_keys",
	.sql = "SELECT repo_id, hash FROM chunk WHERE (repo_id, hash) > ($1, $2)"
	       " ORDER BY repo_id, hash LIMIT $3",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_BYTEA, DB_INT8},
};

struct keys_query {
	const struct chunk_key *after;
	size_t limit;
	struct chunk_key *out;
	size_t *count;
};

static enum rc
run_keys(struct db_tx *tx, void *arg, struct err *err)
{
	struct keys_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	*q->count = 0;
	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->after->repo_id);
	db_add_bytea(&p, q->after->hash.b, sizeof q->after->hash.b);
	db_add_i64(&p, (int64_t)q->limit);
	enum rc rc = db_exec(tx, &stmt_keys, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r); i++) {
		q->out[i].repo_id = (uint64_t)db_get_i64(r, i, 0);
		db_get_bytea_into(r, i, 1, q->out[i].hash.b, sizeof q->out[i].hash.b);
		++*q->count;
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_chunk_keys(struct db *db, const struct chunk_key *after, size_t limit, struct chunk_key *out,
	size_t *count, struct err *err)
{
	struct keys_query q = {after, limit, out, count};

	return db_run_readonly(db, run_keys, &q, err);
}

static const struct db_stmt stmt_pack_ends = {
	.name = "chunk_pack_ends",
	/* least: a damaged row must not overflow */
	.sql = "SELECT u.ord, max(least(c.frame_offset, 1::bigint << 40)"
	       " + least(c.frame_bytes, 1::bigint << 40))"
	       " FROM unnest($1::bigint[]) WITH ORDINALITY AS u (id, ord)"
	       " JOIN chunk c ON c.pack_id = u.id GROUP BY u.ord",
	.params = 1,
};

struct ends_query {
	const uint64_t *pack_ids;
	size_t count;
	uint64_t *ends;
};

static enum rc
run_pack_ends(struct db_tx *tx, void *arg, struct err *err)
{
	struct ends_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	memset(q->ends, 0, q->count * sizeof *q->ends);
	enum rc rc = db_set_timeouts(tx, WHOLE_TABLE_MS_MAX, DB_LOCK_TIMEOUT_MS, err);
	if (rc != RC_OK)
		return rc;
	db_params_init(&p);
	db_array_begin(&p, DB_INT8);
	for (size_t i = 0; i < q->count; i++)
		db_array_i64(&p, (int64_t)q->pack_ids[i]);
	db_array_end(&p);
	rc = db_exec(tx, &stmt_pack_ends, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r); i++) {
		int64_t ord = db_get_i64(r, i, 0);
		if (ord >= 1 && (size_t)ord <= q->count)
			q->ends[ord - 1] = (uint64_t)db_get_i64(r, i, 1);
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

/* Not read-only, because only a transaction has a timeout of its own. */
enum rc
db_chunk_pack_ends(
	struct db *db, const uint64_t *pack_ids, size_t count, uint64_t *ends, struct err *err)
{
	struct ends_query q = {pack_ids, count, ends};

	return db_run(db, run_pack_ends, &q, err);
}

/* reltuples is -1 before the first analyze; the size of the relation stands in for it. */
static const struct db_stmt stmt_estimate = {
	.name = "chunk_estimate",
	.sql = "SELECT greatest(reltuples, pg_relation_size(oid) / 120)::bigint FROM pg_class"
	       " WHERE oid = 'chunk'::regclass",
	.params = 0,
};

static enum rc
run_estimate(struct db_tx *tx, void *arg, struct err *err)
{
	uint64_t *count = arg;
	struct db_result *r = NULL;

	enum rc rc = db_exec(tx, &stmt_estimate, NULL, &r, err);
	if (rc == RC_OK)
		*count = db_rows(r) == 1 ? (uint64_t)db_get_i64(r, 0, 0) : 0;
	db_result_free(r);
	return rc;
}

enum rc
db_chunk_estimate(struct db *db, uint64_t *count, struct err *err)
{
	return db_run_readonly(db, run_estimate, count, err);
}
