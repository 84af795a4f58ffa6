/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_LIST_PAGE_H
#define DG_LIST_PAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "request.h"
#include "tree.h"

/* list_page: a page of a list, {"items": [...], "next_cursor": ...}, written as it is found.
 *
 * A page that lacks an item, or says that it is the last when it is not, would hide things: if
 * memory runs out anywhere, all of it is a problem document.
 * Threads: one at a time. */

struct list_page {
	size_t limit; /* the caller's, before anything is offered */
	size_t count; /* offered so far */
	struct buf text;
};

/* Empty; limit stays. Ends with list_page_reply or list_page_done. */
void list_page_begin(struct list_page *p);
/* There is one more item. true: it is to be added; false: the page is full. Whoever offers one more
 * than limit learns with list_page_is_cut that there are others. */
bool list_page_offer(struct list_page *p);
bool list_page_is_cut(const struct list_page *p);
/* item is stolen; NULL: there was no memory for it. */
void list_page_add(struct list_page *p, json_t *item);
/* As show_entry_text and show_prefix_text; borrowed for the call. */
void list_page_add_entry(struct list_page *p, const struct tree_entry *e);
void list_page_add_prefix(struct list_page *p, const char *name, size_t len);
/* Answer 200 with the page, or a problem. more: others follow, from cursor on, which is stolen
 * (NULL: no memory); else cursor is NULL. */
void list_page_reply(struct list_page *p, struct request *rq, bool more, json_t *cursor);
/* For a page that is not answered. */
void list_page_done(struct list_page *p);

#endif
