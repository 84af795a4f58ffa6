/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_edit.h"

#include <string.h>

#include "tree_cursor.h"

static enum rc
apply(struct tree_editor *ed, const struct tree_edit *edit, struct err *err)
{
	switch (edit->op) {
	case TREE_EDIT_PUT:
		return tree_editor_put(ed, &edit->entry, err);
	case TREE_EDIT_DELETE:
		return tree_editor_delete(ed, edit->entry.path, edit->entry.path_len, err);
	}
	return err_set(err, RC_BUG, NULL, "an edit of the snapshot is of no known kind");
}

enum rc
tree_edit(const struct tree_store *store, const struct sha256 *base_root,
	const struct tree_edit *edits, size_t edit_count, struct tree_change *out, struct err *err)
{
	struct tree_editor *ed;
	enum rc rc = tree_editor_open(store, base_root, &ed, err);

	for (size_t i = 0; rc == RC_OK && i < edit_count; i++)
		rc = apply(ed, &edits[i], err);
	if (rc == RC_OK)
		rc = tree_editor_finish(ed, out, err);
	tree_editor_free(ed);
	return rc;
}

enum rc
tree_build(const struct tree_store *store, const struct tree_entry *entries, size_t entry_count,
	struct tree_change *out, struct err *err)
{
	struct tree_editor *ed;
	enum rc rc = tree_editor_open(store, NULL, &ed, err);

	for (size_t i = 0; rc == RC_OK && i < entry_count; i++)
		rc = tree_editor_put(ed, &entries[i], err);
	if (rc == RC_OK)
		rc = tree_editor_finish(ed, out, err);
	tree_editor_free(ed);
	return rc;
}

/* What a check of collisions goes through. Two cursors, because the ancestors of a path and what is
 * below it lie in different leaves and either would throw out the other's. */
struct check {
	const struct tree_edit *edits;
	size_t count;
	struct tree_cursor above;
	struct tree_cursor below;
	struct tree_clash *clash; /* may be NULL */
};

static const struct tree_edit *
find_edit(const struct check *k, const char *path, size_t path_len)
{
	size_t low = 0;
	size_t high = k->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct tree_entry *e = &k->edits[mid].entry;
		int cmp = tree_key_cmp(e->path, e->path_len, path, path_len);
		if (cmp == 0)
			return &k->edits[mid];
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static enum rc
conflict(const struct check *k, const char *file, size_t file_len, const char *under,
	size_t under_len, struct err *err)
{
	char a[PATH_SHOW_BYTES];
	char b[PATH_SHOW_BYTES];

	if (k->clash != NULL) {
		memcpy(k->clash->file, file, file_len);
		k->clash->file[file_len] = '\0';
		memcpy(k->clash->under, under, under_len);
		k->clash->under[under_len] = '\0';
	}
	return err_set(err, RC_CONFLICT, "path-conflict",
		"\"%s\" would be a file and also the directory of \"%s\"",
		path_show(a, file, file_len), path_show(b, under, under_len));
}

/* Refuse if dir, a directory that path needs, is a file after the edits. */
static enum rc
check_ancestor(struct check *k, const struct tree_entry *path, size_t dir_len, struct err *err)
{
	const char *dir = path->path;
	const struct tree_edit *edit = find_edit(k, dir, dir_len);

	if (edit != NULL)
		return edit->op == TREE_EDIT_DELETE
			       ? RC_OK
			       : conflict(k, dir, dir_len, path->path, path->path_len, err);
	enum rc rc = tree_cursor_seek(&k->above, dir, dir_len, err);
	if (rc != RC_OK || tree_cursor_at_end(&k->above))
		return rc;
	const struct tree_item *item = tree_cursor_item(&k->above);
	if (tree_key_cmp(item->key, item->key_len, dir, dir_len) != 0)
		return RC_OK;
	return conflict(k, dir, dir_len, path->path, path->path_len, err);
}

/* Refuse if an entry below path stays. Entries that the edits put there are met as edits, by their
 * ancestors. */
static enum rc
check_below(struct check *k, const struct tree_entry *path, struct err *err)
{
	char dir[TREE_KEY_BYTES_MAX];
	size_t dir_len = path->path_len + 1;

	if (dir_len > sizeof dir)
		return RC_OK; /* nothing fits below it */
	memcpy(dir, path->path, path->path_len);
	dir[path->path_len] = '/';
	enum rc rc = tree_cursor_seek(&k->below, dir, dir_len, err);
	while (rc == RC_OK && !tree_cursor_at_end(&k->below)) {
		const struct tree_item *item = tree_cursor_item(&k->below);
		if (!tree_key_has_prefix(item->key, item->key_len, dir, dir_len))
			break;
		const struct tree_edit *edit = find_edit(k, item->key, item->key_len);
		if (edit == NULL || edit->op == TREE_EDIT_PUT)
			return conflict(
				k, path->path, path->path_len, item->key, item->key_len, err);
		tree_cursor_step(&k->below);
		rc = tree_cursor_down_to_entry(&k->below, err);
	}
	return rc;
}

/* The ancestors that path shares with prev, whose own were looked at, are not looked at again. */
static enum rc
check_put(struct check *k, const struct tree_entry *prev, const struct tree_entry *path,
	struct err *err)
{
	size_t shared = 0;

	while (prev != NULL && shared < prev->path_len && shared < path->path_len &&
		prev->path[shared] == path->path[shared])
		shared++;
	for (size_t i = shared; i < path->path_len; i++) {
		if (path->path[i] != '/' || i == 0)
			continue;
		enum rc rc = check_ancestor(k, path, i, err);
		if (rc != RC_OK)
			return rc;
	}
	return check_below(k, path, err);
}

enum rc
tree_edit_check_paths(const struct tree_store *store, const struct sha256 *base_root,
	const struct tree_edit *edits, size_t edit_count, struct err *err)
{
	return tree_edit_find_clash(store, base_root, edits, edit_count, NULL, err);
}

enum rc
tree_edit_find_clash(const struct tree_store *store, const struct sha256 *base_root,
	const struct tree_edit *edits, size_t edit_count, struct tree_clash *clash, struct err *err)
{
	struct check k = {.edits = edits, .count = edit_count, .clash = clash};
	const struct tree_entry *prev = NULL;
	enum rc rc = RC_OK;

	tree_cursor_init(&k.above, store, base_root);
	tree_cursor_init(&k.below, store, base_root);
	for (size_t i = 0; rc == RC_OK && i < edit_count; i++) {
		const struct tree_entry *path = &edits[i].entry;
		if (edits[i].op != TREE_EDIT_PUT)
			continue;
		if (path->path_len == 0 || path->path_len > PATH_BYTES_MAX) {
			rc = err_set(err, RC_INVALID, "invalid-path",
				"a path has %zu bytes; allowed are 1 to 1024", path->path_len);
			break;
		}
		rc = check_put(&k, prev, path, err);
		prev = path;
	}
	tree_cursor_done(&k.above);
	tree_cursor_done(&k.below);
	return rc;
}
