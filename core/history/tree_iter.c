/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_iter.h"

#include <stdlib.h>

#include "tree_cursor.h"

struct tree_iter {
	struct tree_cursor c;
	bool is_started;
	bool is_given; /* the entry at the cursor was handed out: the next one is behind it */
};

enum rc
tree_iter_open(const struct tree_store *store, const struct sha256 *root, struct tree_iter **out,
	struct err *err)
{
	struct tree_iter *it = malloc(sizeof *it);

	*out = NULL;
	if (it == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory for reading a snapshot");
	tree_cursor_init(&it->c, store, root);
	it->is_started = false;
	it->is_given = false;
	*out = it;
	return RC_OK;
}

void
tree_iter_free(struct tree_iter *it)
{
	if (it == NULL)
		return;
	tree_cursor_done(&it->c);
	free(it);
}

/* To the entry that is to be given next, or the end. */
static enum rc
settle(struct tree_iter *it, struct err *err)
{
	enum rc rc = RC_OK;

	if (!it->is_started)
		rc = tree_cursor_start(&it->c, err);
	else if (it->is_given)
		tree_cursor_step(&it->c);
	it->is_started = true;
	it->is_given = false;
	return rc != RC_OK ? rc : tree_cursor_down_to_entry(&it->c, err);
}

enum rc
tree_iter_next(struct tree_iter *it, const struct tree_entry **out, struct err *err)
{
	enum rc rc = settle(it, err);

	*out = NULL;
	if (rc != RC_OK || tree_cursor_at_end(&it->c))
		return rc;
	*out = &tree_cursor_item(&it->c)->entry;
	it->is_given = true;
	return RC_OK;
}

enum rc
tree_iter_seek(struct tree_iter *it, const char *key, size_t key_len, struct err *err)
{
	it->is_started = true;
	it->is_given = false;
	return tree_cursor_seek(&it->c, key, key_len, err);
}

enum rc
tree_iter_skip(struct tree_iter *it, const char *prefix, size_t prefix_len, struct err *err)
{
	char key[TREE_KEY_BYTES_MAX];

	/* no path starts with a longer one: those that start with its beginning and are smaller
	 * than it are before it, so seeking it itself is exact */
	if (prefix_len > sizeof key)
		return tree_iter_seek(it, prefix, prefix_len, err);
	if (prefix_len > 0)
		memcpy(key, prefix, prefix_len);
	size_t key_len = tree_key_skip_prefix(key, prefix_len);
	if (key_len > 0)
		return tree_iter_seek(it, key, key_len, err);
	it->is_started = true;
	it->is_given = false;
	return tree_cursor_seek_end(&it->c, err);
}

enum rc
tree_iter_before(struct tree_iter *it, struct tree_totals *out, struct err *err)
{
	enum rc rc = settle(it, err);

	if (rc == RC_OK)
		*out = tree_cursor_before(&it->c);
	return rc;
}
