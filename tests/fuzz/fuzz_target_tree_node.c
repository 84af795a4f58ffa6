/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tree_node.h"
#include "tree_node_writer.h"

/* Any bytes are refused, or are the one encoding of the node that they decode to. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
require(int condition)
{
	if (!condition)
		abort();
}

static void
check_order(const struct tree_node *n)
{
	struct tree_totals sum = {0};

	for (size_t i = 0; i < n->count; i++) {
		const struct tree_item *item = &n->items[i];
		const struct tree_item *next = i + 1 < n->count ? item + 1 : NULL;
		const struct tree_totals one = {1, item->entry.content.size};
		require(item->before.entries == sum.entries && item->before.bytes == sum.bytes);
		require(tree_totals_add(&sum, n->level > 0 ? &item->child.below : &one));
		require(next == NULL ||
			tree_key_cmp(item->key, item->key_len, next->key, next->key_len) < 0);
		require(tree_node_lower_bound(n, item->key, item->key_len) == i);
	}
	require(n->totals.entries == sum.entries && n->totals.bytes == sum.bytes);
}

static void
check_encoding(const struct tree_node *n, const uint8_t *data, size_t len)
{
	struct err err = ERR_INIT;
	struct tree_node_writer w;
	struct tree_child as_child;
	const uint8_t *bytes;
	size_t bytes_len;
	enum rc rc = RC_OK;

	/* the writer, which never makes one so large, wants room for the worst item to spare */
	if (len > TREE_NODE_BYTES_MAX - TREE_NODE_ITEM_BYTES_MAX - TREE_KEY_BYTES_MAX)
		return;
	tree_node_writer_init(&w, n->level);
	for (size_t i = 0; rc == RC_OK && i < n->count; i++) {
		w.is_full = false;
		rc = n->level > 0 ? tree_node_writer_add_child(&w, &n->items[i].child, &err)
				  : tree_node_writer_add_entry(&w, &n->items[i].entry, &err);
	}
	if (rc == RC_OK)
		rc = tree_node_writer_finish(&w, &bytes, &bytes_len, &as_child, &err);
	require(rc == RC_OK && bytes_len == len && memcmp(bytes, data, len) == 0);
	tree_node_writer_done(&w);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct err err = ERR_INIT;
	struct tree_node n;

	tree_node_init(&n);
	if (tree_node_decode(&n, data, len, &err) == RC_OK) {
		check_order(&n);
		check_encoding(&n, data, len);
	}
	tree_node_done(&n);
	return 0;
}
