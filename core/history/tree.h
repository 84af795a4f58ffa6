/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TREE_H
#define DG_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "content.h"
#include "err.h"
#include "path.h"

/* tree: the files of one snapshot, as an immutable search tree over sorted paths.
 *
 * A tree is named by the SHA-256 of its root node. Its shape depends on the set of paths alone,
 * so the same files give the same root, whatever the order in which they came; two trees share
 * every subtree they have in common. Paths are sorted by memcmp. tree_editor.h makes trees,
 * tree_iter.h walks one, tree_list.h lists one, tree_diff.h compares two; tree_node.h has the
 * format. Nodes live behind struct tree_store.
 *
 * A root of NULL is the empty tree wherever a root is asked for. Functions that take a path take it
 * as it is: path_check() is for the edge of the server. Memory is bounded by the depth (at most
 * TREE_LEVEL_MAX + 1 nodes held), time by what is touched.
 *
 * Every function that reads nodes may return RC_CORRUPT kind "corrupt-tree" (a node is missing, has
 * other bytes than its name says, or does not fit its parent), RC_NOMEM, and what the store
 * returns. Threads: trees are immutable; a store decides for itself; all else belongs to one thread
 * at a time. */

/* One file. Paths are not NUL-terminated. */
struct tree_entry {
	const char *path;
	size_t path_len;
	struct content content;
	uint32_t mode;    /* as in struct stat */
	int64_t mtime_ns; /* since 1970; 0: nobody said it, so that equal contents make equal trees
			   */
};

struct tree_totals {
	uint64_t entries;
	uint64_t bytes; /* sum of content.size */
};

/* Where nodes are kept. */
struct tree_store {
	/* Append the node's bytes to out, which comes empty, with room for TREE_NODE_BYTES_MAX, its
	 * limit. RC_NOT_FOUND if there is none of that name. May block. */
	enum rc (*get)(void *arg, const struct sha256 *hash, struct buf *out, struct err *err);
	/* Keep a node; storing it again is a success. data is borrowed for the call. May be NULL in
	 * a store that is only read. A node's children are put before it. */
	enum rc (*put)(void *arg, const struct sha256 *hash, const uint8_t *data, size_t len,
		struct err *err);
	void *arg;
	/* get has compared the bytes with the hash, so that the tree need not do it again. */
	bool get_verifies;
};

/* Same content, mode and mtime; the paths are not compared. */
static inline bool
tree_entry_same(const struct tree_entry *a, const struct tree_entry *b)
{
	return content_equal(&a->content, &b->content) && a->mode == b->mode &&
	       a->mtime_ns == b->mtime_ns;
}

/* The entry at path. out->path is the caller's path. Reads one node a level.
 * RC_NOT_FOUND kind "path-not-found": the tree has no such path. */
enum rc tree_find(const struct tree_store *store, const struct sha256 *root, const char *path,
	size_t path_len, struct tree_entry *out, struct err *err);

/* Number and bytes of all entries. Reads the root node. */
enum rc tree_totals(const struct tree_store *store, const struct sha256 *root,
	struct tree_totals *out, struct err *err);

/* Number and bytes of the entries whose path starts with these bytes ("src/" for a directory).
 * Reads at most two nodes a level. */
enum rc tree_totals_prefix(const struct tree_store *store, const struct sha256 *root,
	const char *prefix, size_t prefix_len, struct tree_totals *out, struct err *err);

#endif
