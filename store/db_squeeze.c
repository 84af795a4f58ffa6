/* SPDX-License-Identifier: Apache-2.0 */
#include "db_squeeze.h"

#include "db.h"

#define COLUMNS "p.id, p.repo_id, r.uuid, p.bytes, p.squeeze, coalesce(p.gain, 0)"

/* $1 to $3: the filter */
#define CANDIDATES                                                                                 \
	" FROM pack p JOIN repo r ON r.id = p.repo_id WHERE p.state IN (1, 2)"                     \
	" AND r.name IS NOT NULL AND (p.squeeze <> 0 OR coalesce(p.closed_at, p.created_at)"       \
	" <= now() - $1::bigint * interval '1 microsecond')"                                       \
	" AND p.id <= $2 AND p.id <> ALL ($3::bigint[])"

static const struct db_stmt stmt_unknown = {
	.name = "squeeze_unknown",
	.sql = "SELECT " COLUMNS CANDIDATES " AND p.squeeze = 0 AND p.gain IS NULL"
	       " ORDER BY p.id LIMIT $4",
	.params = 4,
};
static const struct db_stmt stmt_best = {
	.name = "squeeze_best",
	.sql = "SELECT " COLUMNS CANDIDATES " AND p.squeeze = 0 AND p.gain IS NOT NULL"
	       " ORDER BY p.gain DESC, p.id LIMIT $4",
	.params = 4,
};
static const struct db_stmt stmt_small = {
	.name = "squeeze_small",
	.sql = "SELECT " COLUMNS CANDIDATES " AND (p.squeeze <> 0 OR p.gain IS NOT NULL)"
	       " AND p.repo_id = $5 AND p.id <> $6 AND p.bytes < $7"
	       " ORDER BY p.squeeze <> 0, p.bytes, p.id LIMIT $4",
	.params = 7,
};
static const struct db_stmt stmt_note = {
	.name = "squeeze_note",
	.sql = "UPDATE pack SET gain = $2, raw_bytes = $3"
	       " WHERE id = $1 AND squeeze = 0 AND state IN (1, 2)",
	.params = 3,
	.types = (const uint32_t[]){DB_INT8, DB_INT8, DB_INT8},
};
static const struct db_stmt stmt_leave = {
	.name = "squeeze_leave",
	.sql = "UPDATE pack SET squeeze = 2, gain = NULL,"
	       " raw_bytes = coalesce(nullif($2, 0), raw_bytes)"
	       " WHERE id = $1 AND squeeze = 0 AND state IN (1, 2)",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_INT8},
};
/* Packs of dropped repositories are swept, not recompressed. */
static const struct db_stmt stmt_sums = {
	.name = "squeeze_sums",
	.sql = "SELECT t.packs_before, t.packs_after, t.bytes_before, t.bytes_after, t.raw_bytes,"
	       " t.frames, t.cpu_us, l.n, l.bytes, l.gain, l.unknown, g.n, g.bytes, o.n"
	       " FROM recompression t,"
	       " (SELECT count(*) AS n, coalesce(sum(p.bytes), 0)::bigint AS bytes,"
	       " coalesce(sum(p.gain), 0)::bigint AS gain,"
	       " count(*) FILTER (WHERE p.gain IS NULL) AS unknown"
	       " FROM pack p JOIN repo r ON r.id = p.repo_id AND r.name IS NOT NULL"
	       " WHERE p.squeeze = 0 AND p.state IN (1, 2)) AS l,"
	       " (SELECT count(*) AS n, coalesce(sum(bytes), 0)::bigint AS bytes FROM pack"
	       " WHERE state = 3) AS g,"
	       " (SELECT count(*) AS n FROM pack WHERE state = 0 AND id <= $1) AS o",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

/* ---- candidates ---- */

struct pick_query {
	const struct db_stmt *stmt;
	const struct squeeze_filter *filter;
	const struct squeeze_small *small; /* NULL: not asked for */
	struct squeeze_pack *packs;
	size_t limit;
	size_t *count;
};

static void
add_pick(struct db_params *p, const struct pick_query *q)
{
	const struct squeeze_filter *f = q->filter;

	db_add_i64(p, (int64_t)f->cold_us);
	db_add_i64(p, (int64_t)f->id_max);
	db_add_i64_column(p, f->skip_count, f->skip, sizeof *f->skip);
	db_add_i64(p, (int64_t)q->limit);
	if (q->small == NULL)
		return;
	db_add_i64(p, (int64_t)q->small->repo_id);
	db_add_i64(p, (int64_t)q->small->other_than);
	db_add_i64(p, (int64_t)q->small->bytes_max);
}

static enum rc
run_pick(struct db_tx *tx, void *arg, struct err *err)
{
	struct pick_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	*q->count = 0;
	db_params_init(&p);
	add_pick(&p, q);
	enum rc rc = db_exec(tx, q->stmt, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r) && i < q->limit; i++) {
		struct squeeze_pack *pack = &q->packs[(*q->count)++];
		*pack = (struct squeeze_pack){
			.id = (uint64_t)db_get_i64(r, i, 0),
			.repo_id = (uint64_t)db_get_i64(r, i, 1),
			.bytes = (uint64_t)db_get_i64(r, i, 3),
			.squeeze = (enum pack_squeeze)db_get_i16(r, i, 4),
			.gain = (uint64_t)db_get_i64(r, i, 5),
		};
		db_get_uuid(r, i, 2, pack->repo_uuid);
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_squeeze_unknown(struct db *db, const struct squeeze_filter *f, struct squeeze_pack *packs,
	size_t limit, size_t *count, struct err *err)
{
	struct pick_query q = {&stmt_unknown, f, NULL, packs, limit, count};

	return db_run_readonly(db, run_pick, &q, err);
}

enum rc
db_squeeze_best(struct db *db, const struct squeeze_filter *f, struct squeeze_pack *pack,
	size_t *count, struct err *err)
{
	struct pick_query q = {&stmt_best, f, NULL, pack, 1, count};

	return db_run_readonly(db, run_pick, &q, err);
}

enum rc
db_squeeze_small(struct db *db, const struct squeeze_filter *f, const struct squeeze_small *which,
	struct squeeze_pack *packs, size_t limit, size_t *count, struct err *err)
{
	struct pick_query q = {&stmt_small, f, which, packs, limit, count};

	return db_run_readonly(db, run_pick, &q, err);
}

/* ---- results ---- */

struct note_query {
	const struct db_stmt *stmt;
	uint64_t numbers[3];
};

static enum rc
run_note(struct db_tx *tx, void *arg, struct err *err)
{
	const struct note_query *q = arg;
	struct db_params p;

	db_params_init(&p);
	for (unsigned i = 0; i < q->stmt->params; i++)
		db_add_i64(&p, (int64_t)q->numbers[i]);
	enum rc rc = db_exec(tx, q->stmt, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_squeeze_note(struct db *db, uint64_t id, uint64_t gain, uint64_t raw_bytes, struct err *err)
{
	struct note_query q = {&stmt_note, {id, gain, raw_bytes}};

	return db_run(db, run_note, &q, err);
}

enum rc
db_squeeze_leave(struct db *db, uint64_t id, uint64_t raw_bytes, struct err *err)
{
	struct note_query q = {&stmt_leave, {id, raw_bytes}};

	return db_run(db, run_note, &q, err);
}

/* ---- sums ---- */

struct sums_query {
	uint64_t open_id_max;
	struct squeeze_sums *out;
};

static enum rc
run_sums(struct db_tx *tx, void *arg, struct err *err)
{
	struct sums_query *q = arg;
	struct squeeze_sums *s = q->out;
	uint64_t *const columns[] = {&s->packs_before, &s->packs_after, &s->bytes_before,
		&s->bytes_after, &s->raw_bytes, &s->frames, &s->cpu_us, &s->left_packs,
		&s->left_bytes, &s->left_gain, &s->left_unknown, &s->retired_packs,
		&s->retired_bytes, &s->open_packs};
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->open_id_max);
	enum rc rc = db_exec(tx, &stmt_sums, &p, &r, err);
	for (unsigned i = 0; rc == RC_OK && i < sizeof columns / sizeof *columns; i++)
		*columns[i] = (uint64_t)db_get_i64(r, 0, i);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_squeeze_sums(struct db *db, uint64_t open_id_max, struct squeeze_sums *out, struct err *err)
{
	struct sums_query q = {open_id_max, out};

	return db_run_readonly(db, run_sums, &q, err);
}
