/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_node.h"

#include <stdlib.h>

void
tree_node_init(struct tree_node *n)
{
	*n = (struct tree_node){0};
	buf_init(&n->keys, (size_t)TREE_NODE_COUNT_MAX * TREE_KEY_BYTES_MAX);
}

void
tree_node_done(struct tree_node *n)
{
	free(n->items);
	buf_done(&n->keys);
	tree_node_init(n);
}

bool
tree_totals_add(struct tree_totals *a, const struct tree_totals *b)
{
	return !__builtin_add_overflow(a->entries, b->entries, &a->entries) &&
	       !__builtin_add_overflow(a->bytes, b->bytes, &a->bytes);
}

size_t
tree_key_skip_prefix(char *key, size_t key_len)
{
	while (key_len > 0 && (uint8_t)key[key_len - 1] == 0xff)
		key_len--;
	if (key_len > 0)
		key[key_len - 1] = (char)((uint8_t)key[key_len - 1] + 1);
	return key_len;
}

/* A varint in its shortest form; a longer one fails the cursor. */
static uint64_t
shortest_varint(struct cur *c, uint64_t max)
{
	const uint8_t *start = c->p;
	uint64_t v = cur_varint(c);

	if (v > max || (c->p - start > 1 && c->p[-1] == 0))
		c->failed = true;
	return v;
}

/* Append the whole key of the next item to n->keys, given the length of the one before it, which
 * is what n->keys ends in. Returns its length, 0 if it is wrong or does not ascend. */
static size_t
read_key(struct tree_node *n, struct cur *c, size_t prev_len)
{
	size_t shared = (size_t)shortest_varint(c, prev_len);
	size_t more = (size_t)shortest_varint(c, TREE_KEY_BYTES_MAX);
	const uint8_t *tail = cur_bytes(c, more);

	if (!cur_ok(c) || more == 0 || shared + more > TREE_KEY_BYTES_MAX)
		return 0;
	if (!buf_reserve(&n->keys, shared + more))
		return 0;
	uint8_t *key = n->keys.data + n->keys.len;
	const uint8_t *prev = key - prev_len;
	/* a greater byte where they part is both: ascending, and sharing all there is to share */
	if (shared < prev_len && tail[0] <= prev[shared])
		return 0;
	memcpy(key, prev, shared);
	memcpy(key + shared, tail, more);
	n->keys.len += shared + more;
	return shared + more;
}

static bool
read_entry(struct tree_entry *e, struct cur *c, struct tree_totals *own)
{
	e->content.kind = cur_u8(c);
	const uint8_t *id = cur_bytes(c, sizeof e->content.id.b);
	e->content.size = shortest_varint(c, UINT64_MAX);
	e->mode = (uint32_t)shortest_varint(c, UINT32_MAX);
	e->mtime_ns = (int64_t)cur_u64(c);
	if (!cur_ok(c) || !content_kind_known(e->content.kind))
		return false;
	memcpy(e->content.id.b, id, sizeof e->content.id.b);
	*own = (struct tree_totals){.entries = 1, .bytes = e->content.size};
	return true;
}

static bool
read_child(struct tree_child *child, struct cur *c, struct tree_totals *own)
{
	const uint8_t *hash = cur_bytes(c, sizeof child->hash.b);
	child->below.entries = shortest_varint(c, UINT64_MAX);
	child->below.bytes = shortest_varint(c, UINT64_MAX);
	if (!cur_ok(c) || child->below.entries == 0)
		return false;
	memcpy(child->hash.b, hash, sizeof child->hash.b);
	*own = child->below;
	return true;
}

static bool
read_items(struct tree_node *n, struct cur *c, size_t count)
{
	size_t key_len = 0;

	for (size_t i = 0; i < count; i++) {
		struct tree_item *item = &n->items[i];
		struct tree_totals own;
		key_len = read_key(n, c, key_len);
		if (key_len == 0)
			return false;
		item->key_len = key_len;
		item->before = n->totals;
		bool ok = n->level == 0 ? read_entry(&item->entry, c, &own)
					: read_child(&item->child, c, &own);
		if (!ok || !tree_totals_add(&n->totals, &own))
			return false;
	}
	return cur_left(c) == 0;
}

/* The keys stand still from here on. */
static void
point_to_keys(struct tree_node *n)
{
	const char *key = (const char *)n->keys.data;

	for (size_t i = 0; i < n->count; i++) {
		struct tree_item *item = &n->items[i];
		item->key = key;
		key += item->key_len;
		if (n->level == 0) {
			item->entry.path = item->key;
			item->entry.path_len = item->key_len;
		} else {
			item->child.key = item->key;
			item->child.key_len = item->key_len;
		}
	}
}

static bool
reserve_items(struct tree_node *n, size_t count)
{
	if (count <= n->item_cap)
		return true;
	/* one that grows will grow again: the next node of the walk is of another length */
	size_t cap = count < 256 ? 256 : TREE_NODE_COUNT_MAX;
	free(n->items);
	n->items = malloc(cap * sizeof *n->items);
	n->item_cap = n->items != NULL ? cap : 0;
	return n->items != NULL;
}

static enum rc
fail(struct tree_node *n, enum rc rc, size_t at, size_t len, struct err *err)
{
	n->level = 0;
	n->count = 0;
	n->totals = (struct tree_totals){0};
	if (rc == RC_NOMEM)
		return err_set(err, rc, "no-memory", "out of memory while reading a snapshot");
	err_set(err, rc, "corrupt-tree", "a part of the snapshot is damaged");
	return err_detail(err, "tree node: wrong at or before byte %zu of %zu", at, len);
}

enum rc
tree_node_decode(struct tree_node *n, const void *bytes, size_t len, struct err *err)
{
	struct cur c;

	buf_clear(&n->keys);
	n->totals = (struct tree_totals){0};
	cur_init(&c, bytes, len);
	uint8_t magic = cur_u8(&c);
	uint8_t version = cur_u8(&c);
	n->level = cur_u8(&c);
	size_t count = (size_t)shortest_varint(&c, TREE_NODE_COUNT_MAX);
	if (!cur_ok(&c) || len > TREE_NODE_BYTES_MAX || magic != TREE_NODE_MAGIC ||
		version != TREE_NODE_VERSION || n->level > TREE_LEVEL_MAX ||
		(count == 0 && n->level > 0))
		return fail(n, RC_CORRUPT, 0, len, err);
	if (!reserve_items(n, count))
		return fail(n, RC_NOMEM, 0, len, err);
	if (!read_items(n, &c, count)) {
		size_t at = (size_t)(c.p - (const uint8_t *)bytes);
		return fail(n, buf_ok(&n->keys) ? RC_CORRUPT : RC_NOMEM, at, len, err);
	}
	n->count = count;
	point_to_keys(n);
	return RC_OK;
}

size_t
tree_node_lower_bound(const struct tree_node *n, const char *key, size_t key_len)
{
	size_t low = 0;
	size_t high = n->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct tree_item *item = &n->items[mid];
		if (tree_key_cmp(item->key, item->key_len, key, key_len) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}
