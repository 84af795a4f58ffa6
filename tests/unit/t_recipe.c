/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "chance.h"
#include "recipe.h"

#define SLICES_MAX 600

static size_t
make_slices(uint64_t seed, size_t count, struct recipe_slice *out)
{
	for (size_t i = 0; i < count; i++) {
		chance_bytes(&seed, out[i].chunk.b, sizeof out[i].chunk.b);
		out[i].offset = 0;
		out[i].length = chance_any_size(&seed);
		if (out[i].length == 0)
			out[i].length = 1;
	}
	return count;
}

static void
add_all(struct buf *b, const struct recipe_slice *slices, size_t count)
{
	recipe_part_begin(b, 1);
	for (size_t i = 0; i < count; i++)
		recipe_part_add(b, &slices[i].chunk, slices[i].length);
	assert_true(buf_ok(b));
}

/* Read a part that may be anything; how many slices came. *err says whether it was broken. The
 * bytes are copied so that a sanitizer sees a read past them. */
static size_t
read_part(const uint8_t *data, size_t len, struct recipe_slice *out, struct err *err)
{
	struct recipe_part_reader r;
	struct recipe_slice rest;
	uint8_t *copy = malloc(len > 0 ? len : 1);
	size_t n = 0;

	assert_non_null(copy);
	memcpy(copy, data, len);
	if (recipe_part_open(&r, copy, len, err) == RC_OK) {
		while (n < SLICES_MAX && recipe_part_next(&r, &out[n], err))
			n++;
		assert_true(n < SLICES_MAX);
		/* the end stays the end */
		assert_false(recipe_part_next(&r, &rest, err));
	}
	if (err->rc != RC_OK) {
		assert_int_equal(err->rc, RC_CORRUPT);
		assert_string_equal(err->kind, "corrupt-data");
		assert_true(err->text[0] != '\0');
	}
	free(copy);
	return n;
}

static void
assert_same(const struct recipe_slice *a, const struct recipe_slice *b, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		assert_true(sha256_equal(&a[i].chunk, &b[i].chunk));
		assert_true(a[i].offset == b[i].offset && a[i].length == b[i].length);
	}
}

static void
parts_come_back(void **state)
{
	static struct recipe_slice in[SLICES_MAX], out[SLICES_MAX];
	(void)state;

	for (size_t count = 0; count < SLICES_MAX; count = count * 3 + 1) {
		struct err err = ERR_INIT;
		struct buf b;
		buf_init(&b, (size_t)1 << 20);
		add_all(&b, in, make_slices(count, count, in));
		assert_int_equal(read_part(b.data, b.len, out, &err), count);
		assert_int_equal(err.rc, RC_OK);
		assert_same(in, out, count);
		buf_done(&b);
	}
}

static void
slices_come_back(void **state)
{
	static struct recipe_slice in[50], out[SLICES_MAX];
	struct err err = ERR_INIT;
	uint64_t seed = 5;
	struct buf b;
	(void)state;

	make_slices(9, 50, in);
	buf_init(&b, 1 << 20);
	recipe_part_begin(&b, 1);
	b.data[3] = RECIPE_FLAG_SLICES;
	for (int i = 0; i < 50; i++) {
		in[i].offset = i < 2 ? 0 : chance_any_size(&seed);
		recipe_part_add(&b, &in[i].chunk, in[i].length);
		buf_add_varint(&b, in[i].offset);
	}
	assert_int_equal(read_part(b.data, b.len, out, &err), 50);
	assert_int_equal(err.rc, RC_OK);
	assert_same(in, out, 50);
	/* a part that lacks its last offset */
	read_part(b.data, b.len - 1, out, &err);
	assert_int_equal(err.rc, RC_CORRUPT);
	buf_done(&b);
}

/* What is stored may never change its meaning. */
static void
the_bytes_are_these(void **state)
{
	uint8_t wanted[4 + 33 + 34] = {1, 1, 1, 0};
	struct sha256 one, two;
	struct buf b;
	(void)state;

	memset(one.b, 0x11, sizeof one.b);
	memset(two.b, 0x22, sizeof two.b);
	memset(wanted + 4, 0x11, 32);
	wanted[36] = 0x7f;
	memset(wanted + 37, 0x22, 32);
	wanted[69] = 0x80;
	wanted[70] = 0x01;
	buf_init(&b, 1 << 20);
	recipe_part_begin(&b, 1);
	recipe_part_add(&b, &one, 127);
	recipe_part_add(&b, &two, 128);
	assert_int_equal(b.len, sizeof wanted);
	assert_memory_equal(b.data, wanted, sizeof wanted);
	buf_done(&b);
}

/* ---- hostile bytes ---- */

static void
headers_are_checked(void **state)
{
	static struct recipe_slice in[2], out[SLICES_MAX];
	struct buf b;
	(void)state;

	buf_init(&b, 1 << 20);
	add_all(&b, in, make_slices(3, 2, in));
	for (size_t at = 0; at < RECIPE_HEADER_BYTES; at++) {
		uint8_t right = b.data[at];
		for (unsigned v = 0; v < 256; v++) {
			struct err err = ERR_INIT;
			b.data[at] = (uint8_t)v;
			size_t n = read_part(b.data, b.len, out, &err);
			/* the chunker is no reader's business; with the flag other slices come out
			 */
			if (v == right || at == 1)
				assert_true(err.rc == RC_OK && n == 2);
			else if (at != 3 || v != RECIPE_FLAG_SLICES)
				assert_true(err.rc == RC_CORRUPT && n == 0);
		}
		b.data[at] = right;
	}
	buf_done(&b);
}

/* There is no count: a part cut between two slices is a shorter part, and any other cut is seen. */
static void
cuts_are_seen(void **state)
{
	static struct recipe_slice in[20], out[SLICES_MAX];
	struct buf b;
	size_t ends[21], count = make_slices(4, 20, in);
	(void)state;

	buf_init(&b, 1 << 20);
	recipe_part_begin(&b, 1);
	for (size_t i = 0; i < count; i++) {
		ends[i] = b.len;
		recipe_part_add(&b, &in[i].chunk, in[i].length);
	}
	ends[count] = b.len;
	for (size_t cut = 0; cut <= b.len; cut++) {
		struct err err = ERR_INIT;
		size_t n = read_part(b.data, cut, out, &err), whole = 0;
		while (whole < count && ends[whole + 1] <= cut)
			whole++;
		assert_int_equal(n, cut < RECIPE_HEADER_BYTES ? 0 : whole);
		assert_same(in, out, n);
		assert_int_equal(err.rc, cut == ends[whole] ? RC_OK : RC_CORRUPT);
	}
	buf_done(&b);
}

/* Every byte turned into every other: refused, or read as slices that are all possible. */
static void
flips_do_no_harm(void **state)
{
	static struct recipe_slice in[4], out[SLICES_MAX];
	struct buf b;
	(void)state;

	for (int slices = 0; slices < 2; slices++) {
		buf_init(&b, 1 << 20);
		add_all(&b, in, make_slices(6, 4, in));
		b.data[3] = (uint8_t)slices;
		for (size_t at = 0; at < b.len; at++) {
			for (unsigned v = 1; v < 256; v++) {
				struct err err = ERR_INIT;
				b.data[at] ^= (uint8_t)v;
				size_t n = read_part(b.data, b.len, out, &err);
				for (size_t i = 0; i < n; i++)
					assert_true(out[i].length > 0);
				b.data[at] ^= (uint8_t)v;
			}
		}
		buf_done(&b);
	}
}

static void
no_slice_is_empty(void **state)
{
	static struct recipe_slice in[2], out[SLICES_MAX];
	struct err err = ERR_INIT;
	struct buf b;
	(void)state;

	make_slices(7, 2, in);
	in[0].length = 0;
	buf_init(&b, 1 << 20);
	add_all(&b, in, 2);
	assert_int_equal(read_part(b.data, b.len, out, &err), 0);
	assert_int_equal(err.rc, RC_CORRUPT);
	buf_done(&b);
}

/* ---- ids ---- */

static struct sha256
id_of(const struct recipe_slice *slices, size_t count)
{
	struct sha256_stream s;
	struct sha256 id;

	sha256_stream_init(&s);
	for (size_t i = 0; i < count; i++)
		recipe_id_add(&s, &slices[i]);
	sha256_stream_final(&s, &id);
	return id;
}

static void
an_id_is_the_hash_of_all_slices(void **state)
{
	static struct recipe_slice in[30];
	uint8_t flat[30 * 48];
	struct sha256 wanted;
	(void)state;

	make_slices(8, 30, in);
	in[3].offset = 77;
	for (size_t i = 0; i < 30; i++) {
		memcpy(flat + i * 48, in[i].chunk.b, 32);
		put_u64(flat + i * 48 + 32, in[i].offset);
		put_u64(flat + i * 48 + 40, in[i].length);
	}
	for (size_t n = 0; n <= 30; n++) {
		struct sha256 id = id_of(in, n);
		sha256_of(flat, n * 48, &wanted);
		assert_true(sha256_equal(&id, &wanted));
	}
}

static void
an_id_is_this(void **state)
{
	struct recipe_slice in[2] = {{.offset = 0, .length = 65536}, {.offset = 5, .length = 1}};
	char hex[SHA256_HEX_BYTES];
	(void)state;

	memset(in[0].chunk.b, 0x11, 32);
	memset(in[1].chunk.b, 0x22, 32);
	struct sha256 id = id_of(in, 2);
	sha256_hex(&id, hex);
	assert_string_equal(
		hex, "ad1147c627c86d5217a59a5b95a20c7f7e2c37041389f29585da95eae6eee1b0");
}

/* However the slices are cut into parts, and wherever a save and load comes between. */
static void
parts_do_not_change_the_id(void **state)
{
	static struct recipe_slice in[100], out[SLICES_MAX];
	struct sha256 whole, pieces;
	uint64_t seed = 11;
	(void)state;

	make_slices(10, 100, in);
	whole = id_of(in, 100);
	for (int round = 0; round < 50; round++) {
		struct sha256_stream s;
		sha256_stream_init(&s);
		for (size_t from = 0, n; from < 100; from += n) {
			struct err err = ERR_INIT;
			uint8_t saved[SHA256_STREAM_BYTES];
			struct buf b;
			n = 1 + chance_below(&seed, 100 - from);
			buf_init(&b, 1 << 20);
			add_all(&b, in + from, n);
			assert_int_equal(read_part(b.data, b.len, out, &err), n);
			for (size_t i = 0; i < n; i++)
				recipe_id_add(&s, &out[i]);
			buf_done(&b);
			sha256_stream_save(&s, saved);
			assert_true(sha256_stream_load(&s, saved));
		}
		sha256_stream_final(&s, &pieces);
		assert_true(sha256_equal(&whole, &pieces));
	}
}

static void
every_field_changes_the_id(void **state)
{
	struct recipe_slice in[3], changed[3];
	struct sha256 id, other;
	(void)state;

	make_slices(12, 3, in);
	id = id_of(in, 3);
	for (int what = 0; what < 5; what++) {
		memcpy(changed, in, sizeof in);
		changed[1].chunk.b[31] ^= what == 0;
		changed[1].offset += what == 1;
		changed[1].length += what == 2;
		if (what == 3) {
			changed[1] = in[2];
			changed[2] = in[1];
		}
		other = id_of(changed, what == 4 ? 2 : 3);
		assert_false(sha256_equal(&id, &other));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_come_back),
		cmocka_unit_test(slices_come_back),
		cmocka_unit_test(the_bytes_are_these),
		cmocka_unit_test(headers_are_checked),
		cmocka_unit_test(cuts_are_seen),
		cmocka_unit_test(flips_do_no_harm),
		cmocka_unit_test(no_slice_is_empty),
		cmocka_unit_test(an_id_is_the_hash_of_all_slices),
		cmocka_unit_test(an_id_is_this),
		cmocka_unit_test(parts_do_not_change_the_id),
		cmocka_unit_test(every_field_changes_the_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
