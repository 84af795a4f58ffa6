/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_REBUILD_H
#define DG_DB_REBUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "db_chunk.h"
#include "db_pack.h"
#include "err.h"

/* db_rebuild: tables chunk and pack made anew from what somebody finds in the packs, inside one
 * transaction of the caller's, which must be repeatable.
 *
 * db_rebuild_begin, then any number of the others, then db_rebuild_finish. What is found is
 * gathered in temporary tables (the role needs the privilege TEMPORARY, which everyone has by
 * default) and compared with the old rows at the end: only what differs is written, so a rebuild of
 * right tables writes next to nothing, and a row that stays keeps its touch. Other writers of the
 * two tables wait until the transaction ends; readers do not. */

struct db_tx;

/* Between two statements any time may pass: the transaction may be idle for as long as it takes to
 * read packs. */
enum rc db_rebuild_begin(struct db_tx *tx, struct err *err);

/* What the database knows about a pack: the repository of that uuid (NULL: do not ask), and the row
 * of the pack. */
struct db_rebuild_known {
	uint64_t repo_id; /* by uuid; 0: none has it */
	bool has_row;
	uint64_t row_repo_id;
	enum pack_state row_state;
};
enum rc db_rebuild_lookup(struct db_tx *tx, uint64_t pack_id, const uint8_t *uuid,
	struct db_rebuild_known *out, struct err *err);

/* Chunks that were found and verified, in the order they are preferred; the first one of a
 * (repo_id, hash) counts, later ones are counted in *duplicates (added to). */
enum rc db_rebuild_add_chunks(struct db_tx *tx, const struct chunk_row *rows, size_t count,
	uint64_t *duplicates, struct err *err);

/* Packs that were found. repo_id 0: there is such a file, its row is nobody's business here. */
struct db_rebuild_pack {
	uint64_t id; /* at most DB_PACK_ID_MAX */
	uint64_t repo_id;
	enum pack_state state;
	bool was_retired; /* and is again, unless a chunk that was found is taken from it */
	uint64_t bytes;
	int64_t created_us; /* for a row that is missing */
};
enum rc db_rebuild_add_packs(
	struct db_tx *tx, const struct db_rebuild_pack *rows, size_t count, struct err *err);

struct db_rebuild_counts {
	uint64_t chunks;       /* rows of table chunk now */
	uint64_t bytes;        /* sum of their lengths */
	uint64_t chunks_added; /* of them, there was no row before */
	uint64_t chunks_moved; /* of them, the row named another place or was bad */
	uint64_t chunks_gone;  /* rows that were there and are not any more */
	uint64_t packs_added;
	uint64_t packs_changed;
	uint64_t packs_gone; /* rows whose file was not found */
};
/* Put what was found in the place of what was there. */
enum rc db_rebuild_finish(struct db_tx *tx, struct db_rebuild_counts *out, struct err *err);

#endif
