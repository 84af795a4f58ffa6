/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "clock.h"
#include "hex.h"

/* buf */

static void
appends_add_up(void **state)
{
	struct buf b;
	size_t len;
	(void)state;

	buf_init(&b, 1 << 20);
	for (int i = 0; i < 5000; i++)
		buf_add(&b, "0123456789", 10);
	buf_add(&b, NULL, 0);
	assert_true(buf_ok(&b));
	assert_int_equal(b.len, 50000);
	for (size_t i = 0; i < b.len; i++)
		assert_int_equal(b.data[i], '0' + i % 10);
	uint8_t *data = buf_take(&b, &len);
	assert_int_equal(len, 50000);
	assert_int_equal(b.len, 0);
	free(data);
	buf_add_str(&b, "again");
	assert_string_equal(buf_cstr(&b), "again");
	buf_done(&b);
	buf_add_str(&b, "and again");
	assert_string_equal(buf_cstr(&b), "and again");
	buf_done(&b);
	buf_done(NULL);
}

/* For every limit: as many bytes as it says, and not one more, in pieces of any size. */
static void
the_limit_holds(void **state)
{
	(void)state;
	for (size_t max = 0; max < 300; max++) {
		for (size_t piece = 1; piece < 70; piece += 1 + piece / 4) {
			struct buf b;
			char bytes[80] = {0};
			size_t sum = 0;
			buf_init(&b, max);
			for (; sum + piece <= max; sum += piece) {
				buf_add(&b, bytes, piece);
				assert_true(buf_ok(&b));
			}
			buf_add(&b, bytes, max - sum);
			assert_true(buf_ok(&b));
			assert_int_equal(b.len, max);
			buf_add_u8(&b, 1);
			assert_false(buf_ok(&b));
			assert_int_equal(b.len, max);
			buf_done(&b);
		}
	}
}

static void
failure_sticks(void **state)
{
	struct buf b;
	(void)state;

	buf_init(&b, 8);
	buf_add_str(&b, "123456");
	buf_add_str(&b, "7890");
	assert_false(buf_ok(&b));
	buf_add_u8(&b, 'x'); /* would fit */
	assert_null(buf_grow(&b, 1));
	assert_false(buf_reserve(&b, 0));
	assert_string_equal(buf_cstr(&b), "");
	assert_int_equal(b.len, 6);
	buf_clear(&b);
	assert_true(buf_ok(&b));
	buf_addf(&b, "%s", "123456789");
	assert_false(buf_ok(&b));
	buf_clear(&b);
	assert_null(buf_grow(&b, SIZE_MAX));
	assert_false(buf_ok(&b));
	buf_clear(&b);
	buf_add_u8(&b, 1);
	assert_null(buf_grow(&b, SIZE_MAX));
	assert_int_equal(b.len, 1);
	buf_done(&b);
}

static void
formatted(void **state)
{
	struct buf b;
	(void)state;

	buf_init(&b, 10000);
	buf_addf(&b, "%s", "");
	assert_int_equal(b.len, 0);
	for (int i = 0; i < 1000; i++)
		buf_addf(&b, "%d,", i);
	assert_true(buf_ok(&b));
	assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
	assert_memory_equal(b.data + b.len - 8, "998,999,", 8);
	buf_done(&b);
}

/* Whatever room is left, the text is whole or the buffer as it was. */
static void
formatted_into_any_room(void **state)
{
	char before[80], text[80];
	struct buf b;
	(void)state;

	memset(before, 'b', sizeof before);
	memset(text, 't', sizeof text);
	for (int used = 0; used < 70; used++) {
		for (int len = 0; len < 70; len++) {
			buf_init(&b, 72);
			buf_add(&b, before, (size_t)used);
			buf_addf(&b, "%.*s", len, text);
			bool fits = used + len + 1 <= 72; /* with the NUL */
			assert_int_equal(buf_ok(&b), fits);
			assert_int_equal(b.len, fits ? used + len : used);
			if (used > 0)
				assert_memory_equal(b.data, before, (size_t)used);
			if (fits && len > 0)
				assert_memory_equal(b.data + used, text, (size_t)len);
			buf_done(&b);
		}
	}
}

static void
integers_are_little_endian(void **state)
{
	static const uint8_t want[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f, 0x0e, 0x0d,
		0x0c, 0x0b, 0x0a, 0x09, 0x88};
	struct buf b;
	struct cur c;
	(void)state;

	buf_init(&b, 100);
	buf_add_u8(&b, 0x01);
	buf_add_u16(&b, 0x0203);
	buf_add_u32(&b, 0x04050607);
	buf_add_u64(&b, UINT64_C(0x88090a0b0c0d0e0f));
	assert_int_equal(b.len, sizeof want);
	assert_memory_equal(b.data, want, sizeof want);
	cur_init(&c, b.data, b.len);
	assert_int_equal(cur_left(&c), 15);
	assert_int_equal(cur_u8(&c), 0x01);
	assert_int_equal(cur_u16(&c), 0x0203);
	assert_int_equal(cur_u32(&c), 0x04050607);
	assert_true(cur_u64(&c) == UINT64_C(0x88090a0b0c0d0e0f));
	assert_int_equal(cur_left(&c), 0);
	assert_true(cur_ok(&c));
	assert_int_equal(get_u16((const uint8_t *)"\xff\xfe"), 0xfeff);
	assert_true(get_u32((const uint8_t *)"\xff\xff\xff\xff") == UINT32_MAX);
	assert_true(get_u64((const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff") == UINT64_MAX);
	buf_done(&b);
}

/* cur */

static void
reading_past_the_end_fails_for_good(void **state)
{
	static const uint8_t data[] = {1, 2, 3, 4, 5, 6, 7};
	struct cur c;
	(void)state;

	cur_init(&c, data, 7);
	assert_true(cur_u64(&c) == 0);
	assert_false(cur_ok(&c));
	assert_int_equal(cur_u8(&c), 0); /* although it is there */
	assert_int_equal(cur_left(&c), 0);
	assert_null(cur_bytes(&c, 0));
	cur_init(&c, data, 3);
	assert_int_equal(cur_u32(&c), 0);
	assert_false(cur_ok(&c));
	cur_init(&c, data, 1);
	assert_int_equal(cur_u16(&c), 0);
	assert_false(cur_ok(&c));
	cur_init(&c, data, 0);
	assert_int_equal(cur_u8(&c), 0);
	assert_false(cur_ok(&c));
	cur_init(&c, NULL, 0);
	assert_non_null(cur_bytes(&c, 0));
	assert_true(cur_ok(&c));
	assert_null(cur_bytes(&c, 1));
	cur_init(&c, data, 7);
	assert_null(cur_bytes(&c, SIZE_MAX));
	assert_false(cur_ok(&c));
	cur_init(&c, data, 7);
	assert_ptr_equal(cur_bytes(&c, 7), data);
	assert_non_null(cur_bytes(&c, 0));
	assert_true(cur_ok(&c));
	assert_null(cur_bytes(&c, 1));
}

/* varint */

static void
varints_there_and_back(void **state)
{
	struct buf b;
	struct cur c;
	(void)state;

	buf_init(&b, 100);
	for (int bits = 0; bits <= 64; bits++) {
		for (int d = -1; d <= 1; d++) {
			uint64_t v = (bits < 64 ? UINT64_C(1) << bits : 0) + (uint64_t)(int64_t)d;
			size_t want = 1;
			for (uint64_t rest = v >> 7; rest > 0; rest >>= 7)
				want++;
			buf_clear(&b);
			buf_add_varint(&b, v);
			assert_int_equal(b.len, want);
			cur_init(&c, b.data, b.len);
			assert_true(cur_varint(&c) == v);
			assert_true(cur_ok(&c));
			assert_int_equal(cur_left(&c), 0);
			for (size_t cut = 0; cut < b.len; cut++) {
				cur_init(&c, b.data, cut);
				assert_true(cur_varint(&c) == 0);
				assert_false(cur_ok(&c));
			}
		}
	}
	buf_done(&b);
}

static void
varints_that_do_not_fit(void **state)
{
	static const char *const bad[] = {
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", /* bit 64 */
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x01", /* eleven bytes */
		"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
	};
	struct cur c;
	(void)state;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		cur_init(&c, bad[i], strlen(bad[i]));
		assert_true(cur_varint(&c) == 0);
		assert_false(cur_ok(&c));
	}
	cur_init(&c, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10);
	assert_true(cur_varint(&c) == UINT64_MAX);
	assert_true(cur_ok(&c));
}

/* hex, base64, numbers */

static void
hex_there_and_back(void **state)
{
	uint8_t data[256];
	uint8_t back[256];
	char text[513];
	(void)state;

	for (size_t i = 0; i < 256; i++)
		data[i] = (uint8_t)i;
	hex_encode(data, 256, text);
	assert_int_equal(strlen(text), 512);
	assert_memory_equal(text, "000102", 6);
	assert_memory_equal(text + 506, "fdfeff", 6);
	assert_true(hex_decode(text, 512, back, 256));
	assert_memory_equal(back, data, 256);
	assert_true(hex_decode("aBCdEf", 6, back, 3));
	assert_memory_equal(back, "\xab\xcd\xef", 3);
	hex_encode(data, 0, text);
	assert_string_equal(text, "");
	assert_true(hex_decode("", 0, back, 0));
	assert_false(hex_decode("abc", 3, back, 1));
	assert_false(hex_decode("abcd", 4, back, 1));
	assert_false(hex_decode("ab", 2, back, 2));
	for (int c = 0; c < 256; c++) {
		char two[2] = {(char)c, '0'};
		char owt[2] = {'0', (char)c};
		bool want = c != 0 && strchr("0123456789abcdefABCDEF", c) != NULL;
		assert_int_equal(hex_decode(two, 2, back, 1), want);
		assert_int_equal(hex_decode(owt, 2, back, 1), want);
	}
}

static void
base64_of_every_kind(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		bool good;
	} cases[] = {
		{"", 0, true},
		{"Zg==", 1, true},
		{"Zm8=", 2, true},
		{"Zm9v", 3, true},
		{"Zm9vYg==", 4, true},
		{"Zm9vYmE=", 5, true},
		{"Zm9vYmFy", 6, true},
		{"Zm9vYmFy", 5, false}, /* longer than asked */
		{"Zm9vYmFy", 7, false},
		{"Zg", 1, false}, /* no padding */
		{"Zg=", 1, false},
		{"Zg===", 1, false},
		{"Z===", 1, false},
		{"Zh==", 1, false}, /* bits behind the end */
		{"Zm9=", 2, false},
		{"Zg==Zg==", 4, false},
		{"Z=g=", 1, false},
		{"====", 1, false},
		{"Zm9v\n", 3, false},
		{" Zm9", 3, false},
		{"Zm-_", 3, false}, /* the URL alphabet */
		{"Zm9\x80", 3, false},
	};
	uint8_t out[8];
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const char *text = cases[i].text;
		bool got = base64_decode(text, strlen(text), out, cases[i].len);
		assert_int_equal(got, cases[i].good);
		if (got)
			assert_memory_equal(out, "foobar", cases[i].len);
	}
	assert_true(base64_decode("+/+/", 4, out, 3));
	assert_memory_equal(out, "\xfb\xff\xbf", 3);
	assert_false(base64_decode("Zm9v", 3, out, 3));
	assert_false(base64_decode("Zm\0v", 4, out, 3));
}

static bool
parses(const char *text, uint64_t *v)
{
	return parse_u64(text, strlen(text), v);
}

static void
numbers_are_strict(void **state)
{
	static const char *const bad[] = {"", " 1", "1 ", "+1", "-1", "0x10", "1e3", "1.0", "\xb2",
		"12345678901234567890", "00000000000000000001", "1,000", "/", ":"};
	uint64_t v = 7;
	(void)state;

	assert_true(parses("0", &v) && v == 0);
	assert_true(parses("0007", &v) && v == 7);
	assert_true(parses("9999999999999999999", &v) && v == UINT64_C(9999999999999999999));
	assert_true(parse_u64("123456", 3, &v) && v == 123);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		v = 42;
		assert_false(parses(bad[i], &v));
		assert_true(v == 42);
	}
	assert_false(parse_u64("1\0002", 3, &v));
}

/* clock */

static void
http_dates(void **state)
{
	static const struct {
		const char *text;
		int64_t seconds;
	} known[] = {
		{"Thu, 01 Jan 1970 00:00:00 GMT", 0},
		{"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
		{"Tue, 29 Feb 2000 12:00:00 GMT", 951825600},
		{"Sat, 31 Dec 2022 23:59:59 GMT", 1672531199},
		{"Sun, 22 Nov 2026 10:11:12 GMT", 1795342272},
	};
	char out[CLOCK_RFC3339_BYTES];
	(void)state;

	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		clock_http_date(known[i].seconds * 1000000, out);
		assert_string_equal(out, known[i].text);
		clock_http_date(known[i].seconds * 1000000 + 999999, out);
		assert_string_equal(out, known[i].text);
		assert_true(clock_parse_http_date(known[i].text) == known[i].seconds);
	}
	for (int64_t s = 0; s < INT64_C(5000000000); s += 86399 * 37) {
		clock_http_date(s * 1000000, out);
		assert_true(clock_parse_http_date(out) == s);
	}
}

static void
other_dates_are_none(void **state)
{
	static const char *const bad[] = {"", "0", "Sunday, 06-Nov-94 08:49:37 GMT",
		"Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37", "1994-11-06T08:49:37Z",
		"Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 06 Nov 1994 08:49:37 CET",
		"Sun, 06 Nov 1994 25:49:37 GMT", "Sun, 32 Nov 1994 08:49:37 GMT",
		"Sun, 06 Foo 1994 08:49:37 GMT", "Xxx, 06 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 08:61:37 GMT"};
	(void)state;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_true(clock_parse_http_date(bad[i]) == -1);
}

static void
rfc3339(void **state)
{
	char out[CLOCK_RFC3339_BYTES];
	(void)state;

	clock_rfc3339(INT64_C(1795342272345678), out);
	assert_string_equal(out, "2026-11-22T10:11:12.345678Z");
	clock_rfc3339(0, out);
	assert_string_equal(out, "1970-01-01T00:00:00.000000Z");
	clock_rfc3339(-1, out);
	assert_string_equal(out, "1969-12-31T23:59:59.999999Z");
	clock_rfc3339(INT64_C(253402300799999999), out);
	assert_string_equal(out, "9999-12-31T23:59:59.999999Z");
}

static void
rfc3339_with_nanoseconds(void **state)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{0, "1970-01-01T00:00:00Z"},
		{1, "1970-01-01T00:00:00.000000001Z"},
		{INT64_C(951782399100000000), "2000-02-28T23:59:59.1Z"},
		{INT64_C(951782400000000000), "2000-02-29T00:00:00Z"},
		{-1, "1969-12-31T23:59:59.999999999Z"},
		{INT64_C(-1000000000), "1969-12-31T23:59:59Z"},
		{INT64_MAX, "2262-04-11T23:47:16.854775807Z"},
		{INT64_MIN, "1677-09-21T00:12:43.145224192Z"},
	};
	char out[CLOCK_RFC3339_NS_BYTES];
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		clock_rfc3339_ns(cases[i].ns, out);
		assert_string_equal(out, cases[i].text);
	}
}

static void
decimal(void **state)
{
	static const uint64_t numbers[] = {0, 9, 10, 99, 100, 4294967296, INT64_MAX, UINT64_MAX};
	char want[32];
	struct buf b;
	(void)state;

	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		buf_init(&b, 32);
		buf_add_decimal(&b, numbers[i]);
		snprintf(want, sizeof want, "%llu", (unsigned long long)numbers[i]);
		assert_string_equal(buf_cstr(&b), want);
		buf_done(&b);
	}
}

static void
clocks_move(void **state)
{
	uint64_t a = clock_mono_ns();
	uint64_t cpu = clock_thread_cpu_ns();
	volatile unsigned work = 1;
	(void)state;

	for (int i = 0; i < 100000; i++)
		work = work * 3;
	assert_true(clock_mono_ns() > a);
	assert_true(clock_thread_cpu_ns() > cpu);
	assert_true(clock_wall_us() > INT64_C(1700000000000000));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(appends_add_up),
		cmocka_unit_test(the_limit_holds),
		cmocka_unit_test(failure_sticks),
		cmocka_unit_test(formatted),
		cmocka_unit_test(formatted_into_any_room),
		cmocka_unit_test(integers_are_little_endian),
		cmocka_unit_test(reading_past_the_end_fails_for_good),
		cmocka_unit_test(varints_there_and_back),
		cmocka_unit_test(varints_that_do_not_fit),
		cmocka_unit_test(hex_there_and_back),
		cmocka_unit_test(base64_of_every_kind),
		cmocka_unit_test(numbers_are_strict),
		cmocka_unit_test(http_dates),
		cmocka_unit_test(other_dates_are_none),
		cmocka_unit_test(rfc3339),
		cmocka_unit_test(rfc3339_with_nanoseconds),
		cmocka_unit_test(decimal),
		cmocka_unit_test(clocks_move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
