/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TREE_EDIT_H
#define DG_TREE_EDIT_H

#include "tree_editor.h"

/* tree_edit: edits as an array, and whether they may be made at all. */

enum tree_edit_op {
	TREE_EDIT_PUT,
	TREE_EDIT_DELETE,
};

struct tree_edit {
	enum tree_edit_op op;
	struct tree_entry entry; /* of a delete only path and path_len count */
};

/* All edits on base_root (NULL: the empty tree). edits ascend by path, each path once; borrowed.
 * Errors as tree_editor.h. */
enum rc tree_edit(const struct tree_store *store, const struct sha256 *base_root,
	const struct tree_edit *edits, size_t edit_count, struct tree_change *out, struct err *err);

/* A tree of these entries, which ascend by path, each path once; borrowed. */
enum rc tree_build(const struct tree_store *store, const struct tree_entry *entries,
	size_t entry_count, struct tree_change *out, struct err *err);

/* Whether a tree that edits make of base_root would have a path that is both a file and a directory
 * ("a" and "a/b"), given that base_root has none. edits ascend by path, each path once; borrowed.
 * What the edits delete is out of the way. Reads what the edits themselves would, no more.
 * RC_CONFLICT kind "path-conflict": the text names the first such pair. RC_INVALID kind
 * "invalid-path": no bytes or more than PATH_BYTES_MAX. Errors of tree.h. */
enum rc tree_edit_check_paths(const struct tree_store *store, const struct sha256 *base_root,
	const struct tree_edit *edits, size_t edit_count, struct err *err);

/* The same, and which two paths clash, NUL-terminated, if clash is not NULL. */
struct tree_clash {
	char file[PATH_BYTES_MAX + 1];
	char under[PATH_BYTES_MAX + 1];
};
enum rc tree_edit_find_clash(const struct tree_store *store, const struct sha256 *base_root,
	const struct tree_edit *edits, size_t edit_count, struct tree_clash *clash,
	struct err *err);

#endif
