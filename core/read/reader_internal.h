/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_READER_INTERNAL_H
#define DG_READER_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "db_chunk.h"
#include "frame_cache.h"
#include "reader.h"
#include "recipe.h"

/* reader_internal: what the files of the reader share. reader.c gives bytes out, reader_slices.c
 * says which slices of which chunks come next and where they are, reader_chunks.c gets the bytes of
 * one and checks them. */

struct codec;

/* Look-ups of one query: a small range must not pay for many, a long read not for many queries. */
#define BATCH_MIN    4
#define BATCH_GROWTH 8
#define BATCH_MAX    256

/* Chunks hashed at once: two use the CPU twice as well as one, and who reads on wants the rest of
 * the frame too. */
#define RUN_MIN 2
#define RUN_MAX 64

#define PART_BYTES_MAX ((size_t)8 << 20)
#define FRAMES_HELD    2

struct read_service {
	/* immutable */
	struct read_options options;
	struct frame_cache *cache;
	/* any thread */
	_Atomic uint64_t readers; /* ever opened */
	_Atomic uint64_t bytes_read;
	_Atomic uint64_t chunks_verified;
	_Atomic uint64_t chunks_bad;
};

struct located {
	struct recipe_slice slice;
	struct chunk_row row;
};

struct reader {
	struct read_service *rs;
	uint64_t repo_id;
	uint64_t number;     /* tells readers apart in the cache */
	struct codec *codec; /* opened for the first compressed frame */
	struct buf stored;   /* a frame as it is in its pack */

	/* the content */
	enum content_kind kind;
	struct sha256 id;
	bool exact; /* the recipe ends where the content does */
	uint64_t recipe_id;
	uint64_t size;
	uint64_t offset; /* of the next byte to give out */

	/* slices ahead */
	struct buf part;
	struct recipe_part_reader slices;
	bool in_part;
	bool sought; /* walked is where a seek went, not where a part ended */
	uint64_t part_start;
	uint64_t walked; /* where the next slice begins */
	struct located batch[BATCH_MAX];
	struct sha256 hashes[BATCH_MAX];
	struct chunk_row rows[BATCH_MAX];
	size_t count;
	size_t next;
	size_t batch_want;
	uint64_t slice_start; /* of batch[next], in the content */

	/* places of single chunks that are wanted next, in this order */
	struct chunk_row *expected; /* READER_EXPECT_MAX, once there were any */
	size_t expected_count;
	size_t expected_next;

	/* frames; at is inside the first one */
	struct frame *frames[FRAMES_HELD]; /* the last one used first */
	uint32_t run_want;
	const uint8_t *at; /* bytes of batch[next], verified; NULL: not looked at yet */

	struct err failed; /* what every call answers until the next seek */
};

/* RC_CORRUPT kind "corrupt-data": whatever is wrong with stored data, the client hears only where.
 */
enum rc reader_corrupt(const struct reader *r, const char *detail, struct err *err);

/* Fill batch with the slices from offset on and their places, as many as are worth a query now; no
 * slice at all is for the caller to judge. */
enum rc reader_refill(struct reader *r, struct err *err);
/* Bytes of the slice at batch[next], checked, at r->at. */
enum rc reader_fetch(struct reader *r, struct err *err);
/* Hold no frame any more. */
void reader_let_go(struct reader *r);

#endif
