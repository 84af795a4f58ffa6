/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_REWRITE_H
#define DG_REWRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "db_pack.h"
#include "err.h"
#include "pack_writer.h"

/* rewrite: chunks of a repository copied to new packs, and their rows swapped over.
 *
 *   rewrite_open -> rewrite_add, any number -> rewrite_finish -> rewrite_free
 *
 * Blob, then row, then removal: the new packs are sealed and durable before one transaction moves
 * the rows and retires the old packs (db_rewrite.h), whose files go later (retire.h). Whatever
 * happens in between, the old packs hold everything until the transaction, and the new ones after
 * it. What was not finished is taken away by rewrite_free, or, if that fails or the process dies,
 * by rewrite_clean or the next start (recover.h).
 *
 * Against uploads: one that finds a chunk known needs its row alive, and it is, before, during and
 * after; an upload never writes to a row that is alive. Against readers that mark a chunk bad: they
 * name the old place, so either the row is bad when we come and stays, or it has moved and they
 * miss it, and read again at the new place. Against a second rewrite of the same packs: the first
 * one to commit retires them, the other gets RC_CONFLICT. Against a drop of the repository: it
 * waits for the transaction, or the transaction sees it.
 *
 * Threads: a rewrite belongs to one. Blocks on disk and SQL. Memory: 88 bytes a chunk, and the
 * buffer of a pack writer. */

struct db;
struct pack_dir;
struct pack_readers;
struct rewrite;

struct rewrite_options {
	struct db *db;
	struct pack_dir *packs;
	struct pack_readers *readers; /* of packs */
	uint64_t repo_id;
	uint8_t repo_uuid[PACK_UUID_BYTES];
	uint64_t pack_bytes;     /* no new pack is larger, unless there would be more than a few */
	uint64_t expected_bytes; /* of frames to come; so much is allocated, never above
				    pack_bytes */
	bool direct;
};

/* Nothing is on disk or in the database before the first frame. RC_NOMEM. */
enum rc rewrite_open(const struct rewrite_options *options, struct rewrite **out, struct err *err);

/* Where chunks come from. */
struct rewrite_place {
	uint64_t pack_id;
	uint64_t frame_offset;
};

/* Append a frame of verified chunks; from[i] is the place of the i-th. The first frame of a new
 * pack makes its row and file. RC_NOT_FOUND kind "repo-not-found": it was dropped. RC_FULL, RC_IO,
 * RC_NOMEM, RC_TOO_LARGE: as pack_writer.h; as db.h. After a failure only rewrite_free. */
enum rc rewrite_add(struct rewrite *w, const struct pack_frame *frame,
	const struct rewrite_place *from, struct err *err);

/* Chunks of a frame at this place did not verify: those whose rows are there after the swap are
 * marked bad in the same transaction, as a reader would mark them. RC_NOMEM. */
enum rc rewrite_mark_bad(struct rewrite *w, const struct pack_chunk *chunks, size_t count,
	const struct rewrite_place *place, struct err *err);

/* All bytes that the new packs would have if this were all. */
uint64_t rewrite_bytes(const struct rewrite *w);

struct rewrite_end {
	const uint64_t *sources; /* packs to retire; nothing but what was added is alive in them */
	size_t source_count;
	uint64_t source_bytes;
	enum pack_squeeze squeeze; /* of the new packs */
	uint64_t cpu_us;
	/* Asked before each frame that is read back; anything but RC_OK ends the rewrite with it.
	 * May be NULL. */
	enum rc (*permit)(void *arg, struct err *err);
	void *arg;
};

struct rewrite_result {
	uint64_t packs;
	uint64_t bytes;
	uint64_t frames;
	uint64_t chunks;
	uint64_t moved; /* rows; the others were changed by somebody else meanwhile */
	uint64_t last_pack;
};

/* Seal the new packs, read every chunk back and compare it with its hash, and swap. RC_OK: done,
 * durable. RC_CORRUPT, kind "corrupt-data": what was read back is wrong. RC_CONFLICT, RC_NOT_FOUND:
 * as db_rewrite_commit. After any failure only rewrite_free. */
enum rc rewrite_finish(struct rewrite *w, const struct rewrite_end *end, struct rewrite_result *out,
	struct err *err);

/* Free, and take away what was not committed: also after a COMMIT whose answer was lost, which is
 * looked up. true: nothing is left. false: something could not be taken away; rewrite_clean will.
 * NULL is allowed. */
bool rewrite_free(struct rewrite *w);

/* Settle what rewrites of this or of another process have left behind; *settled counts them (NULL:
 * do not count). One that was not sealed is removed. One that was sealed might be the only copy of
 * its chunks, if the database was restored from a backup that is older than the commit: it retires,
 * so that it goes when retire.h has made sure that every chunk in it is somewhere else.
 * Only while no rewrite is under way. As db.h, pack_scan, pack_trim, pack_remove. */
enum rc rewrite_clean(struct db *db, struct pack_dir *packs, uint64_t *settled, struct err *err);

#endif
