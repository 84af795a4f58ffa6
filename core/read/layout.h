/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_LAYOUT_H
#define DG_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "content.h"
#include "db_chunk.h"
#include "err.h"

/* layout: of which slices of which chunks a content is made, and where those are, in memory.
 *
 * A part covers a run of a content: one part of its recipe, or the whole of a one-chunk content.
 * What a part says of slices never changes, because contents do not. Where a chunk is (its place)
 * is learnt when it is first wanted and may be out of date: packs are rewritten and damaged chunks
 * stored anew. So a place is a guess; whoever reads there compares the bytes with the chunk's hash
 * and, if they are not right, asks the database again.
 *
 * The cache keeps parts, the least recently used go first; contents are told apart by repository,
 * so what one has says nothing about another.
 * Threads: any. Slices are immutable; places are guarded by the cache's lock, which is held while a
 * few of them are copied. Parts are counted references. */

/* Where a chunk is, as far as is known. */
struct layout_place {
	uint64_t pack_id; /* 0: not known */
	uint32_t frame_offset;
	uint32_t frame_bytes;
	uint32_t raw_offset; /* in the frame's raw bytes */
	uint32_t chunk_bytes;
	uint32_t payload_at; /* from the start of the frame; 0: how it is stored is not known */
	uint32_t codec;      /* enum codec_id, if payload_at is known */
};

struct layout_slice {
	struct sha256 chunk;
	uint64_t start;  /* in the content */
	uint64_t offset; /* in the chunk */
	uint64_t length;
};

struct layout_cache;

struct layout_part {
	/* immutable */
	uint64_t start, end; /* in the content */
	uint32_t count;
	const struct layout_slice *slices;
	/* layout.c's own */
	struct part_shared *shared;
};

/* Names a content of a repository. */
struct layout_key {
	uint64_t repo_id;
	struct content content;
};

/* bytes_max counts parts and what keeps them; 0 keeps nothing. RC_NOMEM. */
enum rc layout_cache_open(size_t bytes_max, struct layout_cache **out, struct err *err);
/* NULL is allowed. No part may be referenced any more. */
void layout_cache_free(struct layout_cache *c);

/* The part that holds byte offset, with a reference for the caller, or NULL. */
struct layout_part *layout_find(
	struct layout_cache *c, const struct layout_key *key, uint64_t offset);
/* Make a part of slices (malloc'ed, count > 0 of them, side by side from start on; handed over,
 * also on failure) without known places. The caller has one reference. RC_NOMEM. */
enum rc layout_part_new(struct layout_cache *c, struct layout_slice *slices, uint32_t count,
	struct layout_part **out, struct err *err);
/* Keep a part in the cache under key; does nothing if such a part is there, or if it is too large.
 * The caller's reference stays its own. */
void layout_keep(struct layout_cache *c, const struct layout_key *key, struct layout_part *part);
/* NULL is allowed. */
void layout_part_unref(struct layout_part *part);

/* The slice that holds byte offset, which the part does. */
uint32_t layout_slice_at(const struct layout_part *part, uint64_t offset);
/* Copy the places of the slices from first on. */
void layout_places(
	const struct layout_part *part, uint32_t first, uint32_t count, struct layout_place *out);
/* A row says where the chunk of slice i is. A row whose numbers no pack can have is ignored. */
void layout_learn_row(struct layout_part *part, uint32_t i, const struct chunk_row *row);
/* How the frame is stored that the place of slice i names; also for the slices behind it in the
 * same frame. Does nothing if the place is another by now. */
void layout_learn_shape(struct layout_part *part, uint32_t i, const struct layout_place *place);

struct layout_stats {
	uint64_t hits, misses;
	size_t bytes, bytes_max;
};
void layout_stats(struct layout_cache *c, struct layout_stats *out);

/* The row's place, with payload_at 0; pack_id 0 if no pack can have such a place. */
void layout_place_of(const struct chunk_row *row, struct layout_place *out);

#endif
