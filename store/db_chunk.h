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

/* found[i] = a live row of hashes[i] exists. Runs on its own. */
enum rc db_chunk_known(struct db *db, uint64_t repo_id, const struct sha256 *const *hashes,
	size_t count, bool *found, struct err *err);

/* Fill rows[i] for hashes[i]; rows[i].length is 0 where there is no live row (found counts the
 * others). Equal hashes may be repeated. */
enum rc db_chunk_locate(struct db *db, uint64_t repo_id, const struct sha256 *hashes, size_t count,
	struct chunk_row *rows, size_t *found, struct err *err);

/* The chunk at that place did not verify: every chunk of its frame is marked, because a frame is
 * read and expanded as one. A row that has moved since is left alone. Reads the whole table; such a
 * thing is rare. */
enum rc db_chunk_mark_bad(struct db *db, const struct chunk_row *row, struct err *err);

/* Up to limit (repo_id, hash) after the given one, in order, into out; *count says how many. */
struct chunk_key {
	uint64_t repo_id;
	struct sha256 hash;
};
enum rc db_chunk_keys(struct db *db, const struct chunk_key *after, size_t limit,
	struct chunk_key *out, size_t *count, struct err *err);
/* ends[i] = where the last frame ends that a chunk row (live or bad) names in pack_ids[i]; 0 if no
 * row names the pack. Reads the whole table, as there is no index by pack: once for all packs. */
enum rc db_chunk_pack_ends(
	struct db *db, const uint64_t *pack_ids, size_t count, uint64_t *ends, struct err *err);
/* Estimated number of chunk rows (planner's statistics), for sizing. */
enum rc db_chunk_estimate(struct db *db, uint64_t *count, struct err *err);

#endif
