/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_commit.h"

static void
answer(struct request *rq)
{
	struct repo *repo;
	struct ref_row row;
	struct err err = ERR_INIT;
	char hex[SHA256_HEX_BYTES];

	if (!parse_repo(rq, &repo))
		return;
	if (ref_find(&rq->srv->history, repo, request_param(rq, "ref")->value, &row, &err) !=
		RC_OK) {
		reply_problem(rq, &err);
		return;
	}
	sha256_hex(&row.commit_id, hex);
	reply_header(rq, "ETag", "\"%s\"", hex);
	reply_json(rq, 200, show_ref(&row));
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

const struct op op_ref_get = {
	.id = "ref_get",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/refs/{ref}",
	.admit = parse_admit,
	.run = run,
};
