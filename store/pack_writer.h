/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PACK_WRITER_H
#define DG_PACK_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "codec.h"
#include "err.h"
#include "pack_dir.h"
#include "pack_format.h"

/* pack_writer: append frames to one new pack file, sync it, seal it.
 *
 * Bytes go through an aligned buffer to the file in direct writes (plain ones where the file system
 * has none). A block that was handed to the kernel is never written again: a flush pads to the next
 * block instead, so that a torn write cannot touch what was acknowledged.
 * States: open -> sealed, or open -> abandoned; an abandoned pack, like one whose process died, has
 * no footer and stays readable by place and by pack_scan.
 * Failure is final: after a failed write or sync the writer is poisoned, and every later call but
 * abandon and free fails with RC_FULL (no space), RC_NOMEM or RC_IO. A failed sync says nothing
 * about which bytes are on disk, and a second one would lie; what was not acknowledged is written
 * again to another pack.
 * Threads: any number append, flush and sync at the same time; one seals or abandons when nobody
 * appends or flushes any more, and frees when nobody syncs any more.
 * Durable: only what pack_writer_sync, pack_writer_sync_all or pack_writer_seal says. */

struct pack_writer;

#define PACK_WRITER_BYTES_MAX_DEFAULT    (UINT64_C(64) << 20)
#define PACK_WRITER_BUFFER_BYTES_DEFAULT (1u << 20)

struct pack_writer_options {
	uint64_t bytes_max;    /* of header and frames; allocated at once; up to PACK_BYTES_MAX */
	uint32_t buffer_bytes; /* write when this much is gathered; a few more are allocated */
	bool direct;           /* try direct writes */
};

#define PACK_WRITER_OPTIONS_INIT                                                                   \
	{                                                                                          \
		.bytes_max = PACK_WRITER_BYTES_MAX_DEFAULT,                                        \
		.buffer_bytes = PACK_WRITER_BUFFER_BYTES_DEFAULT, .direct = true,                  \
	}

/* A frame to append; everything is borrowed for the call. */
struct pack_frame {
	enum codec_id codec;
	const struct pack_chunk *chunks; /* in the order of their bytes; lengths sum to raw_bytes */
	uint32_t chunk_count;            /* 1 to PACK_FRAME_CHUNKS_MAX */
	uint64_t raw_bytes;
	const struct iovec *stored; /* the payload, stored_bytes in all; CODEC_RAW: raw_bytes */
	int stored_count;
	uint64_t stored_bytes;
};

/* All bytes the frame takes in a pack. Of frame only chunk_count and stored_bytes are looked at. */
uint64_t pack_frame_bytes(const struct pack_frame *frame);

/* Create the file of a pack whose id was never used before, for a repository (PACK_UUID_BYTES). The
 * writer is owned by the caller; dir outlives it. Blocks on disk.
 * RC_EXISTS: there is such a pack; nothing was touched. RC_FULL: no space for bytes_max; no file
 * is left. RC_INVALID: bytes_max or buffer_bytes out of range. RC_IO, RC_NOMEM. */
enum rc pack_writer_open(struct pack_dir *dir, uint64_t pack_id, const uint8_t *repo_uuid,
	const struct pack_writer_options *options, struct pack_writer **out, struct err *err);

/* Append a frame; it will be at *offset in the file and takes *bytes (see struct pack_place). May
 * write, blocking on disk. RC_TOO_LARGE: no room, nothing happened; seal and go on in another pack.
 * RC_INVALID: the frame contradicts itself or a limit, nothing happened. RC_CONFLICT: not open any
 * more. RC_NOMEM without poison: nothing happened. */
enum rc pack_writer_append(struct pack_writer *w, const struct pack_frame *frame, uint64_t *offset,
	uint64_t *bytes, struct err *err);

/* Hand everything appended so far to the kernel, padded with zeros to a block; readers can see it,
 * but it is not durable. Does nothing if there is nothing. RC_CONFLICT: not open any more. */
enum rc pack_writer_flush(struct pack_writer *w, struct err *err);

/* Make durable what was handed to the kernel before the call: sync the data, and the first time the
 * directory entry. Does not wait for who writes. Does nothing if all is durable (a sealed pack is).
 * RC_CONFLICT: abandoned. */
enum rc pack_writer_sync(struct pack_writer *w, struct err *err);

/* The same for all that was appended before the call. Up to PACK_WRITER_AT_ONCE_BYTES with nothing
 * before them that waits for a sync go out in one write that comes back when they are on the disk.
 */
#define PACK_WRITER_AT_ONCE_BYTES (256u << 10)
enum rc pack_writer_sync_all(struct pack_writer *w, struct err *err);

/* Write footer and trailer, sync, cut to size, make read-only (0440), sync, close. After RC_OK the
 * whole pack is durable. After a failure the frames that were synced are still good and the file
 * is closed by pack_writer_free. RC_CONFLICT: not open any more. */
enum rc pack_writer_seal(struct pack_writer *w, struct err *err);

/* Close without sealing: keeps the file with what was handed to the kernel, gives back the space
 * that was not used. What was only appended is dropped. Does nothing if not open. */
void pack_writer_abandon(struct pack_writer *w);

/* Abandon if still open, and free. NULL is allowed. */
void pack_writer_free(struct pack_writer *w);

/* The rest cannot fail. */

uint64_t pack_writer_id(const struct pack_writer *w);
/* Bytes of header, frames and padding so far; the size of the file once sealed. */
uint64_t pack_writer_bytes(const struct pack_writer *w);
uint32_t pack_writer_frames(const struct pack_writer *w);
/* Bytes appended that were not handed to the kernel yet. */
size_t pack_writer_pending_bytes(const struct pack_writer *w);
/* May a frame of so many bytes (pack_frame_bytes) be appended now? Another thread may be faster. */
bool pack_writer_has_room(const struct pack_writer *w, uint64_t frame_bytes);
/* Are the writes direct? May change to false at the first one. */
bool pack_writer_is_direct(const struct pack_writer *w);

#endif
