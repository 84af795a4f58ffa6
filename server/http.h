/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_HTTP_H
#define DG_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "endpoint.h"
#include "err.h"
#include "histogram.h"
#include "request.h"
#include "work.h"

/* http: sockets and libmicrohttpd on one side, struct request on the other.
 *
 * Threads: `threads` HTTP threads, each an event loop with its own connections, which never wait
 * for anything else; one acceptor thread, which takes connections, gives each to the least busy
 * loop, cuts those that are too slow, and lets refused uploads end politely. Operations that block
 * run on the worker pool.
 * Limits: connections_max, and never more than the process may have descriptors. At the limit
 * nothing is refused: new connections wait in the kernel's queue.
 *
 * Stopping, in this order: http_quiesce, http_drain, then the caller ends whatever may still call
 * request_complete or request_wake (the worker pool, the ingest pipeline), http_stop, http_free. */

/* Opaque types. */
struct http;

struct http_listener {
	int fd; /* from endpoint_listen; handed over */
	struct endpoint at;
};

struct http_options {
	const struct http_listener *listeners;
	size_t listener_count;
	const struct op *const *ops; /* ends with NULL; borrowed until http_free */
	struct server_ctx *srv;      /* for struct request; not looked into */
	struct work *work;           /* borrowed until http_free */
	int threads;
	size_t connections_max;
	uint64_t connection_timeout_ms; /* rounded up to seconds */
	size_t connection_memory_bytes;
	uint64_t header_timeout_ms;
	uint64_t body_rate_min_bytes; /* a second; 0 = any */
	uint64_t body_rate_grace_ms;
	uint64_t linger_timeout_ms; /* 0 = cut at once */
	uint64_t linger_bytes;
	uint64_t upload_bytes_max;
	uint64_t tick_ms; /* how often deadlines are looked at; 0 = 1000 */
};

struct http_stats {
	size_t connections;
	size_t requests_active;
	uint64_t requests;
	uint64_t status[6]; /* answers by first digit of the status; [0]: none was sent */
	uint64_t connections_accepted;
	uint64_t connections_cut; /* by a deadline */
	uint64_t body_bytes_in;
	uint64_t body_bytes_out; /* as they go out */
};

/* Start serving. Raises the soft limit of open files to the hard one. On failure nothing runs and
 * the listeners are closed. RC_NOMEM, RC_IO. */
enum rc http_start(const struct http_options *o, struct http **out, struct err *err);

/* Take what waits to be accepted, close the listeners, answer new requests with 503, ask for the
 * end of every connection, and wake all streams once so that they can see it. May be repeated. */
void http_quiesce(struct http *h);
/* http_quiesce was called. */
bool http_is_quiesced(const struct http *h);
/* Wait until no request is under way, at most timeout_ms. Returns how many are. */
size_t http_drain(struct http *h, uint64_t timeout_ms);
/* Cut what is left and join the threads. A request that somebody still owes a request_complete
 * stays in memory until that call, which then also closes it. */
void http_stop(struct http *h);
/* http_stop if that is to do, then free. Nobody may touch a request any more. NULL is allowed. */
void http_free(struct http *h);

struct http_stats http_stats(struct http *h);

/* Requests by what their clients wait for. */
enum http_kind {
	HTTP_UPLOAD, /* a body that is streamed */
	HTTP_READ,   /* GET and HEAD */
	HTTP_CHANGE, /* all others */
	HTTP_KINDS,
};
/* Microseconds from the last byte of a request to the first of its answer, as far as this server
 * decides about them; long polls and requests refused before their end are left out. */
void http_latency(const struct http *h, enum http_kind kind, struct histogram_view *out);

#endif
