/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_filter.h"

#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST /* next_in points to const */
#include <zlib.h>

#include "buf.h"
#include "codec_stream.h"

#define OUT_BYTES       ((size_t)256 << 10)
#define MAGIC_BYTES     4
#define WINDOW_LOG_MAX  23 /* 8 MiB: what RFC 9659 makes every decoder promise, and no more */
#define ZSTD_MAGIC      0xfd2fb528u
#define ZSTD_SKIP_MAGIC 0x184d2a50u /* and the 15 after it */

struct archive_filter {
	struct archive_filter_options options;
	enum archive_coding coding;
	bool at_end;
	uint64_t read_bytes;

	uint8_t magic[MAGIC_BYTES]; /* the first bytes, which may have come one by one */
	const uint8_t *in;          /* what read gave and nobody has taken */
	size_t in_len;
	const uint8_t *rest; /* follows when in is magic */
	size_t rest_len;

	uint8_t *out;
	z_stream z;
	bool z_open;
	bool z_whole; /* a member has ended and no other begun */
	bool padding; /* zeros behind the last member */
	struct codec_stream *zstd;
};

static enum rc
invalid(struct err *err, const char *what)
{
	return err_set(err, RC_INVALID, "invalid-archive", "%s", what);
}

/* More bytes into in, unless the stream is at its end. */
static enum rc
fill(struct archive_filter *f, struct err *err)
{
	const uint8_t *data = NULL;

	if (f->rest_len > 0) {
		f->in = f->rest;
		f->in_len = f->rest_len;
		f->rest_len = 0;
		return RC_OK;
	}
	if (f->at_end)
		return RC_OK;
	ssize_t n = f->options.read(f->options.arg, &data, err);
	if (n < 0)
		return err->rc != RC_OK ? err->rc
					: err_set(err, RC_INVALID, "body-mismatch",
						  "the upload was cut off");
	f->at_end = n == 0;
	f->in = data;
	f->in_len = (size_t)n;
	f->read_bytes += (uint64_t)n;
	return RC_OK;
}

static enum archive_coding
coding_of(const uint8_t *magic, size_t len)
{
	if (len >= 2 && magic[0] == 0x1f && magic[1] == 0x8b)
		return ARCHIVE_GZIP;
	if (len == MAGIC_BYTES &&
		(get_u32(magic) == ZSTD_MAGIC || (get_u32(magic) & ~15u) == ZSTD_SKIP_MAGIC))
		return ARCHIVE_ZSTD;
	return ARCHIVE_PLAIN;
}

/* Collect the first bytes; whatever came with the last of them follows as rest. */
static enum rc
read_magic(struct archive_filter *f, size_t *len, struct err *err)
{
	*len = 0;
	while (*len < MAGIC_BYTES) {
		enum rc rc = fill(f, err);
		if (rc != RC_OK)
			return rc;
		if (f->in_len == 0)
			break;
		size_t n = MAGIC_BYTES - *len < f->in_len ? MAGIC_BYTES - *len : f->in_len;
		memcpy(f->magic + *len, f->in, n);
		*len += n;
		f->rest = f->in + n;
		f->rest_len = f->in_len - n;
	}
	f->in = f->magic;
	f->in_len = *len;
	return *len > 0 ? RC_OK : invalid(err, "there is no archive: the body is empty");
}

static enum rc
check_allowed(const struct archive_filter *f, struct err *err)
{
	switch (f->coding) {
	case ARCHIVE_GZIP:
		if (f->options.allow_gzip)
			return RC_OK;
		return invalid(
			err, "the archive is compressed with gzip, which is not what was declared");
	case ARCHIVE_ZSTD:
		if (f->options.allow_zstd)
			return RC_OK;
		return invalid(
			err, "the archive is compressed with zstd, which is not what was declared");
	case ARCHIVE_PLAIN:
		break;
	}
	if (f->options.allow_plain)
		return RC_OK;
	if (f->options.allow_gzip && f->options.allow_zstd)
		return invalid(err, "the archive is not compressed, which it was declared to be");
	if (f->options.allow_gzip)
		return invalid(err, "the archive is not compressed with gzip, as was declared");
	return invalid(err, "the archive is not compressed with zstd, as was declared");
}

static enum rc
start_coding(struct archive_filter *f, struct err *err)
{
	if (f->coding == ARCHIVE_PLAIN)
		return RC_OK;
	f->out = malloc(OUT_BYTES);
	if (f->out == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	if (f->coding == ARCHIVE_ZSTD)
		return codec_stream_open(WINDOW_LOG_MAX, &f->zstd, err);
	if (inflateInit2(&f->z, 16 + MAX_WBITS) != Z_OK)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	f->z_open = true;
	return RC_OK;
}

enum rc
archive_filter_open(
	const struct archive_filter_options *options, struct archive_filter **out, struct err *err)
{
	size_t len = 0;

	*out = NULL;
	struct archive_filter *f = calloc(1, sizeof *f);
	if (f == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	f->options = *options;
	enum rc rc = read_magic(f, &len, err);
	if (rc == RC_OK) {
		f->coding = coding_of(f->magic, len);
		rc = check_allowed(f, err);
	}
	if (rc == RC_OK)
		rc = start_coding(f, err);
	if (rc != RC_OK) {
		archive_filter_free(f);
		return rc;
	}
	*out = f;
	return RC_OK;
}

void
archive_filter_free(struct archive_filter *f)
{
	if (f == NULL)
		return;
	if (f->z_open)
		inflateEnd(&f->z);
	codec_stream_free(f->zstd);
	free(f->out);
	free(f);
}

enum archive_coding
archive_filter_coding(const struct archive_filter *f)
{
	return f->coding;
}

static enum rc
damaged(const char *what, const char *why, struct err *err)
{
	err_set(err, RC_INVALID, "invalid-archive", "the %s stream around the archive is damaged",
		what);
	return err_detail(err, "%s", why != NULL ? why : "no reason given");
}

/* What follows the last member: another one, or zeros up to the end (tapes and some tools pad). */
static enum rc
after_member(struct archive_filter *f, struct err *err)
{
	if (f->in[0] != 0 && !f->padding) {
		f->z_whole = false;
		return inflateReset(&f->z) == Z_OK ? RC_OK : damaged("gzip", "reset", err);
	}
	f->padding = true;
	for (size_t i = 0; i < f->in_len; i++)
		if (f->in[i] != 0)
			return invalid(
				err, "something else follows the gzip stream of the archive");
	f->in_len = 0;
	return RC_OK;
}

static enum rc
expand_gzip(struct archive_filter *f, size_t *got, struct err *err)
{
	if (f->z_whole) {
		*got = 0;
		enum rc rc = after_member(f, err);
		if (rc != RC_OK || f->in_len == 0)
			return rc;
	}
	f->z.next_in = f->in;
	f->z.avail_in = f->in_len < UINT32_MAX ? (uInt)f->in_len : UINT32_MAX;
	f->z.next_out = f->out;
	f->z.avail_out = OUT_BYTES;
	int z = inflate(&f->z, Z_NO_FLUSH);
	if (z == Z_MEM_ERROR)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	if (z != Z_OK && z != Z_STREAM_END && z != Z_BUF_ERROR)
		return damaged("gzip", f->z.msg, err);
	f->z_whole = z == Z_STREAM_END;
	f->in_len -= (size_t)(f->z.next_in - f->in);
	f->in = f->z.next_in;
	*got = OUT_BYTES - f->z.avail_out;
	return RC_OK;
}

static enum rc
expand_zstd(struct archive_filter *f, size_t *got, struct err *err)
{
	struct err why = ERR_INIT;

	enum rc rc = codec_stream_expand(f->zstd, &f->in, &f->in_len, f->out, OUT_BYTES, got, &why);
	if (rc == RC_TOO_LARGE)
		return invalid(err,
			"the zstd stream around the archive needs a window of more than 8 MiB");
	return rc == RC_OK ? RC_OK : damaged("zstd", why.detail, err);
}

static bool
has_ended(const struct archive_filter *f)
{
	return f->coding == ARCHIVE_GZIP ? f->z_whole : codec_stream_is_whole(f->zstd);
}

static enum rc
next_expanded(struct archive_filter *f, size_t *got, struct err *err)
{
	bool drained = false;

	for (*got = 0; *got == 0;) {
		enum rc rc = RC_OK;
		if (f->in_len == 0)
			rc = fill(f, err);
		if (rc != RC_OK)
			return rc;
		if (f->in_len == 0 && has_ended(f))
			return RC_OK;
		if (f->in_len == 0 && drained)
			return invalid(
				err, "the archive is cut off: its compressed stream has no end");
		drained = f->in_len == 0; /* the decoder may still hold what found no room before */
		rc = f->coding == ARCHIVE_GZIP ? expand_gzip(f, got, err)
					       : expand_zstd(f, got, err);
		if (rc != RC_OK)
			return rc;
	}
	return RC_OK;
}

enum rc
archive_filter_next(struct archive_filter *f, const uint8_t **data, size_t *len, struct err *err)
{
	enum rc rc = RC_OK;

	if (f->coding != ARCHIVE_PLAIN) {
		rc = next_expanded(f, len, err);
		*data = f->out;
		return rc;
	}
	if (f->in_len == 0)
		rc = fill(f, err);
	*data = f->in;
	*len = f->in_len;
	f->in_len = 0;
	return rc;
}

uint64_t
archive_filter_read_bytes(const struct archive_filter *f)
{
	return f->read_bytes;
}

bool
archive_filter_at_end(const struct archive_filter *f)
{
	return f->at_end;
}
