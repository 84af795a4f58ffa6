/* SPDX-License-Identifier: Apache-2.0 */
/* The committer turns what workers stored into what clients may rely on.
 *
 * A group is everything that has been handed over when the committer comes round: with a lone
 * client it is one upload and waits for nobody, under load it grows by itself while the group
 * before it is being written.
 *
 * Tickets. A batch has a ticket; a chunk that a batch found claimed by another carries that one's
 * ticket. Every ticket that was drawn is handed over sooner or later, so the committer keeps `low`,
 * below which all have been: a file may become durable in a group when every ticket it leans on is
 * below it and none of them failed. The check is by range (least to largest ticket leaned on since
 * the last checkpoint), so a failure may fail a file that did not need the lost chunk: it is sent
 * again, which is right, only slower. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "cond.h"
#include "db.h"
#include "db_pack.h"
#include "db_recipe.h"
#include "ingest_internal.h"
#include "log.h"
#include "recipe.h"

#define CHECKPOINT_NS ((uint64_t)1000 * 1000000)
/* Nobody came for so long: nobody will. */
#define LINGER_GAP_NS    ((uint64_t)200 * 1000)
#define SKIP_MAX         256
#define CHECKPOINT_BYTES ((uint64_t)64 << 20)
#define FAILED_MAX       256
#define DROPPED_MAX      256

struct committer {
	struct ingest *in;
	/* tickets: a worker has at most one that it has not handed over, so few are ever missing */
	uint64_t high;                 /* above all that were handed over */
	uint64_t missing[WORKERS_MAX]; /* below high, not handed over yet */
	unsigned missing_count;
	uint64_t failed[FAILED_MAX]; /* ring */
	unsigned failed_count, failed_next;
	uint64_t failed_below; /* what has left the ring lies below this */
	/* ended files whose tickets are not all here yet */
	struct ingest_file *held;
	/* recipe ids to give out */
	uint64_t recipe_next, recipe_end;
	/* recipes of which parts were written and that nothing will ever name: for the next group
	 */
	uint64_t dropped[DROPPED_MAX];
	unsigned dropped_count;
};

/* One group on its way through the transaction. */
struct group {
	struct committer *c;
	struct batch *batches;
	struct ingest_rider *riders;   /* without a file */
	const struct chunk_row **rows; /* sorted */
	struct chunk_row *row_data;
	size_t row_count;
	struct ingest_file *ended;    /* merged to the end in this group, or held before */
	struct ingest_file **touched; /* files that got chunks and go on */
	size_t touched_count, touched_cap;
	struct ingest_file **checkpoints; /* of them: to be noted now */
	size_t checkpoint_count;
	struct ingest_rider **to_persist; /* files and riders, by ops */
	size_t persist_count;
	struct recipe_part_row *parts;
	size_t part_count, part_cap;
	struct file_row *files;
	struct ingest_file **file_of;
	size_t file_count;
	uint64_t awaited_ns; /* since when it waits, if somebody waits for it; else 0 */
	struct err err;
};

/* ---- handing over (workers, any thread) ---- */

bool
batch_is_urgent(const struct batch *batch)
{
	for (const struct block *b = batch->blocks; b != NULL; b = b->next)
		for (uint32_t p = 0; p < b->piece_count; p++)
			if (b->pieces[p].end != PIECE_MORE)
				return true;
	return batch->err.rc != RC_OK;
}

static unsigned
count_ends(const struct batch *batch)
{
	unsigned n = 0;

	for (const struct block *b = batch->blocks; b != NULL; b = b->next)
		for (uint32_t p = 0; p < b->piece_count; p++)
			n += b->pieces[p].end != PIECE_MORE;
	return n;
}

void
committer_push(struct ingest *in, struct batch *batch)
{
	bool urgent = batch_is_urgent(batch);
	unsigned ends = count_ends(batch);
	uint64_t bytes = 0;

	for (const struct block *b = batch->blocks; b != NULL; b = b->next)
		bytes += b->bytes;
	pthread_mutex_lock(&in->commit_mtx);
	while (in->batch_count >= COMMIT_QUEUE_MAX)
		pthread_cond_wait(&in->commit_room, &in->commit_mtx);
	if (in->batch_count++ == 0)
		in->commit_first_ns = clock_mono_ns();
	*in->batches_end = batch;
	in->batches_end = &batch->next;
	in->commit_bytes += bytes;
	in->commit_urgent = in->commit_urgent || urgent;
	regulars_come(&in->regulars, ends);
	pthread_cond_signal(&in->commit_work);
	pthread_mutex_unlock(&in->commit_mtx);
}

void
ingest_submit(struct ingest *in, struct ingest_rider *rider)
{
	rider->next = NULL;
	pthread_mutex_lock(&in->commit_mtx);
	*in->riders_end = rider;
	in->riders_end = &rider->next;
	pthread_cond_signal(&in->commit_work);
	pthread_mutex_unlock(&in->commit_mtx);
}

static void
wait_until(struct ingest *in, uint64_t until_ns)
{

	cond_wait_until(&in->commit_work, &in->commit_mtx, until_ns);
}

/* Give those the last group answered a moment to come back. commit_mtx is held. */
static void
linger(struct ingest *in)
{
	struct regulars *r = &in->regulars;
	unsigned expected = regulars_expected(r);
	unsigned before = r->waiting, last = before;

	if (expected == 0)
		return;
	uint64_t now = clock_mono_ns();
	uint64_t until = now + (uint64_t)ingest_knob(in, INGEST_KNOB_LINGER) * 1000;
	uint64_t gap_ends = now + LINGER_GAP_NS;
	while (r->waiting < before + expected && in->riders == NULL && !in->commit_stop &&
		in->batch_count < COMMIT_QUEUE_MAX && now < until && now < gap_ends) {
		wait_until(in, until < gap_ends ? until : gap_ends);
		now = clock_mono_ns();
		if (r->waiting > last)
			gap_ends = now + LINGER_GAP_NS;
		last = r->waiting;
	}
	regulars_learn(r, expected, r->waiting - before);
}

/* Wait for a group; false when there will be none any more. */
static bool
take_group(struct ingest *in, struct group *g)
{
	uint64_t bytes_max = (uint64_t)ingest_knob(in, INGEST_KNOB_GROUP);
	uint64_t wait_ns = (uint64_t)ingest_knob(in, INGEST_KNOB_FLUSH) * 1000;

	pthread_mutex_lock(&in->commit_mtx);
	for (;;) {
		bool some = in->batches != NULL;
		if (in->riders != NULL || in->commit_urgent || in->commit_bytes >= bytes_max ||
			in->batch_count >= COMMIT_QUEUE_MAX || (some && in->commit_stop))
			break;
		if (in->commit_stop) {
			pthread_mutex_unlock(&in->commit_mtx);
			return false;
		}
		if (!some) {
			pthread_cond_wait(&in->commit_work, &in->commit_mtx);
			continue;
		}
		uint64_t until = in->commit_first_ns + wait_ns;
		if (clock_mono_ns() >= until)
			break;
		wait_until(in, until);
	}
	if (in->riders == NULL && in->commit_urgent)
		linger(in);
	g->awaited_ns = in->commit_urgent && in->batches != NULL ? in->commit_first_ns : 0;
	g->batches = in->batches;
	g->riders = in->riders;
	in->batches = NULL;
	in->batches_end = &in->batches;
	in->riders = NULL;
	in->riders_end = &in->riders;
	in->batch_count = 0;
	in->commit_bytes = 0;
	in->commit_urgent = false;
	regulars_leave(&in->regulars);
	pthread_cond_broadcast(&in->commit_room);
	pthread_mutex_unlock(&in->commit_mtx);
	return true;
}

/* ---- tickets ---- */

static void
ticket_seen(struct committer *c, uint64_t ticket)
{
	for (; c->high <= ticket; c->high++) {
		if (c->high == ticket)
			continue;
		if (c->missing_count == WORKERS_MAX) {
			bug("more tickets are out than there are workers");
			abort(); /* going on could acknowledge what is not durable */
		}
		c->missing[c->missing_count++] = c->high;
	}
	for (unsigned i = 0; i < c->missing_count; i++)
		if (c->missing[i] == ticket)
			c->missing[i--] = c->missing[--c->missing_count];
}

/* Below it every ticket has been handed over. */
static uint64_t
tickets_low(const struct committer *c)
{
	uint64_t low = c->high;

	for (unsigned i = 0; i < c->missing_count; i++)
		if (c->missing[i] < low)
			low = c->missing[i];
	return low;
}

/* Only a batch that claimed something can be leaned on. */
static void
ticket_failed(struct committer *c, const struct batch *batch)
{
	bool claimed = false;

	for (const struct block *b = batch->blocks; b != NULL && !claimed; b = b->next)
		for (uint32_t i = 0; i < b->chunk_count && !claimed; i++)
			claimed = b->chunks[i].fate == FATE_NEW;
	if (!claimed)
		return;
	if (c->failed_count == FAILED_MAX && c->failed[c->failed_next] >= c->failed_below)
		c->failed_below = c->failed[c->failed_next] + 1;
	c->failed[c->failed_next] = batch->ticket;
	c->failed_next = (c->failed_next + 1) % FAILED_MAX;
	if (c->failed_count < FAILED_MAX)
		c->failed_count++;
}

static bool
leans_on_failed(const struct committer *c, const struct ingest_file *f)
{
	if (f->x.dep_min > f->x.dep_max)
		return false;
	if (f->x.dep_min < c->failed_below)
		return true;
	for (unsigned i = 0; i < c->failed_count; i++)
		if (c->failed[i] >= f->x.dep_min && c->failed[i] <= f->x.dep_max)
			return true;
	return false;
}

/* All it leans on has been handed over. */
static bool
is_settled(const struct committer *c, const struct ingest_file *f)
{
	return f->x.dep_min > f->x.dep_max || f->x.dep_max < tickets_low(c);
}

/* ---- syncing ---- */

static void
sync_packs(struct ingest *in, struct batch *batches)
{
	struct open_pack *done[BATCH_PACKS_MAX];
	unsigned done_count = 0;

	for (struct batch *b = batches; b != NULL; b = b->next) {
		for (unsigned i = 0; i < b->pack_count && b->err.rc == RC_OK; i++) {
			struct open_pack *p = b->packs[i];
			bool seen = false;
			for (unsigned k = 0; k < done_count; k++)
				seen = seen || done[k] == p;
			if (!seen) {
				struct err err = ERR_INIT;
				/* what is in a shared pack nobody has handed over yet */
				enum rc rc = b->is_shared ? pack_writer_sync_all(p->writer, &err)
							  : pack_writer_sync(p->writer, &err);
				if (rc != RC_OK)
					atomic_store(&p->poisoned, true);
				if (b->is_shared) /* padded now */
					packs_note_bytes(p);
				if (done_count < BATCH_PACKS_MAX)
					done[done_count++] = p;
			}
			if (atomic_load(&p->poisoned)) {
				struct err err = ERR_INIT;
				/* the writer says again why it is poisoned */
				if (pack_writer_sync(p->writer, &err) == RC_OK)
					err_set(&err, RC_IO, "io-error",
						"could not store the data");
				b->err = err;
			}
		}
	}
	(void)in;
}

/* ---- merging: pieces into files, in order ---- */

static bool
remember(struct group *g, struct ingest_file *f)
{
	if (f->x.touched)
		return true;
	if (g->touched_count == g->touched_cap) {
		size_t cap = g->touched_cap == 0 ? 32 : g->touched_cap * 2;
		struct ingest_file **more = realloc(g->touched, cap * sizeof *more);
		if (more == NULL)
			return false;
		g->touched = more;
		g->touched_cap = cap;
	}
	g->touched[g->touched_count++] = f;
	f->x.touched = true;
	return true;
}

static void
fail_nomem(struct ingest_file *f)
{
	struct err err = ERR_INIT;

	err_set(&err, RC_NOMEM, "no-memory", "out of memory while storing the upload");
	file_fail(f, &err);
}

static void
merge_chunks(struct ingest_file *f, const struct block_chunk *chunks, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct recipe_slice slice = {.chunk = chunks[i].hash, .length = chunks[i].length};
		if (f->chunk_count == 0)
			f->first = slice.chunk;
		if (f->chunk_count == 1 && f->x.entries_chunks == 0 && f->recipe_chunks == 0) {
			/* only now it is known that there will be a recipe */
			recipe_part_begin(&f->x.entries, CHUNKER_ID);
			recipe_part_add(&f->x.entries, &f->first, f->x.merged_bytes);
			f->x.entries_chunks = 1;
			struct recipe_slice first = {
				.chunk = f->first, .length = f->x.merged_bytes};
			recipe_id_add(&f->id, &first);
		}
		if (f->chunk_count > 0) {
			if (f->x.entries_chunks == 0)
				recipe_part_begin(&f->x.entries, CHUNKER_ID);
			recipe_part_add(&f->x.entries, &slice.chunk, slice.length);
			f->x.entries_chunks++;
			recipe_id_add(&f->id, &slice);
		}
		f->chunk_count++;
		f->x.merged_bytes += slice.length;
	}
	if (!buf_ok(&f->x.entries))
		fail_nomem(f);
}

static void
merge_piece(struct group *g, struct block_piece *p, const struct block_chunk *chunks)
{
	struct ingest_file *f = p->file;
	struct ingest_receipt *r = &f->receipt;

	merge_chunks(f, chunks, p->count);
	f->x.pieces_in++;
	r->logical_bytes += p->cost.logical_bytes;
	r->new_bytes += p->cost.new_bytes;
	r->dedup_bytes += p->cost.dedup_bytes;
	r->stored_bytes += p->cost.stored_bytes;
	r->chunks += p->cost.chunks;
	r->new_chunks += p->cost.new_chunks;
	for (int s = 0; s < METER_STAGES; s++)
		r->stage_ns[s] += p->cost.stage_ns[s];
	if (p->dep_min < f->x.dep_min)
		f->x.dep_min = p->dep_min;
	if (p->dep_max > f->x.dep_max)
		f->x.dep_max = p->dep_max;
	if (p->end == PIECE_MORE) {
		if (!remember(g, f))
			fail_nomem(f);
		return;
	}
	f->x.ended = true;
	f->x.next = g->ended;
	g->ended = f;
}

/* Keep a piece that came before its turn; its block will be gone when the turn comes. */
static void
keep_early(struct block_piece *p, const struct block_chunk *chunks)
{
	struct block_piece *copy;

	/* without the piece its file would never end */
	while ((copy = malloc(sizeof *copy + p->count * sizeof *chunks)) == NULL) {
		struct timespec nap = {.tv_nsec = 10000000};
		nanosleep(&nap, NULL);
	}
	*copy = *p;
	copy->chunks = (struct block_chunk *)(copy + 1);
	if (p->count > 0)
		memcpy(copy->chunks, chunks, p->count * sizeof *chunks);
	copy->next = p->file->x.early;
	p->file->x.early = copy;
}

static void
merge_early(struct group *g, struct ingest_file *f)
{
	bool again = true;

	while (again) {
		again = false;
		for (struct block_piece **at = &f->x.early; *at != NULL; at = &(*at)->next) {
			struct block_piece *p = *at;
			if (p->seq != f->x.pieces_in)
				continue;
			*at = p->next;
			merge_piece(g, p, p->chunks);
			free(p);
			again = true;
			break;
		}
	}
}

static void
merge_group(struct group *g)
{
	for (struct batch *batch = g->batches; batch != NULL; batch = batch->next) {
		for (struct block *b = batch->blocks; b != NULL; b = b->next) {
			for (uint32_t i = 0; i < b->piece_count; i++) {
				struct block_piece *p = &b->pieces[i];
				struct ingest_file *f = p->file;
				/* a block of empty files has no chunks at all */
				const struct block_chunk *chunks =
					p->count > 0 ? b->chunks + p->first : NULL;
				if (batch->err.rc != RC_OK)
					file_fail(f, &batch->err);
				if (p->seq != f->x.pieces_in) {
					keep_early(p, chunks);
					continue;
				}
				merge_piece(g, p, chunks);
				merge_early(g, f);
			}
		}
	}
}

/* ---- what the transaction will write ---- */

static void
collect_rows(struct group *g)
{
	size_t n = 0;

	for (struct batch *batch = g->batches; batch != NULL; batch = batch->next)
		for (struct block *b = batch->blocks; b != NULL && batch->err.rc == RC_OK;
			b = b->next)
			for (uint32_t i = 0; i < b->chunk_count; i++)
				n += b->chunks[i].fate == FATE_NEW;
	if (n == 0)
		return;
	g->row_data = malloc(n * sizeof *g->row_data);
	g->rows = malloc(n * sizeof *g->rows);
	if (g->row_data == NULL || g->rows == NULL) {
		err_set(&g->err, RC_NOMEM, "no-memory", "out of memory");
		return;
	}
	for (struct batch *batch = g->batches; batch != NULL; batch = batch->next) {
		for (struct block *b = batch->blocks; b != NULL && batch->err.rc == RC_OK;
			b = b->next) {
			for (uint32_t i = 0; i < b->chunk_count; i++) {
				const struct block_chunk *c = &b->chunks[i];
				if (c->fate != FATE_NEW)
					continue;
				g->row_data[g->row_count] = (struct chunk_row){
					.repo_id = b->space->repo_id,
					.hash = c->hash,
					.pack_id = c->pack_id,
					.frame_offset = c->frame_offset,
					.frame_bytes = c->frame_bytes,
					.raw_offset = c->raw_offset,
					.length = c->length,
				};
				g->rows[g->row_count] = &g->row_data[g->row_count];
				g->row_count++;
			}
		}
	}
	qsort(g->rows, g->row_count, sizeof *g->rows, chunk_row_cmp);
	size_t kept = 0;
	for (size_t i = 0; i < g->row_count; i++)
		if (kept == 0 || chunk_row_cmp(&g->rows[kept - 1], &g->rows[i]) != 0)
			g->rows[kept++] = g->rows[i];
	g->row_count = kept;
}

static bool
add_part(struct group *g, struct ingest_file *f)
{
	if (g->part_count == g->part_cap) {
		size_t cap = g->part_cap == 0 ? 16 : g->part_cap * 2;
		struct recipe_part_row *more = realloc(g->parts, cap * sizeof *more);
		if (more == NULL)
			return false;
		g->parts = more;
		g->part_cap = cap;
	}
	g->parts[g->part_count++] = (struct recipe_part_row){
		.recipe_id = f->recipe_id,
		.start = f->x.entries_start,
		.entries = f->x.entries.data,
		.entries_bytes = f->x.entries.len,
	};
	return true;
}

static enum rc
give_recipe_id(struct committer *c, struct ingest_file *f, struct err *err)
{
	if (f->recipe_id != 0)
		return RC_OK;
	if (c->recipe_next == c->recipe_end) {
		uint64_t first = 0;
		enum rc rc = db_recipe_ids(c->in->options.db, &first, err);
		if (rc != RC_OK)
			return rc;
		c->recipe_next = first;
		c->recipe_end = first + DB_RECIPE_IDS;
	}
	f->recipe_id = c->recipe_next++;
	return RC_OK;
}

/* Plan to write what the recipe of f has gathered. */
static enum rc
plan_part(struct group *g, struct ingest_file *f, struct err *err)
{
	if (f->x.entries_chunks == 0 && f->chunk_count == 1 && f->recipe_chunks == 0 && !f->x.ended)
		return RC_OK; /* may still be a one-chunk file */
	if (f->x.entries_chunks == 0)
		return RC_OK;
	enum rc rc = give_recipe_id(g->c, f, err);
	if (rc != RC_OK)
		return rc;
	if (!add_part(g, f))
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	f->recipe_bytes = f->x.merged_bytes;
	f->recipe_chunks = f->chunk_count;
	return RC_OK;
}

/* Suspended after its first chunk: there is no recipe yet, and the chunk must not be lost. */
static void
begin_recipe_of_one(struct ingest_file *f)
{
	if (f->chunk_count != 1 || f->x.entries_chunks > 0 || f->recipe_chunks > 0)
		return;
	struct recipe_slice first = {.chunk = f->first, .length = f->x.merged_bytes};
	recipe_part_begin(&f->x.entries, CHUNKER_ID);
	recipe_part_add(&f->x.entries, &f->first, f->x.merged_bytes);
	f->x.entries_chunks = 1;
	recipe_id_add(&f->id, &first);
}

static enum rc
plan_checkpoints(struct group *g)
{
	uint64_t now = clock_mono_ns();

	g->checkpoints = malloc((g->touched_count + 1) * sizeof *g->checkpoints);
	if (g->checkpoints == NULL)
		return err_set(&g->err, RC_NOMEM, "no-memory", "out of memory");
	for (size_t i = 0; i < g->touched_count; i++) {
		struct ingest_file *f = g->touched[i];
		if (f->x.ended || atomic_load(&f->x.failed) != 0 || f->chunk_count < 2)
			continue;
		bool due = f->checkpoint != NULL &&
			   (now - f->x.checkpoint_ns >= CHECKPOINT_NS ||
				   f->x.merged_bytes - f->recipe_bytes >= CHECKPOINT_BYTES);
		if (!due && f->x.entries_chunks < RECIPE_PART_CHUNKS)
			continue;
		if (!is_settled(g->c, f) || f->x.merged_bytes < f->floor_bytes)
			continue;
		if (leans_on_failed(g->c, f)) {
			struct err lost = ERR_INIT;
			err_set(&lost, RC_UNAVAILABLE, "overloaded",
				"another upload of the same data failed; send it again");
			file_fail(f, &lost);
			continue;
		}
		enum rc rc = plan_part(g, f, &g->err);
		if (rc != RC_OK)
			return rc;
		g->checkpoints[g->checkpoint_count++] = f;
	}
	return RC_OK;
}

static enum rc
plan_whole_file(struct group *g, struct ingest_file *f)
{
	f->content.size = f->x.merged_bytes;
	if (f->chunk_count <= 1) {
		f->content.kind = CONTENT_CHUNK;
		f->content.id = f->chunk_count == 1 ? f->first : sha256_empty;
		return RC_OK;
	}
	f->content.kind = CONTENT_RECIPE;
	sha256_stream_final(&f->id, &f->content.id);
	struct file_row *row = &g->files[g->file_count];
	*row = (struct file_row){
		.repo_id = 0, /* set by the caller, which knows the block's space */
		.id = f->content.id,
		.size = f->content.size,
		.chunks = f->chunk_count,
		.has_sha = f->want_sha,
	};
	if (f->want_sha)
		sha256_stream_final(&f->sha, &row->sha);
	row->repo_id = f->x.space->repo_id;
	g->file_of[g->file_count++] = f;
	return RC_OK;
}

/* Files that ended: hold those that lean on what is not here yet, fail those that lean on what
 * failed, plan the others. */
static enum rc
plan_ended(struct group *g)
{
	struct ingest_file *list = g->ended;
	size_t n = 0;

	for (struct ingest_file *f = list; f != NULL; f = f->x.next)
		n++;
	g->files = calloc(n + 1, sizeof *g->files);
	g->file_of = calloc(n + 1, sizeof *g->file_of);
	if (g->files == NULL || g->file_of == NULL)
		return err_set(&g->err, RC_NOMEM, "no-memory", "out of memory");
	g->ended = NULL;
	/* the list is newest first: turn it round */
	struct ingest_file *in_order = NULL;
	while (list != NULL) {
		struct ingest_file *f = list;
		list = f->x.next;
		f->x.next = in_order;
		in_order = f;
	}
	struct ingest_file **tail = &g->ended;
	while (in_order != NULL) {
		struct ingest_file *f = in_order;
		in_order = f->x.next;
		f->x.next = NULL;
		if (atomic_load(&f->x.failed) == 0 && !is_settled(g->c, f)) {
			f->x.next = g->c->held;
			g->c->held = f;
			continue;
		}
		if (leans_on_failed(g->c, f)) {
			struct err lost = ERR_INIT;
			err_set(&lost, RC_UNAVAILABLE, "overloaded",
				"another upload of the same data failed; send it again");
			file_fail(f, &lost);
		}
		*tail = f;
		tail = &f->x.next;
		if (atomic_load(&f->x.failed) != 0)
			continue;
		enum rc rc;
		if (f->partial) {
			begin_recipe_of_one(f);
			rc = plan_part(g, f, &g->err);
		} else {
			rc = plan_whole_file(g, f);
		}
		if (rc != RC_OK) {
			/* keep the rest reachable: they fail with the group */
			*tail = in_order;
			return rc;
		}
	}
	return RC_OK;
}

static bool
sorts_after(const struct ingest_rider *a, const struct ingest_rider *b)
{
	return (uintptr_t)a->ops->persist > (uintptr_t)b->ops->persist;
}

/* Runs of riders that persist the same way, each in the order of submission: an insertion sort,
 * because it is stable and what comes is nearly sorted. */
static enum rc
plan_riders(struct group *g)
{
	size_t n = 0;

	for (struct ingest_file *f = g->ended; f != NULL; f = f->x.next)
		n += atomic_load(&f->x.failed) == 0;
	for (struct ingest_rider *r = g->riders; r != NULL; r = r->next)
		n++;
	g->to_persist = malloc((n + 1) * sizeof *g->to_persist);
	if (g->to_persist == NULL)
		return err_set(&g->err, RC_NOMEM, "no-memory", "out of memory");
	for (struct ingest_file *f = g->ended; f != NULL; f = f->x.next)
		if (atomic_load(&f->x.failed) == 0)
			g->to_persist[g->persist_count++] = &f->rider;
	for (struct ingest_rider *r = g->riders; r != NULL; r = r->next)
		g->to_persist[g->persist_count++] = r;
	for (size_t i = 1; i < g->persist_count; i++) {
		struct ingest_rider *r = g->to_persist[i];
		size_t k = i;
		for (; k > 0 && sorts_after(g->to_persist[k - 1], r); k--)
			g->to_persist[k] = g->to_persist[k - 1];
		g->to_persist[k] = r;
	}
	return RC_OK;
}

/* ---- the transaction ---- */

static enum rc
write_files(struct db_tx *tx, struct group *g, struct err *err)
{
	size_t n = g->file_count;
	if (n == 0)
		return RC_OK;
	bool *inserted = calloc(n, sizeof *inserted);
	uint64_t *drop = calloc(n, sizeof *drop);
	struct recipe_part_row *parts = calloc(n, sizeof *parts);
	size_t drop_count = 0, part_count = 0;
	enum rc rc;

	if (inserted == NULL || drop == NULL || parts == NULL) {
		rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
		goto out;
	}
	rc = db_file_put(tx, g->files, n, inserted, err);
	for (size_t i = 0; rc == RC_OK && i < n; i++) {
		struct ingest_file *f = g->file_of[i];
		if (!inserted[i]) { /* the content was there already: the recipe is not needed twice
				     */
			if (f->recipe_chunks > 0)
				drop[drop_count++] = f->recipe_id;
		} else if (f->x.entries_chunks > 0) {
			parts[part_count++] = (struct recipe_part_row){
				.recipe_id = f->recipe_id,
				.start = f->x.entries_start,
				.entries = f->x.entries.data,
				.entries_bytes = f->x.entries.len,
			};
		}
	}
	if (rc == RC_OK && part_count > 0)
		rc = db_recipe_part_put(tx, parts, part_count, err);
	if (rc == RC_OK && drop_count > 0)
		rc = db_recipe_delete(tx, drop, drop_count, err);
out:
	free(inserted);
	free(drop);
	free(parts);
	return rc;
}

static enum rc
persist_riders(struct db_tx *tx, struct group *g, struct err *err)
{
	enum rc rc = RC_OK;

	for (size_t from = 0, to; rc == RC_OK && from < g->persist_count; from = to) {
		const struct ingest_rider_ops *ops = g->to_persist[from]->ops;
		for (to = from + 1;
			to < g->persist_count && g->to_persist[to]->ops->persist == ops->persist;
			to++)
			;
		if (ops->persist != NULL)
			rc = ops->persist(tx, g->to_persist + from, to - from, err);
	}
	return rc;
}

static enum rc
write_group(struct db_tx *tx, void *arg, struct err *err)
{
	struct group *g = arg;
	enum rc rc = RC_OK;

	if (g->row_count > 0)
		rc = db_chunk_upsert(tx, g->rows, g->row_count, err);
	if (rc == RC_OK && g->part_count > 0)
		rc = db_recipe_part_put(tx, g->parts, g->part_count, err);
	if (rc == RC_OK && g->c->dropped_count > 0)
		rc = db_recipe_delete(tx, g->c->dropped, g->c->dropped_count, err);
	if (rc == RC_OK)
		rc = write_files(tx, g, err);
	for (size_t i = 0; rc == RC_OK && i < g->checkpoint_count; i++)
		if (g->checkpoints[i]->checkpoint != NULL)
			rc = g->checkpoints[i]->checkpoint(tx, g->checkpoints[i], err);
	if (rc == RC_OK)
		rc = persist_riders(tx, g, err);
	return rc;
}

/* The keys are in the filter before their rows can be in the table, whatever becomes of COMMIT. */
static void
commit_group(struct group *g)
{
	struct ingest *in = g->c->in;

	filter_enter(in->filter, FILTER_COMMITTER);
	for (size_t i = 0; i < g->row_count; i++)
		filter_add(in->filter, g->rows[i]->repo_id, &g->rows[i]->hash);
	db_run(in->options.db, write_group, g, &g->err);
	filter_leave(in->filter, FILTER_COMMITTER);
}

static bool
has_work(const struct group *g)
{
	return g->row_count > 0 || g->part_count > 0 || g->file_count > 0 ||
	       g->checkpoint_count > 0 || g->persist_count > 0 || g->c->dropped_count > 0;
}

/* ---- settling ---- */

static void
settle_chunks(struct group *g, bool committed)
{
	struct ingest *in = g->c->in;

	for (struct batch *batch = g->batches; batch != NULL; batch = batch->next) {
		bool durable = committed && batch->err.rc == RC_OK;
		for (struct block *b = batch->blocks; b != NULL; b = b->next) {
			for (uint32_t i = 0; i < b->chunk_count; i++) {
				const struct block_chunk *c = &b->chunks[i];
				if (c->fate != FATE_NEW)
					continue;
				known_settle(in->known, b->space->repo_id, &c->hash, batch->ticket,
					durable);
			}
			for (uint32_t i = 0; durable && i < b->piece_count; i++) {
				const struct block_piece *p = &b->pieces[i];
				meter_add(&p->file->meter->durable_bytes, p->cost.logical_bytes);
				meter_add(&in->total.durable_bytes, p->cost.logical_bytes);
			}
		}
		if (!committed && batch->err.rc == RC_OK)
			ticket_failed(g->c, batch);
	}
}

/* After a failed transaction every file that had anything in it has lost something. */
static void
fail_files(struct group *g)
{
	for (struct batch *batch = g->batches; batch != NULL; batch = batch->next)
		for (struct block *b = batch->blocks; b != NULL; b = b->next)
			for (uint32_t i = 0; i < b->piece_count; i++)
				file_fail(b->pieces[i].file, &g->err);
	for (struct ingest_file *f = g->ended; f != NULL; f = f->x.next)
		file_fail(f, &g->err);
	for (size_t i = 0; i < g->checkpoint_count; i++)
		file_fail(g->checkpoints[i], &g->err);
}

/* No upload's row names the recipe. What does not fit in the list stays behind, in no one's way. */
static void
drop_parts(struct committer *c, uint64_t recipe_id)
{
	if (c->dropped_count < DROPPED_MAX)
		c->dropped[c->dropped_count++] = recipe_id;
}

static void
file_done(struct group *g, struct ingest_file *f)
{
	struct err err = ERR_INIT;
	int failed = atomic_load(&f->x.failed);

	if (failed != 0)
		err = f->x.err;
	/* A COMMIT whose answer was lost may have made the file's row, or may yet: then its parts
	 * are all there is of the file. Else they stay behind, in no one's way. */
	bool is_in_doubt = err_is(&err, "commit-unknown");
	if (failed != 0 && !is_in_doubt && f->checkpoint == NULL && f->recipe_chunks > 0)
		drop_parts(g->c, f->recipe_id);
	if (failed == 0)
		meter_add(&f->meter->files_durable, f->partial ? 0 : 1);
	buf_done(&f->x.entries);
	while (f->x.early != NULL) {
		struct block_piece *p = f->x.early;
		f->x.early = p->next;
		free(p);
	}
	atomic_fetch_add_explicit(&g->c->in->group_files, 1, memory_order_relaxed);
	f->rider.ops->done(&f->rider, failed != 0 ? err.rc : RC_OK, &err);
}

static void
tell_owners(struct group *g)
{
	struct ingest *in = g->c->in;
	unsigned answered = 0;

	for (const struct ingest_file *f = g->ended; f != NULL; f = f->x.next)
		answered++;
	pthread_mutex_lock(&in->commit_mtx);
	regulars_answer(&in->regulars, answered);
	pthread_mutex_unlock(&in->commit_mtx);
	for (struct ingest_file *f = g->ended; f != NULL;) {
		struct ingest_file *next = f->x.next;
		file_done(g, f);
		f = next;
	}
	for (struct ingest_rider *r = g->riders; r != NULL;) {
		struct ingest_rider *next = r->next;
		r->ops->done(r, g->err.rc, &g->err);
		r = next;
	}
}

/* The parts that were just committed are out of memory. */
static void
forget_parts(struct group *g, bool committed)
{
	for (size_t i = 0; i < g->checkpoint_count; i++) {
		struct ingest_file *f = g->checkpoints[i];
		buf_clear(&f->x.entries);
		f->x.entries_chunks = 0;
		f->x.entries_start = f->recipe_bytes;
		f->x.checkpoint_ns = clock_mono_ns();
		if (committed) {
			f->x.dep_min = UINT64_MAX;
			f->x.dep_max = 0;
		}
	}
	for (size_t i = 0; i < g->touched_count; i++)
		g->touched[i]->x.touched = false;
}

static void
spread_cost(struct group *g, uint64_t sync_ns, uint64_t sql_ns)
{
	struct ingest *in = g->c->in;

	meter_add(&in->total.stage_ns[METER_SYNC], sync_ns);
	meter_add(&in->total.stage_ns[METER_SQL], sql_ns);
	for (struct ingest_file *f = g->ended; f != NULL; f = f->x.next) {
		f->receipt.stage_ns[METER_SYNC] += sync_ns;
		f->receipt.stage_ns[METER_SQL] += sql_ns;
	}
	/* a stage's own clock: once a group for each meter that took part, however many files */
	uint64_t group = atomic_load_explicit(&in->groups, memory_order_relaxed) + 1;
	for (struct batch *batch = g->batches; batch != NULL; batch = batch->next)
		for (struct block *b = batch->blocks; b != NULL; b = b->next)
			for (uint32_t i = 0; i < b->piece_count; i++) {
				struct meter *m = b->pieces[i].file->meter;
				if (m->group == group)
					continue;
				m->group = group;
				meter_add(&m->stage_ns[METER_SYNC], sync_ns);
				meter_add(&m->stage_ns[METER_SQL], sql_ns);
			}
}

static void
free_group(struct group *g)
{
	struct ingest *in = g->c->in;

	for (struct batch *batch = g->batches; batch != NULL;) {
		struct batch *next = batch->next;
		for (struct block *b = batch->blocks; b != NULL;) {
			struct block *next_block = b->next;
			block_free(b);
			b = next_block;
		}
		for (unsigned i = 0; i < batch->pack_count; i++)
			packs_unref(in, batch->packs[i]);
		free(batch);
		batch = next;
	}
	free(g->rows);
	free(g->row_data);
	free(g->touched);
	free(g->checkpoints);
	free(g->to_persist);
	free(g->parts);
	free(g->files);
	free(g->file_of);
}

static void
run_group(struct committer *c, struct group *g)
{
	struct ingest *in = c->in;

	for (struct batch *b = g->batches; b != NULL; b = b->next)
		ticket_seen(c, b->ticket);
	uint64_t t0 = clock_mono_ns();
	sync_packs(in, g->batches);
	uint64_t t1 = clock_mono_ns();
	for (struct batch *b = g->batches; b != NULL; b = b->next)
		if (b->err.rc != RC_OK)
			ticket_failed(c, b);
	g->ended = c->held;
	c->held = NULL;
	merge_group(g);
	collect_rows(g);
	if (g->err.rc == RC_OK)
		plan_ended(g);
	if (g->err.rc == RC_OK)
		plan_checkpoints(g);
	for (size_t i = 0; g->err.rc == RC_OK && i < g->file_count; i++) {
		if (give_recipe_id(c, g->file_of[i], &g->err) == RC_OK)
			g->files[i].recipe_id = g->file_of[i]->recipe_id;
	}
	if (g->err.rc == RC_OK)
		plan_riders(g);
	if (g->err.rc == RC_OK && has_work(g))
		commit_group(g);
	uint64_t t2 = clock_mono_ns();

	bool committed = g->err.rc == RC_OK;
	settle_chunks(g, committed);
	if (!committed)
		fail_files(g);
	spread_cost(g, t1 - t0, t2 - t1);
	forget_parts(g, committed);
	if (committed)
		c->dropped_count = 0;
	atomic_fetch_add_explicit(&in->groups, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&in->group_chunks, g->row_count, memory_order_relaxed);
	if (g->awaited_ns != 0)
		histogram_add(&in->commit_wait, (clock_mono_ns() - g->awaited_ns) / 1000);
	tell_owners(g);
	free_group(g);
}

void *
committer_main(void *arg)
{
	struct committer *c = calloc(1, sizeof *c);

	if (c == NULL)
		abort();
	c->in = arg;
	for (;;) {
		struct group g = {.c = c};
		if (!take_group(c->in, &g))
			break;
		run_group(c, &g);
	}
	free(c);
	return NULL;
}
