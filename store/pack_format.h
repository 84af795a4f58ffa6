/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PACK_FORMAT_H
#define DG_PACK_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "sha256.h"

/* pack_format: the bytes of a pack file, and nothing that touches a file.
 *
 * A pack is a header block, frames, and (once sealed) a footer and a trailer; doc/FORMAT.md has
 * every byte. Decoders take hostile input: they read only inside the length they are given, and
 * answer NULL if the bytes are right or a static text that says what is wrong with them.
 * Threads: no state, no locks, no allocation. */

#define PACK_BLOCK_BYTES        4096u /* unit of direct writes; header, sync points and footer */
#define PACK_ALIGN_BYTES        16u   /* frames start at multiples of this */
#define PACK_FRAME_HEAD_BYTES   48u   /* fixed frame header */
#define PACK_CHUNK_ENTRY_BYTES  40u   /* hash and length, in frame and footer */
#define PACK_FOOTER_HEAD_BYTES  64u   /* fixed footer header */
#define PACK_FOOTER_FRAME_BYTES 32u   /* a frame in the footer */
#define PACK_TRAILER_BYTES      64u   /* the very end of a sealed pack */
#define PACK_UUID_BYTES         16u   /* repository uuid */

/* A frame is read, checked and decompressed whole: this is what that may cost in memory. */
#define PACK_FRAME_RAW_BYTES_MAX    (16u << 20)
#define PACK_FRAME_STORED_BYTES_MAX (16u << 20)
/* 2.5 MiB of chunk table: many times what 256 KiB of the smallest real files need. */
#define PACK_FRAME_CHUNKS_MAX 65536u
#define PACK_FRAME_BYTES_MAX                                                                       \
	(PACK_FRAME_HEAD_BYTES + PACK_FRAME_CHUNKS_MAX * PACK_CHUNK_ENTRY_BYTES +                  \
		PACK_FRAME_STORED_BYTES_MAX)
/* The frames of one pack; a footer is never larger than its frames. */
#define PACK_BYTES_MAX (UINT64_C(1) << 30)

struct pack_chunk {
	struct sha256 hash;
	uint64_t length; /* raw bytes, never 0 */
};

/* Where a frame lies. bytes is all of it: header, chunk table, payload, padding to 16. */
struct pack_place {
	uint64_t pack_id;
	uint64_t offset;
	uint64_t bytes;
};

struct pack_header {
	uint64_t pack_id;
	uint8_t repo_uuid[PACK_UUID_BYTES];
	int64_t created_us; /* microseconds since 1970, UTC */
};

/* What a frame's fixed header says. */
struct pack_frame_head {
	enum codec_id codec;
	uint32_t chunk_count;
	uint64_t raw_bytes;
	uint64_t stored_bytes;
	uint64_t payload_checksum;
};

/* A decoded frame; table and stored are borrowed from the bytes that were decoded. */
struct pack_frame_view {
	struct pack_place place;
	enum codec_id codec;
	uint32_t chunk_count;
	uint64_t raw_bytes;
	uint64_t stored_bytes;
	uint64_t payload_checksum;
	const uint8_t *table;
	const uint8_t *stored; /* the payload, as stored: codec not undone */
};

/* A frame as the footer lists it. */
struct pack_footer_frame {
	uint64_t offset;
	uint64_t raw_bytes;
	uint64_t stored_bytes;
	uint32_t chunk_count;
	enum codec_id codec;
};

struct pack_footer_head {
	uint32_t frame_count;
	uint64_t chunk_count;
	uint64_t pack_id;
	uint64_t offset; /* of the footer itself */
	uint8_t repo_uuid[PACK_UUID_BYTES];
};

struct pack_trailer {
	uint64_t pack_id;
	uint64_t footer_offset;
	uint64_t footer_bytes;
	uint64_t footer_checksum;
};

uint64_t pack_round_up(uint64_t n, uint64_t unit);

/* All bytes of such a frame, padding included; the arguments are within the limits above. */
uint64_t pack_frame_bytes_of(uint32_t chunk_count, uint64_t stored_bytes);
/* Bytes of a footer without the trailer. */
uint64_t pack_footer_bytes(uint32_t frame_count, uint64_t chunk_count);

/* Fill the header block, PACK_BLOCK_BYTES at out. */
void pack_header_encode(const struct pack_header *h, uint8_t *out);
/* block: PACK_BLOCK_BYTES. A header of another pack than pack_id is wrong. */
const char *pack_header_decode(const uint8_t *block, uint64_t pack_id, struct pack_header *out);

void pack_chunk_encode(const struct pack_chunk *c, uint8_t *out);
void pack_chunk_decode(const uint8_t *entry, struct pack_chunk *out);

/* Fill the fixed header at out (PACK_FRAME_HEAD_BYTES) of the frame at place; its chunk table is
 * there already, right behind. place->bytes is not looked at. */
void pack_frame_encode_head(
	const struct pack_place *place, const struct pack_frame_head *h, uint8_t *out);
/* Does a frame header that could be true start at data (PACK_FRAME_HEAD_BYTES)? If so *bytes is
 * what the whole frame would take, at most PACK_FRAME_BYTES_MAX. Checks no checksum. */
bool pack_frame_peek(const uint8_t *data, uint64_t *bytes);
/* Check the header and chunk table of the frame that should be at place (bytes not looked at), of
 * which len bytes are at data; fewer than header and table are wrong. The payload is not checked,
 * and may be missing: see pack_frame_payload_ok. out->place is where it is, bytes filled in. */
const char *pack_frame_decode_head(const struct pack_place *place, const uint8_t *data, size_t len,
	struct pack_frame_view *out);
/* Does the payload match its checksum? All of the frame's bytes must be there. */
bool pack_frame_payload_ok(const struct pack_frame_view *f);
/* The i-th chunk, i < chunk_count. */
void pack_frame_chunk(const struct pack_frame_view *f, uint32_t i, struct pack_chunk *out);

void pack_footer_encode_head(const struct pack_footer_head *h, uint8_t *out);
/* data: PACK_FOOTER_HEAD_BYTES. A footer of another pack or another offset is wrong. */
const char *pack_footer_decode_head(
	const uint8_t *data, const struct pack_place *place, struct pack_footer_head *out);
void pack_footer_encode_frame(const struct pack_footer_frame *f, uint8_t *out);
/* Fields as they are; pack_index checks them. */
void pack_footer_decode_frame(const uint8_t *entry, struct pack_footer_frame *out);

void pack_trailer_encode(const struct pack_trailer *t, uint8_t *out);
/* Is this the trailer of a sealed pack, be it damaged? One whose only damage is in the magic
 * counts, so that no single wrong byte makes a sealed pack look like an unsealed one. */
bool pack_trailer_is_there(const uint8_t *data);
const char *pack_trailer_decode(const uint8_t *data, uint64_t pack_id, struct pack_trailer *out);

#endif
