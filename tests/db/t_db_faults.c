/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "cluster_fixture.h"
#include "db.h"

static struct cluster_fixture fx;

#define assert_ok(call, err)                                                                       \
	do {                                                                                       \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s [%s]", #call, (err).text, (err).detail);                  \
	} while (0)

static const struct db_stmt lock_row = {
	.name = "t_lock_row", .sql = "UPDATE d SET n = n + 1 WHERE k = $1", .params = 1};

static enum rc
update_row(struct db_tx *tx, int64_t key, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, key);
	enum rc rc = db_exec(tx, &lock_row, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

/* ---- losing the server ---- */

static const struct db_stmt my_pid = {.name = "t_pid", .sql = "SELECT pg_backend_pid()"};

struct victim {
	struct db *other;
	int signal; /* sent to our backend in the middle, by hand */
	bool kills_at_first_call_only;
	unsigned calls;
	int pid;
};

static enum rc
lose(struct db_tx *tx, void *arg, struct err *err)
{
	struct victim *v = arg;
	struct db_result *r;

	enum rc rc = db_exec(tx, &my_pid, NULL, &r, err);
	if (rc != RC_OK)
		return rc;
	v->pid = db_get_i32(r, 0, 0);
	db_result_free(r);
	if (v->calls++ == 0 || !v->kills_at_first_call_only)
		assert_int_equal(kill(v->pid, v->signal), 0);
	return db_exec(tx, &my_pid, NULL, NULL, err);
}

static void
test_terminated_backend(void **state)
{
	struct err err = ERR_INIT;
	struct victim v = {.signal = SIGTERM}; /* what pg_terminate_backend sends */

	(void)state;
	assert_int_equal(db_run(fx.db, lose, &v, &err), RC_UNAVAILABLE);
	assert_string_equal(err.kind, "database-unavailable");
	assert_int_equal(v.calls, 1);
	err_clear(&err);
	assert_ok(db_ping(fx.db, &err), err);
	/* reads are repeated on another connection, once */
	v = (struct victim){.signal = SIGTERM, .kills_at_first_call_only = true};
	assert_ok(db_run_readonly(fx.db, lose, &v, &err), err);
	assert_int_equal(v.calls, 2);
	v = (struct victim){.signal = SIGTERM};
	assert_int_equal(db_run_readonly(fx.db, lose, &v, &err), RC_UNAVAILABLE);
	assert_int_equal(v.calls, 2);
}

static enum rc
update_first(struct db_tx *tx, void *arg, struct err *err)
{
	unsigned *calls = arg;

	(*calls)++;
	return update_row(tx, 1, err);
}

static void
test_idle_connections_die(void **state)
{
	struct err err = ERR_INIT;
	unsigned calls = 0;

	(void)state;
	fixture_sql(fx.db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
			   "WHERE usename = 'digstore' AND pid <> pg_backend_pid()");
	assert_ok(db_run(fx.db, update_first, &calls, &err), err);
	assert_int_equal(calls, 1);
}

static void
test_stopped_backend_hits_deadline(void **state)
{
	struct err err = ERR_INIT;
	struct db *db = fixture_pool(&fx, 300);
	struct victim v = {.signal = SIGSTOP};

	(void)state;
	assert_int_equal(db_run(db, lose, &v, &err), RC_UNAVAILABLE);
	assert_string_equal(err.kind, "database-unavailable");
	assert_non_null(strstr(err.detail, "no answer within"));
	err_clear(&err);
	assert_ok(db_ping(db, &err), err); /* on a new connection */
	kill(v.pid, SIGCONT);
	db_free(db);
}

static const struct db_stmt sleep_stmt = {.name = "t_sleep", .sql = "SELECT pg_sleep(10)"};

static enum rc
oversleep(struct db_tx *tx, void *arg, struct err *err)
{
	(void)arg;
	return db_exec(tx, &sleep_stmt, NULL, NULL, err);
}

static enum rc
sleep_longer_allowed(struct db_tx *tx, void *arg, struct err *err)
{
	static const struct db_stmt nap = {.name = "t_nap", .sql = "SELECT pg_sleep(0.4)"};

	(void)arg;
	enum rc rc = db_set_timeouts(tx, 5000, 1000, err);
	return rc == RC_OK ? db_exec(tx, &nap, NULL, NULL, err) : rc;
}

static void
test_statement_timeout(void **state)
{
	struct err err = ERR_INIT;
	struct db *db = fixture_pool(&fx, 200);
	struct db_counters counters;

	(void)state;
	assert_int_equal(db_run(db, oversleep, NULL, &err), RC_UNAVAILABLE);
	assert_string_equal(err.kind, "overloaded");
	assert_non_null(strstr(err.detail, "57014"));
	err_clear(&err);
	assert_ok(db_run(db, sleep_longer_allowed, NULL, &err), err);
	assert_int_equal(db_run(db, oversleep, NULL, &err), RC_UNAVAILABLE);
	db_counters(db, &counters);
	assert_int_equal(counters.connects, 1); /* a timeout costs no connection */
	assert_int_equal(counters.in_use, 0);
	assert_int_equal(counters.errors, 2);
	db_free(db);
}

/* A COMMIT whose answer never comes: a deferred trigger stops the backend inside COMMIT. */
static enum rc
insert_slow(struct db_tx *tx, void *arg, struct err *err)
{
	struct victim *v = arg;
	struct db_result *r;

	enum rc rc = db_exec(tx, &my_pid, NULL, &r, err);
	if (rc != RC_OK)
		return rc;
	v->pid = db_get_i32(r, 0, 0);
	db_result_free(r);
	v->calls++;
	return db_exec_script(tx, "INSERT INTO slow VALUES (1)", err);
}

static void *
kill_in_commit(void *arg)
{
	struct victim *v = arg;

	while (fixture_number(v->other, "SELECT count(*) FROM pg_stat_activity "
					"WHERE query = 'COMMIT' AND state = 'active'") == 0)
		;
	kill(v->pid, SIGTERM);
	return NULL;
}

static void
test_commit_unknown(void **state)
{
	struct err err = ERR_INIT;
	struct db *other = fixture_pool(&fx, 5000);
	struct victim v = {.other = other};
	pthread_t killer;

	(void)state;
	fixture_sql(fx.db,
		"CREATE TABLE slow (k int8); "
		"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
		"$$ BEGIN PERFORM pg_sleep(10); RETURN NULL; END $$; "
		"CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED "
		"FOR EACH ROW EXECUTE FUNCTION slow()");
	pthread_create(&killer, NULL, kill_in_commit, &v);
	enum rc rc = db_run(fx.db, insert_slow, &v, &err);
	pthread_join(killer, NULL);
	assert_int_equal(rc, RC_UNAVAILABLE);
	assert_string_equal(err.kind, "commit-unknown");
	assert_int_equal(v.calls, 1);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM slow"), 0);
	db_free(other);
}

/* ---- the pool ---- */

struct holder {
	pthread_barrier_t *barrier;
	int64_t key; /* of the row it locks meanwhile */
	enum rc rc;
	struct err err;
};

static enum rc
hold(struct db_tx *tx, void *arg, struct err *err)
{
	struct holder *h = arg;

	enum rc rc = update_row(tx, h->key, err);
	pthread_barrier_wait(h->barrier);
	pthread_barrier_wait(h->barrier);
	return rc;
}

static void *
hold_thread(void *arg)
{
	struct holder *h = arg;

	h->rc = db_run(fx.db, hold, h, &h->err);
	return NULL;
}

static void
test_pool_is_bounded(void **state)
{
	pthread_barrier_t barrier;
	struct holder holders[4];
	pthread_t threads[4];
	struct db_counters counters;
	struct err err = ERR_INIT;

	(void)state;
	pthread_barrier_init(&barrier, NULL, 5);
	for (int i = 0; i < 4; i++) {
		holders[i] = (struct holder){.barrier = &barrier, .key = i};
		pthread_create(&threads[i], NULL, hold_thread, &holders[i]);
	}
	pthread_barrier_wait(&barrier);
	db_counters(fx.db, &counters);
	assert_int_equal(counters.in_use, 4);
	assert_int_equal(counters.connections, 4);
	assert_int_equal(db_ping(fx.db, &err), RC_UNAVAILABLE);
	assert_string_equal(err.kind, "overloaded");
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_ok(holders[i].rc, holders[i].err);
	}
	pthread_barrier_destroy(&barrier);
	err_clear(&err);
	assert_ok(db_ping(fx.db, &err), err);
}

static enum rc
update_impatiently(struct db_tx *tx, void *arg, struct err *err)
{
	unsigned *calls = arg;

	(*calls)++;
	enum rc rc = db_set_timeouts(tx, 5000, 100, err);
	return rc == RC_OK ? update_row(tx, 1, err) : rc;
}

static void
test_lock_timeout(void **state)
{
	pthread_barrier_t barrier;
	struct holder holder = {.barrier = &barrier, .key = 1};
	pthread_t thread;
	struct err err = ERR_INIT;
	unsigned calls = 0;

	(void)state;
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, hold_thread, &holder);
	pthread_barrier_wait(&barrier);
	assert_int_equal(db_run(fx.db, update_impatiently, &calls, &err), RC_UNAVAILABLE);
	assert_string_equal(err.kind, "overloaded");
	assert_non_null(strstr(err.detail, "55P03"));
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&barrier);
	assert_ok(holder.rc, holder.err);
	assert_int_equal(calls, 1);
	err_clear(&err);
	assert_ok(db_run(fx.db, update_impatiently, &calls, &err), err);
}

static void
test_server_is_down(void **state)
{
	struct err err = ERR_INIT;
	struct db *db;
	struct db_options options = {.url = "host=/nonexistent port=1 user=nobody",
		.connections_max = 2,
		.connect_timeout_ms = 2000,
		.statement_timeout_ms = 1000,
		.checkout_timeout_ms = 60000};
	struct db_counters counters;

	(void)state;
	assert_ok(db_open(&options, &db, &err), err);
	/* 200 refusals, but only a handful of attempts; none of them waits for the pool */
	for (int i = 0; i < 200; i++) {
		err_clear(&err);
		assert_int_equal(db_ping(db, &err), RC_UNAVAILABLE);
		assert_string_equal(err.kind, "database-unavailable");
	}
	db_counters(db, &counters);
	assert_true(counters.connect_errors >= 1 && counters.connect_errors < 100);
	assert_int_equal(counters.connections, 0);
	assert_int_equal(counters.errors, 200);
	db_free(db);
}

static void
test_bad_options(void **state)
{
	struct db *db;
	struct db_options good = {.url = "host=/tmp",
		.connections_max = 1,
		.connect_timeout_ms = 1,
		.statement_timeout_ms = 1,
		.checkout_timeout_ms = 1};

	(void)state;
	for (int i = 0; i < 7; i++) {
		struct db_options o = good;
		struct err err = ERR_INIT;
		if (i == 1)
			o.connections_max = 0;
		if (i == 2)
			o.connections_max = DB_CONNECTIONS_MAX + 1;
		if (i == 3)
			o.statement_timeout_ms = 0;
		if (i == 4)
			o.checkout_timeout_ms = UINT32_MAX;
		if (i == 5)
			o.url = "postgres://user:secret@[host/x";
		if (i == 6)
			o.url = "no equals sign";
		enum rc rc = db_open(&o, &db, &err);
		assert_int_equal(rc, i == 0 ? RC_OK : RC_INVALID);
		assert_null(strstr(err.text, "secret"));
		assert_null(strstr(err.detail, "secret"));
		db_free(db);
	}
	db_free(NULL);
}

static void
test_durability_check(void **state)
{
	struct err err = ERR_INIT;
	char url[512];
	struct db *db;
	struct db_options options = {.url = url,
		.connections_max = 1,
		.connect_timeout_ms = 2000,
		.statement_timeout_ms = 1000,
		.checkout_timeout_ms = 1000};

	(void)state;
	assert_ok(db_check_durable(fx.db, &err), err);
	snprintf(url, sizeof url, "%s options='-c synchronous_commit=off'",
		pg_cluster_url(fx.cluster));
	assert_ok(db_open(&options, &db, &err), err);
	assert_int_equal(db_check_durable(db, &err), RC_INVALID);
	assert_string_equal(err.kind, "database-not-durable");
	db_free(db);
}

/* Many threads, each with many short transactions, while backends are killed. Every committed
 * increment must be there: the counts tell acknowledged, refused and unknown ones. */
#define STORM_THREADS 6
#define STORM_ROUNDS  150

struct storm {
	int64_t key;
	unsigned ok, refused, unknown;
};

static enum rc
storm_update(struct db_tx *tx, void *arg, struct err *err)
{
	const struct storm *s = arg;

	return update_row(tx, s->key, err);
}

static void *
storm_thread(void *arg)
{
	struct storm *s = arg;

	for (int i = 0; i < STORM_ROUNDS; i++) {
		struct err err = ERR_INIT;
		enum rc rc = db_run(fx.db, storm_update, s, &err);
		if (rc == RC_OK)
			s->ok++;
		else if (strcmp(err.kind, "commit-unknown") == 0)
			s->unknown++;
		else
			s->refused++;
	}
	return NULL;
}

static void
test_storm(void **state)
{
	struct storm storms[STORM_THREADS];
	pthread_t threads[STORM_THREADS];
	unsigned ok = 0, unknown = 0;
	struct db *other = fixture_pool(&fx, 5000);

	(void)state;
	fixture_sql(fx.db, "UPDATE d SET n = 0");
	for (int i = 0; i < STORM_THREADS; i++) {
		storms[i] = (struct storm){.key = i};
		pthread_create(&threads[i], NULL, storm_thread, &storms[i]);
	}
	for (int i = 0; i < 20; i++)
		fixture_sql(other, "SELECT pg_terminate_backend(pid), pg_sleep(0.02) "
				   "FROM pg_stat_activity WHERE usename = 'digstore' "
				   "AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1");
	for (int i = 0; i < STORM_THREADS; i++) {
		pthread_join(threads[i], NULL);
		ok += storms[i].ok;
		unknown += storms[i].unknown;
	}
	int64_t sum = fixture_number(fx.db, "SELECT sum(n)::int8 FROM d");
	assert_true(sum >= ok && sum <= ok + unknown);
	assert_true(ok > STORM_ROUNDS);
	db_free(other);
}

static int
set_up(void **state)
{
	(void)state;
	fixture_start(&fx);
	fx.db = fixture_pool(&fx, 5000);
	fixture_sql(fx.db, "CREATE TABLE d (k int8 PRIMARY KEY, n int8); "
			   "INSERT INTO d SELECT generate_series(0, 9), 0");
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
		cmocka_unit_test(test_terminated_backend),
		cmocka_unit_test(test_idle_connections_die),
		cmocka_unit_test(test_stopped_backend_hits_deadline),
		cmocka_unit_test(test_statement_timeout),
		cmocka_unit_test(test_commit_unknown),
		cmocka_unit_test(test_pool_is_bounded),
		cmocka_unit_test(test_lock_timeout),
		cmocka_unit_test(test_server_is_down),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_durability_check),
		cmocka_unit_test(test_storm),
	};

	fixture_init(&fx, false);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
