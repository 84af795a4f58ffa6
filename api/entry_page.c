/* SPDX-License-Identifier: Apache-2.0 */
#include "entry_page.h"

#include "parse.h"
#include "path.h"
#include "problem.h"
#include "show_entry.h"

/* A path of quotes takes twice its length; the fields are 190 bytes at most. */
#define ENTRY_BYTES_MAX (2 * PATH_BYTES_MAX + 256)
#define FRAME_BYTES_MAX 4096 /* around the items, with the cursor */
#define BYTES_USUAL     ((size_t)64 << 10)

static const char opening[] = "{\"items\":[";

void
entry_page_init(struct entry_page *p)
{
	buf_init(&p->text, (size_t)PARSE_LIMIT_MAX * ENTRY_BYTES_MAX + FRAME_BYTES_MAX);
	buf_reserve(&p->text, BYTES_USUAL);
	buf_add_str(&p->text, opening);
}

static void
next_item(struct entry_page *p)
{
	if (p->text.len > sizeof opening - 1)
		buf_add_u8(&p->text, ',');
}

void
entry_page_add(struct entry_page *p, const struct tree_entry *e)
{
	next_item(p);
	show_entry_text(&p->text, e);
}

void
entry_page_add_prefix(struct entry_page *p, const char *name, size_t len)
{
	next_item(p);
	show_prefix_text(&p->text, name, len);
}

void
entry_page_reply(struct entry_page *p, struct request *rq, bool more, json_t *cursor)
{
	const bool is_whole = !more || cursor != NULL;
	struct err err = ERR_INIT;
	size_t len;

	buf_add_str(&p->text, "],\"next_cursor\":");
	if (more && is_whole) /* base64url: nothing to escape */
		buf_addf(&p->text, "\"%s\"", json_string_value(cursor));
	else
		buf_add_str(&p->text, "null");
	buf_add_str(&p->text, "}\n");
	json_decref(cursor);
	if (is_whole && buf_ok(&p->text)) {
		uint8_t *data = buf_take(&p->text, &len);
		reply_take(rq, 200, "application/json", data, len);
		return;
	}
	err_set(&err, RC_NOMEM, "no-memory", "out of memory");
	reply_problem(rq, &err);
	entry_page_done(p);
}

void
entry_page_done(struct entry_page *p)
{
	buf_done(&p->text);
}
