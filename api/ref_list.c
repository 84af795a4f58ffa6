/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cursor.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_commit.h"
#include "show_entry.h"

struct page {
	json_t *items;
	size_t limit;
	size_t count;
	char last[REF_NAME_BYTES_MAX + 1];
};

/* One more than the page holds is asked for, to know whether there is more. */
static void
add(void *arg, const struct ref_row *row)
{
	struct page *p = arg;

	if (p->count++ >= p->limit)
		return;
	json_array_append_new(p->items, show_ref(row));
	snprintf(p->last, sizeof p->last, "%s", row->name);
}

static void
answer(struct request *rq)
{
	struct page p = {.count = 0};
	struct cursor_scope scope;
	struct cursor from;
	struct repo *repo;
	struct err err = ERR_INIT;

	cursor_scope_init(&scope, CURSOR_REFS);
	cursor_scope_add_param(&scope, rq, "repo");
	if (!parse_limit(rq, &p.limit) || !cursor_take(rq, &scope, &from) || !parse_repo(rq, &repo))
		return;
	p.items = json_array();
	if (ref_list(&rq->srv->history, repo, "", (const char *)from.data, p.limit + 1, add, &p,
		    &err) != RC_OK) {
		json_decref(p.items);
		reply_problem(rq, &err);
		return;
	}
	reply_json(rq, 200,
		show_page(p.items,
			p.count > p.limit ? cursor_make(&scope, p.last, strlen(p.last)) : NULL));
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
