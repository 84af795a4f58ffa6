/* SPDX-License-Identifier: Apache-2.0 */
#include "unpack_threads.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define JOBS    64
#define AT_ONCE 3

static struct {
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	unsigned running, most, done, refused;
	bool gate_open;
} seen = {.mtx = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct server_ctx srv = {.limits.archive_threads_max = AT_ONCE};

/* Runs until the gate is open. */
static void
run(struct unpack_job *job)
{
	(void)job;
	pthread_mutex_lock(&seen.mtx);
	seen.running++;
	if (seen.running > seen.most)
		seen.most = seen.running;
	pthread_cond_broadcast(&seen.changed);
	while (!seen.gate_open)
		pthread_cond_wait(&seen.changed, &seen.mtx);
	seen.running--;
	seen.done++;
	pthread_cond_broadcast(&seen.changed);
	pthread_mutex_unlock(&seen.mtx);
}

static void
refuse(struct unpack_job *job, const struct err *err)
{
	(void)job;
	assert_string_equal(err->kind, "shutting-down");
	pthread_mutex_lock(&seen.mtx);
	seen.refused++;
	pthread_mutex_unlock(&seen.mtx);
}

static void
set_gate(bool is_open)
{
	pthread_mutex_lock(&seen.mtx);
	seen.gate_open = is_open;
	pthread_cond_broadcast(&seen.changed);
	pthread_mutex_unlock(&seen.mtx);
}

static void
wait_for(const unsigned *what, unsigned number)
{
	pthread_mutex_lock(&seen.mtx);
	while (*what < number)
		pthread_cond_wait(&seen.changed, &seen.mtx);
	pthread_mutex_unlock(&seen.mtx);
}

static int
start(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	seen.running = seen.most = seen.done = seen.refused = 0;
	seen.gate_open = false;
	return unpack_threads_start(&srv, &err) == RC_OK ? 0 : -1;
}

static int
stop(void **state)
{
	(void)state;
	set_gate(true);
	unpack_threads_stop(&srv);
	return 0;
}

static void
jobs_wait_in_line(void **state)
{
	struct unpack_job jobs[JOBS];

	(void)state;
	for (int i = 0; i < JOBS; i++) {
		jobs[i] = (struct unpack_job){.run = run, .refuse = refuse};
		unpack_threads_push(&jobs[i]);
	}
	wait_for(&seen.running, AT_ONCE);
	set_gate(true);
	wait_for(&seen.done, JOBS);
	assert_int_equal(seen.most, AT_ONCE);
	assert_int_equal(seen.refused, 0);
}

static void
a_job_can_be_taken_back_while_it_waits(void **state)
{
	struct unpack_job jobs[AT_ONCE + 4];

	(void)state;
	for (int i = 0; i < AT_ONCE + 4; i++) {
		jobs[i] = (struct unpack_job){.run = run, .refuse = refuse};
		unpack_threads_push(&jobs[i]);
	}
	wait_for(&seen.running, AT_ONCE);
	assert_true(unpack_threads_take_back(&jobs[AT_ONCE + 3])); /* the last */
	assert_true(unpack_threads_take_back(&jobs[AT_ONCE]));     /* the first that waits */
	assert_true(unpack_threads_take_back(&jobs[AT_ONCE + 1]));
	assert_false(unpack_threads_take_back(&jobs[AT_ONCE + 1]));
	assert_false(unpack_threads_take_back(&jobs[0]));
	set_gate(true);
	wait_for(&seen.done, AT_ONCE + 1);
	assert_false(unpack_threads_take_back(&jobs[AT_ONCE + 2]));
	unpack_threads_push(&jobs[AT_ONCE]);
	wait_for(&seen.done, AT_ONCE + 2);
}

static void *
open_gate(void *arg)
{
	(void)arg;
	wait_for(&seen.running, AT_ONCE);
	set_gate(true);
	return NULL;
}

static void
stopping_refuses_and_waits(void **state)
{
	struct unpack_job jobs[JOBS];
	struct unpack_job late = {.run = run, .refuse = refuse};
	pthread_t thread;

	(void)state;
	for (int i = 0; i < JOBS; i++) {
		jobs[i] = (struct unpack_job){.run = run, .refuse = refuse};
		unpack_threads_push(&jobs[i]);
	}
	assert_int_equal(pthread_create(&thread, NULL, open_gate, NULL), 0);
	unpack_threads_stop(&srv);
	pthread_join(thread, NULL);
	assert_int_equal(seen.done + seen.refused, JOBS);
	assert_true(seen.done >= AT_ONCE);
	unsigned before = seen.refused;
	unpack_threads_push(&late);
	assert_int_equal(seen.refused, before + 1);
	assert_false(unpack_threads_take_back(&late));
	unpack_threads_stop(&srv);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(jobs_wait_in_line, start, stop),
		cmocka_unit_test_setup_teardown(
			a_job_can_be_taken_back_while_it_waits, start, stop),
		cmocka_unit_test_setup_teardown(stopping_refuses_and_waits, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
