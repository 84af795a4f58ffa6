/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_STAGE_MAP_H
#define DG_STAGE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "err.h"

/* stage_map: the staged files of one stage, by path.
 *
 * Entries lie in one array in the order they first came, paths in blocks that never move, a hash
 * table of 4-byte indices finds them, and an index sorted by path is made when somebody asks for
 * order. A removed entry stays as a tombstone until the map is freed.
 * Not thread-safe: the stage's lock guards it. */

struct stage_entry {
	const char *path; /* in the map's own memory, NUL-terminated */
	uint16_t path_len;
	uint8_t kind; /* enum content_kind */
	uint8_t removed;
	uint32_t mode;
	int64_t mtime_ns;
	uint64_t size;
	struct sha256 id;
};

struct stage_map;

enum rc stage_map_open(struct stage_map **out, struct err *err);
void stage_map_free(struct stage_map *m);
/* Put or replace. RC_NOMEM: nothing changed. */
enum rc stage_map_put(struct stage_map *m, const struct stage_entry *e, struct err *err);
/* false: it was not there. */
bool stage_map_remove(struct stage_map *m, const char *path, size_t path_len);
/* NULL if it is not there. */
const struct stage_entry *stage_map_find(
	const struct stage_map *m, const char *path, size_t path_len);
/* Files there are, and the sum of their sizes. */
size_t stage_map_count(const struct stage_map *m);
uint64_t stage_map_bytes(const struct stage_map *m);
/* The i-th file by path; i < stage_map_count. Sorts if anything changed since. RC_NOMEM. */
enum rc stage_map_sort(struct stage_map *m, struct err *err);
const struct stage_entry *stage_map_at(const struct stage_map *m, size_t i);
/* First index whose path is >= (after false) or > (after true) key. After stage_map_sort. */
size_t stage_map_lower(const struct stage_map *m, const char *key, size_t key_len, bool after);

#endif
