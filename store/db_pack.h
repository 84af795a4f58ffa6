/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_PACK_H
#define DG_DB_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* db_pack: rows of table pack. A pack id is given out once and never again. */

struct db;

enum pack_state {
	PACK_OPEN = 0,
	PACK_SEALED = 1,
	PACK_CLOSED = 2, /* without a footer: its process died */
};

/* A new pack of the repository. */
enum rc db_pack_open(struct db *db, uint64_t repo_id, uint64_t *id, struct err *err);
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
/* Ids of all packs of a repository after a given id, in order, up to limit. */
enum rc db_pack_list(struct db *db, uint64_t repo_id, uint64_t after, uint64_t *ids, size_t limit,
	size_t *count, struct err *err);

#endif
