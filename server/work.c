/* SPDX-License-Identifier: Apache-2.0 */
#include "work.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "log.h"

/* A submitted job is an item that the pool allocated itself. */
struct owned_item {
	struct work_item item;
	work_fn *fn;
	void *arg;
};

struct work {
	/* immutable after open */
	size_t queue_max;
	const void *owner;
	struct work *next; /* guarded by registry_mtx */
	/* guarded by mtx */
	pthread_mutex_t mtx;
	pthread_cond_t more;
	struct work_item *head;
	struct work_item **tail;
	size_t queued;
	size_t running;
	unsigned long refused;
	bool draining;
	/* owned by the thread that opens and drains */
	int thread_count;
	pthread_t threads[];
};

/* request_defer() knows only the operations' context. A pool names that context as its owner, and
 * this list leads back; it has one entry in a server and a few in tests. */
static pthread_mutex_t registry_mtx = PTHREAD_MUTEX_INITIALIZER;
static struct work *registry;

static void
registry_add(struct work *w)
{
	pthread_mutex_lock(&registry_mtx);
	w->next = registry;
	registry = w;
	pthread_mutex_unlock(&registry_mtx);
}

static void
registry_remove(struct work *w)
{
	pthread_mutex_lock(&registry_mtx);
	for (struct work **p = &registry; *p != NULL; p = &(*p)->next)
		if (*p == w) {
			*p = w->next;
			break;
		}
	pthread_mutex_unlock(&registry_mtx);
}

struct work *
work_find(const void *owner)
{
	struct work *w;

	pthread_mutex_lock(&registry_mtx);
	for (w = registry; w != NULL && w->owner != owner; w = w->next)
		;
	pthread_mutex_unlock(&registry_mtx);
	return w;
}

/* Called with mtx held. */
static void
append(struct work *w, struct work_item *item)
{
	item->next = NULL;
	*w->tail = item;
	w->tail = &item->next;
	w->queued++;
	pthread_cond_signal(&w->more);
}

/* Called with mtx held; waits for a job. NULL: none is left and none will come. */
static struct work_item *
take(struct work *w)
{
	while (w->head == NULL && !w->draining)
		pthread_cond_wait(&w->more, &w->mtx);
	struct work_item *item = w->head;
	if (item == NULL)
		return NULL;
	w->head = item->next;
	if (w->head == NULL)
		w->tail = &w->head;
	w->queued--;
	w->running++;
	return item;
}

static void *
worker_main(void *arg)
{
	struct work *w = arg;
	struct work_item *item;

	pthread_mutex_lock(&w->mtx);
	while ((item = take(w)) != NULL) {
		work_fn *fn = item->fn;
		void *fn_arg = item->arg;
		pthread_mutex_unlock(&w->mtx);
		fn(fn_arg);
		pthread_mutex_lock(&w->mtx);
		w->running--;
	}
	pthread_mutex_unlock(&w->mtx);
	return NULL;
}

enum rc
work_open(const struct work_options *o, struct work **out, struct err *err)
{
	struct work *w;

	*out = NULL;
	w = calloc(1, sizeof *w + (size_t)o->threads * sizeof w->threads[0]);
	if (w == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "no memory for the worker pool");
	w->queue_max = o->queue_max;
	w->owner = o->owner;
	w->tail = &w->head;
	pthread_mutex_init(&w->mtx, NULL);
	pthread_cond_init(&w->more, NULL);
	registry_add(w);
	for (; w->thread_count < o->threads; w->thread_count++) {
		int e = pthread_create(&w->threads[w->thread_count], NULL, worker_main, w);
		if (e != 0) {
			work_free(w);
			return err_errno(err, e, "start a worker thread", NULL);
		}
	}
	*out = w;
	return RC_OK;
}

static void
run_owned(void *arg)
{
	struct owned_item *o = arg;
	work_fn *fn = o->fn;
	void *fn_arg = o->arg;

	free(o);
	fn(fn_arg);
}

enum rc
work_submit(struct work *w, work_fn *fn, void *arg)
{
	struct owned_item *o = malloc(sizeof *o);

	if (o == NULL)
		return RC_NOMEM;
	*o = (struct owned_item){.item = {run_owned, o, NULL}, .fn = fn, .arg = arg};
	pthread_mutex_lock(&w->mtx);
	bool ok = !w->draining && w->queued < w->queue_max;
	if (ok)
		append(w, &o->item);
	else
		w->refused++;
	pthread_mutex_unlock(&w->mtx);
	if (!ok)
		free(o);
	return ok ? RC_OK : RC_AGAIN;
}

void
work_push(struct work *w, struct work_item *item)
{
	pthread_mutex_lock(&w->mtx);
	bool late = w->draining;
	if (!late)
		append(w, item);
	pthread_mutex_unlock(&w->mtx);
	if (late)
		item->fn(item->arg);
}

bool
work_is_full(struct work *w)
{
	pthread_mutex_lock(&w->mtx);
	bool full = w->draining || w->queued >= w->queue_max;
	if (full)
		w->refused++;
	pthread_mutex_unlock(&w->mtx);
	return full;
}

struct work_stats
work_stats(struct work *w)
{
	pthread_mutex_lock(&w->mtx);
	struct work_stats s = {w->queued, w->running, w->refused};
	pthread_mutex_unlock(&w->mtx);
	return s;
}

void
work_drain(struct work *w)
{
	pthread_mutex_lock(&w->mtx);
	w->draining = true;
	pthread_cond_broadcast(&w->more);
	pthread_mutex_unlock(&w->mtx);
	for (int i = 0; i < w->thread_count; i++)
		pthread_join(w->threads[i], NULL);
	w->thread_count = 0;
	if (w->head != NULL)
		bug("jobs left in a drained pool");
}

void
work_free(struct work *w)
{
	if (w == NULL)
		return;
	work_drain(w);
	registry_remove(w);
	pthread_cond_destroy(&w->more);
	pthread_mutex_destroy(&w->mtx);
	free(w);
}
