/* SPDX-License-Identifier: Apache-2.0 */
/* A read goes slice by slice: where is its chunk (in a layout, or located in batches, which grow as
 * the read goes on), the frame it is in (the reader's own two, the cache, the pack), is the chunk
 * right. Only then are bytes given out: copied once from the frame, or, from raw frames, read to
 * where they are wanted and checked there. */
#include "reader.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "db_recipe.h"
#include "reader_internal.h"

/* ---- the service ---- */

static void
init_knobs(struct read_service *rs)
{
	rs->knobs[READ_KNOB_AHEAD] = (struct knob){
		.name = "read_ahead_frames",
		.unit = "frames",
		.what = "frames asked for ahead of a reader that waits for the disk",
		.min = 0,
		.max = 16,
		.fallback = 8,
		.scale = KNOB_ADD,
		.step = 4,
	};
	rs->knobs[READ_KNOB_HOT] = (struct knob){
		.name = "read_hot_percent",
		.unit = "percent",
		.what = "share of the frame cache that is for frames asked for again",
		.min = 20,
		.max = 95,
		.fallback = 85,
		.scale = KNOB_ADD,
		.step = 15,
	};
	for (int i = 0; i < READ_KNOBS; i++)
		knob_set(&rs->knobs[i], rs->knobs[i].fallback);
}

/* A 32nd is for proofs (8 bytes a chunk), a quarter for layouts (84 bytes a chunk), the rest for
 * frames. */
enum rc
read_service_open(const struct read_options *options, struct read_service **out, struct err *err)
{
	size_t bytes = options->cache_bytes;

	*out = NULL;
	struct read_service *rs = calloc(1, sizeof *rs);
	if (rs == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	rs->options = *options;
	pthread_mutex_init(&rs->mtx, NULL);
	init_knobs(rs);
	enum rc rc = frame_cache_open(
		bytes - bytes / 4 - bytes / 32, &rs->knobs[READ_KNOB_HOT], &rs->frames, err);
	if (rc == RC_OK)
		rc = layout_cache_open(bytes / 4, &rs->layouts, err);
	if (rc == RC_OK)
		rc = proofs_open(bytes / 32, &rs->proofs, err);
	if (rc != RC_OK) {
		read_service_free(rs);
		return rc;
	}
	*out = rs;
	return RC_OK;
}

static void
destroy(struct reader *r)
{
	free(r->look_up);
	free(r->expected);
	codec_free(r->codec);
	buf_done(&r->stored);
	buf_done(&r->chunk);
	free(r);
}

void
read_service_free(struct read_service *rs)
{
	if (rs == NULL)
		return;
	while (rs->idle != NULL) {
		struct reader *r = rs->idle;
		rs->idle = r->next_idle;
		destroy(r);
	}
	frame_cache_free(rs->frames);
	layout_cache_free(rs->layouts);
	proofs_free(rs->proofs);
	pthread_mutex_destroy(&rs->mtx);
	free(rs);
}

struct knob *
read_service_knobs(struct read_service *rs)
{
	return rs->knobs;
}

void
read_service_stats(struct read_service *rs, struct read_stats *out)
{
	struct frame_cache_stats frames;
	struct layout_stats layouts;

	frame_cache_stats(rs->frames, &frames);
	layout_stats(rs->layouts, &layouts);
	*out = (struct read_stats){
		.frame_hits = frames.hits,
		.frame_misses = frames.misses,
		.layout_hits = layouts.hits,
		.layout_misses = layouts.misses,
		.bytes_read = atomic_load(&rs->bytes_read),
		.bytes_direct = atomic_load(&rs->bytes_direct),
		.chunks_verified = atomic_load(&rs->chunks_verified),
		.chunks_proven = atomic_load(&rs->chunks_proven),
		.chunks_bad = atomic_load(&rs->chunks_bad),
		.waits = atomic_load(&rs->waits),
		.frame_bytes = frames.bytes,
		.frame_hot_bytes = frames.hot_bytes,
		.frame_max_bytes = frames.bytes_max,
		.layout_bytes = layouts.bytes,
		.layout_max_bytes = layouts.bytes_max,
	};
}

void
reader_count(struct read_service *rs, const struct proofs_verdict *verdict)
{
	atomic_fetch_add_explicit(&rs->chunks_verified, verdict->hashed, memory_order_relaxed);
	atomic_fetch_add_explicit(&rs->chunks_proven, verdict->proven, memory_order_relaxed);
}

/* ---- opening ---- */

static void
start_at(struct reader *r, uint64_t offset)
{
	reader_forget_slices(r);
	r->offset = offset;
	r->walked = offset;
	r->sought = true;
	r->batch_want = BATCH_MIN;
	r->at = NULL;
	r->direct_from = 0;
	r->advised_until = 0;
	err_clear(&r->failed);
}

static enum rc
check_offset(uint64_t offset, uint64_t size, struct err *err)
{
	if (offset <= size)
		return RC_OK;
	return err_set(err, RC_INVALID, NULL, "byte %" PRIu64 " is behind the end", offset);
}

static struct reader *
take_idle(struct read_service *rs)
{
	pthread_mutex_lock(&rs->mtx);
	struct reader *r = rs->idle;
	if (r != NULL) {
		rs->idle = r->next_idle;
		rs->idle_count--;
	}
	pthread_mutex_unlock(&rs->mtx);
	return r;
}

static enum rc
open_reader(struct read_service *rs, const struct repo *repo, bool no_wait, struct reader **out,
	struct err *err)
{
	*out = NULL;
	struct reader *r = take_idle(rs);
	if (r == NULL) {
		r = calloc(1, sizeof *r);
		if (r == NULL)
			return err_set(err, RC_NOMEM, "no-memory", "out of memory");
		buf_init(&r->stored, 0);
		buf_init(&r->chunk, PACK_FRAME_RAW_BYTES_MAX);
	}
	r->rs = rs;
	r->repo_id = repo->id;
	r->number = atomic_fetch_add(&rs->readers, 1) + 1;
	r->no_wait = no_wait;
	r->wait = (struct pack_wait){.never = no_wait};
	r->is_cold = false;
	r->run_want = RUN_MIN;
	*out = r;
	return RC_OK;
}

enum rc
reader_would_wait(struct err *err)
{
	return err_set(err, RC_AGAIN, NULL, "not without waiting");
}

/* Where its recipe is, unless a part of it is at hand. */
static enum rc
find_recipe(struct reader *r, uint64_t offset, struct err *err)
{
	struct file_row file = {.recipe_id = 0};

	r->recipe_known = false;
	if (offset < r->size)
		r->part = layout_find(r->rs->layouts, &r->key, offset);
	if (r->part != NULL)
		return RC_OK;
	if (r->no_wait)
		return reader_would_wait(err);
	enum rc rc = db_file_get(r->rs->options.db, r->repo_id, &r->key.content.id, &file, err);
	if (rc == RC_OK && file.size != r->size)
		rc = reader_corrupt(r, "the file's row has another size", err);
	r->recipe_id = file.recipe_id;
	r->recipe_known = rc == RC_OK;
	return rc;
}

enum rc
reader_switch(struct reader *r, const struct content *content, uint64_t offset, struct err *err)
{
	enum rc rc = check_offset(offset, content->size, err);

	if (rc != RC_OK)
		return rc;
	r->size = 0; /* nothing to read if this fails */
	start_at(r, 0);
	if (!content_kind_known(content->kind))
		return reader_corrupt(r, "unknown kind of content", err);
	r->key = (struct layout_key){r->repo_id, *content};
	r->exact = true;
	r->size = content->size;
	start_at(r, offset);
	if (content->kind == CONTENT_RECIPE)
		rc = find_recipe(r, offset, err);
	if (rc != RC_OK)
		r->size = 0;
	return rc;
}

static enum rc
open_content(struct read_service *rs, const struct repo *repo, bool no_wait,
	const struct content *content, uint64_t offset, struct reader **out, struct err *err)
{
	enum rc rc = open_reader(rs, repo, no_wait, out, err);

	if (rc == RC_OK)
		rc = reader_switch(*out, content, offset, err);
	if (rc != RC_OK) {
		reader_free(*out);
		*out = NULL;
	}
	return rc;
}

enum rc
reader_open(struct read_service *rs, const struct repo *repo, const struct content *content,
	uint64_t offset, struct reader **out, struct err *err)
{
	return open_content(rs, repo, false, content, offset, out, err);
}

enum rc
reader_open_now(struct read_service *rs, const struct repo *repo, const struct content *content,
	uint64_t offset, struct reader **out, struct err *err)
{
	return open_content(rs, repo, true, content, offset, out, err);
}

enum rc
reader_open_recipe(struct read_service *rs, const struct repo *repo, uint64_t recipe_id,
	uint64_t size, struct reader **out, struct err *err)
{
	enum rc rc = open_reader(rs, repo, false, out, err);

	if (rc != RC_OK)
		return rc;
	/* it has no name yet, so nothing of it is kept */
	(*out)->key = (struct layout_key){.repo_id = repo->id, .content.kind = CONTENT_RECIPE};
	(*out)->exact = false;
	(*out)->recipe_id = recipe_id;
	(*out)->recipe_known = true;
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

/* ---- reading ---- */

/* Bytes at r->at, of the slice that holds offset. */
static enum rc
ready(struct reader *r, struct err *err)
{
	enum rc rc = RC_OK;

	if (r->at != NULL)
		return RC_OK;
	if (r->next == r->count)
		rc = reader_refill(r, err);
	if (rc == RC_OK && r->count == 0)
		rc = reader_corrupt(r, "recipe: shorter than its content", err);
	return rc;
}

static size_t
copy_out(struct reader *r, uint8_t *out, size_t max)
{
	const struct layout_slice *slice = &r->window[r->next].slice;
	uint64_t done = r->offset - slice->start;
	uint64_t left = slice->length - done;
	size_t n = max;

	if (n > left)
		n = (size_t)left;
	if (n > r->size - r->offset)
		n = (size_t)(r->size - r->offset);
	memcpy(out, r->at + done, n);
	r->offset += n;
	if (n == left) {
		r->next++;
		r->at = NULL;
	}
	return n;
}

/* Some bytes at out; *got is more than 0 after RC_OK. */
static enum rc
step(struct reader *r, uint8_t *out, size_t max, size_t *got, struct err *err)
{
	enum rc rc = ready(r, err);

	*got = 0;
	if (rc == RC_OK && r->at == NULL)
		rc = reader_read_direct(r, out, max, got, err);
	if (rc == RC_OK && r->at == NULL && *got == 0)
		rc = reader_fetch(r, err);
	if (rc == RC_OK && *got == 0)
		*got = copy_out(r, out, max);
	if (rc == RC_OK && (r->wait.waited || r->is_cold))
		reader_read_ahead(r);
	return rc;
}

enum rc
reader_read(struct reader *r, uint8_t *out, size_t max, size_t *got, struct err *err)
{
	size_t n = 0;

	*got = 0;
	while (r->failed.rc == RC_OK && n < max && r->offset < r->size) {
		size_t more = 0;
		if (step(r, out + n, max - n, &more, &r->failed) == RC_OK)
			n += more;
	}
	/* what is right goes out first; the next call tells of the failure */
	if (r->failed.rc != RC_OK && (n == 0 || r->no_wait)) {
		*err = r->failed;
		return err->rc;
	}
	*got = n;
	return RC_OK;
}

static void
trim(struct buf *b)
{
	if (b->cap > IDLE_BUF_BYTES_MAX)
		buf_done(b);
}

void
reader_free(struct reader *r)
{
	if (r == NULL)
		return;
	struct read_service *rs = r->rs;
	reader_let_go(r);
	reader_forget_slices(r);
	r->expected_count = 0;
	trim(&r->stored);
	trim(&r->chunk);
	pthread_mutex_lock(&rs->mtx);
	bool keep = rs->idle_count < IDLE_READERS_MAX;
	if (keep) {
		r->next_idle = rs->idle;
		rs->idle = r;
		rs->idle_count++;
	}
	pthread_mutex_unlock(&rs->mtx);
	if (!keep)
		destroy(r);
}
