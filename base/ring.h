/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_RING_H
#define DG_RING_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

/* ring: a bounded queue of pointers for any number of producers and consumers.
 *
 * Pushing never blocks and takes no lock; popping blocks only while there is nothing. First in,
 * first out, by the order in which pushes claimed their places. The ring never looks at what the
 * pointers point to: they are handed over from pusher to popper.
 * Threads: everything but ring_open and ring_free may be called by any thread at any time. A
 * popper sees all that the pusher wrote before the push. */

#define RING_CAPACITY_MAX (1u << 24)

struct ring;

/* capacity is a power of two, 2 to RING_CAPACITY_MAX. *out is owned by the caller.
 * RC_INVALID, RC_NOMEM. */
enum rc ring_open(size_t capacity, struct ring **out, struct err *err);
/* NULL is allowed. Nobody may be inside or come again; pointers still queued are forgotten. */
void ring_free(struct ring *r);

/* false: full or closed, item is still the caller's. A place counts as taken until its popper has
 * left it, so a push may fail for an instant after the item before was popped. */
bool ring_push(struct ring *r, void *item);

/* Take up to max items (at least 1) into out and return how many. Waits for the first one
 * only: timeout_ms 0 not at all, negative for ever. 0: nothing came in time, or the ring is closed
 * and empty. */
size_t ring_pop_many(struct ring *r, void **out, size_t max, int timeout_ms);

/* No more pushes; poppers get what is left, then 0 at once. A push that runs at the same time may
 * still succeed after the last popper saw "closed and empty": stop the pushers first, or take the
 * rest with timeout 0 once they are gone. May be repeated. */
void ring_close(struct ring *r);
bool ring_is_closed(const struct ring *r);

/* How many are queued; a moment old when the answer arrives. */
size_t ring_len(const struct ring *r);

#endif
