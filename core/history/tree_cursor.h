/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TREE_CURSOR_H
#define DG_TREE_CURSOR_H

#include "tree_node.h"

/* tree_cursor: a place in a tree, for the other tree files.
 *
 * The cursor holds the nodes from the root (level top) down to the level it stands on. What it
 * stands at is an item: on level 0 an entry, on level l > 0 a whole subtree of level l - 1 that has
 * not been read. It goes down only when told, so whoever walks decides which subtrees are read.
 *
 * Invariants while open:
 *   C1 at[level..top] are loaded; at[l].node is the child at at[l + 1].pos, checked against it.
 *   C2 at_end is at[top].pos == at[top].node.count; then level == top.
 *   C3 otherwise pos < count on levels level..top.
 *   C4 below level, at[l] keeps the last node that was loaded there, for a return to it.
 *
 * Errors are those of tree.h; after one the cursor may only be closed. */

struct tree_place {
	struct tree_node node;
	struct sha256 hash; /* of node */
	size_t pos;
	bool loaded;
};

struct tree_cursor {
	const struct tree_store *store;
	struct sha256 root;
	unsigned level;
	unsigned top;
	bool is_open;     /* the root has been read */
	uint64_t reads;   /* nodes fetched */
	struct buf bytes; /* of the node being fetched */
	struct tree_place at[TREE_LEVEL_MAX + 1];
};

/* root is copied; NULL is the empty tree. Reads nothing. store is borrowed until done. */
void tree_cursor_init(
	struct tree_cursor *c, const struct tree_store *store, const struct sha256 *root);
void tree_cursor_done(struct tree_cursor *c);

/* Stand at the first item of the root. Reads the root the first time. */
enum rc tree_cursor_start(struct tree_cursor *c, struct err *err);
/* Stand at the first entry whose key is not below key, or at the end. Reads only nodes that are not
 * held already. */
enum rc tree_cursor_seek(struct tree_cursor *c, const char *key, size_t key_len, struct err *err);
/* Stand at the end. */
enum rc tree_cursor_seek_end(struct tree_cursor *c, struct err *err);
/* From a subtree to its first item. */
enum rc tree_cursor_down(struct tree_cursor *c, struct err *err);
/* Down until on level 0, unless at the end. */
enum rc tree_cursor_down_to_entry(struct tree_cursor *c, struct err *err);
/* Past the item; up where a node ends. Not at the end. Reads nothing. */
void tree_cursor_step(struct tree_cursor *c);
/* Past the whole subtree of that level that starts here (see tree_cursor_subtree). */
void tree_cursor_step_subtree(struct tree_cursor *c, unsigned level);

bool tree_cursor_at_end(const struct tree_cursor *c);
/* Borrowed until the cursor moves. Not at the end. */
const struct tree_item *tree_cursor_item(const struct tree_cursor *c);
/* No entry of the tree is behind the item. Not at the end. */
bool tree_cursor_is_last(const struct tree_cursor *c);
/* The name of the subtree of that level whose first entry is the next one; NULL if there is none.
 */
const struct sha256 *tree_cursor_subtree(const struct tree_cursor *c, unsigned level);
/* Totals of all entries before the place. Open. */
struct tree_totals tree_cursor_before(const struct tree_cursor *c);

#endif
