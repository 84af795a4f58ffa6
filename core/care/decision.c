/* SPDX-License-Identifier: Apache-2.0 */
#include "decision.h"

static const char *const names[DECISION_KINDS] = {
	[DECISION_KEPT] = "kept",
	[DECISION_SAVED] = "saved",
	[DECISION_REVERTED] = "reverted",
	[DECISION_ABORTED] = "aborted",
	[DECISION_REFUSED] = "refused",
	[DECISION_FELL_BACK] = "fell-back",
	[DECISION_CANCELLED] = "cancelled",
};

void
decisions_add(struct decisions *d, const struct decision *decision)
{
	struct decision *slot = &d->ring[d->last % DECISIONS_MAX];

	*slot = *decision;
	slot->number = ++d->last;
	d->counts[decision->kind]++;
}

void
decisions_restore(struct decisions *d, const struct decision *decision)
{
	if (decision->number <= d->last)
		return;
	/* numbers that are missing in between leave slots of other numbers, which nobody finds */
	d->last = decision->number;
	d->ring[(d->last - 1) % DECISIONS_MAX] = *decision;
}

size_t
decisions_after(const struct decisions *d, uint64_t after, struct decision *out, size_t max)
{
	uint64_t number = d->last > DECISIONS_MAX ? d->last - DECISIONS_MAX : 0;
	size_t n = 0;

	if (number < after)
		number = after;
	for (number++; number <= d->last && n < max; number++) {
		const struct decision *slot = &d->ring[(number - 1) % DECISIONS_MAX];
		if (slot->number == number)
			out[n++] = *slot;
	}
	return n;
}

const char *
decision_name(enum decision_kind kind)
{
	return names[kind];
}
