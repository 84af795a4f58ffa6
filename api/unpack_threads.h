/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_UNPACK_THREADS_H
#define DG_UNPACK_THREADS_H

#include <stdbool.h>

#include "err.h"
#include "services.h"

/* unpack_threads: threads for jobs that wait for clients, each for as long as it takes.
 *
 * Unpacking an archive blocks on its body, so it cannot be work for the operations' workers. At
 * most limits.archive_threads_max jobs run at the same time; the others wait in line, and what they
 * would have read waits at the client. A thread is started when there is a job for it and ends when
 * there is none. One server a process: the line is a static. Threads: any; the lock is held for a
 * few instructions and never while a job runs. */

/* One job, inside the caller's own object; untouched once run or refuse was called. */
struct unpack_job {
	/* Do it. May block. */
	void (*run)(struct unpack_job *job);
	/* It will not be run: there are no threads any more. Quick. */
	void (*refuse)(struct unpack_job *job, const struct err *err);
	/* the line's own */
	struct unpack_job *next;
	bool waits;
};

/* Before the first job. */
enum rc unpack_threads_start(struct server_ctx *srv, struct err *err);
/* Refuse the jobs that wait and those that come, and wait for those that run: whoever they wait for
 * must be gone. Blocks. */
void unpack_threads_stop(struct server_ctx *srv);

/* Jobs that run now. */
unsigned unpack_threads_running(void);

/* Run job soon, or refuse it. Either may have happened when this returns. */
void unpack_threads_push(struct unpack_job *job);
/* Take a job that still waits out of the line; then neither function is called. false: it is too
 * late. */
bool unpack_threads_take_back(struct unpack_job *job);

#endif
