/* SPDX-License-Identifier: Apache-2.0 */
#include "db_chunk.h"

#include <stdlib.h>
#include <string.h>

#include "db.h"

#define PACK_ENDS_MS_MAX (600u * 1000) /* many packs of many tiny chunks, read from a slow disk */

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

/* Look-ups by a list of hashes. ord is 1-based: unnest WITH ORDINALITY tells which element a row
 * answers. LATERAL with LIMIT leaves the planner one way only, the primary key once for each hash.
 * A plain join is planned from what the statistics say when the statement is prepared, and kept: on
 * a young or skewed table that was all rows of the repository, compared with each hash, for every
 * batch until the next ANALYZE. */
#define EACH_HASH(columns)                                                                         \
	" FROM unnest($2::bytea[]) WITH ORDINALITY AS u (hash, ord) CROSS JOIN LATERAL"            \
	" (SELECT " columns ", state FROM chunk WHERE repo_id = $1 AND hash = u.hash LIMIT 1) AS " \
	"c WHERE c.state = 0"

static const struct db_stmt stmt_known = {
	.name = "chunk_known",
	.sql = "SELECT u.ord, c.pack_id, c.frame_offset" EACH_HASH("pack_id, frame_offset"),
	.params = 2,
};

struct known_query {
	uint64_t repo_id;
	const struct sha256 *const *hashes;
	size_t count;
	struct chunk_place *places;
};

static enum rc
run_known(struct db_tx *tx, void *arg, struct err *err)
{
	struct known_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	memset(q->places, 0, q->count * sizeof *q->places);
	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->repo_id);
	db_array_begin(&p, DB_BYTEA);
	for (size_t i = 0; i < q->count; i++)
		db_array_bytea(&p, q->hashes[i]->b, sizeof q->hashes[i]->b);
	db_array_end(&p);
	enum rc rc = db_exec(tx, &stmt_known, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r); i++) {
		int64_t ord = db_get_i64(r, i, 0);
		if (ord < 1 || (size_t)ord > q->count)
			continue;
		q->places[ord - 1] = (struct chunk_place){
			(uint64_t)db_get_i64(r, i, 1), (uint64_t)db_get_i64(r, i, 2)};
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_chunk_known(struct db *db, uint64_t repo_id, const struct sha256 *const *hashes, size_t count,
	struct chunk_place *places, struct err *err)
{
	struct known_query q = {repo_id, hashes, count, places};

	return db_run_readonly(db, run_known, &q, err);
}

static const struct db_stmt stmt_locate = {
	.name = "chunk_locate",
	.sql = "SELECT u.ord, c.pack_id, c.frame_offset, c.frame_bytes, c.raw_offset, "
	       "c.length" EACH_HASH("pack_id, frame_offset, frame_bytes, raw_offset, length"),
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
	/* + 0: by place, and never through all rows of the repository */
	.sql = "UPDATE chunk SET state = 1 WHERE repo_id + 0 = $1 AND pack_id = $2"
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

static const struct db_stmt stmt_in_pack = {
	.name = "chunk_in_pack",
	.sql = "SELECT repo_id, hash, frame_offset FROM chunk WHERE pack_id = $1"
	       " AND frame_offset >= $2 AND state = 0"
	       " ORDER BY frame_offset FETCH FIRST $3 ROWS WITH TIES",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_INT8, DB_INT8},
};

struct in_pack_query {
	uint64_t pack_id, from;
	size_t limit;
	struct chunk_in_pack *rows;
	size_t count;
};

static enum rc
run_in_pack(struct db_tx *tx, void *arg, struct err *err)
{
	struct in_pack_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->pack_id);
	db_add_i64(&p, (int64_t)q->from);
	db_add_i64(&p, (int64_t)q->limit);
	enum rc rc = db_exec(tx, &stmt_in_pack, &p, &r, err);
	db_params_done(&p);
	if (rc != RC_OK)
		return rc;
	q->count = db_rows(r);
	q->rows = malloc((q->count + 1) * sizeof *q->rows);
	if (q->rows == NULL)
		rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
	for (size_t i = 0; rc == RC_OK && i < q->count; i++) {
		q->rows[i].repo_id = (uint64_t)db_get_i64(r, i, 0);
		db_get_bytea_into(r, i, 1, q->rows[i].hash.b, sizeof q->rows[i].hash.b);
		q->rows[i].frame_offset = (uint64_t)db_get_i64(r, i, 2);
	}
	db_result_free(r);
	return rc;
}

enum rc
db_chunk_in_pack(struct db *db, uint64_t pack_id, uint64_t from, size_t limit,
	struct chunk_in_pack **out, size_t *count, struct err *err)
{
	struct in_pack_query q = {.pack_id = pack_id, .from = from, .limit = limit};

	*out = NULL;
	*count = 0;
	enum rc rc = db_run_readonly(db, run_in_pack, &q, err);
	if (rc != RC_OK)
		return rc;
	*out = q.rows;
	*count = q.count;
	return RC_OK;
}

static const struct db_stmt stmt_any = {
	.name = "chunk_any",
	.sql = "SELECT EXISTS (SELECT 1 FROM chunk)",
	.params = 0,
};

static enum rc
run_any(struct db_tx *tx, void *arg, struct err *err)
{
	bool *any = arg;
	struct db_result *r = NULL;

	enum rc rc = db_exec(tx, &stmt_any, NULL, &r, err);
	if (rc == RC_OK)
		*any = db_rows(r) == 1 && db_get_bool(r, 0, 0);
	db_result_free(r);
	return rc;
}

enum rc
db_chunk_any(struct db *db, bool *any, struct err *err)
{
	return db_run_readonly(db, run_any, any, err);
}

static const struct db_stmt stmt_pack_ends = {
	.name = "chunk_pack_ends",
	/* least: a damaged row must not overflow. An aggregate is not merged with what is outside
	 * of it, so this too is asked by the index, pack for pack. */
	.sql = "SELECT u.ord, e.pack_end FROM unnest($1::bigint[]) WITH ORDINALITY AS u (id, ord)"
	       " CROSS JOIN LATERAL (SELECT max(least(frame_offset, 1::bigint << 40)"
	       " + least(frame_bytes, 1::bigint << 40)) AS pack_end FROM chunk"
	       " WHERE pack_id = u.id) AS e WHERE e.pack_end IS NOT NULL",
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
	enum rc rc = db_set_timeouts(tx, PACK_ENDS_MS_MAX, DB_LOCK_TIMEOUT_MS, err);
	if (rc != RC_OK)
		return rc;
	db_params_init(&p);
	db_add_i64_column(&p, q->count, q->pack_ids, sizeof *q->pack_ids);
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
