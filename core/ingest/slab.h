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
 * First come, first served: memory that comes back is saved up until it is enough for the first in
 * line, and is promised to it when it is called; nobody who comes later gets it.
 * Threads: any. The lock is held for list work only; memory is mapped and unmapped outside it. */

#define SLAB_SMALL_BYTES  ((size_t)64 << 10)
#define SLAB_MEDIUM_BYTES ((size_t)256 << 10)
#define SLAB_LARGE_BYTES  ((size_t)1 << 20)

struct slab_pool;

struct slab {
	uint8_t *data;
	size_t bytes;      /* capacity */
	int loose;         /* outside the budget: freed when given back */
	struct slab *next; /* the pool's */
};

/* In line for memory. fn runs once per slab_wait, on the thread that gave memory back, with no
 * lock held, and must not block: it asks the owner to try again. The owner zeroes it and sets fn;
 * one thread at a time takes, waits and unwaits with it. */
struct slab_waiter {
	void (*fn)(struct slab_waiter *w);
	/* the pool's */
	size_t min_bytes;
	struct slab_waiter *next;
	struct slab_waiter *prev;
	size_t promised_bytes;
	int in_line;
	int calls; /* of fn that have not returned */
};

/* bytes_max is raised to four large slabs if it is less. */
enum rc slab_pool_open(size_t bytes_max, struct slab_pool **out, struct err *err);
void slab_pool_free(struct slab_pool *pool);

/* A slab of at least min_bytes (<= SLAB_LARGE_BYTES), near want_bytes if the share of one taker
 * allows; NULL if the budget is used up or others were here before. w (NULL: the caller never
 * waits) redeems what was promised to it. */
struct slab *slab_take(
	struct slab_pool *pool, size_t min_bytes, size_t want_bytes, struct slab_waiter *w);
void slab_give(struct slab_pool *pool, struct slab *slab);
/* A slab outside the budget, for the last piece of a file that may not wait (at most one chunk a
 * writer). NULL if there is no memory. */
struct slab *slab_take_loose(size_t bytes);

/* Get in line, at its end; does nothing if w is in it. fn is called when a slab of min_bytes can be
 * had: at once, before this returns, if it can already and nobody waits. */
void slab_wait(struct slab_pool *pool, size_t min_bytes, struct slab_waiter *w);
/* Get out of line, or hand on what was promised. After it returns fn is not running and will not be
 * called: it waits for a call that runs in another thread, so not from within fn. */
void slab_unwait(struct slab_pool *pool, struct slab_waiter *w);

/* Announce one more (+1) or one less (-1) taker: their number decides the share of each. */
void slab_takers_add(struct slab_pool *pool, int delta);

/* Bytes handed out now, the most ever handed out, takers waiting now. */
size_t slab_used_bytes(struct slab_pool *pool);
size_t slab_peak_bytes(struct slab_pool *pool);
size_t slab_bytes_max(const struct slab_pool *pool);
size_t slab_waiting(struct slab_pool *pool);

#endif
