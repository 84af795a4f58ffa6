/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_editor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "checksum.h"
#include "tree_edit.h"
#include "tree_fixture.h"
#include "tree_iter.h"
#include "tree_node_writer.h"

/* ---- helpers ---- */

struct edits {
	struct tree_edit *list;
	size_t count;
	char (*paths)[FIXTURE_PATH_MAX];
};

static int
by_path(const void *a, const void *b)
{
	const struct tree_entry *x = &((const struct tree_edit *)a)->entry;
	const struct tree_entry *y = &((const struct tree_edit *)b)->entry;

	return tree_key_cmp(x->path, x->path_len, y->path, y->path_len);
}

/* Sorted, each path once. */
static void
edits_sort(struct edits *e)
{
	size_t kept = 0;

	qsort(e->list, e->count, sizeof *e->list, by_path);
	for (size_t i = 0; i < e->count; i++)
		if (kept == 0 || by_path(&e->list[kept - 1], &e->list[i]) != 0)
			e->list[kept++] = e->list[i];
	e->count = kept;
}

/* Up to n random edits: deletes in 1 of delete_1_in, 0 never. */
static struct edits
edits_random(struct dice *d, size_t n, uint64_t variety, uint64_t delete_1_in)
{
	struct edits e = {.count = n};

	e.list = calloc(n + 1, sizeof *e.list);
	e.paths = calloc(n + 1, sizeof *e.paths);
	assert_non_null(e.list);
	assert_non_null(e.paths);
	for (size_t i = 0; i < n; i++) {
		size_t len = path_of(d, variety, e.paths[i]);
		e.list[i].entry = entry_of(e.paths[i], len, dice_below(d, 1000));
		e.list[i].op = delete_1_in > 0 && dice_below(d, delete_1_in) == 0 ? TREE_EDIT_DELETE
										  : TREE_EDIT_PUT;
	}
	edits_sort(&e);
	return e;
}

static void
edits_done(struct edits *e)
{
	free(e->list);
	free(e->paths);
}

/* Apply to the model, and count what tree_change counts. */
static struct tree_change
model_apply(struct model *m, const struct edits *e)
{
	struct tree_change c = {0};

	for (size_t i = 0; i < e->count; i++) {
		const struct tree_entry *entry = &e->list[i].entry;
		const struct tree_entry *old = model_find(m, entry->path, entry->path_len);
		if (e->list[i].op == TREE_EDIT_DELETE) {
			if (model_delete(m, entry->path, entry->path_len))
				c.deleted++;
			else
				c.absent++;
			continue;
		}
		if (old == NULL)
			c.added++;
		else if (tree_entry_same(old, entry))
			c.unchanged++;
		else
			c.changed++;
		model_put(m, entry);
	}
	return c;
}

static struct tree_change
edit(struct mem_store *s, const struct sha256 *base, const struct edits *e)
{
	struct err err = ERR_INIT;
	struct tree_change change;

	assert_int_equal(tree_edit(&s->store, base, e->list, e->count, &change, &err), RC_OK);
	assert_int_equal(err.rc, RC_OK);
	return change;
}

static void
assert_tree_is(struct mem_store *s, const struct sha256 *root, const struct model *m)
{
	struct err err = ERR_INIT;
	struct tree_iter *it;
	const struct tree_entry *got;

	assert_int_equal(tree_iter_open(&s->store, root, &it, &err), RC_OK);
	for (size_t i = 0; i < m->count; i++) {
		assert_int_equal(tree_iter_next(it, &got, &err), RC_OK);
		assert_same_entry(got, &m->entries[i]);
	}
	assert_int_equal(tree_iter_next(it, &got, &err), RC_OK);
	assert_null(got);
	tree_iter_free(it);
}

/* Every node below root keeps the limits, and no inner node but the last of its level has fewer
 * than least items. Returns the number of levels. */
static unsigned
check_shape(struct mem_store *s, const struct sha256 *root, size_t least, bool is_last)
{
	struct err err = ERR_INIT;
	struct tree_node n;
	const struct mem_node *bytes = mem_store_find(s, root);
	unsigned levels = 1;

	assert_non_null(bytes);
	assert_true(bytes->len <= TREE_NODE_BYTES_MAX);
	tree_node_init(&n);
	assert_int_equal(tree_node_decode(&n, bytes->data, bytes->len, &err), RC_OK);
	assert_true(is_last || n.count >= least);
	for (size_t i = 0; n.level > 0 && i < n.count; i++)
		levels = 1 +
			 check_shape(s, &n.items[i].child.hash, least, is_last && i + 1 == n.count);
	assert_int_equal(levels, n.level + 1);
	tree_node_done(&n);
	return levels;
}

/* ---- tests ---- */

static void
empty_tree_has_a_root(void **state)
{
	struct mem_store s;
	struct model none = {0};
	struct edits no_edits = {0};
	static const uint8_t bytes[] = {TREE_NODE_MAGIC, TREE_NODE_VERSION, 0, 0};
	struct sha256 want;

	(void)state;
	mem_store_init(&s);
	sha256_of(bytes, sizeof bytes, &want);
	struct sha256 root = model_build(&none, &s);
	assert_true(sha256_equal(&root, &want));
	assert_int_equal(s.puts, 1);
	/* on top of itself: nothing to write */
	struct tree_change change = edit(&s, &root, &no_edits);
	assert_true(sha256_equal(&change.root, &want));
	assert_int_equal(s.puts, 1);
	assert_tree_is(&s, &root, &none);
	assert_tree_is(&s, NULL, &none);
	mem_store_done(&s);
}

static void
random_edits_match_a_sorted_map(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 14; seed++) {
		struct dice d = {.state = seed};
		struct mem_store s;
		struct model m = {0};
		struct sha256 root;
		bool has_root = false;
		uint64_t variety = (uint64_t)40 << dice_below(&d, 9);

		print_message("seed %llu, variety %llu\n", (unsigned long long)seed,
			(unsigned long long)variety);
		mem_store_init(&s);
		for (int round = 0; round < 25; round++) {
			size_t n = dice_below(&d, (uint64_t)2 << dice_below(&d, 10));
			/* now and then almost everything goes */
			uint64_t delete_1_in = dice_below(&d, 8) == 0 ? 1 : dice_below(&d, 5);
			if (delete_1_in == 1)
				n += variety;
			struct edits e = edits_random(&d, n, variety, delete_1_in);
			struct tree_change got = edit(&s, has_root ? &root : NULL, &e);
			struct tree_change want = model_apply(&m, &e);
			struct tree_totals totals = model_totals(&m, "", 0);
			struct sha256 built = model_build(&m, &s);
			assert_true(sha256_equal(&got.root, &built));
			assert_int_equal(got.added, want.added);
			assert_int_equal(got.changed, want.changed);
			assert_int_equal(got.unchanged, want.unchanged);
			assert_int_equal(got.deleted, want.deleted);
			assert_int_equal(got.absent, want.absent);
			assert_int_equal(got.totals.entries, totals.entries);
			assert_int_equal(got.totals.bytes, totals.bytes);
			if (round % 5 == 0)
				assert_tree_is(&s, &got.root, &m);
			root = got.root;
			has_root = true;
			edits_done(&e);
		}
		model_done(&m);
		mem_store_done(&s);
	}
}

/* A new node is put once; a node that the old tree has is not put at all. */
static void
only_changed_nodes_are_put(void **state)
{
	struct dice d = {.state = 77};
	struct mem_store s;
	struct edits all = edits_random(&d, 20000, UINT64_MAX, 0);

	(void)state;
	mem_store_init(&s);
	struct tree_change base = edit(&s, NULL, &all);
	assert_int_equal(base.nodes_put, s.puts);
	assert_int_equal(s.count, s.puts);
	mem_store_mark(&s);
	/* the same again, in whole and in part */
	s.puts = 0;
	struct tree_change same = edit(&s, &base.root, &all);
	assert_true(sha256_equal(&same.root, &base.root));
	assert_int_equal(same.unchanged, all.count);
	assert_int_equal(s.puts, 0);
	for (int i = 0; i < 200; i++) {
		struct edits e = edits_random(&d, 1 + dice_below(&d, 20), UINT64_MAX, 3);
		s.puts = 0;
		struct tree_change change = edit(&s, &base.root, &e);
		assert_int_equal(change.nodes_put, s.puts);
		assert_int_equal(s.marked_puts, 0);
		edits_done(&e);
	}
	edits_done(&all);
	mem_store_done(&s);
}

static void
shuffle(struct dice *d, struct tree_edit *list, size_t count)
{
	for (size_t i = count; i > 1; i--) {
		size_t j = dice_below(d, i);
		struct tree_edit t = list[i - 1];
		list[i - 1] = list[j];
		list[j] = t;
	}
}

static void
same_files_same_root_in_any_order(void **state)
{
	struct dice d = {.state = 5};
	struct mem_store s;
	struct edits all = edits_random(&d, 3000, UINT64_MAX, 0);
	static const size_t batches[] = {1, 7, 100, 1500};

	(void)state;
	mem_store_init(&s);
	struct tree_change want = edit(&s, NULL, &all);
	for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
		struct sha256 root;
		const struct sha256 *base = NULL;
		struct tree_edit *left = malloc(all.count * sizeof *left);
		assert_non_null(left);
		memcpy(left, all.list, all.count * sizeof *left);
		shuffle(&d, left, all.count);
		for (size_t i = 0; i < all.count; i += batches[b]) {
			struct edits part = {.list = left + i, .count = batches[b]};
			if (part.count > all.count - i)
				part.count = all.count - i;
			edits_sort(&part);
			root = edit(&s, base, &part).root;
			base = &root;
		}
		assert_true(sha256_equal(base, &want.root));
		/* and back to nothing, the other half first */
		shuffle(&d, left, all.count);
		for (size_t i = 0; i < all.count; i++)
			left[i].op = TREE_EDIT_DELETE;
		struct edits half = {.list = left, .count = all.count / 2};
		struct edits rest = {.list = left + half.count, .count = all.count - half.count};
		edits_sort(&half);
		edits_sort(&rest);
		root = edit(&s, &root, &half).root;
		root = edit(&s, &root, &rest).root;
		struct sha256 empty = model_build(&(struct model){0}, &s);
		assert_true(sha256_equal(&root, &empty));
		free(left);
	}
	edits_done(&all);
	mem_store_done(&s);
}

#define BIG 200000

static void
build_big(struct mem_store *s, struct sha256 *root)
{
	struct err err = ERR_INIT;
	struct tree_editor *ed;
	struct tree_change change;

	assert_int_equal(tree_editor_open(&s->store, NULL, &ed, &err), RC_OK);
	for (uint64_t i = 0; i < BIG; i++) {
		char path[64];
		int len = snprintf(path, sizeof path, "dir%03llu/sub%02llu/file-%05llu.bin",
			(unsigned long long)(i / 1000), (unsigned long long)(i / 50 % 20),
			(unsigned long long)(i * 2));
		struct tree_entry e = entry_of(path, (size_t)len, i);
		assert_int_equal(tree_editor_put(ed, &e, &err), RC_OK);
	}
	assert_int_equal(tree_editor_finish(ed, &change, &err), RC_OK);
	assert_int_equal(change.totals.entries, BIG);
	tree_editor_free(ed);
	*root = change.root;
	print_message("%d files: %llu nodes\n", BIG, (unsigned long long)change.nodes_put);
}

/* One edit in a big tree touches the way from the root to a leaf, and now and then a neighbour. */
static void
one_edit_costs_one_node_a_level(void **state)
{
	struct dice d = {.state = 9};
	struct mem_store s;
	struct sha256 root;
	const int tries = 400;

	(void)state;
	mem_store_init(&s);
	build_big(&s, &root);
	unsigned levels = check_shape(&s, &root, TREE_NODE_COUNT_MIN, true);
	print_message("levels: %u\n", levels);
	assert_true(levels <= 4);
	uint64_t reads = 0;
	uint64_t puts = 0;
	for (int i = 0; i < tries; i++) {
		uint64_t at = dice_below(&d, BIG);
		char path[64];
		/* 0: change, 1: insert, 2: delete, 3: delete what is not there */
		uint64_t what = dice_below(&d, 4);
		int len = snprintf(path, sizeof path, "dir%03llu/sub%02llu/file-%05llu.bin",
			(unsigned long long)(at / 1000), (unsigned long long)(at / 50 % 20),
			(unsigned long long)(at * 2 + what % 2));
		struct tree_edit one = {.op = what < 2 ? TREE_EDIT_PUT : TREE_EDIT_DELETE,
			.entry = entry_of(path, (size_t)len, at + 1)};
		struct edits e = {.list = &one, .count = 1};
		s.gets = 0;
		s.puts = 0;
		struct tree_change change = edit(&s, &root, &e);
		assert_int_equal(change.nodes_read, s.gets);
		reads += s.gets;
		puts += s.puts;
		assert_true(s.gets <= levels * 4);
		assert_true(s.puts <= levels * 4);
		if (what == 0)
			assert_true(s.gets == levels && s.puts == levels);
		if (what == 3)
			assert_true(s.puts == 0 && change.absent == 1);
	}
	print_message(
		"in the mean %.2f reads, %.2f puts\n", (double)reads / tries, (double)puts / tries);
	assert_true(reads <= (uint64_t)tries * (levels + 1));
	assert_true(puts <= (uint64_t)tries * (levels + 1));
	mem_store_done(&s);
}

/* Keys of which every one (or none) may end a node of the level. */
static size_t
chosen_keys(struct model *m, size_t count, bool may_end)
{
	size_t tried = 0;

	while (m->count < count) {
		char path[32];
		int len = snprintf(path, sizeof path, "%010zu", tried++);
		bool ends = checksum64_seeded(path, (size_t)len, 0) < TREE_NODE_CUT_BELOW;
		if (ends != may_end)
			continue;
		struct tree_entry e = entry_of(path, (size_t)len, tried);
		model_put(m, &e);
	}
	return tried;
}

static void
chosen_keys_keep_the_limits(void **state)
{
	(void)state;
	for (int may_end = 0; may_end <= 1; may_end++) {
		struct mem_store s;
		struct model m = {0};
		struct edits one = {.count = 1};
		struct tree_edit front = {.op = TREE_EDIT_PUT, .entry = entry_of("!", 1, 1)};

		mem_store_init(&s);
		chosen_keys(&m, 5000, may_end == 1);
		struct sha256 root = model_build(&m, &s);
		assert_true(check_shape(&s, &root, TREE_NODE_COUNT_MIN, true) <= 3);
		assert_tree_is(&s, &root, &m);
		/* moves every end, and is right all the same */
		one.list = &front;
		struct tree_change change = edit(&s, &root, &one);
		model_put(&m, &front.entry);
		struct sha256 built = model_build(&m, &s);
		assert_true(sha256_equal(&change.root, &built));
		model_done(&m);
		mem_store_done(&s);
	}
}

/* Paths of 1024 bytes that share nothing fill nodes by bytes, not by count. */
static void
longest_paths_keep_the_limits(void **state)
{
	struct dice d = {.state = 3};
	struct mem_store s;
	struct model m = {0};
	char path[PATH_BYTES_MAX];

	(void)state;
	mem_store_init(&s);
	for (int i = 0; i < 1500; i++) {
		for (size_t j = 0; j < sizeof path; j++)
			path[j] = j % 200 == 199 ? '/' : (char)('a' + dice_below(&d, 26));
		struct tree_entry e = entry_of(path, sizeof path, dice_u64(&d));
		e.content.size = dice_u64(&d) >> 12;
		e.mode = UINT32_MAX;
		model_put(&m, &e);
	}
	struct sha256 root = model_build(&m, &s);
	unsigned levels = check_shape(&s, &root, 8, true);
	assert_true(levels <= 4);
	assert_tree_is(&s, &root, &m);
	while (m.count > 3) {
		struct tree_edit gone[100];
		struct edits e = {.list = gone};
		struct model before = {0};
		for (size_t i = 0; i < m.count; i++)
			model_put(&before, &m.entries[i]);
		for (size_t i = 0; i < before.count && e.count < 100; i += 1 + dice_below(&d, 9))
			gone[e.count++] = (struct tree_edit){
				.op = TREE_EDIT_DELETE, .entry = before.entries[i]};
		root = edit(&s, &root, &e).root;
		model_apply(&m, &e);
		struct sha256 built = model_build(&m, &s);
		assert_true(sha256_equal(&root, &built));
		model_done(&before);
	}
	model_done(&m);
	mem_store_done(&s);
}

/* What another program has computed from the description of the format. */
static void
golden_root(void **state)
{
	struct mem_store s;
	struct model m = {0};
	char hex[SHA256_HEX_BYTES];

	(void)state;
	mem_store_init(&s);
	for (unsigned i = 0; i < 20000; i++) {
		char path[64];
		int len = snprintf(path, sizeof path, "d%u/f%u.txt", i * 7919 % 97, i);
		struct tree_entry e = {
			.path = path,
			.path_len = (size_t)len,
			.content = {.kind = i % 3 == 0 ? CONTENT_RECIPE : CONTENT_CHUNK,
				.size = (uint64_t)i * i * 31},
			.mode = i % 2 == 0 ? 0100644 : 0755,
			.mtime_ns = ((int64_t)i - 5000) * 1000000007,
		};
		sha256_of(path, (size_t)len, &e.content.id);
		model_append(&m, &e);
	}
	model_sort(&m);
	struct sha256 root = model_build(&m, &s);
	sha256_hex(&root, hex);
	assert_string_equal(
		hex, "556ea1204a3a6beb4a6aac37a9d514653b7403857ac85995504917f7ef52c07d");
	model_done(&m);
	mem_store_done(&s);
}

static void
wrong_edits_are_refused(void **state)
{
	struct err err = ERR_INIT;
	struct mem_store s;
	struct tree_editor *ed;
	char path[PATH_BYTES_MAX + 1];
	struct tree_change change;

	(void)state;
	mem_store_init(&s);
	memset(path, 'p', sizeof path);
	assert_int_equal(tree_editor_open(&s.store, NULL, &ed, &err), RC_OK);
	struct tree_entry e = entry_of(path, 0, 1);
	assert_int_equal(tree_editor_put(ed, &e, &err), RC_INVALID);
	assert_string_equal(err.kind, "invalid-path");
	err_clear(&err);
	assert_int_equal(tree_editor_delete(ed, path, sizeof path, &err), RC_INVALID);
	err_clear(&err);
	/* the editor goes on after a refused path */
	e = entry_of(path, PATH_BYTES_MAX, 1);
	assert_int_equal(tree_editor_put(ed, &e, &err), RC_OK);
	/* out of order, twice the same, and no content: mistakes of ours, reported all the same */
	unsetenv("DIGSTORE_ABORT_ON_BUG");
	assert_int_equal(tree_editor_put(ed, &e, &err), RC_BUG);
	err_clear(&err);
	assert_int_equal(tree_editor_delete(ed, "a", 1, &err), RC_BUG);
	err_clear(&err);
	e = entry_of("q", 1, 1);
	e.content.kind = 3;
	assert_int_equal(tree_editor_put(ed, &e, &err), RC_BUG);
	err_clear(&err);
	assert_int_equal(tree_editor_finish(ed, &change, &err), RC_OK);
	assert_int_equal(change.totals.entries, 1);
	tree_editor_free(ed);
	tree_editor_free(NULL);
	mem_store_done(&s);
}

static void
totals_do_not_wrap(void **state)
{
	struct err err = ERR_INIT;
	struct mem_store s;
	struct tree_change change;
	struct tree_entry e[2] = {entry_of("a", 1, 1), entry_of("b", 1, 2)};

	(void)state;
	mem_store_init(&s);
	e[0].content.size = UINT64_MAX;
	e[1].content.size = 0;
	assert_int_equal(tree_build(&s.store, e, 2, &change, &err), RC_OK);
	assert_true(change.totals.bytes == UINT64_MAX);
	e[1].content.size = 1;
	assert_int_equal(tree_build(&s.store, e, 2, &change, &err), RC_TOO_LARGE);
	assert_string_equal(err.kind, "tree-too-large");
	mem_store_done(&s);
}

static void
errors_of_the_store_come_through(void **state)
{
	struct dice d = {.state = 4};
	struct err err = ERR_INIT;
	struct mem_store s;
	struct tree_change change;
	struct edits all = edits_random(&d, 2000, UINT64_MAX, 0);
	struct edits more = edits_random(&d, 3, UINT64_MAX, 0);

	(void)state;
	mem_store_init(&s);
	struct sha256 root = edit(&s, NULL, &all).root;
	s.put_rc = RC_UNAVAILABLE;
	assert_int_equal(
		tree_edit(&s.store, &root, more.list, more.count, &change, &err), RC_UNAVAILABLE);
	err_clear(&err);
	s.put_rc = RC_OK;
	s.get_rc = RC_AGAIN;
	assert_int_equal(
		tree_edit(&s.store, &root, more.list, more.count, &change, &err), RC_AGAIN);
	err_clear(&err);
	s.get_rc = RC_OK;
	/* the base does not exist */
	root.b[0] ^= 1;
	assert_int_equal(
		tree_edit(&s.store, &root, more.list, more.count, &change, &err), RC_CORRUPT);
	assert_string_equal(err.kind, "corrupt-tree");
	edits_done(&all);
	edits_done(&more);
	mem_store_done(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_tree_has_a_root),
		cmocka_unit_test(random_edits_match_a_sorted_map),
		cmocka_unit_test(only_changed_nodes_are_put),
		cmocka_unit_test(same_files_same_root_in_any_order),
		cmocka_unit_test(one_edit_costs_one_node_a_level),
		cmocka_unit_test(chosen_keys_keep_the_limits),
		cmocka_unit_test(longest_paths_keep_the_limits),
		cmocka_unit_test(golden_root),
		cmocka_unit_test(wrong_edits_are_refused),
		cmocka_unit_test(totals_do_not_wrap),
		cmocka_unit_test(errors_of_the_store_come_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
