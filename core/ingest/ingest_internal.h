/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_INGEST_INTERNAL_H
#define DG_INGEST_INTERNAL_H

/* What the files of core/ingest share with each other and nobody else. */

#include <pthread.h>
#include <stdatomic.h>

#include "ahead.h"
#include "db_chunk.h"
#include "filter.h"
#include "histogram.h"
#include "ingest.h"
#include "known.h"
#include "pack_writer.h"
#include "pressure.h"
#include "regulars.h"
#include "ring.h"
#include "slab.h"

#define BLOCK_CHUNKS_MAX 4096
#define BLOCK_PIECES_MAX 2048
#define BLOCK_OWN_CHUNKS 2
#define WORKERS_MAX      INGEST_WORKERS_MAX
#define WORKER_PACKS_MAX 8
#define BATCH_BLOCKS_MAX 64
#define BATCH_PACKS_MAX  (2 * BATCH_BLOCKS_MAX)
#define FRAME_BYTES                                                                                \
	((size_t)256 << 10) /* raw bytes of a frame: it ends with the chunk that reaches this */
#define FRAME_CHUNKS_MAX   1024
#define FILTER_COMMITTER   WORKERS_MAX /* its number as a user of the filter; workers have theirs */
#define COMMIT_QUEUE_MAX   64 /* batches; then workers wait, slabs run out, clients are held back */
#define RECIPE_PART_CHUNKS 4096
/* A batch up to this that somebody waits for goes to a pack that all workers share, and is handed
 * to the disk by the committer: one write a group, however many batches are in it. */
#define SHARED_BATCH_BYTES ((size_t)256 << 10)

/* A chunk's way through a worker. */
enum fate {
	FATE_UNKNOWN,
	FATE_NEW,     /* claimed by this batch: to be stored */
	FATE_PENDING, /* claimed by another batch (or earlier in this one) */
	FATE_DURABLE,
};

struct block_chunk {
	struct sha256 hash;
	uint32_t offset; /* in the slab */
	uint32_t length;
	uint8_t fate;
	uint64_t ticket;  /* FATE_PENDING: whose claim */
	uint64_t pack_id; /* FATE_NEW, once stored */
	uint64_t frame_offset;
	uint64_t frame_bytes;
	uint64_t raw_offset;
};

enum piece_end {
	PIECE_MORE,  /* the file goes on */
	PIECE_WHOLE, /* last piece of a whole file */
	PIECE_SUSPENDED,
	PIECE_ABORTED,
};

/* The chunks of one file in one block. */
struct block_piece {
	struct ingest_file *file;
	uint64_t seq;
	uint32_t first;
	uint32_t count;
	enum piece_end end;
	/* set by the worker */
	struct ingest_receipt cost;
	uint64_t dep_min, dep_max;
	/* the committer's: an early piece waits in its file, with entries of its own */
	struct block_piece *next;
	struct block_chunk *chunks;
};

/* The unit of work: a slab and what was cut in it. Owned by one thread at a time: writer, then
 * worker, then committer. */
struct block {
	struct block *next;
	const struct ingest_space *space;
	struct slab *slab; /* given back by the worker */
	struct block_chunk *chunks;
	struct block_piece *pieces;
	uint32_t chunk_count, chunk_cap;
	uint32_t piece_count, piece_cap;
	uint32_t bytes; /* cut */
	/* where chunks and pieces are as long as they fit: a small file by itself needs no more */
	struct block_chunk own_chunks[BLOCK_OWN_CHUNKS];
	struct block_piece own_piece;
};

/* A pack that is appended to. Counted: the set that has it open, whoever is appending, and each
 * batch whose frames it holds until that batch is settled. Sealed when the last one lets go. */
struct open_pack {
	struct open_pack *next;          /* sealer's list */
	struct open_pack *newer, *older; /* all that are open, guarded by seal_mtx */
	_Atomic uint64_t bytes;          /* appended so far */
	struct pack_writer *writer;
	const struct ingest_space *space;
	uint64_t id;
	uint64_t used_ns; /* guarded by the set's mtx */
	atomic_int refs;
	atomic_bool poisoned;
};

/* The packs that are open for one worker, or for all: one a repository. */
struct pack_set {
	pthread_mutex_t mtx;
	struct open_pack *packs[WORKER_PACKS_MAX];
	unsigned count;
};

/* What a worker did in one go. */
struct batch {
	struct batch *next;
	uint64_t ticket;
	struct block *blocks;
	struct open_pack *packs[BATCH_PACKS_MAX];
	unsigned pack_count;
	bool is_shared; /* small, and somebody waits for it */
	struct err err; /* storing failed: every piece of it fails */
};

struct worker {
	struct ingest *in;
	unsigned number;
	pthread_t thread;
	bool started;
	struct pack_set packs;
	/* owned by the thread */
	unsigned seals; /* in->seals as it was last seen */
	struct codec *codec;
	uint8_t *frame_raw; /* gathers chunks that do not lie side by side */
	uint8_t *frame_out;
	size_t frame_out_cap;
};

struct ingest {
	/* immutable after open */
	struct ingest_options options;
	struct slab_pool *slabs;
	struct known *known;
	struct ring *queue;
	unsigned worker_count;
	struct worker workers[WORKERS_MAX];
	struct knob knobs[INGEST_KNOBS];
	struct pack_set shared;

	_Atomic uint64_t next_ticket;
	struct filter *filter;
	struct ahead *ahead;
	atomic_uint seals; /* how often ingest_seal_soon was called */

	/* worker -> committer */
	pthread_mutex_t commit_mtx;
	pthread_cond_t commit_work;
	pthread_cond_t commit_room;
	struct batch *batches, **batches_end;
	unsigned batch_count;
	uint64_t commit_bytes;    /* of the batches that wait */
	uint64_t commit_first_ns; /* since when they wait */
	bool commit_urgent;       /* somebody waits for an answer */
	struct regulars regulars; /* guarded by commit_mtx */
	struct ingest_rider *riders, **riders_end;
	bool commit_stop;
	pthread_t committer;

	/* sealer */
	pthread_mutex_t seal_mtx;
	pthread_cond_t seal_work;
	struct open_pack *seal_list;
	struct open_pack *open_list;
	bool seal_stop;
	pthread_t sealer;

	atomic_bool stopping;

	/* how hard to compress: whoever sets pressure_busy takes the next step */
	atomic_flag pressure_busy;
	struct pressure pressure;
	struct idle_clock idle;
	_Atomic uint64_t pressure_ns; /* when the next step is due */
	_Atomic double rung;
	_Atomic uint64_t frame_number;

	/* counters */
	struct meter total;
	_Atomic uint64_t groups, group_files, group_chunks;
	_Atomic uint64_t filter_negative, known_hits, sql_lookups, sql_hits;
	_Atomic uint64_t frames_raw, frames_zstd;
	atomic_int level_now;
	struct histogram commit_wait; /* us from handing over to settled, if somebody waited */
};

/* knobs.c: after options and worker_count are set. */
void ingest_knobs_init(struct ingest *in);
static inline int64_t
ingest_knob(const struct ingest *in, enum ingest_knob knob)
{
	return knob_get(&in->knobs[knob]);
}

/* block.c: blocks are built by writers and freed by the committer. */
struct block *block_new(const struct ingest_space *space, struct slab *slab);
void block_free(struct block *b);
/* Space for one more; NULL if there is no memory. */
struct block_chunk *block_add_chunk(struct block *b);
struct block_piece *block_add_piece(struct block *b);

/* packs.c: the sealer and its packs. */
enum rc packs_start(struct ingest *in, struct err *err);
void packs_stop(struct ingest *in);
void packs_set_init(struct pack_set *set);
/* The set's open pack for a space, with room for bytes now and a reference for the caller. Blocks
 * on SQL and disk when one is opened. */
enum rc packs_get(struct ingest *in, struct pack_set *set, const struct ingest_space *space,
	uint64_t bytes, struct open_pack **out, struct err *err);
/* Tell how much is in it now. */
void packs_note_bytes(struct open_pack *p);
void packs_ref(struct open_pack *p);
/* Let go; the last one hands the pack to the sealer. Any thread, does not block. */
void packs_unref(struct ingest *in, struct open_pack *p);
/* Let go of packs nobody has asked the set for since idle_ns (0: of all). */
void packs_close_idle(struct ingest *in, struct pack_set *set, uint64_t idle_ns);

/* worker.c */
void *worker_main(void *arg);

/* lookup.c: decide the fate of every chunk of the blocks, all of one space; what is new is claimed
 * under ticket. Blocks on SQL if something must be asked there. After a failure some are claimed.
 */
enum rc lookup_blocks(struct worker *w, struct block *const *blocks, size_t count, uint64_t ticket,
	struct err *err);

/* committer.c */
void *committer_main(void *arg);
/* Hand a batch over. Waits while too many wait already: that is how a slow disk or database holds
 * the workers, and through the slabs the clients, back. */
void committer_push(struct ingest *in, struct batch *batch);
/* Somebody waits for an answer to it. */
bool batch_is_urgent(const struct batch *batch);

/* writer.c: note the first failure of a file. Any thread. */
void file_fail(struct ingest_file *f, const struct err *err);

#endif
