/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PUSH_H
#define DG_PUSH_H

#include <stdbool.h>

#include "commit.h"
#include "err.h"
#include "request.h"
#include "stage.h"

/* push: stage and commit in one request. What the query says about the commit, the stage that is
 * only there for it, and the commit at the end.
 *
 * Nothing of a push that could not be committed stays: its stage is abandoned, also one that has a
 * name, whose next push would find it used otherwise. */

/* Names of the query parameters that push_new reads. */
#define PUSH_QUERY "message", "author", "mode", "stage", "expected_parent"

struct push {
	struct request *rq;
	struct server_ctx *srv;
	/* borrowed from rq */
	const char *ref;
	const char *message;
	const char *author;
	const char *stage_name; /* NULL: the server makes one up */
	enum commit_mode mode;
	bool has_expected, expected_none;
	struct sha256 expected;
};

/* From path and query, in the memory of rq, borrowed until close. NULL: rq is answered. */
struct push *push_new(struct request *rq);
/* Open the stage of the push, new or open and empty. RC_CONFLICT "stage-busy": it is used; others
 * as upload_open_stage, also about *out. Blocks. */
enum rc push_open_stage(const struct push *p, struct stage **out, struct err *err);
/* Commit s, answer, and abandon s if that failed. The caller calls request_complete. Blocks. */
void push_commit(const struct push *p, struct stage *s);
/* Abandon s soon, on a worker; s is borrowed. If the workers are busy it stays until it expires.
 * Any thread, does not block. */
void push_abandon(struct server_ctx *srv, struct stage *s);

#endif
