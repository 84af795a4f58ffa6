/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_READER_H
#define DG_READER_H

#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "err.h"
#include "knob.h"
#include "repo.h"

/* reader: the bytes of a content, any range, each checked on this read: against its SHA-256, or
 * against a checksum in memory that was itself made from bytes whose SHA-256 was right (proofs.h).
 *
 * A chunk that does not verify is marked bad in the database and forgotten by ingest, so that the
 * next upload that carries it heals it; the read fails with RC_CORRUPT kind "corrupt-data".
 *
 * One limit of memory, read_options.cache_bytes, for all that is kept for the next reader:
 *   expanded frames (frame_cache.h), because neighbours are mostly in the same frame;
 *   layouts (layout.h): which chunks a content is made of, and where they are;
 *   proofs (proofs.h).
 * Chunks that are stored raw are read straight from their pack to where they are wanted; the page
 * cache of the kernel is their cache.
 * Threads: struct read_service is shared; a struct reader belongs to one thread at a time. Calls
 * block on disk and SQL, but for those of a reader that was opened with reader_open_now. */

struct db;
struct ingest;
struct pack_readers;
struct read_service;
struct reader;

struct read_options {
	struct db *db;
	struct ingest *ingest;
	struct pack_readers *packs;
	size_t cache_bytes;
};
enum rc read_service_open(
	const struct read_options *options, struct read_service **out, struct err *err);
/* No reader may be open. NULL is allowed. */
void read_service_free(struct read_service *rs);

enum read_knob {
	READ_KNOB_AHEAD, /* frames asked for ahead of a reader that waits for the disk */
	READ_KNOB_HOT,   /* share of the frame cache that is for frames asked for again */
	READ_KNOBS,
};
/* By enum read_knob; borrowed until read_service_free. */
struct knob *read_service_knobs(struct read_service *rs);

/* Open a content for reading from offset (<= size) on. RC_CORRUPT if its recipe is missing. */
enum rc reader_open(struct read_service *rs, const struct repo *repo, const struct content *content,
	uint64_t offset, struct reader **out, struct err *err);
/* The same for a thread that must not wait: this call and every one with the reader answer RC_AGAIN
 * without kind where they would have to wait for the disk or the database; what was read until then
 * is lost to the caller. Small ranges only: each call may hash and expand what it reads. */
enum rc reader_open_now(struct read_service *rs, const struct repo *repo,
	const struct content *content, uint64_t offset, struct reader **out, struct err *err);
/* The same for the first size bytes of a recipe that belongs to no file yet (a half upload). */
enum rc reader_open_recipe(struct read_service *rs, const struct repo *repo, uint64_t recipe_id,
	uint64_t size, struct reader **out, struct err *err);
/* Copy up to max bytes; *got is 0 only at the end of the content. */
enum rc reader_read(struct reader *r, uint8_t *out, size_t max, size_t *got, struct err *err);
/* Go to another offset. */
enum rc reader_seek(struct reader *r, uint64_t offset, struct err *err);
/* Read another content with the same reader (its buffers are kept). */
enum rc reader_switch(
	struct reader *r, const struct content *content, uint64_t offset, struct err *err);
/* Look up, with one query, where the contents are that reader_switch will be given next, at most
 * READER_EXPECT_MAX of them: for many small files a query each would be the wall. Only a hint;
 * replaces what was expected before. Errors of the database. */
#define READER_EXPECT_MAX 256
enum rc reader_expect(
	struct reader *r, const struct content *contents, size_t count, struct err *err);
/* NULL is allowed. */
void reader_free(struct reader *r);

struct read_stats {
	uint64_t frame_hits, frame_misses;
	uint64_t layout_hits, layout_misses;
	uint64_t bytes_read;      /* from packs */
	uint64_t bytes_direct;    /* of them, to where they were wanted */
	uint64_t chunks_verified; /* by SHA-256 */
	uint64_t chunks_proven;   /* by a checksum made when the SHA-256 was right */
	uint64_t chunks_bad;
	uint64_t waits; /* reads that waited for the disk */
	size_t frame_bytes, frame_hot_bytes, frame_max_bytes;
	size_t layout_bytes, layout_max_bytes;
};
void read_service_stats(struct read_service *rs, struct read_stats *out);

#endif
