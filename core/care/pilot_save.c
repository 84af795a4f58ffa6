/* SPDX-License-Identifier: Apache-2.0 */
/* What outlives the process, and who may change it from outside. Learners count in windows, tables
 * in milliseconds of load: the length of a window is a setting. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "db_performance.h"
#include "db_tuner.h"
#include "pilot_impl.h"

#define MS_NS ((uint64_t)1000000)
#define FIGURES_VERSION                                                                            \
	1 /* of monitor.c's list; raise it if a figure changes its place or meaning */
#define FUTURE_US      INT64_C(60000000) /* more than clocks are corrected by */
#define MINUTES_A_SAVE 60 /* after an hour without a database the older minutes are let go */

/* ---- numbers ---- */

/* Rounded and within what a bigint holds without losing anything. */
static int64_t
whole(double x)
{
	const double most = 9e15;

	return isnan(x) ? 0 : llround(fmin(fmax(x, -most), most));
}

static double
at_least_0(double x)
{
	return x > 0 ? x : 0;
}

/* ---- reading ---- */

static void
take_class(struct pilot *p, const struct tuner_class_row *row)
{
	enum load_class class = load_class_find(row->class);
	double ms = (double)p->options.window_ms;

	if (class == LOAD_NONE)
		return;
	struct learner *l = &p->tuner.learners[class];
	l->windows = at_least_0((double)row->load_ms / ms);
	l->lost = at_least_0((double)row->lost_ms / ms);
	l->backoff = fmin(at_least_0((double)row->backoff_ms / ms), LEARNER_BACKOFF_MAX);
	l->backoff_left = fmin(at_least_0((double)row->backoff_left_ms / ms), LEARNER_BACKOFF_MAX);
	l->noise = row->noise_ppm >= 0 ? (double)row->noise_ppm / 1e6 : -1;
	l->rate = row->rate_milli > 0 ? log((double)row->rate_milli / 1e3) : 0;
	l->gain = (double)row->gain_ppm / 1e6;
}

static void
take_setting(struct pilot *p, const struct tuner_setting_row *row)
{
	enum load_class class = load_class_find(row->class);

	for (size_t i = 0; i < p->options.knob_count && class != LOAD_NONE; i++)
		if (strcmp(p->knobs[i]->name, row->knob) == 0)
			p->tuner.learners[class].learnt[i] = row->value;
}

static void
take_decision(struct pilot *p, const struct tuner_decision_row *row)
{
	struct decision d = {
		.number = (uint64_t)row->number,
		.at_us = row->at_us,
		.class = load_class_find(row->class),
		.kind = DECISION_KINDS,
		.from = row->from,
		.to = row->to,
		.before = (double)row->before_milli / 1e3,
		.after = (double)row->after_milli / 1e3,
		.pairs = (unsigned)row->pairs,
	};

	for (int i = 0; i < DECISION_KINDS; i++)
		if (strcmp(decision_name((enum decision_kind)i), row->decision) == 0)
			d.kind = (enum decision_kind)i;
	if (row->number < 1 || d.class == LOAD_NONE || d.kind == DECISION_KINDS)
		return;
	snprintf(d.knob, sizeof d.knob, "%s", row->knob);
	snprintf(d.reason, sizeof d.reason, "%s", row->reason);
	decisions_restore(&p->tuner.decisions, &d);
}

static void
take_mode(struct pilot *p, const char *name)
{
	enum tuner_mode mode;

	if (p->options.mode_is_given || !tuner_mode_find(name, &mode))
		return;
	tuner_set_mode(&p->tuner, mode, 0);
	p->mode_source = PILOT_MODE_REQUESTED;
}

static void
take_minute(void *arg, const struct performance_row *row)
{
	struct pilot *p = arg;
	struct monitor_row m = {.at_us = row->at_us};

	/* of a clock that was wrong: nothing after it would be saved */
	if (row->at_us > clock_wall_us() + FUTURE_US)
		return;
	memcpy(m.values, row->figures, sizeof m.values);
	monitor_restore(p->monitor, &m);
	p->saved_minute_us = row->at_us;
}

enum rc
pilot_load(struct pilot *p, struct err *err)
{
	struct tuner_rows *rows = malloc(sizeof *rows);

	if (rows == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	enum rc rc = db_tuner_load(p->options.db, rows, err);
	if (rc == RC_OK) {
		for (size_t i = 0; i < rows->class_count; i++)
			take_class(p, &rows->classes[i]);
		for (size_t i = 0; i < rows->setting_count; i++)
			take_setting(p, &rows->settings[i]);
		for (size_t i = 0; i < rows->decision_count; i++)
			take_decision(p, &rows->decisions[i]);
		tuner_resume(&p->tuner);
		take_mode(p, rows->mode);
		p->saved_decision = p->told_decision = p->tuner.decisions.last;
		rc = db_performance_load(
			p->options.db, FIGURES_VERSION, MONITOR_FIGURES, take_minute, p, err);
	}
	p->saved_ns = clock_mono_ns();
	free(rows);
	return rc;
}

/* ---- writing ---- */

/* What is to be written, copied under the lock. */
struct parcel {
	struct tuner_rows rows;
	struct monitor_row minutes[MINUTES_A_SAVE];
	size_t minute_count;
	struct decision decisions[DB_TUNER_DECISIONS_MAX];
};

static void
put_class(const struct pilot *p, enum load_class class, struct tuner_rows *out)
{
	const struct learner *l = &p->tuner.learners[class];
	double ms = (double)p->options.window_ms;
	struct tuner_class_row *row = &out->classes[out->class_count++];

	snprintf(row->class, sizeof row->class, "%s", load_class_name(class));
	row->load_ms = whole(l->windows * ms);
	row->lost_ms = whole(l->lost * ms);
	row->backoff_ms = whole(l->backoff * ms);
	row->backoff_left_ms = whole(l->backoff_left * ms);
	row->noise_ppm = l->noise >= 0 ? whole(l->noise * 1e6) : -1;
	row->rate_milli = l->rate > 0 ? whole(exp(l->rate) * 1e3) : 0;
	row->gain_ppm = whole(l->gain * 1e6);
	for (size_t i = 0; i < p->options.knob_count; i++) {
		if (l->learnt[i] == p->knobs[i]->fallback)
			continue;
		struct tuner_setting_row *s = &out->settings[out->setting_count++];
		memcpy(s->class, row->class, sizeof s->class);
		snprintf(s->knob, sizeof s->knob, "%s", p->knobs[i]->name);
		s->value = l->learnt[i];
	}
}

static void
put_decision(const struct decision *d, struct tuner_decision_row *row)
{
	*row = (struct tuner_decision_row){
		.number = (int64_t)d->number,
		.at_us = d->at_us,
		.from = d->from,
		.to = d->to,
		.before_milli = whole(d->before * 1e3),
		.after_milli = whole(d->after * 1e3),
		.pairs = d->pairs,
	};
	snprintf(row->class, sizeof row->class, "%s", load_class_name(d->class));
	snprintf(row->decision, sizeof row->decision, "%s", decision_name(d->kind));
	snprintf(row->knob, sizeof row->knob, "%s", d->knob);
	snprintf(row->reason, sizeof row->reason, "%s", d->reason);
}

_Static_assert(LOAD_CLASSES <= DB_TUNER_CLASSES_MAX, "a save has too many classes");
_Static_assert(LOAD_CLASSES *PILOT_KNOBS_MAX <= DB_TUNER_SETTINGS_MAX, "and too many settings");

static void
pack(struct pilot *p, struct parcel *out)
{
	pthread_mutex_lock(&p->mtx);
	for (int i = 0; i < LOAD_CLASSES; i++)
		if (p->tuner.learners[i].windows > 0)
			put_class(p, (enum load_class)i, &out->rows);
	out->rows.decision_count = decisions_after(
		&p->tuner.decisions, p->saved_decision, out->decisions, DB_TUNER_DECISIONS_MAX);
	out->minute_count = monitor_rows(
		p->monitor, MONITOR_MINUTE, p->saved_minute_us, out->minutes, MINUTES_A_SAVE);
	pthread_mutex_unlock(&p->mtx);
	for (size_t i = 0; i < out->rows.decision_count; i++)
		put_decision(&out->decisions[i], &out->rows.decisions[i]);
}

static enum rc
write_minutes(struct pilot *p, const struct parcel *parcel, struct err *err)
{
	struct performance_row rows[MINUTES_A_SAVE];

	for (size_t i = 0; i < parcel->minute_count; i++)
		rows[i] = (struct performance_row){
			.at_us = parcel->minutes[i].at_us, .figures = parcel->minutes[i].values};
	return db_performance_save(
		p->options.db, FIGURES_VERSION, MONITOR_FIGURES, rows, parcel->minute_count, err);
}

static enum rc
write_parcel(struct pilot *p, const struct parcel *parcel, struct err *err)
{
	size_t n = parcel->rows.decision_count;

	enum rc rc = db_tuner_save(p->options.db, &parcel->rows, err);
	if (rc == RC_OK && n > 0)
		p->saved_decision = parcel->decisions[n - 1].number;
	if (rc == RC_OK && parcel->minute_count > 0)
		rc = write_minutes(p, parcel, err);
	if (rc == RC_OK && parcel->minute_count > 0)
		p->saved_minute_us = parcel->minutes[parcel->minute_count - 1].at_us;
	return rc;
}

/* Two saves at once could put the older state over the newer. So they take turns; the turn, and not
 * the lock, is held over SQL, and only those who save wait for it. */
static void
begin_turn(struct pilot *p)
{
	pthread_mutex_lock(&p->mtx);
	while (p->saving)
		pthread_cond_wait(&p->saved, &p->mtx);
	p->saving = true;
	p->saved_ns = clock_mono_ns();
	pthread_mutex_unlock(&p->mtx);
}

static void
end_turn(struct pilot *p)
{
	pthread_mutex_lock(&p->mtx);
	p->saving = false;
	pthread_cond_signal(&p->saved);
	pthread_mutex_unlock(&p->mtx);
}

enum rc
pilot_save_now(struct pilot *p, struct err *err)
{
	struct parcel *parcel = calloc(1, sizeof *parcel);

	if (parcel == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	begin_turn(p);
	pack(p, parcel);
	enum rc rc = write_parcel(p, parcel, err);
	end_turn(p);
	free(parcel);
	return rc;
}

enum rc
pilot_save(struct pilot *p, struct err *err)
{
	pthread_mutex_lock(&p->mtx);
	bool is_due = clock_mono_ns() - p->saved_ns >= PILOT_SAVE_MS * MS_NS;
	pthread_mutex_unlock(&p->mtx);
	return is_due ? pilot_save_now(p, err) : RC_OK;
}

/* ---- modes ---- */

enum rc
pilot_set_mode(struct pilot *p, enum tuner_mode mode, bool reset, struct err *err)
{
	enum rc rc = db_tuner_set_mode(p->options.db, tuner_mode_name(mode), err);

	if (rc != RC_OK)
		return rc;
	pthread_mutex_lock(&p->mtx);
	tuner_set_mode(&p->tuner, mode, clock_wall_us());
	if (reset)
		tuner_reset(&p->tuner);
	p->mode_source = PILOT_MODE_REQUESTED;
	p->settings_changed = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->mtx);
	return reset ? pilot_save_now(p, err) : RC_OK;
}
