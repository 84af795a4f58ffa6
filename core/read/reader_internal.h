/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_READER_INTERNAL_H
#define DG_READER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "db_chunk.h"
#include "frame_cache.h"
#include "layout.h"
#include "pack_reader.h"
#include "proofs.h"
#include "reader.h"
#include "sha256.h"

/* reader_internal: what the files of the reader share. reader.c gives bytes out, reader_slices.c
 * says which slices of which chunks come next and where they are, reader_chunks.c gets the bytes of
 * one and checks them, reader_direct.c reads whole raw chunks to where they are wanted. */

struct codec;

/* Look-ups of one query: a small range must not pay for many, a long read not for many queries. */
#define BATCH_MIN    8
#define BATCH_GROWTH 4
#define BATCH_MAX    256

/* Chunks hashed at once: two use the CPU twice as well as one, and who reads on wants the rest of
 * the frame too. */
#define RUN_MIN 2
#define RUN_MAX 64

/* Slices a reader looks ahead. */
#define WINDOW_MAX 64

/* A smaller chunk of a raw frame is read with its neighbours, as a frame that is kept. */
#define DIRECT_BYTES_MIN ((size_t)16 << 10)

/* What a reader that must not wait expands: a fraction of a millisecond of its thread. */
#define NO_WAIT_FRAME_BYTES_MAX ((uint64_t)384 << 10)
#define NO_WAIT_RAW_BYTES_MAX   ((uint64_t)512 << 10)

#define PART_BYTES_MAX ((size_t)8 << 20)
#define FRAMES_HELD    2

/* Readers kept for the next request, with buffers up to this. */
#define IDLE_READERS_MAX   32
#define IDLE_BUF_BYTES_MAX ((size_t)512 << 10)

struct read_service {
	/* immutable */
	struct read_options options;
	struct frame_cache *frames;
	struct layout_cache *layouts;
	struct proofs *proofs;
	struct knob knobs[READ_KNOBS];
	/* any thread */
	_Atomic uint64_t readers; /* ever opened */
	_Atomic uint64_t bytes_read;
	_Atomic uint64_t bytes_direct;
	_Atomic uint64_t chunks_verified;
	_Atomic uint64_t chunks_proven;
	_Atomic uint64_t chunks_bad;
	_Atomic uint64_t waits;
	/* guarded by mtx */
	pthread_mutex_t mtx;
	struct reader *idle;
	unsigned idle_count;
};

struct located {
	struct layout_slice slice;
	struct layout_place place;
};

/* What a query needs. */
struct look_up {
	struct sha256 hashes[BATCH_MAX];
	struct chunk_row rows[BATCH_MAX];
	uint32_t indexes[BATCH_MAX];
};

struct reader {
	struct read_service *rs;
	struct reader *next_idle;
	uint64_t repo_id;
	uint64_t number; /* tells readers apart in the cache */
	bool no_wait;
	struct codec *codec;     /* opened for the first compressed frame */
	struct buf stored;       /* a frame as it is in its pack */
	struct buf chunk;        /* a chunk of a raw frame */
	struct look_up *look_up; /* allocated for the first query */

	/* the content */
	struct layout_key key;
	bool exact; /* the recipe ends where the content does */
	uint64_t recipe_id;
	bool recipe_known;
	uint64_t size;
	uint64_t offset; /* of the next byte to give out */

	/* slices ahead */
	struct layout_part *part; /* the window's slices are in it; NULL: an expected chunk's */
	bool sought;              /* walked is where a seek went, not where a slice ended */
	uint64_t walked;          /* where the first slice behind the window begins */
	struct located window[WINDOW_MAX];
	size_t count;
	size_t next;
	size_t batch_want;

	/* places of single chunks that are wanted next, in this order */
	struct chunk_row *expected; /* READER_EXPECT_MAX, once there were any */
	size_t expected_count;
	size_t expected_next;

	/* frames; at is inside the first one, or in chunk */
	struct frame *frames[FRAMES_HELD]; /* the last one used first */
	uint32_t run_want;
	const uint8_t *at;    /* bytes of window[next], verified; NULL: not looked at yet */
	uint64_t direct_from; /* no direct read before this byte: it was tried */

	/* reading ahead */
	struct pack_wait wait;
	bool is_cold;           /* the disk was waited for */
	uint64_t advised_until; /* frames of slices before this were asked for */

	struct err failed; /* what every call answers until the next seek */
};

/* RC_CORRUPT kind "corrupt-data": whatever is wrong with stored data, the client hears only where.
 */
enum rc reader_corrupt(const struct reader *r, const char *detail, struct err *err);
/* RC_AGAIN: this reader must not wait for the database or the disk. */
enum rc reader_would_wait(struct err *err);

/* Fill the window with the slices from offset on and their places, as far as they are known; no
 * slice at all is for the caller to judge. */
enum rc reader_refill(struct reader *r, struct err *err);
/* Forget window and part: the next refill begins anew. */
void reader_forget_slices(struct reader *r);
/* The part that the window's i-th slice is in learns what its place says now; nothing for a chunk
 * that was expected. */
void reader_learn_row(struct reader *r, size_t i, const struct chunk_row *row);
void reader_learn_shape(struct reader *r, size_t i);

/* Bytes of the slice at window[next], checked, at r->at. */
enum rc reader_fetch(struct reader *r, struct err *err);
/* The frame of the place, if it is at hand: the reader's own or in the cache. */
struct frame *reader_frame_at_hand(struct reader *r, const struct layout_place *place);
/* Hold no frame any more. */
void reader_let_go(struct reader *r);

/* reader_direct.c */

/* Is the chunk in a raw frame, and large enough to be read by itself? Asks the pack how the frame
 * is stored if that is not known. *is_direct is false too where only a look at the whole frame can
 * tell what is wrong. RC_AGAIN, RC_IO, RC_NOMEM. */
enum rc reader_may_read_direct(struct reader *r, size_t i, bool *is_direct, struct err *err);
/* Read count chunks from window[first] on, whole and side by side in a raw frame, to out, and check
 * them: *good is how many of them, from the first on, are right. RC_OK also if none is; RC_AGAIN,
 * RC_IO, RC_NOMEM. */
enum rc reader_read_chunks(
	struct reader *r, size_t first, size_t count, uint8_t *out, size_t *good, struct err *err);
/* Read as many of the next slices as can be read to out as they are; *got is 0 if none can. */
enum rc reader_read_direct(
	struct reader *r, uint8_t *out, size_t max, size_t *got, struct err *err);
/* After a read that waited for the disk: ask for what comes next. */
void reader_read_ahead(struct reader *r);

/* Count what a check said. */
void reader_count(struct read_service *rs, const struct proofs_verdict *verdict);

#endif
