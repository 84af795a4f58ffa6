/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SQUEEZER_H
#define DG_SQUEEZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* squeezer: compresses pieces at high levels on threads that run when nobody else wants to
 * (background.h). They do nothing but this: whoever hands pieces in reads, writes and talks to the
 * database, with an ordinary priority, so that no lock, file or transaction is ever held by a
 * thread that does not get a processor.
 *
 * Held, all of them let go of their piece within one step of the codec (some 20 ms) and begin it
 * again later. A thread that has had nothing to do for release_ms frees its tables; they are 18.5
 * MiB a thread at level 19 with pieces of 1 MiB.
 * Threads: one thread calls everything. */

struct squeezer;

#define SQUEEZER_THREADS_MAX 4 /* times 18.5 MiB */

struct squeezer_options {
	unsigned threads; /* 1 to SQUEEZER_THREADS_MAX */
	int level;
	unsigned duty_percent; /* 1 to 100: share of its time that each thread may work */
	unsigned release_ms;
};

/* A piece; owned by the caller, who leaves it alone from squeezer_submit until squeezer_wait says
 * that it is done. */
struct squeeze_piece {
	const uint8_t *raw;
	size_t raw_bytes;
	uint8_t *out;
	size_t out_cap;
	size_t out_bytes; /* result; 0: it does not get smaller */
	/* squeezer.c's own */
	struct squeeze_piece *next;
	bool is_done;
};

/* RC_INVALID, RC_NOMEM; RC_IO: no thread could be started. */
enum rc squeezer_open(
	const struct squeezer_options *options, struct squeezer **out, struct err *err);
/* What was submitted is dropped; the pieces are the caller's again. NULL is allowed. */
void squeezer_free(struct squeezer *s);

/* Pieces are begun in the order they come. */
void squeezer_submit(struct squeezer *s, struct squeeze_piece *p);
/* Wait up to timeout_ms for a piece; true: it is done. */
bool squeezer_wait(struct squeezer *s, const struct squeeze_piece *p, unsigned timeout_ms);
/* Stop working, or go on. Does not wait. */
void squeezer_hold(struct squeezer *s, bool hold);
/* Drop all that was submitted and is not done; returns when no piece is touched any more. */
void squeezer_drop(struct squeezer *s);

struct squeezer_stats {
	uint64_t cpu_ns;    /* also of work that was begun again */
	uint64_t stops;     /* pieces let go of */
	unsigned working;   /* threads that work on a piece now */
	bool is_background; /* every thread got its low priority */
};
void squeezer_stats(struct squeezer *s, struct squeezer_stats *out);

#endif
