/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PACK_TRIM_H
#define DG_PACK_TRIM_H

#include <stdint.h>

#include "err.h"
#include "pack_dir.h"

/* pack_trim: what is done to the file of a pack that nobody writes any more.
 *
 * Threads: any, but no writer may have the pack open. Blocks on disk. Repeatable after any failure.
 */

/* Cut the file to bytes, make it read-only (0440), and make that and its directory entry durable.
 * RC_NOT_FOUND: no such pack. RC_INVALID: the file is shorter; nothing was touched. RC_IO, RC_FULL:
 * cut or not, synced or not. */
enum rc pack_trim(struct pack_dir *dir, uint64_t pack_id, uint64_t bytes, struct err *err);

/* Make durable what the file holds now, and its directory entry; done before the database may point
 * at frames that are not known to have been synced. RC_NOT_FOUND; RC_IO, RC_FULL. */
enum rc pack_sync(struct pack_dir *dir, uint64_t pack_id, struct err *err);

#endif
