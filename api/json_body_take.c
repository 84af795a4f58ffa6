/* SPDX-License-Identifier: Apache-2.0 */
/* What json_body.c finds, as answers to a request. */
#include <stdarg.h>
#include <stdio.h>

#include "json_body.h"
#include "problem.h"

static void
answer(struct request *rq, const struct json_problem *problem, const struct err *err)
{
	json_t *extra = json_object();

	if (err_is(err, "invalid-field"))
		json_object_set_new(extra, "field", problem_text(problem->field));
	if (problem->limit > 0)
		json_object_set_new(extra, "limit", json_integer((json_int_t)problem->limit));
	reply_problem_with(rq, err, extra);
}

bool
json_body_take(struct request *rq, struct json_field *fields, size_t count, json_t **root)
{
	struct json_problem problem;
	struct err err = ERR_INIT;

	if (json_body_parse(rq->json, rq->json_bytes, fields, count, root, &problem, &err) == RC_OK)
		return true;
	answer(rq, &problem, &err);
	return false;
}

void
json_body_refuse(struct request *rq, const char *field, const char *fmt, ...)
{
	struct json_problem problem = {.limit = 0};
	struct err err = ERR_INIT;
	char text[sizeof err.text];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	err_set(&err, RC_INVALID, "invalid-field", "%s", text);
	snprintf(problem.field, sizeof problem.field, "%s", field);
	answer(rq, &problem, &err);
}
