/* SPDX-License-Identifier: Apache-2.0 */
#include "codec_stream.h"

#include <stdlib.h>
#include <zstd.h>

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
		if (ZSTD_isError(left)) {
			err_set(err, RC_CORRUPT, NULL, "a zstd stream is damaged");
			return err_detail(err, "zstd: %s", ZSTD_getErrorName(left));
		}
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
