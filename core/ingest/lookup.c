/* SPDX-License-Identifier: Apache-2.0 */
/* Is a chunk new? What this process has seen answers most (known.c), what the filter has never seen
 * is new (filter.c), and the rest of a batch is one question to the database. */
#include <stdlib.h>

#include "ingest_internal.h"

/* Ask the database for the chunks of a space that may be in it. On failure nothing is learnt. */
static enum rc
ask_database(struct worker *w, const struct ingest_space *space, struct block_chunk **ask,
	size_t count, struct err *err)
{
	const struct sha256 **hashes = malloc(count * sizeof *hashes);
	struct chunk_place *places = malloc(count * sizeof *places);
	uint64_t epoch = known_epoch(w->in->known);
	enum rc rc;

	if (hashes == NULL || places == NULL) {
		rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
		goto out;
	}
	for (size_t i = 0; i < count; i++)
		hashes[i] = &ask[i]->hash;
	rc = db_chunk_known(w->in->options.db, space->repo_id, hashes, count, places, err);
	atomic_fetch_add_explicit(&w->in->sql_lookups, count, memory_order_relaxed);
	for (size_t i = 0; rc == RC_OK && i < count; i++) {
		if (places[i].pack_id == 0)
			continue;
		ask[i]->fate = FATE_DURABLE;
		known_learn(w->in->known, space->repo_id, &ask[i]->hash, epoch);
		atomic_fetch_add_explicit(&w->in->sql_hits, 1, memory_order_relaxed);
	}
out:
	free(hashes);
	free(places);
	return rc;
}

static bool
is_surely_new(struct ingest *in, uint64_t repo_id, const struct sha256 *hash)
{
	if (!filter_excludes(in->filter, repo_id, hash))
		return false;
	atomic_fetch_add_explicit(&in->filter_negative, 1, memory_order_relaxed);
	return true;
}

static void
settle_fate(struct block_chunk *c, enum known_answer answer, uint64_t ticket)
{
	switch (answer) {
	case KNOWN_DURABLE:
		c->fate = FATE_DURABLE;
		break;
	case KNOWN_PENDING:
		c->fate = FATE_PENDING;
		c->ticket = ticket;
		break;
	case KNOWN_CLAIMED:
		c->fate = FATE_NEW;
		break;
	case KNOWN_NO:
		break;
	}
}

enum rc
lookup_blocks(struct worker *w, struct block *const *blocks, size_t count, uint64_t ticket,
	struct err *err)
{
	const struct ingest_space *space = blocks[0]->space;
	struct known *known = w->in->known;
	struct block_chunk **ask = NULL;
	size_t ask_count = 0, ask_cap = 0;
	enum rc rc = RC_OK;

	filter_enter(w->in->filter, w->number);
	for (size_t b = 0; rc == RC_OK && b < count; b++) {
		for (uint32_t i = 0; rc == RC_OK && i < blocks[b]->chunk_count; i++) {
			struct block_chunk *c = &blocks[b]->chunks[i];
			uint64_t claim = 0;
			settle_fate(c, known_peek(known, space->repo_id, &c->hash, &claim), claim);
			if (c->fate != FATE_UNKNOWN) {
				atomic_fetch_add_explicit(
					&w->in->known_hits, 1, memory_order_relaxed);
				continue;
			}
			if (is_surely_new(w->in, space->repo_id, &c->hash))
				continue;
			if (ask_count == ask_cap) {
				ask_cap = ask_cap == 0 ? 64 : ask_cap * 2;
				struct block_chunk **more = realloc(ask, ask_cap * sizeof *ask);
				if (more == NULL) {
					rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
					break;
				}
				ask = more;
			}
			ask[ask_count++] = c;
		}
	}
	filter_leave(w->in->filter, w->number);
	if (rc == RC_OK && ask_count > 0)
		rc = ask_database(w, space, ask, ask_count, err);
	for (size_t b = 0; rc == RC_OK && b < count; b++) {
		for (uint32_t i = 0; i < blocks[b]->chunk_count; i++) {
			struct block_chunk *c = &blocks[b]->chunks[i];
			uint64_t claim = 0;
			if (c->fate != FATE_UNKNOWN)
				continue;
			settle_fate(c, known_claim(known, space->repo_id, &c->hash, ticket, &claim),
				claim);
			if (c->fate == FATE_UNKNOWN) {
				rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
				break;
			}
		}
	}
	free(ask);
	return rc;
}
