/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_JSON_BODY_H
#define DG_JSON_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "request.h"

/* json_body: a JSON body as a list of expected members, and nothing else.
 *
 * A body is one object. Members that are not in the list, missing ones that are required, wrong
 * types and values that are too long are refused by name. Duplicate keys, NUL characters and bytes
 * after the object are no JSON here. Nesting is counted before anything is parsed.
 * Threads: any. */

#define JSON_DEPTH_MAX   32
#define JSON_FIELD_BYTES 64 /* of a member's name in json_problem */

enum json_kind {
	JSON_KIND_TEXT,
	JSON_KIND_INTEGER,
	JSON_KIND_BOOLEAN,
	JSON_KIND_OBJECT,
};

/* One expected member: the first group is said by the caller, the second filled. Values are
 * borrowed from the parsed body. */
struct json_field {
	const char *name;
	enum json_kind kind;
	bool required;
	bool nullable;    /* null is a value; then is_null */
	size_t bytes_max; /* TEXT: most bytes; 0: any */

	bool given;
	bool is_null;
	const char *text; /* TEXT: NUL-terminated; NULL if not given */
	size_t text_len;
	int64_t integer;
	bool boolean;   /* false if not given */
	json_t *object; /* borrowed; NULL if not given */
};

/* What an error is about, for the problem document. */
struct json_problem {
	char field[JSON_FIELD_BYTES]; /* "" : no field is meant */
	size_t limit;                 /* 0: no limit is meant */
};

/* Parse text and fill fields. *root keeps what fields borrow and is owned by the caller
 * (json_decref); NULL on failure. No text at all (len 0) is an empty object.
 * RC_INVALID kind "invalid-json" or "invalid-field"; RC_TOO_LARGE kind "json-too-large" (nested too
 * deep); RC_NOMEM. problem says which member or limit is meant. */
enum rc json_body_parse(const char *text, size_t len, struct json_field *fields, size_t count,
	json_t **root, struct json_problem *problem, struct err *err);

/* The same with the body of rq. false: rq is answered. */
bool json_body_take(struct request *rq, struct json_field *fields, size_t count, json_t **root);

/* Answer 400 "invalid-field" about one member whose value an operation does not like. */
void json_body_refuse(struct request *rq, const char *field, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
