/* SPDX-License-Identifier: Apache-2.0 */
#include "layout.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct layout_cache *cache;

static void
open_cache(size_t bytes)
{
	struct err err = ERR_INIT;

	layout_cache_free(cache);
	assert_int_equal(layout_cache_open(bytes, &cache, &err), RC_OK);
}

static int
close_cache(void **state)
{
	(void)state;
	layout_cache_free(cache);
	cache = NULL;
	return 0;
}

static struct layout_key
key_of(uint64_t repo_id, uint8_t id)
{
	struct layout_key k = {.repo_id = repo_id};

	k.content.kind = CONTENT_RECIPE;
	k.content.id.b[7] = id;
	k.content.size = 1000000;
	return k;
}

/* A part of slices of 10, 11, 12, … bytes. */
static struct layout_part *
make(uint64_t start, uint32_t count)
{
	struct err err = ERR_INIT;
	struct layout_slice *slices = calloc(count, sizeof *slices);
	struct layout_part *part = NULL;

	for (uint32_t i = 0; i < count; i++) {
		slices[i] = (struct layout_slice){.start = start, .length = 10 + i};
		slices[i].chunk.b[0] = (uint8_t)i;
		start += 10 + i;
	}
	assert_int_equal(layout_part_new(cache, slices, count, &part, &err), RC_OK);
	return part;
}

static void
keep(const struct layout_key *k, uint64_t start, uint32_t count)
{
	struct layout_part *part = make(start, count);

	layout_keep(cache, k, part);
	layout_part_unref(part);
}

static bool
is_there(const struct layout_key *k, uint64_t offset)
{
	struct layout_part *part = layout_find(cache, k, offset);
	bool there = part != NULL;

	if (there)
		assert_true(part->start <= offset && offset < part->end);
	layout_part_unref(part);
	return there;
}

static void
parts_are_found_by_any_byte(void **state)
{
	const struct layout_key a = key_of(1, 1);
	struct layout_key other = a;
	(void)state;

	open_cache(1 << 20);
	keep(&a, 325, 10); /* 325 to 470; parts of 10 take 145 */
	keep(&a, 0, 10);   /* 0 to 145; nothing covers 145 to 325 */
	for (uint64_t at = 0; at < 600; at++)
		assert_int_equal(is_there(&a, at), at < 145 || (at >= 325 && at < 470));
	other.repo_id = 2;
	assert_false(is_there(&other, 0));
	other = a;
	other.content.kind = CONTENT_CHUNK;
	assert_false(is_there(&other, 0));
	other = a;
	other.content.size++;
	assert_false(is_there(&other, 0));
	/* what overlaps one that is there is not kept */
	keep(&a, 100, 10);
	keep(&a, 0, 10);
	assert_false(is_there(&a, 200));
	struct layout_stats s;
	layout_stats(cache, &s);
	size_t two = s.bytes;
	keep(&a, 145, 1);
	assert_true(is_there(&a, 154) && !is_there(&a, 155));
	layout_stats(cache, &s);
	assert_true(s.bytes > two);
}

static void
slices_are_found(void **state)
{
	(void)state;
	open_cache(1 << 20);
	struct layout_part *p = make(1000, 50);
	assert_int_equal(p->start, 1000);
	uint64_t at = 1000;
	for (uint32_t i = 0; i < 50; i++)
		for (uint32_t k = 0; k < 10 + i; k++)
			assert_int_equal(layout_slice_at(p, at++), i);
	assert_int_equal(p->end, at);
	layout_part_unref(p);
	layout_part_unref(NULL);
}

static void
places_are_learnt(void **state)
{
	struct layout_place places[20];
	struct chunk_row row = {
		.pack_id = 9, .frame_offset = 4096, .frame_bytes = 500, .length = 10};
	(void)state;

	open_cache(1 << 20);
	struct layout_part *p = make(0, 20);
	layout_places(p, 0, 20, places);
	for (int i = 0; i < 20; i++)
		assert_int_equal(places[i].pack_id, 0);
	for (uint32_t i = 3; i < 9; i++) {
		row.raw_offset = i * 10;
		layout_learn_row(p, i, &row);
	}
	row.frame_offset = 8192;
	layout_learn_row(p, 9, &row);
	layout_places(p, 2, 10, places);
	assert_int_equal(places[0].pack_id, 0);
	assert_int_equal(places[1].pack_id, 9);
	assert_int_equal(places[6].raw_offset, 80);
	assert_int_equal(places[7].frame_offset, 8192);
	/* the shape counts for the rest of the frame, and no further */
	places[1].payload_at = 300;
	places[1].codec = CODEC_ZSTD;
	layout_learn_shape(p, 3, &places[1]);
	layout_places(p, 2, 10, places);
	for (int i = 1; i <= 6; i++)
		assert_true(places[i].payload_at == 300 && places[i].codec == CODEC_ZSTD);
	assert_int_equal(places[0].payload_at, 0);
	assert_int_equal(places[7].payload_at, 0);
	/* the same row again does not forget it; another one does */
	row = (struct chunk_row){.pack_id = 9,
		.frame_offset = 4096,
		.raw_offset = 30,
		.frame_bytes = 500,
		.length = 10};
	layout_learn_row(p, 3, &row);
	layout_places(p, 3, 1, places);
	assert_int_equal(places[0].payload_at, 300);
	row.pack_id = 10;
	layout_learn_row(p, 3, &row);
	layout_places(p, 3, 1, places);
	assert_true(places[0].pack_id == 10 && places[0].payload_at == 0);
	layout_part_unref(p);
}

static void
impossible_rows_have_no_place(void **state)
{
	const struct chunk_row good = {
		.pack_id = 1, .frame_offset = 4096, .frame_bytes = 100, .length = 10};
	struct chunk_row bad[5];
	struct layout_place place;
	(void)state;

	for (int i = 0; i < 5; i++)
		bad[i] = good;
	bad[0].length = 0;
	bad[1].length = UINT64_MAX;
	bad[2].raw_offset = UINT64_MAX - 5;
	bad[3].frame_bytes = UINT64_C(1) << 32;
	bad[4].frame_offset = UINT64_C(1) << 32;
	layout_place_of(&good, &place);
	assert_int_equal(place.pack_id, 1);
	for (int i = 0; i < 5; i++) {
		layout_place_of(&bad[i], &place);
		assert_int_equal(place.pack_id, 0);
	}
}

static void
the_oldest_go_first(void **state)
{
	struct layout_key keys[40];
	struct layout_stats s;
	(void)state;

	open_cache(50000);
	for (uint8_t i = 0; i < 40; i++) {
		keys[i] = key_of(1, i);
		keep(&keys[i], 0, 20);
		assert_true(is_there(&keys[i], 0));
		assert_true(is_there(&keys[0], 0)); /* used again and again */
		layout_stats(cache, &s);
		assert_true(s.bytes <= 50000);
	}
	assert_false(is_there(&keys[1], 0));
	assert_true(is_there(&keys[39], 0));
	/* one that is too large for the cache is not kept, and pushes nothing out */
	keep(&keys[1], 0, 2000);
	assert_false(is_there(&keys[1], 0));
	assert_true(is_there(&keys[39], 0));
	/* a part lives as long as somebody has it */
	struct layout_part *held = layout_find(cache, &keys[39], 0);
	for (uint8_t i = 0; i < 39; i++)
		keep(&keys[i], 1000, 20);
	assert_false(is_there(&keys[39], 0));
	assert_int_equal(held->slices[19].length, 29);
	layout_part_unref(held);
	open_cache(0);
	keep(&keys[0], 0, 1);
	assert_false(is_there(&keys[0], 0));
}

static void *
churn(void *arg)
{
	uint64_t x = (uint64_t)(uintptr_t)&x;
	(void)arg;

	for (int i = 0; i < 5000; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		const struct layout_key k = key_of(1, (uint8_t)((x >> 33) % 20));
		uint64_t start = (x >> 40) % 4 * 145;
		struct layout_part *p = layout_find(cache, &k, start);
		if (p == NULL) {
			p = make(start, 10);
			layout_keep(cache, &k, p);
		}
		struct chunk_row row = {.pack_id = 1 + (x >> 50) % 3, .length = 10};
		struct layout_place places[10];
		layout_learn_row(p, (uint32_t)(x >> 60) % 10, &row);
		layout_places(p, 0, 10, places);
		bool good = p->start == start && p->count == 10;
		layout_part_unref(p);
		if (!good)
			return NULL;
	}
	return cache;
}

static void
threads_share_parts(void **state)
{
	pthread_t threads[4];
	void *result;
	(void)state;

	open_cache(40000);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn, NULL), 0);
	for (size_t i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		assert_non_null(result);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_are_found_by_any_byte),
		cmocka_unit_test(slices_are_found),
		cmocka_unit_test(places_are_learnt),
		cmocka_unit_test(impossible_rows_have_no_place),
		cmocka_unit_test(the_oldest_go_first),
		cmocka_unit_test(threads_share_parts),
	};

	return cmocka_run_group_tests(tests, NULL, close_cache);
}
