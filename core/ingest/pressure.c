/* SPDX-License-Identifier: Apache-2.0 */
#include "pressure.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ingest.h"

/* Levels below the best: each rung costs about a fifth more time than the one under it. */
static const int ladder[] = {INGEST_LEVEL_RAW, -7, -5, -3, -1};
#define TOP (sizeof ladder / sizeof *ladder)

/* Idle time below the first is noise of a busy machine; up to the second it is what pipelines lose
 * where their stages wait for each other; more could be used. */
#define IDLE_LOW  0.04
#define IDLE_HIGH 0.10

void
pressure_init(struct pressure *p)
{
	p->rung = TOP;
}

/* Down in steps that shrink with the height, because much is wrong at the top and little near the
 * bottom; up slowly, because what is seen is some steps old. */
static double
move(double rung, const struct pressure_sample *s)
{
	double down = rung > 1 ? -rung / 8 : -0.125;

	/* without knowledge of the processors memory alone decides */
	if (s->idle < 0)
		return s->memory > 0.5 ? down : s->memory > 0.25 ? 0 : 0.25;
	if (s->idle < IDLE_LOW)
		return s->memory > 0.5 ? down : down / 2;
	if (s->idle < IDLE_HIGH)
		return -0.125;
	if (s->memory < 0.125 && s->idle > 3 * IDLE_HIGH)
		return 0.5;
	return s->idle > 2 * IDLE_HIGH ? 0.125 : 0;
}

void
pressure_step(struct pressure *p, const struct pressure_sample *s)
{
	/* with some time to spare and free memory nobody is held up: no reason to go without */
	bool held_up = s->memory > 0.25 || (s->idle >= 0 && s->idle < IDLE_HIGH);
	double least = held_up ? 0 : TOP - 1;
	double rung = p->rung + move(p->rung, s);

	if (rung < least)
		rung = p->rung < least ? p->rung + 0.25 : least;
	p->rung = rung > TOP ? TOP : rung;
}

int
pressure_level(double rung, uint64_t n, int best)
{
	size_t i = (size_t)rung;
	double part = rung - (double)i;

	/* the multiples of the golden ratio spread evenly over 0 to 1 */
	if ((double)(n * UINT64_C(0x9e3779b97f4a7c15) >> 11) * 0x1p-53 < part)
		i++;
	return i < TOP && ladder[i] < best ? ladder[i] : best;
}

/* ---- idle time ---- */

void
idle_clock_open(struct idle_clock *c)
{
	*c = (struct idle_clock){.fd = open("/proc/stat", O_RDONLY | O_CLOEXEC)};
}

void
idle_clock_close(struct idle_clock *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

/* Ticks of all processors since the start of the machine. */
static bool
read_ticks(const struct idle_clock *c, uint64_t *idle, uint64_t *total)
{
	uint64_t n[8] = {0};
	char line[256];
	ssize_t got = c->fd >= 0 ? pread(c->fd, line, sizeof line - 1, 0) : -1;

	if (got <= 0)
		return false;
	line[got] = '\0';
	/* user nice system idle iowait irq softirq steal */
	if (sscanf(line,
		    "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
		    " %" SCNu64 " %" SCNu64,
		    &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7]) != 8)
		return false;
	*total = 0;
	for (int i = 0; i < 8; i++)
		*total += n[i];
	*idle = n[3] + n[4];
	return true;
}

double
idle_clock_read(struct idle_clock *c)
{
	uint64_t idle = 0, total = 0;

	if (!read_ticks(c, &idle, &total))
		return -1;
	unsigned at = c->reads % IDLE_CLOCK_READS;
	uint64_t idle_was = c->idle[at], total_was = c->total[at];
	c->idle[at] = idle;
	c->total[at] = total;
	if (c->reads++ < IDLE_CLOCK_READS || total <= total_was || idle < idle_was)
		return -1;
	return (double)(idle - idle_was) / (double)(total - total_was);
}
