/* SPDX-License-Identifier: Apache-2.0 */
/* The map with an allocator that counts what it gives and may be told to give no more. */
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

static void *counted_malloc(size_t bytes);
static void *counted_calloc(size_t count, size_t bytes);
static void *counted_realloc(void *p, size_t bytes);
static void counted_free(void *p);

#define malloc  counted_malloc
#define calloc  counted_calloc
#define realloc counted_realloc
#define free    counted_free
#include "stage_leaf.c"
#include "stage_map.c"
#undef malloc
#undef calloc
#undef realloc
#undef free

#define BYTES_PER_ENTRY_MAX 48

static size_t given_bytes; /* as glibc rounds it, its own word included */
static size_t calls_left = SIZE_MAX;

/* Before what is given: how many bytes it is. */
#define KEEP sizeof(max_align_t)

static size_t
rounded(size_t bytes)
{
	size_t all = (bytes + 8 + 15) / 16 * 16;

	return all < 32 ? 32 : all;
}

static void *
counted_realloc(void *p, size_t bytes)
{
	size_t was = 0;

	if (calls_left == 0)
		return NULL;
	calls_left--;
	if (p != NULL)
		memcpy(&was, (char *)p - KEEP, sizeof was);
	char *now = realloc(p != NULL ? (char *)p - KEEP : NULL, bytes + KEEP);
	assert_non_null(now);
	memcpy(now, &bytes, sizeof bytes);
	given_bytes += rounded(bytes) - (p != NULL ? rounded(was) : 0);
	return now + KEEP;
}

static void *
counted_malloc(size_t bytes)
{
	return counted_realloc(NULL, bytes);
}

static void *
counted_calloc(size_t count, size_t bytes)
{
	void *p = counted_realloc(NULL, count * bytes);

	return p != NULL ? memset(p, 0, count * bytes) : NULL;
}

static void
counted_free(void *p)
{
	size_t was;

	if (p == NULL)
		return;
	memcpy(&was, (char *)p - KEEP, sizeof was);
	given_bytes -= rounded(was);
	free((char *)p - KEEP);
}

static struct stage_map *
make(void)
{
	struct stage_map *m = NULL;
	struct err err = ERR_INIT;

	calls_left = SIZE_MAX;
	given_bytes = 0;
	assert_int_equal(stage_map_open(&m, &err), RC_OK);
	return m;
}

static void
done(struct stage_map *m)
{
	stage_map_free(m);
	assert_int_equal(given_bytes, 0);
}

/* ---- shapes of trees ---- */

/* The i-th path of a shape, into PATH_BYTES_MAX + 1 bytes. */
typedef size_t shape_fn(size_t i, char *out);

static uint64_t
scattered(size_t i)
{
	uint64_t seed = i;

	return chance_u64(&seed);
}

/* Directories of some ten files of some thirty kinds, in a few levels. */
static size_t
tree(size_t i, char *out)
{
	return (size_t)snprintf(out, PATH_BYTES_MAX,
		"usr/share/doc/package-%05zu/examples/%02zu-%s.%zu", i / 13, i % 13,
		i % 2 ? "readme" : "changelog.Debian", scattered(i) % 10);
}

/* Nothing to share. */
static size_t
flat(size_t i, char *out)
{
	return (size_t)snprintf(out, PATH_BYTES_MAX, "%016llx", (unsigned long long)scattered(i));
}

static size_t
directory_each(size_t i, char *out)
{
	return (size_t)snprintf(
		out, PATH_BYTES_MAX, "%012llx/f", (unsigned long long)scattered(i) >> 16);
}

static size_t
longest(size_t i, char *out)
{
	uint64_t seed = i;

	chance_bytes(&seed, out, PATH_BYTES_MAX);
	return PATH_BYTES_MAX;
}

struct shape {
	const char *name;
	shape_fn *path;
	size_t count_max;
};

static const struct shape shapes[] = {
	{"tree", tree, 100000},
	{"flat", flat, 100000},
	{"directory each", directory_each, 100000},
	{"longest", longest, 20000},
};

enum order {
	IN_ORDER,
	SHUFFLED,
	ORDERS,
};

/* A file of a few KiB, with a time to the nanosecond, which takes most. */
static void
put(struct stage_map *m, const char *path, size_t len, size_t i)
{
	struct stage_entry e = {
		.path = path,
		.path_len = (uint16_t)len,
		.kind = CONTENT_CHUNK,
		.mode = 0644,
		.mtime_ns = 1760000000000000001 + (int64_t)i,
		.size = 1000 + scattered(i) % 60000,
	};
	struct err err = ERR_INIT;

	assert_int_equal(stage_map_put(m, &e, NULL, &err), RC_OK);
}

/* A place for each of count numbers that looks random. */
static size_t
shuffle(size_t i, size_t count, enum order order)
{
	return order == IN_ORDER ? i : i * 7919 % count;
}

static void
check_per_entry(const struct stage_map *m, const char *name, size_t path_bytes)
{
	size_t n = stage_map_count(m);

	assert_int_equal(stage_map_memory(m), given_bytes);
	if (given_bytes > path_bytes + n * BYTES_PER_ENTRY_MAX)
		fail_msg("%s: %zu entries take %zu bytes beside %zu of their paths", name, n,
			given_bytes, path_bytes);
}

static void
fill(const struct shape *shape, size_t count, enum order order)
{
	char path[PATH_BYTES_MAX + 1];
	struct stage_map *m = make();
	size_t path_bytes = 0;

	for (size_t i = 0; i < count; i++) {
		size_t at = shuffle(i, count, order);
		size_t len = shape->path(at, path);
		put(m, path, len, at);
		path_bytes += len;
	}
	assert_int_equal(stage_map_count(m), count);
	check_per_entry(m, shape->name, path_bytes);
	done(m);
}

static void
an_entry_takes_few_bytes_at_every_size(void **state)
{
	static const size_t counts[] = {200, 1000, 20000, 100000};
	(void)state;

	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
		for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
			for (int order = 0; order < ORDERS; order++)
				if (counts[c] <= shapes[s].count_max)
					fill(&shapes[s], counts[c], (enum order)order);
	fill(&shapes[0], 1000000, SHUFFLED);
	fill(&shapes[1], 1000000, SHUFFLED);
}

/* Many stages hold one file or none. */
static void
a_small_map_is_small(void **state)
{
	struct stage_map *m = make();
	(void)state;

	assert_true(given_bytes <= 64);
	put(m, "build/output.tar", 16, 1);
	assert_int_equal(stage_map_memory(m), given_bytes);
	assert_true(given_bytes <= 256);
	assert_true(stage_map_remove(m, "build/output.tar", 16));
	assert_true(given_bytes <= 64);
	done(m);
}

static void
the_same_path_for_ever(void **state)
{
	struct stage_map *m = make();
	size_t most = 0;
	(void)state;

	for (size_t i = 0; i < 1000000; i++) {
		put(m, "latest/build.log", 16, i);
		if (i % 3 == 0)
			assert_true(stage_map_remove(m, "latest/build.log", 16));
		most = given_bytes > most ? given_bytes : most;
	}
	assert_true(most <= 256);
	done(m);
}

/* A window of paths that moves on leaves nothing behind. */
static void
what_is_removed_is_gone(void **state)
{
	char path[PATH_BYTES_MAX + 1];
	struct stage_map *m = make();
	const size_t window = 1000;
	size_t path_bytes = 0;
	(void)state;

	for (size_t i = 0; i < 100000; i++) {
		size_t len = tree(i, path);
		put(m, path, len, i);
		path_bytes += len;
		if (i < window)
			continue;
		len = tree(i - window, path);
		assert_true(stage_map_remove(m, path, len));
		path_bytes -= len;
		if (i % 1000 == 0)
			check_per_entry(m, "window", path_bytes);
	}
	done(m);
}

/* Those which stay do not pay for those which went, and these leave an empty map. */
static void
thinning_out(void **state)
{
	const size_t count = 20000;
	char path[PATH_BYTES_MAX + 1];
	(void)state;

	for (int order = 0; order < ORDERS; order++) {
		struct stage_map *m = make();
		size_t empty = given_bytes, path_bytes = 0;
		for (size_t i = 0; i < count; i++) {
			size_t len = tree(i, path);
			put(m, path, len, i);
			path_bytes += len;
		}
		for (size_t i = 0; i < count; i++) {
			size_t at = shuffle(i, count, (enum order)order);
			size_t len = tree(at, path);
			assert_true(stage_map_remove(m, path, len));
			path_bytes -= len;
			if (i % 1000 == 0 && stage_map_count(m) >= 200)
				check_per_entry(m, "thinned out", path_bytes);
		}
		assert_int_equal(given_bytes, empty);
		done(m);
	}
}

/* ---- no memory ---- */

static uint64_t
fingerprint(const struct stage_map *m)
{
	struct stage_map_cursor c;
	struct stage_entry e;
	uint64_t f = stage_map_count(m) ^ stage_map_bytes(m);
	size_t count = 0;

	stage_map_seek(m, &c, "", 0, false);
	for (; stage_map_next(&c, &e); count++) {
		for (size_t i = 0; i < e.path_len; i++)
			f = (f ^ (uint8_t)e.path[i]) * 1099511628211u;
		f = (f ^ e.size ^ (uint64_t)e.mtime_ns) * 1099511628211u;
	}
	assert_int_equal(count, stage_map_count(m));
	return f;
}

static void
without_memory_nothing_changes(void **state)
{
	struct stage_map *m = make();
	struct err err = ERR_INIT;
	uint64_t seed = 5;
	char path[PATH_BYTES_MAX + 1];
	int refused = 0;
	(void)state;

	for (int i = 0; i < 6000; i++) {
		size_t number = chance_below(&seed, 700);
		size_t len = tree(number, path);
		uint64_t before = fingerprint(m);
		struct stage_entry e = {
			.path = path,
			.path_len = (uint16_t)len,
			.kind = CONTENT_RECIPE,
			.size = chance_any_size(&seed),
			.mtime_ns = (int64_t)chance_any_size(&seed),
		};
		calls_left = chance_below(&seed, 4);
		err_clear(&err);
		enum rc rc = stage_map_put(m, &e, NULL, &err);
		if (rc != RC_OK) {
			assert_int_equal(rc, RC_NOMEM);
			assert_true(fingerprint(m) == before);
			refused++;
		}
		/* a removal needs none */
		size_t count = stage_map_count(m);
		len = tree(chance_below(&seed, 700), path);
		bool gone = i / 1000 % 2 && stage_map_remove(m, path, len);
		assert_int_equal(stage_map_count(m), count - gone);
		assert_false(gone && stage_map_find(m, path, len, &e));
	}
	assert_true(refused > 300);
	stage_map_free(m);
	calls_left = 0;
	m = NULL;
	assert_int_equal(stage_map_open(&m, &err), RC_NOMEM);
	assert_null(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_takes_few_bytes_at_every_size),
		cmocka_unit_test(a_small_map_is_small),
		cmocka_unit_test(the_same_path_for_ever),
		cmocka_unit_test(what_is_removed_is_gone),
		cmocka_unit_test(thinning_out),
		cmocka_unit_test(without_memory_nothing_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
