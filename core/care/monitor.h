/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_MONITOR_H
#define DG_MONITOR_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "histogram.h"

/* monitor: what the server did and how long it took, second by second and minute by minute.
 *
 * It is handed readings (counters that only grow, levels, histograms of waiting times) and keeps
 * rows of figures made of their differences. Memory is fixed: all rows are there from the start.
 * It has no clock, no lock and no I/O; rows of minutes can be taken out and put back, so that they
 * outlive the process (pilot.h does that).
 * Threads: one at a time. */

#define MONITOR_SECONDS_MAX 600  /* rows a second: ten minutes show a trial of the tuner whole */
#define MONITOR_MINUTES_MAX 1440 /* rows a minute: a day, for what happens every night */

/* Of a reading: counters since the server started. */
enum monitor_counter {
	MONITOR_BYTES_IN, /* of contents */
	MONITOR_BYTES_OUT,
	MONITOR_FILES_IN, /* made durable */
	MONITOR_REQUESTS, /* answered */
	MONITOR_NEW_BYTES,
	MONITOR_STORED_BYTES,
	MONITOR_PACK_READ_BYTES,
	MONITOR_GROUPS,
	MONITOR_SYNC_NS,
	MONITOR_SQL_NS,
	MONITOR_CPU_NS,
	MONITOR_COUNTERS,
};

/* Of a reading: levels at its time. */
enum monitor_level {
	MONITOR_INGEST_QUEUE,
	MONITOR_COMMIT_QUEUE,
	MONITOR_UPLOADS_WAITING,
	MONITOR_REQUESTS_ACTIVE,
	MONITOR_OPERATIONS_QUEUED,
	MONITOR_RSS_BYTES,
	MONITOR_SLAB_BYTES,
	MONITOR_READ_CACHE_BYTES,
	MONITOR_LEVELS,
};

/* Of a reading: histograms of microseconds since the server started. */
enum monitor_wait {
	MONITOR_COMMIT_WAIT,
	MONITOR_UPLOAD_WAIT,
	MONITOR_READ_WAIT,
	MONITOR_CHANGE_WAIT,
	MONITOR_WAITS,
};

struct monitor_reading {
	uint64_t mono_ns;
	int64_t wall_us;
	uint64_t counters[MONITOR_COUNTERS];
	uint64_t levels[MONITOR_LEVELS];
	struct histogram_view waits[MONITOR_WAITS];
};

/* Of a row, by number; what each is, monitor_figure() says. */
#define MONITOR_FIGURES 26
#define MONITOR_NONE    UINT64_MAX /* nothing to measure in that time: no group, no request */

struct monitor_figure {
	const char *name; /* unique, lower case */
	const char *unit;
	const char *what;
};

struct monitor_row {
	int64_t at_us; /* when the row ends; whole minutes for rows of minutes */
	uint64_t values[MONITOR_FIGURES];
};

enum monitor_resolution {
	MONITOR_SECOND,
	MONITOR_MINUTE,
	MONITOR_RESOLUTIONS,
};

struct monitor;

/* RC_NOMEM. */
enum rc monitor_open(struct monitor **out, struct err *err);
/* NULL is allowed. */
void monitor_free(struct monitor *m);

/* Take a reading, about once a second: a row of seconds since the one before, and when the wall
 * clock has come to another minute a row of minutes. The first reading makes none. */
void monitor_add(struct monitor *m, const struct monitor_reading *r);
/* Put back a row of minutes of an earlier life, oldest first, before the first reading. */
void monitor_restore(struct monitor *m, const struct monitor_row *row);

/* Copy rows that end after since_us, oldest first, at most max and then the newest of them; how
 * many. */
size_t monitor_rows(const struct monitor *m, enum monitor_resolution resolution, int64_t since_us,
	struct monitor_row *out, size_t max);
/* 0 <= i < MONITOR_FIGURES. */
const struct monitor_figure *monitor_figure(size_t i);

#endif
