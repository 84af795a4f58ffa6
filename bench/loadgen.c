/* SPDX-License-Identifier: Apache-2.0 */
#include "loadgen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_HEAD_BYTES_MAX 16384
#define RECEIVE_BYTES         262144
#define TRIES_MAX             2
#define EVENTS_MAX            64
#define TICK_MS               1000
#define TURN_BYTES            262144 /* what one connection sends before the others have a turn */
#define NS_PER_S              1000000000ULL

struct conn {
	int fd;
	unsigned index;
	unsigned tries; /* how often the current request was sent */
	bool busy;      /* a request is out */
	bool writing;   /* part of it still has to be sent; epoll waits for that too */
	bool in_body;   /* the answer's head is complete */
	bool bad;
	bool close_after;
	size_t sent_bytes; /* head and body together */
	size_t total_bytes;
	uint64_t begin_ns;
	uint64_t first_byte_ns; /* of the answer's body; 0: not yet */
	unsigned status;
	uint64_t body_bytes; /* of the answer, as announced */
	uint64_t body_seen_bytes;
	size_t head_bytes;
	char head[ANSWER_HEAD_BYTES_MAX];
	struct loadgen_request request;
};

struct run {
	const struct loadgen_options *options;
	const struct loadgen_source *source;
	struct loadgen_stats *stats;
	struct conn *conns;
	uint8_t *buffer;
	int epoll_fd;
	unsigned busy_count;
	bool source_done;
};

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void
note_failure(struct run *run, const char *what, const char *detail)
{
	if (run->stats->first_failure[0] == '\0')
		snprintf(run->stats->first_failure, sizeof run->stats->first_failure, "%s%s%s",
			what, detail[0] == '\0' ? "" : ": ", detail);
}

static bool
fail_errno(struct run *run, const char *what)
{
	note_failure(run, what, strerrordesc_np(errno));
	return false;
}

static bool
conn_open(struct run *run, struct conn *c)
{
	struct sockaddr_in address = {0};
	struct epoll_event event = {0};
	int one = 1;

	address.sin_family = AF_INET;
	address.sin_port = htons(run->options->port);
	if (inet_pton(AF_INET, run->options->host, &address.sin_addr) != 1) {
		note_failure(run, "not an IPv4 address", run->options->host);
		return false;
	}
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return fail_errno(run, "socket");
	if (connect(c->fd, (const struct sockaddr *)&address, sizeof address) != 0)
		return fail_errno(run, "connect");
	(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	event.events = EPOLLIN;
	event.data.u32 = c->index;
	if (epoll_ctl(run->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
		return fail_errno(run, "epoll_ctl");
	return true;
}

static void
conn_close(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->writing = false;
}

static bool
conn_want_write(struct run *run, struct conn *c, bool want)
{
	struct epoll_event event = {0};

	if (c->writing == want)
		return true;
	event.events = EPOLLIN | (want ? EPOLLOUT : 0U);
	event.data.u32 = c->index;
	if (epoll_ctl(run->epoll_fd, EPOLL_CTL_MOD, c->fd, &event) != 0)
		return fail_errno(run, "epoll_ctl");
	c->writing = want;
	return true;
}

/* What of the request follows its first skip bytes, at most TURN_BYTES; how many parts that are. */
static size_t
request_rest(const struct loadgen_request *r, size_t skip, struct iovec *parts)
{
	struct loadgen_part all[1 + LOADGEN_BODY_PARTS];
	size_t room = TURN_BYTES;
	size_t n = 0;

	all[0] = (struct loadgen_part){(const uint8_t *)r->head, r->head_bytes};
	memcpy(all + 1, r->body, sizeof r->body);
	for (size_t i = 0; i < 1 + LOADGEN_BODY_PARTS; i++) {
		size_t over = skip < all[i].bytes ? skip : all[i].bytes;
		size_t take = all[i].bytes - over < room ? all[i].bytes - over : room;

		skip -= over;
		if (take == 0)
			continue;
		/* iovec has no const; sendmsg does not write. */
		parts[n].iov_base = (void *)(uintptr_t)(all[i].data + over);
		parts[n++].iov_len = take;
		room -= take;
	}
	return n;
}

/* Send the next piece of the request; epoll says when there may be more. An error here is left for
 * the receiving side to find, which alone knows whether the server answered before it closed. */
static bool
conn_send(struct run *run, struct conn *c)
{
	struct iovec parts[1 + LOADGEN_BODY_PARTS];
	struct msghdr message = {.msg_iov = parts};
	ssize_t sent;

	if (c->sent_bytes == c->total_bytes)
		return conn_want_write(run, c, false);
	message.msg_iovlen = request_rest(&c->request, c->sent_bytes, parts);
	do
		sent = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return conn_want_write(run, c, errno == EAGAIN || errno == EWOULDBLOCK);
	c->sent_bytes += (size_t)sent;
	return conn_want_write(run, c, c->sent_bytes < c->total_bytes);
}

static bool
conn_begin(struct run *run, struct conn *c)
{
	c->sent_bytes = 0;
	c->total_bytes = c->request.head_bytes;
	for (size_t i = 0; i < LOADGEN_BODY_PARTS; i++)
		c->total_bytes += c->request.body[i].bytes;
	c->first_byte_ns = 0;
	c->in_body = false;
	c->bad = false;
	c->close_after = false;
	c->head_bytes = 0;
	c->body_seen_bytes = 0;
	c->tries++;
	c->begin_ns = now_ns();
	if (c->fd < 0 && !conn_open(run, c))
		return false;
	return conn_send(run, c);
}

static bool
conn_next(struct run *run, struct conn *c)
{
	if (c->busy) {
		c->busy = false;
		run->busy_count--;
	}
	if (run->source_done)
		return true;
	if (run->stats->requests + run->busy_count >= run->options->request_count ||
		!run->source->next(run->source->arg, c->index, &c->request)) {
		run->source_done = true;
		return true;
	}
	c->busy = true;
	c->tries = 0;
	run->busy_count++;
	return conn_begin(run, c);
}

static uint32_t
as_us(uint64_t ns)
{
	return ns / 1000 > UINT32_MAX ? UINT32_MAX : (uint32_t)(ns / 1000);
}

/* Note that a request of c was answered, after took_ns. */
static void
conn_count(struct run *run, struct conn *c, uint64_t took_ns)
{
	struct loadgen_stats *s = run->stats;
	struct loadgen_connection_stats *mine = &s->connections[c->index];

	s->latency_us[s->requests] = as_us(took_ns);
	s->first_byte_us[s->requests] =
		as_us(c->first_byte_ns != 0 ? c->first_byte_ns - c->begin_ns : took_ns);
	s->requests++;
	s->sent_bytes += c->total_bytes - c->request.head_bytes;
	s->received_bytes += c->body_seen_bytes;
	s->statuses[c->status < 600 ? c->status : 0]++;
	mine->requests++;
	mine->busy_ns += took_ns;
	if (took_ns > mine->slowest_ns)
		mine->slowest_ns = took_ns;
}

/* The answer is complete, or will never be (failure says why): count it. */
static bool
conn_finish(struct run *run, struct conn *c, const char *failure)
{
	uint64_t took_ns = now_ns() - c->begin_ns;
	char text[64];

	if (failure == NULL && c->bad) {
		snprintf(text, sizeof text, "answered %u with %llu bytes", c->status,
			(unsigned long long)c->body_bytes);
		failure = text;
	}
	if (failure != NULL) {
		run->stats->failed++;
		note_failure(run, failure, "");
	}
	conn_count(run, c, took_ns);
	c->status = 0;
	/* A request that was answered before it was sent whole leaves the connection unusable. */
	if (c->close_after || failure != NULL || c->sent_bytes < c->total_bytes)
		conn_close(c);
	return conn_next(run, c);
}

/* The value of a header within the head, or NULL. name ends with a colon. */
static const char *
header_find(const char *head, const char *name)
{
	const char *line = strstr(head, "\r\n");

	while (line != NULL) {
		line += 2;
		if (strncasecmp(line, name, strlen(name)) == 0) {
			line += strlen(name);
			return line + strspn(line, " \t");
		}
		line = strstr(line, "\r\n");
	}
	return NULL;
}

/* Read the complete, NUL-terminated head. False when it makes no sense to this client. */
static bool
head_parse(const struct run *run, struct conn *c)
{
	const char *value = header_find(c->head, "Content-Length:");
	unsigned want = run->options->status_want;

	if (strncmp(c->head, "HTTP/1.", 7) != 0 || strlen(c->head) < 12)
		return false;
	c->status = 0;
	for (const char *p = c->head + 9; p < c->head + 12; p++) {
		if (*p < '0' || *p > '9')
			return false;
		c->status = c->status * 10 + (unsigned)(*p - '0');
	}
	c->body_bytes = 0;
	if (value != NULL)
		c->body_bytes = strtoull(value, NULL, 10);
	else if (c->status >= 200 && c->status != 204 && c->status != 304)
		return false;
	value = header_find(c->head, "Connection:");
	c->close_after = value != NULL && strncasecmp(value, "close", 5) == 0;
	c->bad = want != 0 ? c->status != want : c->status / 100 != 2;
	if (!c->bad && c->request.expect_bytes != UINT64_MAX)
		c->bad = c->body_bytes != c->request.expect_bytes;
	return true;
}

/* Take in part of an answer's head. *used says how many bytes of data belonged to it. */
static bool
head_take(const struct run *run, struct conn *c, const uint8_t *data, size_t bytes, size_t *used)
{
	size_t room = sizeof c->head - 1 - c->head_bytes;
	size_t take = bytes < room ? bytes : room;
	size_t before = c->head_bytes;
	char *end;

	memcpy(c->head + c->head_bytes, data, take);
	c->head_bytes += take;
	c->head[c->head_bytes] = '\0';
	end = strstr(c->head, "\r\n\r\n");
	*used = take;
	if (end == NULL)
		return c->head_bytes < sizeof c->head - 1;
	*used = (size_t)(end + 4 - c->head) - before;
	end[2] = '\0';
	if (!head_parse(run, c))
		return false;
	c->head_bytes = 0;
	c->in_body = c->status >= 200;
	return true;
}

static void
body_take(struct run *run, struct conn *c, const uint8_t *data, size_t bytes)
{
	if (c->first_byte_ns == 0)
		c->first_byte_ns = now_ns();
	if (c->bad && run->stats->first_failure[0] == '\0') {
		char text[400];

		snprintf(text, sizeof text, "status %u, %.*s", c->status,
			(int)(bytes < 350 ? bytes : 350), (const char *)data);
		note_failure(run, "refused", text);
	}
	if (!c->bad && run->source->answer != NULL &&
		!run->source->answer(
			run->source->arg, c->request.tag, c->body_seen_bytes, data, bytes)) {
		c->bad = true;
		note_failure(run, "the answer has other bytes than it should have", "");
	}
	c->body_seen_bytes += bytes;
}

static bool
conn_take(struct run *run, struct conn *c, const uint8_t *data, size_t bytes)
{
	while (!c->in_body) {
		size_t used;

		if (bytes == 0)
			return true;
		if (!head_take(run, c, data, bytes, &used)) {
			c->bad = true;
			return conn_finish(run, c, "an answer's head this client cannot read");
		}
		data += used;
		bytes -= used;
	}
	if (bytes > c->body_bytes - c->body_seen_bytes)
		return conn_finish(run, c, "more bytes than the answer announced");
	if (bytes > 0)
		body_take(run, c, data, bytes);
	if (c->body_seen_bytes == c->body_bytes)
		return conn_finish(run, c, NULL);
	return true;
}

/* The server closed. Before any byte of an answer that may only mean that it ended an idle
 * connection at the very moment it was used again. */
static bool
conn_lost(struct run *run, struct conn *c)
{
	bool unanswered = c->head_bytes == 0 && !c->in_body;

	conn_close(c);
	if (!c->busy)
		return true;
	if (unanswered && c->tries < TRIES_MAX) {
		run->stats->reconnects++;
		return conn_begin(run, c);
	}
	return conn_finish(run, c, "the server closed the connection in mid-request");
}

static bool
conn_receive(struct run *run, struct conn *c)
{
	ssize_t got = recv(c->fd, run->buffer, RECEIVE_BYTES, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return true;
	if (got <= 0)
		return conn_lost(run, c);
	if (!c->busy) {
		note_failure(run, "bytes that nothing asked for", "");
		return false;
	}
	return conn_take(run, c, run->buffer, (size_t)got);
}

static bool
run_events(struct run *run)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(run->epoll_fd, events, EVENTS_MAX, TICK_MS);

	if (count < 0 && errno != EINTR)
		return fail_errno(run, "epoll_wait");
	for (int i = 0; i < count; i++) {
		struct conn *c = &run->conns[events[i].data.u32];

		/* An event may be left over from a descriptor that an earlier one closed. */
		if (c->fd >= 0 && (events[i].events & EPOLLOUT) != 0 && !conn_send(run, c))
			return false;
		if (c->fd >= 0 && (events[i].events & ~EPOLLOUT) != 0 && !conn_receive(run, c))
			return false;
	}
	return true;
}

static bool
run_all(struct run *run)
{
	uint64_t deadline_ns = now_ns() + run->options->timeout_s * NS_PER_S;

	for (unsigned i = 0; i < run->options->connections; i++) {
		run->conns[i].fd = -1;
		run->conns[i].index = i;
		if (!conn_open(run, &run->conns[i]))
			return false;
	}
	for (unsigned i = 0; i < run->options->connections; i++)
		if (!conn_next(run, &run->conns[i]))
			return false;
	while (run->busy_count > 0) {
		if (!run_events(run))
			return false;
		if (now_ns() > deadline_ns) {
			note_failure(run, "time is over", "");
			return false;
		}
	}
	return true;
}

bool
loadgen_run(const struct loadgen_options *options, const struct loadgen_source *source,
	struct loadgen_stats *stats)
{
	struct run run = {.options = options, .source = source, .stats = stats, .epoll_fd = -1};
	uint64_t begin_ns = now_ns();
	bool done = false;

	memset(stats, 0, sizeof *stats);
	stats->connection_count = options->connections;
	stats->latency_us = calloc(options->request_count + 1, sizeof *stats->latency_us);
	stats->first_byte_us = calloc(options->request_count + 1, sizeof *stats->first_byte_us);
	stats->connections = calloc(options->connections, sizeof *stats->connections);
	run.conns = calloc(options->connections, sizeof *run.conns);
	run.buffer = malloc(RECEIVE_BYTES);
	if (stats->latency_us == NULL || stats->first_byte_us == NULL ||
		stats->connections == NULL || run.conns == NULL || run.buffer == NULL) {
		note_failure(&run, "no memory", "");
		goto out;
	}
	run.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (run.epoll_fd < 0) {
		fail_errno(&run, "epoll_create1");
		goto out;
	}
	done = run_all(&run);
	for (unsigned i = 0; i < options->connections; i++)
		conn_close(&run.conns[i]);
out:
	stats->wall_ns = now_ns() - begin_ns;
	if (run.epoll_fd >= 0)
		close(run.epoll_fd);
	free(run.conns);
	free(run.buffer);
	return done;
}

void
loadgen_stats_done(struct loadgen_stats *s)
{
	free(s->latency_us);
	free(s->first_byte_us);
	free(s->connections);
	s->latency_us = NULL;
	s->first_byte_us = NULL;
	s->connections = NULL;
}
