/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "watch.h"

/* A producer of archives may give a little more than was wanted. */
#define SLACK_BYTES ((size_t)1 << 20)

/* Who holds how much is decided when a piece is filled: many slow clients get small pieces. */
static const struct {
	size_t held; /* by all streams, at most */
	size_t piece;
} sizes[] = {
	{(size_t)64 << 20, (size_t)512 << 10},
	{(size_t)192 << 20, (size_t)128 << 10},
	{SIZE_MAX, (size_t)32 << 10},
};

static atomic_size_t held_bytes;
static atomic_size_t stream_count;

struct piece {
	struct buf data;
	size_t at; /* sent so far */
};

struct stream {
	/* immutable */
	struct stream_options o;
	struct server_ctx *srv;
	char id[REQUEST_ID_BYTES];
	struct watch_timer retry;

	pthread_mutex_t mtx;
	/* guarded by mtx; the pieces themselves belong to the HTTP thread (ready ones) and to the
	 * job (the next one) */
	struct request *rq; /* NULL once the source was released */
	unsigned refs;      /* the source, and a job that is queued or runs */
	size_t head;        /* the piece that is sent */
	size_t ready;       /* pieces that are full */
	bool has_job;
	bool ended;
	bool failed;

	struct piece pieces[STREAM_PIECES];
	uint64_t made; /* bytes, by fill */
};

/* ---- filling ---- */

static size_t
piece_bytes(const struct stream *s)
{
	size_t held = atomic_load_explicit(&held_bytes, memory_order_relaxed);
	size_t i = 0;

	while (held > sizes[i].held)
		i++;
	uint64_t left = s->o.bytes == UINT64_MAX ? UINT64_MAX : s->o.bytes - s->made;
	return left < sizes[i].piece ? (size_t)left : sizes[i].piece;
}

/* Room for want bytes more. Memory is kept from one filling to the next, unless pieces have become
 * much smaller meanwhile. */
static bool
piece_reserve(struct piece *p, size_t want)
{
	size_t before = p->data.cap;

	if (p->data.len == 0 && p->data.cap > 2 * want)
		buf_done(&p->data);
	bool ok = buf_reserve(&p->data, want);
	atomic_fetch_add_explicit(&held_bytes, p->data.cap - before, memory_order_relaxed);
	return ok;
}

static void
piece_free(struct piece *p)
{
	atomic_fetch_sub_explicit(&held_bytes, p->data.cap, memory_order_relaxed);
	buf_done(&p->data);
}

/* Call fill once. *is_end: there is nothing more, and what there is is in the piece. */
static enum rc
fill_piece(struct stream *s, struct piece *p, size_t want, bool *is_end, struct err *err)
{
	bool is_sized = s->o.bytes != UINT64_MAX;
	size_t before = p->data.len;
	enum rc rc = RC_OK;

	p->data.max = before + want + (is_sized ? 0 : SLACK_BYTES);
	if (!piece_reserve(p, want))
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	size_t reserved = p->data.cap;
	/* a little less, where a little more may come */
	if (want > 0)
		rc = s->o.fill(s->o.arg, &p->data, is_sized ? want : want - want / 8, err);
	atomic_fetch_add_explicit(&held_bytes, p->data.cap - reserved, memory_order_relaxed);
	if (rc == RC_OK && !buf_ok(&p->data))
		rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
	if (rc != RC_OK)
		return rc;
	size_t got = p->data.len - before;
	if (is_sized && got > want)
		return err_set(err, RC_BUG, "internal", "more bytes were made than asked for");
	s->made += got;
	*is_end = is_sized ? s->made == s->o.bytes : got == 0;
	if (got > 0 || *is_end)
		return RC_OK;
	err_set(err, RC_CORRUPT, "corrupt-data", "the content ends too early");
	return err_detail(err, "after %llu of %llu bytes", (unsigned long long)s->made,
		(unsigned long long)s->o.bytes);
}

static void
log_cut(const struct stream *s, const struct err *err)
{
	log_event(err->rc == RC_CORRUPT ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN, "answer_cut",
		"id=%s after=%llu rc=%s text=\"%s\" detail=\"%s\"", s->id,
		(unsigned long long)s->made, rc_name(err->rc), err->text, err->detail);
}

/* ---- life ---- */

static void
stream_free(struct stream *s)
{
	for (size_t i = 0; i < STREAM_PIECES; i++)
		piece_free(&s->pieces[i]);
	s->o.release(s->o.arg);
	pthread_mutex_destroy(&s->mtx);
	atomic_fetch_sub(&stream_count, 1);
	free(s);
}

/* Give back a reference and the lock. */
static void
unref_and_unlock(struct stream *s)
{
	bool last = --s->refs == 0;

	pthread_mutex_unlock(&s->mtx);
	if (last)
		stream_free(s);
}

static void job(void *arg);

/* With the lock held: the request is there as long as rq is set, and the release of the source,
 * which comes before its end, waits for the lock. */
static void
wake(struct stream *s)
{
	if (s->rq != NULL)
		request_wake(s->rq);
}

/* With the lock held, under which request_defer only queues: have the free piece filled. */
static void
want_job(struct stream *s)
{
	if (s->has_job || s->ended || s->failed || s->ready == STREAM_PIECES)
		return;
	if (request_defer(s->srv, job, s) == RC_OK) {
		s->has_job = true;
		s->refs++;
		return;
	}
	uint64_t then = clock_mono_ns() + STREAM_RETRY_MS * UINT64_C(1000000);
	if (s->ready == 0 && !watch_timer_set(&s->retry, then)) {
		s->failed = true; /* at shutdown: nobody is left who would make more */
		wake(s);
	}
}

static void
job(void *arg)
{
	struct stream *s = arg;
	struct err err = ERR_INIT;
	bool is_end = false;
	enum rc rc = RC_OK;

	pthread_mutex_lock(&s->mtx);
	struct piece *p = &s->pieces[(s->head + s->ready) % STREAM_PIECES];
	bool is_wanted = s->rq != NULL;
	pthread_mutex_unlock(&s->mtx);
	if (is_wanted)
		rc = fill_piece(s, p, piece_bytes(s), &is_end, &err);
	if (rc != RC_OK)
		log_cut(s, &err);
	pthread_mutex_lock(&s->mtx);
	s->has_job = false;
	s->ended |= is_end;
	s->failed |= rc != RC_OK;
	if (is_wanted && rc == RC_OK && p->data.len > 0)
		s->ready++;
	want_job(s);
	wake(s);
	unref_and_unlock(s);
}

static void
on_retry(struct watch_timer *t)
{
	struct stream *s = (struct stream *)((char *)t - offsetof(struct stream, retry));

	pthread_mutex_lock(&s->mtx);
	want_job(s);
	pthread_mutex_unlock(&s->mtx);
}

/* ---- the source ---- */

/* A ready piece to copy from, or NULL and in *answer what to say instead. */
static struct piece *
ready_piece(struct stream *s, ssize_t *answer)
{
	pthread_mutex_lock(&s->mtx);
	want_job(s);
	struct piece *p = s->ready > 0 ? &s->pieces[s->head] : NULL;
	*answer = s->failed ? SOURCE_ABORT : s->ended ? SOURCE_END : SOURCE_LATER;
	pthread_mutex_unlock(&s->mtx);
	return p;
}

static ssize_t
source_read(void *source, uint8_t *out, size_t max)
{
	struct stream *s = source;
	ssize_t answer;
	struct piece *p = ready_piece(s, &answer);

	if (p == NULL)
		return answer;
	size_t n = p->data.len - p->at;
	n = n < max ? n : max;
	memcpy(out, p->data.data + p->at, n);
	p->at += n;
	if (p->at == p->data.len) {
		p->at = 0;
		buf_clear(&p->data);
		pthread_mutex_lock(&s->mtx);
		s->head = (s->head + 1) % STREAM_PIECES;
		s->ready--;
		want_job(s);
		pthread_mutex_unlock(&s->mtx);
	}
	return (ssize_t)n;
}

static void
source_release(void *source)
{
	struct stream *s = source;

	pthread_mutex_lock(&s->mtx);
	s->rq = NULL;
	s->ended = true; /* no more jobs, also by the timer */
	pthread_mutex_unlock(&s->mtx);
	watch_timer_cancel(&s->retry);
	pthread_mutex_lock(&s->mtx);
	unref_and_unlock(s);
}

/* ---- beginning ---- */

static struct stream *
stream_new(struct request *rq, const struct stream_options *o)
{
	struct stream *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->o = *o;
	s->srv = rq->srv;
	s->rq = rq;
	s->refs = 1;
	s->retry.fn = on_retry;
	memcpy(s->id, rq->id, sizeof s->id);
	for (size_t i = 0; i < STREAM_PIECES; i++)
		buf_init(&s->pieces[i].data, 0);
	pthread_mutex_init(&s->mtx, NULL);
	atomic_fetch_add(&stream_count, 1);
	return s;
}

/* Fill the first piece; a body that may be small is looked at until it is over or is not small. */
static enum rc
fill_first(struct stream *s, bool *is_end, struct err *err)
{
	struct piece *p = &s->pieces[0];
	enum rc rc;

	do {
		size_t want = piece_bytes(s);
		if (s->o.bytes == UINT64_MAX && want > STREAM_WHOLE_BYTES)
			want = STREAM_WHOLE_BYTES;
		rc = fill_piece(s, p, want, is_end, err);
	} while (rc == RC_OK && !*is_end && p->data.len <= STREAM_WHOLE_BYTES);
	return rc;
}

enum rc
stream_reply(struct request *rq, int status, const char *content_type,
	const struct stream_options *o, struct err *err)
{
	struct stream *s = stream_new(rq, o);
	bool is_end = false;

	if (s == NULL) {
		o->release(o->arg);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	struct piece *p = &s->pieces[0];
	enum rc rc = fill_first(s, &is_end, err);
	if (rc == RC_OK && is_end && p->data.len <= STREAM_WHOLE_BYTES) {
		size_t len;
		atomic_fetch_sub_explicit(&held_bytes, p->data.cap, memory_order_relaxed);
		uint8_t *data = buf_take(&p->data, &len);
		reply_take(rq, status, content_type, data, len);
		stream_free(s);
		return RC_OK;
	}
	if (rc != RC_OK) {
		stream_free(s);
		return rc;
	}
	s->ready = 1;
	s->ended = is_end;
	reply_stream(rq, status, content_type, s->o.bytes, source_read, source_release, s);
	return RC_OK;
}

struct stream_stats
stream_stats(void)
{
	return (struct stream_stats){
		.streams = atomic_load(&stream_count), .bytes = atomic_load(&held_bytes)};
}
