/* SPDX-License-Identifier: Apache-2.0 */
#include "staged.h"

#include "parse.h"
#include "problem.h"
#include "show_stage.h"

bool
staged_find(struct request *rq, struct stage **out)
{
	struct stage_info info;
	struct err err = ERR_INIT;
	struct repo *repo;

	if (!parse_repo(rq, &repo) || !parse_stage(rq, repo, out))
		return false;
	reply_header(rq, "Digstore-Stage", "%s", stage_name(*out));
	stage_info(*out, &info);
	if (info.state != STAGE_EXPIRED)
		return true;
	err_set(&err, RC_NOT_FOUND, "stage-expired", "stage \"%s\" has expired", info.name);
	reply_problem(rq, &err);
	stage_unref(*out);
	*out = NULL;
	return false;
}

void
staged_refuse(struct request *rq, struct stage *s, const struct err *err)
{
	const struct request_param *path = request_param(rq, "path");

	if (err_is(err, "path-not-found"))
		reply_problem_with(
			rq, err, json_pack("{s:o}", "path", json_stringn(path->value, path->len)));
	else
		reply_stage_problem(rq, s, err);
}
