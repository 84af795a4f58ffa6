/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>

#include "gate.h"

#define POSTERS 4
#define ITEMS   20000
#define LIVES   2000
#define TOTAL   ((unsigned)(POSTERS * ITEMS))

/* A connection as MHD has it: suspended or not. Resuming one that is not is the mistake. */
struct line {
	struct gate gate;
	atomic_bool suspended;
	sem_t resumed;
	atomic_uint produced;
	atomic_int doubled;
};

static void
resume(struct line *l)
{
	if (!atomic_exchange(&l->suspended, false))
		atomic_fetch_add(&l->doubled, 1);
	sem_post(&l->resumed);
}

static void *
poster_main(void *arg)
{
	struct line *l = arg;

	for (int i = 0; i < ITEMS; i++) {
		atomic_fetch_add(&l->produced, 1);
		if (gate_post(&l->gate, 0) & GATE_WAITING)
			resume(l);
		if (i % 3 == 0)
			sched_yield();
	}
	return NULL;
}

/* The HTTP thread takes what there is and waits for more; a wake that is lost would hang it. */
static void
test_no_wake_is_lost_or_doubled(void **state)
{
	struct line l = {.doubled = 0};
	pthread_t t[POSTERS];
	unsigned taken = 0;

	(void)state;
	sem_init(&l.resumed, 0, 0);
	for (int i = 0; i < POSTERS; i++)
		pthread_create(&t[i], NULL, poster_main, &l);
	while (taken < TOTAL) {
		gate_enter(&l.gate);
		unsigned now = atomic_load(&l.produced);
		if (now > taken) {
			taken = now;
			continue;
		}
		atomic_store(&l.suspended, true);
		if (!gate_wait(&l.gate))
			resume(&l);
		sem_wait(&l.resumed);
	}
	for (int i = 0; i < POSTERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(atomic_load(&l.doubled), 0);
	sem_destroy(&l.resumed);
}

struct life {
	struct gate gate;
	atomic_int finished;
	atomic_int *all;
};

static void
finish(struct life *l)
{
	atomic_fetch_add(&l->finished, 1);
	atomic_fetch_add(l->all, 1);
}

static void *
completer_main(void *arg)
{
	struct life *l = arg;

	for (int i = 0; i < LIVES; i++) {
		while (!(atomic_load(&l[i].gate.word) & GATE_OWED))
			sched_yield();
		if (gate_post(&l[i].gate, GATE_DONE) & GATE_DETACHED)
			finish(&l[i]);
	}
	return NULL;
}

/* A connection ends while its end is owed: one of the two sides finishes it, and only one. */
static void
test_exactly_one_side_finishes(void **state)
{
	static struct life l[LIVES];
	atomic_int all = 0;
	pthread_t t;

	(void)state;
	for (int i = 0; i < LIVES; i++)
		l[i].all = &all;
	pthread_create(&t, NULL, completer_main, l);
	for (int i = 0; i < LIVES; i++) {
		gate_owe(&l[i].gate);
		if (i % 2 == 0)
			sched_yield();
		if (gate_detach(&l[i].gate))
			finish(&l[i]);
	}
	pthread_join(t, NULL);
	assert_int_equal(atomic_load(&all), LIVES);
	for (int i = 0; i < LIVES; i++)
		assert_int_equal(atomic_load(&l[i].finished), 1);
}

static void
test_bits(void **state)
{
	struct gate g = {0};

	(void)state;
	assert_int_equal(gate_enter(&g), 0);
	assert_true(gate_wait(&g));
	assert_int_equal(gate_post(&g, 0), GATE_WAITING);
	assert_int_equal(gate_post(&g, 0), GATE_WOKEN);
	assert_false(gate_wait(&g));
	assert_int_equal(gate_enter(&g), GATE_WOKEN);
	gate_owe(&g);
	assert_int_equal(gate_post(&g, GATE_DONE), GATE_OWED);
	assert_int_equal(gate_enter(&g), GATE_WOKEN | GATE_DONE);
	assert_true(gate_detach(&g));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bits),
		cmocka_unit_test(test_no_wake_is_lost_or_doubled),
		cmocka_unit_test(test_exactly_one_side_finishes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
