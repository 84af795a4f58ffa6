/* SPDX-License-Identifier: Apache-2.0 */
#include "trial.h"

#include <math.h>
#include <stdio.h>

/* The noise known from before counts like so many pairs of the trial itself. */
#define NOISE_PAIRS 6.0
/* The usual rate before the trial counts like so many windows of A in it. */
#define BEFORE_WINDOWS 3.0
#define DEVIATION_MIN  0.01      /* counters come in lumps: no two windows are equal to less */
#define NEW_BYTES_MIN  1048576.0 /* less says nothing about what compresses how well */
#define DISK_MIN       0.01      /* so little more disk is not counted */

void
trial_begin(struct trial *t, double before, bool coin)
{
	*t = (struct trial){.before = before};
	pairs_begin(&t->pairs, coin);
}

enum arm
trial_next(const struct trial *t)
{
	return pairs_next(&t->pairs);
}

/* ---- one window ---- */

static double
usual_log_rate(const struct trial *t)
{
	return (BEFORE_WINDOWS * t->before + t->a_log) / (BEFORE_WINDOWS + t->a_windows);
}

/* How far below A a window of B may be. */
static double
abort_below(const struct trial_rules *rules)
{
	double by_noise = 2 * sqrt(rules->noise);
	double limit = by_noise > -log(TRIAL_ABORT) ? by_noise : -log(TRIAL_ABORT);

	return limit < M_LN2 ? -limit : -M_LN2;
}

static enum trial_verdict
look_at_b(struct trial *t, const struct load_figures *w, const struct trial_rules *rules)
{
	double x = log(w->rate) - usual_log_rate(t);

	t->b_log += log(w->rate);
	t->b_windows++;
	/* -ln of a ratio is never less than what was lost, and a window cannot lose more than
	 * itself
	 */
	t->lost += x < -1 ? 1 : x > 1 ? -1 : -x;
	t->worst = x;
	if (rules->rss_bytes > 0 && w->rss_bytes > rules->rss_bytes &&
		w->rss_bytes > t->a_rss * 1.02)
		return TRIAL_MEMORY;
	return x < abort_below(rules) ? TRIAL_SLOW : TRIAL_GOES_ON;
}

/* ---- whole pairs ---- */

static void
add_pair(struct trial *t, const struct pair *p)
{
	double x = pairs_log(p->a.rate, p->b.rate);
	double off = x - t->mean;

	t->count++;
	t->mean += off / t->count;
	t->squares += off * (x - t->mean);
	t->ahead += x > 0;
	t->cheaper += p->b.cpu < p->a.cpu;
	t->cpu += pairs_log(p->a.cpu, p->b.cpu);
	t->rss += pairs_log(p->a.rss_bytes, p->b.rss_bytes);
	t->a_wait += p->a.wait_us;
	t->b_wait += p->b.wait_us;
	t->new_bytes[ARM_A] += p->a.new_bytes;
	t->new_bytes[ARM_B] += p->b.new_bytes;
	t->stored_bytes[ARM_A] += p->a.stored_bytes;
	t->stored_bytes[ARM_B] += p->b.stored_bytes;
}

static double
standard_error(const struct trial *t, const struct trial_rules *rules)
{
	double variance = (NOISE_PAIRS * rules->noise + t->squares) / (NOISE_PAIRS + t->count - 1);
	double least = DEVIATION_MIN * DEVIATION_MIN;

	return sqrt((variance > least ? variance : least) / t->count);
}

/* ln of how much more disk B takes for the same bytes; 0 if it takes less. Speed that is bought
 * with disk is no gain. */
static double
more_disk(const struct trial *t)
{
	if (t->new_bytes[ARM_A] < NEW_BYTES_MIN || t->new_bytes[ARM_B] < NEW_BYTES_MIN ||
		t->stored_bytes[ARM_A] <= 0 || t->stored_bytes[ARM_B] <= 0)
		return 0;
	double x = log(t->stored_bytes[ARM_B] / t->new_bytes[ARM_B]) -
		   log(t->stored_bytes[ARM_A] / t->new_bytes[ARM_A]);
	return x > DISK_MIN ? x : 0;
}

static bool
waits_longer(const struct trial *t)
{
	return t->b_wait > TRIAL_WAIT_FREE_US * t->count &&
	       t->b_wait > TRIAL_WAIT_TIMES * t->a_wait;
}

static bool
saves(const struct trial *t)
{
	double cpu = t->cpu / t->count;
	double rss = t->rss / t->count;
	bool less_cpu = cpu < -TRIAL_SAVING && t->cheaper * 4 >= t->count * 3;

	return (less_cpu && rss < TRIAL_SAVING) || (rss < -TRIAL_SAVING && cpu < TRIAL_SAVING / 2);
}

static enum trial_verdict
judge(const struct trial *t, const struct trial_rules *rules)
{
	double gain = log1p(TRIAL_GAIN);
	double error = standard_error(t, rules);
	double disk = more_disk(t);
	double mean = t->mean - disk;

	if (t->count >= TRIAL_PAIRS_MIN && mean > gain && mean > TRIAL_SIGMAS * error &&
		t->ahead * 3 >= t->count * 2)
		return waits_longer(t) ? TRIAL_WAITS : TRIAL_FASTER;
	if (t->count >= 2 && saves(t) && disk <= 0 && !waits_longer(t)) {
		if (t->count >= TRIAL_PAIRS_EQUAL && mean > -TRIAL_SLOWER &&
			mean - error > -TRIAL_SLOWER_MAX)
			return TRIAL_FOR_LESS;
		if (t->count < TRIAL_PAIRS_MAX && mean + error > -TRIAL_SLOWER)
			return TRIAL_GOES_ON;
	}
	if (t->count >= TRIAL_PAIRS_MAX || (t->count >= 2 && mean + error < gain))
		return TRIAL_NO_GAIN;
	return TRIAL_GOES_ON;
}

enum trial_verdict
trial_take(struct trial *t, const struct load_figures *window, const struct trial_rules *rules,
	bool coin)
{
	enum trial_verdict verdict = TRIAL_GOES_ON;
	struct pair pair;

	if (pairs_next(&t->pairs) == ARM_B) {
		verdict = look_at_b(t, window, rules);
	} else {
		t->a_log += log(window->rate);
		t->a_windows++;
		t->a_rss = window->rss_bytes;
	}
	if (!pairs_add(&t->pairs, window, coin, &pair))
		return verdict;
	add_pair(t, &pair);
	return verdict != TRIAL_GOES_ON ? verdict : judge(t, rules);
}

void
trial_interrupt(struct trial *t)
{
	pairs_drop_half(&t->pairs);
}

void
trial_blame(struct trial *t)
{
	t->lost += 1;
}

/* ---- telling ---- */

double
trial_ratio(const struct trial *t)
{
	return t->count > 0 ? exp(t->mean) : 1;
}

double
trial_rate(const struct trial *t, enum arm arm)
{
	double sum = arm == ARM_A ? t->a_log : t->b_log;
	unsigned count = arm == ARM_A ? t->a_windows : t->b_windows;

	if (count == 0)
		return arm == ARM_A ? exp(t->before) : 0;
	return exp(sum / count);
}

static double
percent(double log_ratio)
{
	return 100 * expm1(log_ratio);
}

static void
explain_no_gain(const struct trial *t, char *out, size_t out_bytes)
{
	double disk = more_disk(t);

	if (disk > 0 && t->mean > 0)
		snprintf(out, out_bytes, "%+.1f %% in %u pairs, for %.1f %% more disk",
			percent(t->mean), t->count, percent(disk));
	else
		snprintf(out, out_bytes, "%+.1f %% in %u pairs is not enough", percent(t->mean),
			t->count);
}

void
trial_explain(const struct trial *t, enum trial_verdict verdict, char *out, size_t out_bytes)
{
	double n = t->count > 0 ? t->count : 1;

	switch (verdict) {
	case TRIAL_FASTER:
		snprintf(out, out_bytes, "%.1f %% faster, ahead in %u of %u pairs",
			percent(t->mean), t->ahead, t->count);
		return;
	case TRIAL_FOR_LESS:
		snprintf(out, out_bytes,
			"as fast (%+.1f %%) with %.1f %% of the processor time and %.1f %% of the "
			"memory",
			percent(t->mean), 100 * exp(t->cpu / n), 100 * exp(t->rss / n));
		return;
	case TRIAL_NO_GAIN:
		explain_no_gain(t, out, out_bytes);
		return;
	case TRIAL_SLOW:
		snprintf(out, out_bytes, "one window had %.0f %% of the usual speed",
			100 * exp(t->worst));
		return;
	case TRIAL_WAITS:
		snprintf(out, out_bytes,
			"%.1f %% faster, but clients would wait %.0f ms instead of %.0f ms",
			percent(t->mean), t->b_wait / n / 1000, t->a_wait / n / 1000);
		return;
	case TRIAL_MEMORY:
		snprintf(out, out_bytes, "over the limit of memory");
		return;
	case TRIAL_LOAD_GONE:
		snprintf(out, out_bytes, "the load went away with it and came back without it");
		return;
	case TRIAL_BROKEN_OFF:
	case TRIAL_GOES_ON:
		break;
	}
	snprintf(out, out_bytes, "broken off after %u pairs", t->count);
}
