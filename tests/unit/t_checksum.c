/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "checksum.h"

/* The values are in stored packs: another XXH3, another build of it, must give the same. The first
 * is in the published test vectors of XXH3. */
static void
values_are_fixed(void **state)
{
	uint8_t data[5000];
	(void)state;

	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 31 >> 3);
	assert_true(checksum64(NULL, 0) == UINT64_C(0x2d06800538d394c2));
	assert_true(checksum64("abc", 3) == UINT64_C(0x78af5f94892f3950));
	assert_true(checksum64(data, 200) == UINT64_C(0x30c0d84a98b50b6c));
	assert_true(checksum64(data, 5000) == UINT64_C(0x6004385fa0556523));
	assert_true(checksum64_seeded(data, 5000, 7) == UINT64_C(0xababc68be78c16b2));
}

static void
one_bit_is_seen(void **state)
{
	uint8_t data[1000] = {0};
	uint64_t whole = checksum64(data, sizeof data);
	(void)state;

	assert_true(checksum64_seeded(data, sizeof data, 0) == whole);
	assert_false(checksum64_seeded(data, sizeof data, 1) == whole);
	assert_false(checksum64(data, sizeof data - 1) == whole);
	for (size_t i = 0; i < 8 * sizeof data; i++) {
		data[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_false(checksum64(data, sizeof data) == whole);
		data[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_fixed),
		cmocka_unit_test(one_bit_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
