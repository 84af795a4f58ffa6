/* SPDX-License-Identifier: Apache-2.0 */
#include "body_pipe.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct body_pipe {
	pthread_mutex_t mtx;
	pthread_cond_t more; /* bytes, the end, or a cut */
	/* guarded by mtx; the bytes between are the side's own whose turn they are */
	uint8_t *ring; /* NULL until the reader has come */
	uint64_t in;   /* bytes written so far */
	uint64_t out;  /* bytes the reader has done with */
	bool ended;
	bool stopped;
	bool hungry;             /* the last write was short */
	struct err cut;          /* rc RC_OK: not cut */
	void (*wake)(void *arg); /* NULL: nobody listens */
	void *wake_arg;
	/* the reader's */
	size_t lent; /* bytes of the last read */
};

enum rc
body_pipe_open(void (*wake)(void *arg), void *arg, struct body_pipe **out, struct err *err)
{
	struct body_pipe *p = calloc(1, sizeof *p);

	if (p == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	pthread_mutex_init(&p->mtx, NULL);
	pthread_cond_init(&p->more, NULL);
	p->wake = wake;
	p->wake_arg = arg;
	*out = p;
	return RC_OK;
}

void
body_pipe_free(struct body_pipe *p)
{
	if (p == NULL)
		return;
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->mtx);
	free(p->ring);
	free(p);
}

/* ---- the writer ---- */

static size_t
smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Bytes that can be written in one piece. Under the lock. */
static size_t
room(const struct body_pipe *p)
{
	if (p->ring == NULL)
		return 0;
	return smaller(BODY_PIPE_BYTES - (size_t)(p->in - p->out),
		BODY_PIPE_BYTES - (size_t)(p->in % BODY_PIPE_BYTES));
}

size_t
body_pipe_write(struct body_pipe *p, const uint8_t *data, size_t len)
{
	size_t taken = 0;

	pthread_mutex_lock(&p->mtx);
	while (taken < len && !p->stopped) {
		size_t n = smaller(room(p), len - taken);
		if (n == 0)
			break;
		uint8_t *to = p->ring + p->in % BODY_PIPE_BYTES;
		/* nobody else looks at room that is free */
		pthread_mutex_unlock(&p->mtx);
		memcpy(to, data + taken, n);
		pthread_mutex_lock(&p->mtx);
		p->in += n;
		taken += n;
		pthread_cond_signal(&p->more);
	}
	if (p->stopped)
		taken = len;
	p->hungry = taken < len;
	pthread_mutex_unlock(&p->mtx);
	return taken;
}

void
body_pipe_end(struct body_pipe *p)
{
	pthread_mutex_lock(&p->mtx);
	p->ended = true;
	pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->mtx);
}

void
body_pipe_cut(struct body_pipe *p, const struct err *err)
{
	pthread_mutex_lock(&p->mtx);
	if (!p->ended && p->cut.rc == RC_OK)
		p->cut = *err;
	pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->mtx);
}

void
body_pipe_deafen(struct body_pipe *p)
{
	pthread_mutex_lock(&p->mtx);
	p->wake = NULL;
	pthread_mutex_unlock(&p->mtx);
}

/* ---- the reader ---- */

/* Under the lock, so that the writer can leave for good. */
static void
feed(struct body_pipe *p)
{
	if (!p->hungry)
		return;
	p->hungry = false;
	if (p->wake != NULL)
		p->wake(p->wake_arg);
}

enum rc
body_pipe_attach(struct body_pipe *p, struct err *err)
{
	uint8_t *ring = malloc(BODY_PIPE_BYTES);

	if (ring == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	pthread_mutex_lock(&p->mtx);
	p->ring = ring;
	feed(p);
	pthread_mutex_unlock(&p->mtx);
	return RC_OK;
}

ssize_t
body_pipe_read(struct body_pipe *p, const uint8_t **data, struct err *err)
{
	pthread_mutex_lock(&p->mtx);
	p->out += p->lent;
	p->lent = 0;
	/* not for every byte: a wake costs the HTTP thread a round */
	if (BODY_PIPE_BYTES - (p->in - p->out) >= BODY_PIPE_SPAN_BYTES)
		feed(p);
	while (p->in == p->out && !p->ended && p->cut.rc == RC_OK)
		pthread_cond_wait(&p->more, &p->mtx);
	size_t n = smaller(
		(size_t)(p->in - p->out), BODY_PIPE_BYTES - (size_t)(p->out % BODY_PIPE_BYTES));
	n = smaller(n, BODY_PIPE_SPAN_BYTES);
	bool cut = n == 0 && !p->ended;
	if (cut)
		*err = p->cut;
	else if (n > 0)
		*data = p->ring + p->out % BODY_PIPE_BYTES;
	p->lent = n;
	pthread_mutex_unlock(&p->mtx);
	return cut ? -1 : (ssize_t)n;
}

void
body_pipe_stop(struct body_pipe *p)
{
	pthread_mutex_lock(&p->mtx);
	p->stopped = true;
	feed(p);
	pthread_mutex_unlock(&p->mtx);
}
