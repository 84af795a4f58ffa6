/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SOURCE_H
#define DG_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "pack_format.h"

/* source: what is in a pack that nobody writes any more, and what of it is alive; for whoever
 * rewrites packs or takes them away.
 *
 * The list comes from the footer, or, where there is none, from reading the frames. It says what
 * should be there: bytes are checked when a frame is read.
 * Memory: 41 bytes a chunk, 48 a frame. Threads: a source belongs to one. Blocks on disk and SQL.
 */

struct db;
struct pack_dir;
struct pack_readers;

/* A pack of 64 MiB has a thousand chunks, one of small files some 100,000. With more than this,
 * their stored bytes are about as many as what is known of each; such a pack is left alone. */
#define SOURCE_CHUNKS_MAX (1u << 19)

struct source_frame {
	uint64_t offset;
	uint64_t bytes; /* all of it, see struct pack_place */
	uint64_t raw_bytes;
	uint64_t stored_bytes;
	size_t first; /* index of its first chunk */
	uint32_t chunk_count;
	uint32_t live_count; /* after source_mark_live */
	enum codec_id codec;
};

struct source {
	uint64_t pack_id;
	uint64_t repo_id;
	bool is_damaged; /* there is more in the file than could be read: frames may be missing */
	struct source_frame *frames; /* by offset */
	size_t frame_count;
	struct pack_chunk *chunks;
	size_t chunk_count;
	uint64_t raw_bytes; /* of all chunks */
	/* after source_mark_live */
	bool *live;
	size_t live_count;
	uint64_t live_bytes; /* raw */
	/* source.c's own */
	size_t frame_cap;
	size_t chunk_cap;
};

struct source_tools {
	struct db *db;
	struct pack_dir *packs;
	struct pack_readers *readers;
};

/* List a pack of a repository. *out is owned by the caller. RC_NOT_FOUND: there is no such file.
 * RC_TOO_LARGE: more than SOURCE_CHUNKS_MAX chunks. RC_IO, RC_NOMEM, RC_AGAIN: as pack_reader.h. */
enum rc source_open(const struct source_tools *t, uint64_t pack_id, uint64_t repo_id,
	struct source **out, struct err *err);
/* Find which chunks have a live row that names them in this pack. A chunk may be moved or marked
 * bad right after; none can become alive in it. As db.h; RC_NOMEM. */
enum rc source_mark_live(const struct source_tools *t, struct source *s, struct err *err);
/* NULL is allowed. */
void source_free(struct source *s);

#endif
