/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cursor.h"
#include "list_page.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_stage.h"

#define BATCH 100 /* stages looked at in one go; with a state in mind most may not be wanted */

static const char *const query[] = {"state", "limit", "cursor", NULL};

struct page {
	struct stages *stages;
	struct repo *repo;
	struct list_page list;
	size_t seen;
	bool any_state;
	enum stage_state state;
	char last[STAGE_NAME_BYTES_MAX + 1]; /* on the page */
	char after[STAGE_NAME_BYTES_MAX + 1];
};

/* The list has names and states; receipts are the stage's own. One that vanished is not listed. */
static void
add(void *arg, const struct stage_info *info)
{
	struct page *p = arg;
	struct err gone = ERR_INIT;
	struct stage *s;

	p->seen++;
	snprintf(p->after, sizeof p->after, "%s", info->name);
	if (info->state == STAGE_GONE || (!p->any_state && info->state != p->state) ||
		list_page_is_cut(&p->list) ||
		stage_find(p->stages, p->repo, info->name, &s, &gone) != RC_OK)
		return;
	if (list_page_offer(&p->list)) {
		list_page_add(&p->list, show_stage(s));
		snprintf(p->last, sizeof p->last, "%s", info->name);
	}
	stage_unref(s);
}

static bool
take_state(struct request *rq, struct page *p)
{
	static const char *const names[] = {
		"open", "committing", "committed", "failed", "expired", NULL};
	unsigned choice = 0; /* in the order of enum stage_state */

	p->any_state = request_query(rq, "state") == NULL;
	if (!parse_choice(rq, "state", names, &choice))
		return false;
	p->state = (enum stage_state)choice;
	return true;
}

static enum rc
fill(struct page *p, struct err *err)
{
	enum rc rc;

	do {
		p->seen = 0;
		rc = stage_list(p->stages, p->repo, p->after, BATCH, add, p, err);
	} while (rc == RC_OK && p->seen > 0 && !list_page_is_cut(&p->list));
	return rc;
}

static void
answer(struct request *rq)
{
	struct page p = {.stages = rq->srv->stages};
	struct cursor_scope scope;
	struct cursor from;
	struct err err = ERR_INIT;

	cursor_scope_init(&scope, CURSOR_STAGES);
	cursor_scope_add_param(&scope, rq, "repo");
	cursor_scope_add_query(&scope, rq, "state");
	if (!parse_limit(rq, &p.list.limit) || !take_state(rq, &p) ||
		!cursor_take(rq, &scope, &from) || !parse_repo(rq, &p.repo))
		return;
	if (from.len < sizeof p.after)
		memcpy(p.after, from.data, from.len);
	list_page_begin(&p.list);
	if (fill(&p, &err) != RC_OK) {
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

const struct op op_stage_list = {
	.id = "stage_list",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/stages",
	.query = query,
	.admit = parse_admit,
	.run = run,
};
