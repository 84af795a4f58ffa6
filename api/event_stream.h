/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_EVENT_STREAM_H
#define DG_EVENT_STREAM_H

#include "buf.h"
#include "request.h"
#include "stage.h"

/* event_stream: an answer of Server-Sent Events that waits without a worker.
 *
 * The operation's next() is asked on the HTTP thread for events, first at once and then whenever a
 * watched stage has news and the client has taken what was there: a slow client misses steps in
 * between, never the last state. A comment goes out after EVENT_SILENCE_MS, so that a client that
 * is gone is noticed. The stream ends when next() says so, and at shutdown. */

#define EVENT_SILENCE_MS 15000 /* at most */
#define EVENT_BYTES_MAX  ((size_t)256 << 10)

enum event_next {
	EVENT_IDLE, /* ask again when there is news */
	EVENT_MORE, /* ask again at once when these are sent */
	EVENT_END,  /* these are the last */
};
/* Append events to out (its limit is EVENT_BYTES_MAX; over it the stream is cut). Must not block.
 */
typedef enum event_next event_next_fn(void *arg, struct buf *out);

struct event_stream_options {
	struct stage *stage; /* borrowed until release; NULL: any stage */
	event_next_fn *next;
	void (*release)(void *arg); /* once; HTTP thread or op worker, must not block */
	void *arg;                  /* handed over */
};

/* Set the answer of rq: the stream, or a problem (too many watchers, no memory). */
void event_stream_reply(struct request *rq, const struct event_stream_options *o);

/* Append one event with p as JSON. false: no memory or no room. */
bool event_add_progress(struct buf *out, uint64_t id, const struct progress *p);

#endif
