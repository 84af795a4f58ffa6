/* SPDX-License-Identifier: Apache-2.0 */
#include "frame_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum level {
	PROBATION,
	PROTECTED,
};

#define LEVELS 2

struct frame_shared {
	struct frame frame;
	atomic_uint refs;
	/* immutable */
	uint8_t *memory;
	const uint8_t *table;
	size_t cost;
	uint32_t *starts;           /* of the chunks in raw; chunk_count + 1 */
	_Atomic uint64_t *verified; /* a bit a chunk */
	/* the cache's, guarded by its mtx */
	uint64_t brought_by;
	enum level level;
	struct frame_shared *next_in_bucket;
	struct frame_shared *newer;
	struct frame_shared *older;
};

struct level_list {
	struct frame_shared *newest;
	struct frame_shared *oldest;
	size_t bytes;
};

struct frame_cache {
	/* immutable */
	size_t bytes_max;
	size_t bucket_mask;
	const struct knob *hot;
	pthread_mutex_t mtx;
	/* guarded by mtx */
	struct frame_shared **buckets;
	struct level_list levels[LEVELS];
	uint64_t hits;
	uint64_t misses;
};

/* ---- frames ---- */

/* Room for the marks behind the starts. */
static size_t
marks_at(uint32_t chunk_count)
{
	return (size_t)pack_round_up(((uint64_t)chunk_count + 1) * sizeof(uint32_t), 8);
}

enum rc
frame_new(const struct pack_frame_view *view, const uint8_t *table, const uint8_t *raw,
	uint8_t *memory, size_t memory_bytes, struct frame **out, struct err *err)
{
	size_t marks = marks_at(view->chunk_count);
	size_t tables = marks + ((size_t)view->chunk_count + 63) / 64 * sizeof(uint64_t);
	struct frame_shared *f = calloc(1, sizeof *f);
	uint8_t *room = calloc(1, tables);

	*out = NULL;
	if (f == NULL || room == NULL) {
		free(f);
		free(room);
		free(memory);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	f->frame = (struct frame){
		.pack_id = view->place.pack_id,
		.offset = view->place.offset,
		.raw = raw,
		.raw_bytes = (uint32_t)view->raw_bytes,
		.chunk_count = view->chunk_count,
		.shared = f,
	};
	atomic_init(&f->refs, 1);
	f->memory = memory;
	f->table = table;
	f->cost = sizeof *f + tables + memory_bytes;
	f->starts = (uint32_t *)(void *)room;
	f->verified = (_Atomic uint64_t *)(void *)(room + marks);
	uint32_t start = 0;
	for (uint32_t i = 0; i < view->chunk_count; i++) {
		struct pack_chunk c;
		pack_chunk_decode(table + (size_t)i * PACK_CHUNK_ENTRY_BYTES, &c);
		f->starts[i] = start;
		start += (uint32_t)c.length;
	}
	f->starts[view->chunk_count] = start;
	*out = &f->frame;
	return RC_OK;
}

static void
ref(struct frame_shared *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
}

static void
unref(struct frame_shared *f)
{
	if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(f->memory);
	free(f->starts);
	free(f);
}

void
frame_unref(struct frame *f)
{
	if (f != NULL)
		unref(f->shared);
}

static void
chunk_at(const struct frame_shared *f, uint32_t index, struct pack_chunk *out)
{
	pack_chunk_decode(f->table + (size_t)index * PACK_CHUNK_ENTRY_BYTES, out);
}

bool
frame_find(const struct frame *frame, const struct sha256 *hash, uint64_t raw_offset,
	uint64_t length, uint32_t *index)
{
	const struct frame_shared *f = frame->shared;
	uint32_t low = 0;
	uint32_t high = frame->chunk_count;
	struct pack_chunk c;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (f->starts[mid] < raw_offset)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == frame->chunk_count || f->starts[low] != raw_offset)
		return false;
	chunk_at(f, low, &c);
	*index = low;
	return c.length == length && sha256_equal(&c.hash, hash);
}

bool
frame_is_verified(const struct frame *f, uint32_t index)
{
	uint64_t bits =
		atomic_load_explicit(&f->shared->verified[index / 64], memory_order_relaxed);

	return (bits >> index % 64 & 1) != 0;
}

static void
verify_batch(struct frame_shared *f, const uint32_t *indexes, uint32_t count, struct proofs *proofs,
	struct proofs_verdict *verdict)
{
	struct proof_chunk chunks[PROOFS_CHECK_MAX];
	struct pack_chunk named[PROOFS_CHECK_MAX];
	const struct sha256 *names[PROOFS_CHECK_MAX];
	bool ok[PROOFS_CHECK_MAX];

	if (count == 0)
		return;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t start = f->starts[indexes[i]];
		chunk_at(f, indexes[i], &named[i]);
		names[i] = &named[i].hash;
		chunks[i] = (struct proof_chunk){f->frame.pack_id, f->frame.offset, start,
			f->frame.raw + start, f->starts[indexes[i] + 1] - start};
	}
	proofs_check(proofs, chunks, names, count, ok, verdict);
	for (uint32_t i = 0; i < count; i++)
		if (ok[i])
			atomic_fetch_or_explicit(&f->verified[indexes[i] / 64],
				UINT64_C(1) << indexes[i] % 64, memory_order_relaxed);
}

void
frame_verify(struct frame *frame, uint32_t first, uint32_t count, struct proofs *proofs,
	struct proofs_verdict *verdict)
{
	uint32_t indexes[PROOFS_CHECK_MAX];
	uint32_t n = 0;
	uint32_t end = count < frame->chunk_count - first ? first + count : frame->chunk_count;

	for (uint32_t i = first; i < end; i++) {
		if (!frame_is_verified(frame, i))
			indexes[n++] = i;
		if (n == PROOFS_CHECK_MAX || (n > 0 && i + 1 == end)) {
			verify_batch(frame->shared, indexes, n, proofs, verdict);
			n = 0;
		}
	}
}

/* ---- the cache ---- */

/* A bucket for every 64 KiB: a few for every frame of usual size. */
#define BUCKET_BYTES    ((size_t)64 << 10)
#define BUCKET_BITS_MAX 22

enum rc
frame_cache_open(
	size_t bytes_max, const struct knob *hot, struct frame_cache **out, struct err *err)
{
	size_t buckets = 64;

	*out = NULL;
	struct frame_cache *c = calloc(1, sizeof *c);
	if (c == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory for the frame cache");
	while (buckets < bytes_max / BUCKET_BYTES && buckets < (size_t)1 << BUCKET_BITS_MAX)
		buckets *= 2;
	c->bytes_max = bytes_max;
	c->bucket_mask = buckets - 1;
	c->hot = hot;
	c->buckets = calloc(buckets, sizeof(struct frame_shared *));
	if (c->buckets == NULL) {
		free(c);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory for the frame cache");
	}
	pthread_mutex_init(&c->mtx, NULL);
	*out = c;
	return RC_OK;
}

void
frame_cache_free(struct frame_cache *c)
{
	if (c == NULL)
		return;
	for (int level = 0; level < LEVELS; level++) {
		struct frame_shared *f = c->levels[level].newest;
		while (f != NULL) {
			struct frame_shared *older = f->older;
			unref(f);
			f = older;
		}
	}
	pthread_mutex_destroy(&c->mtx);
	free(c->buckets);
	free(c);
}

/* Places are ours: nobody can choose them so that they meet. */
static struct frame_shared **
bucket_of(const struct frame_cache *c, uint64_t pack_id, uint64_t offset)
{
	uint64_t h = (pack_id * UINT64_C(0x9e3779b97f4a7c15) + offset / PACK_ALIGN_BYTES) *
		     UINT64_C(0xbf58476d1ce4e5b9);

	return &c->buckets[(h ^ h >> 32) & c->bucket_mask];
}

/* What points to the frame, or to where it would be. */
static struct frame_shared **
find(const struct frame_cache *c, uint64_t pack_id, uint64_t offset)
{
	struct frame_shared **at = bucket_of(c, pack_id, offset);

	while (*at != NULL && ((*at)->frame.pack_id != pack_id || (*at)->frame.offset != offset))
		at = &(*at)->next_in_bucket;
	return at;
}

static void
list_remove(struct frame_cache *c, struct frame_shared *f)
{
	struct level_list *l = &c->levels[f->level];

	*(f->newer != NULL ? &f->newer->older : &l->newest) = f->older;
	*(f->older != NULL ? &f->older->newer : &l->oldest) = f->newer;
	l->bytes -= f->cost;
}

static void
list_add(struct frame_cache *c, struct frame_shared *f, enum level level)
{
	struct level_list *l = &c->levels[level];

	f->level = level;
	f->newer = NULL;
	f->older = l->newest;
	*(l->newest != NULL ? &l->newest->newer : &l->oldest) = f;
	l->newest = f;
	l->bytes += f->cost;
}

static void
promote(struct frame_cache *c, struct frame_shared *f)
{
	struct level_list *protected = &c->levels[PROTECTED];
	size_t bytes_max = c->bytes_max / 100 * (size_t)knob_get(c->hot);

	list_remove(c, f);
	list_add(c, f, PROTECTED);
	while (protected->bytes > bytes_max && protected->oldest != f) {
		struct frame_shared *oldest = protected->oldest;
		list_remove(c, oldest);
		list_add(c, oldest, PROBATION);
	}
}

struct frame *
frame_cache_take(struct frame_cache *c, uint64_t pack_id, uint64_t offset, uint64_t reader)
{
	pthread_mutex_lock(&c->mtx);
	struct frame_shared *f = *find(c, pack_id, offset);
	if (f != NULL) {
		ref(f);
		c->hits++;
		if (f->level == PROTECTED || f->brought_by != reader)
			promote(c, f);
	}
	pthread_mutex_unlock(&c->mtx);
	return f != NULL ? &f->frame : NULL;
}

/* Take f out of the cache and put it on the list *gone, linked by older. */
static void
remove_frame(struct frame_cache *c, struct frame_shared *f, struct frame_shared **gone)
{
	*find(c, f->frame.pack_id, f->frame.offset) = f->next_in_bucket;
	list_remove(c, f);
	f->older = *gone;
	*gone = f;
}

static void
unref_all(struct frame_shared *gone)
{
	while (gone != NULL) {
		struct frame_shared *next = gone->older;
		unref(gone);
		gone = next;
	}
}

static size_t
cache_bytes(const struct frame_cache *c)
{
	return c->levels[PROBATION].bytes + c->levels[PROTECTED].bytes;
}

void
frame_cache_keep(struct frame_cache *c, struct frame *frame, uint64_t reader)
{
	struct frame_shared *f = frame->shared;
	struct frame_shared *gone = NULL;

	pthread_mutex_lock(&c->mtx);
	c->misses++;
	if (f->cost <= c->bytes_max && *find(c, frame->pack_id, frame->offset) == NULL) {
		while (cache_bytes(c) > c->bytes_max - f->cost) {
			struct level_list *from = &c->levels[PROBATION];
			if (from->oldest == NULL)
				from = &c->levels[PROTECTED];
			remove_frame(c, from->oldest, &gone);
		}
		struct frame_shared **bucket = bucket_of(c, frame->pack_id, frame->offset);
		f->next_in_bucket = *bucket;
		*bucket = f;
		f->brought_by = reader;
		ref(f);
		list_add(c, f, PROBATION);
	}
	pthread_mutex_unlock(&c->mtx);
	unref_all(gone);
}

void
frame_cache_drop(struct frame_cache *c, uint64_t pack_id, uint64_t offset)
{
	struct frame_shared *gone = NULL;

	pthread_mutex_lock(&c->mtx);
	struct frame_shared *f = *find(c, pack_id, offset);
	if (f != NULL)
		remove_frame(c, f, &gone);
	pthread_mutex_unlock(&c->mtx);
	unref_all(gone);
}

void
frame_cache_stats(struct frame_cache *c, struct frame_cache_stats *out)
{
	pthread_mutex_lock(&c->mtx);
	*out = (struct frame_cache_stats){
		c->hits, c->misses, cache_bytes(c), c->levels[PROTECTED].bytes, c->bytes_max};
	pthread_mutex_unlock(&c->mtx);
}
