/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cursor.h"
#include "hex.h"
#include "list_page.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_import.h"

struct page {
	struct list_page list;
	char last[24]; /* id of the last one on the page */
};

static void
add(void *arg, const struct import_info *info)
{
	struct page *p = arg;

	if (!list_page_offer(&p->list))
		return;
	list_page_add(&p->list, show_import(info));
	snprintf(p->last, sizeof p->last, "%" PRIu64, info->id);
}

static void
answer(struct request *rq)
{
	struct page p = {.list.count = 0};
	struct cursor_scope scope;
	struct cursor from;
	struct repo *repo;
	struct err err = ERR_INIT;
	uint64_t before = INT64_MAX;

	cursor_scope_init(&scope, CURSOR_IMPORTS);
	cursor_scope_add_param(&scope, rq, "repo");
	if (!parse_limit(rq, &p.list.limit) || !cursor_take(rq, &scope, &from) ||
		!parse_repo(rq, &repo))
		return;
	if (from.len > 0)
		parse_u64((const char *)from.data, from.len, &before);
	list_page_begin(&p.list);
	if (import_list(rq->srv->imports, repo, before, p.list.limit + 1, add, &p, &err) != RC_OK) {
		list_page_done(&p.list);
		reply_problem(rq, &err);
		return;
	}
	reply_header(rq, "Cache-Control", "no-store");
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

const struct op op_import_list = {
	.id = "import_list",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/imports",
	.query = query,
	.admit = parse_admit,
	.run = run,
};
