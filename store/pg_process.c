/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

#define REPORT_FD   3  /* in the child: where a failed exec is told */
#define LOW_FDS     10 /* the child moves what it needs above these first */
#define POLL_MS     20
#define INPUT_BYTES 4096u /* fits any pipe, so writing it before the child reads cannot block */
#define KILL_MS     5000u

/* LC_ALL=C: we read the messages, and the private cluster must not depend on the system's locale.
 * No PG* variable of ours may reach the server. */
static char *const child_env[] = {
	(char[]){"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	(char[]){"LC_ALL=C"},
	(char[]){"TZ=UTC"},
	NULL,
};

static void
close_above(int first, int fd_max)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned)first, UINT_MAX, 0u) == 0)
		return;
#endif
	for (int fd = first; fd < fd_max; fd++)
		close(fd);
}

/* In the child, between fork and exec: only async-signal-safe calls. */
static void
become(const struct pg_command *cmd, pid_t parent, int report_fd, int fd_max)
{
	struct sigaction sa = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		sigaction(s, &sa, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, cmd->death_signal);
	if (getppid() != parent) /* it died before the line above took effect */
		_exit(127);

	int in = cmd->input_fd >= 0 ? fcntl(cmd->input_fd, F_DUPFD, LOW_FDS)
				    : open("/dev/null", O_RDONLY);
	int out = fcntl(cmd->output_fd, F_DUPFD, LOW_FDS);
	int report = fcntl(report_fd, F_DUPFD, LOW_FDS);
	if (dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(out, 2) == 2 &&
		dup2(report, REPORT_FD) == REPORT_FD) {
		fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
		close_above(REPORT_FD + 1, fd_max);
		execve(cmd->program, cmd->argv, child_env);
	}
	int why = errno;
	if (write(REPORT_FD, &why, sizeof why) < 0)
		_exit(126);
	_exit(127);
}

static int
open_pidfd(pid_t pid)
{
#ifdef SYS_pidfd_open
	int fd = (int)syscall(SYS_pidfd_open, pid, 0u);
	if (fd >= 0)
		return fd; /* close-on-exec by itself */
#endif
	return -1;
}

static void
reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

enum rc
pg_process_start(const struct pg_command *cmd, struct pg_process *p, struct err *err)
{
	int report[2];
	int why = 0;
	struct rlimit files = {.rlim_cur = 1024};

	*p = (struct pg_process){.pidfd = -1};
	getrlimit(RLIMIT_NOFILE, &files);
	if (pipe2(report, O_CLOEXEC) != 0)
		return err_errno(err, errno, "start a program", cmd->program);
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid == 0)
		become(cmd, parent, report[1],
			files.rlim_cur > 65536 ? 65536 : (int)files.rlim_cur);
	if (pid < 0)
		why = errno;
	close(report[1]);
	ssize_t n = 0;
	while (pid > 0 && (n = read(report[0], &why, sizeof why)) < 0 && errno == EINTR)
		;
	close(report[0]);
	if (why != 0) {
		if (pid > 0)
			reap(pid);
		return err_errno(err, why, "start a program", cmd->program);
	}
	p->pid = pid;
	p->pidfd = open_pidfd(pid);
	return RC_OK;
}

static void
forget(struct pg_process *p)
{
	if (p->pidfd >= 0)
		close(p->pidfd);
	*p = (struct pg_process){.pidfd = -1};
}

bool
pg_process_wait(struct pg_process *p, unsigned timeout_ms, int *status)
{
	uint64_t deadline_ns = clock_mono_ns() + (uint64_t)timeout_ms * 1000000;

	if (p->pid <= 0)
		return true;
	for (;;) {
		pid_t got = waitpid(p->pid, status, WNOHANG);
		if (got == p->pid || (got < 0 && errno == ECHILD)) {
			if (got < 0)
				*status = 0; /* somebody else reaped it */
			forget(p);
			return true;
		}
		uint64_t now = clock_mono_ns();
		if (now >= deadline_ns)
			return false;
		uint64_t left_ms = (deadline_ns - now + 999999) / 1000000;
		struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};
		poll(&fd, 1, p->pidfd >= 0 ? (int)left_ms : POLL_MS);
	}
}

bool
pg_process_should_stop(const struct pg_stop *stop)
{
	return stop != NULL && stop->fn != NULL && stop->fn(stop->arg);
}

void
pg_process_describe(int status, char *out, size_t out_bytes)
{
	if (WIFSIGNALED(status))
		snprintf(out, out_bytes, "signal %d", WTERMSIG(status));
	else
		snprintf(out, out_bytes, "exit code %d", WEXITSTATUS(status));
}

/* Keep the last bytes only: the reason of a failure stands at the end. */
static void
keep_tail(const struct pg_run *run, size_t *len, const char *data, size_t n)
{
	size_t room = run->out_bytes - 1;

	if (n > room) {
		data += n - room;
		n = room;
	}
	if (*len + n > room) {
		size_t drop = *len + n - room;
		memmove(run->out, run->out + drop, *len - drop);
		*len -= drop;
	}
	memcpy(run->out + *len, data, n);
	*len += n;
	run->out[*len] = '\0';
}

/* Read until the end of the output; false: too long, or told to stop. */
static bool
drain(int fd, const struct pg_run *run)
{
	uint64_t deadline_ns = clock_mono_ns() + (uint64_t)run->timeout_ms * 1000000;
	char part[4096];
	size_t len = 0;

	run->out[0] = '\0';
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int ready = poll(&p, 1, POLL_MS);
		if (ready > 0) {
			ssize_t n = read(fd, part, sizeof part);
			if (n == 0)
				return true;
			if (n > 0)
				keep_tail(run, &len, part, (size_t)n);
		}
		if (clock_mono_ns() >= deadline_ns || pg_process_should_stop(run->stop))
			return false;
	}
}

/* The whole group, because initdb has children; at once, because nothing it made will be used and
 * tidying up is ours. */
static void
end_group(struct pg_process *p, int *status)
{
	kill(-p->pid, SIGKILL);
	pg_process_wait(p, KILL_MS, status);
}

static void
close_pair(int fds[2])
{
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

enum rc
pg_process_run(const char *program, char *const *argv, const struct pg_run *run, int *status,
	struct err *err)
{
	int in[2] = {-1, -1};
	int out[2] = {-1, -1};
	struct pg_process p;
	size_t input_bytes = run->input != NULL ? strlen(run->input) : 0;
	enum rc rc;

	if (input_bytes > INPUT_BYTES)
		return err_set(err, RC_BUG, NULL, "too much input for %s", program);
	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 ||
		(input_bytes > 0 && write(in[1], run->input, input_bytes) < 0)) {
		rc = err_errno(err, errno, "start a program", program);
		goto out;
	}
	struct pg_command cmd = {.program = program,
		.argv = argv,
		.output_fd = out[1],
		.input_fd = in[0],
		.death_signal = SIGKILL};
	rc = pg_process_start(&cmd, &p, err);
	if (rc != RC_OK)
		goto out;
	/* our copies, or neither side would ever see the end of the stream */
	close(in[1]);
	close(out[1]);
	in[1] = out[1] = -1;
	if (!drain(out[0], run) || !pg_process_wait(&p, KILL_MS, status)) {
		end_group(&p, status);
		rc = err_set(err, RC_UNAVAILABLE, "interrupted", "%s was stopped before its end",
			program);
	}
out:
	close_pair(in);
	close_pair(out);
	return rc;
}

static bool
link_is(const char *link, const char *target, const char *base)
{
	char at[PATH_MAX];
	ssize_t n = readlink(link, at, sizeof at - 1);

	if (n < 0)
		return false;
	at[n] = '\0';
	if (target != NULL)
		return strcmp(at, target) == 0;
	/* after an upgrade of the package the kernel adds " (deleted)" */
	const char *name = strrchr(at, '/');
	size_t len = strlen(base);
	return name != NULL && strncmp(name + 1, base, len) == 0 &&
	       (name[1 + len] == '\0' || strcmp(name + 1 + len, " (deleted)") == 0);
}

bool
pg_process_is_postmaster_of(pid_t pid, const char *dir)
{
	char exe[64];
	char cwd[64];

	if (pid <= 1)
		return false;
	snprintf(exe, sizeof exe, "/proc/%d/exe", (int)pid);
	snprintf(cwd, sizeof cwd, "/proc/%d/cwd", (int)pid);
	return link_is(exe, NULL, "postgres") && link_is(cwd, dir, NULL);
}
