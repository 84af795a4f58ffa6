/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_KNOWN_H
#define DG_KNOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "sha256.h"

/* known: what this process knows about chunks without asking the database.
 *
 * Two things in one place, because they must be asked together: chunks that a worker has claimed
 * and whose row is not committed yet (all of them, as many as there are), and chunks whose row is
 * committed (a cache of fixed size). "No" means only that the database must be asked.
 * Every entry compares the whole hash: a false yes would lose data.
 * Memory: 42 bytes a durable entry, all of it used; what was not asked for lately leaves first.
 * Threads: any; sharded locks, held for memory accesses only. */

enum known_answer {
	KNOWN_NO,      /* not here: may still be in the database */
	KNOWN_PENDING, /* claimed under a ticket that has not been settled */
	KNOWN_DURABLE, /* its row is committed */
	KNOWN_EDGE,    /* as KNOWN_DURABLE, and known_learn_ahead was told to say so, once */
	KNOWN_CLAIMED, /* known_claim only: it is yours to store now */
};

struct known;

/* cache_bytes: about how much memory the durable entries may take. */
enum rc known_open(size_t cache_bytes, struct known **out, struct err *err);
void known_free(struct known *k);

/* What is known. For KNOWN_PENDING *ticket is the claim's. */
enum known_answer known_peek(
	struct known *k, uint64_t repo_id, const struct sha256 *hash, uint64_t *ticket);
/* As known_peek, but where the answer would be KNOWN_NO claim it under my_ticket (KNOWN_CLAIMED, or
 * KNOWN_NO if there is no memory for the claim). */
enum known_answer known_claim(struct known *k, uint64_t repo_id, const struct sha256 *hash,
	uint64_t my_ticket, uint64_t *ticket);
/* End the claim of ticket, if it is still there: durable says whether the row is committed now. It
 * is not remembered as durable if something was forgotten since it was claimed. */
void known_settle(
	struct known *k, uint64_t repo_id, const struct sha256 *hash, uint64_t ticket, int durable);
/* Another number whenever something was forgotten. */
uint64_t known_epoch(struct known *k);
/* The database has it; it was asked when known_epoch was epoch. Does nothing if that is another
 * now: the answer may be older than what was forgotten. */
void known_learn(struct known *k, uint64_t repo_id, const struct sha256 *hash, uint64_t epoch);
/* As known_learn, of a chunk that nobody has asked for yet. edge: the first who does is told
 * KNOWN_EDGE. */
void known_learn_ahead(
	struct known *k, uint64_t repo_id, const struct sha256 *hash, uint64_t epoch, bool edge);
/* Chunks of known_learn_ahead that were asked for since. */
uint64_t known_ahead_hits(struct known *k);
/* Rows are gone or marked bad: forget every durable entry. */
void known_forget_all(struct known *k);
/* Claims that wait now. */
size_t known_pending(struct known *k);

#endif
