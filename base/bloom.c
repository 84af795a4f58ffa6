/* SPDX-License-Identifier: Apache-2.0 */
#include "bloom.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "buf.h"

/* Two lanes share a 64-bit word: four atomic operations instead of eight. */
#define BLOCK_WORDS 4
#define BLOCK_BITS  256
#define BLOCK_BYTES BLOOM_BLOCK_BYTES

struct bloom {
	/* immutable after open */
	_Atomic uint64_t
		*words; /* 32-byte blocks on page-aligned memory: never astride two lines */
	uint64_t blocks;
	uint64_t expected;
	/* changed by anyone */
	_Atomic uint64_t count;
};

/* Every bit of the result depends on every bit of x (the multipliers and shifts are those of the
 * well-known splitmix64 generator). */
static uint64_t
mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

struct place {
	_Atomic uint64_t *words;
	uint64_t mask[BLOCK_WORDS];
};

/* The hash is random already; mixing is for the salt, so that a chunk that many repositories hold
 * has unrelated places. */
static struct place
place_of(const struct bloom *b, const struct sha256 *key, uint32_t salt)
{
	uint64_t where = mix(get_u64(key->b) + salt);
	uint64_t bits = mix(get_u64(key->b + 8) ^ (uint64_t)salt << 32);
	uint64_t block = (where >> 32) * b->blocks >> 32;
	struct place at = {.words = b->words + block * BLOCK_WORDS};

	for (int i = 0; i < BLOCK_WORDS; i++, bits >>= 10)
		at.mask[i] = UINT64_C(1) << (bits & 31) | UINT64_C(1) << (32 + (bits >> 5 & 31));
	return at;
}

enum rc
bloom_open_blocks(
	uint64_t blocks, uint64_t expected, uint64_t count, struct bloom **out, struct err *err)
{
	*out = NULL;
	if (blocks == 0 || blocks > UINT32_MAX)
		return err_set(err, RC_INVALID, NULL, "no Bloom filter of %llu blocks",
			(unsigned long long)blocks);
	struct bloom *b = malloc(sizeof *b);
	if (b == NULL)
		return err_set(err, RC_NOMEM, NULL, "no memory for a Bloom filter");
	void *words = mmap(NULL, (size_t)blocks * BLOCK_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (words == MAP_FAILED) {
		free(b);
		return err_set(err, RC_NOMEM, NULL, "no memory for a Bloom filter of %llu bytes",
			(unsigned long long)blocks * BLOCK_BYTES);
	}
	b->words = words;
	b->blocks = blocks;
	b->expected = expected;
	atomic_init(&b->count, count);
	*out = b;
	return RC_OK;
}

enum rc
bloom_open(uint64_t expected_keys, unsigned bits_per_key, struct bloom **out, struct err *err)
{
	*out = NULL;
	if (expected_keys == 0 || bits_per_key < BLOOM_BITS_MIN || bits_per_key > BLOOM_BITS_MAX ||
		expected_keys > UINT64_MAX / BLOOM_BITS_MAX - BLOCK_BITS)
		return err_set(err, RC_INVALID, NULL, "no Bloom filter for %llu keys of %u bits",
			(unsigned long long)expected_keys, bits_per_key);
	uint64_t blocks = (expected_keys * bits_per_key + BLOCK_BITS - 1) / BLOCK_BITS;
	return bloom_open_blocks(blocks, expected_keys, 0, out, err);
}

void
bloom_free(struct bloom *b)
{
	if (b == NULL)
		return;
	munmap(b->words, bloom_bytes(b));
	free(b);
}

/* Bits that are set already are not written again: a locked write to a shared line costs more than
 * looking. */
void
bloom_add(struct bloom *b, const struct sha256 *key, uint32_t salt)
{
	struct place at = place_of(b, key, salt);
	uint64_t fresh = 0;

	for (int i = 0; i < BLOCK_WORDS; i++) {
		uint64_t have = atomic_load_explicit(&at.words[i], memory_order_relaxed);
		if ((at.mask[i] & ~have) == 0)
			continue;
		have = atomic_fetch_or_explicit(&at.words[i], at.mask[i], memory_order_relaxed);
		fresh |= at.mask[i] & ~have;
	}
	if (fresh != 0)
		atomic_fetch_add_explicit(&b->count, 1, memory_order_relaxed);
}

bool
bloom_may_have(const struct bloom *b, const struct sha256 *key, uint32_t salt)
{
	struct place at = place_of(b, key, salt);
	uint64_t missing = 0;

	for (int i = 0; i < BLOCK_WORDS; i++)
		missing |= at.mask[i] & ~atomic_load_explicit(&at.words[i], memory_order_relaxed);
	return missing == 0;
}

uint64_t
bloom_count(const struct bloom *b)
{
	return atomic_load_explicit(&b->count, memory_order_relaxed);
}

bool
bloom_is_full(const struct bloom *b)
{
	return bloom_count(b) > b->expected;
}

size_t
bloom_bytes(const struct bloom *b)
{
	return (size_t)b->blocks * BLOCK_BYTES;
}

uint64_t
bloom_expected(const struct bloom *b)
{
	return b->expected;
}

uint64_t
bloom_blocks(const struct bloom *b)
{
	return b->blocks;
}

void
bloom_get_blocks(const struct bloom *b, uint64_t first, size_t count, uint8_t *out)
{
	const _Atomic uint64_t *word = b->words + first * BLOCK_WORDS;

	for (size_t i = 0; i < count * BLOCK_WORDS; i++)
		put_u64(out + i * 8, atomic_load_explicit(&word[i], memory_order_relaxed));
}

void
bloom_put_blocks(struct bloom *b, uint64_t first, size_t count, const uint8_t *data)
{
	_Atomic uint64_t *word = b->words + first * BLOCK_WORDS;

	for (size_t i = 0; i < count * BLOCK_WORDS; i++) {
		uint64_t bits = get_u64(data + i * 8);
		if (bits != 0) /* pages of zeros stay untouched */
			atomic_fetch_or_explicit(&word[i], bits, memory_order_relaxed);
	}
}
