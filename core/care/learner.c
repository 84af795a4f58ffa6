/* SPDX-License-Identifier: Apache-2.0 */
#include "learner.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NOISE_MEMORY  16   /* windows that the estimate of noise looks back */
#define NOISE_KNOWN   3    /* differences from which on it is one */
#define RATE_MEMORY   8.0  /* windows that the usual rate looks back */
#define SHIFT_MIN     0.3  /* log ratio: so far from the usual the work is another */
#define SHIFT_WINDOWS 3    /* in a row */
#define COARSE_STEPS  4    /* a coarse move goes this share of a knob's range */
#define AUDIT_PAIRS   2    /* one four of windows */
#define AUDIT_ALARM   0.10 /* how far ahead the defaults must be, all pairs together … */
#define AUDIT_SIGMAS  4.0  /* … or so many deviations of one pair, if that is more */
#define GAIN_MEMORY   8.0  /* pairs that the measured gain looks back */

/* ---- coins ---- */

static bool
toss(uint64_t *seed)
{
	uint64_t x = *seed != 0 ? *seed : 1;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*seed = x;
	return (x >> 33) % 2 == 1;
}

/* ---- moves: knob * 4 + 2 if coarse + 1 if down ---- */

#define MOVES_A_KNOB 4

static int64_t
move_value(const struct knob *k, int64_t from, unsigned move)
{
	int direction = move % 2 == 0 ? 1 : -1;
	bool coarse = move / 2 % 2 == 1;

	if (!coarse)
		return knob_neighbour(k, from, direction);
	int64_t steps = k->scale == KNOB_ADD ? (k->max - k->min) / k->step / COARSE_STEPS : 0;
	return steps < 2 ? from : knob_clamp(k, from + direction * steps * k->step);
}

static bool
is_tried(const struct learner *l, unsigned move)
{
	return (l->tried >> move & 1) != 0;
}

static void
note_tried(struct learner *l, unsigned move)
{
	l->tried |= UINT64_C(1) << move;
}

/* The next move of this round, from l->next_move on; false: there is none. */
static bool
find_move(const struct learner *l, const struct learner_world *w, unsigned *move, int64_t *to)
{
	unsigned count = (unsigned)w->knob_count * MOVES_A_KNOB;

	for (unsigned i = 0; i < count; i++) {
		unsigned m = (l->next_move + i) % count;
		unsigned knob = m / MOVES_A_KNOB;
		int64_t value = move_value(w->knobs[knob], l->learnt[knob], m);
		if (is_tried(l, m) || value == l->learnt[knob])
			continue;
		*move = m;
		*to = value;
		return true;
	}
	return false;
}

/* ---- life ---- */

void
learner_init(struct learner *l, const struct learner_world *w)
{
	*l = (struct learner){.noise = -1};
	for (size_t i = 0; i < w->knob_count; i++)
		l->learnt[i] = w->knobs[i]->fallback;
	l->audit_gap = l->audit_left = LEARNER_AUDIT_MIN;
}

void
learner_resume(struct learner *l, const struct learner_world *w)
{
	for (size_t i = 0; i < w->knob_count; i++)
		l->learnt[i] = knob_clamp(w->knobs[i], l->learnt[i]);
	l->noise_seen = l->noise >= 0 ? NOISE_KNOWN : 0;
}

bool
learner_differs(const struct learner *l, const struct learner_world *w)
{
	for (size_t i = 0; i < w->knob_count; i++)
		if (l->learnt[i] != w->knobs[i]->fallback)
			return true;
	return false;
}

bool
learner_is_in_debt(const struct learner *l)
{
	return l->lost + LEARNER_RESERVE > LEARNER_CREDIT + LEARNER_SHARE * l->windows;
}

void
learner_settings(const struct learner *l, const struct learner_world *w, int64_t *out)
{
	bool tries = !l->away && l->doing == LEARNER_TRIES && trial_next(&l->trial) == ARM_B;
	bool audits = !l->away && l->doing == LEARNER_AUDITS && pairs_next(&l->audit) == ARM_B;

	for (size_t i = 0; i < w->knob_count; i++)
		out[i] = audits ? w->knobs[i]->fallback : l->learnt[i];
	if (tries)
		out[l->knob] = l->to;
}

static void
rest(struct learner *l)
{
	l->doing = LEARNER_RESTS;
	l->steady = 0;
	l->away = false;
	l->suspect = false;
}

/* ---- rounds ---- */

static void
begin_backoff(struct learner *l, bool fruitful)
{
	double next = fruitful ? l->backoff / 2 : l->backoff * 2;

	l->backoff = fmin(fmax(next, LEARNER_BACKOFF_MIN), LEARNER_BACKOFF_MAX);
	l->backoff_left = l->backoff;
	l->tried = 0;
	l->fruitful = false;
}

static void
watch_closely(struct learner *l)
{
	l->audit_gap = LEARNER_AUDIT_MIN;
	/* not later than was planned: success after success must not put it off for ever */
	l->audit_left = fmin(l->audit_left, LEARNER_AUDIT_MIN);
}

static void
forget_audits(struct learner *l)
{
	l->audit_sum = l->audit_lost = l->audit_windows = l->gain = 0;
}

/* ---- trials ---- */

static bool
may_try(const struct learner *l)
{
	return l->steady >= LEARNER_STEADY && l->backoff_left <= 0 &&
	       l->noise_seen >= NOISE_KNOWN && l->noise < LEARNER_NOISE_MAX &&
	       !learner_is_in_debt(l);
}

static void
begin_trial(struct learner *l, const struct learner_world *w)
{
	if (!find_move(l, w, &l->move, &l->to)) {
		begin_backoff(l, l->fruitful);
		return;
	}
	l->knob = l->move / MOVES_A_KNOB;
	l->interrupts = 0;
	l->doing = LEARNER_TRIES;
	w->decisions->trials++;
	trial_begin(&l->trial, l->rate, toss(w->seed));
}

static enum decision_kind
kind_of(enum trial_verdict verdict)
{
	switch (verdict) {
	case TRIAL_FASTER:
		return DECISION_KEPT;
	case TRIAL_FOR_LESS:
		return DECISION_SAVED;
	case TRIAL_NO_GAIN:
		return DECISION_REVERTED;
	case TRIAL_SLOW:
	case TRIAL_LOAD_GONE:
		return DECISION_ABORTED;
	case TRIAL_WAITS:
	case TRIAL_MEMORY:
		return DECISION_REFUSED;
	case TRIAL_BROKEN_OFF:
	case TRIAL_GOES_ON:
		break;
	}
	return DECISION_CANCELLED;
}

static void
decide(const struct learner *l, const struct learner_world *w, enum trial_verdict verdict)
{
	struct decision d = {
		.at_us = w->now_us,
		.class = w->class,
		.kind = kind_of(verdict),
		.from = l->learnt[l->knob],
		.to = l->to,
		.before = trial_rate(&l->trial, ARM_A),
		.after = trial_rate(&l->trial, ARM_B),
		.pairs = l->trial.count,
	};

	snprintf(d.knob, sizeof d.knob, "%s", w->knobs[l->knob]->name);
	trial_explain(&l->trial, verdict, d.reason, sizeof d.reason);
	decisions_add(w->decisions, &d);
}

/* The trial found that the defaults are better than where it came from: that was as wrong all the
 * time as if an audit had found it. */
static void
pay_for_detour(struct learner *l)
{
	double lost = l->audit_lost + l->trial.mean * l->audit_windows;

	if (lost > 0)
		l->lost += lost;
}

static void
keep(struct learner *l, const struct learner_world *w)
{
	bool differed = learner_differs(l, w);

	l->learnt[l->knob] = l->to;
	l->rate = log(trial_rate(&l->trial, ARM_B));
	/* further the same way first; back is where it came from */
	l->tried = 0;
	note_tried(l, l->move ^ 1u);
	l->next_move = l->move;
	l->fruitful = true;
	watch_closely(l);
	if (differed && !learner_differs(l, w))
		pay_for_detour(l);
	if (!differed || !learner_differs(l, w))
		forget_audits(l);
	if (learner_differs(l, w))
		l->gain += l->trial.mean;
}

static void
end_trial(struct learner *l, const struct learner_world *w, enum trial_verdict verdict)
{
	/* what settles is lost at the same rate, and not measured */
	if (l->trial.lost > 0)
		l->lost += l->trial.lost * (1 + LEARNER_SETTLE);
	decide(l, w, verdict);
	if (verdict == TRIAL_FASTER || verdict == TRIAL_FOR_LESS) {
		keep(l, w);
	} else if (verdict != TRIAL_BROKEN_OFF) {
		note_tried(l, l->move);
		l->next_move = l->move + 1;
	}
	rest(l);
}

static void
try_window(struct learner *l, const struct learner_world *w, const struct load_figures *window)
{
	struct trial_rules rules = {.noise = l->noise, .rss_bytes = w->rss_bytes};
	enum trial_verdict verdict = trial_take(&l->trial, window, &rules, toss(w->seed));

	if (verdict != TRIAL_GOES_ON)
		end_trial(l, w, verdict);
}

/* ---- audits: A is what was learnt, B the defaults ---- */

static void
begin_audit(struct learner *l, const struct learner_world *w)
{
	l->doing = LEARNER_AUDITS;
	l->audit_pairs = 0;
	l->audit_span = l->audit_windows;
	l->audit_windows = 0;
	pairs_begin(&l->audit, toss(w->seed));
}

static void
fall_back(struct learner *l, const struct learner_world *w, const struct pair *pair)
{
	for (size_t i = 0; i < w->knob_count; i++) {
		struct decision d = {
			.at_us = w->now_us,
			.class = w->class,
			.kind = DECISION_FELL_BACK,
			.from = l->learnt[i],
			.to = w->knobs[i]->fallback,
			.before = pair->a.rate,
			.after = pair->b.rate,
			.pairs = l->audit_pairs,
		};
		if (d.from == d.to)
			continue;
		snprintf(d.knob, sizeof d.knob, "%s", w->knobs[i]->name);
		snprintf(d.reason, sizeof d.reason,
			"the defaults were ahead by %.0f %%, audits together", 100 * l->audit_sum);
		decisions_add(w->decisions, &d);
		l->learnt[i] = d.to;
	}
	if (l->audit_lost > 0)
		l->lost += l->audit_lost;
	l->rate = log(pair->b.rate);
	begin_backoff(l, false);
	watch_closely(l);
	forget_audits(l);
	rest(l);
}

static void
audit_window(struct learner *l, const struct learner_world *w, const struct load_figures *window)
{
	struct pair pair;

	if (!pairs_add(&l->audit, window, toss(w->seed), &pair))
		return;
	double ahead = pairs_log(pair.a.rate, pair.b.rate);
	l->audit_pairs++;
	l->audit_sum = fmax(0, l->audit_sum + ahead - LEARNER_SLACK);
	l->audit_lost += ahead * l->audit_span / AUDIT_PAIRS;
	if (l->audit_sum <= 0)
		l->audit_lost = 0;
	l->gain += (-ahead - l->gain) / GAIN_MEMORY;
	if (l->audit_sum >= fmax(AUDIT_ALARM, AUDIT_SIGMAS * sqrt(l->noise))) {
		fall_back(l, w, &pair);
	} else if (l->audit_pairs == AUDIT_PAIRS) {
		double longer = fmin(2 * l->audit_gap, LEARNER_AUDIT_MAX);
		l->audit_gap = l->audit_sum > 0 ? LEARNER_AUDIT_MIN : longer;
		l->audit_left = l->audit_gap;
		rest(l);
	}
}

/* ---- windows of what is learnt ---- */

static void
note_noise(struct learner *l, double log_rate)
{
	double off = fmin(fabs(log_rate - l->last), PAIRS_LOG_MAX);

	if (l->noise_seen < NOISE_MEMORY)
		l->noise_seen++;
	if (l->noise < 0)
		l->noise = off * off;
	else
		l->noise += (off * off - l->noise) / l->noise_seen;
}

/* Other work of the same class, or much more of it: what was learnt need not be right for it. */
static void
note_rate(struct learner *l, double log_rate)
{
	double off = log_rate - l->rate;
	bool is_odd = fabs(off) > fmax(SHIFT_MIN, 3 * sqrt(fmax(l->noise, 0)));

	l->odd = is_odd ? l->odd + 1 : 0;
	if (l->rate <= 0 || l->odd >= SHIFT_WINDOWS) {
		l->rate = log_rate;
		l->odd = 0;
		if (l->audit_windows >= LEARNER_AUDIT_MIN)
			l->audit_left = 0;
	} else if (!is_odd) {
		l->rate += off / RATE_MEMORY;
	}
}

static void
rest_window(struct learner *l, const struct load_figures *window)
{
	double log_rate = log(window->rate);

	if (l->steady > 0)
		note_noise(l, log_rate);
	note_rate(l, log_rate);
	l->last = log_rate;
	l->steady++;
}

static void
choose(struct learner *l, const struct learner_world *w)
{
	if (!w->explore)
		return;
	if (l->audit_left <= 0 && l->steady >= 2 && l->noise >= 0 && learner_differs(l, w))
		begin_audit(l, w);
	else if (may_try(l))
		begin_trial(l, w);
}

/* The first window after the load came back ran with what is learnt, and only shows that. */
static void
come_back(struct learner *l, const struct learner_world *w)
{
	l->away = false;
	if (l->suspect && l->doing == LEARNER_TRIES) {
		trial_blame(&l->trial);
		end_trial(l, w, TRIAL_LOAD_GONE);
	}
	l->suspect = false;
}

void
learner_step(struct learner *l, const struct learner_world *w, const struct load_figures *window)
{
	l->windows++;
	/* a setting that somebody froze is not the learner's to pay for */
	if (w->explore)
		l->audit_windows++;
	l->backoff_left = fmax(0, l->backoff_left - 1);
	l->audit_left = fmax(0, l->audit_left - 1);
	if (l->away) {
		come_back(l, w);
		return;
	}
	switch (l->doing) {
	case LEARNER_RESTS:
		rest_window(l, window);
		choose(l, w);
		break;
	case LEARNER_TRIES:
		try_window(l, w, window);
		break;
	case LEARNER_AUDITS:
		audit_window(l, w, window);
		break;
	}
}

void
learner_interrupt(struct learner *l, const struct learner_world *w)
{
	l->steady = 0;
	if (l->doing == LEARNER_RESTS)
		return;
	bool was_b = l->doing == LEARNER_TRIES && trial_next(&l->trial) == ARM_B;
	l->suspect = !l->away && was_b;
	l->interrupts += !l->away;
	l->away = true;
	pairs_drop_half(&l->audit);
	trial_interrupt(&l->trial);
	if (l->doing == LEARNER_TRIES && l->interrupts > LEARNER_INTERRUPTS) {
		note_tried(l, l->move);
		end_trial(l, w, TRIAL_BROKEN_OFF);
	}
}

void
learner_cancel(struct learner *l, const struct learner_world *w)
{
	if (l->doing == LEARNER_TRIES)
		end_trial(l, w, TRIAL_BROKEN_OFF);
	rest(l);
}
