/* SPDX-License-Identifier: Apache-2.0 */

/* The life of a request on libmicrohttpd 0.9.75, whose rules (read in its source, and tried) are:
 *
 * - The access handler is called once when the headers are complete. If it suspends the connection
 *   then, it is called again with no bytes after the resume, still before "100 Continue"; so a
 *   worker may decide about a request whose body was not asked for yet.
 * - An answer queued in those calls is sent at once, the body is never read and the connection
 *   closes after it. So a request without body is answered in the final call, which keeps it.
 * - Then come calls with body bytes, until all are there, and one final call without bytes. In
 *   between no answer can be queued: we drop the rest of a small body and answer in the final call,
 *   or send the answer past MHD (answer.c) and close.
 * - The handler is not called while the connection is suspended; only a chunked body of which we
 *   took all bytes would be read on. We suspend when we leave bytes, or in calls without bytes.
 * - MHD must not be stopped while a connection is suspended, and sees no disconnect in one.
 * - MHD misses an end that comes together with bytes: see conn_repeat_end.
 *
 * Suspending and resuming without losing or doubling one is argued in gate.h. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "http_impl.h"
#include "log.h"
#include "problem.h"

/* ---- waiting ---- */

static enum MHD_Result
pause_exchange(struct exchange *x)
{
	if (atomic_load(&x->http->stopping))
		return MHD_NO;
	conn_set_state(x->conn, CONN_BUSY);
	MHD_suspend_connection(x->con);
	if (!gate_wait(&x->gate))
		MHD_resume_connection(x->con);
	return MHD_YES;
}

/* ---- answering ---- */

static enum http_kind
kind_of(const struct exchange *x)
{
	if (x->rq.op->body == BODY_STREAM)
		return HTTP_UPLOAD;
	return x->rq.method == METHOD_GET || x->rq.method == METHOD_HEAD ? HTTP_READ : HTTP_CHANGE;
}

static void
note_latency(struct exchange *x)
{
	uint64_t since = x->has_body ? x->turn_ns : x->rq.started_ns;

	if (x->rq.op != NULL && !x->rq.op->waits && since != 0)
		histogram_add(&x->http->latency[kind_of(x)], (clock_mono_ns() - since) / 1000);
}

static enum MHD_Result
queue_reply(struct exchange *x)
{
	struct MHD_Response *m = answer_build(x);

	if (m == NULL)
		return MHD_NO;
	note_latency(x);
	conn_set_state(x->conn, CONN_BUSY);
	x->phase = PHASE_REPLY;
	enum MHD_Result r = MHD_queue_response(x->con, (unsigned)x->reply.status, m);
	MHD_destroy_response(m);
	return r;
}

/* ---- admission ---- */

/* With no body to wait for, and only a worker to run it, the operation can follow its admission on
 * the same worker: one trip less. */
static bool
can_chain(const struct exchange *x)
{
	return !x->has_body && x->rq.op->end == NULL && x->rq.op->run != NULL;
}

static void
admit_job(void *arg)
{
	struct exchange *x = arg;

	x->rq.op->admit(&x->rq);
	if (!x->reply.is_set && can_chain(x))
		x->rq.op->run(&x->rq);
	else
		request_post(x, GATE_ADMITTED);
}

/* True: decided at once. */
static bool
admit(struct exchange *x)
{
	const struct op *op = x->rq.op;

	x->op_entered = op->admit_fast != NULL || op->admit == NULL;
	if (op->admit_fast != NULL && op->admit_fast(&x->rq))
		return true;
	if (op->admit == NULL || x->reply.is_set)
		return true;
	if (work_is_full(x->http->o.work)) {
		exchange_refuse(
			x, RC_AGAIN, "overloaded", "too many requests wait to be looked at");
		return true;
	}
	x->op_entered = true;
	x->phase = PHASE_ADMIT;
	x->item = (struct work_item){.fn = admit_job, .arg = x};
	gate_owe(&x->gate);
	work_push(x->http->o.work, &x->item);
	return false;
}

/* All that came was taken. If more is due and the client has gone, nobody else would notice. */
static void
look_for_end(const struct exchange *x)
{
	if (!x->rq.length_known || x->received + x->discarded < x->rq.body_bytes)
		conn_repeat_end(x->conn);
}

static bool
body_ends_soon(const struct exchange *x, uint64_t taken)
{
	return x->rq.length_known && x->rq.body_bytes - taken <= DISCARD_KEEP_BYTES;
}

/* Admission is over. In the calls before the body an answer may be queued only if the body shall
 * not be read. */
static enum MHD_Result
after_admission(struct exchange *x)
{
	conn_set_state(x->conn, CONN_BODY);
	look_for_end(x);
	if (!x->reply.is_set) {
		x->phase = PHASE_BODY;
		return MHD_YES;
	}
	bool drop = !x->has_body || (!x->facts.expect_continue && body_ends_soon(x, 0));
	if (x->must_close || !drop)
		return queue_reply(x);
	x->phase = PHASE_DISCARD;
	return MHD_YES;
}

static enum MHD_Result
begin_admission(struct exchange *x, const char *method, const char *version)
{
	pthread_mutex_lock(&x->http->exchanges_mtx);
	x->in_flight = true;
	x->http->in_flight++;
	pthread_mutex_unlock(&x->http->exchanges_mtx);
	conn_set_state(x->conn, CONN_BUSY);
	exchange_read_head(x, method, version);
	if (!x->reply.is_set && !admit(x))
		return pause_exchange(x);
	return after_admission(x);
}

/* ---- body ---- */

/* An answer is set and more body is to come: taken counts what came, this piece included. */
static enum MHD_Result
refuse_body(struct exchange *x, uint64_t taken, size_t *size)
{
	if (body_ends_soon(x, taken) || !answer_is_small(x)) {
		*size = 0;
		x->phase = PHASE_DISCARD;
		look_for_end(x);
		return MHD_YES;
	}
	x->phase = PHASE_REPLY;
	x->sent_raw = answer_send_raw(x);
	return MHD_NO;
}

static void
take_json(struct exchange *x, const char *data, size_t len)
{
	if (x->json.len + len > x->rq.op->body_bytes_max) {
		exchange_refuse(x, RC_TOO_LARGE, "json-too-large",
			"the JSON body is longer than this operation takes");
		return;
	}
	/* one byte more, for the NUL */
	x->json.max = x->rq.op->body_bytes_max + 1;
	buf_add(&x->json, data, len);
	if (!buf_ok(&x->json))
		exchange_refuse(x, RC_NOMEM, "no-memory", "no memory for the JSON body");
	x->received += len;
}

/* Returns how much was taken. */
static size_t
take_stream(struct exchange *x, const char *data, size_t len)
{
	const struct op *op = x->rq.op;
	size_t done = 0;

	if (x->received + len > x->http->o.upload_bytes_max) {
		exchange_refuse(x, RC_TOO_LARGE, "body-too-large",
			"the body is longer than uploads may be on this server");
		return 0;
	}
	/* A wake that came while the operation looked saves the trip through a suspension. Once is
	 * enough: an operation that wakes itself for nothing must not hold the event loop. */
	for (int round = 0; round < 2; round++) {
		done += op->body_piece(&x->rq, (const uint8_t *)data + done, len - done);
		if (done >= len || x->reply.is_set || !(gate_enter(&x->gate) & GATE_WOKEN))
			break;
	}
	if (done > len) {
		bug("operation %s took more than it was given", op->id);
		done = len;
	}
	x->received += done;
	return done;
}

static enum MHD_Result
take_body(struct exchange *x, const char *data, size_t *size)
{
	size_t len = *size;
	uint64_t before = x->received;

	conn_set_state(x->conn, CONN_BODY);
	if (atomic_load_explicit(&x->conn->too_slow, memory_order_relaxed))
		exchange_refuse(x, RC_INVALID, "request-timeout", "the body comes too slowly");
	else if (x->rq.op->body == BODY_JSON)
		take_json(x, data, len);
	else
		len = take_stream(x, data, len);
	atomic_store_explicit(&x->conn->body_bytes, x->received, memory_order_relaxed);
	if (x->reply.is_set) {
		uint64_t taken = before + *size;
		x->discarded = taken - x->received;
		return refuse_body(x, taken, size);
	}
	*size -= len;
	if (*size > 0)
		return pause_exchange(x);
	look_for_end(x);
	return MHD_YES;
}

static enum MHD_Result
discard_body(struct exchange *x, size_t *size)
{
	x->discarded += *size;
	*size = 0;
	look_for_end(x);
	atomic_store_explicit(
		&x->conn->body_bytes, x->received + x->discarded, memory_order_relaxed);
	if (x->discarded > x->http->o.linger_bytes + DISCARD_KEEP_BYTES ||
		atomic_load_explicit(&x->conn->too_slow, memory_order_relaxed))
		return MHD_NO;
	return MHD_YES;
}

/* ---- end ---- */

static void
run_job(void *arg)
{
	struct exchange *x = arg;

	x->rq.op->run(&x->rq);
}

/* The operation's own thread is a worker, unless it can answer at once. */
static void
run(struct exchange *x)
{
	const struct op *op = x->rq.op;

	if (op->run_fast != NULL && op->run_fast(&x->rq)) {
		request_complete(&x->rq);
	} else if (op->admit == NULL && work_is_full(x->http->o.work)) {
		/* nobody has asked yet whether there is room */
		exchange_refuse(x, RC_AGAIN, "overloaded", "too many requests wait to be run");
		request_complete(&x->rq);
	} else {
		x->item = (struct work_item){.fn = run_job, .arg = x};
		work_push(x->http->o.work, &x->item);
	}
}

static enum MHD_Result
await_reply(struct exchange *x, unsigned seen)
{
	if (seen & GATE_DONE)
		return queue_reply(x);
	return pause_exchange(x);
}

static enum MHD_Result
end_body(struct exchange *x)
{
	const struct op *op = x->rq.op;

	x->body_done = true;
	if (x->rq.length_known && x->received != x->rq.body_bytes) {
		bug("a body of %llu bytes ended after %llu", (unsigned long long)x->rq.body_bytes,
			(unsigned long long)x->received);
		return MHD_NO;
	}
	if (x->has_body && op->body == BODY_JSON) {
		x->rq.json = buf_cstr(&x->json);
		x->rq.json_bytes = x->json.len;
	}
	conn_set_state(x->conn, CONN_BUSY);
	x->turn_ns = clock_mono_ns();
	x->phase = PHASE_END;
	gate_owe(&x->gate);
	if (op->end != NULL) {
		op->end(&x->rq);
	} else if (op->run != NULL) {
		run(x);
	} else {
		request_complete(&x->rq);
	}
	return await_reply(x, gate_enter(&x->gate));
}

/* ---- callbacks of MHD ---- */

enum MHD_Result
exchange_handle(void *cls, struct MHD_Connection *con, const char *url, const char *method,
	const char *version, const char *data, size_t *size, void **ctx)
{
	struct exchange *x = *ctx;

	(void)cls;
	(void)con;
	(void)url;
	if (x == NULL)
		return MHD_NO;
	unsigned seen = gate_enter(&x->gate);
	if (atomic_load(&x->http->stopping))
		return MHD_NO;
	switch (x->phase) {
	case PHASE_HEADERS:
		return begin_admission(x, method, version);
	case PHASE_ADMIT:
		if (seen & GATE_ADMITTED)
			return after_admission(x);
		if (!(seen & GATE_DONE))
			return pause_exchange(x);
		x->phase = PHASE_END;
		return MHD_YES;
	case PHASE_BODY:
		return *size > 0 ? take_body(x, data, size) : end_body(x);
	case PHASE_DISCARD:
		if (*size > 0)
			return discard_body(x, size);
		x->body_done = true;
		return queue_reply(x);
	case PHASE_END:
		x->body_done = true;
		return await_reply(x, seen);
	case PHASE_REPLY:
		break;
	}
	return MHD_NO;
}

/* The first thing MHD tells about a request, before it has read the headers. */
void *
exchange_begin(void *cls, const char *uri, struct MHD_Connection *con)
{
	struct loop *loop = cls;
	struct http *h = loop->http;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(con, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct exchange *x = calloc(1, sizeof *x);
	size_t len = strlen(uri);

	if (x != NULL)
		x->target = malloc(2 * (len + 1));
	if (x == NULL || x->target == NULL || info == NULL || info->socket_context == NULL) {
		if (x != NULL)
			free(x->target);
		free(x);
		return NULL;
	}
	x->target_work = x->target + len + 1;
	memcpy(x->target, uri, len + 1);
	memcpy(x->target_work, uri, len + 1);
	x->http = h;
	x->loop = loop;
	x->conn = info->socket_context;
	x->con = con;
	x->reply.fields_tail = &x->reply.fields;
	buf_init(&x->json, 1);
	x->rq.srv = h->o.srv;
	x->rq.http = x;
	x->rq.method = METHOD_COUNT;
	x->rq.target = x->target;
	x->rq.started_ns = clock_mono_ns();
	snprintf(x->rq.id, sizeof x->rq.id, "%s-%llx", h->boot_id,
		(unsigned long long)atomic_fetch_add(&h->next_id, 1));
	atomic_fetch_add(&loop->active, 1);
	atomic_store_explicit(&x->conn->body_bytes, 0, memory_order_relaxed);
	atomic_store_explicit(&x->conn->too_slow, false, memory_order_relaxed);
	conn_set_state(x->conn, CONN_HEADERS);
	pthread_mutex_lock(&h->exchanges_mtx);
	x->next = h->exchanges;
	x->prev = &h->exchanges;
	if (x->next != NULL)
		x->next->prev = &x->next;
	h->exchanges = x;
	pthread_mutex_unlock(&h->exchanges_mtx);
	return x;
}

/* All of the answer is on its way to the client. */
static bool
answer_went_out(const struct exchange *x, enum MHD_RequestTerminationCode why)
{
	const struct reply *r = &x->reply;

	if (x->sent_raw)
		return true;
	if (why != MHD_REQUEST_TERMINATED_COMPLETED_OK || x->phase != PHASE_REPLY)
		return false;
	if (!r->is_stream || x->rq.method == METHOD_HEAD || r->status == 204 || r->status == 304)
		return true;
	return r->stream_len == UINT64_MAX ? x->source_ended : x->sent == r->stream_len;
}

void
exchange_completed(
	void *cls, struct MHD_Connection *con, void **ctx, enum MHD_RequestTerminationCode why)
{
	struct exchange *x = *ctx;
	struct loop *loop = cls;

	(void)con;
	if (x == NULL)
		return;
	*ctx = NULL;
	x->completed = answer_went_out(x, why);
	/* MHD answers some mistakes itself, in the middle of a body too: those end WITH_ERROR. */
	bool answered = x->sent_raw || why == MHD_REQUEST_TERMINATED_COMPLETED_OK ||
			why == MHD_REQUEST_TERMINATED_WITH_ERROR;
	if (answered && !x->body_done && (x->has_body || x->must_close))
		acceptor_linger(x->http, x->conn->fd);
	conn_set_state(x->conn, CONN_IDLE);
	atomic_fetch_sub(&loop->active, 1);
	if (gate_detach(&x->gate))
		exchange_finish(x);
}

/* ---- the end of it ---- */

static void
log_exchange(const struct exchange *x)
{
	uint64_t ms = (clock_mono_ns() - x->rq.started_ns) / 1000000;

	log_event(LOG_LEVEL_DEBUG, "request",
		"id=%s op=%s method=%s target=%.300s status=%d in=%llu out=%llu ms=%llu whole=%d",
		x->rq.id, x->rq.op != NULL ? x->rq.op->id : "-", guard_method_name(x->rq.method),
		x->target, x->phase == PHASE_REPLY ? x->reply.status : 0,
		(unsigned long long)(x->received + x->discarded), (unsigned long long)x->sent,
		(unsigned long long)ms, x->completed);
}

static void
count_exchange(struct exchange *x)
{
	struct http *h = x->http;
	int digit = x->phase == PHASE_REPLY ? x->reply.status / 100 : 0;

	atomic_fetch_add(&h->status_count[digit >= 0 && digit < 6 ? digit : 0], 1);
	atomic_fetch_add(&h->bytes_in, x->received + x->discarded);
	pthread_mutex_lock(&h->exchanges_mtx);
	*x->prev = x->next;
	if (x->next != NULL)
		x->next->prev = x->prev;
	if (x->in_flight && --h->in_flight == 0)
		pthread_cond_broadcast(&h->drained);
	pthread_mutex_unlock(&h->exchanges_mtx);
}

void
exchange_finish(struct exchange *x)
{
	answer_done(x);
	if (x->op_entered && x->rq.op->close != NULL)
		x->rq.op->close(&x->rq, x->completed);
	log_exchange(x);
	/* Last: http_stop's caller may free what operations use once this one is counted out. */
	count_exchange(x);
	buf_done(&x->json);
	request_blocks_free(x);
	free(x->headers);
	free(x->target);
	free(x);
}

void
exchange_wake_all(struct http *h)
{
	pthread_mutex_lock(&h->exchanges_mtx);
	for (struct exchange *x = h->exchanges; x != NULL; x = x->next)
		request_wake(&x->rq);
	pthread_mutex_unlock(&h->exchanges_mtx);
}
