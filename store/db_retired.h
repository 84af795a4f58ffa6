/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_RETIRED_H
#define DG_DB_RETIRED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "db_rewrite.h"
#include "err.h"
#include "pack_format.h"

/* db_retired: packs whose chunks were moved to others, until file and row are gone.
 *
 * There is no index of chunks by pack: who asks about a pack brings the hashes that are in it. That
 * a retired pack is not named stays true: only packs that are being written get new names, and the
 * index is made anew with nobody else at work. */

struct db;

struct retired_pack {
	uint64_t id;
	uint64_t repo_id;
	uint64_t bytes;
};

/* Up to limit packs that were retired at least grace_us ago, the longest first; of repositories
 * that are not dropped: those are swept as a whole. */
enum rc db_retired_due(struct db *db, uint64_t grace_us, struct retired_pack *packs, size_t limit,
	size_t *count, struct err *err);

/* Hashes of one question. */
#define DB_RETIRED_BATCH 4096u

/* What rows of these chunks (at most DB_RETIRED_BATCH) say. */
struct retired_uses {
	bool is_named; /* a row, live or bad, names the pack */
	bool is_bad;   /* a row is bad: a copy in the pack might heal it */
	size_t other_count;
	uint64_t others[DB_RETIRED_BATCH]; /* other packs that live rows name, each once */
};
enum rc db_retired_uses(struct db *db, const struct retired_pack *pack,
	const struct pack_chunk *chunks, size_t count, struct retired_uses *out, struct err *err);

/* In one transaction: with the row of the pack locked, and unless a row of these chunks (any
 * number) names it, call remove, then delete the row. *removed: it is gone, or was before. A crash
 * after remove leaves the row. Others as db.h and remove. */
struct db_retired_removal {
	struct retired_pack pack;
	const struct pack_chunk *chunks;
	size_t chunk_count;
	db_pack_remove_fn *remove;
	void *arg;
	bool removed; /* result */
};
enum rc db_retired_remove(struct db *db, struct db_retired_removal *r, struct err *err);

/* It is needed still: it will be due again a grace from now. */
enum rc db_retired_keep(struct db *db, uint64_t id, struct err *err);

#endif
