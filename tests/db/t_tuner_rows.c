/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "cluster_fixture.h"
#include "db_performance.h"
#include "db_tuner.h"
#include "migrate.h"

#define MINUTE_US ((int64_t)60 * 1000000)
#define START_US  ((int64_t)1790000040 * 1000000) /* a whole minute */

static struct cluster_fixture fx;
static struct tuner_rows rows, back;

#define assert_ok(call)                                                                            \
	do {                                                                                       \
		struct err err = ERR_INIT;                                                         \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s [%s]", #call, err.text, err.detail);                      \
	} while (0)

static int
clean(void **state)
{
	(void)state;
	fixture_sql(fx.db, "DELETE FROM tuner_class; DELETE FROM tuner_decision;"
			   "DELETE FROM tuner_mode; DELETE FROM performance");
	memset(&rows, 0, sizeof rows);
	return 0;
}

static void
add_class(const char *name, int64_t base)
{
	struct tuner_class_row *c = &rows.classes[rows.class_count++];

	snprintf(c->class, sizeof c->class, "%s", name);
	c->load_ms = base + 1;
	c->lost_ms = base + 2;
	c->backoff_ms = base + 3;
	c->backoff_left_ms = base + 4;
	c->noise_ppm = -1;
	c->rate_milli = base + 6;
	c->gain_ppm = -base;
}

static void
add_setting(const char *class, const char *knob, int64_t value)
{
	struct tuner_setting_row *s = &rows.settings[rows.setting_count++];

	snprintf(s->class, sizeof s->class, "%s", class);
	snprintf(s->knob, sizeof s->knob, "%s", knob);
	s->value = value;
}

static void
add_decision(int64_t number)
{
	struct tuner_decision_row *d = &rows.decisions[rows.decision_count++];

	*d = (struct tuner_decision_row){.number = number,
		.at_us = START_US + number,
		.class = "large",
		.decision = "kept",
		.knob = "ingest_workers",
		.from = -number,
		.to = number,
		.before_milli = 10 * number,
		.after_milli = 11 * number,
		.pairs = 4,
		.reason = "it's 10 % faster; \"so\" \\ said"};
}

static void
nothing_is_known_at_first(void **state)
{
	(void)state;
	assert_ok(db_tuner_load(fx.db, &back, &err));
	assert_int_equal(back.class_count + back.setting_count + back.decision_count, 0);
	assert_string_equal(back.mode, "");
}

static void
what_is_saved_comes_back(void **state)
{
	(void)state;
	add_class("large", 100);
	add_class("small", 200);
	add_setting("large", "commit_group_bytes", 64 << 20);
	add_setting("large", "compress_level", -7);
	add_setting("small", "compress_level", 0);
	add_decision(1);
	add_decision(2);
	assert_ok(db_tuner_save(fx.db, &rows, &err));
	assert_ok(db_tuner_set_mode(fx.db, "frozen", &err));
	assert_ok(db_tuner_load(fx.db, &back, &err));
	assert_string_equal(back.mode, "frozen");
	memset(back.mode, 0, sizeof back.mode);
	assert_memory_equal(&back, &rows, sizeof back);
}

static void
classes_and_settings_replace_those_of_before(void **state)
{
	(void)state;
	add_class("large", 100);
	add_setting("large", "compress_level", -7);
	assert_ok(db_tuner_save(fx.db, &rows, &err));
	rows.setting_count = 0;
	rows.class_count = 0;
	add_class("reading", 5);
	assert_ok(db_tuner_save(fx.db, &rows, &err));
	assert_ok(db_tuner_load(fx.db, &back, &err));
	assert_int_equal(back.class_count, 1);
	assert_string_equal(back.classes[0].class, "reading");
	assert_int_equal(back.setting_count, 0);
}

static void
decisions_add_up_and_old_ones_go(void **state)
{
	(void)state;
	for (int64_t first = 1; first <= 251; first += 50) {
		rows.decision_count = 0;
		/* one of them twice, as when the answer to the last COMMIT was lost */
		for (int64_t n = first > 1 ? first - 1 : 1; n < first + 50; n++)
			add_decision(n);
		assert_ok(db_tuner_save(fx.db, &rows, &err));
	}
	assert_ok(db_tuner_load(fx.db, &back, &err));
	assert_int_equal(back.decision_count, DB_TUNER_DECISIONS_MAX);
	assert_int_equal(back.decisions[0].number, 101);
	assert_int_equal(back.decisions[DB_TUNER_DECISIONS_MAX - 1].number, 300);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM tuner_decision"),
		DB_TUNER_DECISIONS_MAX);
}

static void
the_last_mode_counts(void **state)
{
	(void)state;
	assert_ok(db_tuner_set_mode(fx.db, "off", &err));
	assert_ok(db_tuner_set_mode(fx.db, "on", &err));
	assert_ok(db_tuner_load(fx.db, &back, &err));
	assert_string_equal(back.mode, "on");
}

/* Rows that somebody else has written do not overflow anything. */
static void
foreign_rows_are_cut(void **state)
{
	(void)state;
	fixture_sql(fx.db,
		"INSERT INTO tuner_class SELECT repeat('x', 40) || n, 1, 1, 1, 1, 1, 1, 1"
		" FROM generate_series(1, 50) AS n;"
		"INSERT INTO tuner_mode (mode) VALUES (repeat('m', 1000))");
	assert_ok(db_tuner_load(fx.db, &back, &err));
	assert_int_equal(back.class_count, DB_TUNER_CLASSES_MAX);
	assert_int_equal(strlen(back.mode), DB_TUNER_NAME_BYTES - 1);
}

/* ---- performance ---- */

#define FIGURES 3

static int64_t got_at[DB_PERFORMANCE_ROWS_MAX];
static uint64_t got[DB_PERFORMANCE_ROWS_MAX][FIGURES];
static size_t got_count;

static void
take_row(void *arg, const struct performance_row *row)
{
	(void)arg;
	got_at[got_count] = row->at_us;
	memcpy(got[got_count++], row->figures, sizeof got[0]);
}

static void
save_minutes(int64_t first, int64_t count, uint64_t mark)
{
	static struct performance_row list[DB_PERFORMANCE_ROWS_MAX];
	static uint64_t figures[DB_PERFORMANCE_ROWS_MAX][FIGURES];

	for (int64_t i = 0; i < count; i++) {
		figures[i][0] = mark;
		figures[i][1] = (uint64_t)(first + i);
		figures[i][2] = UINT64_MAX;
		list[i] = (struct performance_row){
			.at_us = START_US + (first + i) * MINUTE_US, .figures = figures[i]};
	}
	assert_ok(db_performance_save(fx.db, 1, FIGURES, list, (size_t)count, &err));
}

static void
load_minutes(int version, size_t count)
{
	got_count = 0;
	assert_ok(db_performance_load(fx.db, version, count, take_row, NULL, &err));
}

static void
minutes_come_back_in_order(void **state)
{
	(void)state;
	save_minutes(10, 5, 1);
	save_minutes(0, 3, 2);
	save_minutes(12, 1, 3); /* again: replaced */
	load_minutes(1, FIGURES);
	assert_int_equal(got_count, 8);
	for (size_t i = 0; i < got_count; i++) {
		assert_true(i == 0 || got_at[i] > got_at[i - 1]);
		assert_int_equal(got_at[i], START_US + (int64_t)got[i][1] * MINUTE_US);
		assert_true(got[i][2] == UINT64_MAX);
		assert_int_equal(got[i][0], got[i][1] == 12 ? 3 : i < 3 ? 2 : 1);
	}
}

static void
a_clock_that_was_set_back(void **state)
{
	const uint64_t figures[2][FIGURES] = {{1, 1, 1}, {2, 2, 2}};
	const int64_t at = START_US + MINUTE_US;
	const struct performance_row minutes[] = {
		{at, figures[0]}, {at - MINUTE_US, figures[0]}, {at, figures[1]}};
	(void)state;

	assert_ok(db_performance_save(fx.db, 1, FIGURES, minutes, 3, &err));
	load_minutes(1, FIGURES);
	assert_int_equal(got_count, 2);
	assert_true(got_at[1] == at);
	assert_int_equal(got[1][0], 2);
}

static void
minutes_of_the_future_do_not_stay(void **state)
{
	const uint64_t figures[FIGURES] = {1, 1, 1};
	const int64_t year_us = INT64_C(365) * 24 * 60 * MINUTE_US;
	const struct performance_row future = {clock_wall_us() + year_us, figures};
	(void)state;

	save_minutes(0, 3, 1);
	assert_ok(db_performance_save(fx.db, 1, FIGURES, &future, 1, &err));
	load_minutes(1, FIGURES);
	assert_int_equal(got_count, 3);
}

static void
other_versions_are_left_out(void **state)
{
	(void)state;
	save_minutes(0, 3, 1);
	load_minutes(2, FIGURES);
	assert_int_equal(got_count, 0);
	load_minutes(1, FIGURES + 1);
	assert_int_equal(got_count, 0);
}

static void
a_day_is_kept(void **state)
{
	(void)state;
	save_minutes(0, DB_PERFORMANCE_ROWS_MAX, 1);
	save_minutes(DB_PERFORMANCE_ROWS_MAX, 100, 1);
	assert_int_equal(
		fixture_number(fx.db, "SELECT count(*) FROM performance"), DB_PERFORMANCE_ROWS_MAX);
	load_minutes(1, FIGURES);
	assert_int_equal(got_count, DB_PERFORMANCE_ROWS_MAX);
	assert_int_equal(got[0][1], 100);
}

#define TEST(name) cmocka_unit_test_setup(name, clean)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_is_known_at_first),
		TEST(what_is_saved_comes_back),
		TEST(classes_and_settings_replace_those_of_before),
		TEST(decisions_add_up_and_old_ones_go),
		TEST(the_last_mode_counts),
		TEST(foreign_rows_are_cut),
		TEST(minutes_come_back_in_order),
		TEST(a_clock_that_was_set_back),
		TEST(minutes_of_the_future_do_not_stay),
		TEST(other_versions_are_left_out),
		TEST(a_day_is_kept),
	};
	struct err err = ERR_INIT;

	fixture_init(&fx, false);
	fixture_start(&fx);
	fx.db = fixture_pool(&fx, 10000);
	int failed = 1;
	if (migrate_run(fx.db, migration_list, migration_list_count, &err) == RC_OK)
		failed = cmocka_run_group_tests(tests, NULL, NULL);
	else
		fprintf(stderr, "migrate: %s [%s]\n", err.text, err.detail);
	fixture_done(&fx);
	return failed;
}
