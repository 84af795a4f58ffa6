/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tree_fixture.h"
#include "tree_node.h"

/* A line as it should be. */
struct line {
	char name[FIXTURE_PATH_MAX];
	size_t name_len;
	const struct tree_entry *entry; /* NULL: common prefix */
	struct tree_totals totals;
};

struct lines {
	struct line *list;
	size_t count;
	/* of a run */
	size_t next;
	size_t stop_after;
};

static void
add_line(struct lines *l, const char *name, size_t name_len, const struct tree_entry *entry)
{
	l->list = realloc(l->list, (l->count + 1) * sizeof *l->list);
	assert_non_null(l->list);
	struct line *line = &l->list[l->count++];
	*line = (struct line){.name_len = name_len, .entry = entry};
	memcpy(line->name, name, name_len);
}

/* The whole listing, the plain way. */
static struct lines
lines_of(const struct model *m, const char *prefix, char delimiter)
{
	struct lines l = {.stop_after = SIZE_MAX};
	size_t prefix_len = strlen(prefix);

	for (size_t i = 0; i < m->count; i++) {
		const struct tree_entry *e = &m->entries[i];
		if (!tree_key_has_prefix(e->path, e->path_len, prefix, prefix_len))
			continue;
		size_t cut = prefix_len;
		while (cut < e->path_len && (delimiter == 0 || e->path[cut] != delimiter))
			cut++;
		struct line *last = l.count > 0 ? &l.list[l.count - 1] : NULL;
		if (cut == e->path_len) {
			add_line(&l, e->path, e->path_len, e);
		} else if (last == NULL || last->entry != NULL ||
			   !tree_key_has_prefix(e->path, e->path_len, last->name, last->name_len)) {
			add_line(&l, e->path, cut + 1, NULL);
		}
		last = &l.list[l.count - 1];
		last->totals.entries++;
		last->totals.bytes += e->content.size;
	}
	return l;
}

static bool
check_line(void *arg, const struct tree_list_item *item)
{
	struct lines *l = arg;

	assert_true(l->next < l->count);
	const struct line *want = &l->list[l->next++];
	assert_int_equal(item->name_len, want->name_len);
	assert_memory_equal(item->name, want->name, want->name_len);
	assert_true((item->entry == NULL) == (want->entry == NULL));
	if (want->entry != NULL)
		assert_same_entry(item->entry, want->entry);
	assert_int_equal(item->totals.entries, want->totals.entries);
	assert_int_equal(item->totals.bytes, want->totals.bytes);
	return l->next < l->stop_after;
}

struct fixture {
	struct mem_store s;
	struct model m;
	struct sha256 root;
};

static void
setup(struct fixture *f, size_t files)
{
	struct dice d = {.state = 41};

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

/* All pages of a listing, one after the other, each going on behind the last name of the one
 * before. */
static void
check_pages(struct fixture *f, const char *prefix, char delimiter, size_t limit)
{
	struct err err = ERR_INIT;
	struct lines l = lines_of(&f->m, prefix, delimiter);
	struct tree_list_query q = {.prefix = prefix,
		.prefix_len = strlen(prefix),
		.delimiter = delimiter,
		.limit = limit,
		.fn = check_line,
		.arg = &l};
	bool more = true;

	while (more) {
		size_t before = l.next;
		assert_int_equal(tree_list(&f->s.store, &f->root, &q, &more, &err), RC_OK);
		assert_true(more == (l.next < l.count));
		if (more)
			assert_int_equal(l.next - before, limit);
		if (l.next > 0) {
			q.after = l.list[l.next - 1].name;
			q.after_len = l.list[l.next - 1].name_len;
		}
	}
	assert_int_equal(l.next, l.count);
	free(l.list);
}

static void
pages_match_a_plain_listing(void **state)
{
	struct fixture f;
	static const char *const prefixes[] = {"", "s", "src", "src/", "src/lib/", "src/lib",
		"none", "\xc3", "a/", "a", "test-data/deep/"};
	static const char delimiters[] = {0, '/', 'e', '1', '\xa4'};
	static const size_t limits[] = {2, 7, 100, SIZE_MAX};

	(void)state;
	setup(&f, 1500);
	for (size_t p = 0; p < sizeof prefixes / sizeof prefixes[0]; p++)
		for (size_t d = 0; d < sizeof delimiters; d++)
			for (size_t l = 0; l < sizeof limits / sizeof limits[0]; l++)
				check_pages(&f, prefixes[p], delimiters[d], limits[l]);
	teardown(&f);
}

/* A directory is jumped over, however much is in it. */
static void
rolled_up_directories_are_not_read(void **state)
{
	struct err err = ERR_INIT;
	struct fixture f = {0};
	bool more;

	(void)state;
	mem_store_init(&f.s);
	for (unsigned i = 0; i < 60000; i++) {
		char path[64];
		int len = snprintf(path, sizeof path, "d%u/f%05u", i / 15000, i);
		struct tree_entry e = entry_of(path, (size_t)len, i);
		model_append(&f.m, &e);
	}
	f.root = model_build(&f.m, &f.s);
	struct lines l = lines_of(&f.m, "", '/');
	struct tree_list_query q = {.delimiter = '/', .limit = 100, .fn = check_line, .arg = &l};
	assert_int_equal(l.count, 4);
	assert_int_equal(tree_list(&f.s.store, &f.root, &q, &more, &err), RC_OK);
	assert_int_equal(l.next, 4);
	assert_int_equal(l.list[0].totals.entries, 15000);
	assert_false(more);
	print_message("%llu reads of %zu nodes\n", (unsigned long long)f.s.gets, f.s.count);
	assert_true(f.s.gets <= 3 + 4 * 2);
	free(l.list);
	teardown(&f);
}

static void
callers_may_stop(void **state)
{
	struct err err = ERR_INIT;
	struct fixture f;
	bool more;

	(void)state;
	setup(&f, 500);
	struct lines l = lines_of(&f.m, "", '/');
	struct tree_list_query q = {.delimiter = '/', .limit = 0, .fn = check_line, .arg = &l};
	/* no lines wanted: only whether there are any */
	assert_int_equal(tree_list(&f.s.store, &f.root, &q, &more, &err), RC_OK);
	assert_true(more);
	assert_int_equal(l.next, 0);
	q.limit = SIZE_MAX;
	for (l.stop_after = 1; l.stop_after <= l.count; l.stop_after++) {
		l.next = 0;
		assert_int_equal(tree_list(&f.s.store, &f.root, &q, &more, &err), RC_OK);
		assert_int_equal(l.next, l.stop_after);
		assert_true(more == (l.next < l.count));
	}
	/* an after that is no line of this listing */
	l.stop_after = SIZE_MAX;
	l.next = l.count;
	q.after = "\xff";
	q.after_len = 1;
	assert_int_equal(tree_list(&f.s.store, &f.root, &q, &more, &err), RC_OK);
	assert_false(more);
	l.next = 0;
	q.after = "!";
	assert_int_equal(tree_list(&f.s.store, &f.root, &q, &more, &err), RC_OK);
	assert_int_equal(l.next, l.count);
	/* nothing in nothing */
	assert_int_equal(tree_list(&f.s.store, NULL, &q, &more, &err), RC_OK);
	assert_false(more);
	free(l.list);
	teardown(&f);
}

/* "a-b" is between "a" and "a/b": the rolled up line stands where its first path does. */
static void
order_is_that_of_bytes(void **state)
{
	struct fixture f = {0};
	static const char *const paths[] = {"a", "a-b", "a/b", "a/c/d", "a0", "b"};

	(void)state;
	mem_store_init(&f.s);
	for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
		struct tree_entry e = entry_of(paths[i], strlen(paths[i]), i);
		model_put(&f.m, &e);
	}
	f.root = model_build(&f.m, &f.s);
	struct lines l = lines_of(&f.m, "", '/');
	assert_int_equal(l.count, 5);
	assert_memory_equal(l.list[2].name, "a/", 2);
	free(l.list);
	for (size_t limit = 1; limit < 7; limit++) {
		check_pages(&f, "", '/', limit);
		check_pages(&f, "a", '/', limit);
		check_pages(&f, "a/", '/', limit);
	}
	teardown(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_match_a_plain_listing),
		cmocka_unit_test(rolled_up_directories_are_not_read),
		cmocka_unit_test(callers_may_stop),
		cmocka_unit_test(order_is_that_of_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
