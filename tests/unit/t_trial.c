/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "chance.h"
#include "trial.h"

static struct trial t;
static struct trial_rules rules;
static struct load_figures arms[2]; /* what each setting does */
static uint64_t seed;

static int
setup(void **state)
{
	(void)state;
	seed = 5;
	rules = (struct trial_rules){.noise = 0.0002};
	arms[ARM_A] = (struct load_figures){.rate = 100,
		.cpu = 1000,
		.rss_bytes = 50e6,
		.wait_us = 30000,
		.new_bytes = 5e8,
		.stored_bytes = 2e8};
	arms[ARM_B] = arms[ARM_A];
	trial_begin(&t, log(100), false);
	return 0;
}

/* Windows without noise until there is a verdict. */
static enum trial_verdict
run(void)
{
	enum trial_verdict v = TRIAL_GOES_ON;

	for (int i = 0; i < 1000 && v == TRIAL_GOES_ON; i++)
		v = trial_take(&t, &arms[trial_next(&t)], &rules, chance_below(&seed, 2) == 1);
	return v;
}

static const char *
explain(enum trial_verdict v)
{
	static char text[128];

	trial_explain(&t, v, text, sizeof text);
	return text;
}

/* ---- pairs ---- */

static void
fours_are_abba_or_baab(void **state)
{
	static const enum arm want[2][4] = {
		{ARM_A, ARM_B, ARM_B, ARM_A}, {ARM_B, ARM_A, ARM_A, ARM_B}};
	struct load_figures w = {0};
	struct pairs p;
	struct pair pair;
	(void)state;

	pairs_begin(&p, false);
	for (int four = 0; four < 4; four++)
		for (int i = 0; i < 4; i++) {
			assert_int_equal(pairs_next(&p), want[four % 2][i]);
			w.rate = four * 10 + i;
			assert_int_equal(pairs_add(&p, &w, four % 2 == 0, &pair), i % 2 == 1);
			if (i % 2 == 0)
				continue;
			bool b_last = want[four % 2][i] == ARM_B;
			assert_true((b_last ? pair.b : pair.a).rate == w.rate);
			assert_true((b_last ? pair.a : pair.b).rate == w.rate - 1);
		}
}

static void
a_dropped_half_is_run_again(void **state)
{
	struct load_figures w = {.rate = 1};
	struct pairs p;
	struct pair pair;
	(void)state;

	pairs_begin(&p, true);
	assert_false(pairs_add(&p, &w, false, &pair));
	pairs_drop_half(&p);
	assert_int_equal(pairs_next(&p), ARM_B);
	w.rate = 2;
	assert_false(pairs_add(&p, &w, false, &pair));
	pairs_drop_half(&p);
	pairs_drop_half(&p);
	assert_false(pairs_add(&p, &w, false, &pair));
	w.rate = 3;
	assert_true(pairs_add(&p, &w, false, &pair));
	assert_true(pair.b.rate == 2 && pair.a.rate == 3);
}

/* ---- verdicts ---- */

static void
a_clear_gain_is_taken(void **state)
{
	(void)state;
	arms[ARM_B].rate = 110;
	assert_int_equal(run(), TRIAL_FASTER);
	assert_int_equal(t.count, TRIAL_PAIRS_MIN);
	assert_float_equal(trial_ratio(&t), 1.1, 1e-9);
	assert_float_equal(trial_rate(&t, ARM_A), 100, 1e-6);
	assert_float_equal(trial_rate(&t, ARM_B), 110, 1e-6);
	assert_true(t.lost < 0);
	assert_string_equal(explain(TRIAL_FASTER), "10.0 % faster, ahead in 4 of 4 pairs");
}

static void
nothing_and_little_are_no_gain(void **state)
{
	(void)state;
	assert_int_equal(run(), TRIAL_NO_GAIN);
	setup(NULL);
	arms[ARM_B].rate = 101;
	assert_int_equal(run(), TRIAL_NO_GAIN);
	setup(NULL);
	arms[ARM_B].rate = 95;
	assert_int_equal(run(), TRIAL_NO_GAIN);
	assert_int_equal(t.count, 2);
	assert_float_equal(t.lost, -2 * log(0.95), 1e-9);
	assert_string_equal(explain(TRIAL_NO_GAIN), "-5.0 % in 2 pairs is not enough");
}

static void
one_bad_window_ends_it(void **state)
{
	(void)state;
	arms[ARM_B].rate = 89;
	assert_int_equal(run(), TRIAL_SLOW);
	assert_int_equal(t.b_windows, 1);
	assert_string_equal(explain(TRIAL_SLOW), "one window had 89 % of the usual speed");
	/* a window costs at most itself */
	setup(NULL);
	arms[ARM_B].rate = 0.001;
	assert_int_equal(run(), TRIAL_SLOW);
	assert_float_equal(t.lost, 1, 1e-9);
}

static void
where_it_is_noisy_one_window_is_forgiven(void **state)
{
	(void)state;
	rules.noise = 0.04; /* pairs differ by 20 % */
	arms[ARM_B].rate = 75;
	assert_int_equal(run(), TRIAL_NO_GAIN);
	setup(NULL);
	rules.noise = 10; /* however noisy: half is too little */
	arms[ARM_B].rate = 49;
	assert_int_equal(run(), TRIAL_SLOW);
}

/* Four pairs of luck do not convince where luck is common. */
static void
known_noise_asks_for_more_pairs(void **state)
{
	(void)state;
	rules.noise = 0.02;
	arms[ARM_B].rate = 112;
	assert_int_equal(run(), TRIAL_FASTER);
	assert_in_range(t.count, TRIAL_PAIRS_MIN + 1, TRIAL_PAIRS_MAX);
}

static void
noise_alone_seldom_convinces(void **state)
{
	static const double deviations[] = {0.01, 0.05, 0.2};
	int taken = 0;
	(void)state;

	for (int i = 0; i < 3000; i++) {
		double deviation = deviations[i % 3];
		rules.noise = 2 * deviation * deviation;
		trial_begin(&t, log(100), i % 2 == 0);
		enum trial_verdict v = TRIAL_GOES_ON;
		while (v == TRIAL_GOES_ON) {
			double luck = -6;
			for (int k = 0; k < 12; k++)
				luck += (double)chance_below(&seed, 1 << 20) / (1 << 20);
			struct load_figures w = arms[ARM_A];
			w.rate *= exp(deviation * luck);
			v = trial_take(&t, &w, &rules, chance_below(&seed, 2) == 1);
		}
		taken += v == TRIAL_FASTER;
	}
	assert_in_range(taken, 0, 90); /* 3 % */
}

static void
equal_and_cheaper_is_taken(void **state)
{
	(void)state;
	rules.noise = 0;
	arms[ARM_B].cpu = 900;
	assert_int_equal(run(), TRIAL_FOR_LESS);
	assert_int_equal(t.count, TRIAL_PAIRS_EQUAL);
	assert_non_null(strstr(explain(TRIAL_FOR_LESS), "90.0 % of the processor time"));
	setup(NULL);
	rules.noise = 0;
	arms[ARM_B].rss_bytes = 40e6;
	assert_int_equal(run(), TRIAL_FOR_LESS);
	/* cheaper here, dearer there; slower; more disk; hardly cheaper */
	setup(NULL);
	arms[ARM_B].cpu = 900;
	arms[ARM_B].rss_bytes = 60e6;
	assert_int_equal(run(), TRIAL_NO_GAIN);
	setup(NULL);
	arms[ARM_B].cpu = 500;
	arms[ARM_B].rate = 97;
	assert_int_equal(run(), TRIAL_NO_GAIN);
	setup(NULL);
	arms[ARM_B].cpu = 900;
	arms[ARM_B].stored_bytes = 2.1e8;
	assert_int_equal(run(), TRIAL_NO_GAIN);
	setup(NULL);
	arms[ARM_B].cpu = 970;
	assert_int_equal(run(), TRIAL_NO_GAIN);
}

static void
disk_is_set_against_speed(void **state)
{
	(void)state;
	arms[ARM_B].rate = 110;
	arms[ARM_B].stored_bytes = 2.2e8;
	assert_int_equal(run(), TRIAL_NO_GAIN);
	assert_string_equal(explain(TRIAL_NO_GAIN), "+10.0 % in 2 pairs, for 10.0 % more disk");
	setup(NULL);
	arms[ARM_B].rate = 120;
	arms[ARM_B].stored_bytes = 2.1e8;
	assert_int_equal(run(), TRIAL_FASTER);
	/* less disk is welcome and makes nothing faster */
	setup(NULL);
	arms[ARM_B].stored_bytes = 1e8;
	assert_int_equal(run(), TRIAL_NO_GAIN);
	/* nothing new came in: nothing to compare */
	setup(NULL);
	arms[ARM_B].rate = 110;
	arms[ARM_B].new_bytes = 0;
	arms[ARM_B].stored_bytes = 0;
	assert_int_equal(run(), TRIAL_FASTER);
}

static void
waiting_clients_are_asked(void **state)
{
	(void)state;
	arms[ARM_B].rate = 110;
	arms[ARM_B].wait_us = 45000;
	assert_int_equal(run(), TRIAL_WAITS);
	assert_non_null(strstr(explain(TRIAL_WAITS), "45 ms instead of 30 ms"));
	setup(NULL);
	arms[ARM_B].rate = 110;
	arms[ARM_B].wait_us = 36000;
	assert_int_equal(run(), TRIAL_FASTER);
	setup(NULL);
	arms[ARM_A].wait_us = 1000;
	arms[ARM_B].wait_us = 15000;
	arms[ARM_B].rate = 110;
	assert_int_equal(run(), TRIAL_FASTER);
}

static void
memory_has_a_limit(void **state)
{
	(void)state;
	rules.rss_bytes = 60e6;
	arms[ARM_B].rate = 150;
	arms[ARM_B].rss_bytes = 61e6;
	assert_int_equal(run(), TRIAL_MEMORY);
	assert_int_equal(t.b_windows, 1);
	/* A is over it as well: B is not to blame */
	setup(NULL);
	rules.rss_bytes = 40e6;
	arms[ARM_B].rate = 150;
	assert_int_equal(run(), TRIAL_FASTER);
}

static void
every_verdict_has_words(void **state)
{
	(void)state;
	for (int v = TRIAL_GOES_ON; v <= TRIAL_BROKEN_OFF; v++)
		assert_true(strlen(explain((enum trial_verdict)v)) > 0);
	assert_float_equal(trial_ratio(&t), 1, 0);
	assert_float_equal(trial_rate(&t, ARM_A), 100, 1e-6);
	assert_float_equal(trial_rate(&t, ARM_B), 0, 0);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fours_are_abba_or_baab),
		TEST(a_dropped_half_is_run_again),
		TEST(a_clear_gain_is_taken),
		TEST(nothing_and_little_are_no_gain),
		TEST(one_bad_window_ends_it),
		TEST(where_it_is_noisy_one_window_is_forgiven),
		TEST(known_noise_asks_for_more_pairs),
		TEST(noise_alone_seldom_convinces),
		TEST(equal_and_cheaper_is_taken),
		TEST(disk_is_set_against_speed),
		TEST(waiting_clients_are_asked),
		TEST(memory_has_a_limit),
		TEST(every_verdict_has_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
