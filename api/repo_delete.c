/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"

struct uploads {
	const struct repo *repo;
	uint64_t count;
};

static void
count_uploads(void *arg, struct stage *s)
{
	struct uploads *u = arg;
	struct stage_info info;

	if (stage_repo(s) != u->repo)
		return;
	stage_info(s, &info);
	u->count += info.uploads;
}

/* An upload that comes in between is not lost unnoticed: it ends with 404. */
static enum rc
drop(struct request *rq, struct repo *repo, struct err *err)
{
	struct uploads u = {.repo = repo};

	stages_active(rq->srv->stages, count_uploads, &u);
	if (u.count > 0)
		return err_set(err, RC_CONFLICT, "stage-busy",
			"%llu uploads into repository \"%s\" are under way",
			(unsigned long long)u.count, repo->name);
	return repo_drop(rq->srv->repos, repo, err);
}

static void
answer(struct request *rq)
{
	struct repo *repo;
	struct err err = ERR_INIT;

	if (!parse_repo(rq, &repo))
		return;
	if (drop(rq, repo, &err) == RC_OK)
		reply_empty(rq, 204);
	else
		reply_problem(rq, &err);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

const struct op op_repo_delete = {
	.id = "repo_delete",
	.method = METHOD_DELETE,
	.path = "/v1/repos/{repo}",
	.admit = parse_admit,
	.run = run,
};
