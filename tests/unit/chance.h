/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CHANCE_H
#define DG_CHANCE_H

#include <stddef.h>
#include <stdint.h>

/* chance: numbers that look random and are the same in every run, from a seed of the caller's. */

static inline uint64_t
chance_u64(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

/* 0 to n - 1. */
static inline uint64_t
chance_below(uint64_t *seed, uint64_t n)
{
	return chance_u64(seed) % n;
}

/* 0 to 2^64 - 1, small ones as likely as large ones. */
static inline uint64_t
chance_any_size(uint64_t *seed)
{
	return chance_u64(seed) >> chance_below(seed, 64);
}

static inline void
chance_bytes(uint64_t *seed, void *out, size_t len)
{
	uint8_t *p = out;
	uint64_t bits = 0;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i % 8 == 0 ? (bits = chance_u64(seed)) : (bits >>= 8));
}

#endif
