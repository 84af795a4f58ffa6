/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_LEARNER_H
#define DG_LEARNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "decision.h"
#include "knob.h"
#include "load.h"
#include "trial.h"

/* learner: finds settings for one class of load, and never lets it pay much for that.
 *
 * Hill climbing, one knob at a time: a neighbour of what is learnt is tried (trial.h), kept or not;
 * a round is over when no neighbour of any knob was better, and then it rests, after each round
 * without success twice as long.
 *
 * What it may cost, against the same work with the untouched defaults:
 *   1. Trials. A ledger counts what B windows lost against A, in windows' worth of work, and a
 * trial begins only while lost + LEARNER_RESERVE <= LEARNER_CREDIT + LEARNER_SHARE * windows.
 *   2. What was learnt and is wrong, by chance or because the work has changed. While it differs
 *      from the defaults, audits set pairs of windows with it beside pairs with the defaults. A
 *      cumulative sum of how much the defaults were ahead, less LEARNER_SLACK a pair, grows without
 *      end if they are ahead by more than that; when it has grown enough all goes back to the
 *      defaults, and what was lost meanwhile goes into the ledger, so that it is paid back before
 *      the next trial.
 * So in the long run it costs at most LEARNER_SHARE by 1 and LEARNER_SLACK by 2: 4.5 %, beside what
 * one trial and one error that is not found yet cost. ADR 0009 has the argument, t_tuner_sim.c the
 * figures.
 * Pure; one thread at a time. */

#define LEARNER_KNOBS_MAX 16 /* four moves each are bits of one word */
#define LEARNER_SETTLE                                                                             \
	0.2 /* of a window goes by unmeasured after each change: batches under way, caches */

#define LEARNER_SHARE   0.02
#define LEARNER_CREDIT  6.0 /* so that the first round does not wait */
#define LEARNER_RESERVE 2.0 /* what one trial can lose: a ruined window, and some before it */
#define LEARNER_SLACK   0.025

/* In windows of the class's load (5 s each unless configured otherwise). */
#define LEARNER_STEADY      4    /* without change before each trial */
#define LEARNER_BACKOFF_MIN 120  /* ten minutes */
#define LEARNER_BACKOFF_MAX 2880 /* four hours: a round costs some windows, so nearly nothing */
#define LEARNER_AUDIT_MIN   16   /* between audits, while there is doubt */
#define LEARNER_AUDIT_MAX   256  /* and at most: errors of drifting work are found this late */
#define LEARNER_NOISE_MAX   0.10 /* variance: windows that differ by a third teach nothing */
#define LEARNER_INTERRUPTS  12   /* of one trial; then the load is too fickle for it */

/* What every step may use; borrowed for the call. */
struct learner_world {
	const struct knob *const *knobs;
	size_t knob_count; /* at most LEARNER_KNOBS_MAX */
	struct decisions *decisions;
	uint64_t *seed;   /* of the coins */
	double rss_bytes; /* limit of memory; 0: none */
	bool explore;     /* false: stay with what is learnt */
	enum load_class class;
	int64_t now_us;
};

enum learner_doing {
	LEARNER_RESTS,
	LEARNER_TRIES,
	LEARNER_AUDITS,
};

struct learner {
	/* what outlives the process */
	int64_t learnt[LEARNER_KNOBS_MAX];
	double windows, lost; /* the ledger */
	double backoff, backoff_left;
	double noise; /* variance of the log ratio of neighbouring windows; < 0: not known yet */
	double rate;  /* usual log rate */
	double gain;  /* log ratio to the rate with the defaults, by trials and audits; 0: none */
	/* what goes on */
	enum learner_doing doing;
	unsigned steady;     /* windows of the learnt settings in a row */
	unsigned noise_seen; /* differences that noise was made from, up to a limit */
	double last;         /* log rate of the window before */
	unsigned odd;        /* windows in a row that are far from the usual rate */
	bool away;           /* the load went away in the middle of something */
	bool suspect;        /* and something else than what is learnt was on */
	struct trial trial;
	unsigned move, knob; /* of the trial */
	int64_t to;
	unsigned interrupts;
	unsigned next_move;
	uint64_t tried; /* moves of this round, as bits */
	bool fruitful;  /* something was kept in this round */
	struct pairs audit;
	unsigned audit_pairs; /* of the audit that runs */
	double audit_gap, audit_left;
	double audit_sum;     /* how far the defaults are ahead */
	double audit_lost;    /* windows' worth lost since that sum was 0 */
	double audit_windows; /* since the last audit began */
	double audit_span;    /* windows that the audit which runs stands for */
};

/* Know nothing: the defaults of the knobs. */
void learner_init(struct learner *l, const struct learner_world *w);
/* Values of an earlier life, read into the first group: bring them within limits. */
void learner_resume(struct learner *l, const struct learner_world *w);
/* Take a window of the class that ran with learner_settings, all of it. */
void learner_step(
	struct learner *l, const struct learner_world *w, const struct load_figures *window);
/* A window was not of this class: nothing can be compared across it. */
void learner_interrupt(struct learner *l, const struct learner_world *w);
/* Give up what goes on. */
void learner_cancel(struct learner *l, const struct learner_world *w);
/* What the next window shall run with; out has room for w->knob_count values. */
void learner_settings(const struct learner *l, const struct learner_world *w, int64_t *out);
/* Something is learnt that differs from the defaults. */
bool learner_differs(const struct learner *l, const struct learner_world *w);
/* The ledger allows no trial now. */
bool learner_is_in_debt(const struct learner *l);

#endif
