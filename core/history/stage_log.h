/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_STAGE_LOG_H
#define DG_STAGE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "stage_map.h"

/* stage_log: the records of a stage_batch.
 *
 *   u8 version (1), then records up to the end:
 *   put:    u8 1, varint path length, path, u8 kind, id[32], varint size, varint mode,
 *           varint mtime_ns (zigzag)
 *   remove: u8 2, varint path length, path
 *   cost:   u8 3, varint n (7), then n varints: files, logical, deduplicated, new and stored bytes,
 *           chunks, new chunks of what was put since the cost before
 */

void stage_log_begin(struct buf *b);
void stage_log_put(struct buf *b, const struct stage_entry *e);
void stage_log_remove(struct buf *b, const char *path, size_t path_len);

/* What the puts of a log cost, summed. */
#define STAGE_COSTS 7
struct stage_cost {
	uint64_t n[STAGE_COSTS]; /* in the order of the format */
};
void stage_log_cost(struct buf *b, const struct stage_cost *cost);
/* As stage_log_apply, and add the costs to *cost (NULL: do not). */
enum rc stage_log_replay(struct stage_map *m, const uint8_t *data, size_t len,
	struct stage_cost *cost, struct err *err);

/* Apply a batch to a map. RC_CORRUPT kind "corrupt-data": what comes before the damage may have
 * been applied. RC_NOMEM. */
enum rc stage_log_apply(struct stage_map *m, const uint8_t *data, size_t len, struct err *err);

#endif
