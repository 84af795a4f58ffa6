/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_RETIRE_H
#define DG_RETIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

/* retire: packs that were replaced go, once nobody can be reading them.
 *
 * A pack retires in the transaction that moves its chunks elsewhere (rewrite.h). For a grace its
 * file stays: readers hold places they have looked up, and spare themselves a second look. One that
 * comes after it finds no file, looks again, and finds the new place, for the rows moved before.
 *
 * The last look before a file is removed is made with distrust, since it may hold the only copy:
 * no row may name the pack, no row of its chunks may be bad (a copy might heal it), and every pack
 * that rows of its chunks name must have its file (a database that was restored from a backup knows
 * packs that are gone, and may not know those that replaced them). Else the pack stays, and is
 * looked at again a grace later. */

struct db;
struct pack_dir;
struct pack_readers;

struct retire_options {
	struct db *db;
	struct pack_dir *packs;
	struct pack_readers *readers; /* everybody's: told to close the file */
	uint64_t grace_us;
};

struct retire_report {
	uint64_t removed;
	uint64_t bytes; /* of those */
	uint64_t kept;  /* because something needs them */
	bool more;      /* there may be more that are due */
};

/* Look at a few packs whose grace is over. *out counts what was done, also when it fails; repeat it
 * at leisure. Threads: one at a time, and not while the sweep of dropped repositories runs. Blocks
 * on disk and SQL. RC_IO and others: as source.h, pack_remove and db.h. */
enum rc retire_packs(
	const struct retire_options *options, struct retire_report *out, struct err *err);

#endif
