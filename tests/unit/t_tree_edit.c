/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_edit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tree_fixture.h"
#include "tree_node.h"

static bool
is_below(const struct tree_entry *dir, const struct tree_entry *e)
{
	return e->path_len > dir->path_len && e->path[dir->path_len] == '/' &&
	       memcmp(e->path, dir->path, dir->path_len) == 0;
}

/* Whether a path is both a file and a directory, by looking at every pair. */
static bool
has_collision(const struct model *m)
{
	for (size_t i = 0; i < m->count; i++)
		for (size_t j = i + 1; j < m->count; j++)
			if (is_below(&m->entries[i], &m->entries[j]))
				return true;
	return false;
}

static void
apply(struct model *m, const struct tree_edit *edits, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct tree_entry *e = &edits[i].entry;
		if (edits[i].op == TREE_EDIT_PUT)
			model_put(m, e);
		else
			model_delete(m, e->path, e->path_len);
	}
}

#define EDITS_MAX 12

/* Paths of few names, so that files and directories meet often. */
static size_t
tight_path(struct dice *d, char *out)
{
	static const char *const names[] = {"a", "a-", "b", "a0"};
	size_t depth = 1 + dice_below(d, 4);
	int len = 0;

	for (size_t i = 0; i < depth; i++)
		len += snprintf(out + len, FIXTURE_PATH_MAX - (size_t)len, "%s%s", i > 0 ? "/" : "",
			names[dice_below(d, 4)]);
	return (size_t)len;
}

static int
by_path(const void *a, const void *b)
{
	const struct tree_entry *x = &((const struct tree_edit *)a)->entry;
	const struct tree_entry *y = &((const struct tree_edit *)b)->entry;

	return tree_key_cmp(x->path, x->path_len, y->path, y->path_len);
}

static size_t
tight_edits(struct dice *d, struct tree_edit *edits, char (*paths)[FIXTURE_PATH_MAX])
{
	size_t count = dice_below(d, EDITS_MAX + 1);
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		size_t len = tight_path(d, paths[i]);
		edits[i] = (struct tree_edit){
			.op = dice_below(d, 3) > 0 ? TREE_EDIT_PUT : TREE_EDIT_DELETE,
			.entry = entry_of(paths[i], len, i + 1)};
	}
	qsort(edits, count, sizeof *edits, by_path);
	for (size_t i = 0; i < count; i++)
		if (kept == 0 || by_path(&edits[kept - 1], &edits[i]) != 0)
			edits[kept++] = edits[i];
	return kept;
}

static void
collisions_match_looking_at_every_pair(void **state)
{
	struct dice d = {.state = 61};
	struct err err = ERR_INIT;
	struct mem_store s;
	struct model base = {0};
	int refused = 0;
	int accepted = 0;

	(void)state;
	mem_store_init(&s);
	for (int i = 0; i < 6000; i++) {
		struct tree_edit edits[EDITS_MAX];
		char paths[EDITS_MAX][FIXTURE_PATH_MAX];
		size_t count = tight_edits(&d, edits, paths);
		struct model after = {0};
		struct sha256 root = model_build(&base, &s);
		for (size_t j = 0; j < base.count; j++)
			model_append(&after, &base.entries[j]);
		apply(&after, edits, count);
		enum rc rc = tree_edit_check_paths(
			&s.store, base.count > 0 ? &root : NULL, edits, count, &err);
		if (has_collision(&after)) {
			assert_int_equal(rc, RC_CONFLICT);
			assert_string_equal(err.kind, "path-conflict");
			err_clear(&err);
			model_done(&after);
			refused++;
		} else {
			assert_int_equal(rc, RC_OK);
			model_done(&base);
			base = after;
			accepted++;
		}
	}
	print_message("%d refused, %d accepted\n", refused, accepted);
	assert_true(refused > 500 && accepted > 500);
	model_done(&base);
	mem_store_done(&s);
}

static void
expect(const char *base_path, const char *edit_path, enum tree_edit_op op, const char *other_path,
	enum rc want, const char *text)
{
	struct err err = ERR_INIT;
	struct mem_store s;
	struct model base = {0};
	struct tree_edit edits[2] = {
		{.op = op, .entry = entry_of(edit_path, strlen(edit_path), 1)}};
	size_t count = 1;

	mem_store_init(&s);
	struct tree_entry e = entry_of(base_path, strlen(base_path), 1);
	model_put(&base, &e);
	if (other_path != NULL)
		edits[count++] = (struct tree_edit){
			.op = TREE_EDIT_PUT, .entry = entry_of(other_path, strlen(other_path), 1)};
	struct sha256 root = model_build(&base, &s);
	struct tree_clash clash;
	assert_int_equal(tree_edit_find_clash(&s.store, &root, edits, count, &clash, &err), want);
	if (text != NULL)
		assert_string_equal(err.text, text);
	if (want == RC_CONFLICT) {
		size_t dir_len = strlen(clash.file);
		assert_memory_equal(clash.file, clash.under, dir_len);
		assert_int_equal(clash.under[dir_len], '/');
		err_clear(&err);
		assert_int_equal(tree_edit_check_paths(&s.store, &root, edits, count, &err), want);
	}
	model_done(&base);
	mem_store_done(&s);
}

static void
both_paths_are_named(void **state)
{
	(void)state;
	expect("a", "a/b/c", TREE_EDIT_PUT, NULL, RC_CONFLICT,
		"\"a\" would be a file and also the directory of \"a/b/c\"");
	expect("a/b/c", "a/b", TREE_EDIT_PUT, NULL, RC_CONFLICT,
		"\"a/b\" would be a file and also the directory of \"a/b/c\"");
	expect("x", "a", TREE_EDIT_PUT, "a/b", RC_CONFLICT,
		"\"a\" would be a file and also the directory of \"a/b\"");
	expect("a", "a", TREE_EDIT_DELETE, "a/b", RC_OK, NULL);
	expect("a/b", "a", TREE_EDIT_PUT, "b", RC_CONFLICT, NULL);
	expect("a/b", "a-", TREE_EDIT_PUT, "a/b/c", RC_CONFLICT, NULL);
	expect("a", "a-b", TREE_EDIT_PUT, "ab/c", RC_OK, NULL);
	expect("a", "a", TREE_EDIT_PUT, NULL, RC_OK, NULL);
}

static void
too_long_paths_are_refused(void **state)
{
	struct err err = ERR_INIT;
	struct tree_clash clash;
	struct mem_store s;
	char path[PATH_BYTES_MAX + 1];

	(void)state;
	mem_store_init(&s);
	memset(path, 'p', sizeof path);
	path[1] = '/';
	struct tree_edit edits[2] = {{.op = TREE_EDIT_PUT, .entry = entry_of(path, 1, 1)},
		{.op = TREE_EDIT_PUT, .entry = entry_of(path, sizeof path, 1)}};
	assert_int_equal(tree_edit_find_clash(&s.store, NULL, edits, 2, &clash, &err), RC_INVALID);
	assert_string_equal(err.kind, "invalid-path");
	err_clear(&err);
	edits[1].entry.path_len--;
	assert_int_equal(tree_edit_find_clash(&s.store, NULL, edits, 2, &clash, &err), RC_CONFLICT);
	assert_int_equal(strlen(clash.under), PATH_BYTES_MAX);
	mem_store_done(&s);
}

/* The longest path has no room for anything below it. */
static void
longest_path_is_checked_too(void **state)
{
	struct err err = ERR_INIT;
	struct mem_store s;
	char path[PATH_BYTES_MAX];
	struct model base = {0};

	(void)state;
	mem_store_init(&s);
	memset(path, 'p', sizeof path);
	path[500] = '/';
	struct tree_edit edit = {.op = TREE_EDIT_PUT, .entry = entry_of(path, sizeof path, 1)};
	assert_int_equal(tree_edit_check_paths(&s.store, NULL, &edit, 1, &err), RC_OK);
	struct tree_entry e = entry_of(path, 500, 1);
	model_put(&base, &e);
	struct sha256 root = model_build(&base, &s);
	assert_int_equal(tree_edit_check_paths(&s.store, &root, &edit, 1, &err), RC_CONFLICT);
	/* cut, but both there */
	assert_non_null(strstr(err.text, "..."));
	assert_non_null(strstr(err.text, "directory of \"ppp"));
	model_done(&base);
	mem_store_done(&s);
}

/* Many new files in one place look at their common directories once. */
static void
cost_follows_the_edits(void **state)
{
	struct err err = ERR_INIT;
	struct mem_store s;
	struct model base = {0};
	struct tree_edit *edits = calloc(5000, sizeof *edits);
	char(*paths)[64] = calloc(5000, sizeof *paths);

	(void)state;
	assert_non_null(edits);
	assert_non_null(paths);
	mem_store_init(&s);
	for (unsigned i = 0; i < 30000; i++) {
		char path[64];
		int len = snprintf(path, sizeof path, "dir%03u/file%05u", i / 100, i);
		struct tree_entry e = entry_of(path, (size_t)len, i);
		model_append(&base, &e);
	}
	struct sha256 root = model_build(&base, &s);
	for (unsigned i = 0; i < 5000; i++) {
		int len = snprintf(paths[i], sizeof paths[i], "dir150/new/deep/file%05u", i);
		edits[i].entry = entry_of(paths[i], (size_t)len, i);
	}
	s.gets = 0;
	assert_int_equal(tree_edit_check_paths(&s.store, &root, edits, 5000, &err), RC_OK);
	print_message("%llu reads\n", (unsigned long long)s.gets);
	assert_true(s.gets <= 10);
	model_done(&base);
	mem_store_done(&s);
	free(edits);
	free(paths);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(collisions_match_looking_at_every_pair),
		cmocka_unit_test(both_paths_are_named),
		cmocka_unit_test(longest_path_is_checked_too),
		cmocka_unit_test(too_long_paths_are_refused),
		cmocka_unit_test(cost_follows_the_edits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
