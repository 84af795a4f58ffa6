/* SPDX-License-Identifier: Apache-2.0 */
#include "codec.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* For contexts with an allocator of ours: zstd promises that to static linking only, but shared
 * libraries have it too, and it has been the same since 1.3. */
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include "buf.h"

struct codec {
	ZSTD_CCtx *c;
	ZSTD_DCtx *d;
	int level; /* that c is set to */
};

/* In front of what zstd gets: how much to unmap. One cache line, to keep its alignment. */
#define MAP_HEAD_BYTES 64

static void *
map(void *opaque, size_t bytes)
{
	size_t all = bytes + MAP_HEAD_BYTES;
	uint8_t *p;

	(void)opaque;
	p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	memcpy(p, &all, sizeof all);
	return p + MAP_HEAD_BYTES;
}

static void
unmap(void *opaque, void *address)
{
	size_t all;

	(void)opaque;
	if (address == NULL)
		return;
	memcpy(&all, (uint8_t *)address - MAP_HEAD_BYTES, sizeof all);
	munmap((uint8_t *)address - MAP_HEAD_BYTES, all);
}

static enum rc
open_with(ZSTD_CCtx *cctx, struct codec **out, struct err *err)
{
	*out = NULL;
	struct codec *c = calloc(1, sizeof *c);
	if (c == NULL) {
		ZSTD_freeCCtx(cctx);
		return err_set(err, RC_NOMEM, NULL, "no memory for a codec");
	}
	c->c = cctx;
	c->d = ZSTD_createDCtx();
	c->level = ZSTD_CLEVEL_DEFAULT;
	if (c->c == NULL || c->d == NULL ||
		ZSTD_isError(ZSTD_CCtx_setParameter(c->c, ZSTD_c_contentSizeFlag, 1)) ||
		ZSTD_isError(ZSTD_CCtx_setParameter(c->c, ZSTD_c_checksumFlag, 0))) {
		codec_free(c);
		return err_set(err, RC_NOMEM, NULL, "no memory for a codec");
	}
	*out = c;
	return RC_OK;
}

enum rc
codec_open(struct codec **out, struct err *err)
{
	return open_with(ZSTD_createCCtx(), out, err);
}

enum rc
codec_open_mapped(struct codec **out, struct err *err)
{
	const ZSTD_customMem memory = {map, unmap, NULL};

	return open_with(ZSTD_createCCtx_advanced(memory), out, err);
}

void
codec_free(struct codec *c)
{
	if (c == NULL)
		return;
	ZSTD_freeCCtx(c->c);
	ZSTD_freeDCtx(c->d);
	free(c);
}

size_t
codec_bound(size_t raw)
{
	return ZSTD_compressBound(raw);
}

/* zstd stops when dst is full, so a destination hardly larger than an acceptable result also saves
 * the time of finishing a poor one. It wants a few bytes more than it uses. */
#define ROOM_TO_WORK 64

/* What a piece must get smaller than. */
static size_t
limit_of(size_t src_len)
{
	return src_len - src_len / 32;
}

static size_t
cap_of(size_t src_len, size_t dst_cap)
{
	size_t most = limit_of(src_len) + ROOM_TO_WORK;

	return dst_cap < most ? dst_cap : most;
}

static bool
set_level(struct codec *c, int level)
{
	if (level == c->level)
		return true;
	if (ZSTD_isError(ZSTD_CCtx_setParameter(c->c, ZSTD_c_compressionLevel, level)))
		return false;
	c->level = level;
	return true;
}

size_t
codec_compress(struct codec *c, int level, const uint8_t *src, size_t src_len, uint8_t *dst,
	size_t dst_cap)
{
	if (limit_of(src_len) < 2 || !set_level(c, level))
		return 0;
	size_t n = ZSTD_compress2(c->c, dst, cap_of(src_len, dst_cap), src, src_len);
	return ZSTD_isError(n) || n >= limit_of(src_len) ? 0 : n;
}

/* One step. Flushed, because zstd would gather two of them for a block and then work twice as long
 * without asking. *whole: the frame is complete. */
static bool
step(struct codec *c, struct codec_steps *s, size_t *taken, ZSTD_outBuffer *out, bool *whole)
{
	size_t n = s->src_len - *taken;
	bool last = n <= CODEC_STEP_BYTES;
	ZSTD_inBuffer in = {s->src + *taken, last ? n : CODEC_STEP_BYTES, 0};
	size_t left = 1;

	while (left > 0) {
		size_t moved = out->pos + in.pos;
		left = ZSTD_compressStream2(c->c, out, &in, last ? ZSTD_e_end : ZSTD_e_flush);
		/* no room: it did not get small enough */
		if (ZSTD_isError(left) || (left > 0 && out->pos + in.pos == moved))
			return false;
	}
	*taken += in.size;
	*whole = last;
	return true;
}

size_t
codec_compress_steps(struct codec *c, struct codec_steps *s)
{
	ZSTD_outBuffer out = {s->dst, cap_of(s->src_len, s->dst_cap), 0};
	bool whole = false;
	bool fits = true;
	size_t taken = 0;

	s->stopped = false;
	if (limit_of(s->src_len) < 2 || !set_level(c, s->level))
		return 0;
	/* told the size, zstd takes tables for it and writes it into the frame */
	if (ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(c->c, s->src_len)))
		return 0;
	while (fits && !whole && !s->stopped) {
		s->stopped = !s->go_on(s->arg);
		if (!s->stopped)
			fits = step(c, s, &taken, &out, &whole);
	}
	if (!whole)
		ZSTD_CCtx_reset(c->c, ZSTD_reset_session_only);
	return whole && out.pos < limit_of(s->src_len) ? out.pos : 0;
}

static enum rc
broken(struct err *err, const char *what, const char *why)
{
	err_set(err, RC_CORRUPT, NULL, "stored data is damaged");
	return err_detail(err, "%s: %s", what, why);
}

static enum rc
wrong_size(struct err *err, const char *what, size_t found, size_t expected)
{
	err_set(err, RC_CORRUPT, NULL, "stored data is damaged");
	return err_detail(err, "%s: %zu bytes instead of %zu", what, found, expected);
}

static enum rc
expand_raw(const uint8_t *src, size_t src_len, uint8_t *dst, size_t dst_len, struct err *err)
{
	if (src_len != dst_len)
		return wrong_size(err, "raw piece", src_len, dst_len);
	if (dst_len > 0)
		memcpy(dst, src, dst_len);
	return RC_OK;
}

static enum rc
expand_zstd(struct codec *c, const uint8_t *src, size_t src_len, uint8_t *dst, size_t dst_len,
	struct err *err)
{
	/* zstd itself would also take skippable frames, and several frames in a row */
	if (src_len < 4 || get_u32(src) != ZSTD_MAGICNUMBER)
		return broken(err, "zstd frame", "no magic number");
	size_t frame = ZSTD_findFrameCompressedSize(src, src_len);
	if (ZSTD_isError(frame))
		return broken(err, "zstd frame", ZSTD_getErrorName(frame));
	if (frame != src_len)
		return wrong_size(err, "zstd frame", frame, src_len);
	size_t n = ZSTD_decompressDCtx(c->d, dst, dst_len, src, src_len);
	if (ZSTD_isError(n))
		return broken(err, "zstd content", ZSTD_getErrorName(n));
	if (n != dst_len)
		return wrong_size(err, "zstd content", n, dst_len);
	return RC_OK;
}

enum rc
codec_expand(struct codec *c, enum codec_id id, const uint8_t *src, size_t src_len, uint8_t *dst,
	size_t dst_len, struct err *err)
{
	switch (id) {
	case CODEC_RAW:
		return expand_raw(src, src_len, dst, dst_len, err);
	case CODEC_ZSTD:
		return expand_zstd(c, src, src_len, dst, dst_len, err);
	}
	err_set(err, RC_CORRUPT, NULL, "stored data is damaged");
	return err_detail(err, "unknown codec %u", (unsigned)id);
}

#define PROBE_BYTES_MIN 1024
#define PROBE_STRIDE    256
#define PROBE_TAKE      16

/* Count the sampled bytes by value; returns how many there are. The place of the sample moves from
 * stride to stride, so that records of 256 bytes with a random field do not fool it; four tables,
 * because counting equal bytes one after the other in one table waits for the last store. */
static uint64_t
sample(const uint8_t *data, size_t len, uint32_t counts[4][256])
{
	uint64_t taken = 0;

	for (size_t at = 0, turn = 0; len - at >= PROBE_STRIDE; at += PROBE_STRIDE, turn += 7) {
		const uint8_t *p = data + at + turn % (PROBE_STRIDE / PROBE_TAKE) * PROBE_TAKE;
		for (size_t i = 0; i < PROBE_TAKE; i += 4) {
			counts[0][p[i]]++;
			counts[1][p[i + 1]]++;
			counts[2][p[i + 2]]++;
			counts[3][p[i + 3]]++;
		}
		taken += PROBE_TAKE;
	}
	return taken;
}

/* Among s uniform random bytes, s(s-1)/256 ordered pairs are equal on average, with a standard
 * deviation of 22.6/s of that. Compressible data has at least 1/16 more; the second term keeps the
 * noise of short samples out (1.6 deviations at 1 KiB, 12 at 64 KiB). At 64 KiB that is a sum of
 * squared counts of 290 where a flat distribution has 256 and random bytes 272. */
bool
codec_probe_compressible(const uint8_t *data, size_t len)
{
	uint32_t counts[4][256];
	uint64_t pairs = 0;

	if (len < PROBE_BYTES_MIN)
		return true;
	memset(counts, 0, sizeof counts);
	uint64_t s = sample(data, len, counts);
	for (size_t i = 0; i < 256; i++) {
		uint64_t n = (uint64_t)counts[0][i] + counts[1][i] + counts[2][i] + counts[3][i];
		pairs += n * n - n;
	}
	return pairs > (s * (s - 1) / 16 * 17 + 32 * s) / 256;
}
