/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_list.h"

#include "tree_cursor.h"

/* Stand where the page begins. */
static enum rc
start(struct tree_cursor *c, const struct tree_list_query *q, struct err *err)
{
	char key[TREE_KEY_BYTES_MAX];
	const bool after_is_first = q->after_len > 0 && tree_key_cmp(q->after, q->after_len,
								q->prefix, q->prefix_len) >= 0;

	if (!after_is_first)
		return tree_cursor_seek(c, q->prefix, q->prefix_len, err);
	/* a common prefix is longer than the prefix that was asked for */
	if (q->delimiter != 0 && q->after[q->after_len - 1] == q->delimiter &&
		q->after_len > q->prefix_len && q->after_len <= sizeof key) {
		memcpy(key, q->after, q->after_len);
		size_t key_len = tree_key_skip_prefix(key, q->after_len);
		return key_len > 0 ? tree_cursor_seek(c, key, key_len, err)
				   : tree_cursor_seek_end(c, err);
	}
	enum rc rc = tree_cursor_seek(c, q->after, q->after_len, err);
	if (rc != RC_OK || tree_cursor_at_end(c))
		return rc;
	const struct tree_item *item = tree_cursor_item(c);
	if (tree_key_cmp(item->key, item->key_len, q->after, q->after_len) != 0)
		return RC_OK;
	tree_cursor_step(c);
	return tree_cursor_down_to_entry(c, err);
}

/* Length of the common prefix that rolls up this path; 0 if it stands for itself. */
static size_t
rolled_up_len(const struct tree_list_query *q, const struct tree_item *item)
{
	if (q->delimiter == 0 || item->key_len == q->prefix_len)
		return 0;
	const char *rest = item->key + q->prefix_len;
	const char *at = memchr(rest, q->delimiter, item->key_len - q->prefix_len);
	return at != NULL ? (size_t)(at - item->key) + 1 : 0;
}

static enum rc
give_prefix(struct tree_cursor *c, const struct tree_list_query *q, size_t len, bool *go_on,
	struct err *err)
{
	char name[TREE_KEY_BYTES_MAX];
	char next[TREE_KEY_BYTES_MAX];
	const struct tree_totals from = tree_cursor_before(c);

	memcpy(name, tree_cursor_item(c)->key, len);
	memcpy(next, name, len);
	size_t next_len = tree_key_skip_prefix(next, len);
	enum rc rc = next_len > 0 ? tree_cursor_seek(c, next, next_len, err)
				  : tree_cursor_seek_end(c, err);
	if (rc != RC_OK)
		return rc;
	const struct tree_totals to = tree_cursor_before(c);
	const struct tree_list_item line = {
		.name = name,
		.name_len = len,
		.totals = {to.entries - from.entries, to.bytes - from.bytes},
	};
	*go_on = q->fn(q->arg, &line);
	return RC_OK;
}

static enum rc
give_entry(struct tree_cursor *c, const struct tree_list_query *q, bool *go_on, struct err *err)
{
	const struct tree_item *item = tree_cursor_item(c);
	const struct tree_list_item line = {
		.name = item->key,
		.name_len = item->key_len,
		.entry = &item->entry,
		.totals = {.entries = 1, .bytes = item->entry.content.size},
	};

	*go_on = q->fn(q->arg, &line);
	tree_cursor_step(c);
	return tree_cursor_down_to_entry(c, err);
}

static bool
has_line(const struct tree_cursor *c, const struct tree_list_query *q)
{
	if (tree_cursor_at_end(c))
		return false;
	const struct tree_item *item = tree_cursor_item(c);
	return tree_key_has_prefix(item->key, item->key_len, q->prefix, q->prefix_len);
}

enum rc
tree_list(const struct tree_store *store, const struct sha256 *root,
	const struct tree_list_query *query, bool *more, struct err *err)
{
	struct tree_cursor c;
	bool go_on = true;

	tree_cursor_init(&c, store, root);
	enum rc rc = start(&c, query, err);
	for (size_t n = 0; rc == RC_OK && go_on && n < query->limit && has_line(&c, query); n++) {
		size_t len = rolled_up_len(query, tree_cursor_item(&c));
		rc = len > 0 ? give_prefix(&c, query, len, &go_on, err)
			     : give_entry(&c, query, &go_on, err);
	}
	if (rc == RC_OK)
		*more = has_line(&c, query);
	tree_cursor_done(&c);
	return rc;
}
