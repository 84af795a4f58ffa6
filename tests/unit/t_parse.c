/* SPDX-License-Identifier: Apache-2.0 */
#include "parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cursor.h"
#include "fake_request.h"
#include "path.h"

/* ---- what is below, in the place of core ---- */

static char resolved[300];

enum rc
repo_find(struct repos *rs, const char *name, struct repo **out, struct err *err)
{
	(void)rs;
	(void)out;
	return err_set(err, RC_NOT_FOUND, "repo-not-found", "no %s", name);
}

enum rc
stage_find(
	struct stages *ss, struct repo *repo, const char *name, struct stage **out, struct err *err)
{
	(void)ss;
	(void)repo;
	(void)err;
	*out = (struct stage *)(uintptr_t)name;
	return RC_OK;
}

void
stage_info(struct stage *s, struct stage_info *out)
{
	memset(out, 0, sizeof *out);
	out->state = strcmp((const char *)s, "gone") == 0 ? STAGE_GONE : STAGE_OPEN;
}

void
stage_unref(struct stage *s)
{
	(void)s;
}

enum rc
rev_resolve(struct history *h, const struct repo *repo, const char *rev, struct commit *out,
	bool *is_ref, struct err *err)
{
	(void)h;
	(void)repo;
	(void)out;
	(void)err;
	*is_ref = false;
	snprintf(resolved, sizeof resolved, "%s", rev);
	return RC_OK;
}

enum rc
rev_find_head(struct history *h, const struct repo *repo, const char *rev, struct rev_head *out,
	struct err *err)
{
	(void)h;
	(void)repo;
	(void)out;
	if (strcmp(rev, "away") == 0)
		return err_set(err, RC_UNAVAILABLE, "database-unavailable", "away");
	snprintf(resolved, sizeof resolved, "%s", rev);
	return RC_OK;
}

bool
rev_cache_find(struct rev_cache *c, uint64_t repo_id, const char *rev, struct rev_head *out)
{
	(void)c;
	(void)repo_id;
	(void)out;
	snprintf(resolved, sizeof resolved, "%s", rev);
	return strcmp(rev, "main") == 0;
}

/* ---- pure forms ---- */

static void
modes(void **state)
{
	static const char *const bad[] = {
		"", "0", "64", "0648", "888", "1644", "00644", "-644", "644 ", "0o644", "0x1a"};
	uint32_t mode;

	(void)state;
	assert_true(mode_from_text("644", &mode) && mode == 0644);
	assert_true(mode_from_text("0755", &mode) && mode == 0755);
	assert_true(mode_from_text("0000", &mode) && mode == 0);
	assert_true(mode_from_text("064", &mode) && mode == 064);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (mode_from_text(bad[i], &mode))
			fail_msg("\"%s\"", bad[i]);
}

struct time_case {
	const char *text;
	int64_t ns;
};

static void
mtimes(void **state)
{
	static const struct time_case good[] = {
		{"0", 0},
		{"1700000000", INT64_C(1700000000000000000)},
		{"1700000000.5", INT64_C(1700000000500000000)},
		{"1700000000.000000001", INT64_C(1700000000000000001)},
		{"-1.5", INT64_C(-1500000000)},
		{"1970-01-01T00:00:01Z", INT64_C(1000000000)},
		{"2026-02-28T09:30:00Z", INT64_C(1772271000000000000)},
		{"2026-02-28t09:30:00.123456789z", INT64_C(1772271000123456789)},
		{"2026-02-28T10:30:00+01:00", INT64_C(1772271000000000000)},
		{"2026-02-28T04:00:00-05:30", INT64_C(1772271000000000000)},
		{"2024-02-29T00:00:00Z", INT64_C(1709164800000000000)},
		{"2016-12-31T23:59:60Z", INT64_C(1483228800000000000)},
		{"1969-12-31T23:59:59.5Z", INT64_C(-500000000)},
		{"1678-01-01T00:00:00Z", INT64_C(-9214560000000000000)},
		{"2261-12-31T23:59:59.999999999Z", INT64_C(9214646399999999999)},
	};
	static const char *const bad[] = {"", "x", "-", ".5", "1.", "1.0000000001", "1e3", " 1",
		"1 ", "--1", "+1", "99999999999", "-99999999999", "9999999999999999999999",
		"2026-02-28", "2026-02-28T09:30Z", "2026-02-28T09:30:00", "2026-02-29T00:00:00Z",
		"2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z",
		"2026-01-32T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z",
		"2026-01-01T00:00:61Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+24:00",
		"2026-01-01T00:00:00+01", "2026-01-01T00:00:00Zx", "1677-01-01T00:00:00Z",
		"2262-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "2026/01/01T00:00:00Z"};
	int64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		if (!mtime_from_text(good[i].text, &ns) || ns != good[i].ns)
			fail_msg("%s: %lld", good[i].text, (long long)ns);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (mtime_from_text(bad[i], &ns))
			fail_msg("\"%s\" passed", bad[i]);
}

static void
hashes(void **state)
{
	static const char good[] =
		"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
	char text[66];
	struct sha256 h;

	(void)state;
	assert_true(hash_from_text(good, 64, &h));
	assert_int_equal(h.b[31], 0xff);
	assert_false(hash_from_text(good, 63, &h));
	memcpy(text, good, 65);
	text[20] = 'A';
	assert_false(hash_from_text(text, 64, &h));
	text[20] = 'g';
	assert_false(hash_from_text(text, 64, &h));
}

/* ---- queries ---- */

static void
expect_refused(struct fake *f, const char *kind, const char *field)
{
	json_t *answer = fake_json(f);
	const char *got = json_string_value(json_object_get(answer, "field"));

	assert_int_equal(f->status, 400);
	assert_string_equal(fake_kind(f), kind);
	if (got == NULL || strcmp(got, field) != 0)
		fail_msg("field is %s, not %s", got != NULL ? got : "absent", field);
	json_decref(answer);
	fake_done(f);
}

static void
limits(void **state)
{
	static const char *const bad[] = {
		"0", "1001", "-1", "x", "", "1e2", "+5", "5 ", "99999999999999999999"};
	static struct fake f;
	size_t limit;

	(void)state;
	fake_init(&f, METHOD_GET);
	assert_true(parse_limit(&f.rq, &limit) && limit == PARSE_LIMIT_DEFAULT);
	fake_query(&f, "limit", "1000");
	assert_true(parse_limit(&f.rq, &limit) && limit == 1000);
	fake_done(&f);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		fake_init(&f, METHOD_GET);
		fake_query(&f, "limit", bad[i]);
		assert_false(parse_limit(&f.rq, &limit));
		expect_refused(&f, "invalid-query", "limit");
	}
}

static void
choices(void **state)
{
	static const char *const words[] = {"tar", "zip", NULL};
	static const char *const slash[] = {"/", NULL};
	static struct fake f;
	unsigned which = 7;

	(void)state;
	fake_init(&f, METHOD_GET);
	assert_true(parse_choice(&f.rq, "format", words, &which) && which == 7);
	fake_query(&f, "format", "zip");
	assert_true(parse_choice(&f.rq, "format", words, &which) && which == 1);
	fake_query(&f, "delimiter", "");
	assert_false(parse_choice(&f.rq, "delimiter", slash, &which));
	expect_refused(&f, "invalid-query", "delimiter");
	fake_init(&f, METHOD_GET);
	fake_query(&f, "format", "TAR");
	assert_false(parse_choice(&f.rq, "format", words, &which));
	expect_refused(&f, "invalid-query", "format");
}

static void
other_queries(void **state)
{
	static struct fake f;
	const char *prefix;
	char longest[PATH_BYTES_MAX + 2];
	struct sha256 h;
	size_t len;
	bool given;
	uint32_t mode;
	int64_t mtime;

	(void)state;
	fake_init(&f, METHOD_GET);
	assert_true(parse_prefix(&f.rq, &prefix, &len) && len == 0 && prefix[0] == '\0');
	assert_true(parse_hash(&f.rq, "expected", &h, &given) && !given);
	assert_true(parse_mode(&f.rq, &mode) && mode == PARSE_MODE_DEFAULT);
	assert_true(parse_mtime(&f.rq, &mtime) && mtime == 0);
	memset(longest, 'x', sizeof longest);
	longest[PATH_BYTES_MAX] = '\0';
	fake_query(&f, "prefix", longest);
	assert_true(parse_prefix(&f.rq, &prefix, &len) && len == PATH_BYTES_MAX);
	fake_done(&f);

	fake_init(&f, METHOD_GET);
	longest[PATH_BYTES_MAX] = 'x';
	longest[PATH_BYTES_MAX + 1] = '\0';
	fake_query(&f, "prefix", longest);
	assert_false(parse_prefix(&f.rq, &prefix, &len));
	expect_refused(&f, "invalid-query", "prefix");
	fake_init(&f, METHOD_GET);
	fake_query(&f, "expected", "abc");
	assert_false(parse_hash(&f.rq, "expected", &h, &given));
	expect_refused(&f, "invalid-query", "expected");
	fake_init(&f, METHOD_GET);
	fake_query(&f, "mtime", "yesterday");
	assert_false(parse_mtime(&f.rq, &mtime));
	expect_refused(&f, "invalid-query", "mtime");
}

/* ---- names and things ---- */

struct name_case {
	const char *param;
	const char *value;
	enum method method;
	const char *kind; /* NULL: good */
};

static void
names(void **state)
{
	static const struct name_case cases[] = {
		{"repo", "builds", METHOD_GET, NULL},
		{"repo", "Builds", METHOD_GET, "invalid-name"},
		{"stage", "s-1", METHOD_PUT, NULL},
		{"stage", "a/b", METHOD_PUT, "invalid-name"},
		{"ref", "feature/x", METHOD_GET, NULL},
		{"ref", "deadbeef", METHOD_GET, "invalid-name"},
		{"rev", "deadbeef", METHOD_GET, NULL},
		{"rev", "DEADBEEF", METHOD_HEAD, NULL},
		{"rev", "deadbeef", METHOD_PUT, "invalid-name"},
		{"rev", "main", METHOD_PUT, NULL},
		{"rev", "a b", METHOD_GET, "invalid-name"},
		{"a", "a b", METHOD_GET, "invalid-name"},
		{"b", "abcdef0123", METHOD_GET, NULL},
		{"id", "abcdef01", METHOD_GET, NULL},
		{"id", "abcdef0", METHOD_GET, "invalid-name"},
		{"id", "main", METHOD_GET, "invalid-name"},
		{"path", "a/b", METHOD_GET, NULL},
		{"path", "a/../b", METHOD_GET, "invalid-path"},
		{"path", "", METHOD_PUT, "invalid-path"},
	};
	static struct fake f;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const struct name_case *c = &cases[i];
		fake_init(&f, c->method);
		fake_param(&f, c->param, c->value);
		if (parse_names(&f.rq) != (c->kind == NULL))
			fail_msg("%s \"%s\"", c->param, c->value);
		if (c->kind != NULL)
			expect_refused(&f, c->kind, c->param);
		else
			fake_done(&f);
	}
}

static void
things(void **state)
{
	static struct fake f;
	struct repo *repo;
	struct stage *stage;
	struct commit c;
	struct rev_head head;
	struct repo some_repo = {.id = 1};

	(void)state;
	fake_init(&f, METHOD_GET);
	fake_param(&f, "repo", "nope");
	assert_false(parse_repo(&f.rq, &repo));
	assert_int_equal(f.status, 404);
	assert_string_equal(fake_kind(&f), "repo-not-found");
	fake_done(&f);
	fake_init(&f, METHOD_GET);
	fake_param(&f, "stage", "gone");
	assert_false(parse_stage(&f.rq, NULL, &stage));
	assert_string_equal(fake_kind(&f), "stage-not-found");
	fake_done(&f);
	fake_init(&f, METHOD_GET);
	assert_true(parse_rev(&f.rq, NULL, "ABCDEF0123", &c));
	assert_string_equal(resolved, "abcdef0123");
	assert_true(parse_rev(&f.rq, NULL, "Feature/X", &c));
	assert_string_equal(resolved, "Feature/X");
	assert_true(parse_rev_head(&f.rq, NULL, "ABCDEF0124", &head));
	assert_string_equal(resolved, "abcdef0124");
	assert_false(parse_rev_head_now(&f.rq, &some_repo, "ABCDEF0125", &head));
	assert_string_equal(resolved, "abcdef0125");
	assert_true(parse_rev_head_now(&f.rq, &some_repo, "main", &head));
	assert_false(reply_is_set(&f.rq));
	assert_false(parse_rev_head(&f.rq, NULL, "away", &head));
	assert_int_equal(f.status, 503);
	fake_done(&f);
}

/* ---- cursors ---- */

static void
cursors_go_round(void **state)
{
	uint8_t data[CURSOR_DATA_MAX];
	struct cursor_scope a, b;
	struct cursor out;

	(void)state;
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 37 + 5);
	cursor_scope_init(&a, CURSOR_TREE);
	cursor_scope_add(&a, "src/", 4);
	for (size_t len = 1; len <= sizeof data; len += len < 40 ? 1 : 73) {
		json_t *text = cursor_make(&a, data, len);
		const char *p = json_string_value(text);
		size_t n = json_string_length(text);
		assert_true(n <= CURSOR_TEXT_MAX);
		assert_int_equal(strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					   "0123456789-_"),
			n);
		assert_true(cursor_decode(&a, p, n, &out));
		assert_int_equal(out.len, len);
		assert_memory_equal(out.data, data, len);
		/* not of another list or query */
		cursor_scope_init(&b, CURSOR_DIFF);
		cursor_scope_add(&b, "src/", 4);
		assert_false(cursor_decode(&b, p, n, &out));
		cursor_scope_init(&b, CURSOR_TREE);
		cursor_scope_add(&b, "src", 3);
		assert_false(cursor_decode(&b, p, n, &out));
		assert_false(cursor_decode(&a, p, n - 1, &out));
		json_decref(text);
	}
}

static void
made_up_cursors(void **state)
{
	static const char *const bad[] = {"", "!", "A", "AA", "AAA", "AAAA", "AAAAAA", "AAAAAAAA",
		"AAAA AAAA", "AAAAAAA=", "\xff", "YWJjZGVmZ2hpamts"};
	static struct fake f;
	struct cursor_scope s;
	struct cursor out;
	char longest[CURSOR_TEXT_MAX + 2];

	(void)state;
	cursor_scope_init(&s, CURSOR_REPOS);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		fake_init(&f, METHOD_GET);
		fake_query(&f, "cursor", bad[i]);
		assert_false(cursor_take(&f.rq, &s, &out));
		expect_refused(&f, "invalid-query", "cursor");
	}
	memset(longest, 'x', sizeof longest);
	assert_false(cursor_decode(&s, longest, CURSOR_TEXT_MAX, &out));
	assert_false(cursor_decode(&s, longest, CURSOR_TEXT_MAX + 1, &out));
	fake_init(&f, METHOD_GET);
	assert_true(cursor_take(&f.rq, &s, &out));
	assert_int_equal(out.len, 0);
	assert_int_equal(out.data[0], 0);
	fake_done(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(modes),
		cmocka_unit_test(mtimes),
		cmocka_unit_test(hashes),
		cmocka_unit_test(limits),
		cmocka_unit_test(choices),
		cmocka_unit_test(other_queries),
		cmocka_unit_test(names),
		cmocka_unit_test(things),
		cmocka_unit_test(cursors_go_round),
		cmocka_unit_test(made_up_cursors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
