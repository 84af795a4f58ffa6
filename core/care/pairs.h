/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PAIRS_H
#define DG_PAIRS_H

#include <stdbool.h>

#include "load.h"

/* pairs: two settings, A and B, take turns, and each window of B is set beside one of A next to it.
 *
 * The order is A B B A or B A A B, by a coin for each four: what grows or shrinks steadily cancels
 * out, no setting is changed more often than every other window on average, and load that swings in
 * step with the windows cannot favour one side for long. Pure. */

enum arm {
	ARM_A,
	ARM_B,
};

struct pairs {
	unsigned position; /* in the four, 0 to 3 */
	bool b_first;
	struct load_figures half; /* the first window of the pair that is open, at odd positions */
};

struct pair {
	struct load_figures a, b;
};

/* Begin; coin decides the order. */
void pairs_begin(struct pairs *p, bool coin);
/* Whose turn the next window is. */
enum arm pairs_next(const struct pairs *p);
/* Take the window of whose turn it was. True: *out is whole now; coin decides the order of the next
 * four, if it ended one. */
bool pairs_add(struct pairs *p, const struct load_figures *window, bool coin, struct pair *out);
/* The open pair will not be whole: begin it again. */
void pairs_drop_half(struct pairs *p);

#define PAIRS_LOG_MAX                                                                              \
	0.35 /* a window 40 % faster, or 30 % slower: what is beyond it is an accident */
/* ln(b / a), held within PAIRS_LOG_MAX so that one outlier decides nothing. */
double pairs_log(double a, double b);

#endif
