/* SPDX-License-Identifier: Apache-2.0 */
#include "loadgen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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
	uint64_t begin_ns;
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

/* Send what is left of the request. An error here is left for the receiving side to find, which
 * alone knows whether the server answered before it closed. */
static bool
conn_send(struct run *run, struct conn *c)
{
	const struct loadgen_request *r = &c->request;
	size_t total_bytes = r->head_bytes + r->body_bytes;

	while (c->sent_bytes < total_bytes) {
		struct iovec parts[2];
		struct msghdr message = {.msg_iov = parts};
		ssize_t sent;

		if (c->sent_bytes < r->head_bytes) {
			parts[0].iov_base = c->request.head + c->sent_bytes;
			parts[0].iov_len = r->head_bytes - c->sent_bytes;
			message.msg_iovlen = 1;
		}
		if (r->body_bytes > 0) {
			size_t skip =
				c->sent_bytes > r->head_bytes ? c->sent_bytes - r->head_bytes : 0;

			/* iovec has no const; sendmsg does not write. */
			parts[message.msg_iovlen].iov_base = (void *)(uintptr_t)(r->body + skip);
			parts[message.msg_iovlen].iov_len = r->body_bytes - skip;
			message.msg_iovlen++;
		}
		sent = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return conn_want_write(run, c, errno == EAGAIN || errno == EWOULDBLOCK);
		c->sent_bytes += (size_t)sent;
	}
	return conn_want_write(run, c, false);
}

static bool
conn_begin(struct run *run, struct conn *c)
{
	c->sent_bytes = 0;
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

/* The answer is complete, or will never be (failure says why): count it. */
static bool
conn_finish(struct run *run, struct conn *c, const char *failure)
{
	struct loadgen_stats *s = run->stats;
	struct loadgen_connection_stats *mine = &s->connections[c->index];
	uint64_t took_ns = now_ns() - c->begin_ns;
	char text[64];

	if (failure == NULL && c->bad) {
		snprintf(text, sizeof text, "answered %u with %llu bytes", c->status,
			(unsigned long long)c->body_bytes);
		failure = text;
	}
	if (failure != NULL) {
		s->failed++;
		note_failure(run, failure, "");
	}
	s->latency_us[s->requests] =
		took_ns / 1000 > UINT32_MAX ? UINT32_MAX : (uint32_t)(took_ns / 1000);
	s->requests++;
	s->sent_bytes += c->request.body_bytes;
	s->received_bytes += c->body_seen_bytes;
	s->statuses[c->status < 600 ? c->status : 0]++;
	mine->requests++;
	mine->busy_ns += took_ns;
	if (took_ns > mine->slowest_ns)
		mine->slowest_ns = took_ns;
	c->status = 0;
	/* A request that was answered before it was sent whole leaves the connection unusable. */
	if (c->close_after || failure != NULL ||
		c->sent_bytes < c->request.head_bytes + c->request.body_bytes)
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
	stats->connections = calloc(options->connections, sizeof *stats->connections);
	run.conns = calloc(options->connections, sizeof *run.conns);
	run.buffer = malloc(RECEIVE_BYTES);
	if (stats->latency_us == NULL || stats->connections == NULL || run.conns == NULL ||
		run.buffer == NULL) {
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

static int
compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double
percentile_ms(const struct loadgen_stats *s, unsigned per_mille)
{
	size_t at = s->requests * per_mille / 1000;

	if (s->requests == 0)
		return 0;
	if (at >= s->requests)
		at = s->requests - 1;
	return s->latency_us[at] / 1000.0;
}

static void
print_text(const char *text, FILE *out)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void
print_connections(const struct loadgen_stats *s, FILE *out)
{
	fputs("\"connections\": [", out);
	for (unsigned i = 0; i < s->connection_count; i++) {
		const struct loadgen_connection_stats *c = &s->connections[i];

		fprintf(out, "%s{\"requests\": %zu, \"busy_s\": %.6f, \"slowest_ms\": %.3f}",
			i > 0 ? ", " : "", c->requests, (double)c->busy_ns / 1e9,
			(double)c->slowest_ns / 1e6);
	}
	fputs("]", out);
}

void
loadgen_stats_print(struct loadgen_stats *s, FILE *out)
{
	const char *comma = "";

	if (s->latency_us != NULL)
		qsort(s->latency_us, s->requests, sizeof *s->latency_us, compare_u32);
	fprintf(out, "{\"requests\": %zu, \"failed\": %zu, \"reconnects\": %zu, ", s->requests,
		s->failed, s->reconnects);
	fprintf(out, "\"seconds\": %.6f, \"sent_bytes\": %llu, \"received_bytes\": %llu, ",
		(double)s->wall_ns / 1e9, (unsigned long long)s->sent_bytes,
		(unsigned long long)s->received_bytes);
	fprintf(out,
		"\"latency_ms\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"max\": %.3f}, ",
		percentile_ms(s, 500), percentile_ms(s, 900), percentile_ms(s, 990),
		percentile_ms(s, 1000));
	fputs("\"statuses\": {", out);
	for (unsigned i = 0; i < sizeof s->statuses / sizeof s->statuses[0]; i++) {
		if (s->statuses[i] == 0)
			continue;
		fprintf(out, "%s\"%u\": %zu", comma, i, s->statuses[i]);
		comma = ", ";
	}
	fputs("}, ", out);
	if (s->connections != NULL) {
		print_connections(s, out);
		fputs(", ", out);
	}
	fputs("\"first_failure\": ", out);
	print_text(s->first_failure, out);
	fputs("}\n", out);
}

void
loadgen_stats_done(struct loadgen_stats *s)
{
	free(s->latency_us);
	free(s->connections);
	s->latency_us = NULL;
	s->connections = NULL;
}

bool
loadgen_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;
	unsigned long long value;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || value < min || value > max)
		return false;
	*out = value;
	return true;
}

bool
loadgen_append_path(char *out, size_t size, const char *path)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t at = strlen(out);

	for (; *path != '\0'; path++) {
		unsigned char c = (unsigned char)*path;
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c >= '0' && c <= '9') || strchr("-._~/", c) != NULL;

		if (at + (plain ? 1 : 3) + 1 > size)
			return false;
		if (plain) {
			out[at++] = (char)c;
			continue;
		}
		out[at++] = '%';
		out[at++] = digits[c >> 4];
		out[at++] = digits[c & 15];
	}
	out[at] = '\0';
	return true;
}
