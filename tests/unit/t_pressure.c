/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ingest.h"
#include "pressure.h"

/* Many steps under the same conditions; the level that all frames get then. */
static int
settle(struct pressure *p, double memory, double idle, int best)
{
	for (int i = 0; i < 80; i++) {
		const struct pressure_sample s = {memory, idle};
		pressure_step(p, &s);
	}
	int level = pressure_level(p->rung, 1, best);
	for (uint64_t n = 0; n < 50; n++)
		assert_int_equal(pressure_level(p->rung, n, best), level);
	return level;
}

static void
without_pressure_the_best(void **state)
{
	struct pressure p;
	(void)state;

	pressure_init(&p);
	assert_int_equal(settle(&p, 0.1, 0.5, 1), 1);
	assert_int_equal(settle(&p, 0.1, 0.5, 6), 6);
	/* and never above what is allowed */
	assert_int_equal(settle(&p, 0.1, 0.5, -4), -4);
	assert_int_equal(settle(&p, 0.1, 0.5, -7), -7);
}

static void
busy_processors_and_full_memory_are_raw(void **state)
{
	struct pressure p;
	(void)state;

	pressure_init(&p);
	assert_int_equal(settle(&p, 0.9, 0.0, 1), INGEST_LEVEL_RAW);
	/* it comes back when memory is free again */
	assert_int_equal(settle(&p, 0.05, 0.3, 1), 1);
}

/* The disk is the slow one: compressing helps, however full memory is. */
static void
a_slow_disk_is_helped(void **state)
{
	struct pressure p;
	(void)state;

	pressure_init(&p);
	assert_int_equal(settle(&p, 0.95, 0.0, 1), INGEST_LEVEL_RAW);
	assert_int_equal(settle(&p, 0.95, 0.6, 1), 1);
}

/* The client may be what waits for a processor: then upload memory stays free, and yet it is us who
 * are slow. */
static void
busy_processors_alone_are_raw_too(void **state)
{
	struct pressure p;
	(void)state;

	pressure_init(&p);
	assert_int_equal(settle(&p, 0.05, 0.0, 3), INGEST_LEVEL_RAW);
	assert_int_equal(settle(&p, 0.05, 0.07, 3), INGEST_LEVEL_RAW);
	/* some to spare, and nobody is held up */
	assert_int_equal(settle(&p, 0.05, 0.15, 3), -1);
	assert_int_equal(settle(&p, 0.05, 0.25, 3), 3);
}

static void
without_knowledge_memory_decides(void **state)
{
	struct pressure p;
	(void)state;

	pressure_init(&p);
	assert_int_equal(settle(&p, 0.9, -1, 1), INGEST_LEVEL_RAW);
	assert_int_equal(settle(&p, 0.3, -1, 1), INGEST_LEVEL_RAW);
	assert_int_equal(settle(&p, 0.1, -1, 1), 1);
}

/* A plant: two processors, a disk, an upload that never ends. What is computed and what is written
 * in a step is as much as the slower of both allows. */
struct plant {
	double core_s;     /* processor seconds a second */
	double other_s_gb; /* per gigabyte: receiving, hashing, the client */
	double disk_gb_s;
	double idle, rate;
};

static const struct {
	int level;
	double cost; /* seconds a gigabyte */
	double left; /* of a byte */
} levels[] = {{INGEST_LEVEL_RAW, 0, 1}, {-7, 1.8, 0.65}, {-5, 2.0, 0.6}, {-3, 2.4, 0.55},
	{-1, 2.7, 0.48}, {1, 3.2, 0.44}};

/* With frames compressed as the rung says. */
static void
run_plant(struct plant *m, double rung)
{
	double cost = 0, left = 0;

	for (uint64_t n = 0; n < 100; n++) {
		size_t i = 0;
		while (levels[i].level != pressure_level(rung, n, 1))
			i++;
		cost += levels[i].cost / 100;
		left += levels[i].left / 100;
	}
	double by_core = m->core_s / (m->other_s_gb + cost);
	double by_disk = m->disk_gb_s / left;
	m->rate = by_core < by_disk ? by_core : by_disk;
	m->idle = 1 - m->rate * (m->other_s_gb + cost) / m->core_s;
}

/* The best any fixed rung gives, and what the control gave over the second half. */
static void
compare(double disk_gb_s, double other_s_gb, double *best, double *got)
{
	struct plant m = {.core_s = 2, .other_s_gb = other_s_gb, .disk_gb_s = disk_gb_s};
	struct pressure p;
	double sum = 0, idle[4] = {0};

	*best = 0;
	for (int i = 0; i <= 20; i++) {
		run_plant(&m, i / 4.0);
		*best = m.rate > *best ? m.rate : *best;
	}
	pressure_init(&p);
	for (int i = 0; i < 400; i++) {
		run_plant(&m, p.rung);
		idle[i % 4] = m.idle; /* what is seen is the mean of the last steps */
		const struct pressure_sample s = {0.9, (idle[0] + idle[1] + idle[2] + idle[3]) / 4};
		pressure_step(&p, &s);
		sum += i >= 200 ? m.rate : 0;
	}
	*got = sum / 200;
}

/* Never much less than the best fixed mixture gives, and near it on the whole. */
static void
the_control_finds_the_balance(void **state)
{
	double sum = 0;
	int plants = 0;
	(void)state;

	for (double disk = 0.1; disk < 4; disk *= 1.3) {
		for (double other = 0.5; other < 3; other *= 1.5) {
			double best, got;
			compare(disk, other, &best, &got);
			if (got < 0.85 * best)
				fail_msg("disk %.2f other %.2f: %.3f of %.3f", disk, other, got,
					best);
			sum += got / best;
			plants++;
		}
	}
	if (sum < 0.95 * plants)
		fail_msg("%.3f of the best on the whole", sum / plants);
}

static void
the_clock_gives_shares(void **state)
{
	struct idle_clock c;
	double share = -1;
	(void)state;

	idle_clock_open(&c);
	assert_true(idle_clock_read(&c) < 0); /* nothing to compare with yet */
	for (long i = 0; i < 100000000 && share < 0; i++)
		share = idle_clock_read(&c);
	assert_true(share >= 0 && share <= 1);
	idle_clock_close(&c);
	assert_true(idle_clock_read(&c) < 0);
	idle_clock_close(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_pressure_the_best),
		cmocka_unit_test(busy_processors_and_full_memory_are_raw),
		cmocka_unit_test(a_slow_disk_is_helped),
		cmocka_unit_test(busy_processors_alone_are_raw_too),
		cmocka_unit_test(without_knowledge_memory_decides),
		cmocka_unit_test(the_control_finds_the_balance),
		cmocka_unit_test(the_clock_gives_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
