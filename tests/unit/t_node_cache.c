/* SPDX-License-Identifier: Apache-2.0 */
#include "node_cache.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tree_fixture.h"
#include "tree_node.h"

/* Node number n has 500 bytes made of n; the cache does not mind that they are no node. */
#define NODE_BYTES 500

static void
bytes_of(uint64_t number, uint8_t *out)
{
	struct dice d = {.state = number};

	for (size_t i = 0; i < NODE_BYTES; i++)
		out[i] = (uint8_t)dice_u64(&d);
}

static struct sha256
name_of(uint64_t number)
{
	uint8_t bytes[NODE_BYTES];
	struct sha256 h;

	bytes_of(number, bytes);
	sha256_of(bytes, sizeof bytes, &h);
	return h;
}

static void
get_node(const struct tree_store *s, uint64_t number, enum rc want)
{
	struct err err = ERR_INIT;
	struct buf out;
	uint8_t bytes[NODE_BYTES];
	struct sha256 name = name_of(number);

	buf_init(&out, TREE_NODE_BYTES_MAX);
	assert_int_equal(s->get(s->arg, &name, &out, &err), want);
	if (want == RC_OK) {
		bytes_of(number, bytes);
		assert_int_equal(out.len, sizeof bytes);
		assert_memory_equal(out.data, bytes, sizeof bytes);
	}
	buf_done(&out);
}

static void
put_nodes(struct mem_store *s, uint64_t count)
{
	uint8_t bytes[NODE_BYTES];

	for (uint64_t i = 0; i < count; i++) {
		bytes_of(i, bytes);
		mem_store_add(s, bytes, sizeof bytes);
	}
}

static void
nodes_are_fetched_once(void **state)
{
	struct err err = ERR_INIT;
	struct mem_store s;
	struct node_cache *cache;
	struct node_cache_view view;
	struct node_cache_stats stats;

	(void)state;
	mem_store_init(&s);
	put_nodes(&s, 100);
	assert_int_equal(node_cache_open(1 << 20, &cache, &err), RC_OK);
	node_cache_view_init(&view, cache, 1, &s.store);
	assert_true(view.store.get_verifies);
	for (int round = 0; round < 3; round++)
		for (uint64_t i = 0; i < 100; i++)
			get_node(&view.store, i, RC_OK);
	assert_int_equal(s.gets, 100);
	get_node(&view.store, 100, RC_NOT_FOUND);
	get_node(&view.store, 100, RC_NOT_FOUND);
	assert_int_equal(s.gets, 102);
	node_cache_stats(cache, &stats);
	assert_int_equal(stats.hits, 200);
	assert_int_equal(stats.misses, 102);
	assert_int_equal(stats.nodes, 100);
	assert_int_equal(stats.evictions, 0);
	assert_true(stats.bytes >= 100 * NODE_BYTES && stats.bytes < 100 * (NODE_BYTES + 200));
	node_cache_free(cache);
	mem_store_done(&s);
}

static void
repositories_do_not_see_each_other(void **state)
{
	struct err err = ERR_INIT;
	struct mem_store a;
	struct mem_store b;
	struct node_cache *cache;
	struct node_cache_view view_a;
	struct node_cache_view view_b;

	(void)state;
	mem_store_init(&a);
	mem_store_init(&b);
	put_nodes(&a, 10);
	assert_int_equal(node_cache_open(1 << 20, &cache, &err), RC_OK);
	node_cache_view_init(&view_a, cache, 1, &a.store);
	node_cache_view_init(&view_b, cache, 2, &b.store);
	get_node(&view_a.store, 5, RC_OK);
	get_node(&view_b.store, 5, RC_NOT_FOUND);
	get_node(&view_a.store, 5, RC_OK);
	assert_int_equal(a.gets, 1);
	node_cache_free(cache);
	mem_store_done(&a);
	mem_store_done(&b);
}

static void
the_oldest_go_first(void **state)
{
	struct err err = ERR_INIT;
	struct mem_store s;
	struct node_cache *cache;
	struct node_cache_view view;
	struct node_cache_stats stats;
	const size_t max = 20000;

	(void)state;
	mem_store_init(&s);
	put_nodes(&s, 1000);
	assert_int_equal(node_cache_open(max, &cache, &err), RC_OK);
	node_cache_view_init(&view, cache, 1, &s.store);
	for (uint64_t i = 0; i < 1000; i++) {
		get_node(&view.store, i, RC_OK);
		get_node(&view.store, 0, RC_OK); /* used all the time: stays */
		node_cache_stats(cache, &stats);
		assert_true(stats.bytes <= max);
	}
	assert_int_equal(s.gets, 1000);
	assert_true(stats.nodes >= 20 && stats.nodes < 40);
	assert_int_equal(stats.evictions, 1000 - stats.nodes);
	get_node(&view.store, 999, RC_OK);
	assert_int_equal(s.gets, 1000);
	get_node(&view.store, 1, RC_OK);
	assert_int_equal(s.gets, 1001);
	node_cache_free(cache);
	mem_store_done(&s);
}

static void
small_caches_keep_what_fits(void **state)
{
	struct err err = ERR_INIT;
	struct node_cache_stats stats;

	(void)state;
	for (size_t max = 0; max < 1500; max += 50) {
		struct mem_store s;
		struct node_cache *cache;
		struct node_cache_view view;
		mem_store_init(&s);
		put_nodes(&s, 3);
		assert_int_equal(node_cache_open(max, &cache, &err), RC_OK);
		node_cache_view_init(&view, cache, 1, &s.store);
		for (int i = 0; i < 9; i++)
			get_node(&view.store, (uint64_t)i % 3, RC_OK);
		node_cache_stats(cache, &stats);
		assert_true(stats.bytes <= max);
		node_cache_free(cache);
		mem_store_done(&s);
	}
	node_cache_free(NULL);
}

static void
what_is_wrong_is_not_kept(void **state)
{
	struct err err = ERR_INIT;
	struct mem_store s;
	struct node_cache *cache;
	struct node_cache_view view;
	struct sha256 name = name_of(0);

	(void)state;
	mem_store_init(&s);
	put_nodes(&s, 1);
	assert_int_equal(node_cache_open(1 << 20, &cache, &err), RC_OK);
	node_cache_view_init(&view, cache, 1, &s.store);
	mem_store_find(&s, &name)->data[7] ^= 1;
	get_node(&view.store, 0, RC_CORRUPT);
	get_node(&view.store, 0, RC_CORRUPT);
	mem_store_find(&s, &name)->data[7] ^= 1;
	s.get_rc = RC_UNAVAILABLE;
	get_node(&view.store, 0, RC_UNAVAILABLE);
	s.get_rc = RC_OK;
	get_node(&view.store, 0, RC_OK);
	/* a store that says it verifies is believed */
	s.store.get_verifies = true;
	node_cache_view_init(&view, cache, 2, &s.store);
	get_node(&view.store, 0, RC_OK);
	node_cache_free(cache);
	mem_store_done(&s);
}

static void
puts_pass_and_are_not_kept(void **state)
{
	struct err err = ERR_INIT;
	struct mem_store s;
	struct node_cache *cache;
	struct node_cache_view view;
	struct node_cache_stats stats;
	uint8_t bytes[NODE_BYTES];
	struct sha256 name = name_of(3);

	(void)state;
	mem_store_init(&s);
	assert_int_equal(node_cache_open(1 << 20, &cache, &err), RC_OK);
	node_cache_view_init(&view, cache, 1, &s.store);
	bytes_of(3, bytes);
	assert_int_equal(view.store.put(view.store.arg, &name, bytes, sizeof bytes, &err), RC_OK);
	assert_int_equal(s.puts, 1);
	node_cache_stats(cache, &stats);
	assert_int_equal(stats.nodes, 0);
	get_node(&view.store, 3, RC_OK);
	assert_int_equal(s.gets, 1);
	node_cache_free(cache);
	mem_store_done(&s);
}

/* ---- many threads ---- */

#define THREADS 4

static atomic_bool behind_is_stuck;

/* Behind the threads: nodes are computed, so it needs no lock. */
struct computed {
	const struct sha256 *names;
	uint64_t count;
};

static enum rc
computed_get(void *arg, const struct sha256 *hash, struct buf *out, struct err *err)
{
	const struct computed *c = arg;

	for (uint64_t i = 0; i < c->count; i++) {
		if (!sha256_equal(&c->names[i], hash))
			continue;
		uint8_t bytes[NODE_BYTES];
		bytes_of(i, bytes);
		buf_add(out, bytes, sizeof bytes);
		return RC_OK;
	}
	return err_set(err, RC_NOT_FOUND, NULL, "no such node");
}

struct job {
	pthread_t thread;
	struct node_cache *cache;
	const struct tree_store *behind;
	uint64_t number;
	int bad;
};

static void *
hammer(void *arg)
{
	struct job *job = arg;
	const struct computed *c = job->behind->arg;
	struct node_cache_view view;
	struct dice d = {.state = job->number};

	node_cache_view_init(&view, job->cache, job->number % 2, job->behind);
	for (int i = 0; i < 4000; i++) {
		/* small numbers more often, so that there are hits and evictions */
		uint64_t n = dice_below(&d, 1 + dice_below(&d, c->count));
		struct err err = ERR_INIT;
		struct buf out;
		uint8_t bytes[NODE_BYTES];
		buf_init(&out, TREE_NODE_BYTES_MAX);
		enum rc rc = view.store.get(view.store.arg, &c->names[n], &out, &err);
		bytes_of(n, bytes);
		if (rc != RC_OK || out.len != sizeof bytes ||
			memcmp(out.data, bytes, sizeof bytes) != 0)
			job->bad++;
		buf_done(&out);
	}
	return NULL;
}

static void
threads_share_a_cache(void **state)
{
	struct err err = ERR_INIT;
	struct sha256 names[200];
	struct computed c = {.names = names, .count = 200};
	const struct tree_store behind = {.get = computed_get, .arg = &c};
	struct node_cache *cache;
	struct node_cache_stats stats;
	struct job jobs[THREADS];

	(void)state;
	for (uint64_t i = 0; i < c.count; i++)
		names[i] = name_of(i);
	assert_int_equal(node_cache_open(40000, &cache, &err), RC_OK);
	for (int i = 0; i < THREADS; i++) {
		jobs[i] = (struct job){.cache = cache, .behind = &behind, .number = (uint64_t)i};
		assert_int_equal(pthread_create(&jobs[i].thread, NULL, hammer, &jobs[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(jobs[i].thread, NULL);
		assert_int_equal(jobs[i].bad, 0);
	}
	node_cache_stats(cache, &stats);
	assert_int_equal(stats.hits + stats.misses, THREADS * 4000);
	assert_true(stats.hits > 0 && stats.evictions > 0);
	assert_true(stats.bytes <= 40000);
	node_cache_free(cache);
}

/* While one thread waits for the store behind, another gets what is cached. */
static enum rc
stuck_get(void *arg, const struct sha256 *hash, struct buf *out, struct err *err)
{
	pthread_barrier_t *entered = arg;

	(void)hash;
	(void)out;
	pthread_barrier_wait(entered);
	while (atomic_load(&behind_is_stuck))
		sched_yield();
	return err_set(err, RC_UNAVAILABLE, NULL, "as told");
}

static void *
get_stuck(void *arg)
{
	struct job *job = arg;
	struct node_cache_view view;

	node_cache_view_init(&view, job->cache, 9, job->behind);
	get_node(&view.store, 1, RC_UNAVAILABLE);
	return NULL;
}

static void
no_lock_is_held_over_the_store_behind(void **state)
{
	struct err err = ERR_INIT;
	struct mem_store s;
	struct node_cache *cache;
	struct node_cache_view view;
	pthread_barrier_t entered;
	const struct tree_store behind = {.get = stuck_get, .arg = &entered};

	(void)state;
	mem_store_init(&s);
	put_nodes(&s, 2);
	assert_int_equal(node_cache_open(1 << 20, &cache, &err), RC_OK);
	node_cache_view_init(&view, cache, 1, &s.store);
	pthread_barrier_init(&entered, NULL, 2);
	atomic_store(&behind_is_stuck, true);
	struct job job = {.cache = cache, .behind = &behind};
	assert_int_equal(pthread_create(&job.thread, NULL, get_stuck, &job), 0);
	pthread_barrier_wait(&entered);
	/* would hang here */
	get_node(&view.store, 0, RC_OK);
	get_node(&view.store, 0, RC_OK);
	atomic_store(&behind_is_stuck, false);
	pthread_join(job.thread, NULL);
	pthread_barrier_destroy(&entered);
	node_cache_free(cache);
	mem_store_done(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nodes_are_fetched_once),
		cmocka_unit_test(repositories_do_not_see_each_other),
		cmocka_unit_test(the_oldest_go_first),
		cmocka_unit_test(small_caches_keep_what_fits),
		cmocka_unit_test(what_is_wrong_is_not_kept),
		cmocka_unit_test(puts_pass_and_are_not_kept),
		cmocka_unit_test(threads_share_a_cache),
		cmocka_unit_test(no_lock_is_held_over_the_store_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
