/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "chance.h"
#include "histogram.h"

static struct histogram h;
static struct histogram_view v;

static int
clear(void **state)
{
	(void)state;
	memset(&h, 0, sizeof h);
	return 0;
}

/* What one value alone is said to be. */
static uint64_t
said(uint64_t value)
{
	memset(&h, 0, sizeof h);
	histogram_add(&h, value);
	histogram_read(&h, &v);
	return histogram_quantile(&v, 500);
}

static void
a_value_is_known_to_within_a_fifth(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(said(i), i);
	for (int i = 0; i < 10000; i++) {
		uint64_t value = chance_any_size(&seed) >> 31;
		uint64_t top = said(value);
		assert_true(top >= value);
		assert_true(top <= value + value / 4);
	}
}

static void
nothing_is_too_large(void **state)
{
	(void)state;
	assert_int_equal(said((UINT64_C(1) << 33) - 1), (UINT64_C(1) << 33) - 1);
	assert_int_equal(said(UINT64_C(1) << 33), (UINT64_C(1) << 33) - 1);
	assert_int_equal(said(UINT64_MAX), (UINT64_C(1) << 33) - 1);
}

static void
quantiles_of_many(void **state)
{
	(void)state;
	histogram_read(&h, &v);
	assert_int_equal(histogram_quantile(&v, 990), 0);
	for (uint64_t i = 1; i <= 1000; i++)
		histogram_add(&h, i);
	histogram_read(&h, &v);
	assert_int_equal(v.count, 1000);
	assert_int_equal(v.sum, 500500);
	assert_in_range(histogram_quantile(&v, 500), 500, 625);
	assert_in_range(histogram_quantile(&v, 990), 990, 1238);
	assert_int_equal(histogram_quantile(&v, 0), 1);
	assert_int_equal(histogram_quantile(&v, 1000), 1023);
}

static void
below_counts_whole_octaves(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 64; i++)
		histogram_add(&h, i);
	histogram_add(&h, UINT64_MAX);
	histogram_read(&h, &v);
	assert_int_equal(histogram_below(&v, 2), 4);
	assert_int_equal(histogram_below(&v, 3), 8);
	assert_int_equal(histogram_below(&v, 6), 64);
	assert_int_equal(histogram_below(&v, 32), 64);
	assert_int_equal(histogram_below(&v, 33), 65);
}

static void
a_difference_is_what_came_between(void **state)
{
	struct histogram_view before;

	(void)state;
	histogram_add(&h, 7);
	histogram_read(&h, &before);
	histogram_add(&h, 100);
	histogram_add(&h, 100);
	histogram_read(&h, &v);
	histogram_subtract(&v, &before);
	assert_int_equal(v.count, 2);
	assert_int_equal(v.sum, 200);
	assert_in_range(histogram_quantile(&v, 1), 100, 125);
}

static void *
add_many(void *arg)
{
	uint64_t seed = (uint64_t)(uintptr_t)arg;

	for (int i = 0; i < 20000; i++)
		histogram_add(&h, chance_below(&seed, 5000));
	return NULL;
}

static void
no_count_of_any_thread_is_lost(void **state)
{
	pthread_t threads[4];

	(void)state;
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_many, (void *)i), 0);
	for (int i = 0; i < 100; i++) {
		histogram_read(&h, &v);
		assert_true(v.count <= 80000);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	histogram_read(&h, &v);
	assert_int_equal(v.count, 80000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_value_is_known_to_within_a_fifth, clear),
		cmocka_unit_test_setup(nothing_is_too_large, clear),
		cmocka_unit_test_setup(quantiles_of_many, clear),
		cmocka_unit_test_setup(below_counts_whole_octaves, clear),
		cmocka_unit_test_setup(a_difference_is_what_came_between, clear),
		cmocka_unit_test_setup(no_count_of_any_thread_is_lost, clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
