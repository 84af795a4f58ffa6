/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "committer_fixture.h"

#define HANG_SECONDS 60
#define SECOND_NS    ((uint64_t)1000000000)

static int
open_sim(void **state)
{
	(void)state;
	sim_open();
	return 0;
}

static int
close_sim(void **state)
{
	(void)state;
	sim_close();
	return 0;
}

/* Its chunks are first, first + 1, … */
static void
make(struct sim_file *f, uint64_t first, size_t count)
{
	static uint64_t ids[SIM_CHUNK_IDS];

	assert_true(first + count <= SIM_CHUNK_IDS);
	for (size_t i = 0; i < SIM_CHUNK_IDS; i++)
		ids[i] = i;
	sim_file_init(f, ids + first, count, true);
}

static void
assert_ok(const struct sim_file *f)
{
	assert_int_equal(f->done_calls, 1);
	assert_int_equal(f->rc, RC_OK);
}

static void
assert_failed(const struct sim_file *f, enum rc rc)
{
	assert_int_equal(f->done_calls, 1);
	assert_int_equal(f->rc, rc);
	assert_int_equal(sim_persisted_file(f), 0);
}

/* ---- whole files ---- */

static void
one_chunk_needs_no_recipe(void **state)
{
	struct sim_file empty, one;
	(void)state;

	make(&empty, 0, 0);
	make(&one, 1, 1);
	sim_push_whole(&empty);
	sim_push_whole(&one);
	sim_commit(SIM_TX_OK);
	assert_ok(&empty);
	assert_ok(&one);
	assert_true(sim_has_chunk(1));
	assert_int_equal(sim_file_rows() + sim_part_count(), 0);
}

static void
more_chunks_are_a_recipe(void **state)
{
	struct sim_file f[3];
	(void)state;

	for (size_t i = 0; i < 3; i++) {
		make(&f[i], i * 100, i + 2);
		sim_push_whole(&f[i]);
	}
	sim_commit(SIM_TX_OK);
	for (int i = 0; i < 3; i++)
		assert_ok(&f[i]);
	assert_int_equal(sim_file_rows(), 3);
	assert_int_equal(sim_part_count(), 3);
	/* who asks the filter is sent to the database */
	for (uint64_t i = 0; i < 300; i++)
		assert_true(sim_filter_has(i) || !sim_has_chunk(i));
}

/* Twice in one group, and again in the next. */
static void
a_content_has_one_recipe(void **state)
{
	struct sim_file f[4];
	(void)state;

	for (int i = 0; i < 4; i++) {
		make(&f[i], 10, 5);
		sim_push_whole(&f[i]);
		if (i > 0)
			sim_commit(SIM_TX_OK);
	}
	for (int i = 0; i < 4; i++)
		assert_ok(&f[i]);
	assert_int_equal(sim_file_rows(), 1);
	assert_int_equal(sim_part_count(), 1);
}

static void
pieces_come_in_any_order(void **state)
{
	static const int orders[6][4] = {
		{3, 2, 1, 0}, {1, 0, 3, 2}, {0, 3, 1, 2}, {2, 0, 1, 3}, {0, 1, 2, 3}, {3, 0, 2, 1}};
	(void)state;

	for (size_t order = 0; order < 6; order++) {
		for (int split = 0; split < 2; split++) {
			struct sim_file f;
			struct batch *b[4];
			make(&f, 100 * order, 10);
			for (int i = 0; i < 4; i++) {
				b[i] = sim_batch();
				sim_piece(
					b[i], &f, (size_t)i + 1, i < 3 ? PIECE_MORE : PIECE_WHOLE);
			}
			for (int i = 0; i < 4; i++) {
				assert_int_equal(f.done_calls, 0);
				sim_push(b[orders[order][i]]);
				if (split)
					sim_commit(SIM_TX_OK);
			}
			sim_commit(SIM_TX_OK);
			assert_ok(&f);
		}
	}
}

/* Several pieces and files in the blocks of one batch. */
static void
a_batch_holds_many_pieces(void **state)
{
	struct sim_file f[30];
	(void)state;

	struct batch *b = sim_batch();
	for (size_t i = 0; i < 30; i++) {
		make(&f[i], i * 7, i % 5);
		if (i % 5 > 2)
			sim_piece(b, &f[i], 2, PIECE_MORE);
		if (i % 4 == 0)
			sim_block(b);
		sim_piece(b, &f[i], i % 5 - f[i].cut, PIECE_WHOLE);
	}
	sim_push(b);
	sim_commit(SIM_TX_OK);
	for (int i = 0; i < 30; i++)
		assert_ok(&f[i]);
}

/* ---- leaning on others ---- */

static void
a_file_waits_for_what_it_leans_on(void **state)
{
	struct sim_file first, second, other;
	(void)state;

	make(&first, 10, 3);
	make(&second, 12, 3); /* shares chunk 12 */
	make(&other, 50, 3);
	struct batch *a = sim_batch(), *b = sim_batch();
	sim_piece(a, &first, 3, PIECE_WHOLE);
	sim_piece(b, &second, 3, PIECE_WHOLE);
	sim_push(b);
	sim_push_whole(&other);
	sim_commit(SIM_TX_OK);
	assert_ok(&other);
	assert_int_equal(second.done_calls, 0);
	sim_push(a);
	sim_commit(SIM_TX_OK);
	assert_ok(&first);
	assert_ok(&second);
}

static void
who_leans_on_itself_need_not_wait_for_long(void **state)
{
	static const uint64_t ids[] = {5, 5, 6, 5};
	struct sim_file f;
	(void)state;

	sim_file_init(&f, ids, 4, true);
	sim_push_whole(&f);
	sim_commit(SIM_TX_OK);
	assert_ok(&f);
}

/* Of files beside the one that failed, just those fail that leaned on it. */
static void
a_failed_batch_fails_who_leaned_on_it(void **state)
{
	static const enum rc rcs[] = {RC_FULL, RC_IO, RC_UNAVAILABLE};
	struct sim_file bad, leans, free_of_it, later;
	(void)state;

	for (int how = 0; how < 3; how++) {
		make(&bad, 10, 3);
		make(&leans, 12, 3);
		make(&free_of_it, 50 + 10 * (uint64_t)how, 3);
		struct batch *a = sim_batch(), *b = sim_batch();
		sim_piece(a, &bad, 3, PIECE_WHOLE);
		sim_piece(b, &leans, 3, PIECE_WHOLE);
		if (how == 0)
			sim_fail(a, false);
		else if (how == 1)
			sim_fail_sync(a);
		sim_push(b);
		sim_push_whole(&free_of_it);
		if (how == 2) /* in a group of its own, which fails */
			sim_commit(SIM_TX_OK);
		sim_push(a);
		sim_commit(how == 2 ? SIM_TX_REFUSED : SIM_TX_OK);
		assert_failed(&bad, rcs[how]);
		assert_failed(&leans, how == 1 ? RC_IO : RC_UNAVAILABLE); /* one pack for both */
		assert_ok(&free_of_it);
		assert_false(sim_has_chunk(10));
		assert_false(sim_has_chunk(12));
	}
	/* and then all can be stored */
	make(&later, 10, 5);
	sim_push_whole(&later);
	sim_commit(SIM_TX_OK);
	assert_ok(&later);
}

/* However many others fail meanwhile: what a slow upload leant on is not forgotten. */
static void
failures_are_not_forgotten(void **state)
{
	struct sim_file bad, slow, others[700];
	(void)state;

	make(&bad, 10, 3);
	make(&slow, 12, 300);
	struct batch *a = sim_batch(), *b = sim_batch();
	sim_piece(a, &bad, 3, PIECE_WHOLE);
	sim_piece(b, &slow, 3, PIECE_MORE);
	sim_fail(a, false);
	sim_push(a);
	sim_push(b);
	sim_commit(SIM_TX_OK);
	assert_failed(&bad, RC_FULL);
	assert_false(sim_has_chunk(12));
	for (size_t i = 0; i < 700; i++) {
		make(&others[i], 500, 1);
		b = sim_batch();
		sim_piece(b, &others[i], 1, PIECE_WHOLE);
		sim_fail(b, i % 2);
		sim_push(b);
		sim_commit(SIM_TX_OK);
	}
	sim_push_whole(&slow);
	sim_commit(SIM_TX_OK);
	assert_failed(&slow, RC_UNAVAILABLE);
}

/* … and an upload that begins after all that is none the worse for it. */
static void
old_failures_harm_nobody_new(void **state)
{
	struct sim_file bad[300], first, second;
	(void)state;

	for (size_t i = 0; i < 300; i++) {
		make(&bad[i], 10, 3);
		struct batch *b = sim_batch();
		sim_piece(b, &bad[i], 3, PIECE_WHOLE);
		sim_fail(b, false);
		sim_push(b);
		sim_commit(SIM_TX_OK);
	}
	make(&first, 10, 3);
	make(&second, 10, 5);
	sim_push_whole(&first);
	sim_push_whole(&second);
	sim_commit(SIM_TX_OK);
	assert_ok(&first);
	assert_ok(&second);
}

/* ---- transactions that fail ---- */

static void
a_failed_transaction_fails_all_in_it(void **state)
{
	static const enum sim_tx how[] = {
		SIM_TX_REFUSED, SIM_TX_BROKEN, SIM_TX_LOST, SIM_TX_UNKNOWN};
	(void)state;

	for (size_t i = 0; i < 4; i++) {
		struct sim_file f[5], going_on;
		struct sim_rider r;
		for (size_t k = 0; k < 5; k++) {
			make(&f[k], i * 100 + k * 2, k);
			sim_push_whole(&f[k]);
		}
		make(&going_on, i * 100 + 50, 10);
		struct batch *b = sim_batch();
		sim_piece(b, &going_on, 2, PIECE_MORE);
		sim_push(b);
		sim_rider_init(&r, 0, i);
		sim_submit(&r);
		sim_commit(how[i]);
		for (int k = 0; k < 5; k++) {
			assert_int_equal(f[k].done_calls, 1);
			assert_int_equal(f[k].rc, RC_UNAVAILABLE);
		}
		assert_int_equal(r.rc, RC_UNAVAILABLE);
		assert_int_not_equal(atomic_load(&going_on.file.x.failed), 0);
		assert_int_equal(sim_has_chunk(i * 100 + 50), how[i] == SIM_TX_UNKNOWN);
		/* what goes on ends without success, and all of it can be sent again */
		sim_push_whole(&going_on);
		sim_commit(SIM_TX_OK);
		assert_failed(&going_on, RC_UNAVAILABLE);
		for (size_t k = 0; k < 5; k++) {
			make(&f[k], i * 100 + k * 2, k);
			sim_push_whole(&f[k]);
		}
		sim_commit(SIM_TX_OK);
		for (int k = 0; k < 5; k++)
			assert_ok(&f[k]);
	}
}

/* Recipe ids come in lots; none is used that was not given out, also when asking for them fails. */
static void
recipe_ids_run_out_and_fail(void **state)
{
	struct sim_file f;
	(void)state;

	for (size_t i = 0; i < 300; i++) {
		make(&f, i * 3 % 900, 2 + i % 3);
		sim_push_whole(&f);
		sim_commit(i % 64 == 1 || i == 0 ? SIM_TX_REFUSED : SIM_TX_OK);
		assert_int_equal(f.done_calls, 1);
		assert_true(f.rc == RC_OK || i == 0 || i % 64 == 1);
	}
}

static void
a_repeated_transaction_is_one(void **state)
{
	struct sim_file f[3];
	struct sim_rider r[3];
	uint64_t numbers[8];
	(void)state;

	for (size_t i = 0; i < 3; i++) {
		make(&f[i], i * 10, i * 3);
		sim_push_whole(&f[i]);
		sim_rider_init(&r[i], 0, i);
		sim_submit(&r[i]);
	}
	sim_commit(SIM_TX_AGAIN);
	for (int i = 0; i < 3; i++) {
		assert_ok(&f[i]);
		assert_int_equal(r[i].rc, RC_OK);
	}
	assert_int_equal(sim_persisted(numbers, 8), 3);
}

/* ---- riders ---- */

static void
riders_keep_their_order(void **state)
{
	struct sim_rider r[60];
	struct sim_file f[20];
	uint64_t numbers[64];
	(void)state;

	for (uint64_t i = 0; i < 60; i++) {
		sim_rider_init(&r[i], (int)(i * 7 % 3), i);
		sim_submit(&r[i]);
		if (i % 3)
			continue;
		make(&f[i / 3], i, 1);
		sim_file_set_kind(&f[i / 3], (int)(i * 5 % 3));
		sim_push_whole(&f[i / 3]);
	}
	sim_commit(SIM_TX_OK);
	assert_int_equal(sim_persisted(numbers, 64), 40);
	/* those of one function are in order, and there is one run of each */
	int runs = 1;
	for (size_t i = 1; i < 40; i++) {
		bool same = r[numbers[i]].rider.ops == r[numbers[i - 1]].rider.ops;
		assert_true(!same || numbers[i] > numbers[i - 1]);
		runs += !same;
	}
	assert_int_equal(runs, 2);
	for (int i = 0; i < 60; i++)
		assert_int_equal(r[i].done_calls, 1);
	for (int i = 0; i < 20; i++)
		assert_ok(&f[i]);
}

/* Of two that put the same path the one that ended last has the last word, also if one was held. */
static void
files_persist_in_the_order_they_ended(void **state)
{
	struct sim_file first, f[6];
	uint64_t serials[8];
	(void)state;

	make(&first, 10, 3);
	struct batch *a = sim_batch();
	sim_piece(a, &first, 3, PIECE_WHOLE);
	for (size_t i = 0; i < 6; i++) {
		make(&f[i], i < 3 ? 12 : 50, 1 + i);
		sim_push_whole(&f[i]);
		if (i == 3)
			sim_commit(SIM_TX_OK);
	}
	sim_push(a);
	sim_commit(SIM_TX_OK);
	/* f[3] leaned on nobody */
	static const int order[] = {3, 0, 1, 2, 4, 5};
	assert_int_equal(sim_persisted_files(serials, 8), 7);
	for (int i = 0; i < 6; i++)
		assert_int_equal(serials[i], f[order[i]].serial);
	assert_int_equal(serials[6], first.serial);
}

static void
riders_need_no_files(void **state)
{
	struct sim_rider r[2];
	uint64_t numbers[4];
	(void)state;

	sim_rider_init(&r[0], 1, 5);
	sim_submit(&r[0]);
	sim_commit(SIM_TX_OK);
	sim_rider_init(&r[1], 1, 6);
	sim_submit(&r[1]);
	sim_commit(SIM_TX_LOST);
	assert_true(r[0].rc == RC_OK && r[1].rc == RC_UNAVAILABLE);
	assert_int_equal(sim_persisted(numbers, 4), 1);
	assert_int_equal(numbers[0], 5);
}

/* ---- uploads that stop half-way ---- */

static void
a_suspended_file_can_go_on(void **state)
{
	static const size_t stops[] = {0, 1, 2, 7, 19, 20};
	(void)state;

	for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
		for (size_t again = 0; again < 2; again++) {
			struct sim_file f, g, h;
			struct batch *b;
			make(&f, i * 100 + again * 50, 20);
			b = sim_batch();
			sim_piece(b, &f, stops[i], PIECE_SUSPENDED);
			sim_push(b);
			sim_commit(SIM_TX_OK);
			assert_ok(&f);
			/* and once more, maybe without a byte more */
			sim_file_resume(&g, &f);
			b = sim_batch();
			sim_piece(b, &g, again && stops[i] < 20 ? 1 : 0, PIECE_SUSPENDED);
			sim_push(b);
			sim_commit(SIM_TX_OK);
			assert_ok(&g);
			sim_file_resume(&h, &g);
			sim_push_whole(&h);
			sim_commit(SIM_TX_OK);
			assert_ok(&h);
			assert_true(g.file.recipe_id == 0 || h.file.recipe_id == g.file.recipe_id);
		}
	}
}

/* It was sent whole meanwhile: its parts are of no use. */
static void
a_duplicate_drops_its_parts(void **state)
{
	struct sim_file half, whole, rest;
	(void)state;

	make(&half, 10, 20);
	struct batch *b = sim_batch();
	sim_piece(b, &half, 8, PIECE_SUSPENDED);
	sim_push(b);
	make(&whole, 10, 20);
	sim_push_whole(&whole);
	sim_commit(SIM_TX_OK);
	assert_int_equal(sim_part_count(), 2);
	sim_file_resume(&rest, &half);
	sim_push_whole(&rest);
	sim_commit(SIM_TX_OK);
	assert_ok(&rest);
	assert_int_equal(sim_part_count(), 1);
	assert_int_equal(sim_file_rows(), 1);
}

/* Checkpoints come by time; what they say is checked as they are made. */
static void
checkpoints_follow_the_upload(void **state)
{
	struct sim_file f;
	(void)state;

	make(&f, 10, 40);
	for (int i = 0; i < 9; i++) {
		struct batch *b = sim_batch();
		sim_piece(b, &f, 4, PIECE_MORE);
		sim_push(b);
		if (i % 3 == 2)
			sim_clock_add(2 * SECOND_NS);
		sim_commit(SIM_TX_OK);
		assert_int_equal(f.saved.chunks, (i + 1) / 3 * 12);
	}
	assert_int_equal(sim_part_count(), 3);
	sim_push_whole(&f);
	sim_commit(SIM_TX_OK);
	assert_ok(&f);
	assert_int_equal(sim_part_count(), 4);
}

/* An upload that goes on has a tail that is not in its recipe: a checkpoint that covers less than
 * what is noted already would take it back. */
static void
a_checkpoint_never_goes_back(void **state)
{
	struct sim_file half, rest;
	(void)state;

	make(&half, 10, 20);
	struct batch *b = sim_batch();
	sim_piece(b, &half, 8, PIECE_SUSPENDED);
	sim_push(b);
	sim_commit(SIM_TX_OK);
	sim_file_resume(&rest, &half);
	rest.file.floor_bytes = rest.file.recipe_bytes + 3 * sim_chunk_bytes(18);
	for (int i = 0; i < 5; i++) {
		b = sim_batch();
		sim_piece(b, &rest, 1, PIECE_MORE);
		sim_push(b);
		sim_clock_add(2 * SECOND_NS);
		sim_commit(SIM_TX_OK);
		assert_int_equal(rest.saved.chunks, i < 2 ? 0 : 9 + i);
	}
	sim_push_whole(&rest);
	sim_commit(SIM_TX_OK);
	assert_ok(&rest);
}

/* What was sound at a checkpoint is not asked again. It leans on two others, far apart: without the
 * checkpoint between them, the failure between them would count. */
static void
a_checkpoint_ends_leaning(void **state)
{
	struct sim_file first, bad, last, slow;
	struct batch *a, *b;
	(void)state;

	for (int with = 0; with < 2; with++) {
		const uint64_t base = 100 * (uint64_t)with;
		static const uint64_t ids[] = {12, 13, 14, 40, 112, 113, 114, 140};
		make(&first, base + 10, 3);
		make(&bad, base + 30, 1);
		make(&last, base + 40, 2);
		sim_file_init(&slow, ids + 4 * with, 4, true);
		a = sim_batch();
		sim_piece(a, &first, 3, PIECE_WHOLE);
		b = sim_batch();
		sim_piece(b, &slow, 3, PIECE_MORE);
		sim_push(a);
		sim_push(b);
		sim_clock_add(with * 2 * SECOND_NS);
		sim_commit(SIM_TX_OK);
		assert_int_equal(slow.saved.chunks, with * 3);
		a = sim_batch();
		sim_piece(a, &bad, 1, PIECE_WHOLE);
		sim_fail(a, false);
		b = sim_batch();
		sim_piece(b, &last, 2, PIECE_WHOLE);
		sim_push_whole(&slow);
		sim_push(a);
		sim_push(b);
		sim_commit(SIM_TX_OK);
		assert_failed(&bad, RC_FULL);
		assert_ok(&last);
		assert_int_equal(slow.rc, with ? RC_OK : RC_UNAVAILABLE);
	}
}

/* A checkpoint that would lean on what failed fails the upload at once. */
static void
a_checkpoint_finds_the_failure(void **state)
{
	struct sim_file bad, slow;
	(void)state;

	make(&bad, 10, 3);
	make(&slow, 12, 10);
	struct batch *a = sim_batch(), *b = sim_batch();
	sim_piece(a, &bad, 3, PIECE_WHOLE);
	sim_piece(b, &slow, 4, PIECE_MORE);
	sim_fail(a, false);
	sim_push(a);
	sim_push(b);
	sim_clock_add(2 * SECOND_NS);
	sim_commit(SIM_TX_OK);
	assert_int_equal(atomic_load(&slow.file.x.failed), RC_UNAVAILABLE);
	sim_push_whole(&slow);
	sim_commit(SIM_TX_OK);
	assert_failed(&slow, RC_UNAVAILABLE);
	assert_int_equal(sim_part_count(), 0);
}

/* A long recipe is written in parts also of an upload that cannot be resumed; if it comes to
 * nothing the parts go. */
static void
no_parts_are_left_behind(void **state)
{
	static uint64_t ids[9000];
	(void)state;

	for (size_t i = 0; i < 9000; i++)
		ids[i] = i % SIM_CHUNK_IDS;
	for (int ends = 0; ends < 2; ends++) {
		struct sim_file f;
		size_t rows = sim_file_rows();
		sim_file_init(&f, ids, 9000 - (size_t)ends, false);
		for (int i = 0; i < 4; i++) {
			struct batch *b = sim_batch();
			sim_piece(b, &f, 2200, PIECE_MORE);
			sim_push(b);
			sim_commit(SIM_TX_OK);
		}
		assert_int_equal(sim_parts_of(f.file.recipe_id), 2);
		struct batch *b = sim_batch();
		sim_piece(b, &f, f.id_count - f.cut, ends ? PIECE_WHOLE : PIECE_ABORTED);
		sim_push(b);
		sim_commit(SIM_TX_OK);
		if (ends)
			assert_ok(&f);
		else
			assert_failed(&f, RC_INVALID);
		assert_int_equal(sim_file_rows() - rows, ends);
		/* they go with the next group that is committed */
		struct sim_file next;
		make(&next, 0, 1);
		sim_push_whole(&next);
		sim_commit(SIM_TX_LOST);
		make(&next, 0, 1);
		sim_push_whole(&next);
		sim_commit(SIM_TX_OK);
		assert_ok(&next);
		assert_int_equal(sim_part_count(), ends ? 3 : 0);
	}
}

/* Its last COMMIT happened and nobody was told: the file's row leads to its parts, which stay. */
static void
parts_stay_while_a_commit_is_in_doubt(void **state)
{
	static uint64_t ids[9000];
	struct sim_file f, next;
	(void)state;

	for (size_t i = 0; i < 9000; i++)
		ids[i] = i % SIM_CHUNK_IDS;
	sim_file_init(&f, ids, 9000, false);
	for (int i = 0; i < 4; i++) {
		struct batch *b = sim_batch();
		sim_piece(b, &f, 2200, PIECE_MORE);
		sim_push(b);
		sim_commit(SIM_TX_OK);
	}
	struct batch *b = sim_batch();
	sim_piece(b, &f, f.id_count - f.cut, PIECE_WHOLE);
	sim_push(b);
	sim_commit(SIM_TX_UNKNOWN);
	assert_int_equal(f.done_calls, 1);
	assert_int_equal(f.rc, RC_UNAVAILABLE);
	assert_int_equal(sim_file_rows(), 1);
	for (int i = 0; i < 2; i++) {
		make(&next, 0, 1);
		sim_push_whole(&next);
		sim_commit(SIM_TX_OK);
		assert_ok(&next);
	}
	assert_int_equal(sim_parts_of(f.file.recipe_id), 3);
}

/* ---- accounts ---- */

/* The time of a group counts once for each meter that took part, however the files lie. */
static void
a_group_counts_once_a_meter(void **state)
{
	static struct meter meters[2];
	struct sim_file f[20];
	(void)state;

	memset(meters, 0, sizeof meters);
	for (size_t i = 0; i < 20; i++) {
		make(&f[i], i, 1);
		f[i].file.meter = &meters[i % 2];
		sim_push_whole(&f[i]);
	}
	sim_commit(SIM_TX_OK);
	for (int m = 0; m < 2; m++) {
		uint64_t sync = meter_get(&sim_engine()->total.stage_ns[METER_SYNC]);
		uint64_t sql = meter_get(&sim_engine()->total.stage_ns[METER_SQL]);
		assert_true(sync > 0 && sql > 0);
		assert_int_equal(meter_get(&meters[m].stage_ns[METER_SYNC]), sync);
		assert_int_equal(meter_get(&meters[m].stage_ns[METER_SQL]), sql);
		assert_int_equal(meter_get(&meters[m].files_durable), 10);
	}
	assert_int_equal(meter_get(&meters[0].durable_bytes) + meter_get(&meters[1].durable_bytes),
		meter_get(&sim_engine()->total.durable_bytes));
}

static void
receipts_add_up(void **state)
{
	struct sim_file f;
	uint64_t bytes = 0;
	(void)state;

	make(&f, 10, 12);
	for (int i = 0; i < 4; i++) {
		struct batch *b = sim_batch();
		sim_piece(b, &f, 3, i < 3 ? PIECE_MORE : PIECE_WHOLE);
		b->blocks->pieces[0].cost.new_chunks = 3;
		b->blocks->pieces[0].cost.stage_ns[METER_HASH] = 100;
		bytes += b->blocks->bytes;
		sim_push(b);
	}
	sim_commit(SIM_TX_OK);
	assert_ok(&f);
	assert_int_equal(f.file.receipt.logical_bytes, bytes);
	assert_int_equal(f.file.receipt.new_chunks, 12);
	assert_int_equal(f.file.receipt.stage_ns[METER_HASH], 400);
}

/* ---- when a group goes ---- */

/* Nobody waits for an answer, the group is small and time stands still: when the queue is full the
 * group goes all the same, as the workers wait. */
static void
a_full_queue_is_reason_enough(void **state)
{
	struct sim_file f[COMMIT_QUEUE_MAX], last;
	(void)state;

	make(&last, 999, 1);
	sim_push_whole(&last);
	sim_commit(SIM_TX_OK); /* the committer runs */
	sim_clock_add(SECOND_NS << 30);
	sim_clock_step(0);
	for (size_t i = 0; i < COMMIT_QUEUE_MAX; i++) {
		make(&f[i], i, 2);
		struct batch *b = sim_batch();
		sim_piece(b, &f[i], 1, PIECE_MORE);
		sim_push(b);
	}
	sim_commit(SIM_TX_OK);
	for (size_t i = 0; i < COMMIT_QUEUE_MAX; i++) {
		assert_true(sim_has_chunk(i));
		sim_push_whole(&f[i]);
	}
	sim_clock_step(10000000);
	sim_commit(SIM_TX_OK);
	for (int i = 0; i < COMMIT_QUEUE_MAX; i++)
		assert_ok(&f[i]);
}

static void
what_somebody_waits_for_is_timed(void **state)
{
	struct histogram_view v;
	struct sim_file f;
	(void)state;

	make(&f, 0, 2);
	struct batch *b = sim_batch();
	sim_piece(b, &f, 1, PIECE_MORE);
	sim_push(b);
	sim_clock_step(SECOND_NS);
	sim_commit(SIM_TX_OK);
	histogram_read(&sim_engine()->commit_wait, &v);
	assert_int_equal(v.count, 0);
	sim_push_whole(&f);
	sim_commit(SIM_TX_OK);
	assert_ok(&f);
	histogram_read(&sim_engine()->commit_wait, &v);
	assert_int_equal(v.count, 1);
	assert_true(v.sum >= 1000000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_sim, close_sim)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_chunk_needs_no_recipe),
		TEST(more_chunks_are_a_recipe),
		TEST(a_content_has_one_recipe),
		TEST(pieces_come_in_any_order),
		TEST(a_batch_holds_many_pieces),
		TEST(a_file_waits_for_what_it_leans_on),
		TEST(who_leans_on_itself_need_not_wait_for_long),
		TEST(a_failed_batch_fails_who_leaned_on_it),
		TEST(failures_are_not_forgotten),
		TEST(old_failures_harm_nobody_new),
		TEST(a_failed_transaction_fails_all_in_it),
		TEST(recipe_ids_run_out_and_fail),
		TEST(a_repeated_transaction_is_one),
		TEST(riders_keep_their_order),
		TEST(files_persist_in_the_order_they_ended),
		TEST(riders_need_no_files),
		TEST(a_suspended_file_can_go_on),
		TEST(a_duplicate_drops_its_parts),
		TEST(checkpoints_follow_the_upload),
		TEST(a_checkpoint_never_goes_back),
		TEST(a_checkpoint_ends_leaning),
		TEST(a_checkpoint_finds_the_failure),
		TEST(no_parts_are_left_behind),
		TEST(parts_stay_while_a_commit_is_in_doubt),
		TEST(a_group_counts_once_a_meter),
		TEST(receipts_add_up),
		TEST(a_full_queue_is_reason_enough),
		TEST(what_somebody_waits_for_is_timed),
	};

	alarm(HANG_SECONDS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
