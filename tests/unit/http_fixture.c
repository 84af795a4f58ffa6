/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "endpoint.h"
#include "hex.h"
#include "http_fixture.h"
#include "log.h"
#include "problem.h"
#include "request.h"

#define WAIT_MS 10000

static atomic_int closed;
static atomic_int closed_completed;
static atomic_int opened;
static struct http *current;

static uint64_t
number(const char *text)
{
	uint64_t n = 0;

	parse_u64(text, strspn(text, "0123456789"), &n);
	return n;
}

/* ---- a context that outlives its request: wakes come from workers ---- */

struct op_ctx {
	pthread_mutex_t mtx;
	struct request *rq; /* NULL once closed */
	atomic_int refs;
	uint64_t bytes;
	uint64_t sum;
	uint64_t left;
	uint64_t abort_at;
	bool sized;
	_Atomic unsigned turn;
};

static struct op_ctx *
ctx_new(struct request *rq)
{
	struct op_ctx *c = calloc(1, sizeof *c);

	pthread_mutex_init(&c->mtx, NULL);
	c->rq = rq;
	atomic_store(&c->refs, 1);
	rq->ctx = c;
	atomic_fetch_add(&opened, 1);
	return c;
}

static void
ctx_unref(struct op_ctx *c)
{
	if (atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&c->mtx);
	free(c);
}

static void
wake_job(void *arg)
{
	struct op_ctx *c = arg;

	pthread_mutex_lock(&c->mtx);
	if (c->rq != NULL) {
		request_wake(c->rq);
		if (c->turn % 3 == 0)
			request_wake(c->rq);
	}
	pthread_mutex_unlock(&c->mtx);
	ctx_unref(c);
}

/* Have a worker wake the request; if none can, wake it here. */
static void
wake_later(struct op_ctx *c)
{
	atomic_fetch_add(&c->refs, 1);
	if (request_defer(c->rq->srv, wake_job, c) != RC_OK)
		wake_job(c);
}

static void
op_close(struct request *rq, bool completed)
{
	struct op_ctx *c = rq->ctx;

	if (c != NULL) {
		pthread_mutex_lock(&c->mtx);
		c->rq = NULL;
		pthread_mutex_unlock(&c->mtx);
		ctx_unref(c);
	}
	if (completed)
		atomic_fetch_add(&closed_completed, 1);
	atomic_fetch_add(&closed, 1);
}

static bool
admit_at_once(struct request *rq)
{
	ctx_new(rq);
	return true;
}

static void
admit_on_worker(struct request *rq)
{
	ctx_new(rq);
}

/* ---- operations ---- */

static void
hello_end(struct request *rq)
{
	reply_header(rq, "X-Fixture", "%s", "yes");
	reply_bytes(rq, 200, "text/plain", "hello\n", 6);
	request_complete(rq);
}

static pthread_mutex_t block_mtx = PTHREAD_MUTEX_INITIALIZER;

pthread_mutex_t *
fixture_block(void)
{
	return &block_mtx;
}

static void
block_end(struct request *rq)
{
	pthread_mutex_lock(&block_mtx);
	pthread_mutex_unlock(&block_mtx);
	hello_end(rq);
}

static void
chain_run(struct request *rq)
{
	const char *q = request_query(rq, "q");
	const char *agent = request_header(rq, "user-agent");
	char text[512];
	int n = snprintf(text, sizeof text, "name=%s q=%s agent=%s",
		request_param(rq, "name")->value, q != NULL ? q : "-", agent != NULL ? agent : "-");

	reply_bytes(rq, 200, "text/plain", text, (size_t)n);
	request_complete(rq);
}

static size_t
echo_piece(struct request *rq, const uint8_t *data, size_t len)
{
	struct op_ctx *c = rq->ctx;
	size_t take = len;

	if (request_query(rq, "slow") != NULL)
		return 0;
	if (++c->turn % 2 == 0)
		take = len / 3;
	for (size_t i = 0; i < take; i++)
		c->sum += data[i];
	c->bytes += take;
	if (take < len)
		wake_later(c);
	return take;
}

static void
echo_run(struct request *rq)
{
	struct op_ctx *c = rq->ctx;
	char text[512];
	int n = snprintf(text, sizeof text, "bytes=%llu sum=%llu path=%s",
		(unsigned long long)c->bytes, (unsigned long long)c->sum,
		request_param(rq, "path")->value);

	reply_bytes(rq, 201, "text/plain", text, (size_t)n);
	request_complete(rq);
}

static void
refuse_admit(struct request *rq)
{
	struct err err = ERR_INIT;

	ctx_new(rq);
	err_set(&err, RC_NOT_FOUND, "repo-not-found", "there is no such thing");
	reply_problem(rq, &err);
}

static size_t
midway_piece(struct request *rq, const uint8_t *data, size_t len)
{
	struct op_ctx *c = rq->ctx;
	struct err err = ERR_INIT;
	uint64_t limit = number(request_param(rq, "bytes")->value);

	(void)data;
	c->bytes += len;
	if (c->bytes >= limit) {
		err_set(&err, RC_FULL, "disk-full", "no room");
		reply_problem(rq, &err);
		return 0;
	}
	return len;
}

static void
json_end(struct request *rq)
{
	char text[64];
	int n = snprintf(text, sizeof text, "json=%zu", rq->json_bytes);

	assert_int_equal(strlen(rq->json), rq->json_bytes);
	reply_bytes(rq, 200, "text/plain", text, (size_t)n);
	request_complete(rq);
}

static ssize_t
source_read(void *source, uint8_t *out, size_t max)
{
	struct op_ctx *c = source;

	if (c->bytes >= c->abort_at)
		return SOURCE_ABORT;
	if (c->left == 0)
		return SOURCE_END;
	if (++c->turn % 2 == 0) {
		wake_later(c);
		return SOURCE_LATER;
	}
	size_t n = max < c->left ? max : (size_t)c->left;
	if (n > 10000)
		n = 10000;
	for (size_t i = 0; i < n; i++)
		out[i] = (uint8_t)('a' + (c->bytes + i) % 26);
	c->bytes += n;
	c->left -= n;
	return (ssize_t)n;
}

static void
source_release(void *source)
{
	ctx_unref(source);
}

static void
stream_run(struct request *rq)
{
	struct op_ctx *c = rq->ctx;
	const char *abort_at = request_query(rq, "abort");
	uint64_t len = number(request_param(rq, "bytes")->value);

	c->left = len;
	c->abort_at = abort_at != NULL ? number(abort_at) : UINT64_MAX;
	atomic_fetch_add(&c->refs, 1);
	reply_header(rq, "ETag", "\"x\"");
	reply_stream(rq, 200, "application/octet-stream",
		request_query(rq, "chunked") != NULL ? UINT64_MAX : len, source_read,
		source_release, c);
	request_complete(rq);
}

static pthread_mutex_t hang_mtx = PTHREAD_MUTEX_INITIALIZER;
static struct request *hanging[64];
static int hanging_count;
static bool hang_released;

static void
hang_end(struct request *rq)
{
	reply_bytes(rq, 200, "text/plain", "released\n", 9);
	pthread_mutex_lock(&hang_mtx);
	bool now = hang_released;
	if (!now)
		hanging[hanging_count++] = rq;
	pthread_mutex_unlock(&hang_mtx);
	if (now)
		request_complete(rq);
}

int
fixture_hanging(void)
{
	pthread_mutex_lock(&hang_mtx);
	int n = hanging_count;
	pthread_mutex_unlock(&hang_mtx);
	return n;
}

int
fixture_release(void)
{
	pthread_mutex_lock(&hang_mtx);
	int n = hanging_count;
	hang_released = true;
	hanging_count = 0;
	pthread_mutex_unlock(&hang_mtx);
	for (int i = 0; i < n; i++)
		request_complete(hanging[i]);
	return n;
}

static ssize_t
quiet_read(void *source, uint8_t *out, size_t max)
{
	(void)source;
	(void)out;
	(void)max;
	return http_is_quiesced(current) ? SOURCE_END : SOURCE_LATER;
}

static void
quiet_end(struct request *rq)
{
	reply_stream(rq, 200, "text/event-stream", UINT64_MAX, quiet_read, NULL, NULL);
	request_complete(rq);
}

static const char *const chain_query[] = {"q", NULL};
static const char *const echo_query[] = {"slow", NULL};
static const char *const stream_query[] = {"chunked", "abort", NULL};

static const struct op hello = {.id = "hello",
	.path = "/hello",
	.admit_fast = admit_at_once,
	.end = hello_end,
	.close = op_close};
static const struct op block_op = {.id = "block",
	.path = "/block",
	.admit_fast = admit_at_once,
	.end = block_end,
	.close = op_close};
static const struct op chain = {.id = "chain",
	.path = "/chain/{name}",
	.query = chain_query,
	.admit = admit_on_worker,
	.run = chain_run,
	.close = op_close};
static const struct op echo = {.id = "echo",
	.method = METHOD_PUT,
	.path = "/echo/{path...}",
	.query = echo_query,
	.body = BODY_STREAM,
	.admit = admit_on_worker,
	.body_piece = echo_piece,
	.run = echo_run,
	.close = op_close};
static const struct op refuse = {.id = "refuse",
	.method = METHOD_PUT,
	.path = "/refuse",
	.body = BODY_STREAM,
	.admit = refuse_admit,
	.body_piece = echo_piece,
	.run = echo_run,
	.close = op_close};
static const struct op midway = {.id = "midway",
	.method = METHOD_PUT,
	.path = "/midway/{bytes}",
	.body = BODY_STREAM,
	.admit_fast = admit_at_once,
	.body_piece = midway_piece,
	.end = hello_end,
	.close = op_close};
static const struct op json = {.id = "json",
	.method = METHOD_POST,
	.path = "/json",
	.body = BODY_JSON,
	.body_bytes_max = JSON_LIMIT,
	.admit_fast = admit_at_once,
	.end = json_end,
	.close = op_close};
static const struct op maybe = {.id = "maybe",
	.method = METHOD_POST,
	.path = "/maybe",
	.body = BODY_JSON,
	.body_bytes_max = JSON_LIMIT,
	.body_optional = true,
	.admit = admit_on_worker,
	.run = json_end,
	.close = op_close};
static const struct op stream = {.id = "stream",
	.path = "/stream/{bytes}",
	.query = stream_query,
	.admit = admit_on_worker,
	.run = stream_run,
	.close = op_close};
static const struct op hang = {.id = "hang",
	.path = "/hang",
	.admit_fast = admit_at_once,
	.end = hang_end,
	.close = op_close};
static const struct op quiet = {.id = "quiet",
	.path = "/quiet",
	.admit_fast = admit_at_once,
	.end = quiet_end,
	.close = op_close};
static const struct op *const ops[] = {&hello, &block_op, &chain, &echo, &refuse, &midway, &json,
	&maybe, &stream, &hang, &quiet, NULL};

/* ---- server ---- */

void
fixture_options(struct fixture *f)
{
	memset(f, 0, sizeof *f);
	f->o = (struct http_options){
		.ops = ops,
		.threads = 2,
		.connections_max = 5000,
		.connection_timeout_ms = 20000,
		.connection_memory_bytes = 256 << 10,
		.header_timeout_ms = 20000,
		.body_rate_min_bytes = 0,
		.body_rate_grace_ms = 1000,
		.linger_timeout_ms = 3000,
		.linger_bytes = 256 << 20,
		.upload_bytes_max = UINT64_C(1) << 40,
		.tick_ms = 20,
	};
	snprintf(f->address, sizeof f->address, "127.0.0.1:0");
}

void
fixture_start(struct fixture *f, int op_threads, size_t queue_max)
{
	struct err err = ERR_INIT;
	struct work_options wo = {.threads = op_threads, .queue_max = queue_max, .owner = f};
	struct http_listener l;

	log_set_level(LOG_LEVEL_ERROR);
	atomic_store(&closed, 0);
	atomic_store(&closed_completed, 0);
	atomic_store(&opened, 0);
	hang_released = false;
	hanging_count = 0;
	assert_int_equal(endpoint_parse(f->address, &l.at, &err), RC_OK);
	assert_int_equal(endpoint_listen(&l.at, &l.fd, &err), RC_OK);
	endpoint_text(l.fd, f->address);
	assert_int_equal(work_open(&wo, &f->work, &err), RC_OK);
	f->o.listeners = &l;
	f->o.listener_count = 1;
	f->o.work = f->work;
	f->o.srv = (struct server_ctx *)f;
	if (http_start(&f->o, &f->http, &err) != RC_OK)
		fail_msg("%s (%s)", err.text, err.detail);
	current = f->http;
}

void
fixture_stop(struct fixture *f)
{
	http_quiesce(f->http);
	http_drain(f->http, 5000);
	work_drain(f->work);
	http_stop(f->http);
	http_free(f->http);
	work_free(f->work);
}

struct fixture_counts
fixture_counts(void)
{
	return (struct fixture_counts){.closed = atomic_load(&closed),
		.closed_completed = atomic_load(&closed_completed),
		.opened = atomic_load(&opened)};
}

bool
fixture_wait_closed(int want)
{
	for (int i = 0; i < 5000 && atomic_load(&closed) < want; i++)
		poll(NULL, 0, 1);
	return atomic_load(&closed) >= want;
}

/* ---- client ---- */

int
client_connect(const struct fixture *f)
{
	struct err err = ERR_INIT;
	struct endpoint e;

	assert_int_equal(endpoint_parse(f->address, &e, &err), RC_OK);
	int fd = socket(e.addr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	if (connect(fd, &e.addr.any, e.addr_len) != 0)
		fail_msg("connect to %s: errno %d", f->address, errno);
	return fd;
}

static void
wait_for(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	if (poll(&p, 1, WAIT_MS) != 1)
		fail_msg("nothing happened on the connection for %d ms", WAIT_MS);
}

bool
client_send_bytes(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0) {
		wait_for(fd, POLLOUT);
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n < 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

void
client_send(int fd, const char *text)
{
	assert_true(client_send_bytes(fd, text, strlen(text)));
}

/* Up to max bytes; 0: the end, or a reset. */
static size_t
receive(int fd, void *out, size_t max)
{
	wait_for(fd, POLLIN);
	ssize_t n = recv(fd, out, max, 0);
	return n > 0 ? (size_t)n : 0;
}

/* Byte by byte, so that nothing of the next answer is taken. */
static bool
read_head(int fd, char *out, size_t out_bytes)
{
	size_t len = 0;

	out[0] = '\0';
	while (len + 1 < out_bytes && receive(fd, out + len, 1) == 1) {
		out[++len] = '\0';
		if (len >= 4 && memcmp(out + len - 4, "\r\n\r\n", 4) == 0)
			return true;
	}
	return false;
}

const char *
answer_header(const struct answer *a, const char *name)
{
	static _Thread_local char value[512];
	size_t name_len = strlen(name);

	for (const char *p = strstr(a->head, "\r\n"); p != NULL; p = strstr(p, "\r\n")) {
		p += 2;
		if (strncasecmp(p, name, name_len) != 0 || p[name_len] != ':')
			continue;
		p += name_len + 1 + strspn(p + name_len + 1, " ");
		snprintf(value, sizeof value, "%.*s", (int)strcspn(p, "\r"), p);
		return value;
	}
	return NULL;
}

static bool
read_exactly(int fd, struct buf *b, size_t len)
{
	uint8_t piece[16384];

	while (len > 0) {
		size_t n = receive(fd, piece, len < sizeof piece ? len : sizeof piece);
		if (n == 0)
			return false;
		buf_add(b, piece, n);
		len -= n;
	}
	return true;
}

static size_t
hex_number(const char *text)
{
	static const char digits[] = "0123456789abcdef";
	const char *d;
	size_t n = 0;

	for (; *text != '\0' && (d = strchr(digits, *text | 0x20)) != NULL; text++)
		n = n * 16 + (size_t)(d - digits);
	return n;
}

static bool
read_chunks(int fd, struct buf *b)
{
	char line[32];
	char end[2];

	for (;;) {
		size_t len = 0;
		while (len + 1 < sizeof line && receive(fd, line + len, 1) == 1 &&
			line[len] != '\n')
			len++;
		if (len == 0 || line[len] != '\n')
			return false;
		size_t size = hex_number(line);
		if (!read_exactly(fd, b, size))
			return false;
		if (receive(fd, &end[0], 1) != 1 || receive(fd, &end[1], 1) != 1)
			return false;
		if (size == 0)
			return true;
	}
}

static bool
read_body(int fd, const struct answer *a, struct buf *b)
{
	const char *length = answer_header(a, "Content-Length");
	uint8_t piece[16384];
	size_t n;

	if (length != NULL)
		return read_exactly(fd, b, (size_t)number(length));
	if (answer_header(a, "Transfer-Encoding") != NULL)
		return read_chunks(fd, b);
	if (a->status == 204 || a->status == 304)
		return true;
	while ((n = receive(fd, piece, sizeof piece)) > 0)
		buf_add(b, piece, n);
	return true;
}

void
client_read(int fd, bool head_only, struct answer *a)
{
	struct buf b;

	memset(a, 0, sizeof *a);
	buf_init(&b, 1u << 30);
	do {
		if (!read_head(fd, a->head, sizeof a->head)) {
			a->body = strdup("");
			return;
		}
		a->status = (int)number(a->head + strlen("HTTP/1.1 "));
	} while (a->status == 100);
	a->whole = head_only || read_body(fd, a, &b);
	buf_cstr(&b);
	a->body = (char *)buf_take(&b, &a->body_bytes);
	if (a->body == NULL)
		a->body = strdup("");
}

bool
client_read_continue(int fd)
{
	char head[4096];

	return read_head(fd, head, sizeof head) &&
	       strcmp(head, "HTTP/1.1 100 Continue\r\n\r\n") == 0;
}

bool
client_at_end(int fd)
{
	char c;

	return receive(fd, &c, 1) == 0;
}

void
answer_free(struct answer *a)
{
	free(a->body);
	a->body = NULL;
}

void
client_expect(int fd, const char *text, int status, struct answer *a)
{
	client_send(fd, text);
	client_read(fd, false, a);
	if (a->status != status)
		fail_msg("wanted %d, got %d: %s%s", status, a->status, a->head, a->body);
	assert_true(a->whole);
	assert_non_null(answer_header(a, "Digstore-Request-Id"));
	assert_string_equal(answer_header(a, "X-Content-Type-Options"), "nosniff");
}
