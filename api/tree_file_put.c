/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"
#include "push.h"
#include "services.h"
#include "upload.h"

static const char *const query[] = {PUSH_QUERY, "file_mode", "mtime", NULL};

/* Op worker: the file is durable and staged. */
static void
commit(void *arg)
{
	struct upload *u = arg;

	push_commit(u->arg, u->stage);
	request_complete(u->rq);
}

/* A stage that nobody can name is of no use any more; in one with a name what came is kept. */
static void
forsaken(struct upload *u)
{
	if (!u->keeps)
		push_abandon(u->srv, u->stage);
}

/* Committer thread. */
static void
settle(struct upload *u, enum rc rc, const struct err *err)
{
	struct err busy = ERR_INIT;

	if (rc == RC_OK && request_defer(u->srv, commit, u) == RC_OK)
		return;
	if (rc == RC_OK) {
		err_set(&busy, RC_AGAIN, "overloaded", "too many requests wait to be worked on");
		upload_refuse(u, &busy);
		push_abandon(u->srv, u->stage);
	} else {
		upload_refuse(u, err);
		forsaken(u);
	}
	request_complete(u->rq);
}

static const struct upload_ops upload_ops = {.settle = settle, .forsaken = forsaken};

static void
admit(struct request *rq)
{
	struct upload *u = rq->ctx = upload_new(rq, &upload_ops, false);
	struct push *p = u != NULL ? push_new(rq) : NULL;
	struct err err = ERR_INIT;
	struct stage *s;

	if (p == NULL)
		return;
	u->arg = p;
	u->keeps = p->stage_name != NULL;
	if (push_open_stage(p, &s, &err) != RC_OK) {
		u->stage = s; /* handed over */
		upload_refuse(u, &err);
	} else if (!upload_enter(u, s)) {
		forsaken(u);
	}
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

const struct op op_tree_file_put = {
	.id = "tree_file_put",
	.method = METHOD_PUT,
	.path = "/v1/repos/{repo}/trees/{rev}/files/{path...}",
	.body = BODY_STREAM,
	.query = query,
	.admit = admit,
	.body_piece = body_piece,
	.end = end,
	.close = close_upload,
};
