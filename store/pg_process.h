/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PG_PROCESS_H
#define DG_PG_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "err.h"

/* pg_process: child processes that do not outlive us. Only for pg_*.c.
 *
 * A child gets its own process group (a ctrl-C of the terminal is for us, not for it), a clean
 * environment, default signal handling, no file but 0, 1, 2, and PR_SET_PDEATHSIG: the signal
 * comes when the *thread* that started it ends, so start children from the main thread.
 * SIGCHLD must not be ignored. */

/* Asked while waiting; true means give up. NULL: never. */
typedef bool pg_stop_fn(void *arg);

struct pg_stop {
	pg_stop_fn *fn;
	void *arg;
};

struct pg_command {
	const char *program; /* absolute path */
	char *const *argv;   /* NULL-terminated, argv[0] included */
	int output_fd;       /* becomes 1 and 2 */
	int input_fd;        /* becomes 0; -1: /dev/null */
	int death_signal;
};

struct pg_process {
	pid_t pid; /* 0: none */
	int pidfd; /* readable when it has ended; -1: the kernel gives none, poll instead */
};

/* RC_IO: fork or exec failed. */
enum rc pg_process_start(const struct pg_command *cmd, struct pg_process *p, struct err *err);
/* Wait up to timeout_ms for the end (0: only look). True: it has ended, has been reaped, *status
 * is that of waitpid, and *p is empty. True too if *p was empty. */
bool pg_process_wait(struct pg_process *p, unsigned timeout_ms, int *status);
/* Run to the end with input (at most 4096 bytes) as standard input; the last out_bytes - 1 bytes
 * of its output, NUL-terminated, into out. A child that runs longer than timeout_ms, or when stop
 * says so, is killed, as it is when we end: RC_UNAVAILABLE interrupted. *status is that of waitpid.
 */
struct pg_run {
	const char *input;
	unsigned timeout_ms;
	const struct pg_stop *stop;
	char *out;
	size_t out_bytes;
};
enum rc pg_process_run(const char *program, char *const *argv, const struct pg_run *run,
	int *status, struct err *err);
/* "exit code 1", "signal 9" into out. */
void pg_process_describe(int status, char *out, size_t out_bytes);
bool pg_process_should_stop(const struct pg_stop *stop);

/* A postgres (by its executable) whose working directory is dir: a postmaster of an earlier run
 * that still serves dir. False also for zombies and for processes of other users. */
bool pg_process_is_postmaster_of(pid_t pid, const char *dir);

#endif
