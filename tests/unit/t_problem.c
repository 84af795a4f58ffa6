/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "problem.h"

/* ---- doubles for the HTTP adapter ---- */

static struct {
	int status;
	char type[64];
	char body[4096];
	char headers[1024];
} sent;

bool
reply_is_set(const struct request *rq)
{
	(void)rq;
	return sent.status != 0;
}

bool
reply_bytes(struct request *rq, int status, const char *content_type, const void *data, size_t len)
{
	if (reply_is_set(rq))
		return false;
	sent.status = status;
	snprintf(sent.type, sizeof sent.type, "%s", content_type);
	assert_true(len < sizeof sent.body);
	memcpy(sent.body, data, len);
	sent.body[len] = '\0';
	return true;
}

bool
reply_take(struct request *rq, int status, const char *content_type, uint8_t *data, size_t len)
{
	bool ok = reply_bytes(rq, status, content_type, data, len);

	free(data);
	return ok;
}

void
reply_header(struct request *rq, const char *name, const char *fmt, ...)
{
	size_t len = strlen(sent.headers);
	va_list ap;

	(void)rq;
	len += (size_t)snprintf(sent.headers + len, sizeof sent.headers - len, "%s: ", name);
	va_start(ap, fmt);
	len += (size_t)vsnprintf(sent.headers + len, sizeof sent.headers - len, fmt, ap);
	va_end(ap);
	snprintf(sent.headers + len, sizeof sent.headers - len, "\n");
}

/* ---- tests ---- */

static struct request rq = {.id = "r-1", .target = "/x"};

static int
reset(void **state)
{
	(void)state;
	memset(&sent, 0, sizeof sent);
	log_set_level(LOG_LEVEL_ERROR);
	/* some of these tests want a bug() that goes on */
	unsetenv("DIGSTORE_ABORT_ON_BUG");
	return 0;
}

static json_t *
body(void)
{
	json_error_t e;
	json_t *j = json_loads(sent.body, JSON_REJECT_DUPLICATES, &e);

	if (j == NULL)
		fail_msg("%s: %s", e.text, sent.body);
	assert_int_equal(sent.body[strlen(sent.body) - 1], '\n');
	return j;
}

static const char *
text_of(const json_t *j, const char *name)
{
	const char *s = json_string_value(json_object_get(j, name));

	return s != NULL ? s : "";
}

static void
test_members(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	err_set(&err, RC_CONFLICT, "parent-mismatch", "the head of \"main\" is another");
	err_detail(&err, "secret detail");
	assert_true(reply_problem_with(&rq, &err,
		json_pack("{s:s, s:s}", "head", "abc", "title",
			"may not replace a standard member")));
	assert_int_equal(sent.status, 409);
	assert_string_equal(sent.type, "application/problem+json");
	json_t *j = body();
	assert_string_equal(text_of(j, "type"), "urn:digstore:problem:parent-mismatch");
	assert_string_equal(text_of(j, "title"), "The ref has moved");
	assert_int_equal(json_integer_value(json_object_get(j, "status")), 409);
	assert_string_equal(text_of(j, "detail"), "the head of \"main\" is another");
	assert_string_equal(text_of(j, "instance"), "urn:digstore:request:r-1");
	assert_string_equal(text_of(j, "request_id"), "r-1");
	assert_string_equal(text_of(j, "head"), "abc");
	assert_null(strstr(sent.body, "secret"));
	assert_string_equal(sent.headers, "");
	json_decref(j);
	/* the first answer stands */
	assert_false(reply_problem(&rq, &err));
	assert_int_equal(sent.status, 409);
}

static void
test_headers_of_kinds(void **state)
{
	static const struct {
		enum rc rc;
		const char *kind;
		int status;
		const char *headers;
	} cases[] = {
		{RC_UNAVAILABLE, "database-unavailable", 503, "Retry-After: 2\n"},
		{RC_AGAIN, NULL, 503, "Retry-After: 2\n"},
		{RC_FULL, "disk-full", 507, "Retry-After: 30\n"},
		{RC_INVALID, NULL, 400, ""},
		{RC_NOT_FOUND, "repo-not-found", 404, ""},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct err err = ERR_INIT;
		reset(state);
		err_set(&err, cases[i].rc, cases[i].kind, "x");
		assert_true(reply_problem(&rq, &err));
		assert_int_equal(sent.status, cases[i].status);
		assert_string_equal(sent.headers, cases[i].headers);
	}
}

static void
test_not_allowed(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	err_set(&err, RC_DENIED, "method-not-allowed", "no");
	assert_true(reply_not_allowed(&rq, &err, "GET, HEAD"));
	assert_int_equal(sent.status, 405);
	assert_string_equal(sent.headers, "Allow: GET, HEAD\n");
	json_t *j = body();
	assert_int_equal(json_array_size(json_object_get(j, "allowed")), 2);
	json_decref(j);
}

/* Bytes of a client, and a message cut in the middle of a character, still give valid JSON. */
static void
test_text_that_is_not_utf8(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	err_set(&err, RC_INVALID, "invalid-path", "bad \xff byte, \xc3\xa4, \x01 and cut \xe2\x82");
	assert_true(reply_problem(&rq, &err));
	json_t *j = body();
	assert_string_equal(text_of(j, "detail"), "bad ? byte, \xc3\xa4, \x01 and cut ??");
	json_decref(j);
	reset(state);
	err_clear(&err);
	char *tail = err.text;
	err_set(&err, RC_INVALID, "invalid-path", "x");
	for (size_t i = 0; i + 1 < sizeof err.text; i++)
		tail[i] = (char)(i % 2 == 0 ? 0xc3 : 0xa4);
	tail[sizeof err.text - 1] = '\0';
	assert_true(reply_problem(&rq, &err));
	json_decref(body());
}

static void
test_every_rc_has_a_kind(void **state)
{
	(void)state;
	for (int rc = RC_OK; rc <= RC_BUG; rc++) {
		struct err err = {.rc = (enum rc)rc};
		const struct problem_kind *k = problem_of(&err);
		assert_non_null(k);
		assert_true(k->status >= 400);
	}
	struct err unknown = {.rc = RC_IO, .kind = "no-such-kind"};
	assert_string_equal(problem_of(&unknown)->slug, "internal");
}

static void
test_table(void **state)
{
	size_t count = 0;

	(void)state;
	for (const struct problem_kind *k = problem_kinds(); k->slug != NULL; k++, count++) {
		assert_true(k->status >= 400 && k->status < 600);
		assert_true(strlen(k->title) > 5);
		assert_int_equal(strspn(k->slug, "abcdefghijklmnopqrstuvwxyz-"), strlen(k->slug));
		for (const struct problem_kind *o = problem_kinds(); o < k; o++)
			assert_string_not_equal(o->slug, k->slug);
	}
	assert_true(count > 50);
}

static void
test_json(void **state)
{
	(void)state;
	assert_true(reply_json(&rq, 200, json_pack("{s:i}", "a", 1)));
	assert_string_equal(sent.body, "{\"a\":1}\n");
	assert_string_equal(sent.type, "application/json");
	reset(state);
	assert_true(reply_json(&rq, 200, NULL));
	assert_int_equal(sent.status, 500);
	json_decref(body());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_members, reset),
		cmocka_unit_test_setup(test_headers_of_kinds, reset),
		cmocka_unit_test_setup(test_not_allowed, reset),
		cmocka_unit_test_setup(test_text_that_is_not_utf8, reset),
		cmocka_unit_test_setup(test_every_rc_has_a_kind, reset),
		cmocka_unit_test_setup(test_table, reset),
		cmocka_unit_test_setup(test_json, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
