/* SPDX-License-Identifier: Apache-2.0 */
#include "reply_commit.h"

#include <stdlib.h>

#include "problem.h"
#include "services.h"
#include "show_commit.h"
#include "show_entry.h"
#include "show_stage.h"

#define ANSWER_BYTES_MAX ((size_t)1 << 20)

struct rendering {
	const struct repo *repo;
};

/* The body of the 201, as it is sent and as it is remembered. */
static enum rc
render(void *arg, const struct commit *c, struct buf *body, struct err *err)
{
	const struct rendering *r = arg;
	json_t *json = show_commit(r->repo, c);
	char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

	if (text != NULL) {
		buf_add_str(body, text);
		buf_add_u8(body, '\n');
	}
	bool ok = text != NULL && buf_ok(body);
	json_decref(json);
	free(text);
	return ok ? RC_OK : err_set(err, RC_NOMEM, "no-memory", "out of memory");
}

static void
add_location(struct request *rq, const struct repo *repo, const char *commit_id)
{
	reply_header(rq, "Location", "/v1/repos/%s/commits/%s", repo->name, commit_id);
}

/* ---- refusals ---- */

static json_t *
show_paths(const struct commit_refusal *r)
{
	json_t *paths = json_array();

	for (unsigned i = 0; i < r->path_count; i++)
		json_array_append_new(paths, problem_text(r->paths[i]));
	return paths;
}

static void
refuse(struct request *rq, struct stage *s, const struct commit_refusal *r, const struct err *err)
{
	bool has_head = err_is(err, "parent-mismatch") || err_is(err, "ref-conflict") ||
			err_is(err, "merge-conflict");
	bool has_paths = err_is(err, "merge-conflict") || err_is(err, "path-conflict");

	if (!has_head && !has_paths) {
		reply_stage_problem(rq, s, err);
		return;
	}
	json_t *extra = json_object();
	if (has_head)
		json_object_set_new(extra, "head", r->has_head ? show_hash(&r->head) : json_null());
	if (has_paths)
		json_object_set_new(extra, "paths", show_paths(r));
	reply_problem_with(rq, err, extra);
}

/* ---- the answer ---- */

static void
answer(struct request *rq, const struct repo *repo, const struct commit *c)
{
	struct rendering r = {.repo = repo};
	char id[SHA256_HEX_BYTES];
	struct err err = ERR_INIT;
	struct buf body;
	size_t len;

	buf_init(&body, ANSWER_BYTES_MAX);
	if (render(&r, c, &body, &err) == RC_OK) {
		sha256_hex(&c->id, id);
		add_location(rq, repo, id);
		uint8_t *data = buf_take(&body, &len);
		reply_take(rq, 201, "application/json", data, len);
	} else {
		reply_problem(rq, &err);
	}
	buf_done(&body);
}

bool
reply_commit(struct request *rq, struct commit_request *q)
{
	struct rendering r = {.repo = stage_repo(q->stage)};
	struct commit_refusal *refusal = calloc(1, sizeof *refusal);
	struct err err = ERR_INIT;
	struct commit commit;
	struct buf receipt;
	enum rc rc;

	buf_init(&receipt, RECEIPT_BYTES_MAX);
	show_stage_receipt(q->stage, &receipt);
	q->receipt = buf_cstr(&receipt);
	q->render = render;
	q->render_arg = &r;
	if (refusal == NULL || !buf_ok(&receipt))
		rc = err_set(&err, RC_NOMEM, "no-memory", "out of memory");
	else
		rc = commit_make(&rq->srv->history, q, &commit, refusal, &err);
	if (rc == RC_OK) {
		answer(rq, r.repo, &commit);
		commit_done(&commit);
	} else {
		/* an equal request may have won the race for the key, or for the stage */
		bool lost = q->key != NULL && ((rc == RC_EXISTS && err.kind == NULL) ||
						      err_is(&err, "stage-committed") ||
						      err_is(&err, "stage-committing"));
		if (!lost || !reply_replayed(rq, r.repo, q->key, &q->request))
			refuse(rq, q->stage, refusal, &err);
	}
	buf_done(&receipt);
	free(refusal);
	return rc == RC_OK;
}

/* ---- again ---- */

/* The remembered body names the commit. */
static void
add_location_of(struct request *rq, const struct repo *repo, const struct buf *body)
{
	json_t *json = json_loadb((const char *)body->data, body->len, 0, NULL);
	const char *id = json_string_value(json_object_get(json, "id"));

	if (id != NULL)
		add_location(rq, repo, id);
	json_decref(json);
}

bool
reply_replayed(
	struct request *rq, const struct repo *repo, const char *key, const struct sha256 *request)
{
	struct err err = ERR_INIT;
	struct buf body;
	int status = 0;
	size_t len;

	buf_init(&body, ANSWER_BYTES_MAX);
	enum rc rc = history_replay(&rq->srv->history, repo, key, request, &status, &body, &err);
	if (rc == RC_OK) {
		add_location_of(rq, repo, &body);
		reply_header(rq, "Idempotency-Replayed", "true");
		uint8_t *data = buf_take(&body, &len);
		reply_take(rq, status, "application/json", data, len);
	} else if (rc != RC_NOT_FOUND) {
		reply_problem(rq, &err);
	}
	buf_done(&body);
	return rc != RC_NOT_FOUND;
}
