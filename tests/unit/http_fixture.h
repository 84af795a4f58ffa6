/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_HTTP_FIXTURE_H
#define DG_HTTP_FIXTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http.h"
#include "work.h"

/* http_fixture: a server of fake operations in this process, and a client of raw sockets.
 *
 *   GET    /hello              "hello\n" at once, on the HTTP thread
 *   GET    /block              holds its HTTP thread while fixture_block() is locked
 *   GET    /chain/{name}       admission and run on a worker; echoes the name and ?q=
 *   PUT    /echo/{path...}     takes the body in short pieces, woken by a worker; answers
 *                              "bytes=N sum=S path=P"; ?slow=1 never makes room
 *   PUT    /refuse             admission on a worker answers 404
 *   PUT    /midway/{bytes}     answers 507 after that many bytes
 *   POST   /json               limit JSON_LIMIT; answers "json=N"
 *   POST   /maybe              JSON that may be absent
 *   GET    /stream/{bytes}     a source that often says later; ?chunked=1 without length,
 *                              ?abort=N cuts there
 *   GET    /hang               completes when fixture_release() is called
 *   GET    /quiet              a stream that says nothing until the server is quiesced */

#define JSON_LIMIT 1000

struct fixture {
	struct http *http;
	struct work *work;
	char address[160];
	struct http_options o;
};

/* Counters of the operations, for all servers of the process; reset by fixture_start. */
struct fixture_counts {
	int closed;           /* op->close calls */
	int closed_completed; /* with completed */
	int opened;           /* requests that reached an operation */
};

/* Options that suit tests; change them before fixture_start. */
void fixture_options(struct fixture *f);
void fixture_start(struct fixture *f, int op_threads, size_t queue_max);
/* Quiesce, drain, stop. */
void fixture_stop(struct fixture *f);
struct fixture_counts fixture_counts(void);
/* Wait until as many requests were closed, at most 5 s. */
bool fixture_wait_closed(int closed);
/* Complete the hanging requests, from now on at once; returns how many there were. */
int fixture_release(void);
/* See /block. */
pthread_mutex_t *fixture_block(void);
/* Requests that hang. */
int fixture_hanging(void);

/* ---- client; every function fails the test on a time-out of 10 s ---- */

int client_connect(const struct fixture *f);
void client_send(int fd, const char *text);
/* False: the server closed or reset the connection. */
bool client_send_bytes(int fd, const void *data, size_t len);

struct answer {
	int status; /* 0: the connection ended without an answer */
	char head[4096];
	char *body; /* NUL-terminated */
	size_t body_bytes;
	bool whole; /* the body is as long as the head says */
};

/* Read one answer; skips a "100 Continue" unless wanted by client_read_continue. */
void client_read(int fd, bool head_only, struct answer *a);
/* Reads exactly "HTTP/1.1 100 Continue" and its empty line; false: something else came. */
bool client_read_continue(int fd);
/* The server has closed and sent nothing more. */
bool client_at_end(int fd);
void answer_free(struct answer *a);
/* Value of the header in the head, or NULL; valid until the next call. */
const char *answer_header(const struct answer *a, const char *name);
/* Send text, read the answer, compare the status. */
void client_expect(int fd, const char *text, int status, struct answer *a);

#endif
