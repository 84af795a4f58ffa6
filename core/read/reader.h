/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_READER_H
#define DG_READER_H

#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "err.h"
#include "repo.h"

/* reader: the bytes of a content, any range, each checked against its SHA-256 on this read.
 *
 * A chunk that does not verify is marked bad in the database and forgotten by ingest, so that the
 * next upload that carries it heals it; the read fails with RC_CORRUPT kind "corrupt-data".
 * Frames that were read and verified are kept in a cache of one byte limit, shared by all readers,
 * because neighbours (small files, the next range) are mostly in the same frame.
 * Threads: struct read_service is shared; a struct reader belongs to one thread at a time. Every
 * call blocks on disk and SQL. */

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
void read_service_free(struct read_service *rs);

/* Open a content for reading from offset (<= size) on. RC_CORRUPT if its recipe is missing. */
enum rc reader_open(struct read_service *rs, const struct repo *repo, const struct content *content,
	uint64_t offset, struct reader **out, struct err *err);
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
void reader_free(struct reader *r);

struct read_stats {
	uint64_t frame_hits, frame_misses, frame_bytes_read;
	uint64_t chunks_verified, chunks_bad;
	size_t cache_bytes, cache_max_bytes;
};
void read_service_stats(struct read_service *rs, struct read_stats *out);

#endif
