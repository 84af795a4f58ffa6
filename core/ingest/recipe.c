/* SPDX-License-Identifier: Apache-2.0 */
#include "recipe.h"

#include <string.h>

void
recipe_part_begin(struct buf *part, uint8_t chunker_id)
{
	buf_add_u8(part, RECIPE_VERSION);
	buf_add_u8(part, chunker_id);
	buf_add_u8(part, RECIPE_HASH_SHA256);
	buf_add_u8(part, 0);
}

void
recipe_part_add(struct buf *part, const struct sha256 *chunk, uint64_t length)
{
	buf_add(part, chunk->b, sizeof chunk->b);
	buf_add_varint(part, length);
}

void
recipe_id_add(struct sha256_stream *id, const struct recipe_slice *slice)
{
	uint8_t entry[48];

	memcpy(entry, slice->chunk.b, 32);
	put_u64(entry + 32, slice->offset);
	put_u64(entry + 40, slice->length);
	sha256_stream_update(id, entry, sizeof entry);
}

enum rc
recipe_part_open(struct recipe_part_reader *r, const uint8_t *data, size_t len, struct err *err)
{
	cur_init(&r->cur, data, len);
	r->slices = false;
	uint8_t version = cur_u8(&r->cur);
	cur_u8(&r->cur); /* chunker: of interest to whoever cuts again, not to a reader */
	uint8_t hash = cur_u8(&r->cur);
	uint8_t flags = cur_u8(&r->cur);
	if (!cur_ok(&r->cur) || version != RECIPE_VERSION || hash != RECIPE_HASH_SHA256 ||
		(flags & ~RECIPE_FLAG_SLICES) != 0) {
		r->cur.failed = true;
		err_set(err, RC_CORRUPT, "corrupt-data", "a file's recipe is damaged");
		return err_detail(err, "recipe part header: version %u hash %u flags %u", version,
			hash, flags);
	}
	r->slices = (flags & RECIPE_FLAG_SLICES) != 0;
	return RC_OK;
}

bool
recipe_part_next(struct recipe_part_reader *r, struct recipe_slice *slice, struct err *err)
{
	if (cur_left(&r->cur) == 0)
		return false;
	const uint8_t *hash = cur_bytes(&r->cur, 32);
	slice->length = cur_varint(&r->cur);
	slice->offset = r->slices ? cur_varint(&r->cur) : 0;
	if (!cur_ok(&r->cur) || slice->length == 0) {
		err_set(err, RC_CORRUPT, "corrupt-data", "a file's recipe is damaged");
		err_detail(err, "recipe part ends inside a slice");
		r->cur.failed = true;
		return false;
	}
	memcpy(slice->chunk.b, hash, 32);
	return true;
}
