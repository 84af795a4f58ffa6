/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_RECOMPRESS_H
#define DG_RECOMPRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* recompress: when the server is idle, packs that have gone cold are rewritten: what uploads stored
 * raw or lightly compressed becomes zstd of a high level in frames of 1 MiB.
 *
 * Each pack is looked at once (a footer and some samples): what it may gain is noted in its row, or
 * that there is nothing to gain. The best one is rewritten next, small packs of a repository
 * together; see rewrite.h for how, and why uploads, readers and crashes are safe from it.
 *
 * It yields: every 10 ms it asks what the server does, and when there is an upload, a download or a
 * commit, its threads let go within some 20 ms, and wait until nothing has happened for a while.
 * They have the lowest priority of the system, so they are in nobody's way before that either. What
 * was compressed of a pack so far stays in the new pack's file; a piece that was let go of is begun
 * again. One thread leads (reads, verifies, writes, asks the database; ordinary priority), up to
 * SQUEEZER_THREADS_MAX compress.
 * Memory: while it works, about 5 MiB, and 20 MiB for each thread that compresses at level 19; for
 * packs of very many tiny files up to 65 MiB more (130 bytes times SOURCE_CHUNKS_MAX). Given back
 * after half a minute without work. Disk: the new packs, until the grace of the old ones is over.
 * Threads: all functions but open and close may be called by any thread and do not block.
 */

struct db;
struct ingest;
struct pack_dir;
struct recompress;

/* What the server does. */
struct recompress_activity {
	bool is_busy;    /* at this moment */
	uint64_t events; /* changes whenever something was done for a client */
};

enum recompress_outcome {
	RECOMPRESS_DONE,
	RECOMPRESS_LEFT,   /* the pack stays: it gained too little, or is not what it should be */
	RECOMPRESS_FAILED, /* tried again later; err says why */
};

/* What became of a pack, or of several that were merged. */
struct recompress_event {
	enum recompress_outcome outcome;
	uint64_t repo_id;
	uint64_t pack_id; /* the first one */
	size_t pack_count;
	uint64_t new_pack_id;
	uint64_t bytes_before;
	uint64_t bytes_after;
	uint64_t raw_bytes;
	uint64_t chunks;       /* copied */
	uint64_t chunks_moved; /* rows that lead to the copies now */
	uint64_t bad_frames;   /* did not verify, and were marked */
	uint64_t cpu_ns;
	const struct err *err; /* borrowed; NULL if nothing went wrong */
};

struct recompress_options {
	struct db *db;
	struct pack_dir *packs;
	struct ingest *ingest; /* is told to forget what was marked bad, and to seal; NULL: there is
				  none */
	int level;             /* 1 to 19 */
	unsigned cpu_percent;  /* of all cores, 0 to 100; 0: off, there is no thread */
	uint64_t after_us;     /* a pack is cold when it was closed so long ago */
	uint64_t idle_ns;      /* and the server idle when nothing has happened for so long */
	uint64_t pack_bytes;
	bool pack_direct;
	uint64_t free_bytes_min; /* it stops when less than this, and the new pack, is free */
	/* Called every few milliseconds by the leading thread; must not block. */
	void (*look)(void *arg, struct recompress_activity *out);
	/* Called by the leading thread; NULL: nobody wants to know. */
	void (*report)(void *arg, const struct recompress_event *event);
	void *arg;
};

/* Start. RC_NOMEM, RC_IO. */
enum rc recompress_open(
	const struct recompress_options *options, struct recompress **out, struct err *err);
/* Stop: within some 20 ms, or one statement of the database; a pack under way is given up. NULL is
 * allowed. */
void recompress_close(struct recompress *r);

enum recompress_action {
	RECOMPRESS_RUN,   /* all there is, now: neither cold nor long idle; it still yields. Ends a
			     pause */
	RECOMPRESS_PAUSE, /* until resumed, or run, or the end of the process */
	RECOMPRESS_RESUME,
};
/* RC_CONFLICT kind "recompression-off": cpu_percent is 0. */
enum rc recompress_control(struct recompress *r, enum recompress_action action, struct err *err);

enum recompress_state {
	RECOMPRESS_OFF,
	RECOMPRESS_WAITING,
	RECOMPRESS_RUNNING,
	RECOMPRESS_PAUSED,
};
#define RECOMPRESS_STATES 4
/* "off", "waiting", "running", "paused". */
const char *recompress_state_name(enum recompress_state state);

/* Why it does not work. */
enum recompress_reason {
	RECOMPRESS_NO_REASON,
	RECOMPRESS_DISABLED,      /* cpu_percent is 0 */
	RECOMPRESS_ASKED,         /* paused */
	RECOMPRESS_BUSY,          /* there is other work, or was a moment ago */
	RECOMPRESS_NOTHING_TO_DO, /* now; warm packs may be left */
	RECOMPRESS_NO_SPACE,
	RECOMPRESS_NO_DATABASE,
	RECOMPRESS_FAILURE, /* waits before it tries again; see error */
};
/* "none", "disabled", "asked", "busy", "nothing-to-do", "disk-full", "database-unavailable",
 * "failed". */
const char *recompress_reason_name(enum recompress_reason reason);

struct recompress_stats {
	enum recompress_state state;
	enum recompress_reason reason;
	bool is_run;      /* all there is was asked for, and is not done */
	bool is_known;    /* the sums were read from the database at least once */
	char error[192];  /* of the last failure, if it is still waiting for it */
	unsigned threads; /* that compress */
	int level;
	unsigned cpu_percent;
	/* since ever, from the database, some seconds old at most */
	uint64_t total_packs_before, total_packs_after, total_bytes_before, total_bytes_after;
	uint64_t total_raw_bytes, total_frames, total_cpu_us;
	/* to be done: packs as uploaded, warm ones too */
	uint64_t left_packs, left_bytes, left_gain, left_unknown;
	/* replaced, and waiting for their grace to pass */
	uint64_t retired_packs, retired_bytes;
	/* since the process started */
	uint64_t packs, new_packs, bytes_before, bytes_after, frames, skipped, failures, yields,
		cpu_ns;
};
void recompress_stats(struct recompress *r, struct recompress_stats *out);

#endif
