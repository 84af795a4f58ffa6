/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_REPLY_FILE_H
#define DG_REPLY_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "repo.h"
#include "request.h"

/* reply_file: a stored file as an answer to GET or HEAD, with conditions and ranges.
 *
 * 200, 206 (one range, or several as multipart/byteranges), 304, 412 or 416, by the headers of the
 * request as range.h says; HEAD passes ranges over. ETag is the file id, Last-Modified the mtime. A
 * small answer is read whole, a large one streamed; what fails after the head was sent cuts the
 * connection. Headers of the operation (Digstore-Commit, Digstore-Stage) may be added before. */

struct reply_file {
	struct repo *repo;
	const char *path; /* for the media type and messages */
	size_t path_len;
	struct content content;
	int64_t mtime_ns; /* 0: nobody said it; Last-Modified is then */
	int64_t else_us;  /* this: when the commit or the stage was made */
};

/* Set the answer (always one); the caller calls request_complete. f is borrowed for the call.
 * Blocks: op workers only. */
void reply_file(struct request *rq, const struct reply_file *f);
/* The same for an HTTP thread. false: the answer is not small, or not in memory; nothing was done.
 */
bool reply_file_now(struct request *rq, const struct reply_file *f);

#endif
