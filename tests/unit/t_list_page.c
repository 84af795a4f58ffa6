/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "fake_request.h"
#include "list_page.h"
#include "parse.h"
#include "path.h"

/* What jansson would have made of the entry. */
static json_t *
expected(const struct tree_entry *e, const char *mtime)
{
	char id[80];
	char hex[SHA256_HEX_BYTES];
	char mode[8];

	sha256_hex(&e->content.id, hex);
	snprintf(id, sizeof id, "%s:%s", e->content.kind == CONTENT_RECIPE ? "recipe" : "chunk",
		hex);
	snprintf(mode, sizeof mode, "0%03o", (unsigned)e->mode & 0777);
	return json_pack("{s:o, s:s, s:I, s:s, s:s, s:o}", "path",
		json_stringn(e->path, e->path_len), "type", "file", "size",
		(json_int_t)e->content.size, "file_id", id, "mode", mode, "mtime",
		mtime != NULL ? json_string(mtime) : json_null());
}

static json_t *
answer_of(struct fake *f, struct list_page *page, bool more, json_t *cursor)
{
	list_page_reply(page, &f->rq, more, cursor);
	return fake_json(f);
}

static struct tree_entry
entry(const char *path, uint64_t size, uint32_t mode, int64_t mtime_ns)
{
	struct tree_entry e = {.path = path,
		.path_len = strlen(path),
		.content = {.kind = size > 4096 ? CONTENT_RECIPE : CONTENT_CHUNK, .size = size},
		.mode = mode,
		.mtime_ns = mtime_ns};

	for (size_t i = 0; i < sizeof e.content.id.b; i++)
		e.content.id.b[i] = (uint8_t)(size + 17 * i);
	return e;
}

static void
test_no_entries(void **state)
{
	(void)state;
	struct list_page page = {.limit = PARSE_LIMIT_MAX};
	struct fake f;

	fake_init(&f, METHOD_GET);
	list_page_begin(&page);
	json_t *got = answer_of(&f, &page, false, NULL);
	json_t *want = json_pack("{s:[], s:n}", "items", "next_cursor");
	assert_true(json_equal(got, want));
	json_decref(got);
	json_decref(want);
	fake_done(&f);
}

static void
test_entries_are_what_a_parser_reads(void **state)
{
	(void)state;
	static const struct {
		const char *path;
		uint64_t size;
		uint32_t mode;
		int64_t mtime_ns;
		const char *mtime;
	} cases[] = {
		{"a", 0, 0644, 0, NULL},
		{"dir/f.txt", 1, 0755, 1, "1970-01-01T00:00:00.000000001Z"},
		{"\"", 9, 0, INT64_C(1500000000), "1970-01-01T00:00:01.5Z"},
		{"a\"b\"\"c/\"", 10, 0777, INT64_C(1795342272000000000), "2026-11-22T10:11:12Z"},
		{"\xc3\xa4/\xe2\x82\xac/\xf0\x9f\x98\x80", 4097, 0600, -1,
			"1969-12-31T23:59:59.999999999Z"},
		{"sp ace/<&'>", INT64_MAX, 0100644, INT64_MIN, "1677-09-21T00:12:43.145224192Z"},
		{"z/{}[],:", 99999, 0644, INT64_MAX, "2262-04-11T23:47:16.854775807Z"},
	};
	struct list_page page = {.limit = PARSE_LIMIT_MAX};
	struct fake f;
	json_t *items = json_array();

	fake_init(&f, METHOD_GET);
	list_page_begin(&page);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tree_entry e =
			entry(cases[i].path, cases[i].size, cases[i].mode, cases[i].mtime_ns);
		list_page_add_entry(&page, &e);
		json_array_append_new(items, expected(&e, cases[i].mtime));
		if (i == 2) {
			list_page_add_prefix(&page, "x\"y/", 4);
			json_array_append_new(
				items, json_pack("{s:s, s:s}", "path", "x\"y/", "type", "prefix"));
		}
	}
	json_t *got = answer_of(&f, &page, true, json_string("Y3Vyc29y-_"));
	json_t *want = json_pack("{s:o, s:s}", "items", items, "next_cursor", "Y3Vyc29y-_");
	assert_true(json_equal(got, want));
	json_decref(got);
	json_decref(want);
	fake_done(&f);
}

/* A page of the longest paths there are, all of them quotes, is answered. */
static void
test_largest_page(void **state)
{
	(void)state;
	char path[PATH_BYTES_MAX + 1];
	struct list_page page = {.limit = PARSE_LIMIT_MAX};
	struct fake f;

	memset(path, '"', sizeof path - 1);
	path[sizeof path - 1] = '\0';
	for (size_t i = PATH_SEGMENT_BYTES_MAX; i < sizeof path - 1;
		i += PATH_SEGMENT_BYTES_MAX + 1)
		path[i] = '/';
	const struct tree_entry e = entry(path, UINT64_C(1) << 62, 0777, INT64_MIN);
	fake_init(&f, METHOD_GET);
	list_page_begin(&page);
	for (int i = 0; i < PARSE_LIMIT_MAX; i++)
		list_page_add_entry(&page, &e);
	json_t *got = answer_of(&f, &page, true, json_string("more"));
	assert_int_equal(json_array_size(json_object_get(got, "items")), PARSE_LIMIT_MAX);
	json_decref(got);
	fake_done(&f);
}

/* A page that says that it is the last when it is not would hide files. */
static void
test_no_memory_for_the_cursor(void **state)
{
	(void)state;
	struct list_page page = {.limit = PARSE_LIMIT_MAX};
	struct fake f;

	fake_init(&f, METHOD_GET);
	list_page_begin(&page);
	json_t *got = answer_of(&f, &page, true, NULL);
	assert_string_equal(fake_kind(&f), "no-memory");
	json_decref(got);
	fake_done(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_entries),
		cmocka_unit_test(test_entries_are_what_a_parser_reads),
		cmocka_unit_test(test_largest_page),
		cmocka_unit_test(test_no_memory_for_the_cursor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
