/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "parse.h"
#include "staged.h"

static bool
is_there(struct stage *s, const struct stage_put *put, struct err *err)
{
	struct err no_part = ERR_INIT;
	struct tree_entry e;
	uint64_t offset, total;

	if (stage_file_find(s, put->path, put->path_len, &e, err) == RC_OK)
		return true;
	enum rc rc = stage_upload_offset(s, put->path, put->path_len, &offset, &total, &no_part);
	if (rc != RC_OK && rc != RC_NOT_FOUND)
		*err = no_part;
	return rc == RC_OK;
}

/* The removal is entered like an upload of the path, so that it and uploads see each other. */
static enum rc
remove_file(struct stage *s, struct stage_put *put, struct err *err)
{
	const struct stage_change change = {
		.path = put->path, .path_len = put->path_len, .remove = true};

	enum rc rc = stage_put_begin(s, put, 0, err);
	if (rc != RC_OK)
		return rc;
	if (put->shared)
		rc = err_set(err, RC_CONFLICT, "stage-busy",
			"an upload of this file is still under way");
	else if (is_there(s, put, err))
		rc = stage_apply(s, &change, 1, err);
	else
		rc = err->rc;
	stage_put_cancel(put);
	return rc;
}

static void
answer(struct request *rq, struct stage *s)
{
	const struct request_param *path = request_param(rq, "path");
	struct stage_put *put = calloc(1, sizeof *put);
	struct err err = ERR_INIT;
	enum rc rc;

	if (put == NULL) {
		rc = err_set(&err, RC_NOMEM, "no-memory", "out of memory");
	} else {
		memcpy(put->path, path->value, path->len); /* checked: it fits */
		put->path_len = path->len;
		rc = remove_file(s, put, &err);
	}
	free(put);
	if (rc == RC_OK)
		reply_empty(rq, 204);
	else
		staged_refuse(rq, s, &err);
}

static void
run(struct request *rq)
{
	struct stage *s;

	if (staged_find(rq, &s)) {
		answer(rq, s);
		stage_unref(s);
	}
	request_complete(rq);
}

const struct op op_stage_file_delete = {
	.id = "stage_file_delete",
	.method = METHOD_DELETE,
	.path = "/v1/repos/{repo}/stages/{stage}/files/{path...}",
	.admit = parse_admit,
	.run = run,
};
