/* SPDX-License-Identifier: Apache-2.0 */
/* The pilot on a server and a database that are doubles in this file: work goes as fast as a knob
 * says, by the real clock, so that windows can be short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "db_performance.h"
#include "db_tuner.h"
#include "ingest.h"
#include "pilot.h"
#include "reader.h"

#define HANG_SECONDS 100
#define WINDOW_MS    10

static struct knob knob, other;
static struct knob *const list[] = {&knob, &other};
static struct pilot *pilot;
static _Atomic double megabytes; /* a second, at the default of the knob */
static atomic_bool faulty;

/* ---- the server ---- */

static pthread_mutex_t mtx = PTHREAD_MUTEX_INITIALIZER;
static double received;
static uint64_t looked_ns;

/* Anybody's look at the counters lets them grow by what was done since the last one. */
void
ingest_stats(struct ingest *in, struct ingest_stats *out)
{
	(void)in;
	pthread_mutex_lock(&mtx);
	uint64_t now = clock_mono_ns();
	double speed = atomic_load(&megabytes) * pow(1.2, log2((double)knob_get(&knob) / 16));
	received += speed * (double)(now - looked_ns) / 1e3;
	looked_ns = now;
	*out = (struct ingest_stats){
		.received_bytes = (uint64_t)received,
		.new_bytes = (uint64_t)received,
		.stored_bytes = (uint64_t)received,
		.groups = (uint64_t)received >> 20,
	};
	pthread_mutex_unlock(&mtx);
}

void
ingest_commit_wait(const struct ingest *in, struct histogram_view *out)
{
	(void)in;
	memset(out, 0, sizeof *out);
}

void
read_service_stats(struct read_service *rs, struct read_stats *out)
{
	(void)rs;
	memset(out, 0, sizeof *out);
}

static void
front(void *arg, struct pilot_front *out)
{
	(void)arg;
	out->faulty = atomic_load(&faulty);
}

/* ---- the database ---- */

static struct tuner_rows table;
static struct {
	int64_t at_us;
	uint64_t figures[MONITOR_FIGURES];
} minutes[10];
static size_t minute_count;
static bool away;

static enum rc
answer(struct err *err)
{
	return away ? err_set(err, RC_UNAVAILABLE, "database-unavailable", "away") : RC_OK;
}

enum rc
db_tuner_load(struct db *db, struct tuner_rows *out, struct err *err)
{
	(void)db;
	pthread_mutex_lock(&mtx);
	*out = table;
	enum rc rc = answer(err);
	pthread_mutex_unlock(&mtx);
	return rc;
}

enum rc
db_tuner_save(struct db *db, const struct tuner_rows *rows, struct err *err)
{
	(void)db;
	pthread_mutex_lock(&mtx);
	enum rc rc = answer(err);
	for (size_t i = 0; rc == RC_OK && i < rows->decision_count; i++)
		table.decisions[table.decision_count++] = rows->decisions[i];
	if (rc == RC_OK) {
		memcpy(table.classes, rows->classes, sizeof table.classes);
		memcpy(table.settings, rows->settings, sizeof table.settings);
		table.class_count = rows->class_count;
		table.setting_count = rows->setting_count;
	}
	pthread_mutex_unlock(&mtx);
	return rc;
}

enum rc
db_tuner_set_mode(struct db *db, const char *mode, struct err *err)
{
	(void)db;
	pthread_mutex_lock(&mtx);
	enum rc rc = answer(err);
	if (rc == RC_OK)
		snprintf(table.mode, sizeof table.mode, "%s", mode);
	pthread_mutex_unlock(&mtx);
	return rc;
}

enum rc
db_performance_load(
	struct db *db, int version, size_t count, db_performance_fn *fn, void *arg, struct err *err)
{
	(void)db;
	(void)version;
	assert_int_equal(count, MONITOR_FIGURES);
	for (size_t i = 0; i < minute_count; i++)
		fn(arg, &(struct performance_row){minutes[i].at_us, minutes[i].figures});
	return answer(err);
}

enum rc
db_performance_save(struct db *db, int version, size_t count, const struct performance_row *rows,
	size_t row_count, struct err *err)
{
	(void)db;
	(void)version;
	pthread_mutex_lock(&mtx);
	for (size_t i = 0; i < row_count && minute_count < 10; i++) {
		minutes[minute_count].at_us = rows[i].at_us;
		memcpy(minutes[minute_count++].figures, rows[i].figures, count * sizeof(uint64_t));
	}
	pthread_mutex_unlock(&mtx);
	return answer(err);
}

/* ---- a test ---- */

static struct pilot_options
options(void)
{
	return (struct pilot_options){
		.front = front,
		.knobs = list,
		.knob_count = 2,
		.window_ms = WINDOW_MS,
	};
}

static void
start(const struct pilot_options *o)
{
	struct err err = ERR_INIT;

	if (pilot_open(o, &pilot, &err) != RC_OK)
		fail_msg("%s", err.text);
}

static void
start_plain(void)
{
	struct pilot_options o = options();

	start(&o);
}

static void
stop(void)
{
	pilot_close(pilot);
	pilot = NULL;
}

static int
setup(void **state)
{
	(void)state;
	knob = (struct knob){.name = "size",
		.unit = "bytes",
		.what = "a size",
		.min = 1,
		.max = 256,
		.fallback = 16,
		.scale = KNOB_DOUBLE};
	other = (struct knob){.name = "other",
		.unit = "level",
		.what = "a level",
		.min = -5,
		.max = 5,
		.scale = KNOB_ADD,
		.step = 1};
	knob_set(&knob, 16);
	atomic_store(&megabytes, 100);
	atomic_store(&faulty, false);
	memset(&table, 0, sizeof table);
	minute_count = 0;
	away = false;
	looked_ns = clock_mono_ns();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	stop();
	return 0;
}

static void
nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* What the tuner learnt of the only class there is. */
static int64_t
learnt(void)
{
	static struct pilot_view v;

	pilot_view(pilot, &v);
	return v.tuner.learners[LOAD_LARGE].learnt[0];
}

static enum tuner_mode
mode(void)
{
	struct pilot_brief b;

	pilot_brief(pilot, &b);
	return b.mode;
}

static enum pilot_mode_source
mode_source(void)
{
	static struct pilot_view v;

	pilot_view(pilot, &v);
	return v.mode_source;
}

static void
wait_for_learnt(int64_t value)
{
	while (learnt() != value)
		nap();
}

static void
wait_for_knob(int64_t value)
{
	while (knob_get(&knob) != value)
		nap();
}

static void
ask(enum tuner_mode wanted, bool reset)
{
	struct err err = ERR_INIT;

	if (pilot_set_mode(pilot, wanted, reset, &err) != RC_OK)
		fail_msg("%s", err.text);
}

/* ---- flying ---- */

static void
it_finds_the_fast_end(void **state)
{
	struct decision d;
	uint64_t last = 0;
	(void)state;

	start_plain();
	wait_for_learnt(256);
	wait_for_knob(256);
	struct pilot_brief b;
	pilot_brief(pilot, &b);
	assert_int_equal(b.class, LOAD_LARGE);
	assert_true(b.trials >= 4 && b.decisions[DECISION_KEPT] >= 4);
	/* each is told once, in order */
	while (pilot_news(pilot, &d, 1) == 1) {
		assert_int_equal(d.number, last + 1);
		last = d.number;
	}
	assert_true(last >= 4);
}

static void
without_load_nothing_moves(void **state)
{
	struct monitor_row row;
	(void)state;

	atomic_store(&megabytes, 0.1);
	start_plain();
	while (pilot_rows(pilot, MONITOR_SECOND, 0, &row, 1) == 0) {
		assert_int_equal(knob_get(&knob), 16);
		nap();
	}
}

static void
faults_teach_nothing(void **state)
{
	struct monitor_row row;
	(void)state;

	atomic_store(&faulty, true);
	start_plain();
	while (pilot_rows(pilot, MONITOR_SECOND, 0, &row, 1) == 0) {
		assert_int_equal(knob_get(&knob), 16);
		nap();
	}
	atomic_store(&faulty, false);
	wait_for_learnt(256);
}

static void
seconds_are_recorded(void **state)
{
	struct monitor_row rows[2];
	(void)state;

	start_plain();
	while (pilot_rows(pilot, MONITOR_SECOND, 0, rows, 2) < 2)
		nap();
	assert_true(rows[1].at_us > rows[0].at_us);
	for (size_t i = 0; i < MONITOR_FIGURES; i++) {
		if (strcmp(monitor_figure(i)->name, "bytes_in") == 0)
			assert_true(rows[1].values[i] > 20000000);
		if (strcmp(monitor_figure(i)->name, "rss") == 0)
			assert_true(rows[1].values[i] > 100000);
		if (strcmp(monitor_figure(i)->name, "commit_wait_p99") == 0)
			assert_true(rows[1].values[i] == MONITOR_NONE);
	}
	assert_int_equal(pilot_rows(pilot, MONITOR_SECOND, rows[1].at_us, rows, 0), 0);
}

/* ---- modes ---- */

static void
modes_are_obeyed_and_kept(void **state)
{
	(void)state;
	start_plain();
	assert_int_equal(mode_source(), PILOT_MODE_DEFAULT);
	wait_for_learnt(256);
	ask(TUNER_OFF, false);
	assert_int_equal(mode(), TUNER_OFF);
	assert_int_equal(mode_source(), PILOT_MODE_REQUESTED);
	wait_for_knob(16);
	assert_int_equal(learnt(), 256);
	ask(TUNER_FROZEN, false);
	wait_for_knob(256);
	assert_string_equal(table.mode, "frozen");
}

static void
without_the_database_the_mode_stays(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	start_plain();
	pthread_mutex_lock(&mtx);
	away = true;
	pthread_mutex_unlock(&mtx);
	assert_int_equal(pilot_set_mode(pilot, TUNER_OFF, true, &err), RC_UNAVAILABLE);
	assert_int_equal(mode(), TUNER_ON);
	wait_for_learnt(256);
	pthread_mutex_lock(&mtx);
	away = false;
	pthread_mutex_unlock(&mtx);
}

static void
reset_is_for_good(void **state)
{
	(void)state;
	start_plain();
	wait_for_learnt(256);
	ask(TUNER_FROZEN, true);
	assert_int_equal(learnt(), 16);
	wait_for_knob(16);
	assert_int_equal(table.setting_count, 0);
	stop();
	start_plain();
	assert_int_equal(learnt(), 16);
	assert_int_equal(mode(), TUNER_FROZEN);
}

/* ---- restarts ---- */

static void
what_was_learnt_is_there_again(void **state)
{
	static struct pilot_view before, after;
	struct decision d;
	(void)state;

	start_plain();
	wait_for_learnt(256);
	ask(TUNER_FROZEN, false);
	pilot_view(pilot, &before);
	stop();
	assert_int_equal(knob_get(&knob), 16); /* as it was found */
	start_plain();
	pilot_view(pilot, &after);
	const struct learner *a = &after.tuner.learners[LOAD_LARGE];
	const struct learner *b = &before.tuner.learners[LOAD_LARGE];
	assert_int_equal(a->learnt[0], 256);
	assert_int_equal(a->learnt[1], b->learnt[1]);
	assert_true(a->windows >= b->windows - 1);
	assert_float_equal(a->gain, b->gain, 0.01);
	assert_float_equal(a->rate, b->rate, 0.1);
	assert_int_equal(after.tuner.decisions.last, before.tuner.decisions.last);
	assert_int_equal(pilot_news(pilot, &d, 1), 0); /* told before */
	wait_for_knob(256);
}

static void
a_given_mode_wins(void **state)
{
	struct pilot_options o = options();
	(void)state;

	snprintf(table.mode, sizeof table.mode, "frozen");
	o.mode = TUNER_OFF;
	o.mode_is_given = true;
	start(&o);
	assert_int_equal(mode(), TUNER_OFF);
	assert_int_equal(mode_source(), PILOT_MODE_CONFIGURED);
	stop();
	start_plain();
	assert_int_equal(mode(), TUNER_FROZEN);
	assert_int_equal(mode_source(), PILOT_MODE_REQUESTED);
}

static void
rows_that_make_no_sense_are_left_out(void **state)
{
	static struct pilot_view v;
	(void)state;

	snprintf(table.mode, sizeof table.mode, "perhaps");
	table.class_count = 2;
	snprintf(table.classes[0].class, DB_TUNER_NAME_BYTES, "huge");
	table.classes[1] = (struct tuner_class_row){.class = "large",
		.load_ms = -5,
		.lost_ms = INT64_MIN,
		.backoff_ms = INT64_MAX,
		.backoff_left_ms = 3 * WINDOW_MS,
		.noise_ppm = INT64_MIN,
		.rate_milli = -1};
	table.setting_count = 3;
	table.settings[0] = (struct tuner_setting_row){"large", "size", 100000};
	table.settings[1] = (struct tuner_setting_row){"large", "no such knob", 1};
	table.settings[2] = (struct tuner_setting_row){"huge", "size", 1};
	table.decision_count = 3;
	table.decisions[0] =
		(struct tuner_decision_row){.number = -3, .class = "large", .decision = "kept"};
	table.decisions[1] =
		(struct tuner_decision_row){.number = 4, .class = "large", .decision = "dreamt"};
	table.decisions[2] =
		(struct tuner_decision_row){.number = 5, .class = "large", .decision = "kept"};
	minute_count = 1;
	minutes[0].at_us = 60000000;
	atomic_store(&megabytes, 0);
	start_plain();
	pilot_view(pilot, &v);
	const struct learner *l = &v.tuner.learners[LOAD_LARGE];
	assert_int_equal(v.tuner.mode, TUNER_ON);
	assert_int_equal(l->learnt[0], 256);
	assert_true(l->windows == 0 && l->lost == 0 && l->noise == -1 && l->rate == 0);
	assert_true(l->backoff == LEARNER_BACKOFF_MAX && l->backoff_left == 3);
	assert_int_equal(v.tuner.decisions.last, 5);
	struct monitor_row row;
	assert_int_equal(pilot_rows(pilot, MONITOR_MINUTE, 0, &row, 1), 1);
	assert_int_equal(row.at_us, 60000000);
}

static void
no_answer_no_start(void **state)
{
	struct pilot_options o = options();
	struct err err = ERR_INIT;
	(void)state;

	away = true;
	assert_int_equal(pilot_open(&o, &pilot, &err), RC_UNAVAILABLE);
	assert_null(pilot);
}

/* Many ask and look at once. */
static void *
look_on(void *arg)
{
	static _Thread_local struct pilot_view v;
	struct monitor_row rows[5];
	struct pilot_brief b;
	struct err err = ERR_INIT;

	for (int i = 0; i < 60; i++) {
		pilot_view(pilot, &v);
		pilot_brief(pilot, &b);
		pilot_rows(pilot, MONITOR_SECOND, 0, rows, 5);
		pilot_save(pilot, &err);
		if (i % 10 == 0)
			pilot_set_mode(pilot, arg != NULL ? TUNER_ON : TUNER_FROZEN, i == 30, &err);
		nap();
	}
	return NULL;
}

static void
many_may_look_at_once(void **state)
{
	pthread_t t[3];
	(void)state;

	start_plain();
	for (uintptr_t i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, look_on, (void *)i);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	ask(TUNER_ON, false);
	wait_for_learnt(256);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_finds_the_fast_end),
		TEST(without_load_nothing_moves),
		TEST(faults_teach_nothing),
		TEST(seconds_are_recorded),
		TEST(modes_are_obeyed_and_kept),
		TEST(without_the_database_the_mode_stays),
		TEST(reset_is_for_good),
		TEST(what_was_learnt_is_there_again),
		TEST(a_given_mode_wins),
		TEST(rows_that_make_no_sense_are_left_out),
		TEST(no_answer_no_start),
		TEST(many_may_look_at_once),
	};

	alarm(HANG_SECONDS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
