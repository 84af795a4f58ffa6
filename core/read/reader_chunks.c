/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "ingest.h"
#include "reader_internal.h"

/* ---- damage ---- */

static enum rc
damaged(const struct reader *r, struct err *err)
{
	return err_set(err, RC_CORRUPT, "corrupt-data",
		"what is stored of this content is damaged at byte %" PRIu64
		"; uploading the same bytes again heals it",
		r->offset);
}

enum rc
reader_corrupt(const struct reader *r, const char *detail, struct err *err)
{
	damaged(r, err);
	return err_detail(err, "%s", detail);
}

/* The chunk is bad where its row says it is. */
static enum rc
mark_bad(struct reader *r, const struct chunk_row *row, const char *why, struct err *err)
{
	struct read_service *rs = r->rs;
	struct err ignored = ERR_INIT; /* it stays unmarked until someone reads it again */
	char hex[SHA256_HEX_BYTES];

	sha256_hex(&row->hash, hex);
	enum rc marked = db_chunk_mark_bad(rs->options.db, row, &ignored);
	if (rs->options.ingest != NULL)
		ingest_forget(rs->options.ingest);
	pack_readers_forget(rs->options.packs, row->pack_id);
	frame_cache_drop(rs->frames, row->pack_id, row->frame_offset);
	atomic_fetch_add(&rs->chunks_bad, 1);
	damaged(r, err);
	return err_detail(err, "chunk %s, pack %016" PRIx64 ", frame %" PRIu64 ", %s: %s", hex,
		row->pack_id, row->frame_offset,
		marked == RC_OK ? "marked bad" : "could not be marked bad", why);
}

static enum rc
mark_place_bad(struct reader *r, const struct located *l, const struct err *why, struct err *err)
{
	const struct layout_place *p = &l->place;
	const struct chunk_row row = {
		.repo_id = r->repo_id,
		.hash = l->slice.chunk,
		.pack_id = p->pack_id,
		.frame_offset = p->frame_offset,
		.frame_bytes = p->frame_bytes,
		.raw_offset = p->raw_offset,
		.length = p->chunk_bytes,
	};

	return mark_bad(r, &row, why->detail[0] != '\0' ? why->detail : why->text, err);
}

/* ---- frames ---- */

/* Bring the frame at index i to the front. */
static struct frame *
use_held(struct reader *r, size_t i)
{
	struct frame *f = r->frames[i];

	memmove(&r->frames[1], &r->frames[0], i * sizeof(struct frame *));
	r->frames[0] = f;
	return f;
}

static struct frame *
find_held(struct reader *r, const struct layout_place *p)
{
	for (size_t i = 0; i < FRAMES_HELD; i++) {
		const struct frame *f = r->frames[i];
		if (f != NULL && f->pack_id == p->pack_id && f->offset == p->frame_offset)
			return use_held(r, i);
	}
	return NULL;
}

static struct frame *
hold(struct reader *r, struct frame *f)
{
	frame_unref(r->frames[FRAMES_HELD - 1]);
	r->frames[FRAMES_HELD - 1] = f;
	return use_held(r, FRAMES_HELD - 1);
}

void
reader_let_go(struct reader *r)
{
	for (size_t i = 0; i < FRAMES_HELD; i++) {
		frame_unref(r->frames[i]);
		r->frames[i] = NULL;
	}
}

/* The bytes of a raw frame are used where they were read: the buffer becomes the frame. */
static enum rc
raw_frame(struct reader *r, const struct pack_frame_view *view, struct frame **out, struct err *err)
{
	size_t memory_bytes = r->stored.cap;
	size_t len = 0;
	uint8_t *memory = buf_take(&r->stored, &len);

	return frame_new(view, view->table, view->stored, memory, memory_bytes, out, err);
}

static enum rc
expanded_frame(
	struct reader *r, const struct pack_frame_view *view, struct frame **out, struct err *err)
{
	size_t table_bytes = (size_t)view->chunk_count * PACK_CHUNK_ENTRY_BYTES;
	enum rc rc = RC_OK;

	if (r->codec == NULL)
		rc = codec_open(&r->codec, err);
	if (rc != RC_OK)
		return rc;
	uint8_t *memory = malloc(view->raw_bytes + table_bytes);
	if (memory == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	rc = codec_expand(r->codec, view->codec, view->stored, view->stored_bytes, memory,
		view->raw_bytes, err);
	if (rc != RC_OK) {
		free(memory);
		return rc;
	}
	memcpy(memory + view->raw_bytes, view->table, table_bytes);
	return frame_new(view, memory + view->raw_bytes, memory, memory,
		view->raw_bytes + table_bytes, out, err);
}

static enum rc
read_frame(struct reader *r, const struct layout_place *p, struct frame **out, struct err *err)
{
	const struct pack_place place = {p->pack_id, p->frame_offset, p->frame_bytes};
	struct pack_frame_view view;

	if (r->no_wait && place.bytes > NO_WAIT_FRAME_BYTES_MAX)
		return reader_would_wait(err);
	/* no more than the frame takes: the buffer may become the frame */
	r->stored.max = place.bytes > r->stored.cap ? place.bytes : r->stored.cap;
	enum rc rc =
		pack_read_frame(r->rs->options.packs, &place, &r->wait, &r->stored, &view, err);
	if (rc != RC_OK)
		return rc;
	if (r->no_wait && view.raw_bytes > NO_WAIT_RAW_BYTES_MAX)
		return reader_would_wait(err);
	atomic_fetch_add_explicit(&r->rs->bytes_read, place.bytes, memory_order_relaxed);
	rc = view.codec == CODEC_RAW ? raw_frame(r, &view, out, err)
				     : expanded_frame(r, &view, out, err);
	if (rc == RC_OK)
		frame_cache_keep(r->rs->frames, *out, r->number);
	return rc;
}

struct frame *
reader_frame_at_hand(struct reader *r, const struct layout_place *place)
{
	struct frame *f = find_held(r, place);

	if (f != NULL)
		return f;
	f = frame_cache_take(r->rs->frames, place->pack_id, place->frame_offset, r->number);
	return f != NULL ? hold(r, f) : NULL;
}

static enum rc
get_frame(struct reader *r, const struct layout_place *place, struct frame **out, struct err *err)
{
	*out = reader_frame_at_hand(r, place);
	if (*out != NULL)
		return RC_OK;
	struct frame *f = NULL;
	enum rc rc = read_frame(r, place, &f, err);
	if (rc == RC_OK)
		*out = hold(r, f);
	return rc;
}

/* ---- chunks ---- */

static enum rc
verify(struct reader *r, struct frame *f, const struct located *l, struct err *err)
{
	struct proofs_verdict verdict = {0};
	uint32_t index = 0;

	if (!frame_find(f, &l->slice.chunk, l->place.raw_offset, l->place.chunk_bytes, &index))
		return err_set(err, RC_CORRUPT, NULL, "the frame has no such chunk there");
	if (frame_is_verified(f, index))
		return RC_OK;
	/* someone who lands inside a frame may not want what follows */
	if (index != 0 && !frame_is_verified(f, index - 1))
		r->run_want = RUN_MIN;
	frame_verify(f, index, r->run_want, r->rs->proofs, &verdict);
	if (r->run_want < RUN_MAX)
		r->run_want *= 2;
	reader_count(r->rs, &verdict);
	if (!frame_is_verified(f, index))
		return err_set(err, RC_CORRUPT, NULL, "the chunk has another SHA-256");
	return RC_OK;
}

/* The slice's bytes as part of its frame. */
static enum rc
fetch_from_frame(struct reader *r, const struct located *l, struct err *err)
{
	struct frame *f = NULL;

	enum rc rc = get_frame(r, &l->place, &f, err);
	if (rc == RC_OK)
		rc = verify(r, f, l, err);
	if (rc == RC_OK)
		r->at = f->raw + l->place.raw_offset + l->slice.offset;
	return rc;
}

/* The slice's chunk by itself, out of a raw frame; leaves r->at alone if that cannot be. */
static enum rc
fetch_direct(struct reader *r, struct err *err)
{
	const struct located *l = &r->window[r->next];
	bool is_direct = false;
	size_t good = 0;

	if (r->direct_from > l->slice.start || reader_frame_at_hand(r, &l->place) != NULL)
		return RC_OK;
	enum rc rc = reader_may_read_direct(r, r->next, &is_direct, err);
	if (rc != RC_OK || !is_direct)
		return rc;
	buf_clear(&r->chunk);
	uint8_t *room = buf_grow(&r->chunk, l->place.chunk_bytes);
	if (room == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	rc = reader_read_chunks(r, r->next, 1, room, &good, err);
	if (rc == RC_OK && good == 1)
		r->at = room + l->slice.offset;
	return rc;
}

/* Make the slice's bytes available, from where its place says. */
static enum rc
fetch(struct reader *r, const struct located *l, struct err *err)
{
	enum rc rc = fetch_direct(r, err);

	if (rc != RC_OK || r->at != NULL)
		return rc;
	return fetch_from_frame(r, l, err);
}

/* Ask again where the chunk is: compaction moves chunks and then removes the old pack. *moved says
 * whether it is now somewhere else. */
static enum rc
locate_again(struct reader *r, struct located *l, bool *moved, struct err *err)
{
	const struct layout_place was = l->place;
	struct chunk_row row;
	size_t found = 0;

	if (r->no_wait)
		return reader_would_wait(err);
	enum rc rc = db_chunk_locate(
		r->rs->options.db, r->repo_id, &l->slice.chunk, 1, &row, &found, err);
	if (rc != RC_OK || row.length == 0)
		return rc;
	*moved = row.pack_id != was.pack_id || row.frame_offset != was.frame_offset ||
		 row.raw_offset != was.raw_offset || row.length != was.chunk_bytes;
	if (*moved)
		reader_learn_row(r, (size_t)(l - r->window), &row);
	if (l->place.pack_id == 0)
		return mark_bad(r, &row, "no pack can have such a place", err);
	return RC_OK;
}

static bool
fits(const struct reader *r, const struct located *l)
{
	if (r->key.content.kind == CONTENT_CHUNK && l->place.chunk_bytes != r->size)
		return false;
	return l->slice.offset <= l->place.chunk_bytes &&
	       l->slice.length <= l->place.chunk_bytes - l->slice.offset;
}

enum rc
reader_fetch(struct reader *r, struct err *err)
{
	struct located *l = &r->window[r->next];

	for (int attempt = 0;; attempt++) {
		struct err why = ERR_INIT;
		bool known = l->place.pack_id != 0;
		bool moved = false;
		enum rc rc = RC_OK;
		if (known && !fits(r, l))
			return reader_corrupt(r, "a slice does not fit its chunk", err);
		if (known && fetch(r, l, &why) == RC_OK)
			return RC_OK;
		if (known && why.rc != RC_CORRUPT) {
			*err = why;
			return err->rc;
		}
		if (attempt == 0)
			rc = locate_again(r, l, &moved, err);
		if (rc != RC_OK)
			return rc;
		if (moved)
			continue;
		if (!known)
			return reader_corrupt(r, "there is no live row of the chunk", err);
		return mark_place_bad(r, l, &why, err);
	}
}
