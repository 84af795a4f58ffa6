/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_KNOB_H
#define DG_KNOB_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* knob: a number that may be turned while the server runs.
 *
 * The module that reads a knob owns it and shows it to whoever may turn it; it must work with every
 * value within the limits, at any time, and never needs to be told of a change. What is read is a
 * hint for speed: no knob may decide what is stored under which name, or when something counts as
 * durable.
 * Threads: any may read and turn; relaxed atomics. */

enum knob_scale {
	KNOB_ADD,    /* neighbours differ by step */
	KNOB_DOUBLE, /* neighbours differ by a factor of two; step is not used, limits are > 0 */
};

struct knob {
	/* immutable, after knob_fix if that is called */
	const char *name; /* lower case, unique in the server */
	const char *unit; /* "bytes", "us", "threads", "level", "frames", "percent" */
	const char *what; /* one line */
	int64_t min, max; /* inclusive; equal: there is nothing to turn */
	int64_t fallback; /* where it starts */
	int64_t step;
	enum knob_scale scale;
	/* any thread */
	_Atomic int64_t value;
};

static inline int64_t
knob_clamp(const struct knob *k, int64_t value)
{
	return value < k->min ? k->min : value > k->max ? k->max : value;
}

static inline int64_t
knob_get(const struct knob *k)
{
	return atomic_load_explicit((_Atomic int64_t *)(uintptr_t)&k->value, memory_order_relaxed);
}

/* Turn it; a value outside of the limits becomes the nearest one inside. */
static inline void
knob_set(struct knob *k, int64_t value)
{
	atomic_store_explicit(&k->value, knob_clamp(k, value), memory_order_relaxed);
}

/* The neighbour of value, above (direction > 0) or below it; value itself at a limit. */
static inline int64_t
knob_neighbour(const struct knob *k, int64_t value, int direction)
{
	if (k->scale == KNOB_DOUBLE)
		return knob_clamp(k, direction > 0 ? value * 2 : value / 2);
	return knob_clamp(k, direction > 0 ? value + k->step : value - k->step);
}

/* Hold knobs for good: text is NAME=VALUE, between spaces or commas, each within the limits of the
 * knob of that name; both limits and the fallback become the value. Before anybody turns them.
 * RC_INVALID with the word that is wrong; knobs named before it are fixed. */
enum rc knob_fix(struct knob *const *knobs, size_t count, const char *text, struct err *err);

#endif
