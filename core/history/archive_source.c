/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Small archives may be all zeros, and a ratio says little about them. */
#define RATIO_FREE_BYTES ((uint64_t)64 << 20)

struct archive_source {
	struct archive_filter *filter;
	uint64_t ratio_max;
	bool ended;
	struct err err; /* rc is RC_OK as long as nothing failed */

	const uint8_t *block; /* what libarchive has now */
	size_t block_len;
	uint64_t block_start;

	uint8_t *kept; /* what came before the block; 2 * ARCHIVE_SOURCE_KEEP_ZIP */
	size_t kept_len;
	size_t keep;

	const uint8_t *again[2]; /* after archive_source_rewind: given out once more */
	size_t again_len[2];
};

enum rc
archive_source_open(
	const struct archive_source_options *options, struct archive_source **out, struct err *err)
{
	*out = NULL;
	struct archive_source *s = calloc(1, sizeof *s);
	uint8_t *kept = malloc(2 * ARCHIVE_SOURCE_KEEP_ZIP);
	if (s == NULL || kept == NULL) {
		free(s);
		free(kept);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	s->kept = kept;
	s->keep = ARCHIVE_SOURCE_KEEP_ZIP;
	s->ratio_max = options->ratio_max;
	enum rc rc = archive_filter_open(&options->filter, &s->filter, err);
	if (rc != RC_OK) {
		archive_source_free(s);
		return rc;
	}
	*out = s;
	return RC_OK;
}

void
archive_source_free(struct archive_source *s)
{
	if (s == NULL)
		return;
	archive_filter_free(s->filter);
	free(s->kept);
	free(s);
}

void
archive_source_keep(struct archive_source *s, size_t bytes)
{
	s->keep = bytes;
}

/* Append the block's tail; everything moves to the front only every now and then. */
static void
keep_tail(struct archive_source *s)
{
	size_t n = s->block_len < s->keep ? s->block_len : s->keep;

	if (n == 0)
		return;
	if (s->kept_len + n > 2 * s->keep) {
		size_t old = s->keep - n < s->kept_len ? s->keep - n : s->kept_len;
		memmove(s->kept, s->kept + s->kept_len - old, old);
		s->kept_len = old;
	}
	memcpy(s->kept + s->kept_len, s->block + s->block_len - n, n);
	s->kept_len += n;
}

enum rc
archive_source_check_ratio(const struct archive_source *s, uint64_t expanded_bytes, struct err *err)
{
	uint64_t read_bytes = archive_filter_read_bytes(s->filter);
	uint64_t filtered = s->block_start + s->block_len;
	uint64_t most = expanded_bytes > filtered ? expanded_bytes : filtered;

	if (most <= RATIO_FREE_BYTES || (most - 1) / s->ratio_max < read_bytes)
		return RC_OK;
	return err_set(err, RC_TOO_LARGE, "archive-too-large",
		"the archive unpacks to more than %" PRIu64 " times its size", s->ratio_max);
}

static enum rc
next_block(struct archive_source *s, struct err *err)
{
	s->block_start += s->block_len;
	s->block_len = 0;
	enum rc rc = archive_filter_next(s->filter, &s->block, &s->block_len, err);
	if (rc == RC_OK)
		rc = archive_source_check_ratio(s, 0, err);
	return rc;
}

la_ssize_t
archive_source_read(struct archive *a, void *source, const void **data)
{
	struct archive_source *s = source;

	if (s->err.rc == RC_OK && !s->ended) {
		keep_tail(s);
		next_block(s, &s->err);
		s->ended = s->err.rc == RC_OK && s->block_len == 0;
	}
	if (s->err.rc != RC_OK) {
		archive_set_error(a, EIO, "%s", s->err.text);
		return -1;
	}
	*data = s->block;
	return (la_ssize_t)s->block_len;
}

bool
archive_source_failed(const struct archive_source *s, struct err *err)
{
	if (s->err.rc == RC_OK)
		return false;
	*err = s->err;
	return true;
}

bool
archive_source_ended(const struct archive_source *s)
{
	return s->ended;
}

enum rc
archive_source_rewind(struct archive_source *s, uint64_t position, struct err *err)
{
	uint64_t end = s->block_start + s->block_len;
	uint64_t back = position < s->block_start ? s->block_start - position : 0;

	if (position > end || back > s->kept_len) {
		err_set(err, RC_BUG, NULL, "the end of the archive could not be checked");
		return err_detail(err, "archive source: position %" PRIu64 ", block at %" PRIu64,
			position, s->block_start);
	}
	s->again[0] = s->kept + s->kept_len - back;
	s->again_len[0] = (size_t)back;
	uint64_t from = position < s->block_start ? s->block_start : position;
	s->again[1] = s->block + (from - s->block_start);
	s->again_len[1] = (size_t)(end - from);
	return RC_OK;
}

enum rc
archive_source_next(struct archive_source *s, const uint8_t **data, size_t *len, struct err *err)
{
	enum rc rc = RC_OK;

	for (int i = 0; i < 2; i++) {
		if (s->again_len[i] == 0)
			continue;
		*data = s->again[i];
		*len = s->again_len[i];
		s->again_len[i] = 0;
		return RC_OK;
	}
	*len = 0;
	if (!s->ended)
		rc = next_block(s, err);
	if (rc == RC_OK) {
		*data = s->block;
		*len = s->block_len;
		s->ended = s->block_len == 0;
	}
	return rc;
}
