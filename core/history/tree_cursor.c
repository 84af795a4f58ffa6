/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_cursor.h"

#include <assert.h>

void
tree_cursor_init(struct tree_cursor *c, const struct tree_store *store, const struct sha256 *root)
{
	*c = (struct tree_cursor){.store = store};
	buf_init(&c->bytes, TREE_NODE_BYTES_MAX);
	for (unsigned l = 0; l <= TREE_LEVEL_MAX; l++)
		tree_node_init(&c->at[l].node);
	if (root != NULL)
		c->root = *root;
	else
		c->is_open = true; /* level 0 with no items, as it stands */
}

void
tree_cursor_done(struct tree_cursor *c)
{
	for (unsigned l = 0; l <= TREE_LEVEL_MAX; l++)
		tree_node_done(&c->at[l].node);
	buf_done(&c->bytes);
}

static enum rc
corrupt(const struct sha256 *hash, const char *why, struct err *err)
{
	char hex[SHA256_HEX_BYTES];

	sha256_hex(hash, hex);
	err_set(err, RC_CORRUPT, "corrupt-tree", "a part of the snapshot is damaged");
	return err_detail(err, "tree node %s: %s", hex, why);
}

/* The node's bytes into c->bytes, with the hash compared. */
static enum rc
fetch(struct tree_cursor *c, const struct sha256 *hash, struct err *err)
{
	struct sha256 got;

	buf_clear(&c->bytes);
	/* all there can be, at once: what does not fit then is too large, and not lack of memory */
	if (!buf_reserve(&c->bytes, TREE_NODE_BYTES_MAX))
		return err_set(err, RC_NOMEM, "no-memory", "out of memory for reading a snapshot");
	c->reads++;
	enum rc rc = c->store->get(c->store->arg, hash, &c->bytes, err);
	if (rc == RC_NOT_FOUND) {
		/* whoever asked for a path must not read "not found" when the tree is broken */
		err_clear(err);
		return corrupt(hash, "missing", err);
	}
	if (rc != RC_OK)
		return rc;
	if (!buf_ok(&c->bytes) || c->bytes.len == 0)
		return corrupt(hash, "empty or too large", err);
	if (c->store->get_verifies)
		return RC_OK;
	sha256_of(c->bytes.data, c->bytes.len, &got);
	return sha256_equal(&got, hash) ? RC_OK : corrupt(hash, "wrong hash", err);
}

/* The last key before the subtree at the place of this level; NULL if it is the first. */
static const struct tree_item *
item_before(const struct tree_cursor *c, unsigned level)
{
	for (unsigned l = level; l <= c->top; l++)
		if (c->at[l].pos > 0)
			return &c->at[l].node.items[c->at[l].pos - 1];
	return NULL;
}

/* What is wrong with a node as the child of the item at the place of the level above it. */
static const char *
misfit(const struct tree_cursor *c, const struct tree_node *n, unsigned level)
{
	const struct tree_place *parent = &c->at[level + 1];
	const struct tree_child *child = &parent->node.items[parent->pos].child;
	const struct tree_item *before = item_before(c, level + 1);

	if (n->level != level || n->count == 0)
		return "wrong level";
	const struct tree_item *first = &n->items[0];
	const struct tree_item *last = &n->items[n->count - 1];
	if (tree_key_cmp(last->key, last->key_len, child->key, child->key_len) != 0)
		return "its last key is not what its parent says";
	if (before != NULL &&
		tree_key_cmp(before->key, before->key_len, first->key, first->key_len) >= 0)
		return "its first key is not behind the node before it";
	if (n->totals.entries != child->below.entries || n->totals.bytes != child->below.bytes)
		return "its totals are not what its parent says";
	return NULL;
}

static enum rc
open_root(struct tree_cursor *c, struct err *err)
{
	if (c->is_open)
		return RC_OK;
	enum rc rc = fetch(c, &c->root, err);
	if (rc != RC_OK)
		return rc;
	/* its level is known only now: taken apart on level 0, then swapped to where it belongs */
	rc = tree_node_decode(&c->at[0].node, c->bytes.data, c->bytes.len, err);
	if (rc != RC_OK)
		return rc;
	c->top = c->at[0].node.level;
	c->level = c->top;
	struct tree_node root = c->at[0].node;
	c->at[0].node = c->at[c->top].node;
	c->at[c->top].node = root;
	c->at[c->top].hash = c->root;
	c->at[c->top].loaded = true;
	c->is_open = true;
	return RC_OK;
}

enum rc
tree_cursor_start(struct tree_cursor *c, struct err *err)
{
	enum rc rc = open_root(c, err);

	if (rc != RC_OK)
		return rc;
	c->level = c->top;
	c->at[c->top].pos = 0;
	return RC_OK;
}

enum rc
tree_cursor_seek_end(struct tree_cursor *c, struct err *err)
{
	enum rc rc = tree_cursor_start(c, err);

	if (rc == RC_OK)
		c->at[c->top].pos = c->at[c->top].node.count;
	return rc;
}

enum rc
tree_cursor_down(struct tree_cursor *c, struct err *err)
{
	assert(c->level > 0 && !tree_cursor_at_end(c));
	const struct sha256 *hash = &tree_cursor_item(c)->child.hash;
	unsigned level = c->level - 1;
	struct tree_place *place = &c->at[level];
	bool held = place->loaded && sha256_equal(&place->hash, hash);

	if (!held) {
		place->loaded = false;
		enum rc rc = fetch(c, hash, err);
		if (rc == RC_OK)
			rc = tree_node_decode(&place->node, c->bytes.data, c->bytes.len, err);
		if (rc != RC_OK)
			return rc;
	}
	const char *why = misfit(c, &place->node, level);
	if (why != NULL)
		return corrupt(hash, why, err);
	place->hash = *hash;
	place->loaded = true;
	place->pos = 0;
	c->level = level;
	return RC_OK;
}

enum rc
tree_cursor_down_to_entry(struct tree_cursor *c, struct err *err)
{
	enum rc rc = RC_OK;

	while (rc == RC_OK && c->level > 0 && !tree_cursor_at_end(c))
		rc = tree_cursor_down(c, err);
	return rc;
}

enum rc
tree_cursor_seek(struct tree_cursor *c, const char *key, size_t key_len, struct err *err)
{
	enum rc rc = tree_cursor_start(c, err);

	while (rc == RC_OK) {
		struct tree_place *place = &c->at[c->level];
		place->pos = tree_node_lower_bound(&place->node, key, key_len);
		/* only the root can lack it: a child was chosen because its last key is not below
		 */
		if (place->pos == place->node.count || c->level == 0)
			break;
		rc = tree_cursor_down(c, err);
	}
	return rc;
}

void
tree_cursor_step(struct tree_cursor *c)
{
	c->at[c->level].pos++;
	while (c->level < c->top && c->at[c->level].pos == c->at[c->level].node.count) {
		c->level++;
		c->at[c->level].pos++;
	}
}

void
tree_cursor_step_subtree(struct tree_cursor *c, unsigned level)
{
	if (level >= c->top) {
		c->level = c->top;
		c->at[c->top].pos = c->at[c->top].node.count;
		return;
	}
	c->level = level + 1;
	tree_cursor_step(c);
}

bool
tree_cursor_at_end(const struct tree_cursor *c)
{
	return c->level == c->top && c->at[c->top].pos == c->at[c->top].node.count;
}

const struct tree_item *
tree_cursor_item(const struct tree_cursor *c)
{
	const struct tree_place *place = &c->at[c->level];

	return &place->node.items[place->pos];
}

bool
tree_cursor_is_last(const struct tree_cursor *c)
{
	for (unsigned l = c->level; l <= c->top; l++)
		if (c->at[l].pos + 1 != c->at[l].node.count)
			return false;
	return true;
}

const struct sha256 *
tree_cursor_subtree(const struct tree_cursor *c, unsigned level)
{
	if (tree_cursor_at_end(c) || level > c->top || level + 1 < c->level)
		return NULL;
	if (level + 1 == c->level)
		return &tree_cursor_item(c)->child.hash;
	for (unsigned l = c->level; l <= level; l++)
		if (c->at[l].pos != 0)
			return NULL;
	return &c->at[level].hash;
}

struct tree_totals
tree_cursor_before(const struct tree_cursor *c)
{
	struct tree_totals sum = {0};

	for (unsigned l = c->level; l <= c->top; l++) {
		const struct tree_place *place = &c->at[l];
		bool is_end = place->pos == place->node.count;
		/* cannot overflow: every part was checked against the whole */
		tree_totals_add(
			&sum, is_end ? &place->node.totals : &place->node.items[place->pos].before);
	}
	return sum;
}
