/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_entry.h"

static void
refuse(struct request *rq, const char *ref, const struct sha256 *head, struct err *err)
{
	if (head != NULL) {
		reply_problem_with(rq, err, json_pack("{s:o}", "head", show_hash(head)));
		return;
	}
	/* it is not somewhere else, it is not there at all */
	if (err->rc == RC_CONFLICT) {
		err_clear(err);
		err_set(err, RC_NOT_FOUND, "ref-not-found", "there is no ref \"%s\"", ref);
	}
	reply_problem(rq, err);
}

static void
answer(struct request *rq)
{
	const char *ref = request_param(rq, "ref")->value;
	struct sha256 expected, head;
	struct ref_row row;
	struct repo *repo;
	bool has_expected, has_head = false;
	struct err err = ERR_INIT;

	if (!parse_hash(rq, "expected", &expected, &has_expected) || !parse_repo(rq, &repo))
		return;
	const struct ref_change change = {
		.name = ref,
		.any = !has_expected,
		.expected = has_expected ? &expected : NULL,
	};
	if (ref_move(&rq->srv->history, repo, &change, &row, &head, &has_head, &err) == RC_OK)
		reply_empty(rq, 204);
	else
		refuse(rq, ref, err.rc == RC_CONFLICT && has_head ? &head : NULL, &err);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

static const char *const query[] = {"expected", NULL};

const struct op op_ref_delete = {
	.id = "ref_delete",
	.method = METHOD_DELETE,
	.path = "/v1/repos/{repo}/refs/{ref}",
	.query = query,
	.admit = parse_admit,
	.run = run,
};
