/* SPDX-License-Identifier: Apache-2.0 */
#include "chunker.h"

#include <endian.h>
#include <stdatomic.h>
#include <string.h>

/* The search has two steps. A backend only knows the least H of a run of positions; the search
 * asks for one block of positions after the other and keeps the first block with the least value,
 * then narrows that block down. So the vector code has no positions to carry along, and there is
 * one place that decides about ties. */

#define BLOCK 1024 /* positions a backend is asked for at once: 70 ns with AVX2 */
#define STEP  64   /* backends take multiples of it; also the last step of narrowing */

/* Not get_u32 of buf.h: that is a call in another file, this is one instruction. */
static inline uint32_t
load(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return le32toh(v);
}

static inline uint32_t
hash_at(const uint8_t *at, uint32_t k0, uint32_t k1)
{
	return k0 * load(at - 4) + k1 * load(at - 8) - 1;
}

/* Every backend: the least H of the n positions from at on, n a multiple of STEP and not 0; reads
 * at[-8] to at[n-2]. */
static uint32_t
least_scalar(const uint8_t *at, size_t n, uint32_t k0, uint32_t k1)
{
	uint32_t least = UINT32_MAX;

	for (size_t i = 0; i < n; i++) {
		uint32_t h = hash_at(at + i, k0, k1);
		least = h < least ? h : least;
	}
	return least;
}

#if defined(__x86_64__) || defined(__i386__)

#include <immintrin.h>

/* Vector code: a load at byte offset o holds in lane j the word at o + 4j. So four loads, one byte
 * apart, cover all positions of four times the number of lanes. */

#define SSE41 __attribute__((target("sse4.1")))
#define AVX2  __attribute__((target("avx2")))

static inline SSE41 __attribute__((always_inline)) __m128i
hash4(const uint8_t *at, __m128i k0, __m128i k1)
{
	__m128i a = _mm_loadu_si128((const __m128i *)(at - 4));
	__m128i b = _mm_loadu_si128((const __m128i *)(at - 8));
	__m128i sum = _mm_add_epi32(_mm_mullo_epi32(a, k0), _mm_mullo_epi32(b, k1));

	return _mm_add_epi32(sum, _mm_set1_epi32(-1));
}

static SSE41 uint32_t
least_sse41(const uint8_t *at, size_t n, uint32_t k0, uint32_t k1)
{
	const __m128i vk0 = _mm_set1_epi32((int)k0);
	const __m128i vk1 = _mm_set1_epi32((int)k1);
	__m128i m0 = _mm_set1_epi32(-1);
	__m128i m1 = m0;

	for (const uint8_t *end = at + n; at < end; at += 16) {
		m0 = _mm_min_epu32(m0, hash4(at, vk0, vk1));
		m1 = _mm_min_epu32(m1, hash4(at + 1, vk0, vk1));
		m0 = _mm_min_epu32(m0, hash4(at + 2, vk0, vk1));
		m1 = _mm_min_epu32(m1, hash4(at + 3, vk0, vk1));
	}
	m0 = _mm_min_epu32(m0, m1);
	m0 = _mm_min_epu32(m0, _mm_shuffle_epi32(m0, 0x4e));
	m0 = _mm_min_epu32(m0, _mm_shuffle_epi32(m0, 0xb1));
	return (uint32_t)_mm_cvtsi128_si32(m0);
}

static inline AVX2 __attribute__((always_inline)) __m256i
hash8(const uint8_t *at, __m256i k0, __m256i k1)
{
	__m256i a = _mm256_loadu_si256((const __m256i *)(at - 4));
	__m256i b = _mm256_loadu_si256((const __m256i *)(at - 8));
	__m256i sum = _mm256_add_epi32(_mm256_mullo_epi32(a, k0), _mm256_mullo_epi32(b, k1));

	return _mm256_add_epi32(sum, _mm256_set1_epi32(-1));
}

static AVX2 uint32_t
least_avx2(const uint8_t *at, size_t n, uint32_t k0, uint32_t k1)
{
	const __m256i vk0 = _mm256_set1_epi32((int)k0);
	const __m256i vk1 = _mm256_set1_epi32((int)k1);
	__m256i m0 = _mm256_set1_epi32(-1);
	__m256i m1 = m0;

	for (const uint8_t *end = at + n; at < end; at += 32) {
		m0 = _mm256_min_epu32(m0, hash8(at, vk0, vk1));
		m1 = _mm256_min_epu32(m1, hash8(at + 1, vk0, vk1));
		m0 = _mm256_min_epu32(m0, hash8(at + 2, vk0, vk1));
		m1 = _mm256_min_epu32(m1, hash8(at + 3, vk0, vk1));
	}
	m0 = _mm256_min_epu32(m0, m1);
	__m128i m = _mm_min_epu32(_mm256_castsi256_si128(m0), _mm256_extracti128_si256(m0, 1));
	m = _mm_min_epu32(m, _mm_shuffle_epi32(m, 0x4e));
	m = _mm_min_epu32(m, _mm_shuffle_epi32(m, 0xb1));
	return (uint32_t)_mm_cvtsi128_si32(m);
}

static chunker_least_fn *
vector_least(enum chunker_backend which)
{
	if (which == CHUNKER_AVX2 && __builtin_cpu_supports("avx2"))
		return least_avx2;
	if (which == CHUNKER_SSE41 && __builtin_cpu_supports("sse4.1"))
		return least_sse41;
	return NULL;
}

#elif defined(__aarch64__) && !defined(__ARM_BIG_ENDIAN)

#include <arm_neon.h>

static inline uint32x4_t
hash4(const uint8_t *at, uint32_t k0, uint32_t k1)
{
	uint32x4_t a = vreinterpretq_u32_u8(vld1q_u8(at - 4));
	uint32x4_t b = vreinterpretq_u32_u8(vld1q_u8(at - 8));

	return vmlaq_n_u32(vmlaq_n_u32(vdupq_n_u32(UINT32_MAX), a, k0), b, k1);
}

static uint32_t
least_neon(const uint8_t *at, size_t n, uint32_t k0, uint32_t k1)
{
	uint32x4_t m0 = vdupq_n_u32(UINT32_MAX);
	uint32x4_t m1 = m0;

	for (const uint8_t *end = at + n; at < end; at += 16) {
		m0 = vminq_u32(m0, hash4(at, k0, k1));
		m1 = vminq_u32(m1, hash4(at + 1, k0, k1));
		m0 = vminq_u32(m0, hash4(at + 2, k0, k1));
		m1 = vminq_u32(m1, hash4(at + 3, k0, k1));
	}
	return vminvq_u32(vminq_u32(m0, m1));
}

static chunker_least_fn *
vector_least(enum chunker_backend which)
{
	return which == CHUNKER_NEON ? least_neon : NULL;
}

#else

static chunker_least_fn *
vector_least(enum chunker_backend which)
{
	(void)which;
	return NULL;
}

#endif

static const struct {
	enum chunker_backend id;
	const char *name;
} backends[] = {
	/* best first */
	{CHUNKER_AVX2, "avx2"},
	{CHUNKER_SSE41, "sse4.1"},
	{CHUNKER_NEON, "neon"},
	{CHUNKER_SCALAR, "scalar"},
};

static atomic_int forced = CHUNKER_AUTO;

static chunker_least_fn *
least_of(enum chunker_backend which)
{
	return which == CHUNKER_SCALAR ? least_scalar : vector_least(which);
}

/* Index into backends; the last one always can. */
static size_t
choose(enum chunker_backend want)
{
	size_t i = 0;

	while (want != CHUNKER_AUTO ? backends[i].id != want : least_of(backends[i].id) == NULL)
		i++;
	return i;
}

static size_t
chosen(void)
{
	return choose((enum chunker_backend)atomic_load_explicit(&forced, memory_order_relaxed));
}

const char *
chunker_backend(void)
{
	return backends[chosen()].name;
}

bool
chunker_force_backend(enum chunker_backend which)
{
	if (which != CHUNKER_AUTO && least_of(which) == NULL)
		return false;
	atomic_store_explicit(&forced, (int)which, memory_order_relaxed);
	return true;
}

enum rc
chunker_init(struct chunker *c, uint32_t target_bytes, struct err *err)
{
	*c = (struct chunker){.target = 0};
	if (target_bytes != 16384 && target_bytes != 32768 && target_bytes != 65536 &&
		target_bytes != 131072)
		return err_set(err, RC_INVALID, NULL,
			"chunk size must be 16384, 32768, 65536 or 131072 bytes, not %u",
			target_bytes);
	c->target = target_bytes;
	c->min = (target_bytes * 2 + 3 * 64 - 1) / (3 * 64) * 64;
	c->max = target_bytes * 4 / (3 * 64) * 64;
	c->k0 = CHUNKER_K0;
	c->k1 = CHUNKER_K1;
	c->least = least_of(backends[chosen()].id);
	return RC_OK;
}

/* The first of the positions at, at + 1, ... whose H is h; there is one among the next BLOCK. left
 * counts the positions that may be read. */
static const uint8_t *
find(const struct chunker *c, const uint8_t *at, size_t left, uint32_t h)
{
	for (; left >= STEP && c->least(at, STEP, c->k0, c->k1) != h; left -= STEP)
		at += STEP;
	while (hash_at(at, c->k0, c->k1) != h)
		at++;
	return at;
}

/* The first of the n positions from at on with the least H, n not 0. Only a strictly smaller value
 * replaces an earlier one. */
static const uint8_t *
first_least(const struct chunker *c, const uint8_t *at, size_t n)
{
	const uint8_t *end = at + n;
	const uint8_t *best_at = at;
	uint32_t best = hash_at(at, c->k0, c->k1);

	for (size_t run; (run = (size_t)(end - at)) >= STEP; at += run) {
		run = run > BLOCK ? BLOCK : run - run % STEP;
		uint32_t h = c->least(at, run, c->k0, c->k1);
		if (h < best) {
			best = h;
			best_at = at;
		}
	}
	for (; at < end; at++) {
		uint32_t h = hash_at(at, c->k0, c->k1);
		if (h < best) {
			best = h;
			best_at = at;
		}
	}
	return find(c, best_at, (size_t)(end - best_at), best);
}

size_t
chunker_cut(const struct chunker *c, const uint8_t *p, size_t n)
{
	if (n <= c->min)
		return n;
	size_t last = n < c->max ? n : c->max;
	return (size_t)(first_least(c, p + c->min, last - c->min + 1) - p);
}
