/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_PACK_H
#define DG_DB_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* db_pack: rows of table pack. A pack id is given out once and never again.
 *
 * States, and who moves a pack (uploads, rewrites: see db_rewrite.h and db_retired.h):
 *
 *   open ------> sealed ----> retired ----> (row and file gone)
 *     `--------> closed ----'
 *   rewriting -> sealed | (row and file gone)
 *
 * Only sealed, closed and open packs are named by live chunk rows; a retired one may be named by
 * bad ones, and then stays. What is in state rewriting belongs to the process that writes it, or to
 * recovery: nobody else removes its file or row. */

struct db;

/* The values are in the database. */
enum pack_state {
	PACK_OPEN = 0,
	PACK_SEALED = 1,
	PACK_CLOSED = 2,    /* without a footer: its process died */
	PACK_RETIRED = 3,   /* its live chunks were moved to other packs */
	PACK_REWRITING = 4, /* being filled by a rewrite; no row names it until that is committed */
};

/* What recompression has done to a pack; likewise. */
enum pack_squeeze {
	PACK_AS_UPLOADED = 0,
	PACK_RECOMPRESSED = 1,
	PACK_LEFT_ALONE = 2, /* it was looked at, and there is nothing to gain */
};

/* A new pack of the repository, in state PACK_OPEN or PACK_REWRITING. RC_NOT_FOUND kind
 * "repo-not-found": it was dropped; from then on it gets no more. */
enum rc db_pack_open(
	struct db *db, uint64_t repo_id, enum pack_state state, uint64_t *id, struct err *err);
/* To state PACK_SEALED or PACK_CLOSED: written no more from now on. */
enum rc db_pack_close(
	struct db *db, uint64_t id, enum pack_state state, uint64_t bytes, struct err *err);
/* Forget a pack that holds nothing. */
enum rc db_pack_delete(struct db *db, uint64_t id, struct err *err);
/* No id above this was ever given out; 2^63 is where the sequence would end. */
#define DB_PACK_ID_MAX (UINT64_C(1) << 62)

/* The last id that was given out, 0 if none was. */
enum rc db_pack_last_id(struct db *db, uint64_t *id, struct err *err);
/* Make sure that id (at most DB_PACK_ID_MAX) and all below it are never given out, after the
 * database was lost. Nobody may be opening packs meanwhile. */
enum rc db_pack_reserve_ids(struct db *db, uint64_t id, struct err *err);

/* Ids of packs in state PACK_OPEN, up to limit. */
enum rc db_pack_list_open(
	struct db *db, uint64_t *ids, size_t limit, size_t *count, struct err *err);
/* Ids of all packs of a repository after a given id, in order, up to limit; but for those in state
 * PACK_REWRITING. */
enum rc db_pack_list(struct db *db, uint64_t repo_id, uint64_t after, uint64_t *ids, size_t limit,
	size_t *count, struct err *err);
/* Ids of all packs in a state after a given id, likewise. */
enum rc db_pack_list_state(struct db *db, enum pack_state state, uint64_t after, uint64_t *ids,
	size_t limit, size_t *count, struct err *err);

#endif
