/* SPDX-License-Identifier: Apache-2.0 */
#include "json_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_request.h"

enum { NAME, COUNT, META, PARENT, FIELDS };

struct parsed {
	struct json_field fields[FIELDS];
	struct json_problem problem;
	struct err err;
	json_t *root;
};

static enum rc
parse(struct parsed *p, const char *text, size_t len)
{
	*p = (struct parsed){.fields = {
				     [NAME] = {.name = "name", .required = true, .bytes_max = 5},
				     [COUNT] = {.name = "count", .kind = JSON_KIND_INTEGER},
				     [META] = {.name = "meta", .kind = JSON_KIND_OBJECT},
				     [PARENT] = {.name = "parent", .nullable = true},
			     }};
	/* exactly len bytes, so that a read past the end is seen */
	char *copy = test_malloc(len > 0 ? len : 1);
	memcpy(copy, text, len);
	enum rc rc = json_body_parse(copy, len, p->fields, FIELDS, &p->root, &p->problem, &p->err);
	test_free(copy);
	assert_true((rc == RC_OK) == (p->root != NULL));
	return rc;
}

static void
expect(const char *text, enum rc rc, const char *kind, const char *field, const char *says)
{
	struct parsed p;

	if (parse(&p, text, strlen(text)) != rc || strcmp(p.err.kind, kind) != 0)
		fail_msg("%s: %s %s", text, rc_name(p.err.rc), p.err.text);
	if (strcmp(p.problem.field, field) != 0 || strstr(p.err.text, says) == NULL)
		fail_msg("%s: field \"%s\": %s", text, p.problem.field, p.err.text);
}

static void
fields_are_filled(void **state)
{
	static const char text[] =
		" {\"name\": \"\xc3\xa4\\u20ac\", \"count\": -7, \"meta\": {\"a\": 1}, "
		"\"parent\": null}\n";
	struct parsed p;

	(void)state;
	assert_int_equal(parse(&p, text, strlen(text)), RC_OK);
	assert_string_equal(p.fields[NAME].text, "\xc3\xa4\xe2\x82\xac");
	assert_int_equal(p.fields[NAME].text_len, 5);
	assert_int_equal(p.fields[COUNT].integer, -7);
	assert_true(json_is_object(p.fields[META].object));
	assert_true(p.fields[PARENT].given && p.fields[PARENT].is_null);
	assert_null(p.fields[PARENT].text);
	json_decref(p.root);
	assert_int_equal(parse(&p, "{\"name\":\"\"}", 11), RC_OK);
	assert_true(p.fields[NAME].given && !p.fields[NAME].is_null);
	assert_false(p.fields[COUNT].given || p.fields[META].given || p.fields[PARENT].given);
	json_decref(p.root);
}

static void
no_body_is_an_empty_object(void **state)
{
	struct json_field field = {.name = "name"};
	struct json_problem problem;
	struct err err = ERR_INIT;
	json_t *root;

	(void)state;
	assert_int_equal(json_body_parse("", 0, &field, 1, &root, &problem, &err), RC_OK);
	assert_false(field.given);
	json_decref(root);
	expect("", RC_INVALID, "invalid-field", "name", "missing");
}

static void
booleans_are_true_or_false(void **state)
{
	struct json_field field = {.name = "yes", .kind = JSON_KIND_BOOLEAN};
	static const char *const bad[] = {"{\"yes\":1}", "{\"yes\":\"true\"}", "{\"yes\":null}"};
	struct json_problem problem;
	json_t *root;

	(void)state;
	for (int i = 0; i < 3; i++) {
		static const char *const texts[] = {"{\"yes\":false}", "{\"yes\":true}", "{}"};
		struct err err = ERR_INIT;
		assert_int_equal(json_body_parse(texts[i], strlen(texts[i]), &field, 1, &root,
					 &problem, &err),
			RC_OK);
		assert_int_equal(field.given, i < 2);
		assert_int_equal(field.given && field.boolean, i == 1);
		json_decref(root);
		err_clear(&err);
		assert_int_equal(
			json_body_parse(bad[i], strlen(bad[i]), &field, 1, &root, &problem, &err),
			RC_INVALID);
		assert_string_equal(problem.field, "yes");
		assert_non_null(strstr(err.text, "true or false"));
	}
}

static void
wrong_fields_are_named(void **state)
{
	(void)state;
	expect("{}", RC_INVALID, "invalid-field", "name", "\"name\" is missing; it is a string");
	expect("{\"name\":\"a\",\"nme\":1}", RC_INVALID, "invalid-field", "nme",
		"allowed are: name, count, meta, parent");
	expect("{\"name\":null}", RC_INVALID, "invalid-field", "name", "must be a string");
	expect("{\"name\":1}", RC_INVALID, "invalid-field", "name", "must be a string");
	expect("{\"name\":\"toolong\"}", RC_INVALID, "invalid-field", "name", "has 7 bytes");
	expect("{\"name\":\"a\",\"count\":\"1\"}", RC_INVALID, "invalid-field", "count",
		"whole number");
	expect("{\"name\":\"a\",\"count\":1.5}", RC_INVALID, "invalid-field", "count",
		"whole number");
	expect("{\"name\":\"a\",\"count\":1e2}", RC_INVALID, "invalid-field", "count",
		"whole number");
	expect("{\"name\":\"a\",\"count\":true}", RC_INVALID, "invalid-field", "count",
		"whole number");
	expect("{\"name\":\"a\",\"count\":null}", RC_INVALID, "invalid-field", "count",
		"whole number");
	expect("{\"name\":\"a\",\"meta\":[]}", RC_INVALID, "invalid-field", "meta", "an object");
	expect("{\"name\":\"a\",\"parent\":{}}", RC_INVALID, "invalid-field", "parent",
		"a string or null");
	expect("{\"name\":\"a\",\"\":1}", RC_INVALID, "invalid-field", "", "is not a field");
}

static void
no_json(void **state)
{
	static const char *const texts[] = {"{", "}", "x", "{\"a\":}", "{\"a\":1,}", "{'a':1}",
		"{\"name\":\"a\"} x", "{\"name\":\"a\"}{}", "{\"name\":\"a\",\"name\":\"a\"}",
		"{\"name\":\"\\u0000\"}", "{\"name\":\"\xff\"}", "{\"name\":\"\\ud800\"}",
		"{\"name\":\"a\nb\"}", "{\"name\":\"a", "[]", "1", "\"a\"", "null", " ",
		"{\"count\":99999999999999999999}", "{\"count\":01}", "{\"count\":NaN}"};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		expect(texts[i], RC_INVALID, "invalid-json", "", "JSON");
	struct parsed p;
	assert_int_equal(parse(&p, "{\"name\":\"a\"}\0", 13), RC_INVALID);
	assert_string_equal(p.err.kind, "invalid-json");
}

static enum rc
nested(size_t depth, bool in_string)
{
	size_t len = 0;
	char *text = test_malloc(2 * depth + 64);
	struct parsed p;

	memcpy(text, "{\"meta\":", 8);
	len = 8;
	if (in_string)
		text[len++] = '"';
	memset(text + len, '[', depth - 1);
	len += depth - 1;
	memset(text + len, ']', depth - 1);
	len += depth - 1;
	if (in_string)
		text[len++] = '"';
	text[len++] = '}';
	enum rc rc = parse(&p, text, len);
	if (rc == RC_TOO_LARGE) {
		assert_string_equal(p.err.kind, "json-too-large");
		assert_int_equal(p.problem.limit, JSON_DEPTH_MAX);
	}
	test_free(text);
	return rc;
}

static void
depth_is_limited(void **state)
{
	(void)state;
	assert_int_equal(nested(JSON_DEPTH_MAX, false), RC_INVALID); /* "meta" is no object */
	assert_int_equal(nested(JSON_DEPTH_MAX + 1, false), RC_TOO_LARGE);
	assert_int_equal(nested(100000, false), RC_TOO_LARGE);
	assert_int_equal(nested(100000, true), RC_INVALID);
	expect("{\"name\":\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"}", RC_INVALID,
		"invalid-field", "name", "bytes");
}

static void
refusals_are_answers(void **state)
{
	struct json_field field = {.name = "name"};
	static struct fake f;
	json_t *root, *answer;

	(void)state;
	fake_init(&f, METHOD_PUT);
	f.rq.json = "{\"other\":1}";
	f.rq.json_bytes = strlen(f.rq.json);
	assert_false(json_body_take(&f.rq, &field, 1, &root));
	assert_int_equal(f.status, 400);
	answer = fake_json(&f);
	assert_string_equal(json_string_value(json_object_get(answer, "field")), "other");
	json_decref(answer);
	fake_done(&f);

	fake_init(&f, METHOD_PUT);
	f.rq.json = "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[";
	f.rq.json_bytes = strlen(f.rq.json);
	assert_false(json_body_take(&f.rq, &field, 1, &root));
	assert_int_equal(f.status, 413);
	answer = fake_json(&f);
	assert_int_equal(json_integer_value(json_object_get(answer, "limit")), JSON_DEPTH_MAX);
	json_decref(answer);
	fake_done(&f);

	fake_init(&f, METHOD_PUT);
	json_body_refuse(&f.rq, "mode", "mode must be %d", 7);
	assert_int_equal(f.status, 400);
	assert_string_equal(fake_kind(&f), "invalid-field");
	fake_done(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_are_filled),
		cmocka_unit_test(no_body_is_an_empty_object),
		cmocka_unit_test(booleans_are_true_or_false),
		cmocka_unit_test(wrong_fields_are_named),
		cmocka_unit_test(no_json),
		cmocka_unit_test(depth_is_limited),
		cmocka_unit_test(refusals_are_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
