/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_AHEAD_H
#define DG_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "known.h"
#include "sha256.h"

/* ahead: what an upload that repeats an old one will ask for next, learnt before it asks.
 *
 * Chunks lie in packs in the order in which they were first sent. When some that the database had
 * to be asked for lie in one pack, a thread reads the rows that follow there, into the known chunks
 * (known.c), and goes on into the next packs of the repository; some of them are edges, and when an
 * upload reaches one, the next stretch is read, twice as long. So an upload that goes through old
 * data finds it known, for a tenth of the price of asking, and does not wait.
 * Only rows are evidence: each was live in a statement that began in the epoch under which it is
 * learnt. A wrong guess costs the reading, and too many of them make it harder to begin.
 * Threads: any; nothing here blocks but opening and closing. */

#define AHEAD_QUEUE_MAX 256u /* events that wait; more are dropped, they are hints */
/* Hits in one pack that make it likely that an upload goes through it. */
#define AHEAD_HITS 4u
/* Rows of a stretch, first and at most: 256 take half a millisecond and are 16 MiB of an upload's
 * way; 4096 are a hundredth of what the cache holds. */
#define AHEAD_ROWS_MIN 256u
#define AHEAD_ROWS_MAX 4096u

struct ahead;
struct chunk_place;
struct db;

/* db and known are borrowed until ahead_close. RC_NOMEM, or the thread cannot be started. */
enum rc ahead_open(struct db *db, struct known *known, struct ahead **out, struct err *err);
/* Nobody may be telling it anything. NULL is allowed. */
void ahead_close(struct ahead *a);

/* To be read before the database is asked, and told with what it answered. */
uint64_t ahead_now(const struct ahead *a);
/* The database was asked for chunks and has so many in this pack, the last one there. */
void ahead_seen(struct ahead *a, uint64_t now, uint64_t repo_id, const struct chunk_place *last,
	unsigned hits);
/* Somebody was told KNOWN_EDGE for it. */
void ahead_edge(struct ahead *a, uint64_t repo_id, const struct sha256 *hash);

/* Nothing that it was told is left to be done. */
bool ahead_is_idle(struct ahead *a);
/* Rows learnt so far. */
uint64_t ahead_rows(const struct ahead *a);

#endif
