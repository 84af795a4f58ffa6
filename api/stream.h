/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_STREAM_H
#define DG_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "request.h"

/* stream: a body made by blocking code, sent by an HTTP thread that must not block.
 *
 * Jobs on the op workers fill one of STREAM_PIECES pieces each and return; the HTTP thread copies
 * out of the ready one. A job is queued only while a piece is free, so a slow client holds memory
 * but never a worker, and the next piece is read while this one is sent. If the workers' queue is
 * full the stream tries again on its next read or after STREAM_RETRY_MS. The first piece is made
 * before the answer is set: what fails there is an answer of its own. What fails later cuts the
 * connection and is logged once. Memory: STREAM_PIECES pieces a stream, smaller when all streams
 * together hold much. */

#define STREAM_PIECES      2
#define STREAM_WHOLE_BYTES ((size_t)128 << 10) /* up to this an answer is sent without a stream */
#define STREAM_RETRY_MS    20

/* Append about want bytes (with stream_options.bytes known never more) to out; nothing only at the
 * end. Op workers, one at a time; may block. */
typedef enum rc stream_fill_fn(void *arg, struct buf *out, size_t want, struct err *err);
typedef void stream_release_fn(void *arg);

struct stream_options {
	stream_fill_fn *fill;
	stream_release_fn
		*release; /* once, when fill is no more called; any thread, must not block */
	void *arg;        /* handed over */
	uint64_t bytes;   /* of the body; UINT64_MAX: unknown, ends when fill gives nothing */
};

/* Set the answer of rq to what fill makes. Blocks for the first piece. On failure no answer is set;
 * arg is released in any case. What fill returns, RC_NOMEM, RC_CORRUPT kind "corrupt-data": fill
 * ended before `bytes`. */
enum rc stream_reply(struct request *rq, int status, const char *content_type,
	const struct stream_options *o, struct err *err);

struct stream_stats {
	size_t streams;
	size_t bytes; /* held in pieces */
};
struct stream_stats stream_stats(void);

#endif
