/* SPDX-License-Identifier: Apache-2.0 */
/* A read goes slice by slice: where is its chunk (located in batches, which grow as the read goes
 * on), the frame it is in (the reader's own two, the cache, the pack), is the chunk right. Only
 * then are bytes copied, once, from the frame to the caller. */
#include "reader.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "db_chunk.h"
#include "db_recipe.h"
#include "frame_cache.h"
#include "ingest.h"
#include "pack_reader.h"
#include "recipe.h"

/* Look-ups of one query: a small range must not pay for many, a long read not for many queries. */
#define BATCH_MIN    4
#define BATCH_GROWTH 8
#define BATCH_MAX    256

/* Chunks hashed at once: two use the CPU twice as well as one, and who reads on wants the rest of
 * the frame too. */
#define RUN_MIN 2
#define RUN_MAX 64

#define PART_BYTES_MAX ((size_t)8 << 20)
#define FRAMES_HELD    2

struct read_service {
	/* immutable */
	struct read_options options;
	struct frame_cache *cache;
	/* any thread */
	_Atomic uint64_t readers; /* ever opened */
	_Atomic uint64_t bytes_read;
	_Atomic uint64_t chunks_verified;
	_Atomic uint64_t chunks_bad;
};

struct located {
	struct recipe_slice slice;
	struct chunk_row row;
};

struct reader {
	struct read_service *rs;
	uint64_t repo_id;
	uint64_t number;     /* tells readers apart in the cache */
	struct codec *codec; /* opened for the first compressed frame */
	struct buf stored;   /* a frame as it is in its pack */

	/* the content */
	enum content_kind kind;
	struct sha256 id;
	bool exact; /* the recipe ends where the content does */
	uint64_t recipe_id;
	uint64_t size;
	uint64_t offset; /* of the next byte to give out */

	/* slices ahead */
	struct buf part;
	struct recipe_part_reader slices;
	bool in_part;
	bool sought; /* walked is where a seek went, not where a part ended */
	uint64_t part_start;
	uint64_t walked; /* where the next slice begins */
	struct located batch[BATCH_MAX];
	struct sha256 hashes[BATCH_MAX];
	struct chunk_row rows[BATCH_MAX];
	size_t count;
	size_t next;
	size_t batch_want;
	uint64_t slice_start; /* of batch[next], in the content */

	/* frames; at is inside the first one */
	struct frame *frames[FRAMES_HELD]; /* the last one used first */
	uint32_t run_want;
	const uint8_t *at; /* bytes of batch[next], verified; NULL: not looked at yet */

	struct err failed; /* what every call answers until the next seek */
};

enum rc
read_service_open(const struct read_options *options, struct read_service **out, struct err *err)
{
	*out = NULL;
	struct read_service *rs = calloc(1, sizeof *rs);
	if (rs == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	rs->options = *options;
	enum rc rc = frame_cache_open(options->cache_bytes, &rs->cache, err);
	if (rc != RC_OK) {
		free(rs);
		return rc;
	}
	*out = rs;
	return RC_OK;
}

void
read_service_free(struct read_service *rs)
{
	if (rs == NULL)
		return;
	frame_cache_free(rs->cache);
	free(rs);
}

void
read_service_stats(struct read_service *rs, struct read_stats *out)
{
	struct frame_cache_stats cache;

	frame_cache_stats(rs->cache, &cache);
	*out = (struct read_stats){
		.frame_hits = cache.hits,
		.frame_misses = cache.misses,
		.frame_bytes_read = atomic_load(&rs->bytes_read),
		.chunks_verified = atomic_load(&rs->chunks_verified),
		.chunks_bad = atomic_load(&rs->chunks_bad),
		.cache_bytes = cache.bytes,
		.cache_max_bytes = cache.bytes_max,
	};
}

/* ---- damage ---- */

/* Whatever is wrong with stored data, the client hears only this. */
static enum rc
damaged(const struct reader *r, struct err *err)
{
	return err_set(err, RC_CORRUPT, "corrupt-data",
		"what is stored of this content is damaged at byte %" PRIu64
		"; uploading the same bytes again heals it",
		r->offset);
}

static enum rc
corrupt(const struct reader *r, const char *detail, struct err *err)
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
		ingest_forget(rs->options.ingest, r->repo_id, &l->slice.chunk);
	pack_readers_forget(rs->options.packs, l->row.pack_id);
	frame_cache_drop(rs->cache, l->row.pack_id, l->row.frame_offset);
	atomic_fetch_add(&rs->chunks_bad, 1);
	damaged(r, err);
	return err_detail(err, "chunk %s, pack %016" PRIx64 ", frame %" PRIu64 ", %s: %s", hex,
		l->row.pack_id, l->row.frame_offset,
		marked == RC_OK ? "marked bad" : "could not be marked bad", why);
}

/* ---- which slices come next ---- */

/* The part that holds byte walked: after a seek anywhere inside it, when reading on at its start.
 */
static enum rc
load_part(struct reader *r, struct err *err)
{
	uint64_t start = 0;

	buf_clear(&r->part);
	enum rc rc = db_recipe_part_at(
		r->rs->options.db, r->recipe_id, r->walked, &start, &r->part, err);
	if (rc == RC_OK)
		rc = recipe_part_open(&r->slices, r->part.data, r->part.len, err);
	if (rc != RC_OK)
		return rc;
	if (r->sought ? start > r->walked : start != r->walked)
		return corrupt(r, "recipe: the parts do not meet", err);
	r->sought = false;
	r->in_part = true;
	r->part_start = start;
	r->walked = start;
	return RC_OK;
}

/* The next slice that reaches behind offset. */
static enum rc
next_slice(struct reader *r, struct recipe_slice *slice, uint64_t *start, struct err *err)
{
	enum rc rc = RC_OK;

	while (rc == RC_OK) {
		if (!r->in_part) {
			rc = load_part(r, err);
		} else if (recipe_part_next(&r->slices, slice, err)) {
			*start = r->walked;
			if (slice->length > INT64_MAX - r->walked ||
				(r->exact && slice->length > r->size - r->walked))
				return corrupt(r, "recipe: longer than its content", err);
			r->walked += slice->length;
			if (r->walked > r->offset)
				return RC_OK;
		} else if (err->rc != RC_OK) {
			return err->rc;
		} else if (r->walked == r->part_start) {
			return corrupt(r, "recipe: an empty part", err);
		} else {
			r->in_part = false;
		}
	}
	return rc;
}

static enum rc
fill_recipe_batch(struct reader *r, struct err *err)
{
	while (r->count < r->batch_want && r->walked < r->size) {
		struct located *l = &r->batch[r->count];
		uint64_t start = 0;
		enum rc rc = next_slice(r, &l->slice, &start, err);
		if (rc != RC_OK)
			return rc;
		if (r->count++ == 0)
			r->slice_start = start;
	}
	return RC_OK;
}

static enum rc
locate_batch(struct reader *r, struct err *err)
{
	size_t found = 0;

	for (size_t i = 0; i < r->count; i++)
		r->hashes[i] = r->batch[i].slice.chunk;
	enum rc rc = db_chunk_locate(
		r->rs->options.db, r->repo_id, r->hashes, r->count, r->rows, &found, err);
	for (size_t i = 0; rc == RC_OK && i < r->count; i++)
		r->batch[i].row = r->rows[i];
	return rc;
}

/* The slices from offset on, as many as are worth a query now. */
static enum rc
refill(struct reader *r, struct err *err)
{
	enum rc rc = RC_OK;

	r->count = 0;
	r->next = 0;
	if (r->kind == CONTENT_CHUNK) {
		r->batch[0].slice = (struct recipe_slice){r->id, 0, r->size};
		r->slice_start = 0;
		r->count = 1;
	} else {
		rc = fill_recipe_batch(r, err);
		r->batch_want = r->batch_want < BATCH_MAX / BATCH_GROWTH
					? r->batch_want * BATCH_GROWTH
					: BATCH_MAX;
	}
	return rc == RC_OK ? locate_batch(r, err) : rc;
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

static void
let_go(struct reader *r)
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

/* Bytes of the slice at batch[next], checked, at r->at. */
static enum rc
prepare(struct reader *r, struct err *err)
{
	struct located *l = &r->batch[r->next];

	for (int attempt = 0;; attempt++) {
		struct err why = ERR_INIT;
		bool known = l->row.length > 0;
		bool moved = false;
		enum rc rc = RC_OK;
		if (known && !fits(r, l))
			return corrupt(r, "a slice does not fit its chunk", err);
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
			return corrupt(r, "there is no live row of the chunk", err);
		return mark_bad(r, l, why.detail[0] != '\0' ? why.detail : why.text, err);
	}
}

/* ---- what callers do ---- */

static void
start_at(struct reader *r, uint64_t offset)
{
	r->offset = offset;
	r->walked = offset;
	r->sought = true;
	r->in_part = false;
	r->count = 0;
	r->next = 0;
	r->batch_want = BATCH_MIN;
	r->at = NULL;
	err_clear(&r->failed);
}

static enum rc
check_offset(uint64_t offset, uint64_t size, struct err *err)
{
	if (offset <= size)
		return RC_OK;
	return err_set(err, RC_INVALID, NULL, "byte %" PRIu64 " is behind the end", offset);
}

static enum rc
open_reader(struct read_service *rs, const struct repo *repo, struct reader **out, struct err *err)
{
	*out = NULL;
	struct reader *r = calloc(1, sizeof *r);
	if (r == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	r->rs = rs;
	r->repo_id = repo->id;
	r->number = atomic_fetch_add(&rs->readers, 1) + 1;
	r->run_want = RUN_MIN;
	buf_init(&r->stored, 0);
	buf_init(&r->part, PART_BYTES_MAX);
	*out = r;
	return RC_OK;
}

enum rc
reader_switch(struct reader *r, const struct content *content, uint64_t offset, struct err *err)
{
	struct file_row file = {.recipe_id = 0};

	enum rc rc = check_offset(offset, content->size, err);
	if (rc != RC_OK)
		return rc;
	r->size = 0; /* nothing to read if this fails */
	start_at(r, 0);
	if (!content_kind_known(content->kind))
		return corrupt(r, "unknown kind of content", err);
	if (content->kind == CONTENT_RECIPE) {
		rc = db_file_get(r->rs->options.db, r->repo_id, &content->id, &file, err);
		if (rc != RC_OK)
			return rc;
		if (file.size != content->size)
			return corrupt(r, "the file's row has another size", err);
	}
	r->kind = content->kind;
	r->id = content->id;
	r->exact = true;
	r->recipe_id = file.recipe_id;
	r->size = content->size;
	start_at(r, offset);
	return RC_OK;
}

enum rc
reader_open(struct read_service *rs, const struct repo *repo, const struct content *content,
	uint64_t offset, struct reader **out, struct err *err)
{
	enum rc rc = open_reader(rs, repo, out, err);

	if (rc == RC_OK)
		rc = reader_switch(*out, content, offset, err);
	if (rc != RC_OK) {
		reader_free(*out);
		*out = NULL;
	}
	return rc;
}

enum rc
reader_open_recipe(struct read_service *rs, const struct repo *repo, uint64_t recipe_id,
	uint64_t size, struct reader **out, struct err *err)
{
	enum rc rc = open_reader(rs, repo, out, err);

	if (rc != RC_OK)
		return rc;
	(*out)->kind = CONTENT_RECIPE;
	(*out)->recipe_id = recipe_id;
	(*out)->size = size;
	start_at(*out, 0);
	return RC_OK;
}

enum rc
reader_seek(struct reader *r, uint64_t offset, struct err *err)
{
	enum rc rc = check_offset(offset, r->size, err);

	if (rc == RC_OK)
		start_at(r, offset);
	return rc;
}

/* Bytes at r->at, of the slice that holds offset. */
static enum rc
ready(struct reader *r, struct err *err)
{
	enum rc rc = RC_OK;

	if (r->at != NULL)
		return RC_OK;
	if (r->next == r->count)
		rc = refill(r, err);
	if (rc == RC_OK && r->count == 0)
		rc = corrupt(r, "recipe: shorter than its content", err);
	return rc == RC_OK ? prepare(r, err) : rc;
}

static size_t
copy_out(struct reader *r, uint8_t *out, size_t max)
{
	const struct recipe_slice *slice = &r->batch[r->next].slice;
	uint64_t done = r->offset - r->slice_start;
	uint64_t left = slice->length - done;
	size_t n = max;

	if (n > left)
		n = (size_t)left;
	if (n > r->size - r->offset)
		n = (size_t)(r->size - r->offset);
	memcpy(out, r->at + done, n);
	r->offset += n;
	if (n == left) {
		r->slice_start += slice->length;
		r->next++;
		r->at = NULL;
	}
	return n;
}

enum rc
reader_read(struct reader *r, uint8_t *out, size_t max, size_t *got, struct err *err)
{
	size_t n = 0;

	*got = 0;
	while (r->failed.rc == RC_OK && n < max && r->offset < r->size)
		if (ready(r, &r->failed) == RC_OK)
			n += copy_out(r, out + n, max - n);
	/* what is right goes out first; the next call tells of the failure */
	if (r->failed.rc != RC_OK && n == 0) {
		*err = r->failed;
		return err->rc;
	}
	*got = n;
	return RC_OK;
}

void
reader_free(struct reader *r)
{
	if (r == NULL)
		return;
	let_go(r);
	codec_free(r->codec);
	buf_done(&r->stored);
	buf_done(&r->part);
	free(r);
}
