/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cursor.h"
#include "list_page.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_progress.h"

struct live {
	struct stage *stage; /* our reference */
	const char *repo;    /* the stage's */
	const char *name;
};

struct list {
	struct live *items;
	size_t count, cap;
	bool failed;
};

static void
add(void *arg, struct stage *s)
{
	struct list *l = arg;
	struct stage_info info;

	stage_info(s, &info);
	if (info.state != STAGE_OPEN && info.state != STAGE_COMMITTING)
		return;
	if (l->count == l->cap) {
		size_t cap = l->cap > 0 ? l->cap * 2 : 64;
		struct live *items = realloc(l->items, cap * sizeof *items);
		if (items == NULL) {
			l->failed = true;
			return;
		}
		l->items = items;
		l->cap = cap;
	}
	stage_ref(s);
	l->items[l->count++] = (struct live){s, stage_repo(s)->name, stage_name(s)};
}

static int
compare_names(const char *repo_a, const char *name_a, const char *repo_b, const char *name_b)
{
	int order = strcmp(repo_a, repo_b);

	return order != 0 ? order : strcmp(name_a, name_b);
}

static int
compare(const void *a, const void *b)
{
	const struct live *x = a, *y = b;

	return compare_names(x->repo, x->name, y->repo, y->name);
}

/* The cursor is both names of the last item, with the NUL between them. */
static json_t *
make_cursor(const struct cursor_scope *scope, const struct live *last)
{
	char data[REPO_NAME_BYTES_MAX + STAGE_NAME_BYTES_MAX + 2];
	size_t repo_len = strlen(last->repo) + 1;
	size_t name_len = strlen(last->name);

	memcpy(data, last->repo, repo_len);
	memcpy(data + repo_len, last->name, name_len);
	return cursor_make(scope, data, repo_len + name_len);
}

/* The first item behind the cursor. */
static size_t
find_start(const struct list *l, const struct cursor *from)
{
	const char *repo = (const char *)from->data;
	size_t repo_len = strlen(repo);
	size_t i = 0;

	if (from->len <= repo_len)
		return 0;
	while (i < l->count &&
		compare_names(l->items[i].repo, l->items[i].name, repo, repo + repo_len + 1) <= 0)
		i++;
	return i;
}

static json_t *
show(struct stage *s)
{
	struct progress p;
	struct err err = ERR_INIT;

	if (stage_progress(s, &p, &err) != RC_OK)
		return NULL;
	json_t *one = show_progress(&p);
	progress_done(&p);
	return one;
}

static void
reply_page(struct request *rq, struct list *l, const struct cursor_scope *scope,
	const struct cursor *from, size_t limit)
{
	struct list_page page = {.limit = limit};

	list_page_begin(&page);
	if (l->count > 0)
		qsort(l->items, l->count, sizeof *l->items, compare);
	size_t at = find_start(l, from);
	size_t end = l->count - at > limit ? at + limit : l->count;
	for (size_t i = at; i < end; i++)
		list_page_add(&page, show(l->items[i].stage));
	bool more = end < l->count;
	reply_header(rq, "Cache-Control", "no-store");
	list_page_reply(&page, rq, more, more ? make_cursor(scope, &l->items[end - 1]) : NULL);
}

static void
answer(struct request *rq)
{
	struct list l = {.count = 0};
	struct cursor_scope scope;
	struct cursor from;
	struct err err = ERR_INIT;
	size_t limit;

	cursor_scope_init(&scope, CURSOR_PROGRESS);
	if (!parse_limit(rq, &limit) || !cursor_take(rq, &scope, &from))
		return;
	stages_active(rq->srv->stages, add, &l);
	if (l.failed) {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
	} else {
		reply_page(rq, &l, &scope, &from, limit);
	}
	for (size_t i = 0; i < l.count; i++)
		stage_unref(l.items[i].stage);
	free(l.items);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

static const char *const query[] = {"limit", "cursor", NULL};

const struct op op_progress_list = {
	.id = "progress_list",
	.method = METHOD_GET,
	.path = "/v1/progress",
	.query = query,
	.admit = parse_admit,
	.run = run,
};
