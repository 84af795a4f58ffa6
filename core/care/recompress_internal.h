/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_RECOMPRESS_INTERNAL_H
#define DG_RECOMPRESS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "buf.h"
#include "db_squeeze.h"
#include "recompress.h"
#include "rewrite.h"
#include "sha256.h"
#include "source.h"
#include "squeezer.h"

/* recompress_internal: what the files of recompress share. recompress.c leads and says when there
 * may be work, recompress_choose.c says on what, recompress_job.c and recompress_frame.c do it. */

#define JOB_SOURCES_MAX 64 /* packs merged into one */
#define SKIP_MAX        64
/* Below that, reading and writing a pack, and the caches of its readers, cost more. */
#define GAIN_MIN_PERCENT 3

/* A pack of less than a quarter of the size packs have is small: it is merged with others. */
#define SMALL_DIVISOR 4

/* A pack that failed, and until when it is left alone. */
struct skipped {
	uint64_t pack_id;
	uint64_t until_ns;
};

struct recompress {
	/* immutable after open */
	struct recompress_options options;
	unsigned threads;
	unsigned duty_percent;
	struct pack_readers *readers; /* our own: no lock is shared with those who serve clients */
	struct source_tools tools;
	pthread_t leader;
	bool started;

	/* guarded by mtx */
	pthread_mutex_t mtx;
	pthread_cond_t kick;
	bool stop;
	bool paused;
	bool run;
	uint64_t runs;  /* how often it was asked for */
	uint64_t kicks; /* how often anything was */
	struct recompress_stats stats;

	/* the leader's */
	struct squeezer *squeezer; /* while there is work, and a little longer */
	uint64_t worked_ns;        /* when there last was */
	bool is_held;              /* the squeezer is */
	uint64_t events;           /* as last seen */
	uint64_t active_ns;        /* when something last happened */
	uint64_t checked_ns;       /* when a job last looked at its surroundings */
	uint64_t summed_ns;        /* when the sums were read; 0: read them now */
	uint64_t kicks_seen;
	uint64_t run_seen; /* of runs */
	bool run_is_new;
	uint64_t run_id_max;        /* the run is over when these are done */
	uint64_t run_open_until_ns; /* how long it waits for open packs */
	uint64_t open_packs;        /* up to run_id_max */
	bool has_leftovers;         /* of a rewrite: rewrite_clean is due */
	uint64_t clean_ns;          /* not before */
	struct skipped skipped[SKIP_MAX];
	unsigned skip_next;
	unsigned failures; /* in a row */
	uint64_t retry_ns; /* not before */
	enum recompress_reason retry_reason;
};

/* ---- recompress.c ---- */

#define MS ((uint64_t)1000000) /* nanoseconds */

void recompress_set_state(struct recompress *r, enum recompress_reason reason);
bool recompress_is_stopping(struct recompress *r);
/* Until somebody calls recompress_control or recompress_close, or ms have passed. */
void recompress_nap(struct recompress *r, unsigned ms);
/* Leave a pack alone for a while. */
void recompress_skip(struct recompress *r, uint64_t pack_id);

/* ---- recompress_permit.c ---- */

/* Why not to work now: paused, or other work. */
enum recompress_reason recompress_obstacle(struct recompress *r);
/* RC_FULL: too little is free. */
enum rc recompress_check_space(struct recompress *r, struct err *err);
/* May the leader go on? Waits while the server is busy. RC_OK: go on. RC_AGAIN: the end.
 * repo_id: whose pack is being worked on, 0: none; it is looked at now and then. RC_NOT_FOUND: that
 * repository was dropped. RC_FULL: no space. */
enum rc recompress_permit(struct recompress *r, uint64_t repo_id, struct err *err);
/* The squeezer, started if need be. */
enum rc recompress_squeezer(struct recompress *r, struct squeezer **out, struct err *err);
/* Stop it, and give its memory back. */
void recompress_release(struct recompress *r);

/* ---- recompress_choose.c ---- */

struct job_sources {
	struct squeeze_pack packs[JOB_SOURCES_MAX];
	size_t count;
	size_t best; /* index of the pack that the job is for */
	uint64_t bytes;
};
/* Look at some packs that nobody has looked at. *looked: there were any. */
enum rc choose_look(struct recompress *r, bool *looked, struct err *err);
/* There is nothing to gain in a pack: never look at it again, and say so. raw_bytes as
 * db_squeeze_leave. */
enum rc choose_leave(
	struct recompress *r, const struct squeeze_pack *p, uint64_t raw_bytes, struct err *err);
/* What to rewrite next; count 0: nothing. */
enum rc choose_next(struct recompress *r, struct job_sources *out, struct err *err);

/* ---- recompress_job.c, recompress_frame.c ---- */

#define GROUP_BYTES      ((size_t)1 << 20)
#define GROUP_CHUNKS_MAX 4096 /* a table of 160 KiB for 1 MiB of tiny files */
/* More of them, and the pack is not to be touched: it wants somebody who looks into it. */
#define BAD_FRAMES_MAX 32

/* Chunks on their way into one frame. */
struct group {
	struct squeeze_piece piece;
	struct pack_chunk chunks[GROUP_CHUNKS_MAX];
	struct rewrite_place from[GROUP_CHUNKS_MAX];
	uint32_t count;
	size_t bytes;
	bool is_submitted;
	uint8_t raw[GROUP_BYTES];
	uint8_t out[GROUP_BYTES];
};

struct job {
	struct recompress *r;
	const struct job_sources *chosen;
	struct source *sources[JOB_SOURCES_MAX]; /* NULL: left out */
	uint64_t ids[JOB_SOURCES_MAX];           /* of those that take part */
	size_t id_count;
	size_t chunk_count;
	uint64_t source_bytes;
	uint64_t raw_bytes;
	struct rewrite *rewrite;
	struct squeezer *squeezer;
	struct group *groups; /* a ring: one being filled, the others with the squeezer */
	unsigned group_count;
	unsigned filling;

	/* the frame at hand */
	const struct source *source;
	const struct source_frame *frame;
	bool source_is_squeezed;
	struct codec *codec;
	struct buf stored;
	uint8_t *expanded;
	size_t expanded_cap;
	struct sha256_job *hash_jobs;
	struct sha256 *hashes;
	bool *good; /* by chunk of the frame: alive and verified */
	size_t hash_cap;

	struct rewrite_place bad[BAD_FRAMES_MAX]; /* of frames that did not verify */
	size_t bad_count;
	uint64_t bad_bytes;
	bool is_too_damaged; /* the source at hand is */
	uint64_t started_cpu_ns;
	uint64_t started_squeezer_ns;
	struct recompress_event event;
};

/* Rewrite them, and report. A failure is of the whole job; its packs were skipped if they may be
 * the reason. */
enum rc job_run(struct recompress *r, const struct job_sources *sources, struct err *err);

/* Take the frame at hand: read, verify, copy or gather. */
enum rc job_take_frame(struct job *j, struct err *err);
/* Append what was gathered and is not appended yet. */
enum rc job_finish_groups(struct job *j, struct err *err);

/* Was the frame made by a rewrite, by the looks of it? Uploads end frames at 256 KiB and a chunk.
 */
bool job_frame_is_squeezed(const struct source_frame *f);

#endif
