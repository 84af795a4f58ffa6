/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ENTRY_PAGE_H
#define DG_ENTRY_PAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "request.h"
#include "tree.h"

/* entry_page: a page of files, {"items": [...], "next_cursor": ...}, written as it is found.
 * Threads: one at a time. */

struct entry_page {
	struct buf text;
};

/* Empty. It is answered with entry_page_reply, or freed with entry_page_done. */
void entry_page_init(struct entry_page *p);
/* PARSE_LIMIT_MAX entries at most; path is borrowed for the call. */
void entry_page_add(struct entry_page *p, const struct tree_entry *e);
void entry_page_add_prefix(struct entry_page *p, const char *name, size_t len);
/* Answer 200 with the page, or a problem if memory ran out. more: others follow, from cursor on,
 * which is stolen (NULL: no memory). */
void entry_page_reply(struct entry_page *p, struct request *rq, bool more, json_t *cursor);
void entry_page_done(struct entry_page *p);

#endif
