/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ARCHIVE_LIST_H
#define DG_ARCHIVE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "stage.h"

/* archive_list: the files of one archive, collected until they are staged all at once.
 *
 * An item is added first and named later (a zip tells the name that counts at its very end); items
 * that got no name are dropped. Names are told apart while they come.
 * Memory: 88 to 132 bytes an item, and its name with 16 to 32.
 * Threads: one at a time; items move when one is added. */

struct archive_slot {
	uint32_t item; /* its index + 1; 0: none */
	uint32_t hash; /* of its name: most others are told from it without a look at them */
};

struct archive_list {
	struct stage_change *items;
	size_t count;
	size_t cap;
	struct archive_names *names; /* blocks of bytes, newest first */
	struct archive_slot *slots;  /* open addressing */
	size_t slot_count;           /* a power of two */
	size_t named;
	uint64_t seed;
};

void archive_list_init(struct archive_list *l);
/* NULL is allowed. */
void archive_list_done(struct archive_list *l);

/* An empty item; *index names it. RC_NOMEM, RC_TOO_LARGE (above 2^32). */
enum rc archive_list_add(struct archive_list *l, size_t *index, struct err *err);
/* Name an item prefix + name (copied, checked by the caller). *other is the index of the item that
 * had this name, which has lost it, or SIZE_MAX. RC_NOMEM. */
enum rc archive_list_name(struct archive_list *l, size_t index, const char *prefix,
	const char *name, size_t name_len, size_t *other, struct err *err);
/* A name that another one needs as a directory, e.g. "a" where "a/b" is: *file and *below are the
 * indexes of one such pair. */
bool archive_list_find_clash(const struct archive_list *l, size_t *file, size_t *below);
/* Drop the items that have no name; indexes change. */
void archive_list_compact(struct archive_list *l);

#endif
