/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "json_body.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_repo.h"

#define BODY_BYTES_MAX        ((size_t)256 << 10)
#define DESCRIPTION_BYTES_MAX 1024

/* 0 for one that a repository cannot have. */
static uint32_t
target_of(int64_t bytes)
{
	return bytes == 16384 || bytes == 32768 || bytes == 65536 || bytes == 131072
		       ? (uint32_t)bytes
		       : 0;
}

static void
create(struct request *rq, uint32_t target, const char *description)
{
	const char *name = request_param(rq, "repo")->value;
	struct repo *repo;
	struct err err = ERR_INIT;
	bool created;

	enum rc rc = repo_create(rq->srv->repos, name, target, description, &repo, &created, &err);
	if (rc != RC_OK) {
		bool is_mismatch = rc == RC_CONFLICT;
		reply_problem_with(rq, &err,
			is_mismatch ? json_pack("{s:s}", "field", "chunk_target_bytes") : NULL);
		return;
	}
	if (created)
		reply_header(rq, "Location", "/v1/repos/%s", repo->name);
	reply_json(rq, created ? 201 : 200, show_repo(repo));
}

static void
answer(struct request *rq)
{
	struct json_field fields[] = {
		{.name = "chunk_target_bytes", .kind = JSON_KIND_INTEGER},
		{.name = "description", .kind = JSON_KIND_TEXT, .bytes_max = DESCRIPTION_BYTES_MAX},
	};
	json_t *root;

	if (!json_body_take(rq, fields, sizeof fields / sizeof fields[0], &root))
		return;
	uint32_t target = fields[0].given ? target_of(fields[0].integer) : 0;
	if (fields[0].given && target == 0)
		json_body_refuse(rq, "chunk_target_bytes",
			"chunk_target_bytes must be 16384, 32768, 65536 or 131072");
	else
		create(rq, target, fields[1].text);
	json_decref(root);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

const struct op op_repo_create = {
	.id = "repo_create",
	.method = METHOD_PUT,
	.path = "/v1/repos/{repo}",
	.body = BODY_JSON,
	.body_bytes_max = BODY_BYTES_MAX,
	.body_optional = true,
	.admit = parse_admit,
	.run = run,
};
