/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TUNER_H
#define DG_TUNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "decision.h"
#include "knob.h"
#include "learner.h"
#include "load.h"

/* tuner: turns knobs so that the load there is goes faster.
 *
 * Windows of time go in, the settings for the next window come out. Each class of load has a
 * learner of its own; its settings are in force from the second window of the class in a row on, so
 * that loads that alternate do not fight. Windows of no class, and those of a change, teach
 * nothing. Decisions only: pilot.h measures the windows, turns the knobs and keeps what is learnt.
 * Pure, and repeatable from one seed; one thread at a time. */

enum tuner_mode {
	TUNER_ON,
	TUNER_FROZEN, /* what is learnt is in force, nothing is tried */
	TUNER_OFF,    /* the knobs stand where the configuration put them */
	TUNER_MODES,
};

struct tuner_options {
	const struct knob *const *knobs; /* copied; what they point at outlives the tuner */
	size_t knob_count;               /* at most LEARNER_KNOBS_MAX */
	enum tuner_mode mode;
	double rss_bytes; /* no setting may raise the memory of the process above it; 0: any */
	uint64_t seed;
};

struct tuner {
	const struct knob *knobs[LEARNER_KNOBS_MAX];
	size_t knob_count;
	enum tuner_mode mode;
	double rss_bytes;
	uint64_t seed;
	struct learner learners[LOAD_CLASSES];
	struct decisions decisions;
	enum load_class class; /* whose settings are in force; LOAD_NONE: the defaults */
	enum load_class seen;  /* of the last window */
};

void tuner_init(struct tuner *t, const struct tuner_options *o);
/* Take a window that ran with tuner_settings from its beginning to its end. */
void tuner_take(struct tuner *t, const struct load_window *window, int64_t now_us);
/* What the next window shall run with; out has room for LEARNER_KNOBS_MAX values. */
void tuner_settings(const struct tuner *t, int64_t *out);
void tuner_set_mode(struct tuner *t, enum tuner_mode mode, int64_t now_us);
/* Forget what was learnt of all classes, not the decisions. */
void tuner_reset(struct tuner *t);
/* After learners were filled with what an earlier life knew: within limits, and ready. */
void tuner_resume(struct tuner *t);

/* "on", "frozen", "off"; static. */
const char *tuner_mode_name(enum tuner_mode mode);
/* The other way round; false if there is no such mode. */
bool tuner_mode_find(const char *name, enum tuner_mode *out);

#endif
