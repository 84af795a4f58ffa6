/* SPDX-License-Identifier: Apache-2.0 */
/* micro_tree: snapshots of a hundred thousand files, their nodes in memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "micro.h"
#include "tree_edit.h"
#include "tree_list.h"

#define FILES     ((uint64_t)100000)
#define EDITS     ((uint64_t)1000)
#define PAGE      1000
#define NODES_MAX ((size_t)1 << 16) /* slots of the table: a power of two, many more than nodes */

/* Nodes by name, open addressing. Edits that are made again find their nodes there already. */
struct node {
	struct sha256 hash;
	uint8_t *data;
	size_t len;
};

struct trees {
	struct node *nodes;
	size_t node_count;
	struct tree_store store;
	struct tree_entry *entries; /* FILES */
	char (*paths)[MICRO_PATH_BYTES];
	struct tree_edit *edits; /* EDITS, scattered and ascending */
	struct sha256 root;
	uint64_t round;
	uint64_t sink;
};

static struct node *
node_find(struct trees *t, const struct sha256 *hash)
{
	size_t at;

	memcpy(&at, hash->b, sizeof at);
	for (at &= NODES_MAX - 1; t->nodes[at].data != NULL; at = (at + 1) & (NODES_MAX - 1))
		if (sha256_equal(&t->nodes[at].hash, hash))
			break;
	return &t->nodes[at];
}

static enum rc
store_get(void *arg, const struct sha256 *hash, struct buf *out, struct err *err)
{
	const struct node *n = node_find(arg, hash);

	if (n->data == NULL)
		return err_set(err, RC_NOT_FOUND, NULL, "no such node");
	buf_add(out, n->data, n->len);
	return buf_ok(out) ? RC_OK : err_set(err, RC_NOMEM, NULL, "out of memory");
}

static enum rc
store_put(void *arg, const struct sha256 *hash, const uint8_t *data, size_t len, struct err *err)
{
	struct trees *t = arg;
	struct node *n = node_find(t, hash);

	(void)err;
	if (n->data != NULL)
		return RC_OK;
	micro_must(++t->node_count < NODES_MAX * 3 / 4, "too many nodes");
	n->data = micro_alloc(1, len);
	memcpy(n->data, data, len);
	n->len = len;
	n->hash = *hash;
	return RC_OK;
}

static uint64_t
pass_build(void *state)
{
	struct trees *t = state;
	struct tree_change change;
	struct err err = ERR_INIT;

	micro_must(tree_build(&t->store, t->entries, FILES, &change, &err) == RC_OK, err.text);
	t->root = change.root;
	return FILES;
}

/* One of sixteen contents each time, so that every edit changes something and nodes repeat. */
static void
edits_turn(struct trees *t)
{
	t->round++;
	for (uint64_t i = 0; i < EDITS; i++)
		t->edits[i].entry.mtime_ns = (int64_t)(t->round % 16 + 1);
}

static uint64_t
pass_edit_one(void *state)
{
	struct trees *t = state;
	struct tree_change change;
	struct err err = ERR_INIT;

	edits_turn(t);
	for (uint64_t i = 0; i < EDITS; i += 10)
		micro_must(tree_edit(&t->store, &t->root, &t->edits[i], 1, &change, &err) == RC_OK,
			err.text);
	t->sink += change.nodes_put;
	return EDITS / 10;
}

static uint64_t
pass_edit_many(void *state)
{
	struct trees *t = state;
	struct tree_change change;
	struct err err = ERR_INIT;

	edits_turn(t);
	micro_must(
		tree_edit(&t->store, &t->root, t->edits, EDITS, &change, &err) == RC_OK, err.text);
	t->sink += change.nodes_put;
	return EDITS;
}

static uint64_t
pass_find(void *state)
{
	struct trees *t = state;
	struct err err = ERR_INIT;

	for (uint64_t i = 0; i < EDITS; i++) {
		struct tree_entry found;
		const struct tree_entry *e = &t->entries[micro_scatter(i) % FILES];

		micro_must(
			tree_find(&t->store, &t->root, e->path, e->path_len, &found, &err) == RC_OK,
			err.text);
		t->sink += found.content.size;
	}
	return EDITS;
}

static bool
list_line(void *arg, const struct tree_list_item *item)
{
	uint64_t *bytes = arg;

	*bytes += item->totals.bytes;
	return true;
}

static uint64_t
pass_list(void *state)
{
	struct trees *t = state;
	const struct tree_entry *after =
		&t->entries[micro_scatter(t->round++) % (FILES - PAGE - 1)];
	struct tree_list_query query = {.after = after->path,
		.after_len = after->path_len,
		.limit = PAGE,
		.fn = list_line,
		.arg = &t->sink};
	struct err err = ERR_INIT;
	bool more;

	micro_must(tree_list(&t->store, &t->root, &query, &more, &err) == RC_OK, err.text);
	return PAGE;
}

static void
trees_init(struct trees *t)
{
	memset(t, 0, sizeof *t);
	t->nodes = micro_alloc(NODES_MAX, sizeof *t->nodes);
	t->entries = micro_alloc(FILES, sizeof *t->entries);
	t->paths = micro_alloc(FILES, sizeof *t->paths);
	t->edits = micro_alloc(EDITS, sizeof *t->edits);
	t->store = (struct tree_store){
		.get = store_get, .put = store_put, .arg = t, .get_verifies = true};
	for (uint64_t i = 0; i < FILES; i++) {
		struct tree_entry *e = &t->entries[i];

		e->path = t->paths[i];
		e->path_len = micro_path(i, t->paths[i]);
		e->content.kind = CONTENT_CHUNK;
		e->content.size = micro_scatter(i) & 0xffff;
		micro_hash(i, &e->content.id);
		e->mode = 0644;
	}
	for (uint64_t i = 0; i < EDITS; i++)
		t->edits[i] =
			(struct tree_edit){TREE_EDIT_PUT, t->entries[i * (FILES / EDITS) + 3]};
}

static void
trees_done(struct trees *t)
{
	for (size_t i = 0; i < NODES_MAX; i++)
		free(t->nodes[i].data);
	free(t->nodes);
	free(t->entries);
	free(t->paths);
	free(t->edits);
}

void
micro_trees(struct micro *m)
{
	struct trees t;

	if (!micro_wants(m, "tree"))
		return;
	trees_init(&t);
	pass_build(&t);
	micro_stage(m, "tree build", "entry", 0, pass_build, &t, NULL);
	micro_stage(m, "tree edit, one at a time", "edit", 0, pass_edit_one, &t, NULL);
	micro_stage(m, "tree edit, 1,000 scattered", "edit", 0, pass_edit_many, &t, NULL);
	micro_stage(m, "tree find", "entry", 0, pass_find, &t, NULL);
	micro_stage(m, "tree list, pages of 1,000", "entry", 0, pass_list, &t, NULL);
	trees_done(&t);
}
