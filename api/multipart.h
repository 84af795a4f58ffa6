/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_MULTIPART_H
#define DG_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* multipart: multipart/form-data (RFC 7578) as it arrives, in pieces of any size.
 *
 * Bytes are pushed in and come out as parts: begin, data, end. However the body is cut into pieces,
 * the parts are the same. Nothing is buffered but the head of one part, so a part may be of any
 * size; who takes fewer data bytes than offered gets the rest later.
 *
 * Strict where a guess could put bytes under a wrong name: lines end with CRLF, heads are bounded,
 * a delimiter line holds the boundary and nothing else, every part is a form-data part, codings
 * (Content-Transfer-Encoding) and nested multiparts are refused. Bytes before the first and after
 * the last delimiter are passed over.
 *
 * A file name is taken from filename*=UTF-8''… if that is there, else from filename="…", in which
 * \" and \\ are read as curl writes them, and %22, %0D and %0A as browsers do; every other
 * backslash and percent sign means itself. Names are bytes here: checking them is the caller's
 * work.
 *
 * All failures are RC_INVALID kind "form-invalid", or what a callback returns; after one the parser
 * takes nothing more. Threads: one at a time. */

#define MULTIPART_BOUNDARY_BYTES_MAX 70
#define MULTIPART_HEAD_BYTES_MAX     8192 /* of one part, all lines */
#define MULTIPART_HEADERS_MAX        16

struct multipart_part {
	const char *filename; /* NUL-terminated, borrowed for the call; NULL: it has none */
	size_t filename_len;  /* may be 0 */
};

/* What comes out, on the thread that pushes. */
struct multipart_ops {
	/* A failure ends it all. */
	enum rc (*begin)(void *arg, const struct multipart_part *part, struct err *err);
	/* Take up to len (> 0) bytes and return how many; fewer: no more now, and multipart_push
	 * returns. */
	size_t (*data)(void *arg, const uint8_t *data, size_t len);
	enum rc (*end)(void *arg, struct err *err);
};

struct multipart;

/* boundary as upload_headers_boundary gives it; ops borrowed until multipart_free. RC_NOMEM. */
enum rc multipart_open(const char *boundary, const struct multipart_ops *ops, void *arg,
	struct multipart **out, struct err *err);
void multipart_free(struct multipart *m);

/* Take bytes of the body: *taken (<= len) is how many; fewer than len, and RC_OK, only if data()
 * took fewer: push the rest when it can take more. */
enum rc multipart_push(
	struct multipart *m, const uint8_t *data, size_t len, size_t *taken, struct err *err);
/* The body is at its end: has the form been, too? */
enum rc multipart_finish(const struct multipart *m, struct err *err);

#endif
