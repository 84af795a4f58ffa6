/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "utf8.h"

/* The textbook form, any lead byte and length; overlong if wider than needed. */
static size_t
encode(uint32_t c, size_t width, char *out)
{
	static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0, 0xf8};

	if (width == 1) {
		out[0] = (char)c;
		return 1;
	}
	for (size_t i = width - 1; i > 0; i--, c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)(lead[width] | c);
	return width;
}

static size_t
width_of(uint32_t c)
{
	return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
}

static void
every_code_point(void **state)
{
	char text[8];
	(void)state;

	for (uint32_t c = 0; c < 0x200000; c++) {
		size_t n = encode(c, width_of(c), text);
		bool want = c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff);
		assert_int_equal(utf8_valid(text, n), want);
	}
}

static void
overlong_forms(void **state)
{
	char text[8];
	(void)state;

	for (uint32_t c = 0; c < 0x10000; c++)
		for (size_t width = width_of(c) + 1; width <= 4; width++)
			assert_false(utf8_valid(text, encode(c, width, text)));
	assert_false(utf8_valid("\xf8\x88\x80\x80\x80", 5));
	assert_false(utf8_valid("\xfc\x84\x80\x80\x80\x80", 6));
}

/* Every string of two and three bytes against a list of the valid ones. */
static void
every_short_string(void **state)
{
	static uint8_t valid[1 << 24 >> 3];
	char s[4];
	(void)state;

	for (uint32_t c = 0x800; c < 0x10000; c++) {
		if (c >= 0xd800 && c <= 0xdfff)
			continue;
		encode(c, 3, s);
		uint32_t at = (uint32_t)(uint8_t)s[0] << 16 | (uint32_t)(uint8_t)s[1] << 8 |
			      (uint8_t)s[2];
		valid[at >> 3] |= (uint8_t)(1u << (at & 7));
	}
	for (uint32_t at = 0; at < 1u << 16; at++) {
		uint8_t a = (uint8_t)(at >> 8);
		uint8_t b = (uint8_t)at;
		bool want = (a < 0x80 && b < 0x80) ||
			    (a >= 0xc2 && a <= 0xdf && b >= 0x80 && b <= 0xbf);
		s[0] = (char)a;
		s[1] = (char)b;
		assert_int_equal(utf8_valid(s, 2), want);
	}
	for (uint32_t at = 0xe00000; at < 1u << 24; at++) {
		s[0] = (char)(at >> 16);
		s[1] = (char)(at >> 8);
		s[2] = (char)at;
		if (utf8_valid(s, 3) != (valid[at >> 3] >> (at & 7) & 1))
			fail_msg("%06x", at);
	}
}

static void
cut_off_characters(void **state)
{
	static const char *const whole[] = {"\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x8d\x84"};
	(void)state;

	for (size_t i = 0; i < 3; i++) {
		size_t n = strlen(whole[i]);
		assert_true(utf8_valid(whole[i], n));
		for (size_t cut = 1; cut < n; cut++) {
			assert_false(utf8_valid(whole[i], cut));
			assert_false(utf8_valid(whole[i] + cut, n - cut));
		}
	}
}

/* One bad or good character at every place, so before, in and behind the eight-byte steps. */
static void
every_place(void **state)
{
	char text[48];
	(void)state;

	for (size_t len = 1; len <= sizeof text; len++) {
		memset(text, 'x', sizeof text);
		assert_true(utf8_valid(text, len));
		for (size_t at = 0; at < len; at++) {
			memset(text, 'x', sizeof text);
			text[at] = (char)0xff;
			assert_false(utf8_valid(text, len));
			text[at] = (char)0x80;
			assert_false(utf8_valid(text, len));
			if (at + 3 > len)
				continue;
			memcpy(text + at, "\xe2\x82\xac", 3);
			assert_true(utf8_valid(text, len));
			assert_int_equal(utf8_valid(text, at + 2), false);
		}
	}
}

static void
empty_and_nul(void **state)
{
	(void)state;
	assert_true(utf8_valid("", 0));
	assert_true(utf8_valid(NULL, 0));
	assert_true(utf8_valid("a\0b", 3));
	assert_false(utf8_valid("\xc0\x80", 2));
	assert_false(utf8_valid("\xed\xa0\xbd\xed\xb8\x80", 6));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_code_point),
		cmocka_unit_test(overlong_forms),
		cmocka_unit_test(every_short_string),
		cmocka_unit_test(cut_off_characters),
		cmocka_unit_test(every_place),
		cmocka_unit_test(empty_and_nul),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
