/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tree_diff.h"
#include "tree_edit.h"
#include "tree_fixture.h"
#include "tree_iter.h"
#include "tree_list.h"
#include "tree_node_writer.h"

#define FILES 30000

struct fixture {
	struct mem_store s;
	struct model m;
	struct sha256 root;
};

static void
setup(struct fixture *f, size_t files)
{
	struct dice d = {.state = 21};

	memset(f, 0, sizeof *f);
	mem_store_init(&f->s);
	for (size_t i = 0; i < files; i++) {
		char path[FIXTURE_PATH_MAX];
		size_t len = path_of(&d, UINT64_MAX, path);
		struct tree_entry e = entry_of(path, len, i);
		model_append(&f->m, &e);
	}
	model_sort(&f->m);
	f->root = model_build(&f->m, &f->s);
}

static void
teardown(struct fixture *f)
{
	model_done(&f->m);
	mem_store_done(&f->s);
}

static void
find_is_exact(void **state)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct tree_entry got;

	(void)state;
	setup(&f, FILES);
	for (size_t i = 0; i < f.m.count; i += 97) {
		const struct tree_entry *want = &f.m.entries[i];
		f.s.gets = 0;
		assert_int_equal(
			tree_find(&f.s.store, &f.root, want->path, want->path_len, &got, &err),
			RC_OK);
		assert_int_equal(f.s.gets, 3);
		assert_same_entry(&got, want);
		assert_ptr_equal(got.path, want->path);
		/* one byte less is another path */
		if (model_find(&f.m, want->path, want->path_len - 1) != NULL)
			continue;
		assert_int_equal(
			tree_find(&f.s.store, &f.root, want->path, want->path_len - 1, &got, &err),
			RC_NOT_FOUND);
		assert_string_equal(err.kind, "path-not-found");
		err_clear(&err);
	}
	static const char *const absent[] = {"", "!", "\xff", "src", "zzz"};
	for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
		assert_int_equal(
			tree_find(&f.s.store, &f.root, absent[i], strlen(absent[i]), &got, &err),
			RC_NOT_FOUND);
		err_clear(&err);
	}
	assert_int_equal(tree_find(&f.s.store, NULL, "a/b", 3, &got, &err), RC_NOT_FOUND);
	assert_non_null(strstr(err.text, "\"a/b\""));
	teardown(&f);
}

static void
totals_of_all_and_of_prefixes(void **state)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct tree_totals got;
	static const char *const prefixes[] = {"", "a", "src/", "src/lib/", "\xc3\xa4", "none",
		"\xff", "\xff\xff", "index.js", "zz"};
	char too_long[TREE_KEY_BYTES_MAX + 1];

	(void)state;
	setup(&f, FILES);
	struct tree_totals want = model_totals(&f.m, "", 0);
	f.s.gets = 0;
	assert_int_equal(tree_totals(&f.s.store, &f.root, &got, &err), RC_OK);
	assert_int_equal(f.s.gets, 1);
	assert_int_equal(got.entries, want.entries);
	assert_int_equal(got.bytes, want.bytes);
	for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
		size_t len = strlen(prefixes[i]);
		want = model_totals(&f.m, prefixes[i], len);
		f.s.gets = 0;
		assert_int_equal(
			tree_totals_prefix(&f.s.store, &f.root, prefixes[i], len, &got, &err),
			RC_OK);
		assert_true(f.s.gets <= 5);
		assert_int_equal(got.entries, want.entries);
		assert_int_equal(got.bytes, want.bytes);
	}
	assert_int_equal(tree_totals_prefix(&f.s.store, &f.root, NULL, 0, &got, &err), RC_OK);
	assert_int_equal(got.entries, f.m.count);
	memset(too_long, 'a', sizeof too_long);
	assert_int_equal(
		tree_totals_prefix(&f.s.store, &f.root, too_long, sizeof too_long, &got, &err),
		RC_OK);
	assert_int_equal(got.entries, 0);
	assert_int_equal(tree_totals(&f.s.store, NULL, &got, &err), RC_OK);
	assert_int_equal(got.entries, 0);
	assert_int_equal(tree_totals_prefix(&f.s.store, NULL, "a", 1, &got, &err), RC_OK);
	assert_int_equal(got.entries, 0);
	teardown(&f);
}

/* ---- broken trees ---- */

static bool
list_line(void *arg, const struct tree_list_item *item)
{
	(void)arg;
	(void)item;
	return true;
}

static bool
diff_line(void *arg, const struct tree_diff_item *item)
{
	(void)arg;
	(void)item;
	return true;
}

static enum rc
walk(const struct tree_store *s, const struct sha256 *root, struct err *err)
{
	struct tree_iter *it;
	const struct tree_entry *e;
	enum rc rc = tree_iter_open(s, root, &it, err);

	while (rc == RC_OK) {
		rc = tree_iter_next(it, &e, err);
		if (rc == RC_OK && e == NULL)
			break;
	}
	tree_iter_free(it);
	return rc;
}

/* Every reader meets the damage at the entry `at` and says so. */
static void
assert_all_say(struct fixture *f, const struct tree_entry *at, enum rc want)
{
	struct err err = ERR_INIT;
	struct tree_entry entry;
	struct tree_change change;
	bool more;
	const struct tree_list_query list = {.limit = SIZE_MAX, .fn = list_line};
	const struct tree_diff_query diff = {.fn = diff_line};
	const struct tree_edit edit = {.op = TREE_EDIT_DELETE, .entry = *at};
	const struct tree_store *s = &f->s.store;

	assert_int_equal(tree_find(s, &f->root, at->path, at->path_len, &entry, &err), want);
	if (want == RC_CORRUPT)
		assert_string_equal(err.kind, "corrupt-tree");
	err_clear(&err);
	assert_int_equal(walk(s, &f->root, &err), want);
	err_clear(&err);
	assert_int_equal(tree_list(s, &f->root, &list, &more, &err), want);
	err_clear(&err);
	assert_int_equal(tree_diff(s, NULL, &f->root, &diff, &err), want);
	err_clear(&err);
	assert_int_equal(tree_edit(s, &f->root, &edit, 1, &change, &err), want);
}

static void
find_leaf(struct fixture *f, const struct tree_entry *at, struct sha256 *leaf)
{
	struct err err = ERR_INIT;
	struct tree_node n;

	tree_node_init(&n);
	*leaf = f->root;
	for (;;) {
		const struct mem_node *bytes = mem_store_find(&f->s, leaf);
		assert_int_equal(tree_node_decode(&n, bytes->data, bytes->len, &err), RC_OK);
		if (n.level == 0)
			break;
		*leaf = n.items[tree_node_lower_bound(&n, at->path, at->path_len)].child.hash;
	}
	tree_node_done(&n);
}

static void
missing_and_rotten_nodes_are_corrupt(void **state)
{
	struct fixture f;
	struct sha256 leaf;

	(void)state;
	setup(&f, 3000);
	const struct tree_entry *at = &f.m.entries[1500];
	find_leaf(&f, at, &leaf);
	struct mem_node *bytes = mem_store_find(&f.s, &leaf);
	const size_t len = bytes->len;
	for (size_t i = 0; i < len; i += len / 13) {
		bytes->data[i] ^= 0x10;
		assert_all_say(&f, at, RC_CORRUPT);
		bytes->data[i] ^= 0x10;
	}
	bytes->len = len / 2;
	assert_all_say(&f, at, RC_CORRUPT);
	bytes->len = 0;
	assert_all_say(&f, at, RC_CORRUPT);
	bytes->len = len;
	/* the node is gone: not "there is no such file" */
	bytes->hash.b[31] ^= 1;
	assert_all_say(&f, at, RC_CORRUPT);
	bytes->hash.b[31] ^= 1;
	f.s.get_rc = RC_UNAVAILABLE;
	assert_all_say(&f, at, RC_UNAVAILABLE);
	teardown(&f);
}

/* A child that is a proper node with the right hash, but not what its parent says of it. */
static struct sha256
forged_root(struct mem_store *s, const struct tree_child *children, size_t count, uint8_t level)
{
	struct err err = ERR_INIT;
	struct tree_node_writer w;
	struct tree_child as_child;
	const uint8_t *bytes;
	size_t len;

	tree_node_writer_init(&w, level);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(tree_node_writer_add_child(&w, &children[i], &err), RC_OK);
	assert_int_equal(tree_node_writer_finish(&w, &bytes, &len, &as_child, &err), RC_OK);
	struct sha256 root = mem_store_add(s, bytes, len);
	tree_node_writer_done(&w);
	return root;
}

static void
children_must_fit_their_parents(void **state)
{
	struct err err = ERR_INIT;
	struct mem_store s;
	struct tree_change leaf;
	struct tree_entry e[2] = {entry_of("b", 1, 1), entry_of("d", 1, 2)};

	(void)state;
	mem_store_init(&s);
	assert_int_equal(tree_build(&s.store, e, 2, &leaf, &err), RC_OK);
	const struct tree_child good = {
		.key = "d", .key_len = 1, .hash = leaf.root, .below = leaf.totals};
	struct sha256 root = forged_root(&s, &good, 1, 1);
	assert_int_equal(walk(&s.store, &root, &err), RC_OK);

	struct tree_child bad = good;
	bad.key = "e";
	root = forged_root(&s, &bad, 1, 1);
	assert_int_equal(walk(&s.store, &root, &err), RC_CORRUPT);
	assert_non_null(strstr(err.detail, "last key"));
	err_clear(&err);
	bad = good;
	bad.below.entries++;
	root = forged_root(&s, &bad, 1, 1);
	assert_int_equal(walk(&s.store, &root, &err), RC_CORRUPT);
	assert_non_null(strstr(err.detail, "totals"));
	err_clear(&err);
	bad = good;
	bad.below.bytes--;
	root = forged_root(&s, &bad, 1, 1);
	assert_int_equal(walk(&s.store, &root, &err), RC_CORRUPT);
	err_clear(&err);
	root = forged_root(&s, &good, 1, 2);
	assert_int_equal(walk(&s.store, &root, &err), RC_CORRUPT);
	assert_non_null(strstr(err.detail, "level"));
	err_clear(&err);
	/* the second child goes back behind the first */
	struct tree_change first;
	struct tree_entry c = entry_of("c", 1, 3);
	assert_int_equal(tree_build(&s.store, &c, 1, &first, &err), RC_OK);
	const struct tree_child two[2] = {
		{.key = "c", .key_len = 1, .hash = first.root, .below = first.totals}, good};
	root = forged_root(&s, two, 2, 1);
	assert_int_equal(walk(&s.store, &root, &err), RC_CORRUPT);
	assert_non_null(strstr(err.detail, "first key"));
	mem_store_done(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(find_is_exact),
		cmocka_unit_test(totals_of_all_and_of_prefixes),
		cmocka_unit_test(missing_and_rotten_nodes_are_corrupt),
		cmocka_unit_test(children_must_fit_their_parents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
