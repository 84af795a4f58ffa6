/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_REV_CACHE_H
#define DG_REV_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "sha256.h"

/* rev_cache: where revisions lead, in memory, so that reading a file needs no query for it.
 *
 * One process owns the repositories, so it sees every move of a ref: whoever moves one says so
 * before it answers, and a look-up that ran beside the move is not kept. After a COMMIT whose
 * answer was lost nobody knows when, or whether, the ref will move: it is not kept until the next
 * move that is known. Full commit ids lead to the same commit for ever. Prefixes of ids are not
 * kept: a new commit may make them ambiguous. Threads: any; the lock is held while one set of
 * entries is compared. */

struct rev_cache;

/* What a reader wants of a commit. */
struct rev_head {
	struct sha256 id;
	struct sha256 tree;
	int64_t created_us;
};

/* RC_NOMEM. */
enum rc rev_cache_open(struct rev_cache **out, struct err *err);
/* NULL is allowed. */
void rev_cache_free(struct rev_cache *c);

/* rev: a ref name or 64 hex digits. false: not known. */
bool rev_cache_find(struct rev_cache *c, uint64_t repo_id, const char *rev, struct rev_head *out);
/* Ask before the database is asked. */
uint64_t rev_cache_epoch(struct rev_cache *c);
/* The database said so; it was asked after rev_cache_epoch was epoch. Kept if no ref moved since.
 */
void rev_cache_keep(struct rev_cache *c, uint64_t repo_id, const char *rev,
	const struct rev_head *head, uint64_t epoch);
/* The ref was moved, made or deleted. */
void rev_cache_moved(struct rev_cache *c, uint64_t repo_id, const char *ref);
/* Perhaps it was, perhaps it will be: the answer to a COMMIT was lost. */
void rev_cache_doubt(struct rev_cache *c, uint64_t repo_id, const char *ref);

#endif
