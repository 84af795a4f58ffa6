/* SPDX-License-Identifier: Apache-2.0 */
#include "event_stream.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "problem.h"
#include "services.h"
#include "show_progress.h"
#include "watch.h"

/* A look every third of the silence allowed, a comment from two thirds on. */
#define LOOK_NS   (EVENT_SILENCE_MS * UINT64_C(1000000) / 3)
#define SILENT_NS (LOOK_NS * 2)

struct event_stream {
	/* immutable */
	struct event_stream_options o;
	struct request *rq;
	/* any thread */
	atomic_bool has_news;
	struct stage_watch watch;
	struct watch_timer timer;
	/* the HTTP thread's */
	struct buf pending;
	size_t at;
	uint64_t sent_ns;
	bool ended;
};

bool
event_add_progress(struct buf *out, uint64_t id, const struct progress *p)
{
	json_t *json = show_progress(p);
	char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	if (text == NULL)
		return false;
	buf_addf(out, "event: progress\nid: %" PRIu64 "\ndata: ", id);
	buf_add_str(out, text);
	buf_add_str(out, "\n\n");
	free(text);
	return buf_ok(out);
}

/* ---- being woken; the source's release ends both before the request goes ---- */

static void
on_news(struct stage_watch *w)
{
	struct event_stream *s =
		(struct event_stream *)((char *)w - offsetof(struct event_stream, watch));

	atomic_store(&s->has_news, true);
	request_wake(s->rq);
}

static void
on_time(struct watch_timer *t)
{
	struct event_stream *s =
		(struct event_stream *)((char *)t - offsetof(struct event_stream, timer));

	watch_timer_set(t, clock_mono_ns() + LOOK_NS);
	request_wake(s->rq);
}

/* ---- the source ---- */

static bool
must_end(struct event_stream *s)
{
	return s->ended || watch_is_stopped() || atomic_load(&s->rq->srv->readiness.draining);
}

/* Put into pending what is to be sent now; false: nothing. A failed buffer is something too. */
static bool
gather(struct event_stream *s)
{
	bool is_silent = clock_mono_ns() - s->sent_ns >= SILENT_NS;

	s->at = 0;
	buf_clear(&s->pending);
	if (atomic_exchange(&s->has_news, false)) {
		enum event_next next = s->o.next(s->o.arg, &s->pending);
		s->ended = next == EVENT_END;
		if (next == EVENT_MORE)
			atomic_store(&s->has_news, true);
	}
	if (s->pending.len == 0 && is_silent)
		buf_add_str(&s->pending, ": keep-alive\n\n");
	return s->pending.len > 0 || !buf_ok(&s->pending);
}

static ssize_t
source_read(void *source, uint8_t *out, size_t max)
{
	struct event_stream *s = source;

	if (s->at == s->pending.len) {
		if (must_end(s))
			return SOURCE_END;
		if (!gather(s))
			return s->ended ? SOURCE_END : SOURCE_LATER;
	}
	if (!buf_ok(&s->pending))
		return SOURCE_ABORT;
	size_t n = s->pending.len - s->at;
	n = n < max ? n : max;
	memcpy(out, s->pending.data + s->at, n);
	s->at += n;
	s->sent_ns = clock_mono_ns();
	return (ssize_t)n;
}

static void
source_release(void *source)
{
	struct event_stream *s = source;

	stage_unwatch(s->rq->srv->stages, &s->watch);
	watch_timer_cancel(&s->timer);
	watch_leave();
	s->o.release(s->o.arg);
	buf_done(&s->pending);
	free(s);
}

/* ---- beginning ---- */

static struct event_stream *
event_stream_new(struct request *rq, const struct event_stream_options *o)
{
	struct event_stream *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->o = *o;
	s->rq = rq;
	s->watch.stage = o->stage;
	s->watch.fn = on_news;
	s->timer.fn = on_time;
	s->sent_ns = clock_mono_ns();
	atomic_init(&s->has_news, true);
	buf_init(&s->pending, EVENT_BYTES_MAX);
	buf_add_str(&s->pending, "retry: 1000\n\n");
	return s;
}

void
event_stream_reply(struct request *rq, const struct event_stream_options *o)
{
	struct err err = ERR_INIT;
	struct event_stream *s = NULL;

	enum rc rc = watch_enter(rq->srv, &err);
	if (rc == RC_OK && (s = event_stream_new(rq, o)) == NULL) {
		watch_leave();
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
	}
	if (s == NULL) {
		o->release(o->arg);
		reply_problem(rq, &err);
		return;
	}
	/* woken too early is harmless: the answer is not yet sent then */
	stage_watch(rq->srv->stages, &s->watch);
	watch_timer_set(&s->timer, clock_mono_ns() + LOOK_NS);
	reply_header(rq, "Cache-Control", "no-store");
	reply_stream(rq, 200, "text/event-stream", UINT64_MAX, source_read, source_release, s);
}
