/* SPDX-License-Identifier: Apache-2.0 */
#include "squeezer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "background.h"
#include "clock.h"
#include "codec.h"
#include "cond.h"

#define NAP_NS_MIN ((uint64_t)2 * 1000000) /* shorter ones cost more than they give */
#define NAP_NS_MAX ((uint64_t)20 * 1000000)

struct squeezer_thread {
	struct squeezer *s;
	pthread_t thread;
	/* owned by the thread */
	struct codec *codec;
	uint64_t cpu_seen_ns; /* of this thread, already counted */
	uint64_t owed_ns;     /* time to be idle for what was used */
};

struct squeezer {
	/* immutable after open */
	struct squeezer_options options;
	unsigned thread_count;
	struct squeezer_thread threads[SQUEEZER_THREADS_MAX];

	/* any thread */
	atomic_bool held;
	atomic_bool dropping; /* or the end */
	_Atomic uint64_t cpu_ns;
	_Atomic uint64_t stops;
	atomic_bool refused; /* a thread did not get its priority */

	/* guarded by mtx */
	pthread_mutex_t mtx;
	pthread_cond_t work; /* something to do, or the end */
	pthread_cond_t done; /* a piece is done, or nobody works any more */
	struct squeeze_piece *queue, **queue_end;
	unsigned working;
	bool stop;
};

/* ---- a thread ---- */

static void
count_cpu(struct squeezer_thread *t)
{
	uint64_t now = clock_thread_cpu_ns();
	uint64_t used = now - t->cpu_seen_ns;
	unsigned duty = t->s->options.duty_percent;

	t->cpu_seen_ns = now;
	t->owed_ns += used * (100 - duty) / duty;
	atomic_fetch_add_explicit(&t->s->cpu_ns, used, memory_order_relaxed);
}

static bool
must_let_go(const struct squeezer *s)
{
	return atomic_load_explicit(&s->held, memory_order_relaxed) ||
	       atomic_load_explicit(&s->dropping, memory_order_relaxed);
}

/* Be idle for what was used; in short naps, so that nobody waits for the end of a long one. */
static void
pay(struct squeezer_thread *t)
{
	while (t->owed_ns >= NAP_NS_MIN && !must_let_go(t->s)) {
		uint64_t ns = t->owed_ns < NAP_NS_MAX ? t->owed_ns : NAP_NS_MAX;
		struct timespec nap = {.tv_nsec = (long)ns};
		nanosleep(&nap, NULL);
		t->owed_ns -= ns;
	}
}

static bool
may_go_on(void *arg)
{
	struct squeezer_thread *t = arg;

	count_cpu(t);
	pay(t);
	return !must_let_go(t->s);
}

/* false: it had to let go. Without memory the piece stays raw. */
static bool
squeeze(struct squeezer_thread *t, struct squeeze_piece *p)
{
	struct err ignored = ERR_INIT;
	struct codec_steps steps = {
		.level = t->s->options.level,
		.src = p->raw,
		.src_len = p->raw_bytes,
		.dst = p->out,
		.dst_cap = p->out_cap,
		.go_on = may_go_on,
		.arg = t,
	};

	p->out_bytes = 0;
	if (t->codec == NULL && codec_open_mapped(&t->codec, &ignored) != RC_OK)
		return true;
	p->out_bytes = codec_compress_steps(t->codec, &steps);
	count_cpu(t);
	return !steps.stopped;
}

static void
release(struct squeezer_thread *t)
{
	codec_free(t->codec);
	t->codec = NULL;
	background_give_memory();
}

/* mtx is held, and given up while there is nothing to do. NULL: the end. */
static struct squeeze_piece *
take(struct squeezer_thread *t)
{
	struct squeezer *s = t->s;

	for (;;) {
		if (s->stop)
			return NULL;
		struct squeeze_piece *p = s->queue;
		if (p != NULL && !must_let_go(s)) {
			s->queue = p->next;
			if (s->queue == NULL)
				s->queue_end = &s->queue;
			s->working++;
			return p;
		}
		if (t->codec == NULL) {
			pthread_cond_wait(&s->work, &s->mtx);
			continue;
		}
		uint64_t until = clock_mono_ns() + (uint64_t)s->options.release_ms * 1000000u;
		if (cond_wait_until(&s->work, &s->mtx, until) == 0)
			continue;
		pthread_mutex_unlock(&s->mtx);
		release(t);
		pthread_mutex_lock(&s->mtx);
	}
}

static void *
squeezer_main(void *arg)
{
	struct squeezer_thread *t = arg;
	struct squeezer *s = t->s;
	struct squeeze_piece *p;

	if (!background_enter())
		atomic_store(&s->refused, true);
	t->cpu_seen_ns = clock_thread_cpu_ns();
	pthread_mutex_lock(&s->mtx);
	while ((p = take(t)) != NULL) {
		pthread_mutex_unlock(&s->mtx);
		bool whole = squeeze(t, p);
		pthread_mutex_lock(&s->mtx);
		s->working--;
		p->is_done = whole;
		if (!whole) {
			atomic_fetch_add_explicit(&s->stops, 1, memory_order_relaxed);
			p->next = s->queue;
			if (s->queue == NULL)
				s->queue_end = &p->next;
			s->queue = p;
		}
		pthread_cond_broadcast(&s->done);
	}
	pthread_mutex_unlock(&s->mtx);
	release(t);
	return NULL;
}

/* ---- the caller ---- */

static void
init_conds(struct squeezer *s)
{

	pthread_mutex_init(&s->mtx, NULL);
	cond_init(&s->work);
	cond_init(&s->done);
}

enum rc
squeezer_open(const struct squeezer_options *options, struct squeezer **out, struct err *err)
{
	*out = NULL;
	if (options->threads < 1 || options->threads > SQUEEZER_THREADS_MAX ||
		options->duty_percent < 1 || options->duty_percent > 100)
		return err_set(err, RC_INVALID, NULL, "squeezer: a number is out of range");
	struct squeezer *s = calloc(1, sizeof *s);
	if (s == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	s->options = *options;
	s->queue_end = &s->queue;
	init_conds(s);
	for (; s->thread_count < options->threads; s->thread_count++) {
		struct squeezer_thread *t = &s->threads[s->thread_count];
		t->s = s;
		int e = pthread_create(&t->thread, NULL, squeezer_main, t);
		if (e != 0) {
			squeezer_free(s);
			return err_errno(err, e, "start a background thread", NULL);
		}
	}
	*out = s;
	return RC_OK;
}

void
squeezer_free(struct squeezer *s)
{
	if (s == NULL)
		return;
	atomic_store(&s->dropping, true);
	pthread_mutex_lock(&s->mtx);
	s->stop = true;
	pthread_cond_broadcast(&s->work);
	pthread_mutex_unlock(&s->mtx);
	for (unsigned i = 0; i < s->thread_count; i++)
		pthread_join(s->threads[i].thread, NULL);
	pthread_cond_destroy(&s->work);
	pthread_cond_destroy(&s->done);
	pthread_mutex_destroy(&s->mtx);
	free(s);
}

void
squeezer_submit(struct squeezer *s, struct squeeze_piece *p)
{
	p->next = NULL;
	p->is_done = false;
	pthread_mutex_lock(&s->mtx);
	*s->queue_end = p;
	s->queue_end = &p->next;
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->mtx);
}

bool
squeezer_wait(struct squeezer *s, const struct squeeze_piece *p, unsigned timeout_ms)
{
	uint64_t until = clock_mono_ns() + (uint64_t)timeout_ms * 1000000u;
	int e = 0;

	pthread_mutex_lock(&s->mtx);
	while (!p->is_done && e == 0)
		e = cond_wait_until(&s->done, &s->mtx, until);
	bool is_done = p->is_done;
	pthread_mutex_unlock(&s->mtx);
	return is_done;
}

void
squeezer_hold(struct squeezer *s, bool hold)
{
	atomic_store(&s->held, hold);
	if (hold)
		return;
	pthread_mutex_lock(&s->mtx);
	pthread_cond_broadcast(&s->work);
	pthread_mutex_unlock(&s->mtx);
}

void
squeezer_drop(struct squeezer *s)
{
	pthread_mutex_lock(&s->mtx);
	atomic_store(&s->dropping, true);
	s->queue = NULL;
	s->queue_end = &s->queue;
	while (s->working > 0)
		pthread_cond_wait(&s->done, &s->mtx);
	/* what was let go of has gone back to the queue */
	s->queue = NULL;
	s->queue_end = &s->queue;
	atomic_store(&s->dropping, false);
	pthread_mutex_unlock(&s->mtx);
}

void
squeezer_stats(struct squeezer *s, struct squeezer_stats *out)
{
	*out = (struct squeezer_stats){
		.cpu_ns = atomic_load(&s->cpu_ns),
		.stops = atomic_load(&s->stops),
		.is_background = !atomic_load(&s->refused),
	};
	pthread_mutex_lock(&s->mtx);
	out->working = s->working;
	pthread_mutex_unlock(&s->mtx);
}
