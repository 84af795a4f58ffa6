/* SPDX-License-Identifier: Apache-2.0 */
/* Writer and reader together: what was appended is what is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "clock.h"
#include "pack_fixture.h"

#define SOME_FRAMES 12

/* Frames of many shapes; together more than one buffer. */
static void
make_some(struct test_frame *frames)
{
	static const struct {
		enum codec_id codec;
		uint32_t chunk_count;
		uint32_t chunk_bytes;
	} shapes[SOME_FRAMES] = {
		{CODEC_RAW, 1, 1},
		{CODEC_ZSTD, 1, 1},
		{CODEC_RAW, 4, 65536},
		{CODEC_ZSTD, 5, 70001},
		{CODEC_RAW, 3000, 17},
		{CODEC_ZSTD, 2000, 333},
		{CODEC_RAW, 1, 4096},
		{CODEC_RAW, 1, 4008},
		{CODEC_RAW, 1, 262144},
		{CODEC_RAW, 2, 1300000},
		{CODEC_ZSTD, 7, 9},
		{CODEC_RAW, 16, 16},
	};

	for (uint32_t i = 0; i < SOME_FRAMES; i++)
		test_frame_make(&frames[i], i + 1, shapes[i].codec, shapes[i].chunk_count,
			shapes[i].chunk_bytes);
}

static void
free_some(struct test_frame *frames)
{
	for (uint32_t i = 0; i < SOME_FRAMES; i++)
		test_frame_free(&frames[i]);
}

static void
check_footer(struct fixture *f, uint64_t pack_id, const struct test_frame *frames)
{
	struct err err = ERR_INIT;
	struct pack_index index;
	struct pack_footer_frame entry;
	struct pack_chunk c;
	uint64_t chunk = 0;

	assert_int_equal(pack_read_footer(f->readers, pack_id, &index, &err), RC_OK);
	assert_int_equal(index.pack_id, pack_id);
	assert_memory_equal(index.repo_uuid, fixture_uuid, PACK_UUID_BYTES);
	assert_int_equal(index.frame_count, SOME_FRAMES);
	for (uint32_t i = 0; i < index.frame_count; i++) {
		const struct pack_frame *frame = &frames[i].frame;
		pack_index_frame(&index, i, &entry);
		assert_int_equal(entry.offset, frames[i].place.offset);
		assert_int_equal(entry.raw_bytes, frame->raw_bytes);
		assert_int_equal(entry.stored_bytes, frame->stored_bytes);
		assert_int_equal(entry.codec, frame->codec);
		assert_int_equal(entry.chunk_count, frame->chunk_count);
		for (uint32_t k = 0; k < entry.chunk_count; k++) {
			pack_index_chunk(&index, chunk++, &c);
			assert_memory_equal(&c.hash, &frame->chunks[k].hash, sizeof c.hash);
			assert_int_equal(c.length, frame->chunks[k].length);
		}
	}
	assert_int_equal(chunk, index.chunk_count);
	pack_index_done(&index);
}

static void
test_round_trip(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame frames[SOME_FRAMES];
	struct pack_header header;
	struct stat st;
	char path[300];

	make_some(frames);
	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	assert_int_equal(pack_writer_bytes(w), PACK_BLOCK_BYTES);
	for (uint32_t i = 0; i < SOME_FRAMES; i++) {
		test_frame_append(&frames[i], w);
		assert_int_equal(pack_writer_frames(w), i + 1);
		assert_int_equal(
			pack_writer_bytes(w), frames[i].place.offset + frames[i].place.bytes);
	}
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	for (uint32_t i = 0; i < SOME_FRAMES; i++)
		test_frame_check(&frames[i], f->readers);
	assert_int_equal(pack_writer_seal(w, &err), RC_OK);
	fixture_path(f, id, path, sizeof path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, pack_writer_bytes(w));
	assert_int_equal(st.st_mode & 07777, 0440);
	pack_writer_free(w);

	for (uint32_t i = 0; i < SOME_FRAMES; i++)
		test_frame_check(&frames[i], f->readers);
	check_footer(f, id, frames);
	assert_int_equal(pack_read_header(f->readers, id, &header, &err), RC_OK);
	assert_memory_equal(header.repo_uuid, fixture_uuid, PACK_UUID_BYTES);
	assert_in_range(header.created_us, clock_wall_us() - 60000000, clock_wall_us());
	free_some(frames);
}

/* The bytes of the file that holds frames, written with these options; *len of them. */
static uint8_t *
write_some(struct fixture *f, const struct pack_writer_options *options, struct test_frame *frames,
	size_t *len)
{
	struct err err = ERR_INIT;
	struct pack_writer *w = NULL;

	assert_int_equal(pack_writer_open(f->dir, 0x5151, fixture_uuid, options, &w, &err), RC_OK);
	if (!options->direct)
		assert_false(pack_writer_is_direct(w));
	for (uint32_t i = 0; i < SOME_FRAMES; i++) {
		test_frame_append(&frames[i], w);
		if (i % 3 == 1)
			assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	}
	assert_int_equal(pack_writer_seal(w, &err), RC_OK);
	pack_writer_free(w);
	uint8_t *data = fixture_file(f, 0x5151, len);
	/* never done but here: the next writer takes the same id, to write the same bytes */
	assert_int_equal(pack_remove(f->dir, 0x5151, &err), RC_OK);
	/* the time, and with it the checksum of the header, may differ */
	memset(data + 40, 0, 8);
	memset(data + 4088, 0, 8);
	return data;
}

/* Byte for byte the same file, whatever the buffer and the way to the disk. */
static void
test_direct_and_buffered_agree(void **state)
{
	static const struct pack_writer_options ways[] = {
		{8u << 20, 1u << 20, true},
		{8u << 20, 1u << 20, false},
		{8u << 20, 4096, true},
		{8u << 20, 5000, false},
		{64u << 20, 16u << 20, true},
	};
	struct test_frame frames[SOME_FRAMES];
	size_t len = 0, first_len = 0;

	make_some(frames);
	uint8_t *first = write_some(*state, &ways[0], frames, &first_len);
	for (size_t way = 1; way < sizeof ways / sizeof ways[0]; way++) {
		uint8_t *data = write_some(*state, &ways[way], frames, &len);
		assert_int_equal(len, first_len);
		assert_memory_equal(data, first, len);
		free(data);
	}
	free(first);
	free_some(frames);
}

/* A flush ends a block; nothing handed over before is written again. */
static void
test_flush_pads(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame a, b;
	size_t before_len = 0, after_len = 0;

	test_frame_make(&a, 1, CODEC_RAW, 1, 100);
	test_frame_make(&b, 2, CODEC_RAW, 1, 5000);
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	assert_int_equal(a.place.offset, 4096);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	assert_int_equal(pack_writer_bytes(w), 8192);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	assert_int_equal(pack_writer_bytes(w), 8192);
	assert_int_equal(pack_writer_sync(w, &err), RC_OK);
	uint8_t *before = fixture_file(f, pack_writer_id(w), &before_len);
	for (size_t i = a.place.offset + a.place.bytes; i < 8192; i++)
		assert_int_equal(before[i], 0);
	test_frame_append(&b, w);
	assert_int_equal(b.place.offset, 8192);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	uint8_t *after = fixture_file(f, pack_writer_id(w), &after_len);
	assert_memory_equal(before, after, 8192);
	test_frame_check(&a, f->readers);
	test_frame_check(&b, f->readers);
	fixture_seal(w);
	free(before);
	free(after);
	test_frame_free(&a);
	test_frame_free(&b);
}

static void
test_exists(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct pack_writer_options options = PACK_WRITER_OPTIONS_INIT;
	struct pack_writer *second = NULL;
	struct test_frame a;

	test_frame_make(&a, 1, CODEC_RAW, 1, 100);
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	for (int i = 0; i < 2; i++) {
		err_clear(&err);
		assert_int_equal(
			pack_writer_open(f->dir, f->last_id, fixture_uuid, &options, &second, &err),
			RC_EXISTS);
		assert_null(second);
		test_frame_check(&a, f->readers);
		if (i == 0)
			fixture_seal(w);
	}
	test_frame_free(&a);
}

static void
test_room(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct pack_writer_options options = PACK_WRITER_OPTIONS_INIT;
	struct pack_writer *w = NULL;
	struct test_frame full, over, last;
	uint64_t offset = 0, bytes = 0;

	/* 4096 of header, 4096 of frames, and a bit that does not count */
	options.bytes_max = 8192 + 1000;
	test_frame_make(&full, 1, CODEC_RAW, 1, 4096 - 88);
	test_frame_make(&over, 2, CODEC_RAW, 1, 4096 - 88 + 1);
	test_frame_make(&last, 3, CODEC_RAW, 1, 1);
	assert_int_equal(
		pack_writer_open(f->dir, ++f->last_id, fixture_uuid, &options, &w, &err), RC_OK);
	assert_true(pack_writer_has_room(w, 4096));
	assert_false(pack_writer_has_room(w, 4097));
	assert_false(pack_writer_has_room(w, UINT64_MAX));
	assert_int_equal(pack_writer_append(w, &over.frame, &offset, &bytes, &err), RC_TOO_LARGE);
	err_clear(&err);
	test_frame_append(&full, w);
	assert_false(pack_writer_has_room(w, 1));
	assert_true(pack_writer_has_room(w, 0));
	assert_int_equal(pack_writer_append(w, &last.frame, &offset, &bytes, &err), RC_TOO_LARGE);
	fixture_seal(w);
	test_frame_check(&full, f->readers);
	test_frame_free(&full);
	test_frame_free(&over);
	test_frame_free(&last);
}

static void
check_options_refused(struct fixture *f, uint64_t bytes_max, uint32_t buffer_bytes)
{
	struct err err = ERR_INIT;
	struct pack_writer_options options = {bytes_max, buffer_bytes, true};
	struct pack_writer *w = NULL;

	assert_int_equal(
		pack_writer_open(f->dir, 0xdead, fixture_uuid, &options, &w, &err), RC_INVALID);
	assert_null(w);
}

static void
test_limits(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame t, most;
	uint64_t offset = 0, bytes = 0;

	check_options_refused(f, 8191, 1u << 20);
	check_options_refused(f, PACK_BYTES_MAX + 1, 1u << 20);
	check_options_refused(f, 1u << 20, 4095);
	check_options_refused(f, 1u << 20, UINT32_MAX);

	test_frame_make(&t, 1, CODEC_RAW, 4, 100);
	test_frame_make(&most, 2, CODEC_ZSTD, PACK_FRAME_CHUNKS_MAX, 64);
	struct pack_frame bad[9];
	for (size_t i = 0; i < 9; i++)
		bad[i] = t.frame;
	bad[0].chunk_count = 0;
	bad[1].chunk_count = 3;
	bad[2].raw_bytes++;
	bad[3].stored_bytes++;
	bad[4].stored_count = 2;
	bad[5].codec = (enum codec_id)2;
	bad[6].raw_bytes = UINT64_MAX;
	bad[7] = most.frame;
	bad[7].chunk_count++;
	bad[8].stored_bytes = PACK_FRAME_STORED_BYTES_MAX + 1;
	struct pack_writer *w = fixture_writer(f);
	for (size_t i = 0; i < 9; i++) {
		err_clear(&err);
		assert_int_equal(pack_writer_append(w, &bad[i], &offset, &bytes, &err), RC_INVALID);
	}
	t.chunks[2].length = 0;
	t.chunks[1].length = 200;
	err_clear(&err);
	assert_int_equal(pack_writer_append(w, &t.frame, &offset, &bytes, &err), RC_INVALID);
	assert_int_equal(pack_writer_frames(w), 0);
	/* the largest numbers that are allowed; the writer is as good as new */
	test_frame_append(&most, w);
	fixture_seal(w);
	test_frame_check(&most, f->readers);
	test_frame_free(&most);
	test_frame_free(&t);
}

static void
test_largest_frame(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct pack_writer_options options = PACK_WRITER_OPTIONS_INIT;
	struct pack_writer *w = NULL;
	struct test_frame t, over;
	uint64_t offset = 0, bytes = 0;

	options.bytes_max = 20u << 20;
	test_frame_make(&t, 1, CODEC_RAW, 1, PACK_FRAME_RAW_BYTES_MAX);
	test_frame_make(&over, 1, CODEC_RAW, 1, PACK_FRAME_RAW_BYTES_MAX + 1);
	assert_int_equal(
		pack_writer_open(f->dir, ++f->last_id, fixture_uuid, &options, &w, &err), RC_OK);
	assert_int_equal(pack_writer_append(w, &over.frame, &offset, &bytes, &err), RC_INVALID);
	test_frame_append(&t, w);
	fixture_seal(w);
	test_frame_check(&t, f->readers);
	test_frame_free(&t);
	test_frame_free(&over);
}

static void
test_states(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame a, b;
	struct stat st;
	char path[300];

	test_frame_make(&a, 1, CODEC_RAW, 1, 100);
	test_frame_make(&b, 2, CODEC_RAW, 1, 100);

	/* sealed: durable, so a sync is content; everything else is too late */
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	assert_int_equal(pack_writer_seal(w, &err), RC_OK);
	assert_int_equal(pack_writer_sync(w, &err), RC_OK);
	assert_int_equal(pack_writer_append(w, &b.frame, &b.place.offset, &b.place.bytes, &err),
		RC_CONFLICT);
	err_clear(&err);
	assert_int_equal(pack_writer_flush(w, &err), RC_CONFLICT);
	err_clear(&err);
	assert_int_equal(pack_writer_seal(w, &err), RC_CONFLICT);
	pack_writer_abandon(w);
	pack_writer_free(w);
	test_frame_check(&a, f->readers);

	/* abandoned: what was flushed stays, the rest and the spare space are gone */
	err_clear(&err);
	w = fixture_writer(f);
	test_frame_append(&a, w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	test_frame_append(&b, w);
	pack_writer_abandon(w);
	assert_int_equal(pack_writer_sync(w, &err), RC_CONFLICT);
	err_clear(&err);
	assert_int_equal(pack_writer_seal(w, &err), RC_CONFLICT);
	fixture_path(f, pack_writer_id(w), path, sizeof path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 8192);
	pack_writer_free(w);
	test_frame_check(&a, f->readers);
	test_frame_check_fails(&b, f->readers, RC_CORRUPT);
	pack_writer_free(NULL);
	test_frame_free(&a);
	test_frame_free(&b);
}

static void
test_empty_pack(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct pack_index index;

	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	assert_int_equal(pack_writer_seal(w, &err), RC_OK);
	assert_int_equal(pack_writer_bytes(w), 4096 + 64 + 64);
	pack_writer_free(w);
	assert_int_equal(pack_read_footer(f->readers, id, &index, &err), RC_OK);
	assert_int_equal(index.frame_count, 0);
	assert_int_equal(index.chunk_count, 0);
	pack_index_done(&index);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_direct_and_buffered_agree),
		cmocka_unit_test(test_flush_pads),
		cmocka_unit_test(test_exists),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_largest_frame),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_empty_pack),
	};
	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
