/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "ring.h"

/* A lost wakeup shows as a hang: then the alarm ends the program. */
#define HANG_SECONDS 60

static int items[1 << 16]; /* the pointers that go through are into this */

static struct ring *
make(size_t capacity)
{
	struct err err = ERR_INIT;
	struct ring *r;

	assert_int_equal(ring_open(capacity, &r, &err), RC_OK);
	return r;
}

static void
bad_capacities(void **state)
{
	static const size_t bad[] = {
		0, 1, 3, 6, 100, RING_CAPACITY_MAX + 1u, 2 * (size_t)RING_CAPACITY_MAX, SIZE_MAX};
	(void)state;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct err err = ERR_INIT;
		struct ring *r = (struct ring *)&err;
		assert_int_equal(ring_open(bad[i], &r, &err), RC_INVALID);
		assert_null(r);
	}
	ring_free(NULL);
}

static void
first_in_first_out_over_many_laps(void **state)
{
	struct ring *r = make(4);
	void *out[8];
	(void)state;

	for (int i = 0; i < 4000; i += 4) {
		for (int k = 0; k < 4; k++) {
			assert_int_equal(ring_len(r), k);
			assert_true(ring_push(r, &items[i + k]));
		}
		assert_false(ring_push(r, &items[0]));
		assert_int_equal(ring_len(r), 4);
		assert_int_equal(ring_pop_many(r, out, 1, 0), 1);
		assert_ptr_equal(out[0], &items[i]);
		assert_int_equal(ring_pop_many(r, out, 8, -1), 3);
		for (int k = 0; k < 3; k++)
			assert_ptr_equal(out[k], &items[i + 1 + k]);
		assert_int_equal(ring_pop_many(r, out, 8, 0), 0);
	}
	ring_free(r);
}

static void
waiting_ends(void **state)
{
	struct ring *r = make(2);
	void *out[1];
	(void)state;

	assert_int_equal(ring_pop_many(r, out, 1, 0), 0);
	uint64_t start = clock_mono_ns();
	assert_int_equal(ring_pop_many(r, out, 1, 30), 0);
	assert_true(clock_mono_ns() - start >= 30u * 1000000u);
	ring_free(r);
}

static void
closed_means_drained(void **state)
{
	struct ring *r = make(8);
	void *out[8];
	(void)state;

	assert_true(ring_push(r, &items[1]));
	assert_true(ring_push(r, &items[2]));
	assert_true(ring_push(r, &items[3]));
	assert_false(ring_is_closed(r));
	ring_close(r);
	ring_close(r);
	assert_true(ring_is_closed(r));
	assert_false(ring_push(r, &items[4]));
	assert_int_equal(ring_pop_many(r, out, 2, -1), 2);
	assert_int_equal(ring_pop_many(r, out, 2, -1), 1);
	assert_ptr_equal(out[0], &items[3]);
	assert_int_equal(ring_pop_many(r, out, 2, -1), 0);
	assert_int_equal(ring_pop_many(r, out, 2, 1000000), 0);
	ring_free(r);
}

#define WORKERS 4

struct mill {
	struct ring *ring;
	size_t per_pusher;
	size_t take_max;
	atomic_int seen[1 << 16];
	atomic_int next_pusher;
};

static void *
push_share(void *arg)
{
	struct mill *m = arg;
	size_t first = (size_t)atomic_fetch_add(&m->next_pusher, 1) * m->per_pusher;

	for (size_t i = first; i < first + m->per_pusher; i++)
		while (!ring_push(m->ring, &items[i]))
			sched_yield();
	return NULL;
}

static void *
pop_all(void *arg)
{
	struct mill *m = arg;
	void *out[16];
	size_t n;

	while ((n = ring_pop_many(m->ring, out, m->take_max, -1)) > 0)
		for (size_t i = 0; i < n; i++)
			atomic_fetch_add(&m->seen[(int *)out[i] - items], 1);
	return NULL;
}

static void
run_mill(size_t capacity, size_t take_max, size_t per_pusher)
{
	struct mill *m = calloc(1, sizeof *m);
	pthread_t pushers[WORKERS];
	pthread_t poppers[WORKERS];

	assert_non_null(m);
	m->ring = make(capacity);
	m->per_pusher = per_pusher;
	m->take_max = take_max;
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&poppers[i], NULL, pop_all, m), 0);
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&pushers[i], NULL, push_share, m), 0);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(pushers[i], NULL);
	ring_close(m->ring);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(poppers[i], NULL);
	for (size_t i = 0; i < WORKERS * per_pusher; i++)
		assert_int_equal(m->seen[i], 1);
	assert_int_equal(ring_len(m->ring), 0);
	ring_free(m->ring);
	free(m);
}

static void
everything_arrives_once(void **state)
{
	(void)state;
	run_mill(2, 1, 2000);
	run_mill(8, 3, 5000);
	run_mill(1024, 1, 10000);
	run_mill(1024, 16, 10000);
}

struct pair {
	struct ring *there;
	struct ring *back;
};

static void *
echo(void *arg)
{
	struct pair *p = arg;
	void *item;

	while (ring_pop_many(p->there, &item, 1, -1) == 1)
		while (!ring_push(p->back, item))
			sched_yield();
	return NULL;
}

/* Both sides sleep nearly every time: each push must wake. */
static void
no_wakeup_is_lost(void **state)
{
	struct pair p = {make(2), make(2)};
	pthread_t thread;
	void *item;
	(void)state;

	assert_int_equal(pthread_create(&thread, NULL, echo, &p), 0);
	for (int i = 0; i < 20000; i++) {
		assert_true(ring_push(p.there, &items[i]));
		assert_int_equal(ring_pop_many(p.back, &item, 1, -1), 1);
		assert_ptr_equal(item, &items[i]);
	}
	ring_close(p.there);
	pthread_join(thread, NULL);
	ring_free(p.there);
	ring_free(p.back);
}

/* Several sleepers that take one item each; a burst must get all of them going, and none of the
 * items may be left while somebody sleeps. Sometimes the waiters also time out on the way. */
struct crowd {
	struct ring *ring;
	atomic_size_t got;
	int timeout_ms;
};

static void *
take_one_by_one(void *arg)
{
	struct crowd *c = arg;
	void *item;

	while (!ring_is_closed(c->ring) || ring_len(c->ring) > 0)
		if (ring_pop_many(c->ring, &item, 1, c->timeout_ms) == 1)
			atomic_fetch_add(&c->got, 1);
	return NULL;
}

static void
run_crowd(int timeout_ms, size_t bursts)
{
	struct crowd c = {.ring = make(16), .timeout_ms = timeout_ms};
	pthread_t threads[WORKERS];

	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, take_one_by_one, &c), 0);
	for (size_t b = 1; b <= bursts; b++) {
		for (int i = 0; i < 3; i++)
			assert_true(ring_push(c.ring, &items[i]));
		while (atomic_load(&c.got) < 3 * b)
			sched_yield();
	}
	ring_close(c.ring);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(c.got, 3 * bursts);
	ring_free(c.ring);
}

static void
bursts_reach_the_sleepers(void **state)
{
	(void)state;
	run_crowd(-1, 3000);
	run_crowd(1, 3000);
}

static void *
pop_one(void *arg)
{
	void *item;

	return ring_pop_many(arg, &item, 1, -1) == 0 ? NULL : arg;
}

static void
close_wakes_every_sleeper(void **state)
{
	(void)state;
	for (int round = 0; round < 30; round++) {
		struct ring *r = make(2);
		pthread_t threads[8];
		void *failed;
		for (int i = 0; i < 8; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, pop_one, r), 0);
		if (round % 3 == 0)
			usleep(2000);
		ring_close(r);
		for (int i = 0; i < 8; i++) {
			pthread_join(threads[i], &failed);
			assert_null(failed);
		}
		ring_free(r);
	}
}

static void *
push_in_order(void *arg)
{
	for (int i = 0; i < 20000; i++)
		while (!ring_push(arg, &items[i]))
			sched_yield();
	return NULL;
}

static void
one_to_one_keeps_order(void **state)
{
	struct ring *r = make(64);
	pthread_t thread;
	void *out[7];
	(void)state;

	assert_int_equal(pthread_create(&thread, NULL, push_in_order, r), 0);
	for (int expect = 0; expect < 20000;) {
		size_t n = ring_pop_many(r, out, 7, -1);
		assert_true(n > 0);
		for (size_t i = 0; i < n; i++)
			assert_ptr_equal(out[i], &items[expect++]);
		assert_true(ring_len(r) <= 64);
	}
	pthread_join(thread, NULL);
	ring_free(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_capacities),
		cmocka_unit_test(first_in_first_out_over_many_laps),
		cmocka_unit_test(waiting_ends),
		cmocka_unit_test(closed_means_drained),
		cmocka_unit_test(everything_arrives_once),
		cmocka_unit_test(no_wakeup_is_lost),
		cmocka_unit_test(bursts_reach_the_sleepers),
		cmocka_unit_test(close_wakes_every_sleeper),
		cmocka_unit_test(one_to_one_keeps_order),
	};

	alarm(HANG_SECONDS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
