/* SPDX-License-Identifier: Apache-2.0 */
#include "db_performance.h"

#include "buf.h"
#include "db.h"

#define FIGURE_BYTES 8

static const struct db_stmt stmt_load = {
	.name = "performance_load",
	.sql = "SELECT at, figures FROM (SELECT * FROM performance WHERE version = $1"
	       " AND octet_length(figures) = $2 ORDER BY at DESC LIMIT $3) AS p ORDER BY at",
	.params = 3,
	.types = (const uint32_t[]){DB_INT2, DB_INT4, DB_INT8},
};
static const struct db_stmt stmt_save = {
	.name = "performance_save",
	/* a clock that was set back makes a minute twice */
	.sql = "INSERT INTO performance (version, at, figures)"
	       " SELECT DISTINCT ON (us) $1::smallint,"
	       " timestamptz 'epoch' + us * interval '1 microsecond', f"
	       " FROM unnest($2::bigint[], $3::bytea[]) WITH ORDINALITY AS u (us, f, n)"
	       " ORDER BY us, n DESC"
	       " ON CONFLICT (at) DO UPDATE SET version = excluded.version,"
	       " figures = excluded.figures",
	.params = 3,
};
static const struct db_stmt stmt_prune = {
	.name = "performance_prune",
	/* and one that was wrong, minutes that have not come yet */
	.sql = "DELETE FROM performance WHERE at > now() + interval '1 day' OR at <="
	       " (SELECT max(at) FROM performance WHERE at <= now() + interval '1 day')"
	       " - $1 * interval '1 minute'",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

struct query {
	int version;
	size_t count;
	const struct performance_row *rows;
	size_t row_count;
	struct db_result *result;
};

static enum rc
run_load(struct db_tx *tx, void *arg, struct err *err)
{
	struct query *q = arg;
	struct db_params p;

	db_result_free(q->result);
	q->result = NULL;
	db_params_init(&p);
	db_add_i16(&p, (int16_t)q->version);
	db_add_i32(&p, (int32_t)(q->count * FIGURE_BYTES));
	db_add_i64(&p, DB_PERFORMANCE_ROWS_MAX);
	enum rc rc = db_exec(tx, &stmt_load, &p, &q->result, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_performance_load(
	struct db *db, int version, size_t count, db_performance_fn *fn, void *arg, struct err *err)
{
	struct query q = {.version = version, .count = count};
	uint64_t figures[DB_PERFORMANCE_FIGURES_MAX];

	enum rc rc = db_run_readonly(db, run_load, &q, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(q.result); i++) {
		size_t len; /* the statement asked for it */
		const uint8_t *bytes = db_get_bytea(q.result, i, 1, &len);
		for (size_t k = 0; k < count && k < DB_PERFORMANCE_FIGURES_MAX; k++)
			figures[k] = get_u64(bytes + k * FIGURE_BYTES);
		const struct performance_row row = {
			.at_us = db_get_timestamptz_us(q.result, i, 0), .figures = figures};
		fn(arg, &row);
	}
	db_result_free(q.result);
	return rc;
}

static enum rc
run_save(struct db_tx *tx, void *arg, struct err *err)
{
	const struct query *q = arg;
	uint8_t bytes[DB_PERFORMANCE_FIGURES_MAX * FIGURE_BYTES];
	struct db_params p;

	db_params_init(&p);
	db_add_i16(&p, (int16_t)q->version);
	db_add_i64_column(&p, q->row_count, &q->rows->at_us, sizeof *q->rows);
	db_array_begin(&p, DB_BYTEA);
	for (size_t i = 0; i < q->row_count; i++) {
		for (size_t k = 0; k < q->count && k < DB_PERFORMANCE_FIGURES_MAX; k++)
			put_u64(bytes + k * FIGURE_BYTES, q->rows[i].figures[k]);
		db_array_bytea(&p, bytes, q->count * FIGURE_BYTES);
	}
	db_array_end(&p);
	enum rc rc = db_exec(tx, &stmt_save, &p, NULL, err);
	if (rc == RC_OK) {
		db_params_clear(&p);
		db_add_i64(&p, DB_PERFORMANCE_ROWS_MAX);
		rc = db_exec(tx, &stmt_prune, &p, NULL, err);
	}
	db_params_done(&p);
	return rc;
}

enum rc
db_performance_save(struct db *db, int version, size_t count, const struct performance_row *rows,
	size_t row_count, struct err *err)
{
	struct query q = {.version = version, .count = count, .rows = rows, .row_count = row_count};

	return db_run(db, run_save, &q, err);
}
