/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_FILTER_H
#define DG_DB_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "sha256.h"

/* db_filter: what a filter of known chunks must know of table chunk: how many there are, all of
 * their keys, and whether somebody has added any since it was saved. Errors as db.h. */

#define DB_FILTER_ID_BYTES 16
#define DB_FILTER_PAGE     20000u /* keys handed over at once: about a megabyte */

struct db;
struct db_tx;

struct chunk_key {
	uint64_t repo_id;
	struct sha256 hash;
};

/* Say that the caller is going to add chunk rows, under an id that was never used before; before =
 * the id that stood there. Once it has returned, whoever compares ids knows that the table may hold
 * keys that were not there under the id before. Call it before the first row is added. A failure
 * may leave either id in the database. */
enum rc db_filter_begin(struct db *db, const uint8_t id[DB_FILTER_ID_BYTES],
	uint8_t before[DB_FILTER_ID_BYTES], struct err *err);
/* The same inside a transaction, for one who adds rows once and keeps no filter. */
enum rc db_filter_change(struct db_tx *tx, struct err *err);

/* About how many rows there are, rather too many. */
enum rc db_filter_estimate(struct db *db, uint64_t *rows, struct err *err);

/* All keys, in no order, in pages of up to DB_FILTER_PAGE: every row, live or bad, that is
 * committed when take is called first, and every row of a transaction that had begun to write chunk
 * rows before db_filter_keys was called, if that is committed at all: it waits for those, calling
 * take with no keys about every DB_FILTER_POLL_MS. take answers false to stop (RC_AGAIN). After a
 * failure some keys were handed over. One cursor on one snapshot, a sequential scan. */
#define DB_FILTER_POLL_MS 20u
typedef bool db_filter_take_fn(void *arg, const struct chunk_key *keys, size_t count);
enum rc db_filter_keys(struct db *db, db_filter_take_fn *take, void *arg, struct err *err);

#endif
