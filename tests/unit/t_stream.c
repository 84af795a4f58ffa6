/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_request.h"
#include "watch.h"

#define BIG     ((size_t)3 << 20)
#define FAIL_AT 2000000

/* Makes bytes that tell where they are. */
struct maker {
	uint64_t made;
	uint64_t total;       /* then it ends */
	uint64_t fail_at;     /* then it fails; 0: never */
	size_t step;          /* most bytes a call; 0: as many as wanted */
	size_t more;          /* bytes beyond what is wanted, once */
	pthread_mutex_t gate; /* held by a test that wants a fill to hang */
	atomic_int entered;
	atomic_int inside;
	atomic_int released;
};

static uint8_t
byte_at(uint64_t i)
{
	return (uint8_t)(i * 2654435761u >> 13 ^ i);
}

static enum rc
make(void *arg, struct buf *out, size_t want, struct err *err)
{
	struct maker *m = arg;

	atomic_fetch_add(&m->entered, 1);
	assert_int_equal(atomic_fetch_add(&m->inside, 1), 0);
	pthread_mutex_lock(&m->gate);
	pthread_mutex_unlock(&m->gate);
	want += m->more;
	m->more = 0;
	if (m->step > 0 && want > m->step)
		want = m->step;
	enum rc rc = RC_OK;
	uint64_t end = m->fail_at > 0 && m->fail_at < m->total ? m->fail_at : m->total;
	if (m->fail_at > 0 && m->made == m->fail_at)
		rc = err_set(err, RC_CORRUPT, "corrupt-data", "made to fail");
	if (want > end - m->made)
		want = (size_t)(end - m->made);
	uint8_t *at = buf_grow(out, want);
	for (size_t i = 0; at != NULL && i < want; i++)
		at[i] = byte_at(m->made++);
	atomic_fetch_sub(&m->inside, 1);
	return rc;
}

static void
let_go(void *arg)
{
	struct maker *m = arg;

	atomic_fetch_add(&m->released, 1);
}

static void
maker_init(struct maker *m, uint64_t total)
{
	memset(m, 0, sizeof *m);
	m->total = total;
	pthread_mutex_init(&m->gate, NULL);
}

static enum rc
start(struct fake *f, struct maker *m, uint64_t bytes)
{
	const struct stream_options o = {.fill = make, .release = let_go, .arg = m, .bytes = bytes};
	struct err err = ERR_INIT;

	fake_init(f, METHOD_GET);
	return stream_reply(&f->rq, 200, "x/y", &o, &err);
}

static void
finish(struct fake *f, struct maker *m)
{
	fake_done(f);
	assert_true(fake_wait_idle());
	assert_int_equal(atomic_load(&m->released), 1);
	assert_int_equal(stream_stats().streams, 0);
	assert_int_equal(stream_stats().bytes, 0);
	pthread_mutex_destroy(&m->gate);
}

static void
expect_bytes(const uint8_t *data, size_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != byte_at(from + i))
			fail_msg("byte %zu is wrong", from + i);
}

/* Pull all of it with reads of at most piece bytes. */
static void
expect_all(struct fake *f, size_t total, size_t piece)
{
	uint8_t *out = test_malloc(total + 1);
	ssize_t last;

	size_t got = fake_pull(f, out, total + 1, piece, 10000, &last);
	assert_int_equal(got, total);
	assert_int_equal(last, SOURCE_END);
	expect_bytes(out, 0, total);
	test_free(out);
}

static void
small_bodies_come_whole(void **state)
{
	static const size_t sizes[] = {0, 1, 1000, STREAM_WHOLE_BYTES};
	struct fake f;
	struct maker m;

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		for (int known = 0; known < 2; known++) {
			maker_init(&m, sizes[i]);
			assert_int_equal(start(&f, &m, known ? sizes[i] : UINT64_MAX), RC_OK);
			assert_false(f.is_stream);
			assert_int_equal(f.status, 200);
			assert_string_equal(f.type, "x/y");
			assert_int_equal(atomic_load(&m.released), 1);
			expect_all(&f, sizes[i], 100);
			finish(&f, &m);
		}
	}
}

static void
large_bodies_are_streamed(void **state)
{
	static const size_t sizes[] = {
		STREAM_WHOLE_BYTES + 1, 512 << 10, (512 << 10) + 1, 1 << 20, BIG};
	static const size_t steps[] = {0, 70000, 999};
	struct fake f;
	struct maker m;

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		for (size_t k = 0; k < 6; k++) {
			maker_init(&m, sizes[i]);
			m.step = steps[k / 2];
			bool known = k % 2 == 0;
			assert_int_equal(start(&f, &m, known ? sizes[i] : UINT64_MAX), RC_OK);
			assert_true(f.is_stream);
			assert_int_equal(f.stream_len, known ? sizes[i] : UINT64_MAX);
			expect_all(&f, sizes[i], k == 0 ? 300000 : 16384);
			finish(&f, &m);
		}
	}
}

static void
a_producer_may_overshoot(void **state)
{
	struct fake f;
	struct maker m;

	(void)state;
	maker_init(&m, BIG);
	m.more = 400000;
	assert_int_equal(start(&f, &m, UINT64_MAX), RC_OK);
	expect_all(&f, BIG, 65536);
	finish(&f, &m);
	/* but not where the length is known */
	maker_init(&m, BIG);
	m.more = 1;
	assert_int_not_equal(start(&f, &m, BIG), RC_OK);
	assert_int_equal(f.replies, 0);
	finish(&f, &m);
}

static void
an_early_failure_is_an_answer(void **state)
{
	struct fake f;
	struct maker m;

	(void)state;
	for (int i = 0; i < 2; i++) {
		maker_init(&m, BIG);
		m.fail_at = 100;
		assert_int_equal(start(&f, &m, i == 0 ? BIG : UINT64_MAX), RC_CORRUPT);
		assert_int_equal(f.replies, 0);
		finish(&f, &m);
	}
	/* shorter than was said */
	maker_init(&m, 100);
	assert_int_equal(start(&f, &m, 200), RC_CORRUPT);
	assert_int_equal(f.replies, 0);
	finish(&f, &m);
}

static void
a_late_failure_cuts(void **state)
{
	uint8_t *out = test_malloc(BIG + 1);
	struct fake f;
	struct maker m;
	ssize_t last;

	(void)state;
	for (int i = 0; i < 3; i++) {
		maker_init(&m, i == 2 ? FAIL_AT : BIG);
		m.fail_at = i == 2 ? 0 : FAIL_AT;
		assert_int_equal(start(&f, &m, i == 1 ? UINT64_MAX : BIG), RC_OK);
		size_t got = fake_pull(&f, out, BIG + 1, 100000, 10000, &last);
		assert_int_equal(last, SOURCE_ABORT);
		assert_true(got <= FAIL_AT);
		expect_bytes(out, 0, got);
		/* and stays cut */
		assert_int_equal(fake_pull(&f, out, 1, 1, 10000, &last), 0);
		assert_int_equal(last, SOURCE_ABORT);
		finish(&f, &m);
	}
	test_free(out);
}

static void
a_full_queue_delays(void **state)
{
	struct fake f;
	struct maker m;

	(void)state;
	maker_init(&m, BIG);
	assert_int_equal(start(&f, &m, BIG), RC_OK);
	fake_refuse_jobs(5);
	expect_all(&f, BIG, 400000);
	finish(&f, &m);
}

static void
a_slow_client_holds_no_worker(void **state)
{
	uint8_t *out = test_malloc(BIG);
	struct fake f;
	struct maker m;
	ssize_t last;

	(void)state;
	maker_init(&m, BIG);
	assert_int_equal(start(&f, &m, BIG), RC_OK);
	assert_int_equal(fake_pull(&f, out, 1, 1, 10000, &last), 1);
	assert_true(fake_wait_idle());
	/* the pieces are full, and nothing runs until one is free again */
	uint64_t made = m.made;
	assert_true(made <= (uint64_t)STREAM_PIECES * (512 << 10));
	assert_true(made < BIG);
	assert_int_equal(fake_jobs(), 0);
	assert_true(stream_stats().bytes > 0);
	assert_int_equal(fake_pull(&f, out, BIG, 100000, 10000, &last), BIG - 1);
	expect_bytes(out, 1, BIG - 1);
	finish(&f, &m);
	test_free(out);
}

static void
a_client_leaves_while_a_job_runs(void **state)
{
	uint8_t *out = test_malloc(BIG);
	struct fake f;
	struct maker m;
	ssize_t last;

	(void)state;
	for (int round = 0; round < 20; round++) {
		maker_init(&m, BIG);
		assert_int_equal(start(&f, &m, BIG), RC_OK);
		int before = atomic_load(&m.entered);
		pthread_mutex_lock(&m.gate);
		fake_pull(&f, out, 1, 1, 10000, &last);
		while (round % 2 == 0 && atomic_load(&m.entered) == before)
			sched_yield();
		/* the source goes, then the request, and the job is still there */
		f.release(f.source);
		f.release = NULL;
		assert_int_equal(atomic_load(&m.released), 0);
		pthread_mutex_unlock(&m.gate);
		assert_true(fake_wait_idle());
		finish(&f, &m);
	}
	test_free(out);
}

static void
a_client_leaves_while_it_is_retried(void **state)
{
	uint8_t *out = test_malloc(BIG);
	struct fake f;
	struct maker m;
	ssize_t last;

	(void)state;
	for (int round = 0; round < 10; round++) {
		maker_init(&m, BIG);
		assert_int_equal(start(&f, &m, BIG), RC_OK);
		fake_refuse_jobs(1000000);
		/* all that is there; then the timer is set */
		size_t got = fake_pull(&f, out, BIG, BIG, round, &last);
		assert_int_equal(last, SOURCE_LATER);
		assert_true(got < BIG);
		finish(&f, &m);
		fake_refuse_jobs(0);
	}
	test_free(out);
}

#define MANY 12

static void *
pull_one(void *arg)
{
	struct fake *f = arg;
	uint8_t *out = malloc(BIG + 1);
	ssize_t last;
	size_t got = fake_pull(f, out, BIG + 1, 50000, 10000, &last);
	bool ok = got == BIG && last == SOURCE_END;

	for (size_t i = 0; ok && i < got; i++)
		ok = out[i] == byte_at(i);
	free(out);
	return ok ? arg : NULL;
}

static void
many_streams_share_few_workers(void **state)
{
	static struct fake fakes[MANY];
	static struct maker makers[MANY];
	pthread_t threads[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		maker_init(&makers[i], BIG);
		makers[i].step = 100000;
		assert_int_equal(start(&fakes[i], &makers[i], i % 2 ? BIG : UINT64_MAX), RC_OK);
	}
	for (int i = 0; i < MANY; i++)
		pthread_create(&threads[i], NULL, pull_one, &fakes[i]);
	for (int i = 0; i < MANY; i++) {
		void *ok;
		pthread_join(threads[i], &ok);
		assert_non_null(ok);
	}
	for (int i = 0; i < MANY; i++)
		fake_done(&fakes[i]);
	assert_true(fake_wait_idle());
	for (int i = 0; i < MANY; i++)
		assert_int_equal(atomic_load(&makers[i].released), 1);
	assert_int_equal(stream_stats().bytes, 0);
}

static int
stop(void **state)
{
	(void)state;
	watch_stop();
	fake_stop();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_bodies_come_whole),
		cmocka_unit_test(large_bodies_are_streamed),
		cmocka_unit_test(a_producer_may_overshoot),
		cmocka_unit_test(an_early_failure_is_an_answer),
		cmocka_unit_test(a_late_failure_cuts),
		cmocka_unit_test(a_full_queue_delays),
		cmocka_unit_test(a_slow_client_holds_no_worker),
		cmocka_unit_test(a_client_leaves_while_a_job_runs),
		cmocka_unit_test(a_client_leaves_while_it_is_retried),
		cmocka_unit_test(many_streams_share_few_workers),
	};

	return cmocka_run_group_tests(tests, NULL, stop);
}
