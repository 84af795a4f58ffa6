/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_diff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tree_edit.h"
#include "tree_fixture.h"
#include "tree_node.h"

/* What a plain comparison of two sorted lists says, checked off as the tree says it. */
struct want {
	const struct model *old;
	const struct model *new;
	const struct tree_diff_query *q;
	size_t i; /* in old */
	size_t j; /* in new */
	size_t given;
	size_t stop_after;
	char last[PATH_BYTES_MAX];
	size_t last_len;
};

/* The next difference in the page, or false. */
static bool
want_next(struct want *w, const struct tree_entry **a, const struct tree_entry **b)
{
	while (w->i < w->old->count || w->j < w->new->count) {
		*a = w->i < w->old->count ? &w->old->entries[w->i] : NULL;
		*b = w->j < w->new->count ? &w->new->entries[w->j] : NULL;
		int cmp = *a == NULL   ? 1
			  : *b == NULL ? -1
				       : tree_key_cmp((*a)->path, (*a)->path_len, (*b)->path,
						 (*b)->path_len);
		if (cmp > 0)
			*a = NULL;
		else
			w->i++;
		if (cmp < 0)
			*b = NULL;
		else
			w->j++;
		const struct tree_entry *any = *a != NULL ? *a : *b;
		if (!tree_key_has_prefix(
			    any->path, any->path_len, w->q->prefix, w->q->prefix_len) ||
			(w->q->after_len > 0 && tree_key_cmp(any->path, any->path_len, w->q->after,
							w->q->after_len) <= 0))
			continue;
		if (*a == NULL || *b == NULL || !tree_entry_same(*a, *b))
			return true;
	}
	return false;
}

static bool
check_item(void *arg, const struct tree_diff_item *item)
{
	struct want *w = arg;
	const struct tree_entry *a = NULL;
	const struct tree_entry *b = NULL;

	assert_true(want_next(w, &a, &b));
	const struct tree_entry *any = a != NULL ? a : b;
	assert_int_equal(item->path_len, any->path_len);
	assert_memory_equal(item->path, any->path, any->path_len);
	assert_true((item->old == NULL) == (a == NULL));
	assert_true((item->new == NULL) == (b == NULL));
	if (a != NULL)
		assert_same_entry(item->old, a);
	if (b != NULL)
		assert_same_entry(item->new, b);
	memcpy(w->last, item->path, item->path_len);
	w->last_len = item->path_len;
	return ++w->given < w->stop_after;
}

struct side {
	struct model m;
	struct sha256 root;
	bool is_null;
};

static const struct sha256 *
root_of(const struct side *s)
{
	return s->is_null ? NULL : &s->root;
}

static void
check(struct mem_store *s, const struct side *old, const struct side *new,
	const struct tree_diff_query *query, struct want *w)
{
	struct err err = ERR_INIT;
	struct tree_diff_query q = *query;
	const struct tree_entry *a;
	const struct tree_entry *b;
	size_t stop_after = w->stop_after;

	*w = (struct want){.old = &old->m, .new = &new->m, .q = &q, .stop_after = stop_after};
	q.fn = check_item;
	q.arg = w;
	assert_int_equal(tree_diff(&s->store, root_of(old), root_of(new), &q, &err), RC_OK);
	if (w->given < stop_after)
		assert_false(want_next(w, &a, &b));
	w->q = NULL;
}

/* In whole, by prefix, and page by page. */
static void
check_all_ways(struct mem_store *s, const struct side *old, const struct side *new)
{
	static const char *const prefixes[] = {"", "a/", "src", "x", "zz"};

	for (size_t p = 0; p < sizeof prefixes / sizeof prefixes[0]; p++) {
		struct tree_diff_query q = {
			.prefix = prefixes[p], .prefix_len = strlen(prefixes[p])};
		struct want w = {.stop_after = SIZE_MAX};
		check(s, old, new, &q, &w);
		size_t all = w.given;
		size_t sum = 0;
		char after[PATH_BYTES_MAX];
		do {
			w.stop_after = 1 + all / 3;
			check(s, old, new, &q, &w);
			sum += w.given;
			memcpy(after, w.last, w.last_len);
			q.after = after;
			q.after_len = w.last_len;
		} while (w.given == 1 + all / 3);
		assert_int_equal(sum, all);
	}
}

static void
side_copy(struct side *to, const struct side *from)
{
	*to = (struct side){.root = from->root};
	for (size_t i = 0; i < from->m.count; i++)
		model_append(&to->m, &from->m.entries[i]);
}

static void
change(struct dice *d, struct side *s, struct mem_store *store, size_t n, uint64_t variety)
{
	for (size_t i = 0; i < n; i++) {
		char path[FIXTURE_PATH_MAX];
		size_t len = path_of(d, variety, path);
		struct tree_entry e = entry_of(path, len, dice_below(d, 50));
		if (dice_below(d, 3) == 0)
			model_delete(&s->m, path, len);
		else
			model_put(&s->m, &e);
	}
	s->root = model_build(&s->m, store);
}

static void
random_trees_match_a_plain_comparison(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 30; seed++) {
		struct dice d = {.state = seed};
		struct mem_store s;
		struct side a = {0};
		struct side b;
		uint64_t variety = (uint64_t)30 << dice_below(&d, 10);

		print_message("seed %llu, variety %llu\n", (unsigned long long)seed,
			(unsigned long long)variety);
		mem_store_init(&s);
		change(&d, &a, &s, dice_below(&d, (uint64_t)2 << dice_below(&d, 12)), variety);
		for (int round = 0; round < 6; round++) {
			side_copy(&b, &a);
			change(&d, &b, &s, dice_below(&d, (uint64_t)2 << dice_below(&d, 11)),
				variety);
			check_all_ways(&s, &a, &b);
			check_all_ways(&s, &b, &a);
			model_done(&a.m);
			a = b;
		}
		struct side none = {.is_null = true};
		check_all_ways(&s, &none, &a);
		check_all_ways(&s, &a, &none);
		none = (struct side){.root = model_build(&none.m, &s)};
		check_all_ways(&s, &a, &none);
		check_all_ways(&s, &none, &a);
		check_all_ways(&s, &a, &a);
		model_done(&a.m);
		mem_store_done(&s);
	}
}

/* k changed files of a big tree cost about k leaves a side, and equal trees cost nothing. */
static void
cost_follows_the_difference(void **state)
{
	struct dice d = {.state = 51};
	struct mem_store s;
	struct side a = {0};
	struct side b;

	(void)state;
	mem_store_init(&s);
	for (int i = 0; i < 60000; i++) {
		char path[FIXTURE_PATH_MAX];
		size_t len = path_of(&d, UINT64_MAX, path);
		struct tree_entry e = entry_of(path, len, dice_below(&d, 50));
		model_append(&a.m, &e);
	}
	model_sort(&a.m);
	a.root = model_build(&a.m, &s);
	struct tree_diff_query q = {0};
	struct want w = {.stop_after = SIZE_MAX};
	s.gets = 0;
	check(&s, &a, &a, &q, &w);
	assert_int_equal(s.gets, 0);
	for (size_t n = 1; n <= 64; n *= 4) {
		side_copy(&b, &a);
		change(&d, &b, &s, n, UINT64_MAX);
		s.gets = 0;
		check(&s, &a, &b, &q, &w);
		print_message("%zu differences: %llu reads of %zu nodes\n", w.given,
			(unsigned long long)s.gets, s.count);
		assert_true(s.gets <= 2 * (3 * n + 3));
		model_done(&b.m);
	}
	/* against nothing every node of the one side is read once */
	struct side none = {.is_null = true};
	s.gets = 0;
	check(&s, &none, &a, &q, &w);
	assert_int_equal(w.given, a.m.count);
	assert_true(s.gets <= s.count);
	model_done(&a.m);
	mem_store_done(&s);
}

/* One tree is a whole subtree of the other. */
static void
trees_of_different_height(void **state)
{
	struct mem_store s;
	struct side a = {0};
	struct side b = {0};

	(void)state;
	mem_store_init(&s);
	for (unsigned i = 0; i < 40000; i++) {
		char path[32];
		int len = snprintf(path, sizeof path, "%06u", i);
		struct tree_entry e = entry_of(path, (size_t)len, i);
		model_append(&b.m, &e);
		if (i < 80)
			model_append(&a.m, &e);
	}
	a.root = model_build(&a.m, &s);
	b.root = model_build(&b.m, &s);
	check_all_ways(&s, &a, &b);
	check_all_ways(&s, &b, &a);
	model_done(&a.m);
	model_done(&b.m);
	mem_store_done(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_trees_match_a_plain_comparison),
		cmocka_unit_test(cost_follows_the_difference),
		cmocka_unit_test(trees_of_different_height),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
