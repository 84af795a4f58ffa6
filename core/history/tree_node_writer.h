/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TREE_NODE_WRITER_H
#define DG_TREE_NODE_WRITER_H

#include "tree_node.h"

/* tree_node_writer: the bytes of a node, written item by item, and where a node ends.
 *
 * The items of a level are cut into nodes from the first on. With k the number of items in the node
 * so far, and b the number of bytes of their keys that are written out (not shared with the item
 * before), a node ends after an item
 *   - if (k >= 80 or b >= 8192) and checksum64_seeded(key, level) < 2^58, or
 *   - if k = 512 or b >= 32768, or
 *   - if it is the last item of the level.
 * So 80 + 64 = 144 items is the mean. An item of a system's files takes 58 to 65 bytes (measured
 * over /usr, 140,000 files), so a mean leaf has 9 KiB and the leaf that a mean file is in 11 KiB:
 * an edit writes little, and a node is large enough that the database's cost of a row does not
 * count. The minimum narrows the spread (the mean file has 171 others in its node; it would be 287
 * without a minimum, at the same mean). After an edit the old ends are met again within a few
 * nodes, because both cuttings end at the next candidate that both may take. Only keys decide,
 * never what they stand for: a file with new content moves no end.
 *
 * Paths chosen by someone who computes checksums can make every item a candidate or none. Nodes
 * then have 80 or 512 items, the depth stays within its bounds, and the worst is that an insertion
 * moves all ends after it: the edit costs what building that tree costs, to the tree of the one
 * who chose the paths. */

#define TREE_NODE_COUNT_MIN     80
#define TREE_NODE_KEY_BYTES_MIN 8192
#define TREE_NODE_KEY_BYTES_MAX 32768
#define TREE_NODE_CUT_BELOW     ((uint64_t)1 << 58) /* 1 of 64 */

/* Room for magic, version, level and count before the items. */
#define TREE_NODE_HEAD_BYTES_MAX 5
/* What an item takes besides the bytes of its key. */
#define TREE_NODE_ITEM_BYTES_MAX 60

struct tree_node_writer {
	uint8_t level;
	bool is_full; /* the last item added is the last of its node */
	size_t count;
	struct tree_totals totals;
	struct sha256 last_child; /* above level 0: the child added last */
	/* private */
	size_t key_bytes;
	struct buf bytes;
	size_t last_len;
	char last[TREE_KEY_BYTES_MAX];
};

/* An empty node of that level. */
void tree_node_writer_init(struct tree_node_writer *w, uint8_t level);
void tree_node_writer_done(struct tree_node_writer *w);
/* Begin another node of the same level; the memory is kept. */
void tree_node_writer_clear(struct tree_node_writer *w);

/* Add the next item to a writer of level 0 (entry) or above (child), which is not full. The key
 * ascends and has 1 to TREE_KEY_BYTES_MAX bytes (asserted). Borrowed for the call.
 * RC_TOO_LARGE kind "tree-too-large": the totals do not fit in 64 bits; RC_NOMEM. */
enum rc tree_node_writer_add_entry(
	struct tree_node_writer *w, const struct tree_entry *entry, struct err *err);
enum rc tree_node_writer_add_child(
	struct tree_node_writer *w, const struct tree_child *child, struct err *err);

/* The node's bytes, borrowed until the writer is changed, and what its parent will say of it; the
 * key is borrowed until an item is added. Level 0 may be empty, others may not (asserted).
 * RC_NOMEM. */
enum rc tree_node_writer_finish(struct tree_node_writer *w, const uint8_t **bytes, size_t *len,
	struct tree_child *out, struct err *err);

#endif
