/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef enum rc check_fn(const char *p, size_t len, struct err *err);

static void
accept(check_fn *check, const char *name)
{
	struct err err = ERR_INIT;

	if (check(name, strlen(name), &err) != RC_OK)
		fail_msg("refused: %s", err.text);
}

static void
refuse_bytes(check_fn *check, const char *name, size_t len, const char *what)
{
	struct err err = ERR_INIT;

	if (check(name, len, &err) != RC_INVALID)
		fail_msg("accepted \"%s\"", name);
	assert_string_equal(err.kind, "invalid-name");
	if (strstr(err.text, what) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, what);
	assert_non_null(strstr(err.text, "allowed are"));
	assert_true(strlen(err.text) + 1 < sizeof err.text);
}

static void
refuse(check_fn *check, const char *name, const char *what)
{
	refuse_bytes(check, name, strlen(name), what);
}

/* name of len bytes, all of them c */
static const char *
many(char c, size_t len)
{
	static char name[512];

	memset(name, c, len);
	name[len] = '\0';
	return name;
}

static void
repo_names(void **state)
{
	(void)state;
	accept(name_check_repo, "a");
	accept(name_check_repo, "0");
	accept(name_check_repo, "my-repo_1.x");
	accept(name_check_repo, many('r', 99));
	accept(name_check_repo, many('r', 100));
	refuse(name_check_repo, many('r', 101), "101 bytes");
	refuse(name_check_repo, "", "empty");
	refuse(name_check_repo, ".a", "first byte at byte 0");
	refuse(name_check_repo, "-a", "first byte at byte 0");
	refuse(name_check_repo, "_a", "first byte at byte 0");
	refuse(name_check_repo, "A", "first byte at byte 0");
	refuse(name_check_repo, "aB", "not allowed at byte 1");
	refuse(name_check_repo, "a/b", "not allowed at byte 1");
	refuse(name_check_repo, "a b", "not allowed at byte 1");
	refuse(name_check_repo, "ab\xc3\xa4", "not allowed at byte 2");
	refuse_bytes(name_check_repo, "a\0b", 3, "not allowed at byte 1");
	refuse(name_check_repo, "a..b", "\"..\" at byte 1");
	refuse(name_check_repo, "ab.", "last byte at byte 2");
}

static void
stage_names(void **state)
{
	(void)state;
	accept(name_check_stage, "A");
	accept(name_check_stage, "build-42_x.1.");
	accept(name_check_stage, many('S', 100));
	refuse(name_check_stage, many('S', 101), "101 bytes");
	refuse(name_check_stage, "", "empty");
	refuse(name_check_stage, ".", "first byte");
	refuse(name_check_stage, "..", "first byte");
	refuse(name_check_stage, "a/b", "at byte 1");
	refuse(name_check_stage, "a%2Fb", "at byte 1");
	refuse(name_check_stage, "a\n", "at byte 1");
}

static void
ref_names(void **state)
{
	(void)state;
	accept(name_check_ref, "main");
	accept(name_check_ref, "feature/x");
	accept(name_check_ref, "v1.2.3");
	accept(name_check_ref, "-a_b/C-D");
	accept(name_check_ref, "lock");
	accept(name_check_ref, "a.locks");
	accept(name_check_ref, "x.lock.y");
	accept(name_check_ref, many('r', 199));
	accept(name_check_ref, many('r', 200));
	refuse(name_check_ref, many('r', 201), "201 bytes");
	refuse(name_check_ref, "", "empty");
	refuse(name_check_ref, "/", "an empty segment at byte 0");
	refuse(name_check_ref, "a/", "an empty segment at byte 2");
	refuse(name_check_ref, "a//b", "an empty segment at byte 2");
	refuse(name_check_ref, ".a", "starts with \".\" at byte 0");
	refuse(name_check_ref, "a/.b", "starts with \".\" at byte 2");
	refuse(name_check_ref, "a/..", "starts with \".\" at byte 2");
	refuse(name_check_ref, "a..b", "\"..\" at byte 1");
	refuse(name_check_ref, "a.", "last byte at byte 1");
	refuse(name_check_ref, "a.lock", "\".lock\" at byte 0");
	refuse(name_check_ref, "a.lock/b", "\".lock\" at byte 0");
	refuse(name_check_ref, "b/.lock", "at byte 2");
	refuse(name_check_ref, "a b", "not allowed at byte 1");
	refuse(name_check_ref, "a~1", "not allowed at byte 1");
	refuse(name_check_ref, "a\\b", "not allowed at byte 1");
	refuse_bytes(name_check_ref, "a\0", 2, "not allowed at byte 1");
}

static void
refs_are_never_revisions(void **state)
{
	(void)state;
	accept(name_check_ref, "abcdef0");
	accept(name_check_ref, "deadbeef/x");
	accept(name_check_ref, "deadbeeg");
	refuse(name_check_ref, "deadbeef", "only hex digits");
	refuse(name_check_ref, "DEADBEEF", "only hex digits");
	refuse(name_check_ref, "20240101", "only hex digits");
	refuse(name_check_ref, many('f', 64), "only hex digits");
	refuse(name_check_ref, many('f', 65), "only hex digits");
	assert_false(name_is_rev("abcdef0", 7));
	assert_true(name_is_rev("abcdef01", 8));
	assert_true(name_is_rev(many('F', 64), 64));
	assert_false(name_is_rev(many('f', 65), 65));
	assert_false(name_is_rev("deadbeeg", 8));
	assert_false(name_is_rev("main", 4));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(repo_names),
		cmocka_unit_test(stage_names),
		cmocka_unit_test(ref_names),
		cmocka_unit_test(refs_are_never_revisions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
