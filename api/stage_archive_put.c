/* SPDX-License-Identifier: Apache-2.0 */
/* stage_archive_put and its twin stage_archive_post. */
#include "archive_upload.h"
#include "clock.h"
#include "ops.h"
#include "problem.h"
#include "show_stage.h"
#include "upload.h"

static const char *const query[] = {"prefix", "special", NULL};

/* Unpacking thread. */
static void
finish(struct archive_upload *u, const struct archive_in_result *result)
{
	const struct batch_result batch = {
		.files = result->files,
		.bytes = result->receipt.logical_bytes,
		.skipped = result->skipped,
		.receipt = result->receipt,
		.total_ns = clock_mono_ns() - u->rq->started_ns,
	};

	reply_json(u->rq, 201, show_batch(u->stage, &batch));
}

static const struct archive_upload_ops upload_ops = {.finish = finish};

static void
admit(struct request *rq)
{
	struct archive_upload *u = rq->ctx = archive_upload_new(rq, &upload_ops);
	struct err err = ERR_INIT;
	struct stage *s;
	bool created;

	if (u == NULL)
		return;
	enum rc rc =
		upload_open_stage(rq, request_param(rq, "stage")->value, 0, &s, &created, &err);
	if (rc == RC_OK) {
		archive_upload_enter(u, s);
		return;
	}
	u->stage = s; /* handed over */
	archive_upload_refuse(u, &err);
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

const struct op op_stage_archive_put = {
	.id = "stage_archive_put",
	.method = METHOD_PUT,
	.path = "/v1/repos/{repo}/stages/{stage}/archive",
	.body = BODY_STREAM,
	.query = query,
	.admit = admit,
	.body_piece = body_piece,
	.end = end,
	.close = close_upload,
};

const struct op op_stage_archive_post = {
	.id = "stage_archive_post",
	.method = METHOD_POST,
	.path = "/v1/repos/{repo}/stages/{stage}/archive",
	.body = BODY_STREAM,
	.query = query,
	.admit = admit,
	.body_piece = body_piece,
	.end = end,
	.close = close_upload,
};
