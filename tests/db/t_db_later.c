/* SPDX-License-Identifier: Apache-2.0 */
/* Statements that are queued and answered later. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster_fixture.h"
#include "db.h"

static struct cluster_fixture fx;

#define assert_ok(call, err)                                                                       \
	do {                                                                                       \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s [%s]", #call, (err).text, (err).detail);                  \
	} while (0)

static const struct db_stmt insert_stmt = {.name = "t_insert",
	.sql = "INSERT INTO l SELECT $1, $2 ON CONFLICT DO NOTHING",
	.params = 2};
static const struct db_stmt plain_insert = {
	.name = "t_plain", .sql = "INSERT INTO l VALUES ($1, $2)", .params = 2};
static const struct db_stmt count_stmt = {.name = "t_count", .sql = "SELECT count(*) FROM l"};
static const struct db_stmt pid_stmt = {.name = "t_pid", .sql = "SELECT pg_backend_pid()"};

struct told {
	unsigned calls;
	uint64_t rows;
	unsigned order[200];
};

struct one {
	struct told *told;
	unsigned number;
};

static void
tell(void *arg, uint64_t affected)
{
	const struct one *o = arg;

	o->told->order[o->told->calls++] = o->number;
	o->told->rows += affected;
}

static enum rc
queue(struct db_tx *tx, const struct db_stmt *stmt, int64_t key, struct one *one, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, key);
	db_add_i64(&p, key * 2);
	enum rc rc = db_exec_later(tx, stmt, &p, one != NULL ? tell : NULL, one, err);
	db_params_done(&p);
	return rc;
}

static int64_t
rows_now(void)
{
	return fixture_number(fx.db, "SELECT count(*) FROM l");
}

struct job {
	struct told told;
	struct one ones[200];
	unsigned count;
	unsigned bad; /* this one fails; count: none */
	bool reads_in_the_middle;
	bool pushes;
	int kill_signal; /* our own backend, after everything was queued */
	unsigned calls;
};

static int
backend(struct db_tx *tx, struct err *err)
{
	struct db_result *r = NULL;

	assert_ok(db_exec(tx, &pid_stmt, NULL, &r, err), *err);
	int pid = db_get_i32(r, 0, 0);
	db_result_free(r);
	return pid;
}

static enum rc
run_job(struct db_tx *tx, void *arg, struct err *err)
{
	struct job *j = arg;
	int pid = 0;
	enum rc rc = RC_OK;

	j->calls++;
	memset(&j->told, 0, sizeof j->told);
	if (j->kill_signal != 0)
		pid = backend(tx, err);
	for (unsigned i = 0; rc == RC_OK && i < j->count; i++) {
		j->ones[i] = (struct one){&j->told, i};
		rc = queue(tx, i == j->bad ? &plain_insert : &insert_stmt, i == j->bad ? 0 : i,
			&j->ones[i], err);
		if (rc == RC_OK && j->reads_in_the_middle && i == j->count / 2) {
			struct db_result *r = NULL;
			rc = db_exec(tx, &count_stmt, NULL, &r, err);
			if (rc == RC_OK)
				assert_int_equal(db_get_i64(r, 0, 0), i + 1);
			db_result_free(r);
			assert_true(rc != RC_OK || j->told.calls == i + 1);
		}
	}
	if (rc == RC_OK && j->pushes)
		rc = db_push(tx, err);
	if (pid != 0) {
		kill(pid, j->kill_signal);
		while (kill(pid, 0) == 0)
			sched_yield(); /* until it has closed the connection */
	}
	return rc;
}

static int
empty(void **state)
{
	(void)state;
	fixture_sql(fx.db, "TRUNCATE l");
	return 0;
}

/* In order, all before db_run is back; also more than may wait for an answer at once. */
static void
test_all_are_run(void **state)
{
	struct err err = ERR_INIT;
	static const unsigned counts[] = {0, 1, 2, 62, 63, 64, 65, 200};

	(void)state;
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
		for (int how = 0; how < 4; how++) {
			struct job j = {.count = counts[i],
				.bad = counts[i],
				.reads_in_the_middle = (how & 1) != 0,
				.pushes = (how & 2) != 0};
			empty(NULL);
			assert_ok(db_run(fx.db, run_job, &j, &err), err);
			assert_int_equal(rows_now(), counts[i]);
			assert_int_equal(j.told.calls, counts[i]);
			assert_int_equal(j.told.rows, counts[i]);
			for (unsigned k = 0; k < counts[i]; k++)
				assert_int_equal(j.told.order[k], k);
			assert_int_equal(j.calls, 1);
		}
	}
}

/* The number of rows is told, also where it is none. */
static void
test_rows_are_told(void **state)
{
	struct err err = ERR_INIT;
	struct job j = {.count = 10, .bad = 10};

	(void)state;
	empty(NULL);
	fixture_sql(fx.db, "INSERT INTO l SELECT generate_series(0, 6), 0");
	assert_ok(db_run(fx.db, run_job, &j, &err), err);
	assert_int_equal(j.told.calls, 10);
	assert_int_equal(j.told.rows, 3);
}

/* One fails: nothing is committed, what is behind it is not told, the connection goes on. */
static void
test_one_fails(void **state)
{
	struct db_counters before, after;

	(void)state;
	empty(NULL);
	db_counters(fx.db, &before);
	for (unsigned bad = 1; bad < 100; bad += 7) {
		struct err err = ERR_INIT;
		struct job j = {.count = 100, .bad = bad, .pushes = bad % 2 == 0};
		assert_int_equal(db_run(fx.db, run_job, &j, &err), RC_EXISTS);
		assert_string_equal(err.kind, "database-duplicate");
		assert_int_equal(j.told.calls, bad);
		assert_int_equal(rows_now(), 0);
		assert_int_equal(j.calls, 1);
	}
	db_counters(fx.db, &after);
	assert_int_equal(after.connects, before.connects);
	assert_int_equal(after.in_use, 0);
}

/* The failure comes to light in a db_exec behind it. */
static void
test_the_next_exec_tells(void **state)
{
	struct err err = ERR_INIT;
	struct job j = {.count = 20, .bad = 3, .reads_in_the_middle = true};

	(void)state;
	empty(NULL);
	assert_int_equal(db_run(fx.db, run_job, &j, &err), RC_EXISTS);
	assert_int_equal(j.told.calls, 3);
	assert_int_equal(rows_now(), 0);
}

/* The backend ends after it has answered and before COMMIT is sent: nothing is in doubt. */
static void
test_lost_before_commit(void **state)
{
	struct err err = ERR_INIT;
	struct db *own = fx.db;

	(void)state;
	empty(NULL);
	for (int pushes = 0; pushes < 2; pushes++) {
		struct job j = {
			.count = 5, .bad = 5, .kill_signal = SIGTERM, .pushes = pushes == 1};
		err_clear(&err);
		assert_int_equal(db_run(own, run_job, &j, &err), RC_UNAVAILABLE);
		assert_string_equal(err.kind, "database-unavailable");
		assert_int_equal(rows_now(), 0);
	}
}

/* Mistakes of the caller are found at once. */
static void
test_mistakes(void **state)
{
	struct err err = ERR_INIT;
	struct job j = {.count = 1, .bad = 1};

	(void)state;
	unsetenv("DIGSTORE_ABORT_ON_BUG");
	assert_int_equal(db_run_readonly(fx.db, run_job, &j, &err), RC_BUG);
	setenv("DIGSTORE_ABORT_ON_BUG", "1", 1);
	err_clear(&err);
	assert_ok(db_ping(fx.db, &err), err);
}

/* Two that wait for each other, both with queued statements: one is repeated, from its start. */
static const struct db_stmt lock_stmt = {
	.name = "t_lock", .sql = "UPDATE l SET n = n + 1 WHERE k = $1", .params = 1};

struct dancer {
	pthread_barrier_t *barrier;
	int64_t first, second;
	unsigned calls;
	enum rc rc;
	struct err err;
};

static enum rc
lock_later(struct db_tx *tx, int64_t key, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, key);
	enum rc rc = db_exec_later(tx, &lock_stmt, &p, NULL, NULL, err);
	db_params_done(&p);
	return rc;
}

static enum rc
dance(struct db_tx *tx, void *arg, struct err *err)
{
	struct dancer *d = arg;

	enum rc rc = lock_later(tx, d->first, err);
	if (rc == RC_OK)
		rc = db_exec(tx, &count_stmt, NULL, NULL, err);
	if (rc == RC_OK && d->calls++ == 0)
		pthread_barrier_wait(d->barrier);
	return rc == RC_OK ? lock_later(tx, d->second, err) : rc;
}

static void *
dance_thread(void *arg)
{
	struct dancer *d = arg;

	d->rc = db_run(fx.db, dance, d, &d->err);
	return NULL;
}

static void
test_deadlock_is_retried(void **state)
{
	pthread_barrier_t barrier;
	pthread_t threads[2];
	struct dancer d[2] = {{.first = 1, .second = 2}, {.first = 2, .second = 1}};

	(void)state;
	empty(NULL);
	fixture_sql(fx.db, "INSERT INTO l VALUES (1, 0), (2, 0)");
	pthread_barrier_init(&barrier, NULL, 2);
	for (int i = 0; i < 2; i++) {
		d[i].barrier = &barrier;
		pthread_create(&threads[i], NULL, dance_thread, &d[i]);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_ok(d[i].rc, d[i].err);
	}
	pthread_barrier_destroy(&barrier);
	assert_true(d[0].calls + d[1].calls >= 3); /* more, if both were chosen to give way */
	assert_int_equal(fixture_number(fx.db, "SELECT sum(n)::int8 FROM l"), 4);
}

static int
set_up(void **state)
{
	(void)state;
	fixture_start(&fx);
	fx.db = fixture_pool(&fx, 5000);
	fixture_sql(fx.db, "CREATE TABLE l (k int8 PRIMARY KEY, n int8)");
	return 0;
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
		cmocka_unit_test(test_all_are_run),
		cmocka_unit_test(test_rows_are_told),
		cmocka_unit_test(test_one_fails),
		cmocka_unit_test(test_the_next_exec_tells),
		cmocka_unit_test(test_lost_before_commit),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_deadlock_is_retried),
	};

	fixture_init(&fx, false);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
