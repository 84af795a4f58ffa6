/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SLAB_H
#define DG_SLAB_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* slab: the only memory that upload bytes may wait in.
 *
 * A pool hands out buffers of three sizes until its byte budget is used up; then takers wait in
 * line. The budget covers what is handed out and what is kept free for reuse, so the pool never
 * holds more than bytes_max. Large uploads get large slabs while few share the pool and smaller
 * ones when many do, so that one cannot keep the others out.
 * Threads: any. The lock is held for list work only; memory is mapped and unmapped outside it. */

#define SLAB_SMALL_BYTES  ((size_t)64 << 10)
#define SLAB_MEDIUM_BYTES ((size_t)256 << 10)
#define SLAB_LARGE_BYTES  ((size_t)1 << 20)

struct slab_pool;

struct slab {
	uint8_t *data;
	size_t bytes;	   /* capacity */
	int loose;	   /* outside the budget: freed when given back */
	struct slab *next; /* the pool's */
};

/* In line for memory. fn runs once per slab_wait, on the thread that gave memory back, with no
 * lock held, and must not block: it asks the owner to try again. */
struct slab_waiter {
	void (*fn)(struct slab_waiter *w);
	struct slab_waiter *next;
	struct slab_waiter *prev;
	int in_line;
};

/* bytes_max is raised to four large slabs if it is less. */
enum rc slab_pool_open(size_t bytes_max, struct slab_pool **out, struct err *err);
void slab_pool_free(struct slab_pool *pool);

/* A slab of at least min_bytes (<= SLAB_LARGE_BYTES), near want_bytes if the share of one taker
 * allows; NULL if the budget is used up or others wait already and first is 0. */
struct slab *slab_take(struct slab_pool *pool, size_t min_bytes, size_t want_bytes, int first);
void slab_give(struct slab_pool *pool, struct slab *slab);
/* A slab outside the budget, for the last piece of a file that may not wait (at most one chunk a
 * writer). NULL if there is no memory. */
struct slab *slab_take_loose(size_t bytes);

/* Get in line; fn is called when memory comes back. If there is room already it is called at once. */
void slab_wait(struct slab_pool *pool, struct slab_waiter *w);
/* Get out of line. After it fn is not called, unless a call is running already: the owner makes fn
 * harmless until it has been joined. */
void slab_unwait(struct slab_pool *pool, struct slab_waiter *w);

/* Announce one more (+1) or one less (-1) taker: their number decides the share of each. */
void slab_takers_add(struct slab_pool *pool, int delta);

/* Bytes handed out now, the most ever handed out, takers waiting now. */
size_t slab_used_bytes(struct slab_pool *pool);
size_t slab_peak_bytes(struct slab_pool *pool);
size_t slab_bytes_max(const struct slab_pool *pool);
size_t slab_waiting(struct slab_pool *pool);

#endif
