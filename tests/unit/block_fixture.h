/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_BLOCK_FIXTURE_H
#define DG_BLOCK_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ingest_internal.h"

/* block_fixture: files as a worker sees them, put together again from the blocks of a writer. */

struct taken_file {
	struct ingest_file file; /* first */
	struct meter meter;
	struct buf bytes;   /* of all chunks */
	struct buf lengths; /* u32 each */
	uint64_t pieces;
	bool ended;
	enum piece_end end;
};

void taken_init(struct taken_file *t);
void taken_done(struct taken_file *t);
/* Check the block and what it says about its files, add to them, give the slab back and free it.
 * Blocks of a file must come in the order they were cut. */
void take_block(struct slab_pool *pool, struct block *b);
/* The chunks are those that data would be cut into, whole chunks only if the file goes on. Returns
 * how many bytes they cover. */
size_t check_cuts(
	const struct taken_file *t, const struct chunker *c, const uint8_t *data, size_t len);

#endif
