/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CODEC_H
#define DG_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* codec: how bytes are squeezed before they go to disk.
 *
 * A zstd frame carries its content size and no checksum of its own: what stores it has one.
 * Threads: a struct codec belongs to one thread at a time; codec_bound and the probe to any.
 * Memory: about 0.7 MiB at level 3 with 256 KiB pieces, 18.5 MiB at level 19 with 1 MiB, taken when
 * first needed and kept. */

/* The values are on disk. */
enum codec_id {
	CODEC_RAW = 0,
	CODEC_ZSTD = 1,
};

struct codec;

/* *out is owned by the caller. RC_NOMEM. */
enum rc codec_open(struct codec **out, struct err *err);
/* The same, for high levels once in a while: what it takes for compressing is mapped, so that the
 * system has it back as soon as it is freed. The allocator would keep tens of megabytes. */
enum rc codec_open_mapped(struct codec **out, struct err *err);
/* NULL is allowed. */
void codec_free(struct codec *c);

/* Room that any piece of raw bytes fits in once compressed. codec_compress works with less. */
size_t codec_bound(size_t raw);

/* Compress with zstd at level (negative ones are the fast ones; out of range is brought into it)
 * and return the size. 0: it did not get smaller than src_len - src_len/32, or not into dst_cap, or
 * there was no memory; dst is then undefined and the piece is to be stored raw. Both buffers are
 * borrowed for the call. */
size_t codec_compress(struct codec *c, int level, const uint8_t *src, size_t src_len, uint8_t *dst,
	size_t dst_cap);

/* Bytes of one step: about 17 ms of level 19 on the machines of today, 50 ms at worst. */
#define CODEC_STEP_BYTES ((size_t)64 << 10)

/* A piece to be compressed in steps; everything is borrowed for the call. */
struct codec_steps {
	int level;
	const uint8_t *src;
	size_t src_len;
	uint8_t *dst;
	size_t dst_cap;
	/* Asked before each step of CODEC_STEP_BYTES, first with 0 bytes done: false ends the work.
	 */
	bool (*go_on)(void *arg);
	void *arg;
	bool stopped; /* result: go_on said no */
};

/* As codec_compress, for levels that take long; the result is larger by some bytes a step.
 * 0 with steps->stopped set: begin again whenever you like. */
size_t codec_compress_steps(struct codec *c, struct codec_steps *steps);

/* Expand one whole piece into exactly dst_len bytes. RC_CORRUPT: an unknown codec, not one frame of
 * exactly src_len bytes, or another size than dst_len; dst is then undefined, never overrun. */
enum rc codec_expand(struct codec *c, enum codec_id id, const uint8_t *src, size_t src_len,
	uint8_t *dst, size_t dst_len, struct err *err);

/* A guess in 4 us for 64 KiB: is compressing worth a try? false means that the bytes look random
 * (compressed, encrypted). Looks at byte frequencies of one in sixteen bytes: it does not see
 * repetition. Under 1 KiB always true. */
bool codec_probe_compressible(const uint8_t *data, size_t len);

#endif
