/* SPDX-License-Identifier: Apache-2.0 */
#include "codec_stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DATA_BYTES 700000

static uint8_t data[DATA_BYTES];

static struct buf
press(int level, size_t len, size_t step)
{
	struct err err = ERR_INIT;
	struct codec_press *p = NULL;
	struct buf b;

	buf_init(&b, 1 << 20);
	assert_int_equal(codec_press_open(level, &p, &err), RC_OK);
	for (size_t at = 0; at < len; at += step)
		assert_int_equal(codec_press_add(p, data + at, len - at < step ? len - at : step,
					 false, &b, &err),
			RC_OK);
	assert_int_equal(codec_press_add(p, NULL, 0, true, &b, &err), RC_OK);
	codec_press_free(p);
	return b;
}

/* Expand in pieces of these sizes; *got is what came. */
static enum rc
expand(const struct buf *b, int window_log_max, size_t in_step, size_t out_step, struct buf *got,
	bool *whole)
{
	struct err err = ERR_INIT;
	struct codec_stream *s = NULL;
	uint8_t *piece = malloc(out_step);
	enum rc rc = RC_OK;

	buf_init(got, 4 << 20);
	assert_int_equal(codec_stream_open(window_log_max, &s, &err), RC_OK);
	for (size_t at = 0; rc == RC_OK && at < b->len; at += in_step) {
		const uint8_t *src = b->data + at;
		size_t len = b->len - at < in_step ? b->len - at : in_step;
		size_t n = out_step;
		while (rc == RC_OK && (len > 0 || n == out_step)) {
			rc = codec_stream_expand(s, &src, &len, piece, out_step, &n, &err);
			if (rc == RC_OK)
				buf_add(got, piece, n);
		}
	}
	assert_int_equal(rc, err.rc);
	*whole = codec_stream_is_whole(s);
	codec_stream_free(s);
	free(piece);
	return rc;
}

static void
fill(void)
{
	uint32_t x = 1;

	for (size_t i = 0; i < DATA_BYTES; i++) {
		x = x * 1664525 + 1013904223;
		data[i] = i % 3 == 0 ? (uint8_t)(x >> 24) : (uint8_t)(i >> 10);
	}
}

static void
test_there_and_back(void **state)
{
	const size_t sizes[] = {0, 1, 1000, DATA_BYTES};
	const size_t steps[] = {1, 100, 65536, 1 << 20};
	struct buf got;
	bool whole;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct buf first = press(3, sizes[i], 1 << 20);
		struct buf again = press(3, sizes[i], 77777);
		assert_int_equal(again.len, first.len);
		assert_memory_equal(again.data, first.data, first.len);
		buf_done(&again);
		for (size_t k = i == 3 ? 1 : 0; k < 16; k++) {
			assert_int_equal(
				expand(&first, 23, steps[k % 4], steps[k / 4], &got, &whole),
				RC_OK);
			assert_true(whole);
			assert_int_equal(got.len, sizes[i]);
			if (sizes[i] > 0)
				assert_memory_equal(got.data, data, sizes[i]);
			buf_done(&got);
		}
		buf_done(&first);
	}
}

static void
test_frames(void **state)
{
	static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2};
	struct buf got;
	bool whole;

	(void)state;
	struct buf b = press(1, 5000, 5000);
	size_t one = b.len;
	buf_add(&b, skippable, sizeof skippable);
	buf_reserve(&b, one);
	buf_add(&b, b.data, one);
	assert_int_equal(expand(&b, 23, 7, 100, &got, &whole), RC_OK);
	assert_true(whole);
	assert_int_equal(got.len, 10000);
	assert_memory_equal(got.data + 5000, data, 5000);
	buf_done(&got);
	size_t all = b.len;
	for (b.len = 1; b.len < all; b.len++) {
		assert_int_equal(expand(&b, 23, 1000, 100, &got, &whole), RC_OK);
		assert_int_equal(whole, b.len == one || b.len == one + sizeof skippable);
		buf_done(&got);
	}
	buf_done(&b);
}

static void
test_damage(void **state)
{
	struct buf got;
	bool whole;

	(void)state;
	struct buf b = press(1, 3000, 5000);
	for (size_t at = 0; at < b.len; at++) {
		b.data[at] ^= (uint8_t)(1 << at % 8);
		enum rc rc = expand(&b, 23, 1000, 1000, &got, &whole);
		assert_true(rc == RC_CORRUPT || rc == RC_TOO_LARGE ||
			    (rc == RC_OK && (!whole || got.len == 3000)));
		if (rc == RC_OK && whole)
			assert_memory_equal(got.data, data, 3000);
		b.data[at] ^= (uint8_t)(1 << at % 8);
		buf_done(&got);
	}
	buf_add_str(&b, "garbage");
	assert_int_equal(expand(&b, 23, 1000, 1000, &got, &whole), RC_CORRUPT);
	buf_done(&got);
	buf_done(&b);
	/* a window of 2^18 at least is needed for so many bytes */
	b = press(3, DATA_BYTES, DATA_BYTES);
	assert_int_equal(expand(&b, 16, 1000, 1000, &got, &whole), RC_TOO_LARGE);
	buf_done(&got);
	buf_done(&b);
	codec_stream_free(NULL);
	codec_press_free(NULL);
}

static void
test_limit(void **state)
{
	struct err err = ERR_INIT;
	struct codec_press *p = NULL;
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_int_equal(codec_press_open(1, &p, &err), RC_OK);
	assert_int_equal(codec_press_add(p, data, DATA_BYTES, true, &b, &err), RC_NOMEM);
	codec_press_free(p);
	buf_done(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_limit),
	};

	fill();
	return cmocka_run_group_tests_name("codec_stream", tests, NULL, NULL);
}
