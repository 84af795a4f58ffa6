/* SPDX-License-Identifier: Apache-2.0 */
/* Is a chunk new? What this process has seen answers most (known.c), what the filter has never seen
 * is new (filter.c), and the rest of a batch is one question to the database. */
#include <stdlib.h>

#include "ingest_internal.h"

#define PACKS_TOLD 8 /* of one question: an upload goes through few */

/* What was found where: somebody may learn what comes next there. */
static void
tell_places(struct worker *w, uint64_t now, uint64_t repo_id, const struct chunk_place *places,
	size_t count)
{
	struct chunk_place last[PACKS_TOLD];
	unsigned hits[PACKS_TOLD];
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		size_t k = 0;
		if (places[i].pack_id == 0)
			continue;
		while (k < n && last[k].pack_id != places[i].pack_id)
			k++;
		if (k == PACKS_TOLD)
			continue;
		hits[k] = k < n ? hits[k] + 1 : 1;
		last[k] = places[i];
		n = k < n ? n : n + 1;
	}
	for (size_t k = 0; k < n; k++)
		ahead_seen(w->in->ahead, now, repo_id, &last[k], hits[k]);
}

/* The chunks of a space that must be asked for. */
struct question {
	struct block_chunk **chunks;
	size_t count, cap;
};

static bool
add_chunk(struct question *q, struct block_chunk *c)
{
	if (q->count == q->cap) {
		size_t cap = q->cap == 0 ? 64 : q->cap * 2;
		struct block_chunk **more = realloc(q->chunks, cap * sizeof *more);
		if (more == NULL)
			return false;
		q->chunks = more;
		q->cap = cap;
	}
	q->chunks[q->count++] = c;
	return true;
}

/* On failure nothing is learnt. */
static enum rc
ask_database(struct worker *w, uint64_t repo_id, const struct question *q, struct err *err)
{
	const struct sha256 **hashes = malloc(q->count * sizeof *hashes);
	struct chunk_place *places = malloc(q->count * sizeof *places);
	uint64_t epoch = known_epoch(w->in->known), now = ahead_now(w->in->ahead), hits = 0;
	enum rc rc;

	if (hashes == NULL || places == NULL) {
		rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
		goto out;
	}
	for (size_t i = 0; i < q->count; i++)
		hashes[i] = &q->chunks[i]->hash;
	rc = db_chunk_known(w->in->options.db, repo_id, hashes, q->count, places, err);
	atomic_fetch_add_explicit(&w->in->sql_lookups, q->count, memory_order_relaxed);
	if (rc != RC_OK)
		goto out;
	for (size_t i = 0; i < q->count; i++) {
		if (places[i].pack_id == 0)
			continue;
		q->chunks[i]->fate = FATE_DURABLE;
		known_learn(w->in->known, repo_id, &q->chunks[i]->hash, epoch);
		hits++;
	}
	atomic_fetch_add_explicit(&w->in->sql_hits, hits, memory_order_relaxed);
	tell_places(w, now, repo_id, places, q->count);
out:
	free(hashes);
	free(places);
	return rc;
}

static void
settle_fate(struct worker *w, uint64_t repo_id, struct block_chunk *c, enum known_answer answer,
	uint64_t ticket)
{
	switch (answer) {
	case KNOWN_EDGE:
		ahead_edge(w->in->ahead, repo_id, &c->hash);
		c->fate = FATE_DURABLE;
		break;
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

/* What neither the known chunks nor the filter can tell goes into the question. */
static enum rc
look_here(struct worker *w, struct block *const *blocks, size_t count, struct question *q,
	struct err *err)
{
	uint64_t repo_id = blocks[0]->space->repo_id;
	uint64_t known = 0, excluded = 0;
	bool ok = true;

	filter_enter(w->in->filter, w->number);
	for (size_t b = 0; ok && b < count; b++) {
		for (uint32_t i = 0; ok && i < blocks[b]->chunk_count; i++) {
			struct block_chunk *c = &blocks[b]->chunks[i];
			uint64_t ticket = 0;
			enum known_answer answer =
				known_peek(w->in->known, repo_id, &c->hash, &ticket);
			settle_fate(w, repo_id, c, answer, ticket);
			if (c->fate != FATE_UNKNOWN)
				known++;
			else if (filter_excludes(w->in->filter, repo_id, &c->hash))
				excluded++;
			else
				ok = add_chunk(q, c);
		}
	}
	filter_leave(w->in->filter, w->number);
	atomic_fetch_add_explicit(&w->in->known_hits, known, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->in->filter_negative, excluded, memory_order_relaxed);
	return ok ? RC_OK : err_set(err, RC_NOMEM, "no-memory", "out of memory");
}

/* All that is not known by now is new: whoever claims it first stores it. */
static enum rc
claim_rest(struct worker *w, struct block *b, uint64_t my_ticket, struct err *err)
{
	uint64_t repo_id = b->space->repo_id;

	for (uint32_t i = 0; i < b->chunk_count; i++) {
		struct block_chunk *c = &b->chunks[i];
		uint64_t ticket = 0;
		if (c->fate != FATE_UNKNOWN)
			continue;
		enum known_answer answer =
			known_claim(w->in->known, repo_id, &c->hash, my_ticket, &ticket);
		settle_fate(w, repo_id, c, answer, ticket);
		if (c->fate == FATE_UNKNOWN)
			return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	return RC_OK;
}

enum rc
lookup_blocks(struct worker *w, struct block *const *blocks, size_t count, uint64_t ticket,
	struct err *err)
{
	struct question q = {.count = 0};

	enum rc rc = look_here(w, blocks, count, &q, err);
	if (rc == RC_OK && q.count > 0)
		rc = ask_database(w, blocks[0]->space->repo_id, &q, err);
	for (size_t b = 0; rc == RC_OK && b < count; b++)
		rc = claim_rest(w, blocks[b], ticket, err);
	free(q.chunks);
	return rc;
}
