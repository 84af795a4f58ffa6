/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ARCHIVE_UPLOAD_H
#define DG_ARCHIVE_UPLOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "archive_in.h"
#include "body_pipe.h"
#include "err.h"
#include "put_prefix.h"
#include "request.h"
#include "sha256.h"
#include "stage.h"
#include "unpack_threads.h"
#include "upload_headers.h"

/* archive_upload: an archive as the body of a request, unpacked into a stage.
 *
 *   HTTP thread            pipe             unpacking thread (or the line for one)
 *   archive_upload_piece -> body_pipe_write -> archive_in reads, files go to ingest
 *   archive_upload_end   -> end of the body -> digest, one durable step, finish
 *   archive_upload_close -> cut (if there was no end): the thread gives up
 *
 * Who answers: the thread, once the body has ended; before that the HTTP thread, which finds the
 * thread's error when the next piece comes. The request and the thread hold a reference each. */

struct archive_upload;
struct archive_upload_ops {
	/* Unpacking thread: everything is staged. Answer; request_complete is called after it. May
	 * block. */
	void (*finish)(struct archive_upload *u, const struct archive_in_result *result);
	/* Nothing was staged. Any thread, must not block. NULL: nothing to do. */
	void (*forsaken)(struct archive_upload *u);
};

struct archive_upload {
	struct unpack_job job; /* first */
	/* immutable after archive_upload_enter */
	const struct archive_upload_ops *ops;
	struct request *rq;
	struct server_ctx *srv;
	struct stage *stage; /* a reference */
	struct body_pipe *pipe;
	struct upload_archive form;
	bool skip_special;
	bool has_digest;
	struct sha256 digest;
	char prefix[PUT_PREFIX_BYTES];
	/* the operation's */
	void *arg;       /* not for forsaken: the request may be gone */
	bool disposable; /* the stage has no name that anybody knows */
	/* owned by the thread */
	struct sha256_stream sha;
	struct stage_live live;
	bool entered;
	/* set before failed */
	struct err err;
	char refused[PATH_BYTES_MAX + 1];
	/* the thread's error and the HTTP thread's end of the body: who comes second answers */
	_Atomic unsigned state;
	atomic_int refs;
};

/* Judge the request: names, media type, coding, digests, prefix, special. NULL: it is answered. The
 * request's; archive_upload_close lets go of it. */
struct archive_upload *archive_upload_new(struct request *rq, const struct archive_upload_ops *ops);
/* Enter s, whose reference is handed over, and get in line for a thread. false: the request is
 * answered. */
bool archive_upload_enter(struct archive_upload *u, struct stage *s);
/* The operations' phases; archive_upload_close with u NULL is allowed. */
size_t archive_upload_piece(struct archive_upload *u, const uint8_t *data, size_t len);
void archive_upload_end(struct archive_upload *u);
void archive_upload_close(struct archive_upload *u);

/* Answer with what err says. */
void archive_upload_refuse(struct archive_upload *u, const struct err *err);

#endif
