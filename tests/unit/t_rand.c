/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "rand.h"

/* Every byte is filled, also where the kernel gives less than was asked for, and none behind. */
static void
all_bytes_and_no_more(void **state)
{
	static const size_t lens[] = {0, 1, 7, 32, 255, 256, 257, 4096};
	static uint8_t data[4096 + 16];
	(void)state;

	for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
		uint8_t seen[4096] = {0};
		/* a byte that is zero in all of 16 rounds was not filled */
		for (int round = 0; round < 16; round++) {
			memset(data, 0, sizeof data);
			rand_bytes(data, lens[i]);
			for (size_t k = 0; k < lens[i]; k++)
				seen[k] |= data[k];
			for (size_t k = lens[i]; k < sizeof data; k++)
				assert_int_equal(data[k], 0);
		}
		for (size_t k = 0; k < lens[i]; k++)
			assert_int_not_equal(seen[k], 0);
	}
}

static void
numbers_differ(void **state)
{
	uint64_t seen[1000];
	uint64_t ones = 0, zeros = 0;
	(void)state;

	for (int i = 0; i < 1000; i++) {
		seen[i] = rand_u64();
		ones |= seen[i];
		zeros |= ~seen[i];
		for (int k = 0; k < i; k++)
			assert_true(seen[k] != seen[i]);
	}
	assert_true(ones == UINT64_MAX && zeros == UINT64_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_bytes_and_no_more),
		cmocka_unit_test(numbers_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
