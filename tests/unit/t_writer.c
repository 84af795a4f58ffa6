/* SPDX-License-Identifier: Apache-2.0 */
/* The writer alone: the slab pool and the queue below stand in the place of the real ones. The pool
 * refuses when chance says so and gives slabs of any size it may, the queue takes a block apart at
 * once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block_fixture.h"
#include "chance.h"

#define HANG_SECONDS 60
#define DATA_BYTES   ((size_t)2 << 20) /* more than the largest slab */

/* ---- the doubles ---- */

static struct {
	uint64_t seed;
	unsigned refuse_of_16; /* how often there is no slab */
	bool is_exact;         /* slabs are as small as they may be */
	size_t held;           /* slabs that are out */
	size_t loose, loose_bytes_max;
	bool no_loose;
	struct slab_waiter *waiter;
	int waits, takers;
	unsigned full_of_16; /* how often the queue is full */
	size_t blocks, blocks_without_slab;
} fake;

static struct slab *
new_slab(size_t bytes)
{
	struct slab *s = malloc(sizeof *s);

	assert_non_null(s);
	*s = (struct slab){.data = malloc(bytes), .bytes = bytes};
	assert_non_null(s->data);
	fake.held++;
	return s;
}

struct slab *
slab_take(struct slab_pool *pool, size_t min_bytes, size_t want_bytes, struct slab_waiter *w)
{
	(void)pool;
	assert_non_null(w);
	assert_true(min_bytes > 0 && min_bytes <= SLAB_LARGE_BYTES);
	if (chance_below(&fake.seed, 16) < fake.refuse_of_16)
		return NULL;
	size_t most = want_bytes > min_bytes ? want_bytes : min_bytes;
	if (most > SLAB_LARGE_BYTES)
		most = SLAB_LARGE_BYTES;
	/* who had to wait and asks again without being called is not in line any more */
	if (fake.waiter == w)
		fake.waiter = NULL;
	return new_slab(fake.is_exact ? min_bytes
				      : min_bytes + chance_below(&fake.seed, most - min_bytes + 1));
}

struct slab *
slab_take_loose(size_t bytes)
{
	if (fake.no_loose)
		return NULL;
	fake.loose++;
	if (bytes > fake.loose_bytes_max)
		fake.loose_bytes_max = bytes;
	return new_slab(bytes);
}

void
slab_give(struct slab_pool *pool, struct slab *s)
{
	(void)pool;
	fake.held--;
	free(s->data);
	free(s);
}

void
slab_wait(struct slab_pool *pool, size_t min_bytes, struct slab_waiter *w)
{
	(void)pool;
	assert_true(min_bytes > 0 && min_bytes <= SLAB_LARGE_BYTES);
	/* who waits must not sit on memory that others wait for */
	assert_int_equal(fake.held, 0);
	fake.waiter = w;
	fake.waits++;
	if (chance_below(&fake.seed, 4) == 0) {
		fake.waiter = NULL;
		w->fn(w);
	}
}

void
slab_unwait(struct slab_pool *pool, struct slab_waiter *w)
{
	(void)pool;
	if (fake.waiter == w)
		fake.waiter = NULL;
}

void
slab_takers_add(struct slab_pool *pool, int delta)
{
	(void)pool;
	fake.takers += delta;
}

bool
ring_push(struct ring *r, void *item)
{
	(void)r;
	if (chance_below(&fake.seed, 64) < fake.full_of_16)
		return false;
	fake.blocks++;
	fake.blocks_without_slab += ((struct block *)item)->slab == NULL;
	take_block(NULL, item);
	return true;
}

/* ---- a client ---- */

static struct ingest engine;
static struct ingest_space space;
enum {
	ZEROS,
	LETTERS, /* few, that repeat */
	RANDOM,
};
static uint8_t kinds[3][DATA_BYTES];
static uint8_t *data; /* one of them */
static int wakes;

static void
on_wake(void *arg)
{
	(*(int *)arg)++;
}

static int
fill_kinds(void **state)
{
	uint64_t seed = 1;
	(void)state;

	for (size_t i = 0; i < DATA_BYTES; i++)
		kinds[LETTERS][i] = (uint8_t) "abcdefg\n"[(i * i + (i >> 9)) % 8];
	chance_bytes(&seed, kinds[RANDOM], DATA_BYTES);
	return 0;
}

static void
set_up(uint32_t target, uint64_t seed, unsigned refuse_of_16)
{
	struct err err = ERR_INIT;

	data = kinds[seed % 5 < RANDOM ? seed % 5 : RANDOM];
	memset(&fake, 0, sizeof fake);
	fake.seed = seed * 1000003;
	fake.refuse_of_16 = refuse_of_16;
	fake.full_of_16 = 1;
	fake.is_exact = seed % 3 == 0;
	assert_int_equal(chunker_init(&space.chunker, target, &err), RC_OK);
}

static struct ingest_writer *
open_writer(void)
{
	struct ingest_writer *w = NULL;
	struct err err = ERR_INIT;

	wakes = 0;
	assert_int_equal(ingest_writer_open(&engine, &space, on_wake, &wakes, &w, &err), RC_OK);
	return w;
}

static void
close_writer(struct ingest_writer *w)
{
	ingest_writer_close(w);
	assert_int_equal(fake.held, 0);
	assert_int_equal(fake.takers, 0);
	assert_null(fake.waiter);
}

/* Put up to n bytes where the writer says; returns how many there was room for. */
static size_t
fill_room(struct ingest_writer *w, const uint8_t *from, size_t n)
{
	uint8_t *at;
	size_t room;

	if (!ingest_reserve(w, &at, &room))
		return 0;
	assert_non_null(at);
	assert_true(room > 0);
	if (n > room)
		n = room;
	memcpy(at, from, n);
	ingest_advance(w, n);
	return n;
}

/* Bytes by way of the room that the writer gives out, which may be less than they are. */
static size_t
fill_rooms(struct ingest_writer *w, const uint8_t *from, size_t n)
{
	size_t taken = 0, more;

	while (taken < n && (more = fill_room(w, from + taken, n - taken)) > 0)
		taken += more;
	return taken;
}

/* Hand over bytes in pieces of any size, waiting when there is no memory; now and then without. */
static void
write_some(struct ingest_writer *w, const uint8_t *from, size_t len, bool is_tail, uint64_t *seed)
{
	for (size_t at = 0; at < len;) {
		size_t most = chance_below(seed, 3) ? 1 + chance_below(seed, 300000)
						    : 1 + chance_below(seed, 40);
		size_t n = most < len - at ? most : len - at;
		int waits = fake.waits, before = wakes;
		size_t taken = is_tail                 ? ingest_write_tail(w, from + at, n)
			       : chance_below(seed, 2) ? fill_rooms(w, from + at, n)
						       : ingest_write(w, from + at, n);
		assert_true(taken <= n);
		at += taken;
		assert_int_equal(taken<n, fake.waits> waits);
		if (taken < n && wakes == before && chance_below(seed, 8) > 0) {
			struct slab_waiter *waiter = fake.waiter;
			assert_non_null(waiter);
			fake.waiter = NULL;
			waiter->fn(waiter);
			assert_int_equal(wakes, before + 1);
		}
	}
}

static uint64_t
expected_of(size_t len, uint64_t *seed)
{
	switch (chance_below(seed, 4)) {
	case 0:
		return UINT64_MAX;
	case 1:
		return chance_below(seed, len + 1); /* too few */
	case 2:
		return len + chance_below(seed, 1000000); /* too many */
	default:
		return len;
	}
}

static void
put_file(struct ingest_writer *w, struct taken_file *t, size_t len, uint64_t *seed)
{
	taken_init(t);
	ingest_begin(w, &t->file, expected_of(len, seed));
	write_some(w, data, len, false, seed);
	ingest_finish(w);
}

/* ---- tests ---- */

static const uint32_t targets[] = {16384, 32768, 65536, 131072};

/* Whatever the pieces and the slabs are, a file is cut as if it had come at once. */
static void
cuts_do_not_depend_on_pieces(void **state)
{
	(void)state;
	for (uint64_t round = 0; round < 64; round++) {
		uint64_t seed = round;
		struct taken_file t;
		set_up(targets[round % 4], round, (unsigned)(round % 5) * 3);
		const uint32_t min = space.chunker.min, max = space.chunker.max;
		const size_t lens[] = {0, 1, min - 1, min, min + 1, max - 1, max, max + 1, 2 * max,
			SLAB_SMALL_BYTES, SLAB_MEDIUM_BYTES, SLAB_MEDIUM_BYTES + 1,
			SLAB_LARGE_BYTES, chance_below(&seed, SLAB_LARGE_BYTES)};
		const size_t len = lens[round % (sizeof lens / sizeof lens[0])];
		struct ingest_writer *w = open_writer();
		put_file(w, &t, len, &seed);
		ingest_flush(w);
		assert_true(t.ended && t.end == PIECE_WHOLE);
		assert_int_equal(check_cuts(&t, &space.chunker, data, len), len);
		assert_int_equal(meter_get(&t.meter.received_bytes), len);
		assert_int_equal(meter_get(&t.meter.chunked_bytes), len);
		assert_int_equal(meter_get(&t.meter.files_received), 1);
		close_writer(w);
		taken_done(&t);
	}
}

/* A pool that gives once in a while, and then as little as it may; and a client that sends more
 * than it said, when what is left over fills a small slab exactly. */
static void
more_than_expected_gets_in(void **state)
{
	uint64_t seed = 1;
	(void)state;

	for (size_t i = 0; i < 4; i++) {
		struct taken_file t;
		set_up(targets[i], 0, 0);
		struct ingest_writer *w = open_writer();
		taken_init(&t);
		fake.is_exact = true;
		ingest_begin(w, &t.file, SLAB_SMALL_BYTES);
		assert_int_equal(ingest_write(w, data, SLAB_SMALL_BYTES), SLAB_SMALL_BYTES);
		write_some(w, data + SLAB_SMALL_BYTES, 300000, false, &seed);
		ingest_finish(w);
		ingest_flush(w);
		assert_int_equal(check_cuts(&t, &space.chunker, data, SLAB_SMALL_BYTES + 300000),
			SLAB_SMALL_BYTES + 300000);
		close_writer(w);
		taken_done(&t);
	}
}

/* The end of a file never waits: with no slab in sight what is left goes into one of its own, which
 * is never larger than a chunk. */
static void
an_end_needs_no_slab(void **state)
{
	(void)state;
	for (uint64_t round = 0; round < 40; round++) {
		uint64_t seed = round + 7;
		struct taken_file t;
		size_t len = 1 + chance_below(&seed, 400000);
		set_up(targets[round % 4], round, 0);
		struct ingest_writer *w = open_writer();
		taken_init(&t);
		ingest_begin(w, &t.file, UINT64_MAX);
		write_some(w, data, len, false, &seed);
		fake.refuse_of_16 = 16;
		/* until the slab is full and the pool says no */
		len += ingest_write(w, data + len, DATA_BYTES - len);
		assert_int_equal(ingest_write(w, data + len, 1), 0);
		assert_int_equal(fake.held, 0);
		ingest_finish(w);
		ingest_flush(w);
		assert_int_equal(check_cuts(&t, &space.chunker, data, len), len);
		assert_true(fake.loose <= 1 && fake.loose_bytes_max < space.chunker.max);
		/* and the writer can be used again when there is memory */
		taken_done(&t);
		fake.refuse_of_16 = 0;
		put_file(w, &t, 100000, &seed);
		ingest_flush(w);
		assert_int_equal(check_cuts(&t, &space.chunker, data, 100000), 100000);
		close_writer(w);
		taken_done(&t);
	}
}

/* Not even for that there is memory: the file fails, and is told to have ended all the same. */
static void
no_memory_fails_the_file(void **state)
{
	struct taken_file t;
	struct err err = ERR_INIT;
	uint64_t seed = 3;
	(void)state;

	set_up(65536, 1, 0);
	struct ingest_writer *w = open_writer();
	taken_init(&t);
	ingest_begin(w, &t.file, UINT64_MAX);
	fake.is_exact = true;
	write_some(w, data, SLAB_SMALL_BYTES, false, &seed);
	fake.refuse_of_16 = 16;
	while (ingest_write(w, data, 1) == 1)
		;
	fake.no_loose = true;
	assert_false(ingest_failed(w, &err));
	ingest_finish(w);
	ingest_flush(w);
	assert_true(t.ended);
	assert_int_equal(atomic_load(&t.file.x.failed), RC_NOMEM);
	close_writer(w);
	taken_done(&t);
}

/* Room that was given out and not used, or used in part, is no part of the file; one that has
 * failed gets none, and nobody is left waiting for it. */
static void
room_is_only_lent(void **state)
{
	struct taken_file t;
	struct err err = ERR_INIT;
	uint8_t *at, *again;
	size_t room, left;
	(void)state;

	set_up(65536, 1, 0);
	struct ingest_writer *w = open_writer();
	taken_init(&t);
	ingest_begin(w, &t.file, 1000);
	assert_true(ingest_reserve(w, &at, &room));
	memset(at, 0xee, room);
	assert_true(ingest_reserve(w, &again, &left));
	assert_ptr_equal(at, again);
	assert_int_equal(room, left);
	memcpy(at, data, 1000);
	memset(at + 1000, 0xee, room - 1000);
	ingest_advance(w, 1000);
	assert_true(ingest_reserve(w, &again, &left));
	assert_ptr_equal(at + 1000, again);
	assert_int_equal(room - 1000, left);
	ingest_finish(w);
	ingest_flush(w);
	assert_int_equal(check_cuts(&t, &space.chunker, data, 1000), 1000);
	taken_done(&t);

	taken_init(&t);
	ingest_begin(w, &t.file, 1000);
	err_set(&err, RC_FULL, "disk-full", "as told");
	file_fail(&t.file, &err);
	assert_true(ingest_reserve(w, &at, &room));
	assert_int_equal(room, 0);
	assert_null(fake.waiter);
	ingest_abort(w, &err);
	ingest_flush(w);
	close_writer(w);
	taken_done(&t);
}

/* ---- suspending ---- */

/* Cut an upload off anywhere, and go on with what the engine gave back. */
static void
suspended_and_continued_is_the_same(void **state)
{
	(void)state;
	for (uint64_t round = 0; round < 60; round++) {
		uint64_t seed = round + 11;
		struct taken_file a, b;
		struct sha256 whole, sha;
		const size_t len = chance_below(&seed, 700000);
		const size_t first = round % 7 == 0 ? len : chance_below(&seed, len + 1);
		set_up(targets[round % 4], round, (unsigned)(round % 5) * 3);
		struct ingest_writer *w = open_writer();
		taken_init(&a);
		a.file.want_sha = true;
		ingest_begin(w, &a.file, UINT64_MAX);
		write_some(w, data, first, false, &seed);
		ingest_suspend(w);
		ingest_flush(w);
		assert_true(a.ended && a.end == PIECE_SUSPENDED && a.file.partial);
		size_t cut = check_cuts(&a, &space.chunker, data, first);
		assert_int_equal(a.file.tail_bytes, first - cut);
		assert_true(a.file.tail_bytes < space.chunker.max);
		if (first > cut)
			assert_memory_equal(a.file.tail, data + cut, first - cut);
		else
			assert_null(a.file.tail);

		/* as the committer and who keeps the rows would leave it */
		taken_init(&b);
		b.file.want_sha = b.file.sha_known = true;
		b.file.sha = a.file.sha;
		b.file.recipe_bytes = cut;
		b.file.recipe_chunks = a.lengths.len / 4;
		ingest_continue(w, &b.file, expected_of(len - cut, &seed));
		write_some(w, a.file.tail, a.file.tail_bytes, true, &seed);
		write_some(w, data + first, len - first, false, &seed);
		ingest_finish(w);
		ingest_flush(w);
		assert_int_equal(b.file.chunk_count, b.file.recipe_chunks);
		assert_int_equal(check_cuts(&b, &space.chunker, data + cut, len - cut), len - cut);
		/* the tail was counted and hashed before */
		assert_int_equal(meter_get(&a.meter.received_bytes), first);
		assert_int_equal(meter_get(&b.meter.received_bytes), len - first);
		sha256_of(data, len, &whole);
		sha256_stream_final(&b.file.sha, &sha);
		assert_true(sha256_equal(&whole, &sha));
		close_writer(w);
		taken_done(&a);
		taken_done(&b);
	}
}

/* ---- files that do not end well ---- */

static void
an_aborted_file_leaves_no_trace_in_the_next(void **state)
{
	(void)state;
	for (uint64_t round = 0; round < 40; round++) {
		uint64_t seed = round + 17;
		struct taken_file a, b;
		struct err err = ERR_INIT;
		set_up(targets[round % 4], round, (unsigned)(round % 3) * 4);
		struct ingest_writer *w = open_writer();
		taken_init(&a);
		ingest_begin(w, &a.file, UINT64_MAX);
		write_some(w, data, chance_below(&seed, 400000), false, &seed);
		err_set(&err, RC_INVALID, "digest-mismatch", "no");
		ingest_abort(w, &err);
		size_t len = chance_below(&seed, 400000);
		put_file(w, &b, len, &seed);
		ingest_flush(w);
		assert_true(a.ended && a.end == PIECE_ABORTED);
		assert_int_equal(atomic_load(&a.file.x.failed), RC_INVALID);
		assert_string_equal(a.file.x.err.kind, "digest-mismatch");
		assert_true(b.ended && b.end == PIECE_WHOLE);
		assert_int_equal(atomic_load(&b.file.x.failed), 0);
		assert_int_equal(check_cuts(&b, &space.chunker, data, len), len);
		close_writer(w);
		taken_done(&a);
		taken_done(&b);
	}
}

/* The committer fails a file while it comes in: the rest is taken and dropped. */
static void
a_failed_file_swallows_the_rest(void **state)
{
	struct taken_file t;
	struct err why = ERR_INIT, again = ERR_INIT, err = ERR_INIT;
	uint64_t seed = 23;
	(void)state;

	set_up(65536, 2, 0);
	struct ingest_writer *w = open_writer();
	taken_init(&t);
	ingest_begin(w, &t.file, UINT64_MAX);
	write_some(w, data, 500000, false, &seed);
	assert_false(ingest_failed(w, &err));
	err_set(&why, RC_UNAVAILABLE, "database-unavailable", "away");
	err_set(&again, RC_IO, "io-error", "later");
	file_fail(&t.file, &why);
	file_fail(&t.file, &again);
	assert_true(ingest_failed(w, &err));
	assert_int_equal(err.rc, RC_UNAVAILABLE);
	fake.refuse_of_16 = 16;
	assert_int_equal(ingest_write(w, data, DATA_BYTES), DATA_BYTES);
	assert_int_equal(ingest_write_tail(w, data, 5), 5);
	assert_int_equal(fake.waits, 0);
	ingest_finish(w);
	ingest_flush(w);
	assert_true(t.ended);
	assert_true(t.bytes.len <= 500000);
	assert_string_equal(t.file.x.err.kind, "database-unavailable");
	close_writer(w);
	taken_done(&t);
}

static void
closing_aborts(void **state)
{
	(void)state;
	for (uint64_t round = 0; round < 20; round++) {
		uint64_t seed = round + 29;
		struct taken_file t;
		set_up(65536, round, (unsigned)(round % 2) * 8);
		struct ingest_writer *w = open_writer();
		taken_init(&t);
		ingest_begin(w, &t.file, 1 << 20);
		write_some(w, data, chance_below(&seed, 300000), false, &seed);
		if (round % 4 == 3) { /* while it waits */
			fake.refuse_of_16 = 16;
			while (ingest_write(w, data, 1) == 1)
				;
		}
		close_writer(w);
		assert_true(t.ended && t.end == PIECE_ABORTED);
		assert_string_equal(t.file.x.err.kind, "body-mismatch");
		taken_done(&t);
	}
	ingest_writer_close(NULL);
	set_up(65536, 1, 0);
	close_writer(open_writer());
	assert_int_equal(fake.blocks, 0);
}

/* ---- many files ---- */

static void
empty_files_need_no_memory(void **state)
{
	static struct taken_file t[5000];
	uint64_t seed = 31;
	(void)state;

	set_up(65536, 1, 16);
	struct ingest_writer *w = open_writer();
	for (int i = 0; i < 5000; i++)
		put_file(w, &t[i], 0, &seed);
	ingest_flush(w);
	for (int i = 0; i < 5000; i++) {
		assert_true(t[i].ended && t[i].end == PIECE_WHOLE);
		assert_true(t[i].pieces == 1 && t[i].lengths.len == 0);
		taken_done(&t[i]);
	}
	assert_int_equal(fake.blocks, fake.blocks_without_slab);
	assert_int_equal(fake.blocks, 3);
	assert_int_equal(fake.waits, 0);
	close_writer(w);
}

static void
tiny_files_share_blocks(void **state)
{
	static struct taken_file t[6000];
	uint64_t seed = 37;
	(void)state;

	set_up(16384, 1, 0);
	struct ingest_writer *w = open_writer();
	for (size_t i = 0; i < 6000; i++)
		put_file(w, &t[i], i % 200, &seed);
	ingest_flush(w);
	for (size_t i = 0; i < 6000; i++) {
		assert_true(t[i].ended && t[i].end == PIECE_WHOLE);
		assert_int_equal(check_cuts(&t[i], &space.chunker, data, i % 200), i % 200);
		taken_done(&t[i]);
	}
	/* 600 KB of them: a handful of blocks, not thousands */
	assert_true(fake.blocks < 30);
	close_writer(w);
}

/* Files of all sizes and ends through one writer, with flushes between and refusals everywhere. */
static void
any_files_in_any_order(void **state)
{
	static struct taken_file t[60];
	size_t lens[60];
	(void)state;

	for (uint64_t round = 0; round < 12; round++) {
		uint64_t seed = round + 41;
		struct err err = ERR_INIT;
		set_up(targets[round % 4], round, (unsigned)(round % 4) * 4);
		struct ingest_writer *w = open_writer();
		for (int i = 0; i < 60; i++) {
			lens[i] = chance_below(&seed, (uint64_t)1 << chance_below(&seed, 19));
			taken_init(&t[i]);
			ingest_begin(w, &t[i].file, expected_of(lens[i], &seed));
			write_some(w, data + i, lens[i], false, &seed);
			if (chance_below(&seed, 8) == 0)
				ingest_flush(w);
			switch (chance_below(&seed, 6)) {
			case 0:
				ingest_suspend(w);
				break;
			case 1:
				err_clear(&err);
				err_set(&err, RC_INVALID, NULL, "no");
				ingest_abort(w, &err);
				break;
			default:
				ingest_finish(w);
				break;
			}
			if (chance_below(&seed, 8) == 0)
				ingest_flush(w);
		}
		close_writer(w);
		for (int i = 0; i < 60; i++) {
			size_t cut = check_cuts(&t[i], &space.chunker, data + i, lens[i]);
			assert_true(t[i].ended);
			if (t[i].end == PIECE_WHOLE)
				assert_int_equal(cut, lens[i]);
			if (t[i].end == PIECE_SUSPENDED) {
				assert_int_equal(t[i].file.tail_bytes, lens[i] - cut);
				if (cut < lens[i])
					assert_memory_equal(
						t[i].file.tail, data + i + cut, lens[i] - cut);
			}
			taken_done(&t[i]);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cuts_do_not_depend_on_pieces),
		cmocka_unit_test(more_than_expected_gets_in),
		cmocka_unit_test(an_end_needs_no_slab),
		cmocka_unit_test(no_memory_fails_the_file),
		cmocka_unit_test(room_is_only_lent),
		cmocka_unit_test(suspended_and_continued_is_the_same),
		cmocka_unit_test(an_aborted_file_leaves_no_trace_in_the_next),
		cmocka_unit_test(a_failed_file_swallows_the_rest),
		cmocka_unit_test(closing_aborts),
		cmocka_unit_test(empty_files_need_no_memory),
		cmocka_unit_test(tiny_files_share_blocks),
		cmocka_unit_test(any_files_in_any_order),
	};

	alarm(HANG_SECONDS);
	return cmocka_run_group_tests(tests, fill_kinds, NULL);
}
