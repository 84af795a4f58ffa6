/* SPDX-License-Identifier: Apache-2.0 */
#include "layout.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "pack_format.h"
#include "rand.h"

/* A content of which parts are kept. */
struct entry {
	struct layout_key key;
	struct entry *next_in_bucket;
	struct part_shared **parts; /* by start */
	uint32_t count, cap;
};

struct part_shared {
	struct layout_part part;
	struct layout_cache *cache;
	atomic_uint refs;
	struct layout_slice *slices;
	size_t cost;
	/* guarded by the cache's mtx */
	struct layout_place *places;
	struct entry *entry; /* NULL: not in the cache */
	struct part_shared *newer, *older;
};

struct layout_cache {
	/* immutable */
	size_t bytes_max;
	size_t bucket_mask;
	uint64_t seed; /* ids can be chosen by whoever uploads */
	pthread_mutex_t mtx;
	/* guarded by mtx */
	struct entry **buckets;
	struct part_shared *newest, *oldest;
	struct layout_stats stats;
};

/* A bucket for every 2 KiB: one or two contents each, if they are small. */
#define BUCKET_BYTES    2048
#define BUCKET_BITS_MAX 20

enum rc
layout_cache_open(size_t bytes_max, struct layout_cache **out, struct err *err)
{
	struct layout_cache *c = calloc(1, sizeof *c);
	size_t buckets = 64;

	*out = NULL;
	if (c == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory for the layout cache");
	while (buckets < bytes_max / BUCKET_BYTES && buckets < (size_t)1 << BUCKET_BITS_MAX)
		buckets *= 2;
	c->bytes_max = bytes_max;
	c->bucket_mask = buckets - 1;
	c->seed = rand_u64();
	c->stats.bytes_max = bytes_max;
	c->buckets = calloc(buckets, sizeof *c->buckets);
	if (c->buckets == NULL) {
		free(c);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory for the layout cache");
	}
	pthread_mutex_init(&c->mtx, NULL);
	*out = c;
	return RC_OK;
}

static void
unref(struct part_shared *p)
{
	if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(p->slices);
	free(p->places);
	free(p);
}

void
layout_part_unref(struct layout_part *part)
{
	if (part != NULL)
		unref(part->shared);
}

/* ---- the table ---- */

static struct entry **
bucket_of(const struct layout_cache *c, const struct layout_key *key)
{
	uint64_t h = checksum64_seeded(key->content.id.b, sizeof key->content.id.b,
		c->seed ^ key->repo_id ^ (uint64_t)key->content.kind << 56);

	return &c->buckets[h & c->bucket_mask];
}

/* What points to the entry, or to where it would be. */
static struct entry **
find_entry(const struct layout_cache *c, const struct layout_key *key)
{
	struct entry **at = bucket_of(c, key);

	while (*at != NULL && ((*at)->key.repo_id != key->repo_id ||
				      !content_equal(&(*at)->key.content, &key->content)))
		at = &(*at)->next_in_bucket;
	return at;
}

/* The first part of the entry that ends behind offset. */
static uint32_t
part_index(const struct entry *e, uint64_t offset)
{
	uint32_t low = 0;
	uint32_t high = e->count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (e->parts[mid]->part.end <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void
lru_remove(struct layout_cache *c, struct part_shared *p)
{
	*(p->newer != NULL ? &p->newer->older : &c->newest) = p->older;
	*(p->older != NULL ? &p->older->newer : &c->oldest) = p->newer;
}

static void
lru_add(struct layout_cache *c, struct part_shared *p)
{
	p->newer = NULL;
	p->older = c->newest;
	*(c->newest != NULL ? &c->newest->newer : &c->oldest) = p;
	c->newest = p;
}

static void
drop_entry(struct layout_cache *c, struct entry *e)
{
	*find_entry(c, &e->key) = e->next_in_bucket;
	free(e->parts);
	free(e);
}

/* Take the part out and put it on the list *gone, linked by older. */
static void
remove_part(struct layout_cache *c, struct part_shared *p, struct part_shared **gone)
{
	struct entry *e = p->entry;
	uint32_t i = part_index(e, p->part.start);

	memmove(e->parts + i, e->parts + i + 1, (e->count - i - 1) * sizeof(struct part_shared *));
	e->count--;
	if (e->count == 0)
		drop_entry(c, e);
	lru_remove(c, p);
	c->stats.bytes -= p->cost;
	p->entry = NULL;
	p->older = *gone;
	*gone = p;
}

static void
unref_all(struct part_shared *gone)
{
	while (gone != NULL) {
		struct part_shared *next = gone->older;
		unref(gone);
		gone = next;
	}
}

void
layout_cache_free(struct layout_cache *c)
{
	struct part_shared *gone = NULL;

	if (c == NULL)
		return;
	while (c->oldest != NULL)
		remove_part(c, c->oldest, &gone);
	unref_all(gone);
	pthread_mutex_destroy(&c->mtx);
	free(c->buckets);
	free(c);
}

struct layout_part *
layout_find(struct layout_cache *c, const struct layout_key *key, uint64_t offset)
{
	struct part_shared *p = NULL;

	pthread_mutex_lock(&c->mtx);
	const struct entry *e = *find_entry(c, key);
	if (e != NULL) {
		uint32_t i = part_index(e, offset);
		if (i < e->count && e->parts[i]->part.start <= offset)
			p = e->parts[i];
	}
	if (p != NULL) {
		atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
		lru_remove(c, p);
		lru_add(c, p);
		c->stats.hits++;
	} else {
		c->stats.misses++;
	}
	pthread_mutex_unlock(&c->mtx);
	return p != NULL ? &p->part : NULL;
}

enum rc
layout_part_new(struct layout_cache *c, struct layout_slice *slices, uint32_t count,
	struct layout_part **out, struct err *err)
{
	struct part_shared *p = calloc(1, sizeof *p);
	struct layout_place *places = calloc(count, sizeof *places);

	*out = NULL;
	if (p == NULL || places == NULL) {
		free(p);
		free(places);
		free(slices);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	p->part = (struct layout_part){
		.start = slices[0].start,
		.end = slices[count - 1].start + slices[count - 1].length,
		.count = count,
		.slices = slices,
		.shared = p,
	};
	p->cache = c;
	p->slices = slices;
	p->places = places;
	p->cost = sizeof *p + count * (sizeof *slices + sizeof *places) + sizeof(struct entry) +
		  sizeof(struct part_shared *);
	atomic_init(&p->refs, 1);
	*out = &p->part;
	return RC_OK;
}

/* The entry with room for one more part, or NULL without memory. */
static struct entry *
entry_for(struct layout_cache *c, const struct layout_key *key)
{
	struct entry **at = find_entry(c, key);
	struct entry *e = *at;

	if (e != NULL && e->count < e->cap)
		return e;
	uint32_t cap = e == NULL ? 1 : e->cap * 2;
	struct part_shared **parts = realloc(e == NULL ? NULL : e->parts, cap * sizeof *parts);
	if (parts == NULL)
		return NULL;
	if (e == NULL) {
		e = calloc(1, sizeof *e);
		if (e == NULL) {
			free(parts);
			return NULL;
		}
		e->key = *key;
		*at = e;
	}
	e->parts = parts;
	e->cap = cap;
	return e;
}

static void
insert(struct layout_cache *c, struct entry *e, uint32_t i, struct part_shared *p)
{
	memmove(e->parts + i + 1, e->parts + i, (e->count - i) * sizeof(struct part_shared *));
	e->parts[i] = p;
	e->count++;
	p->entry = e;
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	lru_add(c, p);
	c->stats.bytes += p->cost;
}

void
layout_keep(struct layout_cache *c, const struct layout_key *key, struct layout_part *part)
{
	struct part_shared *p = part->shared;
	struct part_shared *gone = NULL;

	if (p->cost > c->bytes_max)
		return;
	pthread_mutex_lock(&c->mtx);
	while (c->stats.bytes > c->bytes_max - p->cost)
		remove_part(c, c->oldest, &gone);
	struct entry *e = entry_for(c, key);
	if (e != NULL) {
		uint32_t i = part_index(e, part->start);
		bool is_there = i < e->count && e->parts[i]->part.start < part->end;
		if (!is_there && p->entry == NULL)
			insert(c, e, i, p);
	}
	pthread_mutex_unlock(&c->mtx);
	unref_all(gone);
}

/* ---- parts ---- */

uint32_t
layout_slice_at(const struct layout_part *part, uint64_t offset)
{
	uint32_t low = 0;
	uint32_t high = part->count - 1;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (part->slices[mid].start + part->slices[mid].length <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void
layout_places(
	const struct layout_part *part, uint32_t first, uint32_t count, struct layout_place *out)
{
	const struct part_shared *p = part->shared;

	pthread_mutex_lock(&p->cache->mtx);
	memcpy(out, p->places + first, count * sizeof *out);
	pthread_mutex_unlock(&p->cache->mtx);
}

void
layout_place_of(const struct chunk_row *row, struct layout_place *out)
{
	*out = (struct layout_place){.pack_id = 0};
	if (row->length == 0 || row->length > PACK_FRAME_RAW_BYTES_MAX ||
		row->raw_offset > PACK_FRAME_RAW_BYTES_MAX ||
		row->frame_bytes > PACK_FRAME_BYTES_MAX || row->frame_offset > UINT32_MAX)
		return;
	*out = (struct layout_place){
		.pack_id = row->pack_id,
		.frame_offset = (uint32_t)row->frame_offset,
		.frame_bytes = (uint32_t)row->frame_bytes,
		.raw_offset = (uint32_t)row->raw_offset,
		.chunk_bytes = (uint32_t)row->length,
	};
}

static bool
in_same_frame(const struct layout_place *a, const struct layout_place *b)
{
	return a->pack_id == b->pack_id && a->frame_offset == b->frame_offset;
}

void
layout_learn_row(struct layout_part *part, uint32_t i, const struct chunk_row *row)
{
	struct part_shared *p = part->shared;
	struct layout_place place;

	layout_place_of(row, &place);
	pthread_mutex_lock(&p->cache->mtx);
	struct layout_place *old = &p->places[i];
	if (!in_same_frame(old, &place) || old->raw_offset != place.raw_offset)
		*old = place;
	pthread_mutex_unlock(&p->cache->mtx);
}

void
layout_learn_shape(struct layout_part *part, uint32_t i, const struct layout_place *place)
{
	struct part_shared *p = part->shared;

	pthread_mutex_lock(&p->cache->mtx);
	for (; i < part->count && in_same_frame(&p->places[i], place); i++) {
		p->places[i].payload_at = place->payload_at;
		p->places[i].codec = place->codec;
	}
	pthread_mutex_unlock(&p->cache->mtx);
}

void
layout_stats(struct layout_cache *c, struct layout_stats *out)
{
	pthread_mutex_lock(&c->mtx);
	*out = c->stats;
	pthread_mutex_unlock(&c->mtx);
}
