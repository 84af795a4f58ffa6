/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cursor.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_entry.h"
#include "tree_diff.h"

/* The cursor is both commits and the last path of the page before. */
struct sides {
	struct sha256 a;
	struct sha256 b;
};

struct page {
	json_t *items;
	size_t limit;
	size_t count;
	bool counts_all; /* the first page goes through to the end, for the summary */
	bool more;
	uint64_t added, removed, modified, old_bytes, new_bytes;
	uint8_t cursor[sizeof(struct sides) + PATH_BYTES_MAX];
	size_t cursor_len;
};

/* Bytes of the new content in chunks that the old one does not have: known where each is one chunk
 * at most, or both are the same. */
static json_t *
show_new_bytes(const struct tree_entry *old, const struct tree_entry *new)
{
	if (old == NULL || new == NULL)
		return json_null();
	if (content_equal(&old->content, &new->content))
		return json_integer(0);
	if (old->content.kind != CONTENT_CHUNK || new->content.kind != CONTENT_CHUNK)
		return json_null();
	return json_integer((json_int_t) new->content.size);
}

static json_t *
show_size(const struct tree_entry *e)
{
	return e != NULL ? json_integer((json_int_t)e->content.size) : json_null();
}

static json_t *
show_id(const struct tree_entry *e)
{
	return e != NULL ? show_file_id(&e->content) : json_null();
}

static json_t *
show_change(const struct tree_diff_item *item)
{
	const char *change = item->old == NULL   ? "added"
			     : item->new == NULL ? "removed"
						 : "modified";

	return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "path",
		json_stringn(item->path, item->path_len), "change", change, "old_size",
		show_size(item->old), "new_size", show_size(item->new), "old_file_id",
		show_id(item->old), "new_file_id", show_id(item->new), "new_bytes",
		show_new_bytes(item->old, item->new));
}

static void
count(struct page *p, const struct tree_diff_item *item)
{
	if (item->old == NULL)
		p->added++;
	else if (item->new == NULL)
		p->removed++;
	else
		p->modified++;
	p->old_bytes += item->old != NULL ? item->old->content.size : 0;
	p->new_bytes += item->new != NULL ? item->new->content.size : 0;
}

static bool
add(void *arg, const struct tree_diff_item *item)
{
	struct page *p = arg;

	if (p->counts_all)
		count(p, item);
	if (p->count == p->limit || item->path_len > PATH_BYTES_MAX) {
		p->more = true;
		return p->counts_all;
	}
	p->count++;
	json_array_append_new(p->items, show_change(item));
	memcpy(p->cursor + sizeof(struct sides), item->path, item->path_len);
	p->cursor_len = sizeof(struct sides) + item->path_len;
	return true;
}

static json_t *
show_summary(const struct page *p)
{
	if (!p->counts_all)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "added", (json_int_t)p->added, "removed",
		(json_int_t)p->removed, "modified", (json_int_t)p->modified, "old_bytes",
		(json_int_t)p->old_bytes, "new_bytes", (json_int_t)p->new_bytes);
}

struct diff_request {
	struct cursor_scope scope;
	struct cursor from;
	struct tree_diff_query query;
	struct page page;
	struct sides ids;
	struct sides trees;
};

static bool
read_query(struct request *rq, struct diff_request *d)
{
	cursor_scope_init(&d->scope, CURSOR_DIFF);
	cursor_scope_add_param(&d->scope, rq, "repo");
	cursor_scope_add_param(&d->scope, rq, "a");
	cursor_scope_add_param(&d->scope, rq, "b");
	cursor_scope_add_query(&d->scope, rq, "prefix");
	if (!parse_limit(rq, &d->page.limit) ||
		!parse_prefix(rq, &d->query.prefix, &d->query.prefix_len) ||
		!cursor_take(rq, &d->scope, &d->from))
		return false;
	d->page.counts_all = d->from.len == 0;
	if (d->from.len > 0 && d->from.len <= sizeof d->ids) {
		parse_refuse_query(rq, "cursor", "cursor is not of this list");
		return false;
	}
	return true;
}

static bool
find_side(struct request *rq, struct repo *repo, const char *param, const struct sha256 *known,
	struct sha256 *id, struct sha256 *tree)
{
	char hex[SHA256_HEX_BYTES];
	struct commit c;

	sha256_hex(known, hex);
	/* what a cursor remembers is an id, and an id is a revision */
	const char *rev = param != NULL ? request_param(rq, param)->value : hex;
	if (!parse_rev(rq, repo, rev, &c))
		return false;
	*id = c.id;
	*tree = c.tree;
	commit_done(&c);
	return true;
}

static bool
find_sides(struct request *rq, struct repo *repo, struct diff_request *d)
{
	bool is_first = d->from.len == 0;
	struct sides known = {.a = sha256_empty, .b = sha256_empty};

	if (!is_first)
		memcpy(&known, d->from.data, sizeof known);
	return find_side(rq, repo, is_first ? "a" : NULL, &known.a, &d->ids.a, &d->trees.a) &&
	       find_side(rq, repo, is_first ? "b" : NULL, &known.b, &d->ids.b, &d->trees.b);
}

static enum rc
compare(struct request *rq, struct repo *repo, struct diff_request *d, struct err *err)
{
	struct history_nodes nodes;

	d->page.items = json_array();
	memcpy(d->page.cursor, &d->ids, sizeof d->ids);
	if (d->from.len > sizeof d->ids) {
		d->query.after = (const char *)d->from.data + sizeof d->ids;
		d->query.after_len = d->from.len - sizeof d->ids;
	}
	d->query.fn = add;
	d->query.arg = &d->page;
	history_nodes_init(&nodes, &rq->srv->history, repo);
	return tree_diff(&nodes.view.store, &d->trees.a, &d->trees.b, &d->query, err);
}

static void
answer(struct request *rq)
{
	struct diff_request *d = request_alloc(rq, sizeof *d);
	struct repo *repo;
	struct err err = ERR_INIT;

	if (d == NULL) {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
		return;
	}
	if (!read_query(rq, d) || !parse_repo(rq, &repo) || !find_sides(rq, repo, d))
		return;
	struct page *p = &d->page;
	if (compare(rq, repo, d, &err) != RC_OK) {
		json_decref(p->items);
		reply_problem(rq, &err);
		return;
	}
	json_t *next = p->more ? cursor_make(&d->scope, p->cursor, p->cursor_len) : json_null();
	reply_json(rq, 200,
		json_pack("{s:o, s:o, s:o, s:o, s:o}", "a", show_hash(&d->ids.a), "b",
			show_hash(&d->ids.b), "items", p->items, "summary", show_summary(p),
			"next_cursor", next));
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

static const char *const query[] = {"prefix", "limit", "cursor", NULL};

const struct op op_diff_get = {
	.id = "diff_get",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/diff/{a}/{b}",
	.query = query,
	.admit = parse_admit,
	.run = run,
};
