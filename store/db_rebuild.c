/* SPDX-License-Identifier: Apache-2.0 */
#include "db_rebuild.h"

#include <stddef.h>
#include <string.h>

#include "db.h"
#include "db_filter.h"

#define BATCH_MS_MAX  (300u * 1000)       /* a few thousand rows */
#define FINISH_MS_MAX (12u * 3600 * 1000) /* joins and writes of the whole tables */
#define LOCK_MS_MAX   60000u

/* The primary key comes with the table, not later: it is what finds the duplicates. */
#define TEMPORARY_TABLES                                                                           \
	"SET LOCAL idle_in_transaction_session_timeout = 0;"                                       \
	" LOCK TABLE pack, chunk IN SHARE ROW EXCLUSIVE MODE;"                                     \
	" CREATE TEMPORARY TABLE rebuild_chunk (repo_id bigint, hash bytea, pack_id bigint,"       \
	" frame_offset bigint, frame_bytes bigint, raw_offset bigint, length bigint,"              \
	" PRIMARY KEY (repo_id, hash)) ON COMMIT DROP;"                                            \
	" CREATE TEMPORARY TABLE rebuild_pack (id bigint PRIMARY KEY, repo_id bigint,"             \
	" state smallint, bytes bigint, created_at timestamptz, was_retired boolean)"              \
	" ON COMMIT DROP"

enum rc
db_rebuild_begin(struct db_tx *tx, struct err *err)
{
	enum rc rc = db_set_timeouts(tx, BATCH_MS_MAX, LOCK_MS_MAX, err);

	if (rc == RC_OK)
		rc = db_allow_scans(tx, err);
	return rc == RC_OK ? db_exec_script(tx, TEMPORARY_TABLES, err) : rc;
}

static const struct db_stmt stmt_lookup = {
	.name = "rebuild_lookup",
	.sql = "SELECT (SELECT id FROM repo WHERE uuid = $2), p.repo_id, p.state"
	       " FROM (SELECT $1::bigint AS id) AS q LEFT JOIN pack p ON p.id = q.id",
	.params = 2,
	.types = (const uint32_t[]){DB_INT8, DB_UUID},
};

enum rc
db_rebuild_lookup(struct db_tx *tx, uint64_t pack_id, const uint8_t *uuid,
	struct db_rebuild_known *out, struct err *err)
{
	struct db_result *r = NULL;
	struct db_params p;

	*out = (struct db_rebuild_known){.repo_id = 0};
	db_params_init(&p);
	db_add_i64(&p, (int64_t)pack_id);
	if (uuid != NULL)
		db_add_uuid(&p, uuid);
	else
		db_add_null(&p);
	enum rc rc = db_exec(tx, &stmt_lookup, &p, &r, err);
	if (rc == RC_OK && !db_is_null(r, 0, 0))
		out->repo_id = (uint64_t)db_get_i64(r, 0, 0);
	if (rc == RC_OK && !db_is_null(r, 0, 1)) {
		out->has_row = true;
		out->row_repo_id = (uint64_t)db_get_i64(r, 0, 1);
		out->row_state = (enum pack_state)db_get_i16(r, 0, 2);
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

/* One uint64_t of each of count structs of stride bytes, the first one at field. */
static void
add_column(struct db_params *p, const void *field, size_t stride, size_t count)
{
	const uint8_t *at = field;

	db_array_begin(p, DB_INT8);
	for (size_t i = 0; i < count; i++, at += stride) {
		uint64_t v;
		memcpy(&v, at, sizeof v);
		db_array_i64(p, (int64_t)v);
	}
	db_array_end(p);
}

static const struct db_stmt stmt_add_chunks = {
	.name = "rebuild_add_chunks",
	.sql = "INSERT INTO rebuild_chunk SELECT * FROM unnest($1::bigint[], $2::bytea[],"
	       " $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])"
	       " ON CONFLICT DO NOTHING",
	.params = 7,
};

enum rc
db_rebuild_add_chunks(struct db_tx *tx, const struct chunk_row *rows, size_t count,
	uint64_t *duplicates, struct err *err)
{
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	add_column(&p, &rows->repo_id, sizeof *rows, count);
	db_add_bytea_array(&p, count, rows->hash.b, sizeof *rows, sizeof rows->hash.b);
	add_column(&p, &rows->pack_id, sizeof *rows, count);
	add_column(&p, &rows->frame_offset, sizeof *rows, count);
	add_column(&p, &rows->frame_bytes, sizeof *rows, count);
	add_column(&p, &rows->raw_offset, sizeof *rows, count);
	add_column(&p, &rows->length, sizeof *rows, count);
	enum rc rc = db_exec(tx, &stmt_add_chunks, &p, &r, err);
	if (rc == RC_OK)
		*duplicates += count - db_affected(r);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

static const struct db_stmt stmt_add_packs = {
	.name = "rebuild_add_packs",
	.sql = "INSERT INTO rebuild_pack SELECT id, nullif(repo_id, 0), state, bytes,"
	       " '1970-01-01 00:00:00+00'::timestamptz + created_us * interval '1 microsecond',"
	       " was_retired <> 0"
	       " FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[],"
	       " $5::bigint[], $6::smallint[])"
	       " AS u (id, repo_id, state, bytes, created_us, was_retired)",
	.params = 6,
};

/* A time that a damaged or foreign header might hold, and PostgreSQL could not. */
static int64_t
sane_time(int64_t us)
{
	const int64_t year_us = INT64_C(31556952) * 1000000;

	return us < 0 || us > 8000 * year_us ? 0 : us;
}

enum rc
db_rebuild_add_packs(
	struct db_tx *tx, const struct db_rebuild_pack *rows, size_t count, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	add_column(&p, &rows->id, sizeof *rows, count);
	add_column(&p, &rows->repo_id, sizeof *rows, count);
	db_array_begin(&p, DB_INT2);
	for (size_t i = 0; i < count; i++)
		db_array_i16(&p, (int16_t)rows[i].state);
	db_array_end(&p);
	add_column(&p, &rows->bytes, sizeof *rows, count);
	db_array_begin(&p, DB_INT8);
	for (size_t i = 0; i < count; i++)
		db_array_i64(&p, sane_time(rows[i].created_us));
	db_array_end(&p);
	db_array_begin(&p, DB_INT2);
	for (size_t i = 0; i < count; i++)
		db_array_i16(&p, rows[i].was_retired);
	db_array_end(&p);
	enum rc rc = db_exec(tx, &stmt_add_packs, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

/* Nobody analyzes a temporary table but its owner; without it the joins below are guesses. */
#define ANALYZE "ANALYZE rebuild_chunk; ANALYZE rebuild_pack"

static const struct db_stmt stmt_retired = {
	.name = "rebuild_retired",
	.sql = "UPDATE rebuild_pack SET state = 3 WHERE was_retired AND id NOT IN"
	       " (SELECT pack_id FROM rebuild_chunk)",
};

/* In this order: rows of chunks that are gone, of those that moved, of new ones; packs likewise. */
static const struct db_stmt stmt_finish[] = {
	{
		.name = "rebuild_chunks_gone",
		.sql = "DELETE FROM chunk c WHERE NOT EXISTS (SELECT 1 FROM rebuild_chunk f"
		       " WHERE f.repo_id = c.repo_id AND f.hash = c.hash)",
	},
	{
		.name = "rebuild_chunks_moved",
		.sql = "UPDATE chunk c SET pack_id = f.pack_id, frame_offset = f.frame_offset,"
		       " frame_bytes = f.frame_bytes, raw_offset = f.raw_offset,"
		       " length = f.length, state = 0 FROM rebuild_chunk f"
		       " WHERE f.repo_id = c.repo_id AND f.hash = c.hash"
		       " AND (c.pack_id, c.frame_offset, c.frame_bytes, c.raw_offset, c.length,"
		       " c.state) <> (f.pack_id, f.frame_offset, f.frame_bytes, f.raw_offset,"
		       " f.length, 0)",
	},
	{
		.name = "rebuild_chunks_added",
		.sql = "INSERT INTO chunk (repo_id, hash, pack_id, frame_offset, frame_bytes,"
		       " raw_offset, length) SELECT f.* FROM rebuild_chunk f WHERE NOT EXISTS"
		       " (SELECT 1 FROM chunk c WHERE c.repo_id = f.repo_id AND c.hash = f.hash)"
		       " ORDER BY f.repo_id, f.hash",
	},
	{
		.name = "rebuild_packs_gone",
		.sql = "DELETE FROM pack p WHERE NOT EXISTS"
		       " (SELECT 1 FROM rebuild_pack f WHERE f.id = p.id)",
	},
	{
		.name = "rebuild_packs_changed",
		.sql = "UPDATE pack p SET repo_id = f.repo_id, state = f.state, bytes = f.bytes"
		       " FROM rebuild_pack f WHERE f.id = p.id AND f.repo_id IS NOT NULL"
		       " AND (p.repo_id, p.state, p.bytes) <> (f.repo_id, f.state, f.bytes)",
	},
	{
		.name = "rebuild_packs_added",
		.sql = "INSERT INTO pack (id, repo_id, state, bytes, created_at)"
		       " OVERRIDING SYSTEM VALUE"
		       " SELECT f.id, f.repo_id, f.state, f.bytes, f.created_at FROM rebuild_pack f"
		       " WHERE f.repo_id IS NOT NULL AND NOT EXISTS"
		       " (SELECT 1 FROM pack p WHERE p.id = f.id) ORDER BY f.id",
	},
};
static const struct db_stmt stmt_sums = {
	.name = "rebuild_sums",
	.sql = "SELECT count(*), coalesce(sum(length), 0)::bigint FROM rebuild_chunk",
};

static enum rc
read_sums(struct db_tx *tx, struct db_rebuild_counts *out, struct err *err)
{
	struct db_result *r = NULL;

	enum rc rc = db_exec(tx, &stmt_sums, NULL, &r, err);
	if (rc == RC_OK) {
		out->chunks = (uint64_t)db_get_i64(r, 0, 0);
		out->bytes = (uint64_t)db_get_i64(r, 0, 1);
	}
	db_result_free(r);
	return rc;
}

enum rc
db_rebuild_finish(struct db_tx *tx, struct db_rebuild_counts *out, struct err *err)
{
	struct db_rebuild_counts counts = {.chunks = 0};
	uint64_t *const affected[] = {&counts.chunks_gone, &counts.chunks_moved,
		&counts.chunks_added, &counts.packs_gone, &counts.packs_changed,
		&counts.packs_added};

	enum rc rc = db_set_timeouts(tx, FINISH_MS_MAX, LOCK_MS_MAX, err);
	if (rc == RC_OK)
		rc = db_exec_script(tx, ANALYZE, err);
	if (rc == RC_OK)
		rc = db_exec(tx, &stmt_retired, NULL, NULL, err);
	for (size_t i = 0; rc == RC_OK && i < sizeof affected / sizeof *affected; i++) {
		struct db_result *r = NULL;
		rc = db_exec(tx, &stmt_finish[i], NULL, &r, err);
		if (rc == RC_OK)
			*affected[i] = db_affected(r);
		db_result_free(r);
	}
	if (rc == RC_OK)
		rc = db_filter_change(tx, err);
	if (rc == RC_OK)
		rc = read_sums(tx, &counts, err);
	if (rc == RC_OK)
		*out = counts;
	return rc;
}
