/* SPDX-License-Identifier: Apache-2.0 */
#include "block_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FILE_BYTES_MAX ((size_t)64 << 20)

void
taken_init(struct taken_file *t)
{
	memset(t, 0, sizeof *t);
	t->file.meter = &t->meter;
	buf_init(&t->bytes, FILE_BYTES_MAX);
	buf_init(&t->lengths, FILE_BYTES_MAX);
}

void
taken_done(struct taken_file *t)
{
	buf_done(&t->bytes);
	buf_done(&t->lengths);
	buf_done(&t->file.x.entries);
	free(t->file.tail);
	t->file.tail = NULL;
}

static void
take_piece(const struct block *b, const struct block_piece *p)
{
	struct taken_file *t = (struct taken_file *)p->file;

	assert_false(t->ended);
	assert_int_equal(p->seq, t->pieces++);
	assert_true(p->dep_min == UINT64_MAX && p->dep_max == 0);
	assert_true(p->first + p->count <= b->chunk_count);
	for (uint32_t i = p->first; i < p->first + p->count; i++) {
		const struct block_chunk *c = &b->chunks[i];
		assert_int_equal(c->fate, FATE_UNKNOWN);
		assert_true(c->length > 0 && c->length <= b->space->chunker.max);
		buf_add(&t->bytes, b->slab->data + c->offset, c->length);
		buf_add_u32(&t->lengths, c->length);
	}
	assert_true(buf_ok(&t->bytes) && buf_ok(&t->lengths));
	t->end = p->end;
	t->ended = p->end != PIECE_MORE;
}

/* Chunks lie in the slab one behind the other, each in one piece, pieces in order. */
static void
check_block(const struct block *b)
{
	uint32_t bytes = 0, next = 0, end = 0;

	assert_true(b->piece_count > 0 && b->piece_count < BLOCK_PIECES_MAX);
	assert_true(b->chunk_count <= BLOCK_CHUNKS_MAX);
	assert_true(b->chunk_count == 0 || b->slab != NULL);
	for (uint32_t i = 0; i < b->piece_count; i++) {
		assert_int_equal(b->pieces[i].first, next);
		next += b->pieces[i].count;
		/* only the last file of a block may go on in the next */
		assert_true(i + 1 == b->piece_count || b->pieces[i].end != PIECE_MORE);
	}
	assert_int_equal(next, b->chunk_count);
	for (uint32_t i = 0; i < b->chunk_count; i++) {
		assert_true(b->chunks[i].offset >= end);
		end = b->chunks[i].offset + b->chunks[i].length;
		assert_true(end <= b->slab->bytes);
		bytes += b->chunks[i].length;
	}
	assert_int_equal(b->bytes, bytes);
}

void
take_block(struct slab_pool *pool, struct block *b)
{
	check_block(b);
	for (uint32_t i = 0; i < b->piece_count; i++)
		take_piece(b, &b->pieces[i]);
	if (b->slab != NULL)
		slab_give(pool, b->slab);
	block_free(b);
}

size_t
check_cuts(const struct taken_file *t, const struct chunker *c, const uint8_t *data, size_t len)
{
	size_t at = 0;

	for (size_t i = 0; i < t->lengths.len; i += 4) {
		size_t cut = chunker_cut(c, data + at, len - at);
		assert_true(t->end == PIECE_WHOLE || len - at >= c->max);
		assert_int_equal(get_u32(t->lengths.data + i), cut);
		at += cut;
	}
	assert_int_equal(t->bytes.len, at);
	assert_true(at <= len);
	if (at > 0)
		assert_memory_equal(t->bytes.data, data, at);
	return at;
}
