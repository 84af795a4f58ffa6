/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "recipe.h"

/* Any bytes are refused, or are slices that written again are read as the same slices. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
	if (!condition)
		abort();
}

static void
write_slice(struct buf *part, const struct recipe_slice *slice, bool slices)
{
	recipe_part_add(part, &slice->chunk, slice->length);
	if (slices)
		buf_add_varint(part, slice->offset);
}

static void
check_again(const uint8_t *data, size_t size, const struct buf *again)
{
	struct recipe_part_reader a, b;
	struct recipe_slice x, y;
	struct err err = ERR_INIT;

	require(recipe_part_open(&a, data, size, &err) == RC_OK);
	require(recipe_part_open(&b, again->data, again->len, &err) == RC_OK);
	while (recipe_part_next(&a, &x, &err)) {
		require(recipe_part_next(&b, &y, &err));
		require(sha256_equal(&x.chunk, &y.chunk));
		require(x.offset == y.offset && x.length == y.length);
	}
	require(!recipe_part_next(&b, &y, &err) && err.rc == RC_OK);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct recipe_part_reader r;
	struct recipe_slice slice;
	struct sha256_stream id;
	struct sha256 whole;
	struct err err = ERR_INIT;
	struct buf again;

	buf_init(&again, (size_t)64 << 20);
	sha256_stream_init(&id);
	if (recipe_part_open(&r, data, size, &err) == RC_OK) {
		recipe_part_begin(&again, data[1]);
		if (r.slices)
			again.data[3] = RECIPE_FLAG_SLICES;
		while (recipe_part_next(&r, &slice, &err)) {
			require(slice.length > 0 && (r.slices || slice.offset == 0));
			write_slice(&again, &slice, r.slices);
			recipe_id_add(&id, &slice);
		}
		require(buf_ok(&again));
	}
	if (err.rc == RC_OK) {
		check_again(data, size, &again);
		sha256_stream_final(&id, &whole);
	} else {
		require(err.rc == RC_CORRUPT && !recipe_part_next(&r, &slice, &err));
	}
	buf_done(&again);
	return 0;
}
