/* SPDX-License-Identifier: Apache-2.0 */
#include "db_tuner.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "db.h"

/* ---- reading ---- */

static const struct db_stmt stmt_classes = {
	.name = "tuner_classes",
	.sql = "SELECT class, load_ms, lost_ms, backoff_ms, backoff_left_ms, noise_ppm, rate_milli,"
	       " gain_ppm FROM tuner_class ORDER BY class LIMIT $1",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_settings = {
	.name = "tuner_settings",
	.sql = "SELECT class, knob, value FROM tuner_setting ORDER BY class, knob LIMIT $1",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_decisions = {
	.name = "tuner_decisions",
	.sql = "SELECT number, decided_at, class, decision, knob, from_value, to_value,"
	       " before_milli, after_milli, pairs, reason FROM"
	       " (SELECT * FROM tuner_decision ORDER BY number DESC LIMIT $1) AS d ORDER BY number",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};
static const struct db_stmt stmt_mode = {
	.name = "tuner_mode",
	.sql = "SELECT mode FROM tuner_mode LIMIT $1",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

static enum rc
query(struct db_tx *tx, const struct db_stmt *stmt, size_t limit, struct db_result **out,
	struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, (int64_t)limit);
	enum rc rc = db_exec(tx, stmt, &p, out, err);
	db_params_done(&p);
	return rc;
}

/* A text that is too long was not written by us; it is cut. */
static void
take_text(const struct db_result *r, size_t row, unsigned col, char *out, size_t out_bytes)
{
	snprintf(out, out_bytes, "%s", db_get_text(r, row, col, NULL));
}

static enum rc
load_classes(struct db_tx *tx, struct tuner_rows *out, struct err *err)
{
	struct db_result *r = NULL;

	enum rc rc = query(tx, &stmt_classes, DB_TUNER_CLASSES_MAX, &r, err);
	out->class_count = rc == RC_OK ? db_rows(r) : 0;
	for (size_t i = 0; i < out->class_count; i++) {
		struct tuner_class_row *c = &out->classes[i];
		take_text(r, i, 0, c->class, sizeof c->class);
		c->load_ms = db_get_i64(r, i, 1);
		c->lost_ms = db_get_i64(r, i, 2);
		c->backoff_ms = db_get_i64(r, i, 3);
		c->backoff_left_ms = db_get_i64(r, i, 4);
		c->noise_ppm = db_get_i64(r, i, 5);
		c->rate_milli = db_get_i64(r, i, 6);
		c->gain_ppm = db_get_i64(r, i, 7);
	}
	db_result_free(r);
	return rc;
}

static enum rc
load_settings(struct db_tx *tx, struct tuner_rows *out, struct err *err)
{
	struct db_result *r = NULL;

	enum rc rc = query(tx, &stmt_settings, DB_TUNER_SETTINGS_MAX, &r, err);
	out->setting_count = rc == RC_OK ? db_rows(r) : 0;
	for (size_t i = 0; i < out->setting_count; i++) {
		struct tuner_setting_row *s = &out->settings[i];
		take_text(r, i, 0, s->class, sizeof s->class);
		take_text(r, i, 1, s->knob, sizeof s->knob);
		s->value = db_get_i64(r, i, 2);
	}
	db_result_free(r);
	return rc;
}

static enum rc
load_decisions(struct db_tx *tx, struct tuner_rows *out, struct err *err)
{
	struct db_result *r = NULL;

	enum rc rc = query(tx, &stmt_decisions, DB_TUNER_DECISIONS_MAX, &r, err);
	out->decision_count = rc == RC_OK ? db_rows(r) : 0;
	for (size_t i = 0; i < out->decision_count; i++) {
		struct tuner_decision_row *d = &out->decisions[i];
		d->number = db_get_i64(r, i, 0);
		d->at_us = db_get_timestamptz_us(r, i, 1);
		take_text(r, i, 2, d->class, sizeof d->class);
		take_text(r, i, 3, d->decision, sizeof d->decision);
		take_text(r, i, 4, d->knob, sizeof d->knob);
		d->from = db_get_i64(r, i, 5);
		d->to = db_get_i64(r, i, 6);
		d->before_milli = db_get_i64(r, i, 7);
		d->after_milli = db_get_i64(r, i, 8);
		d->pairs = db_get_i64(r, i, 9);
		take_text(r, i, 10, d->reason, sizeof d->reason);
	}
	db_result_free(r);
	return rc;
}

static enum rc
run_load(struct db_tx *tx, void *arg, struct err *err)
{
	struct tuner_rows *out = arg;
	struct db_result *r = NULL;

	memset(out, 0, sizeof *out);
	enum rc rc = load_classes(tx, out, err);
	if (rc == RC_OK)
		rc = load_settings(tx, out, err);
	if (rc == RC_OK)
		rc = load_decisions(tx, out, err);
	if (rc == RC_OK)
		rc = query(tx, &stmt_mode, 1, &r, err);
	if (rc == RC_OK && db_rows(r) == 1)
		take_text(r, 0, 0, out->mode, sizeof out->mode);
	db_result_free(r);
	return rc;
}

enum rc
db_tuner_load(struct db *db, struct tuner_rows *out, struct err *err)
{
	return db_run_readonly(db, run_load, out, err);
}

/* ---- writing ---- */

static const struct db_stmt stmt_forget = {
	.name = "tuner_forget",
	.sql = "DELETE FROM tuner_class",
	.params = 0,
};
static const struct db_stmt stmt_add_classes = {
	.name = "tuner_add_classes",
	.sql = "INSERT INTO tuner_class (class, load_ms, lost_ms, backoff_ms, backoff_left_ms,"
	       " noise_ppm, rate_milli, gain_ppm) SELECT * FROM unnest($1::text[], $2::bigint[],"
	       " $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],"
	       " $8::bigint[])",
	.params = 8,
};
static const struct db_stmt stmt_add_settings = {
	.name = "tuner_add_settings",
	.sql = "INSERT INTO tuner_setting (class, knob, value)"
	       " SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])",
	.params = 3,
};
static const struct db_stmt stmt_add_decisions = {
	.name = "tuner_add_decisions",
	.sql = "INSERT INTO tuner_decision (number, decided_at, class, decision, knob, from_value,"
	       " to_value, before_milli, after_milli, pairs, reason)"
	       " SELECT n, timestamptz 'epoch' + us * interval '1 microsecond', c, d, k, f, t, b, "
	       "a,"
	       " p, r FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[],"
	       " $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],"
	       " $11::text[]) AS u (n, us, c, d, k, f, t, b, a, p, r)"
	       " ON CONFLICT (number) DO NOTHING",
	.params = 11,
};
static const struct db_stmt stmt_prune = {
	.name = "tuner_prune",
	.sql = "DELETE FROM tuner_decision WHERE number <="
	       " (SELECT max(number) FROM tuner_decision) - $1",
	.params = 1,
	.types = (const uint32_t[]){DB_INT8},
};

static void
add_texts(struct db_params *p, const char *first, size_t count, size_t stride)
{
	db_array_begin(p, DB_TEXT);
	for (size_t i = 0; i < count; i++)
		db_array_text(p, first + i * stride, strlen(first + i * stride));
	db_array_end(p);
}

static enum rc
save_classes(struct db_tx *tx, const struct tuner_rows *rows, struct err *err)
{
	const struct tuner_class_row *c = rows->classes;
	struct db_params p;

	db_params_init(&p);
	add_texts(&p, c->class, rows->class_count, sizeof *c);
	db_add_i64_column(&p, rows->class_count, &c->load_ms, sizeof *c);
	db_add_i64_column(&p, rows->class_count, &c->lost_ms, sizeof *c);
	db_add_i64_column(&p, rows->class_count, &c->backoff_ms, sizeof *c);
	db_add_i64_column(&p, rows->class_count, &c->backoff_left_ms, sizeof *c);
	db_add_i64_column(&p, rows->class_count, &c->noise_ppm, sizeof *c);
	db_add_i64_column(&p, rows->class_count, &c->rate_milli, sizeof *c);
	db_add_i64_column(&p, rows->class_count, &c->gain_ppm, sizeof *c);
	enum rc rc = db_exec(tx, &stmt_add_classes, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

static enum rc
save_settings(struct db_tx *tx, const struct tuner_rows *rows, struct err *err)
{
	const struct tuner_setting_row *s = rows->settings;
	struct db_params p;

	db_params_init(&p);
	add_texts(&p, s->class, rows->setting_count, sizeof *s);
	add_texts(&p, s->knob, rows->setting_count, sizeof *s);
	db_add_i64_column(&p, rows->setting_count, &s->value, sizeof *s);
	enum rc rc = db_exec(tx, &stmt_add_settings, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

static enum rc
save_decisions(struct db_tx *tx, const struct tuner_rows *rows, struct err *err)
{
	const struct tuner_decision_row *d = rows->decisions;
	size_t n = rows->decision_count;
	struct db_params p;

	db_params_init(&p);
	db_add_i64_column(&p, n, &d->number, sizeof *d);
	db_add_i64_column(&p, n, &d->at_us, sizeof *d);
	add_texts(&p, d->class, n, sizeof *d);
	add_texts(&p, d->decision, n, sizeof *d);
	add_texts(&p, d->knob, n, sizeof *d);
	db_add_i64_column(&p, n, &d->from, sizeof *d);
	db_add_i64_column(&p, n, &d->to, sizeof *d);
	db_add_i64_column(&p, n, &d->before_milli, sizeof *d);
	db_add_i64_column(&p, n, &d->after_milli, sizeof *d);
	db_add_i64_column(&p, n, &d->pairs, sizeof *d);
	add_texts(&p, d->reason, n, sizeof *d);
	enum rc rc = db_exec(tx, &stmt_add_decisions, &p, NULL, err);
	if (rc == RC_OK) {
		db_params_clear(&p);
		db_add_i64(&p, DB_TUNER_DECISIONS_MAX);
		rc = db_exec(tx, &stmt_prune, &p, NULL, err);
	}
	db_params_done(&p);
	return rc;
}

static enum rc
run_save(struct db_tx *tx, void *arg, struct err *err)
{
	const struct tuner_rows *rows = arg;

	enum rc rc = db_exec(tx, &stmt_forget, NULL, NULL, err);
	if (rc == RC_OK)
		rc = save_classes(tx, rows, err);
	if (rc == RC_OK)
		rc = save_settings(tx, rows, err);
	if (rc == RC_OK && rows->decision_count > 0)
		rc = save_decisions(tx, rows, err);
	return rc;
}

enum rc
db_tuner_save(struct db *db, const struct tuner_rows *rows, struct err *err)
{
	return db_run(db, run_save, (void *)(uintptr_t)rows, err);
}

static const struct db_stmt stmt_set_mode = {
	.name = "tuner_set_mode",
	.sql = "INSERT INTO tuner_mode (mode) VALUES ($1)"
	       " ON CONFLICT (id) DO UPDATE SET mode = excluded.mode",
	.params = 1,
	.types = (const uint32_t[]){DB_TEXT},
};

static enum rc
run_set_mode(struct db_tx *tx, void *arg, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_str(&p, arg);
	enum rc rc = db_exec(tx, &stmt_set_mode, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_tuner_set_mode(struct db *db, const char *mode, struct err *err)
{
	return db_run(db, run_set_mode, (void *)(uintptr_t)mode, err);
}
