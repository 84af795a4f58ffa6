/* SPDX-License-Identifier: Apache-2.0 */
/* A tree of two levels: an array of pointers is as fast to search as inner nodes would be, and to
 * insert into one that fits a cache costs less than a look at memory. */
#include "stage_map.h"

#include <stdlib.h>
#include <string.h>

#include "tree_node.h"

#define JOIN_ENTRIES_MAX (STAGE_LEAF_ENTRIES_MAX / 2) /* two leaves with so many become one */
#define LEAVES_FIRST     2

struct stage_map {
	struct stage_leaf **leaves;
	size_t leaf_count, leaf_cap;
	size_t near; /* the leaf of the last put */
	size_t count;
	uint64_t bytes;
	size_t leaf_memory; /* of all leaves */
};

enum rc
stage_map_open(struct stage_map **out, struct err *err)
{
	struct stage_map *m = calloc(1, sizeof *m);

	if (m == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	*out = m;
	return RC_OK;
}

void
stage_map_free(struct stage_map *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->leaf_count; i++)
		free(m->leaves[i]);
	free(m->leaves);
	free(m);
}

/* ---- leaves ---- */

/* The last leaf that begins at or before path, else the first. */
static size_t
leaf_of(const struct stage_map *m, const char *path, size_t path_len)
{
	size_t lo = 0, hi = m->leaf_count;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;
		if (stage_leaf_compare(m->leaves[mid], path, path_len) < 0)
			hi = mid;
		else
			lo = mid;
	}
	return lo;
}

/* The same, faster for one that is near the last: files mostly come by directories. */
static size_t
leaf_of_next(const struct stage_map *m, const char *path, size_t path_len)
{
	size_t at = m->near;

	if (at < m->leaf_count && stage_leaf_compare(m->leaves[at], path, path_len) >= 0 &&
		(at + 1 == m->leaf_count ||
			stage_leaf_compare(m->leaves[at + 1], path, path_len) < 0))
		return at;
	return leaf_of(m, path, path_len);
}

static bool
reserve_leaf(struct stage_map *m)
{
	if (m->leaf_count < m->leaf_cap)
		return true;
	size_t cap = m->leaf_cap + m->leaf_cap / 4 + LEAVES_FIRST;
	struct stage_leaf **more = realloc(m->leaves, cap * sizeof *more);
	if (more == NULL)
		return false;
	m->leaves = more;
	m->leaf_cap = cap;
	return true;
}

/* After reserve_leaf. */
static void
add_leaf(struct stage_map *m, size_t at, struct stage_leaf *leaf)
{
	memmove(m->leaves + at + 1, m->leaves + at, (m->leaf_count - at) * sizeof *m->leaves);
	m->leaves[at] = leaf;
	m->leaf_count++;
}

static void
drop_leaf(struct stage_map *m, size_t at)
{
	free(m->leaves[at]);
	m->leaf_count--;
	memmove(m->leaves + at, m->leaves + at + 1, (m->leaf_count - at) * sizeof *m->leaves);
	if (m->leaf_count > 0)
		return;
	free(m->leaves);
	m->leaves = NULL;
	m->leaf_cap = 0;
}

static bool
add_leaf_with(struct stage_map *m, size_t at, const struct stage_entry *e)
{
	if (!reserve_leaf(m))
		return false;
	struct stage_leaf *leaf = stage_leaf_new(e);
	if (leaf == NULL)
		return false;
	add_leaf(m, at, leaf);
	m->leaf_memory += stage_leaf_memory(leaf);
	return true;
}

static bool
split_leaf(struct stage_map *m, size_t at)
{
	struct stage_leaf *right;

	if (!reserve_leaf(m))
		return false;
	m->leaf_memory -= stage_leaf_memory(m->leaves[at]);
	bool done = stage_leaf_split(&m->leaves[at], &right);
	m->leaf_memory += stage_leaf_memory(m->leaves[at]);
	if (!done)
		return false;
	m->leaf_memory += stage_leaf_memory(right);
	add_leaf(m, at + 1, right);
	return true;
}

static bool
is_full(const struct stage_leaf *leaf)
{
	return leaf->count == STAGE_LEAF_ENTRIES_MAX;
}

/* ---- putting ---- */

static bool
put_in_leaf(struct stage_map *m, size_t at, const struct stage_leaf_place *place,
	const struct stage_entry *e)
{
	m->leaf_memory -= stage_leaf_memory(m->leaves[at]);
	bool done = stage_leaf_put(&m->leaves[at], place, e);
	m->leaf_memory += stage_leaf_memory(m->leaves[at]);
	return done;
}

/* A new entry behind the last one of a full leaf goes in front of the next, or begins one: what
 * comes in order fills its leaves. */
static bool
insert_new(
	struct stage_map *m, size_t at, struct stage_leaf_place *place, const struct stage_entry *e)
{
	if (is_full(m->leaves[at]) && place->at == m->leaves[at]->used) {
		at++;
		if (at == m->leaf_count || is_full(m->leaves[at]))
			return add_leaf_with(m, at, e);
		stage_leaf_seek(m->leaves[at], e->path, e->path_len, place);
	} else if (is_full(m->leaves[at])) {
		if (!split_leaf(m, at))
			return false;
		at += stage_leaf_compare(m->leaves[at + 1], e->path, e->path_len) > 0;
		stage_leaf_seek(m->leaves[at], e->path, e->path_len, place);
	}
	return put_in_leaf(m, at, place, e);
}

static bool
is_same(const struct stage_entry *a, const struct stage_entry *b)
{
	return a->kind == b->kind && a->size == b->size && sha256_equal(&a->id, &b->id) &&
	       a->mode == b->mode && a->mtime_ns == b->mtime_ns;
}

enum rc
stage_map_put(struct stage_map *m, const struct stage_entry *e, bool *unchanged, struct err *err)
{
	struct stage_leaf_place place = {.found = false};
	struct stage_entry old = {.size = 0};
	size_t at = leaf_of_next(m, e->path, e->path_len);
	bool same = false, done;

	if (m->leaf_count > 0)
		stage_leaf_seek(m->leaves[at], e->path, e->path_len, &place);
	if (place.found) {
		stage_leaf_get(m->leaves[at], &place, &old);
		same = is_same(&old, e);
		done = same || put_in_leaf(m, at, &place, e);
	} else if (m->leaf_count > 0) {
		done = insert_new(m, at, &place, e);
	} else {
		done = add_leaf_with(m, 0, e);
	}
	if (!done)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	m->near = at;
	m->count += !place.found;
	m->bytes += e->size - old.size;
	if (unchanged != NULL)
		*unchanged = same;
	return RC_OK;
}

/* ---- removing ---- */

/* Two neighbours with few entries become one, so that those which stay do not pay for those which
 * went. Without memory they go on as they are. */
static void
join_leaves(struct stage_map *m, size_t at)
{
	if (at + 1 >= m->leaf_count ||
		m->leaves[at]->count + m->leaves[at + 1]->count > JOIN_ENTRIES_MAX)
		return;
	size_t before = stage_leaf_memory(m->leaves[at]) + stage_leaf_memory(m->leaves[at + 1]);
	if (!stage_leaf_join(&m->leaves[at], m->leaves[at + 1]))
		return;
	m->leaf_memory += stage_leaf_memory(m->leaves[at]) - before;
	drop_leaf(m, at + 1);
}

bool
stage_map_remove(struct stage_map *m, const char *path, size_t path_len)
{
	struct stage_leaf_place place = {.found = false};
	struct stage_entry old;
	size_t at = leaf_of(m, path, path_len);

	if (m->leaf_count > 0)
		stage_leaf_seek(m->leaves[at], path, path_len, &place);
	if (!place.found)
		return false;
	stage_leaf_get(m->leaves[at], &place, &old);
	m->count--;
	m->bytes -= old.size;
	m->leaf_memory -= stage_leaf_memory(m->leaves[at]);
	stage_leaf_remove(&m->leaves[at], &place);
	if (m->leaves[at]->count == 0) {
		drop_leaf(m, at);
	} else {
		m->leaf_memory += stage_leaf_memory(m->leaves[at]);
		join_leaves(m, at);
	}
	if (at > 0)
		join_leaves(m, at - 1);
	return true;
}

/* ---- looking ---- */

bool
stage_map_find(
	const struct stage_map *m, const char *path, size_t path_len, struct stage_entry *out)
{
	struct stage_leaf_place place = {.found = false};
	size_t at = leaf_of(m, path, path_len);

	if (m->leaf_count > 0)
		stage_leaf_seek(m->leaves[at], path, path_len, &place);
	if (!place.found)
		return false;
	stage_leaf_get(m->leaves[at], &place, out);
	out->path = path;
	out->path_len = (uint16_t)path_len;
	return true;
}

size_t
stage_map_count(const struct stage_map *m)
{
	return m->count;
}

uint64_t
stage_map_bytes(const struct stage_map *m)
{
	return m->bytes;
}

static size_t
allocated(size_t bytes)
{
	/* a word of its own, and steps of two */
	return bytes == 0 ? 0 : (bytes + sizeof(size_t) + 15) / 16 * 16;
}

size_t
stage_map_memory(const struct stage_map *m)
{
	return allocated(sizeof *m) + allocated(m->leaf_cap * sizeof *m->leaves) + m->leaf_memory;
}

void
stage_map_seek(const struct stage_map *m, struct stage_map_cursor *c, const char *key,
	size_t key_len, bool after)
{
	struct stage_entry e;

	c->map = m;
	c->leaf = leaf_of(m, key, key_len);
	c->at = 0;
	if (m->leaf_count == 0)
		return;
	/* the record at the place is read on top of itself: its beginning is there already */
	const struct stage_leaf *leaf = m->leaves[c->leaf];
	for (uint32_t next; c->at < leaf->used; c->at = next) {
		next = stage_leaf_read(leaf, c->at, c->path, &e);
		int d = tree_key_cmp(e.path, e.path_len, key, key_len);
		if (d > 0 || (d == 0 && !after))
			break;
	}
}

bool
stage_map_next(struct stage_map_cursor *c, struct stage_entry *out)
{
	const struct stage_map *m = c->map;

	if (c->leaf < m->leaf_count && c->at == m->leaves[c->leaf]->used) {
		c->leaf++;
		c->at = 0;
	}
	if (c->leaf >= m->leaf_count)
		return false;
	c->at = stage_leaf_read(m->leaves[c->leaf], c->at, c->path, out);
	return true;
}
