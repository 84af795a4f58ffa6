/* SPDX-License-Identifier: Apache-2.0 */
/* mmap and munmap below stand before those of the C library, so that a test can count what is
 * really mapped and make the system refuse; not under ThreadSanitizer, which needs its own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "slab.h"

#define HANG_SECONDS 60 /* a lost wake-up shows as a hang: then the alarm ends the program */
#define POOL_BYTES   (4 * SLAB_LARGE_BYTES)
#define SMALLS       (POOL_BYTES / SLAB_SMALL_BYTES)

static atomic_size_t mapped_bytes, mapped_peak_bytes;
static atomic_int refuse_maps; /* so many are refused */

#if defined(__SANITIZE_THREAD__)
#define OWN_MMAP 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OWN_MMAP 0
#endif
#endif
#ifndef OWN_MMAP
#define OWN_MMAP 1
#endif

#if OWN_MMAP

static bool
is_slab_size(size_t bytes)
{
	return bytes == SLAB_SMALL_BYTES || bytes == SLAB_MEDIUM_BYTES || bytes == SLAB_LARGE_BYTES;
}

void *
mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (fd == -1 && is_slab_size(len)) {
		if (atomic_load(&refuse_maps) > 0) {
			atomic_fetch_sub(&refuse_maps, 1);
			errno = ENOMEM;
			return MAP_FAILED;
		}
		size_t now = atomic_fetch_add(&mapped_bytes, len) + len;
		size_t peak = atomic_load(&mapped_peak_bytes);
		while (now > peak && !atomic_compare_exchange_weak(&mapped_peak_bytes, &peak, now))
			;
	}
	return (void *)syscall(SYS_mmap, at, len, prot, flags, fd, offset);
}

int
munmap(void *at, size_t len)
{
	if (is_slab_size(len))
		atomic_fetch_sub(&mapped_bytes, len);
	return (int)syscall(SYS_munmap, at, len);
}

#endif

static struct slab_pool *
make(size_t bytes_max)
{
	struct slab_pool *pool = NULL;
	struct err err = ERR_INIT;

	atomic_store(&mapped_peak_bytes, 0);
	assert_int_equal(slab_pool_open(bytes_max, &pool, &err), RC_OK);
	return pool;
}

static void
done(struct slab_pool *pool)
{
	assert_int_equal(slab_used_bytes(pool), 0);
	assert_int_equal(slab_waiting(pool), 0);
	assert_true(slab_peak_bytes(pool) <= slab_bytes_max(pool));
	assert_true(atomic_load(&mapped_peak_bytes) <= slab_bytes_max(pool));
	slab_pool_free(pool);
	assert_int_equal(atomic_load(&mapped_bytes), 0);
}

/* Take so many small slabs. */
static void
take_small(struct slab_pool *pool, struct slab **out, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		out[i] = slab_take(pool, SLAB_SMALL_BYTES, SLAB_SMALL_BYTES, NULL);
		assert_non_null(out[i]);
		assert_int_equal(out[i]->bytes, SLAB_SMALL_BYTES);
	}
}

static void
give_all(struct slab_pool *pool, struct slab **slabs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		slab_give(pool, slabs[i]);
}

/* ---- sizes ---- */

static void
a_slab_is_as_large_as_asked(void **state)
{
	static const struct {
		size_t min, want, bytes;
	} cases[] = {
		{0, 0, SLAB_SMALL_BYTES},
		{1, 0, SLAB_SMALL_BYTES},
		{0, 1, SLAB_SMALL_BYTES},
		{SLAB_SMALL_BYTES, 0, SLAB_SMALL_BYTES},
		{SLAB_SMALL_BYTES + 1, 0, SLAB_MEDIUM_BYTES},
		{0, SLAB_SMALL_BYTES + 1, SLAB_MEDIUM_BYTES},
		{SLAB_MEDIUM_BYTES, SLAB_MEDIUM_BYTES, SLAB_MEDIUM_BYTES},
		{SLAB_MEDIUM_BYTES + 1, 0, SLAB_LARGE_BYTES},
		{SLAB_LARGE_BYTES, 0, SLAB_LARGE_BYTES},
		{0, SLAB_LARGE_BYTES, SLAB_LARGE_BYTES},
		{0, SIZE_MAX, SLAB_LARGE_BYTES},
	};
	struct slab_pool *pool = make(POOL_BYTES);
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct slab *slab = slab_take(pool, cases[i].min, cases[i].want, NULL);
		assert_non_null(slab);
		assert_int_equal(slab->bytes, cases[i].bytes);
		assert_int_equal(slab_used_bytes(pool), cases[i].bytes);
		memset(slab->data, 0xa5, slab->bytes);
		slab_give(pool, slab);
		assert_int_equal(slab_used_bytes(pool), 0);
	}
	assert_int_equal(slab_peak_bytes(pool), SLAB_LARGE_BYTES);
	done(pool);
	slab_pool_free(NULL);
}

static void
a_pool_has_room_for_four_large_ones(void **state)
{
	struct slab_pool *pool = make(0);
	struct slab *slabs[4];
	(void)state;

	assert_int_equal(slab_bytes_max(pool), 4 * SLAB_LARGE_BYTES);
	for (int i = 0; i < 4; i++)
		assert_non_null(
			slabs[i] = slab_take(pool, SLAB_LARGE_BYTES, SLAB_LARGE_BYTES, NULL));
	assert_null(slab_take(pool, 0, 0, NULL));
	give_all(pool, slabs, 4);
	done(pool);
}

/* What was kept free for reuse is unmapped when other sizes are wanted, and what cannot be had in
 * the size wanted is had in a smaller one. */
static void
the_budget_serves_every_size(void **state)
{
	struct slab_pool *pool = make(POOL_BYTES);
	struct slab *slabs[SMALLS];
	(void)state;

	for (int round = 0; round < 3; round++) {
		take_small(pool, slabs, SMALLS);
		assert_null(slab_take(pool, 0, 0, NULL));
		give_all(pool, slabs, SMALLS);
		for (int i = 0; i < 4; i++)
			assert_non_null(slabs[i] = slab_take(
						pool, SLAB_LARGE_BYTES, SLAB_LARGE_BYTES, NULL));
		slab_give(pool, slabs[3]);
		slabs[3] = slab_take(pool, 1, 1, NULL);
		assert_int_equal(slabs[3]->bytes, SLAB_SMALL_BYTES);
		slabs[4] = slab_take(pool, 1, SLAB_LARGE_BYTES, NULL);
		assert_int_equal(slabs[4]->bytes, SLAB_MEDIUM_BYTES);
		assert_null(slab_take(pool, SLAB_LARGE_BYTES, 0, NULL));
		give_all(pool, slabs, 5);
	}
	done(pool);
}

static void
a_share_gets_smaller_with_every_taker(void **state)
{
	static const struct {
		int takers;
		size_t bytes, min_bytes;
	} cases[] = {
		{0, SLAB_LARGE_BYTES, 0},
		{1, SLAB_LARGE_BYTES, 0},
		{2, SLAB_LARGE_BYTES, 0},
		{3, SLAB_MEDIUM_BYTES, 0},
		{8, SLAB_MEDIUM_BYTES, 0},
		{9, SLAB_SMALL_BYTES, 0},
		{1000, SLAB_SMALL_BYTES, 0},
		/* a share never makes a slab too small for what must go in */
		{1000, SLAB_MEDIUM_BYTES, SLAB_SMALL_BYTES + 1},
		{1000, SLAB_LARGE_BYTES, SLAB_LARGE_BYTES},
	};
	struct slab_pool *pool = make(POOL_BYTES);
	(void)state;

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		slab_takers_add(pool, cases[i].takers);
		struct slab *slab = slab_take(pool, cases[i].min_bytes, SIZE_MAX, NULL);
		assert_int_equal(slab->bytes, cases[i].bytes);
		slab_give(pool, slab);
		slab_takers_add(pool, -cases[i].takers);
	}
	done(pool);
}

static void
loose_slabs_do_not_count(void **state)
{
	struct slab_pool *pool = make(POOL_BYTES);
	struct slab *slabs[SMALLS];
	(void)state;

	take_small(pool, slabs, SMALLS);
	for (size_t bytes = 1; bytes < 200000; bytes = bytes * 3 + 1) {
		struct slab *loose = slab_take_loose(bytes);
		assert_non_null(loose);
		assert_int_equal(loose->bytes, bytes);
		memset(loose->data, 1, bytes);
		assert_int_equal(slab_used_bytes(pool), POOL_BYTES);
		slab_give(pool, loose);
		assert_int_equal(slab_used_bytes(pool), POOL_BYTES);
	}
	give_all(pool, slabs, SMALLS);
	done(pool);
}

/* ---- waiting ---- */

struct waiter {
	struct slab_waiter w; /* first */
	int calls;
};

static void
count_call(struct slab_waiter *w)
{
	((struct waiter *)w)->calls++;
}

static void
who_could_take_is_called_at_once(void **state)
{
	struct slab_pool *pool = make(POOL_BYTES);
	struct waiter a = {.w.fn = count_call};
	(void)state;

	for (int i = 1; i < 4; i++) {
		slab_wait(pool, 1, &a.w);
		assert_int_equal(a.calls, i);
		assert_int_equal(slab_waiting(pool), 0);
		struct slab *slab = slab_take(pool, 1, 1, &a.w);
		assert_non_null(slab);
		slab_give(pool, slab);
	}
	slab_unwait(pool, &a.w);
	assert_int_equal(a.calls, 3);
	done(pool);
}

/* Memory comes back in small pieces, the first in line needs a large one, the second a small one.
 */
static void
the_first_in_line_is_served_first(void **state)
{
	struct slab_pool *pool = make(POOL_BYTES);
	struct slab *slabs[SMALLS], *got;
	struct waiter a = {.w.fn = count_call}, b = {.w.fn = count_call};
	(void)state;

	take_small(pool, slabs, SMALLS);
	slab_wait(pool, SLAB_MEDIUM_BYTES, &a.w);
	slab_wait(pool, SLAB_SMALL_BYTES, &b.w);
	slab_wait(pool, SLAB_SMALL_BYTES, &b.w); /* does not lose its place, nor get two */
	assert_int_equal(slab_waiting(pool), 2);
	for (int i = 0; i < 3; i++) {
		slab_give(pool, slabs[i]);
		assert_int_equal(a.calls + b.calls, 0);
		/* neither one who was not called nor one who comes later gets it */
		assert_null(slab_take(pool, 1, 1, &b.w));
		assert_null(slab_take(pool, 1, 1, NULL));
	}
	slab_give(pool, slabs[3]);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 0);
	slab_give(pool, slabs[4]);
	assert_int_equal(b.calls, 1);
	assert_int_equal(slab_waiting(pool), 0);
	/* what they were called for is theirs, though nobody is in line any more */
	assert_null(slab_take(pool, 1, 1, NULL));
	got = slab_take(pool, 1, 1, &b.w);
	assert_non_null(got);
	slab_give(pool, got);
	got = slab_take(pool, SLAB_MEDIUM_BYTES, SIZE_MAX, &a.w);
	assert_int_equal(got->bytes, SLAB_MEDIUM_BYTES);
	slab_give(pool, got);
	assert_int_equal(a.calls + b.calls, 2);
	give_all(pool, slabs + 5, SMALLS - 5);
	done(pool);
}

/* One large slab comes back: as many are called as can have something of it. */
static void
what_comes_back_serves_many(void **state)
{
	struct slab_pool *pool = make(POOL_BYTES);
	struct slab *large[4], *got[20];
	struct waiter w[20] = {0};
	(void)state;

	for (int i = 0; i < 4; i++)
		assert_non_null(
			large[i] = slab_take(pool, SLAB_LARGE_BYTES, SLAB_LARGE_BYTES, NULL));
	for (int i = 0; i < 20; i++) {
		w[i].w.fn = count_call;
		slab_wait(pool, SLAB_SMALL_BYTES, &w[i].w);
	}
	slab_give(pool, large[0]);
	for (int i = 0; i < 20; i++)
		assert_int_equal(w[i].calls, i < 16);
	assert_int_equal(slab_waiting(pool), 4);
	for (int i = 0; i < 16; i++)
		assert_non_null(got[i] = slab_take(pool, 1, SIZE_MAX, &w[i].w));
	slab_give(pool, got[0]);
	for (int i = 16; i < 20; i++) {
		assert_int_equal(w[i].calls, 1);
		assert_int_equal(slab_waiting(pool), 19 - i);
		slab_unwait(pool, &w[i].w);
	}
	give_all(pool, got + 1, 15);
	give_all(pool, large + 1, 3);
	done(pool);
}

static void
who_leaves_hands_on_its_turn(void **state)
{
	struct slab_pool *pool = make(POOL_BYTES);
	struct slab *slabs[SMALLS];
	struct waiter a = {.w.fn = count_call}, b = {.w.fn = count_call}, c = {.w.fn = count_call},
		      d = {.w.fn = count_call};
	(void)state;

	take_small(pool, slabs, SMALLS);
	slab_wait(pool, SLAB_SMALL_BYTES, &a.w);
	slab_wait(pool, SLAB_MEDIUM_BYTES, &b.w);
	slab_wait(pool, SLAB_SMALL_BYTES, &c.w);
	slab_wait(pool, SLAB_SMALL_BYTES, &d.w);
	slab_give(pool, slabs[0]);
	assert_int_equal(a.calls, 1);
	/* called, and leaves: not enough for b, and c is behind it */
	slab_unwait(pool, &a.w);
	assert_int_equal(b.calls + c.calls + d.calls, 0);
	/* the first in line leaves: there is enough for c */
	slab_unwait(pool, &b.w);
	assert_int_equal(c.calls, 1);
	assert_int_equal(d.calls, 0);
	slab_unwait(pool, &c.w);
	assert_int_equal(d.calls, 1);
	/* waits again instead of taking: the turn goes on and comes back */
	slab_wait(pool, SLAB_SMALL_BYTES, &d.w);
	assert_int_equal(d.calls, 2);
	slab_unwait(pool, &d.w);
	slab_unwait(pool, &d.w);
	assert_int_equal(b.calls, 0);
	give_all(pool, slabs + 1, SMALLS - 1);
	done(pool);
}

/* What was promised and is not wanted any more, all or some of it, is for the next in line. */
static void
a_promise_not_used_is_handed_on(void **state)
{
	struct slab_pool *pool = make(POOL_BYTES);
	struct slab *slabs[SMALLS], *got;
	(void)state;

	for (int all = 0; all < 2; all++) {
		struct waiter a = {.w.fn = count_call}, b = {.w.fn = count_call};
		take_small(pool, slabs, SMALLS);
		slab_wait(pool, SLAB_MEDIUM_BYTES, &a.w);
		slab_wait(pool, SLAB_SMALL_BYTES, &b.w);
		give_all(pool, slabs, 4);
		assert_true(a.calls == 1 && b.calls == 0);
		got = slab_take(pool, all ? SLAB_LARGE_BYTES : 1, 1, &a.w);
		assert_int_equal(got == NULL, all);
		assert_true(a.calls == 1 && b.calls == 1);
		slab_unwait(pool, &b.w);
		if (got != NULL)
			slab_give(pool, got);
		give_all(pool, slabs + 4, SMALLS - 4);
	}
	done(pool);
}

/* The system has no memory though the budget has: nobody may wait for ever because of it. */
static void
a_refused_mapping_is_no_loss(void **state)
{
	struct slab_pool *pool = make(POOL_BYTES);
	struct slab *large[3];
	struct waiter a = {.w.fn = count_call}, b = {.w.fn = count_call};
	(void)state;

	if (!OWN_MMAP) {
		slab_pool_free(pool);
		skip();
	}
	for (int i = 0; i < 3; i++)
		large[i] = slab_take(pool, SLAB_LARGE_BYTES, 0, NULL);
	atomic_store(&refuse_maps, 1);
	assert_null(slab_take(pool, SLAB_LARGE_BYTES, 0, NULL));
	assert_int_equal(slab_used_bytes(pool), 3 * SLAB_LARGE_BYTES);
	slab_wait(pool, SLAB_LARGE_BYTES, &a.w);
	slab_wait(pool, SLAB_LARGE_BYTES, &b.w);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 0);
	atomic_store(&refuse_maps, 1);
	assert_null(slab_take(pool, SLAB_LARGE_BYTES, 0, &a.w));
	assert_int_equal(b.calls, 1);
	struct slab *slab = slab_take(pool, SLAB_LARGE_BYTES, 0, &b.w);
	assert_non_null(slab);
	slab_give(pool, slab);
	give_all(pool, large, 3);
	done(pool);
}

/* ---- a call that is under way ---- */

struct slow {
	struct slab_waiter w; /* first */
	struct slab_pool *pool;
	struct slab *slab;
	sem_t entered;
	atomic_bool left;
};

static void
call_slowly(struct slab_waiter *w)
{
	struct slow *s = (struct slow *)w;

	sem_post(&s->entered);
	usleep(20000);
	atomic_store(&s->left, true);
}

static void *
give_one(void *arg)
{
	struct slow *s = arg;

	slab_give(s->pool, s->slab);
	return NULL;
}

/* An owner frees its waiter after slab_unwait: no call may be in it then. */
static void
unwait_waits_for_the_call(void **state)
{
	struct slab_pool *pool = make(POOL_BYTES);
	struct slab *slabs[SMALLS];
	struct slow *s = calloc(1, sizeof *s);
	pthread_t thread;
	(void)state;

	assert_non_null(s);
	take_small(pool, slabs, SMALLS);
	s->w.fn = call_slowly;
	s->pool = pool;
	s->slab = slabs[0];
	sem_init(&s->entered, 0, 0);
	slab_wait(pool, 1, &s->w);
	assert_int_equal(pthread_create(&thread, NULL, give_one, s), 0);
	sem_wait(&s->entered);
	slab_unwait(pool, &s->w);
	assert_true(atomic_load(&s->left));
	sem_destroy(&s->entered);
	memset(s, 0xff, sizeof *s);
	pthread_join(thread, NULL);
	free(s);
	give_all(pool, slabs + 1, SMALLS - 1);
	done(pool);
}

/* ---- crowds ---- */

#define CROWD 16

struct member {
	struct slab_waiter w; /* first */
	struct slab_pool *pool;
	sem_t called;
	size_t min_bytes; /* 0: any */
	int rounds;
	unsigned seed;
	atomic_bool *stop;
	pthread_t thread;
};

static void
call_member(struct slab_waiter *w)
{
	sem_post(&((struct member *)w)->called);
}

static unsigned
draw(struct member *m, unsigned below)
{
	m->seed = m->seed * 1664525u + 1013904223u;
	return (m->seed >> 16) % below;
}

static size_t
draw_min(struct member *m)
{
	static const size_t sizes[] = {
		1, SLAB_SMALL_BYTES, SLAB_SMALL_BYTES + 1, SLAB_MEDIUM_BYTES, SLAB_LARGE_BYTES};

	return m->min_bytes > 0 ? m->min_bytes : sizes[draw(m, 5)];
}

/* Take and give, as a writer does; a few leave without their slab and start again with a new
 * waiter, as an upload that is cut off. */
static void *
take_and_give(void *arg)
{
	struct member *m = arg;

	for (int i = 0; i < m->rounds && !(m->stop != NULL && atomic_load(m->stop)); i++) {
		size_t min = draw_min(m);
		struct slab *slab;
		while ((slab = slab_take(m->pool, min, SLAB_LARGE_BYTES, &m->w)) == NULL) {
			slab_wait(m->pool, min, &m->w);
			if (draw(m, 8) == 0) {
				slab_unwait(m->pool, &m->w);
				memset(&m->w, 0, sizeof m->w);
				m->w.fn = call_member;
				while (sem_trywait(&m->called) == 0)
					;
				continue;
			}
			sem_wait(&m->called);
		}
		slab->data[0] = slab->data[slab->bytes - 1] = (uint8_t)i;
		if (draw(m, 4) == 0)
			sched_yield();
		assert_true(slab_used_bytes(m->pool) <= slab_bytes_max(m->pool));
		slab_give(m->pool, slab);
	}
	return NULL;
}

static void
start_member(struct member *m, struct slab_pool *pool, unsigned seed)
{
	m->w.fn = call_member;
	m->pool = pool;
	m->seed = seed;
	sem_init(&m->called, 0, 0);
	slab_takers_add(pool, 1);
	assert_int_equal(pthread_create(&m->thread, NULL, take_and_give, m), 0);
}

static void
join_member(struct member *m)
{
	pthread_join(m->thread, NULL);
	slab_takers_add(m->pool, -1);
	sem_destroy(&m->called);
}

static void
no_wakeup_is_lost(void **state)
{
	struct slab_pool *pool = make(POOL_BYTES);
	struct member crowd[CROWD] = {0};
	(void)state;

	for (unsigned i = 0; i < CROWD; i++) {
		crowd[i].rounds = 1500;
		start_member(&crowd[i], pool, i + 1);
	}
	for (int i = 0; i < CROWD; i++)
		join_member(&crowd[i]);
	done(pool);
}

/* Many who need little go on until one who needs much has had it often enough. */
static void
small_takers_do_not_starve_a_large_one(void **state)
{
	struct slab_pool *pool = make(POOL_BYTES);
	struct slab *held[SMALLS - CROWD / 2];
	struct member crowd[CROWD] = {0};
	atomic_bool stop = false;
	(void)state;

	take_small(pool, held, sizeof held / sizeof held[0]);
	for (unsigned i = 0; i < CROWD; i++) {
		crowd[i].min_bytes = i == 0 ? SLAB_MEDIUM_BYTES : SLAB_SMALL_BYTES;
		crowd[i].rounds = i == 0 ? 300 : 1 << 30;
		crowd[i].stop = &stop;
		start_member(&crowd[i], pool, i + 1);
	}
	join_member(&crowd[0]);
	atomic_store(&stop, true);
	for (int i = 1; i < CROWD; i++)
		join_member(&crowd[i]);
	give_all(pool, held, sizeof held / sizeof held[0]);
	done(pool);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slab_is_as_large_as_asked),
		cmocka_unit_test(a_pool_has_room_for_four_large_ones),
		cmocka_unit_test(the_budget_serves_every_size),
		cmocka_unit_test(a_share_gets_smaller_with_every_taker),
		cmocka_unit_test(loose_slabs_do_not_count),
		cmocka_unit_test(who_could_take_is_called_at_once),
		cmocka_unit_test(the_first_in_line_is_served_first),
		cmocka_unit_test(what_comes_back_serves_many),
		cmocka_unit_test(who_leaves_hands_on_its_turn),
		cmocka_unit_test(a_promise_not_used_is_handed_on),
		cmocka_unit_test(a_refused_mapping_is_no_loss),
		cmocka_unit_test(unwait_waits_for_the_call),
		cmocka_unit_test(no_wakeup_is_lost),
		cmocka_unit_test(small_takers_do_not_starve_a_large_one),
	};

	alarm(HANG_SECONDS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
