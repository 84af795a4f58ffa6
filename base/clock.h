/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CLOCK_H
#define DG_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* clock: the two clocks. Durations and deadlines use the monotonic one, records the wall clock. */

/* Nanoseconds that never go back. */
uint64_t clock_mono_ns(void);
/* Microseconds since 1970, UTC. */
int64_t clock_wall_us(void);
/* Nanoseconds of CPU this thread has used. */
uint64_t clock_thread_cpu_ns(void);

#define CLOCK_RFC3339_BYTES 32
/* "2026-11-22T10:11:12.345678Z" into out (CLOCK_RFC3339_BYTES). */
void clock_rfc3339(int64_t wall_us, char *out);
#define CLOCK_RFC3339_NS_BYTES 32
/* "2026-11-22T10:11:12.3456Z", with as many decimals as it takes, into out
 * (CLOCK_RFC3339_NS_BYTES). */
void clock_rfc3339_ns(int64_t wall_ns, char *out);
/* "Sun, 22 Nov 2026 10:11:12 GMT" (HTTP date) into out (CLOCK_RFC3339_BYTES). */
void clock_http_date(int64_t wall_us, char *out);
/* Parse an HTTP date (IMF-fixdate only); -1 if it is none. Result in seconds since 1970. */
int64_t clock_parse_http_date(const char *text);

#endif
