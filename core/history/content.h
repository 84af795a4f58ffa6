/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CONTENT_H
#define DG_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "sha256.h"

/* content: what the bytes of one file are, in 41 bytes: a name for them and their number.
 *
 * The kind says where the id is to be looked up. A file of one chunk is named by that chunk, so
 * its id is the SHA-256 of its bytes; an empty file is the chunk of no bytes. The numbers of the
 * kinds are part of the formats that hold a content and never change. */

enum content_kind {
	CONTENT_CHUNK = 1,  /* id is the SHA-256 of the bytes */
	CONTENT_RECIPE = 2, /* id names a recipe: the SHA-256 over its list of chunks */
};

struct content {
	uint8_t kind; /* enum content_kind */
	struct sha256 id;
	uint64_t size; /* bytes */
};

/* Whether kind is one this version knows. */
static inline bool
content_kind_known(uint8_t kind)
{
	return kind == CONTENT_CHUNK || kind == CONTENT_RECIPE;
}

/* Same bytes, as far as names tell: the same kind, id and size. */
static inline bool
content_equal(const struct content *a, const struct content *b)
{
	return a->kind == b->kind && a->size == b->size && sha256_equal(&a->id, &b->id);
}

#endif
