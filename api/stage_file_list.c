/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "buf.h"
#include "cursor.h"
#include "list_page.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "staged.h"

#define ENTRIES_BYTES_MAX (PARSE_LIMIT_MAX * (sizeof(struct tree_entry) + PATH_BYTES_MAX))

static const char *const query[] = {"prefix", "limit", "cursor", NULL};

/* Entries one behind the other, each followed by its path: the stage is locked while they are
 * copied, and rendering takes longer than that. */
static void
keep(void *arg, const struct tree_entry *e)
{
	struct buf *b = arg;

	buf_add(b, e, sizeof *e);
	buf_add(b, e->path, e->path_len);
}

/* *last is the last path, borrowed from b. */
static void
show_entries(const struct buf *b, struct list_page *page, struct tree_entry *last)
{
	for (size_t at = 0; at < b->len; at += last->path_len) {
		memcpy(last, b->data + at, sizeof *last);
		at += sizeof *last;
		last->path = (const char *)b->data + at;
		list_page_add_entry(page, last);
	}
}

static void
answer(struct request *rq, struct stage *s)
{
	struct tree_entry last = {.path_len = 0};
	struct cursor_scope scope;
	struct list_page page;
	struct cursor from;
	struct buf entries;
	struct err err = ERR_INIT;
	const char *prefix;
	size_t prefix_len, limit;

	cursor_scope_init(&scope, CURSOR_STAGE_FILES);
	cursor_scope_add_param(&scope, rq, "repo");
	cursor_scope_add_param(&scope, rq, "stage");
	cursor_scope_add_query(&scope, rq, "prefix");
	if (!parse_limit(rq, &limit) || !parse_prefix(rq, &prefix, &prefix_len) ||
		!cursor_take(rq, &scope, &from))
		return;
	buf_init(&entries, ENTRIES_BYTES_MAX);
	bool more = stage_file_list(
		s, prefix, prefix_len, (const char *)from.data, from.len, limit, keep, &entries);
	if (buf_ok(&entries)) {
		list_page_begin(&page);
		show_entries(&entries, &page, &last);
		list_page_reply(&page, rq, more,
			more ? cursor_make(&scope, last.path, last.path_len) : NULL);
	} else {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
	}
	buf_done(&entries);
}

static void
run(struct request *rq)
{
	struct stage *s;

	if (staged_find(rq, &s)) {
		answer(rq, s);
		stage_unref(s);
	}
	request_complete(rq);
}

const struct op op_stage_file_list = {
	.id = "stage_file_list",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/stages/{stage}/files",
	.query = query,
	.admit = parse_admit,
	.run = run,
};
