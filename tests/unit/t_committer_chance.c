/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads that share chunks, batches in any order, failures anywhere. What must hold is checked by
 * committer_fixture each time a file is told how it ended; here is only what happens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chance.h"
#include "committer_fixture.h"

#define HANG_SECONDS 100
#define FILES_MAX    300
#define RIDERS_MAX   300
#define OUT_MAX      12 /* batches that are not handed over yet */
#define STEPS        45
#define IDS_MAX      60

struct run {
	uint64_t seed;
	unsigned fail_of_100; /* batches and transactions */
	struct sim_file files[FILES_MAX];
	bool ended[FILES_MAX], resumed[FILES_MAX];
	uint64_t ids[FILES_MAX][IDS_MAX];
	size_t file_count;
	struct sim_rider riders[RIDERS_MAX];
	size_t rider_count;
	struct batch *out[OUT_MAX];
	size_t out_count;
};

static uint64_t
below(struct run *r, uint64_t n)
{
	return chance_below(&r->seed, n);
}

/* Few chunks in all, so that many files have some in common; some are equal altogether. */
static void
add_file(struct run *r)
{
	static const uint64_t most[] = {1, 2, 3, 6, IDS_MAX};
	size_t n = r->file_count;
	size_t count = below(r, most[below(r, 5)] + 1);

	if (n == FILES_MAX)
		return;
	r->file_count++;
	size_t other = n > 0 ? below(r, n) : 0;
	const struct sim_file *was = n > 0 ? &r->files[other] : NULL;
	/* one after the other, as a stage lets them */
	if (was != NULL && was->rc == RC_OK && was->done_calls == 1 && was->file.partial &&
		!r->resumed[other]) {
		r->resumed[other] = true;
		sim_file_resume(&r->files[n], was);
		return;
	}
	for (size_t i = 0; i < count; i++)
		r->ids[n][i] = below(r, 150);
	if (was != NULL && below(r, 3) == 0) {
		count = was->id_count;
		memcpy(r->ids[n], was->ids, count * sizeof r->ids[n][0]);
	}
	sim_file_init(&r->files[n], r->ids[n], count, below(r, 3) > 0);
	sim_file_set_kind(&r->files[n], (int)below(r, 3));
}

static void
cut_piece(struct run *r, struct batch *b, size_t i, bool last)
{
	struct sim_file *f = &r->files[i];
	size_t left = f->id_count - f->cut;
	size_t n = last ? left : below(r, left + 1);
	enum piece_end end = n == left ? PIECE_WHOLE : PIECE_MORE;

	if (!last && f->file.checkpoint != NULL && below(r, 12) == 0)
		end = PIECE_SUSPENDED;
	else if (!last && below(r, 20) == 0)
		end = PIECE_ABORTED;
	if (n == 0 && end == PIECE_MORE)
		return;
	sim_piece(b, f, n, end);
	r->ended[i] = end != PIECE_MORE;
}

static void
add_batch(struct run *r)
{
	if (r->out_count == OUT_MAX)
		return;
	struct batch *b = sim_batch();
	for (uint64_t n = 1 + below(r, 4); n > 0; n--) {
		size_t i = below(r, r->file_count);
		if (!r->ended[i] && r->files[i].ticket_count < 60)
			cut_piece(r, b, i, false);
		if (below(r, 4) == 0)
			sim_block(b);
	}
	if (below(r, 100) < r->fail_of_100)
		sim_fail(b, below(r, 2));
	else if (below(r, 200) < r->fail_of_100)
		sim_fail_sync(b);
	r->out[r->out_count++] = b;
}

static void
push_one(struct run *r)
{
	size_t i = below(r, r->out_count);

	sim_push(r->out[i]);
	r->out[i] = r->out[--r->out_count];
}

static enum sim_tx
how_to_commit(struct run *r)
{
	static const enum sim_tx bad[] = {
		SIM_TX_REFUSED, SIM_TX_BROKEN, SIM_TX_LOST, SIM_TX_UNKNOWN};

	if (below(r, 100) < r->fail_of_100)
		return bad[below(r, 4)];
	return below(r, 8) ? SIM_TX_OK : SIM_TX_AGAIN;
}

static void
step(struct run *r)
{
	for (uint64_t n = below(r, 8); n > 0; n--)
		add_file(r);
	for (uint64_t n = below(r, 6); n > 0 && r->file_count > 0; n--)
		add_batch(r);
	for (uint64_t n = below(r, r->out_count + 1); n > 0; n--)
		push_one(r);
	for (uint64_t n = below(r, 4); n > 0 && r->rider_count < RIDERS_MAX; n--) {
		struct sim_rider *rider = &r->riders[r->rider_count];
		sim_rider_init(rider, (int)below(r, 3), r->rider_count++);
		sim_submit(rider);
	}
	if (below(r, 3) == 0)
		sim_clock_add(below(r, 2000000000));
	sim_commit(how_to_commit(r));
}

/* End what is open, hand everything over. */
static void
finish(struct run *r)
{
	while (r->out_count > 0)
		push_one(r);
	sim_commit(SIM_TX_OK);
	for (size_t i = 0; i < r->file_count; i++) {
		if (r->ended[i])
			continue;
		struct batch *b = sim_batch();
		cut_piece(r, b, i, true);
		sim_push(b);
		sim_commit(SIM_TX_OK);
	}
}

static void
check_parts(const struct run *r)
{
	for (size_t i = 0; i < sim_part_count(); i++) {
		bool is_named;
		uint64_t recipe = sim_part_recipe(i, &is_named);
		for (size_t k = 0; k < r->file_count && !is_named; k++)
			is_named = r->files[k].file.recipe_id == recipe &&
				   r->files[k].file.checkpoint != NULL;
		assert_true(is_named);
	}
}

static void
check_riders(const struct run *r)
{
	uint64_t numbers[RIDERS_MAX], last[2] = {0};
	size_t n = sim_persisted(numbers, RIDERS_MAX), persisted = 0;

	for (size_t i = 0; i < r->rider_count; i++) {
		assert_int_equal(r->riders[i].done_calls, 1);
		persisted += r->riders[i].rc == RC_OK && r->riders[i].rider.ops->persist != NULL;
	}
	/* more: those whose answer was lost */
	assert_true(n >= persisted && (r->fail_of_100 > 0 || n == persisted));
	for (size_t i = 0; i < n; i++) {
		bool kind = r->riders[numbers[i]].rider.ops == r->riders[numbers[0]].rider.ops;
		assert_true(numbers[i] >= last[kind]);
		last[kind] = numbers[i];
	}
}

static size_t
run_one(uint64_t seed, unsigned fail_of_100)
{
	struct run *r = calloc(1, sizeof *r);
	size_t good = 0;

	assert_non_null(r);
	r->seed = seed;
	r->fail_of_100 = fail_of_100;
	sim_open();
	for (int i = 0; i < STEPS; i++)
		step(r);
	finish(r);
	for (size_t i = 0; i < r->file_count; i++) {
		const struct sim_file *f = &r->files[i];
		assert_int_equal(f->done_calls, 1);
		good += f->rc == RC_OK;
		if (fail_of_100 == 0)
			assert_int_equal(f->rc != RC_OK, f->aborts);
	}
	check_parts(r);
	check_riders(r);
	sim_close();
	free(r);
	return good;
}

static void
without_failures_all_is_well(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++)
		assert_true(run_one(seed, 0) > 50);
}

static void
nothing_is_told_that_is_not_so(void **state)
{
	size_t good = 0;
	(void)state;

	for (uint64_t seed = 100; seed <= 145; seed++)
		good += run_one(seed, 2 + (unsigned)(seed % 4) * 8);
	/* and not because all fail */
	assert_true(good > 1500);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_failures_all_is_well),
		cmocka_unit_test(nothing_is_told_that_is_not_so),
	};

	alarm(HANG_SECONDS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
