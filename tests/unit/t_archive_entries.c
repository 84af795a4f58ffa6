/* SPDX-License-Identifier: Apache-2.0 */
/* Archives whose entries are not what may be staged, and zips made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include <cmocka.h>

#include "archive_fixture.h"
#include "utf8.h"

static void
test_zip_by_hand(void **state)
{
	/* a time of 2001-09-09T01:46:40Z; a name in UTF-8 beside one that is not */
	char extra[64] = "UT\5\0\1\0\312\232;";
	const struct zip_item items[] = {
		{.name = "dos", .data = "abc"},
		{.name = "unix", .data = "abcd", .host = 3, .attributes = 0100755u << 16},
		{.name = "bare", .data = "e", .host = 3, .attributes = 0600u << 16},
		{.name = "d/", .data = "", .host = 3, .attributes = 040755u << 16},
		{.name = "dosdir", .data = "", .attributes = 0x10},
		{.name = "timed", .data = "f", .extra = extra, .extra_len = 9},
		{.name = "local", .data = "g", .central_name = "central"},
		{.name = "./dot", .data = "h"},
	};

	(void)state;
	struct buf b = make_zip(items, 8, 0, "a comment");
	assert_int_equal(run_buf(&b), RC_OK);
	assert_int_equal(fake.staged_count, 6);
	expect_file("dos", "abc", 3);
	expect_file("unix", "abcd", 4);
	expect_file("central", "g", 1); /* as every unzip has it */
	expect_file("dot", "h", 1);
	assert_int_equal(find_staged("dos")->mode, 0644);
	assert_int_equal(find_staged("unix")->mode, 0755);
	assert_int_equal(find_staged("bare")->mode, 0600);
	assert_int_equal(find_staged("dos")->mtime_ns, INT64_C(1709209802000000000));
	assert_int_equal(find_staged("timed")->mtime_ns, INT64_C(1000000000000000000));
	buf_done(&b);

	/* Info-ZIP's field for a UTF-8 name, right and with a wrong checksum */
	const char *latin = "\xe4";
	uint32_t crc = (uint32_t)crc32(0, (const Bytef *)latin, 1);
	memcpy(extra, "up\7\0\1", 5);
	put_u32((uint8_t *)extra + 5, crc);
	memcpy(extra + 9, "\xc3\xa4", 2);
	struct zip_item one = {.name = latin, .data = "x", .extra = extra, .extra_len = 11};
	b = make_zip(&one, 1, 0, "");
	assert_int_equal(run_buf(&b), RC_OK);
	expect_file("\xc3\xa4", "x", 1);
	buf_done(&b);
	extra[5] ^= 1;
	b = make_zip(&one, 1, 0, "");
	expect_refused(&b, NULL);
	buf_done(&b);
}

/* ---- entries that are refused ---- */

static void
test_names(void **state)
{
	static char segment[257];
	static char path[1200];
	static const char *const names[] = {"/etc/passwd", "../x", "a/../../x", "a/..", "a//b",
		"a\x01"
		"b",
		"a\nb", "a\\b", "..\\x", ".", "..", "a/.", "./", "././a",
		"gr\xfc\xdf"
		"e",
		segment, path, "\xed\xa0\x80", "c:\\x", "a\x7f"};

	(void)state;
	memset(segment, 'f', 256);
	for (size_t i = 0; i < 1100; i++)
		path[i] = i % 2 == 0 ? 'd' : '/';
	path[1100] = 'f';
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const struct item items[] = {{.name = "good", .data = "x"},
			{.name = names[i], .data = "y"}, {.name = "also-good", .data = "z"}};
		const struct zip_item zips[] = {{.name = "good", .data = "x"},
			{.name = names[i], .data = "y"}, {.name = "z", .data = "z"}};
		const struct zip_item hidden[] = {{.name = "good", .data = "x"},
			{.name = "fine", .data = "y", .central_name = names[i]}};
		bool dir = names[i][strlen(names[i]) - 1] == '/';
		for (int format = PAX; format <= GNU && !dir; format++) {
			struct buf b = make(format, PLAIN, items, 3);
			expect_fails(run_buf(&b), RC_INVALID, "archive-entry-refused");
			if (strlen(names[i]) < 20 && utf8_valid(names[i], strlen(names[i])))
				assert_string_equal(refused, names[i]);
			assert_non_null(strstr(last_err.text, "entry \""));
			buf_done(&b);
		}
		struct buf b = make_zip(zips, 3, 0, "");
		if (dir)
			expect_invalid(&b); /* a directory with content */
		else
			expect_refused(&b, NULL);
		buf_done(&b);
		b = make_zip(hidden, 2, 0, "");
		if (dir)
			expect_invalid(&b);
		else
			expect_refused(&b, NULL);
		buf_done(&b);
	}
	/* with the prefix a name that fits becomes too long */
	const struct item item = {.name = LONG_NAME, .data = "x"};
	struct archive_in_options o = archive_defaults();
	static char prefix[900];
	for (size_t i = 0; i < 860; i++)
		prefix[i] = i % 2 == 0 ? 'p' : '/';
	o.prefix = prefix;
	struct buf b = make(PAX, PLAIN, &item, 1);
	expect_fails(run(&o, b.data, b.len, 4096), RC_INVALID, "archive-entry-refused");
	o.prefix = prefix + 860 - (PATH_BYTES_MAX - strlen(LONG_NAME)) / 2 * 2;
	assert_int_equal(run(&o, b.data, b.len, 4096), RC_OK);
	buf_done(&b);
}

static void
test_special(void **state)
{
	static const struct item specials[] = {
		{.name = "soft", .mode = S_IFLNK | 0777, .link = "/etc/passwd"},
		{.name = "hard", .link = "a"},
		{.name = "hard-\xc3\xa4", .link = "a\xc3\xa4"},
		{.name = "chr", .mode = S_IFCHR | 0644},
		{.name = "blk", .mode = S_IFBLK | 0644},
		{.name = "fifo", .mode = S_IFIFO | 0644},
	};

	(void)state;
	for (size_t i = 0; i < sizeof specials / sizeof *specials; i++) {
		const struct item items[] = {
			{.name = "a", .data = "1"}, specials[i], {.name = "b", .data = "2"}};
		for (int format = PAX; format <= GNU; format++) {
			struct buf b = make(format, PLAIN, items, 3);
			expect_refused(&b, specials[i].name);
			assert_non_null(strstr(last_err.text, "only files and directories"));
			struct archive_in_options o = archive_defaults();
			struct archive_in_result result;
			struct stream s = {b.data, b.len, 700, SIZE_MAX, NULL, RC_OK};
			o.skip_special = true;
			assert_int_equal(run_stream(&o, &s, &result), RC_OK);
			assert_int_equal(result.files, 2);
			assert_int_equal(result.skipped, 1);
			buf_done(&b);
		}
	}
	/* a zip says only at its end that an entry is a link */
	const struct zip_item zips[] = {{.name = "a", .data = "1"},
		{.name = "link", .data = "/etc/passwd", .host = 3, .attributes = 0120777u << 16},
		{.name = "fifo", .data = "", .host = 3, .attributes = 0010644u << 16}};
	struct buf b = make_zip(zips, 3, 0, "");
	expect_refused(&b, "link");
	struct archive_in_options o = archive_defaults();
	struct archive_in_result result;
	struct stream s = {b.data, b.len, 7, SIZE_MAX, NULL, RC_OK};
	o.skip_special = true;
	assert_int_equal(run_stream(&o, &s, &result), RC_OK);
	assert_int_equal(result.files, 1);
	assert_int_equal(result.skipped, 2);
	assert_int_equal(fake.staged_count, 1);
	buf_done(&b);
}

static void
test_sparse(void **state)
{
	const struct item holes = {.name = "holes", .data = big, .len = 1000000, .sparse = true};

	(void)state;
	struct buf b = make(PAX, PLAIN, &holes, 1);
	assert_true(b.len < 600000);
	expect_refused(&b, "holes");
	buf_done(&b);
}

static void
test_twice(void **state)
{
	const struct item items[] = {{.name = "f", .data = "first"}, {.name = "g", .data = "x"},
		{.name = "./f", .data = "second"}};

	(void)state;
	for (int format = PAX; format <= ZIP; format++) {
		struct buf b = make(format, PLAIN, items, 3);
		expect_refused(&b, "./f");
		struct archive_in_options o = archive_defaults();
		struct archive_in_result result;
		struct stream s = {b.data, b.len, 4000, SIZE_MAX, NULL, RC_OK};
		o.last_wins = true;
		assert_int_equal(run_stream(&o, &s, &result), RC_OK);
		assert_int_equal(result.files, 2);
		assert_int_equal(fake.staged_count, 2);
		expect_file("f", "second", 6);
		buf_done(&b);
	}
}

static void
test_clashes(void **state)
{
	static const char *const sets[][4] = {
		{"a", "a-b", "a/b", NULL},
		{"a/b", "a", NULL, NULL},
		{"x/y/z", "x/y/w", "x/y", NULL},
		{"x/y", "x/y/z/1", NULL, NULL},
		{"x/y/z/1", "b", "x", NULL},
	};
	static const char *const named[] = {"a", "a", "x/y", "x/y", "x"};

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		struct item items[4] = {{.name = NULL}};
		size_t n = 0;
		for (; n < 4 && sets[i][n] != NULL; n++)
			items[n] = (struct item){.name = sets[i][n], .data = "x"};
		for (int format = PAX; format <= ZIP; format++) {
			struct buf b = make(format, PLAIN, items, n);
			struct archive_in_options o = archive_defaults();
			o.prefix = "p/";
			expect_fails(
				run(&o, b.data, b.len, 9999), RC_INVALID, "archive-entry-refused");
			assert_string_equal(refused, named[i]);
			buf_done(&b);
		}
	}
	/* names that only look alike */
	const struct item fine[] = {{.name = "a", .data = "1"}, {.name = "a-b/c", .data = "1"},
		{.name = "ab", .data = "1"}, {.name = "b/a", .data = "1"},
		{.name = "b/ab/a", .data = "1"}, {.name = "a.d/a", .data = "1"}};
	struct buf b = make(PAX, PLAIN, fine, 6);
	assert_int_equal(run_buf(&b), RC_OK);
	buf_done(&b);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup(name, archive_reset)
	const struct CMUnitTest tests[] = {
		T(test_zip_by_hand),
		T(test_names),
		T(test_special),
		T(test_sparse),
		T(test_twice),
		T(test_clashes),
	};

	return cmocka_run_group_tests_name(
		"archive_entries", tests, archive_setup, archive_teardown);
}
