/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "err.h"

static void
the_first_failure_stays(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	assert_int_equal(err.rc, RC_OK);
	assert_int_equal(err_set(&err, RC_INVALID, "first", "no %d", 1), RC_INVALID);
	assert_int_equal(err_set(&err, RC_IO, "second", "no %d", 2), RC_INVALID);
	assert_int_equal(err_errno(&err, ENOSPC, "write", "/x"), RC_INVALID);
	assert_int_equal(err.rc, RC_INVALID);
	assert_string_equal(err.kind, "first");
	assert_string_equal(err.text, "no 1");
}

static void
detail_is_added_once(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	/* without a failure there is nothing to add to */
	assert_int_equal(err_detail(&err, "early"), RC_OK);
	assert_string_equal(err.detail, "");
	err_set(&err, RC_IO, NULL, "text");
	assert_string_equal(err.detail, "");
	assert_int_equal(err_detail(&err, "errno %d", 5), RC_IO);
	assert_int_equal(err_detail(&err, "later"), RC_IO);
	assert_string_equal(err.detail, "errno 5");
	assert_string_equal(err.text, "text");
	assert_null(err.kind);
}

static void
cleared_is_as_new(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	err_set(&err, RC_IO, "kind", "text");
	err_detail(&err, "detail");
	err_clear(&err);
	assert_int_equal(err.rc, RC_OK);
	assert_null(err.kind);
	assert_string_equal(err.text, "");
	assert_string_equal(err.detail, "");
	assert_int_equal(err_set(&err, RC_FULL, NULL, "%s", "again"), RC_FULL);
	assert_string_equal(err.text, "again");
}

/* Clients choose names that end up in texts: too long ones are cut, not written past the end. */
static void
long_texts_are_cut(void **state)
{
	char text[2000];
	struct err err = ERR_INIT;
	(void)state;

	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	err_set(&err, RC_INVALID, NULL, "a%sb", text);
	err_detail(&err, "c%sd", text);
	assert_int_equal(strlen(err.text), sizeof err.text - 1);
	assert_int_equal(strlen(err.detail), sizeof err.detail - 1);
	assert_int_equal(err.text[0], 'a');
	assert_int_equal(err.detail[0], 'c');
}

static void
errno_says_what_kind(void **state)
{
	static const struct {
		int errnum;
		enum rc rc;
		const char *kind;
	} cases[] = {
		{ENOSPC, RC_FULL, "disk-full"},
		{EDQUOT, RC_FULL, "disk-full"},
		{EFBIG, RC_FULL, "disk-full"},
		{ENOMEM, RC_NOMEM, "no-memory"},
		{EIO, RC_IO, "io-error"},
		{EACCES, RC_IO, "io-error"},
		{0, RC_IO, "io-error"},
		{99999, RC_IO, "io-error"}, /* unknown to the C library */
		{-1, RC_IO, "io-error"},
	};
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct err err = ERR_INIT;
		assert_int_equal(err_errno(&err, cases[i].errnum, "write a pack", "/some/path"),
			cases[i].rc);
		assert_string_equal(err.kind, cases[i].kind);
		assert_non_null(strstr(err.text, "could not write a pack"));
		/* paths are for the log only */
		assert_null(strstr(err.text, "/some/path"));
		assert_non_null(strstr(err.detail, "/some/path"));
	}
	struct err err = ERR_INIT;
	err_errno(&err, EIO, "read", NULL);
	assert_non_null(strstr(err.detail, "errno 5"));
}

static void
every_rc_has_a_name(void **state)
{
	(void)state;
	for (int rc = RC_OK; rc <= RC_BUG; rc++) {
		assert_memory_equal(rc_name((enum rc)rc), "RC_", 3);
		assert_string_not_equal(rc_name((enum rc)rc), "RC_?");
		for (int other = RC_OK; other < rc; other++)
			assert_string_not_equal(rc_name((enum rc)rc), rc_name((enum rc)other));
	}
	assert_string_equal(rc_name((enum rc)(RC_BUG + 1)), "RC_?");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_failure_stays),
		cmocka_unit_test(detail_is_added_once),
		cmocka_unit_test(cleared_is_as_new),
		cmocka_unit_test(long_texts_are_cut),
		cmocka_unit_test(errno_says_what_kind),
		cmocka_unit_test(every_rc_has_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
