/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_commit.h"

/* A commit is looked up as a revision that happens to be an id; only the name of the miss differs.
 */
static enum rc
find(struct request *rq, struct repo *repo, struct commit *out, struct err *err)
{
	const char *id = request_param(rq, "id")->value;

	enum rc rc = parse_rev_find(rq->srv, repo, id, out, err);
	if (rc == RC_NOT_FOUND) {
		err_clear(err);
		err_set(err, RC_NOT_FOUND, "commit-not-found", "repository \"%s\" has no commit %s",
			repo->name, id);
	}
	return rc;
}

static void
answer(struct request *rq)
{
	struct repo *repo;
	struct commit c;
	struct err err = ERR_INIT;
	char hex[SHA256_HEX_BYTES];

	if (!parse_repo(rq, &repo))
		return;
	if (find(rq, repo, &c, &err) != RC_OK) {
		reply_problem(rq, &err);
		return;
	}
	sha256_hex(&c.id, hex);
	reply_header(rq, "ETag", "\"%s\"", hex);
	reply_json(rq, 200, show_commit(repo, &c));
	commit_done(&c);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

const struct op op_commit_get = {
	.id = "commit_get",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/commits/{id}",
	.admit = parse_admit,
	.run = run,
};
