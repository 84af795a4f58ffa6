/* SPDX-License-Identifier: Apache-2.0 */
/* What a scan finds in packs that were torn, rotten, or made to deceive it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "buf.h"
#include "pack_fixture.h"

static void
test_sealed(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame a, b, c;
	struct pack_scan_stats stats;

	test_frame_make(&a, 1, CODEC_RAW, 3, 100);
	test_frame_make(&b, 2, CODEC_ZSTD, 10, 70000);
	test_frame_make(&c, 3, CODEC_RAW, 2, 1200000);
	const struct test_frame *const all[] = {&a, &b, &c, NULL};
	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	test_frame_append(&a, w);
	test_frame_append(&b, w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	test_frame_append(&c, w);
	fixture_seal(w);
	fixture_scan(f, id, all, &stats);
	assert_true(stats.header_ok);
	assert_memory_equal(stats.header.repo_uuid, fixture_uuid, PACK_UUID_BYTES);
	assert_int_equal(stats.header.pack_id, id);
	assert_int_equal(stats.chunks, 15);
	assert_int_equal(stats.raw_bytes, 300 + 700000 + 2400000);
	assert_int_equal(stats.footer_bytes, 64 + 3 * 32 + 15 * 40 + 64);
	assert_int_equal(stats.damaged_bytes + stats.torn_bytes + stats.unwritten_bytes, 0);
	assert_int_equal(pack_scan(f->dir, id, NULL, NULL, &stats, &err), RC_OK);
	assert_int_equal(stats.frames, 3);
	assert_int_equal(pack_scan(f->dir, 0x7777, NULL, NULL, &stats, &err), RC_NOT_FOUND);
	test_frame_free(&a);
	test_frame_free(&b);
	test_frame_free(&c);
}

static enum rc
stop(void *arg, const struct pack_frame_view *frame, struct err *err)
{
	(void)frame;
	return --*(int *)arg > 0 ? RC_OK : err_set(err, RC_CONFLICT, NULL, "enough");
}

/* A pack of a process that died: allocated, in part written, no footer. */
static void
test_unsealed(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame a, b;
	struct pack_scan_stats stats;
	int calls = 1;

	test_frame_make(&a, 1, CODEC_RAW, 3, 100);
	test_frame_make(&b, 2, CODEC_RAW, 3, 3000);
	const struct test_frame *const none[] = {NULL}, *const both[] = {&a, &b, NULL};
	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	fixture_scan(f, id, none, &stats);
	assert_false(stats.header_ok);
	assert_int_equal(stats.torn_bytes + stats.damaged_bytes, 0);
	test_frame_append(&a, w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	test_frame_append(&b, w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	fixture_scan(f, id, both, &stats);
	assert_true(stats.header_ok);
	assert_int_equal(stats.torn_bytes + stats.damaged_bytes + stats.footer_bytes, 0);
	assert_int_equal(
		stats.padding_bytes, 2 * 4096 - a.place.bytes % 4096 - b.place.bytes % 4096);
	assert_int_equal(pack_scan(f->dir, id, stop, &calls, &stats, &err), RC_CONFLICT);
	assert_int_equal(calls, 0);
	pack_writer_free(w);
	test_frame_free(&a);
	test_frame_free(&b);
}

/* Cut after every single byte: exactly the frames that are whole are found. */
static void
test_every_cut(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame t[4];
	const struct test_frame *whole[5] = {&t[0], &t[1], &t[2], &t[3], NULL};
	struct pack_scan_stats stats;
	size_t len = 0, count = 4;

	test_frame_make(&t[0], 1, CODEC_RAW, 1, 1);
	test_frame_make(&t[1], 2, CODEC_RAW, 3, 61);
	test_frame_make(&t[2], 3, CODEC_ZSTD, 4, 99);
	test_frame_make(&t[3], 4, CODEC_RAW, 2, 150);
	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	test_frame_append(&t[0], w);
	test_frame_append(&t[1], w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	test_frame_append(&t[2], w);
	test_frame_append(&t[3], w);
	fixture_seal(w);
	free(fixture_file(f, id, &len));
	do {
		while (count > 0 && len < t[count - 1].place.offset + t[count - 1].place.bytes)
			whole[--count] = NULL;
		fixture_truncate(f, id, len);
		fixture_scan(f, id, whole, &stats);
		assert_int_equal(stats.header_ok, len >= 4096);
		assert_int_equal(stats.damaged_bytes, 0);
		uint64_t right_end =
			count == 0 ? 4096 : t[count - 1].place.offset + t[count - 1].place.bytes;
		/* what is left of the next one is torn, unless it is the padding of this one */
		if (count < 4 && len > t[count].place.offset)
			assert_int_equal(stats.torn_bytes, len - t[count].place.offset);
		else if (len > right_end && len <= 12288)
			assert_int_equal(stats.torn_bytes, 0);
		/* without a whole header there is nothing to find */
		len -= len > 4096 || len < 100 ? 1 : 100;
	} while (len > 0);
	for (size_t i = 0; i < 4; i++)
		test_frame_free(&t[i]);
}

/* Whichever byte is wrong, only the frame that holds it is lost. */
static void
test_every_flip(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame t[3];
	struct pack_scan_stats stats;
	size_t len = 0;

	test_frame_make(&t[0], 1, CODEC_RAW, 2, 61);
	test_frame_make(&t[1], 2, CODEC_ZSTD, 3, 99);
	test_frame_make(&t[2], 3, CODEC_RAW, 1, 50);
	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	test_frame_append(&t[0], w);
	test_frame_append(&t[1], w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	test_frame_append(&t[2], w);
	fixture_seal(w);
	uint8_t *data = fixture_file(f, id, &len);
	for (size_t at = 4096; at < len; at++) {
		const struct test_frame *left[4] = {NULL};
		size_t count = 0;
		bool padding = false;
		for (size_t i = 0; i < 3; i++) {
			const struct pack_frame *frame = &t[i].frame;
			uint64_t end = t[i].place.offset + t[i].place.bytes;
			uint64_t data_end = t[i].place.offset + 48 + 40 * frame->chunk_count +
					    frame->stored_bytes;
			padding = padding || (at >= data_end && at < end);
			if (at < t[i].place.offset || at >= data_end)
				left[count++] = &t[i];
		}
		bool in_frames = (at < 8192 && data[at] != 0) || count < 3 || at >= 12288;
		if (!in_frames && at % 13 != 0)
			continue;
		uint8_t flipped = data[at] ^ (uint8_t)(0x80 >> at % 8);
		fixture_poke(f, id, at, &flipped, 1);
		fixture_scan(f, id, left, &stats);
		/* zeros behind a payload are the only bytes that mean nothing */
		assert_int_equal(stats.damaged_bytes + stats.torn_bytes > 0, !padding);
		if (at < 12288 && !padding)
			assert_int_equal(stats.damaged_places, 1);
		fixture_poke(f, id, at, &data[at], 1);
	}
	free(data);
	for (size_t i = 0; i < 3; i++)
		test_frame_free(&t[i]);
}

/* Blocks lost in the middle, as zeros, noise or nothing readable. */
static void
test_lost_blocks(void **state)
{
	struct fixture *f = *state;
	struct test_frame t[40];
	const struct test_frame *left[41];
	struct pack_scan_stats stats;
	size_t count = 0, len = 0;
	const uint64_t from = 8192, to = 20480;

	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	for (uint32_t i = 0; i < 40; i++) {
		test_frame_make(&t[i], i + 1, CODEC_RAW, 2, 500);
		test_frame_append(&t[i], w);
		if (t[i].place.offset + t[i].place.bytes <= from || t[i].place.offset >= to)
			left[count++] = &t[i];
	}
	left[count] = NULL;
	fixture_seal(w);
	assert_in_range(count, 20, 39);
	free(fixture_file(f, id, &len));
	uint8_t *bad = calloc(1, to - from);
	assert_non_null(bad);
	for (int noise = 0; noise < 2; noise++) {
		memset(bad, noise ? 0xd6 : 0, to - from);
		fixture_poke(f, id, from, bad, to - from);
		fixture_scan(f, id, left, &stats);
		assert_int_equal(stats.damaged_places, 1);
		assert_int_equal(stats.damaged_bytes, stats.file_bytes - 4096 - stats.frame_bytes -
							      stats.footer_bytes -
							      stats.padding_bytes);
		assert_true(stats.footer_bytes > 0);
	}
	free(bad);
	for (uint32_t i = 0; i < 40; i++)
		test_frame_free(&t[i]);
}

/* Somebody stores pack files as data. Whole, they are data; and where the header of the frame
 * around them is damaged, frames of another pack or place are still none of ours. */
static void
test_packs_in_packs(void **state)
{
	struct fixture *f = *state;
	struct test_frame inner[3], outer, after;
	struct pack_scan_stats stats;
	size_t len = 0;

	struct pack_writer *w = fixture_writer(f);
	for (uint32_t i = 0; i < 3; i++) {
		test_frame_make(&inner[i], i + 1, CODEC_RAW, 2, 700);
		test_frame_append(&inner[i], w);
	}
	fixture_seal(w);
	uint8_t *data = fixture_file(f, inner[0].place.pack_id, &len);

	/* 48 + 40 + 8: the copy begins at a multiple of 16 */
	test_frame_make(&outer, 9, CODEC_RAW, 1, 8 + (uint32_t)len);
	memcpy(outer.payload + 8, data, len);
	test_frame_make(&after, 10, CODEC_RAW, 1, 300);
	const struct test_frame *const both[] = {&outer, &after, NULL};
	const struct test_frame *const only[] = {&after, NULL};
	w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	test_frame_append(&outer, w);
	test_frame_append(&after, w);
	fixture_seal(w);
	fixture_scan(f, id, both, &stats);

	uint8_t byte = 0xff;
	fixture_poke(f, id, outer.place.offset + 20, &byte, 1);
	fixture_scan(f, id, only, &stats);
	assert_int_equal(stats.damaged_bytes, outer.place.bytes);
	assert_int_equal(stats.damaged_frames, 0);
	free(data);
	test_frame_free(&outer);
	test_frame_free(&after);
	for (uint32_t i = 0; i < 3; i++)
		test_frame_free(&inner[i]);
}

/* A payload that does not match is passed over as a whole: what it holds is never tried, not even
 * a frame that would be right at just that place. */
static void
test_bad_payload_is_passed_whole(void **state)
{
	struct fixture *f = *state;
	struct test_frame inner, outer, after;
	struct pack_scan_stats stats;

	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	test_frame_make(&inner, 1, CODEC_RAW, 1, 100);
	test_frame_make(&outer, 2, CODEC_RAW, 1, 8 + 4096);
	test_frame_make(&after, 3, CODEC_RAW, 1, 100);
	uint8_t *at = outer.payload + 8;
	struct pack_place place = {id, 4096 + 48 + 40 + 8, 0};
	struct pack_frame_head head = {CODEC_RAW, 1, 100, 100, 0};
	memset(at, 0, 4096);
	pack_chunk_encode(&inner.chunks[0], at + 48);
	pack_frame_encode_head(&place, &head, at);
	test_frame_append(&outer, w);
	test_frame_append(&after, w);
	fixture_seal(w);

	const struct test_frame *const only[] = {&after, NULL};
	uint8_t byte = 0xff;
	fixture_poke(f, id, 4096 + 48 + 40 + 8 + 2000, &byte, 1);
	fixture_scan(f, id, only, &stats);
	assert_int_equal(stats.damaged_frames, 1);
	assert_int_equal(stats.damaged_places, 1);
	assert_int_equal(stats.damaged_bytes, outer.place.bytes);
	test_frame_free(&inner);
	test_frame_free(&outer);
	test_frame_free(&after);
}

/* A footer made up inside a damaged frame cannot hide what comes after it. */
static void
test_forged_footer(void **state)
{
	struct fixture *f = *state;
	struct test_frame outer, after;
	struct pack_scan_stats stats;

	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	test_frame_make(&outer, 1, CODEC_RAW, 1, 12288);
	test_frame_make(&after, 2, CODEC_RAW, 1, 100);
	struct pack_footer_head head = {0, 200, id, 8192, ""};
	pack_footer_encode_head(&head, outer.payload + 4096 - 88);
	test_frame_append(&outer, w);
	test_frame_append(&after, w);
	fixture_seal(w);
	const struct test_frame *const only[] = {&after, NULL};
	uint8_t byte = 0xff;
	fixture_poke(f, id, 4096, &byte, 1);
	fixture_scan(f, id, only, &stats);
	assert_int_equal(stats.damaged_bytes, outer.place.bytes);
	test_frame_free(&outer);
	test_frame_free(&after);
}

/* The header gone: frames are found all the same. */
static void
test_bad_header(void **state)
{
	struct fixture *f = *state;
	struct test_frame a;
	struct pack_scan_stats stats;
	uint8_t zeros[4096] = {0};

	test_frame_make(&a, 1, CODEC_RAW, 2, 100);
	const struct test_frame *const all[] = {&a, NULL};
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	fixture_seal(w);
	fixture_poke(f, a.place.pack_id, 0, zeros, sizeof zeros);
	fixture_scan(f, a.place.pack_id, all, &stats);
	assert_false(stats.header_ok);
	test_frame_free(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_unsealed),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_every_flip),
		cmocka_unit_test(test_lost_blocks),
		cmocka_unit_test(test_packs_in_packs),
		cmocka_unit_test(test_bad_payload_is_passed_whole),
		cmocka_unit_test(test_forged_footer),
		cmocka_unit_test(test_bad_header),
	};
	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
