/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "checksum.h"
#include "tree_fixture.h"
#include "tree_node_writer.h"

static struct sha256
hash_of(uint64_t n)
{
	struct sha256 h;

	sha256_of(&n, sizeof n, &h);
	return h;
}

/* A node of n items with keys that share much and little. */
static void
fill(struct tree_node_writer *w, unsigned n)
{
	struct err err = ERR_INIT;

	for (unsigned i = 0; i < n; i++) {
		char key[64];
		int len =
			snprintf(key, sizeof key, "%03u/%s%03u", i / 3, i % 3 == 2 ? "zz" : "f", i);
		struct tree_entry e = entry_of(key, (size_t)len, i * 77);
		struct tree_child c = {.key = key,
			.key_len = (size_t)len,
			.hash = hash_of(i),
			.below = {i + 1, (uint64_t)i << 20}};
		assert_int_equal(w->level == 0 ? tree_node_writer_add_entry(w, &e, &err)
					       : tree_node_writer_add_child(w, &c, &err),
			RC_OK);
		w->is_full = false;
	}
}

/* Write n again; what comes out must be what it was read from. */
static void
assert_encodes_to(const struct tree_node *n, const uint8_t *bytes, size_t len)
{
	struct err err = ERR_INIT;
	struct tree_node_writer w;
	struct tree_child as_child;
	const uint8_t *got;
	size_t got_len;

	tree_node_writer_init(&w, n->level);
	for (size_t i = 0; i < n->count; i++) {
		const struct tree_item *item = &n->items[i];
		assert_int_equal(n->level == 0 ? tree_node_writer_add_entry(&w, &item->entry, &err)
					       : tree_node_writer_add_child(&w, &item->child, &err),
			RC_OK);
		w.is_full = false;
	}
	assert_int_equal(tree_node_writer_finish(&w, &got, &got_len, &as_child, &err), RC_OK);
	assert_int_equal(got_len, len);
	assert_memory_equal(got, bytes, len);
	assert_int_equal(as_child.below.entries, n->totals.entries);
	assert_int_equal(as_child.below.bytes, n->totals.bytes);
	tree_node_writer_done(&w);
}

static void
nodes_come_back(void **state)
{
	struct err err = ERR_INIT;
	struct tree_node n;

	(void)state;
	tree_node_init(&n);
	for (unsigned level = 0; level <= 2; level++) {
		for (unsigned count = level > 0; count <= 300; count += 1 + count / 4) {
			struct tree_node_writer w;
			struct tree_child as_child;
			const uint8_t *bytes;
			size_t len;
			tree_node_writer_init(&w, (uint8_t)level);
			fill(&w, count);
			assert_int_equal(
				tree_node_writer_finish(&w, &bytes, &len, &as_child, &err), RC_OK);
			assert_int_equal(tree_node_decode(&n, bytes, len, &err), RC_OK);
			assert_int_equal(n.level, level);
			assert_int_equal(n.count, count);
			assert_encodes_to(&n, bytes, len);
			for (size_t i = 0; i < n.count; i++)
				assert_int_equal(tree_node_lower_bound(
							 &n, n.items[i].key, n.items[i].key_len),
					i);
			assert_int_equal(tree_node_lower_bound(&n, "", 0), 0);
			assert_int_equal(tree_node_lower_bound(&n, "z", 1), count);
			tree_node_writer_done(&w);
		}
	}
	tree_node_done(&n);
}

/* The node is refused, or it is another node that says exactly what its bytes say. */
static void
try(struct tree_node *n, const uint8_t *bytes, size_t len)
{
	struct err err = ERR_INIT;
	/* on the heap and exactly as long, so that a sanitizer sees a read past the end */
	uint8_t *exact = malloc(len > 0 ? len : 1);

	assert_non_null(exact);
	memcpy(exact, bytes, len);
	enum rc rc = tree_node_decode(n, exact, len, &err);
	if (rc == RC_OK) {
		assert_encodes_to(n, exact, len);
	} else {
		assert_int_equal(rc, RC_CORRUPT);
		assert_string_equal(err.kind, "corrupt-tree");
		assert_int_equal(n->count, 0);
	}
	free(exact);
}

static void
damaged_nodes_are_refused_or_other_nodes(void **state)
{
	struct err err = ERR_INIT;
	struct tree_node n;

	(void)state;
	tree_node_init(&n);
	for (unsigned level = 0; level <= 1; level++) {
		struct tree_node_writer w;
		struct tree_child as_child;
		const uint8_t *bytes;
		size_t len;
		tree_node_writer_init(&w, (uint8_t)level);
		fill(&w, 7);
		assert_int_equal(tree_node_writer_finish(&w, &bytes, &len, &as_child, &err), RC_OK);
		uint8_t *copy = malloc(len + 1);
		assert_non_null(copy);
		memcpy(copy, bytes, len);
		copy[len] = 0;
		for (size_t cut = 0; cut < len; cut++) {
			try(&n, copy, cut);
			assert_int_equal(n.count, 0);
		}
		try(&n, copy, len + 1);
		assert_int_equal(n.count, 0);
		for (size_t at = 0; at < len; at++) {
			const uint8_t was = copy[at];
			for (unsigned v = 0; v < 256; v++) {
				copy[at] = (uint8_t)v;
				try(&n, copy, len);
			}
			copy[at] = was;
		}
		free(copy);
		tree_node_writer_done(&w);
	}
	tree_node_done(&n);
}

static void
random_bytes_never_crash(void **state)
{
	struct dice d = {.state = 11};
	struct tree_node n;
	uint8_t bytes[400];

	(void)state;
	tree_node_init(&n);
	for (int i = 0; i < 20000; i++) {
		size_t len = 4 + dice_below(&d, sizeof bytes - 4);
		for (size_t j = 0; j < len; j++)
			bytes[j] = (uint8_t)(dice_u64(&d) & (i % 2 ? 0xff : 0x07));
		bytes[0] = TREE_NODE_MAGIC;
		bytes[1] = TREE_NODE_VERSION;
		bytes[2] = (uint8_t)(i % 3);
		try(&n, bytes, len);
	}
	tree_node_done(&n);
}

/* ---- one rule after the other ---- */

static void
head(struct buf *b, uint8_t level, uint64_t count)
{
	buf_clear(b);
	buf_add_u8(b, TREE_NODE_MAGIC);
	buf_add_u8(b, TREE_NODE_VERSION);
	buf_add_u8(b, level);
	buf_add_varint(b, count);
}

static void
key(struct buf *b, uint64_t shared, const char *rest)
{
	buf_add_varint(b, shared);
	buf_add_varint(b, strlen(rest));
	buf_add_str(b, rest);
}

static void
file(struct buf *b, uint8_t kind, uint64_t size, uint64_t mode)
{
	const struct sha256 id = hash_of(size);

	buf_add_u8(b, kind);
	buf_add(b, id.b, sizeof id.b);
	buf_add_varint(b, size);
	buf_add_varint(b, mode);
	buf_add_u64(b, 0);
}

static void
child(struct buf *b, uint64_t entries, uint64_t bytes)
{
	const struct sha256 id = hash_of(entries);

	buf_add(b, id.b, sizeof id.b);
	buf_add_varint(b, entries);
	buf_add_varint(b, bytes);
}

static void
expect(const struct buf *b, enum rc want)
{
	struct err err = ERR_INIT;
	struct tree_node n;

	assert_true(buf_ok(b));
	tree_node_init(&n);
	assert_int_equal(tree_node_decode(&n, b->data, b->len, &err), want);
	tree_node_done(&n);
}

/* Two entries with these keys, the second written as sharing `shared` bytes. */
static void
two_keys(struct buf *b, const char *first, uint64_t shared, const char *rest, enum rc want)
{
	head(b, 0, 2);
	key(b, 0, first);
	file(b, 1, 1, 0644);
	key(b, shared, rest);
	file(b, 2, 1, 0644);
	expect(b, want);
}

static void
rules_of_keys(void **state)
{
	struct buf b;
	char longest[TREE_KEY_BYTES_MAX + 2];

	(void)state;
	buf_init(&b, 100000);
	two_keys(&b, "a", 0, "b", RC_OK);
	two_keys(&b, "a", 1, "b", RC_OK);
	two_keys(&b, "ab", 1, "c", RC_OK);
	two_keys(&b, "\x7f", 0, "\x80", RC_OK);
	two_keys(&b, "a", 0, "a", RC_CORRUPT);   /* the same */
	two_keys(&b, "a", 1, "", RC_CORRUPT);    /* the same */
	two_keys(&b, "ab", 1, "", RC_CORRUPT);   /* a prefix of the one before */
	two_keys(&b, "b", 0, "a", RC_CORRUPT);   /* descends */
	two_keys(&b, "ab", 0, "ac", RC_CORRUPT); /* shares more than it says */
	two_keys(&b, "a", 2, "b", RC_CORRUPT);   /* shares more than there is */
	two_keys(&b, "a", UINT64_MAX, "b", RC_CORRUPT);
	two_keys(&b, "", 0, "b", RC_CORRUPT);

	memset(longest, 'x', sizeof longest);
	longest[TREE_KEY_BYTES_MAX] = '\0';
	two_keys(&b, longest, 0, "y", RC_OK);
	two_keys(&b, longest, TREE_KEY_BYTES_MAX - 1, "y", RC_OK);
	two_keys(&b, longest, TREE_KEY_BYTES_MAX, "y", RC_CORRUPT);
	longest[TREE_KEY_BYTES_MAX] = 'x';
	longest[TREE_KEY_BYTES_MAX + 1] = '\0';
	two_keys(&b, longest, 0, "y", RC_CORRUPT);
	head(&b, 0, 1);
	key(&b, 1, "a"); /* the first one has nothing to share with */
	file(&b, 1, 1, 0644);
	expect(&b, RC_CORRUPT);
	buf_done(&b);
}

static void
one_file(struct buf *b, uint8_t kind, uint64_t mode, enum rc want)
{
	head(b, 0, 1);
	key(b, 0, "k");
	file(b, kind, UINT64_MAX, mode);
	expect(b, want);
}

static void
rules_of_entries(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100000);
	one_file(&b, CONTENT_CHUNK, UINT32_MAX, RC_OK);
	one_file(&b, CONTENT_RECIPE, 0, RC_OK);
	one_file(&b, 0, 0, RC_CORRUPT);
	one_file(&b, 3, 0, RC_CORRUPT);
	one_file(&b, CONTENT_CHUNK, (uint64_t)UINT32_MAX + 1, RC_CORRUPT);
	/* something behind the end */
	head(&b, 0, 1);
	key(&b, 0, "k");
	file(&b, CONTENT_CHUNK, 1, 1);
	buf_add_u8(&b, 0);
	expect(&b, RC_CORRUPT);
	/* the sum of the sizes */
	head(&b, 0, 2);
	key(&b, 0, "a");
	file(&b, CONTENT_CHUNK, UINT64_MAX, 1);
	key(&b, 0, "b");
	file(&b, CONTENT_CHUNK, 1, 1);
	expect(&b, RC_CORRUPT);
	/* a size of 1 in two bytes */
	head(&b, 0, 1);
	key(&b, 0, "k");
	file(&b, CONTENT_CHUNK, 129, 1);
	expect(&b, RC_OK);
	b.data[b.len - 10] = 0;
	expect(&b, RC_CORRUPT);
	buf_done(&b);
}

static void
rules_of_children_and_heads(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100000);
	head(&b, 0, 0);
	expect(&b, RC_OK);
	head(&b, 1, 0);
	expect(&b, RC_CORRUPT);
	for (unsigned level = 1; level <= TREE_LEVEL_MAX + 1; level++) {
		head(&b, (uint8_t)level, 1);
		key(&b, 0, "k");
		child(&b, UINT64_MAX, UINT64_MAX);
		expect(&b, level <= TREE_LEVEL_MAX ? RC_OK : RC_CORRUPT);
	}
	b.data[2] = 1;
	b.data[0] ^= 1;
	expect(&b, RC_CORRUPT);
	b.data[0] ^= 1;
	b.data[1] = 2;
	expect(&b, RC_CORRUPT);
	head(&b, 1, 1);
	key(&b, 0, "k");
	child(&b, 0, 0);
	expect(&b, RC_CORRUPT);
	for (unsigned over = 0; over <= 1; over++) {
		head(&b, 1, 2);
		key(&b, 0, "k");
		child(&b, UINT64_MAX - 1, 7);
		key(&b, 0, "l");
		child(&b, 1 + over, 7);
		expect(&b, over ? RC_CORRUPT : RC_OK);
	}
	buf_done(&b);
}

static void
rules_of_counts(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100000);
	for (unsigned count = TREE_NODE_COUNT_MAX - 1; count <= TREE_NODE_COUNT_MAX + 1; count++) {
		char text[16];
		head(&b, 0, count);
		for (unsigned i = 0; i < count; i++) {
			const char *last = i > 0 ? text : "";
			char next[16];
			snprintf(next, sizeof next, "%04u", i);
			size_t shared = 0;
			while (last[shared] != '\0' && last[shared] == next[shared])
				shared++;
			key(&b, shared, next + shared);
			file(&b, CONTENT_CHUNK, 1, 1);
			memcpy(text, next, sizeof text);
		}
		expect(&b, count <= TREE_NODE_COUNT_MAX ? RC_OK : RC_CORRUPT);
	}
	/* more items than there are bytes for */
	head(&b, 0, TREE_NODE_COUNT_MAX);
	expect(&b, RC_CORRUPT);
	head(&b, 0, UINT64_MAX);
	expect(&b, RC_CORRUPT);
	buf_done(&b);
}

/* 512 keys of 1024 bytes in 34 KB: the largest there is to unpack. */
static void
prefixes_do_not_make_a_bomb(void **state)
{
	struct err err = ERR_INIT;
	struct buf b;
	struct tree_node n;
	char first[TREE_KEY_BYTES_MAX - 1];

	(void)state;
	buf_init(&b, 100000);
	memset(first, 'x', sizeof first);
	head(&b, 0, TREE_NODE_COUNT_MAX);
	for (unsigned i = 0; i < TREE_NODE_COUNT_MAX; i++) {
		char end[3] = {(char)('a' + i / 32), (char)('a' + i % 32), '\0'};
		if (i == 0) {
			buf_add_varint(&b, 0);
			buf_add_varint(&b, sizeof first - 1 + 2);
			buf_add(&b, first, sizeof first - 1);
			buf_add_str(&b, end);
		} else {
			key(&b, sizeof first - 1 + (i % 32 > 0), end + (i % 32 > 0));
		}
		file(&b, CONTENT_CHUNK, 1, 1);
	}
	assert_true(b.len < 40000);
	tree_node_init(&n);
	assert_int_equal(tree_node_decode(&n, b.data, b.len, &err), RC_OK);
	assert_int_equal(n.count, TREE_NODE_COUNT_MAX);
	assert_int_equal(n.items[511].key_len, TREE_KEY_BYTES_MAX);
	assert_true(n.keys.cap <= (size_t)TREE_NODE_COUNT_MAX * TREE_KEY_BYTES_MAX);
	tree_node_done(&n);
	buf_done(&b);
}

/* ---- where a node ends ---- */

/* Add counted keys until the writer is full; returns how many. */
static size_t
add_until_full(struct tree_node_writer *w, size_t key_len, uint64_t *next)
{
	struct err err = ERR_INIT;
	size_t count = 0;

	tree_node_writer_clear(w);
	while (!w->is_full) {
		char k[TREE_KEY_BYTES_MAX + 1];
		memset(k, 'k', sizeof k);
		/* the number first: nothing is shared behind it */
		int n = snprintf(k, sizeof k, "%010llu", (unsigned long long)(*next)++);
		k[n] = 'k';
		struct tree_entry e = entry_of(k, key_len, *next);
		assert_int_equal(tree_node_writer_add_entry(w, &e, &err), RC_OK);
		count++;
		assert_int_equal(w->count, count);
		bool hit = checksum64_seeded(k, key_len, 0) < TREE_NODE_CUT_BELOW;
		if (count < TREE_NODE_COUNT_MIN && w->key_bytes < TREE_NODE_KEY_BYTES_MIN)
			assert_false(w->is_full);
		else
			assert_true(w->is_full == (hit || count == TREE_NODE_COUNT_MAX ||
							  w->key_bytes >= TREE_NODE_KEY_BYTES_MAX));
	}
	return count;
}

static void
nodes_end_where_the_rule_says(void **state)
{
	struct err err = ERR_INIT;
	struct tree_node_writer w;
	struct tree_child as_child;
	const uint8_t *bytes;
	uint64_t next = 0;
	size_t items = 0;
	size_t len;

	(void)state;
	tree_node_writer_init(&w, 0);
	for (int i = 0; i < 200; i++)
		items += add_until_full(&w, 20, &next);
	print_message("mean of 200 nodes: %.1f items\n", (double)items / 200);
	assert_true(items > 200 * 120 && items < 200 * 170);
	for (int i = 0; i < 20; i++) {
		size_t count = add_until_full(&w, TREE_KEY_BYTES_MAX, &next);
		assert_true(count >= 8 && count <= 64);
		assert_int_equal(tree_node_writer_finish(&w, &bytes, &len, &as_child, &err), RC_OK);
		assert_true(len <= TREE_NODE_BYTES_MAX);
	}
	tree_node_writer_done(&w);
}

static void
keys_are_ordered_and_stepped_over(void **state)
{
	char k[8];

	(void)state;
	assert_true(tree_key_cmp("a", 1, "a", 1) == 0);
	assert_true(tree_key_cmp("a", 1, "ab", 2) < 0);
	assert_true(tree_key_cmp("b", 1, "ab", 2) > 0);
	assert_true(tree_key_cmp("\xff", 1, "a", 1) > 0);
	assert_true(tree_key_cmp(NULL, 0, "a", 1) < 0);
	assert_true(tree_key_cmp(NULL, 0, NULL, 0) == 0);
	memcpy(k, "src/", 4);
	assert_int_equal(tree_key_skip_prefix(k, 4), 4);
	assert_memory_equal(k, "src0", 4);
	memcpy(k, "a\xff\xff", 3);
	assert_int_equal(tree_key_skip_prefix(k, 3), 1);
	assert_memory_equal(k, "b", 1);
	memcpy(k, "\xff\xff", 2);
	assert_int_equal(tree_key_skip_prefix(k, 2), 0);
	assert_int_equal(tree_key_skip_prefix(k, 0), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nodes_come_back),
		cmocka_unit_test(damaged_nodes_are_refused_or_other_nodes),
		cmocka_unit_test(random_bytes_never_crash),
		cmocka_unit_test(rules_of_keys),
		cmocka_unit_test(rules_of_entries),
		cmocka_unit_test(rules_of_children_and_heads),
		cmocka_unit_test(rules_of_counts),
		cmocka_unit_test(prefixes_do_not_make_a_bomb),
		cmocka_unit_test(nodes_end_where_the_rule_says),
		cmocka_unit_test(keys_are_ordered_and_stepped_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
