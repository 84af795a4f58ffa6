/* SPDX-License-Identifier: Apache-2.0 */
#include "node_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "rand.h"

/* A node. Immutable but for the links; the cache holds one reference as long as it is linked, a
 * reader one as long as it copies, and the last one frees. */
struct cached {
	uint64_t repo_id;
	struct sha256 hash;
	atomic_uint refs;
	/* guarded by mtx */
	struct cached *next_in_bucket;
	struct cached *newer;
	struct cached *older;
	size_t len;
	uint8_t data[];
};

struct node_cache {
	/* immutable */
	size_t bytes_max;
	uint64_t seed; /* so that nobody can choose hashes that meet in one bucket */
	size_t bucket_mask;
	struct cached **buckets;
	pthread_mutex_t mtx;
	/* guarded by mtx */
	struct cached *newest;
	struct cached *oldest;
	struct node_cache_stats stats;
};

/* A bucket for every 4 KiB: about one for every two nodes that fit. */
#define BUCKET_BYTES    4096
#define BUCKET_BITS_MAX 24

enum rc
node_cache_open(size_t bytes_max, struct node_cache **out, struct err *err)
{
	struct node_cache *cache = calloc(1, sizeof *cache);
	size_t buckets = 64;

	*out = NULL;
	if (cache == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory for the node cache");
	while (buckets < bytes_max / BUCKET_BYTES && buckets < (size_t)1 << BUCKET_BITS_MAX)
		buckets *= 2;
	cache->bytes_max = bytes_max;
	cache->seed = rand_u64();
	cache->bucket_mask = buckets - 1;
	cache->buckets = calloc(buckets, sizeof *cache->buckets);
	if (cache->buckets == NULL) {
		free(cache);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory for the node cache");
	}
	pthread_mutex_init(&cache->mtx, NULL);
	*out = cache;
	return RC_OK;
}

static void
unref(struct cached *n)
{
	if (atomic_fetch_sub_explicit(&n->refs, 1, memory_order_acq_rel) == 1)
		free(n);
}

void
node_cache_free(struct node_cache *cache)
{
	if (cache == NULL)
		return;
	for (struct cached *n = cache->newest; n != NULL;) {
		struct cached *older = n->older;
		unref(n);
		n = older;
	}
	pthread_mutex_destroy(&cache->mtx);
	free(cache->buckets);
	free(cache);
}

static size_t
cost(const struct cached *n)
{
	return sizeof *n + n->len;
}

static struct cached **
bucket(const struct node_cache *cache, uint64_t repo_id, const struct sha256 *hash)
{
	uint64_t h = checksum64_seeded(hash->b, sizeof hash->b, cache->seed ^ repo_id);

	return &cache->buckets[h & cache->bucket_mask];
}

/* The place that points to the node, or to where it would be. Under mtx. */
static struct cached **
find(const struct node_cache *cache, uint64_t repo_id, const struct sha256 *hash)
{
	struct cached **at = bucket(cache, repo_id, hash);

	while (*at != NULL && ((*at)->repo_id != repo_id || !sha256_equal(&(*at)->hash, hash)))
		at = &(*at)->next_in_bucket;
	return at;
}

static void
lru_remove(struct node_cache *cache, struct cached *n)
{
	*(n->newer != NULL ? &n->newer->older : &cache->newest) = n->older;
	*(n->older != NULL ? &n->older->newer : &cache->oldest) = n->newer;
}

static void
lru_add(struct node_cache *cache, struct cached *n)
{
	n->newer = NULL;
	n->older = cache->newest;
	*(n->older != NULL ? &n->older->newer : &cache->oldest) = n;
	cache->newest = n;
}

/* The node with a reference for the caller, or NULL. */
static struct cached *
take(struct node_cache *cache, uint64_t repo_id, const struct sha256 *hash)
{
	pthread_mutex_lock(&cache->mtx);
	struct cached *n = *find(cache, repo_id, hash);
	if (n != NULL) {
		atomic_fetch_add_explicit(&n->refs, 1, memory_order_relaxed);
		lru_remove(cache, n);
		lru_add(cache, n);
		cache->stats.hits++;
	} else {
		cache->stats.misses++;
	}
	pthread_mutex_unlock(&cache->mtx);
	return n;
}

/* Unlink the oldest nodes until size bytes more fit. Under mtx. Returns them as a list by older. */
static struct cached *
evict(struct node_cache *cache, size_t size)
{
	struct cached *gone = NULL;

	while (cache->stats.bytes > cache->bytes_max - size) {
		struct cached *n = cache->oldest;
		*find(cache, n->repo_id, &n->hash) = n->next_in_bucket;
		lru_remove(cache, n);
		cache->stats.bytes -= cost(n);
		cache->stats.nodes--;
		cache->stats.evictions++;
		n->older = gone;
		gone = n;
	}
	return gone;
}

/* Keep a copy if there is room and memory; it is only a cache. */
static void
keep(struct node_cache *cache, uint64_t repo_id, const struct sha256 *hash, const struct buf *bytes)
{
	struct cached *gone = NULL;
	struct cached *n;

	if (sizeof *n + bytes->len > cache->bytes_max)
		return;
	n = malloc(sizeof *n + bytes->len);
	if (n == NULL)
		return;
	n->repo_id = repo_id;
	n->hash = *hash;
	n->len = bytes->len;
	memcpy(n->data, bytes->data, bytes->len);
	atomic_init(&n->refs, 1);

	pthread_mutex_lock(&cache->mtx);
	if (*find(cache, repo_id, hash) == NULL) {
		gone = evict(cache, cost(n));
		struct cached **first = bucket(cache, repo_id, hash);
		n->next_in_bucket = *first;
		*first = n;
		lru_add(cache, n);
		cache->stats.bytes += cost(n);
		cache->stats.nodes++;
		n = NULL; /* handed over */
	}
	pthread_mutex_unlock(&cache->mtx);

	free(n); /* another thread was faster */
	while (gone != NULL) {
		struct cached *next = gone->older;
		unref(gone);
		gone = next;
	}
}

static enum rc
verify(const struct sha256 *hash, const struct buf *bytes, struct err *err)
{
	struct sha256 got;

	if (buf_ok(bytes) && bytes->len > 0) {
		sha256_of(bytes->data, bytes->len, &got);
		if (sha256_equal(&got, hash))
			return RC_OK;
	}
	err_set(err, RC_CORRUPT, "corrupt-tree", "a part of the snapshot is damaged");
	return err_detail(err, "tree node: wrong hash or size, %zu bytes read", bytes->len);
}

static enum rc
view_get(void *arg, const struct sha256 *hash, struct buf *out, struct err *err)
{
	const struct node_cache_view *view = arg;
	struct cached *n = take(view->cache, view->repo_id, hash);

	if (n != NULL) {
		buf_add(out, n->data, n->len);
		unref(n);
		if (!buf_ok(out))
			return err_set(err, RC_NOMEM, "no-memory",
				"out of memory while reading a snapshot");
		return RC_OK;
	}
	enum rc rc = view->behind->get(view->behind->arg, hash, out, err);
	if (rc == RC_OK && !view->behind->get_verifies)
		rc = verify(hash, out, err);
	if (rc == RC_OK)
		keep(view->cache, view->repo_id, hash, out);
	return rc;
}

static enum rc
view_put(void *arg, const struct sha256 *hash, const uint8_t *data, size_t len, struct err *err)
{
	const struct node_cache_view *view = arg;

	return view->behind->put(view->behind->arg, hash, data, len, err);
}

void
node_cache_view_init(struct node_cache_view *view, struct node_cache *cache, uint64_t repo_id,
	const struct tree_store *behind)
{
	*view = (struct node_cache_view){
		.store = {.get = view_get, .put = view_put, .arg = view, .get_verifies = true},
		.cache = cache,
		.repo_id = repo_id,
		.behind = behind,
	};
}

void
node_cache_stats(struct node_cache *cache, struct node_cache_stats *out)
{
	pthread_mutex_lock(&cache->mtx);
	*out = cache->stats;
	pthread_mutex_unlock(&cache->mtx);
}
