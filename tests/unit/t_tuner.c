/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tuner.h"

/* One knob, doubled from 1 to 256, at 16; the more the faster, by so much an octave. */
static struct knob knob = {
	.name = "size", .min = 1, .max = 256, .fallback = 16, .scale = KNOB_DOUBLE};
static struct knob still = {.name = "still", .min = 3, .max = 3, .fallback = 3, .step = 1};
static struct knob wide = {
	.name = "wide", .min = 0, .max = 100, .fallback = 50, .scale = KNOB_ADD, .step = 1};
static const struct knob *const list[] = {&knob, &still, &wide};

static struct tuner t;
static double octave; /* speed of an octave */
static uint64_t windows;

static void
begin(size_t knob_count, enum tuner_mode mode)
{
	const struct tuner_options o = {
		.knobs = list, .knob_count = knob_count, .mode = mode, .seed = 9};

	windows = 0;
	octave = 1.1;
	tuner_init(&t, &o);
}

static int
setup(void **state)
{
	(void)state;
	begin(2, TUNER_ON);
	return 0;
}

static int64_t
set_to(size_t i)
{
	int64_t v[LEARNER_KNOBS_MAX];

	tuner_settings(&t, v);
	return v[i];
}

/* A window of the load with what the tuner wants. */
static void window(enum load_class class)
{
	double speed = pow(octave, log2((double)set_to(0) / 16));
	struct load_window w = {.seconds = 5, .cpu_ns = (uint64_t)(speed * 1e9), .rss_bytes = 1};

	if (class == LOAD_SMALL)
		w.files_in = (uint64_t)(10000 * speed);
	if (class == LOAD_LARGE)
		w.bytes_in = w.new_bytes = (uint64_t)(500e6 * speed);
	tuner_take(&t, &w, (int64_t)++windows);
}

static void
run(enum load_class class, int count)
{
	for (int i = 0; i < count; i++)
		window(class);
}

static struct learner *learner(enum load_class class)
{
	return &t.learners[class];
}

/* Until B is on. */
static void run_to_b(enum load_class class)
{
	for (int i = 0; i < 100 && set_to(0) == learner(class)->learnt[0]; i++)
		window(class);
	assert_int_not_equal(set_to(0), learner(class)->learnt[0]);
	assert_int_equal(learner(class)->doing, LEARNER_TRIES);
}

static size_t
decided(enum decision_kind kind)
{
	return t.decisions.counts[kind];
}

/* ---- learning ---- */

static void
it_climbs_to_the_limit_and_rests(void **state)
{
	(void)state;
	run(LOAD_LARGE, 150);
	assert_int_equal(learner(LOAD_LARGE)->learnt[0], 256);
	assert_int_equal(decided(DECISION_KEPT), 4);
	assert_true(learner(LOAD_LARGE)->backoff_left > 0);
	assert_float_equal(exp(learner(LOAD_LARGE)->gain), pow(1.1, 4), 0.2);
	/* what does not move was never tried */
	struct decision d[10];
	size_t n = decisions_after(&t.decisions, 0, d, 10);
	assert_int_equal(n, 4); /* from the limit there is only the way it came */
	for (size_t i = 0; i < n; i++)
		assert_string_equal(d[i].knob, "size");
	assert_int_equal(d[0].number, 1);
	assert_int_equal(d[0].from, 16);
	assert_int_equal(d[0].to, 32);
	assert_float_equal(d[0].after / d[0].before, 1.1, 1e-6);
}

static void
pauses_double_without_success(void **state)
{
	double last = 0;
	(void)state;

	octave = 1;
	for (int i = 0; i < 20000; i++) {
		window(LOAD_LARGE);
		double backoff = learner(LOAD_LARGE)->backoff;
		if (backoff != last)
			assert_true(backoff == (last == 0 ? LEARNER_BACKOFF_MIN
						       : 2 * last < LEARNER_BACKOFF_MAX
							       ? 2 * last
							       : LEARNER_BACKOFF_MAX));
		last = backoff;
	}
	assert_true(last == LEARNER_BACKOFF_MAX);
	assert_in_range(decided(DECISION_REVERTED), 12, 40);
	assert_int_equal(learner(LOAD_LARGE)->learnt[0], 16);
}

static void
wide_ranges_are_walked_in_large_steps_too(void **state)
{
	struct decision d[50];
	bool fine = false, coarse = false;
	(void)state;

	begin(3, TUNER_ON);
	octave = 1;
	run(LOAD_LARGE, 300);
	size_t n = decisions_after(&t.decisions, 0, d, 50);
	for (size_t i = 0; i < n; i++) {
		fine = fine || llabs(d[i].to - d[i].from) == 1;
		coarse = coarse || llabs(d[i].to - d[i].from) == 25;
	}
	assert_true(fine && coarse);
}

static void
classes_learn_apart(void **state)
{
	(void)state;
	run(LOAD_LARGE, 200);
	octave = 1 / 1.1;
	run(LOAD_SMALL, 200);
	assert_int_equal(learner(LOAD_LARGE)->learnt[0], 256);
	assert_int_equal(learner(LOAD_SMALL)->learnt[0], 1);
	/* the second window of a class in a row brings its settings */
	window(LOAD_LARGE);
	assert_int_equal(set_to(0), 1);
	window(LOAD_LARGE);
	assert_int_equal(set_to(0), 256);
	/* and one alone nothing */
	window(LOAD_SMALL);
	assert_int_equal(set_to(0), 256);
	window(LOAD_LARGE);
	assert_int_equal(set_to(0), 256);
	/* silence is no class */
	run(LOAD_NONE, 50);
	assert_int_equal(set_to(0), 256);
}

static void
work_that_changes_calls_an_audit(void **state)
{
	(void)state;
	run(LOAD_LARGE, 3000);
	assert_int_equal(learner(LOAD_LARGE)->learnt[0], 256);
	assert_true(learner(LOAD_LARGE)->audit_gap == LEARNER_AUDIT_MAX);
	octave = 0.8; /* now the more the slower: at once 0.41 of the defaults' speed */
	run(LOAD_LARGE, 12);
	assert_int_equal(learner(LOAD_LARGE)->learnt[0], 16);
	assert_int_equal(decided(DECISION_FELL_BACK), 1);
	/* the ledger knows, and nothing is tried before it is paid */
	assert_true(learner(LOAD_LARGE)->backoff_left > 0);
}

static void
who_owes_tries_nothing(void **state)
{
	(void)state;
	learner(LOAD_LARGE)->lost = 100;
	octave = 1.2;
	run(LOAD_LARGE, 4000); /* earns 80 and the credit of 6 */
	assert_int_equal(t.decisions.last, 0);
	assert_true(learner_is_in_debt(learner(LOAD_LARGE)));
	run(LOAD_LARGE, 1000);
	assert_true(t.decisions.last > 0);
}

/* ---- interruptions ---- */

static void
a_pause_in_a_trial_is_no_verdict(void **state)
{
	(void)state;
	run_to_b(LOAD_LARGE);
	int64_t to = set_to(0);
	run(LOAD_NONE, 2);
	assert_int_equal(set_to(0), 16); /* never alone with what is only tried */
	assert_int_equal(t.decisions.last, 0);
	window(LOAD_LARGE);
	assert_int_equal(learner(LOAD_LARGE)->doing, LEARNER_TRIES);
	run(LOAD_LARGE, 10);
	assert_int_equal(learner(LOAD_LARGE)->learnt[0], to);
}

static void
who_takes_the_load_away_is_blamed(void **state)
{
	double lost;
	(void)state;

	run_to_b(LOAD_LARGE);
	lost = learner(LOAD_LARGE)->lost;
	run(LOAD_NONE, 1);
	run(LOAD_LARGE, 1);
	assert_int_equal(decided(DECISION_ABORTED), 1);
	assert_int_equal(learner(LOAD_LARGE)->learnt[0], 16);
	assert_true(learner(LOAD_LARGE)->lost >= lost + 1);
}

static void
fickle_load_is_left_alone(void **state)
{
	(void)state;
	run_to_b(LOAD_LARGE);
	for (int i = 0; i < LEARNER_INTERRUPTS + 1; i++) {
		run(LOAD_NONE, 2);
		run(LOAD_LARGE, 1);
	}
	assert_int_equal(decided(DECISION_CANCELLED), 1);
	assert_int_equal(learner(LOAD_LARGE)->doing, LEARNER_RESTS);
	/* one long pause is only one */
	setup(NULL);
	run_to_b(LOAD_LARGE);
	run(LOAD_NONE, 1000);
	assert_int_equal(learner(LOAD_LARGE)->doing, LEARNER_TRIES);
	run(LOAD_LARGE, 20);
	assert_int_equal(decided(DECISION_CANCELLED), 0);
	assert_true(decided(DECISION_KEPT) >= 1);
}

/* ---- modes ---- */

static void
frozen_keeps_and_tries_nothing(void **state)
{
	(void)state;
	run(LOAD_LARGE, 60);
	int64_t learnt = learner(LOAD_LARGE)->learnt[0];
	assert_true(learnt > 16);
	tuner_set_mode(&t, TUNER_FROZEN, 1);
	uint64_t last = t.decisions.last;
	double unpaid = learner(LOAD_LARGE)->audit_windows;
	run(LOAD_LARGE, 3);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(set_to(0), learnt);
		window(LOAD_LARGE);
	}
	assert_int_equal(t.decisions.last, last);
	/* the first audit after it does not stand for all of that time */
	assert_true(learner(LOAD_LARGE)->audit_windows == unpaid);
}

static void
off_is_the_defaults(void **state)
{
	(void)state;
	run(LOAD_LARGE, 200);
	tuner_set_mode(&t, TUNER_OFF, 1);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(set_to(0), 16);
		window(LOAD_LARGE);
	}
	tuner_set_mode(&t, TUNER_ON, 1);
	assert_int_equal(set_to(0), 16);
	run(LOAD_LARGE, 2);
	assert_int_equal(set_to(0), 256);
}

static void
a_trial_that_runs_is_broken_off(void **state)
{
	(void)state;
	run_to_b(LOAD_LARGE);
	tuner_set_mode(&t, TUNER_FROZEN, 77);
	assert_int_equal(decided(DECISION_CANCELLED), 1);
	assert_int_equal(set_to(0), 16);
	struct decision d;
	assert_int_equal(decisions_after(&t.decisions, 0, &d, 1), 1);
	assert_int_equal(d.at_us, 77);
}

static void
reset_forgets_all_classes(void **state)
{
	(void)state;
	run(LOAD_LARGE, 200);
	tuner_reset(&t);
	for (int i = 0; i < LOAD_CLASSES; i++) {
		assert_int_equal(learner((enum load_class)i)->learnt[0], 16);
		assert_true(learner((enum load_class)i)->windows == 0);
	}
	assert_true(t.decisions.last > 0);
	run(LOAD_LARGE, 200);
	assert_int_equal(learner(LOAD_LARGE)->learnt[0], 256);
}

static void
an_earlier_life_is_brought_within_limits(void **state)
{
	struct learner *l = learner(LOAD_LARGE);
	(void)state;

	l->learnt[0] = 1024;
	l->learnt[1] = -5;
	l->noise = 0.001;
	tuner_resume(&t);
	assert_int_equal(l->learnt[0], 256);
	assert_int_equal(l->learnt[1], 3);
	octave = 0.9; /* and if it is wrong by now, that shows soon */
	run(LOAD_LARGE, 2 * LEARNER_AUDIT_MIN + 10);
	assert_int_equal(l->learnt[0], 16);
}

static void
mode_names_lead_back(void **state)
{
	enum tuner_mode mode;
	(void)state;

	for (int i = 0; i < TUNER_MODES; i++) {
		assert_true(tuner_mode_find(tuner_mode_name((enum tuner_mode)i), &mode));
		assert_int_equal(mode, i);
	}
	assert_false(tuner_mode_find("of", &mode));
}

/* ---- decisions ---- */

static void
old_decisions_make_room(void **state)
{
	static struct decisions d;
	static struct decision out[DECISIONS_MAX + 10];
	(void)state;

	memset(&d, 0, sizeof d);
	assert_int_equal(decisions_after(&d, 0, out, 10), 0);
	for (int i = 1; i <= DECISIONS_MAX + 50; i++)
		decisions_add(&d, &(struct decision){.from = i});
	assert_int_equal(d.last, DECISIONS_MAX + 50);
	assert_int_equal(decisions_after(&d, 0, out, DECISIONS_MAX + 10), DECISIONS_MAX);
	for (int i = 0; i < DECISIONS_MAX; i++) {
		assert_int_equal(out[i].number, 51 + i);
		assert_int_equal(out[i].from, 51 + i);
	}
	assert_int_equal(decisions_after(&d, DECISIONS_MAX + 48, out, 10), 2);
	assert_int_equal(decisions_after(&d, DECISIONS_MAX + 50, out, 10), 0);
	assert_int_equal(decisions_after(&d, 60, out, 3), 3);
	assert_int_equal(out[0].number, 61);
}

static void
decisions_go_on_after_a_restart(void **state)
{
	static struct decisions d;
	struct decision out[5];
	(void)state;

	memset(&d, 0, sizeof d);
	for (uint64_t n = 7; n <= 9; n += 2)
		decisions_restore(&d, &(struct decision){.number = n});
	decisions_restore(&d, &(struct decision){.number = 8}); /* out of order: left out */
	decisions_add(&d, &(struct decision){.number = 0});
	assert_int_equal(decisions_after(&d, 0, out, 5), 3);
	assert_int_equal(out[0].number, 7);
	assert_int_equal(out[1].number, 9);
	assert_int_equal(out[2].number, 10);
	for (int i = 0; i < DECISION_KINDS; i++)
		assert_true(strlen(decision_name((enum decision_kind)i)) > 0);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_climbs_to_the_limit_and_rests),
		TEST(pauses_double_without_success),
		TEST(wide_ranges_are_walked_in_large_steps_too),
		TEST(classes_learn_apart),
		TEST(work_that_changes_calls_an_audit),
		TEST(who_owes_tries_nothing),
		TEST(a_pause_in_a_trial_is_no_verdict),
		TEST(who_takes_the_load_away_is_blamed),
		TEST(fickle_load_is_left_alone),
		TEST(frozen_keeps_and_tries_nothing),
		TEST(off_is_the_defaults),
		TEST(a_trial_that_runs_is_broken_off),
		TEST(reset_forgets_all_classes),
		TEST(an_earlier_life_is_brought_within_limits),
		TEST(mode_names_lead_back),
		TEST(old_decisions_make_room),
		TEST(decisions_go_on_after_a_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
