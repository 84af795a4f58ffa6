/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TREE_ITER_H
#define DG_TREE_ITER_H

#include "tree.h"

/* tree_iter: the entries of a tree in order of their paths.
 *
 * It holds the nodes from the root to one leaf. A seek reads only the nodes that are not among
 * them, so jumping over a directory costs at most one node a level, and nothing when the target
 * is in the same leaf. Errors are those of tree.h; after one the iterator may only be freed. */

struct tree_iter;

/* Before the first entry. store is borrowed until free, root (NULL: the empty tree) for the call.
 * Reads nothing. RC_NOMEM. */
enum rc tree_iter_open(const struct tree_store *store, const struct sha256 *root,
	struct tree_iter **out, struct err *err);
void tree_iter_free(struct tree_iter *it);

/* The next entry, or NULL behind the last; borrowed until the next call with it. */
enum rc tree_iter_next(struct tree_iter *it, const struct tree_entry **out, struct err *err);

/* Go to before the first entry whose path is not below key; in any direction. */
enum rc tree_iter_seek(struct tree_iter *it, const char *key, size_t key_len, struct err *err);

/* Go to behind all entries whose path starts with prefix ("src/" jumps over a directory). prefix
 * may point into the entry that next gave. An empty one goes to the end. */
enum rc tree_iter_skip(
	struct tree_iter *it, const char *prefix, size_t prefix_len, struct err *err);

/* Number and bytes of all entries before the one that next would give. Reads at most the nodes that
 * next would read. */
enum rc tree_iter_before(struct tree_iter *it, struct tree_totals *out, struct err *err);

#endif
