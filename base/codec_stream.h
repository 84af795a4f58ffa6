/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CODEC_STREAM_H
#define DG_CODEC_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

/* codec_stream: zstd streams of and for others, a piece at a time. What we store is not made of
 * streams: see codec.h.
 *
 * Expanding takes any number of frames one after the other, skippable ones too, as zstd -d does.
 * Its memory is the window a frame asks for, at most 2^window_log_max bytes, and about 0.3 MiB.
 * Compressing makes one frame with a checksum, and takes about 4 MiB at level 3.
 * Threads: one at a time. */

struct codec_stream;
struct codec_press;

/* RC_NOMEM. */
enum rc codec_stream_open(int window_log_max, struct codec_stream **out, struct err *err);
/* NULL is allowed. */
void codec_stream_free(struct codec_stream *s);

/* Expand from *src, which is moved over what was taken, until src_len is used up or dst is full;
 * *got says what is in dst. When it gave less than dst_cap and all was taken, it wants more.
 * RC_CORRUPT: these bytes are no zstd, or damaged. RC_TOO_LARGE: a frame asks for a larger window.
 * The detail says more; the stream is unusable then. */
enum rc codec_stream_expand(struct codec_stream *s, const uint8_t **src, size_t *src_len,
	uint8_t *dst, size_t dst_cap, size_t *got, struct err *err);

/* Whether what was taken so far ends with the end of a frame, all of it given out. */
bool codec_stream_is_whole(const struct codec_stream *s);

/* RC_NOMEM. */
enum rc codec_press_open(int level, struct codec_press **out, struct err *err);
/* NULL is allowed. */
void codec_press_free(struct codec_press *p);

/* Take all len bytes; append to out what has come out so far. end: finish the frame, and take
 * nothing after that. RC_NOMEM, also if out is at its limit. */
enum rc codec_press_add(struct codec_press *p, const uint8_t *data, size_t len, bool end,
	struct buf *out, struct err *err);

#endif
