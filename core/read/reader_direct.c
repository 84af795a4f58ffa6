/* SPDX-License-Identifier: Apache-2.0 */
/* Raw frames hold chunks as they are, so a chunk can be read by itself, to where it is wanted, and
 * checked there: no frame in memory, no copy. What is wrong with a chunk is not judged here: the
 * caller then reads its frame, whose checksums tell more. */
#include <string.h>

#include "reader_internal.h"

static struct pack_place
pack_place_of(const struct layout_place *p)
{
	return (struct pack_place){p->pack_id, p->frame_offset, p->frame_bytes};
}

/* Inside the payload, as far as sizes tell. */
static bool
lies_in_frame(const struct layout_place *p)
{
	return (uint64_t)p->payload_at + p->raw_offset + p->chunk_bytes <= p->frame_bytes;
}

enum rc
reader_may_read_direct(struct reader *r, size_t i, bool *is_direct, struct err *err)
{
	struct layout_place *p = &r->window[i].place;
	const struct pack_place place = pack_place_of(p);
	struct pack_frame_shape shape;
	struct err why = ERR_INIT;

	*is_direct = false;
	if (p->chunk_bytes < DIRECT_BYTES_MIN)
		return RC_OK;
	if (p->payload_at == 0) {
		enum rc rc = pack_read_shape(r->rs->options.packs, &place, &r->wait, &shape, &why);
		if (rc == RC_CORRUPT)
			return RC_OK;
		if (rc != RC_OK) {
			*err = why;
			return rc;
		}
		p->payload_at = shape.payload_at;
		p->codec = shape.codec;
		reader_learn_shape(r, i);
	}
	*is_direct = p->codec == CODEC_RAW && lies_in_frame(p);
	return RC_OK;
}

enum rc
reader_read_chunks(
	struct reader *r, size_t first, size_t count, uint8_t *out, size_t *good, struct err *err)
{
	const struct located *l = &r->window[first];
	struct proof_chunk chunks[RUN_MAX];
	const struct sha256 *names[RUN_MAX];
	bool ok[RUN_MAX];
	struct proofs_verdict verdict = {0};
	struct err why = ERR_INIT;
	size_t bytes = 0;

	*good = 0;
	for (size_t i = 0; i < count; i++) {
		chunks[i] = (struct proof_chunk){l[i].place.pack_id, l[i].place.frame_offset,
			l[i].place.raw_offset, out + bytes, l[i].place.chunk_bytes};
		names[i] = &l[i].slice.chunk;
		bytes += l[i].place.chunk_bytes;
	}
	uint64_t at = (uint64_t)l->place.frame_offset + l->place.payload_at + l->place.raw_offset;
	enum rc rc = pack_read_bytes(
		r->rs->options.packs, l->place.pack_id, at, &r->wait, out, bytes, &why);
	if (rc == RC_CORRUPT)
		return RC_OK; /* none is right */
	if (rc != RC_OK) {
		*err = why;
		return rc;
	}
	proofs_check(r->rs->proofs, chunks, names, count, ok, &verdict);
	reader_count(r->rs, &verdict);
	atomic_fetch_add_explicit(&r->rs->bytes_read, bytes, memory_order_relaxed);
	while (*good < count && ok[*good])
		++*good;
	return RC_OK;
}

static bool
is_whole_chunk(const struct located *l)
{
	return l->slice.offset == 0 && l->slice.length == l->place.chunk_bytes;
}

static bool
follows(const struct located *a, const struct located *b)
{
	return b->place.pack_id == a->place.pack_id &&
	       b->place.frame_offset == a->place.frame_offset &&
	       b->place.raw_offset == a->place.raw_offset + a->place.chunk_bytes &&
	       is_whole_chunk(b) && lies_in_frame(&b->place);
}

/* How many chunks from the window's next slice on can be read at once, and what they take. */
static size_t
run_length(const struct reader *r, uint64_t max, uint64_t *bytes)
{
	size_t n = 1;

	*bytes = r->window[r->next].place.chunk_bytes;
	while (r->next + n < r->count && n < RUN_MAX &&
		follows(&r->window[r->next + n - 1], &r->window[r->next + n]) &&
		*bytes + r->window[r->next + n].place.chunk_bytes <= max)
		*bytes += r->window[r->next + n++].place.chunk_bytes;
	return n;
}

enum rc
reader_read_direct(struct reader *r, uint8_t *out, size_t max, size_t *got, struct err *err)
{
	const struct located *l = &r->window[r->next];
	uint64_t left = r->size - r->offset;
	uint64_t most = max < left ? max : left;
	bool is_direct = false;
	uint64_t bytes = 0;
	size_t good = 0;

	*got = 0;
	if (l->place.pack_id == 0 || r->offset != l->slice.start || !is_whole_chunk(l) ||
		l->slice.length > most || r->direct_from > r->offset ||
		(r->key.content.kind == CONTENT_CHUNK && l->slice.length != r->size) ||
		reader_frame_at_hand(r, &l->place) != NULL)
		return RC_OK;
	enum rc rc = reader_may_read_direct(r, r->next, &is_direct, err);
	if (rc != RC_OK || !is_direct)
		return rc;
	size_t count = run_length(r, most, &bytes);
	rc = reader_read_chunks(r, r->next, count, out, &good, err);
	if (rc != RC_OK)
		return rc;
	for (size_t i = 0; i < good; i++)
		*got += r->window[r->next + i].place.chunk_bytes;
	r->next += good;
	r->offset += *got;
	atomic_fetch_add_explicit(&r->rs->bytes_direct, *got, memory_order_relaxed);
	if (good < count) /* the next one as part of its frame */
		r->direct_from = r->offset + 1;
	return RC_OK;
}

/* ---- reading ahead ---- */

void
reader_read_ahead(struct reader *r)
{
	int64_t frames = knob_get(&r->rs->knobs[READ_KNOB_AHEAD]);
	const struct layout_place *last = NULL;

	if (r->wait.waited) {
		atomic_fetch_add_explicit(&r->rs->waits, 1, memory_order_relaxed);
		r->wait.waited = false;
		r->is_cold = true;
	}
	for (size_t i = r->next; i < r->count && frames > 0; i++) {
		const struct layout_place *p = &r->window[i].place;
		const struct pack_place place = pack_place_of(p);
		if (p->pack_id == 0 || (last != NULL && last->pack_id == p->pack_id &&
					       last->frame_offset == p->frame_offset))
			continue;
		last = p;
		frames--;
		if (r->window[i].slice.start < r->advised_until)
			continue;
		pack_readers_advise(r->rs->options.packs, &place);
		r->advised_until = r->window[i].slice.start + 1;
	}
}
