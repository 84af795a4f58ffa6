/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define LOG_LINE_BYTES 1536

static atomic_int level_max = LOG_LEVEL_INFO;
static atomic_ulong dropped;
static atomic_ulong bugs;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void
log_set_level(enum log_level level)
{
	atomic_store(&level_max, (int)level);
}

int
log_level_parse(const char *name)
{
	for (int i = 0; i < 4; i++)
		if (strcmp(name, level_names[i]) == 0)
			return i;
	return -1;
}

unsigned long
log_dropped(void)
{
	return atomic_load(&dropped);
}

unsigned long
bug_count(void)
{
	return atomic_load(&bugs);
}

/* One write(2) a line, so that lines of several threads do not mix. */
static void __attribute__((format(printf, 3, 0)))
emit(enum log_level level, const char *event, const char *fmt, va_list ap)
{
	char line[LOG_LINE_BYTES];
	char when[CLOCK_RFC3339_BYTES];

	clock_rfc3339(clock_wall_us(), when);
	int n = snprintf(line, sizeof line, "%s %s %s ", when, level_names[level], event);
	int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
	size_t len = (size_t)n;
	if (m > 0)
		len += (size_t)m < sizeof line - len - 1 ? (size_t)m : sizeof line - len - 2;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) != (ssize_t)len)
		atomic_fetch_add(&dropped, 1);
}

void
log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	va_list ap;

	if ((int)level > atomic_load_explicit(&level_max, memory_order_relaxed))
		return;
	va_start(ap, fmt);
	emit(level, event, fmt, ap);
	va_end(ap);
}

void
bug_at(const char *file, int line, const char *fmt, ...)
{
	va_list ap;
	char where[256];

	atomic_fetch_add(&bugs, 1);
	va_start(ap, fmt);
	vsnprintf(where, sizeof where, fmt, ap);
	va_end(ap);
	log_event(LOG_LEVEL_ERROR, "bug", "at=%s:%d what=\"%s\"", file, line, where);
	if (getenv("DIGSTORE_ABORT_ON_BUG") != NULL)
		abort();
}
