/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_BLOOM_H
#define DG_BLOOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "sha256.h"

/* bloom: a set of hashes that answers "certainly not" or "perhaps", one cache line a question.
 *
 * Split-block Bloom filter: a key picks one 256-bit block and one bit in each of its eight 32-bit
 * lanes. Wrong "perhaps" at the expected number of keys: about 1.2 % with 10 bits a key, 0.5 % with
 * 12, 0.1 % with 16; it grows quickly beyond. A key never is removed: make a new filter.
 * A key is a hash together with a salt (the repository), so that one filter serves all of them.
 * Threads: any number add and ask at once, without locks. What was added is seen by every thread
 * that learnt of it through a lock or an atomic; a thread racing with the add may still hear "no".
 * Memory: zeroed by the kernel, so that pages not yet touched cost nothing. */

#define BLOOM_BITS_MIN 4
#define BLOOM_BITS_MAX 64

struct bloom;

/* *out is owned by the caller. RC_INVALID: no keys, bits_per_key outside BLOOM_BITS_MIN to
 * BLOOM_BITS_MAX, or more than 2^32 blocks. RC_NOMEM. */
enum rc bloom_open(
	uint64_t expected_keys, unsigned bits_per_key, struct bloom **out, struct err *err);
/* NULL is allowed. Nobody may be adding or asking. */
void bloom_free(struct bloom *b);

void bloom_add(struct bloom *b, const struct sha256 *key, uint32_t salt);
/* false: it was not added. */
bool bloom_may_have(const struct bloom *b, const struct sha256 *key, uint32_t salt);

/* Keys added, repeats not counted; a little low, as a new key that finds all its bits set looks
 * like a repeat. */
uint64_t bloom_count(const struct bloom *b);
/* More keys than expected: build a bigger one. */
bool bloom_is_full(const struct bloom *b);
/* Size of the bit array. */
size_t bloom_bytes(const struct bloom *b);
/* As asked for. */
uint64_t bloom_expected(const struct bloom *b);

/* The bit array as it is kept in a file: blocks of BLOOM_BLOCK_BYTES, the places of keys in them
 * never change (a program that reads them must find what another one added). */
#define BLOOM_BLOCK_BYTES 32u
uint64_t bloom_blocks(const struct bloom *b);
/* Copy blocks from first on. Nobody may be adding. */
void bloom_get_blocks(const struct bloom *b, uint64_t first, size_t count, uint8_t *out);
/* An array of that many blocks, empty; expected and count are what the two functions above will
 * say. RC_INVALID: no blocks or more than 2^32; RC_NOMEM. */
enum rc bloom_open_blocks(
	uint64_t blocks, uint64_t expected, uint64_t count, struct bloom **out, struct err *err);
/* Add what was copied. */
void bloom_put_blocks(struct bloom *b, uint64_t first, size_t count, const uint8_t *data);

#endif
