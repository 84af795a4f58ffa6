/* SPDX-License-Identifier: Apache-2.0 */
#include "sha256_kernel.h"

#include <string.h>

/* The SHA-NI kernels keep a state as two vectors, {a,b,e,f} and {c,d,g,h}, as the instructions
 * want it, and the last sixteen schedule words as four. Each instruction of one message depends on
 * the one before and takes several cycles; a second, independent message fills the gaps. Two use
 * 14 of the 16 registers; three and four were measured and are no faster. */

/* clang-format off */
static const uint32_t round_keys[64] __attribute__((aligned(16))) = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
/* clang-format on */

static uint32_t
rotr(uint32_t x, unsigned n)
{
	return x >> n | x << (32 - n);
}

static uint32_t
load_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static void
expand_schedule(uint32_t w[64], const uint8_t *p)
{
	for (size_t i = 0; i < 16; i++)
		w[i] = load_be32(p + 4 * i);
	for (size_t i = 16; i < 64; i++) {
		uint32_t s0 = rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
		uint32_t s1 = rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
}

/* Round i; s[0..7] are a..h turned by i places, so that none has to be moved. */
static inline void
round_portable(uint32_t s[8], const uint32_t w[64], size_t i)
{
	uint32_t a = s[-i & 7], b = s[(1 - i) & 7], c = s[(2 - i) & 7];
	uint32_t e = s[(4 - i) & 7], f = s[(5 - i) & 7], g = s[(6 - i) & 7];
	uint32_t e1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
	uint32_t t1 = s[(7 - i) & 7] + e1 + (g ^ (e & (f ^ g))) + round_keys[i] + w[i];
	uint32_t e0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);

	s[(3 - i) & 7] += t1;
	s[(7 - i) & 7] = t1 + e0 + ((a & b) ^ (c & (a ^ b)));
}

static void
block_portable(uint32_t h[8], const uint8_t *p)
{
	uint32_t w[64];
	uint32_t s[8];

	expand_schedule(w, p);
	memcpy(s, h, sizeof s);
	for (size_t i = 0; i < 64; i += 8) {
		round_portable(s, w, i);
		round_portable(s, w, i + 1);
		round_portable(s, w, i + 2);
		round_portable(s, w, i + 3);
		round_portable(s, w, i + 4);
		round_portable(s, w, i + 5);
		round_portable(s, w, i + 6);
		round_portable(s, w, i + 7);
	}
	for (size_t i = 0; i < 8; i++)
		h[i] += s[i];
}

void
sha256_blocks_portable(uint32_t h[8], const uint8_t *p, size_t blocks)
{
	for (; blocks > 0; blocks--, p += 64)
		block_portable(h, p);
}

#if defined(__x86_64__) || defined(__i386__)

#include <cpuid.h>
#include <immintrin.h>

#define SHANI        __attribute__((target("sha,sse4.1,ssse3")))
#define SHANI_INLINE static inline SHANI __attribute__((always_inline))

struct lane {
	__m128i abef;
	__m128i cdgh;
	__m128i w[4];
};

bool
sha256_has_shani(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA) != 0;
}

SHANI_INLINE void
lane_load(struct lane *l, const uint32_t h[8])
{
	l->abef = _mm_set_epi32((int)h[0], (int)h[1], (int)h[4], (int)h[5]);
	l->cdgh = _mm_set_epi32((int)h[2], (int)h[3], (int)h[6], (int)h[7]);
}

SHANI_INLINE void
lane_store(const struct lane *l, uint32_t h[8])
{
	uint32_t feba[4];
	uint32_t hgdc[4];

	_mm_storeu_si128((__m128i *)feba, l->abef);
	_mm_storeu_si128((__m128i *)hgdc, l->cdgh);
	h[0] = feba[3];
	h[1] = feba[2];
	h[2] = hgdc[3];
	h[3] = hgdc[2];
	h[4] = feba[1];
	h[5] = feba[0];
	h[6] = hgdc[1];
	h[7] = hgdc[0];
}

SHANI_INLINE void
load_block(struct lane *l, const uint8_t *p)
{
	const __m128i swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);

	const __m128i *v = (const __m128i *)p;

	l->w[0] = _mm_shuffle_epi8(_mm_loadu_si128(v), swap);
	l->w[1] = _mm_shuffle_epi8(_mm_loadu_si128(v + 1), swap);
	l->w[2] = _mm_shuffle_epi8(_mm_loadu_si128(v + 2), swap);
	l->w[3] = _mm_shuffle_epi8(_mm_loadu_si128(v + 3), swap);
}

/* Four rounds with the schedule words w[i]. Each rnds2 does two and returns the new {a,b,e,f};
 * the old one is the new {c,d,g,h}, so after two of them the names are right again. */
SHANI_INLINE void
rounds(struct lane *l, const uint32_t *keys, int i)
{
	__m128i wk = _mm_add_epi32(l->w[i], _mm_load_si128((const __m128i *)(keys + 4 * i)));

	l->cdgh = _mm_sha256rnds2_epu32(l->cdgh, l->abef, wk);
	l->abef = _mm_sha256rnds2_epu32(l->abef, l->cdgh, _mm_shuffle_epi32(wk, 0x0e));
}

/* Replace w[i] by the four schedule words sixteen further on. */
SHANI_INLINE void
advance(struct lane *l, int i)
{
	__m128i newest = l->w[(i + 3) & 3];
	__m128i seven_back = _mm_alignr_epi8(newest, l->w[(i + 2) & 3], 4);
	__m128i part = _mm_add_epi32(_mm_sha256msg1_epu32(l->w[i], l->w[(i + 1) & 3]), seven_back);

	l->w[i] = _mm_sha256msg2_epu32(part, newest);
}

/* gcc 12 would move the schedule of one message far ahead and run out of registers (2.7 instead of
 * 3.4 GB/s), so it is told that everything changes here. */
SHANI_INLINE void
pin(struct lane *l)
{
	__asm__(""
		: "+x"(l->w[0]), "+x"(l->w[1]), "+x"(l->w[2]), "+x"(l->w[3]), "+x"(l->abef),
		"+x"(l->cdgh));
}

SHANI_INLINE void
step(struct lane *l, const uint32_t *keys, int i)
{
	rounds(l, keys, i);
	advance(l, i);
	pin(l);
}

SHANI_INLINE void
add_state(struct lane *l, const struct lane *before)
{
	l->abef = _mm_add_epi32(l->abef, before->abef);
	l->cdgh = _mm_add_epi32(l->cdgh, before->cdgh);
}

SHANI void
sha256_blocks_shani(uint32_t h[8], const uint8_t *p, size_t blocks)
{
	struct lane l;

	lane_load(&l, h);
	for (; blocks > 0; blocks--, p += 64) {
		struct lane before = l;
		load_block(&l, p);
		for (const uint32_t *k = round_keys; k < round_keys + 48; k += 16) {
			step(&l, k, 0);
			step(&l, k, 1);
			step(&l, k, 2);
			step(&l, k, 3);
		}
		rounds(&l, round_keys + 48, 0);
		rounds(&l, round_keys + 48, 1);
		rounds(&l, round_keys + 48, 2);
		rounds(&l, round_keys + 48, 3);
		add_state(&l, &before);
	}
	lane_store(&l, h);
}

SHANI_INLINE void
step_both(struct lane *a, struct lane *b, const uint32_t *keys, int i)
{
	step(a, keys, i);
	step(b, keys, i);
}

SHANI_INLINE void
rounds_both(struct lane *a, struct lane *b, const uint32_t *keys, int i)
{
	rounds(a, keys, i);
	rounds(b, keys, i);
}

SHANI void
sha256_blocks_shani_x2(
	uint32_t ha[8], const uint8_t *a, uint32_t hb[8], const uint8_t *b, size_t blocks)
{
	struct lane la;
	struct lane lb;

	lane_load(&la, ha);
	lane_load(&lb, hb);
	for (; blocks > 0; blocks--, a += 64, b += 64) {
		struct lane before_a = la;
		struct lane before_b = lb;
		load_block(&la, a);
		load_block(&lb, b);
		for (const uint32_t *k = round_keys; k < round_keys + 48; k += 16) {
			step_both(&la, &lb, k, 0);
			step_both(&la, &lb, k, 1);
			step_both(&la, &lb, k, 2);
			step_both(&la, &lb, k, 3);
		}
		rounds_both(&la, &lb, round_keys + 48, 0);
		rounds_both(&la, &lb, round_keys + 48, 1);
		rounds_both(&la, &lb, round_keys + 48, 2);
		rounds_both(&la, &lb, round_keys + 48, 3);
		add_state(&la, &before_a);
		add_state(&lb, &before_b);
	}
	lane_store(&la, ha);
	lane_store(&lb, hb);
}

#else /* no SHA-NI */

bool
sha256_has_shani(void)
{
	return false;
}

void
sha256_blocks_shani(uint32_t h[8], const uint8_t *p, size_t blocks)
{
	sha256_blocks_portable(h, p, blocks);
}

void
sha256_blocks_shani_x2(
	uint32_t ha[8], const uint8_t *a, uint32_t hb[8], const uint8_t *b, size_t blocks)
{
	sha256_blocks_portable(ha, a, blocks);
	sha256_blocks_portable(hb, b, blocks);
}

#endif
