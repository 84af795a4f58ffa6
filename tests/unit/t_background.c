/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "background.h"

struct seen {
	bool ok;
	int policy;
	int nice;
};

static void *
enter(void *arg)
{
	struct seen *s = arg;

	s->ok = background_enter();
	s->policy = sched_getscheduler(0);
	s->nice = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
	return NULL;
}

static void
a_thread_steps_back_and_no_other_does(void **state)
{
	struct seen s = {.ok = false};
	pthread_t thread;
	(void)state;

	int policy = sched_getscheduler(0);
	int nice = getpriority(PRIO_PROCESS, (id_t)getpid());
	assert_int_equal(pthread_create(&thread, NULL, enter, &s), 0);
	pthread_join(thread, NULL);
	assert_true(s.ok);
	assert_int_equal(s.policy, SCHED_IDLE);
	assert_int_equal(s.nice, 19);
	assert_int_equal(sched_getscheduler(0), policy);
	assert_int_equal(getpriority(PRIO_PROCESS, (id_t)getpid()), nice);
}

static void
memory_can_be_given_back_at_any_time(void **state)
{
	(void)state;
	background_give_memory();
	background_give_memory();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_steps_back_and_no_other_does),
		cmocka_unit_test(memory_can_be_given_back_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
