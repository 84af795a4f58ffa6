/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_import.h"

static void
answer(struct request *rq, const struct repo *repo)
{
	struct err err = ERR_INIT;
	struct import_info info;
	bool forgotten;

	if (import_delete(rq->srv->imports, repo, parse_import_id(rq), &forgotten, &info, &err) !=
		RC_OK)
		reply_problem(rq, &err);
	else if (forgotten)
		reply_empty(rq, 204);
	else
		reply_json(rq, 202, show_import_whole(&info));
	import_info_done(&info);
}

static void
run(struct request *rq)
{
	struct repo *repo;

	if (parse_repo(rq, &repo))
		answer(rq, repo);
	request_complete(rq);
}

const struct op op_import_delete = {
	.id = "import_delete",
	.method = METHOD_DELETE,
	.path = "/v1/repos/{repo}/imports/{import}",
	.admit = parse_admit,
	.run = run,
};
