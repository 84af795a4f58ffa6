/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_REBUILD_H
#define DG_REBUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

/* rebuild: table chunk from the packs alone.
 *
 * Every pack on disk whose repository the database knows is read to the end, every frame expanded,
 * every chunk's SHA-256 compared with the bytes. What verifies is in the table afterwards, and
 * nothing else: a chunk that no pack proves is gone, so that the next upload that carries it stores
 * it again. Of several good copies the one in the pack with the highest id counts, because rewrites
 * and healing copy to new packs; those in retired packs count only if there is no other. Rows of
 * table pack follow the files; a retired pack stays retired unless something is alive in it again.
 * The packs themselves are synced, and not changed. All in one transaction: whatever fails, both
 * tables are as they were. Memory: 16 bytes a pack, and two frames. Disk:
 * temporary tables at the database, about 150 bytes a chunk. Time: that of reading all packs, then
 * seconds for each million chunks. Threads: call it alone: with the data directory locked, and no
 * ingest. Blocks, for hours if need be. */

struct db;
struct pack_dir;

struct rebuild_report {
	uint64_t packs;         /* read; of known repositories */
	uint64_t unknown_packs; /* left alone: no repository has their uuid, or nothing says it */
	uint64_t frames;        /* whole ones */
	uint64_t chunks;        /* in the table now */
	uint64_t bytes;         /* of them, raw */
	uint64_t duplicates;    /* good copies beyond the first one */

	uint64_t chunks_added; /* of chunks: were not in the table */
	uint64_t chunks_moved; /* of chunks: were somewhere else, or marked bad */
	uint64_t lost_chunks;  /* were in the table, and no pack proves them */
	uint64_t packs_added;  /* rows of table pack, likewise */
	uint64_t packs_changed;
	uint64_t packs_gone; /* their files are missing */

	uint64_t damaged_packs;  /* with anything of the following, or a wrong header or footer */
	uint64_t damaged_frames; /* do not match their checksums, do not expand, or hold a chunk
				    that does not match its hash (others in it may count) */
	uint64_t damaged_chunks; /* in frames that are otherwise right */
	uint64_t damaged_bytes;  /* that belong to no whole frame, or to a damaged chunk */
	uint64_t torn_bytes;     /* at the ends of packs a crash left: nobody misses them */
};

/* Make the table anew. *out is filled as far as it came, also when it fails; it then tells what was
 * seen, not what was done. Repeatable: a second run finds nothing to change.
 * RC_CONFLICT kind "packs-missing": there is not one pack file, but the table has rows; this looks
 * like the wrong directory, and nothing was done. RC_IO, RC_FULL: a pack cannot be read or synced
 * (bad places on the disk are damage, not errors). RC_NOMEM, RC_DENIED, or as db.h. */
enum rc rebuild_index(
	struct db *db, struct pack_dir *dir, struct rebuild_report *out, struct err *err);

/* Nothing was damaged, and nothing that the table promised is gone. */
bool rebuild_is_clean(const struct rebuild_report *report);

#endif
