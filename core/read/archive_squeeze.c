/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_squeeze.h"

#include <stdlib.h>
#define ZLIB_CONST /* next_in points to const */
#include <zlib.h>

#include "codec_stream.h"

#define GZIP_LEVEL  6
#define ZSTD_LEVEL  3
#define PIECE_BYTES 16384

struct archive_squeeze {
	struct codec_press *zstd; /* NULL: gzip */
	z_stream z;
	bool z_open;
};

static enum rc
no_memory(struct err *err)
{
	return err_set(err, RC_NOMEM, "no-memory", "out of memory");
}

enum rc
archive_squeeze_open(enum archive_squeeze_kind kind, struct archive_squeeze **out, struct err *err)
{
	enum rc rc = RC_OK;

	*out = NULL;
	struct archive_squeeze *s = calloc(1, sizeof *s);
	if (s == NULL)
		return no_memory(err);
	if (kind == ARCHIVE_SQUEEZE_ZSTD) {
		rc = codec_press_open(ZSTD_LEVEL, &s->zstd, err);
	} else {
		s->z_open = deflateInit2(&s->z, GZIP_LEVEL, Z_DEFLATED, 16 + MAX_WBITS, 8,
				    Z_DEFAULT_STRATEGY) == Z_OK;
		rc = s->z_open ? RC_OK : no_memory(err);
	}
	if (rc != RC_OK) {
		archive_squeeze_free(s);
		return rc;
	}
	*out = s;
	return RC_OK;
}

void
archive_squeeze_free(struct archive_squeeze *s)
{
	if (s == NULL)
		return;
	codec_press_free(s->zstd);
	if (s->z_open)
		deflateEnd(&s->z);
	free(s);
}

/* len fits into an uInt. */
static enum rc
add_gzip(struct archive_squeeze *s, const uint8_t *data, size_t len, bool end, struct buf *out,
	struct err *err)
{
	uint8_t piece[PIECE_BYTES];

	s->z.next_in = data;
	s->z.avail_in = (uInt)len;
	do {
		s->z.next_out = piece;
		s->z.avail_out = sizeof piece;
		/* the only failures are mistakes of ours and a call with nothing to do */
		deflate(&s->z, end ? Z_FINISH : Z_NO_FLUSH);
		buf_add(out, piece, sizeof piece - s->z.avail_out);
		if (!buf_ok(out))
			return no_memory(err);
	} while (s->z.avail_out == 0);
	return RC_OK;
}

enum rc
archive_squeeze_add(struct archive_squeeze *s, const uint8_t *data, size_t len, bool end,
	struct buf *out, struct err *err)
{
	const size_t most = (size_t)1 << 30;

	if (s->zstd != NULL)
		return codec_press_add(s->zstd, data, len, end, out, err);
	while (len > most) {
		enum rc rc = add_gzip(s, data, most, false, out, err);
		if (rc != RC_OK)
			return rc;
		data += most;
		len -= most;
	}
	return add_gzip(s, data, len, end, out, err);
}
