/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_iter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tree_fixture.h"
#include "tree_node.h"

struct fixture {
	struct mem_store s;
	struct model m;
	struct sha256 root;
	struct tree_iter *it;
};

static void
setup(struct fixture *f, size_t files, uint64_t variety)
{
	struct err err = ERR_INIT;
	struct dice d = {.state = files};

	memset(f, 0, sizeof *f);
	mem_store_init(&f->s);
	for (size_t i = 0; i < files; i++) {
		char path[FIXTURE_PATH_MAX];
		size_t len = path_of(&d, variety, path);
		struct tree_entry e = entry_of(path, len, i);
		model_append(&f->m, &e);
	}
	model_sort(&f->m);
	f->root = model_build(&f->m, &f->s);
	assert_int_equal(tree_iter_open(&f->s.store, &f->root, &f->it, &err), RC_OK);
	f->s.gets = 0;
}

static void
teardown(struct fixture *f)
{
	tree_iter_free(f->it);
	model_done(&f->m);
	mem_store_done(&f->s);
}

/* The next entry is the model's of that index, and the totals before it are right. */
static void
assert_next(struct fixture *f, size_t i)
{
	struct err err = ERR_INIT;
	const struct tree_entry *got;
	struct tree_totals before;

	assert_int_equal(tree_iter_before(f->it, &before, &err), RC_OK);
	assert_int_equal(before.entries, i);
	assert_int_equal(tree_iter_next(f->it, &got, &err), RC_OK);
	if (i == f->m.count)
		assert_null(got);
	else
		assert_same_entry(got, &f->m.entries[i]);
}

static void
walk_reads_each_node_once(void **state)
{
	struct fixture f;

	(void)state;
	setup(&f, 20000, UINT64_MAX);
	for (size_t i = 0; i <= f.m.count; i++)
		assert_next(&f, i);
	assert_int_equal(f.s.gets, f.s.count);
	/* at the end it stays at the end */
	assert_next(&f, f.m.count);
	teardown(&f);
}

static void
seek_finds_the_first_not_below(void **state)
{
	struct dice d = {.state = 31};
	struct err err = ERR_INIT;

	(void)state;
	for (size_t files = 0; files <= 20000; files = files * 5 + 1) {
		struct fixture f;
		setup(&f, files, UINT64_MAX);
		for (int i = 0; i < 500; i++) {
			char path[FIXTURE_PATH_MAX];
			size_t len = path_of(&d, UINT64_MAX, path);
			if (f.m.count > 0 && dice_below(&d, 2) == 0) {
				const struct tree_entry *e =
					&f.m.entries[dice_below(&d, f.m.count)];
				len = e->path_len - dice_below(&d, 2);
				memcpy(path, e->path, len);
			}
			assert_int_equal(tree_iter_seek(f.it, path, len, &err), RC_OK);
			size_t at = model_lower_bound(&f.m, path, len);
			for (uint64_t more = dice_below(&d, 4); more > 0 && at < f.m.count; more--)
				assert_next(&f, at++);
		}
		assert_int_equal(tree_iter_seek(f.it, NULL, 0, &err), RC_OK);
		assert_next(&f, 0);
		assert_int_equal(tree_iter_seek(f.it, "\xff", 1, &err), RC_OK);
		assert_next(&f, f.m.count);
		teardown(&f);
	}
}

static void
skip_jumps_over_a_prefix(void **state)
{
	struct dice d = {.state = 32};
	struct err err = ERR_INIT;
	struct fixture f;

	(void)state;
	setup(&f, 20000, UINT64_MAX);
	for (int i = 0; i < 500; i++) {
		size_t at = dice_below(&d, f.m.count);
		const struct tree_entry *e = &f.m.entries[at];
		const struct tree_entry *got;
		size_t len = dice_below(&d, e->path_len + 1);
		assert_int_equal(tree_iter_seek(f.it, e->path, e->path_len, &err), RC_OK);
		assert_int_equal(tree_iter_next(f.it, &got, &err), RC_OK);
		f.s.gets = 0;
		/* with the iterator's own memory as the prefix */
		assert_int_equal(tree_iter_skip(f.it, got->path, len, &err), RC_OK);
		assert_true(f.s.gets <= 2);
		while (at < f.m.count && tree_key_has_prefix(f.m.entries[at].path,
						 f.m.entries[at].path_len, e->path, len))
			at++;
		assert_next(&f, at);
	}
	assert_int_equal(tree_iter_skip(f.it, NULL, 0, &err), RC_OK);
	assert_next(&f, f.m.count);
	assert_int_equal(tree_iter_skip(f.it, "\xff", 1, &err), RC_OK);
	assert_next(&f, f.m.count);
	teardown(&f);
}

static void
seeks_within_a_leaf_read_nothing(void **state)
{
	struct err err = ERR_INIT;
	struct fixture f;

	(void)state;
	setup(&f, 20000, UINT64_MAX);
	const struct tree_entry *e = &f.m.entries[7000];
	assert_int_equal(tree_iter_seek(f.it, e->path, e->path_len, &err), RC_OK);
	const uint64_t gets = f.s.gets;
	assert_true(gets >= 2);
	for (int i = 0; i < 10; i++)
		assert_int_equal(tree_iter_seek(f.it, e->path, e->path_len, &err), RC_OK);
	assert_next(&f, 7000);
	assert_int_equal(f.s.gets, gets);
	teardown(&f);
}

static void
empty_trees_have_nothing(void **state)
{
	struct err err = ERR_INIT;
	struct fixture f;

	(void)state;
	setup(&f, 0, 1);
	assert_next(&f, 0);
	tree_iter_free(f.it);
	assert_int_equal(tree_iter_open(&f.s.store, NULL, &f.it, &err), RC_OK);
	assert_next(&f, 0);
	assert_int_equal(tree_iter_seek(f.it, "x", 1, &err), RC_OK);
	assert_next(&f, 0);
	assert_int_equal(tree_iter_skip(f.it, "x", 1, &err), RC_OK);
	assert_next(&f, 0);
	tree_iter_free(NULL);
	teardown(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walk_reads_each_node_once),
		cmocka_unit_test(seek_finds_the_first_not_below),
		cmocka_unit_test(skip_jumps_over_a_prefix),
		cmocka_unit_test(seeks_within_a_leaf_read_nothing),
		cmocka_unit_test(empty_trees_have_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
