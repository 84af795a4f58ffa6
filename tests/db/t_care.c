/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster_fixture.h"
#include "db_chunk.h"
#include "db_pack.h"
#include "migrate.h"
#include "pack_reader.h"
#include "pack_scan.h"
#include "pack_trim.h"
#include "pack_writer.h"
#include "rebuild.h"
#include "recover.h"

/* Packs are written here as ingest writes them, by this process or by one that then dies. */

#define CHUNKS_MAX   12000
#define PACK_BYTES   (2u << 20)
#define REPO_A       1u
#define REPO_B       2u
#define UNKNOWN_REPO 3u

static struct cluster_fixture fx;
static struct pack_dir *dir;
static struct pack_readers *readers;

/* Shared with the processes that die. */
static struct {
	struct chunk_row rows[CHUNKS_MAX];
	size_t count;
	uint64_t end; /* of the last frame */
	uint64_t last_frame;
} * made;

#define assert_ok(call, err)                                                                       \
	do {                                                                                       \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s [%s]", #call, (err).text, (err).detail);                  \
	} while (0)

/* ---- the database ---- */

static enum rc
run_number(struct db_tx *tx, void *arg, struct err *err)
{
	struct db_result *r = NULL;
	struct {
		const struct db_stmt *stmt;
		int64_t out;
	} *q = arg;

	enum rc rc = db_exec(tx, q->stmt, NULL, &r, err);
	if (rc == RC_OK)
		q->out = db_get_i64(r, 0, 0);
	db_result_free(r);
	return rc;
}

static int64_t
number(const struct db_stmt *stmt)
{
	struct err err = ERR_INIT;
	struct {
		const struct db_stmt *stmt;
		int64_t out;
	} q = {stmt, 0};

	assert_ok(db_run_readonly(fx.db, run_number, &q, &err), err);
	return q.out;
}

/* One number for all that is in the tables. */
static const struct db_stmt stmt_chunks_dump = {
	.name = "t_chunks_dump",
	.sql = "SELECT hashtextextended(coalesce(string_agg(chunk::text, ',' ORDER BY repo_id, "
	       "hash), ''), 0) FROM chunk",
};
static const struct db_stmt stmt_packs_dump = {
	.name = "t_packs_dump",
	.sql = "SELECT hashtextextended(coalesce(string_agg(pack::text, ',' ORDER BY id), ''), 0)"
	       " FROM pack",
};
static const struct db_stmt stmt_chunk_count = {
	.name = "t_chunk_count",
	.sql = "SELECT count(*) FROM chunk",
};
static const struct db_stmt stmt_pack_count = {
	.name = "t_pack_count",
	.sql = "SELECT count(*) FROM pack",
};

static int64_t
chunks_dump(void)
{
	return number(&stmt_chunks_dump);
}

static int64_t
packs_dump(void)
{
	return number(&stmt_packs_dump);
}

static int64_t
chunk_count(void)
{
	return number(&stmt_chunk_count);
}

static int64_t
pack_count(void)
{
	return number(&stmt_pack_count);
}

static const struct db_stmt stmt_pack_row = {
	.name = "t_pack_row",
	.sql = "SELECT repo_id, state, bytes FROM pack WHERE id = $1",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

struct pack_row {
	uint64_t id;
	bool there;
	uint64_t repo_id;
	int state;
	uint64_t bytes;
};

static enum rc
run_pack_row(struct db_tx *tx, void *arg, struct err *err)
{
	struct pack_row *row = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)row->id);
	enum rc rc = db_exec(tx, &stmt_pack_row, &p, &r, err);
	row->there = rc == RC_OK && db_rows(r) == 1;
	if (row->there) {
		row->repo_id = (uint64_t)db_get_i64(r, 0, 0);
		row->state = db_get_i16(r, 0, 1);
		row->bytes = (uint64_t)db_get_i64(r, 0, 2);
	}
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

static struct pack_row
pack_row(uint64_t id)
{
	struct err err = ERR_INIT;
	struct pack_row row = {.id = id};

	assert_ok(db_run_readonly(fx.db, run_pack_row, &row, &err), err);
	return row;
}

static void
expect_pack(uint64_t id, enum pack_state state, uint64_t bytes)
{
	struct pack_row row = pack_row(id);

	assert_true(row.there);
	assert_int_equal(row.state, state);
	assert_int_equal(row.bytes, bytes);
}

static uint64_t
new_id(unsigned repo)
{
	struct err err = ERR_INIT;
	uint64_t id = 0;

	assert_ok(db_pack_open(fx.db, repo, PACK_OPEN, &id, &err), err);
	return id;
}

static enum rc
run_add_rows(struct db_tx *tx, void *arg, struct err *err)
{
	static const struct chunk_row *rows[CHUNKS_MAX];

	(void)arg;
	for (size_t i = 0; i < made->count; i++)
		rows[i] = &made->rows[i];
	qsort(rows, made->count, sizeof *rows, chunk_row_cmp);
	size_t n = 0;
	for (size_t i = 0; i < made->count; i++)
		if (n == 0 || chunk_row_cmp(&rows[n - 1], &rows[i]) != 0)
			rows[n++] = rows[i];
	return db_chunk_upsert(tx, rows, n, err);
}

/* Commit the rows of what was written since, and forget it. */
static void
commit_rows(void)
{
	struct err err = ERR_INIT;

	assert_ok(db_run(fx.db, run_add_rows, NULL, &err), err);
	made->count = 0;
}

/* ---- writing packs ---- */

static void
need(bool ok)
{
	if (!ok)
		abort(); /* also in the processes that are to die: their exit status is looked at */
}

static void
uuid_of(unsigned repo, uint8_t *out)
{
	memset(out, 0, 16);
	out[0] = 0xd1;
	out[15] = (uint8_t)repo;
}

static struct pack_writer *
open_writer(uint64_t id, unsigned repo)
{
	struct pack_writer_options options = PACK_WRITER_OPTIONS_INIT;
	struct err err = ERR_INIT;
	struct pack_writer *w = NULL;
	uint8_t uuid[16];

	uuid_of(repo, uuid);
	options.bytes_max = PACK_BYTES;
	need(pack_writer_open(dir, id, uuid, &options, &w, &err) == RC_OK);
	return w;
}

/* Text that compresses, other text for every seed. */
static void
fill(uint8_t *data, size_t len, unsigned seed)
{
	char word[32];
	int n = snprintf(word, sizeof word, "%u and %u, ", seed, seed * 2654435761u);

	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)word[i % (size_t)n];
}

enum frame_kind {
	FRAME_ZSTD,
	FRAME_RAW,
	FRAME_BAD_ZSTD,   /* right checksums around bytes that do not expand */
	FRAME_WRONG_HASH, /* the hash of the first chunk is not that of its bytes */
};

struct frame_spec {
	unsigned repo;
	unsigned seed;
	unsigned chunk_count;
	unsigned chunk_bytes;
	enum frame_kind kind;
};

static void
note_rows(const struct frame_spec *spec, const struct pack_chunk *chunks,
	const struct pack_place *place)
{
	for (unsigned i = 0; i < spec->chunk_count; i++) {
		need(made->count < CHUNKS_MAX);
		made->rows[made->count++] = (struct chunk_row){
			.repo_id = spec->repo,
			.hash = chunks[i].hash,
			.pack_id = place->pack_id,
			.frame_offset = place->offset,
			.frame_bytes = place->bytes,
			.raw_offset = (uint64_t)i * spec->chunk_bytes,
			.length = spec->chunk_bytes,
		};
	}
	made->last_frame = place->offset;
	made->end = place->offset + place->bytes;
}

/* Append a frame and note the rows it would get. */
static void
append(struct pack_writer *w, const struct frame_spec *spec)
{
	size_t raw_bytes = (size_t)spec->chunk_count * spec->chunk_bytes;
	uint8_t *raw = malloc(raw_bytes);
	uint8_t *packed = malloc(codec_bound(raw_bytes));
	struct pack_chunk *chunks = calloc(spec->chunk_count, sizeof *chunks);
	struct pack_place place = {.pack_id = pack_writer_id(w)};
	struct codec *codec = NULL;
	struct err err = ERR_INIT;

	need(raw != NULL && packed != NULL && chunks != NULL);
	need(codec_open(&codec, &err) == RC_OK);
	for (unsigned i = 0; i < spec->chunk_count; i++) {
		uint8_t *chunk = raw + (size_t)i * spec->chunk_bytes;
		fill(chunk, spec->chunk_bytes, spec->seed * 100000 + i);
		chunks[i].length = spec->chunk_bytes;
		sha256_of(chunk, spec->chunk_bytes, &chunks[i].hash);
	}
	if (spec->kind == FRAME_WRONG_HASH)
		chunks[0].hash.b[7] ^= 1;
	size_t stored = spec->kind == FRAME_RAW ? raw_bytes
						: codec_compress(codec, 1, raw, raw_bytes, packed,
							  codec_bound(raw_bytes));
	need(stored > 0);
	if (spec->kind == FRAME_BAD_ZSTD)
		memset(packed, 0x55, stored);
	struct iovec part = {spec->kind == FRAME_RAW ? raw : packed, stored};
	struct pack_frame frame = {
		.codec = spec->kind == FRAME_RAW ? CODEC_RAW : CODEC_ZSTD,
		.chunks = chunks,
		.chunk_count = spec->chunk_count,
		.raw_bytes = raw_bytes,
		.stored = &part,
		.stored_count = 1,
		.stored_bytes = stored,
	};
	need(pack_writer_append(w, &frame, &place.offset, &place.bytes, &err) == RC_OK);
	note_rows(spec, chunks, &place);
	codec_free(codec);
	free(chunks);
	free(packed);
	free(raw);
}

static void
append_some(struct pack_writer *w, unsigned repo, unsigned seed)
{
	append(w, &(struct frame_spec){repo, seed, 3, 5000 + seed, seed % 2});
}

static void
flush(struct pack_writer *w)
{
	struct err err = ERR_INIT;

	need(pack_writer_flush(w, &err) == RC_OK);
	need(pack_writer_sync(w, &err) == RC_OK);
}

/* A whole pack with the frames of seeds first to last: sealed, and known to the database. */
static uint64_t
sealed_pack(unsigned repo, unsigned first, unsigned last)
{
	struct err err = ERR_INIT;
	uint64_t id = new_id(repo);
	struct pack_writer *w = open_writer(id, repo);

	for (unsigned seed = first; seed <= last; seed++)
		append_some(w, repo, seed);
	need(pack_writer_seal(w, &err) == RC_OK);
	assert_ok(db_pack_close(fx.db, id, PACK_SEALED, pack_writer_bytes(w), &err), err);
	pack_writer_free(w);
	return id;
}

/* Run fn in a process that dies right after it, with everything open that fn left open. */
static void
in_dying_process(void (*fn)(uint64_t id), uint64_t id)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		fn(id);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void
die_created(uint64_t id)
{
	open_writer(id, REPO_A);
}

static void
die_appended(uint64_t id)
{
	append_some(open_writer(id, REPO_A), REPO_A, 1);
}

static void
die_flushed(uint64_t id)
{
	struct pack_writer *w = open_writer(id, REPO_A);

	append_some(w, REPO_A, 2);
	append_some(w, REPO_A, 3);
	flush(w);
}

static void
die_flushed_twice(uint64_t id)
{
	struct pack_writer *w = open_writer(id, REPO_A);

	append_some(w, REPO_A, 5);
	flush(w);
	append(w, &(struct frame_spec){REPO_A, 6, 4, 30000, FRAME_RAW});
	flush(w);
}

/* ---- files ---- */

static void
pack_path(uint64_t id, char *out, size_t len)
{
	snprintf(out, len, "%s/blobs/%02x/%016" PRIx64 ".pack", fx.dir, (unsigned)(id & 0xff), id);
}

static bool
file_stat(uint64_t id, struct stat *st)
{
	char path[FIXTURE_PATH_BYTES + 64];

	pack_path(id, path, sizeof path);
	return stat(path, st) == 0;
}

static uint64_t
file_bytes(uint64_t id)
{
	struct stat st;

	assert_true(file_stat(id, &st));
	return (uint64_t)st.st_size;
}

static bool
has_file(uint64_t id)
{
	struct stat st;

	return file_stat(id, &st);
}

/* A pack that nobody writes any more: of that size, read-only. */
static void
expect_file(uint64_t id, uint64_t bytes)
{
	struct stat st;

	assert_true(file_stat(id, &st));
	assert_int_equal(st.st_size, bytes);
	assert_int_equal(st.st_mode & 07777, 0440);
}

static void
set_mode(uint64_t id, unsigned mode)
{
	char path[FIXTURE_PATH_BYTES + 64];

	pack_path(id, path, sizeof path);
	assert_int_equal(chmod(path, mode), 0);
}

/* Put bytes into a pack's file behind everybody's back. */
static void
poke(uint64_t id, uint64_t offset, const void *data, size_t len)
{
	char path[FIXTURE_PATH_BYTES + 64];
	struct stat st;

	pack_path(id, path, sizeof path);
	assert_true(file_stat(id, &st));
	set_mode(id, 0640);
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_CREAT, 0640);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, (off_t)offset), len);
	close(fd);
	set_mode(id, st.st_mode & 07777);
}

static void
poke_zeros(uint64_t id, uint64_t offset, size_t len)
{
	uint8_t *zeros = calloc(1, len);

	assert_non_null(zeros);
	poke(id, offset, zeros, len);
	free(zeros);
}

static void
flip(uint64_t id, uint64_t offset)
{
	char path[FIXTURE_PATH_BYTES + 64];
	uint8_t byte = 0;

	pack_path(id, path, sizeof path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	close(fd);
	byte ^= 0x10;
	poke(id, offset, &byte, 1);
}

static void
truncate_file(uint64_t id, uint64_t bytes)
{
	char path[FIXTURE_PATH_BYTES + 64];

	pack_path(id, path, sizeof path);
	assert_int_equal(truncate(path, (off_t)bytes), 0);
}

static void
remove_file(uint64_t id)
{
	struct err err = ERR_INIT;

	assert_ok(pack_remove(dir, id, &err), err);
}

/* ---- does the table tell the truth? ---- */

static const struct db_stmt stmt_all_rows = {
	.name = "t_all_rows",
	.sql = "SELECT hash, pack_id, frame_offset, frame_bytes, raw_offset, length FROM chunk"
	       " WHERE state = 0",
};

struct all_rows {
	struct db_result *result;
};

static enum rc
run_all_rows(struct db_tx *tx, void *arg, struct err *err)
{
	struct all_rows *q = arg;

	db_result_free(q->result);
	return db_exec(tx, &stmt_all_rows, NULL, &q->result, err);
}

static bool
row_is_true(const struct db_result *r, size_t i, struct codec *codec, struct buf *buf)
{
	static uint8_t raw[1u << 20];
	struct pack_place place = {(uint64_t)db_get_i64(r, i, 1), (uint64_t)db_get_i64(r, i, 2),
		(uint64_t)db_get_i64(r, i, 3)};
	uint64_t raw_offset = (uint64_t)db_get_i64(r, i, 4);
	uint64_t length = (uint64_t)db_get_i64(r, i, 5);
	struct pack_frame_view view;
	struct err err = ERR_INIT;
	struct sha256 want;
	struct sha256 hash;

	db_get_bytea_into(r, i, 0, want.b, sizeof want.b);
	if (pack_read_frame(readers, &place, NULL, buf, &view, &err) != RC_OK ||
		view.raw_bytes > sizeof raw || raw_offset + length > view.raw_bytes ||
		codec_expand(codec, view.codec, view.stored, view.stored_bytes, raw, view.raw_bytes,
			&err) != RC_OK)
		return false;
	sha256_of(raw + raw_offset, length, &hash);
	return sha256_equal(&hash, &want);
}

/* How many live rows lead to the bytes they name. */
static size_t
true_rows(void)
{
	struct err err = ERR_INIT;
	struct all_rows q = {NULL};
	struct codec *codec = NULL;
	struct buf buf;
	size_t n = 0;

	assert_ok(codec_open(&codec, &err), err);
	buf_init(&buf, PACK_FRAME_BYTES_MAX);
	assert_ok(db_run_readonly(fx.db, run_all_rows, &q, &err), err);
	for (size_t i = 0; i < db_rows(q.result); i++)
		n += row_is_true(q.result, i, codec, &buf);
	db_result_free(q.result);
	buf_done(&buf);
	codec_free(codec);
	return n;
}

/* ---- fixture ---- */

static enum rc
remove_one(void *arg, uint64_t id, struct err *err)
{
	(void)arg;
	pack_readers_forget(readers, id);
	return pack_remove(dir, id, err);
}

/* The sequence of pack ids goes on from test to test: removed files must not come back. */
static int
start_afresh(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	fixture_sql(fx.db, "TRUNCATE chunk; DELETE FROM pack");
	assert_ok(pack_dir_list(dir, remove_one, NULL, &err), err);
	made->count = 0;
	return 0;
}

static struct recover_report
recover(void)
{
	struct recover_report report;
	struct err err = ERR_INIT;

	assert_ok(recover_packs(fx.db, dir, &report, &err), err);
	return report;
}

static void
expect_nothing_to_recover(void)
{
	struct recover_report none = {.closed = 0};
	struct recover_report report = recover();

	assert_memory_equal(&report, &none, sizeof none);
}

static struct rebuild_report
rebuild(void)
{
	struct rebuild_report report;
	struct err err = ERR_INIT;

	assert_ok(rebuild_index(fx.db, dir, &report, &err), err);
	return report;
}

/* ---- recover ---- */

static void
test_nothing_to_do(void **state)
{
	(void)state;
	uint64_t id = sealed_pack(REPO_A, 1, 3);
	commit_rows();
	int64_t packs = packs_dump();
	expect_nothing_to_recover();
	expect_nothing_to_recover();
	assert_int_equal(packs_dump(), packs);
	/* and no id was used up */
	assert_int_equal(new_id(REPO_A), id + 1);
}

static void
test_row_without_file(void **state)
{
	(void)state;
	uint64_t id = new_id(REPO_A);
	struct recover_report report = recover();
	assert_int_equal(report.removed, 1);
	assert_false(pack_row(id).there);
	expect_nothing_to_recover();
}

static void
test_died_before_anything_was_written(void **state)
{
	(void)state;
	uint64_t created = new_id(REPO_A);
	uint64_t appended = new_id(REPO_A);
	in_dying_process(die_created, created);
	in_dying_process(die_appended, appended);
	assert_int_equal(file_bytes(created), PACK_BYTES);
	struct recover_report report = recover();
	assert_int_equal(report.removed, 2);
	assert_int_equal(report.closed + report.damaged + report.missing, 0);
	assert_false(has_file(created));
	assert_false(has_file(appended));
	assert_int_equal(pack_count(), 0);
	expect_nothing_to_recover();
}

static void
test_leftover_space_is_given_back(void **state)
{
	(void)state;
	uint64_t id = new_id(REPO_A);
	in_dying_process(die_flushed, id);
	commit_rows();
	assert_int_equal(file_bytes(id), PACK_BYTES);
	struct recover_report report = recover();
	assert_int_equal(report.closed, 1);
	assert_int_equal(report.cut_bytes, PACK_BYTES - made->end);
	assert_int_equal(report.torn_bytes + report.damaged, 0);
	expect_file(id, made->end);
	expect_pack(id, PACK_CLOSED, made->end);
	assert_int_equal(true_rows(), 6);
	expect_nothing_to_recover();
}

/* Frames without rows were never acknowledged, but they are whole: they stay. */
static void
test_frames_without_rows_stay(void **state)
{
	(void)state;
	uint64_t id = new_id(REPO_A);
	in_dying_process(die_flushed, id);
	struct recover_report report = recover();
	assert_int_equal(report.closed, 1);
	expect_file(id, made->end);
}

static void
test_abandoned_writer(void **state)
{
	(void)state;
	uint64_t id = new_id(REPO_A);
	struct pack_writer *w = open_writer(id, REPO_A);
	append_some(w, REPO_A, 7);
	flush(w);
	pack_writer_free(w);
	commit_rows();
	uint64_t padding = file_bytes(id) - made->end;
	struct recover_report report = recover();
	assert_int_equal(report.closed, 1);
	assert_int_equal(report.cut_bytes, padding);
	expect_file(id, made->end);
	assert_int_equal(true_rows(), 3);
}

static void
test_torn_tail_is_cut(void **state)
{
	(void)state;
	uint64_t id = new_id(REPO_A);
	in_dying_process(die_flushed_twice, id);
	uint64_t torn_at = made->last_frame;
	poke_zeros(id, made->end - 50000, 50000);
	made->count = 3; /* the rows of the first frame */
	commit_rows();
	struct recover_report report = recover();
	assert_int_equal(report.closed, 1);
	assert_int_equal(report.damaged, 0);
	assert_true(report.torn_bytes > 50000);
	assert_true(report.cut_bytes >= report.torn_bytes);
	assert_true(file_bytes(id) <= torn_at);
	expect_pack(id, PACK_CLOSED, file_bytes(id));
	assert_int_equal(true_rows(), 3);
	expect_nothing_to_recover();
}

/* A disk that lied: the row is there, the bytes are not. Not one of them is cut. */
static void
test_bytes_with_rows_are_never_cut(void **state)
{
	(void)state;
	uint64_t id = new_id(REPO_A);
	in_dying_process(die_flushed_twice, id);
	uint64_t end = made->end;
	poke_zeros(id, end - 50000, 50000);
	commit_rows();
	struct recover_report report = recover();
	assert_int_equal(report.closed, 1);
	assert_int_equal(report.damaged, 1);
	assert_int_equal(report.cut_bytes, PACK_BYTES - end);
	assert_int_equal(report.torn_bytes, 0);
	expect_file(id, end);
	expect_pack(id, PACK_CLOSED, end);
	assert_int_equal(true_rows(), 3);
	expect_nothing_to_recover();
}

/* The same when nothing of the pack is left but zeros, and when the rows lead beyond its end. */
static void
test_empty_pack_with_rows_stays(void **state)
{
	(void)state;
	uint64_t zeros = new_id(REPO_A);
	uint64_t small = new_id(REPO_A);
	in_dying_process(die_flushed, zeros);
	poke_zeros(zeros, 0, PACK_BYTES);
	uint64_t end = made->end;
	in_dying_process(die_flushed_twice, small);
	truncate_file(small, 5000);
	commit_rows();
	struct recover_report report = recover();
	assert_int_equal(report.closed, 2);
	assert_int_equal(report.damaged, 2);
	assert_int_equal(report.removed, 0);
	expect_file(zeros, end);
	expect_file(small, 5000);
	expect_nothing_to_recover();
}

static void
test_damage_before_good_frames(void **state)
{
	(void)state;
	uint64_t id = new_id(REPO_A);
	in_dying_process(die_flushed_twice, id);
	commit_rows();
	flip(id, PACK_BLOCK_BYTES + 300);
	struct recover_report report = recover();
	assert_int_equal(report.closed, 1);
	assert_int_equal(report.damaged, 1);
	expect_file(id, made->end);
	assert_int_equal(true_rows(), 4);
}

static void
test_damaged_header(void **state)
{
	(void)state;
	uint64_t id = new_id(REPO_A);
	in_dying_process(die_flushed, id);
	commit_rows();
	flip(id, 20);
	struct recover_report report = recover();
	assert_int_equal(report.closed, 1);
	assert_int_equal(report.damaged, 1);
	expect_file(id, made->end);
	assert_int_equal(true_rows(), 6);
}

/* Died after the last sync of sealing, and before the cut that comes with it. */
static void
test_sealed_but_not_known_as_such(void **state)
{
	(void)state;
	uint64_t cut = sealed_pack(REPO_A, 1, 2);
	uint64_t uncut = sealed_pack(REPO_A, 3, 4);
	commit_rows();
	uint64_t cut_bytes = file_bytes(cut);
	uint64_t uncut_bytes = file_bytes(uncut);
	int64_t before = packs_dump();
	fixture_sql(fx.db, "UPDATE pack SET state = 0, bytes = 0");
	poke_zeros(uncut, uncut_bytes, 10000);
	struct recover_report report = recover();
	assert_int_equal(report.sealed, 2);
	assert_int_equal(report.closed + report.damaged + report.torn_bytes, 0);
	assert_int_equal(report.cut_bytes, 10000);
	expect_file(cut, cut_bytes);
	expect_file(uncut, uncut_bytes);
	assert_int_equal(packs_dump(), before);
	assert_int_equal(true_rows(), 12);
}

/* Died between the file and the row; as an ordinary user a read-only file cannot be opened. */
static void
test_interrupted_recovery(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	uint64_t trimmed = new_id(REPO_A);
	uint64_t read_only = new_id(REPO_A);
	uint64_t removed = new_id(REPO_A);
	in_dying_process(die_flushed, trimmed);
	commit_rows();
	uint64_t end = made->end;
	assert_ok(pack_trim(dir, trimmed, end, &err), err);
	in_dying_process(die_flushed, read_only);
	set_mode(read_only, 0440);
	in_dying_process(die_created, removed);
	remove_file(removed);
	struct recover_report report = recover();
	assert_int_equal(report.closed, 2);
	assert_int_equal(report.removed, 1);
	assert_int_equal(report.cut_bytes, PACK_BYTES - end);
	expect_file(trimmed, end);
	expect_file(read_only, end);
	expect_nothing_to_recover();
}

static void
test_missing_file(void **state)
{
	(void)state;
	uint64_t id = new_id(REPO_A);
	uint64_t other = new_id(REPO_A);
	in_dying_process(die_flushed, id);
	commit_rows();
	remove_file(id);
	struct recover_report report = recover();
	assert_int_equal(report.missing, 1);
	assert_int_equal(report.removed, 1);
	expect_pack(id, PACK_CLOSED, 0);
	assert_false(pack_row(other).there);
	assert_int_equal(chunk_count(), 6);
	expect_nothing_to_recover();
}

static void
test_many_open_packs(void **state)
{
	(void)state;
	fixture_sql(fx.db, "INSERT INTO pack (repo_id) SELECT 1 FROM generate_series(1, 600)");
	struct recover_report report = recover();
	assert_int_equal(report.removed, 600);
	assert_int_equal(pack_count(), 0);
}

static void
test_ids_are_not_used_again(void **state)
{
	struct err err = ERR_INIT;
	uint64_t id = 0;

	(void)state;
	assert_ok(db_pack_last_id(fx.db, &id, &err), err);
	/* written under a database that was younger than the one we have now */
	in_dying_process(die_flushed, id + 1000);
	in_dying_process(die_created, id + 1001);
	/* names no sequence gave */
	in_dying_process(die_created, INT64_MAX);
	in_dying_process(die_created, UINT64_MAX);
	made->count = 0;
	struct recover_report report = recover();
	assert_int_equal(report.unlisted, 4);
	assert_int_equal(report.closed + report.removed, 0);
	assert_int_equal(new_id(REPO_A), id + 1002);
	assert_int_equal(file_bytes(id + 1000), PACK_BYTES);
	report = recover();
	assert_int_equal(report.unlisted, 2);
	assert_int_equal(report.removed, 1);
	assert_int_equal(new_id(REPO_A), id + 1003);
}

static void
test_trim(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	uint64_t id = sealed_pack(REPO_A, 1, 1);
	uint64_t bytes = file_bytes(id);
	assert_int_equal(pack_trim(dir, id, bytes + 1, &err), RC_INVALID);
	expect_file(id, bytes);
	err_clear(&err);
	assert_int_equal(pack_trim(dir, id + 1, 1, &err), RC_NOT_FOUND);
	err_clear(&err);
	assert_int_equal(pack_sync(dir, id + 1, &err), RC_NOT_FOUND);
	err_clear(&err);
	assert_ok(pack_sync(dir, id, &err), err);
	assert_ok(pack_trim(dir, id, 100, &err), err);
	expect_file(id, 100);
}

/* ---- rewrites that died ---- */

static void
mark_rewriting(void)
{
	fixture_sql(fx.db, "UPDATE pack SET state = 4 WHERE id = (SELECT max(id) FROM pack)");
}

/* At whatever point before the footer: nobody was told, so nothing stays. */
static void
test_unsealed_rewrites_go(void **state)
{
	static void (*const dies[])(uint64_t id) = {
		NULL, die_created, die_appended, die_flushed, die_flushed_twice};

	(void)state;
	for (size_t i = 0; i < sizeof dies / sizeof *dies; i++) {
		uint64_t id = new_id(REPO_A);
		if (dies[i] != NULL)
			in_dying_process(dies[i], id);
		made->count = 0;
		mark_rewriting();
		struct recover_report report = recover();
		assert_int_equal(report.unfinished, 1);
		assert_int_equal(report.closed + report.removed + report.damaged, 0);
		assert_false(has_file(id));
		assert_false(pack_row(id).there);
		expect_nothing_to_recover();
	}
}

/* Behind the footer a commit may have come, in a database that was newer than this one. */
static void
test_sealed_rewrites_retire(void **state)
{
	(void)state;
	uint64_t whole = sealed_pack(REPO_A, 1, 2);
	made->count = 0;
	mark_rewriting();
	uint64_t uncut = sealed_pack(REPO_A, 3, 4);
	made->count = 0;
	mark_rewriting();
	uint64_t whole_bytes = file_bytes(whole);
	uint64_t uncut_bytes = file_bytes(uncut);
	poke_zeros(uncut, uncut_bytes, 10000);
	struct recover_report report = recover();
	assert_int_equal(report.unfinished, 2);
	expect_pack(whole, PACK_RETIRED, whole_bytes);
	expect_pack(uncut, PACK_RETIRED, uncut_bytes);
	expect_file(whole, whole_bytes);
	expect_file(uncut, uncut_bytes);
	expect_nothing_to_recover();
}

static void
test_many_unfinished_rewrites(void **state)
{
	(void)state;
	fixture_sql(fx.db, "INSERT INTO pack (repo_id, state)"
			   " SELECT 1, 4 FROM generate_series(1, 600)");
	struct recover_report report = recover();
	assert_int_equal(report.unfinished, 600);
	assert_int_equal(pack_count(), 0);
}

/* ---- rebuild ---- */

/* Two repositories, sealed packs, a closed one, and one that a crash left; all chunks in the table.
 * Returns the last pack. */
static uint64_t
make_store(void)
{
	sealed_pack(REPO_A, 10, 14);
	sealed_pack(REPO_B, 12, 17);
	commit_rows();
	uint64_t closed = new_id(REPO_A);
	in_dying_process(die_flushed_twice, closed);
	commit_rows();
	recover();
	sealed_pack(REPO_A, 20, 21);
	commit_rows();
	return sealed_pack(REPO_B, 22, 22);
}

static void
expect_unchanged(const struct rebuild_report *r)
{
	assert_int_equal(r->chunks_added + r->chunks_moved + r->lost_chunks, 0);
	assert_int_equal(r->packs_added + r->packs_changed + r->packs_gone, 0);
	assert_true(rebuild_is_clean(r));
}

static void
test_rebuild_of_right_tables(void **state)
{
	(void)state;
	make_store();
	commit_rows();
	fixture_sql(fx.db, "UPDATE chunk SET touch = 77 WHERE repo_id = 1");
	int64_t chunks = chunks_dump();
	int64_t packs = packs_dump();
	struct rebuild_report r = rebuild();
	expect_unchanged(&r);
	assert_int_equal(r.packs, 5);
	assert_int_equal(r.frames, 16);
	assert_int_equal(r.chunks, 49);
	assert_int_equal(r.chunks, chunk_count());
	assert_int_equal(r.duplicates + r.unknown_packs + r.torn_bytes, 0);
	assert_int_equal(chunks_dump(), chunks);
	assert_int_equal(packs_dump(), packs);
	r = rebuild();
	expect_unchanged(&r);
}

static const struct db_stmt stmt_length_sum = {
	.name = "t_length_sum",
	.sql = "SELECT sum(length)::bigint FROM chunk",
};

static void
test_rebuild_from_nothing(void **state)
{
	struct pack_header header;
	struct err err = ERR_INIT;

	(void)state;
	uint64_t last = make_store();
	commit_rows();
	int64_t chunks = chunks_dump();
	int64_t bytes = number(&stmt_length_sum);
	fixture_sql(fx.db, "UPDATE chunk_writer SET id = '00112233-4455-6677-8899-aabbccddeeff'");
	fixture_sql(fx.db, "TRUNCATE chunk; DELETE FROM pack;"
			   "ALTER TABLE pack ALTER COLUMN id RESTART WITH 1");
	struct rebuild_report r = rebuild();
	assert_true(rebuild_is_clean(&r));
	assert_int_equal(r.chunks, 49);
	assert_int_equal(r.bytes, bytes);
	assert_int_equal(r.chunks_added, 49);
	assert_int_equal(r.packs_added, 5);
	assert_int_equal(r.chunks_moved + r.lost_chunks + r.packs_gone + r.packs_changed, 0);
	assert_int_equal(chunks_dump(), chunks);
	assert_int_equal(true_rows(), 49);
	expect_pack(last, PACK_SEALED, file_bytes(last));
	assert_int_equal(pack_row(last).repo_id, REPO_B);
	assert_ok(pack_read_header(readers, last, &header, &err), err);
	assert_int_equal(
		fixture_number(fx.db, "SELECT (extract(epoch FROM created_at) * 1000000)::bigint"
				      " FROM pack ORDER BY id DESC LIMIT 1"),
		header.created_us);
	/* a filter that was saved before has not heard of these rows */
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM chunk_writer WHERE id <>"
					       " '00112233-4455-6677-8899-aabbccddeeff'"),
		1);
	/* and ids go on behind what is on disk */
	assert_int_equal(new_id(REPO_A), last + 1);
}

static void
test_rebuild_corrects_places(void **state)
{
	(void)state;
	make_store();
	commit_rows();
	int64_t chunks = chunks_dump();
	fixture_sql(fx.db,
		"UPDATE chunk SET frame_offset = frame_offset + 16 WHERE get_byte(hash, 0) < 64;"
		"UPDATE chunk SET state = 1 WHERE get_byte(hash, 0) BETWEEN 64 AND 99;"
		"UPDATE chunk SET pack_id = 9223372036854775807, length = -1, raw_offset = -5"
		" WHERE get_byte(hash, 0) BETWEEN 100 AND 127;"
		"DELETE FROM chunk WHERE get_byte(hash, 0) BETWEEN 128 AND 160;"
		"INSERT INTO chunk (repo_id, hash, pack_id, frame_offset, frame_bytes, raw_offset,"
		" length) SELECT 1, sha256(i::text::bytea), 1, 4096, 64, 0, 10"
		" FROM generate_series(1, 5000) AS i;"
		"INSERT INTO chunk (repo_id, hash, pack_id, frame_offset, frame_bytes, raw_offset,"
		" length) SELECT 99, hash, pack_id, frame_offset, frame_bytes, raw_offset, length"
		" FROM chunk WHERE repo_id = 2 LIMIT 3;"
		"UPDATE pack SET state = 0, bytes = 1;"
		"INSERT INTO pack (repo_id, state) VALUES (1, 1)");
	struct rebuild_report r = rebuild();
	assert_int_equal(chunks_dump(), chunks);
	assert_int_equal(r.chunks, 49);
	assert_int_equal(r.lost_chunks, 5003);
	assert_int_equal(r.chunks_moved + r.chunks_added,
		49 - fixture_number(
			     fx.db, "SELECT count(*) FROM chunk WHERE get_byte(hash, 0) > 160"));
	assert_true(r.chunks_moved > 0 && r.chunks_added > 0);
	assert_int_equal(r.packs_changed, 5);
	assert_int_equal(r.packs_gone, 1);
	assert_int_equal(r.damaged_packs, 0);
	assert_false(rebuild_is_clean(&r));
	assert_int_equal(pack_count(), 5);
	assert_int_equal(true_rows(), 49);
	r = rebuild();
	expect_unchanged(&r);
}

static void
test_rebuild_with_a_corrupt_frame(void **state)
{
	(void)state;
	uint64_t id = sealed_pack(REPO_A, 1, 4);
	sealed_pack(REPO_A, 5, 6);
	commit_rows();
	flip(id, PACK_BLOCK_BYTES + 200);
	struct rebuild_report r = rebuild();
	assert_int_equal(r.damaged_packs, 1);
	assert_int_equal(r.damaged_frames, 1);
	assert_true(r.damaged_bytes > 0);
	assert_int_equal(r.lost_chunks, 3);
	assert_int_equal(r.chunks, 15);
	assert_int_equal(true_rows(), 15);
	assert_int_equal(chunk_count(), 15);
	assert_false(rebuild_is_clean(&r));
	/* what is damaged is not touched: there may be more to get out of it */
	expect_pack(id, PACK_SEALED, file_bytes(id));
	r = rebuild();
	assert_int_equal(r.lost_chunks, 0);
	assert_int_equal(r.damaged_packs, 1);
}

/* Right checksums around wrong contents: only the hashes tell. */
static void
test_rebuild_believes_no_frame(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	uint64_t id = new_id(REPO_A);
	struct pack_writer *w = open_writer(id, REPO_A);
	append(w, &(struct frame_spec){REPO_A, 1, 3, 4000, FRAME_BAD_ZSTD});
	append(w, &(struct frame_spec){REPO_A, 2, 3, 4000, FRAME_WRONG_HASH});
	append(w, &(struct frame_spec){REPO_A, 3, 3, 4000, FRAME_ZSTD});
	need(pack_writer_seal(w, &err) == RC_OK);
	pack_writer_free(w);
	commit_rows();
	struct rebuild_report r = rebuild();
	assert_int_equal(r.frames, 3);
	assert_int_equal(r.damaged_frames, 2);
	assert_int_equal(r.damaged_chunks, 1);
	assert_int_equal(r.damaged_packs, 1);
	assert_true(r.damaged_bytes > 4000);
	assert_int_equal(r.chunks, 5);
	assert_int_equal(r.lost_chunks, 4);
	assert_int_equal(true_rows(), 5);
}

static void
test_rebuild_leaves_unknown_repositories_alone(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	uint64_t known = sealed_pack(REPO_A, 1, 1);
	commit_rows();
	struct pack_writer *w = open_writer(known + 1, UNKNOWN_REPO);
	append_some(w, UNKNOWN_REPO, 2);
	need(pack_writer_seal(w, &err) == RC_OK);
	pack_writer_free(w);
	in_dying_process(die_created, known + 2);
	in_dying_process(die_created, UINT64_MAX);
	/* a row that some mistake has made: not a reason to touch anything */
	fixture_sql(fx.db, "INSERT INTO pack (id, repo_id, state, bytes) OVERRIDING SYSTEM VALUE"
			   " SELECT max(id) + 1, 1, 2, 12345 FROM pack");
	uint64_t bytes = file_bytes(known + 1);
	int64_t chunks = chunks_dump();
	int64_t packs = packs_dump();
	struct rebuild_report r = rebuild();
	assert_int_equal(r.packs, 1);
	assert_int_equal(r.unknown_packs, 3);
	expect_unchanged(&r);
	assert_int_equal(chunks_dump(), chunks);
	assert_int_equal(packs_dump(), packs);
	expect_file(known + 1, bytes);
	assert_int_equal(file_bytes(known + 2), PACK_BYTES);
	assert_int_equal(new_id(REPO_A), known + 3);
}

static void
test_rebuild_with_duplicates(void **state)
{
	struct err err = ERR_INIT;
	uint64_t last = 0;

	(void)state;
	/* ids ..ff and ..00: the directory lists the second one first */
	assert_ok(db_pack_last_id(fx.db, &last, &err), err);
	assert_ok(db_pack_reserve_ids(fx.db, ((last + 1) | 0xff) - 1, &err), err);
	uint64_t first = sealed_pack(REPO_A, 1, 2);
	uint64_t second = sealed_pack(REPO_A, 2, 3);
	sealed_pack(REPO_B, 2, 2); /* the same chunks, but nothing to do with repository A */
	commit_rows();
	fixture_sql(fx.db, "TRUNCATE chunk");
	struct rebuild_report r = rebuild();
	assert_int_equal(r.chunks, 12);
	assert_int_equal(r.duplicates, 3);
	assert_true(rebuild_is_clean(&r));
	assert_int_equal(true_rows(), 12);
	assert_int_equal(first % 256, 255);
	int64_t of_second = fixture_number(
		fx.db, "SELECT count(*) FROM chunk WHERE pack_id = (SELECT max(id) - 1 FROM pack)");
	assert_int_equal(of_second, 6);
	/* with the copy in the last pack damaged, the one before counts */
	flip(second, made->rows[6].frame_offset + 250);
	r = rebuild();
	assert_int_equal(r.chunks, 12);
	assert_int_equal(r.duplicates, 0);
	assert_int_equal(r.chunks_moved, 3);
	assert_int_equal(r.lost_chunks, 0);
	assert_int_equal(r.damaged_packs, 1);
	assert_int_equal(true_rows(), 12);
	assert_true(pack_row(second).there);
}

/* After a rewrite both packs are there: rows stay with the new one, and the old one stays retired
 * although it is whole; but not if it has the only good copy. */
static void
test_rebuild_of_a_retired_pack(void **state)
{
	(void)state;
	uint64_t new = sealed_pack(REPO_A, 1, 2);
	made->count = 0;
	/* a higher id, so that the order alone does not decide */
	uint64_t old = sealed_pack(REPO_A, 1, 3);
	made->count = 0;
	commit_rows();
	rebuild();
	fixture_sql(fx.db, "UPDATE pack SET state = 3 WHERE id = (SELECT max(id) FROM pack)");
	struct rebuild_report r = rebuild();
	assert_int_equal(r.chunks, 9);
	/* one of its chunks is nowhere else */
	expect_pack(old, PACK_SEALED, file_bytes(old));
	assert_int_equal(r.chunks_moved, 6);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM chunk WHERE pack_id ="
					       " (SELECT min(id) FROM pack)"),
		6);
	uint64_t third = sealed_pack(REPO_A, 3, 3);
	made->count = 0;
	fixture_sql(fx.db, "UPDATE pack SET state = 3 WHERE id = (SELECT max(id) - 1 FROM pack)");
	r = rebuild();
	assert_int_equal(r.chunks_moved, 3);
	expect_pack(old, PACK_RETIRED, file_bytes(old));
	expect_pack(new, PACK_SEALED, file_bytes(new));
	expect_pack(third, PACK_SEALED, file_bytes(third));
	r = rebuild();
	expect_unchanged(&r);
	/* nothing is known of packs any more: the last one has everything */
	fixture_sql(fx.db, "TRUNCATE chunk; DELETE FROM pack");
	r = rebuild();
	assert_int_equal(r.chunks, 9);
	assert_int_equal(r.duplicates, 9);
	assert_int_equal(true_rows(), 9);
}

/* More chunks than a statement takes, and equal ones in one statement. */
static void
test_rebuild_of_many_chunks(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	uint64_t id = new_id(REPO_A);
	struct pack_writer *w = open_writer(id, REPO_A);
	append(w, &(struct frame_spec){REPO_A, 1, 5500, 24, FRAME_ZSTD});
	append(w, &(struct frame_spec){REPO_A, 1, 300, 24, FRAME_RAW});
	append(w, &(struct frame_spec){REPO_A, 2, 5500, 24, FRAME_RAW});
	need(pack_writer_seal(w, &err) == RC_OK);
	pack_writer_free(w);
	commit_rows();
	fixture_sql(fx.db, "TRUNCATE chunk");
	struct rebuild_report r = rebuild();
	assert_int_equal(r.chunks, 11000);
	assert_int_equal(r.duplicates, 300);
	assert_int_equal(r.packs_changed, 1);
	assert_int_equal(chunk_count(), 11000);
	r = rebuild();
	expect_unchanged(&r);
}

static void
test_rebuild_finds_the_repository(void **state)
{
	(void)state;
	uint64_t by_footer = sealed_pack(REPO_B, 1, 1);
	uint64_t by_row = new_id(REPO_A);
	in_dying_process(die_flushed, by_row);
	commit_rows();
	flip(by_footer, 30);
	flip(by_row, 30);
	fixture_sql(fx.db, "TRUNCATE chunk");
	struct rebuild_report r = rebuild();
	assert_int_equal(r.packs, 2);
	assert_int_equal(r.damaged_packs, 2);
	assert_int_equal(r.chunks, 9);
	assert_int_equal(true_rows(), 9);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM chunk WHERE repo_id = 2"), 3);
	fixture_sql(fx.db, "DELETE FROM pack");
	r = rebuild();
	assert_int_equal(r.packs, 1);
	assert_int_equal(r.unknown_packs, 1);
	assert_int_equal(r.chunks, 3);
	assert_int_equal(r.lost_chunks, 6);
}

/* The header decides, not the row. */
static void
test_rebuild_moves_a_pack_to_its_repository(void **state)
{
	(void)state;
	uint64_t id = sealed_pack(REPO_A, 1, 1);
	commit_rows();
	int64_t chunks = chunks_dump();
	fixture_sql(fx.db, "UPDATE pack SET repo_id = 2; UPDATE chunk SET repo_id = 2");
	struct rebuild_report r = rebuild();
	assert_int_equal(r.packs_changed, 1);
	assert_int_equal(r.lost_chunks, 3);
	assert_int_equal(r.chunks_added, 3);
	assert_int_equal(pack_row(id).repo_id, REPO_A);
	assert_int_equal(chunks_dump(), chunks);
}

/* What a crash left is indexed, and cut by the next start, with rows or without. */
static void
test_rebuild_then_recover(void **state)
{
	(void)state;
	uint64_t torn = new_id(REPO_A);
	uint64_t empty = new_id(REPO_A);
	in_dying_process(die_flushed_twice, torn);
	poke_zeros(torn, made->end - 50000, 50000);
	in_dying_process(die_created, empty);
	made->count = 0;
	fixture_sql(fx.db, "DELETE FROM pack WHERE state = 0 AND id IN (SELECT min(id) FROM pack)");
	struct rebuild_report r = rebuild();
	assert_int_equal(r.packs, 2);
	assert_int_equal(r.chunks_added, 3);
	assert_true(r.torn_bytes > 50000);
	assert_int_equal(r.damaged_frames + r.damaged_bytes, 0);
	assert_true(rebuild_is_clean(&r));
	expect_pack(torn, PACK_OPEN, PACK_BYTES);
	assert_int_equal(file_bytes(torn), PACK_BYTES);
	struct recover_report report = recover();
	assert_int_equal(report.closed, 1);
	assert_int_equal(report.removed, 1);
	assert_int_equal(report.damaged, 0);
	expect_pack(torn, PACK_CLOSED, file_bytes(torn));
	assert_true(file_bytes(torn) < 40000);
	assert_int_equal(true_rows(), 3);
	r = rebuild();
	expect_unchanged(&r);
	assert_int_equal(r.torn_bytes, 0);
}

/* A sealed pack with a bad end is damaged, and stays as it is. */
static void
test_rebuild_of_a_damaged_footer(void **state)
{
	(void)state;
	uint64_t with_row = sealed_pack(REPO_A, 1, 1);
	uint64_t without = sealed_pack(REPO_A, 2, 2);
	commit_rows();
	fixture_sql(fx.db, "DELETE FROM pack WHERE id = (SELECT max(id) FROM pack)");
	poke_zeros(with_row, file_bytes(with_row) - 64, 64);
	flip(without, file_bytes(without) - 60);
	struct rebuild_report r = rebuild();
	assert_int_equal(r.damaged_packs, 2);
	assert_true(r.damaged_bytes > 0);
	assert_int_equal(r.torn_bytes, 0);
	assert_int_equal(r.chunks, 6);
	expect_pack(with_row, PACK_CLOSED, file_bytes(with_row));
	expect_pack(without, PACK_CLOSED, file_bytes(without));
	expect_nothing_to_recover();
}

static void
test_rebuild_that_fails_changes_nothing(void **state)
{
	struct rebuild_report r;
	struct err err = ERR_INIT;

	(void)state;
	uint64_t last = make_store();
	commit_rows();
	fixture_sql(fx.db, "DELETE FROM chunk WHERE repo_id = 2");
	int64_t chunks = chunks_dump();
	int64_t packs = packs_dump();
	set_mode(last, 0);
	assert_int_equal(rebuild_index(fx.db, dir, &r, &err), RC_IO);
	assert_non_null(strstr(err.detail, ".pack"));
	assert_int_equal(chunks_dump(), chunks);
	assert_int_equal(packs_dump(), packs);
	set_mode(last, 0440);
	r = rebuild();
	assert_int_equal(r.chunks, 49);
	assert_int_equal(r.chunks_added, 21);
}

static void
test_rebuild_in_the_wrong_directory(void **state)
{
	struct rebuild_report r;
	struct err err = ERR_INIT;

	(void)state;
	uint64_t id = sealed_pack(REPO_A, 1, 1);
	commit_rows();
	remove_file(id);
	assert_int_equal(rebuild_index(fx.db, dir, &r, &err), RC_CONFLICT);
	assert_string_equal(err.kind, "packs-missing");
	assert_int_equal(chunk_count(), 3);
	fixture_sql(fx.db, "TRUNCATE chunk");
	r = rebuild();
	assert_int_equal(r.packs_gone, 1);
	assert_int_equal(pack_count(), 0);
}

/* A repository that was dropped keeps its packs until it is swept. */
static void
test_rebuild_of_a_dropped_repository(void **state)
{
	(void)state;
	sealed_pack(REPO_B, 1, 1);
	commit_rows();
	fixture_sql(fx.db, "UPDATE repo SET name = NULL, dropped_at = now() WHERE id = 2");
	struct rebuild_report r = rebuild();
	fixture_sql(fx.db, "UPDATE repo SET name = 'b', dropped_at = NULL WHERE id = 2");
	expect_unchanged(&r);
	assert_int_equal(r.chunks, 3);
}

static void
open_store(void)
{
	struct err err = ERR_INIT;
	char path[FIXTURE_PATH_BYTES + 16];

	fixture_start(&fx);
	fx.db = fixture_pool(&fx, 30000);
	need(migrate_run(fx.db, migration_list, migration_list_count, &err) == RC_OK);
	fixture_sql(fx.db, "INSERT INTO repo (name, uuid, chunker, hash_alg, chunk_target) VALUES"
			   " ('a', 'd1000000-0000-0000-0000-000000000001', 1, 1, 65536),"
			   " ('b', 'd1000000-0000-0000-0000-000000000002', 1, 1, 65536)");
	snprintf(path, sizeof path, "%s/blobs", fx.dir);
	need(pack_dir_open(path, &dir, &err) == RC_OK);
	need(pack_readers_open(dir, 4, &readers, &err) == RC_OK);
	made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(made != MAP_FAILED);
}

#define TEST(fn) cmocka_unit_test_setup(fn, start_afresh)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_to_do),
		TEST(test_row_without_file),
		TEST(test_died_before_anything_was_written),
		TEST(test_leftover_space_is_given_back),
		TEST(test_frames_without_rows_stay),
		TEST(test_abandoned_writer),
		TEST(test_torn_tail_is_cut),
		TEST(test_bytes_with_rows_are_never_cut),
		TEST(test_empty_pack_with_rows_stays),
		TEST(test_damage_before_good_frames),
		TEST(test_damaged_header),
		TEST(test_sealed_but_not_known_as_such),
		TEST(test_interrupted_recovery),
		TEST(test_missing_file),
		TEST(test_many_open_packs),
		TEST(test_ids_are_not_used_again),
		TEST(test_trim),
		TEST(test_unsealed_rewrites_go),
		TEST(test_sealed_rewrites_retire),
		TEST(test_many_unfinished_rewrites),
		TEST(test_rebuild_of_right_tables),
		TEST(test_rebuild_from_nothing),
		TEST(test_rebuild_corrects_places),
		TEST(test_rebuild_with_a_corrupt_frame),
		TEST(test_rebuild_believes_no_frame),
		TEST(test_rebuild_leaves_unknown_repositories_alone),
		TEST(test_rebuild_with_duplicates),
		TEST(test_rebuild_of_a_retired_pack),
		TEST(test_rebuild_of_many_chunks),
		TEST(test_rebuild_finds_the_repository),
		TEST(test_rebuild_moves_a_pack_to_its_repository),
		TEST(test_rebuild_then_recover),
		TEST(test_rebuild_of_a_damaged_footer),
		TEST(test_rebuild_that_fails_changes_nothing),
		TEST(test_rebuild_in_the_wrong_directory),
		TEST(test_rebuild_of_a_dropped_repository),
	};

	fixture_init(&fx, false);
	open_store();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	pack_readers_free(readers);
	pack_dir_free(dir);
	munmap(made, sizeof *made);
	fixture_done(&fx);
	return failed;
}
