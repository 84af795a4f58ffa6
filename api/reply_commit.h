/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_REPLY_COMMIT_H
#define DG_REPLY_COMMIT_H

#include <stdbool.h>

#include "commit.h"
#include "request.h"

/* reply_commit: a commit made of a stage as an answer. Threads: those that may block. */

#define COMMIT_AUTHOR_DEFAULT "anonymous"
#define COMMIT_REF_DEFAULT    "main"

/* Make the commit that q describes (its receipt and, with a key, its render are filled in here) and
 * answer 201, or say why not. q->stage is borrowed. With a key that was used meanwhile the answer
 * is the one given then. true: the commit was made. The caller calls request_complete. Blocks. */
bool reply_commit(struct request *rq, struct commit_request *q);

/* Answer as key was answered before. false: it was not, and rq is not answered. A key that belongs
 * to another request, or an unreadable answer, is answered as such (true). Blocks. */
bool reply_replayed(
	struct request *rq, const struct repo *repo, const char *key, const struct sha256 *request);

#endif
