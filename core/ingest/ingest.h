/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_INGEST_H
#define DG_INGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "chunker.h"
#include "content.h"
#include "err.h"
#include "filter.h"
#include "histogram.h"
#include "knob.h"
#include "meter.h"
#include "sha256.h"

/* ingest: turns streams of bytes into contents (a chunk, or a recipe of chunks) and says when they
 * are durable. It knows nothing of paths, stages or commits.
 *
 *   writer (HTTP or unpacking thread): bytes -> slab -> cuts -> block
 *   worker (one of a few): block -> SHA-256 -> known? -> frames -> pack
 *   committer (one): packs synced -> one transaction of chunk rows, recipes and riders -> done()
 *
 * Invariants
 *   1. A chunk row is committed only after the pack bytes it names were synced.
 *   2. done(RC_OK) is called only after the transaction that made the content whole was committed.
 *   3. A file whose bytes lean on a chunk that another batch has claimed waits for that batch, and
 *      fails if that batch failed.
 *   4. Memory: slabs (the pool's budget), one batch of frames a worker, a tail of at most one chunk
 *      a writer, 40 bytes a chunk of a file's recipe until the part is written.
 *
 * Threads: each function says which; the engine is shared by all. */

struct db;
struct db_tx;
struct ingest;
struct ingest_writer;
struct pack_dir;

/* A repository as ingest sees it. Owned by the caller, outlives the engine's use of it. */
struct ingest_space {
	uint64_t repo_id;
	uint8_t repo_uuid[16];
	struct chunker chunker;
};

/* What one file cost. */
struct ingest_receipt {
	uint64_t logical_bytes;
	uint64_t new_bytes;
	uint64_t dedup_bytes;
	uint64_t stored_bytes;
	uint64_t chunks;
	uint64_t new_chunks;
	uint64_t stage_ns[METER_STAGES];
};
/* Add every number of r to *sum. */
void ingest_receipt_add(struct ingest_receipt *sum, const struct ingest_receipt *r);

/* Something that wants to be written in the committer's transaction. */
struct ingest_rider;
struct ingest_rider_ops {
	/* Committer thread, inside the transaction, before COMMIT: all riders of the group with
	 * this function at once, in the order they were submitted. May run again if the transaction
	 * is retried. May be NULL. A failure fails the whole group. */
	enum rc (*persist)(
		struct db_tx *tx, struct ingest_rider **riders, size_t count, struct err *err);
	/* Exactly once; the engine does not touch the rider after it. Committer thread; must not
	 * block. err is borrowed, and filled if rc is not RC_OK. */
	void (*done)(struct ingest_rider *rider, enum rc rc, const struct err *err);
};

struct ingest_rider {
	const struct ingest_rider_ops *ops;
	struct ingest_rider *next; /* the engine's */
};

/* One file on its way in. The owner zeroes it, sets the first group, hands it to ingest_begin and
 * leaves it alone until done(). */
struct ingest_file {
	struct ingest_rider rider; /* set rider.ops */
	struct meter *meter;       /* counted on; outlives the file */
	/* Committer thread, in a transaction that made more of the recipe durable: note that
	 * recipe_bytes of the file are in the parts of recipe_id. NULL: the file is not resumable.
	 */
	enum rc (*checkpoint)(struct db_tx *tx, struct ingest_file *f, struct err *err);
	bool want_sha;        /* keep a SHA-256 over the whole file */
	uint64_t floor_bytes; /* no checkpoint before the recipe covers this: what is noted already
			       */

	/* Results; stable from persist() on. */
	struct content content;
	struct ingest_receipt receipt;
	uint64_t chunk_count;
	uint64_t recipe_id;    /* 0: no parts were written */
	uint64_t recipe_bytes; /* bytes that the written parts cover */
	uint64_t recipe_chunks;
	bool partial;  /* it was suspended: tail follows recipe_bytes, content is not set */
	uint8_t *tail; /* malloc'ed, the owner's after done() */
	size_t tail_bytes;
	struct sha256_stream sha; /* if want_sha; final only when the file is whole */
	bool sha_known;           /* for ingest_continue: sha covers all that came before */
	struct sha256_stream id;  /* running recipe id over recipe_chunks entries */
	struct sha256 first;      /* hash of the first chunk, if there is one */

	/* The engine's own. */
	struct {
		const struct ingest_space *space;
		uint64_t pieces_out;       /* writer thread: sequence of the next piece */
		uint64_t pieces_in;        /* committer: pieces merged */
		uint64_t dep_min, dep_max; /* committer: tickets leaned on */
		_Atomic int failed;        /* enum rc of the first failure */
		struct err err;            /* set by the committer before failed */
		struct buf entries;        /* committer: recipe entries not yet in a part */
		uint64_t entries_start;    /* byte offset in the file where they begin */
		uint64_t entries_chunks;
		uint64_t merged_bytes;     /* bytes of all pieces merged in order */
		struct block_piece *early; /* pieces that came before their turn */
		uint64_t checkpoint_ns;    /* when the last checkpoint was */
		bool ended;
		bool touched;             /* in the group's list */
		struct ingest_file *next; /* committer: list of ended files */
	} x;
};

#define INGEST_WORKERS_MAX 64
#define INGEST_LEVEL_RAW   (-100) /* below every level of zstd that is of use: not compressed */

struct ingest_options {
	struct db *db;
	struct pack_dir *packs;
	unsigned workers;
	size_t slab_bytes;  /* budget of upload memory */
	size_t known_bytes; /* cache of known chunk hashes */
	size_t filter_bytes_max;
	const char *filter_path; /* file that keeps the filter of known chunks from run to run, or
				    NULL; copied */
	uint64_t pack_bytes;     /* size at which a pack is sealed */
	bool pack_direct;
	int level; /* zstd level when idle */
};

/* Start the engine: threads run when it returns. */
enum rc ingest_open(const struct ingest_options *options, struct ingest **out, struct err *err);
/* Wait until all that was submitted is settled, seal the open packs, stop the threads. All writers
 * must be closed. Blocks. */
void ingest_close(struct ingest *in);

/* ---- writing: one thread at a time a writer ---- */

/* wake(arg) is called, from any thread, when ingest_write would take more again. */
enum rc ingest_writer_open(struct ingest *in, const struct ingest_space *space,
	void (*wake)(void *arg), void *arg, struct ingest_writer **out, struct err *err);
/* Aborts an open file. After it wake is not called. NULL is allowed. */
void ingest_writer_close(struct ingest_writer *w);

/* Begin a file. expected_bytes sizes the buffers; UINT64_MAX: unknown. */
void ingest_begin(struct ingest_writer *w, struct ingest_file *f, uint64_t expected_bytes);
/* Go on with a file that was suspended: recipe_id, recipe_bytes, recipe_chunks, id and (if
 * want_sha) sha are set in f, first if recipe_chunks > 0; the tail is written by the caller with
 * ingest_write_tail. */
void ingest_continue(struct ingest_writer *w, struct ingest_file *f, uint64_t expected_bytes);
/* Take up to len bytes, copied before it returns. Fewer than len: no memory now, wake will be
 * called. Never blocks. Bytes of a failed file are taken and dropped: ask ingest_failed. */
size_t ingest_write(struct ingest_writer *w, const uint8_t *data, size_t len);
/* The same without a copy: where the next bytes of the file may be put, at most *room of them,
 * until any other call on w. false: no memory now, wake will be called. *room 0: the file has
 * failed, and nothing is left but to end it. Never blocks. */
bool ingest_reserve(struct ingest_writer *w, uint8_t **at, size_t *room);
/* len bytes were put there, at most what there was room for. The time since ingest_reserve counts
 * as receiving. */
void ingest_advance(struct ingest_writer *w, size_t len);
/* Bytes that were counted before (a resumed tail): neither metered as received nor hashed into sha.
 */
size_t ingest_write_tail(struct ingest_writer *w, const uint8_t *data, size_t len);
/* The file of the writer has failed (database away, disk full): err says how. */
bool ingest_failed(struct ingest_writer *w, struct err *err);
/* The file is whole. done() comes when it is durable, after the block it is in was flushed. */
void ingest_finish(struct ingest_writer *w);
/* The file ends here for now: what came is kept (f->partial). As ingest_finish otherwise. */
void ingest_suspend(struct ingest_writer *w);
/* Drop the file; done(rc) comes when its bytes have left the engine. err is copied. */
void ingest_abort(struct ingest_writer *w, const struct err *err);
/* Send the open block on its way now. */
void ingest_flush(struct ingest_writer *w);

/* Write a rider in the next transaction. Any thread. */
void ingest_submit(struct ingest *in, struct ingest_rider *rider);

/* Have packs that no worker is appending to right now sealed within a few seconds, rather than
 * after half a minute without use. Any thread, does not block. */
void ingest_seal_soon(struct ingest *in);

/* Chunks did not verify and their rows were marked: forget all that is known, so that the database
 * is asked again. */
void ingest_forget(struct ingest *in);
/* So many chunk rows were deleted (a dropped repository, garbage): the filter of known chunks is
 * filled anew when that is worth it. Any thread, does not block. */
void ingest_chunks_gone(struct ingest *in, uint64_t count);
/* Fill it anew now, for instance after all garbage is gone. Any thread, does not block. */
void ingest_filter_rebuild(struct ingest *in);

/* ---- turning ---- */

enum ingest_knob {
	INGEST_KNOB_WORKERS,
	INGEST_KNOB_BATCH,
	INGEST_KNOB_GROUP,
	INGEST_KNOB_FLUSH,
	INGEST_KNOB_LINGER,
	INGEST_KNOB_LEVEL,
	INGEST_KNOBS,
};
/* The engine's knobs, by enum ingest_knob; borrowed until ingest_close. */
struct knob *ingest_knobs(struct ingest *in);

/* ---- looking ---- */

struct ingest_stats {
	size_t slab_used_bytes, slab_peak_bytes, slab_max_bytes, slab_waiting;
	size_t queue_len;    /* blocks waiting for a worker */
	size_t commit_queue; /* batches waiting for the committer */
	size_t pending_chunks;
	uint64_t groups, group_files, group_chunks;
	uint64_t filter_negative, known_hits, sql_lookups, sql_hits;
	uint64_t ahead_rows, ahead_hits; /* learnt ahead; asked for since */
	uint64_t frames_raw, frames_zstd;
	uint64_t busy_ns[METER_STAGES]; /* of the whole engine */
	uint64_t received_bytes, new_bytes, stored_bytes, durable_bytes;
	int level; /* the compression level the pressure allows now, or INGEST_LEVEL_RAW */
	struct filter_stats filter;
};
void ingest_stats(struct ingest *in, struct ingest_stats *out);
/* Microseconds from the first batch of a group to the end of its transaction, for the groups that
 * somebody waited for. */
void ingest_commit_wait(const struct ingest *in, struct histogram_view *out);
/* Bytes in the packs of a repository that are still open: the database learns them when one is
 * sealed. */
uint64_t ingest_open_bytes(struct ingest *in, uint64_t repo_id);

#endif
