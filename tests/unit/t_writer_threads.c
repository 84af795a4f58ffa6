/* SPDX-License-Identifier: Apache-2.0 */
/* Many writers share the smallest pool there is; one thread takes their blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block_fixture.h"
#include "chance.h"

#define HANG_SECONDS 60
#define CLIENTS      16
#define FILES        12
#define DATA_BYTES   ((size_t)1 << 20)

static struct ingest engine;
static struct ingest_space space;
static uint8_t data[DATA_BYTES];
static atomic_bool cuts_off; /* some clients go away in the middle, and come back */

struct client {
	pthread_t thread;
	sem_t room;
	uint64_t seed;
	struct taken_file files[FILES];
	size_t lens[FILES];
};

static void
on_wake(void *arg)
{
	sem_post(&((struct client *)arg)->room);
}

static struct ingest_writer *
open_writer(struct client *c)
{
	struct ingest_writer *w = NULL;
	struct err err = ERR_INIT;

	if (ingest_writer_open(&engine, &space, on_wake, c, &w, &err) != RC_OK)
		abort();
	return w;
}

/* false: cut off while it waited. */
static bool
write_all(struct client *c, struct ingest_writer *w, size_t len)
{
	for (size_t at = 0; at < len;) {
		size_t n = 1 + chance_below(&c->seed, 60000);
		if (n > len - at)
			n = len - at;
		size_t taken = ingest_write(w, data + at, n);
		at += taken;
		if (taken == n)
			continue;
		if (atomic_load(&cuts_off) && chance_below(&c->seed, 3) == 0)
			return false;
		/* some ask again before they are called */
		if (chance_below(&c->seed, 4) > 0)
			sem_wait(&c->room);
	}
	return true;
}

static void *
client_main(void *arg)
{
	struct client *c = arg;
	struct ingest_writer *w = open_writer(c);

	for (int i = 0; i < FILES; i++) {
		size_t len =
			chance_below(&c->seed, (uint64_t)1 << (8 + chance_below(&c->seed, 12)));
		c->lens[i] = len;
		ingest_begin(w, &c->files[i].file, i % 2 ? len : UINT64_MAX);
		if (write_all(c, w, len)) {
			ingest_finish(w);
		} else {
			ingest_writer_close(w);
			/* what on_wake has to do with is ours again */
			sem_destroy(&c->room);
			sem_init(&c->room, 0, 0);
			w = open_writer(c);
		}
		if (chance_below(&c->seed, 3) == 0)
			ingest_flush(w);
	}
	ingest_writer_close(w);
	return NULL;
}

static void *
take_blocks(void *arg)
{
	void *blocks[8];
	size_t n;
	(void)arg;

	while ((n = ring_pop_many(engine.queue, blocks, 8, -1)) > 0)
		for (size_t i = 0; i < n; i++)
			take_block(engine.slabs, blocks[i]);
	return NULL;
}

static void
run_clients(uint64_t seed)
{
	struct client *clients = calloc(CLIENTS, sizeof *clients);
	struct slab *held[3];
	struct err err = ERR_INIT;
	pthread_t taker;
	int whole = 0;

	assert_non_null(clients);
	assert_int_equal(slab_pool_open(0, &engine.slabs, &err), RC_OK);
	/* a quarter of it is left, so that nearly all have to wait */
	for (int i = 0; i < 3; i++)
		assert_non_null(held[i] = slab_take(engine.slabs, SLAB_LARGE_BYTES, 0, NULL));
	assert_int_equal(ring_open(4096, &engine.queue, &err), RC_OK);
	assert_int_equal(chunker_init(&space.chunker, 65536, &err), RC_OK);
	assert_int_equal(pthread_create(&taker, NULL, take_blocks, NULL), 0);
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *c = &clients[i];
		c->seed = seed * 100 + i;
		sem_init(&c->room, 0, 0);
		for (int k = 0; k < FILES; k++)
			taken_init(&c->files[k]);
		assert_int_equal(pthread_create(&c->thread, NULL, client_main, c), 0);
	}
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(clients[i].thread, NULL);
	ring_close(engine.queue);
	pthread_join(taker, NULL);
	for (int i = 0; i < CLIENTS; i++) {
		struct client *c = &clients[i];
		for (int k = 0; k < FILES; k++) {
			struct taken_file *t = &c->files[k];
			size_t cut = check_cuts(t, &space.chunker, data, c->lens[k]);
			assert_true(t->ended);
			if (t->end == PIECE_WHOLE)
				assert_int_equal(cut, c->lens[k]);
			whole += t->end == PIECE_WHOLE;
			taken_done(t);
		}
		sem_destroy(&c->room);
	}
	if (!atomic_load(&cuts_off))
		assert_int_equal(whole, CLIENTS * FILES);
	for (int i = 0; i < 3; i++)
		slab_give(engine.slabs, held[i]);
	assert_int_equal(slab_used_bytes(engine.slabs), 0);
	assert_int_equal(slab_waiting(engine.slabs), 0);
	assert_true(slab_peak_bytes(engine.slabs) <= slab_bytes_max(engine.slabs));
	ring_free(engine.queue);
	slab_pool_free(engine.slabs);
	free(clients);
}

static void
every_client_gets_through(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++)
		run_clients(seed);
}

static void
who_leaves_holds_nobody_up(void **state)
{
	(void)state;
	atomic_store(&cuts_off, true);
	for (uint64_t seed = 4; seed <= 6; seed++)
		run_clients(seed);
	atomic_store(&cuts_off, false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_client_gets_through),
		cmocka_unit_test(who_leaves_holds_nobody_up),
	};
	uint64_t seed = 1;

	alarm(HANG_SECONDS);
	chance_bytes(&seed, data, sizeof data);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
