/* SPDX-License-Identifier: Apache-2.0 */
#include "body_pipe.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The writer's side of a test: waits for wake as a suspended connection does. */
struct bell {
	pthread_mutex_t mtx;
	pthread_cond_t rung;
	unsigned times;
};

static void
ring(void *arg)
{
	struct bell *b = arg;

	pthread_mutex_lock(&b->mtx);
	b->times++;
	pthread_cond_signal(&b->rung);
	pthread_mutex_unlock(&b->mtx);
}

static void
bell_init(struct bell *b)
{
	pthread_mutex_init(&b->mtx, NULL);
	pthread_cond_init(&b->rung, NULL);
	b->times = 0;
}

static void
bell_done(struct bell *b)
{
	pthread_cond_destroy(&b->rung);
	pthread_mutex_destroy(&b->mtx);
}

static void
bell_wait(struct bell *b)
{
	pthread_mutex_lock(&b->mtx);
	while (b->times == 0)
		pthread_cond_wait(&b->rung, &b->mtx);
	b->times = 0;
	pthread_mutex_unlock(&b->mtx);
}

static struct body_pipe *
open_pipe(struct bell *b)
{
	struct err err = ERR_INIT;
	struct body_pipe *p = NULL;

	bell_init(b);
	assert_int_equal(body_pipe_open(ring, b, &p, &err), RC_OK);
	return p;
}

static void
close_pipe(struct body_pipe *p, struct bell *b)
{
	body_pipe_free(p);
	bell_done(b);
}

static uint8_t
byte_at(uint64_t i)
{
	return (uint8_t)(i * 31 + i / 253);
}

static void
fill(uint8_t *data, size_t len, uint64_t from)
{
	for (size_t i = 0; i < len; i++)
		data[i] = byte_at(from + i);
}

static void
nothing_before_the_reader_comes(void **state)
{
	struct err err = ERR_INIT;
	const uint8_t *data;
	struct bell b;

	(void)state;
	struct body_pipe *p = open_pipe(&b);
	assert_int_equal(body_pipe_write(p, (const uint8_t *)"abc", 3), 0);
	assert_int_equal(b.times, 0);
	assert_int_equal(body_pipe_attach(p, &err), RC_OK);
	assert_int_equal(b.times, 1);
	assert_int_equal(body_pipe_write(p, (const uint8_t *)"abc", 3), 3);
	assert_int_equal(body_pipe_read(p, &data, &err), 3);
	assert_memory_equal(data, "abc", 3);
	body_pipe_end(p);
	assert_int_equal(body_pipe_read(p, &data, &err), 0);
	assert_int_equal(body_pipe_read(p, &data, &err), 0);
	assert_int_equal(b.times, 1);
	close_pipe(p, &b);
	body_pipe_free(NULL);
}

static void
it_is_bounded(void **state)
{
	uint8_t *piece = malloc(BODY_PIPE_BYTES + 10);
	struct err err = ERR_INIT;
	const uint8_t *data;
	struct bell b;

	(void)state;
	assert_non_null(piece);
	fill(piece, BODY_PIPE_BYTES + 10, 0);
	struct body_pipe *p = open_pipe(&b);
	assert_int_equal(body_pipe_attach(p, &err), RC_OK);
	assert_int_equal(body_pipe_write(p, piece, BODY_PIPE_BYTES + 10), BODY_PIPE_BYTES);
	assert_int_equal(body_pipe_write(p, piece, 1), 0);
	assert_int_equal(body_pipe_read(p, &data, &err), BODY_PIPE_SPAN_BYTES);
	/* what is lent is not free */
	assert_int_equal(body_pipe_write(p, piece, 1), 0);
	assert_int_equal(b.times, 0);
	assert_int_equal(body_pipe_read(p, &data, &err), BODY_PIPE_SPAN_BYTES);
	assert_int_equal(b.times, 1);
	assert_int_equal(body_pipe_write(p, piece + BODY_PIPE_BYTES, 10), 10);
	for (uint64_t at = BODY_PIPE_SPAN_BYTES; at < BODY_PIPE_BYTES + 10;) {
		assert_int_equal(data[0], byte_at(at));
		at += at == BODY_PIPE_BYTES ? 10 : BODY_PIPE_SPAN_BYTES;
		if (at < BODY_PIPE_BYTES + 10)
			assert_true(body_pipe_read(p, &data, &err) > 0);
	}
	close_pipe(p, &b);
	free(piece);
}

static void
a_cut_is_no_end(void **state)
{
	struct err cut = ERR_INIT;
	struct err err = ERR_INIT;
	const uint8_t *data;
	struct bell b;

	(void)state;
	err_set(&cut, RC_INVALID, "body-mismatch", "cut");
	struct body_pipe *p = open_pipe(&b);
	assert_int_equal(body_pipe_attach(p, &err), RC_OK);
	assert_int_equal(body_pipe_write(p, (const uint8_t *)"abc", 3), 3);
	body_pipe_cut(p, &cut);
	assert_int_equal(body_pipe_read(p, &data, &err), 3);
	assert_int_equal(body_pipe_read(p, &data, &err), -1);
	assert_string_equal(err.kind, "body-mismatch");
	assert_int_equal(body_pipe_read(p, &data, &err), -1);
	close_pipe(p, &b);

	/* after the end there is nothing to cut */
	p = open_pipe(&b);
	err = (struct err)ERR_INIT;
	assert_int_equal(body_pipe_attach(p, &err), RC_OK);
	body_pipe_end(p);
	body_pipe_cut(p, &cut);
	assert_int_equal(body_pipe_read(p, &data, &err), 0);
	close_pipe(p, &b);
}

static void
after_stop_everything_is_swallowed(void **state)
{
	static uint8_t zeros[100000];
	struct err err = ERR_INIT;
	struct bell b;

	(void)state;
	struct body_pipe *p = open_pipe(&b);
	assert_int_equal(body_pipe_write(p, zeros, 1), 0);
	body_pipe_stop(p); /* it never came */
	assert_int_equal(b.times, 1);
	for (int i = 0; i < 100; i++)
		assert_int_equal(body_pipe_write(p, zeros, sizeof zeros), sizeof zeros);
	close_pipe(p, &b);

	p = open_pipe(&b);
	assert_int_equal(body_pipe_attach(p, &err), RC_OK);
	assert_int_equal(body_pipe_write(p, zeros, sizeof zeros), sizeof zeros);
	body_pipe_deafen(p);
	body_pipe_stop(p);
	assert_int_equal(b.times, 0);
	close_pipe(p, &b);
}

/* ---- two threads ---- */

struct reading {
	struct body_pipe *pipe;
	uint64_t bytes;
	uint64_t stop_at; /* UINT64_MAX: at the end */
	bool wrong;
	ssize_t last;
};

static void *
read_all(void *arg)
{
	struct reading *r = arg;
	struct err err = ERR_INIT;
	const uint8_t *data;

	if (body_pipe_attach(r->pipe, &err) != RC_OK)
		return NULL;
	while (r->bytes < r->stop_at && (r->last = body_pipe_read(r->pipe, &data, &err)) > 0) {
		for (ssize_t i = 0; i < r->last; i++)
			r->wrong = r->wrong || data[i] != byte_at(r->bytes + (uint64_t)i);
		r->bytes += (uint64_t)r->last;
	}
	if (r->bytes >= r->stop_at)
		body_pipe_stop(r->pipe);
	return NULL;
}

/* Write len bytes in pieces of many sizes, waiting when told to. */
static void
write_all(struct body_pipe *p, struct bell *b, uint64_t len)
{
	static uint8_t piece[70000];
	unsigned seed = 1;

	for (uint64_t at = 0; at < len;) {
		seed = seed * 1103515245u + 12345u;
		size_t n = 1 + seed / 7 % sizeof piece;
		n = n < len - at ? n : (size_t)(len - at);
		fill(piece, n, at);
		size_t done = 0;
		while (done < n) {
			done += body_pipe_write(p, piece + done, n - done);
			if (done < n)
				bell_wait(b);
		}
		at += n;
	}
}

static void
bytes_come_through_in_order(void **state)
{
	const uint64_t len = 6 * BODY_PIPE_BYTES + 12345;
	struct reading r = {.stop_at = UINT64_MAX, .last = -2};
	struct bell b;
	pthread_t thread;

	(void)state;
	r.pipe = open_pipe(&b);
	assert_int_equal(pthread_create(&thread, NULL, read_all, &r), 0);
	write_all(r.pipe, &b, len);
	body_pipe_end(r.pipe);
	pthread_join(thread, NULL);
	assert_int_equal(r.last, 0);
	assert_false(r.wrong);
	assert_true(r.bytes == len);
	close_pipe(r.pipe, &b);
}

static void
a_reader_may_leave_early(void **state)
{
	const uint64_t len = 4 * BODY_PIPE_BYTES;
	struct reading r = {.stop_at = BODY_PIPE_BYTES / 2};
	struct bell b;
	pthread_t thread;

	(void)state;
	r.pipe = open_pipe(&b);
	assert_int_equal(pthread_create(&thread, NULL, read_all, &r), 0);
	write_all(r.pipe, &b, len);
	body_pipe_end(r.pipe);
	pthread_join(thread, NULL);
	assert_false(r.wrong);
	close_pipe(r.pipe, &b);
}

static void
a_writer_may_leave_at_any_time(void **state)
{
	struct err cut = ERR_INIT;

	(void)state;
	err_set(&cut, RC_INVALID, "body-mismatch", "cut");
	for (uint64_t len = 0; len < 3 * BODY_PIPE_BYTES; len += BODY_PIPE_BYTES / 5 + 1) {
		struct reading r = {.stop_at = UINT64_MAX, .last = -2};
		struct bell b;
		pthread_t thread;
		r.pipe = open_pipe(&b);
		assert_int_equal(pthread_create(&thread, NULL, read_all, &r), 0);
		write_all(r.pipe, &b, len);
		body_pipe_cut(r.pipe, &cut);
		body_pipe_deafen(r.pipe);
		bell_done(&b); /* nobody may ring it now */
		pthread_join(thread, NULL);
		assert_int_equal(r.last, -1);
		assert_false(r.wrong);
		assert_true(r.bytes == len);
		body_pipe_free(r.pipe);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_before_the_reader_comes),
		cmocka_unit_test(it_is_bounded),
		cmocka_unit_test(a_cut_is_no_end),
		cmocka_unit_test(after_stop_everything_is_swallowed),
		cmocka_unit_test(bytes_come_through_in_order),
		cmocka_unit_test(a_reader_may_leave_early),
		cmocka_unit_test(a_writer_may_leave_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
