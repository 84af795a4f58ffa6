/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include "tree_cursor.h"

static enum rc
not_found(const char *path, size_t path_len, struct err *err)
{
	char shown[PATH_SHOW_BYTES];

	return err_set(err, RC_NOT_FOUND, "path-not-found", "the snapshot has no file \"%s\"",
		path_show(shown, path, path_len));
}

enum rc
tree_find(const struct tree_store *store, const struct sha256 *root, const char *path,
	size_t path_len, struct tree_entry *out, struct err *err)
{
	struct tree_cursor c;

	tree_cursor_init(&c, store, root);
	enum rc rc = tree_cursor_seek(&c, path, path_len, err);
	if (rc != RC_OK)
		goto out;
	const struct tree_item *item = tree_cursor_at_end(&c) ? NULL : tree_cursor_item(&c);
	if (item == NULL || tree_key_cmp(item->key, item->key_len, path, path_len) != 0) {
		rc = not_found(path, path_len, err);
		goto out;
	}
	*out = item->entry;
	out->path = path;
out:
	tree_cursor_done(&c);
	return rc;
}

enum rc
tree_totals(const struct tree_store *store, const struct sha256 *root, struct tree_totals *out,
	struct err *err)
{
	struct tree_cursor c;

	tree_cursor_init(&c, store, root);
	enum rc rc = tree_cursor_start(&c, err);
	if (rc == RC_OK)
		*out = c.at[c.top].node.totals;
	tree_cursor_done(&c);
	return rc;
}

enum rc
tree_totals_prefix(const struct tree_store *store, const struct sha256 *root, const char *prefix,
	size_t prefix_len, struct tree_totals *out, struct err *err)
{
	struct tree_cursor c;
	char end[TREE_KEY_BYTES_MAX];

	if (prefix_len > sizeof end) {
		*out = (struct tree_totals){0};
		return RC_OK;
	}
	if (prefix_len > 0)
		memcpy(end, prefix, prefix_len);
	size_t end_len = tree_key_skip_prefix(end, prefix_len);
	tree_cursor_init(&c, store, root);
	enum rc rc = tree_cursor_seek(&c, prefix, prefix_len, err);
	if (rc != RC_OK)
		goto out;
	const struct tree_totals from = tree_cursor_before(&c);
	rc = end_len > 0 ? tree_cursor_seek(&c, end, end_len, err) : tree_cursor_seek_end(&c, err);
	if (rc != RC_OK)
		goto out;
	const struct tree_totals to = tree_cursor_before(&c);
	out->entries = to.entries - from.entries;
	out->bytes = to.bytes - from.bytes;
out:
	tree_cursor_done(&c);
	return rc;
}
