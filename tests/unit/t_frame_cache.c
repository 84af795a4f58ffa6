/* SPDX-License-Identifier: Apache-2.0 */
#include "frame_cache.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct knob hot = {.min = 0, .max = 100, .value = 88};
static struct proofs *proofs;

/* How many chunks had to be hashed; *bad of them are wrong. */
static uint32_t
verify(struct frame *f, uint32_t first, uint32_t count, uint32_t *bad)
{
	struct proofs_verdict v = {0};

	frame_verify(f, first, count, proofs, &v);
	assert_int_equal(v.proven, 0);
	*bad = (uint32_t)v.bad;
	return (uint32_t)(v.hashed + v.bad);
}

/* A frame of pack 1 with chunks of 1, 2, 3, … bytes, and padding to make it as large as wanted. */
static struct frame *
make(uint64_t offset, uint32_t chunks, size_t memory_bytes)
{
	struct err err = ERR_INIT;
	struct pack_frame_view view = {.place = {1, offset, 0}, .chunk_count = chunks};
	struct frame *f = NULL;
	uint8_t *memory = calloc(1, memory_bytes);
	size_t at = (size_t)chunks * PACK_CHUNK_ENTRY_BYTES;
	const uint8_t *raw = memory + at;

	for (uint32_t i = 0; i < chunks; i++) {
		struct pack_chunk c = {.length = i + 1};
		memset(memory + at, (int)(i + offset), i + 1);
		sha256_of(memory + at, i + 1, &c.hash);
		pack_chunk_encode(&c, memory + (size_t)i * PACK_CHUNK_ENTRY_BYTES);
		at += i + 1;
		view.raw_bytes += i + 1;
	}
	assert_true(at <= memory_bytes);
	assert_int_equal(frame_new(&view, memory, raw, memory, memory_bytes, &f, &err), RC_OK);
	return f;
}

static void
test_find_and_verify(void **state)
{
	struct sha256 hash;
	uint32_t index = 99;
	uint32_t bad;

	(void)state;
	struct frame *f = make(3, 200, 40000);
	for (uint32_t i = 0; i < 200; i++) {
		uint64_t start = (uint64_t)i * (i + 1) / 2;
		sha256_of(f->raw + start, i + 1, &hash);
		assert_true(frame_find(f, &hash, start, i + 1, &index));
		assert_int_equal(index, i);
		assert_false(frame_find(f, &hash, start, i + 2, &index));
		assert_false(frame_find(f, &hash, start + 1, i + 1, &index) && i > 0);
		hash.b[31] ^= 1;
		assert_false(frame_find(f, &hash, start, i + 1, &index));
	}
	assert_false(frame_find(f, &hash, f->raw_bytes, 0, &index));
	assert_false(frame_find(f, &hash, UINT64_MAX, 1, &index));
	assert_int_equal(verify(f, 63, 2, &bad), 2);
	assert_true(frame_is_verified(f, 63) && frame_is_verified(f, 64));
	assert_false(frame_is_verified(f, 62) || frame_is_verified(f, 65));
	/* one byte is wrong: that chunk alone fails */
	uint8_t *byte = (uint8_t *)(uintptr_t)(f->raw + 100 * 101 / 2);
	*byte ^= 1;
	assert_int_equal(verify(f, 60, 100, &bad), 98);
	assert_int_equal(bad, 1);
	assert_false(frame_is_verified(f, 100));
	assert_true(frame_is_verified(f, 101) && frame_is_verified(f, 159));
	*byte ^= 1;
	assert_int_equal(verify(f, 0, UINT32_MAX, &bad), 60 + 1 + 40);
	assert_int_equal(bad, 0);
	assert_int_equal(verify(f, 0, 200, &bad), 0);
	frame_unref(f);
	frame_unref(NULL);
}

static bool
is_there(struct frame_cache *c, uint64_t offset, uint64_t reader)
{
	struct frame *f = frame_cache_take(c, 1, offset, reader);

	frame_unref(f);
	return f != NULL;
}

static void
keep(struct frame_cache *c, uint64_t offset, uint64_t reader)
{
	struct frame *f = make(offset, 3, 10000);

	frame_cache_keep(c, f, reader);
	frame_unref(f);
}

/* What two readers wanted stays while a third reads a hundred frames, also again and again; what
 * one wanted goes. */
static void
test_scans(void **state)
{
	struct err err = ERR_INIT;
	struct frame_cache *c = NULL;
	struct frame_cache_stats stats;

	(void)state;
	assert_int_equal(frame_cache_open(105000, &hot, &c, &err), RC_OK);
	for (uint64_t i = 0; i < 4; i++)
		keep(c, i * 16, 1);
	assert_true(is_there(c, 0, 2));
	assert_true(is_there(c, 16, 2));
	assert_true(is_there(c, 32, 1));
	for (uint64_t i = 100; i < 200; i++) {
		keep(c, i * 16, 3);
		assert_true(is_there(c, i * 16, 3));
	}
	assert_true(is_there(c, 0, 4));
	assert_true(is_there(c, 16, 4));
	assert_false(is_there(c, 32, 4));
	assert_false(is_there(c, 48, 4));
	assert_false(is_there(c, 100 * 16, 4));
	frame_cache_stats(c, &stats);
	assert_true(stats.bytes <= 105000 && stats.bytes > 90000);
	assert_int_equal(stats.bytes_max, 105000);
	assert_int_equal(stats.misses, 104); /* as many as were kept */
	/* the protected ones give way to each other: not all of twenty can stay */
	for (uint64_t i = 300; i < 320; i++) {
		keep(c, i * 16, 5);
		assert_true(is_there(c, i * 16, 6));
	}
	assert_false(is_there(c, 0, 7));
	assert_true(is_there(c, 319 * 16, 7));
	frame_cache_stats(c, &stats);
	assert_true(stats.bytes <= 105000);
	frame_cache_drop(c, 1, 319 * 16);
	frame_cache_drop(c, 1, 319 * 16);
	assert_false(is_there(c, 319 * 16, 7));
	frame_cache_free(c);
}

static void
test_limits(void **state)
{
	struct err err = ERR_INIT;
	struct frame_cache *c = NULL;
	struct frame_cache_stats stats;

	(void)state;
	for (size_t max = 0; max <= 10000; max += 5000) {
		assert_int_equal(frame_cache_open(max, &hot, &c, &err), RC_OK);
		keep(c, 16, 1);
		assert_false(is_there(c, 16, 1));
		frame_cache_stats(c, &stats);
		assert_int_equal(stats.bytes, 0);
		frame_cache_free(c);
	}
	frame_cache_free(NULL);
	/* a second frame of the place is not kept; one that was taken outlives the cache */
	assert_int_equal(frame_cache_open(1 << 20, &hot, &c, &err), RC_OK);
	struct frame *a = make(16, 3, 10000);
	struct frame *b = make(16, 3, 10000);
	frame_cache_keep(c, a, 1);
	frame_cache_keep(c, b, 1);
	struct frame *got = frame_cache_take(c, 1, 16, 2);
	assert_ptr_equal(got, a);
	frame_unref(a);
	frame_unref(b);
	frame_cache_free(c);
	assert_int_equal(got->raw[0], 16);
	frame_unref(got);
}

static void *
churn(void *arg)
{
	struct frame_cache *c = arg;
	uint64_t x = (uint64_t)(uintptr_t)&x;
	uint32_t bad = 0;

	for (int i = 0; i < 3000; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		uint64_t offset = (x >> 33) % 30 * 16;
		uint64_t reader = (x >> 60) % 3;
		struct frame *f = frame_cache_take(c, 1, offset, reader);
		if (f == NULL) {
			f = make(offset, 3, 10000);
			frame_cache_keep(c, f, reader);
		}
		struct proofs_verdict v = {0};
		frame_verify(f, 0, 3, proofs, &v);
		bad = (uint32_t)v.bad;
		if (bad != 0 || f->offset != offset)
			return NULL;
		frame_unref(f);
		if (i % 50 == 0)
			frame_cache_drop(c, 1, offset);
	}
	return c;
}

static void
test_threads(void **state)
{
	struct err err = ERR_INIT;
	struct frame_cache *c = NULL;
	pthread_t threads[4];
	void *result;

	(void)state;
	assert_int_equal(frame_cache_open(150000, &hot, &c, &err), RC_OK);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn, c), 0);
	for (size_t i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		assert_non_null(result);
	}
	frame_cache_free(c);
}

/* A second frame with the same chunks at the same place needs no hashing. */
static void
test_proofs(void **state)
{
	struct err err = ERR_INIT;
	struct proofs *some = NULL;

	(void)state;
	assert_int_equal(proofs_open(1 << 16, &some, &err), RC_OK);
	for (int i = 0; i < 2; i++) {
		struct proofs_verdict v = {0};
		struct frame *f = make(32, 100, 20000);
		frame_verify(f, 0, 100, some, &v);
		assert_int_equal(i == 0 ? v.hashed : v.proven, 100);
		assert_int_equal(v.bad, 0);
		assert_true(frame_is_verified(f, 99));
		frame_unref(f);
	}
	proofs_free(some);
}

static int
open_proofs(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	return proofs_open(0, &proofs, &err) == RC_OK ? 0 : -1;
}

static int
close_proofs(void **state)
{
	(void)state;
	proofs_free(proofs);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find_and_verify),
		cmocka_unit_test(test_scans),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_proofs),
	};

	return cmocka_run_group_tests_name("frame_cache", tests, open_proofs, close_proofs);
}
