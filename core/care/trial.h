/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TRIAL_H
#define DG_TRIAL_H

#include <stddef.h>

#include "pairs.h"

/* trial: is B faster than A? Windows in, and a verdict as soon as one is safe.
 *
 * Each pair of windows gives the logarithm of the ratio of their rates, which noise moves up as
 * often as down. B is taken only if the mean of at least TRIAL_PAIRS_MIN of them is beyond
 * TRIAL_GAIN, TRIAL_SIGMAS standard errors above nothing, and two pairs of three agree. It is
 * given up as soon as even one standard error better than it looks would not be enough, or in the
 * middle of a pair if one window is far below what A does. The standard error leans on the noise
 * that was seen while nothing was tried, so that four pairs which agree by chance do not look
 * certain. Pure. Rates are compared within one class of load only. */

#define TRIAL_GAIN      0.02 /* less is not worth a change: clients and disks drift as much */
#define TRIAL_SIGMAS    2.5
#define TRIAL_PAIRS_MIN 4
#define TRIAL_PAIRS_MAX                                                                            \
	32 /* where windows differ by 20 %, gains below 12 % stay hidden: let them */
/* One window of B below this share of A ends the trial; where windows of A differ by more than that
 * among themselves, twice the noise of a pair, and never more than half. */
#define TRIAL_ABORT 0.90
/* Equal speed for less: so much less processor time or memory, and no more than so much slower, in
 * the mean and with a standard error off it. */
#define TRIAL_PAIRS_EQUAL 8
#define TRIAL_SAVING      0.05
#define TRIAL_SLOWER      0.005
#define TRIAL_SLOWER_MAX  0.015
/* Clients that wait for a group commit may wait so much longer for more throughput. */
#define TRIAL_WAIT_TIMES   1.25
#define TRIAL_WAIT_FREE_US 20000.0 /* and below this nobody minds */

enum trial_verdict {
	TRIAL_GOES_ON,
	TRIAL_FASTER,     /* take B */
	TRIAL_FOR_LESS,   /* take B: as fast, and cheaper */
	TRIAL_NO_GAIN,    /* keep A */
	TRIAL_SLOW,       /* keep A: one window was far below */
	TRIAL_WAITS,      /* keep A: faster, but clients wait longer for durability */
	TRIAL_MEMORY,     /* keep A: over the limit of memory */
	TRIAL_LOAD_GONE,  /* keep A: the load ended when B was on, and came back with A */
	TRIAL_BROKEN_OFF, /* keep A: nothing was found out */
};

struct trial_rules {
	double noise;     /* variance of the log ratio of two windows of the same settings */
	double rss_bytes; /* limit; 0: none */
};

struct trial {
	struct pairs pairs;
	unsigned count;          /* of pairs */
	unsigned ahead, cheaper; /* of them, with B faster; with B using less processor time */
	double mean, squares;    /* of the log ratios of rates; squares around the mean */
	double cpu, rss;         /* sums of log ratios */
	double a_log, b_log;     /* sums of logs of rates, over windows */
	unsigned a_windows, b_windows;
	double a_wait, b_wait;                /* sums over whole pairs */
	double new_bytes[2], stored_bytes[2]; /* by arm */
	double a_rss;                         /* of the last window of A */
	double before;                        /* log rate of A before the trial */
	double lost;  /* windows' worth of work that B cost so far; may be below 0 */
	double worst; /* log ratio of the window that ended it */
};

/* before: the usual log rate of A. */
void trial_begin(struct trial *t, double before, bool coin);
enum arm trial_next(const struct trial *t);
/* The window of whose turn it was. */
enum trial_verdict trial_take(struct trial *t, const struct load_figures *window,
	const struct trial_rules *rules, bool coin);
/* The load went away or changed: the open pair is forgotten. */
void trial_interrupt(struct trial *t);
/* B took it with it: a whole window was lost. */
void trial_blame(struct trial *t);

/* Mean ratio of the rates so far, B to A; 1 if there is no pair yet. */
double trial_ratio(const struct trial *t);
/* Mean rates; 0 if there was no window. */
double trial_rate(const struct trial *t, enum arm arm);
/* The verdict in words, for an operator; out is NUL-terminated. */
void trial_explain(const struct trial *t, enum trial_verdict verdict, char *out, size_t out_bytes);

#endif
