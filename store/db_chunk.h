/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_CHUNK_H
#define DG_DB_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "sha256.h"

/* db_chunk: rows of table chunk, where the bytes of a chunk are.
 * Functions with a struct db_tx need the caller's transaction; with a struct db they run their own.
 */

struct db;
struct db_tx;

struct chunk_row {
	uint64_t repo_id;
	struct sha256 hash;
	uint64_t pack_id;
	uint64_t frame_offset; /* in the pack */
	uint64_t frame_bytes;  /* the whole frame, header included */
	uint64_t raw_offset;   /* in the frame's raw bytes */
	uint64_t length;
};

/* Order by (repo_id, hash), the order every writer of chunk rows keeps. For qsort over pointers. */
int chunk_row_cmp(const void *a, const void *b);

/* Insert the rows (sorted by chunk_row_cmp, no two equal). A live row that is there already stays
 * as it is; a bad one gets the new place and is live again. */
enum rc db_chunk_upsert(
	struct db_tx *tx, const struct chunk_row *const *rows, size_t count, struct err *err);

struct chunk_place {
	uint64_t pack_id; /* 0: none */
	uint64_t frame_offset;
};
/* places[i] = where the live row of hashes[i] says that it is, pack_id 0 if there is none. Runs on
 * its own, and costs an index look-up a hash whatever the statistics say. */
enum rc db_chunk_known(struct db *db, uint64_t repo_id, const struct sha256 *const *hashes,
	size_t count, struct chunk_place *places, struct err *err);

struct chunk_in_pack {
	uint64_t repo_id;
	struct sha256 hash;
	uint64_t frame_offset;
};
/* Live rows of chunks in a pack, in the order of its frames from frame_offset `from` on: limit of
 * them, and then the rest of the last one's frame. *out is malloc'ed, the caller's. All of them
 * were live at one moment after the call began. A tenth of the price of looking the same chunks up
 * by their hashes. */
enum rc db_chunk_in_pack(struct db *db, uint64_t pack_id, uint64_t from, size_t limit,
	struct chunk_in_pack **out, size_t *count, struct err *err);

/* Fill rows[i] for hashes[i]; rows[i].length is 0 where there is no live row (found counts the
 * others). Equal hashes may be repeated. */
enum rc db_chunk_locate(struct db *db, uint64_t repo_id, const struct sha256 *hashes, size_t count,
	struct chunk_row *rows, size_t *found, struct err *err);

/* The chunk at that place did not verify: every chunk of its frame is marked, because a frame is
 * read and expanded as one. A row that has moved since is left alone. */
enum rc db_chunk_mark_bad(struct db *db, const struct chunk_row *row, struct err *err);

/* ends[i] = where the last frame ends that a chunk row (live or bad) names in pack_ids[i]; 0 if no
 * row names the pack. Reads the rows of those packs. */
enum rc db_chunk_pack_ends(
	struct db *db, const uint64_t *pack_ids, size_t count, uint64_t *ends, struct err *err);
/* Is there any row at all? */
enum rc db_chunk_any(struct db *db, bool *any, struct err *err);

#endif
