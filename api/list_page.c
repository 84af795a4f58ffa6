/* SPDX-License-Identifier: Apache-2.0 */
#include "list_page.h"

#include "problem.h"
#include "show_entry.h"

/* More than any page takes: a thousand paths of quotes are 2 MiB, and a page of commits ends early.
 */
#define TEXT_BYTES_MAX ((size_t)64 << 20)

static const char opening[] = "{\"items\":[";

void
list_page_begin(struct list_page *p)
{
	p->count = 0;
	buf_init(&p->text, TEXT_BYTES_MAX);
	buf_add_str(&p->text, opening);
}

bool
list_page_offer(struct list_page *p)
{
	return p->count++ < p->limit;
}

bool
list_page_is_cut(const struct list_page *p)
{
	return p->count > p->limit;
}

static void
next_item(struct list_page *p)
{
	if (p->text.len > sizeof opening - 1)
		buf_add_u8(&p->text, ',');
}

static int
add_dumped(const char *text, size_t len, void *arg)
{
	struct buf *b = arg;

	buf_add(b, text, len);
	return buf_ok(b) ? 0 : -1;
}

void
list_page_add(struct list_page *p, json_t *item)
{
	next_item(p);
	if (item == NULL || json_dump_callback(item, add_dumped, &p->text, JSON_COMPACT) != 0)
		p->text.failed = true;
	json_decref(item);
}

void
list_page_add_entry(struct list_page *p, const struct tree_entry *e)
{
	next_item(p);
	show_entry_text(&p->text, e);
}

void
list_page_add_prefix(struct list_page *p, const char *name, size_t len)
{
	next_item(p);
	show_prefix_text(&p->text, name, len);
}

static void
end(struct list_page *p, bool more, json_t *cursor)
{
	buf_add_str(&p->text, "],\"next_cursor\":");
	if (!more)
		buf_add_str(&p->text, "null");
	else if (cursor != NULL) /* base64url: nothing to escape */
		buf_addf(&p->text, "\"%s\"", json_string_value(cursor));
	else
		p->text.failed = true;
	buf_add_str(&p->text, "}\n");
	json_decref(cursor);
}

void
list_page_reply(struct list_page *p, struct request *rq, bool more, json_t *cursor)
{
	struct err err = ERR_INIT;
	size_t len;

	end(p, more, cursor);
	if (buf_ok(&p->text)) {
		uint8_t *data = buf_take(&p->text, &len);
		reply_take(rq, 200, "application/json", data, len);
		return;
	}
	list_page_done(p);
	err_set(&err, RC_NOMEM, "no-memory", "out of memory");
	reply_problem(rq, &err);
}

void
list_page_done(struct list_page *p)
{
	buf_done(&p->text);
}
