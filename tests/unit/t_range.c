/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SIZE UINT64_C(1000)

/* ---- Range ---- */

struct one {
	const char *header;
	uint64_t first, last;
};

static void
single_ranges(void **state)
{
	static const struct one cases[] = {
		{"bytes=0-0", 0, 0},
		{"bytes=0-499", 0, 499},
		{"bytes=999-999", 999, 999},
		{"bytes=5-", 5, 999},
		{"bytes=0-", 0, 999},
		{"bytes=-1", 999, 999},
		{"bytes=-1000", 0, 999},
		{"bytes=-5000", 0, 999},
		{"bytes=10-99999999999", 10, 999},
		{"bytes=10-99999999999999999999999999", 10, 999},
		{"bytes=-99999999999999999999999999", 0, 999},
		{"Bytes=1-2", 1, 2},
		{"bytes= 1-2 ", 1, 2},
		{"bytes=001-0002", 1, 2},
		/* those beyond the end are left out */
		{"bytes=1-2,1000-", 1, 2},
		{"bytes=2000-3000,-1", 999, 999},
	};
	struct range out[RANGES_MAX];
	size_t count;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		if (range_parse(cases[i].header, SIZE, out, &count) != RANGE_PARTS || count != 1 ||
			out[0].first != cases[i].first || out[0].last != cases[i].last)
			fail_msg("\"%s\"", cases[i].header);
	}
}

static void
ranges_that_are_passed_over(void **state)
{
	static const char *const cases[] = {NULL, "", "bytes", "bytes=", "bytes 0-4", "items=0-4",
		"bytes=5-4", "bytes=a-b", "bytes=1", "bytes=-", "bytes=1-2-3", "bytes=1--2",
		"bytes=+1-2", "bytes=1-2;", "bytes=1-2,", "bytes=,1-2", "bytes=1 - 2",
		"bytes=0x1-2", "bytes=0-4,3-9", "bytes=0-4,4-9", "bytes=9-12,0-4", "bytes=-5,0-3",
		"bytes=-5,-3", "bytes=0-,5-6",
		"bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14,16-16,18-18,20-20,22-22,24-24,26-26,"
		"28-28,30-30,32-32"};
	struct range out[RANGES_MAX];
	size_t count;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (range_parse(cases[i], SIZE, out, &count) != RANGE_WHOLE)
			fail_msg("\"%s\"", cases[i] != NULL ? cases[i] : "(none)");
}

static void
ranges_beyond_the_end(void **state)
{
	static const char *const cases[] = {"bytes=1000-", "bytes=1000-1000", "bytes=-0",
		"bytes=18446744073709551615-", "bytes=99999999999999999999999-",
		"bytes=18446744073709551615-18446744073709551616", "bytes=1000-,2000-3000",
		"bytes=-0,-0"};
	struct range out[RANGES_MAX];
	size_t count;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (range_parse(cases[i], SIZE, out, &count) != RANGE_UNSATISFIABLE || count != 0)
			fail_msg("\"%s\"", cases[i]);
	/* nothing lies in an empty file */
	assert_int_equal(range_parse("bytes=0-", 0, out, &count), RANGE_UNSATISFIABLE);
	assert_int_equal(range_parse("bytes=-5", 0, out, &count), RANGE_UNSATISFIABLE);
	assert_int_equal(range_parse("bytes=5-4", 0, out, &count), RANGE_WHOLE);
}

static void
several_ranges(void **state)
{
	struct range out[RANGES_MAX];
	size_t count;
	char text[400] = "bytes=";

	(void)state;
	assert_int_equal(range_parse("bytes=0-4, 5-9 ,20-29,-10", SIZE, out, &count), RANGE_PARTS);
	assert_int_equal(count, 4);
	assert_int_equal(out[1].first, 5);
	assert_int_equal(out[2].last, 29);
	assert_int_equal(out[3].first, 990);
	for (size_t i = 0; i < RANGES_MAX; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), "%s%zu-%zu",
			i > 0 ? "," : "", i * 10, i * 10 + 5);
	assert_int_equal(range_parse(text, SIZE, out, &count), RANGE_PARTS);
	assert_int_equal(count, RANGES_MAX);
	assert_int_equal(out[RANGES_MAX - 1].last, 155);
}

static void
largest_file(void **state)
{
	struct range out[RANGES_MAX];
	size_t count;

	(void)state;
	assert_int_equal(range_parse("bytes=-1", UINT64_MAX, out, &count), RANGE_PARTS);
	assert_true(out[0].first == UINT64_MAX - 1 && out[0].last == UINT64_MAX - 1);
	assert_int_equal(
		range_parse("bytes=0-18446744073709551614", UINT64_MAX, out, &count), RANGE_PARTS);
	assert_true(out[0].last == UINT64_MAX - 1);
}

/* ---- conditions ---- */

#define ETAG "\"chunk:ab\""
#define NOW  "Sat, 28 Feb 2026 09:30:00 GMT"

static const struct range_validators now = {.etag = ETAG, .modified_s = 1772271000};

static const char *
shown(const char *header)
{
	return header != NULL ? header : "-";
}

static void
expect(const struct range_conditions *c, enum range_verdict verdict)
{
	if (range_check_conditions(c, &now) != verdict)
		fail_msg("match %s none %s since %s until %s", shown(c->if_match),
			shown(c->if_none_match), shown(c->if_modified_since),
			shown(c->if_unmodified_since));
}

static void
none_match(void **state)
{
	static const char *const hits[] = {ETAG, "*", " * ", "\"x\"," ETAG, "\"x\" , W/" ETAG,
		"W/" ETAG, ",, " ETAG ",", "\"a,b\", " ETAG};
	static const char *const misses[] = {"", "\"x\"", "chunk:ab", "\"chunk:ab", "W/\"x\"", "**",
		"w/" ETAG, "\"x\" x " ETAG, ETAG "x", "\"chunk:a\"", "\"chunk:abc\"", "\"\""};

	(void)state;
	for (size_t i = 0; i < sizeof hits / sizeof hits[0]; i++)
		expect(&(struct range_conditions){.if_none_match = hits[i]}, RANGE_NOT_MODIFIED);
	for (size_t i = 0; i < sizeof misses / sizeof misses[0]; i++)
		expect(&(struct range_conditions){.if_none_match = misses[i]}, RANGE_GO_ON);
}

static void
match(void **state)
{
	(void)state;
	expect(&(struct range_conditions){.if_match = ETAG}, RANGE_GO_ON);
	expect(&(struct range_conditions){.if_match = "*"}, RANGE_GO_ON);
	expect(&(struct range_conditions){.if_match = "\"x\", " ETAG}, RANGE_GO_ON);
	expect(&(struct range_conditions){.if_match = "W/" ETAG}, RANGE_PRECONDITION_FAILED);
	expect(&(struct range_conditions){.if_match = "\"x\""}, RANGE_PRECONDITION_FAILED);
	expect(&(struct range_conditions){.if_match = ""}, RANGE_PRECONDITION_FAILED);
	expect(&(struct range_conditions){.if_match = "x"}, RANGE_PRECONDITION_FAILED);
}

static void
dates(void **state)
{
	static const char early[] = "Sat, 28 Feb 2026 09:29:59 GMT";
	static const char late[] = "Sat, 28 Feb 2026 09:30:01 GMT";

	(void)state;
	expect(&(struct range_conditions){.if_modified_since = NOW}, RANGE_NOT_MODIFIED);
	expect(&(struct range_conditions){.if_modified_since = late}, RANGE_NOT_MODIFIED);
	expect(&(struct range_conditions){.if_modified_since = early}, RANGE_GO_ON);
	expect(&(struct range_conditions){.if_modified_since = "yesterday"}, RANGE_GO_ON);
	expect(&(struct range_conditions){.if_unmodified_since = NOW}, RANGE_GO_ON);
	expect(&(struct range_conditions){.if_unmodified_since = late}, RANGE_GO_ON);
	expect(&(struct range_conditions){.if_unmodified_since = early}, RANGE_PRECONDITION_FAILED);
	expect(&(struct range_conditions){.if_unmodified_since = "soon"}, RANGE_GO_ON);
	/* a tag wins over a date */
	expect(&(struct range_conditions){.if_none_match = "\"x\"", .if_modified_since = late},
		RANGE_GO_ON);
	expect(&(struct range_conditions){.if_match = ETAG, .if_unmodified_since = early},
		RANGE_GO_ON);
	/* the preconditions come first */
	expect(&(struct range_conditions){.if_match = "\"x\"", .if_none_match = ETAG},
		RANGE_PRECONDITION_FAILED);
	expect(&(struct range_conditions){.if_match = ETAG, .if_none_match = ETAG},
		RANGE_NOT_MODIFIED);
}

static void
if_range(void **state)
{
	static const struct range_validators old = {.etag = ETAG, .modified_s = -1};

	(void)state;
	assert_true(range_if_range_holds(NULL, &now));
	assert_true(range_if_range_holds(ETAG, &now));
	assert_true(range_if_range_holds(NOW, &now));
	assert_false(range_if_range_holds("W/" ETAG, &now));
	assert_false(range_if_range_holds("\"x\"", &now));
	assert_false(range_if_range_holds(ETAG ", \"x\"", &now));
	assert_false(range_if_range_holds("*", &now));
	assert_false(range_if_range_holds("", &now));
	assert_false(range_if_range_holds("Sat, 28 Feb 2026 09:30:01 GMT", &now));
	assert_false(range_if_range_holds("no date", &old));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(single_ranges),
		cmocka_unit_test(ranges_that_are_passed_over),
		cmocka_unit_test(ranges_beyond_the_end),
		cmocka_unit_test(several_ranges),
		cmocka_unit_test(largest_file),
		cmocka_unit_test(none_match),
		cmocka_unit_test(match),
		cmocka_unit_test(dates),
		cmocka_unit_test(if_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
