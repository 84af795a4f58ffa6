/* SPDX-License-Identifier: Apache-2.0 */
#include "unpack_threads.h"

#include <pthread.h>

static struct {
	pthread_mutex_t mtx;
	pthread_cond_t idle; /* running became 0 */
	/* guarded by mtx */
	struct unpack_job *head;
	struct unpack_job **tail;
	unsigned running;
	unsigned running_max;
	bool open;
} line = {
	.mtx = PTHREAD_MUTEX_INITIALIZER,
	.idle = PTHREAD_COND_INITIALIZER,
	.tail = &line.head,
};

/* The functions below are called with the lock held. */

static void
enter(struct unpack_job *job)
{
	job->next = NULL;
	job->waits = true;
	*line.tail = job;
	line.tail = &job->next;
}

static bool
leave(struct unpack_job *job)
{
	if (!job->waits)
		return false;
	struct unpack_job **at = &line.head;
	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	if (line.tail == &job->next)
		line.tail = at;
	job->waits = false;
	return true;
}

static void *
thread_main(void *arg)
{
	struct unpack_job *job = arg;

	while (job != NULL) {
		job->run(job);
		pthread_mutex_lock(&line.mtx);
		job = line.head;
		if (job != NULL)
			leave(job);
		else if (--line.running == 0)
			pthread_cond_broadcast(&line.idle);
		pthread_mutex_unlock(&line.mtx);
	}
	return NULL;
}

/* A thread that begins with job. */
static bool
start_thread(struct unpack_job *job)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, thread_main, job) != 0)
		return false;
	pthread_detach(thread);
	line.running++;
	return true;
}

enum rc
unpack_threads_start(struct server_ctx *srv, struct err *err)
{
	(void)err;
	pthread_mutex_lock(&line.mtx);
	line.running_max =
		srv->limits.archive_threads_max > 0 ? srv->limits.archive_threads_max : 1;
	line.open = true;
	pthread_mutex_unlock(&line.mtx);
	return RC_OK;
}

unsigned
unpack_threads_running(void)
{
	pthread_mutex_lock(&line.mtx);
	unsigned running = line.running;
	pthread_mutex_unlock(&line.mtx);
	return running;
}

static void
set_stopping(struct err *err)
{
	err_set(err, RC_UNAVAILABLE, "shutting-down", "the server is shutting down");
}

void
unpack_threads_stop(struct server_ctx *srv)
{
	struct unpack_job *waiting;
	struct err err = ERR_INIT;

	(void)srv;
	pthread_mutex_lock(&line.mtx);
	line.open = false;
	waiting = line.head;
	line.head = NULL;
	line.tail = &line.head;
	for (struct unpack_job *job = waiting; job != NULL; job = job->next)
		job->waits = false;
	pthread_mutex_unlock(&line.mtx);
	set_stopping(&err);
	while (waiting != NULL) {
		struct unpack_job *next = waiting->next;
		waiting->refuse(waiting, &err);
		waiting = next;
	}
	pthread_mutex_lock(&line.mtx);
	while (line.running > 0)
		pthread_cond_wait(&line.idle, &line.mtx);
	pthread_mutex_unlock(&line.mtx);
}

void
unpack_threads_push(struct unpack_job *job)
{
	struct err err = ERR_INIT;

	pthread_mutex_lock(&line.mtx);
	job->waits = false;
	if (!line.open)
		set_stopping(&err);
	else if (line.running == line.running_max || (!start_thread(job) && line.running > 0))
		enter(job); /* a thread that runs will come to it */
	else if (line.running == 0)
		err_set(&err, RC_NOMEM, "no-memory", "no thread could be started");
	pthread_mutex_unlock(&line.mtx);
	if (err.rc != RC_OK)
		job->refuse(job, &err);
}

bool
unpack_threads_take_back(struct unpack_job *job)
{
	pthread_mutex_lock(&line.mtx);
	bool taken = leave(job);
	pthread_mutex_unlock(&line.mtx);
	return taken;
}
