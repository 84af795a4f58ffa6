/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_REQUEST_H
#define DG_REQUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

/* request: one HTTP request as an operation sees it, whatever HTTP library is below.
 *
 * The life of a request (moved only by server/http.c):
 *
 *   ADMIT  all headers are here, no body byte was read, no "100 Continue" was sent. The guard and
 *          the router ran. op->admit runs on an op worker (may block: SQL), or, where the operation
 *          can tell without blocking, op->admit_fast runs on the HTTP thread and answers true.
 *          If a reply is set when admission ends, it is sent and the body is never read.
 *   BODY   BODY_NONE: a body is refused. BODY_JSON: collected (up to op->body_bytes_max).
 *          BODY_STREAM: op->body gets every piece on the HTTP thread.
 *   END    the body is complete and its length is what was declared.
 *          op->end (HTTP thread, must not block) if there is one; else op->run on an op worker.
 *          Both must lead to request_complete(), at once or later, from any thread. Before op->run,
 *          op->run_fast (HTTP thread, must not block) may set a reply if all it needs is in memory:
 *          then it answers true and the request is complete; else it has done nothing.
 *   REPLY  the reply is sent; a streamed reply is pulled from its source on the HTTP thread.
 *   close  op->close runs exactly once, after everything else, on an HTTP thread; completed says
 *          whether the answer went out whole. The request and its arena are freed after it.
 *
 * A connection that dies goes to close from any state, but never while op->admit or op->run is
 * running or a request_complete() is owed: the request outlives its workers.
 *
 * Threads: the fields are set before the operation sees them and do not change; ctx belongs to the
 * operation. reply_* may be called by whichever thread runs the operation's current phase. */

struct request;
struct server_ctx; /* what every operation may use: see services.h */

enum method {
	METHOD_GET,
	METHOD_HEAD,
	METHOD_PUT,
	METHOD_POST,
	METHOD_DELETE,
	METHOD_OPTIONS,
	METHOD_COUNT,
};

enum op_body {
	BODY_NONE,
	BODY_JSON,
	BODY_STREAM,
};

struct op {
	const char *id; /* operationId of openapi.yaml */
	enum method method;
	const char *path; /* "/v1/repos/{repo}/stages/{stage}/files/{path...}" */
	enum op_body body;
	size_t body_bytes_max;    /* BODY_JSON only */
	bool body_optional;       /* BODY_JSON: an absent body is allowed */
	bool waits;               /* may answer late on purpose: not in the latencies */
	const char *const *query; /* NULL-terminated names of the query parameters it knows */
	bool (*admit_fast)(struct request *rq);
	void (*admit)(struct request *rq);
	/* Take up to len bytes; returns how many. Fewer than len means: no room now, and
	 * request_wake(rq) will be called when there is. After a reply is set the rest is refused.
	 */
	size_t (*body_piece)(struct request *rq, const uint8_t *data, size_t len);
	void (*end)(struct request *rq);
	bool (*run_fast)(struct request *rq);
	void (*run)(struct request *rq);
	void (*close)(struct request *rq, bool completed);
};

#define REQUEST_PARAMS_MAX 4
#define REQUEST_ID_BYTES   24

struct request_param {
	const char *name;
	const char *value; /* percent-decoded once, NUL-terminated, no NUL inside */
	size_t len;
};

struct request {
	/* immutable after routing */
	const struct op *op;
	struct server_ctx *srv;
	enum method method;
	char id[REQUEST_ID_BYTES]; /* unique text, echoed as Digstore-Request-Id */
	const char *target;        /* path as sent, not decoded, for logs */
	struct request_param params[REQUEST_PARAMS_MAX]; /* from the path template */
	size_t param_count;
	bool length_known;   /* Content-Length was given (or there is no body) */
	uint64_t body_bytes; /* declared length, if length_known */
	uint64_t started_ns; /* monotonic */
	/* BODY_JSON: the whole body, NUL-terminated, set before run/end */
	const char *json;
	size_t json_bytes;
	/* the operation's own */
	void *ctx;
	/* server/http.c's own, not for operations */
	void *http;
};

/* ---- reading a request (any phase, any thread that runs the phase) ---- */

/* Header value, or NULL. Header names are compared without case. Borrowed until close. */
const char *request_header(struct request *rq, const char *name);
/* Percent-decoded query value, or NULL; an empty value is "". Borrowed until close. A query with
 * an unknown or repeated name was refused before the operation ran. */
const char *request_query(struct request *rq, const char *name);
/* Path parameter by name; never NULL for a name of the template. */
const struct request_param *request_param(struct request *rq, const char *name);
/* Memory that lives until after close. Zeroed. NULL if there is none (about 64 KiB a request). */
void *request_alloc(struct request *rq, size_t bytes);

/* ---- answering ---- */

/* A pull source of body bytes. read runs on the HTTP thread and must not block: it fills up to max
 * bytes and returns how many (> 0), or SOURCE_LATER (request_wake will be called), SOURCE_END, or
 * SOURCE_ABORT (cut the connection: the client must see that the answer is broken). */
#define SOURCE_LATER (-1)
#define SOURCE_END   (-2)
#define SOURCE_ABORT (-3)
typedef ssize_t source_read_fn(void *source, uint8_t *out, size_t max);
typedef void source_free_fn(void *source);

/* Set the answer; the first one wins, later calls return false and free what they were given.
 * data is copied by reply_bytes and owned (free()d later) by reply_take. */
bool reply_bytes(
	struct request *rq, int status, const char *content_type, const void *data, size_t len);
bool reply_take(
	struct request *rq, int status, const char *content_type, uint8_t *data, size_t len);
/* Empty body. */
bool reply_empty(struct request *rq, int status);
/* Streamed body; len UINT64_MAX = unknown (chunked). source is handed over, also on false. */
bool reply_stream(struct request *rq, int status, const char *content_type, uint64_t len,
	source_read_fn *read, source_free_fn *release, void *source);
/* Add a response header (name and value copied). A reply need not be set yet. */
void reply_header(struct request *rq, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A reply was set. */
bool reply_is_set(const struct request *rq);

/* ---- moving on (any thread) ---- */

/* The operation is done: the reply is set. Exactly once per request whose END phase was reached. */
void request_complete(struct request *rq);
/* More room for body bytes, or more bytes in the source: look again. May be called too often, never
 * after close. */
void request_wake(struct request *rq);
/* Run fn(arg) on an op worker soon. RC_AGAIN: the queue is full; nothing was queued. */
enum rc request_defer(struct server_ctx *srv, void (*fn)(void *arg), void *arg);

#endif
