/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_LOG_H
#define DG_LOG_H

/* log: one event, one line, key=value, on stderr.
 *
 * base, store and core return struct err and log nothing above debug; the layer that turns an
 * error into an answer or a decision logs it, once. Control bytes in values come out as "?", and a
 * line is cut at 1.5 KiB. A line that cannot be written is dropped and counted.
 * Threads: any. */

enum log_level {
	LOG_LEVEL_ERROR, /* an operator must act */
	LOG_LEVEL_WARN,  /* we coped */
	LOG_LEVEL_INFO,  /* life cycle */
	LOG_LEVEL_DEBUG, /* anything */
};

void log_set_level(enum log_level level);
/* Emit if level is enabled: `time level event key=value …`. event is a static slug. */
void log_event(enum log_level level, const char *event, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* "error", "warn", "info", "debug" -> level; -1 if it is none of them. */
int log_level_parse(const char *name);
/* Lines that could not be written since start. */
unsigned long log_dropped(void);

/* A broken invariant met at run time: logs file and line at error level and counts it.
 * Aborts when DIGSTORE_ABORT_ON_BUG is set in the environment (tests do). */
#define bug(...) bug_at(__FILE__, __LINE__, __VA_ARGS__)
void bug_at(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
unsigned long bug_count(void);

#endif
