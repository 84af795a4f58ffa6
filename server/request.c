/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_impl.h"
#include "log.h"
#include "problem.h"

#define ALLOC_BYTES_MAX (64u << 10)
#define BLOCK_BYTES     4000u

/* A piece of a request's memory: as many requests need some, few need much. */
struct block {
	struct block *next;
	size_t used;
	size_t size;
	max_align_t data[];
};

static struct exchange *
exchange_of(const struct request *rq)
{
	return rq->http;
}

/* ---- reading ---- */

const char *
request_header(struct request *rq, const char *name)
{
	const struct exchange *x = exchange_of(rq);

	for (size_t i = 0; i < x->header_count; i++)
		if (strcasecmp(x->headers[i].name, name) == 0)
			return x->headers[i].value;
	return NULL;
}

static const struct request_param *
find_param(const struct request_param *params, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(params[i].name, name) == 0)
			return &params[i];
	return NULL;
}

const char *
request_query(struct request *rq, const char *name)
{
	const struct route *r = &exchange_of(rq)->route;
	const struct request_param *p = find_param(r->query, r->query_count, name);

	return p != NULL ? p->value : NULL;
}

const struct request_param *
request_param(struct request *rq, const char *name)
{
	static const struct request_param none = {.name = "", .value = "", .len = 0};
	const struct request_param *p = find_param(rq->params, rq->param_count, name);

	if (p != NULL)
		return p;
	bug("operation %s has no path parameter %s", rq->op != NULL ? rq->op->id : "-", name);
	return &none;
}

void *
request_alloc(struct request *rq, size_t bytes)
{
	struct exchange *x = exchange_of(rq);
	struct block *b = x->blocks;
	size_t align = sizeof(max_align_t);

	if (bytes > ALLOC_BYTES_MAX)
		return NULL;
	bytes = (bytes + align - 1) / align * align;
	if (b == NULL || b->size - b->used < bytes) {
		size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
		if (x->alloc_bytes + size > ALLOC_BYTES_MAX + BLOCK_BYTES)
			return NULL;
		b = calloc(1, sizeof *b + size);
		if (b == NULL)
			return NULL;
		*b = (struct block){.next = x->blocks, .size = size};
		x->blocks = b;
		x->alloc_bytes += size;
	}
	void *p = (uint8_t *)b->data + b->used;
	b->used += bytes;
	return p;
}

void
request_blocks_free(struct exchange *x)
{
	while (x->blocks != NULL) {
		struct block *b = x->blocks;
		x->blocks = b->next;
		free(b);
	}
}

/* ---- answering ---- */

bool
reply_is_set(const struct request *rq)
{
	return exchange_of(rq)->reply.is_set;
}

void
reply_header(struct request *rq, const char *name, const char *fmt, ...)
{
	struct reply *r = &exchange_of(rq)->reply;
	char value[2048];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(value, sizeof value, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof value || strpbrk(value, "\r\n") != NULL) {
		bug("response header %s is too long or more than one line", name);
		return;
	}
	size_t name_bytes = strlen(name) + 1;
	struct reply_field *f = request_alloc(rq, sizeof *f + name_bytes + (size_t)n + 1);
	if (f == NULL) {
		log_event(LOG_LEVEL_WARN, "response_header_lost", "id=%s name=%s", rq->id, name);
		return;
	}
	char *text = (char *)(f + 1);
	memcpy(text, name, name_bytes);
	memcpy(text + name_bytes, value, (size_t)n + 1);
	*f = (struct reply_field){.name = text, .value = text + name_bytes};
	*r->fields_tail = f;
	r->fields_tail = &f->next;
}

/* Claim the reply; false if one is set. */
static bool
claim(struct request *rq, int status, const char *content_type)
{
	struct reply *r = &exchange_of(rq)->reply;

	if (r->is_set)
		return false;
	r->is_set = true;
	r->status = status;
	if (content_type != NULL)
		reply_header(rq, "Content-Type", "%s", content_type);
	return true;
}

bool
reply_take(struct request *rq, int status, const char *content_type, uint8_t *data, size_t len)
{
	struct reply *r = &exchange_of(rq)->reply;

	if (!claim(rq, status, content_type)) {
		free(data);
		return false;
	}
	r->data = data;
	r->len = len;
	return true;
}

bool
reply_bytes(struct request *rq, int status, const char *content_type, const void *data, size_t len)
{
	if (reply_is_set(rq))
		return false;
	uint8_t *copy = malloc(len + 1);
	if (copy == NULL)
		return reply_empty(rq, 503);
	memcpy(copy, data, len);
	return reply_take(rq, status, content_type, copy, len);
}

bool
reply_empty(struct request *rq, int status)
{
	return claim(rq, status, NULL);
}

bool
reply_stream(struct request *rq, int status, const char *content_type, uint64_t len,
	source_read_fn *read, source_free_fn *release, void *source)
{
	struct reply *r = &exchange_of(rq)->reply;

	if (!claim(rq, status, content_type)) {
		if (release != NULL)
			release(source);
		return false;
	}
	r->is_stream = true;
	r->stream_len = len;
	r->read = read;
	r->release = release;
	r->source = source;
	return true;
}

/* ---- moving on ---- */

/* http_stop waits for resumers to be 0 before it stops MHD: a thread that is about to resume a
 * connection may still be inside MHD after the connection runs. */
void
request_post(struct exchange *x, unsigned bits)
{
	struct MHD_Connection *con = x->con;
	struct http *h = x->http;

	atomic_fetch_add(&h->resumers, 1);
	unsigned old = gate_post(&x->gate, bits);
	if (bits != 0 && !(old & GATE_OWED))
		bug("a request was completed twice or too early");
	else if (bits != 0 && (old & GATE_DETACHED))
		exchange_finish(x);
	else if (old & GATE_WAITING)
		MHD_resume_connection(con);
	atomic_fetch_sub(&h->resumers, 1);
}

void
request_wake(struct request *rq)
{
	request_post(exchange_of(rq), 0);
}

void
request_complete(struct request *rq)
{
	if (!reply_is_set(rq)) {
		struct err err = ERR_INIT;
		bug("operation %s completed without an answer", rq->op->id);
		err_set(&err, RC_BUG, "internal", "the server has no answer to this request");
		reply_problem(rq, &err);
	}
	request_post(exchange_of(rq), GATE_DONE);
}

enum rc
request_defer(struct server_ctx *srv, void (*fn)(void *arg), void *arg)
{
	struct work *w = work_find(srv);

	if (w == NULL) {
		bug("no worker pool belongs to this server");
		return RC_AGAIN;
	}
	return work_submit(w, fn, arg);
}
