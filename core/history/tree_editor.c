/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_editor.h"

#include <assert.h>
#include <stdlib.h>

#include "log.h"
#include "tree_cursor.h"
#include "tree_node_writer.h"

/* The old tree is walked once, from left to right, and its items are poured into one writer a
 * level. A writer that is full becomes a node, which is an item of the writer above. Where a node
 * ends depends on its own items alone, counted from the end before. So when all writers below level
 * l are empty, and an old subtree of level l - 1 begins, what the writers would make of its entries
 * is that subtree: its name goes to the writer of level l unread.
 *
 * That holds only for a subtree whose end was decided by its last key. The last node of each level
 * ended because nothing came after it. As long as something may come, they are taken apart. */

struct tree_editor {
	const struct tree_store *store;
	struct tree_cursor old;
	unsigned height; /* levels that have had an item: all writers from here on are empty */
	/* the last item of each level was taken over unread */
	bool taken[TREE_LEVEL_MAX + 1];
	struct tree_node_writer level[TREE_LEVEL_MAX + 1];
	struct tree_change change;
	bool is_started;
	bool is_finished;
	size_t last_len;
	char last[TREE_KEY_BYTES_MAX]; /* path of the last edit */
};

enum rc
tree_editor_open(const struct tree_store *store, const struct sha256 *base_root,
	struct tree_editor **out, struct err *err)
{
	struct tree_editor *ed = malloc(sizeof *ed);

	*out = NULL;
	if (ed == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory for a new snapshot");
	ed->store = store;
	ed->height = 0;
	ed->change = (struct tree_change){0};
	ed->is_started = false;
	ed->is_finished = false;
	ed->last_len = 0;
	tree_cursor_init(&ed->old, store, base_root);
	for (unsigned l = 0; l <= TREE_LEVEL_MAX; l++) {
		ed->taken[l] = false;
		tree_node_writer_init(&ed->level[l], (uint8_t)l);
	}
	*out = ed;
	return RC_OK;
}

void
tree_editor_free(struct tree_editor *ed)
{
	if (ed == NULL)
		return;
	tree_cursor_done(&ed->old);
	for (unsigned l = 0; l <= TREE_LEVEL_MAX; l++)
		tree_node_writer_done(&ed->level[l]);
	free(ed);
}

/* Make a node of what the writer of this level holds, store it, and say what its parent is to say
 * of it; out->key is borrowed until the writer gets its next item. */
static enum rc
close_node(struct tree_editor *ed, unsigned level, struct tree_child *out, struct err *err)
{
	struct tree_node_writer *w = &ed->level[level];
	const struct tree_place *old = &ed->old.at[level];
	const uint8_t *bytes;
	size_t len;

	enum rc rc = tree_node_writer_finish(w, &bytes, &len, out, err);
	if (rc != RC_OK)
		return rc;
	/* an old node with the same keys is the last one that was read on its level */
	if (!old->loaded || !sha256_equal(&old->hash, &out->hash)) {
		rc = ed->store->put(ed->store->arg, &out->hash, bytes, len, err);
		if (rc != RC_OK)
			return rc;
		ed->change.nodes_put++;
	}
	tree_node_writer_clear(w);
	return RC_OK;
}

/* After an item was added: while a writer is full, its node goes to the writer above. */
static enum rc
close_full(struct tree_editor *ed, unsigned level, struct err *err)
{
	for (;; level++) {
		struct tree_child child;
		if (level + 1 > ed->height)
			ed->height = level + 1;
		if (!ed->level[level].is_full)
			return RC_OK;
		if (level == TREE_LEVEL_MAX)
			return err_set(err, RC_TOO_LARGE, "tree-too-large",
				"the snapshot would have more files than a snapshot can have");
		enum rc rc = close_node(ed, level, &child, err);
		if (rc == RC_OK)
			rc = tree_node_writer_add_child(&ed->level[level + 1], &child, err);
		if (rc != RC_OK)
			return rc;
		ed->taken[level + 1] = false;
	}
}

static enum rc
add_child(struct tree_editor *ed, unsigned level, const struct tree_child *child, bool taken,
	struct err *err)
{
	enum rc rc = tree_node_writer_add_child(&ed->level[level], child, err);

	if (rc != RC_OK)
		return rc;
	ed->taken[level] = taken;
	return close_full(ed, level, err);
}

static enum rc
add_entry(struct tree_editor *ed, const struct tree_entry *entry, struct err *err)
{
	enum rc rc = tree_node_writer_add_entry(&ed->level[0], entry, err);

	return rc != RC_OK ? rc : close_full(ed, 0, err);
}

static bool
empty_below(const struct tree_editor *ed, unsigned level)
{
	for (unsigned l = 0; l < level; l++)
		if (ed->level[l].count > 0)
			return false;
	return true;
}

/* Whether the subtree at the cursor is, as a whole, a subtree of the new tree. key is that of the
 * next edit, NULL if there is none. */
static bool
may_take(const struct tree_editor *ed, const char *key, size_t key_len)
{
	const struct tree_cursor *old = &ed->old;
	const struct tree_item *item = tree_cursor_item(old);

	if (!empty_below(ed, old->level))
		return false;
	return key == NULL || (tree_key_cmp(item->key, item->key_len, key, key_len) < 0 &&
				      !tree_cursor_is_last(old));
}

/* Take over the old entries before key (all, if key is NULL). The cursor is then on level 0 or at
 * the end. */
static enum rc
take_until(struct tree_editor *ed, const char *key, size_t key_len, struct err *err)
{
	struct tree_cursor *old = &ed->old;
	enum rc rc = RC_OK;

	while (rc == RC_OK && !tree_cursor_at_end(old)) {
		const struct tree_item *item = tree_cursor_item(old);
		if (old->level > 0 && !may_take(ed, key, key_len)) {
			rc = tree_cursor_down(old, err);
			continue;
		}
		if (old->level > 0) {
			rc = add_child(ed, old->level, &item->child, true, err);
		} else {
			if (key != NULL &&
				tree_key_cmp(item->key, item->key_len, key, key_len) >= 0)
				break;
			rc = add_entry(ed, &item->entry, err);
		}
		if (rc == RC_OK)
			tree_cursor_step(old);
	}
	return rc;
}

/* Go to where path is or would be. out is the old entry of that path, or NULL; borrowed until the
 * cursor moves. */
static enum rc
go_to(struct tree_editor *ed, const char *path, size_t path_len, const struct tree_entry **out,
	struct err *err)
{
	enum rc rc = RC_OK;

	*out = NULL;
	assert(!ed->is_finished);
	if (path_len == 0 || path_len > PATH_BYTES_MAX)
		return err_set(err, RC_INVALID, "invalid-path",
			"a path has %zu bytes; allowed are 1 to 1024", path_len);
	if (ed->is_started && tree_key_cmp(ed->last, ed->last_len, path, path_len) >= 0) {
		bug("tree edits are out of order");
		return err_set(err, RC_BUG, NULL, "the edits of a snapshot are out of order");
	}
	if (!ed->is_started)
		rc = tree_cursor_start(&ed->old, err);
	ed->is_started = true;
	memcpy(ed->last, path, path_len);
	ed->last_len = path_len;
	if (rc == RC_OK)
		rc = take_until(ed, path, path_len, err);
	if (rc != RC_OK || tree_cursor_at_end(&ed->old))
		return rc;
	const struct tree_item *item = tree_cursor_item(&ed->old);
	if (tree_key_cmp(item->key, item->key_len, path, path_len) == 0)
		*out = &item->entry;
	return RC_OK;
}

enum rc
tree_editor_put(struct tree_editor *ed, const struct tree_entry *entry, struct err *err)
{
	const struct tree_entry *old;

	if (!content_kind_known(entry->content.kind)) {
		bug("content of kind %u", entry->content.kind);
		return err_set(err, RC_BUG, NULL, "a file of the snapshot has no content");
	}
	enum rc rc = go_to(ed, entry->path, entry->path_len, &old, err);
	if (rc != RC_OK)
		return rc;
	if (old == NULL)
		ed->change.added++;
	else if (tree_entry_same(old, entry))
		ed->change.unchanged++;
	else
		ed->change.changed++;
	rc = add_entry(ed, entry, err);
	if (rc == RC_OK && old != NULL)
		tree_cursor_step(&ed->old);
	return rc;
}

enum rc
tree_editor_delete(struct tree_editor *ed, const char *path, size_t path_len, struct err *err)
{
	const struct tree_entry *old;
	enum rc rc = go_to(ed, path, path_len, &old, err);

	if (rc != RC_OK)
		return rc;
	if (old == NULL) {
		ed->change.absent++;
		return RC_OK;
	}
	ed->change.deleted++;
	tree_cursor_step(&ed->old);
	return RC_OK;
}

/* A subtree that was taken over and is all there is may be a last node with a single child; the
 * root is the first node on the way down that is a leaf or has more. */
static enum rc
find_root(struct tree_editor *ed, struct tree_child *root, struct err *err)
{
	struct tree_cursor c;

	tree_cursor_init(&c, ed->store, &root->hash);
	enum rc rc = tree_cursor_start(&c, err);
	while (rc == RC_OK && c.level > 0 && c.at[c.level].node.count == 1) {
		root->hash = tree_cursor_item(&c)->child.hash;
		rc = tree_cursor_down(&c, err);
	}
	ed->change.nodes_read += c.reads;
	tree_cursor_done(&c);
	return rc;
}

/* The only item of the highest level: what is below it is the whole tree. */
static enum rc
take_only_child(struct tree_editor *ed, unsigned level, struct tree_child *root, struct err *err)
{
	root->hash = ed->level[level].last_child;
	root->below = ed->level[level].totals;
	return ed->taken[level] ? find_root(ed, root, err) : RC_OK;
}

/* Close what is open from the leaves up. What is left on the highest level is the root. */
static enum rc
close_all(struct tree_editor *ed, struct tree_child *root, struct err *err)
{
	for (unsigned l = 0; l + 1 < ed->height; l++) {
		struct tree_child child;
		if (ed->level[l].count == 0)
			continue;
		enum rc rc = close_node(ed, l, &child, err);
		if (rc == RC_OK)
			rc = add_child(ed, l + 1, &child, false, err);
		if (rc != RC_OK)
			return rc;
	}
	unsigned top = ed->height > 0 ? ed->height - 1 : 0;
	if (top > 0 && ed->level[top].count == 1)
		return take_only_child(ed, top, root, err);
	return close_node(ed, top, root, err);
}

enum rc
tree_editor_finish(struct tree_editor *ed, struct tree_change *out, struct err *err)
{
	struct tree_child root;
	enum rc rc = RC_OK;

	assert(!ed->is_finished);
	ed->is_finished = true;
	if (!ed->is_started)
		rc = tree_cursor_start(&ed->old, err);
	if (rc == RC_OK)
		rc = take_until(ed, NULL, 0, err);
	if (rc == RC_OK)
		rc = close_all(ed, &root, err);
	if (rc != RC_OK)
		return rc;
	ed->change.root = root.hash;
	ed->change.totals = root.below;
	ed->change.nodes_read += ed->old.reads;
	*out = ed->change;
	return RC_OK;
}
