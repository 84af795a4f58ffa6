/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_TUNER_H
#define DG_DB_TUNER_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* db_tuner: rows of the tables tuner_*: what the tuner knows, beyond restarts. */

struct db;

#define DB_TUNER_NAME_BYTES    32 /* of a class, a knob, a decision or a mode, with its NUL */
#define DB_TUNER_REASON_BYTES  128
#define DB_TUNER_CLASSES_MAX   8
#define DB_TUNER_SETTINGS_MAX  128
#define DB_TUNER_DECISIONS_MAX 200 /* older ones are deleted */

struct tuner_class_row {
	char class[DB_TUNER_NAME_BYTES];
	int64_t load_ms, lost_ms, backoff_ms, backoff_left_ms;
	int64_t noise_ppm, rate_milli, gain_ppm;
};

struct tuner_setting_row {
	char class[DB_TUNER_NAME_BYTES];
	char knob[DB_TUNER_NAME_BYTES];
	int64_t value;
};

struct tuner_decision_row {
	int64_t number;
	int64_t at_us;
	char class[DB_TUNER_NAME_BYTES];
	char decision[DB_TUNER_NAME_BYTES];
	char knob[DB_TUNER_NAME_BYTES];
	int64_t from, to, before_milli, after_milli, pairs;
	char reason[DB_TUNER_REASON_BYTES];
};

struct tuner_rows {
	struct tuner_class_row classes[DB_TUNER_CLASSES_MAX];
	size_t class_count;
	struct tuner_setting_row settings[DB_TUNER_SETTINGS_MAX];
	size_t setting_count;
	struct tuner_decision_row decisions[DB_TUNER_DECISIONS_MAX];
	size_t decision_count;
	char mode[DB_TUNER_NAME_BYTES]; /* db_tuner_load only; "": nobody asked for one */
};

/* All there is; the newest decisions, oldest first. Errors of the database. */
enum rc db_tuner_load(struct db *db, struct tuner_rows *out, struct err *err);
/* Classes and settings in the place of those there are, decisions added to them, in one
 * transaction. Errors of the database. */
enum rc db_tuner_save(struct db *db, const struct tuner_rows *rows, struct err *err);
/* What a request asked for. Errors of the database. */
enum rc db_tuner_set_mode(struct db *db, const char *mode, struct err *err);

#endif
