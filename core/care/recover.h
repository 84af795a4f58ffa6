/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_RECOVER_H
#define DG_RECOVER_H

#include <stdint.h>

#include "err.h"

/* recover: what a process that died left behind, put in order before the next one writes.
 *
 * Rewrites that were not committed are settled as rewrite_clean says.
 *
 * A pack whose row is open when nobody writes belonged to such a process. Its file may end in a
 * torn frame and in space that was allocated and never written; both are cut off, except for bytes
 * that a chunk row refers to: those are never cut, whatever they look like. Cost: one query and the
 * names in the pack directory if there is nothing to do; each open pack is read once, and
 * the chunk rows of those that are not clean. Threads: call it alone: after the
 * data directory was locked, before ingest_open. Blocks. */

struct db;
struct pack_dir;

struct recover_report {
	uint64_t closed;     /* packs without a footer that hold frames: cut, read-only, closed */
	uint64_t sealed;     /* packs that were whole, only the database did not know */
	uint64_t removed;    /* packs that held nothing: file (if any) and row are gone */
	uint64_t cut_bytes;  /* from the ends of the closed and sealed ones */
	uint64_t torn_bytes; /* of those: written, but not whole; never acknowledged to anyone */
	uint64_t damaged;    /* of the closed ones: damage that no crash explains; see below */
	uint64_t missing;    /* packs whose file is gone while chunk rows point at them */
	uint64_t unlisted;   /* pack files with ids that this database never gave out */
	uint64_t unfinished; /* packs of rewrites that were not committed: removed or retired */
};

/* Close what is open, and reserve the ids of all packs on disk so that none is used again.
 * Damaged: wrong bytes before right ones, a wrong header, bytes the disk does not give, or a chunk
 * row that points at no whole frame; damaged or missing: clients will meet RC_CORRUPT. Unlisted:
 * the database is older than the packs (a restored backup); rebuild_index takes them in. *out
 * counts what was done, also when it fails; what was done stays done, and the rest is done by the
 * next call. RC_IO, RC_FULL, RC_NOMEM, RC_DENIED, or as db.h. */
enum rc recover_packs(
	struct db *db, struct pack_dir *dir, struct recover_report *out, struct err *err);

#endif
