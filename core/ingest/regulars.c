/* SPDX-License-Identifier: Apache-2.0 */
#include "regulars.h"

void
regulars_come(struct regulars *r, unsigned files)
{
	r->waiting += files;
	r->returned += files;
}

unsigned
regulars_expected(struct regulars *r)
{
	if (r->waiting == 0 || r->answered <= r->returned)
		return 0;
	if (r->skip > 0) {
		r->skip--;
		return 0;
	}
	return r->answered - r->returned;
}

void
regulars_learn(struct regulars *r, unsigned expected, unsigned came)
{
	if (came * 2 >= expected) {
		r->skipped = 0;
		return;
	}
	r->skipped = r->skipped < REGULARS_SKIP_MAX / 2 ? 2 * r->skipped + 1 : REGULARS_SKIP_MAX;
	r->skip = r->skipped;
}

void
regulars_leave(struct regulars *r)
{
	r->waiting = 0;
}

void
regulars_answer(struct regulars *r, unsigned files)
{
	r->answered = files;
	r->returned = 0;
}
