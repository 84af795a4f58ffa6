/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "monitor.h"

#define START_US  ((int64_t)1790000000 * 1000000 + 30 * 1000000) /* in the middle of a minute */
#define MINUTE_US ((int64_t)60 * 1000000)

static struct monitor *m;
static struct monitor_reading now;
static struct monitor_row rows[2000];

static int
open_monitor(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	now = (struct monitor_reading){
		.mono_ns = 5000000000, .wall_us = START_US / MINUTE_US * MINUTE_US + MINUTE_US / 2};
	return monitor_open(&m, &err) == RC_OK ? 0 : -1;
}

static int
close_monitor(void **state)
{
	(void)state;
	monitor_free(m);
	return 0;
}

/* The clocks go on and a reading is taken. */
static void
tick(uint64_t ms)
{
	now.mono_ns += ms * 1000000;
	now.wall_us += (int64_t)ms * 1000;
	monitor_add(m, &now);
}

static uint64_t
value(const struct monitor_row *row, const char *name)
{
	for (size_t i = 0; i < MONITOR_FIGURES; i++)
		if (strcmp(monitor_figure(i)->name, name) == 0)
			return row->values[i];
	fail_msg("no figure %s", name);
	return 0;
}

static size_t
get(enum monitor_resolution resolution, int64_t since_us)
{
	return monitor_rows(m, resolution, since_us, rows, sizeof rows / sizeof rows[0]);
}

static void
wait_us(enum monitor_wait wait, size_t step, uint64_t count)
{
	now.waits[wait].steps[step] += count;
	now.waits[wait].count += count;
}

static void
figures_have_names_of_their_own(void **state)
{
	(void)state;
	for (size_t i = 0; i < MONITOR_FIGURES; i++) {
		assert_true(monitor_figure(i)->name[0] != '\0');
		assert_true(monitor_figure(i)->unit[0] != '\0');
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(monitor_figure(i)->name, monitor_figure(k)->name);
	}
}

static void
a_row_is_the_difference_of_two_readings(void **state)
{
	(void)state;
	now.counters[MONITOR_BYTES_IN] = 7000; /* of before: nobody's */
	tick(0);
	assert_int_equal(get(MONITOR_SECOND, 0), 0);
	now.counters[MONITOR_BYTES_IN] += 3000;
	now.counters[MONITOR_CPU_NS] += 1500000000;
	now.counters[MONITOR_GROUPS] += 4;
	now.counters[MONITOR_SYNC_NS] += 8000000;
	now.levels[MONITOR_RSS_BYTES] = 12345;
	wait_us(MONITOR_COMMIT_WAIT, 3, 9);
	tick(2000);
	assert_int_equal(get(MONITOR_SECOND, 0), 1);
	assert_int_equal(rows[0].at_us, now.wall_us);
	assert_int_equal(value(&rows[0], "bytes_in"), 1500);
	assert_int_equal(value(&rows[0], "bytes_out"), 0);
	assert_int_equal(value(&rows[0], "cpu"), 750);
	assert_int_equal(value(&rows[0], "groups"), 2);
	assert_int_equal(value(&rows[0], "group_sync"), 2000);
	assert_int_equal(value(&rows[0], "rss"), 12345);
	assert_int_equal(value(&rows[0], "commit_wait_p99"), 3);
}

static void
what_did_not_happen_has_no_figure(void **state)
{
	(void)state;
	tick(0);
	wait_us(MONITOR_READ_WAIT, 2, 1);
	tick(1000);
	tick(1000);
	assert_int_equal(get(MONITOR_SECOND, 0), 2);
	assert_int_equal(value(&rows[0], "read_wait_p50"), 2);
	assert_true(value(&rows[1], "read_wait_p50") == MONITOR_NONE);
	assert_true(value(&rows[1], "group_sql") == MONITOR_NONE);
	assert_int_equal(value(&rows[1], "requests"), 0);
}

static void
a_minute_ends_with_the_minute_of_the_clock(void **state)
{
	(void)state;
	tick(0);
	for (int i = 1; i <= 90; i++) {
		now.counters[MONITOR_FILES_IN] += 10;
		now.levels[MONITOR_INGEST_QUEUE] = i <= 30 ? 2 : (uint64_t)(i % 2);
		tick(1000);
	}
	assert_int_equal(get(MONITOR_MINUTE, 0), 2);
	assert_int_equal(rows[0].at_us % MINUTE_US, 0);
	assert_int_equal(rows[1].at_us - rows[0].at_us, MINUTE_US);
	assert_int_equal(value(&rows[0], "files_in"), 10);
	assert_int_equal(value(&rows[1], "files_in"), 10);
	assert_int_equal(value(&rows[0], "ingest_queue"), 2);
	assert_int_equal(value(&rows[1], "ingest_queue"), 0); /* a half, rounded down */
	assert_int_equal(get(MONITOR_MINUTE, rows[0].at_us), 1);
}

static void
old_rows_make_room(void **state)
{
	int64_t begin = now.wall_us;
	(void)state;

	tick(0);
	for (int i = 0; i < MONITOR_SECONDS_MAX + 5; i++)
		tick(1000);
	assert_int_equal(get(MONITOR_SECOND, 0), MONITOR_SECONDS_MAX);
	assert_int_equal(rows[0].at_us, begin + 6 * 1000000);
	assert_int_equal(rows[MONITOR_SECONDS_MAX - 1].at_us, now.wall_us);
	for (int i = 1; i < MONITOR_SECONDS_MAX; i++)
		assert_int_equal(rows[i].at_us - rows[i - 1].at_us, 1000000);
	/* the newest, when not all are wanted */
	assert_int_equal(monitor_rows(m, MONITOR_SECOND, 0, rows, 3), 3);
	assert_int_equal(rows[2].at_us, now.wall_us);
	assert_int_equal(get(MONITOR_SECOND, now.wall_us - 2 * 1000000), 2);
	assert_int_equal(get(MONITOR_SECOND, now.wall_us), 0);
}

static void
minutes_of_an_earlier_life_come_first(void **state)
{
	struct monitor_row old = {.at_us = START_US - 3 * MINUTE_US};
	(void)state;

	old.values[0] = 77;
	monitor_restore(m, &old);
	tick(0);
	tick(31000);
	assert_int_equal(get(MONITOR_MINUTE, 0), 2);
	assert_int_equal(value(&rows[0], "bytes_in"), 77);
	assert_int_equal(get(MONITOR_SECOND, 0), 1);
}

static void
clocks_and_counters_that_jump_do_no_harm(void **state)
{
	(void)state;
	now.counters[MONITOR_REQUESTS] = 50;
	tick(0);
	now.counters[MONITOR_REQUESTS] = 10; /* the HTTP side is gone */
	now.wall_us -= 3600 * (int64_t)1000000;
	tick(1000);
	assert_int_equal(get(MONITOR_SECOND, 0), 1);
	assert_int_equal(value(&rows[0], "requests"), 0);
	assert_int_equal(get(MONITOR_MINUTE, 0), 1);
	monitor_add(m, &now); /* no time has gone by */
	assert_int_equal(get(MONITOR_SECOND, 0), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_monitor, close_monitor)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(figures_have_names_of_their_own),
		TEST(a_row_is_the_difference_of_two_readings),
		TEST(what_did_not_happen_has_no_figure),
		TEST(a_minute_ends_with_the_minute_of_the_clock),
		TEST(old_rows_make_room),
		TEST(minutes_of_an_earlier_life_come_first),
		TEST(clocks_and_counters_that_jump_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
