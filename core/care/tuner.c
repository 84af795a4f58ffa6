/* SPDX-License-Identifier: Apache-2.0 */
#include "tuner.h"

#include <string.h>

static const char *const mode_names[TUNER_MODES] = {
	[TUNER_ON] = "on",
	[TUNER_FROZEN] = "frozen",
	[TUNER_OFF] = "off",
};

static struct learner_world
world(struct tuner *t, enum load_class class, int64_t now_us)
{
	return (struct learner_world){
		.knobs = t->knobs,
		.knob_count = t->knob_count,
		.decisions = &t->decisions,
		.seed = &t->seed,
		.rss_bytes = t->rss_bytes,
		.explore = t->mode == TUNER_ON,
		.class = class,
		.now_us = now_us,
	};
}

void
tuner_init(struct tuner *t, const struct tuner_options *o)
{
	memset(t, 0, sizeof *t);
	t->knob_count = o->knob_count < LEARNER_KNOBS_MAX ? o->knob_count : LEARNER_KNOBS_MAX;
	memcpy(t->knobs, o->knobs, t->knob_count * sizeof t->knobs[0]);
	t->mode = o->mode;
	t->rss_bytes = o->rss_bytes;
	t->seed = o->seed;
	t->class = t->seen = LOAD_NONE;
	tuner_reset(t);
}

void
tuner_reset(struct tuner *t)
{
	for (int i = 0; i < LOAD_CLASSES; i++) {
		struct learner_world w = world(t, (enum load_class)i, 0);
		learner_init(&t->learners[i], &w);
	}
}

void
tuner_resume(struct tuner *t)
{
	for (int i = 0; i < LOAD_CLASSES; i++) {
		struct learner_world w = world(t, (enum load_class)i, 0);
		learner_resume(&t->learners[i], &w);
	}
}

void
tuner_take(struct tuner *t, const struct load_window *window, int64_t now_us)
{
	enum load_class class = load_classify(window, t->seen);
	enum load_class before = t->seen;

	t->seen = class;
	if (t->mode == TUNER_OFF)
		return;
	if (class != t->class) {
		if (t->class != LOAD_NONE) {
			struct learner_world w = world(t, t->class, now_us);
			learner_interrupt(&t->learners[t->class], &w);
		}
		if (class != LOAD_NONE && class == before)
			t->class = class;
		return;
	}
	if (class == LOAD_NONE)
		return;
	struct learner_world w = world(t, class, now_us);
	struct load_figures figures;
	load_measure(window, class, &figures);
	learner_step(&t->learners[class], &w, &figures);
}

void
tuner_settings(const struct tuner *t, int64_t *out)
{
	const struct learner_world w = {.knobs = t->knobs, .knob_count = t->knob_count};

	if (t->mode != TUNER_OFF && t->class != LOAD_NONE) {
		learner_settings(&t->learners[t->class], &w, out);
		return;
	}
	for (size_t i = 0; i < t->knob_count; i++)
		out[i] = t->knobs[i]->fallback;
}

void
tuner_set_mode(struct tuner *t, enum tuner_mode mode, int64_t now_us)
{
	for (int i = 0; mode != TUNER_ON && i < LOAD_CLASSES; i++) {
		struct learner_world w = world(t, (enum load_class)i, now_us);
		learner_cancel(&t->learners[i], &w);
	}
	t->mode = mode;
	t->class = LOAD_NONE; /* to be recognised anew: the window that runs began otherwise */
	t->seen = LOAD_NONE;
}

const char *
tuner_mode_name(enum tuner_mode mode)
{
	return mode_names[mode];
}

bool
tuner_mode_find(const char *name, enum tuner_mode *out)
{
	for (int i = 0; i < TUNER_MODES; i++) {
		if (strcmp(mode_names[i], name) != 0)
			continue;
		*out = (enum tuner_mode)i;
		return true;
	}
	return false;
}
