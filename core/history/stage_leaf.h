/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_STAGE_LEAF_H
#define DG_STAGE_LEAF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "path.h"
#include "sha256.h"

/* stage_leaf: up to STAGE_LEAF_ENTRIES_MAX staged files that follow each other, packed into one
 * piece of memory that is as large as they need.
 *
 * A record holds what its path does not share with the path before it, the id, and of the other
 * numbers only bytes that say something: 41 to 46 bytes for most files beside those of the path,
 * 57 at most. There are no gaps: a record that changes, comes or goes moves those behind it, and
 * the memory follows.
 * The form is that of memory only. Functions that may need memory take the place where the leaf is
 * kept, because it moves; false: there was none, nothing has changed.
 * Threads: one at a time. */

/* More make a search in a leaf longer, fewer make what a leaf costs by itself felt. */
#define STAGE_LEAF_ENTRIES_MAX 64

struct stage_entry {
	const char *path; /* PATH_BYTES_MAX bytes at most, at least one */
	uint16_t path_len;
	uint8_t kind; /* enum content_kind, one of them */
	uint32_t mode;
	int64_t mtime_ns;
	uint64_t size;
	struct sha256 id;
};

struct stage_leaf {
	uint32_t used;
	uint16_t count;
	uint8_t bytes[];
};

/* Where a path is in a leaf, or would be. Good until the leaf changes. */
struct stage_leaf_place {
	uint32_t at;          /* of the record, or of the one it would stand before */
	uint16_t like_before; /* bytes that the path shares with the one before */
	uint16_t like_after;  /* and with the one at the place */
	bool found;
};

/* With one entry. NULL: no memory. free() it. */
struct stage_leaf *stage_leaf_new(const struct stage_entry *e);
/* What the allocator gives for it, its own bytes included. */
size_t stage_leaf_memory(const struct stage_leaf *l);

/* How the path sorts to the first one of the leaf: < 0, 0, > 0. */
int stage_leaf_compare(const struct stage_leaf *l, const char *path, size_t path_len);
void stage_leaf_seek(const struct stage_leaf *l, const char *path, size_t path_len,
	struct stage_leaf_place *out);

/* The entry at a place, and the place behind it. path (PATH_BYTES_MAX + 1 bytes) holds the path of
 * the entry before, and then this one's, NUL-terminated; it becomes out->path. */
uint32_t stage_leaf_read(
	const struct stage_leaf *l, uint32_t at, char *path, struct stage_entry *out);
/* The entry that was found at a place, but for its path. */
void stage_leaf_get(
	const struct stage_leaf *l, const struct stage_leaf_place *place, struct stage_entry *out);

/* Put e at its place, from stage_leaf_seek; where it was not found the leaf has room for one more.
 */
bool stage_leaf_put(
	struct stage_leaf **l, const struct stage_leaf_place *place, const struct stage_entry *e);
/* Take out what was found. Needs no memory. */
void stage_leaf_remove(struct stage_leaf **l, const struct stage_leaf_place *place);
/* Move the second half (of two entries or more) into a new leaf. */
bool stage_leaf_split(struct stage_leaf **l, struct stage_leaf **out);
/* Copy the entries of right, which sort behind those of l, to its end. */
bool stage_leaf_join(struct stage_leaf **l, const struct stage_leaf *right);

#endif
