/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PRESSURE_H
#define DG_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

/* pressure: how hard to compress, so that neither the processors nor the disk wait for each other.
 *
 * Compressing spends processor time to save writing. Idle processor time says whether there is some
 * to spend. With none left the processors are what is slow, and compressing less helps, whether
 * upload memory is full (workers are late) or free (a client on this machine, or the thread that
 * receives, waits for a processor): idle recompression makes up for it later. With some left and
 * full memory the disk is slow, and compressing harder helps; with some left and free memory
 * nothing is, and the level goes up to the best that is allowed. The level moves on a ladder, part
 * of a rung a step, a step every PRESSURE_STEP_NS; between two rungs that share of the frames is
 * compressed as the upper one says.
 * Threads: pressure_step belongs to one at a time; a pure function of its arguments. */

#define PRESSURE_STEP_NS ((uint64_t)50 * 1000000)

struct pressure {
	double rung; /* 0: raw; up to the top of the ladder */
};

/* What was seen since the last step. */
struct pressure_sample {
	double memory; /* share of upload memory in use, 0 to 1 */
	double idle;   /* share of all processors' time that was idle, 0 to 1; < 0: not known */
};

/* Begin at the top. */
void pressure_init(struct pressure *p);
/* One step. */
void pressure_step(struct pressure *p, const struct pressure_sample *s);
/* What frame number n is to be compressed with: a zstd level, or INGEST_LEVEL_RAW. best: the best
 * allowed. */
int pressure_level(double rung, uint64_t n, int best);

/* Share of idle time of all processors over the last few reads, from /proc/stat, which counts in
 * hundredths of a second: one step alone would say little. */
#define IDLE_CLOCK_READS 4
struct idle_clock {
	int fd; /* -1: there is none */
	unsigned reads;
	uint64_t idle[IDLE_CLOCK_READS], total[IDLE_CLOCK_READS]; /* ring */
};
void idle_clock_open(struct idle_clock *c);
void idle_clock_close(struct idle_clock *c);
/* < 0: not known (yet). Does not block. */
double idle_clock_read(struct idle_clock *c);

#endif
