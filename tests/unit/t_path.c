/* SPDX-License-Identifier: Apache-2.0 */
#include "path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "utf8.h"

static void
accept(const char *p, size_t len)
{
	struct err err = ERR_INIT;

	if (path_check(p, len, &err) != RC_OK)
		fail_msg("refused: %s", err.text);
	assert_int_equal(err.rc, RC_OK);
}

static void
refuse(const char *p, size_t len, const char *what)
{
	struct err err = ERR_INIT;

	assert_int_equal(path_check(p, len, &err), RC_INVALID);
	assert_string_equal(err.kind, "invalid-path");
	if (strstr(err.text, what) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, what);
	/* the text says what is allowed, and is not cut off */
	assert_non_null(strstr(err.text, "control bytes or backslashes"));
	assert_true(utf8_valid(err.text, strlen(err.text)));
}

static void
refuse_str(const char *p, const char *what)
{
	refuse(p, strlen(p), what);
}

static void
ordinary_paths_pass(void **state)
{
	static const char *const good[] = {"a", "a/b/c", "...", "..a", "a..", ".hidden/.x", " ",
		"a b/c:d*?\"<>|", "-rf", "~", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x92\xa9/\xef\xbf\xbf"};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		accept(good[i], strlen(good[i]));
}

static void
bad_paths_are_named(void **state)
{
	(void)state;
	refuse("", 0, "empty");
	refuse_str("/", "an empty segment at byte 0");
	refuse_str("/a", "an empty segment at byte 0");
	refuse_str("a/", "an empty segment at byte 2");
	refuse_str("a//b", "an empty segment at byte 2");
	refuse_str(".", "a \".\" segment at byte 0");
	refuse_str("a/./b", "a \".\" segment at byte 2");
	refuse_str("..", "a \"..\" segment at byte 0");
	refuse_str("a/b/..", "a \"..\" segment at byte 4");
	refuse_str("../a", "a \"..\" segment at byte 0");
	refuse_str("a\\b", "a backslash at byte 1");
	refuse_str("ab\n", "a control byte at byte 2");
	refuse_str("\x1f", "a control byte at byte 0");
	refuse_str("a\x7f", "a control byte at byte 1");
	refuse("a\0b", 3, "a NUL byte at byte 1");
	refuse_str("ab\xff", "not UTF-8 at byte 2");
	refuse_str("\xc3\xa4/\xc3", "not UTF-8 at byte 3");
	refuse_str("\xc0\xaf", "not UTF-8 at byte 0");
	refuse_str("x\xed\xa0\x80y", "not UTF-8 at byte 1");
	refuse_str("\xf0\x9f\x92\xa9\xf4\x90\x80\x80", "not UTF-8 at byte 4");
}

static void
limits_are_exact(void **state)
{
	char p[PATH_BYTES_MAX + 2];

	(void)state;
	memset(p, 'x', sizeof p);
	accept(p, PATH_SEGMENT_BYTES_MAX - 1);
	accept(p, PATH_SEGMENT_BYTES_MAX);
	refuse(p, PATH_SEGMENT_BYTES_MAX + 1, "longer than 255 bytes at byte 0");
	for (size_t i = 255; i < sizeof p; i += 256)
		p[i] = '/';
	accept(p, PATH_BYTES_MAX - 1);
	refuse(p, PATH_BYTES_MAX, "an empty segment at byte 1024");
	p[PATH_BYTES_MAX - 1] = 'x';
	refuse(p, PATH_BYTES_MAX, "longer than 255 bytes at byte 768");
	p[1000] = '/';
	accept(p, PATH_BYTES_MAX);
	refuse(p, PATH_BYTES_MAX + 1, "1025 bytes");
}

static void
no_byte_is_read_behind_the_path(void **state)
{
	static const char exact[3] = {'a', '/', 'b'};

	(void)state;
	accept(exact, sizeof exact);
	refuse(exact, 2, "empty segment at byte 2");
}

static void
shown_paths_are_printable(void **state)
{
	char out[PATH_SHOW_BYTES];
	char p[2000];

	(void)state;
	assert_string_equal(path_show(out, "a/b", 3), "a/b");
	assert_string_equal(path_show(out, "", 0), "");
	assert_string_equal(path_show(out, "a\n\"\\\0b", 6), "a????b");
	assert_string_equal(path_show(out, "\xc3\xa4", 2), "\xc3\xa4");
	assert_string_equal(path_show(out, "\xc3/\xff", 3), "?/?");
	/* every length, of one to four byte characters, from every first byte on */
	static const char *const chars[] = {"x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x92\xa9"};
	for (size_t c = 0; c < 4; c++) {
		size_t n = strlen(chars[c]);
		for (size_t lead = 0; lead < 4; lead++) {
			memset(p, '/', lead);
			for (size_t len = lead; len + n <= sizeof p; len += n) {
				memcpy(p + len, chars[c], n);
				path_show(out, p, len + n);
				assert_true(strlen(out) < sizeof out);
				assert_true(utf8_valid(out, strlen(out)));
				if (len + n < sizeof out)
					assert_int_equal(strlen(out), len + n);
			}
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ordinary_paths_pass),
		cmocka_unit_test(bad_paths_are_named),
		cmocka_unit_test(limits_are_exact),
		cmocka_unit_test(no_byte_is_read_behind_the_path),
		cmocka_unit_test(shown_paths_are_printable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
