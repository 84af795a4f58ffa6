/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_WORK_H
#define DG_WORK_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

/* work: a fixed number of threads that run short blocking jobs in the order they came.
 *
 * The operations of api/ wait for SQL and disk here, so that the HTTP threads never wait.
 * Two ways in: work_submit is bounded and may refuse; work_push takes an item that its caller owns,
 * cannot fail, and is for jobs of which there is never more than one per accepted request.
 * Threads: any. The one lock is held for a few instructions, never while a job runs. */

/* Opaque types. */
struct work;

typedef void work_fn(void *arg);

/* Memory for one queued job, inside the caller's own object; untouched by work once fn runs. */
struct work_item {
	work_fn *fn;
	void *arg;
	struct work_item *next;
};

struct work_options {
	int threads;       /* 1 or more */
	size_t queue_max;  /* jobs that may wait before work_submit refuses */
	const void *owner; /* work_find() finds the pool by it; may be NULL */
};

struct work_stats {
	size_t queued;  /* jobs that wait */
	size_t running; /* jobs that run */
	unsigned long refused;
};

/* Start the threads. RC_NOMEM, RC_IO: nothing runs, *out is NULL. */
enum rc work_open(const struct work_options *o, struct work **out, struct err *err);
/* Run fn(arg) soon. RC_AGAIN: queue_max jobs wait already, or the pool is being drained. RC_NOMEM.
 */
enum rc work_submit(struct work *w, work_fn *fn, void *arg);
/* Run item->fn(item->arg) soon, however many wait. item is borrowed until fn is called. After
 * work_drain the caller's thread runs it at once. */
void work_push(struct work *w, struct work_item *item);
/* queue_max jobs wait, or the pool is being drained: a caller that can still say no should. Counts
 * as a refusal. */
bool work_is_full(struct work *w);
/* The pool opened with this owner, or NULL. Borrowed until its work_free. */
struct work *work_find(const void *owner);
struct work_stats work_stats(struct work *w);
/* Refuse new submissions, run what waits, join the threads. Blocks. May be called twice. */
void work_drain(struct work *w);
/* work_drain, then free. NULL is allowed. */
void work_free(struct work *w);

#endif
