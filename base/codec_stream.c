/* SPDX-License-Identifier: Apache-2.0 */
#include "codec_stream.h"

#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

struct codec_stream {
	ZSTD_DCtx *d;
	bool whole;
};

enum rc
codec_stream_open(int window_log_max, struct codec_stream **out, struct err *err)
{
	*out = NULL;
	struct codec_stream *s = calloc(1, sizeof *s);
	if (s == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	s->d = ZSTD_createDCtx();
	if (s->d == NULL ||
		ZSTD_isError(ZSTD_DCtx_setParameter(s->d, ZSTD_d_windowLogMax, window_log_max))) {
		codec_stream_free(s);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	*out = s;
	return RC_OK;
}

void
codec_stream_free(struct codec_stream *s)
{
	if (s == NULL)
		return;
	ZSTD_freeDCtx(s->d);
	free(s);
}

static enum rc
broken(size_t code, struct err *err)
{
	if (ZSTD_getErrorCode(code) == ZSTD_error_frameParameter_windowTooLarge)
		err_set(err, RC_TOO_LARGE, NULL, "a zstd stream needs too large a window");
	else
		err_set(err, RC_CORRUPT, NULL, "a zstd stream is damaged");
	return err_detail(err, "zstd: %s", ZSTD_getErrorName(code));
}

enum rc
codec_stream_expand(struct codec_stream *s, const uint8_t **src, size_t *src_len, uint8_t *dst,
	size_t dst_cap, size_t *got, struct err *err)
{
	ZSTD_inBuffer in = {*src, *src_len, 0};
	ZSTD_outBuffer to = {dst, dst_cap, 0};

	/* also once without input: there may be more to give out */
	do {
		size_t in_before = in.pos;
		size_t out_before = to.pos;
		size_t left = ZSTD_decompressStream(s->d, &to, &in);
		if (ZSTD_isError(left))
			return broken(left, err);
		/* a call that did nothing only says what the next frame's header would take */
		if (in.pos == in_before && to.pos == out_before)
			break;
		s->whole = left == 0;
	} while (to.pos < to.size);
	*src += in.pos;
	*src_len -= in.pos;
	*got = to.pos;
	return RC_OK;
}

bool
codec_stream_is_whole(const struct codec_stream *s)
{
	return s->whole;
}

struct codec_press {
	ZSTD_CCtx *c;
};

enum rc
codec_press_open(int level, struct codec_press **out, struct err *err)
{
	*out = NULL;
	struct codec_press *p = calloc(1, sizeof *p);
	if (p == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	p->c = ZSTD_createCCtx();
	if (p->c == NULL ||
		ZSTD_isError(ZSTD_CCtx_setParameter(p->c, ZSTD_c_compressionLevel, level)) ||
		ZSTD_isError(ZSTD_CCtx_setParameter(p->c, ZSTD_c_checksumFlag, 1))) {
		codec_press_free(p);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	*out = p;
	return RC_OK;
}

void
codec_press_free(struct codec_press *p)
{
	if (p == NULL)
		return;
	ZSTD_freeCCtx(p->c);
	free(p);
}

enum rc
codec_press_add(struct codec_press *p, const uint8_t *data, size_t len, bool end, struct buf *out,
	struct err *err)
{
	ZSTD_inBuffer in = {data, len, 0};
	size_t left;

	do {
		uint8_t piece[16384];
		ZSTD_outBuffer to = {piece, sizeof piece, 0};
		left = ZSTD_compressStream2(p->c, &to, &in, end ? ZSTD_e_end : ZSTD_e_continue);
		buf_add(out, piece, to.pos);
		if (ZSTD_isError(left) || !buf_ok(out))
			return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	} while (in.pos < in.size || (end && left > 0));
	return RC_OK;
}
