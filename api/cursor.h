/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CURSOR_H
#define DG_CURSOR_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "request.h"

/* cursor: where the next page of a list begins, as an opaque text.
 *
 * It is base64url of a checksum and of whatever the list wants to remember. The checksum also
 * covers the scope: the list and the query that made it, so that a cursor of another list, or of
 * this one with another prefix, is refused and not misread. It is no secret and guards against
 * mistakes only. Threads: any. */

#define CURSOR_TEXT_MAX 2048
#define CURSOR_DATA_MAX 1500

enum cursor_list {
	CURSOR_REPOS = 1,
	CURSOR_STAGES,
	CURSOR_STAGE_FILES,
	CURSOR_TREE,
	CURSOR_COMMITS,
	CURSOR_DIFF,
	CURSOR_REFS,
	CURSOR_PROGRESS,
	CURSOR_IMPORTS,
};

struct cursor_scope {
	uint64_t hash;
};
void cursor_scope_init(struct cursor_scope *s, enum cursor_list list);
void cursor_scope_add(struct cursor_scope *s, const void *text, size_t len);
/* A path parameter or query value of rq ("" if it was not given). */
void cursor_scope_add_param(struct cursor_scope *s, struct request *rq, const char *name);
void cursor_scope_add_query(struct cursor_scope *s, struct request *rq, const char *name);

struct cursor {
	uint8_t data[CURSOR_DATA_MAX + 1]; /* a NUL behind, so that text can be used as it is */
	size_t len;                        /* 0: from the start */
};

/* ?cursor= of rq. false: it is none of this scope, and rq is answered (400 invalid-query). */
bool cursor_take(struct request *rq, const struct cursor_scope *s, struct cursor *out);
/* The JSON text for next_cursor; data is borrowed for the call, 1 to CURSOR_DATA_MAX bytes. NULL:
 * no memory. */
json_t *cursor_make(const struct cursor_scope *s, const void *data, size_t len);
/* Pure form of cursor_take for the text alone. */
bool cursor_decode(const struct cursor_scope *s, const char *text, size_t len, struct cursor *out);

#endif
