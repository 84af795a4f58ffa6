/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DECISION_H
#define DG_DECISION_H

#include <stddef.h>
#include <stdint.h>

#include "load.h"

/* decision: what the tuner found out about one change of one knob, and what it did. The last ones
 * are kept in a ring. Pure; one thread at a time. */

enum decision_kind {
	DECISION_KEPT,      /* faster */
	DECISION_SAVED,     /* kept: as fast for less */
	DECISION_REVERTED,  /* no gain */
	DECISION_ABORTED,   /* given up at once: it did harm */
	DECISION_REFUSED,   /* faster, but against a limit */
	DECISION_FELL_BACK, /* what was learnt earlier is no better than the default any more */
	DECISION_CANCELLED, /* nothing was found out */
	DECISION_KINDS,
};

#define DECISION_REASON_BYTES 128
#define DECISIONS_MAX         200 /* a day of trials without pause is about that many */
#define DECISION_KNOB_BYTES   32  /* of a knob's name */

struct decision {
	uint64_t number; /* 1, 2, …; over restarts */
	int64_t at_us;
	enum load_class class;
	enum decision_kind kind;
	char knob[DECISION_KNOB_BYTES];
	int64_t from, to;
	double before, after; /* rates with the one and with the other; 0: not known */
	unsigned pairs;
	char reason[DECISION_REASON_BYTES];
};

struct decisions {
	struct decision ring[DECISIONS_MAX];
	uint64_t last;                   /* number of the newest; 0: none */
	uint64_t trials;                 /* begun by this process */
	uint64_t counts[DECISION_KINDS]; /* of this process */
};

/* Keep a copy with the next number. */
void decisions_add(struct decisions *d, const struct decision *decision);
/* Put back one of an earlier life, in the order of their numbers. */
void decisions_restore(struct decisions *d, const struct decision *decision);
/* Copy those with a larger number than after, oldest first, at most max and then the oldest of
 * them; how many. */
size_t decisions_after(const struct decisions *d, uint64_t after, struct decision *out, size_t max);
/* "kept", "saved", …; static. */
const char *decision_name(enum decision_kind kind);

#endif
