/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "ops.h"
#include "parse.h"
#include "path.h"
#include "problem.h"
#include "reply_file.h"
#include "services.h"

static void
refuse_path(struct request *rq, const struct request_param *path, struct err *err)
{
	char shown[PATH_SHOW_BYTES];
	bool is_missing = err->rc == RC_NOT_FOUND;

	if (is_missing) {
		err_clear(err);
		err_set(err, RC_NOT_FOUND, "path-not-found", "revision \"%s\" has no file \"%s\"",
			request_param(rq, "rev")->value, path_show(shown, path->value, path->len));
	}
	reply_problem_with(rq, err,
		is_missing ? json_pack("{s:o}", "path", json_stringn(path->value, path->len))
			   : NULL);
}

static void
reply_of(const struct request_param *path, struct repo *repo, const struct rev_head *head,
	const struct tree_entry *e, struct reply_file *out)
{
	*out = (struct reply_file){
		.repo = repo,
		.path = path->value,
		.path_len = path->len,
		.content = e->content,
		.mtime_ns = e->mtime_ns,
		.else_us = head->created_us,
	};
}

static void
add_commit(struct request *rq, const struct rev_head *head)
{
	char hex[SHA256_HEX_BYTES];

	sha256_hex(&head->id, hex);
	reply_header(rq, "Digstore-Commit", "%s", hex);
}

static void
answer(struct request *rq)
{
	const struct request_param *path = request_param(rq, "path");
	struct repo *repo;
	struct rev_head head;
	struct history_nodes nodes;
	struct tree_entry e;
	struct reply_file f;
	struct err err = ERR_INIT;

	if (!parse_repo(rq, &repo) ||
		!parse_rev_head(rq, repo, request_param(rq, "rev")->value, &head))
		return;
	history_nodes_init(&nodes, &rq->srv->history, repo);
	if (tree_find(&nodes.view.store, &head.tree, path->value, path->len, &e, &err) != RC_OK) {
		refuse_path(rq, path, &err);
		return;
	}
	reply_of(path, repo, &head, &e, &f);
	add_commit(rq, &head);
	reply_file(rq, &f);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

/* All that is in memory: a failure is for whoever may look further. */
static bool
run_fast(struct request *rq)
{
	const struct request_param *path = request_param(rq, "path");
	struct repo *repo = repo_cached(rq->srv->repos, request_param(rq, "repo")->value);
	struct rev_head head;
	struct history_nodes nodes;
	struct tree_entry e;
	struct reply_file f;
	struct err ignored = ERR_INIT;

	if (repo == NULL || !parse_rev_head_now(rq, repo, request_param(rq, "rev")->value, &head))
		return false;
	history_nodes_init_now(&nodes, &rq->srv->history, repo);
	if (tree_find(&nodes.view.store, &head.tree, path->value, path->len, &e, &ignored) != RC_OK)
		return false;
	reply_of(path, repo, &head, &e, &f);
	if (!reply_file_now(rq, &f))
		return false;
	add_commit(rq, &head);
	return true;
}

const struct op op_tree_file_get = {
	.id = "tree_file_get",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/trees/{rev}/files/{path...}",
	.admit_fast = parse_admit_fast,
	.run_fast = run_fast,
	.run = run,
};

const struct op op_tree_file_head = {
	.id = "tree_file_head",
	.method = METHOD_HEAD,
	.path = "/v1/repos/{repo}/trees/{rev}/files/{path...}",
	.admit_fast = parse_admit_fast,
	.run_fast = run_fast,
	.run = run,
};
