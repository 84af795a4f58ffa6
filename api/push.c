/* SPDX-License-Identifier: Apache-2.0 */
#include "push.h"

#include <stdlib.h>
#include <string.h>

#include "name.h"
#include "parse.h"
#include "problem.h"
#include "reply_commit.h"
#include "services.h"
#include "upload.h"

/* ---- the query ---- */

static bool
has_control(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	return false;
}

static bool
take_author(struct request *rq, const char **out)
{
	const char *text = request_query(rq, "author");

	*out = text != NULL ? text : COMMIT_AUTHOR_DEFAULT;
	size_t len = strlen(*out);
	if (len > 0 && len <= COMMIT_AUTHOR_BYTES_MAX && !has_control(*out))
		return true;
	parse_refuse_query(rq, "author", "author must have 1 to %d bytes and no control characters",
		COMMIT_AUTHOR_BYTES_MAX);
	return false;
}

static bool
take_expected(struct request *rq, struct push *out)
{
	const char *text = request_query(rq, "expected_parent");

	out->has_expected = text != NULL;
	out->expected_none = text != NULL && strcmp(text, "none") == 0;
	if (text == NULL || out->expected_none ||
		hash_from_text(text, strlen(text), &out->expected))
		return true;
	parse_refuse_query(rq, "expected_parent",
		"expected_parent must be a commit id of 64 lower-case digits, or none");
	return false;
}

static bool
take_stage_name(struct request *rq, const char **out)
{
	const char *text = request_query(rq, "stage");
	struct err err = ERR_INIT;

	*out = text;
	if (text == NULL || name_check_stage(text, strlen(text), &err) == RC_OK)
		return true;
	reply_problem_with(rq, &err, json_pack("{s:s}", "field", "stage"));
	return false;
}

struct push *
push_new(struct request *rq)
{
	static const char *const modes[] = {"merge", "replace", NULL};
	const char *message = request_query(rq, "message");
	struct push *out = request_alloc(rq, sizeof *out);
	struct err err = ERR_INIT;
	unsigned mode = 0;

	if (out == NULL) {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
		return NULL;
	}
	*out = (struct push){
		.rq = rq,
		.srv = rq->srv,
		.ref = request_param(rq, "rev")->value,
		.message = message != NULL ? message : "",
	};
	if (!take_author(rq, &out->author) || !take_stage_name(rq, &out->stage_name) ||
		!take_expected(rq, out) || !parse_choice(rq, "mode", modes, &mode))
		return NULL;
	out->mode = mode == 1 ? COMMIT_REPLACE : COMMIT_MERGE;
	return out;
}

/* ---- the stage ---- */

enum rc
push_open_stage(const struct push *p, struct stage **out, struct err *err)
{
	struct stage_info info;
	bool created;

	enum rc rc = upload_open_stage(p->rq, p->stage_name, 0, out, &created, err);
	if (rc != RC_OK || created)
		return rc;
	stage_info(*out, &info);
	if (info.files > 0 || info.uploads > 0)
		rc = err_set(err, RC_CONFLICT, "stage-busy",
			"stage \"%s\" is used already; a push needs one of its own", info.name);
	return rc;
}

struct abandonment {
	struct server_ctx *srv;
	struct stage *stage;
};

static void
abandon(void *arg)
{
	struct abandonment *a = arg;
	struct err err = ERR_INIT;

	/* if the database is away it expires, as any other stage */
	stage_abandon(a->srv->stages, a->stage, &err);
	stage_unref(a->stage);
	free(a);
}

void
push_abandon(struct server_ctx *srv, struct stage *s)
{
	struct abandonment *a = malloc(sizeof *a);

	if (a == NULL)
		return;
	*a = (struct abandonment){srv, s};
	stage_ref(s);
	if (request_defer(srv, abandon, a) != RC_OK) {
		stage_unref(s);
		free(a);
	}
}

void
push_commit(const struct push *p, struct stage *s)
{
	struct err err = ERR_INIT;
	struct stage_info info;
	struct commit_request q = {
		.stage = s,
		.ref = p->ref,
		.author = p->author,
		.message = p->message,
		.metadata = "{}",
		.mode = p->mode,
		.has_expected = p->has_expected,
		.expected_none = p->expected_none,
		.expected_parent = p->expected,
	};

	if (reply_commit(p->rq, &q))
		return;
	/* one with a name may be somebody else's by now */
	stage_info(s, &info);
	if (info.state == STAGE_OPEN && info.uploads == 0)
		stage_abandon(p->srv->stages, s, &err);
}
