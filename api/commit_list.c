/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cursor.h"
#include "list_page.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_commit.h"

/* Messages and metadata are large at worst: a page ends early once it holds this much, looked at
 * after every few commits. */
#define PAGE_BYTES_MAX ((size_t)2 << 20)
#define STEP           50

struct page {
	const struct repo *repo;
	struct list_page list;
	size_t bytes;
};

static void
add(void *arg, const struct commit *c)
{
	struct page *p = arg;

	p->bytes += c->canonical.len;
	list_page_add(&p->list, show_commit(p->repo, c));
}

/* Where the page begins: where its cursor or the ref says. */
static bool
find_start(struct request *rq, struct repo *repo, const struct cursor *from, struct sha256 *out)
{
	const char *ref = request_query(rq, "ref");
	struct commit c;

	if (from->len > 0 && from->len != sizeof *out) {
		parse_refuse_query(rq, "cursor", "cursor is not of this list");
		return false;
	}
	if (from->len > 0) {
		memcpy(out, from->data, sizeof *out);
		return true;
	}
	if (!parse_rev(rq, repo, ref != NULL ? ref : "main", &c))
		return false;
	*out = c.id;
	commit_done(&c);
	return true;
}

static enum rc
walk(struct request *rq, struct page *p, struct sha256 *at, size_t limit, bool *more,
	struct err *err)
{
	enum rc rc = RC_OK;

	*more = true;
	while (rc == RC_OK && *more && limit > 0 && p->bytes < PAGE_BYTES_MAX) {
		const struct sha256 from = *at;
		size_t step = limit < STEP ? limit : STEP;
		rc = commit_walk(&rq->srv->history, p->repo, &from, step, add, p, at, more, err);
		limit -= step;
	}
	return rc;
}

/* ?ref= is a revision. */
static bool
check_ref(struct request *rq)
{
	const char *ref = request_query(rq, "ref");
	struct err err = ERR_INIT;

	if (ref == NULL || parse_rev_check(ref, strlen(ref), &err) == RC_OK)
		return true;
	parse_refuse_query(rq, "ref", "%s", err.text);
	return false;
}

static void
answer(struct request *rq)
{
	struct page p = {.bytes = 0};
	struct cursor_scope scope;
	struct cursor from;
	struct sha256 at;
	struct repo *repo;
	struct err err = ERR_INIT;
	size_t limit;
	bool more = false;

	cursor_scope_init(&scope, CURSOR_COMMITS);
	cursor_scope_add_param(&scope, rq, "repo");
	cursor_scope_add_query(&scope, rq, "ref");
	if (!parse_limit(rq, &limit) || !cursor_take(rq, &scope, &from) || !check_ref(rq) ||
		!parse_repo(rq, &repo) || !find_start(rq, repo, &from, &at))
		return;
	p.repo = repo;
	list_page_begin(&p.list);
	if (walk(rq, &p, &at, limit, &more, &err) != RC_OK) {
		list_page_done(&p.list);
		reply_problem(rq, &err);
		return;
	}
	list_page_reply(&p.list, rq, more, more ? cursor_make(&scope, &at, sizeof at) : NULL);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

static const char *const query[] = {"ref", "limit", "cursor", NULL};

const struct op op_commit_list = {
	.id = "commit_list",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/commits",
	.query = query,
	.admit = parse_admit,
	.run = run,
};
