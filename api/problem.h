/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PROBLEM_H
#define DG_PROBLEM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "err.h"
#include "request.h"

/* problem: the one place where an error becomes an HTTP answer (RFC 9457).
 *
 * {"type": "urn:digstore:problem:<kind>", "title", "status", "detail", "instance":
 * "urn:digstore:request:<id>", "request_id", and members of the kind}. Answers of 500 and above are
 * logged here, once, with what err.detail says (at debug level where we only turn work away); that
 * detail never reaches a client.
 * Threads: whichever runs the request's current phase. */

struct problem_kind {
	const char *slug;
	int status;
	const char *title;
};

/* Every kind there is, ending with slug NULL; for tests that compare it with openapi.yaml. */
const struct problem_kind *problem_kinds(void);
/* The kind err means: err->kind, or if that is NULL one that fits err->rc. Never NULL: a kind that
 * is not in the table is a bug() and becomes "internal". */
const struct problem_kind *problem_of(const struct err *err);

/* Answer with what err says. false: an answer was set before. Retry-After is added to 503 and 507.
 */
bool reply_problem(struct request *rq, const struct err *err);
/* The same with the members of extra (an object, stolen, may be NULL) added. A member "allowed", an
 * array of texts, also becomes the header Allow. */
bool reply_problem_with(struct request *rq, const struct err *err, json_t *extra);
/* Answer 405; allow is "GET, HEAD". */
bool reply_not_allowed(struct request *rq, const struct err *err, const char *allow);
/* Answer with body (stolen) as application/json, compact, with a newline at its end. A NULL or
 * unprintable body becomes a 500. */
bool reply_json(struct request *rq, int status, json_t *body);

/* A JSON text of what may not be UTF-8 (a message that was cut, bytes of a client): every byte that
 * is not part of a valid sequence becomes '?'. NULL: no memory. */
json_t *problem_text(const char *text);

#endif
