/* SPDX-License-Identifier: Apache-2.0 */
/* The writer cuts in the slab the bytes were copied to, while they are in the cache. What is left
 * uncut when a slab is full (less than one chunk) moves to the next slab; if there is none yet it
 * waits in a buffer of the writer's own, so that the full slab can go to the workers and come back:
 * writers that waited with full slabs in hand would wait for each other for ever. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "ingest_internal.h"

#define SLOW_SLAB_NS ((uint64_t)500 * 1000000)

struct ingest_writer {
	struct ingest *in;
	const struct ingest_space *space;
	void (*wake)(void *arg);
	void *wake_arg;
	struct slab_waiter waiter;
	bool waiting; /* in line, or called and not come yet */

	struct ingest_file *file;
	uint64_t expected_bytes; /* of the file; UINT64_MAX: unknown */
	uint64_t written_bytes;  /* of the file */
	uint64_t receive_ns;     /* of the file, not yet in its receipt */
	uint64_t reserved_ns;    /* when room was given out last */
	struct block *block;
	bool in_piece; /* the block's last piece is the file's */
	size_t fill;   /* bytes in the slab */
	size_t cut;    /* where the uncut bytes begin */
	size_t want_bytes;
	uint64_t slab_ns; /* when the slab was taken */
	uint8_t *tail;    /* uncut bytes between two slabs */
	size_t tail_bytes;
};

void
file_fail(struct ingest_file *f, const struct err *err)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&f->x.failed, &none, -1))
		return;
	f->x.err = *err;
	atomic_store_explicit(&f->x.failed, (int)err->rc, memory_order_release);
}

static void
fail_nomem(struct ingest_writer *w)
{
	struct err err = ERR_INIT;

	err_set(&err, RC_NOMEM, "no-memory", "out of memory while taking the upload");
	file_fail(w->file, &err);
}

static void
on_slab(struct slab_waiter *waiter)
{
	struct ingest_writer *w =
		(struct ingest_writer *)((char *)waiter - offsetof(struct ingest_writer, waiter));

	w->wake(w->wake_arg);
}

enum rc
ingest_writer_open(struct ingest *in, const struct ingest_space *space, void (*wake)(void *arg),
	void *arg, struct ingest_writer **out, struct err *err)
{
	struct ingest_writer *w = calloc(1, sizeof *w);

	if (w == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	w->in = in;
	w->space = space;
	w->wake = wake;
	w->wake_arg = arg;
	w->waiter.fn = on_slab;
	slab_takers_add(in->slabs, 1);
	*out = w;
	return RC_OK;
}

void
ingest_writer_close(struct ingest_writer *w)
{
	if (w == NULL)
		return;
	if (w->file != NULL) {
		struct err err = ERR_INIT;
		err_set(&err, RC_INVALID, "body-mismatch", "the upload was cut off");
		ingest_abort(w, &err);
	}
	ingest_flush(w);
	slab_unwait(w->in->slabs, &w->waiter);
	slab_takers_add(w->in->slabs, -1);
	free(w->tail);
	free(w);
}

void
ingest_continue(struct ingest_writer *w, struct ingest_file *f, uint64_t expected_bytes)
{
	f->x.space = w->space;
	f->x.dep_min = UINT64_MAX;
	f->x.entries_start = f->recipe_bytes;
	f->x.merged_bytes = f->recipe_bytes;
	f->chunk_count = f->recipe_chunks;
	buf_init(&f->x.entries, (size_t)4 << 20);
	f->x.checkpoint_ns = clock_mono_ns();
	w->file = f;
	w->expected_bytes = expected_bytes;
	w->written_bytes = 0;
	w->receive_ns = 0;
	w->in_piece = false;
	if (w->want_bytes == 0)
		w->want_bytes = SLAB_SMALL_BYTES;
}

void
ingest_begin(struct ingest_writer *w, struct ingest_file *f, uint64_t expected_bytes)
{
	sha256_stream_init(&f->id);
	if (f->want_sha)
		sha256_stream_init(&f->sha);
	ingest_continue(w, f, expected_bytes);
}

static struct block_piece *
file_piece(struct ingest_writer *w)
{
	struct block *b = w->block;

	if (w->in_piece)
		return &b->pieces[b->piece_count - 1];
	struct block_piece *p = block_add_piece(b);
	if (p == NULL)
		return NULL;
	p->file = w->file;
	p->seq = w->file->x.pieces_out++;
	w->in_piece = true;
	return p;
}

static void
add_chunk(struct ingest_writer *w, size_t length)
{
	struct block_piece *p = file_piece(w);
	struct block_chunk *c = p != NULL ? block_add_chunk(w->block) : NULL;

	if (c == NULL) {
		fail_nomem(w);
	} else {
		c->offset = (uint32_t)w->cut;
		c->length = (uint32_t)length;
		p->count++;
		w->block->bytes += (uint32_t)length;
		meter_add(&w->file->meter->chunked_bytes, length);
	}
	w->cut += length;
}

/* Keep the uncut bytes of the block's slab in the writer's own buffer. */
static void
save_tail(struct ingest_writer *w)
{
	size_t rest = w->fill - w->cut;
	size_t cap =
		w->space->chunker.max > SLAB_SMALL_BYTES ? w->space->chunker.max : SLAB_SMALL_BYTES;

	w->tail_bytes = 0;
	if (rest == 0)
		return;
	if (w->tail == NULL)
		w->tail = malloc(cap);
	if (w->tail == NULL) {
		fail_nomem(w);
		return;
	}
	memcpy(w->tail, w->block->slab->data + w->cut, rest);
	w->tail_bytes = rest;
}

/* Part with the block: to the workers if there is anything in it for them. */
static void
release_block(struct ingest_writer *w)
{
	struct block *b = w->block;

	save_tail(w);
	w->block = NULL;
	w->in_piece = false;
	w->fill = w->cut = 0;
	if (b->piece_count == 0) {
		if (b->slab != NULL)
			slab_give(w->in->slabs, b->slab);
		block_free(b);
		return;
	}
	/* the ring holds more blocks than slabs and connections can make: this does not wait */
	while (!ring_push(w->in->queue, b)) {
		struct timespec nap = {.tv_nsec = 200000};
		nanosleep(&nap, NULL);
	}
}

void
ingest_flush(struct ingest_writer *w)
{
	if (w->block != NULL && w->block->piece_count > 0)
		release_block(w);
}

/* Who fills a slab at once gets a larger one; who takes its time does not hold memory that others
 * could use. */
static void
grow_want(struct ingest_writer *w)
{
	if (clock_mono_ns() - w->slab_ns > SLOW_SLAB_NS) {
		w->want_bytes = SLAB_SMALL_BYTES;
		return;
	}
	w->want_bytes = w->want_bytes < SLAB_LARGE_BYTES / 4 ? w->want_bytes * 4 : SLAB_LARGE_BYTES;
	if (w->want_bytes < SLAB_MEDIUM_BYTES)
		w->want_bytes = SLAB_MEDIUM_BYTES;
}

/* A slab with room for at least one byte; false if there is no memory now: wake will be called. */
static bool
have_room(struct ingest_writer *w)
{
	struct block *b = w->block;

	if (b != NULL && ((b->slab != NULL && w->fill == b->slab->bytes) ||
				 b->chunk_count == BLOCK_CHUNKS_MAX ||
				 b->piece_count >= BLOCK_PIECES_MAX - 1)) {
		release_block(w);
		grow_want(w);
		b = NULL;
	}
	if (b != NULL && b->slab != NULL)
		return true;
	/* more may come than was expected */
	uint64_t left = w->expected_bytes == UINT64_MAX || w->expected_bytes <= w->written_bytes
				? SLAB_SMALL_BYTES
				: w->expected_bytes - w->written_bytes;
	size_t need = w->tail_bytes + (size_t)(left < SLAB_SMALL_BYTES ? left : SLAB_SMALL_BYTES);
	if (need > SLAB_SMALL_BYTES)
		need = SLAB_MEDIUM_BYTES;
	struct slab *slab = slab_take(w->in->slabs, need, w->want_bytes, &w->waiter);
	w->waiting = slab == NULL;
	if (slab == NULL) {
		slab_wait(w->in->slabs, need, &w->waiter);
		return false;
	}
	if (b == NULL)
		b = w->block = block_new(w->space, NULL);
	if (b == NULL) {
		slab_give(w->in->slabs, slab);
		fail_nomem(w);
		return false;
	}
	b->slab = slab;
	w->slab_ns = clock_mono_ns();
	if (w->tail_bytes > 0)
		memcpy(slab->data, w->tail, w->tail_bytes);
	w->fill = w->tail_bytes;
	w->cut = 0;
	w->tail_bytes = 0;
	return true;
}

static void
cut_full_chunks(struct ingest_writer *w)
{
	const struct chunker *c = &w->space->chunker;

	while (w->fill - w->cut >= c->max && w->block->chunk_count < BLOCK_CHUNKS_MAX)
		add_chunk(w, chunker_cut(c, w->block->slab->data + w->cut, w->fill - w->cut));
}

static size_t
take_bytes(struct ingest_writer *w, const uint8_t *data, size_t len)
{
	size_t taken = 0;

	while (taken < len && atomic_load_explicit(&w->file->x.failed, memory_order_relaxed) == 0) {
		if (!have_room(w)) {
			if (atomic_load(&w->file->x.failed) != 0)
				break;
			return taken;
		}
		size_t n = w->block->slab->bytes - w->fill;
		if (n > len - taken)
			n = len - taken;
		memcpy(w->block->slab->data + w->fill, data + taken, n);
		w->fill += n;
		w->written_bytes += n;
		taken += n;
		cut_full_chunks(w);
	}
	return taken < len ? len : taken; /* a failed file swallows the rest */
}

static void
count_received(struct ingest_writer *w, size_t len, uint64_t since_ns)
{
	uint64_t spent = clock_mono_ns() - since_ns;

	w->receive_ns += spent;
	meter_add(&w->file->meter->received_bytes, len);
	meter_add(&w->file->meter->stage_ns[METER_RECEIVE], spent);
	meter_add(&w->in->total.received_bytes, len);
	meter_add(&w->in->total.stage_ns[METER_RECEIVE], spent);
}

size_t
ingest_write(struct ingest_writer *w, const uint8_t *data, size_t len)
{
	uint64_t start = clock_mono_ns();
	size_t taken = take_bytes(w, data, len);

	if (w->file->want_sha)
		sha256_stream_update(&w->file->sha, data, taken);
	count_received(w, taken, start);
	return taken;
}

bool
ingest_reserve(struct ingest_writer *w, uint8_t **at, size_t *room)
{
	*at = NULL;
	*room = 0;
	w->reserved_ns = clock_mono_ns();
	if (atomic_load_explicit(&w->file->x.failed, memory_order_relaxed) != 0)
		return true;
	if (!have_room(w))
		return atomic_load(&w->file->x.failed) != 0;
	*at = w->block->slab->data + w->fill;
	*room = w->block->slab->bytes - w->fill;
	return true;
}

void
ingest_advance(struct ingest_writer *w, size_t len)
{
	if (w->file->want_sha)
		sha256_stream_update(&w->file->sha, w->block->slab->data + w->fill, len);
	w->fill += len;
	w->written_bytes += len;
	cut_full_chunks(w);
	count_received(w, len, w->reserved_ns);
}

size_t
ingest_write_tail(struct ingest_writer *w, const uint8_t *data, size_t len)
{
	return take_bytes(w, data, len);
}

bool
ingest_failed(struct ingest_writer *w, struct err *err)
{
	int rc = atomic_load_explicit(&w->file->x.failed, memory_order_acquire);

	if (rc <= 0)
		return false;
	*err = w->file->x.err;
	return true;
}

/* A block to put the end of the file in, whatever the pool says: uncut bytes that found no slab
 * get one outside the budget. */
static bool
block_for_end(struct ingest_writer *w)
{
	if (w->block == NULL)
		w->block = block_new(w->space, NULL);
	if (w->block == NULL)
		return false;
	if (w->tail_bytes > 0) {
		struct slab *slab = slab_take_loose(w->tail_bytes);
		if (slab == NULL)
			return false;
		memcpy(slab->data, w->tail, w->tail_bytes);
		w->block->slab = slab;
		w->fill = w->tail_bytes;
		w->cut = 0;
		w->tail_bytes = 0;
	}
	return true;
}

/* The marker that ends a file travels behind its last chunk. Without memory for it the file could
 * never be settled, so this waits for memory: the one place that may. */
static void
end_file(struct ingest_writer *w, enum piece_end end)
{
	struct block_piece *p;

	for (;;) {
		if (w->block == NULL)
			w->block = block_new(w->space, NULL);
		if (w->block != NULL && (p = file_piece(w)) != NULL)
			break;
		struct timespec nap = {.tv_nsec = 10000000};
		nanosleep(&nap, NULL);
	}
	if (w->waiting) /* nobody will write what it waited to write */
		slab_unwait(w->in->slabs, &w->waiter);
	w->waiting = false;
	p->end = end;
	p->cost.stage_ns[METER_RECEIVE] = w->receive_ns;
	w->in_piece = false;
	w->file = NULL;
	w->tail_bytes = 0;
	w->cut = w->fill; /* whatever is not cut is no one's now */
	if (w->block->piece_count >= BLOCK_PIECES_MAX - 1 ||
		w->block->chunk_count >= BLOCK_CHUNKS_MAX - 8)
		release_block(w);
}

void
ingest_finish(struct ingest_writer *w)
{
	if (!block_for_end(w))
		fail_nomem(w);
	while (w->fill > w->cut && w->block != NULL && w->block->slab != NULL) {
		size_t n = w->fill - w->cut;
		if (n > w->space->chunker.max)
			n = w->space->chunker.max;
		if (w->block->chunk_count == BLOCK_CHUNKS_MAX) {
			release_block(w);
			if (!block_for_end(w)) {
				fail_nomem(w);
				break;
			}
			continue;
		}
		add_chunk(w, chunker_cut(&w->space->chunker, w->block->slab->data + w->cut, n));
	}
	meter_add(&w->file->meter->files_received, 1);
	end_file(w, PIECE_WHOLE);
}

void
ingest_suspend(struct ingest_writer *w)
{
	struct ingest_file *f = w->file;
	const uint8_t *from = w->tail_bytes > 0 ? w->tail : NULL;
	size_t len = w->tail_bytes;

	if (len == 0 && w->block != NULL && w->block->slab != NULL) {
		from = w->block->slab->data + w->cut;
		len = w->fill - w->cut;
	}
	if (len > 0) {
		f->tail = malloc(len);
		if (f->tail == NULL)
			fail_nomem(w);
		else
			memcpy(f->tail, from, len);
		f->tail_bytes = f->tail != NULL ? len : 0;
	}
	f->partial = true;
	end_file(w, PIECE_SUSPENDED);
}

void
ingest_abort(struct ingest_writer *w, const struct err *err)
{
	file_fail(w->file, err);
	end_file(w, PIECE_ABORTED);
}
