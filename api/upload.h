/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_UPLOAD_H
#define DG_UPLOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "request.h"
#include "sha256.h"
#include "stage.h"
#include "upload_headers.h"

/* upload: one file as the body of a request, on its way into a stage.
 *
 *   upload_new    headers, names and query are judged        admission, any thread
 *   upload_enter  the stage is entered, a writer is open     admission; blocks if upload_blocks
 *   upload_piece  body bytes go to the writer                HTTP thread
 *   upload_end    the file is finished, suspended or dropped HTTP thread
 *   settle        it is durable, or it is not                committer thread
 *   upload_close  what is still open is suspended or dropped HTTP thread
 *
 * The engine may hold the file longer than the request lives, and the request longer than the
 * engine: both have a reference. Nothing here waits but upload_enter where it says so. */

enum upload_plan {
	UPLOAD_WHOLE,    /* the body is the file, or the last piece of it */
	UPLOAD_PIECE,    /* more is to come: suspend at the end */
	UPLOAD_REPEATED, /* all of it was taken before: pass over it */
};

struct upload;
struct upload_ops {
	/* All of the body has come, and the file is durable (put.file.partial: in part) or, if rc
	 * is not RC_OK, was dropped. Answer and request_complete. Must not block. */
	void (*settle)(struct upload *u, enum rc rc, const struct err *err);
	/* The file has left the engine and nobody is to be told: the body was cut, or the answer
	 * was given before. NULL: nothing to do. Must not block. */
	void (*forsaken)(struct upload *u);
};

struct upload {
	struct stage_put put; /* first: the engine knows this one */
	/* immutable after upload_enter */
	const struct upload_ops *ops;
	struct request *rq;
	struct server_ctx *srv;
	struct stage *stage; /* a reference */
	bool takes_pieces;   /* Content-Range is allowed */
	bool keeps;          /* what came before a cut is kept */
	bool has_range;
	struct upload_range range;
	bool has_digest;
	struct sha256 digest;
	enum upload_plan plan;
	/* UPLOAD_REPEATED: where the upload stands, or if it is whole the file */
	bool is_staged;
	uint64_t offset;
	struct tree_entry entry;
	bool passes_over; /* the body is a piece that was taken before, and now known to be the last
			   */
	void *arg;        /* the operation's; not for forsaken: the request may be gone */
	/* owned by the HTTP thread after admission */
	struct ingest_writer *writer;
	bool is_open; /* a file is in the writer */
	bool refused; /* of our own accord: keep nothing */
	uint64_t body_bytes;
	uint8_t *tail; /* of the piece before: goes first */
	size_t tail_bytes, tail_written;
	/* set before the end, read by the committer after it */
	bool owes_answer;

	atomic_int refs;
};

/* Judge the request: names, Content-Range, digests, coding, file_mode, mtime, size. NULL: it is
 * answered. The request's; upload_close lets go of it. */
struct upload *upload_new(struct request *rq, const struct upload_ops *ops, bool takes_pieces);
/* upload_enter would have to ask the database. */
bool upload_blocks(const struct upload *u);
/* Enter s, whose reference is handed over, and open a writer. false: the request is answered. */
bool upload_enter(struct upload *u, struct stage *s);
/* The operations' phases; upload_close with u NULL is allowed. */
size_t upload_piece(struct upload *u, const uint8_t *data, size_t len);
void upload_end(struct upload *u);
void upload_close(struct upload *u);

/* Answer with what err says, for settle and the phases: digests, stages and offsets have members of
 * their own. */
void upload_refuse(struct upload *u, const struct err *err);
/* Answer that the file is staged: 201, or 200 if nothing was new. Quick, does not block. */
void upload_answer(struct upload *u);

/* Open the stage that files are put into, and its repository, both made on the way. name NULL: a
 * new stage with a name of ours; ttl_us as stage_open. A stage that is just being deleted is waited
 * for. Fails as stage_check_open, then *out is the stage all the same if it is known (else NULL),
 * with a reference. Blocks. */
enum rc upload_open_stage(struct request *rq, const char *name, uint64_t ttl_us, struct stage **out,
	bool *created, struct err *err);

#endif
