/* SPDX-License-Identifier: Apache-2.0 */
/* A worker takes what waits (more when more waits), hashes all of it in one go, asks once for all
 * that is not known, and stores what is new in frames. Batches grow with the load by themselves;
 * nothing is held back to make a batch larger. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checksum.h"
#include "clock.h"
#include "codec.h"
#include "ingest_internal.h"

#define PACK_IDLE_NS     ((uint64_t)30 * 1000000000)
#define APPEND_TRIES_MAX 16 /* packs that others filled meanwhile */

/* ---- hashing ---- */

static void
hash_batch(struct block *const *blocks, size_t count)
{
	struct sha256_job jobs[256];
	size_t n = 0;

	for (size_t b = 0; b < count; b++) {
		for (uint32_t i = 0; i < blocks[b]->chunk_count; i++) {
			struct block_chunk *c = &blocks[b]->chunks[i];
			jobs[n++] = (struct sha256_job){
				blocks[b]->slab->data + c->offset, c->length, &c->hash};
			if (n == sizeof jobs / sizeof *jobs) {
				sha256_many(jobs, n);
				n = 0;
			}
		}
	}
	sha256_many(jobs, n);
}

/* ---- storing ---- */

/* Take a step of the control if one is due and nobody else is at it. */
static void
step_pressure(struct ingest *in)
{
	uint64_t now = clock_mono_ns();

	if (now < atomic_load_explicit(&in->pressure_ns, memory_order_relaxed) ||
		atomic_flag_test_and_set(&in->pressure_busy))
		return;
	const struct pressure_sample s = {
		.memory = (double)slab_used_bytes(in->slabs) / (double)slab_bytes_max(in->slabs),
		.idle = idle_clock_read(&in->idle),
	};
	pressure_step(&in->pressure, &s);
	atomic_store_explicit(&in->rung, in->pressure.rung, memory_order_relaxed);
	atomic_store_explicit(&in->pressure_ns, now + PRESSURE_STEP_NS, memory_order_relaxed);
	atomic_flag_clear(&in->pressure_busy);
}

/* How hard to compress the next frame. */
static int
level_by_pressure(struct ingest *in)
{
	step_pressure(in);
	uint64_t n = atomic_fetch_add_explicit(&in->frame_number, 1, memory_order_relaxed);
	int level = pressure_level(atomic_load_explicit(&in->rung, memory_order_relaxed), n,
		(int)ingest_knob(in, INGEST_KNOB_LEVEL));
	atomic_store_explicit(&in->level_now, level, memory_order_relaxed);
	return level;
}

/* A run of new chunks on its way into one frame. */
struct run {
	struct block_chunk *chunks[FRAME_CHUNKS_MAX];
	const uint8_t *at[FRAME_CHUNKS_MAX];
	struct block_piece *pieces[FRAME_CHUNKS_MAX];
	uint32_t count;
	size_t bytes;
	bool side_by_side; /* the chunks lie one behind the other in memory */
};

static const uint8_t *
run_bytes(struct worker *w, const struct run *r)
{
	if (r->side_by_side)
		return r->at[0];
	size_t at = 0;
	for (uint32_t i = 0; i < r->count; i++) {
		memcpy(w->frame_raw + at, r->at[i], r->chunks[i]->length);
		at += r->chunks[i]->length;
	}
	return w->frame_raw;
}

/* The batch keeps the reference that comes with the pack, one for each pack. */
static void
lean_on(struct ingest *in, struct batch *batch, struct open_pack *pack)
{
	for (unsigned i = 0; i < batch->pack_count; i++) {
		if (batch->packs[i] == pack) {
			packs_unref(in, pack);
			return;
		}
	}
	batch->packs[batch->pack_count++] = pack;
}

/* To an open pack of the space; *pack is the batch's. */
static enum rc
append(struct worker *w, struct batch *batch, const struct ingest_space *space,
	const struct pack_frame *frame, struct open_pack **pack, uint64_t *offset, uint64_t *bytes,
	struct err *err)
{
	struct pack_set *set = batch->is_shared ? &w->in->shared : &w->packs;
	uint64_t need = pack_frame_bytes(frame);

	for (int tries = 1;; tries++) {
		enum rc rc = packs_get(w->in, set, space, need, pack, err);
		if (rc == RC_NOT_FOUND) {
			/* the batch fails, and not all of it need be of that repository */
			err_clear(err);
			return err_set(err, RC_AGAIN, "overloaded",
				"a repository was dropped while this was stored beside it; try "
				"again");
		}
		if (rc != RC_OK)
			return rc;
		lean_on(w->in, batch, *pack);
		rc = pack_writer_append((*pack)->writer, frame, offset, bytes, err);
		if (rc == RC_TOO_LARGE && tries < APPEND_TRIES_MAX) {
			err_clear(err); /* another worker was faster: the next one has room */
			continue;
		}
		if (rc != RC_OK)
			atomic_store(&(*pack)->poisoned, true);
		return rc;
	}
}

static enum rc
store_run(struct worker *w, struct batch *batch, const struct ingest_space *space, struct run *r,
	struct err *err)
{
	struct pack_chunk table[FRAME_CHUNKS_MAX];
	struct ingest *in = w->in;
	uint64_t t0 = clock_mono_ns();
	const uint8_t *raw = run_bytes(w, r);
	size_t packed = 0;

	int level = level_by_pressure(in);
	if (level != INGEST_LEVEL_RAW && codec_probe_compressible(raw, r->bytes))
		packed = codec_compress(
			w->codec, level, raw, r->bytes, w->frame_out, w->frame_out_cap);
	uint64_t t1 = clock_mono_ns();
	atomic_fetch_add_explicit(
		packed > 0 ? &in->frames_zstd : &in->frames_raw, 1, memory_order_relaxed);

	struct iovec stored = {
		.iov_base = packed > 0 ? w->frame_out : (void *)(uintptr_t)raw,
		.iov_len = packed > 0 ? packed : r->bytes,
	};
	for (uint32_t i = 0; i < r->count; i++)
		table[i] = (struct pack_chunk){r->chunks[i]->hash, r->chunks[i]->length};
	struct pack_frame frame = {
		.codec = packed > 0 ? CODEC_ZSTD : CODEC_RAW,
		.chunks = table,
		.chunk_count = r->count,
		.raw_bytes = r->bytes,
		.stored = &stored,
		.stored_count = 1,
		.stored_bytes = stored.iov_len,
	};
	struct open_pack *pack = NULL;
	uint64_t offset = 0, bytes = 0;
	enum rc rc = append(w, batch, space, &frame, &pack, &offset, &bytes, err);
	if (rc != RC_OK)
		return rc;
	uint64_t t2 = clock_mono_ns();
	uint64_t raw_offset = 0;
	for (uint32_t i = 0; i < r->count; i++) {
		struct block_chunk *c = r->chunks[i];
		struct ingest_receipt *cost = &r->pieces[i]->cost;
		c->pack_id = pack->id;
		c->frame_offset = offset;
		c->frame_bytes = bytes;
		c->raw_offset = raw_offset;
		raw_offset += c->length;
		cost->stored_bytes += bytes * c->length / r->bytes;
		cost->stage_ns[METER_COMPRESS] += (t1 - t0) * c->length / r->bytes;
		cost->stage_ns[METER_WRITE] += (t2 - t1) * c->length / r->bytes;
	}
	meter_add(&in->total.stored_bytes, bytes);
	meter_add(&in->total.stage_ns[METER_COMPRESS], t1 - t0);
	meter_add(&in->total.stage_ns[METER_WRITE], t2 - t1);
	return RC_OK;
}

static enum rc
add_to_run(struct worker *w, struct batch *batch, struct block *b, struct block_piece *p,
	struct block_chunk *c, struct run *r, struct err *err)
{
	const uint8_t *at = b->slab->data + c->offset;

	if (r->count > 0) {
		const uint8_t *end = r->at[r->count - 1] + r->chunks[r->count - 1]->length;
		r->side_by_side = r->side_by_side && end == at;
	} else {
		r->side_by_side = true;
		r->bytes = 0;
	}
	r->chunks[r->count] = c;
	r->at[r->count] = at;
	r->pieces[r->count] = p;
	r->count++;
	r->bytes += c->length;
	if (r->bytes < FRAME_BYTES && r->count < FRAME_CHUNKS_MAX)
		return RC_OK;
	enum rc rc = store_run(w, batch, b->space, r, err);
	r->count = 0;
	return rc;
}

/* Store the new chunks of blocks of one space, in order, in frames. */
static enum rc
store_new(struct worker *w, struct batch *batch, struct block *const *blocks, size_t count,
	struct err *err)
{
	struct run r = {.count = 0};
	enum rc rc = RC_OK;

	for (size_t b = 0; rc == RC_OK && b < count; b++)
		for (uint32_t p = 0; rc == RC_OK && p < blocks[b]->piece_count; p++) {
			struct block_piece *piece = &blocks[b]->pieces[p];
			for (uint32_t i = 0; rc == RC_OK && i < piece->count; i++) {
				struct block_chunk *c = &blocks[b]->chunks[piece->first + i];
				if (c->fate == FATE_NEW)
					rc = add_to_run(w, batch, blocks[b], piece, c, &r, err);
			}
		}
	if (rc == RC_OK && r.count > 0)
		rc = store_run(w, batch, blocks[0]->space, &r, err);
	return rc;
}

/* ---- a batch ---- */

/* What each piece cost and leans on. */
static void
account(struct worker *w, const struct batch *batch, struct block *b, uint64_t hash_ns,
	uint64_t lookup_ns, size_t all_bytes)
{
	for (uint32_t p = 0; p < b->piece_count; p++) {
		struct block_piece *piece = &b->pieces[p];
		struct ingest_receipt *cost = &piece->cost;
		for (uint32_t i = 0; i < piece->count; i++) {
			const struct block_chunk *c = &b->chunks[piece->first + i];
			cost->logical_bytes += c->length;
			cost->chunks++;
			if (c->fate == FATE_NEW) {
				cost->new_bytes += c->length;
				cost->new_chunks++;
			} else {
				cost->dedup_bytes += c->length;
			}
			if (c->fate == FATE_PENDING && c->ticket != batch->ticket) {
				if (c->ticket < piece->dep_min)
					piece->dep_min = c->ticket;
				if (c->ticket > piece->dep_max)
					piece->dep_max = c->ticket;
			}
		}
		if (all_bytes > 0) {
			cost->stage_ns[METER_HASH] = hash_ns * cost->logical_bytes / all_bytes;
			cost->stage_ns[METER_LOOKUP] = lookup_ns * cost->logical_bytes / all_bytes;
		}
		struct meter *m = piece->file->meter;
		meter_add(&m->hashed_bytes, cost->logical_bytes);
		meter_add(&m->new_bytes, cost->new_bytes);
		meter_add(&m->dedup_bytes, cost->dedup_bytes);
		meter_add(&m->stored_bytes, cost->stored_bytes);
		meter_add(&m->chunks, cost->chunks);
		meter_add(&m->new_chunks, cost->new_chunks);
		for (int s = METER_HASH; s <= METER_WRITE; s++)
			meter_add(&m->stage_ns[s], cost->stage_ns[s]);
		meter_add(&w->in->total.new_bytes, cost->new_bytes);
	}
}

static int
by_space(const void *a, const void *b)
{
	const struct block *x = *(struct block *const *)a;
	const struct block *y = *(struct block *const *)b;

	return (x->space->repo_id > y->space->repo_id) - (x->space->repo_id < y->space->repo_id);
}

/* Blocks of one space side by side, otherwise in the order they came. */
static void
group_by_space(struct block **blocks, size_t count)
{
	bool mixed = false;

	for (size_t i = 1; i < count; i++)
		mixed = mixed || blocks[i]->space != blocks[0]->space;
	if (mixed)
		qsort(blocks, count, sizeof *blocks, by_space);
}

/* Hand to the kernel what the committer will sync. A shared pack is left to it. */
static void
flush_packs(struct worker *w, struct batch *batch)
{
	for (unsigned i = 0; i < batch->pack_count && batch->err.rc == RC_OK; i++) {
		struct open_pack *p = batch->packs[i];
		uint64_t start = clock_mono_ns();
		if (!batch->is_shared && pack_writer_flush(p->writer, &batch->err) != RC_OK)
			atomic_store(&p->poisoned, true);
		packs_note_bytes(p);
		meter_add(&w->in->total.stage_ns[METER_WRITE], clock_mono_ns() - start);
	}
}

static void
run_batch(struct worker *w, struct block **blocks, size_t count, struct batch *batch)
{
	struct ingest *in = w->in;
	struct err *err = &batch->err;
	size_t all_bytes = 0;

	for (size_t i = 0; i < count; i++)
		all_bytes += blocks[i]->bytes;
	batch->is_shared = all_bytes <= SHARED_BATCH_BYTES && batch_is_urgent(batch);
	uint64_t t0 = clock_mono_ns();
	hash_batch(blocks, count);
	uint64_t t1 = clock_mono_ns();
	uint64_t lookup_ns = 0;
	group_by_space(blocks, count);
	for (size_t from = 0, to; from < count && err->rc == RC_OK; from = to) {
		for (to = from + 1; to < count && blocks[to]->space == blocks[from]->space; to++)
			;
		uint64_t t2 = clock_mono_ns();
		if (lookup_blocks(w, blocks + from, to - from, batch->ticket, err) == RC_OK) {
			lookup_ns += clock_mono_ns() - t2;
			store_new(w, batch, blocks + from, to - from, err);
		}
	}
	flush_packs(w, batch);
	meter_add(&in->total.stage_ns[METER_HASH], t1 - t0);
	meter_add(&in->total.stage_ns[METER_LOOKUP], lookup_ns);
	for (size_t i = 0; i < count; i++) {
		account(w, batch, blocks[i], t1 - t0, lookup_ns, all_bytes);
		if (blocks[i]->slab != NULL)
			slab_give(in->slabs, blocks[i]->slab);
		blocks[i]->slab = NULL;
	}
}

/* How many blocks to take: a share of what waits, so that one worker does not leave the others
 * without work. */
static size_t
take_count(const struct ingest *in)
{
	size_t n = ring_len(in->queue) / (size_t)ingest_knob(in, INGEST_KNOB_WORKERS) + 1;

	return n > BATCH_BLOCKS_MAX ? BATCH_BLOCKS_MAX : n;
}

static void
work(struct worker *w, struct block **blocks, size_t count)
{
	struct batch *batch;

	while ((batch = calloc(1, sizeof *batch)) == NULL) {
		struct timespec nap = {.tv_nsec = 10000000};
		nanosleep(&nap, NULL);
	}
	for (size_t i = 0; i < count; i++)
		blocks[i]->next = i + 1 < count ? blocks[i + 1] : NULL;
	batch->ticket = atomic_fetch_add(&w->in->next_ticket, 1);
	batch->blocks = blocks[0];
	run_batch(w, blocks, count, batch);
	committer_push(w->in, batch);
}

/* Nothing to do: let go of packs that were not used for a while, or of all if somebody asked. */
static void
close_packs(struct worker *w)
{
	unsigned seals = atomic_load(&w->in->seals);
	uint64_t idle_ns = seals != w->seals ? 0 : PACK_IDLE_NS;

	packs_close_idle(w->in, &w->packs, idle_ns);
	packs_close_idle(w->in, &w->in->shared, idle_ns);
	w->seals = seals;
}

/* Fewer workers are wanted than there are. Sleeps a moment; false: this one has work to do. */
static bool
stand_by(struct worker *w)
{
	struct timespec nap = {.tv_nsec = 20000000};

	if (w->number < (unsigned)ingest_knob(w->in, INGEST_KNOB_WORKERS) ||
		atomic_load(&w->in->stopping))
		return false;
	close_packs(w);
	nanosleep(&nap, NULL);
	return true;
}

void *
worker_main(void *arg)
{
	struct worker *w = arg;
	struct block *blocks[BATCH_BLOCKS_MAX];

	for (;;) {
		if (stand_by(w))
			continue;
		size_t bytes_max = (size_t)ingest_knob(w->in, INGEST_KNOB_BATCH);
		size_t n = ring_pop_many(w->in->queue, (void **)blocks, take_count(w->in), 5000);
		if (n == 0) {
			if (atomic_load(&w->in->stopping) && ring_len(w->in->queue) == 0)
				break;
			close_packs(w);
			continue;
		}
		/* a batch of many large blocks would hold its slabs too long: cut it by bytes */
		for (size_t from = 0, to; from < n; from = to) {
			size_t bytes = 0;
			for (to = from; to < n && (to == from || bytes < bytes_max); to++)
				bytes += blocks[to]->bytes;
			work(w, blocks + from, to - from);
		}
	}
	packs_close_idle(w->in, &w->packs, 0);
	return NULL;
}
