/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "cond.h"

/* Position n (counted from 0, never wrapped) lives in cell n mod capacity. The cell's seq says
 * whose turn it is: n = free for push n, n + 1 = holds item n, n + capacity = free for the push of
 * the next lap. A push claims a position by advancing tail, writes the item and then publishes it
 * with seq; a pop claims by advancing head, and then frees the cell with seq.
 *
 * Why no wakeup is lost. All operations named here are seq_cst, so they have one order.
 *   push:  publish seq; load waiters; if any: epoch++, wake one.
 *   pop:   waiters++; load epoch; look at the front cell; sleep unless epoch has changed.
 * (1) Say a popper P goes to sleep because the front position n was not published when it looked.
 *     The publish of n comes after that look, hence after P's waiters++; so its pusher sees a
 *     waiter and raises epoch, after P loaded it: either P does not fall asleep (the kernel
 *     compares), or it is in the kernel's queue when "wake one" runs, which wakes P or another
 *     sleeper.
 * (2) One wake is enough for one item, but the woken one may find several: a push of n + 1 that was
 *     published before n wakes somebody in vain, or nobody. Therefore whoever has popped looks at
 *     the new front and passes the wake on if there is something and somebody waits. If n + 1 is
 *     published after that look instead, its pusher sees the waiters itself, by (1).
 *     So while an item is at the front and somebody sleeps, somebody else is awake on its way to
 *     look.
 * (3) A sleeper that timed out or got a signal looks once more before it gives up, and so passes
 *     on by (2) if it takes; if the kernel counted it as woken, it was woken.
 * (4) Close is set before its epoch++, and read between the load of epoch and the sleep.
 * epoch has 32 bits: a popper would have to be held for 2^32 wakes between load and sleep. */

#define LINE_BYTES 64

struct cell {
	_Atomic size_t seq;
	void *item;
};

struct ring {
	/* immutable after open */
	struct cell *cells;
	size_t mask;
	/* pushers */
	alignas(LINE_BYTES) _Atomic size_t tail;
	/* poppers */
	alignas(LINE_BYTES) _Atomic size_t head;
	/* sleepers */
	alignas(LINE_BYTES) _Atomic uint32_t epoch;
	_Atomic uint32_t waiters;
	atomic_bool closed;
};

enum rc
ring_open(size_t capacity, struct ring **out, struct err *err)
{
	*out = NULL;
	if (capacity < 2 || capacity > RING_CAPACITY_MAX || (capacity & (capacity - 1)) != 0)
		return err_set(
			err, RC_INVALID, NULL, "ring capacity %zu is no power of two", capacity);
	struct ring *r = aligned_alloc(LINE_BYTES, sizeof *r);
	struct cell *cells = aligned_alloc(LINE_BYTES, (capacity * sizeof *cells + 63) / 64 * 64);
	if (r == NULL || cells == NULL) {
		free(r);
		free(cells);
		return err_set(err, RC_NOMEM, NULL, "no memory for a ring of %zu", capacity);
	}
	for (size_t i = 0; i < capacity; i++) {
		atomic_init(&cells[i].seq, i);
		cells[i].item = NULL;
	}
	r->cells = cells;
	r->mask = capacity - 1;
	atomic_init(&r->tail, 0);
	atomic_init(&r->head, 0);
	atomic_init(&r->epoch, 0);
	atomic_init(&r->waiters, 0);
	atomic_init(&r->closed, false);
	*out = r;
	return RC_OK;
}

void
ring_free(struct ring *r)
{
	if (r == NULL)
		return;
	free(r->cells);
	free(r);
}

static void
wake(struct ring *r, int how_many)
{
	atomic_fetch_add(&r->epoch, 1);
	syscall(SYS_futex, &r->epoch, FUTEX_WAKE_PRIVATE, how_many, NULL, NULL, 0);
}

/* Until epoch is no longer seen, somebody wakes us, deadline_ns (0 = none) passes or a signal. */
static void
sleep_on(struct ring *r, uint32_t seen, uint64_t deadline_ns)
{
	struct timespec at = cond_timespec(deadline_ns);

	syscall(SYS_futex, &r->epoch, FUTEX_WAIT_BITSET_PRIVATE, seen, deadline_ns > 0 ? &at : NULL,
		NULL, FUTEX_BITSET_MATCH_ANY);
}

bool
ring_push(struct ring *r, void *item)
{
	size_t pos = atomic_load_explicit(&r->tail, memory_order_relaxed);

	if (atomic_load(&r->closed))
		return false;
	for (;;) {
		struct cell *cell = &r->cells[pos & r->mask];
		size_t seq = atomic_load_explicit(&cell->seq, memory_order_acquire);
		if (seq == pos) {
			if (!atomic_compare_exchange_weak_explicit(&r->tail, &pos, pos + 1,
				    memory_order_relaxed, memory_order_relaxed))
				continue;
			cell->item = item;
			atomic_store(&cell->seq, pos + 1);
			break;
		}
		if ((ptrdiff_t)(seq - pos) < 0)
			return false;
		pos = atomic_load_explicit(&r->tail, memory_order_relaxed);
	}
	if (atomic_load(&r->waiters) > 0)
		wake(r, 1);
	return true;
}

static bool
try_pop(struct ring *r, void **out)
{
	size_t pos = atomic_load_explicit(&r->head, memory_order_relaxed);

	for (;;) {
		struct cell *cell = &r->cells[pos & r->mask];
		size_t seq = atomic_load(&cell->seq);
		if (seq == pos + 1) {
			if (!atomic_compare_exchange_weak_explicit(&r->head, &pos, pos + 1,
				    memory_order_relaxed, memory_order_relaxed))
				continue;
			*out = cell->item;
			atomic_store_explicit(&cell->seq, pos + r->mask + 1, memory_order_release);
			return true;
		}
		if ((ptrdiff_t)(seq - (pos + 1)) < 0)
			return false;
		pos = atomic_load_explicit(&r->head, memory_order_relaxed);
	}
}

static size_t
take(struct ring *r, void **out, size_t max)
{
	size_t n = 0;

	while (n < max && try_pop(r, &out[n]))
		n++;
	return n;
}

/* Step (2). If head has moved on meanwhile, whoever moved it does the same after us. */
static void
pass_on(struct ring *r)
{
	size_t pos = atomic_load_explicit(&r->head, memory_order_relaxed);

	if (atomic_load(&r->cells[pos & r->mask].seq) == pos + 1 && atomic_load(&r->waiters) > 0)
		wake(r, 1);
}

static size_t
take_or_wait(struct ring *r, void **out, size_t max, int timeout_ms)
{
	uint64_t deadline = 0;
	size_t n;

	if (timeout_ms > 0)
		deadline = clock_mono_ns() + (uint64_t)timeout_ms * 1000000u;
	atomic_fetch_add(&r->waiters, 1);
	for (;;) {
		uint32_t seen = atomic_load(&r->epoch);
		bool closed = atomic_load(&r->closed);
		n = take(r, out, max);
		if (n > 0 || closed || (deadline > 0 && clock_mono_ns() >= deadline))
			break;
		sleep_on(r, seen, deadline);
	}
	atomic_fetch_sub(&r->waiters, 1);
	return n;
}

size_t
ring_pop_many(struct ring *r, void **out, size_t max, int timeout_ms)
{
	size_t n = take(r, out, max);

	if (n == 0 && timeout_ms != 0)
		n = take_or_wait(r, out, max, timeout_ms);
	if (n > 0)
		pass_on(r);
	return n;
}

void
ring_close(struct ring *r)
{
	atomic_store(&r->closed, true);
	wake(r, INT_MAX);
}

bool
ring_is_closed(const struct ring *r)
{
	return atomic_load(&r->closed);
}

size_t
ring_len(const struct ring *r)
{
	size_t head = atomic_load(&r->head);
	size_t len = atomic_load(&r->tail) - head;

	return len > r->mask + 1 ? r->mask + 1 : len;
}
