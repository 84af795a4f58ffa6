/* SPDX-License-Identifier: Apache-2.0 */
#include "watch.h"

#include <pthread.h>
#include <time.h>

#include "clock.h"
#include "cond.h"

/* The timers are a plain list: there are at most a few thousand, one of them a request, and only
 * the timer thread ever looks through it. Those that are to run at once stand in front. */
static struct {
	pthread_once_t once;
	pthread_mutex_t mtx;
	pthread_cond_t changed; /* for the thread */
	pthread_cond_t idle;    /* a function has returned */
	/* guarded by mtx */
	struct watch_timer timers; /* ring */
	struct watch_timer *calling;
	size_t watchers;
	bool is_running;
	bool is_stopped;
	pthread_t thread;
} hub = {.once = PTHREAD_ONCE_INIT};

static void
hub_init(void)
{

	pthread_mutex_init(&hub.mtx, NULL);
	cond_init(&hub.changed);
	pthread_cond_init(&hub.idle, NULL);
	hub.timers.next = hub.timers.prev = &hub.timers;
}

static void
hub_lock(void)
{
	pthread_once(&hub.once, hub_init);
	pthread_mutex_lock(&hub.mtx);
}

static void
hub_unlock(void)
{
	pthread_mutex_unlock(&hub.mtx);
}

/* ---- list, with the lock held ---- */

static void
unlist(struct watch_timer *t)
{
	if (!t->is_listed)
		return;
	t->prev->next = t->next;
	t->next->prev = t->prev;
	t->is_listed = false;
}

static void
enlist(struct watch_timer *t, uint64_t due_ns)
{
	struct watch_timer *before = due_ns == 0 ? &hub.timers : hub.timers.prev;

	t->due_ns = due_ns;
	t->is_listed = true;
	t->prev = before;
	t->next = before->next;
	before->next->prev = t;
	before->next = t;
}

/* One that is due, or NULL and in *next_ns when one will be. */
static struct watch_timer *
find_due(uint64_t *next_ns)
{
	uint64_t now = clock_mono_ns();

	*next_ns = UINT64_MAX;
	for (struct watch_timer *t = hub.timers.next; t != &hub.timers; t = t->next) {
		if (t->due_ns <= now || hub.is_stopped)
			return t;
		if (t->due_ns < *next_ns)
			*next_ns = t->due_ns;
	}
	return NULL;
}

/* ---- the thread ---- */

static void
sleep_until(uint64_t due_ns)
{
	if (due_ns == UINT64_MAX) {
		pthread_cond_wait(&hub.changed, &hub.mtx);
		return;
	}
	cond_wait_until(&hub.changed, &hub.mtx, due_ns);
}

static void *
thread_main(void *arg)
{
	(void)arg;
	hub_lock();
	for (;;) {
		uint64_t next_ns;
		struct watch_timer *t = find_due(&next_ns);
		if (t == NULL && hub.is_stopped)
			break;
		if (t == NULL) {
			sleep_until(next_ns);
			continue;
		}
		unlist(t);
		hub.calling = t;
		hub_unlock();
		t->fn(t);
		hub_lock();
		hub.calling = NULL;
		pthread_cond_broadcast(&hub.idle);
	}
	hub_unlock();
	return NULL;
}

/* ---- timers ---- */

bool
watch_timer_set(struct watch_timer *t, uint64_t due_ns)
{
	hub_lock();
	unlist(t);
	if (!hub.is_stopped && !hub.is_running)
		hub.is_running = pthread_create(&hub.thread, NULL, thread_main, NULL) == 0;
	bool ok = hub.is_running && !hub.is_stopped;
	if (ok) {
		enlist(t, due_ns);
		pthread_cond_signal(&hub.changed);
	}
	hub_unlock();
	return ok;
}

void
watch_timer_hurry(struct watch_timer *t)
{
	hub_lock();
	if (t->is_listed) {
		unlist(t);
		enlist(t, 0);
		pthread_cond_signal(&hub.changed);
	}
	hub_unlock();
}

void
watch_timer_cancel(struct watch_timer *t)
{
	hub_lock();
	unlist(t);
	bool is_own = hub.is_running && pthread_equal(hub.thread, pthread_self());
	while (hub.calling == t && !is_own)
		pthread_cond_wait(&hub.idle, &hub.mtx);
	unlist(t); /* fn may have set it again */
	hub_unlock();
}

/* ---- watchers ---- */

enum rc
watch_enter(const struct server_ctx *srv, struct err *err)
{
	enum rc rc = RC_OK;

	hub_lock();
	if (hub.is_stopped)
		rc = err_set(err, RC_UNAVAILABLE, "shutting-down", "the server is shutting down");
	else if (hub.watchers >= srv->limits.watchers_max)
		rc = err_set(err, RC_AGAIN, "overloaded",
			"%zu long polls and event streams are open, which is as many as may be",
			hub.watchers);
	else
		hub.watchers++;
	hub_unlock();
	return rc;
}

void
watch_leave(void)
{
	hub_lock();
	hub.watchers--;
	hub_unlock();
}

size_t
watch_count(void)
{
	hub_lock();
	size_t n = hub.watchers;
	hub_unlock();
	return n;
}

void
watch_stop(void)
{
	hub_lock();
	bool join = hub.is_running && !hub.is_stopped;
	hub.is_stopped = true;
	pthread_cond_signal(&hub.changed);
	hub_unlock();
	if (!join)
		return;
	pthread_join(hub.thread, NULL);
	hub_lock();
	hub.is_running = false;
	hub_unlock();
}

bool
watch_is_stopped(void)
{
	hub_lock();
	bool is_stopped = hub.is_stopped;
	hub_unlock();
	return is_stopped;
}
