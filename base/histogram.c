/* SPDX-License-Identifier: Apache-2.0 */
#include "histogram.h"

#define SUB_BITS 2 /* steps an octave: 1 << SUB_BITS */
#define SUBS     (1u << SUB_BITS)

/* The position of the highest bit says which octave, the two bits after it which quarter of it. */
static size_t
step_of(uint64_t value)
{
	if (value < SUBS)
		return (size_t)value;
	unsigned high = 63u - (unsigned)__builtin_clzll(value);
	size_t step = (high - SUB_BITS + 1) * SUBS + ((value >> (high - SUB_BITS)) & (SUBS - 1));
	return step < HISTOGRAM_STEPS ? step : HISTOGRAM_STEPS - 1;
}

/* The largest value that belongs to a step. */
static uint64_t
step_top(size_t step)
{
	if (step < SUBS)
		return step;
	unsigned shift = (unsigned)(step / SUBS) - 1;
	return ((SUBS + step % SUBS + 1) << shift) - 1;
}

void
histogram_add(struct histogram *h, uint64_t value)
{
	atomic_fetch_add_explicit(&h->steps[step_of(value)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum, value, memory_order_relaxed);
}

static uint64_t
load(const _Atomic uint64_t *v)
{
	return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)v, memory_order_relaxed);
}

void
histogram_read(const struct histogram *h, struct histogram_view *out)
{
	out->count = 0;
	for (size_t i = 0; i < HISTOGRAM_STEPS; i++) {
		out->steps[i] = load(&h->steps[i]);
		out->count += out->steps[i];
	}
	out->sum = load(&h->sum);
}

void
histogram_subtract(struct histogram_view *v, const struct histogram_view *earlier)
{
	for (size_t i = 0; i < HISTOGRAM_STEPS; i++)
		v->steps[i] -= earlier->steps[i];
	v->count -= earlier->count;
	v->sum -= earlier->sum;
}

uint64_t
histogram_quantile(const struct histogram_view *v, unsigned per_mille)
{
	uint64_t wanted = (v->count * per_mille + 999) / 1000;
	uint64_t seen = 0;

	if (v->count == 0)
		return 0;
	for (size_t i = 0; i < HISTOGRAM_STEPS; i++) {
		seen += v->steps[i];
		if (seen > 0 && seen >= wanted)
			return step_top(i);
	}
	return step_top(HISTOGRAM_STEPS - 1);
}

uint64_t
histogram_below(const struct histogram_view *v, unsigned octave)
{
	size_t end = (size_t)(octave - SUB_BITS + 1) * SUBS;
	uint64_t n = 0;

	for (size_t i = 0; i < end && i < HISTOGRAM_STEPS; i++)
		n += v->steps[i];
	return n;
}
