/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_diff.h"

#include "tree_cursor.h"

/* Both trees are walked side by side. Where both are at the beginning of subtrees of one name, both
 * step over. Otherwise whoever stands at the higher item goes down, until both are at entries. */
struct diff {
	struct tree_cursor old;
	struct tree_cursor new;
	const struct tree_diff_query *query;
	bool go_on;
};

/* Step over the highest subtree that begins on both sides; false if there is none. */
static bool
skip_equal(struct diff *d)
{
	unsigned top = d->old.top < d->new.top ? d->old.top : d->new.top;

	for (unsigned l = top + 1; l-- > 0;) {
		const struct sha256 *a = tree_cursor_subtree(&d->old, l);
		const struct sha256 *b = tree_cursor_subtree(&d->new, l);
		if (a == NULL || b == NULL || !sha256_equal(a, b))
			continue;
		tree_cursor_step_subtree(&d->old, l);
		tree_cursor_step_subtree(&d->new, l);
		return true;
	}
	return false;
}

/* Stand at the first path that may be given. */
static enum rc
start(struct tree_cursor *c, const struct tree_diff_query *q, struct err *err)
{
	const char *key = q->prefix;
	size_t key_len = q->prefix_len;

	if (q->after_len > 0 && tree_key_cmp(q->after, q->after_len, key, key_len) > 0) {
		key = q->after;
		key_len = q->after_len;
	}
	/* nothing to seek: stay at the root's first item, so that whole subtrees can be skipped */
	if (key_len == 0)
		return tree_cursor_start(c, err);
	return tree_cursor_seek(c, key, key_len, err);
}

/* What is wrong with giving this path: it is before the page (-1), behind the prefix (1), or
 * nothing (0). */
static int
out_of_page(const struct tree_diff_query *q, const char *path, size_t path_len)
{
	if (q->after_len > 0 && tree_key_cmp(path, path_len, q->after, q->after_len) <= 0)
		return -1;
	return tree_key_has_prefix(path, path_len, q->prefix, q->prefix_len) ? 0 : 1;
}

static void
give(struct diff *d, const struct tree_entry *old, const struct tree_entry *new)
{
	const struct tree_entry *any = old != NULL ? old : new;
	const struct tree_diff_item item = {
		.path = any->path,
		.path_len = any->path_len,
		.old = old,
		.new = new,
	};
	int out = out_of_page(d->query, item.path, item.path_len);

	if (out > 0)
		d->go_on = false;
	else if (out == 0 && (old == NULL || new == NULL || !tree_entry_same(old, new)))
		d->go_on = d->query->fn(d->query->arg, &item);
}

/* Both are at an entry or at the end, not both at the end. */
static void
compare_entries(struct diff *d)
{
	const struct tree_item *a = tree_cursor_at_end(&d->old) ? NULL : tree_cursor_item(&d->old);
	const struct tree_item *b = tree_cursor_at_end(&d->new) ? NULL : tree_cursor_item(&d->new);
	int cmp = a == NULL   ? 1
		  : b == NULL ? -1
			      : tree_key_cmp(a->key, a->key_len, b->key, b->key_len);

	give(d, cmp <= 0 ? &a->entry : NULL, cmp >= 0 ? &b->entry : NULL);
	if (cmp <= 0)
		tree_cursor_step(&d->old);
	if (cmp >= 0)
		tree_cursor_step(&d->new);
}

/* The level of the item a cursor is at; below all levels at the end. */
static int
height(const struct tree_cursor *c)
{
	return tree_cursor_at_end(c) ? -1 : (int)c->level;
}

static enum rc
run(struct diff *d, struct err *err)
{
	enum rc rc = RC_OK;

	while (rc == RC_OK && d->go_on) {
		if (skip_equal(d))
			continue;
		int a = height(&d->old);
		int b = height(&d->new);
		if (a < 0 && b < 0)
			break;
		if (a <= 0 && b <= 0) {
			compare_entries(d);
			continue;
		}
		if (a >= b)
			rc = tree_cursor_down(&d->old, err);
		if (rc == RC_OK && b >= a)
			rc = tree_cursor_down(&d->new, err);
	}
	return rc;
}

enum rc
tree_diff(const struct tree_store *store, const struct sha256 *old_root,
	const struct sha256 *new_root, const struct tree_diff_query *query, struct err *err)
{
	if (old_root != NULL && new_root != NULL && sha256_equal(old_root, new_root))
		return RC_OK;
	struct diff d = {.query = query, .go_on = true};
	tree_cursor_init(&d.old, store, old_root);
	tree_cursor_init(&d.new, store, new_root);
	enum rc rc = start(&d.old, query, err);
	if (rc == RC_OK)
		rc = start(&d.new, query, err);
	if (rc == RC_OK)
		rc = run(&d, err);
	tree_cursor_done(&d.old);
	tree_cursor_done(&d.new);
	return rc;
}
