/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "cluster_fixture.h"
#include "pg_cluster.h"
#include "pg_layout.h"

static struct cluster_fixture fx;
static enum rc rc_as_root = RC_DENIED;
static unsigned major; /* of the cluster in fx.dir */

#define assert_ok(call, err)                                                                       \
	do {                                                                                       \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s [%s]", #call, (err).text, (err).detail);                  \
	} while (0)

static const char *
path_in(const char *dir, const char *name)
{
	static char path[4][1024];
	static unsigned next;
	char *at = path[next++ % 4];
	int n = snprintf(at, sizeof path[0], "%s/%s", dir, name);

	assert_true(n > 0 && (size_t)n < sizeof path[0]);
	return at;
}

static const char *
cluster_path(const char *name)
{
	char rest[128];

	snprintf(rest, sizeof rest, "pg/%u/%s", major, name);
	return path_in(fx.dir, rest);
}

static void
write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static bool
exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static struct pg_cluster *
open_cluster(const char *dir)
{
	struct pg_cluster_options options = fixture_options(dir);
	struct pg_cluster *c;
	struct err err = ERR_INIT;

	assert_ok(pg_cluster_open(&options, &c, &err), err);
	assert_int_equal(pg_cluster_state(c), PG_CLUSTER_READY);
	return c;
}

static void
assert_refused(const struct pg_cluster_options *options, enum rc rc, const char *kind)
{
	struct pg_cluster *c;
	struct err err = ERR_INIT;

	assert_int_equal(pg_cluster_open(options, &c, &err), rc);
	assert_string_equal(err.kind, kind);
	assert_null(c);
}

static struct db *
open_pool(const struct pg_cluster *c)
{
	struct err err = ERR_INIT;
	struct db *db;
	struct db_options options = {.url = pg_cluster_url(c),
		.connections_max = 4,
		.connect_timeout_ms = 2000,
		.statement_timeout_ms = 5000,
		.checkout_timeout_ms = 2000};

	assert_ok(db_open(&options, &db, &err), err);
	return db;
}

static bool
is_answering(void *arg)
{
	struct err err = ERR_INIT;

	return db_ping(arg, &err) == RC_OK;
}

static bool
is_gone(void *arg)
{
	char path[64];
	char text[256] = "";
	const int *pid = arg;

	/* a zombie is gone too: whoever adopted it may be slow to reap */
	snprintf(path, sizeof path, "/proc/%d/stat", *pid);
	FILE *f = fopen(path, "r");
	if (f == NULL)
		return true;
	bool is_zombie = fgets(text, sizeof text, f) != NULL && strstr(text, ") Z ") != NULL;
	fclose(f);
	return is_zombie;
}

/* What main's loop does, until the cluster is in the state. */
static bool
tick_until(struct pg_cluster *c, enum pg_cluster_state state, unsigned seconds)
{
	uint64_t deadline_ns = clock_mono_ns() + seconds * UINT64_C(1000000000);

	while (clock_mono_ns() < deadline_ns) {
		struct err err = ERR_INIT;
		struct pollfd p = {.fd = pg_cluster_pidfd(c), .events = POLLIN};
		int ms = pg_cluster_next_tick_ms(c);
		poll(&p, 1, ms < 0 || ms > 1000 ? 1000 : ms);
		enum rc rc = pg_cluster_tick(c, &err);
		assert_int_equal(
			rc, pg_cluster_state(c) == PG_CLUSTER_FAILED ? RC_UNAVAILABLE : RC_OK);
		if (pg_cluster_state(c) == state)
			return true;
	}
	return false;
}

/* ---- life ---- */

static void
test_root_is_refused(void **state)
{
	(void)state;
	assert_int_equal(rc_as_root, RC_DENIED);
}

static void
test_life(void **state)
{
	struct err err = ERR_INIT;
	struct pg_cluster *c = open_cluster(fx.dir);
	struct db *db = open_pool(c);
	struct stat st;

	(void)state;
	for (major = 18; major > 0 && !exists(cluster_path("PG_VERSION")); major--)
		;
	assert_true(major >= 13);
	assert_int_equal(
		fixture_number(db, "SELECT count(*) FROM pg_settings WHERE (name, setting) IN ("
				   "('fsync', 'on'), ('full_page_writes', 'on'), "
				   "('synchronous_commit', 'on'), ('data_checksums', 'on'), "
				   "('listen_addresses', ''), ('unix_socket_permissions', '0700'), "
				   "('wal_level', 'minimal'), ('jit', 'off'), "
				   "('max_connections', '13'), ('server_encoding', 'UTF8'))"),
		10);
	assert_ok(db_check_durable(db, &err), err);
	fixture_sql(db, "CREATE TABLE kept (k int8); INSERT INTO kept VALUES (42)");
	assert_int_equal(stat(cluster_path("."), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_false(exists(path_in(fx.dir, "pg/15.new")));
	/* a ctrl-C for our process group is not for PostgreSQL */
	int pid = fixture_postmaster(fx.dir);
	assert_true(getpgid(pid) == pid);
	db_free(db);

	assert_ok(pg_cluster_stop(c, &err), err);
	assert_int_equal(pg_cluster_state(c), PG_CLUSTER_DOWN);
	assert_int_equal(pg_cluster_pidfd(c), -1);
	assert_int_equal(pg_cluster_next_tick_ms(c), -1);
	assert_ok(pg_cluster_tick(c, &err), err); /* does not start it again */
	assert_true(is_gone(&pid));
	pg_cluster_free(c);
	pg_cluster_free(NULL);

	c = open_cluster(fx.dir);
	db = open_pool(c);
	assert_int_equal(fixture_number(db, "SELECT k FROM kept"), 42);
	db_free(db);
	pg_cluster_free(c);
}

static void
test_second_is_refused(void **state)
{
	struct pg_cluster *c = open_cluster(fx.dir);
	struct pg_cluster_options options = fixture_options(fx.dir);
	struct db *db = open_pool(c);

	(void)state;
	assert_refused(&options, RC_CONFLICT, "data-dir-in-use");
	assert_true(is_answering(db));
	db_free(db);
	pg_cluster_free(c);
}

static void
test_bad_options(void **state)
{
	struct pg_cluster_options options = fixture_options(fx.dir);
	struct err err = ERR_INIT;
	struct pg_cluster *c;

	(void)state;
	options.connections_max = 0;
	assert_int_equal(pg_cluster_open(&options, &c, &err), RC_INVALID);
	options = fixture_options("/nonexistent/data");
	assert_refused(&options, RC_IO, "io-error");
	options = fixture_options(fx.dir);
	options.bin_dir = "/nonexistent";
	assert_refused(&options, RC_NOT_FOUND, "postgres-missing");
}

static void
test_log_is_bounded(void **state)
{
	struct stat st;
	const char *log = path_in(fx.dir, "pg/log/postgresql.log");

	(void)state;
	assert_int_equal(truncate(log, (off_t)PG_LAYOUT_LOG_BYTES_MAX + 5000), 0);
	struct pg_cluster *c = open_cluster(fx.dir);
	assert_int_equal(stat(log, &st), 0);
	assert_true(st.st_size < 100000);
	assert_int_equal(stat(path_in(fx.dir, "pg/log/postgresql.log.1"), &st), 0);
	assert_true((uint64_t)st.st_size == PG_LAYOUT_LOG_BYTES_MAX);
	pg_cluster_free(c);
}

/* ---- crashes of PostgreSQL ---- */

static void
test_postmaster_killed(void **state)
{
	struct pg_cluster *c = open_cluster(fx.dir);
	struct db *db = open_pool(c);
	struct pg_cluster_status status;

	(void)state;
	assert_true(is_answering(db));
	kill(fixture_postmaster(fx.dir), SIGKILL);
	assert_true(tick_until(c, PG_CLUSTER_DOWN, 5));
	pg_cluster_status(c, &status);
	assert_non_null(strstr(status.why, "signal 9"));
	assert_true(tick_until(c, PG_CLUSTER_READY, 10));
	assert_true(fixture_wait(is_answering, db, 10));
	assert_int_equal(fixture_number(db, "SELECT k FROM kept"), 42);
	pg_cluster_status(c, &status);
	assert_true(status.restarts >= 1);
	db_free(db);
	pg_cluster_free(c);
}

static void
test_backend_killed(void **state)
{
	struct pg_cluster *c = open_cluster(fx.dir);
	struct db *db = open_pool(c);
	int pid = (int)fixture_number(db, "SELECT pg_backend_pid()::int8");

	(void)state;
	kill(pid, SIGKILL); /* PostgreSQL restarts itself inside */
	assert_true(fixture_wait(is_answering, db, 10));
	assert_int_equal(pg_cluster_state(c), PG_CLUSTER_READY);
	db_free(db);
	pg_cluster_free(c);
}

/* Frozen: who has a connection goes on, who wants a new one is told in time. */
static void
test_postmaster_frozen(void **state)
{
	struct err err = ERR_INIT;
	struct pg_cluster *c = open_cluster(fx.dir);
	struct db *old = open_pool(c);
	struct db *new = open_pool(c);
	int pid = fixture_postmaster(fx.dir);

	(void)state;
	assert_true(is_answering(old));
	kill(pid, SIGSTOP);
	assert_true(is_answering(old));
	assert_int_equal(db_ping(new, &err), RC_UNAVAILABLE);
	err_clear(&err);
	assert_ok(pg_cluster_tick(c, &err), err);
	kill(pid, SIGCONT);
	assert_true(fixture_wait(is_answering, new, 10));
	db_free(old);
	db_free(new);
	pg_cluster_free(c);
}

static void
test_stays_down_after_five_failures(void **state)
{
	struct pg_cluster *c = open_cluster(fx.dir);
	struct pg_cluster_options options = fixture_options(fx.dir);
	struct pg_cluster_status status;
	struct err err = ERR_INIT;
	struct pg_cluster *other;

	(void)state;
	write_file(cluster_path("local.conf"), "nonsense_setting = 1\n");
	kill(fixture_postmaster(fx.dir), SIGKILL);
	assert_true(tick_until(c, PG_CLUSTER_FAILED, 15));
	pg_cluster_status(c, &status);
	assert_int_equal(status.restarts, PG_CLUSTER_FAILURES_MAX - 1);
	assert_non_null(strstr(status.log, "nonsense_setting"));
	assert_string_equal(pg_cluster_state_name(status.state), "failed");
	assert_int_equal(pg_cluster_next_tick_ms(c), -1);
	pg_cluster_free(c);
	/* the same at the start is told at once, with PostgreSQL's own words */
	assert_int_equal(pg_cluster_open(&options, &other, &err), RC_UNAVAILABLE);
	assert_string_equal(err.kind, "postgres-failed");
	assert_non_null(strstr(err.detail, "nonsense_setting"));
	assert_int_equal(unlink(cluster_path("local.conf")), 0);
}

/* ---- crashes of ours ---- */

/* A process that opens a cluster, as a server would, tells the postmaster's pid and waits. */
static pid_t
start_owner(const char *dir, int *postmaster)
{
	int told[2];

	assert_int_equal(pipe(told), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		open_cluster(dir);
		int child = fixture_postmaster(dir);
		if (write(told[1], &child, sizeof child) != sizeof child)
			_exit(1);
		for (;;)
			pause();
	}
	close(told[1]);
	assert_int_equal(read(told[0], postmaster, sizeof *postmaster), sizeof *postmaster);
	close(told[0]);
	return pid;
}

static void
end_owner(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void
test_ends_with_its_owner(void **state)
{
	int postmaster = 0;

	(void)state;
	for (int round = 0; round < 2; round++) {
		pid_t owner = start_owner(fx.dir, &postmaster);
		assert_true(postmaster > 1);
		end_owner(owner);
		if (round == 0)
			assert_true(fixture_wait(is_gone, &postmaster, 10));
		/* in the second round at once: the old one may still be about to end */
		struct pg_cluster *c = open_cluster(fx.dir);
		assert_true(is_gone(&postmaster));
		pg_cluster_free(c);
	}
}

static pid_t
start_program(const char *program, const char *a, const char *b, const char *c, const char *d)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, 1);
		dup2(null, 2);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(program, program, a, b, c, d, (char *)NULL);
		_exit(127);
	}
	return pid;
}

static bool
has_pid_file(void *arg)
{
	(void)arg;
	return fixture_postmaster(fx.dir) > 0;
}

/* PDEATHSIG has not worked (another kernel, a debugger): a postmaster of ours runs on. */
static void
test_leftover_postmaster(void **state)
{
	char program[128];
	int status = -1;

	(void)state;
	snprintf(program, sizeof program, "/usr/lib/postgresql/%u/bin/postgres", major);
	if (!exists(program))
		skip();
	pid_t pid =
		start_program(program, "-D", cluster_path("."), "-k", path_in(fx.dir, "pg/run"));
	assert_true(fixture_wait(has_pid_file, NULL, 10));
	struct pg_cluster *c = open_cluster(fx.dir);
	assert_int_equal(waitpid(pid, &status, WNOHANG), pid);
	assert_int_equal(status, 0);
	assert_int_not_equal(fixture_postmaster(fx.dir), pid);
	pg_cluster_free(c);
}

/* The pid of a stranger in the file: PostgreSQL refuses, and the stranger lives. */
static void
test_reused_pid(void **state)
{
	struct pg_cluster_options options = fixture_options(fx.dir);
	char text[256];

	(void)state;
	pid_t pid = start_program("/bin/sleep", "60", NULL, NULL, NULL);
	snprintf(text, sizeof text, "%d\n%s\n1\n5432\n\n\n\nready   \n", (int)pid,
		cluster_path("."));
	write_file(cluster_path("postmaster.pid"), text);
	assert_refused(&options, RC_UNAVAILABLE, "postgres-failed");
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	/* and once that process is gone, the file is stale and harmless */
	pg_cluster_free(open_cluster(fx.dir));
}

/* ---- making a cluster ---- */

static const char *
new_dir(const char *name)
{
	const char *dir = path_in(fx.dir, name);

	assert_int_equal(mkdir(dir, 0755), 0);
	return dir;
}

static bool
is_being_made(void *arg)
{
	char name[64];

	snprintf(name, sizeof name, "pg/%u.new/data/PG_VERSION", major);
	return exists(path_in(arg, name));
}

static void
test_killed_while_making(void **state)
{
	char dir[1024];
	char name[64];

	(void)state;
	snprintf(dir, sizeof dir, "%s", new_dir("killed"));
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		open_cluster(dir);
		_exit(0);
	}
	assert_true(fixture_wait(is_being_made, dir, 20));
	end_owner(pid);
	snprintf(name, sizeof name, "pg/%u", major);
	assert_false(exists(path_in(dir, name)));
	struct pg_cluster *c = open_cluster(dir);
	snprintf(name, sizeof name, "pg/%u.new", major);
	assert_false(exists(path_in(dir, name)));
	pg_cluster_free(c);
}

static bool
stop_now(void *arg)
{
	return is_being_made(arg);
}

static void
test_stopped_while_making(void **state)
{
	char dir[1024];
	char name[64];

	(void)state;
	snprintf(dir, sizeof dir, "%s", new_dir("stopped"));
	struct pg_cluster_options options = fixture_options(dir);
	options.should_stop = stop_now;
	options.stop_arg = dir;
	assert_refused(&options, RC_UNAVAILABLE, "interrupted");
	snprintf(name, sizeof name, "pg/%u", major);
	assert_false(exists(path_in(dir, name)));
	snprintf(name, sizeof name, "pg/%u.new", major);
	assert_false(exists(path_in(dir, name)));
}

/* Where pg/ holds what we do not understand: refused, and everything is still there. */
static void
test_unknown_is_untouched(void **state)
{
	static const struct {
		const char *folders[3];
		const char *file;
		const char *text;
		enum rc rc;
		const char *kind;
	} cases[] = {
		{{"15"}, "15/base", "x", RC_CONFLICT, "cluster-unknown"},
		{{"15"}, "15/PG_VERSION", "16\n", RC_CONFLICT, "cluster-unknown"},
		{{"15"}, "15/PG_VERSION", "fifteen\n", RC_CONFLICT, "cluster-unknown"},
		{{"12"}, "12/PG_VERSION", "12\n", RC_CONFLICT, "cluster-unknown"},
		{{"99"}, "99/PG_VERSION", "99\n", RC_CONFLICT, "cluster-unknown"},
		{{"15", "16"}, "15/PG_VERSION", "15\n", RC_CONFLICT, "cluster-unknown"},
		{{"15.old"}, "15.old/PG_VERSION", "15\n", RC_CONFLICT, "cluster-unknown"},
		{{"15.new"}, "15.new/precious", "x", RC_CONFLICT, "cluster-unknown"},
		{{"15.new"}, "15.new/digstore-init", "x", RC_CONFLICT, "cluster-unknown"},
		{{NULL}, "precious", "x", RC_CONFLICT, "cluster-unknown"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char dir[1024];
		char pg[1100];
		snprintf(pg, sizeof pg, "unknown-%zu", i);
		snprintf(dir, sizeof dir, "%s", new_dir(pg));
		snprintf(pg, sizeof pg, "%s/pg", dir);
		assert_int_equal(mkdir(pg, 0700), 0);
		for (int k = 0; k < 3 && cases[i].folders[k] != NULL; k++)
			assert_int_equal(mkdir(path_in(pg, cases[i].folders[k]), 0700), 0);
		write_file(path_in(pg, cases[i].file), cases[i].text);
		struct pg_cluster_options options = fixture_options(dir);
		assert_refused(&options, cases[i].rc, cases[i].kind);
		assert_true(exists(path_in(pg, cases[i].file)));
		for (int k = 0; k < 3 && cases[i].folders[k] != NULL; k++)
			assert_true(exists(path_in(pg, cases[i].folders[k])));
	}
}

/* Too deep for a socket: 107 bytes are all that a socket address has. */
static void
test_deep_folder(void **state)
{
	char dir[1024];
	char link[1100];
	char socket_dir[256];
	struct err err = ERR_INIT;

	(void)state;
	/* the same cluster under a longer name: no second initdb needed */
	snprintf(dir, sizeof dir, "%s",
		new_dir("a-folder-with-a-quote-'-and-a-long-name-"
			"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
	snprintf(link, sizeof link, "%s/pg", dir);
	assert_int_equal(rename(path_in(fx.dir, "pg"), link), 0);
	struct pg_cluster *c = open_cluster(dir);
	struct db *db = open_pool(c);
	assert_ok(db_ping(db, &err), err);
	db_free(db);
	assert_int_equal(sscanf(pg_cluster_url(c), "host='%255[^']'", socket_dir), 1);
	assert_memory_equal(socket_dir, "/tmp/", 5);
	assert_true(exists(socket_dir));
	pg_cluster_free(c);
	assert_false(exists(socket_dir));

	struct pg_cluster_options options = fixture_options(dir);
	char runtime[1024];
	snprintf(runtime, sizeof runtime, "%s", path_in(fx.dir, "it's run"));
	options.runtime_dir = runtime;
	assert_ok(pg_cluster_open(&options, &c, &err), err);
	db = open_pool(c);
	assert_ok(db_ping(db, &err), err);
	assert_true(exists(path_in(runtime, ".s.PGSQL.5432")));
	db_free(db);
	pg_cluster_free(c);
	assert_int_equal(rename(link, path_in(fx.dir, "pg")), 0);
}

/* ---- a full disk ---- */

/* 8 MiB of write-ahead log, and nothing else: what makes PostgreSQL panic on a full disk. */
static enum rc
write_log(struct db_tx *tx, void *arg, struct err *err)
{
	static const struct db_stmt stmt = {.name = "t_write_log",
		.sql = "SELECT pg_logical_emit_message(true, 't', repeat('x', 1048576)) "
		       "FROM generate_series(1, 8)"};

	(void)arg;
	return db_exec(tx, &stmt, NULL, NULL, err);
}

static void
fill_disk(const char *path)
{
	static char block[65536];
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

	assert_true(fd >= 0);
	for (size_t bytes = sizeof block; bytes >= 1024; bytes /= 2)
		while (write(fd, block, bytes) > 0)
			;
	close(fd);
}

static void
panic(struct pg_cluster *c, struct db *db, const char *filler)
{
	fill_disk(filler);
	for (int i = 0; i < 20; i++) {
		struct err err = ERR_INIT;
		if (db_run_readonly(db, write_log, NULL, &err) != RC_OK)
			break;
		fill_disk(filler);
	}
	assert_true(tick_until(c, PG_CLUSTER_DOWN, 10));
}

static void
test_full_disk(void **state)
{
	char dir[1024];
	char filler[1024];
	struct err err = ERR_INIT;
	struct pg_cluster *c;
	struct pg_cluster_status status;

	(void)state;
	if (fx.small_disk == NULL)
		skip();
	snprintf(dir, sizeof dir, "%s", fx.small_disk);
	snprintf(filler, sizeof filler, "%s", path_in(dir, "filler"));
	struct pg_cluster_options options = fixture_options(dir);
	options.ballast_bytes = UINT64_C(36) << 20;
	assert_ok(pg_cluster_open(&options, &c, &err), err);
	assert_true(exists(path_in(dir, "pg/ballast")));
	struct db *db = open_pool(c);
	fixture_sql(db, "CREATE TABLE kept AS SELECT 42::int8 AS k");

	panic(c, db, filler);
	pg_cluster_status(c, &status);
	assert_non_null(strstr(status.why, "no space left"));
	assert_true(tick_until(c, PG_CLUSTER_READY, 10));
	assert_false(exists(path_in(dir, "pg/ballast")));
	assert_true(fixture_wait(is_answering, db, 10));
	assert_int_equal(fixture_number(db, "SELECT k FROM kept"), 42);

	/* again, and now there is nothing to give up: it waits for space, however long */
	panic(c, db, filler);
	assert_false(tick_until(c, PG_CLUSTER_READY, 2));
	assert_int_equal(pg_cluster_state(c), PG_CLUSTER_DOWN);
	assert_int_equal(unlink(filler), 0);
	assert_true(tick_until(c, PG_CLUSTER_READY, 10));
	assert_true(fixture_wait(is_answering, db, 10));
	assert_int_equal(fixture_number(db, "SELECT k FROM kept"), 42);
	db_free(db);
	pg_cluster_free(c);
}

static int
tear_down(void **state)
{
	(void)state;
	fixture_done(&fx);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root_is_refused),
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_second_is_refused),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_log_is_bounded),
		cmocka_unit_test(test_postmaster_killed),
		cmocka_unit_test(test_backend_killed),
		cmocka_unit_test(test_postmaster_frozen),
		cmocka_unit_test(test_stays_down_after_five_failures),
		cmocka_unit_test(test_ends_with_its_owner),
		cmocka_unit_test(test_leftover_postmaster),
		cmocka_unit_test(test_reused_pid),
		cmocka_unit_test(test_killed_while_making),
		cmocka_unit_test(test_stopped_while_making),
		cmocka_unit_test(test_unknown_is_untouched),
		cmocka_unit_test(test_deep_folder),
		cmocka_unit_test(test_full_disk),
	};
	struct err err = ERR_INIT;
	struct pg_cluster *c;

	if (geteuid() == 0) {
		struct pg_cluster_options options = fixture_options("/tmp");
		rc_as_root = pg_cluster_open(&options, &c, &err);
	}
	fixture_init(&fx, true);
	return cmocka_run_group_tests(tests, NULL, tear_down);
}
