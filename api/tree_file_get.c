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
reply_entry(struct request *rq, struct repo *repo, const struct commit *c)
{
	const struct request_param *path = request_param(rq, "path");
	struct history_nodes nodes;
	struct tree_entry e;
	struct err err = ERR_INIT;
	char hex[SHA256_HEX_BYTES];

	history_nodes_init(&nodes, &rq->srv->history, repo);
	if (tree_find(&nodes.view.store, &c->tree, path->value, path->len, &e, &err) != RC_OK) {
		refuse_path(rq, path, &err);
		return;
	}
	const struct reply_file f = {
		.repo = repo,
		.path = path->value,
		.path_len = path->len,
		.content = e.content,
		.mtime_ns = e.mtime_ns,
		.else_us = c->created_us,
	};
	sha256_hex(&c->id, hex);
	reply_header(rq, "Digstore-Commit", "%s", hex);
	reply_file(rq, &f);
}

static void
answer(struct request *rq)
{
	struct repo *repo;
	struct commit c;

	if (!parse_repo(rq, &repo) || !parse_rev(rq, repo, request_param(rq, "rev")->value, &c))
		return;
	reply_entry(rq, repo, &c);
	commit_done(&c);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

const struct op op_tree_file_get = {
	.id = "tree_file_get",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/trees/{rev}/files/{path...}",
	.admit = parse_admit,
	.run = run,
};

const struct op op_tree_file_head = {
	.id = "tree_file_head",
	.method = METHOD_HEAD,
	.path = "/v1/repos/{repo}/trees/{rev}/files/{path...}",
	.admit = parse_admit,
	.run = run,
};
