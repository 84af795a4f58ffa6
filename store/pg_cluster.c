/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "pg_init.h"
#include "pg_layout.h"

/* Starting, watching and stopping; making the cluster is pg_init.c.
 *
 * Readiness comes from the status line of postmaster.pid, as pg_ctl does it: reading a file cannot
 * hang, while a connection to a frozen postmaster does. Only open() makes a connection, once, to
 * be sure that the database lets us in. */

#define SOCKET_NAME "/.s.PGSQL.5432"
#define WAIT_MS     10u
#define STARTING_MS 50
#define NO_PIDFD_MS 500
#define SPACE_MS    1000u
#define BUSY_MS     10000u /* old backends may hold the shared memory that long */
#define QUIT_MS     5000u
#define TAIL_BYTES  8192u

struct pg_cluster {
	/* immutable after open */
	struct pg_install install;
	struct pg_stop stop;
	uint64_t ballast_bytes;
	unsigned start_timeout_ms;
	unsigned stop_timeout_ms;

	/* owned by the main thread, but for the paths and the url, which do not change */
	struct pg_layout layout;
	struct pg_process process;
	bool is_stopped;  /* by pg_cluster_stop: tick does nothing */
	bool needs_space; /* the disk was full and there was no ballast to give up */
	uint64_t next_ns; /* of the next start, or of the next housekeeping */
	unsigned backoff_ms;
	uint64_t failures_ns[PG_CLUSTER_FAILURES_MAX]; /* a ring */
	unsigned failure_count;

	/* guarded by mtx */
	pthread_mutex_t mtx;
	struct pg_cluster_status status;
};

static uint64_t
in_ms(uint64_t ms)
{
	return clock_mono_ns() + ms * 1000000;
}

static void
pause_ms(unsigned ms)
{
	poll(NULL, 0, (int)ms);
}

static void
set_state(struct pg_cluster *c, enum pg_cluster_state state)
{
	pthread_mutex_lock(&c->mtx);
	c->status.state = state;
	pthread_mutex_unlock(&c->mtx);
}

enum pg_cluster_state
pg_cluster_state(struct pg_cluster *c)
{
	pthread_mutex_lock(&c->mtx);
	enum pg_cluster_state state = c->status.state;
	pthread_mutex_unlock(&c->mtx);
	return state;
}

void
pg_cluster_status(struct pg_cluster *c, struct pg_cluster_status *out)
{
	pthread_mutex_lock(&c->mtx);
	*out = c->status;
	pthread_mutex_unlock(&c->mtx);
}

const char *
pg_cluster_state_name(enum pg_cluster_state state)
{
	switch (state) {
	case PG_CLUSTER_STARTING:
		return "starting";
	case PG_CLUSTER_READY:
		return "ready";
	case PG_CLUSTER_DOWN:
		return "down";
	case PG_CLUSTER_FAILED:
		return "failed";
	}
	return "?";
}

const char *
pg_cluster_url(const struct pg_cluster *c)
{
	return c->layout.url;
}

int
pg_cluster_pidfd(const struct pg_cluster *c)
{
	return c->process.pid > 0 ? c->process.pidfd : -1;
}

/* ---- start ---- */

/* A postmaster of an earlier run of ours that outlived it. We hold the lock, so nobody needs it. A
 * pid file that names anything else is PostgreSQL's to judge. */
static enum rc
end_leftover(struct pg_cluster *c, struct err *err)
{
	static const int signals[] = {SIGINT, SIGQUIT, SIGKILL};
	char text[32];

	pg_files_read(c->layout.pid_file, 0, text, sizeof text);
	pid_t pid = (pid_t)pg_files_number(text);
	for (unsigned i = 0; i < 3 && pg_process_is_postmaster_of(pid, c->layout.data); i++) {
		uint64_t deadline_ns = in_ms(i == 0 ? c->stop_timeout_ms : QUIT_MS);
		kill(pid, signals[i]);
		while (pg_process_is_postmaster_of(pid, c->layout.data) &&
			clock_mono_ns() < deadline_ns) {
			if (pg_process_should_stop(&c->stop))
				return err_set(err, RC_UNAVAILABLE, "interrupted",
					"the start was interrupted");
			pause_ms(WAIT_MS);
		}
	}
	return RC_OK;
}

static enum rc
launch(struct pg_cluster *c, struct err *err)
{
	char program[PG_PATH_BYTES];
	struct stat st;

	enum rc rc = pg_files_path(program, err, "%s/postgres", c->install.bin_dir);
	if (rc != RC_OK)
		return rc;
	char *argv[] = {program, (char[]){"-D"}, c->layout.data, (char[]){"-k"},
		c->layout.socket_dir, NULL};
	struct pg_command cmd = {.program = program,
		.argv = argv,
		.output_fd = c->layout.log_fd,
		.input_fd = -1,
		.death_signal = SIGINT};
	c->layout.log_start = fstat(c->layout.log_fd, &st) == 0 ? st.st_size : 0;
	rc = pg_process_start(&cmd, &c->process, err);
	if (rc == RC_OK)
		set_state(c, PG_CLUSTER_STARTING);
	return rc;
}

enum answer { ANSWER_NONE, ANSWER_STARTING, ANSWER_READY };

/* postmaster.pid: line 1 the pid, line 8 the state, padded with blanks. */
static enum answer
read_answer(const struct pg_cluster *c)
{
	char text[1024];
	const char *line = text;

	pg_files_read(c->layout.pid_file, 0, text, sizeof text);
	if (pg_files_number(text) != (uint64_t)c->process.pid)
		return ANSWER_NONE;
	for (unsigned i = 1; i < 8 && line != NULL; i++) {
		line = strchr(line, '\n');
		line = line != NULL ? line + 1 : NULL;
	}
	if (line == NULL)
		return ANSWER_NONE;
	if (strncmp(line, "ready", 5) == 0)
		return ANSWER_READY;
	return strncmp(line, "starting", 8) == 0 ? ANSWER_STARTING : ANSWER_NONE;
}

enum ending { ENDING_STOPPED, ENDING_NO_SPACE, ENDING_BUSY, ENDING_PANIC, ENDING_CRASH };

static enum ending
classify(const struct pg_cluster *c, int status, const char *tail)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return ENDING_STOPPED;
	if (strstr(tail, "No space left on device") != NULL ||
		strstr(tail, "Disk quota exceeded") != NULL)
		return ENDING_NO_SPACE;
	/* on a full disk the message may have found no room either */
	if (pg_files_free_bytes(c->layout.root) < (UINT64_C(1) << 20))
		return ENDING_NO_SPACE;
	if (strstr(tail, "pre-existing shared memory block") != NULL)
		return ENDING_BUSY;
	return strstr(tail, "PANIC:") != NULL ? ENDING_PANIC : ENDING_CRASH;
}

static void
note_why(struct pg_cluster *c, const char *why, const char *detail, const char *tail)
{
	pthread_mutex_lock(&c->mtx);
	snprintf(c->status.why, sizeof c->status.why, "%.60s (%.180s)", why, detail);
	pg_layout_last_lines(tail, c->status.log, sizeof c->status.log);
	pthread_mutex_unlock(&c->mtx);
}

/* Write down how the process ended; it has been reaped. */
static enum ending
note_ending(struct pg_cluster *c, int status)
{
	static const char *const words[] = {
		"stopped", "no space left", "shared memory in use", "panic", "ended"};
	char tail[TAIL_BYTES];
	char how[32];

	pg_layout_log_tail(&c->layout, tail, sizeof tail);
	enum ending ending = classify(c, status, tail);
	pg_process_describe(status, how, sizeof how);
	note_why(c, words[ending], how, tail);
	set_state(c, PG_CLUSTER_DOWN);
	return ending;
}

static enum rc
set_failed(struct pg_cluster *c, const char *what, struct err *err)
{
	char lines[sizeof err->detail];

	pg_layout_last_lines(c->status.log, lines, sizeof lines);
	err_set(err, RC_UNAVAILABLE, "postgres-failed",
		"the private PostgreSQL %s; its log is %.200s", what, c->layout.log_path);
	return err_detail(err, "%s: %s", c->status.why, lines);
}

static enum rc
give_up_waiting(struct pg_cluster *c, struct err *err)
{
	char tail[TAIL_BYTES];

	pg_layout_log_tail(&c->layout, tail, sizeof tail);
	note_why(c, "no answer", "still running", tail);
	return set_failed(c, "did not answer in time", err);
}

enum wait_end { WAIT_READY, WAIT_ENDED, WAIT_TIMEOUT, WAIT_STOPPED };

static enum wait_end
wait_until_ready(struct pg_cluster *c, int *status)
{
	uint64_t deadline_ns = in_ms(c->start_timeout_ms);

	for (;;) {
		if (pg_process_wait(&c->process, WAIT_MS, status))
			return WAIT_ENDED;
		enum answer answer = read_answer(c);
		if (answer == ANSWER_READY)
			return WAIT_READY;
		if (pg_process_should_stop(&c->stop))
			return WAIT_STOPPED;
		/* recovery takes as long as it takes */
		if (answer != ANSWER_STARTING && clock_mono_ns() >= deadline_ns)
			return WAIT_TIMEOUT;
	}
}

/* The connection that proves that pg_hba, pg_ident and the database are as they should. */
static enum rc
try_connection(struct pg_cluster *c, struct err *err)
{
	const char *const keys[] = {"connect_timeout", "dbname", NULL};
	const char *const values[] = {"30", c->layout.url, NULL};
	PGconn *pg = PQconnectdbParams(keys, values, 1);
	enum rc rc = RC_OK;

	if (PQstatus(pg) != CONNECTION_OK) {
		rc = err_set(err, RC_UNAVAILABLE, "postgres-failed",
			"the private PostgreSQL runs but does not let us in; its log is %.200s",
			c->layout.log_path);
		err_detail(err, "%s", PQerrorMessage(pg));
	}
	PQfinish(pg);
	return rc;
}

/* One start. *again: it ended for a reason that another try may get over. */
static enum rc
start_once(struct pg_cluster *c, bool *again, struct err *err)
{
	int status = 0;

	*again = false;
	enum rc rc = launch(c, err);
	if (rc != RC_OK)
		return rc;
	switch (wait_until_ready(c, &status)) {
	case WAIT_READY:
		return try_connection(c, err);
	case WAIT_STOPPED:
		return err_set(err, RC_UNAVAILABLE, "interrupted", "the start was interrupted");
	case WAIT_TIMEOUT:
		return give_up_waiting(c, err);
	case WAIT_ENDED:
		break;
	}
	enum ending ending = note_ending(c, status);
	*again = ending == ENDING_BUSY ||
		 (ending == ENDING_NO_SPACE && pg_layout_drop_ballast(&c->layout));
	if (ending == ENDING_NO_SPACE && !*again)
		err_set(err, RC_FULL, "disk-full",
			"the private PostgreSQL did not start: no space left on the disk");
	return set_failed(c, "did not start", err);
}

static enum rc
start(struct pg_cluster *c, struct err *err)
{
	uint64_t busy_until_ns = in_ms(BUSY_MS);

	for (;;) {
		bool again;
		struct err why = ERR_INIT;
		enum rc rc = start_once(c, &again, &why);
		if (rc == RC_OK)
			break;
		if (!again || clock_mono_ns() >= busy_until_ns) {
			*err = why;
			return rc;
		}
		pause_ms(PG_CLUSTER_BACKOFF_MIN_MS);
	}
	pg_layout_keep_ballast(&c->layout, c->ballast_bytes);
	set_state(c, PG_CLUSTER_READY);
	c->next_ns = in_ms(PG_CLUSTER_HOUSEKEEPING_MS);
	return RC_OK;
}

/* ---- open and close ---- */

static enum rc
prepare(struct pg_cluster *c, const struct pg_cluster_options *o, struct err *err)
{
	struct pg_settings settings = {
		.connections_max = o->connections_max, .log_level = o->log_level};
	bool has_cluster = false;

	enum rc rc = pg_layout_open_root(&c->layout, o->data_dir, err);
	if (rc == RC_OK)
		rc = pg_init_choose(c->layout.root, o->bin_dir, &c->install, &has_cluster, err);
	if (rc == RC_OK && !has_cluster)
		rc = pg_init_create(c->layout.root, &c->install, &c->stop, err);
	if (rc == RC_OK)
		rc = pg_layout_open(&c->layout, c->install.major, o->runtime_dir, err);
	if (rc == RC_OK)
		rc = end_leftover(c, err);
	settings.major = c->install.major;
	return rc == RC_OK ? pg_init_configure(c->layout.data, &settings, err) : rc;
}

enum rc
pg_cluster_open(const struct pg_cluster_options *o, struct pg_cluster **cluster, struct err *err)
{
	char user[64];

	*cluster = NULL;
	enum rc rc = pg_init_user(user, sizeof user, err);
	if (rc != RC_OK)
		return rc;
	if (o->connections_max < 1 || o->connections_max > 1000)
		return err_set(err, RC_INVALID, NULL,
			"the number of database connections must be 1 to 1000, not %u",
			o->connections_max);
	struct pg_cluster *c = calloc(1, sizeof *c);
	if (c == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	pthread_mutex_init(&c->mtx, NULL);
	pg_layout_init(&c->layout);
	c->process.pidfd = -1;
	c->stop = (struct pg_stop){.fn = o->should_stop, .arg = o->stop_arg};
	c->ballast_bytes = o->ballast_bytes;
	c->start_timeout_ms = o->start_timeout_ms ? o->start_timeout_ms : PG_CLUSTER_START_MS;
	c->stop_timeout_ms = o->stop_timeout_ms ? o->stop_timeout_ms : PG_CLUSTER_STOP_MS;
	rc = prepare(c, o, err);
	if (rc == RC_OK) {
		pg_layout_bound_log(&c->layout);
		rc = start(c, err);
	}
	if (rc == RC_OK)
		*cluster = c;
	else
		pg_cluster_free(c);
	return rc;
}

enum rc
pg_cluster_stop(struct pg_cluster *c, struct err *err)
{
	int status = 0;
	bool ended = true;
	enum rc rc = RC_OK;

	c->is_stopped = true;
	if (c->process.pid > 0) {
		kill(c->process.pid, SIGINT);
		ended = pg_process_wait(&c->process, c->stop_timeout_ms, &status);
	}
	if (!ended) {
		rc = err_set(err, RC_UNAVAILABLE, "postgres-failed",
			"the private PostgreSQL did not stop within %u ms and was killed",
			c->stop_timeout_ms);
		kill(c->process.pid, SIGQUIT);
		ended = pg_process_wait(&c->process, QUIT_MS, &status);
	}
	if (!ended) {
		kill(c->process.pid, SIGKILL);
		pg_process_wait(&c->process, QUIT_MS, &status);
	}
	if (pg_cluster_state(c) != PG_CLUSTER_FAILED)
		set_state(c, PG_CLUSTER_DOWN);
	return rc;
}

void
pg_cluster_free(struct pg_cluster *c)
{
	struct err ignored = ERR_INIT;

	if (c == NULL)
		return;
	pg_cluster_stop(c, &ignored);
	pg_layout_done(&c->layout);
	pthread_mutex_destroy(&c->mtx);
	free(c);
}

/* ---- supervision ---- */

int
pg_cluster_next_tick_ms(struct pg_cluster *c)
{
	enum pg_cluster_state state = pg_cluster_state(c);
	uint64_t now = clock_mono_ns();

	if (c->is_stopped || state == PG_CLUSTER_FAILED)
		return -1;
	if (state == PG_CLUSTER_STARTING)
		return STARTING_MS;
	uint64_t ms = now >= c->next_ns ? 0 : (c->next_ns - now + 999999) / 1000000;
	if (state == PG_CLUSTER_READY && c->process.pidfd < 0 && ms > NO_PIDFD_MS)
		ms = NO_PIDFD_MS;
	return (int)ms;
}

/* True when this failure is one too many. */
static bool
count_failure(struct pg_cluster *c)
{
	uint64_t now = clock_mono_ns();
	/* the slot of the oldest of the last PG_CLUSTER_FAILURES_MAX */
	uint64_t *slot = &c->failures_ns[c->failure_count % PG_CLUSTER_FAILURES_MAX];

	*slot = now;
	c->failure_count++;
	if (c->failure_count < PG_CLUSTER_FAILURES_MAX)
		return false;
	uint64_t oldest = c->failures_ns[c->failure_count % PG_CLUSTER_FAILURES_MAX];
	return now - oldest < (uint64_t)PG_CLUSTER_FAILURES_MS * 1000000;
}

static void
plan_restart(struct pg_cluster *c, enum ending ending)
{
	/* a full disk is not held against it: that ends when somebody makes room */
	bool is_too_often = ending != ENDING_NO_SPACE && count_failure(c);

	c->needs_space = ending == ENDING_NO_SPACE && !pg_layout_drop_ballast(&c->layout);
	c->backoff_ms *= 2;
	if (c->backoff_ms < PG_CLUSTER_BACKOFF_MIN_MS)
		c->backoff_ms = PG_CLUSTER_BACKOFF_MIN_MS;
	if (c->backoff_ms > PG_CLUSTER_BACKOFF_MAX_MS)
		c->backoff_ms = PG_CLUSTER_BACKOFF_MAX_MS;
	c->next_ns = in_ms(c->backoff_ms);
	if (is_too_often)
		set_state(c, PG_CLUSTER_FAILED);
}

static void
look_after(struct pg_cluster *c)
{
	int status;

	if (pg_process_wait(&c->process, 0, &status)) {
		plan_restart(c, note_ending(c, status));
		return;
	}
	if (pg_cluster_state(c) == PG_CLUSTER_STARTING && read_answer(c) == ANSWER_READY) {
		set_state(c, PG_CLUSTER_READY);
		c->next_ns = in_ms(PG_CLUSTER_HOUSEKEEPING_MS);
	}
	if (pg_cluster_state(c) != PG_CLUSTER_READY || clock_mono_ns() < c->next_ns)
		return;
	c->next_ns = in_ms(PG_CLUSTER_HOUSEKEEPING_MS);
	pg_layout_bound_log(&c->layout);
	pg_layout_keep_ballast(&c->layout, c->ballast_bytes);
	/* it has run for a while: the next failure is a new story */
	c->backoff_ms = 0;
}

static void
restart(struct pg_cluster *c)
{
	struct err why = ERR_INIT;

	if (clock_mono_ns() < c->next_ns)
		return;
	if (c->needs_space && pg_files_free_bytes(c->layout.root) < PG_CLUSTER_RESTART_BYTES) {
		c->next_ns = in_ms(SPACE_MS);
		return;
	}
	pthread_mutex_lock(&c->mtx);
	c->status.restarts++;
	pthread_mutex_unlock(&c->mtx);
	if (launch(c, &why) == RC_OK)
		return;
	/* no memory or no process for it now */
	note_why(c, "not started", why.detail, "");
	plan_restart(c, ENDING_CRASH);
}

enum rc
pg_cluster_tick(struct pg_cluster *c, struct err *err)
{
	if (c->is_stopped)
		return RC_OK;
	if (c->process.pid > 0)
		look_after(c);
	else if (pg_cluster_state(c) == PG_CLUSTER_DOWN)
		restart(c);
	if (pg_cluster_state(c) == PG_CLUSTER_FAILED)
		return set_failed(c, "ended too often and stays down", err);
	return RC_OK;
}
