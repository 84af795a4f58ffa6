/* SPDX-License-Identifier: Apache-2.0 */
/* tree_archive_put and its twin tree_archive_post. */
#include "archive_upload.h"
#include "ops.h"
#include "push.h"

static const char *const query[] = {PUSH_QUERY, "prefix", "special", NULL};

/* Unpacking thread. */
static void
finish(struct archive_upload *u, const struct archive_in_result *result)
{
	(void)result;
	push_commit(u->arg, u->stage);
}

static void
forsaken(struct archive_upload *u)
{
	if (u->disposable)
		push_abandon(u->srv, u->stage);
}

static const struct archive_upload_ops upload_ops = {.finish = finish, .forsaken = forsaken};

static void
admit(struct request *rq)
{
	struct archive_upload *u = rq->ctx = archive_upload_new(rq, &upload_ops);
	struct push *p = u != NULL ? push_new(rq) : NULL;
	struct err err = ERR_INIT;
	struct stage *s;

	if (p == NULL)
		return;
	u->arg = p;
	u->disposable = p->stage_name == NULL;
	if (push_open_stage(p, &s, &err) != RC_OK) {
		u->stage = s; /* handed over */
		archive_upload_refuse(u, &err);
	} else if (!archive_upload_enter(u, s) && !u->entered) {
		forsaken(u);
	}
}

static size_t
body_piece(struct request *rq, const uint8_t *data, size_t len)
{
	return archive_upload_piece(rq->ctx, data, len);
}

static void
end(struct request *rq)
{
	archive_upload_end(rq->ctx);
}

static void
close_upload(struct request *rq, bool completed)
{
	(void)completed;
	archive_upload_close(rq->ctx);
}

const struct op op_tree_archive_put = {
	.id = "tree_archive_put",
	.method = METHOD_PUT,
	.path = "/v1/repos/{repo}/trees/{rev}/archive",
	.body = BODY_STREAM,
	.query = query,
	.admit = admit,
	.body_piece = body_piece,
	.end = end,
	.close = close_upload,
};

const struct op op_tree_archive_post = {
	.id = "tree_archive_post",
	.method = METHOD_POST,
	.path = "/v1/repos/{repo}/trees/{rev}/archive",
	.body = BODY_STREAM,
	.query = query,
	.admit = admit,
	.body_piece = body_piece,
	.end = end,
	.close = close_upload,
};
