/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_fixture.h"

#define HOST "Host: h\r\n"

static void
start(struct fixture *f)
{
	fixture_options(f);
	fixture_start(f, 4, 1000);
}

/* len bytes 0, 1, 2 … and their sum. */
static uint8_t *
pattern(size_t len, uint64_t *sum)
{
	uint8_t *p = malloc(len + 1);

	*sum = 0;
	for (size_t i = 0; i < len; i++) {
		p[i] = (uint8_t)(i * 31 + (i >> 8));
		*sum += p[i];
	}
	return p;
}

static void
expect_latencies(const struct fixture *f, uint64_t uploads, uint64_t reads, uint64_t changes)
{
	const uint64_t want[HTTP_KINDS] = {uploads, reads, changes};
	struct histogram_view v;

	for (int kind = 0; kind < HTTP_KINDS; kind++) {
		http_latency(f->http, (enum http_kind)kind, &v);
		assert_int_equal(v.count, want[kind]);
	}
}

/* ---- plain requests ---- */

static void
test_keep_alive_and_pipelining(void **state)
{
	struct fixture f;
	struct answer a;

	(void)state;
	start(&f);
	int fd = client_connect(&f);
	for (int i = 0; i < 3; i++) {
		client_expect(fd, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200, &a);
		assert_string_equal(a.body, "hello\n");
		assert_string_equal(answer_header(&a, "X-Fixture"), "yes");
		assert_null(answer_header(&a, "Server"));
		answer_free(&a);
		client_expect(fd,
			"GET /chain/%C3%A4%2Fb?q=x+y%21 HTTP/1.1\r\n" HOST "User-Agent: t\r\n\r\n",
			200, &a);
		assert_string_equal(a.body, "name=\xc3\xa4/b q=x y! agent=t");
		answer_free(&a);
	}
	client_send(fd, "GET /hello HTTP/1.1\r\n" HOST "\r\nPUT /echo/p HTTP/1.1\r\n" HOST
			"Content-Length: 3\r\n\r\nabcGET /chain/z HTTP/1.1\r\n" HOST "\r\n");
	client_read(fd, false, &a);
	assert_string_equal(a.body, "hello\n");
	answer_free(&a);
	client_read(fd, false, &a);
	assert_string_equal(a.body, "bytes=3 sum=294 path=p");
	answer_free(&a);
	client_read(fd, false, &a);
	assert_string_equal(a.body, "name=z q=- agent=-");
	answer_free(&a);
	close(fd);
	assert_true(fixture_wait_closed(9));
	struct fixture_counts c = fixture_counts();
	assert_int_equal(c.closed_completed, 9);
	fixture_stop(&f);
}

static void
test_head_options_and_refusals(void **state)
{
	struct fixture f;
	struct answer a;

	(void)state;
	start(&f);
	int fd = client_connect(&f);
	client_send(fd, "HEAD /hello HTTP/1.1\r\n" HOST "\r\n");
	client_read(fd, true, &a);
	assert_int_equal(a.status, 200);
	assert_string_equal(answer_header(&a, "Content-Length"), "6");
	assert_string_equal(answer_header(&a, "X-Fixture"), "yes");
	answer_free(&a);
	client_send(fd, "HEAD /stream/123456789 HTTP/1.1\r\n" HOST "\r\n");
	client_read(fd, true, &a);
	assert_string_equal(answer_header(&a, "Content-Length"), "123456789");
	assert_string_equal(answer_header(&a, "ETag"), "\"x\"");
	answer_free(&a);
	client_expect(fd, "OPTIONS /hello HTTP/1.1\r\n" HOST "\r\n", 204, &a);
	assert_string_equal(answer_header(&a, "Allow"), "GET, HEAD, OPTIONS");
	answer_free(&a);
	client_expect(fd, "DELETE /echo/a/b HTTP/1.1\r\n" HOST "\r\n", 405, &a);
	assert_string_equal(answer_header(&a, "Allow"), "PUT, OPTIONS");
	assert_non_null(strstr(a.body, "\"allowed\":[\"PUT\",\"OPTIONS\"]"));
	assert_string_equal(answer_header(&a, "Content-Type"), "application/problem+json");
	answer_free(&a);
	client_expect(fd, "PATCH /hello HTTP/1.1\r\n" HOST "\r\n", 405, &a);
	answer_free(&a);
	client_expect(fd, "GET /nowhere HTTP/1.1\r\n" HOST "\r\n", 404, &a);
	assert_non_null(strstr(a.body, "route-not-found"));
	answer_free(&a);
	client_expect(fd, "GET /hello/ HTTP/1.1\r\n" HOST "\r\n", 404, &a);
	answer_free(&a);
	client_expect(fd, "GET /chain/%zz HTTP/1.1\r\n" HOST "\r\n", 400, &a);
	assert_non_null(strstr(a.body, "invalid-path"));
	answer_free(&a);
	client_expect(fd, "GET /hello?x=1 HTTP/1.1\r\n" HOST "\r\n", 400, &a);
	assert_non_null(strstr(a.body, "invalid-query"));
	assert_non_null(strstr(a.body, "\"field\":\"x\""));
	answer_free(&a);
	client_expect(fd, "GET /hello HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 400, &a);
	assert_non_null(strstr(a.body, "body-mismatch"));
	answer_free(&a);
	client_expect(fd, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200, &a);
	answer_free(&a);
	close(fd);
	fixture_stop(&f);
}

/* Each of these must be refused and must end the connection, so that what follows is not run. */
static void
test_guard_closes(void **state)
{
	static const char *const bad[] = {
		"PUT /echo/x HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
		"PUT /echo/x HTTP/1.1\r\n" HOST
		"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"PUT /echo/x HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"PUT /echo/x HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n",
		"GET /hello HTTP/1.1\r\n" HOST "Host: i\r\n\r\n",
		"GET /hello HTTP/1.1\r\n" HOST "X: a\x01z\r\n\r\n",
		"GET /hello HTTP/1.2\r\n" HOST "\r\n",
		"GET http://h/hello HTTP/1.1\r\n" HOST "\r\n",
		"GET /hello HTTP/1.1\r\n" HOST "Expect: tea\r\n\r\n",
		"GET /hello HTTP/1.1\r\n" HOST "Authorization: a\r\nAuthorization: b\r\n\r\n",
	};
	struct fixture f;
	struct answer a;

	(void)state;
	start(&f);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		int fd = client_connect(&f);
		client_send(fd, bad[i]);
		client_send(fd, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
		client_read(fd, false, &a);
		if (a.status < 400)
			fail_msg("request %zu was answered with %d", i, a.status);
		assert_string_equal(answer_header(&a, "Connection"), "close");
		answer_free(&a);
		assert_true(client_at_end(fd));
		close(fd);
	}
	assert_int_equal(fixture_counts().opened, 0);
	fixture_stop(&f);
}

/* ---- uploads ---- */

struct upload {
	const struct fixture *f;
	size_t len;
	bool chunked;
	bool ok;
};

static void *
upload_main(void *arg)
{
	struct upload *u = arg;
	uint64_t sum;
	uint8_t *data = pattern(u->len, &sum);
	char head[256];
	char want[128];
	struct answer a;
	int fd = client_connect(u->f);

	snprintf(want, sizeof want, "bytes=%zu sum=%llu path=a/b", u->len, (unsigned long long)sum);
	for (int round = 0; round < 3; round++) {
		if (u->chunked) {
			client_send(fd, "PUT /echo/a/b HTTP/1.1\r\n" HOST
					"Transfer-Encoding: chunked\r\n\r\n");
			for (size_t at = 0; at < u->len;) {
				size_t n = 1 + at % 70001;
				n = n < u->len - at ? n : u->len - at;
				snprintf(head, sizeof head, "%zx\r\n", n);
				client_send(fd, head);
				client_send_bytes(fd, data + at, n);
				client_send(fd, "\r\n");
				at += n;
			}
			client_send(fd, "0\r\n\r\n");
		} else {
			snprintf(head, sizeof head,
				"PUT /echo/a%%2Fb HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n",
				u->len);
			client_send(fd, head);
			client_send_bytes(fd, data, u->len);
		}
		client_read(fd, false, &a);
		u->ok = a.status == 201 && strcmp(a.body, want) == 0;
		answer_free(&a);
		if (!u->ok)
			break;
	}
	close(fd);
	free(data);
	return NULL;
}

static void
test_uploads_with_short_pieces(void **state)
{
	struct fixture f;
	struct upload u[8];
	pthread_t t[8];

	(void)state;
	start(&f);
	for (int i = 0; i < 8; i++) {
		u[i] = (struct upload){.f = &f,
			.len = i == 7 ? 0 : (size_t)(1 + i) * 150001,
			.chunked = i % 2 == 1};
		pthread_create(&t[i], NULL, upload_main, &u[i]);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], NULL);
		assert_true(u[i].ok);
	}
	assert_true(fixture_wait_closed(24));
	assert_int_equal(fixture_counts().closed_completed, 24);
	expect_latencies(&f, 24, 0, 0);
	fixture_stop(&f);
}

static void
test_expect_continue(void **state)
{
	struct fixture f;
	struct answer a;

	(void)state;
	start(&f);
	int fd = client_connect(&f);
	client_send(fd, "PUT /echo/p HTTP/1.1\r\n" HOST
			"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	assert_true(client_read_continue(fd));
	client_expect(fd, "ab", 201, &a);
	answer_free(&a);
	/* refused by a worker before the body: no 100, and nobody waits for the body */
	client_send(fd, "PUT /refuse HTTP/1.1\r\n" HOST
			"Expect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n");
	client_read(fd, false, &a);
	assert_int_equal(a.status, 404);
	assert_non_null(strstr(a.head, "HTTP/1.1 404"));
	answer_free(&a);
	assert_true(client_at_end(fd));
	close(fd);
	assert_true(fixture_wait_closed(2));
	assert_int_equal(fixture_counts().closed_completed, 2);
	fixture_stop(&f);
}

/* A small upload that is refused does not cost its client the connection. */
static void
test_small_refused_body_keeps_connection(void **state)
{
	struct fixture f;
	struct answer a;

	(void)state;
	start(&f);
	int fd = client_connect(&f);
	for (int i = 0; i < 3; i++) {
		client_expect(fd, "PUT /refuse HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nabcde",
			404, &a);
		assert_null(answer_header(&a, "Connection"));
		answer_free(&a);
		client_expect(fd,
			"PUT /midway/2 HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nabcde", 507,
			&a);
		assert_string_equal(answer_header(&a, "Retry-After"), "30");
		answer_free(&a);
	}
	close(fd);
	assert_true(fixture_wait_closed(6));
	assert_int_equal(fixture_counts().closed_completed, 6);
	fixture_stop(&f);
}

/* Send until the answer is there or everything is sent, as curl does; then read it. */
static void
send_until_answer(int fd, size_t len, struct answer *a)
{
	size_t piece_bytes = 65536;
	uint8_t *piece = calloc(1, piece_bytes);

	while (len > 0) {
		struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
		assert_true(poll(&p, 1, 10000) == 1);
		if (p.revents & POLLIN)
			break;
		size_t n = len < piece_bytes ? len : piece_bytes;
		ssize_t sent = send(fd, piece, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		assert_true(sent > 0);
		len -= (size_t)sent;
	}
	free(piece);
	client_read(fd, false, a);
}

static void
test_large_body_refused_midway(void **state)
{
	static const char *const heads[] = {
		"PUT /midway/300000 HTTP/1.1\r\n" HOST "Content-Length: 400000000\r\n\r\n",
		"PUT /refuse HTTP/1.1\r\n" HOST "Content-Length: 400000000\r\n\r\n",
		"PUT /midway/100000 HTTP/1.1\r\n" HOST
		"Transfer-Encoding: chunked\r\n\r\n10000000\r\n",
	};
	static const int status[] = {507, 404, 507};
	struct fixture f;
	struct answer a;

	(void)state;
	start(&f);
	for (size_t i = 0; i < 30; i++) {
		int fd = client_connect(&f);
		client_send(fd, heads[i % 3]);
		send_until_answer(fd, 250u << 20, &a);
		assert_int_equal(a.status, status[i % 3]);
		assert_true(a.whole);
		assert_string_equal(answer_header(&a, "Connection"), "close");
		assert_string_equal(answer_header(&a, "Content-Type"), "application/problem+json");
		assert_non_null(answer_header(&a, "Date"));
		answer_free(&a);
		close(fd);
	}
	assert_true(fixture_wait_closed(30));
	assert_int_equal(fixture_counts().closed_completed, 30);
	fixture_stop(&f);
}

static void
test_client_vanishes(void **state)
{
	struct fixture f;

	(void)state;
	start(&f);
	for (int i = 0; i < 20; i++) {
		int fd = client_connect(&f);
		client_send(fd, "PUT /echo/p HTTP/1.1\r\n" HOST
				"Content-Length: 1000000\r\n\r\nsome of it");
		if (i % 2 == 0) {
			struct linger reset = {.l_onoff = 1, .l_linger = 0};
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		}
		if (i % 4 == 1)
			shutdown(fd, SHUT_WR);
		close(fd);
	}
	/* some are gone before MHD read their headers */
	struct fixture_counts c;
	do {
		poll(NULL, 0, 5);
		c = fixture_counts();
	} while (c.closed < c.opened || c.opened == 0);
	assert_int_equal(c.closed_completed, 0);
	fixture_stop(&f);
	c = fixture_counts();
	assert_int_equal(c.closed, c.opened);
	assert_int_equal(c.closed_completed, 0);
}

/* A request that is cut: the server has time to read first; last and the end come at once. */
struct cut {
	const char *first; /* or NULL */
	const char *last;
	bool acceptor_looks; /* because last holds no byte of the body */
};

static void
send_and_cut(struct fixture *f, const struct cut *c, bool half)
{
	int opened = fixture_counts().opened;
	int blocker = client_connect(f);
	int fd = client_connect(f);
	struct answer a;

	if (c->first != NULL) {
		client_send(fd, c->first);
		while (fixture_counts().opened == opened)
			poll(NULL, 0, 1);
		poll(NULL, 0, 10); /* it may have read the rest by now */
		opened++;
	}
	pthread_mutex_lock(fixture_block());
	client_send(blocker, "GET /block HTTP/1.1\r\n" HOST "\r\n");
	while (fixture_counts().opened == opened)
		poll(NULL, 0, 1);
	client_send(fd, c->last);
	if (half)
		shutdown(fd, SHUT_WR);
	else
		close(fd);
	pthread_mutex_unlock(fixture_block());
	client_read(blocker, false, &a);
	answer_free(&a);
	close(blocker);
	if (half) {
		client_read(fd, false, &a);
		answer_free(&a);
		close(fd);
	}
}

#define CHUNKED "Transfer-Encoding: chunked\r\n\r\n"
#define SIZED   "Content-Length: 50\r\n\r\n"

/* The end of the client comes in one segment with the last bytes it sent, while nobody reads: MHD
 * hears nothing of that end by itself. No deadline is on, so only noticing it closes the request.
 */
static void
test_end_comes_with_the_last_bytes(void **state)
{
	static const struct cut cuts[] = {
		{NULL, "PUT /midway/100 HTTP/1.1\r\n" HOST SIZED, false},
		{NULL, "PUT /midway/100 HTTP/1.1\r\n" HOST SIZED "abc", false},
		{NULL, "PUT /midway/2 HTTP/1.1\r\n" HOST SIZED "abc", false},
		{NULL, "PUT /echo/x HTTP/1.1\r\n" HOST SIZED "abc", false},
		{NULL, "PUT /refuse HTTP/1.1\r\n" HOST SIZED "abc", false},
		{NULL, "POST /json HTTP/1.1\r\n" HOST SIZED "{", false},
		{NULL, "PUT /midway/100 HTTP/1.1\r\n" HOST CHUNKED "5\r\nabc", false},
		{NULL, "PUT /midway/100 HTTP/1.1\r\n" HOST CHUNKED "3\r\nabc\r\n1", false},
		{"PUT /midway/100 HTTP/1.1\r\n" HOST SIZED "abc", "def", false},
		{"PUT /midway/2 HTTP/1.1\r\n" HOST SIZED "a", "bc", false},
		{"PUT /refuse HTTP/1.1\r\n" HOST SIZED, "abc", false},
		{"PUT /midway/100 HTTP/1.1\r\n" HOST CHUNKED "3\r\nabc", "\r\n1", true},
		{"PUT /midway/100 HTTP/1.1\r\n" HOST CHUNKED "3\r\nabc\r\n", "0\r\n", true},
		{"GET /hello HTTP/1.1\r\n" HOST "\r\n", "GET /h", true},
	};
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < 2 * sizeof cuts / sizeof cuts[0]; i++) {
		const struct cut *c = &cuts[i / 2];
		bool half = i % 2 == 1;
		fixture_options(&f);
		f.o.threads = 1;
		f.o.connection_timeout_ms = 3600000;
		f.o.header_timeout_ms = 3600000;
		f.o.tick_ms = c->acceptor_looks ? 20 : 3600000;
		fixture_start(&f, 2, 100);
		send_and_cut(&f, c, half);
		for (int n = 0; n < 5000 && http_stats(f.http).connections > 0; n++)
			poll(NULL, 0, 1);
		if (http_stats(f.http).connections > 0)
			fail_msg("request %zu, %s, stays", i / 2, half ? "half-closed" : "closed");
		assert_int_equal(fixture_counts().closed, fixture_counts().opened);
		fixture_stop(&f);
	}
}

/* A client may shut down its side behind a whole request, whether that is suspended or not. */
static void
test_half_closed_client_gets_its_answer(void **state)
{
	static const char *const requests[] = {
		"GET /hello HTTP/1.1\r\n" HOST "\r\n",
		"GET /chain/x HTTP/1.1\r\n" HOST "\r\n",
		"PUT /midway/100 HTTP/1.1\r\n" HOST CHUNKED "3\r\nabc\r\n0\r\n\r\n",
		"PUT /echo/x HTTP/1.1\r\n" HOST "Content-Length: 7\r\n\r\nabcdefg",
		/* every second piece has to wait for room */
		"PUT /echo/x HTTP/1.1\r\n" HOST CHUNKED
		"3\r\nabc\r\n7\r\nabcdefg\r\n5\r\nabcde\r\n0\r\n\r\n",
	};
	size_t count = sizeof requests / sizeof requests[0];
	struct fixture f;
	struct answer a;

	(void)state;
	start(&f);
	for (size_t i = 0; i < 10 * count; i++) {
		int fd = client_connect(&f);
		client_send(fd, requests[i % count]);
		shutdown(fd, SHUT_WR);
		client_read(fd, false, &a);
		assert_int_equal(a.status / 100, 2);
		answer_free(&a);
		assert_true(client_at_end(fd));
		close(fd);
	}
	fixture_stop(&f);
}

/* ---- other pages ---- */

static void
test_foreign_origin(void **state)
{
	static const struct {
		const char *method;
		const char *origin;
		int status;
	} cases[] = {
		{"PUT", "http://evil.example", 403},
		{"PUT", "null", 403},
		{"PUT", "", 403},
		{"PUT", "http://h.evil.example", 403},
		{"PUT", "http://h:1", 403},
		{"PUT", "ftp://h", 403},
		{"PUT", "h", 403},
		{"PATCH", "http://evil.example", 403},
		{"DELETE", "http://evil.example", 403},
		{"PUT", "http://h", 200},
		{"PUT", "https://H", 200},
		{"GET", "http://evil.example", 405},
		{"OPTIONS", "null", 204},
	};
	struct fixture f;
	struct answer a;
	char text[300];

	(void)state;
	start(&f);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int fd = client_connect(&f);
		int opened = fixture_counts().opened;
		snprintf(text, sizeof text, "%s /midway/9 HTTP/1.1\r\n" HOST "Origin: %s\r\n\r\n",
			cases[i].method, cases[i].origin);
		client_expect(fd, text, cases[i].status, &a);
		answer_free(&a);
		assert_int_equal(fixture_counts().opened - opened, cases[i].status == 200);
		close(fd);
	}
	/* before one byte of the body is asked for */
	int fd = client_connect(&f);
	client_expect(fd,
		"PUT /midway/9 HTTP/1.1\r\n" HOST "Origin: null\r\nExpect: 100-continue\r\n"
		"Content-Length: 1000000000\r\n\r\n",
		403, &a);
	assert_non_null(strstr(a.body, "access-denied"));
	answer_free(&a);
	assert_true(client_at_end(fd));
	close(fd);
	fd = client_connect(&f);
	client_expect(fd,
		"PUT /midway/9 HTTP/1.1\r\n" HOST "Origin: http://h\r\nOrigin: null\r\n\r\n", 400,
		&a);
	answer_free(&a);
	close(fd);
	fixture_stop(&f);
}

/* ---- JSON ---- */

static void
post_json(int fd, const char *path, size_t len, const char *more, int status, struct answer *a)
{
	char *text = malloc(len + 400);
	int n = snprintf(text, 400, "POST %s HTTP/1.1\r\n" HOST "%sContent-Length: %zu\r\n\r\n",
		path, more, len);

	memset(text + n, ' ', len);
	text[(size_t)n + len] = '\0';
	client_expect(fd, text, status, a);
	free(text);
}

static void
test_json_limits(void **state)
{
	struct fixture f;
	struct answer a;

	(void)state;
	start(&f);
	int fd = client_connect(&f);
	post_json(fd, "/json", JSON_LIMIT - 1, "Content-Type: application/json\r\n", 200, &a);
	assert_string_equal(a.body, "json=999");
	answer_free(&a);
	post_json(fd, "/json", JSON_LIMIT, "Content-Type: application/json; charset=utf-8\r\n", 200,
		&a);
	assert_string_equal(a.body, "json=1000");
	answer_free(&a);
	post_json(fd, "/json", JSON_LIMIT + 1, "", 413, &a);
	assert_non_null(strstr(a.body, "json-too-large"));
	answer_free(&a);
	post_json(fd, "/json", 0, "", 400, &a);
	assert_non_null(strstr(a.body, "invalid-json"));
	answer_free(&a);
	post_json(fd, "/json", 5, "Content-Type: application/x-www-form-urlencoded\r\n", 200, &a);
	assert_string_equal(a.body, "json=5");
	answer_free(&a);
	post_json(fd, "/json", 5, "Content-Type: text/plain\r\n", 415, &a);
	assert_non_null(strstr(a.body, "-H 'Content-Type: application/json'"));
	answer_free(&a);
	post_json(fd, "/json", 5, "Content-Encoding: gzip\r\n", 415, &a);
	assert_non_null(strstr(a.body, "unsupported-encoding"));
	answer_free(&a);
	post_json(fd, "/maybe", 0, "Content-Type: application/x-www-form-urlencoded\r\n", 200, &a);
	assert_string_equal(a.body, "json=0");
	answer_free(&a);
	post_json(fd, "/maybe", 7, "", 200, &a);
	assert_string_equal(a.body, "json=7");
	answer_free(&a);
	client_expect(fd,
		"POST /json HTTP/1.1\r\n" HOST
		"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		200, &a);
	assert_string_equal(a.body, "json=2");
	answer_free(&a);
	close(fd);
	/* a chunked body shows only as it comes that it is too long */
	fd = client_connect(&f);
	client_send(fd, "POST /json HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3e9\r\n");
	char text[JSON_LIMIT + 2];
	memset(text, ' ', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	client_expect(fd, text, 413, &a);
	answer_free(&a);
	assert_true(client_at_end(fd));
	close(fd);
	fixture_stop(&f);
}

/* ---- downloads ---- */

static void
check_stream(const struct answer *a, size_t len)
{
	assert_int_equal(a->body_bytes, len);
	for (size_t i = 0; i < len; i++)
		if (a->body[i] != (char)('a' + i % 26))
			fail_msg("byte %zu is wrong", i);
}

static void *
download_main(void *arg)
{
	const struct fixture *f = arg;
	struct answer a;
	int fd = client_connect(f);

	for (int i = 0; i < 3; i++) {
		client_expect(fd, "GET /stream/1000003 HTTP/1.1\r\n" HOST "\r\n", 200, &a);
		assert_string_equal(answer_header(&a, "Content-Length"), "1000003");
		check_stream(&a, 1000003);
		answer_free(&a);
		client_expect(fd, "GET /stream/700001?chunked=1 HTTP/1.1\r\n" HOST "\r\n", 200, &a);
		assert_string_equal(answer_header(&a, "Transfer-Encoding"), "chunked");
		check_stream(&a, 700001);
		answer_free(&a);
	}
	client_expect(fd, "GET /stream/0 HTTP/1.1\r\n" HOST "\r\n", 200, &a);
	assert_int_equal(a.body_bytes, 0);
	answer_free(&a);
	client_expect(fd, "GET /stream/0?chunked=1 HTTP/1.1\r\n" HOST "\r\n", 200, &a);
	assert_int_equal(a.body_bytes, 0);
	answer_free(&a);
	client_expect(fd, "GET /stream/50000?chunked=1 HTTP/1.0\r\n\r\n", 200, &a);
	check_stream(&a, 50000);
	answer_free(&a);
	close(fd);
	return NULL;
}

static void
test_downloads(void **state)
{
	struct fixture f;
	pthread_t t[6];

	(void)state;
	start(&f);
	for (int i = 0; i < 6; i++)
		pthread_create(&t[i], NULL, download_main, &f);
	for (int i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
	assert_true(fixture_wait_closed(54));
	assert_int_equal(fixture_counts().closed_completed, 54);
	expect_latencies(&f, 0, 54, 0);
	assert_int_equal(http_stats(f.http).body_bytes_out, 6 * (3 * (1000003 + 700001) + 50000));
	fixture_stop(&f);
}

static void
test_broken_download_is_seen(void **state)
{
	static const char *const queries[] = {"?abort=100000", "?abort=100000&chunked=1"};
	struct fixture f;
	struct answer a;
	char text[200];

	(void)state;
	start(&f);
	for (int i = 0; i < 2; i++) {
		int fd = client_connect(&f);
		snprintf(text, sizeof text, "GET /stream/1000000%s HTTP/1.1\r\n" HOST "\r\n",
			queries[i]);
		client_send(fd, text);
		client_read(fd, false, &a);
		assert_int_equal(a.status, 200);
		assert_false(a.whole);
		answer_free(&a);
		close(fd);
	}
	/* and one whose client goes away */
	int fd = client_connect(&f);
	client_send(fd, "GET /stream/1000000000 HTTP/1.1\r\n" HOST "\r\n");
	char some[1000];
	/* its bytes are counted while it goes on, not at its end */
	do
		assert_true(recv(fd, some, sizeof some, 0) > 0);
	while (http_stats(f.http).body_bytes_out <= 200000);
	close(fd);
	assert_true(fixture_wait_closed(3));
	assert_int_equal(fixture_counts().closed_completed, 0);
	fixture_stop(&f);
}

/* ---- many connections ---- */

static size_t
idle_count(void)
{
	struct rlimit r;

	/* both ends are in this process */
	getrlimit(RLIMIT_NOFILE, &r);
	size_t most = r.rlim_max > 6000 ? 2000 : (size_t)(r.rlim_max / 4);
	return most;
}

static void
test_idle_connections(void **state)
{
	size_t count = idle_count();
	int *fds = calloc(count, sizeof *fds);
	struct fixture f;
	struct answer a;

	(void)state;
	start(&f);
	for (size_t i = 0; i < count; i++) {
		fds[i] = client_connect(&f);
		if (i % 2 == 0)
			client_send(fds[i], "GET /hello HTTP/1.1\r\nHost");
	}
	int fd = client_connect(&f);
	for (int i = 0; i < 50; i++) {
		client_expect(fd, "GET /chain/x HTTP/1.1\r\n" HOST "\r\n", 200, &a);
		answer_free(&a);
	}
	assert_int_equal(http_stats(f.http).connections, count + 1);
	for (size_t i = 0; i < count; i += 100) {
		client_expect(fds[i], ": h\r\n\r\n", 200, &a);
		answer_free(&a);
	}
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	for (int i = 0; i < 5000 && http_stats(f.http).connections > 1; i++)
		poll(NULL, 0, 1);
	assert_int_equal(http_stats(f.http).connections, 1);
	close(fd);
	free(fds);
	fixture_stop(&f);
}

/* MHD 0.9.75 asks for 128 events at a time and, given exactly 128, waits for more before it looks
 * at them. Somebody must end that wait. */
static void
test_exactly_128_events(void **state)
{
	struct fixture f;
	struct answer a;
	int fds[256];

	(void)state;
	fixture_options(&f);
	f.o.threads = 1;
	fixture_start(&f, 2, 100);
	for (int count = 128; count <= 256; count += 128) {
		for (int i = 0; i < count; i++) {
			fds[i] = client_connect(&f);
			client_expect(fds[i], "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200, &a);
			answer_free(&a);
		}
		int blocker = client_connect(&f);
		int opened = fixture_counts().opened;
		pthread_mutex_lock(fixture_block());
		client_send(blocker, "GET /block HTTP/1.1\r\n" HOST "\r\n");
		while (fixture_counts().opened == opened)
			poll(NULL, 0, 1);
		for (int i = 0; i < count; i++)
			client_send(fds[i], "GET /hello HTTP/1.1\r\n" HOST "\r\n");
		pthread_mutex_unlock(fixture_block());
		for (int i = 0; i < count; i++) {
			client_read(fds[i], false, &a);
			assert_int_equal(a.status, 200);
			answer_free(&a);
			close(fds[i]);
		}
		client_read(blocker, false, &a);
		answer_free(&a);
		close(blocker);
	}
	fixture_stop(&f);
}

/* At the limit nobody is turned away: the next one waits until another has gone. */
static void
test_connection_limit(void **state)
{
	struct fixture f;
	struct answer a;
	int fds[8];

	(void)state;
	fixture_options(&f);
	f.o.connections_max = 8;
	fixture_start(&f, 2, 100);
	for (int i = 0; i < 8; i++) {
		fds[i] = client_connect(&f);
		client_expect(fds[i], "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200, &a);
		answer_free(&a);
	}
	int late = client_connect(&f);
	client_send(late, "GET /hello HTTP/1.1\r\n" HOST "\r\n");
	struct pollfd p = {.fd = late, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 100), 0);
	close(fds[0]);
	client_read(late, false, &a);
	assert_int_equal(a.status, 200);
	answer_free(&a);
	close(late);
	for (int i = 1; i < 8; i++)
		close(fds[i]);
	fixture_stop(&f);
}

static void
test_unix_socket(void **state)
{
	struct fixture f;
	struct answer a;
	char dir[] = "/tmp/t_http.XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(dir));
	for (int round = 0; round < 2; round++) {
		fixture_options(&f);
		snprintf(f.address, sizeof f.address, "unix:%s/socket", dir);
		fixture_start(&f, 2, 100);
		int fd = client_connect(&f);
		client_expect(fd, "GET /stream/100000 HTTP/1.1\r\n" HOST "\r\n", 200, &a);
		check_stream(&a, 100000);
		answer_free(&a);
		close(fd);
		fixture_stop(&f);
	}
	assert_int_equal(rmdir(dir), 0);
}

/* ---- deadlines ---- */

static void
test_slow_headers_are_cut(void **state)
{
	struct fixture f;
	struct answer a;

	(void)state;
	fixture_options(&f);
	f.o.header_timeout_ms = 200;
	fixture_start(&f, 2, 100);
	int silent = client_connect(&f);
	int half = client_connect(&f);
	client_send(half, "GET /hello HTTP/1.1\r\nHo");
	int waiting = client_connect(&f);
	client_send(waiting, "GET /hang HTTP/1.1\r\n" HOST "\r\n");
	assert_true(client_at_end(silent));
	assert_true(client_at_end(half));
	assert_int_equal(fixture_hanging(), 1);
	fixture_release();
	client_read(waiting, false, &a);
	assert_int_equal(a.status, 200);
	answer_free(&a);
	while (http_stats(f.http).connections_cut < 2)
		poll(NULL, 0, 1);
	close(silent);
	close(half);
	close(waiting);
	fixture_stop(&f);
}

static void
test_slow_body(void **state)
{
	struct fixture f;
	struct answer a;

	(void)state;
	fixture_options(&f);
	f.o.body_rate_min_bytes = 1000;
	f.o.body_rate_grace_ms = 200;
	f.o.tick_ms = 100;
	fixture_start(&f, 2, 100);
	int dripping = client_connect(&f);
	client_send(
		dripping, "PUT /midway/100000 HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n");
	struct pollfd p = {.fd = dripping, .events = POLLIN};
	for (int i = 0; i < 500 && poll(&p, 1, 20) == 0; i++)
		client_send_bytes(dripping, "x", 1);
	client_read(dripping, false, &a);
	assert_int_equal(a.status, 408);
	answer_free(&a);
	close(dripping);
	/* silent ones are cut, and those we keep waiting are not */
	int silent = client_connect(&f);
	client_send(
		silent, "PUT /midway/100000 HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\nx");
	int stalled = client_connect(&f);
	client_send(
		stalled, "PUT /echo/x?slow=1 HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\nx");
	assert_true(client_at_end(silent));
	p = (struct pollfd){.fd = stalled, .events = POLLIN};
	assert_int_equal(poll(&p, 1, 300), 0);
	close(silent);
	close(stalled);
	http_stop(f.http); /* the stalled one would hold the drain up */
	fixture_stop(&f);
}

/* ---- overload and shutdown ---- */

static void *
flood_main(void *arg)
{
	struct answer a;
	int *status = arg;
	int fd = status[1];

	client_send(fd, "GET /chain/x HTTP/1.1\r\n" HOST "\r\n");
	client_read(fd, false, &a);
	status[0] = a.status;
	if (a.status == 503 && strcmp(answer_header(&a, "Retry-After"), "2") != 0)
		status[0] = -1;
	answer_free(&a);
	return NULL;
}

static void
block_job(void *arg)
{
	pthread_mutex_lock(arg);
	pthread_mutex_unlock(arg);
}

static void
test_overload(void **state)
{
	pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
	struct fixture f;
	struct answer a;
	int status[10][2];
	pthread_t t[10];

	(void)state;
	fixture_options(&f);
	fixture_start(&f, 1, 4);
	pthread_mutex_lock(&gate);
	assert_int_equal(request_defer((struct server_ctx *)&f, block_job, &gate), RC_OK);
	while (work_stats(f.work).running == 0)
		poll(NULL, 0, 1);
	for (int i = 0; i < 10; i++) {
		status[i][1] = client_connect(&f);
		pthread_create(&t[i], NULL, flood_main, status[i]);
	}
	/* what needs no worker goes on */
	int fd = client_connect(&f);
	client_expect(fd, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200, &a);
	answer_free(&a);
	while (work_stats(f.work).refused < 6)
		poll(NULL, 0, 1);
	pthread_mutex_unlock(&gate);
	int ok = 0;
	int busy = 0;
	for (int i = 0; i < 10; i++) {
		pthread_join(t[i], NULL);
		ok += status[i][0] == 200;
		busy += status[i][0] == 503;
		close(status[i][1]);
	}
	assert_int_equal(ok, 4);
	assert_int_equal(busy, 6);
	close(fd);
	fixture_stop(&f);
}

static void
test_quiesce(void **state)
{
	struct fixture f;
	struct answer a;

	(void)state;
	start(&f);
	int kept = client_connect(&f);
	client_expect(kept, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200, &a);
	answer_free(&a);
	int waiting = client_connect(&f);
	client_send(waiting, "GET /hang HTTP/1.1\r\n" HOST "\r\n");
	int stream = client_connect(&f);
	client_send(stream, "GET /quiet HTTP/1.1\r\n" HOST "\r\n");
	while (fixture_counts().opened < 3 || fixture_hanging() < 1)
		poll(NULL, 0, 1);
	http_quiesce(f.http);
	client_read(stream, false, &a);
	assert_int_equal(a.status, 200);
	assert_true(a.whole);
	answer_free(&a);
	client_expect(kept, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 503, &a);
	assert_non_null(strstr(a.body, "shutting-down"));
	assert_string_equal(answer_header(&a, "Connection"), "close");
	answer_free(&a);
	assert_true(client_at_end(kept));
	assert_int_equal(http_drain(f.http, 50), 1);
	assert_int_equal(fixture_release(), 1);
	assert_int_equal(http_drain(f.http, 5000), 0);
	client_read(waiting, false, &a);
	assert_int_equal(a.status, 200);
	assert_string_equal(answer_header(&a, "Connection"), "close");
	answer_free(&a);
	close(kept);
	close(waiting);
	close(stream);
	fixture_stop(&f);
}

/* Everything at once is suspended, under way or half sent when the server stops. */
static void
test_stop_while_suspended(void **state)
{
	struct fixture f;
	struct answer a;
	int fds[40];

	(void)state;
	start(&f);
	for (int i = 0; i < 40; i++) {
		fds[i] = client_connect(&f);
		switch (i % 5) {
		case 0:
			client_send(fds[i], "GET /hang HTTP/1.1\r\n" HOST "\r\n");
			break;
		case 1:
			client_send(fds[i], "PUT /echo/x?slow=1 HTTP/1.1\r\n" HOST
					    "Content-Length: 100000\r\n\r\nabc");
			break;
		case 2:
			client_send(fds[i], "GET /quiet HTTP/1.1\r\n" HOST "\r\n");
			break;
		case 3:
			client_send(fds[i], "GET /stream/1000000000 HTTP/1.1\r\n" HOST "\r\n");
			break;
		default:
			client_send(fds[i], "GET /hello HTTP/1.1\r\nHost");
			break;
		}
	}
	while (fixture_counts().opened < 32 || fixture_hanging() < 8)
		poll(NULL, 0, 1);
	http_stop(f.http);
	/* those that hang are still owed an end; everybody else was closed */
	assert_int_equal(fixture_counts().closed, 24);
	client_read(fds[0], false, &a);
	assert_int_equal(a.status, 0);
	answer_free(&a);
	assert_int_equal(fixture_release(), 8);
	assert_int_equal(fixture_counts().closed, 32);
	assert_int_equal(fixture_counts().closed_completed, 0);
	for (int i = 0; i < 40; i++)
		close(fds[i]);
	work_drain(f.work);
	http_free(f.http);
	work_free(f.work);
}

/* Requests start and end all the time while the server stops. */
static void *
hammer_main(void *arg)
{
	const struct fixture *f = arg;
	int fd = client_connect(f);
	struct answer a;

	for (int i = 0;; i++) {
		const char *text = i % 2 == 0 ? "GET /stream/30000 HTTP/1.1\r\n" HOST "\r\n"
					      : "PUT /echo/x HTTP/1.1\r\n" HOST
						"Content-Length: 10\r\n\r\n0123456789";
		if (!client_send_bytes(fd, text, strlen(text)))
			break;
		client_read(fd, false, &a);
		int status = a.status;
		answer_free(&a);
		if (status != 200 && status != 201)
			break;
	}
	close(fd);
	return NULL;
}

static void
test_stop_under_load(void **state)
{
	struct fixture f;
	pthread_t t[6];

	(void)state;
	for (int round = 0; round < 10; round++) {
		start(&f);
		for (int i = 0; i < 6; i++)
			pthread_create(&t[i], NULL, hammer_main, &f);
		while (fixture_counts().closed < 40)
			poll(NULL, 0, 1);
		if (round % 2 == 0)
			http_stop(f.http);
		else
			http_quiesce(f.http);
		for (int i = 0; i < 6; i++)
			pthread_join(t[i], NULL);
		fixture_stop(&f);
		struct fixture_counts c = fixture_counts();
		assert_int_equal(c.opened, c.closed);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keep_alive_and_pipelining),
		cmocka_unit_test(test_head_options_and_refusals),
		cmocka_unit_test(test_guard_closes),
		cmocka_unit_test(test_uploads_with_short_pieces),
		cmocka_unit_test(test_expect_continue),
		cmocka_unit_test(test_small_refused_body_keeps_connection),
		cmocka_unit_test(test_large_body_refused_midway),
		cmocka_unit_test(test_client_vanishes),
		cmocka_unit_test(test_end_comes_with_the_last_bytes),
		cmocka_unit_test(test_half_closed_client_gets_its_answer),
		cmocka_unit_test(test_foreign_origin),
		cmocka_unit_test(test_json_limits),
		cmocka_unit_test(test_downloads),
		cmocka_unit_test(test_broken_download_is_seen),
		cmocka_unit_test(test_idle_connections),
		cmocka_unit_test(test_exactly_128_events),
		cmocka_unit_test(test_connection_limit),
		cmocka_unit_test(test_unix_socket),
		cmocka_unit_test(test_slow_headers_are_cut),
		cmocka_unit_test(test_slow_body),
		cmocka_unit_test(test_overload),
		cmocka_unit_test(test_quiesce),
		cmocka_unit_test(test_stop_while_suspended),
		cmocka_unit_test(test_stop_under_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
