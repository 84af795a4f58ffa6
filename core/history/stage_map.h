/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_STAGE_MAP_H
#define DG_STAGE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "err.h"
#include "path.h"
#include "stage_leaf.h"

/* stage_map: the staged files of one stage, by path, in the order of memcmp.
 *
 * Packed leaves (stage_leaf.h), and an array of them in order: what sorts a path is what finds it,
 * so there is no index to make and none to keep. Nothing else is held: a path that is put a million
 * times takes the room of one, and what is removed is gone.
 * Memory: at most 48 bytes an entry beside its path as it is spelt out, usually fewer than the path
 * alone, because neighbours share its beginning; 200 bytes for a map of one entry.
 * Not thread-safe: the stage's lock guards it. Many threads may read one that nobody changes. */

struct stage_map;

enum rc stage_map_open(struct stage_map **out, struct err *err);
void stage_map_free(struct stage_map *m);
/* Put or replace; e is borrowed for the call. *unchanged (may be NULL): the map had just this.
 * RC_NOMEM: nothing changed. */
enum rc stage_map_put(
	struct stage_map *m, const struct stage_entry *e, bool *unchanged, struct err *err);
/* false: it was not there. */
bool stage_map_remove(struct stage_map *m, const char *path, size_t path_len);
/* out->path is the caller's path. false: it is not there, out is untouched. */
bool stage_map_find(
	const struct stage_map *m, const char *path, size_t path_len, struct stage_entry *out);
/* Files there are, and the sum of their sizes. */
size_t stage_map_count(const struct stage_map *m);
uint64_t stage_map_bytes(const struct stage_map *m);
/* Bytes of memory, the allocator's own included. */
size_t stage_map_memory(const struct stage_map *m);

/* Goes through the files in order. Good until the map changes; needs no end. */
struct stage_map_cursor {
	const struct stage_map *map;
	size_t leaf;
	uint32_t at;
	char path[PATH_BYTES_MAX + 1];
};
/* Before the first path that is >= key, or > key if after. */
void stage_map_seek(const struct stage_map *m, struct stage_map_cursor *c, const char *key,
	size_t key_len, bool after);
/* The next file; out->path is NUL-terminated and borrowed until the next call. false: no more. */
bool stage_map_next(struct stage_map_cursor *c, struct stage_entry *out);

#endif
