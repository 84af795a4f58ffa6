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

static struct stage_entry
entry(const char *path, size_t len, uint64_t number)
{
	struct stage_entry e = {
		.path = path,
		.path_len = (uint16_t)len,
		.kind = number % 2 ? CONTENT_CHUNK : CONTENT_RECIPE,
		.mode = (uint32_t)number,
		.mtime_ns = -(int64_t)number,
		.size = number,
	};

	memset(e.id.b, (int)number, sizeof e.id.b);
	return e;
}

static bool
put(struct stage_map *m, const char *path, size_t len, uint64_t number)
{
	struct stage_entry e = entry(path, len, number);
	struct err err = ERR_INIT;
	bool unchanged = number % 3 == 0; /* nothing of the caller's business */

	assert_int_equal(stage_map_put(m, &e, &unchanged, &err), RC_OK);
	return unchanged;
}

static void
check_same(const struct stage_entry *a, const struct stage_entry *b)
{
	assert_int_equal(a->path_len, b->path_len);
	assert_memory_equal(a->path, b->path, b->path_len);
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->mtime_ns, b->mtime_ns);
	assert_int_equal(a->size, b->size);
	assert_memory_equal(a->id.b, b->id.b, sizeof a->id.b);
}

static void
check_found(const struct stage_map *m, const char *path, size_t len, uint64_t number)
{
	struct stage_entry e, want = entry(path, len, number);

	assert_true(stage_map_find(m, path, len, &e));
	assert_ptr_equal(e.path, path);
	check_same(&e, &want);
}

static bool
has(const struct stage_map *m, const char *path, size_t len)
{
	struct stage_entry e;

	return stage_map_find(m, path, len, &e);
}

/* The next path is this one; NULL: there is none. */
static void
check_next(struct stage_map_cursor *c, const char *path, size_t len, uint64_t number)
{
	struct stage_entry e, want = entry(path, len, number);

	assert_int_equal(stage_map_next(c, &e), path != NULL);
	if (path == NULL)
		return;
	check_same(&e, &want);
	assert_int_equal(e.path[len], '\0');
}

static void
an_empty_map_has_nothing(void **state)
{
	struct stage_map *m = make();
	struct stage_map_cursor c;
	(void)state;

	assert_false(has(m, "a", 1));
	assert_false(stage_map_remove(m, "a", 1));
	assert_int_equal(stage_map_count(m), 0);
	assert_int_equal(stage_map_bytes(m), 0);
	stage_map_seek(m, &c, "a", 1, false);
	check_next(&c, NULL, 0, 0);
	stage_map_seek(m, &c, "", 0, true);
	check_next(&c, NULL, 0, 0);
	stage_map_free(m);
	stage_map_free(NULL);
}

static void
put_replaces(void **state)
{
	struct stage_map *m = make();
	(void)state;

	assert_false(put(m, "a", 1, 10));
	assert_false(put(m, "a", 1, 3));
	assert_false(put(m, "ab", 2, 4));
	check_found(m, "a", 1, 3);
	assert_int_equal(stage_map_count(m), 2);
	assert_int_equal(stage_map_bytes(m), 7);
	assert_true(put(m, "a", 1, 3));
	assert_true(stage_map_remove(m, "a", 1));
	assert_false(stage_map_remove(m, "a", 1));
	assert_false(has(m, "a", 1));
	check_found(m, "ab", 2, 4);
	assert_int_equal(stage_map_bytes(m), 4);
	assert_false(put(m, "a", 1, 3));
	check_found(m, "a", 1, 3);
	assert_int_equal(stage_map_bytes(m), 7);
	stage_map_free(m);
}

/* A put that differs in one thing alone is a change. */
static void
unchanged_means_all_of_it(void **state)
{
	struct stage_map *m = make();
	struct stage_entry e = entry("a/b", 3, 1700000000);
	struct err err = ERR_INIT;
	bool unchanged;
	(void)state;

	assert_int_equal(stage_map_put(m, &e, NULL, &err), RC_OK);
	for (int i = 0; i < 6; i++) {
		struct stage_entry other = e;
		other.kind = i == 0 ? CONTENT_CHUNK : other.kind;
		other.mode += i == 1;
		other.mtime_ns += i == 2;
		other.size += i == 3;
		other.id.b[31] ^= i == 4;
		assert_int_equal(stage_map_put(m, &other, &unchanged, &err), RC_OK);
		assert_int_equal(unchanged, i == 5);
		assert_int_equal(stage_map_put(m, &other, &unchanged, &err), RC_OK);
		assert_true(unchanged);
		assert_int_equal(stage_map_put(m, &e, NULL, &err), RC_OK);
	}
	stage_map_free(m);
}

/* Each number is kept in as many bytes as it needs. */
static void
every_number_is_kept(void **state)
{
	static const uint32_t modes[] = {0, 0644, 0755, 0600, 0100644, 65535, 65536, UINT32_MAX};
	static const int64_t times[] = {0, 1, -1, 999999999, 1000000000, -1000000000, 4294967295,
		4294967295000000000, 4294967296000000000, INT64_MAX, INT64_MIN, INT64_MIN + 1,
		1760000000123456789, 1760000000000000000};
	const size_t mode_count = sizeof modes / sizeof *modes;
	const size_t time_count = sizeof times / sizeof *times;
	struct stage_map *m = make();
	struct err err = ERR_INIT;
	char path[16];
	(void)state;

	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < 65 * mode_count * time_count; i++) {
			int n = snprintf(path, sizeof path, "%zu", i);
			struct stage_entry e = entry(path, (size_t)n, i), is;
			size_t bits = i % 65;
			e.size = bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - i % 2;
			e.mode = modes[i / 65 % mode_count];
			e.mtime_ns = times[i / 65 / mode_count];
			if (pass == 0)
				assert_int_equal(stage_map_put(m, &e, NULL, &err), RC_OK);
			assert_true(stage_map_find(m, path, (size_t)n, &is));
			check_same(&is, &e);
		}
	}
	stage_map_free(m);
}

/* Byte order, as of trees: not the order of names of a directory, nor of signed characters. */
static void
order_is_by_bytes(void **state)
{
	static const char *const sorted[] = {"A", "a", "a b", "a!", "a-", "a-b", "a/", "a/b",
		"a/b/c", "a0", "aa", "b", "z", "\xc3\xa9", "\xf0\x9f\x98\x80"};
	const size_t n = sizeof sorted / sizeof sorted[0];
	struct stage_map *m = make();
	struct stage_map_cursor c;
	(void)state;

	for (size_t i = 0; i < n; i++) {
		size_t at = i * 7 % n;
		put(m, sorted[at], strlen(sorted[at]), at);
	}
	assert_int_equal(stage_map_count(m), n);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(sorted[i]);
		const char *next = i + 1 < n ? sorted[i + 1] : NULL;
		stage_map_seek(m, &c, sorted[i], len, false);
		check_next(&c, sorted[i], len, i);
		check_next(&c, next, next != NULL ? strlen(next) : 0, i + 1);
		stage_map_seek(m, &c, sorted[i], len, true);
		check_next(&c, next, next != NULL ? strlen(next) : 0, i + 1);
	}
	stage_map_seek(m, &c, "", 0, false);
	for (size_t i = 0; i < n; i++)
		check_next(&c, sorted[i], strlen(sorted[i]), i);
	check_next(&c, NULL, 0, 0);
	check_next(&c, NULL, 0, 0);
	stage_map_seek(m, &c, "a.", 2, true);
	check_next(&c, "a/", 2, 6);
	stage_map_seek(m, &c, "\xff", 1, false);
	check_next(&c, NULL, 0, 0);
	stage_map_free(m);
}

static void
many_long_paths(void **state)
{
	const int count = 20000;
	struct stage_map *m = make();
	struct stage_map_cursor c;
	struct stage_entry e;
	char path[PATH_BYTES_MAX + 1];
	(void)state;

	memset(path, 'p', sizeof path);
	for (int i = 0; i < count; i++) {
		int n = snprintf(path, 16, "%07d", i * 7919 % count);
		path[n] = '/';
		put(m, path, (size_t)(8 + i % 1017), (uint64_t)i);
	}
	assert_int_equal(stage_map_count(m), count);
	for (int i = 0; i < count; i++) {
		int n = snprintf(path, 16, "%07d", i);
		path[n] = '/';
		stage_map_seek(m, &c, path, 7, false);
		assert_true(stage_map_next(&c, &e));
		assert_memory_equal(e.path, path, 8);
	}
	assert_false(stage_map_next(&c, &e));
	stage_map_free(m);
}

/* Paths that are like each other to the last byte, the longest there are among them. */
static void
paths_that_share_all_they_can(void **state)
{
	static char longest[PATH_BYTES_MAX];
	struct stage_map *m = make();
	struct stage_map_cursor c;
	(void)state;

	memset(longest, 'a', sizeof longest);
	for (size_t i = 0; i < PATH_BYTES_MAX; i++)
		put(m, longest, 1 + i * 517 % PATH_BYTES_MAX, i);
	assert_int_equal(stage_map_count(m), PATH_BYTES_MAX);
	stage_map_seek(m, &c, longest, 100, true);
	for (size_t len = 101; len <= PATH_BYTES_MAX; len++) {
		size_t number = 0;
		while (1 + number * 517 % PATH_BYTES_MAX != len)
			number++;
		check_next(&c, longest, len, number);
	}
	check_next(&c, NULL, 0, 0);
	for (size_t i = 0; i < PATH_BYTES_MAX; i += 2)
		assert_true(stage_map_remove(m, longest, 1 + i * 517 % PATH_BYTES_MAX));
	for (size_t i = 0; i < PATH_BYTES_MAX; i++)
		assert_int_equal(has(m, longest, 1 + i * 517 % PATH_BYTES_MAX), i % 2);
	stage_map_free(m);
}

/* In order, backwards, from both ends, from the middle: what is put where a leaf ends. */
static void
any_order_of_puts(void **state)
{
	const size_t count = 1000;
	(void)state;

	for (int order = 0; order < 5; order++) {
		struct stage_map *m = make();
		struct stage_map_cursor c;
		char path[16];
		for (size_t i = 0; i < count; i++) {
			const size_t orders[] = {i, count - 1 - i,
				i % 2 ? i / 2 : count - 1 - i / 2,
				i % 2 ? count / 2 + i / 2 : count / 2 - 1 - i / 2,
				i / 100 * 100 + 99 - i % 100};
			int n = snprintf(path, sizeof path, "%05zu", orders[order]);
			put(m, path, (size_t)n, orders[order]);
		}
		stage_map_seek(m, &c, "", 0, false);
		for (size_t i = 0; i < count; i++) {
			int n = snprintf(path, sizeof path, "%05zu", i);
			check_next(&c, path, (size_t)n, i);
		}
		check_next(&c, NULL, 0, 0);
		stage_map_free(m);
	}
}

/* ---- against a plain model ---- */

#define NAMES_MAX 600

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
	struct stage_map_cursor c;
	size_t n = 0;

	for (size_t i = 0; i < d->count; i++)
		if (d->names[i].is_there)
			sorted[n++] = d->names[i];
	qsort(sorted, n, sizeof *sorted, by_path);
	assert_int_equal(stage_map_count(m), n);
	stage_map_seek(m, &c, "", 0, false);
	for (size_t i = 0; i < n; i++)
		check_next(&c, sorted[i].path, sorted[i].len, sorted[i].number);
	check_next(&c, NULL, 0, 0);
	for (int k = 0; k < 10; k++) {
		const struct name *key = &d->names[chance_below(seed, d->count)];
		size_t key_len = chance_below(seed, key->len + 1);
		for (int after = 0; after < 2; after++) {
			size_t at = 0;
			while (at < n && compare(sorted[at].path, sorted[at].len, key->path,
						 key_len) < after)
				at++;
			stage_map_seek(m, &c, key->path, key_len, after);
			if (at < n)
				check_next(&c, sorted[at].path, sorted[at].len, sorted[at].number);
			else
				check_next(&c, NULL, 0, 0);
		}
	}
}

/* Most steps put, or most remove, by turns. */
static void
step(struct stage_map *m, struct model *d, bool grows, uint64_t *seed)
{
	struct name *n = &d->names[chance_below(seed, d->count)];
	uint64_t number = chance_any_size(seed) >> 4;

	if (chance_below(seed, 8) < (grows ? 6 : 2)) {
		assert_int_equal(
			put(m, n->path, n->len, number), n->is_there && n->number == number);
		n->number = number;
		n->is_there = true;
	} else {
		assert_int_equal(stage_map_remove(m, n->path, n->len), n->is_there);
		n->is_there = false;
	}
	n = &d->names[chance_below(seed, d->count)];
	if (n->is_there)
		check_found(m, n->path, n->len, n->number);
	else
		assert_false(has(m, n->path, n->len));
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
		for (int i = 0; i < 6000; i++) {
			uint64_t bytes = 0;
			step(m, &d, i / 1000 % 2 == 0, &seed);
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
		cmocka_unit_test(unchanged_means_all_of_it),
		cmocka_unit_test(every_number_is_kept),
		cmocka_unit_test(order_is_by_bytes),
		cmocka_unit_test(many_long_paths),
		cmocka_unit_test(paths_that_share_all_they_can),
		cmocka_unit_test(any_order_of_puts),
		cmocka_unit_test(any_edits_agree_with_the_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
