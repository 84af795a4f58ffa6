/* SPDX-License-Identifier: Apache-2.0 */
#include "watch.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "clock.h"

#define MS UINT64_C(1000000)

struct probe {
	struct watch_timer timer; /* first */
	atomic_int fired;
	int again; /* sets itself so many times */
	bool frees_itself;
	atomic_int *freed;
	uint64_t fired_ns;
};

static void
on_time(struct watch_timer *t)
{
	struct probe *p = (struct probe *)t;

	p->fired_ns = clock_mono_ns();
	if (p->again > 0) {
		p->again--;
		watch_timer_set(t, clock_mono_ns() + MS);
	}
	if (p->frees_itself) {
		atomic_int *freed = p->freed;
		watch_timer_cancel(t);
		free(p);
		atomic_fetch_add(freed, 1);
		return;
	}
	atomic_fetch_add(&p->fired, 1);
}

static void
wait_for(atomic_int *n, int count)
{
	uint64_t end = clock_mono_ns() + 10000 * MS;

	while (atomic_load(n) < count && clock_mono_ns() < end)
		sched_yield();
	assert_int_equal(atomic_load(n), count);
}

static void
timers_fire_once_and_not_early(void **state)
{
	struct probe p = {.timer = {.fn = on_time}};
	uint64_t due = clock_mono_ns() + 30 * MS;

	(void)state;
	assert_true(watch_timer_set(&p.timer, due));
	wait_for(&p.fired, 1);
	assert_true(p.fired_ns >= due);
	watch_timer_cancel(&p.timer);
	assert_int_equal(atomic_load(&p.fired), 1);
}

static void
timers_set_themselves(void **state)
{
	struct probe p = {.timer = {.fn = on_time}, .again = 5};

	(void)state;
	watch_timer_set(&p.timer, 0);
	wait_for(&p.fired, 6);
	watch_timer_cancel(&p.timer);
}

static void
hurrying(void **state)
{
	struct probe p = {.timer = {.fn = on_time}};

	(void)state;
	/* not set: nothing */
	watch_timer_hurry(&p.timer);
	watch_timer_set(&p.timer, clock_mono_ns() + 3600000 * MS);
	watch_timer_hurry(&p.timer);
	wait_for(&p.fired, 1);
	watch_timer_hurry(&p.timer);
	watch_timer_cancel(&p.timer);
	assert_int_equal(atomic_load(&p.fired), 1);
}

static void
a_later_time_replaces_an_earlier_one(void **state)
{
	struct probe p = {.timer = {.fn = on_time}};
	struct probe other = {.timer = {.fn = on_time}};

	(void)state;
	watch_timer_set(&p.timer, clock_mono_ns() + 3600000 * MS);
	watch_timer_set(&p.timer, UINT64_MAX);
	watch_timer_set(&other.timer, 0);
	wait_for(&other.fired, 1);
	assert_int_equal(atomic_load(&p.fired), 0);
	watch_timer_cancel(&p.timer);
	watch_timer_cancel(&p.timer);
	watch_timer_cancel(&other.timer);
}

#define MANY 200

static void
many_that_free_themselves(void **state)
{
	atomic_int freed = 0;

	(void)state;
	for (int i = 0; i < MANY; i++) {
		struct probe *p = calloc(1, sizeof *p);
		assert_non_null(p);
		p->timer.fn = on_time;
		p->frees_itself = true;
		p->freed = &freed;
		watch_timer_set(&p->timer, i % 3 == 0 ? 0 : clock_mono_ns() + (uint64_t)i % 7 * MS);
	}
	wait_for(&freed, MANY);
}

/* The memory goes right after the cancel: a sanitizer sees whoever comes late. */
static void
cancelling_races_with_firing(void **state)
{
	(void)state;
	for (int i = 0; i < 500; i++) {
		struct probe *p = calloc(1, sizeof *p);
		assert_non_null(p);
		p->timer.fn = on_time;
		p->again = 3;
		watch_timer_set(&p->timer, 0);
		if (i % 2 == 0)
			sched_yield();
		watch_timer_cancel(&p->timer);
		free(p);
	}
}

static void
watchers_are_counted(void **state)
{
	struct server_ctx srv = {.limits = {.watchers_max = 2}};
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(watch_enter(&srv, &err), RC_OK);
	assert_int_equal(watch_enter(&srv, &err), RC_OK);
	assert_int_equal(watch_count(), 2);
	assert_int_equal(watch_enter(&srv, &err), RC_AGAIN);
	assert_string_equal(err.kind, "overloaded");
	watch_leave();
	err_clear(&err);
	assert_int_equal(watch_enter(&srv, &err), RC_OK);
	watch_leave();
	watch_leave();
	assert_int_equal(watch_count(), 0);
}

/* Last: there is no way back. */
static void
stopping_makes_all_due(void **state)
{
	struct server_ctx srv = {.limits = {.watchers_max = 2}};
	struct err err = ERR_INIT;
	struct probe probes[5] = {0};

	(void)state;
	for (int i = 0; i < 5; i++) {
		probes[i].timer.fn = on_time;
		probes[i].again = i;
		watch_timer_set(&probes[i].timer, clock_mono_ns() + 3600000 * MS);
	}
	assert_false(watch_is_stopped());
	watch_stop();
	watch_stop();
	assert_true(watch_is_stopped());
	for (int i = 0; i < 5; i++) {
		assert_int_equal(atomic_load(&probes[i].fired), 1);
		assert_false(watch_timer_set(&probes[i].timer, 0));
		watch_timer_cancel(&probes[i].timer);
	}
	assert_int_equal(watch_enter(&srv, &err), RC_UNAVAILABLE);
	assert_string_equal(err.kind, "shutting-down");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers_fire_once_and_not_early),
		cmocka_unit_test(timers_set_themselves),
		cmocka_unit_test(hurrying),
		cmocka_unit_test(a_later_time_replaces_an_earlier_one),
		cmocka_unit_test(many_that_free_themselves),
		cmocka_unit_test(cancelling_races_with_firing),
		cmocka_unit_test(watchers_are_counted),
		cmocka_unit_test(stopping_makes_all_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
