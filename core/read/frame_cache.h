/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_FRAME_CACHE_H
#define DG_FRAME_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "knob.h"
#include "pack_format.h"
#include "proofs.h"

/* frame_cache: raw bytes of frames in memory, and which of their chunks have been verified.
 *
 * Two levels, one limit. A frame comes in on probation (warm) and goes first; asked for again by
 * another reader than the one that brought it, it is promoted to the protected level (hot), which
 * takes up to a share of the limit and gives its oldest back to probation. So one who reads much,
 * once, pushes out what others read once, and never what is read again and again. A frame is named
 * by its place in a pack, where nothing else is ever written. Threads: any. The lock is held for
 * list work only. Frames are counted references; their bytes and tables are immutable, the marks of
 * verified chunks are atomic. */

struct frame_cache;

struct frame {
	/* immutable */
	uint64_t pack_id;
	uint64_t offset;
	const uint8_t *raw;
	uint32_t raw_bytes;
	uint32_t chunk_count;

	/* frame_cache.c's own */
	struct frame_shared *shared;
};

/* Make a frame of what was read: view's table and raw, its raw bytes, lie in memory (malloc'ed,
 * memory_bytes of it), which is handed over, also on failure. The caller has one reference.
 * RC_NOMEM. */
enum rc frame_new(const struct pack_frame_view *view, const uint8_t *table, const uint8_t *raw,
	uint8_t *memory, size_t memory_bytes, struct frame **out, struct err *err);
/* NULL is allowed. */
void frame_unref(struct frame *f);

/* The chunk of this hash, at raw_offset and length bytes long; false if there is none such. */
bool frame_find(const struct frame *f, const struct sha256 *hash, uint64_t raw_offset,
	uint64_t length, uint32_t *index);
/* Check those of the chunks first to first + count - 1 that were not verified, and mark those that
 * are right. *verdict is added to. */
void frame_verify(struct frame *f, uint32_t first, uint32_t count, struct proofs *proofs,
	struct proofs_verdict *verdict);
bool frame_is_verified(const struct frame *f, uint32_t index);

/* bytes_max counts frames and what keeps them; 0 keeps nothing. hot: the share of the protected
 * level, in percent; looked at all the time, borrowed until frame_cache_free. RC_NOMEM. */
enum rc frame_cache_open(
	size_t bytes_max, const struct knob *hot, struct frame_cache **out, struct err *err);
/* NULL is allowed. Frames still referenced live on. */
void frame_cache_free(struct frame_cache *c);

/* The frame, with a reference for the caller, or NULL. reader tells readers apart. */
struct frame *frame_cache_take(
	struct frame_cache *c, uint64_t pack_id, uint64_t offset, uint64_t reader);
/* Keep a frame that had to be read: counts as a miss. The caller's reference stays its own. The
 * frame is not kept if it is there already or too large. */
void frame_cache_keep(struct frame_cache *c, struct frame *f, uint64_t reader);
/* Forget a frame that is bad. */
void frame_cache_drop(struct frame_cache *c, uint64_t pack_id, uint64_t offset);

struct frame_cache_stats {
	uint64_t hits, misses;
	size_t bytes, hot_bytes, bytes_max;
};
void frame_cache_stats(struct frame_cache *c, struct frame_cache_stats *out);

#endif
