/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "work.h"

static atomic_int done;

static struct work *
open_pool(int threads, size_t queue_max, const void *owner)
{
	struct work_options o = {.threads = threads, .queue_max = queue_max, .owner = owner};
	struct err err = ERR_INIT;
	struct work *w;

	atomic_store(&done, 0);
	assert_int_equal(work_open(&o, &w, &err), RC_OK);
	return w;
}

static void
count_job(void *arg)
{
	(void)arg;
	atomic_fetch_add(&done, 1);
}

static void
block_job(void *arg)
{
	pthread_mutex_lock(arg);
	pthread_mutex_unlock(arg);
	count_job(NULL);
}

static void
test_runs_everything(void **state)
{
	struct work_item items[500];
	struct work *w = open_pool(4, 10000, NULL);

	(void)state;
	for (int i = 0; i < 500; i++) {
		items[i] = (struct work_item){.fn = count_job};
		work_push(w, &items[i]);
		assert_int_equal(work_submit(w, count_job, NULL), RC_OK);
	}
	work_drain(w);
	assert_int_equal(atomic_load(&done), 1000);
	/* late ones */
	assert_true(work_is_full(w));
	assert_int_equal(work_submit(w, count_job, NULL), RC_AGAIN);
	work_push(w, &items[0]);
	assert_int_equal(atomic_load(&done), 1001);
	work_drain(w);
	work_free(w);
	work_free(NULL);
}

static void
test_bound(void **state)
{
	pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
	struct work *w = open_pool(1, 3, NULL);
	struct work_item item = {.fn = count_job};

	(void)state;
	pthread_mutex_lock(&gate);
	assert_int_equal(work_submit(w, block_job, &gate), RC_OK);
	while (work_stats(w).running == 0)
		;
	for (int i = 0; i < 3; i++) {
		assert_false(work_is_full(w));
		assert_int_equal(work_submit(w, count_job, NULL), RC_OK);
	}
	assert_true(work_is_full(w));
	assert_int_equal(work_submit(w, count_job, NULL), RC_AGAIN);
	work_push(w, &item); /* never refused */
	assert_int_equal(work_stats(w).queued, 4);
	assert_int_equal(work_stats(w).refused, 2);
	pthread_mutex_unlock(&gate);
	work_free(w);
	assert_int_equal(atomic_load(&done), 5);
}

/* A job may submit more, also while the pool is drained. */
static void
again_job(void *arg)
{
	static struct work_item item;

	if (atomic_fetch_add(&done, 1) < 100) {
		item = (struct work_item){.fn = again_job, .arg = arg};
		work_push(arg, &item);
	}
}

static void
test_jobs_that_submit(void **state)
{
	struct work *w = open_pool(1, 10, NULL);

	(void)state;
	assert_int_equal(work_submit(w, again_job, w), RC_OK);
	work_free(w);
	assert_int_equal(atomic_load(&done), 101);
}

static void
test_find(void **state)
{
	int a = 0;
	int b = 0;
	struct work *wa = open_pool(1, 1, &a);
	struct work *wb = open_pool(1, 1, &b);

	(void)state;
	assert_ptr_equal(work_find(&a), wa);
	assert_ptr_equal(work_find(&b), wb);
	work_free(wa);
	assert_null(work_find(&a));
	assert_ptr_equal(work_find(&b), wb);
	work_free(wb);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs_everything),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_jobs_that_submit),
		cmocka_unit_test(test_find),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
