/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_import.h"

static void
run(struct request *rq)
{
	struct err err = ERR_INIT;
	struct import_info info;
	struct repo *repo;

	if (parse_repo(rq, &repo)) {
		if (import_find(rq->srv->imports, repo, parse_import_id(rq), &info, &err) ==
			RC_OK) {
			reply_header(rq, "Cache-Control", "no-store");
			reply_json(rq, 200, show_import_whole(&info));
		} else {
			reply_problem(rq, &err);
		}
		import_info_done(&info);
	}
	request_complete(rq);
}

const struct op op_import_get = {
	.id = "import_get",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/imports/{import}",
	.admit = parse_admit,
	.run = run,
};
