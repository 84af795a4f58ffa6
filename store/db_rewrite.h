/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_REWRITE_H
#define DG_DB_REWRITE_H

#include <stddef.h>
#include <stdint.h>

#include "db_pack.h"
#include "err.h"
#include "sha256.h"

/* db_rewrite: chunks move from packs to other packs, all at once or not at all.
 *
 * The new packs are in state PACK_REWRITING until the transaction that moves the chunk rows, and no
 * row names them before: a pack found in that state without a process that writes it is rubbish. */

/* A row that is to move. */
struct chunk_move {
	struct sha256 hash;
	uint64_t from_pack; /* it moves only if it is live and still there */
	uint64_t from_offset;
	uint64_t pack_id;
	uint64_t frame_offset;
	uint64_t frame_bytes;
	uint64_t raw_offset;
	uint64_t length;
};

/* A new pack: sealed and durable. */
struct rewritten_pack {
	uint64_t id;
	uint64_t bytes;
	uint64_t raw_bytes;
	uint64_t bytes_before; /* its share of the packs that go */
};

struct db_rewrite {
	uint64_t repo_id;
	const uint64_t *sources; /* packs that retire */
	size_t source_count;
	const struct rewritten_pack *targets; /* may be none: nothing in the sources is alive */
	size_t target_count;
	const struct chunk_move *moves; /* by hash, no two of one hash */
	size_t move_count;
	const struct chunk_move *bad; /* did not verify; only where they are counts */
	size_t bad_count;
	enum pack_squeeze squeeze; /* of the new packs; PACK_RECOMPRESSED is added to the totals */
	uint64_t frames;           /* for the totals */
	uint64_t cpu_us;
	/* result */
	uint64_t moved; /* rows; the others had moved, were bad or gone */
};

/* One transaction: every source is sealed or closed still, the repository is not dropped; the
 * targets become sealed, rows move, rows of bad chunks that have not moved are marked, the sources
 * retire, the totals are added to. Rows are locked in the order every writer of chunk rows keeps,
 * and moved by a second statement, so that what it sees is what it locked.
 * RC_CONFLICT kind "pack-conflict": somebody else has retired or removed a source, or a target is
 * not being rewritten. RC_NOT_FOUND kind "repo-not-found". Others as db.h; after
 * RC_UNAVAILABLE "commit-unknown" db_rewrite_discard finds out. */
enum rc db_rewrite_commit(struct db *db, struct db_rewrite *w, struct err *err);

/* Takes a pack's file away; a file that is not there is RC_OK. */
typedef enum rc db_pack_remove_fn(void *arg, uint64_t pack_id, struct err *err);

/* Forget a new pack that was not committed: with its row locked, remove is called, then the row
 * goes. Does nothing if the pack is in another state or has no row: then it was committed, or
 * forgotten before. A crash after remove leaves the row, for the next call. */
enum rc db_rewrite_discard(
	struct db *db, uint64_t id, db_pack_remove_fn *remove, void *arg, struct err *err);
/* The same, but the file stays and the pack retires: for one that may hold what nothing else holds.
 */
enum rc db_rewrite_retire(struct db *db, uint64_t id, uint64_t bytes, struct err *err);

#endif
