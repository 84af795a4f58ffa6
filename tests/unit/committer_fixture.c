/* SPDX-License-Identifier: Apache-2.0 */
#include "committer_fixture.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bloom.h"
#include "clock.h"
#include "cond.h"
#include "db.h"
#include "db_recipe.h"
#include "recipe.h"

#define REPO        7
#define PARTS_MAX   4096
#define FILES_MAX   2048
#define PERSIST_MAX 8192
#define FAILED_MAX  4096
#define ARENA_BYTES ((size_t)64 << 20)
#define LAST_BREAK  5 /* statements of which one may break */

/* The doubles run on the committer's thread, where cmocka's asserts are of no use. */
#define require(is)                                                                                \
	do {                                                                                       \
		if (!(is)) {                                                                       \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #is);           \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct pack_writer {
	bool is_bad;
	uint64_t appends, synced;
};

struct part {
	uint64_t recipe_id, start;
	const uint8_t *data; /* in the arena */
	size_t len;
};

struct tables {
	bool has_chunk[SIM_CHUNK_IDS];
	struct part parts[PARTS_MAX];
	size_t part_count;
	struct file_row files[FILES_MAX];
	size_t file_count;
	struct persisted {
		bool is_file;
		uint64_t serial, number;
	} persisted[PERSIST_MAX];
	size_t persisted_count;
};

static struct {
	struct ingest in;
	struct ingest_space space;
	pthread_t thread;
	bool runs;
	sem_t go, idle;
	uint64_t clock_ns, clock_step_ns;
	struct bloom *filter;
	bool in_filter;
	/* database */
	struct tables now, before;
	uint8_t *arena;
	size_t arena_used;
	enum sim_tx how;
	bool in_tx, is_broken;
	int statements_left; /* until one breaks */
	uint64_t next_recipe, next_serial;
	struct sim_file *saving[64]; /* checkpoints of the transaction */
	size_t saving_count;
	/* packs */
	struct open_pack *packs[256];
	size_t pack_count;
	/* the group that is made or runs */
	struct batch *batches[COMMIT_QUEUE_MAX];
	size_t batch_count;
	size_t to_unref, riders_to_tell;
	bool group_failed;
	uint64_t failed_tickets[FAILED_MAX];
	size_t failed_count;
} sim;

struct ingest *
sim_engine(void)
{
	return &sim.in;
}

/* ---- the clock ---- */

uint64_t
clock_mono_ns(void)
{
	sim.clock_ns += sim.clock_step_ns;
	return sim.clock_ns;
}

int64_t
clock_wall_us(void)
{
	return 0;
}

void
clock_rfc3339(int64_t wall_us, char *out)
{
	(void)wall_us;
	out[0] = '-';
	out[1] = '\0';
}

void
sim_clock_step(uint64_t ns)
{
	sim.clock_step_ns = ns;
}

void
sim_clock_add(uint64_t ns)
{
	sim.clock_ns += ns;
}

/* ---- chunks ---- */

uint64_t
sim_chunk_bytes(uint64_t id)
{
	return 1000 + id * 37;
}

static struct sha256
hash_of(uint64_t id)
{
	struct sha256 h;

	memset(h.b, 0x5a, sizeof h.b);
	put_u64(h.b, id * 0x9E3779B97F4A7C15u);
	put_u64(h.b + 24, id);
	return h;
}

static uint64_t
id_of(const struct sha256 *h)
{
	uint64_t id = get_u64(h->b + 24);
	struct sha256 same;

	require(id < SIM_CHUNK_IDS);
	same = hash_of(id);
	require(sha256_equal(h, &same));
	return id;
}

bool
sim_has_chunk(uint64_t id)
{
	return sim.now.has_chunk[id];
}

bool
sim_filter_has(uint64_t id)
{
	struct sha256 h = hash_of(id);

	return bloom_may_have(sim.filter, &h, REPO);
}

/* Only the committer uses the filter here, and only for the time of its transaction. */
void
filter_enter(struct filter *f, unsigned user)
{
	require((void *)f == &sim && user == FILTER_COMMITTER && !sim.in_filter && !sim.in_tx);
	sim.in_filter = true;
}

void
filter_leave(struct filter *f, unsigned user)
{
	require((void *)f == &sim && user == FILTER_COMMITTER && sim.in_filter && !sim.in_tx);
	sim.in_filter = false;
}

void
filter_add(struct filter *f, uint64_t repo_id, const struct sha256 *hash)
{
	require((void *)f == &sim && sim.in_filter && !sim.in_tx);
	bloom_add(sim.filter, hash, (uint32_t)repo_id);
}

/* ---- the database ---- */

static bool
statement_breaks(struct err *err)
{
	require(sim.in_tx && !sim.is_broken);
	if (sim.how != SIM_TX_BROKEN || --sim.statements_left > 0)
		return false;
	sim.is_broken = true;
	err_set(err, RC_UNAVAILABLE, "database-unavailable", "as told");
	return true;
}

static void
note_failed(uint64_t ticket)
{
	require(sim.failed_count < FAILED_MAX);
	sim.failed_tickets[sim.failed_count++] = ticket;
}

static bool
is_failed(uint64_t ticket)
{
	for (size_t i = 0; i < sim.failed_count; i++)
		if (sim.failed_tickets[i] == ticket)
			return true;
	return false;
}

static void
copy_tables(struct tables *to, const struct tables *from)
{
	memcpy(to->has_chunk, from->has_chunk, sizeof to->has_chunk);
	memcpy(to->parts, from->parts, from->part_count * sizeof *to->parts);
	to->part_count = from->part_count;
	/* nothing is ever taken out of these */
	to->file_count = from->file_count;
	to->persisted_count = from->persisted_count;
}

static enum rc
roll_back(enum rc rc)
{
	copy_tables(&sim.now, &sim.before);
	return rc;
}

static enum rc
run_once(db_tx_fn *fn, void *arg, struct err *err)
{
	copy_tables(&sim.before, &sim.now);
	sim.saving_count = 0;
	sim.is_broken = false;
	sim.statements_left = 1 + (int)(sim.clock_ns % LAST_BREAK);
	sim.in_tx = true;
	enum rc rc = fn((struct db_tx *)&sim, arg, err);
	sim.in_tx = false;
	if (rc != RC_OK) {
		require(sim.is_broken);
		return roll_back(rc);
	}
	switch (sim.how) {
	case SIM_TX_LOST:
	case SIM_TX_BROKEN: /* had fewer statements than that */
		roll_back(RC_OK);
		return err_set(err, RC_UNAVAILABLE, "database-unavailable", "as told");
	case SIM_TX_UNKNOWN:
		return err_set(err, RC_UNAVAILABLE, "commit-unknown", "as told");
	case SIM_TX_OK:
	case SIM_TX_AGAIN:
	case SIM_TX_REFUSED:
		break;
	}
	return RC_OK;
}

enum rc
db_run(struct db *db, db_tx_fn *fn, void *arg, struct err *err)
{
	enum rc rc = RC_OK;

	require(db == (struct db *)&sim && !sim.in_tx && err->rc == RC_OK);
	if (sim.how == SIM_TX_REFUSED)
		rc = err_set(err, RC_UNAVAILABLE, "overloaded", "as told");
	if (sim.how == SIM_TX_AGAIN) {
		run_once(fn, arg, err);
		require(err->rc == RC_OK);
		roll_back(RC_OK);
		sim.how = SIM_TX_OK;
	}
	if (rc == RC_OK)
		rc = run_once(fn, arg, err);
	sim.group_failed = rc != RC_OK;
	if (rc != RC_OK)
		for (size_t i = 0; i < sim.batch_count; i++)
			note_failed(sim.batches[i]->ticket);
	for (size_t i = 0; rc == RC_OK && i < sim.saving_count; i++)
		sim.saving[i]->saved = sim.saving[i]->saving;
	return rc;
}

int
chunk_row_cmp(const void *a, const void *b)
{
	const struct chunk_row *x = *(const struct chunk_row *const *)a;
	const struct chunk_row *y = *(const struct chunk_row *const *)b;

	if (x->repo_id != y->repo_id)
		return x->repo_id < y->repo_id ? -1 : 1;
	return sha256_cmp(&x->hash, &y->hash);
}

enum rc
db_chunk_upsert(
	struct db_tx *tx, const struct chunk_row *const *rows, size_t count, struct err *err)
{
	require(tx == (struct db_tx *)&sim && count > 0);
	if (statement_breaks(err))
		return err->rc;
	for (size_t i = 0; i < count; i++) {
		const struct chunk_row *r = rows[i];
		uint64_t id = id_of(&r->hash);
		require(i == 0 || chunk_row_cmp(&rows[i - 1], &rows[i]) < 0);
		require(r->repo_id == REPO && r->length == sim_chunk_bytes(id));
		/* the bytes that the row names are on disk */
		require(r->pack_id < sim.pack_count);
		require(r->frame_offset <= sim.packs[r->pack_id]->writer->synced);
		/* whatever becomes of the transaction, nobody is told that it is new */
		require(sim.in_filter && sim_filter_has(id));
		sim.now.has_chunk[id] = true;
	}
	return RC_OK;
}

enum rc
db_recipe_ids(struct db *db, uint64_t *first, struct err *err)
{
	require(db == (struct db *)&sim && !sim.in_tx);
	*first = sim.next_recipe;
	if (sim.how == SIM_TX_REFUSED) {
		sim.group_failed = true;
		for (size_t i = 0; i < sim.batch_count; i++)
			note_failed(sim.batches[i]->ticket);
		return err_set(err, RC_UNAVAILABLE, "overloaded", "as told");
	}
	sim.next_recipe += DB_RECIPE_IDS;
	return RC_OK;
}

enum rc
db_recipe_part_put(
	struct db_tx *tx, const struct recipe_part_row *rows, size_t count, struct err *err)
{
	require(tx == (struct db_tx *)&sim && count > 0);
	if (statement_breaks(err))
		return err->rc;
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < sim.now.part_count; k++)
			require(sim.now.parts[k].recipe_id != rows[i].recipe_id ||
				sim.now.parts[k].start != rows[i].start);
		require(sim.now.part_count < PARTS_MAX && rows[i].recipe_id != 0);
		require(rows[i].entries_bytes > RECIPE_HEADER_BYTES);
		uint8_t *copy = sim.arena + sim.arena_used;
		sim.arena_used += rows[i].entries_bytes;
		require(sim.arena_used <= ARENA_BYTES);
		memcpy(copy, rows[i].entries, rows[i].entries_bytes);
		sim.now.parts[sim.now.part_count++] = (struct part){
			rows[i].recipe_id, rows[i].start, copy, rows[i].entries_bytes};
	}
	return RC_OK;
}

enum rc
db_recipe_delete(struct db_tx *tx, const uint64_t *recipe_ids, size_t count, struct err *err)
{
	size_t kept = 0;

	require(tx == (struct db_tx *)&sim && count > 0);
	if (statement_breaks(err))
		return err->rc;
	/* no file's, also not of one whose COMMIT nobody heard of */
	for (size_t k = 0; k < sim.now.file_count; k++)
		for (size_t i = 0; i < count; i++)
			require(sim.now.files[k].recipe_id != recipe_ids[i]);
	for (size_t k = 0; k < sim.now.part_count; k++) {
		bool goes = false;
		for (size_t i = 0; i < count && !goes; i++)
			goes = sim.now.parts[k].recipe_id == recipe_ids[i];
		if (!goes)
			sim.now.parts[kept++] = sim.now.parts[k];
	}
	sim.now.part_count = kept;
	return RC_OK;
}

static struct file_row *
find_file(const struct sha256 *id)
{
	for (size_t i = 0; i < sim.now.file_count; i++)
		if (sha256_equal(&sim.now.files[i].id, id))
			return &sim.now.files[i];
	return NULL;
}

enum rc
db_file_put(struct db_tx *tx, const struct file_row *rows, size_t count, bool *inserted,
	struct err *err)
{
	require(tx == (struct db_tx *)&sim && count > 0);
	if (statement_breaks(err))
		return err->rc;
	for (size_t i = 0; i < count; i++) {
		require(rows[i].repo_id == REPO && rows[i].chunks > 1);
		require(rows[i].recipe_id != 0 && rows[i].recipe_id < sim.next_recipe);
		inserted[i] = find_file(&rows[i].id) == NULL;
		require(sim.now.file_count < FILES_MAX);
		if (inserted[i])
			sim.now.files[sim.now.file_count++] = rows[i];
	}
	return RC_OK;
}

/* ---- recipes in the tables ---- */

static const struct part *
part_at(uint64_t recipe_id, uint64_t start)
{
	for (size_t i = 0; i < sim.now.part_count; i++)
		if (sim.now.parts[i].recipe_id == recipe_id && sim.now.parts[i].start == start)
			return &sim.now.parts[i];
	return NULL;
}

/* The parts of a recipe say exactly these chunks, and all of them are there. */
static void
check_recipe(uint64_t recipe_id, const uint64_t *ids, size_t count)
{
	uint64_t bytes = 0;
	size_t n = 0, parts = 0;

	while (n < count) {
		const struct part *p = part_at(recipe_id, bytes);
		struct recipe_part_reader r;
		struct recipe_slice slice;
		struct err err = ERR_INIT;
		require(p != NULL && recipe_part_open(&r, p->data, p->len, &err) == RC_OK);
		for (; recipe_part_next(&r, &slice, &err); n++) {
			require(n < count && id_of(&slice.chunk) == ids[n]);
			require(slice.offset == 0 && slice.length == sim_chunk_bytes(ids[n]));
			require(sim.now.has_chunk[ids[n]]);
			bytes += slice.length;
		}
		require(err.rc == RC_OK);
		parts++;
	}
	require(sim_parts_of(recipe_id) == parts);
}

size_t
sim_parts_of(uint64_t recipe_id)
{
	size_t n = 0;

	for (size_t i = 0; i < sim.now.part_count; i++)
		n += sim.now.parts[i].recipe_id == recipe_id;
	return n;
}

size_t
sim_part_count(void)
{
	return sim.now.part_count;
}

uint64_t
sim_part_recipe(size_t i, bool *is_named)
{
	uint64_t id = sim.now.parts[i].recipe_id;

	*is_named = false;
	for (size_t k = 0; k < sim.now.file_count; k++)
		*is_named = *is_named || sim.now.files[k].recipe_id == id;
	return id;
}

size_t
sim_file_rows(void)
{
	return sim.now.file_count;
}

/* ---- packs ---- */

/* Batches of the test are not in shared packs. */
enum rc
pack_writer_sync_all(struct pack_writer *w, struct err *err)
{
	(void)w;
	return err_set(err, RC_BUG, NULL, "not a shared pack");
}

enum rc
pack_writer_sync(struct pack_writer *w, struct err *err)
{
	if (w->is_bad)
		return err_set(err, RC_IO, "io-error", "as told");
	w->synced = w->appends;
	return RC_OK;
}

/* The last thing the committer does with a group: here it stops until the next one is ready. */
static void
group_is_through(void)
{
	sem_post(&sim.idle);
	sem_wait(&sim.go);
}

void
packs_note_bytes(struct open_pack *p)
{
	require(p->writer->synced <= p->writer->appends);
}

void
packs_unref(struct ingest *in, struct open_pack *p)
{
	require(in == &sim.in && sim.to_unref > 0);
	atomic_fetch_sub(&p->refs, 1);
	if (--sim.to_unref == 0)
		group_is_through();
}

static size_t
open_pack(void)
{
	struct open_pack *p = calloc(1, sizeof *p);

	require(p != NULL && sim.pack_count < sizeof sim.packs / sizeof sim.packs[0]);
	p->writer = calloc(1, sizeof *p->writer);
	require(p->writer != NULL);
	p->id = sim.pack_count;
	sim.packs[sim.pack_count] = p;
	return sim.pack_count++;
}

static struct open_pack *
good_pack(void)
{
	struct open_pack *p = sim.packs[sim.pack_count - 1];

	return p->writer->is_bad || atomic_load(&p->poisoned) ? sim.packs[open_pack()] : p;
}

/* ---- riders ---- */

static void file_done(struct ingest_rider *rider, enum rc rc, const struct err *err);

static struct persisted
entry_of(const struct ingest_rider *rider)
{
	const struct sim_file *f = (const struct sim_file *)rider;
	const struct sim_rider *r = (const struct sim_rider *)rider;

	if (rider->ops->done == file_done)
		return (struct persisted){true, f->serial, 0};
	return (struct persisted){false, r->serial, r->number};
}

static enum rc
persist(struct db_tx *tx, struct ingest_rider **riders, size_t count, struct err *err)
{
	require(tx == (struct db_tx *)&sim && count > 0);
	if (statement_breaks(err))
		return err->rc;
	for (size_t i = 0; i < count; i++) {
		require(sim.now.persisted_count < PERSIST_MAX);
		sim.now.persisted[sim.now.persisted_count++] = entry_of(riders[i]);
	}
	return RC_OK;
}

/* The same, but another function: riders of it are a run of their own. */
static enum rc
persist_too(struct db_tx *tx, struct ingest_rider **riders, size_t count, struct err *err)
{
	return persist(tx, riders, count, err);
}

static size_t
times_persisted(const struct ingest_rider *rider)
{
	uint64_t serial = entry_of(rider).serial;
	size_t n = 0;

	for (size_t i = 0; i < sim.now.persisted_count; i++)
		n += sim.now.persisted[i].serial == serial;
	return n;
}

size_t
sim_persisted_file(const struct sim_file *f)
{
	return times_persisted(&f->file.rider);
}

size_t
sim_persisted(uint64_t *numbers, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < sim.now.persisted_count && n < max; i++)
		if (!sim.now.persisted[i].is_file)
			numbers[n++] = sim.now.persisted[i].number;
	return n;
}

size_t
sim_persisted_files(uint64_t *serials, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < sim.now.persisted_count && n < max; i++)
		if (sim.now.persisted[i].is_file)
			serials[n++] = sim.now.persisted[i].serial;
	return n;
}

static struct sha256
recipe_id_of(const uint64_t *ids, size_t count)
{
	struct sha256_stream s;
	struct sha256 id;

	sha256_stream_init(&s);
	for (size_t i = 0; i < count; i++) {
		struct recipe_slice slice = {
			.chunk = hash_of(ids[i]), .length = sim_chunk_bytes(ids[i])};
		recipe_id_add(&s, &slice);
	}
	sha256_stream_final(&s, &id);
	return id;
}

static uint64_t
bytes_of(const uint64_t *ids, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += sim_chunk_bytes(ids[i]);
	return sum;
}

static void
check_whole(const struct sim_file *f)
{
	const struct ingest_file *file = &f->file;
	struct sha256 id = recipe_id_of(f->ids, f->cut);

	require(file->content.size == bytes_of(f->ids, f->cut));
	if (f->cut < 2) {
		id = f->cut == 1 ? hash_of(f->ids[0]) : sha256_empty;
		require(file->content.kind == CONTENT_CHUNK);
		require(f->cut == 0 || sim.now.has_chunk[f->ids[0]]);
	} else {
		const struct file_row *row = find_file(&id);
		require(file->content.kind == CONTENT_RECIPE && row != NULL);
		require(row->size == file->content.size && row->chunks == f->cut);
		check_recipe(row->recipe_id, f->ids, f->cut);
		/* of a content that was there before, nothing is kept twice */
		require(row->recipe_id == file->recipe_id || sim_parts_of(file->recipe_id) == 0);
	}
	require(sha256_equal(&id, &file->content.id));
}

static void
check_resumable(const struct ingest_file *file, const uint64_t *ids)
{
	struct sha256 id, wanted = recipe_id_of(ids, file->recipe_chunks);

	sha256_stream_final(&file->id, &id);
	require(sha256_equal(&id, &wanted));
	require(file->recipe_bytes == bytes_of(ids, file->recipe_chunks));
	require((file->recipe_id != 0) == (file->recipe_chunks > 0));
	if (file->recipe_chunks > 0) {
		struct sha256 first = hash_of(ids[0]);
		check_recipe(file->recipe_id, ids, file->recipe_chunks);
		require(sha256_equal(&file->first, &first));
	}
}

/* Something it is made of, or may lean on, went wrong. */
static bool
had_reason(const struct sim_file *f)
{
	if (f->aborts || sim.group_failed)
		return true;
	for (size_t i = 0; i < f->ticket_count; i++)
		if (is_failed(f->tickets[i]))
			return true;
	for (size_t i = 0; i < sim.failed_count; i++)
		if (sim.failed_tickets[i] >= f->dep_min && sim.failed_tickets[i] <= f->dep_max)
			return true;
	return false;
}

static void
file_done(struct ingest_rider *rider, enum rc rc, const struct err *err)
{
	struct sim_file *f = (struct sim_file *)rider;
	bool persists = rider->ops->persist != NULL;

	require(f->done_calls++ == 0 && !sim.in_tx);
	require(err->rc == rc);
	f->rc = rc;
	f->err = *err;
	if (rc != RC_OK) {
		require(had_reason(f));
		return;
	}
	require(!f->aborts && times_persisted(rider) == (persists ? 1 : 0));
	if (f->file.partial) {
		require(f->file.recipe_chunks == f->cut);
		check_resumable(&f->file, f->ids);
	} else {
		require(f->cut == f->id_count);
		check_whole(f);
	}
}

static enum rc
checkpoint(struct db_tx *tx, struct ingest_file *file, struct err *err)
{
	struct sim_file *f = (struct sim_file *)file;

	require(tx == (struct db_tx *)&sim);
	if (statement_breaks(err))
		return err->rc;
	require(file->recipe_chunks > 1 && file->recipe_chunks <= f->cut);
	check_resumable(file, f->ids);
	f->saving = (struct sim_saved){file->recipe_id, file->recipe_bytes, file->recipe_chunks};
	require(sim.saving_count < sizeof sim.saving / sizeof sim.saving[0]);
	sim.saving[sim.saving_count++] = f;
	return RC_OK;
}

static void
rider_done(struct ingest_rider *rider, enum rc rc, const struct err *err)
{
	struct sim_rider *r = (struct sim_rider *)rider;
	bool persists = rider->ops->persist != NULL;

	require(r->done_calls++ == 0 && err->rc == rc && (rc != RC_OK) == sim.group_failed);
	r->rc = rc;
	if (sim.how != SIM_TX_UNKNOWN)
		require(times_persisted(rider) == (rc == RC_OK && persists ? 1 : 0));
	if (--sim.riders_to_tell == 0 && sim.to_unref == 0)
		group_is_through();
}

static const struct ingest_rider_ops file_ops[3] = {
	{.persist = persist, .done = file_done},
	{.persist = persist_too, .done = file_done},
	{.persist = NULL, .done = file_done},
};
static const struct ingest_rider_ops rider_ops[3] = {
	{.persist = persist, .done = rider_done},
	{.persist = persist_too, .done = rider_done},
	{.persist = NULL, .done = rider_done},
};

/* ---- what the test does ---- */

void
sim_open(void)
{
	struct err err = ERR_INIT;

	memset(&sim, 0, sizeof sim);
	sim.arena = malloc(ARENA_BYTES);
	assert_non_null(sim.arena);
	sim.next_recipe = 1;
	sim.clock_ns = 1000000000;
	sim.clock_step_ns = 10000000;
	sim.space.repo_id = REPO;
	sem_init(&sim.go, 0, 0);
	sem_init(&sim.idle, 0, 0);
	open_pack();
	struct ingest *in = &sim.in;
	in->options.db = (struct db *)&sim;
	in->worker_count = WORKERS_MAX;
	ingest_knobs_init(in);
	assert_int_equal(known_open(1 << 20, &in->known, &err), RC_OK);
	assert_int_equal(bloom_open(10000, 12, &sim.filter, &err), RC_OK);
	in->filter = (struct filter *)&sim;
	pthread_mutex_init(&in->commit_mtx, NULL);
	cond_init(&in->commit_work);
	pthread_cond_init(&in->commit_room, NULL);
	in->batches_end = &in->batches;
	in->riders_end = &in->riders;
}

void
sim_close(void)
{
	struct ingest *in = &sim.in;

	assert_int_equal(sim.batch_count, 0);
	pthread_mutex_lock(&in->commit_mtx);
	in->commit_stop = true;
	pthread_cond_signal(&in->commit_work);
	pthread_mutex_unlock(&in->commit_mtx);
	if (sim.runs) {
		sem_post(&sim.go);
		pthread_join(sim.thread, NULL);
	}
	assert_int_equal(known_pending(in->known), 0);
	for (size_t i = 0; i < sim.pack_count; i++) {
		assert_int_equal(atomic_load(&sim.packs[i]->refs), 0);
		free(sim.packs[i]->writer);
		free(sim.packs[i]);
	}
	known_free(in->known);
	bloom_free(sim.filter);
	pthread_mutex_destroy(&in->commit_mtx);
	pthread_cond_destroy(&in->commit_work);
	pthread_cond_destroy(&in->commit_room);
	sem_destroy(&sim.go);
	sem_destroy(&sim.idle);
	free(sim.arena);
}

void
sim_file_set_kind(struct sim_file *f, int kind)
{
	f->file.rider.ops = &file_ops[kind];
}

/* As ingest_begin leaves it. */
void
sim_file_init(struct sim_file *f, const uint64_t *ids, size_t count, bool resumable)
{
	static struct meter meter;

	memset(f, 0, sizeof *f);
	f->serial = sim.next_serial++;
	f->ids = ids;
	f->id_count = count;
	f->dep_min = UINT64_MAX;
	sim_file_set_kind(f, 0);
	f->file.meter = &meter;
	f->file.checkpoint = resumable ? checkpoint : NULL;
	f->file.x.space = &sim.space;
	f->file.x.dep_min = UINT64_MAX;
	f->file.x.checkpoint_ns = sim.clock_ns;
	sha256_stream_init(&f->file.id);
	buf_init(&f->file.x.entries, (size_t)4 << 20);
}

void
sim_file_resume(struct sim_file *f, const struct sim_file *was)
{
	sim_file_init(f, was->ids, was->id_count, was->file.checkpoint != NULL);
	f->cut = was->file.recipe_chunks;
	f->file.recipe_id = was->file.recipe_id;
	f->file.recipe_bytes = was->file.recipe_bytes;
	f->file.recipe_chunks = was->file.recipe_chunks;
	f->file.id = was->file.id;
	f->file.first = was->file.first;
	f->file.x.entries_start = f->file.x.merged_bytes = f->file.recipe_bytes;
	f->file.chunk_count = f->file.recipe_chunks;
}

void
sim_rider_init(struct sim_rider *r, int kind, uint64_t number)
{
	memset(r, 0, sizeof *r);
	r->rider.ops = &rider_ops[kind];
	r->serial = sim.next_serial++;
	r->number = number;
}

void
sim_block(struct batch *b)
{
	struct block **at = &b->blocks;

	while (*at != NULL)
		at = &(*at)->next;
	*at = block_new(&sim.space, NULL);
	assert_non_null(*at);
}

struct batch *
sim_batch(void)
{
	struct batch *b = calloc(1, sizeof *b);

	assert_non_null(b);
	b->ticket = atomic_fetch_add(&sim.in.next_ticket, 1);
	b->packs[0] = good_pack();
	b->pack_count = 1;
	b->packs[0]->writer->appends++;
	atomic_fetch_add(&b->packs[0]->refs, 1);
	sim_block(b);
	return b;
}

/* As worker.c does it: what is known, what the database has, what is to be claimed. */
static void
look_up(struct block_chunk *c, uint64_t id, uint64_t ticket)
{
	uint64_t epoch = known_epoch(sim.in.known);
	enum known_answer answer = known_peek(sim.in.known, REPO, &c->hash, &c->ticket);

	if (answer == KNOWN_NO && sim.now.has_chunk[id]) {
		known_learn(sim.in.known, REPO, &c->hash, epoch);
		answer = KNOWN_DURABLE;
	}
	if (answer == KNOWN_NO)
		answer = known_claim(sim.in.known, REPO, &c->hash, ticket, &c->ticket);
	assert_int_not_equal(answer, KNOWN_NO);
	c->fate = answer == KNOWN_DURABLE   ? FATE_DURABLE
		  : answer == KNOWN_PENDING ? FATE_PENDING
					    : FATE_NEW;
	if (answer == KNOWN_DURABLE)
		assert_true(sim.now.has_chunk[id]);
}

void
sim_piece(struct batch *b, struct sim_file *f, size_t chunks, enum piece_end end)
{
	struct block *block = b->blocks;

	while (block->next != NULL)
		block = block->next;
	struct block_piece *p = block_add_piece(block);
	p->file = &f->file;
	p->seq = f->file.x.pieces_out++;
	p->end = end;
	p->count = (uint32_t)chunks;
	for (size_t i = 0; i < chunks; i++) {
		struct block_chunk *c = block_add_chunk(block);
		uint64_t id = f->ids[f->cut++];
		c->hash = hash_of(id);
		c->length = (uint32_t)sim_chunk_bytes(id);
		c->pack_id = b->packs[0]->id;
		c->frame_offset = b->packs[0]->writer->appends;
		look_up(c, id, b->ticket);
		block->bytes += c->length;
		p->cost.logical_bytes += c->length;
		/* what the batch itself claimed stands or falls with it */
		if (c->fate != FATE_PENDING || c->ticket == b->ticket)
			continue;
		p->dep_min = c->ticket < p->dep_min ? c->ticket : p->dep_min;
		p->dep_max = c->ticket > p->dep_max ? c->ticket : p->dep_max;
	}
	f->dep_min = p->dep_min < f->dep_min ? p->dep_min : f->dep_min;
	f->dep_max = p->dep_max > f->dep_max ? p->dep_max : f->dep_max;
	assert_true(f->ticket_count < sizeof f->tickets / sizeof f->tickets[0]);
	f->tickets[f->ticket_count++] = b->ticket;
	f->file.partial = end == PIECE_SUSPENDED;
	if (end == PIECE_ABORTED) {
		struct err err = ERR_INIT;
		err_set(&err, RC_INVALID, "body-mismatch", "as told");
		file_fail(&f->file, &err);
		f->aborts = true;
	}
}

void
sim_fail(struct batch *b, bool unknown)
{
	err_set(&b->err, RC_FULL, "disk-full", "as told");
	note_failed(b->ticket);
	if (!unknown)
		return;
	for (struct block *block = b->blocks; block != NULL; block = block->next)
		for (uint32_t i = 0; i < block->chunk_count; i++) {
			if (block->chunks[i].fate == FATE_NEW)
				known_settle(
					sim.in.known, REPO, &block->chunks[i].hash, b->ticket, 0);
			block->chunks[i].fate = FATE_UNKNOWN;
		}
}

void
sim_fail_sync(struct batch *b)
{
	b->packs[0]->writer->is_bad = true;
	for (size_t i = 0; i < sim.batch_count; i++)
		if (sim.batches[i]->packs[0] == b->packs[0])
			note_failed(sim.batches[i]->ticket);
	note_failed(b->ticket);
}

void
sim_push(struct batch *b)
{
	assert_true(sim.batch_count < COMMIT_QUEUE_MAX); /* more would wait for the committer */
	sim.batches[sim.batch_count++] = b;
	if (b->packs[0]->writer->is_bad)
		note_failed(b->ticket);
}

void
sim_push_whole(struct sim_file *f)
{
	struct batch *b = sim_batch();

	sim_piece(b, f, f->id_count - f->cut, PIECE_WHOLE);
	sim_push(b);
}

void
sim_submit(struct sim_rider *r)
{
	ingest_submit(&sim.in, &r->rider);
	sim.riders_to_tell++;
}

void
sim_commit(enum sim_tx how)
{
	if (sim.batch_count == 0 && sim.riders_to_tell == 0)
		return;
	sim.how = how;
	sim.group_failed = false;
	sim.to_unref = sim.batch_count;
	for (size_t i = 0; i < sim.batch_count; i++)
		committer_push(&sim.in, sim.batches[i]);
	if (!sim.runs)
		assert_int_equal(pthread_create(&sim.thread, NULL, committer_main, &sim.in), 0);
	else
		sem_post(&sim.go);
	sim.runs = true;
	sem_wait(&sim.idle);
	assert_int_equal(sim.riders_to_tell, 0);
	sim.batch_count = 0;
}
