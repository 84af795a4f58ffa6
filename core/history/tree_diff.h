/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TREE_DIFF_H
#define DG_TREE_DIFF_H

#include "tree.h"

/* tree_diff: what is different between two trees of one store.
 *
 * Subtrees that both have are skipped unread, so the cost follows the difference: about one leaf a
 * side for each place where the trees differ, and the nodes above them. */

/* A path that is on one side only, or on both with another content, mode or mtime. Pointers are
 * valid during the callback. */
struct tree_diff_item {
	const char *path;
	size_t path_len;
	const struct tree_entry *old; /* NULL: added */
	const struct tree_entry *new; /* NULL: deleted */
};

/* Return false to stop. */
typedef bool tree_diff_fn(void *arg, const struct tree_diff_item *item);

struct tree_diff_query {
	const char *prefix; /* only paths that start with it */
	size_t prefix_len;
	const char *after; /* only paths behind this one: the last path of the page before */
	size_t after_len;
	tree_diff_fn *fn;
	void *arg;
};

/* Call fn for each difference in ascending order of paths until it returns false. NULL is the empty
 * tree. Errors of tree.h. */
enum rc tree_diff(const struct tree_store *store, const struct sha256 *old_root,
	const struct sha256 *new_root, const struct tree_diff_query *query, struct err *err);

#endif
