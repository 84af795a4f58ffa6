/* SPDX-License-Identifier: Apache-2.0 */
#include "pack_maker.h"

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster_fixture.h"
#include "codec.h"
#include "migrate.h"
#include "pack_writer.h"

#define PACK_BYTES ((uint64_t)32 << 20)

#define OK(call)                                                                                   \
	do {                                                                                       \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s %s [%s]", #call, rc_name(err.rc), err.text, err.detail);  \
	} while (0)

/* ---- the store ---- */

void
maker_open(struct maker *m, struct cluster_fixture *fx)
{
	struct err err = ERR_INIT;
	char path[FIXTURE_PATH_BYTES + 16];

	m->fx = fx;
	fixture_start(fx);
	fx->db = fixture_pool(fx, 30000);
	OK(migrate_run(fx->db, migration_list, migration_list_count, &err));
	snprintf(path, sizeof path, "%s/blobs", fx->dir);
	OK(pack_dir_open(path, &m->dir, &err));
	OK(pack_readers_open(m->dir, 8, &m->readers, &err));
}

void
maker_close(struct maker *m)
{
	pack_readers_free(m->readers);
	pack_dir_free(m->dir);
}

static enum rc
remove_one(void *arg, uint64_t id, struct err *err)
{
	struct maker *m = arg;

	pack_readers_forget(m->readers, id);
	return pack_remove(m->dir, id, err);
}

void
maker_clear(struct maker *m)
{
	struct err err = ERR_INIT;

	fixture_sql(m->fx->db,
		"DELETE FROM chunk; DELETE FROM recipe_part; DELETE FROM pack; DELETE FROM repo;"
		"INSERT INTO repo (id, name, uuid, chunker, hash_alg, chunk_target)"
		" OVERRIDING SYSTEM VALUE VALUES"
		" (1, 'a', 'd1000000-0000-0000-0000-000000000001', 1, 1, 65536),"
		" (2, 'b', 'd1000000-0000-0000-0000-000000000002', 1, 1, 65536);"
		"UPDATE recompression SET packs_before = 0, packs_after = 0, bytes_before = 0,"
		" bytes_after = 0, raw_bytes = 0, frames = 0, cpu_us = 0");
	OK(pack_dir_list(m->dir, remove_one, m, &err));
}

/* ---- contents ---- */

void
maker_uuid(unsigned repo, uint8_t *out)
{
	memset(out, 0, 16);
	out[0] = 0xd1;
	out[15] = (uint8_t)repo;
}

static uint64_t
next_u64(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* Lines of a few thousand kinds, as sources, logs and symbol tables have them: what finds a line
 * that was there 500 KiB ago stores it in a few bytes. */
static size_t
make_line(uint64_t v, char *out, size_t len)
{
	uint64_t kind = v % 4096;
	uint64_t seed = kind;
	uint64_t a = next_u64(&seed);
	uint64_t b = next_u64(&seed);

	return (size_t)snprintf(out, len, "%s_%" PRIx64 "(self->%" PRIx64 ", %" PRIu64 ");\n",
		a & 1 ? "return module" : "\tif (!check", a >> 8, b >> 20, (v >> 40) % 10);
}

void
maker_chunk(const struct maker_frame *f, unsigned i, uint8_t *out)
{
	uint64_t seed = (uint64_t)f->seed << 20 | i;
	size_t at = 0;

	while (at < f->chunk_bytes) {
		uint64_t v = next_u64(&seed);
		char line[96];
		const void *data = f->data == MAKER_RANDOM ? (const void *)&v : line;
		size_t n = f->data == MAKER_RANDOM ? sizeof v : make_line(v, line, sizeof line);
		n = n < f->chunk_bytes - at ? n : f->chunk_bytes - at;
		memcpy(out + at, data, n);
		at += n;
	}
}

struct sha256
maker_hash(const struct maker_frame *f, unsigned i)
{
	uint8_t *data = malloc(f->chunk_bytes);
	struct sha256 hash;

	assert_non_null(data);
	maker_chunk(f, i, data);
	sha256_of(data, f->chunk_bytes, &hash);
	free(data);
	return hash;
}

/* ---- packs ---- */

struct rows {
	struct chunk_row *rows;
	const struct chunk_row **sorted;
	size_t count;
	size_t cap;
};

static enum rc
run_rows(struct db_tx *tx, void *arg, struct err *err)
{
	struct rows *r = arg;
	size_t n = 0;

	for (size_t i = 0; i < r->count; i++)
		r->sorted[i] = &r->rows[i];
	qsort(r->sorted, r->count, sizeof *r->sorted, chunk_row_cmp);
	for (size_t i = 0; i < r->count; i++)
		if (n == 0 || chunk_row_cmp(&r->sorted[n - 1], &r->sorted[i]) != 0)
			r->sorted[n++] = r->sorted[i];
	return db_chunk_upsert(tx, r->sorted, n, err);
}

static void
note_rows(struct rows *r, unsigned repo, const struct maker_frame *f,
	const struct pack_chunk *chunks, const struct pack_place *place)
{
	for (unsigned i = 0; i < f->chunk_count && !f->no_rows; i++) {
		if (r->count == r->cap) {
			r->cap = r->cap * 2 + 64;
			r->rows = realloc(r->rows, r->cap * sizeof *r->rows);
			r->sorted = realloc(r->sorted, r->cap * sizeof *r->sorted);
			assert_true(r->rows != NULL && r->sorted != NULL);
		}
		r->rows[r->count++] = (struct chunk_row){
			.repo_id = repo,
			.hash = chunks[i].hash,
			.pack_id = place->pack_id,
			.frame_offset = place->offset,
			.frame_bytes = place->bytes,
			.raw_offset = (uint64_t)i * f->chunk_bytes,
			.length = f->chunk_bytes,
		};
	}
}

static void
append(struct pack_writer *w, unsigned repo, const struct maker_frame *f, struct rows *rows)
{
	size_t raw_bytes = (size_t)f->chunk_count * f->chunk_bytes;
	uint8_t *raw = malloc(raw_bytes);
	uint8_t *packed = malloc(codec_bound(raw_bytes));
	struct pack_chunk *chunks = calloc(f->chunk_count, sizeof *chunks);
	struct pack_place place = {.pack_id = pack_writer_id(w)};
	struct codec *codec = NULL;
	struct err err = ERR_INIT;

	assert_true(raw != NULL && packed != NULL && chunks != NULL);
	OK(codec_open(&codec, &err));
	for (unsigned i = 0; i < f->chunk_count; i++) {
		uint8_t *chunk = raw + (size_t)i * f->chunk_bytes;
		maker_chunk(f, i, chunk);
		chunks[i].length = f->chunk_bytes;
		sha256_of(chunk, f->chunk_bytes, &chunks[i].hash);
	}
	size_t stored = f->level == 0 ? raw_bytes
				      : codec_compress(codec, f->level, raw, raw_bytes, packed,
						codec_bound(raw_bytes));
	assert_true(stored > 0);
	if (f->bad_bytes)
		memset(f->level == 0 ? raw : packed, 0x55, f->level == 0 ? f->chunk_bytes : stored);
	struct iovec part = {f->level == 0 ? raw : packed, stored};
	struct pack_frame frame = {
		.codec = f->level == 0 ? CODEC_RAW : CODEC_ZSTD,
		.chunks = chunks,
		.chunk_count = f->chunk_count,
		.raw_bytes = raw_bytes,
		.stored = &part,
		.stored_count = 1,
		.stored_bytes = stored,
	};
	OK(pack_writer_append(w, &frame, &place.offset, &place.bytes, &err));
	note_rows(rows, repo, f, chunks, &place);
	codec_free(codec);
	free(chunks);
	free(packed);
	free(raw);
}

static uint64_t
make(struct maker *m, unsigned repo, const struct maker_frame *frames, size_t count, bool sealed)
{
	struct pack_writer_options options = PACK_WRITER_OPTIONS_INIT;
	struct pack_writer *w = NULL;
	struct rows rows = {.count = 0};
	struct err err = ERR_INIT;
	uint8_t uuid[16];
	uint64_t id = 0;

	maker_uuid(repo, uuid);
	options.bytes_max = PACK_BYTES;
	OK(db_pack_open(m->fx->db, repo, PACK_OPEN, &id, &err));
	OK(pack_writer_open(m->dir, id, uuid, &options, &w, &err));
	for (size_t i = 0; i < count; i++)
		append(w, repo, &frames[i], &rows);
	if (sealed) {
		OK(pack_writer_seal(w, &err));
	} else {
		OK(pack_writer_flush(w, &err));
		OK(pack_writer_sync(w, &err));
		pack_writer_abandon(w);
	}
	pack_writer_free(w);
	if (rows.count > 0)
		OK(db_run(m->fx->db, run_rows, &rows, &err));
	OK(db_pack_close(
		m->fx->db, id, sealed ? PACK_SEALED : PACK_CLOSED, maker_file_bytes(m, id), &err));
	fixture_sql(m->fx->db, "UPDATE pack SET closed_at = now() - interval '1 hour'"
			       " WHERE id = (SELECT max(id) FROM pack)");
	free(rows.rows);
	free(rows.sorted);
	return id;
}

uint64_t
maker_pack(struct maker *m, unsigned repo, const struct maker_frame *frames, size_t count)
{
	return make(m, repo, frames, count, true);
}

uint64_t
maker_closed_pack(struct maker *m, unsigned repo, const struct maker_frame *frames, size_t count)
{
	return make(m, repo, frames, count, false);
}

/* ---- looking ---- */

static const struct db_stmt stmt_live = {
	.name = "maker_live",
	.sql = "SELECT hash, pack_id, frame_offset, frame_bytes, raw_offset, length FROM chunk"
	       " WHERE state = 0 ORDER BY pack_id, frame_offset, raw_offset",
};
static const struct db_stmt stmt_packs = {
	.name = "maker_packs",
	.sql = "SELECT id, state, bytes FROM pack ORDER BY id",
};
static const struct db_stmt stmt_astray = {
	.name = "maker_astray",
	.sql = "SELECT count(*) FROM chunk c JOIN pack p ON p.id = c.pack_id"
	       " WHERE c.state = 0 AND p.state = 3",
};
static const struct db_stmt stmt_row = {
	.name = "maker_row",
	.sql = "SELECT repo_id, state, bytes, squeeze, coalesce(gain, -1),"
	       " coalesce(raw_bytes, -1), coalesce(bytes_before, -1) FROM pack WHERE id = $1",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

struct select {
	const struct db_stmt *stmt;
	uint64_t id;
	struct db_result *result;
};

static enum rc
run_select(struct db_tx *tx, void *arg, struct err *err)
{
	struct select *q = arg;
	struct db_params p;

	db_result_free(q->result);
	q->result = NULL;
	db_params_init(&p);
	if (q->stmt->params > 0)
		db_add_i64(&p, (int64_t)q->id);
	enum rc rc = db_exec(tx, q->stmt, &p, &q->result, err);
	db_params_done(&p);
	return rc;
}

static struct db_result *
ask(struct maker *m, const struct db_stmt *stmt, uint64_t id)
{
	struct select q = {stmt, id, NULL};
	struct err err = ERR_INIT;

	OK(db_run_readonly(m->fx->db, run_select, &q, &err));
	return q.result;
}

/* The frame of a row, expanded; kept from row to row. */
struct expanded {
	struct pack_place place;
	bool is_good;
	uint8_t *raw;
	uint64_t raw_bytes;
};

static void
expand(struct maker *m, const struct pack_place *place, struct codec *codec, struct expanded *out)
{
	struct pack_frame_view view;
	struct err err = ERR_INIT;
	struct buf buf;

	if (out->raw != NULL && memcmp(place, &out->place, sizeof *place) == 0)
		return;
	free(out->raw);
	*out = (struct expanded){.place = *place};
	buf_init(&buf, PACK_FRAME_BYTES_MAX);
	out->is_good = pack_read_frame(m->readers, place, NULL, &buf, &view, &err) == RC_OK;
	out->raw_bytes = out->is_good ? view.raw_bytes : 1;
	out->raw = malloc(out->raw_bytes);
	if (out->is_good)
		out->is_good = codec_expand(codec, view.codec, view.stored, view.stored_bytes,
				       out->raw, view.raw_bytes, &err) == RC_OK;
	buf_done(&buf);
}

size_t
maker_true_rows(struct maker *m, size_t *wrong)
{
	struct db_result *r = ask(m, &stmt_live, 0);
	struct expanded frame = {.raw = NULL};
	struct codec *codec = NULL;
	struct err err = ERR_INIT;
	size_t n = 0;

	*wrong = 0;
	OK(codec_open(&codec, &err));
	for (size_t i = 0; i < db_rows(r); i++) {
		struct pack_place place = {(uint64_t)db_get_i64(r, i, 1),
			(uint64_t)db_get_i64(r, i, 2), (uint64_t)db_get_i64(r, i, 3)};
		uint64_t at = (uint64_t)db_get_i64(r, i, 4);
		uint64_t length = (uint64_t)db_get_i64(r, i, 5);
		struct sha256 want, hash = {{0}};
		db_get_bytea_into(r, i, 0, want.b, sizeof want.b);
		expand(m, &place, codec, &frame);
		if (frame.is_good && at + length <= frame.raw_bytes)
			sha256_of(frame.raw + at, length, &hash);
		*(sha256_equal(&hash, &want) ? &n : wrong) += 1;
	}
	free(frame.raw);
	codec_free(codec);
	db_result_free(r);
	return n;
}

static enum rc
count_file(void *arg, uint64_t id, struct err *err)
{
	(void)id;
	(void)err;
	++*(size_t *)arg;
	return RC_OK;
}

size_t
maker_file_count(struct maker *m)
{
	struct err err = ERR_INIT;
	size_t n = 0;

	OK(pack_dir_list(m->dir, count_file, &n, &err));
	return n;
}

void
maker_check(struct maker *m)
{
	struct db_result *r = ask(m, &stmt_packs, 0);
	size_t wrong = 0;

	assert_int_equal(maker_file_count(m), db_rows(r));
	for (size_t i = 0; i < db_rows(r); i++) {
		uint64_t id = (uint64_t)db_get_i64(r, i, 0);
		int state = db_get_i16(r, i, 1);
		assert_true(maker_has_file(m, id));
		assert_true(state >= PACK_SEALED && state <= PACK_RETIRED);
		assert_int_equal(db_get_i64(r, i, 2), maker_file_bytes(m, id));
	}
	db_result_free(r);
	maker_true_rows(m, &wrong);
	assert_int_equal(wrong, 0);
	r = ask(m, &stmt_astray, 0);
	assert_int_equal(db_get_i64(r, 0, 0), 0);
	db_result_free(r);
}

struct maker_row
maker_row(struct maker *m, uint64_t id)
{
	struct db_result *r = ask(m, &stmt_row, id);
	struct maker_row row = {.is_there = db_rows(r) == 1};

	if (row.is_there)
		row = (struct maker_row){
			.is_there = true,
			.repo_id = (uint64_t)db_get_i64(r, 0, 0),
			.state = db_get_i16(r, 0, 1),
			.bytes = (uint64_t)db_get_i64(r, 0, 2),
			.squeeze = db_get_i16(r, 0, 3),
			.gain = db_get_i64(r, 0, 4),
			.raw_bytes = db_get_i64(r, 0, 5),
			.bytes_before = db_get_i64(r, 0, 6),
		};
	db_result_free(r);
	return row;
}

void
maker_path(struct maker *m, uint64_t id, char *out, size_t len)
{
	snprintf(out, len, "%s/blobs/%02x/%016" PRIx64 ".pack", m->fx->dir, (unsigned)(id & 0xff),
		id);
}

static bool
file_stat(struct maker *m, uint64_t id, struct stat *st)
{
	char path[FIXTURE_PATH_BYTES + 64];

	maker_path(m, id, path, sizeof path);
	return stat(path, st) == 0;
}

bool
maker_has_file(struct maker *m, uint64_t id)
{
	struct stat st;

	return file_stat(m, id, &st);
}

uint64_t
maker_file_bytes(struct maker *m, uint64_t id)
{
	struct stat st;

	assert_true(file_stat(m, id, &st));
	return (uint64_t)st.st_size;
}

void
maker_flip(struct maker *m, uint64_t id, uint64_t offset)
{
	char path[FIXTURE_PATH_BYTES + 64];
	uint8_t byte = 0;

	maker_path(m, id, path, sizeof path);
	assert_int_equal(chmod(path, 0640), 0);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
	close(fd);
	assert_int_equal(chmod(path, 0440), 0);
}

struct chunk_row
maker_locate(struct maker *m, unsigned repo, const struct sha256 *hash)
{
	struct err err = ERR_INIT;
	struct chunk_row row;
	size_t found = 0;

	OK(db_chunk_locate(m->fx->db, repo, hash, 1, &row, &found, &err));
	return row;
}
