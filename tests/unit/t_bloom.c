/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "bloom.h"
#include "buf.h"

static struct sha256
key(uint64_t n)
{
	uint8_t text[8];
	struct sha256 h;

	put_u64(text, n);
	sha256_of(text, sizeof text, &h);
	return h;
}

static struct bloom *
make(uint64_t expected, unsigned bits)
{
	struct err err = ERR_INIT;
	struct bloom *b;

	assert_int_equal(bloom_open(expected, bits, &b, &err), RC_OK);
	return b;
}

static void
bad_sizes(void **state)
{
	static const struct {
		uint64_t keys;
		unsigned bits;
	} bad[] = {{0, 12}, {100, 0}, {100, 3}, {100, 65}, {100, UINT32_MAX}, {UINT64_MAX, 12},
		{UINT64_MAX / 64, 64}, {UINT64_C(1) << 40, 12}};
	(void)state;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct err err = ERR_INIT;
		struct bloom *b = (struct bloom *)&err;
		assert_int_equal(bloom_open(bad[i].keys, bad[i].bits, &b, &err), RC_INVALID);
		assert_null(b);
		assert_int_equal(err.rc, RC_INVALID);
	}
	bloom_free(NULL);
}

static void
empty_has_nothing(void **state)
{
	struct bloom *b = make(1000, 12);
	(void)state;

	for (uint64_t i = 0; i < 1000; i++) {
		struct sha256 h = key(i);
		assert_false(bloom_may_have(b, &h, 1));
	}
	assert_int_equal(bloom_count(b), 0);
	assert_false(bloom_is_full(b));
	bloom_free(b);
}

static void
size_is_as_asked(void **state)
{
	struct bloom *b = make(1000, 12);
	(void)state;

	assert_true(bloom_bytes(b) * 8 >= 12000 && bloom_bytes(b) * 8 < 12000 + 256);
	bloom_free(b);
	b = make(1, 4);
	assert_int_equal(bloom_bytes(b), 32);
	struct sha256 h = key(1);
	bloom_add(b, &h, 0);
	assert_true(bloom_may_have(b, &h, 0));
	bloom_free(b);
}

static double
wrong_share(uint64_t keys, unsigned bits)
{
	struct bloom *b = make(keys, bits);
	uint64_t wrong = 0;

	for (uint64_t i = 0; i < keys; i++) {
		struct sha256 h = key(i);
		bloom_add(b, &h, (uint32_t)(i % 3));
	}
	for (uint64_t i = 0; i < keys; i++) {
		struct sha256 h = key(i);
		assert_true(bloom_may_have(b, &h, (uint32_t)(i % 3)));
		h = key(i + keys);
		wrong += bloom_may_have(b, &h, (uint32_t)(i % 3));
	}
	assert_true(bloom_count(b) <= keys && bloom_count(b) > keys - keys / 50);
	bloom_free(b);
	return (double)wrong / (double)keys;
}

static void
wrong_answers_are_as_rare_as_said(void **state)
{
	double ten = wrong_share(50000, 10);
	double twelve = wrong_share(50000, 12);
	double sixteen = wrong_share(50000, 16);
	(void)state;

	assert_true(ten > 0.006 && ten < 0.018);
	assert_true(twelve > 0.002 && twelve < 0.008);
	assert_true(sixteen < 0.002);
}

/* The same hashes with another salt are other keys, also when there are thousands of them. */
static void
salts_are_apart(void **state)
{
	const uint64_t keys = 20000;
	struct bloom *b = make(keys, 12);
	uint64_t wrong = 0;
	(void)state;

	for (uint64_t i = 0; i < keys; i++) {
		struct sha256 h = key(i);
		bloom_add(b, &h, 7);
	}
	for (uint64_t i = 0; i < keys; i++) {
		struct sha256 h = key(i);
		wrong += bloom_may_have(b, &h, 8);
		wrong += bloom_may_have(b, &h, 7u << 16);
	}
	assert_true(wrong < 2 * keys / 100);
	bloom_free(b);
}

/* One hash in very many repositories must not fill one block. */
static void
one_hash_under_many_salts_spreads(void **state)
{
	const uint32_t salts = 20000;
	struct bloom *b = make(salts, 12);
	struct sha256 h = key(1);
	uint64_t wrong = 0;
	(void)state;

	for (uint32_t s = 0; s < salts; s++)
		bloom_add(b, &h, s);
	for (uint32_t s = 0; s < salts; s++) {
		assert_true(bloom_may_have(b, &h, s));
		wrong += bloom_may_have(b, &h, s + salts);
	}
	assert_true(bloom_count(b) > salts - salts / 50);
	assert_true(wrong < salts / 100);
	bloom_free(b);
}

static void
repeats_are_not_counted(void **state)
{
	struct bloom *b = make(100, 32);
	(void)state;

	for (int round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < 100; i++) {
			struct sha256 h = key(i);
			bloom_add(b, &h, 1);
		}
		assert_true(bloom_count(b) <= 100 && bloom_count(b) >= 98);
		assert_false(bloom_is_full(b));
	}
	for (uint64_t i = 100; i < 110; i++) {
		struct sha256 h = key(i);
		bloom_add(b, &h, 1);
	}
	assert_true(bloom_is_full(b));
	bloom_free(b);
}

#define THREADS 4
#define SHARE   5000u

struct job {
	struct bloom *b;
	uint64_t first;
	uint64_t missing;
};

static void *
add_and_ask(void *arg)
{
	struct job *j = arg;

	for (uint64_t i = j->first; i < j->first + SHARE; i++) {
		struct sha256 h = key(i);
		bloom_add(j->b, &h, 1);
		j->missing += !bloom_may_have(j->b, &h, 1);
		h = key(i * 7919 % (THREADS * SHARE));
		(void)bloom_may_have(j->b, &h, 1);
	}
	return NULL;
}

static void
threads_add_and_ask(void **state)
{
	struct bloom *b = make(THREADS * SHARE, 12);
	struct job jobs[THREADS];
	pthread_t threads[THREADS];
	(void)state;

	for (int i = 0; i < THREADS; i++) {
		jobs[i] = (struct job){b, (uint64_t)i * SHARE, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, add_and_ask, &jobs[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(jobs[i].missing, 0);
	}
	for (uint64_t i = 0; i < THREADS * SHARE; i++) {
		struct sha256 h = key(i);
		assert_true(bloom_may_have(b, &h, 1));
	}
	bloom_free(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_sizes),
		cmocka_unit_test(empty_has_nothing),
		cmocka_unit_test(size_is_as_asked),
		cmocka_unit_test(wrong_answers_are_as_rare_as_said),
		cmocka_unit_test(salts_are_apart),
		cmocka_unit_test(one_hash_under_many_salts_spreads),
		cmocka_unit_test(repeats_are_not_counted),
		cmocka_unit_test(threads_add_and_ask),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
