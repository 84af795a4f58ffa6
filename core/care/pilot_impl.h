/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PILOT_IMPL_H
#define DG_PILOT_IMPL_H

/* pilot_impl: what pilot.c and pilot_save.c share. */

#include <pthread.h>

#include "pilot.h"

struct pilot {
	/* immutable after open */
	struct pilot_options options;
	struct knob *knobs[PILOT_KNOBS_MAX];
	int statm_fd; /* /proc/self/statm, or -1 */
	pthread_t thread;
	/* guarded by mtx */
	pthread_mutex_t mtx;
	pthread_cond_t wake;  /* the thread shall look again */
	pthread_cond_t saved; /* saving ended */
	bool stop;
	struct monitor *monitor;
	struct tuner tuner;
	enum pilot_mode_source mode_source;
	bool settings_changed; /* not by the thread: begin a new window */
	bool saving;           /* it is somebody's turn to write to the database */
	uint64_t saved_ns;     /* when that was last begun */
	uint64_t told_decision;
	/* owned by whose turn it is to save */
	uint64_t saved_decision;
	int64_t saved_minute_us;
	/* owned by the thread */
	struct monitor_reading reading, window_begin;
	uint64_t second_ns; /* when the next second ends */
	uint64_t edge_ns;   /* when the window, or what precedes it, ends */
	bool settling;      /* the window has not begun: settings were changed a moment ago */
	bool faulty;        /* since the window began */
};

/* pilot_save.c: read what an earlier life knew, before the thread runs. */
enum rc pilot_load(struct pilot *p, struct err *err);
/* Save whether it is due or not. */
enum rc pilot_save_now(struct pilot *p, struct err *err);

#endif
