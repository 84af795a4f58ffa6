/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chance.h"
#include "stage_map.h"

static struct stage_map *
make(void)
{
	struct stage_map *m = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(stage_map_open(&m, &err), RC_OK);
	return m;
}

static void
put(struct stage_map *m, const char *path, size_t len, uint64_t number)
{
	struct err err = ERR_INIT;
	struct stage_entry e = {
		.path = path,
		.path_len = (uint16_t)len,
		.kind = number % 2 ? CONTENT_CHUNK : CONTENT_RECIPE,
		.removed = (uint8_t)(number % 3), /* nothing of the caller's business */
		.mode = (uint32_t)number,
		.mtime_ns = -(int64_t)number,
		.size = number,
	};

	memset(e.id.b, (int)number, sizeof e.id.b);
	assert_int_equal(stage_map_put(m, &e, &err), RC_OK);
}

static void
check_entry(const struct stage_entry *e, const char *path, size_t len, uint64_t number)
{
	assert_non_null(e);
	assert_int_equal(e->path_len, len);
	assert_memory_equal(e->path, path, len);
	assert_int_equal(e->path[len], '\0');
	assert_int_equal(e->kind, number % 2 ? CONTENT_CHUNK : CONTENT_RECIPE);
	assert_int_equal(e->mode, (uint32_t)number);
	assert_int_equal(e->mtime_ns, -(int64_t)number);
	assert_int_equal(e->size, number);
	assert_int_equal(e->id.b[31], (uint8_t)number);
}

static void
an_empty_map_has_nothing(void **state)
{
	struct stage_map *m = make();
	struct err err = ERR_INIT;
	(void)state;

	assert_null(stage_map_find(m, "a", 1));
	assert_false(stage_map_remove(m, "a", 1));
	assert_int_equal(stage_map_count(m), 0);
	assert_int_equal(stage_map_bytes(m), 0);
	assert_int_equal(stage_map_sort(m, &err), RC_OK);
	assert_int_equal(stage_map_lower(m, "a", 1, false), 0);
	assert_int_equal(stage_map_lower(m, "", 0, true), 0);
	stage_map_free(m);
	stage_map_free(NULL);
}

static void
put_replaces(void **state)
{
	struct stage_map *m = make();
	(void)state;

	put(m, "a", 1, 10);
	const char *path = stage_map_find(m, "a", 1)->path;
	put(m, "a", 1, 3);
	put(m, "ab", 2, 4);
	check_entry(stage_map_find(m, "a", 1), "a", 1, 3);
	assert_int_equal(stage_map_count(m), 2);
	assert_int_equal(stage_map_bytes(m), 7);
	/* a path stays where it is, whoever put it: stage_edits borrows it */
	assert_ptr_equal(stage_map_find(m, "a", 1)->path, path);
	assert_true(stage_map_remove(m, "a", 1));
	assert_false(stage_map_remove(m, "a", 1));
	assert_null(stage_map_find(m, "a", 1));
	check_entry(stage_map_find(m, "ab", 2), "ab", 2, 4);
	assert_int_equal(stage_map_bytes(m), 4);
	put(m, "a", 1, 5);
	check_entry(stage_map_find(m, "a", 1), "a", 1, 5);
	assert_ptr_equal(stage_map_find(m, "a", 1)->path, path);
	stage_map_free(m);
}

/* Byte order, as of trees: not the order of names of a directory, nor of signed characters. */
static void
order_is_by_bytes(void **state)
{
	static const char *const sorted[] = {"A", "a", "a b", "a!", "a-", "a/b", "a/b/c", "a0",
		"aa", "b", "z", "\xc3\xa9", "\xf0\x9f\x98\x80"};
	const size_t n = sizeof sorted / sizeof sorted[0];
	struct stage_map *m = make();
	struct err err = ERR_INIT;
	(void)state;

	for (size_t i = 0; i < n; i++) {
		size_t at = i * 5 % n;
		put(m, sorted[at], strlen(sorted[at]), at);
	}
	assert_int_equal(stage_map_sort(m, &err), RC_OK);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(sorted[i]);
		check_entry(stage_map_at(m, i), sorted[i], len, i);
		assert_int_equal(stage_map_lower(m, sorted[i], len, false), i);
		assert_int_equal(stage_map_lower(m, sorted[i], len, true), i + 1);
	}
	assert_int_equal(stage_map_lower(m, "", 0, false), 0);
	assert_int_equal(stage_map_lower(m, "a/", 2, false), 5);
	assert_int_equal(stage_map_lower(m, "a/", 2, true), 5);
	assert_int_equal(stage_map_lower(m, "\xff", 1, false), n);
	stage_map_free(m);
}

static void
many_long_paths(void **state)
{
	const int count = 20000;
	struct stage_map *m = make();
	struct err err = ERR_INIT;
	char path[1100];
	(void)state;

	memset(path, 'p', sizeof path);
	for (int i = 0; i < count; i++) {
		int n = snprintf(path, 16, "%07d", i * 7919 % count);
		path[n] = '/';
		put(m, path, (size_t)(8 + i % 1017), (uint64_t)i);
	}
	assert_int_equal(stage_map_count(m), count);
	assert_int_equal(stage_map_sort(m, &err), RC_OK);
	for (int i = 0; i < count; i++) {
		int n = snprintf(path, 16, "%07d", i);
		path[n] = '/';
		assert_int_equal(stage_map_lower(m, path, 7, false), i);
		assert_memory_equal(stage_map_at(m, (size_t)i)->path, path, 8);
	}
	stage_map_free(m);
}

/* ---- against a plain model ---- */

#define NAMES_MAX 400

struct name {
	char path[80];
	size_t len;
	uint64_t number;
	bool is_there;
};

struct model {
	struct name names[NAMES_MAX];
	size_t count; /* names there are, staged or not */
};

static int
compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	for (size_t i = 0; i < a_len && i < b_len; i++)
		if (a[i] != b[i])
			return (unsigned char)a[i] < (unsigned char)b[i] ? -1 : 1;
	return a_len == b_len ? 0 : a_len < b_len ? -1 : 1;
}

/* Short paths of few letters, so that many begin alike, and any bytes at all. */
static void
invent_names(struct model *d, uint64_t *seed)
{
	static const char letters[] = "ab/-\xff";

	while (d->count < NAMES_MAX) {
		struct name *n = &d->names[d->count];
		bool is_new = true;
		n->len = 1 + chance_below(seed, chance_below(seed, 2) ? 6 : sizeof n->path - 1);
		if (chance_below(seed, 4) == 0)
			chance_bytes(seed, n->path, n->len);
		else
			for (size_t i = 0; i < n->len; i++)
				n->path[i] = letters[chance_below(seed, 5)];
		for (size_t i = 0; i < d->count && is_new; i++)
			is_new = compare(d->names[i].path, d->names[i].len, n->path, n->len) != 0;
		d->count += is_new;
	}
}

static int
by_path(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return compare(x->path, x->len, y->path, y->len);
}

/* Everything the map says about order, told by counting. */
static void
check_order(struct stage_map *m, const struct model *d, uint64_t *seed)
{
	static struct name sorted[NAMES_MAX];
	struct err err = ERR_INIT;
	size_t n = 0;

	for (size_t i = 0; i < d->count; i++)
		if (d->names[i].is_there)
			sorted[n++] = d->names[i];
	qsort(sorted, n, sizeof *sorted, by_path);
	assert_int_equal(stage_map_sort(m, &err), RC_OK);
	assert_int_equal(stage_map_count(m), n);
	for (size_t i = 0; i < n; i++)
		check_entry(stage_map_at(m, i), sorted[i].path, sorted[i].len, sorted[i].number);
	for (int k = 0; k < 10; k++) {
		const struct name *key = &d->names[chance_below(seed, d->count)];
		size_t key_len = chance_below(seed, key->len + 1), below = 0, not_above = 0;
		for (size_t i = 0; i < n; i++) {
			int c = compare(sorted[i].path, sorted[i].len, key->path, key_len);
			below += c < 0;
			not_above += c <= 0;
		}
		assert_int_equal(stage_map_lower(m, key->path, key_len, false), below);
		assert_int_equal(stage_map_lower(m, key->path, key_len, true), not_above);
	}
}

static void
step(struct stage_map *m, struct model *d, uint64_t *seed)
{
	struct name *n = &d->names[chance_below(seed, d->count)];

	switch (chance_below(seed, 5)) {
	case 0:
	case 1:
		n->number = chance_any_size(seed) >> 4;
		n->is_there = true;
		put(m, n->path, n->len, n->number);
		break;
	case 2:
		assert_int_equal(stage_map_remove(m, n->path, n->len), n->is_there);
		n->is_there = false;
		break;
	default:
		if (n->is_there)
			check_entry(stage_map_find(m, n->path, n->len), n->path, n->len, n->number);
		else
			assert_null(stage_map_find(m, n->path, n->len));
		break;
	}
}

static void
any_edits_agree_with_the_model(void **state)
{
	static struct model d;
	(void)state;

	for (uint64_t round = 1; round <= 8; round++) {
		uint64_t seed = round;
		struct stage_map *m = make();
		memset(&d, 0, sizeof d);
		invent_names(&d, &seed);
		for (int i = 0; i < 4000; i++) {
			uint64_t bytes = 0;
			step(m, &d, &seed);
			if (chance_below(&seed, 40) > 0)
				continue;
			for (size_t k = 0; k < d.count; k++)
				bytes += d.names[k].is_there ? d.names[k].number : 0;
			assert_int_equal(stage_map_bytes(m), bytes);
			check_order(m, &d, &seed);
		}
		stage_map_free(m);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_map_has_nothing),
		cmocka_unit_test(put_replaces),
		cmocka_unit_test(order_is_by_bytes),
		cmocka_unit_test(many_long_paths),
		cmocka_unit_test(any_edits_agree_with_the_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
