/* SPDX-License-Identifier: Apache-2.0 */
/* Reading contents out of real packs; the database and ingest are doubles that a test can make lie.
 */
#include "reader.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec.h"
#include "db_chunk.h"
#include "db_recipe.h"
#include "ingest.h"
#include "pack_fixture.h"
#include "recipe.h"

#define CHUNKS_MAX  256
#define PARTS_MAX   64
#define CACHE_BYTES ((size_t)4 << 20)

/* What the database says, and what it was told. */
static struct {
	struct chunk_row rows[CHUNKS_MAX];
	uint8_t *bytes[CHUNKS_MAX];
	size_t chunk_count;
	struct chunk_row moved; /* if length > 0: what the second look-up of its hash finds */
	int moved_asked;
	bool hide_moved; /* the first look-up finds nothing */

	struct recipe_part_row parts[PARTS_MAX];
	struct buf part_bytes[PARTS_MAX];
	size_t part_count;
	struct file_row file;
	bool file_there;

	enum rc fail;
	atomic_int locate_calls;
	atomic_size_t located;
	size_t first_located;
	int marked;
	struct chunk_row last_marked;
	int forgotten;
} fake;

static struct fixture *packs;
static struct read_service *service;
static const struct repo repo = {.id = 7};

enum rc
db_chunk_locate(struct db *db, uint64_t repo_id, const struct sha256 *hashes, size_t count,
	struct chunk_row *rows, size_t *found, struct err *err)
{
	(void)db;
	if (fake.fail != RC_OK)
		return err_set(err, fake.fail, NULL, "as told");
	if (atomic_fetch_add(&fake.locate_calls, 1) == 0)
		fake.first_located = count;
	atomic_fetch_add(&fake.located, count);
	assert_true(count >= 1 && count <= 256);
	*found = 0;
	for (size_t i = 0; i < count; i++) {
		rows[i] = (struct chunk_row){.repo_id = repo_id, .hash = hashes[i]};
		if (fake.moved.length > 0 && sha256_equal(&hashes[i], &fake.moved.hash)) {
			if (fake.moved_asked++ > 0) {
				rows[i] = fake.moved;
				++*found;
				continue;
			}
			if (fake.hide_moved)
				continue;
		}
		for (size_t k = 0; k < fake.chunk_count; k++)
			if (repo_id == repo.id && sha256_equal(&hashes[i], &fake.rows[k].hash)) {
				rows[i] = fake.rows[k];
				++*found;
			}
	}
	return RC_OK;
}

enum rc
db_chunk_mark_bad(struct db *db, const struct chunk_row *row, struct err *err)
{
	(void)db;
	(void)err;
	fake.marked++;
	fake.last_marked = *row;
	return RC_OK;
}

enum rc
db_file_get(struct db *db, uint64_t repo_id, const struct sha256 *id, struct file_row *out,
	struct err *err)
{
	(void)db;
	if (fake.fail != RC_OK)
		return err_set(err, fake.fail, NULL, "as told");
	if (!fake.file_there || repo_id != repo.id || !sha256_equal(id, &fake.file.id))
		return err_set(err, RC_CORRUPT, "corrupt-data", "the recipe is missing");
	*out = fake.file;
	return RC_OK;
}

enum rc
db_recipe_part_at(struct db *db, uint64_t recipe_id, uint64_t offset, uint64_t *start,
	struct buf *entries, struct err *err)
{
	const struct recipe_part_row *best = NULL;

	(void)db;
	for (size_t i = 0; i < fake.part_count; i++)
		if (fake.parts[i].recipe_id == recipe_id && fake.parts[i].start <= offset &&
			(best == NULL || fake.parts[i].start > best->start))
			best = &fake.parts[i];
	if (best == NULL)
		return err_set(err, RC_CORRUPT, "corrupt-data", "a part is missing");
	*start = best->start;
	buf_clear(entries);
	buf_add(entries, best->entries, best->entries_bytes);
	return RC_OK;
}

void
ingest_forget(struct ingest *in)
{
	(void)in;
	fake.forgotten++;
}

/* ---- making things ---- */

static uint64_t seed;

static uint8_t
noise(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint8_t)(seed >> 56);
}

static void
new_service(size_t cache_bytes)
{
	struct err err = ERR_INIT;
	/* never looked at: only handed back to the doubles */
	static char in;
	const struct read_options options = {
		.ingest = (struct ingest *)(void *)&in,
		.packs = packs->readers,
		.cache_bytes = cache_bytes,
	};

	read_service_free(service);
	assert_int_equal(read_service_open(&options, &service, &err), RC_OK);
}

static int
setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof fake);
	seed = 1;
	new_service(CACHE_BYTES);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	read_service_free(service);
	service = NULL;
	for (size_t i = 0; i < fake.chunk_count; i++)
		free(fake.bytes[i]);
	for (size_t i = 0; i < fake.part_count; i++)
		buf_done(&fake.part_bytes[i]);
	return 0;
}

/* One directory of packs for all tests. */
static int
setup_packs(void **state)
{
	(void)state;
	return fixture_setup((void **)&packs);
}

static int
teardown_packs(void **state)
{
	(void)state;
	return fixture_teardown((void **)&packs);
}

/* A frame of new chunks, written to w; the rows come behind those that are there. wrong_hash: the
 * first chunk is not what its name says. */
static void
add_frame(struct pack_writer *w, enum codec_id codec, size_t count, size_t chunk_bytes,
	bool wrong_hash)
{
	struct err err = ERR_INIT;
	struct pack_chunk chunks[64];
	struct codec *c = NULL;
	uint64_t offset;
	uint64_t bytes;
	size_t raw_bytes = 0;
	uint8_t *raw = malloc(count * (chunk_bytes + 64));

	assert_int_equal(codec_open(&c, &err), RC_OK);
	for (size_t i = 0; i < count; i++) {
		size_t n = chunk_bytes + i;
		struct chunk_row *row = &fake.rows[fake.chunk_count + i];
		for (size_t k = 0; k < n; k++)
			raw[raw_bytes + k] = k % 3 == 0 ? noise() : (uint8_t)i;
		sha256_of(raw + raw_bytes, n, &chunks[i].hash);
		if (i == 0 && wrong_hash)
			chunks[i].hash.b[5] ^= 1;
		chunks[i].length = n;
		*row = (struct chunk_row){.repo_id = repo.id,
			.hash = chunks[i].hash,
			.raw_offset = raw_bytes,
			.length = n};
		fake.bytes[fake.chunk_count + i] = malloc(n);
		memcpy(fake.bytes[fake.chunk_count + i], raw + raw_bytes, n);
		raw_bytes += n;
	}
	size_t cap = codec_bound(raw_bytes);
	uint8_t *stored = malloc(cap);
	size_t stored_bytes = raw_bytes;
	memcpy(stored, raw, raw_bytes);
	if (codec == CODEC_ZSTD) {
		stored_bytes = codec_compress(c, 1, raw, raw_bytes, stored, cap);
		assert_true(stored_bytes > 0);
	}
	const struct iovec part = {stored, stored_bytes};
	const struct pack_frame frame = {
		codec, chunks, (uint32_t)count, raw_bytes, &part, 1, stored_bytes};
	assert_int_equal(pack_writer_append(w, &frame, &offset, &bytes, &err), RC_OK);
	for (size_t i = 0; i < count; i++) {
		fake.rows[fake.chunk_count + i].pack_id = pack_writer_id(w);
		fake.rows[fake.chunk_count + i].frame_offset = offset;
		fake.rows[fake.chunk_count + i].frame_bytes = bytes;
	}
	fake.chunk_count += count;
	codec_free(c);
	free(stored);
	free(raw);
}

static void
begin_part(uint64_t start, bool slices)
{
	struct buf *b = &fake.part_bytes[fake.part_count];

	buf_init(b, 1 << 20);
	recipe_part_begin(b, 1);
	b->data[3] = slices ? RECIPE_FLAG_SLICES : 0;
	fake.parts[fake.part_count] = (struct recipe_part_row){.recipe_id = 5, .start = start};
	fake.part_count++;
}

static void
end_part(void)
{
	struct buf *b = &fake.part_bytes[fake.part_count - 1];

	fake.parts[fake.part_count - 1].entries = b->data;
	fake.parts[fake.part_count - 1].entries_bytes = b->len;
}

static void
add_slice(size_t chunk, uint64_t offset, uint64_t length)
{
	struct buf *b = &fake.part_bytes[fake.part_count - 1];

	recipe_part_add(b, &fake.rows[chunk].hash, length);
	if (b->data[3] & RECIPE_FLAG_SLICES)
		buf_add_varint(b, offset);
}

static struct content
file_of(uint64_t size)
{
	fake.file = (struct file_row){.repo_id = repo.id, .size = size, .recipe_id = 5};
	memset(fake.file.id.b, 0xab, 32);
	fake.file_there = true;
	return (struct content){CONTENT_RECIPE, fake.file.id, size};
}

/* All chunks in order, some twice, a part after every few; *data is what reading must give. */
static struct content
make_recipe(size_t per_part, uint8_t **data)
{
	uint64_t size = 0;

	*data = malloc((size_t)2 << 20);
	for (size_t i = 0; i < fake.chunk_count + fake.chunk_count / 4; i++) {
		size_t k = i % 5 == 4 ? i / 5 : i - i / 5;
		if (i % per_part == 0)
			begin_part(size, false);
		add_slice(k, 0, fake.rows[k].length);
		memcpy(*data + size, fake.bytes[k], fake.rows[k].length);
		size += fake.rows[k].length;
		end_part();
	}
	return file_of(size);
}

static void
make_packs(void)
{
	struct pack_writer *w = fixture_writer(packs);

	add_frame(w, CODEC_RAW, 5, 1000, false);
	add_frame(w, CODEC_ZSTD, 4, 3000, false);
	add_frame(w, CODEC_RAW, 1, 70000, false);
	fixture_seal(w);
	w = fixture_writer(packs);
	add_frame(w, CODEC_ZSTD, 40, 300, false);
	add_frame(w, CODEC_RAW, 30, 1, false);
	fixture_seal(w);
}

static struct reader *
open_at(const struct content *c, uint64_t offset)
{
	struct err err = ERR_INIT;
	struct reader *r = NULL;

	assert_int_equal(reader_open(service, &repo, c, offset, &r, &err), RC_OK);
	return r;
}

/* Read to the end in steps and compare. */
static void
expect(struct reader *r, const uint8_t *data, size_t len, size_t step)
{
	struct err err = ERR_INIT;
	uint8_t *piece = malloc(step);
	size_t done = 0;
	size_t got;

	for (;;) {
		assert_int_equal(reader_read(r, piece, step, &got, &err), RC_OK);
		if (got == 0)
			break;
		assert_true(got <= step && done + got <= len);
		assert_memory_equal(piece, data + done, got);
		done += got;
	}
	assert_int_equal(done, len);
	free(piece);
}

static enum rc
read_fails(struct reader *r, size_t *before)
{
	struct err err = ERR_INIT;
	uint8_t piece[700];
	size_t got = 1;
	enum rc rc = RC_OK;

	for (*before = 0; rc == RC_OK && got > 0; *before += got)
		rc = reader_read(r, piece, sizeof piece, &got, &err);
	assert_int_equal(rc, err.rc);
	if (rc == RC_CORRUPT) {
		assert_string_equal(err.kind, "corrupt-data");
		assert_null(strstr(err.text, "pack"));
	}
	return rc;
}

/* ---- tests ---- */

static void
test_whole(void **state)
{
	const size_t steps[] = {1, 7, 999, 4096, 65536, 1 << 20};
	uint8_t *data;

	(void)state;
	make_packs();
	struct content c = make_recipe(7, &data);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		struct reader *r = open_at(&c, 0);
		expect(r, data, c.size, steps[i]);
		reader_free(r);
	}
	assert_int_equal(fake.marked, 0);
	free(data);
}

/* Three bytes at, before and behind every boundary, by opening and by seeking. */
static void
test_ranges(void **state)
{
	struct err err = ERR_INIT;
	uint8_t *data;
	uint8_t piece[3];
	size_t got;
	uint64_t edges[PARTS_MAX * 8];
	size_t count = 0;

	(void)state;
	make_packs();
	struct content c = make_recipe(7, &data);
	uint64_t at = 0;
	for (size_t i = 0; i < fake.chunk_count; i++) {
		edges[count++] = at;
		at += fake.rows[i - i / 5].length;
	}
	for (size_t i = 0; i < fake.part_count; i++)
		edges[count++] = fake.parts[i].start;
	edges[count++] = c.size;
	struct reader *seeker = open_at(&c, 0);
	for (size_t i = 0; i < count; i++) {
		for (int d = -2; d <= 2; d++) {
			if ((d < 0 && edges[i] < (uint64_t)-d) || edges[i] + (uint64_t)d > c.size)
				continue;
			uint64_t offset = edges[i] + (uint64_t)(int64_t)d;
			size_t want = c.size - offset < 3 ? (size_t)(c.size - offset) : 3;
			struct reader *r = open_at(&c, offset);
			assert_int_equal(reader_read(r, piece, 3, &got, &err), RC_OK);
			assert_int_equal(got, want);
			assert_memory_equal(piece, data + offset, want);
			reader_free(r);
			assert_int_equal(reader_seek(seeker, offset, &err), RC_OK);
			assert_int_equal(reader_read(seeker, piece, 3, &got, &err), RC_OK);
			assert_int_equal(got, want);
			assert_memory_equal(piece, data + offset, want);
		}
	}
	assert_int_equal(reader_seek(seeker, c.size + 1, &err), RC_INVALID);
	err_clear(&err);
	struct reader *none = NULL;
	assert_int_equal(reader_open(service, &repo, &c, c.size + 1, &none, &err), RC_INVALID);
	assert_null(none);
	reader_free(seeker);
	free(data);
}

static void
test_slices(void **state)
{
	uint8_t data[6000];

	(void)state;
	make_packs();
	begin_part(0, true);
	add_slice(0, 10, 100);
	add_slice(6, 0, 3001);
	add_slice(1, 1000, 1);
	end_part();
	begin_part(3102, true);
	add_slice(6, 3000, 1);
	add_slice(0, 999, 1);
	end_part();
	memcpy(data, fake.bytes[0] + 10, 100);
	memcpy(data + 100, fake.bytes[6], 3001);
	data[3101] = fake.bytes[1][1000];
	data[3102] = fake.bytes[6][3000];
	data[3103] = fake.bytes[0][999];
	struct content c = file_of(3104);
	for (uint64_t at = 0; at <= c.size; at += at < 120 || at > 3080 ? 1 : 97) {
		struct reader *r = open_at(&c, at);
		expect(r, data + at, c.size - at, 50);
		reader_free(r);
	}
}

static void
test_chunks_and_switch(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	make_packs();
	struct content empty = {CONTENT_CHUNK, sha256_empty, 0};
	struct reader *r = open_at(&empty, 0);
	expect(r, NULL, 0, 10);
	assert_int_equal(fake.locate_calls, 0);
	for (size_t i = 0; i < fake.chunk_count; i++) {
		struct content c = {CONTENT_CHUNK, fake.rows[i].hash, fake.rows[i].length};
		uint64_t from = i % 2 == 0 ? 0 : c.size / 2;
		assert_int_equal(reader_switch(r, &c, from, &err), RC_OK);
		expect(r, fake.bytes[i] + from, c.size - from, 1000);
	}
	struct read_stats stats;
	read_service_stats(service, &stats);
	assert_int_equal(stats.frame_misses, 4); /* the large raw chunk is read by itself */
	assert_int_equal(stats.chunks_verified, fake.chunk_count);
	/* another size, an unknown chunk, an unknown kind, a file that is not there */
	struct content wrong = {CONTENT_CHUNK, fake.rows[3].hash, fake.rows[3].length - 1};
	size_t before;
	assert_int_equal(reader_switch(r, &wrong, 0, &err), RC_OK);
	assert_int_equal(read_fails(r, &before), RC_CORRUPT);
	wrong.id.b[0] ^= 1;
	assert_int_equal(reader_switch(r, &wrong, 0, &err), RC_OK);
	assert_int_equal(read_fails(r, &before), RC_CORRUPT);
	wrong.kind = 9;
	assert_int_equal(reader_switch(r, &wrong, 0, &err), RC_CORRUPT);
	err_clear(&err);
	wrong.kind = CONTENT_RECIPE;
	assert_int_equal(reader_switch(r, &wrong, 0, &err), RC_CORRUPT);
	expect(r, NULL, 0, 10);
	assert_int_equal(fake.marked, 0);
	reader_free(r);
}

/* Look-ups made ahead are used, in order, and harmless when they are not wanted or stale. */
static void
test_expect(void **state)
{
	struct err err = ERR_INIT;
	struct content c[CHUNKS_MAX];

	(void)state;
	make_packs();
	struct content empty = {CONTENT_CHUNK, sha256_empty, 0};
	struct reader *r = open_at(&empty, 0);
	for (size_t i = 0; i < fake.chunk_count; i++)
		c[i] = (struct content){CONTENT_CHUNK, fake.rows[i].hash, fake.rows[i].length};
	for (size_t step = 1; step <= 3; step++) {
		fake.locate_calls = 0;
		assert_int_equal(reader_expect(r, c, fake.chunk_count, &err), RC_OK);
		for (size_t i = 0; i < fake.chunk_count; i += step) {
			assert_int_equal(reader_switch(r, &c[i], 0, &err), RC_OK);
			expect(r, fake.bytes[i], c[i].size, 1000);
		}
		assert_int_equal(fake.locate_calls, 1);
	}
	/* out of order each costs a query again */
	assert_int_equal(reader_switch(r, &c[0], 0, &err), RC_OK);
	expect(r, fake.bytes[0], c[0].size, 1000);
	assert_int_equal(fake.locate_calls, 2);
	/* not there when it was looked up, but now */
	const struct chunk_row row = fake.rows[1];
	fake.rows[1].hash.b[0] ^= 1;
	assert_int_equal(reader_expect(r, c, fake.chunk_count, &err), RC_OK);
	fake.rows[1] = row;
	assert_int_equal(reader_switch(r, &c[1], 0, &err), RC_OK);
	expect(r, fake.bytes[1], c[1].size, 1000);
	fake.fail = RC_UNAVAILABLE;
	assert_int_equal(reader_expect(r, c, fake.chunk_count, &err), RC_UNAVAILABLE);
	fake.fail = RC_OK;
	err_clear(&err);
	assert_int_equal(reader_switch(r, &c[2], 0, &err), RC_OK);
	expect(r, fake.bytes[2], c[2].size, 1000);
	assert_int_equal(fake.marked, 0);
	reader_free(r);
}

static void
test_half_upload(void **state)
{
	struct err err = ERR_INIT;
	struct reader *r = NULL;
	uint8_t *data;

	(void)state;
	make_packs();
	struct content c = make_recipe(7, &data);
	fake.file_there = false;
	for (uint64_t size = c.size; size > 0; size -= size / 3 + 1) {
		assert_int_equal(reader_open_recipe(service, &repo, 5, size, &r, &err), RC_OK);
		expect(r, data, size, 5000);
		reader_free(r);
	}
	free(data);
}

/* A flipped bit anywhere in the second frame: what comes before is given, the chunk is marked. */
static void
test_rot(void **state)
{
	uint8_t *data;
	size_t before;

	(void)state;
	make_packs();
	struct content c = make_recipe(100, &data);
	const struct chunk_row row = fake.rows[5];
	size_t len;
	uint8_t *file = fixture_file(packs, row.pack_id, &len);
	uint64_t good = 0;
	for (size_t i = 0; i < 5; i++)
		good += fake.rows[i].length;
	good += fake.rows[0].length; /* it comes twice */
	for (uint64_t at = 0; at < row.frame_bytes - 16; at += at < 250 ? 7 : 301) {
		uint8_t flipped = file[row.frame_offset + at] ^ 0x10;
		fixture_poke(packs, row.pack_id, row.frame_offset + at, &flipped, 1);
		new_service(CACHE_BYTES);
		fake.marked = 0;
		fake.forgotten = 0;
		struct reader *r = open_at(&c, 0);
		assert_int_equal(read_fails(r, &before), RC_CORRUPT);
		assert_int_equal(before, good);
		assert_int_equal(fake.marked, 1);
		assert_int_equal(fake.forgotten, 1);
		assert_memory_equal(&fake.last_marked, &row, sizeof row);
		/* the failure stays until a seek, which finds what is behind the damage */
		assert_int_equal(read_fails(r, &before), RC_CORRUPT);
		assert_int_equal(fake.marked, 1);
		struct err err = ERR_INIT;
		assert_int_equal(reader_seek(r, good - 10, &err), RC_OK);
		assert_int_equal(read_fails(r, &before), RC_CORRUPT);
		assert_int_equal(before, 10);
		reader_free(r);
		fixture_poke(
			packs, row.pack_id, row.frame_offset + at, &file[row.frame_offset + at], 1);
	}
	struct read_stats stats;
	read_service_stats(service, &stats);
	assert_int_equal(stats.chunks_bad, 2);
	struct reader *r = open_at(&c, 0);
	expect(r, data, c.size, 10000);
	reader_free(r);
	free(file);
	free(data);
}

/* The pack is as it was written, but a chunk never was what its name says. */
static void
test_wrong_hash(void **state)
{
	size_t before;

	(void)state;
	for (int codec = CODEC_RAW; codec <= CODEC_ZSTD; codec++) {
		size_t first = fake.chunk_count;
		struct pack_writer *w = fixture_writer(packs);
		add_frame(w, (enum codec_id)codec, 3, 2000, true);
		fixture_seal(w);
		struct content c = {CONTENT_CHUNK, fake.rows[first].hash, 2000};
		struct reader *r = open_at(&c, 0);
		fake.marked = 0;
		assert_int_equal(read_fails(r, &before), RC_CORRUPT);
		assert_int_equal(before, 0);
		assert_int_equal(fake.marked, 1);
		reader_free(r);
		c = (struct content){CONTENT_CHUNK, fake.rows[first + 1].hash, 2001};
		r = open_at(&c, 0);
		expect(r, fake.bytes[first + 1], c.size, 600);
		reader_free(r);
		assert_int_equal(fake.marked, 1);
	}
}

/* Rows that point elsewhere than to their chunk. */
static void
test_wrong_rows(void **state)
{
	(void)state;
	make_packs();
	const struct chunk_row right = fake.rows[2];
	struct content c = {CONTENT_CHUNK, right.hash, right.length};
	struct chunk_row wrong[8];
	for (size_t i = 0; i < 8; i++)
		wrong[i] = right;
	wrong[0].raw_offset++;
	wrong[1].raw_offset = UINT64_MAX;
	wrong[2].frame_offset += 16;
	wrong[3].frame_bytes = UINT64_MAX;
	wrong[4].frame_bytes = 0;
	wrong[5].pack_id = 0x999;
	wrong[6].raw_offset = fake.rows[1].raw_offset;
	wrong[7].frame_offset = fake.rows[5].frame_offset;
	for (size_t i = 0; i < 8; i++) {
		size_t before;
		fake.rows[2] = wrong[i];
		fake.marked = 0;
		struct reader *r = open_at(&c, 0);
		assert_int_equal(read_fails(r, &before), RC_CORRUPT);
		assert_int_equal(fake.marked, 1);
		assert_memory_equal(&fake.last_marked, &wrong[i], sizeof right);
		reader_free(r);
	}
}

/* Compaction moved the chunk between look-up and read. */
static void
test_moved(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	make_packs();
	struct pack_writer *w = fixture_writer(packs);
	seed = 1;
	size_t first = fake.chunk_count;
	add_frame(w, CODEC_ZSTD, 5, 1000, false);
	fixture_seal(w);
	assert_true(sha256_equal(&fake.rows[first].hash, &fake.rows[0].hash));
	struct content c = {CONTENT_CHUNK, fake.rows[0].hash, fake.rows[0].length};
	fake.chunk_count = first; /* the copies are not seen, except by the second look-up */
	fake.moved = fake.rows[first];
	assert_int_equal(pack_remove(packs->dir, fake.rows[0].pack_id, &err), RC_OK);
	for (int hidden = 0; hidden < 2; hidden++) {
		fake.hide_moved = hidden == 1;
		fake.moved_asked = 0;
		new_service(CACHE_BYTES);
		struct reader *r = open_at(&c, 0);
		expect(r, fake.bytes[0], c.size, 300);
		reader_free(r);
	}
	assert_int_equal(fake.marked, 0);
	/* moved to a place that is gone too: that row is the bad one */
	assert_int_equal(pack_remove(packs->dir, fake.moved.pack_id, &err), RC_OK);
	pack_readers_forget(packs->readers, fake.moved.pack_id);
	fake.hide_moved = false;
	fake.moved_asked = 0;
	new_service(CACHE_BYTES);
	struct reader *r = open_at(&c, 0);
	size_t before;
	assert_int_equal(read_fails(r, &before), RC_CORRUPT);
	assert_int_equal(fake.marked, 1);
	assert_int_equal(fake.last_marked.pack_id, fake.moved.pack_id);
	reader_free(r);
	fake.chunk_count = first + 5;
}

static void
test_broken_recipes(void **state)
{
	struct err err = ERR_INIT;
	size_t before;

	(void)state;
	make_packs();
	for (int i = 0; i < 9; i++) {
		uint64_t size = 2001;
		fake.part_count = 0;
		begin_part(i == 0 ? 5 : 0, i == 1);
		if (i != 7)
			add_slice(0, i == 1 ? 1 : 0, i == 2 ? 1001 : 1000);
		end_part();
		if (i == 3)
			fake.part_bytes[0].data[0] = 9; /* version */
		if (i == 4)
			fake.parts[0].entries_bytes--;
		if (i == 5)
			size = 1500;    /* the second slice goes beyond */
		if (i != 6 && i != 7) { /* 6: the second part is missing, 7: the first is empty */
			begin_part(i == 8 ? 999 : 1000, false); /* 8: they overlap */
			add_slice(1, 0, 1001);
			end_part();
		}
		struct content c = file_of(size);
		struct reader *r = open_at(&c, 0);
		assert_int_equal(read_fails(r, &before), RC_CORRUPT);
		assert_true(before <= 1000);
		reader_free(r);
		for (size_t k = 0; k < fake.part_count; k++)
			buf_done(&fake.part_bytes[k]);
	}
	fake.part_count = 0;
	struct content c = file_of(100);
	fake.file.size = 101;
	struct reader *r = NULL;
	assert_int_equal(reader_open(service, &repo, &c, 0, &r, &err), RC_CORRUPT);
	assert_null(r);
	err_clear(&err);
	fake.file_there = false;
	assert_int_equal(reader_open(service, &repo, &c, 0, &r, &err), RC_CORRUPT);
	assert_int_equal(fake.marked, 0);
}

static void
test_database_away(void **state)
{
	size_t before;
	uint8_t *data;

	(void)state;
	make_packs();
	struct content c = make_recipe(7, &data);
	struct reader *r = open_at(&c, 0);
	fake.fail = RC_UNAVAILABLE;
	assert_int_equal(read_fails(r, &before), RC_UNAVAILABLE);
	fake.fail = RC_OK;
	struct err err = ERR_INIT;
	assert_int_equal(reader_seek(r, 0, &err), RC_OK);
	expect(r, data, c.size, 999);
	assert_int_equal(fake.marked, 0);
	reader_free(r);
	free(data);
}

/* A small range asks for few places, a long read for many at once; the second reader finds the
 * frames and the marks of the first. */
static void
test_batches_and_cache(void **state)
{
	struct err err = ERR_INIT;
	struct read_stats first;
	struct read_stats second;
	uint8_t *data;
	uint8_t piece[10];
	size_t got;

	(void)state;
	make_packs();
	struct content c = make_recipe(100, &data);
	struct reader *r = open_at(&c, 0);
	assert_int_equal(reader_read(r, piece, 10, &got, &err), RC_OK);
	read_service_stats(service, &first);
	assert_true(fake.located <= 8);
	assert_true(first.chunks_verified <= 2);
	expect(r, data + 10, c.size - 10, 4096);
	reader_free(r);
	assert_true(fake.locate_calls <= 4);
	read_service_stats(service, &first);
	assert_int_equal(first.frame_misses, 4);
	assert_int_equal(first.chunks_verified, fake.chunk_count);
	assert_int_equal(first.chunks_proven, 1); /* the large raw chunk comes twice */
	assert_true(first.frame_bytes > 0 && first.frame_bytes <= first.frame_max_bytes);
	assert_true(first.layout_bytes > 0 && first.layout_bytes <= first.layout_max_bytes);
	r = open_at(&c, 0);
	expect(r, data, c.size, 4096);
	reader_free(r);
	read_service_stats(service, &second);
	assert_int_equal(second.frame_misses, 4);
	/* only the large raw chunk is read again, and checked by what is remembered of it */
	assert_int_equal(second.bytes_read, first.bytes_read + 2 * 70000);
	assert_int_equal(second.chunks_verified, first.chunks_verified);
	assert_int_equal(second.chunks_proven, 3);
	assert_true(second.frame_hits >= 4);
	assert_true(fake.locate_calls <= 4);
	/* without a cache all is the same but slower */
	new_service(0);
	r = open_at(&c, 0);
	expect(r, data, c.size, 4096);
	read_service_stats(service, &second);
	assert_int_equal(second.frame_bytes, 0);
	assert_int_equal(second.layout_bytes, 0);
	reader_free(r);
	free(data);
}

/* Large chunks of raw frames, some of them next to each other, some partly wanted. */
static struct content
make_raw_file(uint8_t **data)
{
	struct pack_writer *w = fixture_writer(packs);

	add_frame(w, CODEC_RAW, 4, 20000, false);
	add_frame(w, CODEC_RAW, 3, 30000, false);
	add_frame(w, CODEC_ZSTD, 2, 25000, false);
	fixture_seal(w);
	return make_recipe(6, data);
}

static void
test_direct(void **state)
{
	struct err err = ERR_INIT;
	struct read_stats stats;
	uint8_t *data;
	size_t got;

	(void)state;
	struct content c = make_raw_file(&data);
	for (size_t step = 1000; step < 400000; step = step * 3 + 1) {
		struct reader *r = open_at(&c, 0);
		expect(r, data, c.size, step);
		reader_free(r);
	}
	read_service_stats(service, &stats);
	assert_int_equal(stats.frame_misses, 1);
	assert_int_equal(stats.chunks_verified, 9);
	assert_true(stats.bytes_direct > 400000 && stats.chunks_proven > 7 * 3);
	/* ranges that begin and end inside of chunks */
	uint8_t *piece = malloc(100000);
	struct reader *r = open_at(&c, 0);
	for (uint64_t at = 1; at < c.size; at += 7777) {
		size_t want = c.size - at < 90000 ? (size_t)(c.size - at) : 90000;
		assert_int_equal(reader_seek(r, at, &err), RC_OK);
		assert_int_equal(reader_read(r, piece, want, &got, &err), RC_OK);
		assert_int_equal(got, want);
		assert_memory_equal(piece, data + at, want);
	}
	reader_free(r);
	free(piece);
	free(data);
}

/* A bit flips in a raw chunk that was read and found right before. */
static void
test_rot_after_proof(void **state)
{
	struct err err = ERR_INIT;
	uint8_t *data;
	size_t before;

	(void)state;
	struct content c = make_raw_file(&data);
	struct reader *r = open_at(&c, 0);
	expect(r, data, c.size, 1 << 20);
	const struct chunk_row row = fake.rows[2];
	uint64_t at = row.frame_offset + row.frame_bytes - 16 - 20003 - 5000;
	size_t len;
	uint8_t *file = fixture_file(packs, row.pack_id, &len);
	uint8_t flipped = file[at] ^ 1;
	fixture_poke(packs, row.pack_id, at, &flipped, 1);
	uint64_t good = fake.rows[0].length + fake.rows[1].length;
	/* read by itself, with its neighbours, and from the middle */
	static const uint64_t froms[] = {0, 20000, 45000};
	for (size_t i = 0; i < 3; i++) {
		fake.marked = 0;
		assert_int_equal(reader_seek(r, froms[i], &err), RC_OK);
		assert_int_equal(read_fails(r, &before), RC_CORRUPT);
		assert_int_equal(before, froms[i] < good ? good - froms[i] : 0);
		assert_int_equal(fake.marked, 1);
		assert_memory_equal(&fake.last_marked, &row, sizeof row);
	}
	fixture_poke(packs, row.pack_id, at, &file[at], 1);
	assert_int_equal(reader_seek(r, 0, &err), RC_OK);
	expect(r, data, c.size, 1 << 20);
	reader_free(r);
	free(file);
	free(data);
}

/* A reader that must not wait gives all that is at hand, and else says so and nothing. */
static void
test_no_wait(void **state)
{
	struct err err = ERR_INIT;
	struct reader *r = NULL;
	uint8_t *data;
	uint8_t *piece = malloc(400000);
	size_t got = 0;

	(void)state;
	struct content c = make_raw_file(&data);
	assert_int_equal(reader_open_now(service, &repo, &c, 0, &r, &err), RC_AGAIN);
	assert_null(r);
	err_clear(&err);
	r = open_at(&c, 0);
	expect(r, data, c.size, 1 << 20);
	reader_free(r);
	int calls = fake.locate_calls;
	fake.fail = RC_UNAVAILABLE; /* the database is not asked */
	for (uint64_t at = 0; at < c.size; at += 10000) {
		assert_int_equal(reader_open_now(service, &repo, &c, at, &r, &err), RC_OK);
		assert_int_equal(reader_read(r, piece, 400000, &got, &err), RC_OK);
		assert_int_equal(got, c.size - at);
		assert_memory_equal(piece, data + at, got);
		reader_free(r);
	}
	assert_int_equal(fake.locate_calls, calls);
	/* the pack's file is not open: opening may wait */
	pack_readers_forget(packs->readers, fake.rows[0].pack_id);
	assert_int_equal(reader_open_now(service, &repo, &c, 0, &r, &err), RC_OK);
	assert_int_equal(reader_read(r, piece, 10, &got, &err), RC_AGAIN);
	assert_int_equal(got, 0);
	assert_int_equal(fake.marked, 0);
	reader_free(r);
	free(piece);
	free(data);
}

/* Places that were remembered are out of date: a pack was rewritten, all of it. */
static void
test_all_moved(void **state)
{
	struct err err = ERR_INIT;
	uint8_t *data;

	(void)state;
	struct pack_writer *w = fixture_writer(packs);
	add_frame(w, CODEC_RAW, 6, 20000, false);
	fixture_seal(w);
	struct content c = make_recipe(100, &data);
	struct reader *r = open_at(&c, 0);
	expect(r, data, c.size, 50000);
	reader_free(r);
	uint64_t old = fake.rows[0].pack_id;
	size_t first = fake.chunk_count;
	w = fixture_writer(packs);
	seed = 1;
	add_frame(w, CODEC_ZSTD, 6, 20000, false);
	fixture_seal(w);
	for (size_t i = 0; i < 6; i++) {
		assert_true(sha256_equal(&fake.rows[i].hash, &fake.rows[first + i].hash));
		fake.rows[i] = fake.rows[first + i];
		free(fake.bytes[first + i]);
	}
	fake.chunk_count = first;
	assert_int_equal(pack_remove(packs->dir, old, &err), RC_OK);
	pack_readers_forget(packs->readers, old);
	for (int i = 0; i < 2; i++) {
		r = open_at(&c, 0);
		expect(r, data, c.size, 50000);
		reader_free(r);
	}
	assert_int_equal(fake.marked, 0);
	free(data);
}

struct thread_job {
	struct content c;
	const uint8_t *data;
	pthread_t thread;
};

static void *
read_in_thread(void *arg)
{
	struct thread_job *job = arg;
	struct err err = ERR_INIT;
	struct reader *r = NULL;
	uint8_t piece[3000];
	size_t got = 0;
	bool good = true;

	for (uint64_t from = 0; good && from < job->c.size; from += job->c.size / 5) {
		uint64_t at = from;
		good = reader_open(service, &repo, &job->c, from, &r, &err) == RC_OK;
		do {
			good = good && reader_read(r, piece, sizeof piece, &got, &err) == RC_OK &&
			       memcmp(piece, job->data + at, got) == 0;
			at += got;
		} while (good && got > 0);
		good = good && at == job->c.size;
		reader_free(r);
	}
	return good ? job : NULL;
}

static void
test_threads(void **state)
{
	struct thread_job jobs[4];
	uint8_t *data;
	void *result;

	(void)state;
	make_packs();
	struct content c = make_recipe(7, &data);
	new_service((size_t)100 << 10); /* not all frames fit */
	for (size_t i = 0; i < 4; i++) {
		jobs[i] = (struct thread_job){.c = c, .data = data};
		assert_int_equal(
			pthread_create(&jobs[i].thread, NULL, read_in_thread, &jobs[i]), 0);
	}
	for (size_t i = 0; i < 4; i++) {
		pthread_join(jobs[i].thread, &result);
		assert_non_null(result);
	}
	free(data);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_whole),
		T(test_ranges),
		T(test_slices),
		T(test_chunks_and_switch),
		T(test_expect),
		T(test_half_upload),
		T(test_rot),
		T(test_wrong_hash),
		T(test_wrong_rows),
		T(test_moved),
		T(test_broken_recipes),
		T(test_database_away),
		T(test_batches_and_cache),
		T(test_direct),
		T(test_rot_after_proof),
		T(test_no_wait),
		T(test_all_moved),
		T(test_threads),
	};

	return cmocka_run_group_tests_name("reader", tests, setup_packs, teardown_packs);
}
