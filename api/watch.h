/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_WATCH_H
#define DG_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "services.h"

/* watch: requests that wait for news, and the one thread that ends their waiting.
 *
 * A long poll or an event stream occupies no worker: nothing runs for it until a stage has news (a
 * stage_watch calls) or its time has come (a timer here). The timer thread starts with the first
 * timer and lives until watch_stop. There is one for the process.
 *
 * At shutdown call watch_stop before waiting for requests to end: it makes every timer due, at
 * which long polls answer and event streams end. Lock: one, held for list work only, never while a
 * timer's function runs. */

/* The owner's memory, zeroed with fn set. */
struct watch_timer {
	/* On the timer thread, no lock held, when due; must not block. It may set the timer again,
	 * and cancel it and free what it is in. */
	void (*fn)(struct watch_timer *t);
	/* private */
	uint64_t due_ns;
	bool is_listed;
	struct watch_timer *next, *prev;
};

/* Let fn be called once when clock_mono_ns() has reached due_ns (0: at once). Replaces what was set
 * before. Any thread, also within fn. After watch_stop it does nothing. false: the thread could not
 * be started, fn will not be called. */
bool watch_timer_set(struct watch_timer *t, uint64_t due_ns);
/* Make it due now if it is set; else nothing. Any thread. */
void watch_timer_hurry(struct watch_timer *t);
/* After it returns fn is not running (unless it is fn that calls) and will not be called. */
void watch_timer_cancel(struct watch_timer *t);

/* Count one more watcher of srv->limits.watchers_max. RC_AGAIN kind "overloaded": too many;
 * RC_UNAVAILABLE kind "shutting-down". */
enum rc watch_enter(const struct server_ctx *srv, struct err *err);
void watch_leave(void);
/* Watchers now. */
size_t watch_count(void);

/* Make all timers due, wait until their functions have run and those of timers they set, join the
 * thread. Watchers are refused from now on. May be repeated. */
void watch_stop(void);
bool watch_is_stopped(void);

#endif
