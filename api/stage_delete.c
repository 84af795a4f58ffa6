/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "stage.h"

static void
run(struct request *rq)
{
	struct err err = ERR_INIT;
	struct repo *repo;
	struct stage *s;

	if (parse_repo(rq, &repo) && parse_stage(rq, repo, &s)) {
		if (stage_abandon(rq->srv->stages, s, &err) == RC_OK)
			reply_empty(rq, 204);
		else
			reply_problem(rq, &err);
		stage_unref(s);
	}
	request_complete(rq);
}

const struct op op_stage_delete = {
	.id = "stage_delete",
	.method = METHOD_DELETE,
	.path = "/v1/repos/{repo}/stages/{stage}",
	.admit = parse_admit,
	.run = run,
};
