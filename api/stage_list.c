/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cursor.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_entry.h"
#include "show_stage.h"

#define BATCH 100 /* stages looked at in one go; with a state in mind most may not be wanted */

static const char *const query[] = {"state", "limit", "cursor", NULL};

struct page {
	struct stages *stages;
	struct repo *repo;
	json_t *items;
	size_t limit;
	size_t count; /* of the page, and one more if there is one */
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
		p->count > p->limit ||
		stage_find(p->stages, p->repo, info->name, &s, &gone) != RC_OK)
		return;
	if (p->count++ < p->limit) {
		json_array_append_new(p->items, show_stage(s));
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
	} while (rc == RC_OK && p->seen > 0 && p->count <= p->limit);
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
	if (!parse_limit(rq, &p.limit) || !take_state(rq, &p) || !cursor_take(rq, &scope, &from) ||
		!parse_repo(rq, &p.repo))
		return;
	if (from.len < sizeof p.after)
		memcpy(p.after, from.data, from.len);
	p.items = json_array();
	if (fill(&p, &err) != RC_OK) {
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

const struct op op_stage_list = {
	.id = "stage_list",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/stages",
	.query = query,
	.admit = parse_admit,
	.run = run,
};
