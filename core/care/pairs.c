/* SPDX-License-Identifier: Apache-2.0 */
#include "pairs.h"

#include <math.h>

void
pairs_begin(struct pairs *p, bool coin)
{
	*p = (struct pairs){.b_first = coin};
}

enum arm
pairs_next(const struct pairs *p)
{
	bool inner = p->position == 1 || p->position == 2;

	return inner != p->b_first ? ARM_B : ARM_A;
}

bool
pairs_add(struct pairs *p, const struct load_figures *window, bool coin, struct pair *out)
{
	bool is_second = p->position % 2 == 1;

	if (is_second && pairs_next(p) == ARM_B)
		*out = (struct pair){.a = p->half, .b = *window};
	else if (is_second)
		*out = (struct pair){.a = *window, .b = p->half};
	else
		p->half = *window;
	if (++p->position == 4)
		pairs_begin(p, coin);
	return is_second;
}

void
pairs_drop_half(struct pairs *p)
{
	p->position -= p->position % 2;
}

double
pairs_log(double a, double b)
{
	double x = log(b / a);

	return x > PAIRS_LOG_MAX ? PAIRS_LOG_MAX : x < -PAIRS_LOG_MAX ? -PAIRS_LOG_MAX : x;
}
