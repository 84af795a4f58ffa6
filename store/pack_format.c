/* SPDX-License-Identifier: Apache-2.0 */
/* Every checksum covers what the bytes are and where they belong (pack id and offset), so that a
 * block the disk wrote to the wrong place, or a pack file stored as somebody's data inside another
 * pack, is not taken for a frame of this pack. */
#include "pack_format.h"

#include <string.h>

#include "buf.h"
#include "checksum.h"

#define HEADER_VERSION       1u
#define HEADER_HASH_SHA256   1u
#define HEADER_CHECKSUM_XXH3 1u
#define FRAME_VERSION        1u
#define FOOTER_VERSION       1u
#define TRAILER_VERSION      1u

static const uint8_t header_magic[8] = {'D', 'G', 'S', 'T', 'P', 'A', 'C', 'K'};
static const uint8_t frame_magic[4] = {'D', 'G', 'S', 'F'};
static const uint8_t footer_magic[4] = {'D', 'G', 'S', 'I'};
static const uint8_t trailer_magic[8] = {'D', 'G', 'S', 'T', 'F', 'O', 'O', 'T'};

/* the numbers on disk are those of enum codec_id */
_Static_assert(CODEC_RAW == 0 && CODEC_ZSTD == 1, "codec ids are part of the format");

static bool
is_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != 0)
			return false;
	return true;
}

uint64_t
pack_round_up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

uint64_t
pack_frame_bytes_of(uint32_t chunk_count, uint64_t stored_bytes)
{
	uint64_t table_bytes = (uint64_t)chunk_count * PACK_CHUNK_ENTRY_BYTES;

	return pack_round_up(PACK_FRAME_HEAD_BYTES + table_bytes + stored_bytes, PACK_ALIGN_BYTES);
}

uint64_t
pack_footer_bytes(uint32_t frame_count, uint64_t chunk_count)
{
	return PACK_FOOTER_HEAD_BYTES + (uint64_t)frame_count * PACK_FOOTER_FRAME_BYTES +
	       chunk_count * PACK_CHUNK_ENTRY_BYTES;
}

void
pack_header_encode(const struct pack_header *h, uint8_t *out)
{
	memset(out, 0, PACK_BLOCK_BYTES);
	memcpy(out, header_magic, 8);
	put_u16(out + 8, HEADER_VERSION);
	out[10] = HEADER_HASH_SHA256;
	out[11] = HEADER_CHECKSUM_XXH3;
	put_u32(out + 12, PACK_BLOCK_BYTES);
	put_u64(out + 16, h->pack_id);
	memcpy(out + 24, h->repo_uuid, PACK_UUID_BYTES);
	put_u64(out + 40, (uint64_t)h->created_us);
	put_u64(out + PACK_BLOCK_BYTES - 8, checksum64(out, PACK_BLOCK_BYTES - 8));
}

const char *
pack_header_decode(const uint8_t *block, uint64_t pack_id, struct pack_header *out)
{
	if (memcmp(block, header_magic, 8) != 0)
		return "pack header: no magic";
	if (get_u64(block + PACK_BLOCK_BYTES - 8) != checksum64(block, PACK_BLOCK_BYTES - 8))
		return "pack header: checksum";
	if (get_u16(block + 8) != HEADER_VERSION)
		return "pack header: unknown version";
	if (block[10] != HEADER_HASH_SHA256 || block[11] != HEADER_CHECKSUM_XXH3)
		return "pack header: unknown hash or checksum";
	if (get_u32(block + 12) != PACK_BLOCK_BYTES || !is_zero(block + 48, PACK_BLOCK_BYTES - 56))
		return "pack header: unknown fields";
	if (get_u64(block + 16) != pack_id)
		return "pack header: of another pack";
	out->pack_id = pack_id;
	memcpy(out->repo_uuid, block + 24, PACK_UUID_BYTES);
	out->created_us = (int64_t)get_u64(block + 40);
	return NULL;
}

void
pack_chunk_encode(const struct pack_chunk *c, uint8_t *out)
{
	memcpy(out, c->hash.b, sizeof c->hash.b);
	put_u64(out + sizeof c->hash.b, c->length);
}

void
pack_chunk_decode(const uint8_t *entry, struct pack_chunk *out)
{
	memcpy(out->hash.b, entry, sizeof out->hash.b);
	out->length = get_u64(entry + sizeof out->hash.b);
}

/* head: the fixed header with its chunk table behind it; its last field is not covered. */
static uint64_t
frame_head_checksum(const struct pack_place *place, uint32_t chunk_count, const uint8_t *head)
{
	uint8_t covered[64];

	memcpy(covered, head, 40);
	put_u64(covered + 40, checksum64(head + PACK_FRAME_HEAD_BYTES,
				      (size_t)chunk_count * PACK_CHUNK_ENTRY_BYTES));
	put_u64(covered + 48, place->pack_id);
	put_u64(covered + 56, place->offset);
	return checksum64(covered, sizeof covered);
}

void
pack_frame_encode_head(
	const struct pack_place *place, const struct pack_frame_head *h, uint8_t *out)
{
	memcpy(out, frame_magic, 4);
	out[4] = FRAME_VERSION;
	out[5] = (uint8_t)h->codec;
	put_u16(out + 6, 0);
	put_u32(out + 8, h->chunk_count);
	put_u32(out + 12, 0);
	put_u64(out + 16, h->raw_bytes);
	put_u64(out + 24, h->stored_bytes);
	put_u64(out + 32, h->payload_checksum);
	put_u64(out + 40, frame_head_checksum(place, h->chunk_count, out));
}

bool
pack_frame_peek(const uint8_t *data, uint64_t *bytes)
{
	uint32_t chunk_count = get_u32(data + 8);
	uint64_t raw_bytes = get_u64(data + 16);
	uint64_t stored_bytes = get_u64(data + 24);

	if (memcmp(data, frame_magic, 4) != 0 || data[4] != FRAME_VERSION)
		return false;
	if (data[5] > CODEC_ZSTD || get_u16(data + 6) != 0 || get_u32(data + 12) != 0)
		return false;
	if (chunk_count == 0 || chunk_count > PACK_FRAME_CHUNKS_MAX)
		return false;
	if (raw_bytes < chunk_count || raw_bytes > PACK_FRAME_RAW_BYTES_MAX)
		return false;
	if (stored_bytes == 0 || stored_bytes > PACK_FRAME_STORED_BYTES_MAX)
		return false;
	if (data[5] == CODEC_RAW && stored_bytes != raw_bytes)
		return false;
	*bytes = pack_frame_bytes_of(chunk_count, stored_bytes);
	return true;
}

/* The chunks are none of them empty and add up to raw_bytes. */
static bool
table_adds_up(const uint8_t *table, uint32_t chunk_count, uint64_t raw_bytes)
{
	uint64_t left = raw_bytes;

	for (uint32_t i = 0; i < chunk_count; i++) {
		uint64_t length = get_u64(table + (size_t)i * PACK_CHUNK_ENTRY_BYTES + 32);
		if (length == 0 || length > left)
			return false;
		left -= length;
	}
	return left == 0;
}

const char *
pack_frame_decode_head(const struct pack_place *place, const uint8_t *data, size_t len,
	struct pack_frame_view *out)
{
	uint64_t bytes = 0;

	if (len < PACK_FRAME_HEAD_BYTES)
		return "frame: too short";
	if (!pack_frame_peek(data, &bytes))
		return "frame header: wrong fields";
	uint32_t chunk_count = get_u32(data + 8);
	size_t head_bytes = PACK_FRAME_HEAD_BYTES + (size_t)chunk_count * PACK_CHUNK_ENTRY_BYTES;
	if (len < head_bytes)
		return "frame: too short";
	if (get_u64(data + 40) != frame_head_checksum(place, chunk_count, data))
		return "frame header: checksum";
	if (!table_adds_up(data + PACK_FRAME_HEAD_BYTES, chunk_count, get_u64(data + 16)))
		return "frame header: chunk lengths";
	*out = (struct pack_frame_view){
		.place = {place->pack_id, place->offset, bytes},
		.codec = (enum codec_id)data[5],
		.chunk_count = chunk_count,
		.raw_bytes = get_u64(data + 16),
		.stored_bytes = get_u64(data + 24),
		.payload_checksum = get_u64(data + 32),
		.table = data + PACK_FRAME_HEAD_BYTES,
		.stored = data + head_bytes,
	};
	return NULL;
}

bool
pack_frame_payload_ok(const struct pack_frame_view *f)
{
	return checksum64(f->stored, f->stored_bytes) == f->payload_checksum;
}

void
pack_frame_chunk(const struct pack_frame_view *f, uint32_t i, struct pack_chunk *out)
{
	pack_chunk_decode(f->table + (size_t)i * PACK_CHUNK_ENTRY_BYTES, out);
}

void
pack_footer_encode_head(const struct pack_footer_head *h, uint8_t *out)
{
	memset(out, 0, PACK_FOOTER_HEAD_BYTES);
	memcpy(out, footer_magic, 4);
	out[4] = FOOTER_VERSION;
	put_u32(out + 8, h->frame_count);
	put_u64(out + 16, h->chunk_count);
	put_u64(out + 24, h->pack_id);
	put_u64(out + 32, h->offset);
	memcpy(out + 40, h->repo_uuid, PACK_UUID_BYTES);
	put_u64(out + 56, checksum64(out, 56));
}

const char *
pack_footer_decode_head(
	const uint8_t *data, const struct pack_place *place, struct pack_footer_head *out)
{
	if (memcmp(data, footer_magic, 4) != 0)
		return "footer: no magic";
	if (get_u64(data + 56) != checksum64(data, 56))
		return "footer header: checksum";
	if (data[4] != FOOTER_VERSION)
		return "footer header: unknown version";
	if (!is_zero(data + 5, 3) || get_u32(data + 12) != 0)
		return "footer header: unknown fields";
	if (get_u64(data + 24) != place->pack_id || get_u64(data + 32) != place->offset)
		return "footer header: of another place";
	/* each frame and chunk has its own bytes before the footer */
	if (get_u32(data + 8) > place->offset / PACK_FRAME_HEAD_BYTES ||
		get_u64(data + 16) > place->offset / PACK_CHUNK_ENTRY_BYTES)
		return "footer header: impossible counts";
	out->frame_count = get_u32(data + 8);
	out->chunk_count = get_u64(data + 16);
	out->pack_id = place->pack_id;
	out->offset = place->offset;
	memcpy(out->repo_uuid, data + 40, PACK_UUID_BYTES);
	return NULL;
}

void
pack_footer_encode_frame(const struct pack_footer_frame *f, uint8_t *out)
{
	memset(out, 0, PACK_FOOTER_FRAME_BYTES);
	put_u64(out, f->offset);
	put_u64(out + 8, f->raw_bytes);
	put_u64(out + 16, f->stored_bytes);
	put_u32(out + 24, f->chunk_count);
	out[28] = (uint8_t)f->codec;
}

void
pack_footer_decode_frame(const uint8_t *entry, struct pack_footer_frame *out)
{
	out->offset = get_u64(entry);
	out->raw_bytes = get_u64(entry + 8);
	out->stored_bytes = get_u64(entry + 16);
	out->chunk_count = get_u32(entry + 24);
	out->codec = (enum codec_id)entry[28];
}

void
pack_trailer_encode(const struct pack_trailer *t, uint8_t *out)
{
	memset(out, 0, PACK_TRAILER_BYTES);
	memcpy(out, trailer_magic, 8);
	put_u16(out + 8, TRAILER_VERSION);
	put_u64(out + 16, t->pack_id);
	put_u64(out + 24, t->footer_offset);
	put_u64(out + 32, t->footer_bytes);
	put_u64(out + 40, t->footer_checksum);
	put_u64(out + 56, checksum64(out, 56));
}

bool
pack_trailer_is_there(const uint8_t *data)
{
	uint8_t copy[56];

	if (memcmp(data, trailer_magic, 8) == 0)
		return true;
	memcpy(copy, data, sizeof copy);
	memcpy(copy, trailer_magic, 8);
	return get_u64(data + 56) == checksum64(copy, sizeof copy);
}

const char *
pack_trailer_decode(const uint8_t *data, uint64_t pack_id, struct pack_trailer *out)
{
	if (memcmp(data, trailer_magic, 8) != 0)
		return "trailer: no magic";
	if (get_u64(data + 56) != checksum64(data, 56))
		return "trailer: checksum";
	if (get_u16(data + 8) != TRAILER_VERSION)
		return "trailer: unknown version";
	if (!is_zero(data + 10, 6) || get_u64(data + 48) != 0)
		return "trailer: unknown fields";
	if (get_u64(data + 16) != pack_id)
		return "trailer: of another pack";
	out->pack_id = pack_id;
	out->footer_offset = get_u64(data + 24);
	out->footer_bytes = get_u64(data + 32);
	out->footer_checksum = get_u64(data + 40);
	return NULL;
}
