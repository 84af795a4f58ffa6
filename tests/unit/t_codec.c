/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "codec.h"

#define RAW_MAX    (256u << 10)
#define PACKED_MAX (RAW_MAX + 4096u)

static struct codec *codec;
static uint8_t raw[RAW_MAX];
static uint8_t packed[PACKED_MAX];
static uint8_t back[RAW_MAX];

static int
open_codec(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	return codec_open(&codec, &err) == RC_OK ? 0 : -1;
}

static int
close_codec(void **state)
{
	(void)state;
	codec_free(codec);
	codec_free(NULL);
	return 0;
}

static uint64_t
next_u64(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void
fill_random(uint8_t *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)next_u64(&seed);
}

static void
fill_text(uint8_t *p, size_t n)
{
	static const char *const words[] = {"chunk ", "frame ", "of ", "the ", "pack\n", "and ",
		"return ", "0x12, ", "commit; ", "a"};
	uint64_t seed = 7;

	for (size_t i = 0; i < n;) {
		const char *w = words[next_u64(&seed) % 10];
		for (; *w != '\0' && i < n; w++)
			p[i++] = (uint8_t)*w;
	}
}

static enum rc
expand(enum codec_id id, const uint8_t *src, size_t src_len, size_t dst_len)
{
	struct err err = ERR_INIT;
	enum rc rc = codec_expand(codec, id, src, src_len, back, dst_len, &err);

	assert_int_equal(err.rc, rc);
	if (rc != RC_OK) {
		assert_int_equal(rc, RC_CORRUPT);
		assert_true(err.text[0] != '\0' && err.detail[0] != '\0');
	}
	return rc;
}

static void
there_and_back(void **state)
{
	static const int levels[] = {-1000000, -5, -1, 0, 1, 3, 9, 1000};
	static const size_t sizes[] = {64, 1000, 4096, 65535, 65536, 87360, RAW_MAX};
	(void)state;

	fill_text(raw, RAW_MAX);
	for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++) {
		for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
			if (levels[l] == 1000 && sizes[s] > 65536)
				continue;
			size_t n =
				codec_compress(codec, levels[l], raw, sizes[s], packed, PACKED_MAX);
			if (levels[l] == -1000000 || (n == 0 && sizes[s] < 100))
				continue; /* may well not get smaller */
			assert_true(n > 0 && n < sizes[s]);
			memset(back, 0xee, sizeof back);
			assert_int_equal(expand(CODEC_ZSTD, packed, n, sizes[s]), RC_OK);
			assert_memory_equal(back, raw, sizes[s]);
		}
	}
}

/* Frame header of RFC 8878: content size there, no checksum, no dictionary. */
static void
frames_say_their_size_and_nothing_else(void **state)
{
	(void)state;
	fill_text(raw, RAW_MAX);
	assert_true(codec_compress(codec, 1, raw, RAW_MAX, packed, PACKED_MAX) > 0);
	assert_int_equal(get_u32(packed), 0xfd2fb528u);
	assert_int_equal(packed[4] & 0x07, 0);  /* checksum flag, dictionary flag */
	assert_int_equal(packed[4] >> 5, 0x05); /* 4-byte content size, single segment */
	assert_int_equal(get_u32(packed + 5), RAW_MAX);
}

static void
what_does_not_shrink_is_refused(void **state)
{
	(void)state;
	fill_random(raw, RAW_MAX, 1);
	assert_int_equal(codec_compress(codec, 1, raw, 65536, packed, PACKED_MAX), 0);
	assert_int_equal(codec_compress(codec, -5, raw, RAW_MAX, packed, PACKED_MAX), 0);
	for (size_t n = 0; n < 12; n++)
		assert_int_equal(codec_compress(codec, 3, raw, n, packed, PACKED_MAX), 0);
	assert_int_equal(codec_compress(codec, 3, NULL, 0, packed, PACKED_MAX), 0);
}

/* The longer the run of zeros before random bytes, the shorter the frame, byte by byte: the first
 * one accepted is the longest that is allowed. */
static size_t
longest_accepted(size_t len, uint64_t seed)
{
	size_t n = 0;

	fill_random(raw, len, seed);
	for (size_t zeros = len / 32; n == 0 && zeros < len / 32 + 200; zeros++) {
		memset(raw, 0, zeros);
		n = codec_compress(codec, 1, raw, len, packed, PACKED_MAX);
	}
	assert_true(n > 0);
	assert_int_equal(expand(CODEC_ZSTD, packed, n, len), RC_OK);
	assert_memory_equal(back, raw, len);
	return n;
}

static void
the_limit_is_one_thirtysecond(void **state)
{
	const size_t len = 32768;
	const size_t limit = len - len / 32;
	size_t longest = 0;
	(void)state;

	for (uint64_t seed = 1; seed < 6; seed++) {
		size_t n = longest_accepted(len, seed);
		longest = n > longest ? n : longest;
	}
	assert_int_equal(longest, limit - 1);
}

static void
small_room_is_no_room(void **state)
{
	const size_t len = 65536;
	(void)state;

	fill_text(raw, len);
	size_t n = codec_compress(codec, 1, raw, len, packed, PACKED_MAX);
	assert_true(n > 0 && n <= codec_bound(len));
	/* after a failure the next piece, also at another level, is as good as ever */
	for (size_t cap = 0; cap < n; cap += cap < 40 ? 1 : 997) {
		memset(packed, 0xee, PACKED_MAX);
		assert_int_equal(codec_compress(codec, 1, raw, len, packed, cap), 0);
		assert_int_equal(packed[cap], 0xee);
		assert_true(codec_compress(codec, 3, raw, len, packed, PACKED_MAX) > 0);
	}
	assert_int_equal(codec_compress(codec, 1, raw, len, packed, n + 8), n);
	assert_int_equal(expand(CODEC_ZSTD, packed, n, len), RC_OK);
}

static void
level_counts_whatever_came_before(void **state)
{
	const size_t len = 65536;
	struct codec *fresh;
	struct err err = ERR_INIT;
	(void)state;

	fill_text(raw, len);
	size_t fast = codec_compress(codec, -5, raw, len, packed, PACKED_MAX);
	size_t good = codec_compress(codec, 9, raw, len, packed, PACKED_MAX);
	assert_true(good < fast);
	assert_int_equal(codec_compress(codec, -5, raw, len, packed, PACKED_MAX), fast);
	assert_int_equal(codec_open(&fresh, &err), RC_OK);
	assert_int_equal(codec_compress(fresh, 9, raw, len, packed, PACKED_MAX), good);
	codec_free(fresh);
}

/* go_on: so many times yes. */
struct patience {
	unsigned asked;
	unsigned yes;
};

static bool
is_patient(void *arg)
{
	struct patience *p = arg;

	return p->asked++ < p->yes;
}

static size_t
in_steps(int level, size_t len, size_t cap, struct patience *p, bool *stopped)
{
	struct codec_steps steps = {
		.level = level,
		.src = raw,
		.src_len = len,
		.dst = packed,
		.dst_cap = cap,
		.go_on = is_patient,
		.arg = p,
	};

	p->asked = 0;
	size_t n = codec_compress_steps(codec, &steps);
	*stopped = steps.stopped;
	return n;
}

static void
steps_give_what_one_go_gives(void **state)
{
	static const int levels[] = {-5, 1, 19};
	static const size_t sizes[] = {500, 4096, CODEC_STEP_BYTES - 1, CODEC_STEP_BYTES,
		CODEC_STEP_BYTES + 1, 3 * CODEC_STEP_BYTES, RAW_MAX - 5};
	struct patience p = {.yes = 100};
	bool stopped;
	(void)state;

	fill_text(raw, RAW_MAX);
	for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++) {
		for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
			size_t len = sizes[s];
			size_t whole =
				codec_compress(codec, levels[l], raw, len, packed, PACKED_MAX);
			size_t n = in_steps(levels[l], len, PACKED_MAX, &p, &stopped);
			assert_false(stopped);
			assert_int_equal(p.asked, (len + CODEC_STEP_BYTES - 1) / CODEC_STEP_BYTES);
			assert_true(n > 0 && n <= whole + whole / 100 + 64);
			assert_int_equal(expand(CODEC_ZSTD, packed, n, len), RC_OK);
			assert_memory_equal(back, raw, len);
			/* content size there, no checksum, no dictionary */
			assert_int_equal(packed[4] & 0x07, 0);
			assert_int_equal(packed[4] >> 5 & 1, 1);
		}
	}
}

static void
steps_can_be_stopped_and_begun_again(void **state)
{
	const size_t len = RAW_MAX;
	bool stopped;
	(void)state;

	fill_text(raw, len);
	struct patience all = {.yes = 100};
	size_t whole = in_steps(12, len, PACKED_MAX, &all, &stopped);
	assert_true(whole > 0 && !stopped);
	for (unsigned yes = 0; yes < len / CODEC_STEP_BYTES; yes++) {
		struct patience p = {.yes = yes};
		assert_int_equal(in_steps(12, len, PACKED_MAX, &p, &stopped), 0);
		assert_true(stopped);
		assert_int_equal(p.asked, yes + 1);
		/* nothing of it is left: neither here nor with other sizes and levels */
		assert_true(codec_compress(codec, 1, raw, 5000, packed, PACKED_MAX) > 0);
		assert_int_equal(in_steps(12, len, PACKED_MAX, &all, &stopped), whole);
		assert_int_equal(expand(CODEC_ZSTD, packed, whole, len), RC_OK);
		assert_memory_equal(back, raw, len);
	}
}

static void
steps_refuse_what_one_go_refuses(void **state)
{
	struct patience p = {.yes = 100};
	bool stopped;
	(void)state;

	fill_random(raw, RAW_MAX, 3);
	assert_int_equal(in_steps(3, RAW_MAX, PACKED_MAX, &p, &stopped), 0);
	assert_false(stopped);
	for (size_t n = 0; n < 12; n++)
		assert_int_equal(in_steps(3, n, PACKED_MAX, &p, &stopped), 0);
	fill_text(raw, RAW_MAX);
	size_t n = in_steps(3, RAW_MAX, PACKED_MAX, &p, &stopped);
	for (size_t cap = 0; cap < n; cap += cap < 40 ? 1 : 4999) {
		memset(packed, 0xee, PACKED_MAX);
		assert_int_equal(in_steps(3, RAW_MAX, cap, &p, &stopped), 0);
		assert_false(stopped);
		assert_int_equal(packed[cap], 0xee);
	}
	assert_int_equal(in_steps(3, RAW_MAX, n + 8, &p, &stopped), n);
	assert_int_equal(expand(CODEC_ZSTD, packed, n, RAW_MAX), RC_OK);
}

static void
mapped_ones_are_like_the_others(void **state)
{
	const size_t len = RAW_MAX;
	struct codec *mapped;
	struct err err = ERR_INIT;
	(void)state;

	fill_text(raw, len);
	for (int level = 1; level <= 19; level += 6) {
		assert_int_equal(codec_open_mapped(&mapped, &err), RC_OK);
		size_t whole = codec_compress(codec, level, raw, len, packed, PACKED_MAX);
		/* larger and smaller tables in turn */
		for (size_t n = len; n > 1000; n /= 3)
			assert_true(codec_compress(mapped, level, raw, n, packed, PACKED_MAX) > 0);
		assert_int_equal(
			codec_compress(mapped, level, raw, len, packed, PACKED_MAX), whole);
		assert_int_equal(expand(CODEC_ZSTD, packed, whole, len), RC_OK);
		assert_memory_equal(back, raw, len);
		codec_free(mapped);
	}
}

static void
raw_is_copied(void **state)
{
	(void)state;
	fill_random(raw, 1000, 1);
	assert_int_equal(expand(CODEC_RAW, raw, 1000, 1000), RC_OK);
	assert_memory_equal(back, raw, 1000);
	assert_int_equal(expand(CODEC_RAW, NULL, 0, 0), RC_OK);
	assert_int_equal(expand(CODEC_RAW, raw, 1000, 999), RC_CORRUPT);
	assert_int_equal(expand(CODEC_RAW, raw, 999, 1000), RC_CORRUPT);
	assert_int_equal(expand(CODEC_RAW, raw, 0, 1), RC_CORRUPT);
}

static void
unknown_codecs_are_corrupt(void **state)
{
	(void)state;
	for (int id = 2; id < 256; id++)
		assert_int_equal(expand((enum codec_id)id, raw, 10, 10), RC_CORRUPT);
}

static void
only_exactly_one_frame(void **state)
{
	static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 'h', 'i'};
	const size_t len = 3000;
	(void)state;

	fill_text(raw, len);
	size_t n = codec_compress(codec, 1, raw, len, packed, PACKED_MAX);
	assert_true(n > 0);
	assert_int_equal(expand(CODEC_ZSTD, packed, n, len - 1), RC_CORRUPT);
	assert_int_equal(expand(CODEC_ZSTD, packed, n, len + 1), RC_CORRUPT);
	assert_int_equal(expand(CODEC_ZSTD, packed, n, 0), RC_CORRUPT);
	assert_int_equal(expand(CODEC_ZSTD, packed, n, RAW_MAX), RC_CORRUPT);
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(expand(CODEC_ZSTD, packed, cut, len), RC_CORRUPT);
	packed[n] = 0;
	assert_int_equal(expand(CODEC_ZSTD, packed, n + 1, len), RC_CORRUPT);
	memcpy(packed + n, packed, n); /* two frames */
	assert_int_equal(expand(CODEC_ZSTD, packed, 2 * n, len), RC_CORRUPT);
	assert_int_equal(expand(CODEC_ZSTD, packed, 2 * n, 2 * len), RC_CORRUPT);
	memcpy(packed + n, skippable, sizeof skippable);
	assert_int_equal(expand(CODEC_ZSTD, packed, n + sizeof skippable, len), RC_CORRUPT);
	assert_int_equal(expand(CODEC_ZSTD, skippable, sizeof skippable, 0), RC_CORRUPT);
	assert_int_equal(expand(CODEC_ZSTD, NULL, 0, 0), RC_CORRUPT);
	assert_int_equal(expand(CODEC_ZSTD, packed, n, len), RC_OK);
}

/* zstd has no checksum here, so a flipped bit may pass: then with the right size. */
static void
flipped_bits_never_overrun(void **state)
{
	const size_t len = 600;
	(void)state;

	fill_text(raw, len);
	size_t n = codec_compress(codec, 3, raw, len, packed, PACKED_MAX);
	assert_true(n > 0);
	for (size_t bit = 0; bit < 8 * n; bit++) {
		packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
		memset(back, 0xee, sizeof back);
		enum rc rc = expand(CODEC_ZSTD, packed, n, len);
		assert_true(rc == RC_OK || rc == RC_CORRUPT);
		assert_int_equal(back[len], 0xee);
		packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	uint64_t seed = 11;
	for (int i = 0; i < 3000; i++) {
		fill_random(packed, 64, next_u64(&seed));
		put_u32(packed, 0xfd2fb528u);
		memset(back, 0xee, 3000);
		expand(CODEC_ZSTD, packed, 64, len);
		assert_int_equal(back[len], 0xee);
	}
	assert_true(codec_compress(codec, 3, raw, len, packed, PACKED_MAX) == n);
	assert_int_equal(expand(CODEC_ZSTD, packed, n, len), RC_OK);
	assert_memory_equal(back, raw, len);
}

static void
random_bytes_look_random(void **state)
{
	static const size_t sizes[] = {16384, 43712, 65536, 87360, RAW_MAX};
	size_t small = 0;
	(void)state;

	for (uint64_t seed = 100; seed < 130; seed++) {
		fill_random(raw, RAW_MAX, seed);
		for (size_t i = 0; i < 5; i++)
			assert_false(codec_probe_compressible(raw, sizes[i]));
	}
	for (uint64_t seed = 200; seed < 600; seed++) {
		fill_random(raw, 2048, seed);
		small += codec_probe_compressible(raw, 1024 + seed % 1025);
	}
	assert_true(small < 400 / 6); /* small samples are noisy; an error costs a try */
}

static void
short_input_is_worth_a_try(void **state)
{
	(void)state;
	fill_random(raw, 1024, 1);
	assert_true(codec_probe_compressible(NULL, 0));
	for (size_t n = 0; n < 1024; n++)
		assert_true(codec_probe_compressible(raw, n));
}

static void
skewed_bytes_look_compressible(void **state)
{
	static const size_t sizes[] = {1024, 1025, 1300, 2048, 4096, 16384, 65536, 87361, RAW_MAX};
	(void)state;

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		fill_text(raw, RAW_MAX);
		assert_true(codec_probe_compressible(raw, sizes[i]));
		memset(raw, 0, RAW_MAX);
		assert_true(codec_probe_compressible(raw, sizes[i]));
		fill_random(raw, RAW_MAX, 5);
		for (size_t k = 0; k < RAW_MAX; k++)
			raw[k] = raw[k] & 63; /* as base64 has it */
		assert_true(codec_probe_compressible(raw, sizes[i]));
	}
}

/* Records of 256 bytes with a random field of 16 at any place: one fixed place to sample would
 * sometimes see nothing else. */
static void
random_fields_do_not_fool_it(void **state)
{
	(void)state;
	for (size_t field = 0; field <= 240; field += 8) {
		memset(raw, 0, RAW_MAX);
		for (size_t at = 0; at < 65536; at += 256)
			fill_random(raw + at + field, 16, at);
		assert_true(codec_probe_compressible(raw, 65536));
	}
}

/* Nothing behind len is read: the rest of the buffer would change the answer. */
static void
probe_keeps_to_its_bytes(void **state)
{
	(void)state;
	for (size_t len = 1024; len < 1400; len++) {
		fill_random(raw, len, 77);
		memset(raw + len, 0, 4096);
		bool before = codec_probe_compressible(raw, len);
		fill_random(raw + len, 4096, 78);
		assert_int_equal(codec_probe_compressible(raw, len), before);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(frames_say_their_size_and_nothing_else),
		cmocka_unit_test(what_does_not_shrink_is_refused),
		cmocka_unit_test(the_limit_is_one_thirtysecond),
		cmocka_unit_test(small_room_is_no_room),
		cmocka_unit_test(level_counts_whatever_came_before),
		cmocka_unit_test(steps_give_what_one_go_gives),
		cmocka_unit_test(steps_can_be_stopped_and_begun_again),
		cmocka_unit_test(steps_refuse_what_one_go_refuses),
		cmocka_unit_test(mapped_ones_are_like_the_others),
		cmocka_unit_test(raw_is_copied),
		cmocka_unit_test(unknown_codecs_are_corrupt),
		cmocka_unit_test(only_exactly_one_frame),
		cmocka_unit_test(flipped_bits_never_overrun),
		cmocka_unit_test(random_bytes_look_random),
		cmocka_unit_test(short_input_is_worth_a_try),
		cmocka_unit_test(skewed_bytes_look_compressible),
		cmocka_unit_test(random_fields_do_not_fool_it),
		cmocka_unit_test(probe_keeps_to_its_bytes),
	};

	return cmocka_run_group_tests(tests, open_codec, close_codec);
}
