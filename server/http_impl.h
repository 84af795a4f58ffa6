/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_HTTP_IMPL_H
#define DG_HTTP_IMPL_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "gate.h"
#include "guard.h"
#include "histogram.h"
#include "http.h"
#include "request.h"
#include "router.h"
#include "work.h"

/* http_impl: what http.c, acceptor.c, conn.c, exchange.c, answer.c and request.c share.
 *
 * Locks: http.exchanges_mtx and http.conns_mtx are leaves for us, and neither is taken while the
 * other is held. MHD's own lock is taken below them (resuming a connection); MHD calls us without
 * holding it. */

/* Bodies up to this much more are read to their end before a refusal is answered, so that the
 * connection can be kept: a batch of small uploads survives one that is refused. */
#define DISCARD_KEEP_BYTES (256u << 10)

/* ---- connections (conn.c) ---- */

enum conn_state {
	CONN_NEW,     /* accepted; no request line yet */
	CONN_IDLE,    /* kept alive, between requests */
	CONN_HEADERS, /* a request line came */
	CONN_BODY,    /* body bytes are awaited */
	CONN_BUSY,    /* it is our turn */
};

struct conn {
	/* immutable */
	int fd;
	struct loop *loop;
	/* guarded by http.conns_mtx */
	bool started; /* MHD has it; before, and if MHD failed to take it, fd may be another's */
	/* written by the HTTP thread, read by the acceptor */
	_Atomic unsigned state;
	_Atomic uint64_t since_ns;   /* when state changed */
	_Atomic uint64_t body_bytes; /* of this request, so far */
	/* written by the acceptor, read by the HTTP thread */
	atomic_bool too_slow;
	/* owned by the acceptor */
	bool is_cut;
	uint64_t window_ns;    /* time in CONN_BODY in this window */
	uint64_t window_bytes; /* body_bytes when it began */
};

/* One event loop of MHD. */
struct loop {
	struct http *http;
	struct MHD_Daemon *mhd;
	_Atomic size_t connections;
	_Atomic size_t active; /* requests under way */
};

/* ---- answers (answer.c, request.c) ---- */

struct reply_field {
	const char *name;
	const char *value;
	struct reply_field *next;
};

struct reply {
	bool is_set;
	int status;
	uint8_t *data; /* owned; NULL with is_stream or len 0 */
	size_t len;
	bool is_stream;
	uint64_t stream_len;
	source_read_fn *read;
	source_free_fn *release;
	void *source;
	struct reply_field *fields; /* in the request's memory */
	struct reply_field **fields_tail;
};

/* ---- exchanges (exchange.c) ---- */

enum phase {
	PHASE_HEADERS, /* the request line is here */
	PHASE_ADMIT, /* a worker decides; for requests without body it may run the operation too */
	PHASE_BODY,  /* pieces go to the operation */
	PHASE_DISCARD, /* the answer is set; what is left of the body is dropped before it is sent
			*/
	PHASE_END,     /* request_complete() is owed */
	PHASE_REPLY,   /* the answer is with MHD, or was sent by us */
};

struct block;

/* One request and its answer: what is behind struct request. */
struct exchange {
	struct request rq; /* rq.http points back here */
	struct gate gate;
	/* immutable */
	struct http *http;
	struct loop *loop;
	struct conn *conn;
	struct MHD_Connection *con;
	/* guarded by http.exchanges_mtx */
	struct exchange *next;
	struct exchange **prev;
	/* owned by the HTTP thread, and by a worker while the gate says OWED */
	enum phase phase;
	bool in_flight;  /* counted in http.in_flight */
	bool op_entered; /* the operation has seen it: op->close is due */
	bool must_close; /* nobody knows where the next request begins */
	bool has_body;
	bool body_done;
	bool sent_raw; /* the answer went out past MHD */
	bool source_ended;
	bool completed;
	uint64_t turn_ns; /* when its last byte had come; 0: it has not */
	struct guard_facts facts;
	struct route route;
	struct guard_header *headers; /* owned, one block with the text they point to */
	size_t header_count;
	char *target;      /* owned; as sent */
	char *target_work; /* in the same block; the route points into it */
	struct buf json;
	uint64_t received;
	uint64_t discarded;
	uint64_t sent;
	struct reply reply;
	struct work_item item;
	struct block *blocks; /* request_alloc */
	size_t alloc_bytes;
};

/* ---- lingering (acceptor.c) ---- */

struct straggler;

#define LINGER_MAX 256

/* ---- all of it ---- */

struct http {
	/* immutable after start */
	struct http_options o;
	struct http_listener *listeners;
	size_t connections_max;
	char boot_id[12];
	struct loop *loops;
	/* any thread */
	atomic_bool quiesced;
	atomic_bool stopping;
	_Atomic uint64_t next_id;
	_Atomic size_t resumers; /* threads that may be about to resume a connection */
	_Atomic uint64_t status_count[6];
	_Atomic uint64_t accepted;
	_Atomic uint64_t cut;
	_Atomic uint64_t bytes_in;
	_Atomic uint64_t bytes_out;
	struct histogram latency[HTTP_KINDS];
	_Atomic uint64_t log_window; /* of MHD's messages: second and count */
	/* guarded by exchanges_mtx */
	pthread_mutex_t exchanges_mtx;
	pthread_cond_t drained;
	struct exchange *exchanges;
	size_t in_flight;
	/* guarded by conns_mtx */
	pthread_mutex_t conns_mtx;
	struct conn **conns; /* by descriptor */
	size_t conns_cap;
	size_t conn_count;
	/* guarded by linger_mtx */
	pthread_mutex_t linger_mtx;
	struct straggler *lingers;
	size_t linger_count;
	/* the acceptor */
	int epoll_fd;
	int wake_fd;
	atomic_bool acceptor_stop;
	atomic_bool at_limit; /* it waits for a connection to close */
	bool acceptor_runs;
	pthread_t acceptor;
};

/* acceptor.c */
enum rc acceptor_start(struct http *h, struct err *err);
void acceptor_stop(struct http *h);
/* Close what lingers; after acceptor_stop. */
void acceptor_done(struct http *h);
void acceptor_wake(struct http *h);
/* Keep the socket of a connection that MHD is about to close open until the client has closed too
 * or linger_timeout has passed, and drop what it still sends: closing with unread bytes makes the
 * kernel send a reset, which can destroy the answer on its way. HTTP threads. */
void acceptor_linger(struct http *h, int fd);

/* conn.c */
/* Enter fd into the table and give it to the least busy loop; fd is handed over. */
void conn_add(struct http *h, int fd, const struct sockaddr *addr, socklen_t addr_len);
/* Look at the deadlines of all connections; elapsed_ns since the last look. Acceptor thread. */
void conn_tick(struct http *h, uint64_t elapsed_ns);
/* Loops with so many connections may need a poke every CONN_POKE_MS; see there. Acceptor thread. */
#define CONN_POKE_MIN 128
#define CONN_POKE_MS  100
bool conn_want_pokes(const struct http *h);
void conn_poke_loops(struct http *h);
/* If the client has closed or half-closed and all it sent was read, make sure that MHD hears of it.
 * HTTP thread of the connection, or with conns_mtx. */
void conn_repeat_end(const struct conn *c);
void conn_set_state(struct conn *c, enum conn_state state);
void conn_notify(void *cls, struct MHD_Connection *con, void **ctx,
	enum MHD_ConnectionNotificationCode code);

/* exchange_head.c */
/* Guard, route, and what the body's headers say; a reply is set after it if the request is refused
 * or needs no operation. HTTP thread. */
void exchange_read_head(struct exchange *x, const char *method, const char *version);
/* Set a problem as the reply. */
void exchange_refuse(struct exchange *x, enum rc rc, const char *kind, const char *text);

/* exchange.c: callbacks of MHD; cls is the struct loop */
void *exchange_begin(void *cls, const char *uri, struct MHD_Connection *con);
enum MHD_Result exchange_handle(void *cls, struct MHD_Connection *con, const char *url,
	const char *method, const char *version, const char *data, size_t *size, void **ctx);
void exchange_completed(
	void *cls, struct MHD_Connection *con, void **ctx, enum MHD_RequestTerminationCode why);
/* Release the source, op->close, free. By whom gate.h says. */
void exchange_finish(struct exchange *x);
/* Wake every exchange; with http.stopping set none stays suspended. */
void exchange_wake_all(struct http *h);

/* answer.c */
/* The set reply as an MHD response for x; NULL: no memory. */
struct MHD_Response *answer_build(struct exchange *x);
/* Small enough to be sent in the middle of a body, past MHD. */
bool answer_is_small(const struct exchange *x);
/* Send the reply on the socket itself; true if all of it was taken. HTTP thread. */
bool answer_send_raw(struct exchange *x);
void answer_done(struct exchange *x);

/* request.c */
/* Post bits to the gate of x and do what the old word asks for: resume the connection, or finish
 * the exchange whose connection is gone. x is the caller's no more if bits end a phase. */
void request_post(struct exchange *x, unsigned bits);
void request_blocks_free(struct exchange *x);

#endif
