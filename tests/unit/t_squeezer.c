/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec.h"
#include "squeezer.h"

#define PIECE_BYTES ((size_t)512 << 10)
#define PIECES      6
#define WAIT_MS     60000

struct piece {
	struct squeeze_piece piece;
	uint8_t raw[PIECE_BYTES];
	uint8_t out[PIECE_BYTES];
};

static struct piece *pieces;
static uint8_t back[PIECE_BYTES];

static void
fill(uint8_t *data, size_t len, uint64_t seed, unsigned values)
{
	uint64_t x = seed * 2654435761u + 88172645463325252u;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		data[i] = (uint8_t)(x % values);
	}
}

static int
make_pieces(void **state)
{
	(void)state;
	pieces = calloc(PIECES, sizeof *pieces);
	for (unsigned i = 0; i < PIECES; i++) {
		/* the last one is random */
		fill(pieces[i].raw, PIECE_BYTES, i + 1, i + 1 == PIECES ? 256 : 17);
		pieces[i].piece = (struct squeeze_piece){.raw = pieces[i].raw,
			.raw_bytes = PIECE_BYTES - i * 1000,
			.out = pieces[i].out,
			.out_cap = PIECE_BYTES};
	}
	return 0;
}

static int
free_pieces(void **state)
{
	(void)state;
	free(pieces);
	return 0;
}

static struct squeezer *
open_squeezer(unsigned threads, int level, unsigned duty_percent)
{
	struct squeezer_options o = {threads, level, duty_percent, 20};
	struct squeezer *s = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(squeezer_open(&o, &s, &err), RC_OK);
	return s;
}

static void
check_piece(unsigned i)
{
	const struct squeeze_piece *p = &pieces[i].piece;
	struct codec *codec = NULL;
	struct err err = ERR_INIT;

	if (i + 1 == PIECES) {
		assert_int_equal(p->out_bytes, 0);
		return;
	}
	assert_true(p->out_bytes > 0 && p->out_bytes < p->raw_bytes);
	assert_int_equal(codec_open(&codec, &err), RC_OK);
	assert_int_equal(
		codec_expand(codec, CODEC_ZSTD, p->out, p->out_bytes, back, p->raw_bytes, &err),
		RC_OK);
	assert_memory_equal(back, p->raw, p->raw_bytes);
	codec_free(codec);
}

static void
submit_all(struct squeezer *s)
{
	for (unsigned i = 0; i < PIECES; i++)
		squeezer_submit(s, &pieces[i].piece);
}

static void
nap_ms(long ms)
{
	struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&nap, NULL);
}

static void
all_pieces_get_done(void **state)
{
	(void)state;
	for (unsigned threads = 1; threads <= SQUEEZER_THREADS_MAX; threads += 3) {
		struct squeezer_stats stats;
		struct squeezer *s = open_squeezer(threads, 3, 100);
		for (int turn = 0; turn < 2; turn++) {
			submit_all(s);
			for (unsigned i = 0; i < PIECES; i++)
				assert_true(squeezer_wait(s, &pieces[i].piece, WAIT_MS));
			for (unsigned i = 0; i < PIECES; i++)
				check_piece(i);
			nap_ms(60); /* the tables are given back, and taken again */
		}
		squeezer_stats(s, &stats);
		assert_true(stats.is_background);
		assert_true(stats.cpu_ns > 0);
		assert_int_equal(stats.stops, 0);
		assert_int_equal(stats.working, 0);
		squeezer_free(s);
	}
}

static void
wait_for_rest(struct squeezer *s)
{
	struct squeezer_stats stats;

	do {
		nap_ms(1);
		squeezer_stats(s, &stats);
	} while (stats.working > 0);
}

static void
held_threads_let_go_and_begin_again(void **state)
{
	(void)state;
	struct squeezer *s = open_squeezer(2, 19, 100);
	struct squeezer_stats stats;

	squeezer_hold(s, true);
	submit_all(s);
	assert_false(squeezer_wait(s, &pieces[0].piece, 20));
	squeezer_stats(s, &stats);
	assert_int_equal(stats.working, 0);
	for (int turn = 0; turn < 5; turn++) {
		squeezer_hold(s, false);
		squeezer_wait(s, &pieces[PIECES - 1].piece, 10);
		squeezer_hold(s, true);
		wait_for_rest(s);
	}
	nap_ms(60);
	squeezer_hold(s, false);
	for (unsigned i = 0; i < PIECES; i++) {
		assert_true(squeezer_wait(s, &pieces[i].piece, WAIT_MS));
		check_piece(i);
	}
	squeezer_free(s);
}

static void
dropped_pieces_are_left_alone(void **state)
{
	(void)state;
	struct squeezer *s = open_squeezer(2, 19, 100);

	for (int turn = 0; turn < 20; turn++) {
		submit_all(s);
		nap_ms(turn % 4);
		squeezer_hold(s, turn % 3 == 0);
		squeezer_drop(s);
		/* ours again */
		for (unsigned i = 0; i < PIECES; i++)
			memset(pieces[i].out, 0xee, PIECE_BYTES);
		squeezer_hold(s, false);
		nap_ms(1);
		for (unsigned i = 0; i < PIECES; i++)
			assert_int_equal(pieces[i].out[0], 0xee);
	}
	submit_all(s);
	assert_true(squeezer_wait(s, &pieces[0].piece, WAIT_MS));
	check_piece(0);
	squeezer_free(s); /* in the middle of the others */
}

static void
less_than_all_time_gives_the_same(void **state)
{
	(void)state;
	struct squeezer *s = open_squeezer(1, 9, 40);

	submit_all(s);
	for (unsigned i = 0; i < PIECES; i++) {
		assert_true(squeezer_wait(s, &pieces[i].piece, WAIT_MS));
		check_piece(i);
	}
	squeezer_free(s);
}

static void
numbers_out_of_range_are_refused(void **state)
{
	static const struct squeezer_options wrong[] = {{0, 3, 100, 1},
		{SQUEEZER_THREADS_MAX + 1, 3, 100, 1}, {1, 3, 0, 1}, {1, 3, 101, 1}};
	(void)state;

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct squeezer *s = NULL;
		struct err err = ERR_INIT;
		assert_int_equal(squeezer_open(&wrong[i], &s, &err), RC_INVALID);
		assert_null(s);
	}
	squeezer_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_pieces_get_done),
		cmocka_unit_test(held_threads_let_go_and_begin_again),
		cmocka_unit_test(dropped_pieces_are_left_alone),
		cmocka_unit_test(less_than_all_time_gives_the_same),
		cmocka_unit_test(numbers_out_of_range_are_refused),
	};

	return cmocka_run_group_tests(tests, make_pieces, free_pieces);
}
