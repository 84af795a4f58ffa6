/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_COMMITTER_FIXTURE_H
#define DG_COMMITTER_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ingest_internal.h"

/* committer_fixture: the committer of core/ingest on tables in memory.
 *
 * The database, the packs and the clock are doubles that stand in the place of the real ones.
 * Workers are played by the test: sim_batch draws a ticket, sim_piece cuts chunks into it and looks
 * them up as a worker would, sim_push hands it over. sim_commit lets the committer take all that
 * was handed over as one group and waits until it is through. What is always checked:
 *   - rows name only bytes that were synced, are sorted, and come in a transaction;
 *   - done comes once; with RC_OK only when all of the file is in the tables, parts, row and
 *     persisted rider included; with a failure only if there was a reason;
 *   - a checkpoint says only what is in the tables.
 * Files and riders belong to the caller until sim_close, memory in them too. */

#define SIM_CHUNK_IDS 1000 /* chunks are numbered from 0 */

struct sim_file {
	struct ingest_file file; /* first */
	const uint64_t *ids;     /* all chunks it has */
	size_t id_count;
	size_t cut; /* chunks in pieces so far */
	bool aborts;
	uint64_t serial;
	/* what came of it */
	int done_calls;
	enum rc rc;
	struct err err;
	/* tickets of its batches, and of those it leaned on, least and most */
	uint64_t tickets[64];
	size_t ticket_count;
	uint64_t dep_min, dep_max;
	/* the last checkpoint that was committed, and the one in the transaction that runs */
	struct sim_saved {
		uint64_t recipe_id, bytes, chunks;
	} saved, saving;
};

struct sim_rider {
	struct ingest_rider rider; /* first */
	uint64_t number, serial;
	int done_calls;
	enum rc rc;
};

/* How the next transactions go. */
enum sim_tx {
	SIM_TX_OK,
	SIM_TX_AGAIN,   /* repeated once, as after a deadlock */
	SIM_TX_REFUSED, /* fails before anything ran */
	SIM_TX_BROKEN,  /* fails in a statement */
	SIM_TX_LOST,    /* fails at COMMIT */
	SIM_TX_UNKNOWN, /* is committed, but the answer is lost */
};

void sim_open(void);
/* All files must have been told; checks that nothing is left over. */
void sim_close(void);

/* ids is borrowed. resumable: checkpoints are noted. */
void sim_file_init(struct sim_file *f, const uint64_t *ids, size_t count, bool resumable);
/* Go on with a suspended file: f takes over where was stopped. */
void sim_file_resume(struct sim_file *f, const struct sim_file *was);
/* Kinds 0 and 1 persist, each with a function of its own; 2 does not. Files are of kind 0 at first.
 */
void sim_file_set_kind(struct sim_file *f, int kind);
void sim_rider_init(struct sim_rider *r, int kind, uint64_t number);

/* Draw a ticket. */
struct batch *sim_batch(void);
/* Start another block in the batch. */
void sim_block(struct batch *b);
/* The next piece of f, with so many more chunks. */
void sim_piece(struct batch *b, struct sim_file *f, size_t chunks, enum piece_end end);
/* Storing failed; with unknown not even what is known is known. */
void sim_fail(struct batch *b, bool unknown);
/* A pack of it cannot be synced any more. */
void sim_fail_sync(struct batch *b);
void sim_push(struct batch *b);
void sim_submit(struct sim_rider *r);
/* Commit all that was pushed and submitted. */
void sim_commit(enum sim_tx how);
/* All of a file in one batch of its own, handed over. */
void sim_push_whole(struct sim_file *f);

/* Nanoseconds the clock goes on by with every look at it. */
void sim_clock_step(uint64_t ns);
void sim_clock_add(uint64_t ns);

/* What is in the tables. */
bool sim_has_chunk(uint64_t id);
/* The filter of known chunks would let somebody ask for it. */
bool sim_filter_has(uint64_t id);
size_t sim_part_count(void);
size_t sim_parts_of(uint64_t recipe_id);
/* The recipe of the i-th part, and whether a file row names it. */
uint64_t sim_part_recipe(size_t i, bool *is_named);
size_t sim_file_rows(void);
/* Numbers of the riders that persisted, in order, up to max; how many. */
size_t sim_persisted(uint64_t *numbers, size_t max);
/* Serials of the files that persisted, in order. */
size_t sim_persisted_files(uint64_t *serials, size_t max);
/* Of that file, how often. */
size_t sim_persisted_file(const struct sim_file *f);
uint64_t sim_chunk_bytes(uint64_t id);
struct ingest *sim_engine(void);

#endif
