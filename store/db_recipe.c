/* SPDX-License-Identifier: Apache-2.0 */
#include "db_recipe.h"

#include <stdlib.h>
#include <string.h>

#include "db.h"

static const struct db_stmt stmt_ids = {
	.name = "recipe_ids",
	.sql = "SELECT nextval('recipe_id_seq')",
	.params = 0,
};

static enum rc
run_ids(struct db_tx *tx, void *arg, struct err *err)
{
	uint64_t *first = arg;
	struct db_result *r = NULL;

	enum rc rc = db_exec(tx, &stmt_ids, NULL, &r, err);
	if (rc == RC_OK)
		*first = (uint64_t)db_get_i64(r, 0, 0);
	db_result_free(r);
	return rc;
}

enum rc
db_recipe_ids(struct db *db, uint64_t *first, struct err *err)
{
	uint64_t ids = 0;

	enum rc rc = db_run(db, run_ids, &ids, err);
	if (rc == RC_OK) /* not before: ids of a transaction that failed may be given out again */
		*first = ids;
	return rc;
}

static const struct db_stmt stmt_part_put = {
	.name = "recipe_part_put",
	.sql = "INSERT INTO recipe_part (recipe_id, start, entries)"
	       " SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])",
	.params = 3,
};

enum rc
db_recipe_part_put(
	struct db_tx *tx, const struct recipe_part_row *rows, size_t count, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_array_begin(&p, DB_INT8);
	for (size_t i = 0; i < count; i++)
		db_array_i64(&p, (int64_t)rows[i].recipe_id);
	db_array_end(&p);
	db_array_begin(&p, DB_INT8);
	for (size_t i = 0; i < count; i++)
		db_array_i64(&p, (int64_t)rows[i].start);
	db_array_end(&p);
	db_array_begin(&p, DB_BYTEA);
	for (size_t i = 0; i < count; i++)
		db_array_bytea(&p, rows[i].entries, rows[i].entries_bytes);
	db_array_end(&p);
	enum rc rc = db_exec_later(tx, &stmt_part_put, &p, NULL, NULL, err);
	db_params_done(&p);
	return rc;
}

static const struct db_stmt stmt_delete = {
	.name = "recipe_delete",
	.sql = "DELETE FROM recipe_part WHERE recipe_id = ANY ($1::bigint[])",
	.params = 1,
};

enum rc
db_recipe_delete(struct db_tx *tx, const uint64_t *recipe_ids, size_t count, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_array_begin(&p, DB_INT8);
	for (size_t i = 0; i < count; i++)
		db_array_i64(&p, (int64_t)recipe_ids[i]);
	db_array_end(&p);
	enum rc rc = db_exec_later(tx, &stmt_delete, &p, NULL, NULL, err);
	db_params_done(&p);
	return rc;
}

/* xmax is 0 for a row this statement inserted. Equal ids inside one call must not meet in one
 * ON CONFLICT DO UPDATE: the first of them is taken, the others count as there. Sorted, so that two
 * servers never wait for each other's rows crosswise. */
static const struct db_stmt stmt_file_put = {
	.name = "file_put",
	.sql = "WITH u AS (SELECT DISTINCT ON (repo_id, id) * FROM unnest($1::bigint[], "
	       "$2::bytea[],"
	       " $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[])"
	       " WITH ORDINALITY AS t (repo_id, id, size, chunks, recipe_id, sha256, ord)"
	       " ORDER BY repo_id, id, ord),"
	       " i AS (INSERT INTO file (repo_id, id, size, chunks, recipe_id, sha256)"
	       " SELECT repo_id, id, size, chunks, recipe_id, sha256 FROM u"
	       " ON CONFLICT (repo_id, id) DO UPDATE SET sha256 = excluded.sha256"
	       " WHERE file.sha256 IS NULL AND excluded.sha256 IS NOT NULL"
	       " RETURNING repo_id, id, recipe_id, xmax = 0 AS is_new)"
	       " SELECT u.ord FROM u JOIN i USING (repo_id, id) WHERE i.is_new"
	       " AND i.recipe_id = u.recipe_id",
	.params = 6,
};

enum rc
db_file_put(struct db_tx *tx, const struct file_row *rows, size_t count, bool *inserted,
	struct err *err)
{
	struct db_result *r = NULL;
	struct db_params p;

	memset(inserted, 0, count * sizeof *inserted);
	db_params_init(&p);
	db_array_begin(&p, DB_INT8);
	for (size_t i = 0; i < count; i++)
		db_array_i64(&p, (int64_t)rows[i].repo_id);
	db_array_end(&p);
	db_add_bytea_array(&p, count, rows[0].id.b, sizeof *rows, sizeof rows[0].id.b);
	db_array_begin(&p, DB_INT8);
	for (size_t i = 0; i < count; i++)
		db_array_i64(&p, (int64_t)rows[i].size);
	db_array_end(&p);
	db_array_begin(&p, DB_INT8);
	for (size_t i = 0; i < count; i++)
		db_array_i64(&p, (int64_t)rows[i].chunks);
	db_array_end(&p);
	db_array_begin(&p, DB_INT8);
	for (size_t i = 0; i < count; i++)
		db_array_i64(&p, (int64_t)rows[i].recipe_id);
	db_array_end(&p);
	db_array_begin(&p, DB_BYTEA);
	for (size_t i = 0; i < count; i++) {
		if (rows[i].has_sha)
			db_array_bytea(&p, rows[i].sha.b, sizeof rows[i].sha.b);
		else
			db_array_null(&p);
	}
	db_array_end(&p);
	enum rc rc = db_exec(tx, &stmt_file_put, &p, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r); i++) {
		int64_t ord = db_get_i64(r, i, 0);
		if (ord >= 1 && (size_t)ord <= count)
			inserted[ord - 1] = true;
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

static const struct db_stmt stmt_file_get = {
	.name = "file_get",
	.sql = "SELECT size, chunks, recipe_id, sha256 FROM file WHERE repo_id = $1 AND id = $2",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_BYTEA},
};

static enum rc
run_file_get(struct db_tx *tx, void *arg, struct err *err)
{
	struct file_row *row = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)row->repo_id);
	db_add_bytea(&p, row->id.b, sizeof row->id.b);
	enum rc rc = db_exec(tx, &stmt_file_get, &p, &r, err);
	if (rc == RC_OK && db_rows(r) == 0) {
		rc = err_set(err, RC_CORRUPT, "corrupt-data", "the recipe of this file is missing");
	} else if (rc == RC_OK) {
		row->size = (uint64_t)db_get_i64(r, 0, 0);
		row->chunks = (uint64_t)db_get_i64(r, 0, 1);
		row->recipe_id = (uint64_t)db_get_i64(r, 0, 2);
		row->has_sha = !db_is_null(r, 0, 3);
		if (row->has_sha)
			db_get_bytea_into(r, 0, 3, row->sha.b, sizeof row->sha.b);
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_file_get(struct db *db, uint64_t repo_id, const struct sha256 *id, struct file_row *out,
	struct err *err)
{
	*out = (struct file_row){.repo_id = repo_id, .id = *id};
	return db_run_readonly(db, run_file_get, out, err);
}

static const struct db_stmt stmt_part_at = {
	.name = "recipe_part_at",
	.sql = "SELECT start, entries FROM recipe_part WHERE recipe_id = $1 AND start <= $2"
	       " ORDER BY start DESC LIMIT 1",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_INT8},
};

struct part_query {
	uint64_t recipe_id;
	uint64_t offset;
	uint64_t *start;
	struct buf *entries;
};

static enum rc
run_part_at(struct db_tx *tx, void *arg, struct err *err)
{
	struct part_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)q->recipe_id);
	db_add_i64(&p, (int64_t)q->offset);
	enum rc rc = db_exec(tx, &stmt_part_at, &p, &r, err);
	if (rc == RC_OK && db_rows(r) == 0) {
		rc = err_set(
			err, RC_CORRUPT, "corrupt-data", "a part of this file's recipe is missing");
	} else if (rc == RC_OK) {
		size_t len;
		const uint8_t *data = db_get_bytea(r, 0, 1, &len);
		*q->start = (uint64_t)db_get_i64(r, 0, 0);
		buf_clear(q->entries);
		buf_add(q->entries, data, len);
		if (!buf_ok(q->entries))
			rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_recipe_part_at(struct db *db, uint64_t recipe_id, uint64_t offset, uint64_t *start,
	struct buf *entries, struct err *err)
{
	struct part_query q = {recipe_id, offset, start, entries};

	return db_run_readonly(db, run_part_at, &q, err);
}
