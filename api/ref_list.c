/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cursor.h"
#include "list_page.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_commit.h"

struct page {
	struct list_page list;
	char last[REF_NAME_BYTES_MAX + 1];
};

static void
add(void *arg, const struct ref_row *row)
{
	struct page *p = arg;

	if (!list_page_offer(&p->list))
		return;
	list_page_add(&p->list, show_ref(row));
	snprintf(p->last, sizeof p->last, "%s", row->name);
}

static void
answer(struct request *rq)
{
	struct page p = {.list.count = 0};
	struct cursor_scope scope;
	struct cursor from;
	struct repo *repo;
	struct err err = ERR_INIT;

	cursor_scope_init(&scope, CURSOR_REFS);
	cursor_scope_add_param(&scope, rq, "repo");
	if (!parse_limit(rq, &p.list.limit) || !cursor_take(rq, &scope, &from) ||
		!parse_repo(rq, &repo))
		return;
	list_page_begin(&p.list);
	if (ref_list(&rq->srv->history, repo, "", (const char *)from.data, p.list.limit + 1, add,
		    &p, &err) != RC_OK) {
		list_page_done(&p.list);
		reply_problem(rq, &err);
		return;
	}
	bool more = list_page_is_cut(&p.list);
	list_page_reply(
		&p.list, rq, more, more ? cursor_make(&scope, p.last, strlen(p.last)) : NULL);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

static const char *const query[] = {"limit", "cursor", NULL};

const struct op op_ref_list = {
	.id = "ref_list",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/refs",
	.query = query,
	.admit = parse_admit,
	.run = run,
};
