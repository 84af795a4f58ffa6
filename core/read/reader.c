/* SPDX-License-Identifier: Apache-2.0 */
/* A read goes slice by slice: where is its chunk (located in batches, which grow as the read goes
 * on), the frame it is in (the reader's own two, the cache, the pack), is the chunk right. Only
 * then are bytes copied, once, from the frame to the caller. */
#include "reader.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "db_recipe.h"
#include "reader_internal.h"

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
		return reader_corrupt(r, "unknown kind of content", err);
	if (content->kind == CONTENT_RECIPE) {
		rc = db_file_get(r->rs->options.db, r->repo_id, &content->id, &file, err);
		if (rc != RC_OK)
			return rc;
		if (file.size != content->size)
			return reader_corrupt(r, "the file's row has another size", err);
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

enum rc
reader_expect(struct reader *r, const struct content *contents, size_t count, struct err *err)
{
	size_t n = 0;
	size_t found = 0;

	r->expected_count = 0;
	r->expected_next = 0;
	for (size_t i = 0; i < count && n < READER_EXPECT_MAX; i++)
		if (contents[i].kind == CONTENT_CHUNK && contents[i].size > 0)
			r->hashes[n++] = contents[i].id;
	if (n < 2)
		return RC_OK;
	if (r->expected == NULL)
		r->expected = calloc(READER_EXPECT_MAX, sizeof *r->expected);
	if (r->expected == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	enum rc rc = db_chunk_locate(
		r->rs->options.db, r->repo_id, r->hashes, n, r->expected, &found, err);
	if (rc == RC_OK)
		r->expected_count = n;
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
		rc = reader_refill(r, err);
	if (rc == RC_OK && r->count == 0)
		rc = reader_corrupt(r, "recipe: shorter than its content", err);
	return rc == RC_OK ? reader_fetch(r, err) : rc;
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
	reader_let_go(r);
	free(r->expected);
	codec_free(r->codec);
	buf_done(&r->stored);
	buf_done(&r->part);
	free(r);
}
