/* SPDX-License-Identifier: Apache-2.0 */
/* The tuner on plants that are formulas: what it gains where there is something to gain, and what
 * it costs at most where there is nothing. The same noise meets the tuned plant, the untouched one
 * and the best one, so that their totals can be compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chance.h"
#include "tuner.h"

#define SECONDS 5.0
#define DAY     17280 /* windows */

enum { WORKERS, BATCH, GROUP, FLUSH, LEVEL, KNOBS };

static const struct knob knobs[KNOBS] = {
	{.name = "workers", .min = 1, .max = 16, .fallback = 16, .scale = KNOB_ADD, .step = 1},
	{.name = "batch",
		.min = 1 << 18,
		.max = 1 << 24,
		.fallback = 1 << 22,
		.scale = KNOB_DOUBLE},
	{.name = "group",
		.min = 1 << 22,
		.max = 1 << 27,
		.fallback = 1 << 25,
		.scale = KNOB_DOUBLE},
	{.name = "flush", .min = 12500, .max = 800000, .fallback = 100000, .scale = KNOB_DOUBLE},
	{.name = "level", .min = -7, .max = 3, .fallback = 3, .scale = KNOB_ADD, .step = 1},
};

struct sim;
/* Work a second, about 1, of settings v; window i of class c. */
typedef double speed_fn(const struct sim *s, const int64_t *v, uint64_t i);

struct sim {
	speed_fn *speed;
	speed_fn *best;  /* speed of the best fixed settings; v is not used */
	double noise;    /* standard deviation of a window */
	double outliers; /* share of windows that are three times slower */
	enum load_class (*class)(uint64_t i);
	double (*cpu)(const int64_t *v);
	double (*expansion)(const int64_t *v);
	double (*wait_us)(const int64_t *v);
	double (*rss)(const int64_t *v);
	double rss_max;
	uint64_t windows;
	/* while it runs */
	struct tuner *tuner;
	uint64_t seed;
	/* totals of all windows, and of the last third of them */
	double tuned[2], untouched[2], best_total[2];
	double worst_day; /* tuned to untouched */
};

/* ---- running ---- */

static double
gauss(uint64_t *seed)
{
	double x = -6;

	for (int i = 0; i < 12; i++)
		x += (double)(chance_u64(seed) >> 11) / 9007199254740992.0;
	return x;
}

static struct load_window
make_window(const struct sim *s, enum load_class class, const int64_t *v, double speed)
{
	struct load_window w = {.seconds = SECONDS};
	double bytes = 100e6 * SECONDS * speed;
	double expansion = s->expansion != NULL ? s->expansion(v) : 0.5;

	if (class == LOAD_NONE)
		return w;
	if (class == LOAD_READING) {
		w.bytes_out = (uint64_t)bytes;
	} else {
		w.bytes_in = (uint64_t)bytes;
		w.files_in = class == LOAD_SMALL ? (uint64_t)(bytes / 8192) : 0;
		w.new_bytes = class == LOAD_REPEATED ? 0 : w.bytes_in;
		w.stored_bytes = (uint64_t)((double)w.new_bytes * expansion);
	}
	w.cpu_ns = (uint64_t)((s->cpu != NULL ? s->cpu(v) : 1) * speed * 1e9 * SECONDS);
	w.rss_bytes = (uint64_t)(s->rss != NULL ? s->rss(v) : 50e6);
	w.wait_us = s->wait_us != NULL ? (uint64_t)s->wait_us(v) : 5000;
	return w;
}

static void
count(struct sim *s, uint64_t i, double tuned, double untouched, double best)
{
	for (int part = 0; part < 2; part++) {
		if (part == 1 && i < s->windows * 2 / 3)
			continue;
		s->tuned[part] += tuned;
		s->untouched[part] += untouched;
		s->best_total[part] += best;
	}
}

static void
run_sim(struct sim *s, uint64_t seed)
{
	const struct knob *list[KNOBS];
	int64_t v[LEARNER_KNOBS_MAX], fallback[KNOBS];
	double day[2] = {0, 0};

	for (int i = 0; i < KNOBS; i++) {
		list[i] = &knobs[i];
		fallback[i] = knobs[i].fallback;
	}
	struct tuner_options o = {
		.knobs = list, .knob_count = KNOBS, .rss_bytes = s->rss_max, .seed = seed * 2 + 1};
	s->tuner = calloc(1, sizeof *s->tuner);
	assert_non_null(s->tuner);
	tuner_init(s->tuner, &o);
	s->seed = seed;
	memset(s->tuned, 0, sizeof s->tuned);
	memset(s->untouched, 0, sizeof s->untouched);
	memset(s->best_total, 0, sizeof s->best_total);
	s->worst_day = 1;
	for (uint64_t i = 0; i < s->windows; i++) {
		enum load_class class = s->class != NULL ? s->class(i) : LOAD_LARGE;
		double luck = exp(s->noise * gauss(&s->seed));
		if ((double)chance_below(&s->seed, 1000) < 1000 * s->outliers)
			luck /= 3;
		tuner_settings(s->tuner, v);
		double speed = s->speed(s, v, i) * luck;
		double untouched = s->speed(s, fallback, i) * luck;
		struct load_window w = make_window(s, class, v, speed);
		tuner_take(s->tuner, &w, (int64_t)(i * 5000000));
		if (class == LOAD_NONE)
			continue;
		count(s, i, speed, untouched,
			s->best != NULL ? s->best(s, v, i) * luck : untouched);
		day[0] += speed;
		day[1] += untouched;
		if (i % DAY == DAY - 1) {
			s->worst_day = fmin(s->worst_day, day[0] / day[1]);
			day[0] = day[1] = 0;
		}
	}
}

static void
end_sim(struct sim *s)
{
	free(s->tuner);
	s->tuner = NULL;
}

/* ---- plants ---- */

static double
octaves(int64_t v, double at)
{
	return log2((double)v / at);
}

/* A peak inside for every knob: workers 6, batch 1 MiB, group 64 MiB, flush 25 ms; level does
 * nothing. 1.0 at the peak. */
static double
peak_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	double w = ((double)v[WORKERS] - 6) / 10;

	(void)s;
	(void)i;
	return exp(-0.4 * w * w - 0.03 * pow(octaves(v[BATCH], 1 << 20), 2) -
		   0.02 * pow(octaves(v[GROUP], 1 << 26), 2) -
		   0.03 * pow(octaves(v[FLUSH], 25000), 2));
}

static double
one(const struct sim *s, const int64_t *v, uint64_t i)
{
	(void)s;
	(void)v;
	(void)i;
	return 1;
}

/* The smaller the batch the better, down to its limit: 8 % each. */
static double
monotone_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	(void)s;
	(void)i;
	return pow(1.08, -octaves(v[BATCH], 1 << 18));
}

/* Nothing does anything near the defaults; far away it gets worse. */
static double
plateau_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	(void)s;
	(void)i;
	return v[WORKERS] < 8 ? (double)v[WORKERS] / 8 : 1;
}

/* Every move away from the defaults costs 30 %. */
static double
cliff_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	double speed = 1;

	(void)s;
	(void)i;
	for (int k = 0; k < KNOBS; k++)
		speed *= v[k] != knobs[k].fallback ? 0.7 : 1;
	return speed;
}

/* Every step away costs 4 %: less than what ends a trial at once. */
static double
slope_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	double steps = fabs(octaves(v[BATCH], 1 << 22)) + fabs(octaves(v[GROUP], 1 << 25)) +
		       fabs(octaves(v[FLUSH], 100000)) + (double)(16 - v[WORKERS]) +
		       (double)(3 - v[LEVEL]);

	(void)s;
	(void)i;
	return pow(0.96, steps);
}

/* The batch size that is best wanders over all of its range, once in three days. */
static double
drift_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	double at = 22 + 2.5 * sin((double)i * 6.2831853 / (3 * DAY));

	(void)s;
	return exp(-0.06 * pow(log2((double)v[BATCH]) - at, 2));
}

/* Every day what was good becomes bad. */
static double
flip_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	double side = i / DAY % 2 == 0 ? 1 : -1;

	(void)s;
	return pow(1.10, side * fmax(-3, fmin(3, octaves(v[BATCH], 1 << 22))));
}

/* In trials every change looks 15 % better; once it is kept it is 25 % worse. */
static double
deceitful_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	double speed = 1;
	const struct learner *l = s->tuner != NULL ? &s->tuner->learners[LOAD_LARGE] : NULL;

	(void)i;
	for (int k = 0; k < KNOBS; k++)
		if (v[k] != knobs[k].fallback)
			speed *= l != NULL && l->learnt[k] == v[k] ? 0.75 : 1.15;
	return speed;
}

/* It swings by a third in step with windows, whatever the settings. */
static double
swing2_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	(void)s;
	(void)v;
	return i % 2 == 0 ? 1.3 : 0.7;
}

static double
swing4_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	(void)s;
	(void)v;
	return i / 2 % 2 == 0 ? 1.3 : 0.7;
}

static double
grow_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	(void)s;
	(void)v;
	return 0.2 + (double)(i % 2000) / 1000;
}

/* Anything but the defaults stops the load altogether. */
static double
stop_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	(void)s;
	(void)i;
	for (int k = 0; k < KNOBS; k++)
		if (v[k] != knobs[k].fallback)
			return 0.0001;
	return 1;
}

static double
slope1_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	return pow(slope_speed(s, v, i), 0.25);
}
static double
slope2_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	return pow(slope_speed(s, v, i), 0.5);
}
static enum load_class
alternate10(uint64_t i)
{
	return i / 10 % 2 == 0 ? LOAD_SMALL : LOAD_LARGE;
}
static enum load_class
alternate100(uint64_t i)
{
	return i / 100 % 2 == 0 ? LOAD_SMALL : LOAD_LARGE;
}
static enum load_class
bursts(uint64_t i)
{
	return i % 37 < 20 ? LOAD_LARGE : LOAD_NONE;
}

/* What is good for one class is bad for the other. */
static double
opposite_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	double side = s->class(i) == LOAD_SMALL ? 1 : -1;

	return pow(1.10, side * fmax(-3, fmin(3, octaves(v[BATCH], 1 << 22))));
}
static double
opposite_best(const struct sim *s, const int64_t *v, uint64_t i)
{
	(void)s;
	(void)v;
	(void)i;
	return pow(1.1, 2);
}

/* ---- what it must not cost ---- */

/* All noises, some seeds; the worst ratio to the untouched plant, of whole runs and of whole days.
 */
static void
expect_harmless(struct sim s, double least, double least_day)
{
	static const double noises[] = {0, 0.1, 0.2, 0.3};

	for (size_t n = 0; n < sizeof noises / sizeof noises[0]; n++)
		for (uint64_t seed = 1; seed <= 4; seed++) {
			s.noise = noises[n];
			run_sim(&s, seed);
			double ratio = s.tuned[0] / s.untouched[0];
			if (ratio < least || s.worst_day < least_day)
				fail_msg("noise %.2f, seed %d: %.3f, worst day %.3f", s.noise,
					(int)seed, ratio, s.worst_day);
			end_sim(&s);
		}
}

static void
no_plant_loses_in_the_long_run(void **state)
{
	static const struct {
		speed_fn *speed;
		double outliers;
	} plants[] = {
		{one, 0},
		{plateau_speed, 0},
		{cliff_speed, 0},
		{cliff_speed, 0.1},
		{slope_speed, 0},
		{slope1_speed, 0},
		{slope2_speed, 0},
		{stop_speed, 0},
		{deceitful_speed, 0},
		{swing2_speed, 0},
		{swing4_speed, 0},
		{grow_speed, 0},
		{flip_speed, 0},
		{drift_speed, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof plants / sizeof plants[0]; i++)
		expect_harmless((struct sim){.speed = plants[i].speed,
					.outliers = plants[i].outliers,
					.windows = 4 * DAY},
			0.985, 0.97);
}

static void
nor_in_the_first_hour(void **state)
{
	static speed_fn *const plants[] = {cliff_speed, slope_speed, stop_speed, slope2_speed};

	(void)state;
	for (size_t i = 0; i < sizeof plants / sizeof plants[0]; i++)
		expect_harmless((struct sim){.speed = plants[i], .windows = DAY / 24}, 0.92, 0.92);
}

static void
the_ledger_is_true_and_kept(void **state)
{
	static speed_fn *const plants[] = {cliff_speed, slope_speed};

	(void)state;
	for (size_t i = 0; i < sizeof plants / sizeof plants[0]; i++) {
		struct sim s = {.speed = plants[i], .windows = 2 * DAY};
		run_sim(&s, 1);
		const struct learner *l = &s.tuner->learners[LOAD_LARGE];
		double lost = s.untouched[0] - s.tuned[0]; /* in windows: the untouched rate is 1 */
		assert_true(lost <= l->lost);
		assert_true(l->lost <= LEARNER_CREDIT + LEARNER_SHARE * l->windows);
		/* nearly all of the time it rests */
		assert_true(l->backoff == LEARNER_BACKOFF_MAX);
		end_sim(&s);
	}
}

/* ---- what it must gain ---- */

struct hope {
	speed_fn *speed, *best;
	enum load_class (*class)(uint64_t i);
	double noise;
	double outliers;
	double days;
	double gain; /* least mean ratio to the untouched plant, of all windows */
	double near; /* least mean ratio to the best fixed settings, of the last third */
};

static const struct hope hopes[] = {
	{peak_speed, one, NULL, 0, 0, 1, 1.85, 0.97},
	{peak_speed, one, NULL, 0.02, 0, 1, 1.85, 0.97},
	{peak_speed, one, NULL, 0.05, 0, 1, 1.80, 0.97},
	{peak_speed, one, NULL, 0.10, 0, 4, 1.75, 0.95},
	{peak_speed, one, NULL, 0.20, 0, 4, 1.40, 0.85},
	{peak_speed, one, NULL, 0.05, 0.1, 4, 1.20, 0.65},
	{monotone_speed, one, NULL, 0, 0, 0.05, 1.30, 0.99},
	{monotone_speed, one, NULL, 0.05, 0, 0.05, 1.20, 0.97},
	{monotone_speed, one, NULL, 0.20, 0, 4, 1.25, 0.95},
	{drift_speed, one, NULL, 0.05, 0, 6, 1.14, 0.95},
	{flip_speed, NULL, NULL, 0.05, 0, 6, 1.15, 1.10},
	{peak_speed, one, bursts, 0.02, 0, 1, 1.70, 0.95},
	/* two windows of ten go by before a class is recognised */
	{opposite_speed, opposite_best, alternate10, 0.05, 0, 1, 1.16, 0.95},
	{opposite_speed, opposite_best, alternate100, 0.05, 0, 1, 1.24, 0.99},
	{opposite_speed, opposite_best, alternate100, 0.20, 0, 4, 1.12, 0.92},
};

#define HOPE_SEEDS 4

static void
it_ends_near_the_best_settings(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof hopes / sizeof hopes[0]; i++) {
		const struct hope *h = &hopes[i];
		double gain = 0, near = 0;
		for (uint64_t seed = 1; seed <= HOPE_SEEDS; seed++) {
			struct sim s = {.speed = h->speed,
				.best = h->best,
				.class = h->class,
				.noise = h->noise,
				.outliers = h->outliers,
				.windows = (uint64_t)(h->days * DAY)};
			run_sim(&s, seed);
			gain += s.tuned[0] / s.untouched[0] / HOPE_SEEDS;
			near += s.tuned[1] / s.best_total[1] / HOPE_SEEDS;
			end_sim(&s);
		}
		if (gain < h->gain || near < h->near)
			fail_msg("row %d: %.3f of untouched, %.3f of the best", (int)i, gain, near);
	}
}

/* ---- what else counts ---- */

static double
cpu_of_workers(const int64_t *v)
{
	return 0.5 + 0.05 * (double)v[WORKERS];
}

static int64_t
learnt(const struct sim *s, int knob)
{
	return s->tuner->learners[LOAD_LARGE].learnt[knob];
}

/* Eight workers are as fast as sixteen, and each costs. */
static void
equal_speed_goes_to_the_cheaper(void **state)
{
	struct sim s = {
		.speed = plateau_speed, .cpu = cpu_of_workers, .noise = 0.005, .windows = DAY};

	(void)state;
	run_sim(&s, 3);
	assert_in_range(learnt(&s, WORKERS), 8, 12);
	assert_true(s.tuned[0] > 0.995 * s.untouched[0]);
	assert_true(s.tuner->decisions.counts[DECISION_SAVED] > 0);
	end_sim(&s);
}

/* 5 % faster a level, and 8 % more disk. */
static double
level_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	(void)s;
	(void)i;
	return pow(1.05, (double)(3 - v[LEVEL]));
}

static double
level_expansion(const int64_t *v)
{
	return 0.4 * pow(1.08, (double)(3 - v[LEVEL]));
}

static double
level_expansion_little(const int64_t *v)
{
	return 0.4 * pow(1.002, (double)(3 - v[LEVEL]));
}

static void
speed_is_not_bought_with_disk(void **state)
{
	struct sim s = {.speed = level_speed, .expansion = level_expansion, .windows = DAY / 4};

	(void)state;
	run_sim(&s, 1);
	assert_int_equal(learnt(&s, LEVEL), 3);
	end_sim(&s);
	s.expansion = level_expansion_little;
	run_sim(&s, 1);
	assert_int_equal(learnt(&s, LEVEL), -7);
	end_sim(&s);
}

/* Larger groups are faster, and whoever waits for one waits longer. */
static double
group_speed(const struct sim *s, const int64_t *v, uint64_t i)
{
	(void)s;
	(void)i;
	return pow(1.08, octaves(v[GROUP], 1 << 25));
}

static double
group_wait(const int64_t *v)
{
	return 30000 * (double)v[GROUP] / (1 << 25);
}

static double
group_wait_little(const int64_t *v)
{
	return 4000 * (double)v[GROUP] / (1 << 25);
}

static void
clients_do_not_wait_much_longer(void **state)
{
	struct sim s = {.speed = group_speed, .wait_us = group_wait, .windows = DAY / 4};

	(void)state;
	run_sim(&s, 1);
	assert_int_equal(learnt(&s, GROUP), 1 << 25);
	assert_true(s.tuner->decisions.counts[DECISION_REFUSED] > 0);
	end_sim(&s);
	s.wait_us = group_wait_little;
	run_sim(&s, 1);
	assert_int_equal(learnt(&s, GROUP), 1 << 27);
	end_sim(&s);
}

static double
group_rss(const int64_t *v)
{
	return 40e6 + (double)v[GROUP];
}

static void
memory_stays_within_its_limit(void **state)
{
	struct sim s = {
		.speed = group_speed, .rss = group_rss, .rss_max = 110e6, .windows = DAY / 4};

	(void)state;
	run_sim(&s, 1);
	assert_int_equal(learnt(&s, GROUP), 1 << 26);
	assert_true(s.tuner->decisions.counts[DECISION_REFUSED] > 0);
	end_sim(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_plant_loses_in_the_long_run),
		cmocka_unit_test(nor_in_the_first_hour),
		cmocka_unit_test(the_ledger_is_true_and_kept),
		cmocka_unit_test(it_ends_near_the_best_settings),
		cmocka_unit_test(equal_speed_goes_to_the_cheaper),
		cmocka_unit_test(speed_is_not_bought_with_disk),
		cmocka_unit_test(clients_do_not_wait_much_longer),
		cmocka_unit_test(memory_stays_within_its_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
