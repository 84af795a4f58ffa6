/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "http_impl.h"
#include "log.h"

#define STREAM_BLOCK_BYTES (256u << 10)
/* A stream without length goes out in HTTP chunks from the connection's own memory; only HTTP/1.0
 * clients get it through this block. */
#define STREAM_BLOCK_BYTES_UNSIZED (16u << 10)
/* Fits into the send buffer of an idle socket with room to spare. */
#define RAW_BYTES_MAX (32u << 10)

/* As it goes: a long download would otherwise be seen only at its end. */
static void
count_sent(struct exchange *x, uint64_t bytes)
{
	x->sent += bytes;
	atomic_fetch_add_explicit(&x->http->bytes_out, bytes, memory_order_relaxed);
}

/* Pull from the source on the HTTP thread. What to return when, see MHD_ContentReaderCallback. */
static ssize_t
read_source(void *cls, uint64_t pos, char *out, size_t max)
{
	struct exchange *x = cls;
	struct reply *r = &x->reply;

	(void)pos;
	gate_enter(&x->gate);
	if (atomic_load(&x->http->stopping))
		return MHD_CONTENT_READER_END_WITH_ERROR;
	ssize_t n = r->read(r->source, (uint8_t *)out, max);
	if (n > 0 && (size_t)n <= max) {
		count_sent(x, (uint64_t)n);
		return n;
	}
	if (n == SOURCE_LATER) {
		/* as in exchange.c: suspend first, then say so */
		MHD_suspend_connection(x->con);
		if (!gate_wait(&x->gate))
			MHD_resume_connection(x->con);
		return 0;
	}
	if (n == SOURCE_END && (r->stream_len == UINT64_MAX || x->sent == r->stream_len)) {
		x->source_ended = true;
		return MHD_CONTENT_READER_END_OF_STREAM;
	}
	if (n != SOURCE_ABORT)
		bug("the source of %s returned %zd after %llu bytes", x->rq.op->id, n,
			(unsigned long long)x->sent);
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

static struct MHD_Response *
build_body(struct exchange *x)
{
	struct reply *r = &x->reply;

	if (r->is_stream) {
		bool sized = r->stream_len != UINT64_MAX;
		size_t block = sized ? STREAM_BLOCK_BYTES : STREAM_BLOCK_BYTES_UNSIZED;
		if (sized && r->stream_len < block)
			block = r->stream_len > 0 ? (size_t)r->stream_len : 1;
		return MHD_create_response_from_callback(
			sized ? r->stream_len : MHD_SIZE_UNKNOWN, block, read_source, x, NULL);
	}
	struct MHD_Response *m =
		MHD_create_response_from_buffer_with_free_callback(r->len, r->data, free);
	if (m != NULL) {
		count_sent(x, r->len);
		r->data = NULL; /* handed over; MHD frees it */
	}
	return m;
}

struct MHD_Response *
answer_build(struct exchange *x)
{
	struct MHD_Response *m = build_body(x);

	if (m == NULL)
		return NULL;
	MHD_add_response_header(m, "Digstore-Request-Id", x->rq.id);
	MHD_add_response_header(m, "X-Content-Type-Options", "nosniff");
	if (x->must_close || http_is_quiesced(x->http))
		MHD_add_response_header(m, "Connection", "close");
	for (const struct reply_field *f = x->reply.fields; f != NULL; f = f->next)
		if (MHD_add_response_header(m, f->name, f->value) != MHD_YES)
			bug("response header %s was refused", f->name);
	return m;
}

bool
answer_is_small(const struct exchange *x)
{
	return !x->reply.is_stream && x->reply.len <= RAW_BYTES_MAX / 2;
}

static void
render_raw(const struct exchange *x, struct buf *out)
{
	const struct reply *r = &x->reply;
	char date[CLOCK_RFC3339_BYTES];

	clock_http_date(clock_wall_us(), date);
	buf_addf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\n", r->status,
		MHD_get_reason_phrase_for((unsigned)r->status), date);
	buf_addf(out, "Digstore-Request-Id: %s\r\nX-Content-Type-Options: nosniff\r\n", x->rq.id);
	for (const struct reply_field *f = r->fields; f != NULL; f = f->next)
		buf_addf(out, "%s: %s\r\n", f->name, f->value);
	buf_addf(out, "Content-Length: %zu\r\n\r\n", r->len);
	buf_add(out, r->data, r->len);
}

/* MHD queues no answer between the first and the last body byte. At that point it has nothing to
 * send (a "100 Continue" went out before the first body byte was handed to us), so the socket is
 * ours for one small answer, after which the connection is closed. */
bool
answer_send_raw(struct exchange *x)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(x->con, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct buf b;

	if (info == NULL)
		return false;
	buf_init(&b, RAW_BYTES_MAX);
	render_raw(x, &b);
	ssize_t n = buf_ok(&b) ? send(info->connect_fd, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT)
			       : -1;
	bool ok = n >= 0 && (size_t)n == b.len;
	if (ok)
		count_sent(x, x->reply.len);
	buf_done(&b);
	return ok;
}

void
answer_done(struct exchange *x)
{
	struct reply *r = &x->reply;

	if (r->is_stream && r->release != NULL)
		r->release(r->source);
	r->source = NULL;
	r->release = NULL;
	free(r->data);
	r->data = NULL;
}
