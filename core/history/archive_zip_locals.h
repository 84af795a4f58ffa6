/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ARCHIVE_ZIP_LOCALS_H
#define DG_ARCHIVE_ZIP_LOCALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* archive_zip_locals: the entries of a zip as they were met, until its directory says what each is.
 * Every record of the directory must name the place of one of them, and each of them once.
 * Threads: one at a time. */

struct archive_zip_local {
	uint64_t begin; /* its header is here or behind, ... */
	uint64_t data;  /* ... and ends here */
	uint64_t bytes; /* of its content */
	size_t index;   /* in the list of files; SIZE_MAX: it is none */
	bool claimed;
};

/* Zeroed is empty. */
struct archive_zip_locals {
	struct archive_zip_local *items;
	size_t count;
	size_t cap;
	size_t claimed;
};

/* Entries are added in the order of their places. RC_NOMEM. */
enum rc archive_zip_locals_add(
	struct archive_zip_locals *l, const struct archive_zip_local *local, struct err *err);
/* The entry whose local header is at offset, borrowed until the next add; NULL if there is none or
 * it was claimed before. */
struct archive_zip_local *archive_zip_locals_claim(struct archive_zip_locals *l, uint64_t offset);
void archive_zip_locals_done(struct archive_zip_locals *l);

#endif
