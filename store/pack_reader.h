/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PACK_READER_H
#define DG_PACK_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "pack_dir.h"
#include "pack_format.h"

/* pack_reader: read frames and footers of packs, open, sealed or left over.
 *
 * Every read is checked against the checksums of the frame (or footer), which know the pack and the
 * offset; the SHA-256 of a chunk's raw bytes is for the caller to check after decompression.
 * A struct pack_readers keeps the files of recently read packs open, the least recently used
 * leave first: at most fds_max files, plus one for each read under way.
 * Damaged, short or missing files are RC_CORRUPT, kind "corrupt-data", path, offset and reason in
 * the detail. A read that fails with EIO is tried once more with the file opened anew.
 * Threads: any; the lock is held for memory accesses only. Blocks on disk. */

struct pack_readers;

/* dir is borrowed until pack_readers_free. RC_NOMEM; RC_INVALID: fds_max is 0. */
enum rc pack_readers_open(
	struct pack_dir *dir, size_t fds_max, struct pack_readers **out, struct err *err);
/* After the last read has returned. NULL is allowed. */
void pack_readers_free(struct pack_readers *r);
/* Close the file of a pack that is to be removed; reads under way end well. */
void pack_readers_forget(struct pack_readers *r, uint64_t pack_id);

/* What a read may wait for, and whether it did. NULL instead of one: it may, and nobody asks. */
struct pack_wait {
	bool never;  /* RC_AGAIN without kind where the disk, or an open file, is not at hand */
	bool waited; /* set when what was read was not in the page cache; never cleared */
};

/* Read the frame at place, all of it, into buf (emptied first, limit at least place->bytes) and
 * check it; *out borrows from buf until that is changed. RC_CORRUPT; RC_IO; RC_NOMEM, also if the
 * limit of buf is too small; RC_AGAIN, kind "overloaded": no file descriptor free. */
enum rc pack_read_frame(struct pack_readers *r, const struct pack_place *place,
	struct pack_wait *wait, struct buf *buf, struct pack_frame_view *out, struct err *err);

/* How the frame at place is stored, from its checked header and chunk table alone. Errors as
 * pack_read_frame. */
struct pack_frame_shape {
	enum codec_id codec;
	uint32_t chunk_count;
	uint32_t payload_at; /* where the payload begins, from the start of the frame */
	uint64_t raw_bytes;
	uint64_t stored_bytes;
};
enum rc pack_read_shape(struct pack_readers *r, const struct pack_place *place,
	struct pack_wait *wait, struct pack_frame_shape *out, struct err *err);

/* Read len bytes at offset of a pack and check nothing: for payloads of raw frames, whose chunks
 * the caller compares with their hashes. Errors as pack_read_frame. */
enum rc pack_read_bytes(struct pack_readers *r, uint64_t pack_id, uint64_t offset,
	struct pack_wait *wait, uint8_t *data, size_t len, struct err *err);

/* The frame will be wanted soon: have the kernel read it, if its file is open. Does not wait. */
void pack_readers_advise(struct pack_readers *r, const struct pack_place *place);

/* The header block. Errors as pack_read_frame. */
enum rc pack_read_header(
	struct pack_readers *r, uint64_t pack_id, struct pack_header *out, struct err *err);

/* The checked footer of a sealed pack. Frames come in the order of their offsets; the chunks of the
 * first frame come first, and so on: walk both together. */
struct pack_index {
	uint64_t pack_id;
	uint8_t repo_uuid[PACK_UUID_BYTES];
	uint32_t frame_count;
	uint64_t chunk_count;
	struct buf bytes; /* the footer as stored */
};

/* Read and check the footer; *out is for pack_index_done, also after a failure.
 * RC_NOT_FOUND: the pack has none, it was never sealed; see pack_scan. Others as pack_read_frame.
 */
enum rc pack_read_footer(
	struct pack_readers *r, uint64_t pack_id, struct pack_index *out, struct err *err);
void pack_index_done(struct pack_index *index);
/* i < frame_count, i < chunk_count. */
void pack_index_frame(const struct pack_index *index, uint32_t i, struct pack_footer_frame *out);
void pack_index_chunk(const struct pack_index *index, uint64_t i, struct pack_chunk *out);

#endif
