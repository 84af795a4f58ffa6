/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TREE_EDITOR_H
#define DG_TREE_EDITOR_H

#include "tree.h"

/* tree_editor: a new tree from an old one and a stream of edits in ascending order of paths.
 *
 * The new tree is what it would be if it were built from nothing; subtrees that no edit touches are
 * taken over unread. One edit of a tree of a million files reads and writes about four nodes, n
 * edits at most about n times as many; an edit that changes nothing writes nothing. Nodes are put
 * before the nodes that name them, the root last, so a reader of a store that keeps this order
 * never meets a gap. Memory: the old nodes and the new ones on the way from the root to where the
 * edits are, below 1 MiB for ordinary paths.
 *
 * After an error other than RC_INVALID from put and delete the editor may only be freed; what was
 * put until then is garbage that nothing names. Besides the errors of tree.h: RC_TOO_LARGE kind
 * "tree-too-large" (the sum of the sizes does not fit in 64 bits). */

struct tree_editor;

/* What came of the edits. */
struct tree_change {
	struct sha256 root; /* stored, also if the tree is empty */
	struct tree_totals totals;
	uint64_t added;     /* paths that are new */
	uint64_t changed;   /* paths that were there with another content, mode or mtime */
	uint64_t unchanged; /* puts of what was there already */
	uint64_t deleted;
	uint64_t absent; /* deletes of what was not there */
	uint64_t nodes_read;
	uint64_t nodes_put;
};

/* store is borrowed until free, base_root (NULL: the empty tree) for the call. Reads nothing.
 * RC_NOMEM. */
enum rc tree_editor_open(const struct tree_store *store, const struct sha256 *base_root,
	struct tree_editor **out, struct err *err);
void tree_editor_free(struct tree_editor *ed);

/* Put or replace one entry, borrowed for the call. The path sorts after that of the edit before.
 * RC_INVALID kind "invalid-path": no bytes or more than PATH_BYTES_MAX. RC_BUG: out of order, or
 * a content of unknown kind. */
enum rc tree_editor_put(struct tree_editor *ed, const struct tree_entry *entry, struct err *err);
/* Delete one entry if it is there. Errors as put. */
enum rc tree_editor_delete(
	struct tree_editor *ed, const char *path, size_t path_len, struct err *err);
/* Complete the tree; no edit may follow. */
enum rc tree_editor_finish(struct tree_editor *ed, struct tree_change *out, struct err *err);

#endif
