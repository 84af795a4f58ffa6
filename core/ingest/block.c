/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "ingest_internal.h"

struct block *
block_new(const struct ingest_space *space, struct slab *slab)
{
	struct block *b = calloc(1, sizeof *b);

	if (b != NULL) {
		b->space = space;
		b->slab = slab;
		b->chunks = b->own_chunks;
		b->chunk_cap = BLOCK_OWN_CHUNKS;
		b->pieces = &b->own_piece;
		b->piece_cap = 1;
	}
	return b;
}

void
block_free(struct block *b)
{
	if (b == NULL)
		return;
	if (b->chunks != b->own_chunks)
		free(b->chunks);
	if (b->pieces != &b->own_piece)
		free(b->pieces);
	free(b);
}

static uint32_t
next_cap(uint32_t cap, uint32_t first, uint32_t max)
{
	uint32_t next = cap < first ? first : cap * 2;

	return next > max ? max : next;
}

/* More memory for items; those of the block's own stay there and are copied. */
static void *
more(void *items, const void *own, size_t own_bytes, size_t bytes)
{
	if (items != own)
		return realloc(items, bytes);
	void *moved = malloc(bytes);
	if (moved != NULL)
		memcpy(moved, own, own_bytes);
	return moved;
}

struct block_chunk *
block_add_chunk(struct block *b)
{
	if (b->chunk_count == b->chunk_cap) {
		uint32_t cap = next_cap(b->chunk_cap, 24, BLOCK_CHUNKS_MAX);
		struct block_chunk *chunks =
			more(b->chunks, b->own_chunks, sizeof b->own_chunks, cap * sizeof *chunks);
		if (chunks == NULL)
			return NULL;
		b->chunks = chunks;
		b->chunk_cap = cap;
	}
	struct block_chunk *c = &b->chunks[b->chunk_count++];
	*c = (struct block_chunk){.fate = FATE_UNKNOWN};
	return c;
}

struct block_piece *
block_add_piece(struct block *b)
{
	if (b->piece_count == b->piece_cap) {
		uint32_t cap = next_cap(b->piece_cap, 64, BLOCK_PIECES_MAX);
		struct block_piece *pieces =
			more(b->pieces, &b->own_piece, sizeof b->own_piece, cap * sizeof *pieces);
		if (pieces == NULL)
			return NULL;
		b->pieces = pieces;
		b->piece_cap = cap;
	}
	struct block_piece *p = &b->pieces[b->piece_count++];
	*p = (struct block_piece){.first = b->chunk_count, .dep_min = UINT64_MAX};
	return p;
}
