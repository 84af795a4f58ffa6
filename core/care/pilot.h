/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PILOT_H
#define DG_PILOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "histogram.h"
#include "knob.h"
#include "monitor.h"
#include "tuner.h"

/* pilot: reads the instruments and turns the knobs.
 *
 * A thread of its own takes a reading of the server every second for the monitor and at the ends of
 * each window for the tuner, and sets the knobs as the tuner says. It waits for nothing but its
 * clock: no SQL, no disk, no request. What it learns is kept in memory until somebody calls
 * pilot_save. Turned knobs are hints for speed (knob.h), so nothing that is stored depends on this
 * module. Threads: any, after pilot_open. One mutex, a leaf, held over copies in memory only. */

struct db;
struct ingest;
struct pilot;
struct read_service;

#define PILOT_KNOBS_MAX LEARNER_KNOBS_MAX

/* What the layers above core know; all counters since the server started. */
struct pilot_front {
	uint64_t bytes_out, requests;
	uint64_t requests_active, operations_queued;
	struct histogram_view upload_wait, read_wait, change_wait; /* us */
	bool faulty; /* database or disk are away: such a window teaches nothing */
};

struct pilot_options {
	struct db *db;
	struct ingest *ingest;
	struct read_service *reads;
	/* Fill *out (zeroed). The pilot's thread; must not block. */
	void (*front)(void *arg, struct pilot_front *out);
	void *front_arg;
	struct knob *const *knobs; /* copied; what they point at outlives the pilot */
	size_t knob_count;         /* at most PILOT_KNOBS_MAX */
	uint64_t window_ms;
	uint64_t rss_bytes; /* no setting may raise the memory above it; 0: any */
	enum tuner_mode mode;
	bool mode_is_given; /* by the configuration, not by an earlier request, which then counts
			       not */
};

/* Who said which mode is in force. */
enum pilot_mode_source {
	PILOT_MODE_DEFAULT,
	PILOT_MODE_CONFIGURED,
	PILOT_MODE_REQUESTED,
};

/* Read what an earlier life knew, and start. Without the database's answer it fails, like all of
 * the start; rows that make no sense are left out. Errors of the database, RC_NOMEM. */
enum rc pilot_open(const struct pilot_options *o, struct pilot **out, struct err *err);
/* Stop the thread, save, put the knobs back to their defaults, free. NULL is allowed. Blocks. */
void pilot_close(struct pilot *p);

/* Save what is new, if that is due: every PILOT_SAVE_MS. Blocks on SQL. Errors of the database: the
 * next one saves it. */
#define PILOT_SAVE_MS 60000
enum rc pilot_save(struct pilot *p, struct err *err);

/* Decisions since the last call, oldest first, at most max; how many. For the log. One caller. */
size_t pilot_news(struct pilot *p, struct decision *out, size_t max);

/* monitor_rows. */
size_t pilot_rows(struct pilot *p, enum monitor_resolution resolution, int64_t since_us,
	struct monitor_row *out, size_t max);

/* What the tuner knows and does now. */
struct pilot_view {
	struct tuner tuner;
	enum pilot_mode_source mode_source;
	uint64_t window_ms;
	int64_t values[PILOT_KNOBS_MAX]; /* where tuner.knobs stand */
};
/* *out is large: not for the stack of a small thread. */
void pilot_view(struct pilot *p, struct pilot_view *out);

/* The same in brief, for whoever asks often. */
struct pilot_brief {
	enum tuner_mode mode;
	enum load_class class;
	uint64_t trials;                    /* begun */
	uint64_t decisions[DECISION_KINDS]; /* taken */
	size_t knob_count;
	const struct knob *knobs[PILOT_KNOBS_MAX];
};
void pilot_brief(struct pilot *p, struct pilot_brief *out);

/* A request asks for a mode, and if reset to forget what was learnt. Durable when it returns; it
 * holds over restarts unless the configuration names a mode. Blocks on SQL. Errors of the database:
 * the mode is what it was; what was to be forgotten may be. */
enum rc pilot_set_mode(struct pilot *p, enum tuner_mode mode, bool reset, struct err *err);

#endif
