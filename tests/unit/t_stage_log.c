/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "chance.h"
#include "path.h"
#include "stage_log.h"

static struct stage_map *
make(void)
{
	struct stage_map *m = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(stage_map_open(&m, &err), RC_OK);
	return m;
}

static void
begin(struct buf *b)
{
	buf_init(b, (size_t)1 << 24);
	stage_log_begin(b);
}

/* Apply bytes of which a sanitizer sees the end. */
static enum rc
apply(struct stage_map *m, const uint8_t *data, size_t len)
{
	struct err err = ERR_INIT;
	uint8_t *copy = malloc(len > 0 ? len : 1);

	assert_non_null(copy);
	memcpy(copy, data, len);
	enum rc rc = stage_log_apply(m, copy, len, &err);
	assert_int_equal(rc, err.rc);
	if (rc != RC_OK) {
		assert_int_equal(rc, RC_CORRUPT);
		assert_string_equal(err.kind, "corrupt-data");
	}
	free(copy);
	return rc;
}

static void
check_same_entry(const struct stage_entry *a, const struct stage_entry *b)
{
	assert_int_equal(a->path_len, b->path_len);
	assert_memory_equal(a->path, b->path, a->path_len);
	assert_true(a->kind == b->kind && a->mode == b->mode && a->mtime_ns == b->mtime_ns &&
		    a->size == b->size);
	assert_true(sha256_equal(&a->id, &b->id));
}

static void
check_same_map(struct stage_map *a, struct stage_map *b)
{
	struct stage_map_cursor in_a, in_b;
	struct stage_entry x, y;

	assert_int_equal(stage_map_count(a), stage_map_count(b));
	stage_map_seek(a, &in_a, "", 0, false);
	stage_map_seek(b, &in_b, "", 0, false);
	while (stage_map_next(&in_a, &x)) {
		assert_true(stage_map_next(&in_b, &y));
		check_same_entry(&x, &y);
	}
}

static struct stage_entry
entry_of(uint64_t *seed, char *path, size_t path_len)
{
	static const int64_t times[] = {0, 1, -1, INT64_MAX, INT64_MIN, INT64_MIN + 1};
	static const uint32_t modes[] = {0, 0644, 0100755, UINT32_MAX};
	struct stage_entry e = {
		.path = path,
		.path_len = (uint16_t)path_len,
		.kind = chance_below(seed, 2) ? CONTENT_CHUNK : CONTENT_RECIPE,
		.mode = modes[chance_below(seed, 4)],
		.mtime_ns = chance_below(seed, 2) ? times[chance_below(seed, 6)]
						  : (int64_t)chance_u64(seed),
		.size = chance_below(seed, 8) ? chance_any_size(seed) : UINT64_MAX,
	};

	chance_bytes(seed, e.id.b, sizeof e.id.b);
	return e;
}

/* ---- round trips ---- */

/* What a log says is what was done, in however many batches. */
static void
a_log_is_what_was_done(void **state)
{
	(void)state;
	for (uint64_t round = 1; round <= 30; round++) {
		struct stage_map *done = make(), *replayed = make();
		struct err err = ERR_INIT;
		uint64_t seed = round;
		for (int batch = 0; batch < 5; batch++) {
			struct buf b;
			begin(&b);
			for (uint64_t n = chance_below(&seed, 60); n > 0; n--) {
				char path[4] = "a/x";
				path[2] = (char)('a' + chance_below(&seed, 20));
				if (chance_below(&seed, 3) == 0) {
					stage_log_remove(&b, path, 3);
					stage_map_remove(done, path, 3);
					continue;
				}
				struct stage_entry e = entry_of(&seed, path, 3);
				stage_log_put(&b, &e);
				assert_int_equal(stage_map_put(done, &e, NULL, &err), RC_OK);
			}
			assert_true(buf_ok(&b));
			assert_int_equal(apply(replayed, b.data, b.len), RC_OK);
			buf_done(&b);
			check_same_map(done, replayed);
		}
		stage_map_free(done);
		stage_map_free(replayed);
	}
}

static void
every_path_length(void **state)
{
	char path[PATH_BYTES_MAX];
	uint64_t seed = 3;
	(void)state;

	for (size_t len = 1; len <= PATH_BYTES_MAX; len += len < 140 || len > 1000 ? 1 : 53) {
		struct stage_map *m = make();
		struct stage_entry is;
		struct buf b;
		chance_bytes(&seed, path, len);
		struct stage_entry e = entry_of(&seed, path, len);
		begin(&b);
		stage_log_put(&b, &e);
		assert_int_equal(apply(m, b.data, b.len), RC_OK);
		assert_true(stage_map_find(m, path, len, &is));
		check_same_entry(&is, &e);
		buf_done(&b);
		begin(&b);
		stage_log_remove(&b, path, len);
		assert_int_equal(apply(m, b.data, b.len), RC_OK);
		assert_int_equal(stage_map_count(m), 0);
		buf_done(&b);
		stage_map_free(m);
	}
}

/* What is stored may never change its meaning. */
static void
the_bytes_are_these(void **state)
{
	const struct stage_cost cost = {{1, 2, 3, 4, 5, 6, 128}};
	uint8_t wanted[] = {1, 1, 3, 'a', '/', 'b', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x02, 0xa4, 0x03, 0x03, 2,
		1, 'c', 3, 7, 1, 2, 3, 4, 5, 6, 0x80, 0x01};
	struct stage_entry e = {.path = "a/b",
		.path_len = 3,
		.kind = CONTENT_RECIPE,
		.mode = 0644,
		.mtime_ns = -2,
		.size = 256};
	struct buf b;
	(void)state;

	memset(e.id.b, 0x33, sizeof e.id.b);
	memset(wanted + 7, 0x33, 32);
	begin(&b);
	stage_log_put(&b, &e);
	stage_log_remove(&b, "c", 1);
	stage_log_cost(&b, &cost);
	assert_int_equal(b.len, sizeof wanted);
	assert_memory_equal(b.data, wanted, sizeof wanted);
	buf_done(&b);
}

/* ---- costs ---- */

static enum rc
replay(const struct buf *b, struct stage_cost *cost)
{
	struct stage_map *m = make();
	struct err err = ERR_INIT;

	enum rc rc = stage_log_replay(m, b->data, b->len, cost, &err);
	assert_int_equal(rc, err.rc);
	stage_map_free(m);
	return rc;
}

static void
costs_are_summed(void **state)
{
	struct stage_cost sum = {{0}}, wanted = {{0}};
	uint64_t seed = 8;
	struct buf b;
	(void)state;

	for (int batch = 0; batch < 3; batch++) {
		begin(&b);
		for (int i = 0; i < 5; i++) {
			struct stage_cost one;
			for (int k = 0; k < STAGE_COSTS; k++)
				wanted.n[k] += one.n[k] = chance_any_size(&seed) >> 8;
			stage_log_remove(&b, "x", 1);
			stage_log_cost(&b, &one);
		}
		assert_int_equal(replay(&b, &sum), RC_OK);
		assert_int_equal(replay(&b, NULL), RC_OK);
		buf_done(&b);
	}
	assert_memory_equal(&sum, &wanted, sizeof sum);
}

/* Another version may know fewer costs, or more. */
static void
costs_of_other_versions(void **state)
{
	(void)state;
	for (uint64_t count = 0; count < 20; count++) {
		struct stage_cost cost = {{0}};
		struct buf b;
		begin(&b);
		buf_add_u8(&b, 3);
		buf_add_varint(&b, count);
		for (uint64_t i = 0; i < count; i++)
			buf_add_varint(&b, 1000 + i);
		stage_log_remove(&b, "x", 1);
		assert_int_equal(replay(&b, &cost), RC_OK);
		for (uint64_t i = 0; i < STAGE_COSTS; i++)
			assert_int_equal(cost.n[i], i < count ? 1000 + i : 0);
		/* one number short: the path of the next record is none */
		b.data[2] = (uint8_t)(count + 1);
		assert_int_equal(replay(&b, &cost), RC_CORRUPT);
		buf_done(&b);
	}
}

static void
no_count_of_costs_is_too_large(void **state)
{
	struct stage_cost cost = {{0}};
	struct buf b;
	(void)state;

	begin(&b);
	buf_add_u8(&b, 3);
	buf_add_varint(&b, UINT64_MAX);
	for (int i = 0; i < 100; i++)
		buf_add_u8(&b, 1);
	assert_int_equal(replay(&b, &cost), RC_CORRUPT);
	buf_done(&b);
}

/* ---- hostile bytes ---- */

static void
other_versions_are_refused(void **state)
{
	(void)state;
	for (unsigned v = 0; v < 256; v++) {
		struct stage_map *m = make();
		uint8_t data[] = {(uint8_t)v, 2, 1, 'x'};
		assert_int_equal(apply(m, data, sizeof data), v == 1 ? RC_OK : RC_CORRUPT);
		assert_int_equal(apply(m, data, 1), v == 1 ? RC_OK : RC_CORRUPT);
		assert_int_equal(apply(m, data, 0), RC_CORRUPT);
		stage_map_free(m);
	}
}

static void
bad_fields_are_refused(void **state)
{
	char path[PATH_BYTES_MAX + 2];
	uint64_t seed = 4;
	(void)state;

	memset(path, 'p', sizeof path);
	for (int what = 0; what < 8; what++) {
		struct stage_map *m = make();
		struct stage_entry e = entry_of(&seed, path, 5);
		struct buf b;
		begin(&b);
		switch (what) {
		case 0:
			e.path_len = 0;
			break;
		case 1:
			e.path_len = PATH_BYTES_MAX + 1;
			break;
		case 2:
			e.kind = 0;
			break;
		case 3:
			e.kind = 3;
			break;
		case 4: /* a remove of no path */
			stage_log_remove(&b, path, 0);
			break;
		case 5: /* a remove of a path that is too long */
			stage_log_remove(&b, path, PATH_BYTES_MAX + 1);
			break;
		case 6: /* an unknown record */
			buf_add_u8(&b, 4);
			buf_add_u8(&b, 1);
			buf_add_u8(&b, 'x');
			break;
		case 7: /* a length that is no number */
			buf_add_u8(&b, 2);
			for (int i = 0; i < 11; i++)
				buf_add_u8(&b, 0xff);
			break;
		}
		stage_log_put(&b, &e);
		assert_int_equal(apply(m, b.data, b.len), RC_CORRUPT);
		assert_int_equal(stage_map_count(m), 0);
		buf_done(&b);
		stage_map_free(m);
	}
}

/* A mode is 32 bits: what does not fit is not cut to fit. */
static void
a_wide_mode_is_refused(void **state)
{
	uint64_t seed = 5;
	char path[] = "x";
	struct stage_entry e = entry_of(&seed, path, 1);
	struct stage_map *m = make();
	struct buf b;
	(void)state;

	e.size = 1;
	e.mode = 0;
	e.mtime_ns = 0;
	begin(&b);
	stage_log_put(&b, &e);
	b.len -= 2;
	buf_add_varint(&b, (uint64_t)1 << 32);
	buf_add_varint(&b, 0);
	assert_int_equal(apply(m, b.data, b.len), RC_CORRUPT);
	buf_done(&b);
	stage_map_free(m);
}

#define RECORDS 12

/* A batch of puts and removes; ends[i] is where record i begins. */
static void
make_batch(struct buf *b, size_t *ends, char paths[RECORDS][8])
{
	uint64_t seed = 6;

	begin(b);
	for (size_t i = 0; i < RECORDS; i++) {
		memcpy(paths[i], "path/_", 6);
		paths[i][5] = (char)('a' + i % 8);
		ends[i] = b->len;
		struct stage_entry e = entry_of(&seed, paths[i], 6);
		const struct stage_cost cost = {{i, 300}};
		if (i % 4 == 3)
			stage_log_remove(b, paths[i], 6);
		else if (i % 4 == 2)
			stage_log_cost(b, &cost);
		else
			stage_log_put(b, &e);
	}
	ends[RECORDS] = b->len;
}

/* Between two records a cut looks like the end (the row's checksum is what tells), any other is
 * seen. */
static void
cuts_are_seen(void **state)
{
	char paths[RECORDS][8];
	size_t ends[RECORDS + 1];
	struct buf b;
	(void)state;

	make_batch(&b, ends, paths);
	for (size_t cut = 0; cut <= b.len; cut++) {
		struct stage_map *m = make(), *prefix = make();
		size_t whole = 0;
		while (whole < RECORDS && ends[whole + 1] <= cut)
			whole++;
		bool at_end = cut == ends[whole];
		assert_int_equal(apply(m, b.data, cut), at_end ? RC_OK : RC_CORRUPT);
		if (at_end) {
			assert_int_equal(apply(prefix, b.data, ends[whole]), RC_OK);
			check_same_map(m, prefix);
		}
		stage_map_free(m);
		stage_map_free(prefix);
	}
	buf_done(&b);
}

static void
flips_do_no_harm(void **state)
{
	char paths[RECORDS][8];
	size_t ends[RECORDS + 1];
	struct buf b;
	(void)state;

	make_batch(&b, ends, paths);
	for (size_t at = 0; at < b.len; at++) {
		for (unsigned v = 1; v < 256; v += at % 3 + 1) {
			struct stage_map *m = make();
			struct stage_map_cursor c;
			struct stage_entry e;
			b.data[at] ^= (uint8_t)v;
			apply(m, b.data, b.len);
			stage_map_seek(m, &c, "", 0, false);
			while (stage_map_next(&c, &e)) {
				assert_true(content_kind_known(e.kind));
				assert_true(e.path_len > 0 && e.path_len <= PATH_BYTES_MAX);
			}
			b.data[at] ^= (uint8_t)v;
			stage_map_free(m);
		}
	}
	buf_done(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_log_is_what_was_done),
		cmocka_unit_test(every_path_length),
		cmocka_unit_test(the_bytes_are_these),
		cmocka_unit_test(costs_are_summed),
		cmocka_unit_test(costs_of_other_versions),
		cmocka_unit_test(no_count_of_costs_is_too_large),
		cmocka_unit_test(other_versions_are_refused),
		cmocka_unit_test(bad_fields_are_refused),
		cmocka_unit_test(a_wide_mode_is_refused),
		cmocka_unit_test(cuts_are_seen),
		cmocka_unit_test(flips_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
