/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"
#include "parse.h"
#include "show_stage.h"

static void
run(struct request *rq)
{
	struct repo *repo;
	struct stage *s;

	if (parse_repo(rq, &repo) && parse_stage(rq, repo, &s)) {
		reply_header(rq, "Digstore-Stage", "%s", stage_name(s));
		reply_stage(rq, s, false);
		stage_unref(s);
	}
	request_complete(rq);
}

const struct op op_stage_get = {
	.id = "stage_get",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/stages/{stage}",
	.admit = parse_admit,
	.run = run,
};
