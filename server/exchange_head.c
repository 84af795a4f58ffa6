/* SPDX-License-Identifier: Apache-2.0 */

/* What can be said of a request from its headers alone, without asking anybody. */

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_impl.h"
#include "problem.h"

void
exchange_refuse(struct exchange *x, enum rc rc, const char *kind, const char *text)
{
	struct err err = ERR_INIT;

	err_set(&err, rc, kind, "%s", text);
	reply_problem(&x->rq, &err);
}

struct header_list {
	struct guard_header items[GUARD_HEADERS_MAX + 1];
	size_t count; /* may be more than there are items */
};

static enum MHD_Result
collect_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
	const char *value, size_t value_len)
{
	struct header_list *l = cls;

	(void)kind;
	if (l->count <= GUARD_HEADERS_MAX)
		l->items[l->count] = (struct guard_header){
			name, name_len, value != NULL ? value : "", value != NULL ? value_len : 0};
	l->count++;
	return MHD_YES;
}

static char *
copy_text(char **at, const char *text, size_t len)
{
	char *copy = *at;

	memcpy(copy, text, len);
	copy[len] = '\0';
	*at += len + 1;
	return copy;
}

/* A copy, because MHD's own ends with the connection, and a worker may outlive that. */
static bool
keep_headers(struct exchange *x, const struct header_list *l)
{
	size_t bytes = l->count * sizeof *x->headers;

	for (size_t i = 0; i < l->count; i++)
		bytes += l->items[i].name_len + l->items[i].value_len + 2;
	x->headers = malloc(bytes > 0 ? bytes : 1);
	if (x->headers == NULL)
		return false;
	char *at = (char *)(x->headers + l->count);
	for (size_t i = 0; i < l->count; i++) {
		struct guard_header h = l->items[i];
		h.name = copy_text(&at, h.name, h.name_len);
		h.value = copy_text(&at, h.value, h.value_len);
		x->headers[i] = h;
	}
	x->header_count = l->count;
	return true;
}

/* The guard. False: refused, and what follows on this connection means nothing. */
static bool
read_head(struct exchange *x, const char *method, const char *version)
{
	struct header_list l;
	struct err err = ERR_INIT;

	l.count = 0;
	MHD_get_connection_values_n(x->con, MHD_HEADER_KIND, collect_header, &l);
	struct guard_input in = {.method = method,
		.version = version,
		.target = x->target,
		.headers = l.items,
		.header_count = l.count};
	x->must_close = true;
	if (guard_check(&in, &x->facts, &err) != RC_OK) {
		reply_problem(&x->rq, &err);
		return false;
	}
	if (!keep_headers(x, &l)) {
		exchange_refuse(x, RC_NOMEM, "no-memory", "no memory for the headers");
		return false;
	}
	x->must_close = false;
	x->has_body = x->facts.chunked || x->facts.length > 0;
	x->rq.method = x->facts.method;
	x->rq.length_known = !x->facts.chunked;
	x->rq.body_bytes = x->facts.length;
	return true;
}

/* A page that a browser got elsewhere may send forms, texts and files here without asking; the
 * browser then says where the page is from. Names are compared as they stand: a proxy that changes
 * Host makes its own pages foreign. */
static bool
is_own_origin(const char *origin, const char *host)
{
	size_t scheme = strncasecmp(origin, "http://", 7) == 0    ? 7
			: strncasecmp(origin, "https://", 8) == 0 ? 8
								  : 0;

	return scheme > 0 && host != NULL && strcasecmp(origin + scheme, host) == 0;
}

static bool
may_write(struct exchange *x)
{
	const char *origin = request_header(&x->rq, "Origin");

	switch (x->facts.method) {
	case METHOD_GET:
	case METHOD_HEAD:
	case METHOD_OPTIONS:
		return true;
	default:
		return origin == NULL || is_own_origin(origin, request_header(&x->rq, "Host"));
	}
}

/* The field is the name of a query parameter. */
static void
refuse_route(struct exchange *x, const struct err *err)
{
	const char *field = x->route.field;

	reply_problem_with(&x->rq, err,
		field[0] != '\0' ? json_pack("{s:o}", "field", problem_text(field)) : NULL);
}

static void
find_operation(struct exchange *x)
{
	struct err err = ERR_INIT;
	struct route *r = &x->route;
	enum rc rc = router_find(x->http->o.ops, x->facts.method, x->target_work, r, &err);

	if (rc == RC_DENIED) {
		reply_not_allowed(&x->rq, &err, r->allow);
	} else if (rc != RC_OK) {
		refuse_route(x, &err);
	} else if (r->op == NULL) {
		reply_header(&x->rq, "Allow", "%s", r->allow);
		reply_empty(&x->rq, 204);
	} else {
		x->rq.op = r->op;
		memcpy(x->rq.params, r->params, sizeof x->rq.params);
		x->rq.param_count = r->param_count;
	}
}

/* JSON, or what `curl -d` says of anything; perhaps with parameters. Pages of other origins, which
 * could say that too, were refused before. */
static bool
is_json_type(const char *type)
{
	static const char *const types[] = {
		"application/json", "application/x-www-form-urlencoded"};
	size_t len = strcspn(type, "; \t");

	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (len == strlen(types[i]) && strncasecmp(type, types[i], len) == 0)
			return true;
	return false;
}

static void
check_json_head(struct exchange *x)
{
	const char *type = request_header(&x->rq, "Content-Type");
	const char *encoding = request_header(&x->rq, "Content-Encoding");
	const struct op *op = x->rq.op;

	if (!x->has_body) {
		if (!op->body_optional)
			exchange_refuse(x, RC_INVALID, "invalid-json",
				"this operation needs a JSON body; the request has none");
		return;
	}
	if (encoding != NULL && strcasecmp(encoding, "identity") != 0)
		exchange_refuse(x, RC_INVALID, "unsupported-encoding",
			"a JSON body must come without Content-Encoding");
	else if (type != NULL && !is_json_type(type))
		exchange_refuse(x, RC_INVALID, "unsupported-media-type",
			"this operation takes JSON; with curl, add "
			"-H 'Content-Type: application/json'");
	else if (x->rq.length_known && x->rq.body_bytes > op->body_bytes_max)
		exchange_refuse(x, RC_TOO_LARGE, "json-too-large",
			"the JSON body is longer than this operation takes");
}

static void
check_body_head(struct exchange *x)
{
	switch (x->rq.op->body) {
	case BODY_NONE:
		if (x->has_body)
			exchange_refuse(
				x, RC_INVALID, "body-mismatch", "this operation takes no body");
		return;
	case BODY_JSON:
		check_json_head(x);
		return;
	case BODY_STREAM:
		if (x->rq.length_known && x->rq.body_bytes > x->http->o.upload_bytes_max)
			exchange_refuse(x, RC_TOO_LARGE, "body-too-large",
				"the body is longer than uploads may be on this server");
		return;
	}
}

void
exchange_read_head(struct exchange *x, const char *method, const char *version)
{
	x->rq.json = "";
	if (!read_head(x, method, version))
		return;
	if (!may_write(x))
		exchange_refuse(x, RC_DENIED, "access-denied",
			"this request would change something, and its Origin header says that a "
			"page of another server sent it");
	else if (http_is_quiesced(x->http))
		exchange_refuse(x, RC_UNAVAILABLE, "shutting-down", "the server is shutting down");
	else
		find_operation(x);
	if (!x->reply.is_set)
		check_body_head(x);
}
