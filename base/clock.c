/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t
read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t
clock_mono_ns(void)
{
	return read_ns(CLOCK_MONOTONIC);
}

int64_t
clock_wall_us(void)
{
	return (int64_t)(read_ns(CLOCK_REALTIME) / 1000u);
}

uint64_t
clock_thread_cpu_ns(void)
{
	return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* Floor division, so that times before 1970 keep a microsecond part of 0..999999. */
static void
split(int64_t wall_us, struct tm *tm, int *us)
{
	int64_t s = wall_us / 1000000;
	int64_t rest = wall_us % 1000000;

	if (rest < 0) {
		rest += 1000000;
		s--;
	}
	time_t t = (time_t)s;
	if (gmtime_r(&t, tm) == NULL)
		memset(tm, 0, sizeof *tm);
	*us = (int)rest;
}

void
clock_rfc3339(int64_t wall_us, char *out)
{
	struct tm tm;
	int us;
	char date[24];

	split(wall_us, &tm, &us);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, CLOCK_RFC3339_BYTES, "%s.%06dZ", date, us);
}

/* strftime's %a and %b follow the locale, which we never set: always C. */
void
clock_http_date(int64_t wall_us, char *out)
{
	struct tm tm;
	int us;

	split(wall_us, &tm, &us);
	strftime(out, CLOCK_RFC3339_BYTES, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

int64_t
clock_parse_http_date(const char *text)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);

	if (end == NULL || *end != '\0')
		return -1;
	return (int64_t)timegm(&tm);
}
