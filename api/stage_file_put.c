/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"
#include "services.h"
#include "upload.h"

static const char *const query[] = {"file_mode", "mtime", NULL};

/* Committer thread. */
static void
settle(struct upload *u, enum rc rc, const struct err *err)
{
	if (rc == RC_OK)
		upload_answer(u);
	else
		upload_refuse(u, err);
	request_complete(u->rq);
}

static const struct upload_ops upload_ops = {.settle = settle};

/* The way of small files in large numbers: repository and stage are in memory. */
static bool
admit_fast(struct request *rq)
{
	struct err err = ERR_INIT;
	struct upload *u = rq->ctx = upload_new(rq, &upload_ops, true);

	if (u == NULL)
		return true;
	if (upload_blocks(u))
		return false;
	struct repo *repo = repo_cached(rq->srv->repos, request_param(rq, "repo")->value);
	if (repo == NULL)
		return false;
	struct stage *s = stage_cached(rq->srv->stages, repo, request_param(rq, "stage")->value);
	if (s == NULL)
		return false;
	if (stage_check_open(s, &err) != RC_OK) {
		/* one that is just being deleted makes room for a new one of its name */
		stage_unref(s);
		return false;
	}
	upload_enter(u, s);
	return true;
}

static void
admit(struct request *rq)
{
	struct upload *u = rq->ctx;
	struct err err = ERR_INIT;
	struct stage *s;
	bool created;

	enum rc rc =
		upload_open_stage(rq, request_param(rq, "stage")->value, 0, &s, &created, &err);
	if (rc == RC_OK) {
		upload_enter(u, s);
		return;
	}
	u->stage = s; /* handed over */
	upload_refuse(u, &err);
}

static size_t
body_piece(struct request *rq, const uint8_t *data, size_t len)
{
	return upload_piece(rq->ctx, data, len);
}

static void
end(struct request *rq)
{
	upload_end(rq->ctx);
}

static void
close_upload(struct request *rq, bool completed)
{
	(void)completed;
	upload_close(rq->ctx);
}

const struct op op_stage_file_put = {
	.id = "stage_file_put",
	.method = METHOD_PUT,
	.path = "/v1/repos/{repo}/stages/{stage}/files/{path...}",
	.body = BODY_STREAM,
	.query = query,
	.admit_fast = admit_fast,
	.admit = admit,
	.body_piece = body_piece,
	.end = end,
	.close = close_upload,
};
