/* SPDX-License-Identifier: Apache-2.0 */
/* A line of words for each hash of a place and a name; the checksum is seeded with that hash, so a
 * word alone says that these bytes were right at this place under this name. */
#include "proofs.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "checksum.h"
#include "rand.h"

#define LINE_WORDS 8 /* a cache line */

struct line {
	_Atomic uint64_t words[LINE_WORDS]; /* 0: none */
};

struct proofs {
	/* immutable */
	uint64_t key;
	size_t line_count; /* a power of two, or 0 */
	struct line *lines;
	/* any thread */
	_Atomic unsigned turn; /* which word of a full line goes */
};

enum rc
proofs_open(size_t bytes, struct proofs **out, struct err *err)
{
	struct proofs *p = calloc(1, sizeof *p);

	*out = NULL;
	if (p == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	p->key = rand_u64();
	if (bytes > 0) {
		p->line_count = 1;
		while (p->line_count * sizeof(struct line) < bytes)
			p->line_count *= 2;
		/* pages that are never touched cost nothing */
		p->lines = calloc(p->line_count, sizeof(struct line));
		if (p->lines == NULL) {
			free(p);
			return err_set(err, RC_NOMEM, "no-memory", "out of memory");
		}
	}
	*out = p;
	return RC_OK;
}

void
proofs_free(struct proofs *p)
{
	if (p == NULL)
		return;
	free(p->lines);
	free(p);
}

struct proof
proofs_of(const struct proofs *p, const struct proof_chunk *c, const struct sha256 *name)
{
	struct {
		uint64_t at[3];
		struct sha256 name;
	} what = {{c->pack_id, c->frame_offset, c->raw_offset}, *name};
	uint64_t place = checksum64_seeded(&what, sizeof what, p->key);
	uint64_t sum = checksum64_seeded(c->data, c->len, place);

	return (struct proof){place, sum != 0 ? sum : 1};
}

static struct line *
line_of(const struct proofs *p, const struct proof *proof)
{
	return &p->lines[proof->place & (p->line_count - 1)];
}

bool
proofs_have(const struct proofs *p, const struct proof *proof)
{
	if (p->line_count == 0)
		return false;
	struct line *l = line_of(p, proof);
	for (int i = 0; i < LINE_WORDS; i++)
		if (atomic_load_explicit(&l->words[i], memory_order_relaxed) == proof->sum)
			return true;
	return false;
}

void
proofs_add(struct proofs *p, const struct proof *proof)
{
	if (p->line_count == 0 || proofs_have(p, proof))
		return;
	struct line *l = line_of(p, proof);
	for (int i = 0; i < LINE_WORDS; i++) {
		uint64_t none = 0;
		if (atomic_compare_exchange_strong_explicit(&l->words[i], &none, proof->sum,
			    memory_order_relaxed, memory_order_relaxed))
			return;
	}
	unsigned i = atomic_fetch_add_explicit(&p->turn, 1, memory_order_relaxed) % LINE_WORDS;
	atomic_store_explicit(&l->words[i], proof->sum, memory_order_relaxed);
}

void
proofs_check(struct proofs *p, const struct proof_chunk *chunks, const struct sha256 *const *names,
	size_t count, bool *ok, struct proofs_verdict *verdict)
{
	struct proof proofs[PROOFS_CHECK_MAX];
	struct sha256 hashes[PROOFS_CHECK_MAX];
	struct sha256_job jobs[PROOFS_CHECK_MAX];
	size_t which[PROOFS_CHECK_MAX];
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		proofs[i] = proofs_of(p, &chunks[i], names[i]);
		ok[i] = proofs_have(p, &proofs[i]);
		if (ok[i])
			continue;
		jobs[n] = (struct sha256_job){chunks[i].data, chunks[i].len, &hashes[n]};
		which[n++] = i;
	}
	verdict->proven += count - n;
	if (n == 0)
		return;
	sha256_many(jobs, n);
	for (size_t k = 0; k < n; k++) {
		size_t i = which[k];
		ok[i] = sha256_equal(&hashes[k], names[i]);
		verdict->hashed += ok[i];
		verdict->bad += !ok[i];
		if (ok[i])
			proofs_add(p, &proofs[i]);
	}
}
