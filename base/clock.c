/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <string.h>
#include <time.h>

#define US_PER_S INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

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

/* Whole units of *t stay in it, the rest is returned; rounded down, so that times before 1970 keep
 * a rest of 0 to unit - 1. */
static unsigned
take_rest(int64_t *t, int64_t unit)
{
	int64_t rest = *t % unit;

	*t /= unit;
	if (rest < 0) {
		rest += unit;
		--*t;
	}
	return (unsigned)rest;
}

static void
to_utc(int64_t seconds, struct tm *tm)
{
	time_t t = (time_t)seconds;

	if (gmtime_r(&t, tm) == NULL)
		memset(tm, 0, sizeof *tm);
}

static char *
put_digits(char *at, int width, unsigned v)
{
	for (int i = width - 1; i >= 0; i--) {
		at[i] = (char)('0' + v % 10);
		v /= 10;
	}
	return at + width;
}

/* By hand: a page of a listing has a thousand of them, and strftime takes longer than all the rest
 * of an entry. */
static char *
put_seconds(char *at, const struct tm *tm)
{
	const struct {
		unsigned v;
		int width;
		char before;
	} parts[] = {
		{(unsigned)tm->tm_year + 1900, 4, '\0'},
		{(unsigned)tm->tm_mon + 1, 2, '-'},
		{(unsigned)tm->tm_mday, 2, '-'},
		{(unsigned)tm->tm_hour, 2, 'T'},
		{(unsigned)tm->tm_min, 2, ':'},
		{(unsigned)tm->tm_sec, 2, ':'},
	};

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		if (parts[i].before != '\0')
			*at++ = parts[i].before;
		at = put_digits(at, parts[i].width, parts[i].v);
	}
	return at;
}

void
clock_rfc3339(int64_t wall_us, char *out)
{
	unsigned us = take_rest(&wall_us, US_PER_S);
	struct tm tm;

	to_utc(wall_us, &tm);
	char *at = put_seconds(out, &tm);
	*at++ = '.';
	at = put_digits(at, 6, us);
	*at++ = 'Z';
	*at = '\0';
}

void
clock_rfc3339_ns(int64_t wall_ns, char *out)
{
	unsigned ns = take_rest(&wall_ns, NS_PER_S);
	struct tm tm;

	to_utc(wall_ns, &tm);
	char *at = put_seconds(out, &tm);
	if (ns > 0) {
		*at++ = '.';
		at = put_digits(at, 9, ns);
		while (at[-1] == '0')
			at--;
	}
	*at++ = 'Z';
	*at = '\0';
}

/* strftime's %a and %b follow the locale, which we never set: always C. */
void
clock_http_date(int64_t wall_us, char *out)
{
	struct tm tm;

	take_rest(&wall_us, US_PER_S);
	to_utc(wall_us, &tm);
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
