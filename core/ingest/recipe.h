/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_RECIPE_H
#define DG_RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "sha256.h"

/* recipe: one file content as an ordered list of slices of chunks.
 *
 * A recipe is kept in parts, each with the byte offset of the file where it begins. A part is
 *
 *   u8 version (1), u8 chunker id, u8 hash id (1 SHA-256), u8 flags (bit 0: slices)
 *   then up to the end: hash[32], varint length, and with bit 0: varint offset in the chunk
 *
 * Without bit 0 every slice is a whole chunk. The recipe id is the SHA-256 over hash[32], u64
 * offset, u64 length (little-endian) of every slice in order, whatever the parts are. */

#define RECIPE_VERSION      1
#define RECIPE_HASH_SHA256  1
#define RECIPE_FLAG_SLICES  1
#define RECIPE_HEADER_BYTES 4

struct recipe_slice {
	struct sha256 chunk;
	uint64_t offset; /* in the chunk */
	uint64_t length; /* > 0 */
};

/* Begin a part of whole chunks. */
void recipe_part_begin(struct buf *part, uint8_t chunker_id);
void recipe_part_add(struct buf *part, const struct sha256 *chunk, uint64_t length);
/* Extend a running recipe id by a slice. */
void recipe_id_add(struct sha256_stream *id, const struct recipe_slice *slice);

/* Walk a part: recipe_part_open checks the header (RC_CORRUPT), recipe_part_next fills *slice and
 * answers false at the end; after it, *err tells whether the part was broken. */
struct recipe_part_reader {
	struct cur cur;
	bool slices;
};
enum rc recipe_part_open(
	struct recipe_part_reader *r, const uint8_t *data, size_t len, struct err *err);
bool recipe_part_next(struct recipe_part_reader *r, struct recipe_slice *slice, struct err *err);

#endif
