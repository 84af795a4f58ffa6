/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_FILTER_H
#define DG_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "sha256.h"

/* filter: which chunks are certainly new, without asking the database.
 *
 * A Bloom filter of all keys of table chunk. It comes from the file that the run before has saved
 * (filter_file.h), or is filled from the database by a thread of its own; until then nothing is
 * excluded. When it holds more keys than it was made for, a larger one is filled beside it and then
 * takes its place. None is larger than bytes_max; while one is filled there are two.
 *
 * Invariants
 *   1. Before a transaction that adds chunk rows begins to, its keys are in the filter that answers
 *      and in the one that is being filled. They stay there if it fails: a key too many costs a
 *      question, one that is missing would be stored twice.
 *   2. A filter answers only once it holds every key whose row is committed or may yet be.
 *   3. The one that was replaced is freed when everybody has left who may have seen it.
 * A wrong "new" could only come from rows that were added behind this process's back. It loses
 * nothing: the chunk is stored a second time, the row that was there stays as it is (a bad one is
 * healed), and the second copy lies unused in its pack.
 *
 * Threads: users have numbers, each number one thread at a time; the others say so. */

struct db;
struct filter;

#define FILTER_USERS_MAX 65u /* INGEST_WORKERS_MAX and the committer */
#define FILTER_BITS      12u /* a key, when full: 0.5 % are asked for in vain */
/* The smallest filter: 384 KiB, enough for 16 GiB. */
#define FILTER_KEYS_MIN ((uint64_t)1 << 18)
/* A new one is made for so many times the rows there are: it is not built again soon. */
#define FILTER_ROOM 4u

struct filter_options {
	struct db *db;
	size_t bytes_max;
	const char *path; /* where it is kept from run to run; NULL: nowhere. Copied */
};

/* Say in the database that rows will be added, and load what was saved. Blocks on SQL and disk.
 * Nobody may have added a chunk row before it returns. Errors as db_filter_begin, or RC_NOMEM; a
 * file that is missing, damaged or old is none. */
enum rc filter_open(const struct filter_options *options, struct filter **out, struct err *err);
/* Start the thread that fills and refills it. */
enum rc filter_start(struct filter *f, struct err *err);
/* Stop the thread, save the filter if it is whole, free all. Nobody may be using it, and no
 * transaction may add a row after. Blocks. NULL and one that was not started are allowed. */
void filter_close(struct filter *f);

/* Between these two, and for no longer than a batch or a transaction takes, a user may ask and add.
 * Never block. */
void filter_enter(struct filter *f, unsigned user);
void filter_leave(struct filter *f, unsigned user);
/* There is certainly no row of it. */
bool filter_excludes(struct filter *f, uint64_t repo_id, const struct sha256 *hash);
/* A row of it is going to be added, in a transaction that begins and ends before filter_leave. */
void filter_add(struct filter *f, uint64_t repo_id, const struct sha256 *hash);

/* Rows are gone: fill it anew from those that are there. Any thread, does not block. */
void filter_rebuild(struct filter *f);
/* So many rows are gone: as filter_rebuild once they add up to a quarter of the keys. */
void filter_keys_gone(struct filter *f, uint64_t keys);

struct filter_stats {
	bool ready;        /* it answers */
	bool loaded;       /* it came from the file, so far */
	bool limited;      /* it is full and may not grow: more and more is asked for in vain */
	uint64_t keys;     /* in it, about */
	uint64_t expected; /* full with so many */
	uint64_t bytes;    /* of memory, with one that is being filled */
	uint64_t fills;    /* from the database, since the start */
};
/* Any thread. */
void filter_stats(struct filter *f, struct filter_stats *out);

#endif
