/* SPDX-License-Identifier: Apache-2.0 */
#include "show_tuner.h"

#include <math.h>
#include <stdlib.h>

#include "clock.h"
#include "pilot.h"
#include "problem.h"
#include "services.h"
#include "show_entry.h"

/* null for what is not known. */
static json_t *
show_number(bool is_known, double x)
{
	return is_known && isfinite(x) ? json_real(x) : json_null();
}

/* ---- a class ---- */

static json_t *
show_knobs(const struct pilot_view *v, const struct learner *l)
{
	json_t *list = json_array();

	for (size_t i = 0; i < v->tuner.knob_count; i++) {
		const struct knob *k = v->tuner.knobs[i];
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "name", k->name,
				      "what", k->what, "unit", k->unit, "value",
				      (json_int_t)l->learnt[i], "default", (json_int_t)k->fallback,
				      "min", (json_int_t)k->min, "max", (json_int_t)k->max));
	}
	return list;
}

static json_t *
show_trial(const struct pilot_view *v, const struct learner *l)
{
	switch (l->doing) {
	case LEARNER_RESTS:
		break;
	case LEARNER_TRIES:
		return json_pack("{s:s, s:s, s:I, s:I, s:i, s:i, s:f}", "kind", "trial", "knob",
			v->tuner.knobs[l->knob]->name, "from", (json_int_t)l->learnt[l->knob], "to",
			(json_int_t)l->to, "pairs", (int)l->trial.count, "windows",
			(int)(l->trial.a_windows + l->trial.b_windows), "ratio",
			trial_ratio(&l->trial));
	case LEARNER_AUDITS:
		return json_pack("{s:s, s:n, s:n, s:n, s:i, s:i, s:f}", "kind", "audit", "knob",
			"from", "to", "pairs", (int)l->audit_pairs, "windows",
			(int)(2 * l->audit_pairs + l->audit.position % 2), "ratio", exp(-l->gain));
	}
	return json_null();
}

/* until: if there is such load all the time from now on. */
static json_t *
show_back_off(const struct pilot_view *v, const struct learner *l, int64_t now_us)
{
	double window_s = (double)v->window_ms / 1e3;
	double left_s = l->backoff_left * window_s;

	return json_pack("{s:f, s:f, s:o}", "load_s", l->backoff * window_s, "left_s", left_s,
		"until", left_s > 0 ? show_time(now_us + (int64_t)(left_s * 1e6)) : json_null());
}

static json_t *
show_class(const struct pilot_view *v, enum load_class class, int64_t now_us)
{
	const struct learner *l = &v->tuner.learners[class];
	double window_s = (double)v->window_ms / 1e3;

	return json_pack("{s:s, s:s, s:s, s:f, s:f, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "class",
		load_class_name(class), "what", load_class_what(class), "unit",
		load_class_unit(class), "load_s", l->windows * window_s, "lost_s",
		l->lost * window_s, "in_debt", (int)learner_is_in_debt(l), "rate",
		show_number(l->rate > 0, exp(l->rate)), "noise",
		show_number(l->noise >= 0, sqrt(fmax(l->noise, 0) / 2)), "gain",
		show_number(l->gain != 0, exp(l->gain)), "knobs", show_knobs(v, l), "trial",
		show_trial(v, l), "back_off", show_back_off(v, l, now_us));
}

/* ---- decisions ---- */

static json_t *
show_decision(const struct decision *d)
{
	return json_pack("{s:I, s:o, s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:i, s:s}", "number",
		(json_int_t)d->number, "at", show_time(d->at_us), "class",
		load_class_name(d->class), "decision", decision_name(d->kind), "knob", d->knob,
		"from", (json_int_t)d->from, "to", (json_int_t)d->to, "before",
		show_number(d->before > 0, d->before), "after", show_number(d->after > 0, d->after),
		"pairs", (int)d->pairs, "reason", d->reason);
}

/* Newest first. */
static json_t *
show_decisions(const struct pilot_view *v)
{
	struct decision *list = malloc(DECISIONS_MAX * sizeof *list);
	json_t *out = json_array();
	size_t n = 0;

	if (list != NULL)
		n = decisions_after(&v->tuner.decisions, 0, list, DECISIONS_MAX);
	while (n > 0)
		json_array_append_new(out, show_decision(&list[--n]));
	free(list);
	return out;
}

/* ---- all of it ---- */

static const char *const sources[] = {
	[PILOT_MODE_DEFAULT] = "default",
	[PILOT_MODE_CONFIGURED] = "configuration",
	[PILOT_MODE_REQUESTED] = "request",
};

static json_t *
show(const struct pilot_view *v)
{
	json_t *values = json_object();
	json_t *classes = json_array();
	int64_t now_us = clock_wall_us();
	enum load_class class = v->tuner.class;

	for (size_t i = 0; i < v->tuner.knob_count; i++)
		json_object_set_new(values, v->tuner.knobs[i]->name, json_integer(v->values[i]));
	for (int i = 0; i < LOAD_CLASSES; i++)
		json_array_append_new(classes, show_class(v, (enum load_class)i, now_us));
	return json_pack("{s:s, s:s, s:I, s:s?, s:o, s:o, s:o}", "mode",
		tuner_mode_name(v->tuner.mode), "mode_source", sources[v->mode_source], "window_ms",
		(json_int_t)v->window_ms, "class",
		class != LOAD_NONE ? load_class_name(class) : NULL, "values", values, "classes",
		classes, "decisions", show_decisions(v));
}

void
show_tuner_reply(struct request *rq)
{
	struct pilot_view *v = malloc(sizeof *v);
	struct err err = ERR_INIT;

	if (v == NULL) {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
		return;
	}
	pilot_view(rq->srv->pilot, v);
	reply_header(rq, "Cache-Control", "no-store");
	reply_json(rq, 200, show(v));
	free(v);
}
