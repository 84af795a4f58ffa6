/* SPDX-License-Identifier: Apache-2.0 */
/* Reading ahead on packs in memory, with an upload that goes through them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <time.h>

#include "ahead.h"
#include "buf.h"
#include "db_chunk.h"
#include "db_pack.h"

#define HANG_SECONDS 120
#define REPO         7
#define PACK_CHUNKS  1000
#define FRAME_CHUNKS 4
#define BATCH        16

/* ---- the database: chunk n lies in pack 1 + n / pack_chunks, four to a frame ---- */

static struct {
	uint64_t chunks;
	uint64_t pack_chunks;
	unsigned streams; /* that many packs are filled at the same time */
	atomic_int reads, lookups, lists;
	atomic_int fail; /* so many reads fail */
	void (*while_reading)(void);
} table;

static struct known *known;
static struct ahead *ahead;

static struct sha256
hash_of(uint64_t n)
{
	struct sha256 h;

	memset(h.b, 0, sizeof h.b);
	put_u64(h.b, n * 0x9E3779B97F4A7C15u);
	put_u64(h.b + 8, (n + 1) * 0xD1B54A32D192ED03u);
	put_u64(h.b + 24, n);
	return h;
}

/* With two streams, batches go to packs 1 and 2 by turns, then to 3 and 4. */
static struct chunk_place
place_of(uint64_t n)
{
	uint64_t batch = n / BATCH, stream = batch % table.streams;
	uint64_t in_stream = batch / table.streams * BATCH + n % BATCH;
	uint64_t pack = 1 + in_stream / table.pack_chunks * table.streams + stream;

	return (struct chunk_place){
		pack, 4096 + in_stream % table.pack_chunks / FRAME_CHUNKS * 100};
}

enum rc
db_chunk_in_pack(struct db *db, uint64_t pack_id, uint64_t from, size_t limit,
	struct chunk_in_pack **out, size_t *count, struct err *err)
{
	struct chunk_in_pack *rows = malloc((table.pack_chunks + 1) * sizeof *rows);
	size_t n = 0;
	(void)db;

	atomic_fetch_add(&table.reads, 1);
	if (atomic_load(&table.fail) > 0) {
		atomic_fetch_sub(&table.fail, 1);
		free(rows);
		return err_set(err, RC_UNAVAILABLE, "database-unavailable", "as told");
	}
	for (uint64_t i = 0; i < table.chunks; i++) {
		struct chunk_place at = place_of(i);
		if (at.pack_id != pack_id || at.frame_offset < from)
			continue;
		if (n >= limit && at.frame_offset != rows[n - 1].frame_offset)
			break;
		rows[n++] = (struct chunk_in_pack){REPO, hash_of(i), at.frame_offset};
	}
	if (table.while_reading != NULL)
		table.while_reading();
	*out = rows;
	*count = n;
	return RC_OK;
}

enum rc
db_chunk_known(struct db *db, uint64_t repo_id, const struct sha256 *const *hashes, size_t count,
	struct chunk_place *places, struct err *err)
{
	(void)db;
	(void)err;
	atomic_fetch_add(&table.lookups, 1);
	for (size_t i = 0; i < count; i++) {
		uint64_t n = get_u64(hashes[i]->b + 24);
		places[i] = (struct chunk_place){0, 0};
		if (repo_id == REPO && n < table.chunks)
			places[i] = place_of(n);
	}
	return RC_OK;
}

enum rc
db_pack_list(struct db *db, uint64_t repo_id, uint64_t after, uint64_t *ids, size_t limit,
	size_t *count, struct err *err)
{
	uint64_t last = place_of(table.chunks - 1).pack_id;
	(void)db;
	(void)err;

	if (repo_id != REPO)
		abort();
	atomic_fetch_add(&table.lists, 1);
	for (*count = 0; *count < limit && after + *count < last; ++*count)
		ids[*count] = after + *count + 1;
	return RC_OK;
}

/* ---- */

static int
start(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	memset(&table, 0, sizeof table);
	table.chunks = 20000;
	table.pack_chunks = PACK_CHUNKS;
	table.streams = 1;
	assert_int_equal(known_open((size_t)4 << 20, &known, &err), RC_OK);
	assert_int_equal(ahead_open(NULL, known, &ahead, &err), RC_OK);
	return 0;
}

static int
stop(void **state)
{
	(void)state;
	ahead_close(ahead);
	ahead_close(NULL);
	known_free(known);
	return 0;
}

static void
nap(void)
{
	struct timespec ts = {.tv_nsec = 1000000};

	nanosleep(&ts, NULL);
}

/* Until it has done what it was told. */
static void
settle(void)
{
	while (!ahead_is_idle(ahead))
		nap();
}

static void
seen(uint64_t n, unsigned hits)
{
	struct chunk_place at = place_of(n);

	ahead_seen(ahead, ahead_now(ahead), REPO, &at, hits);
}

static bool
is_known(uint64_t n)
{
	struct sha256 h = hash_of(n);
	uint64_t ticket;
	enum known_answer answer = known_peek(known, REPO, &h, &ticket);

	return answer == KNOWN_DURABLE || answer == KNOWN_EDGE;
}

static uint64_t
count_known(uint64_t first, uint64_t end)
{
	uint64_t count = 0;

	for (uint64_t n = first; n < end; n++)
		count += is_known(n);
	return count;
}

/* As a worker with a batch: how many it had to ask the database for. */
static unsigned
upload_batch(uint64_t first, size_t count)
{
	struct chunk_place last = {0, 0};
	unsigned hits = 0;

	uint64_t now = ahead_now(ahead), epoch = known_epoch(known);
	for (uint64_t n = first; n < first + count; n++) {
		struct sha256 h = hash_of(n);
		uint64_t ticket;
		switch (known_peek(known, REPO, &h, &ticket)) {
		case KNOWN_EDGE:
			ahead_edge(ahead, REPO, &h);
			break;
		case KNOWN_DURABLE:
			break;
		case KNOWN_NO:
			known_learn(known, REPO, &h, epoch);
			last = place_of(n);
			hits++;
			break;
		case KNOWN_PENDING:
		case KNOWN_CLAIMED:
			fail();
		}
	}
	if (hits > 0)
		ahead_seen(ahead, now, REPO, &last, hits);
	return hits;
}

static unsigned
upload(uint64_t first, uint64_t end)
{
	unsigned asked = 0;

	for (; first < end; first += BATCH) {
		asked += upload_batch(first, BATCH);
		settle();
	}
	return asked;
}

static void
it_needs_some_hits(void **state)
{
	(void)state;
	seen(100, AHEAD_HITS - 1);
	seen(1100, AHEAD_HITS - 1); /* in another pack */
	settle();
	assert_int_equal(ahead_rows(ahead), 0);
	seen(104, 1);
	settle();
	assert_true(ahead_rows(ahead) >= AHEAD_ROWS_MIN);
	assert_true(ahead_rows(ahead) < AHEAD_ROWS_MIN + FRAME_CHUNKS);
	assert_int_equal(count_known(0, 104), 0);
	assert_int_equal(count_known(104, 104 + AHEAD_ROWS_MIN), AHEAD_ROWS_MIN);
	assert_int_equal(known_ahead_hits(known), AHEAD_ROWS_MIN);
	assert_int_equal(count_known(400, table.chunks), 0);
}

static void
an_upload_asks_for_its_beginning_only(void **state)
{
	(void)state;
	unsigned asked = upload(0, table.chunks);

	assert_true(asked <= 2 * BATCH);
	/* in stretches that grow: hardly more statements than packs */
	assert_true(atomic_load(&table.reads) < 40);
	assert_true(ahead_rows(ahead) < table.chunks + 2 * AHEAD_ROWS_MIN);
	/* once more: all is known, and the edges are gone */
	int reads = atomic_load(&table.reads);
	assert_int_equal(upload(0, table.chunks), 0);
	assert_int_equal(atomic_load(&table.reads), reads);
}

static void
packs_that_were_filled_side_by_side(void **state)
{
	(void)state;
	table.streams = 3;
	unsigned asked = upload(0, table.chunks);

	assert_true(asked <= 6 * BATCH);
	assert_true(ahead_rows(ahead) < table.chunks + 6 * AHEAD_ROWS_MIN);
}

static void
tiny_packs(void **state)
{
	(void)state;
	table.pack_chunks = BATCH;
	unsigned asked = upload(0, 4000);

	assert_true(asked < 4000 / 8);
}

/* The questions of other workers were on their way: no reason to read again. And one that has run
 * away from what was read for it gets a longer stretch. */
static void
an_upload_that_is_faster(void **state)
{
	struct chunk_place at;
	(void)state;

	uint64_t before = ahead_now(ahead);
	seen(0, BATCH);
	settle();
	uint64_t rows = ahead_rows(ahead);
	at = place_of(50);
	ahead_seen(ahead, before, REPO, &at, 100);
	settle();
	assert_int_equal(ahead_rows(ahead), rows);
	at = place_of(500);
	ahead_seen(ahead, before, REPO, &at, BATCH);
	settle();
	assert_int_equal(ahead_rows(ahead), rows + 2 * AHEAD_ROWS_MIN);
	/* asked after it was learnt: it has left the cache */
	seen(500, BATCH);
	settle();
	assert_int_equal(ahead_rows(ahead), rows + 3 * AHEAD_ROWS_MIN);
}

static void
forget(void)
{
	known_forget_all(known);
	table.while_reading = NULL;
}

/* A chunk turns out to be bad between the statement and its answer. */
static void
what_was_read_before_something_was_forgotten(void **state)
{
	(void)state;
	table.while_reading = forget;
	seen(0, BATCH);
	settle();
	assert_int_equal(count_known(0, table.chunks), 0);
	seen(0, BATCH);
	settle();
	assert_int_equal(count_known(0, AHEAD_ROWS_MIN), AHEAD_ROWS_MIN);
	known_forget_all(known);
	assert_true(upload(0, 2000) <= 2 * BATCH);
}

/* Chunks picked out of many packs: after a while it is left. */
static void
guesses_that_are_always_wrong(void **state)
{
	(void)state;
	table.chunks = 400000;
	for (uint64_t i = 0; i < 390; i++) {
		seen(i * 7 % 390 * 1000 + i, AHEAD_HITS);
		settle();
	}
	assert_true(ahead_rows(ahead) > 60000);
	assert_true(ahead_rows(ahead) < 70000);
	/* an upload that really goes through brings it back */
	assert_true(upload(100000, 102000) < 200);
}

static void
a_database_that_is_away(void **state)
{
	(void)state;
	atomic_store(&table.fail, 1);
	seen(0, BATCH);
	settle();
	assert_int_equal(ahead_rows(ahead), 0);
	assert_true(upload(BATCH, 2000) <= 2 * BATCH);
}

static void
hints_about_nothing(void **state)
{
	struct sha256 h = hash_of(999999);
	(void)state;

	ahead_edge(ahead, REPO, &h);
	ahead_edge(ahead, REPO + 1, &h);
	h = hash_of(1);
	ahead_edge(ahead, REPO + 1, &h);
	seen(table.chunks + 5, BATCH); /* where nothing is */
	settle();
	assert_int_equal(ahead_rows(ahead), 0);
	/* an edge without a track: begin there */
	ahead_edge(ahead, REPO, &h);
	settle();
	assert_true(count_known(0, AHEAD_ROWS_MIN) >= AHEAD_ROWS_MIN - FRAME_CHUNKS);
}

static void
slow(void)
{
	nap();
}

/* More hints than it can follow; then it is closed in the middle. */
static void
more_hints_than_it_can_take(void **state)
{
	(void)state;
	table.while_reading = slow;
	for (uint64_t i = 0; i < 20000; i++) {
		struct sha256 h = hash_of(i);
		seen(i, 1);
		ahead_edge(ahead, REPO, &h);
	}
	/* stop() closes it */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_needs_some_hits),
		TEST(an_upload_asks_for_its_beginning_only),
		TEST(packs_that_were_filled_side_by_side),
		TEST(tiny_packs),
		TEST(an_upload_that_is_faster),
		TEST(what_was_read_before_something_was_forgotten),
		TEST(guesses_that_are_always_wrong),
		TEST(a_database_that_is_away),
		TEST(hints_about_nothing),
		TEST(more_hints_than_it_can_take),
	};

	alarm(HANG_SECONDS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
