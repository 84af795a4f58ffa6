/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_HISTOGRAM_H
#define DG_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* histogram: how often which size of number came, on a logarithmic scale of four steps an octave.
 *
 * Meant for times in microseconds: 0, 1, 2 and 3 have a step of their own, everything above is
 * known to within a fifth, up to 2^33 - 1 (two hours); what is larger counts as that. Threads: any
 * may add, without waiting; a reader sees each step exact but not all of one instant. */

#define HISTOGRAM_STEPS 128 /* 1 KiB */

struct histogram {
	_Atomic uint64_t steps[HISTOGRAM_STEPS];
	_Atomic uint64_t sum;
};

/* What a histogram held at one time; the caller's own memory, may be copied. */
struct histogram_view {
	uint64_t steps[HISTOGRAM_STEPS];
	uint64_t count;
	uint64_t sum;
};

/* Zeroed memory is an empty histogram. */
void histogram_add(struct histogram *h, uint64_t value);
void histogram_read(const struct histogram *h, struct histogram_view *out);
/* Take away what an earlier view of the same histogram held. */
void histogram_subtract(struct histogram_view *v, const struct histogram_view *earlier);
/* The largest number of the step in which the given share (0 to 1000 of a thousand) of all is
 * reached; 0 if there are none. */
uint64_t histogram_quantile(const struct histogram_view *v, unsigned per_mille);
/* How many were at most 2^octave - 1 (octave 2 to 33). */
uint64_t histogram_below(const struct histogram_view *v, unsigned octave);

#endif
