/* SPDX-License-Identifier: Apache-2.0 */
/* Slabs are mapped, not malloc'ed: a megabyte that is given back really leaves the process, and a
 * kept one does not fragment the heap. */
#include "slab.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CLASS_COUNT 3

static const size_t class_bytes[CLASS_COUNT] = {
	SLAB_SMALL_BYTES, SLAB_MEDIUM_BYTES, SLAB_LARGE_BYTES};

struct slab_pool {
	size_t bytes_max; /* immutable */
	pthread_mutex_t mtx;
	pthread_cond_t called; /* a call of a waiter's fn has returned */
	/* guarded by mtx; used + promised <= bytes_max, used + free <= bytes_max */
	struct slab *free[CLASS_COUNT];
	size_t free_bytes;
	size_t used_bytes;
	size_t leaving_bytes;  /* being unmapped */
	size_t promised_bytes; /* to waiters that were called and have not come yet */
	size_t peak_bytes;
	int takers;
	size_t waiting;
	struct slab_waiter line; /* ring; line.next is the first in line */
};

enum rc
slab_pool_open(size_t bytes_max, struct slab_pool **out, struct err *err)
{
	struct slab_pool *pool = calloc(1, sizeof *pool);

	if (pool == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	if (bytes_max < 4 * SLAB_LARGE_BYTES)
		bytes_max = 4 * SLAB_LARGE_BYTES;
	pool->bytes_max = bytes_max;
	pthread_mutex_init(&pool->mtx, NULL);
	pthread_cond_init(&pool->called, NULL);
	pool->line.next = pool->line.prev = &pool->line;
	*out = pool;
	return RC_OK;
}

static void
slab_unmap(struct slab *slab)
{
	munmap(slab->data, slab->bytes);
	free(slab);
}

void
slab_pool_free(struct slab_pool *pool)
{
	if (pool == NULL)
		return;
	for (int c = 0; c < CLASS_COUNT; c++) {
		while (pool->free[c] != NULL) {
			struct slab *slab = pool->free[c];
			pool->free[c] = slab->next;
			slab_unmap(slab);
		}
	}
	pthread_cond_destroy(&pool->called);
	pthread_mutex_destroy(&pool->mtx);
	free(pool);
}

static struct slab *
slab_map(size_t bytes)
{
	struct slab *slab = malloc(sizeof *slab);

	if (slab == NULL)
		return NULL;
	void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED) {
		free(slab);
		return NULL;
	}
	*slab = (struct slab){.data = data, .bytes = bytes};
	return slab;
}

static int
class_of(size_t bytes)
{
	int c = 0;

	while (class_bytes[c] < bytes)
		c++;
	return c;
}

/* The class a taker may have: what it wants, but not above its share of the pool. */
static int
choose_class(const struct slab_pool *pool, size_t min_bytes, size_t want_bytes)
{
	size_t share = pool->bytes_max / (size_t)(pool->takers > 0 ? pool->takers : 1) / 2;
	int least = class_of(min_bytes);
	int c = want_bytes >= SLAB_LARGE_BYTES ? CLASS_COUNT - 1 : class_of(want_bytes);

	while (c > least && class_bytes[c] > share)
		c--;
	return c < least ? least : c;
}

/* Drop free slabs of other classes until bytes more fit the budget; the caller unmaps the list. */
static struct slab *
make_room(struct slab_pool *pool, size_t bytes, size_t *leaving)
{
	struct slab *doomed = NULL;

	for (int c = CLASS_COUNT - 1; c >= 0; c--) {
		while (pool->free[c] != NULL &&
			pool->used_bytes + pool->free_bytes + pool->leaving_bytes + bytes >
				pool->bytes_max) {
			struct slab *slab = pool->free[c];
			pool->free[c] = slab->next;
			pool->free_bytes -= slab->bytes;
			slab->next = doomed;
			doomed = slab;
			*leaving += slab->bytes;
		}
	}
	return doomed;
}

static void
unmap_list(struct slab *list)
{
	while (list != NULL) {
		struct slab *next = list->next;
		slab_unmap(list);
		list = next;
	}
}

static bool
fits(const struct slab_pool *pool, size_t bytes)
{
	return pool->used_bytes + pool->promised_bytes + pool->leaving_bytes + bytes <=
	       pool->bytes_max;
}

static void
leave_line(struct slab_pool *pool, struct slab_waiter *w)
{
	w->prev->next = w->next;
	w->next->prev = w->prev;
	w->in_line = 0;
	pool->waiting--;
}

static void
take_promise_back(struct slab_pool *pool, struct slab_waiter *w)
{
	pool->promised_bytes -= w->promised_bytes;
	w->promised_bytes = 0;
}

/* Call waiters, in order, as long as there is enough for the first in line; then unlock. Each is
 * looked up anew, because the line may be another after a call. */
static void
serve_and_unlock(struct slab_pool *pool)
{
	for (;;) {
		struct slab_waiter *w = pool->line.next;
		if (w == &pool->line || !fits(pool, class_bytes[class_of(w->min_bytes)]))
			break;
		leave_line(pool, w);
		w->promised_bytes = class_bytes[class_of(w->min_bytes)];
		pool->promised_bytes += w->promised_bytes;
		w->calls++;
		pthread_mutex_unlock(&pool->mtx);
		w->fn(w);
		pthread_mutex_lock(&pool->mtx);
		w->calls--;
		pthread_cond_broadcast(&pool->called);
	}
	pthread_mutex_unlock(&pool->mtx);
}

/* Find a slab, or bytes to map one (*map_bytes) and what must be unmapped before (*doomed). */
static struct slab *
reserve(struct slab_pool *pool, size_t min_bytes, size_t want_bytes, size_t *map_bytes,
	struct slab **doomed, size_t *leaving)
{
	int least = class_of(min_bytes);

	for (int c = choose_class(pool, min_bytes, want_bytes); c >= least; c--) {
		size_t bytes = class_bytes[c];
		struct slab *slab = pool->free[c];
		if (!fits(pool, bytes))
			continue;
		if (slab != NULL) {
			pool->free[c] = slab->next;
			pool->free_bytes -= bytes;
		} else {
			*doomed = make_room(pool, bytes, leaving);
			*map_bytes = bytes;
		}
		pool->used_bytes += bytes;
		if (pool->used_bytes > pool->peak_bytes)
			pool->peak_bytes = pool->used_bytes;
		return slab;
	}
	return NULL;
}

struct slab *
slab_take(struct slab_pool *pool, size_t min_bytes, size_t want_bytes, struct slab_waiter *w)
{
	struct slab *slab = NULL;
	struct slab *doomed = NULL;
	size_t map_bytes = 0, leaving = 0;

	pthread_mutex_lock(&pool->mtx);
	bool is_turn = pool->line.next == &pool->line;
	if (w != NULL && w->promised_bytes > 0) {
		take_promise_back(pool, w);
		is_turn = true;
	}
	if (is_turn)
		slab = reserve(pool, min_bytes, want_bytes, &map_bytes, &doomed, &leaving);
	/* what is being unmapped counts until it is gone */
	pool->leaving_bytes += leaving;
	serve_and_unlock(pool);
	if (doomed != NULL) {
		unmap_list(doomed);
		pthread_mutex_lock(&pool->mtx);
		pool->leaving_bytes -= leaving;
		serve_and_unlock(pool);
	}
	if (map_bytes == 0)
		return slab;
	slab = slab_map(map_bytes);
	if (slab == NULL) {
		pthread_mutex_lock(&pool->mtx);
		pool->used_bytes -= map_bytes;
		serve_and_unlock(pool);
	}
	return slab;
}

struct slab *
slab_take_loose(size_t bytes)
{
	struct slab *slab = malloc(sizeof *slab + bytes);

	if (slab != NULL)
		*slab = (struct slab){.data = (uint8_t *)(slab + 1), .bytes = bytes, .loose = 1};
	return slab;
}

void
slab_give(struct slab_pool *pool, struct slab *slab)
{
	if (slab->loose) {
		free(slab);
		return;
	}
	pthread_mutex_lock(&pool->mtx);
	int c = class_of(slab->bytes);
	slab->next = pool->free[c];
	pool->free[c] = slab;
	pool->free_bytes += slab->bytes;
	pool->used_bytes -= slab->bytes;
	serve_and_unlock(pool);
}

void
slab_wait(struct slab_pool *pool, size_t min_bytes, struct slab_waiter *w)
{
	pthread_mutex_lock(&pool->mtx);
	if (!w->in_line) {
		take_promise_back(pool, w);
		w->min_bytes = min_bytes;
		w->prev = pool->line.prev;
		w->next = &pool->line;
		w->prev->next = w;
		pool->line.prev = w;
		w->in_line = 1;
		pool->waiting++;
	}
	serve_and_unlock(pool);
}

void
slab_unwait(struct slab_pool *pool, struct slab_waiter *w)
{
	pthread_mutex_lock(&pool->mtx);
	if (w->in_line)
		leave_line(pool, w);
	take_promise_back(pool, w);
	while (w->calls > 0)
		pthread_cond_wait(&pool->called, &pool->mtx);
	serve_and_unlock(pool);
}

void
slab_takers_add(struct slab_pool *pool, int delta)
{
	pthread_mutex_lock(&pool->mtx);
	pool->takers += delta;
	pthread_mutex_unlock(&pool->mtx);
}

size_t
slab_used_bytes(struct slab_pool *pool)
{
	pthread_mutex_lock(&pool->mtx);
	size_t bytes = pool->used_bytes;
	pthread_mutex_unlock(&pool->mtx);
	return bytes;
}

size_t
slab_peak_bytes(struct slab_pool *pool)
{
	pthread_mutex_lock(&pool->mtx);
	size_t bytes = pool->peak_bytes;
	pthread_mutex_unlock(&pool->mtx);
	return bytes;
}

size_t
slab_bytes_max(const struct slab_pool *pool)
{
	return pool->bytes_max;
}

size_t
slab_waiting(struct slab_pool *pool)
{
	pthread_mutex_lock(&pool->mtx);
	size_t n = pool->waiting;
	pthread_mutex_unlock(&pool->mtx);
	return n;
}
