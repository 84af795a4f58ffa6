/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CHUNKER_H
#define DG_CHUNKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* chunker: where a stream is cut into chunks, by content ("MW8", minimum of window).
 *
 * A chunk has min to max bytes: 2/3 and 4/3 of the target, rounded inwards to 64. For every
 * length i from min to max (or to what is left, if that is less), with a and b the little-endian
 * 32-bit words at i-4 and i-8,
 *     H(i) = k0*a + k1*b - 1 mod 2^32
 * and the chunk ends at the smallest i with the least H. A rest of min bytes or less is one chunk.
 * Nothing is carried from one chunk to the next, so a cut found again means all later ones are.
 *
 * The cuts are what deduplication lives on: nothing here may ever change for CHUNKER_ID. All
 * backends give the same ones.
 * Threads: a chunker is only read after chunker_init; any number may cut with it. */

/* The number that recipes carry for "MW8" with the keys below. */
#define CHUNKER_ID ((uint8_t)1)

/* Chosen so that no window with a single non-zero byte, and no constant one, tends to win. They
 * are public and hide nothing. */
#define CHUNKER_K0 0x9e3779b1u
#define CHUNKER_K1 0x85ebca6bu

#define CHUNKER_TARGET_DEFAULT 65536u
/* max of the largest target: no chunk is longer. */
#define CHUNKER_CHUNK_BYTES_MAX 174720u

typedef uint32_t chunker_least_fn(const uint8_t *at, size_t n, uint32_t k0, uint32_t k1);

struct chunker {
	uint32_t target; /* bytes, as all three */
	uint32_t min;
	uint32_t max;
	uint32_t k0;
	uint32_t k1;
	chunker_least_fn *least; /* chunker.c's own */
};

/* Nothing to free. RC_INVALID: target_bytes is not 16, 32, 64 or 128 KiB. */
enum rc chunker_init(struct chunker *c, uint32_t target_bytes, struct err *err);

/* Length of the first chunk of p[0..n), at most n. n must be max or more, or reach to the end of
 * the stream. 0 only if n is 0. p is borrowed for the call; bytes beyond max are not looked at. */
size_t chunker_cut(const struct chunker *c, const uint8_t *p, size_t n);

enum chunker_backend {
	CHUNKER_AUTO, /* the best this CPU has */
	CHUNKER_SCALAR,
	CHUNKER_SSE41,
	CHUNKER_AVX2,
	CHUNKER_NEON,
};

/* What chunker_init chooses: "avx2", "sse4.1", "neon" or "scalar"; a static string. */
const char *chunker_backend(void);
/* For tests and benchmarks: what later chunker_init calls of the process choose. false, and nothing
 * changed, if this CPU cannot. */
bool chunker_force_backend(enum chunker_backend which);

#endif
