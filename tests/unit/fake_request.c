/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_request.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define PATIENCE_MS 10000

static struct fake *
fake_of(const struct request *rq)
{
	return rq->http;
}

static struct timespec
in_ms(int ms)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

/* ---- workers ---- */

static struct {
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	struct {
		void (*fn)(void *arg);
		void *arg;
	} queue[FAKE_QUEUE];
	size_t head, count;
	int running;
	int refuse;
	bool is_started;
	bool must_stop;
	pthread_t threads[FAKE_WORKERS];
} pool = {.mtx = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *
worker(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&pool.mtx);
	for (;;) {
		while (pool.count == 0 && !pool.must_stop)
			pthread_cond_wait(&pool.changed, &pool.mtx);
		if (pool.count == 0)
			break;
		size_t i = pool.head;
		pool.head = (pool.head + 1) % FAKE_QUEUE;
		pool.count--;
		pool.running++;
		pthread_mutex_unlock(&pool.mtx);
		pool.queue[i].fn(pool.queue[i].arg);
		pthread_mutex_lock(&pool.mtx);
		pool.running--;
		pthread_cond_broadcast(&pool.changed);
	}
	pthread_mutex_unlock(&pool.mtx);
	return NULL;
}

enum rc
request_defer(struct server_ctx *srv, void (*fn)(void *arg), void *arg)
{
	enum rc rc = RC_AGAIN;

	(void)srv;
	pthread_mutex_lock(&pool.mtx);
	for (int i = 0; !pool.is_started && i < FAKE_WORKERS; i++)
		pthread_create(&pool.threads[i], NULL, worker, NULL);
	pool.is_started = true;
	/* half of the ring only: the place of a job is read after the lock was let go */
	if (pool.refuse > 0) {
		pool.refuse--;
	} else if (pool.count < FAKE_QUEUE / 2) {
		size_t i = (pool.head + pool.count++) % FAKE_QUEUE;
		pool.queue[i].fn = fn;
		pool.queue[i].arg = arg;
		pthread_cond_broadcast(&pool.changed);
		rc = RC_OK;
	}
	pthread_mutex_unlock(&pool.mtx);
	return rc;
}

void
fake_refuse_jobs(int n)
{
	pthread_mutex_lock(&pool.mtx);
	pool.refuse = n;
	pthread_mutex_unlock(&pool.mtx);
}

int
fake_jobs(void)
{
	pthread_mutex_lock(&pool.mtx);
	int n = pool.running + (int)pool.count;
	pthread_mutex_unlock(&pool.mtx);
	return n;
}

bool
fake_wait_idle(void)
{
	struct timespec until = in_ms(PATIENCE_MS);
	int e = 0;

	pthread_mutex_lock(&pool.mtx);
	while (pool.running + (int)pool.count > 0 && e != ETIMEDOUT)
		e = pthread_cond_timedwait(&pool.changed, &pool.mtx, &until);
	bool ok = pool.running + pool.count == 0;
	pthread_mutex_unlock(&pool.mtx);
	return ok;
}

void
fake_stop(void)
{
	pthread_mutex_lock(&pool.mtx);
	bool join = pool.is_started;
	pool.must_stop = true;
	pthread_cond_broadcast(&pool.changed);
	pthread_mutex_unlock(&pool.mtx);
	for (int i = 0; join && i < FAKE_WORKERS; i++)
		pthread_join(pool.threads[i], NULL);
	pthread_mutex_lock(&pool.mtx);
	pool.is_started = pool.must_stop = false;
	pthread_mutex_unlock(&pool.mtx);
}

/* ---- making a request ---- */

void
fake_init(struct fake *f, enum method method)
{
	memset(f, 0, sizeof *f);
	pthread_mutex_init(&f->mtx, NULL);
	pthread_cond_init(&f->woken, NULL);
	f->rq.http = f;
	f->rq.srv = &f->srv;
	f->rq.method = method;
	f->rq.target = "/fake";
	f->rq.json = "";
	snprintf(f->rq.id, sizeof f->rq.id, "fake-1");
	f->srv.limits.watchers_max = 100;
	f->srv.version = "0";
}

void
fake_done(struct fake *f)
{
	if (f->release != NULL)
		f->release(f->source);
	free(f->data);
	for (size_t i = 0; i < f->block_count; i++)
		free(f->blocks[i]);
	pthread_cond_destroy(&f->woken);
	pthread_mutex_destroy(&f->mtx);
}

static void
add_pair(struct fake_pair *pairs, size_t *count, const char *name, const char *value)
{
	if (*count == FAKE_PAIRS)
		abort();
	pairs[*count].name = name;
	snprintf(pairs[(*count)++].value, sizeof pairs[0].value, "%s", value);
}

static const char *
find_pair(const struct fake_pair *pairs, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcasecmp(pairs[i].name, name) == 0)
			return pairs[i].value;
	return NULL;
}

void
fake_param(struct fake *f, const char *name, const char *value)
{
	f->rq.params[f->rq.param_count++] =
		(struct request_param){.name = name, .value = value, .len = strlen(value)};
}

void
fake_query(struct fake *f, const char *name, const char *value)
{
	add_pair(f->query, &f->query_count, name, value);
}

void
fake_header(struct fake *f, const char *name, const char *value)
{
	add_pair(f->headers, &f->header_count, name, value);
}

const char *
fake_answer_header(const struct fake *f, const char *name)
{
	return find_pair(f->answer, f->answer_count, name);
}

/* ---- request.h ---- */

const char *
request_header(struct request *rq, const char *name)
{
	return find_pair(fake_of(rq)->headers, fake_of(rq)->header_count, name);
}

const char *
request_query(struct request *rq, const char *name)
{
	return find_pair(fake_of(rq)->query, fake_of(rq)->query_count, name);
}

const struct request_param *
request_param(struct request *rq, const char *name)
{
	for (size_t i = 0; i < rq->param_count; i++)
		if (strcmp(rq->params[i].name, name) == 0)
			return &rq->params[i];
	abort();
}

void *
request_alloc(struct request *rq, size_t bytes)
{
	struct fake *f = fake_of(rq);

	if (f->block_count == sizeof f->blocks / sizeof f->blocks[0])
		abort();
	void *p = calloc(1, bytes);
	if (p == NULL)
		abort();
	f->blocks[f->block_count++] = p;
	return p;
}

bool
reply_is_set(const struct request *rq)
{
	return fake_of(rq)->status != 0;
}

static bool
claim(struct fake *f, int status, const char *type)
{
	f->replies++;
	if (f->status != 0)
		return false;
	f->status = status;
	snprintf(f->type, sizeof f->type, "%s", type != NULL ? type : "");
	return true;
}

bool
reply_take(struct request *rq, int status, const char *type, uint8_t *data, size_t len)
{
	struct fake *f = fake_of(rq);

	if (!claim(f, status, type)) {
		free(data);
		return false;
	}
	f->data = data;
	f->len = len;
	return true;
}

bool
reply_bytes(struct request *rq, int status, const char *type, const void *data, size_t len)
{
	uint8_t *copy = malloc(len + 1);

	if (copy == NULL)
		abort();
	memcpy(copy, data, len);
	return reply_take(rq, status, type, copy, len);
}

bool
reply_empty(struct request *rq, int status)
{
	return claim(fake_of(rq), status, NULL);
}

bool
reply_stream(struct request *rq, int status, const char *type, uint64_t len, source_read_fn *read,
	source_free_fn *release, void *source)
{
	struct fake *f = fake_of(rq);

	if (!claim(f, status, type)) {
		if (release != NULL)
			release(source);
		return false;
	}
	f->is_stream = true;
	f->stream_len = len;
	f->read = read;
	f->release = release;
	f->source = source;
	return true;
}

void
reply_header(struct request *rq, const char *name, const char *fmt, ...)
{
	char value[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof value, fmt, ap);
	va_end(ap);
	add_pair(fake_of(rq)->answer, &fake_of(rq)->answer_count, name, value);
}

void
request_complete(struct request *rq)
{
	struct fake *f = fake_of(rq);

	pthread_mutex_lock(&f->mtx);
	f->completions++;
	pthread_cond_broadcast(&f->woken);
	pthread_mutex_unlock(&f->mtx);
}

void
request_wake(struct request *rq)
{
	struct fake *f = fake_of(rq);

	pthread_mutex_lock(&f->mtx);
	f->wakes++;
	pthread_cond_broadcast(&f->woken);
	pthread_mutex_unlock(&f->mtx);
}

/* ---- playing the HTTP thread ---- */

static bool
wait_wake(struct fake *f, unsigned seen, int wait_ms)
{
	struct timespec until = in_ms(wait_ms);
	int e = 0;

	pthread_mutex_lock(&f->mtx);
	while (f->wakes == seen && e != ETIMEDOUT)
		e = pthread_cond_timedwait(&f->woken, &f->mtx, &until);
	bool ok = f->wakes != seen;
	pthread_mutex_unlock(&f->mtx);
	return ok;
}

size_t
fake_pull(struct fake *f, uint8_t *out, size_t max, size_t piece, int wait_ms, ssize_t *last)
{
	size_t got = 0;

	*last = 0;
	if (!f->is_stream) {
		got = f->len < max ? f->len : max;
		if (got > 0)
			memcpy(out, f->data, got);
		*last = SOURCE_END;
		return got;
	}
	while (got < max) {
		pthread_mutex_lock(&f->mtx);
		unsigned seen = f->wakes;
		pthread_mutex_unlock(&f->mtx);
		size_t want = max - got < piece ? max - got : piece;
		ssize_t n = f->read(f->source, out + got, want);
		if (n > 0)
			got += (size_t)n;
		else if (n != SOURCE_LATER || !wait_wake(f, seen, wait_ms)) {
			*last = n;
			break;
		}
	}
	return got;
}

bool
fake_wait_complete(struct fake *f)
{
	struct timespec until = in_ms(PATIENCE_MS);
	int e = 0;

	pthread_mutex_lock(&f->mtx);
	while (f->completions == 0 && e != ETIMEDOUT)
		e = pthread_cond_timedwait(&f->woken, &f->mtx, &until);
	bool ok = f->completions == 1;
	pthread_mutex_unlock(&f->mtx);
	return ok;
}

json_t *
fake_json(const struct fake *f)
{
	return f->data != NULL ? json_loadb((const char *)f->data, f->len, 0, NULL) : NULL;
}

const char *
fake_kind(const struct fake *f)
{
	static char kind[64];
	json_t *json = fake_json(f);
	const char *type = json_string_value(json_object_get(json, "type"));
	const char *slug = type != NULL ? strrchr(type, ':') : NULL;

	snprintf(kind, sizeof kind, "%s", slug != NULL ? slug + 1 : "none");
	json_decref(json);
	return kind;
}
