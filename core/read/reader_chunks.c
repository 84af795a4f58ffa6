/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "ingest.h"
#include "pack_reader.h"
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
mark_bad(struct reader *r, const struct located *l, const char *why, struct err *err)
{
	struct read_service *rs = r->rs;
	struct err ignored = ERR_INIT; /* it stays unmarked until someone reads it again */
	char hex[SHA256_HEX_BYTES];

	sha256_hex(&l->slice.chunk, hex);
	enum rc marked = db_chunk_mark_bad(rs->options.db, &l->row, &ignored);
	if (rs->options.ingest != NULL)
		ingest_forget(rs->options.ingest);
	pack_readers_forget(rs->options.packs, l->row.pack_id);
	frame_cache_drop(rs->cache, l->row.pack_id, l->row.frame_offset);
	atomic_fetch_add(&rs->chunks_bad, 1);
	damaged(r, err);
	return err_detail(err, "chunk %s, pack %016" PRIx64 ", frame %" PRIu64 ", %s: %s", hex,
		l->row.pack_id, l->row.frame_offset,
		marked == RC_OK ? "marked bad" : "could not be marked bad", why);
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
find_held(struct reader *r, const struct chunk_row *row)
{
	for (size_t i = 0; i < FRAMES_HELD; i++) {
		const struct frame *f = r->frames[i];
		if (f != NULL && f->pack_id == row->pack_id && f->offset == row->frame_offset)
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
read_frame(struct reader *r, const struct chunk_row *row, struct frame **out, struct err *err)
{
	const struct pack_place place = {row->pack_id, row->frame_offset, row->frame_bytes};
	struct pack_frame_view view;

	/* no more than the frame takes: the buffer may become the frame */
	r->stored.max = place.bytes > r->stored.cap ? place.bytes : r->stored.cap;
	enum rc rc = pack_read_frame(r->rs->options.packs, &place, &r->stored, &view, err);
	if (rc != RC_OK)
		return rc;
	atomic_fetch_add_explicit(&r->rs->bytes_read, place.bytes, memory_order_relaxed);
	rc = view.codec == CODEC_RAW ? raw_frame(r, &view, out, err)
				     : expanded_frame(r, &view, out, err);
	if (rc == RC_OK)
		frame_cache_keep(r->rs->cache, *out, r->number);
	return rc;
}

static enum rc
get_frame(struct reader *r, const struct chunk_row *row, struct frame **out, struct err *err)
{
	*out = find_held(r, row);
	if (*out != NULL)
		return RC_OK;
	struct frame *f =
		frame_cache_take(r->rs->cache, row->pack_id, row->frame_offset, r->number);
	if (f == NULL) {
		enum rc rc = read_frame(r, row, &f, err);
		if (rc != RC_OK)
			return rc;
	}
	*out = hold(r, f);
	return RC_OK;
}

/* ---- chunks ---- */

static enum rc
verify(struct reader *r, struct frame *f, const struct chunk_row *row, struct err *err)
{
	uint32_t index = 0;
	uint32_t bad = 0;

	if (!frame_find(f, &row->hash, row->raw_offset, row->length, &index))
		return err_set(err, RC_CORRUPT, NULL, "the frame has no such chunk there");
	if (frame_is_verified(f, index))
		return RC_OK;
	/* someone who lands inside a frame may not want what follows */
	if (index != 0 && !frame_is_verified(f, index - 1))
		r->run_want = RUN_MIN;
	uint32_t hashed = frame_verify(f, index, r->run_want, &bad);
	if (r->run_want < RUN_MAX)
		r->run_want *= 2;
	atomic_fetch_add_explicit(&r->rs->chunks_verified, hashed - bad, memory_order_relaxed);
	if (!frame_is_verified(f, index))
		return err_set(err, RC_CORRUPT, NULL, "the chunk has another SHA-256");
	return RC_OK;
}

/* Make the slice's bytes available, from where its row says. */
static enum rc
fetch(struct reader *r, const struct located *l, struct err *err)
{
	struct frame *f = NULL;

	enum rc rc = get_frame(r, &l->row, &f, err);
	if (rc == RC_OK)
		rc = verify(r, f, &l->row, err);
	if (rc == RC_OK)
		r->at = f->raw + l->row.raw_offset + l->slice.offset;
	return rc;
}

/* Ask again where the chunk is: compaction moves chunks and then removes the old pack. *moved says
 * whether it is now somewhere else. */
static enum rc
locate_again(struct reader *r, struct located *l, bool *moved, struct err *err)
{
	struct chunk_row row;
	size_t found = 0;

	enum rc rc = db_chunk_locate(
		r->rs->options.db, r->repo_id, &l->slice.chunk, 1, &row, &found, err);
	if (rc != RC_OK)
		return rc;
	*moved = row.length > 0 &&
		 (row.pack_id != l->row.pack_id || row.frame_offset != l->row.frame_offset ||
			 row.raw_offset != l->row.raw_offset || row.length != l->row.length);
	if (*moved)
		l->row = row;
	return RC_OK;
}

static bool
fits(const struct reader *r, const struct located *l)
{
	if (r->kind == CONTENT_CHUNK && l->row.length != r->size)
		return false;
	return l->slice.offset <= l->row.length &&
	       l->slice.length <= l->row.length - l->slice.offset;
}

enum rc
reader_fetch(struct reader *r, struct err *err)
{
	struct located *l = &r->batch[r->next];

	for (int attempt = 0;; attempt++) {
		struct err why = ERR_INIT;
		bool known = l->row.length > 0;
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
		return mark_bad(r, l, why.detail[0] != '\0' ? why.detail : why.text, err);
	}
}
