/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "cursor.h"
#include "list_page.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "tree_list.h"

/* The cursor is the commit and the last name of the page before: pages of a ref that moves are of
 * one snapshot. */
struct page {
	struct sha256 commit_id;
	struct list_page items;
	uint8_t cursor[sizeof(struct sha256) + PATH_BYTES_MAX + 1];
	size_t cursor_len;
};

static bool
add(void *arg, const struct tree_list_item *item)
{
	struct page *p = arg;
	const size_t at = sizeof p->commit_id;

	if (at + item->name_len > sizeof p->cursor)
		return false;
	if (item->entry != NULL)
		list_page_add_entry(&p->items, item->entry);
	else
		list_page_add_prefix(&p->items, item->name, item->name_len);
	memcpy(p->cursor, &p->commit_id, at);
	memcpy(p->cursor + at, item->name, item->name_len);
	p->cursor_len = at + item->name_len;
	return true;
}

/* The commit of the first page, or the one the cursor remembers. */
static bool
find_commit(struct request *rq, struct repo *repo, const struct cursor *from, struct commit *out)
{
	struct err err = ERR_INIT;
	struct sha256 id;

	if (from->len == 0)
		return parse_rev(rq, repo, request_param(rq, "rev")->value, out);
	if (from->len <= sizeof id) {
		parse_refuse_query(rq, "cursor", "cursor is not of this list");
		return false;
	}
	memcpy(&id, from->data, sizeof id);
	enum rc rc = commit_find(&rq->srv->history, repo, &id, out, &err);
	if (rc == RC_NOT_FOUND)
		parse_refuse_query(rq, "cursor", "the snapshot of this cursor is gone");
	else if (rc != RC_OK)
		reply_problem(rq, &err);
	return rc == RC_OK;
}

struct list_request {
	struct cursor_scope scope;
	struct cursor from;
	struct tree_list_query query;
};

static bool
read_query(struct request *rq, struct list_request *l)
{
	static const char *const delimiters[] = {"/", NULL};
	unsigned which = 1;

	cursor_scope_init(&l->scope, CURSOR_TREE);
	cursor_scope_add_param(&l->scope, rq, "repo");
	cursor_scope_add_param(&l->scope, rq, "rev");
	cursor_scope_add_query(&l->scope, rq, "prefix");
	cursor_scope_add_query(&l->scope, rq, "delimiter");
	if (!parse_limit(rq, &l->query.limit) ||
		!parse_prefix(rq, &l->query.prefix, &l->query.prefix_len) ||
		!parse_choice(rq, "delimiter", delimiters, &which) ||
		!cursor_take(rq, &l->scope, &l->from))
		return false;
	l->query.delimiter = which == 0 ? '/' : '\0';
	return true;
}

static void
list(struct request *rq, struct repo *repo, struct list_request *l, const struct commit *c)
{
	struct page p = {.commit_id = c->id};
	struct history_nodes nodes;
	struct err err = ERR_INIT;
	bool more = false;

	if (l->from.len > sizeof c->id) {
		l->query.after = (const char *)l->from.data + sizeof c->id;
		l->query.after_len = l->from.len - sizeof c->id;
	}
	l->query.fn = add;
	l->query.arg = &p;
	list_page_begin(&p.items);
	history_nodes_init(&nodes, &rq->srv->history, repo);
	if (tree_list(&nodes.view.store, &c->tree, &l->query, &more, &err) != RC_OK) {
		list_page_done(&p.items);
		reply_problem(rq, &err);
		return;
	}
	char hex[SHA256_HEX_BYTES];
	sha256_hex(&c->id, hex);
	reply_header(rq, "Digstore-Commit", "%s", hex);
	list_page_reply(
		&p.items, rq, more, more ? cursor_make(&l->scope, p.cursor, p.cursor_len) : NULL);
}

static void
answer(struct request *rq)
{
	struct list_request *l = request_alloc(rq, sizeof *l);
	struct err err = ERR_INIT;
	struct repo *repo;
	struct commit c;

	if (l == NULL) {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
		return;
	}
	if (!read_query(rq, l) || !parse_repo(rq, &repo) || !find_commit(rq, repo, &l->from, &c))
		return;
	list(rq, repo, l, &c);
	commit_done(&c);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

static const char *const query[] = {"prefix", "delimiter", "limit", "cursor", NULL};

const struct op op_tree_list = {
	.id = "tree_list",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/trees/{rev}/files",
	.query = query,
	.admit = parse_admit,
	.run = run,
};
