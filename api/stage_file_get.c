/* SPDX-License-Identifier: Apache-2.0 */
/* stage_file_get and stage_file_head. */
#include <inttypes.h>

#include "ops.h"
#include "parse.h"
#include "reply_file.h"
#include "staged.h"
#include "upload_headers.h"

static void
reply_staged(struct request *rq, struct stage *s)
{
	const struct request_param *path = request_param(rq, "path");
	struct err err = ERR_INIT;
	struct stage_info info;
	struct tree_entry e;

	if (stage_file_find(s, path->value, path->len, &e, &err) != RC_OK) {
		staged_refuse(rq, s, &err);
		return;
	}
	stage_info(s, &info);
	const struct reply_file f = {
		.repo = stage_repo(s),
		.path = path->value,
		.path_len = path->len,
		.content = e.content,
		.mtime_ns = e.mtime_ns,
		.else_us = info.created_us,
	};
	if (rq->method == METHOD_HEAD)
		reply_header(rq, "Upload-Offset", "%" PRIu64, e.content.size);
	reply_file(rq, &f);
}

/* What is there in part is newer than what is there as a whole: the whole takes its place. */
static void
reply_offset(struct request *rq, struct stage *s)
{
	const struct request_param *path = request_param(rq, "path");
	struct err err = ERR_INIT;
	uint64_t offset, total;

	enum rc rc = stage_upload_offset(s, path->value, path->len, &offset, &total, &err);
	if (rc == RC_NOT_FOUND) {
		reply_staged(rq, s);
		return;
	}
	if (rc != RC_OK) {
		staged_refuse(rq, s, &err);
		return;
	}
	reply_header(rq, "Upload-Offset", "%" PRIu64, offset);
	if (total != UPLOAD_TOTAL_UNKNOWN)
		reply_header(rq, "Upload-Length", "%" PRIu64, total);
	reply_empty(rq, 204);
}

static void
run_get(struct request *rq)
{
	struct stage *s;

	if (staged_find(rq, &s)) {
		reply_staged(rq, s);
		stage_unref(s);
	}
	request_complete(rq);
}

static void
run_head(struct request *rq)
{
	struct stage *s;

	if (staged_find(rq, &s)) {
		reply_offset(rq, s);
		stage_unref(s);
	}
	request_complete(rq);
}

const struct op op_stage_file_get = {
	.id = "stage_file_get",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/stages/{stage}/files/{path...}",
	.admit = parse_admit,
	.run = run_get,
};

const struct op op_stage_file_head = {
	.id = "stage_file_head",
	.method = METHOD_HEAD,
	.path = "/v1/repos/{repo}/stages/{stage}/files/{path...}",
	.admit = parse_admit,
	.run = run_head,
};
