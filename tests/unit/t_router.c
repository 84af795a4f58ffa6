/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "router.h"

static const char *const list_query[] = {"limit", "cursor", NULL};

#define OP(name, m, p, q)                                                                          \
	static const struct op name = {.id = #name, .method = m, .path = p, .query = q}

OP(root, METHOD_GET, "/", NULL);
OP(repos, METHOD_GET, "/v1/repos", list_query);
OP(repo_get, METHOD_GET, "/v1/repos/{repo}", NULL);
OP(repo_put, METHOD_PUT, "/v1/repos/{repo}", NULL);
OP(file_get, METHOD_GET, "/v1/repos/{repo}/trees/{ref}/files/{path...}", NULL);
OP(file_head, METHOD_HEAD, "/v1/repos/{repo}/trees/{ref}/files/{path...}", NULL);
OP(files, METHOD_GET, "/v1/repos/{repo}/trees/{ref}/files", list_query);
OP(diff, METHOD_GET, "/v1/repos/{repo}/diff/{a}/{b}", NULL);
OP(special, METHOD_GET, "/v1/repos/special", NULL);
OP(any, METHOD_GET, "/any/{path...}", NULL);

/* templates that are less exact come first, so that order decides nothing */
static const struct op *const ops[] = {&any, &repo_get, &file_get, &file_head, &files, &diff, &root,
	&repos, &repo_put, &special, NULL};

static char target[8192];
static struct route route;
static struct err err;

static enum rc
find(enum method method, const char *text)
{
	snprintf(target, sizeof target, "%s", text);
	err = (struct err)ERR_INIT;
	return router_find(ops, method, target, &route, &err);
}

static const char *
param(const char *name)
{
	for (size_t i = 0; i < route.param_count; i++)
		if (strcmp(route.params[i].name, name) == 0)
			return route.params[i].value;
	return NULL;
}

static const char *
query(const char *name)
{
	for (size_t i = 0; i < route.query_count; i++)
		if (strcmp(route.query[i].name, name) == 0)
			return route.query[i].value;
	return NULL;
}

static void
test_templates(void **state)
{
	(void)state;
	assert_int_equal(find(METHOD_GET, "/"), RC_OK);
	assert_ptr_equal(route.op, &root);
	assert_int_equal(find(METHOD_GET, "/v1/repos"), RC_OK);
	assert_ptr_equal(route.op, &repos);
	assert_int_equal(find(METHOD_GET, "/v1/repos/r1"), RC_OK);
	assert_ptr_equal(route.op, &repo_get);
	assert_string_equal(param("repo"), "r1");
	assert_int_equal(find(METHOD_PUT, "/v1/repos/r1"), RC_OK);
	assert_ptr_equal(route.op, &repo_put);
	assert_int_equal(find(METHOD_GET, "/v1/repos/special"), RC_OK);
	assert_ptr_equal(route.op, &special);
	/* the exact path takes no PUT, the parameter does */
	assert_int_equal(find(METHOD_PUT, "/v1/repos/special"), RC_OK);
	assert_ptr_equal(route.op, &repo_put);
	assert_int_equal(find(METHOD_GET, "/v1/repos/r/diff/a/b"), RC_OK);
	assert_string_equal(param("a"), "a");
	assert_string_equal(param("b"), "b");
	assert_int_equal(find(METHOD_GET, "/v1/repos/r/trees/main/files"), RC_OK);
	assert_ptr_equal(route.op, &files);
}

static void
test_decoding(void **state)
{
	(void)state;
	assert_int_equal(
		find(METHOD_GET, "/v1/repos/r/trees/feature%2Fx/files/a/b%2Fc%20d/%C3%A4+"), RC_OK);
	assert_ptr_equal(route.op, &file_get);
	assert_string_equal(param("ref"), "feature/x");
	assert_string_equal(param("path"), "a/b/c d/\xc3\xa4+");
	/* once only */
	assert_int_equal(find(METHOD_GET, "/any/%2541%25252e"), RC_OK);
	assert_string_equal(param("path"), "%41%252e");
	/* what a path may be is not the router's business */
	assert_int_equal(find(METHOD_GET, "/any/../a//b/"), RC_OK);
	assert_string_equal(param("path"), "../a//b/");
	assert_int_equal(find(METHOD_GET, "/any/%2e%2e%2f"), RC_OK);
	assert_string_equal(param("path"), "../");
	assert_int_equal(route.params[0].len, 3);
}

/* Far more segments than any template has. */
static void
test_deep_paths(void **state)
{
	char path[4096], text[5000];
	(void)state;

	for (size_t depth = 1; depth < 1000; depth += depth < 40 ? 1 : 97) {
		for (size_t i = 0; i < depth; i++)
			memcpy(path + 2 * i, "a/", 2);
		path[2 * depth - 1] = '\0';
		snprintf(text, sizeof text, "/v1/repos/r/trees/m/files/%s", path);
		assert_int_equal(find(METHOD_GET, text), RC_OK);
		assert_ptr_equal(route.op, &file_get);
		assert_string_equal(param("path"), path);
		snprintf(text, sizeof text, "/v1/repos/r/diff/a/b/%s", path);
		assert_int_equal(find(METHOD_GET, text), RC_NOT_FOUND);
		snprintf(text, sizeof text, "/%s", path);
		assert_int_equal(find(METHOD_GET, text), RC_NOT_FOUND);
	}
}

static void
test_bad_encoding(void **state)
{
	static const char *const bad[] = {"/any/%", "/any/%4", "/any/a%zz", "/any/%4g/x",
		"/any/%00", "/any/a%00b", "/any/%ff", "/any/\xc3", "/any/%c0%af", "/any/%ed%a0%80",
		"/any/%f4%90%80%80", "/v1/repos/%/trees/x/files"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (find(METHOD_GET, bad[i]) != RC_INVALID)
			fail_msg("accepted: %s", bad[i]);
		assert_string_equal(err.kind, "invalid-path");
	}
	find(METHOD_GET, "/v1/repos/r/diff/ab%zz/c");
	assert_non_null(strstr(err.text, "{a}"));
	assert_non_null(strstr(err.text, "byte 19 "));
}

static void
test_not_found(void **state)
{
	static const char *const none[] = {"/v1", "/v1/", "/v1/repos/", "/v1/repos//", "//v1/repos",
		"/v1/repos/r/", "/v1/repos/r/trees/main/files/", "/v1//r", "/V1/repos",
		"/%76%31/repos", "/v1/repos/r/trees//files/x", "/any", "/any/", ""};

	(void)state;
	for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
		if (find(METHOD_GET, none[i]) != RC_NOT_FOUND)
			fail_msg("found: %s", none[i]);
		assert_string_equal(err.kind, "route-not-found");
		assert_string_equal(route.allow, "");
	}
}

static void
test_methods(void **state)
{
	(void)state;
	assert_int_equal(find(METHOD_DELETE, "/v1/repos/r"), RC_DENIED);
	assert_string_equal(err.kind, "method-not-allowed");
	assert_string_equal(route.allow, "GET, HEAD, PUT, OPTIONS");
	assert_int_equal(find(METHOD_COUNT, "/v1/repos/r"), RC_DENIED);
	assert_int_equal(find(METHOD_OPTIONS, "/v1/repos"), RC_OK);
	assert_null(route.op);
	assert_string_equal(route.allow, "GET, HEAD, OPTIONS");
	assert_int_equal(find(METHOD_OPTIONS, "*"), RC_OK);
	assert_null(route.op);
	assert_int_equal(find(METHOD_OPTIONS, "/nothing"), RC_NOT_FOUND);
	assert_int_equal(find(METHOD_HEAD, "/v1/repos"), RC_OK);
	assert_ptr_equal(route.op, &repos);
	assert_int_equal(find(METHOD_HEAD, "/v1/repos/r/trees/m/files/x"), RC_OK);
	assert_ptr_equal(route.op, &file_head);
	/* a refusal of the method comes before one of the encoding */
	assert_int_equal(find(METHOD_DELETE, "/any/%"), RC_DENIED);
}

static void
test_query(void **state)
{
	(void)state;
	assert_int_equal(find(METHOD_GET, "/v1/repos?limit=10&cursor=a%2Bb+c%26d"), RC_OK);
	assert_string_equal(query("limit"), "10");
	assert_string_equal(query("cursor"), "a+b c&d");
	assert_int_equal(find(METHOD_GET, "/v1/repos?cursor"), RC_OK);
	assert_string_equal(query("cursor"), "");
	assert_null(query("limit"));
	assert_int_equal(find(METHOD_GET, "/v1/repos?&&limit=&"), RC_OK);
	assert_string_equal(query("limit"), "");
	assert_int_equal(find(METHOD_GET, "/v1/repos?"), RC_OK);
	assert_int_equal(find(METHOD_GET, "/v1/repos?%6cimit=a=b"), RC_OK);
	assert_string_equal(query("limit"), "a=b");
	assert_int_equal(find(METHOD_GET, "/v1/repos?limit=a?b/c"), RC_OK);
	assert_string_equal(query("limit"), "a?b/c");
}

static void
test_bad_query(void **state)
{
	static const char *const bad[] = {"limi=1", "limit=1&limit=2", "limit=%", "limit=%zz",
		"limit=%00", "limit=%ff", "%=1", "=1", "limit=1&cursor=2&x=3", "LIMIT=1",
		"limit%00=1"};
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		snprintf(text, sizeof text, "/v1/repos?%s", bad[i]);
		if (find(METHOD_GET, text) != RC_INVALID)
			fail_msg("accepted: %s", bad[i]);
		assert_string_equal(err.kind, "invalid-query");
	}
	find(METHOD_GET, "/v1/repos?colour=1");
	assert_string_equal(route.field, "colour");
	assert_non_null(strstr(err.text, "\"colour\""));
	assert_non_null(strstr(err.text, "limit, cursor"));
	find(METHOD_GET, "/v1/repos?limit=1&limit=2");
	assert_string_equal(route.field, "limit");
	find(METHOD_GET, "/v1/repos?cursor=%00");
	assert_string_equal(route.field, "cursor");
	find(METHOD_GET, "/v1/repos/%zz");
	assert_string_equal(route.field, "");
	assert_int_equal(find(METHOD_GET, "/v1/repos/r?x=1"), RC_INVALID);
	assert_non_null(strstr(err.text, "none"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_templates),
		cmocka_unit_test(test_decoding),
		cmocka_unit_test(test_deep_paths),
		cmocka_unit_test(test_bad_encoding),
		cmocka_unit_test(test_not_found),
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_query),
		cmocka_unit_test(test_bad_query),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
