/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TREE_NODE_H
#define DG_TREE_NODE_H

#include <string.h>

#include "tree.h"

/* tree_node: the bytes of a node, read. tree_node_writer.h writes them.
 *
 *   offset  bytes   what
 *   0       1       0x54, "T"
 *   1       1       version, 1
 *   2       1       level: 0 for a leaf, else 1 + the level of the children, at most 12
 *   3       varint  count of items, at most 512; 0 only in the leaf that is the empty tree
 *   then, count times, an item:
 *           varint  s: how many bytes of the key are the same as the key of the item before, as
 * many as there are; 0 in the first item varint  n: how many bytes of the key follow, at least 1 n
 * those bytes; s + n is at most 1024 in a leaf (the key is the path): 1       content kind: 1
 * chunk, 2 recipe 32      content id varint  content size in bytes varint  mode, below 2^32 8
 * mtime, nanoseconds since 1970, signed else (the key is the last key below the child): 32 SHA-256
 * of the child's bytes varint  number of entries below the child, at least 1 varint  bytes of
 * content below the child and nothing after the last item.
 *
 * Integers are little-endian; a varint is LEB128 in as few bytes as possible. Keys ascend by
 * memcmp. The sums of both totals over all items are below 2^64. So one list of items has exactly
 * one encoding. A node's name is the SHA-256 of its bytes. */

#define TREE_NODE_MAGIC   0x54
#define TREE_NODE_VERSION 1
/* With at least 8 items in every node but the last of a level this is 2^39 entries of the longest
 * paths, and far more of shorter ones. */
#define TREE_LEVEL_MAX      12
#define TREE_NODE_COUNT_MAX 512
#define TREE_KEY_BYTES_MAX  PATH_BYTES_MAX
/* Above what the limits of tree_node_writer.h allow. */
#define TREE_NODE_BYTES_MAX 65536

/* An item of an inner node. */
struct tree_child {
	const char *key;
	size_t key_len;
	struct sha256 hash;
	struct tree_totals below;
};

struct tree_item {
	const char *key;
	size_t key_len;
	struct tree_totals before; /* of the items before this one in the node */
	union {
		struct tree_entry entry; /* level 0; its path is key */
		struct tree_child child; /* else; its key is key */
	};
};

/* A node taken apart. Items and keys live as long as the node is neither decoded into again nor
 * done. */
struct tree_node {
	uint8_t level;
	size_t count;
	struct tree_item *items;
	struct tree_totals totals;
	/* private */
	size_t item_cap;
	struct buf keys;
};

void tree_node_init(struct tree_node *n);
void tree_node_done(struct tree_node *n);

/* Take hostile bytes apart into n, whose memory is used again. bytes are borrowed for the call.
 * RC_CORRUPT kind "corrupt-tree": not a node by every rule above, save that the hash is not
 * looked at; RC_NOMEM. n is then an empty leaf. */
enum rc tree_node_decode(struct tree_node *n, const void *bytes, size_t len, struct err *err);

/* Index of the first item whose key is not below key; n->count if there is none. */
size_t tree_node_lower_bound(const struct tree_node *n, const char *key, size_t key_len);

/* The order of keys: memcmp, the shorter first. */
static inline int
tree_key_cmp(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t both = a_len < b_len ? a_len : b_len;
	int cmp = both > 0 ? memcmp(a, b, both) : 0;

	return cmp != 0 ? cmp : (a_len > b_len) - (a_len < b_len);
}

static inline bool
tree_key_has_prefix(const char *key, size_t key_len, const char *prefix, size_t prefix_len)
{
	return key_len >= prefix_len && (prefix_len == 0 || memcmp(key, prefix, prefix_len) == 0);
}

/* a += b, or false if a sum does not fit in 64 bits. */
bool tree_totals_add(struct tree_totals *a, const struct tree_totals *b);

/* Make key the first key after all keys that start with it, in place; returns its new length, 0 if
 * no key is after them (key was empty or all 0xff). */
size_t tree_key_skip_prefix(char *key, size_t key_len);

#endif
