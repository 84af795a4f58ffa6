/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PACK_SCAN_H
#define DG_PACK_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "pack_dir.h"
#include "pack_format.h"

/* pack_scan: find every whole frame of a pack from the frames alone, without footer or database.
 *
 * After a place that is no frame the scan goes on at the next multiple of 16 where a frame header
 * is right, so that damage in the middle hides nothing behind it; places the disk cannot read count
 * as damaged. A frame counts as whole if header, table and payload match their checksums.
 * Whoever builds an index from a scan must check the SHA-256 of the raw bytes of each chunk: the
 * inside of a frame whose header is damaged is somebody's data, and may look like frames.
 * Threads: any, of any pack, also of one being written (what is not flushed is not seen).
 * Memory: 1 MiB, or the largest frame or footer met. Blocks on disk. */

/* Every byte of the file is counted once: PACK_BLOCK_BYTES of header (or what there is of it) +
 * frame_bytes + padding_bytes + damaged_bytes + torn_bytes + unwritten_bytes + footer_bytes. */
struct pack_scan_stats {
	bool header_ok; /* header is filled; if not, its block is damaged, but not counted so */
	struct pack_header header;
	uint64_t file_bytes;
	uint64_t frames; /* whole ones */
	uint64_t chunks;
	uint64_t raw_bytes;
	uint64_t frame_bytes;      /* of whole frames, all of them */
	uint64_t padding_bytes;    /* zeros from a frame to the next block */
	uint64_t damaged_frames;   /* header and table are right, the payload is not */
	uint64_t damaged_places;   /* runs of damaged bytes with something right behind them */
	uint64_t damaged_bytes;    /* what is in them */
	uint64_t torn_bytes;       /* wrong bytes at the end: as a crash leaves them */
	uint64_t unwritten_bytes;  /* zeros at the end: allocated, never written */
	uint64_t unreadable_bytes; /* how many of all these the disk did not give */
	uint64_t footer_bytes;     /* of a right footer with its trailer, else 0 */
	uint64_t end_bytes;        /* where the last right thing ends: header, frame or footer */
	bool ends_with_footer;     /* and that is a footer */
};

/* A whole frame; borrowed for the call. Answers RC_OK to go on; anything else (err filled) ends the
 * scan, which then returns it. */
typedef enum rc pack_scan_fn(void *arg, const struct pack_frame_view *frame, struct err *err);

/* Call fn (NULL: just count) for every whole frame in the order of offsets. *stats is filled as far
 * as the scan came. RC_OK: also if there is damage, or nothing. RC_NOT_FOUND: no such pack.
 * RC_IO: the disk refused for another reason than a bad place. RC_NOMEM. Or what fn returned. */
enum rc pack_scan(struct pack_dir *dir, uint64_t pack_id, pack_scan_fn *fn, void *arg,
	struct pack_scan_stats *stats, struct err *err);

#endif
