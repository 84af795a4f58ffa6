/* SPDX-License-Identifier: Apache-2.0 */
#include "rev_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct rev_cache *c;

static int
open_cache(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	return rev_cache_open(&c, &err) == RC_OK ? 0 : -1;
}

static int
close_cache(void **state)
{
	(void)state;
	rev_cache_free(c);
	return 0;
}

static struct rev_head
head_of(uint8_t n)
{
	struct rev_head h = {.created_us = n};

	h.id.b[0] = n;
	h.tree.b[31] = n;
	return h;
}

static void
learn(uint64_t repo, const char *rev, uint8_t n)
{
	struct rev_head h = head_of(n);

	rev_cache_keep(c, repo, rev, &h, rev_cache_epoch(c));
}

/* What rev leads to, or 0. */
static int
lookup(uint64_t repo, const char *rev)
{
	struct rev_head h;

	if (!rev_cache_find(c, repo, rev, &h))
		return 0;
	assert_int_equal(h.id.b[0], h.created_us);
	assert_int_equal(h.tree.b[31], h.created_us);
	return h.id.b[0];
}

static void
what_was_kept_is_found(void **state)
{
	(void)state;
	assert_int_equal(lookup(1, "main"), 0);
	learn(1, "main", 7);
	learn(2, "main", 8);
	learn(1, "mai", 9);
	assert_int_equal(lookup(1, "main"), 7);
	assert_int_equal(lookup(2, "main"), 8);
	assert_int_equal(lookup(1, "mai"), 9);
	assert_int_equal(lookup(3, "main"), 0);
	assert_int_equal(lookup(1, "main2"), 0);
}

static void
a_move_forgets_one(void **state)
{
	(void)state;
	learn(1, "main", 7);
	learn(1, "other", 8);
	rev_cache_moved(c, 1, "main");
	assert_int_equal(lookup(1, "main"), 0);
	assert_int_equal(lookup(1, "other"), 8);
	learn(1, "main", 9);
	assert_int_equal(lookup(1, "main"), 9);
}

/* A look-up that began before a move may have seen what was before it. */
static void
an_old_answer_is_not_kept(void **state)
{
	struct rev_head h = head_of(5);
	(void)state;

	uint64_t epoch = rev_cache_epoch(c);
	rev_cache_moved(c, 1, "main");
	rev_cache_keep(c, 1, "main", &h, epoch);
	assert_int_equal(lookup(1, "main"), 0);
	epoch = rev_cache_epoch(c);
	rev_cache_doubt(c, 1, "other");
	rev_cache_keep(c, 1, "main", &h, epoch);
	assert_int_equal(lookup(1, "main"), 0);
}

static void
a_doubt_ends_with_the_next_move(void **state)
{
	(void)state;
	learn(1, "main", 7);
	rev_cache_doubt(c, 1, "main");
	assert_int_equal(lookup(1, "main"), 0);
	learn(1, "main", 7);
	assert_int_equal(lookup(1, "main"), 0);
	learn(2, "main", 8);
	assert_int_equal(lookup(2, "main"), 8);
	rev_cache_doubt(c, 1, "main");
	rev_cache_moved(c, 1, "main");
	learn(1, "main", 9);
	assert_int_equal(lookup(1, "main"), 9);
}

/* More doubts than can be remembered: nothing is kept any more. */
static void
too_many_doubts_end_it_all(void **state)
{
	char name[16];
	(void)state;

	learn(1, "main", 7);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof name, "r%d", i);
		rev_cache_doubt(c, 1, name);
	}
	assert_int_equal(lookup(1, "main"), 0);
	learn(1, "main", 7);
	assert_int_equal(lookup(1, "main"), 0);
}

/* Memory is bounded, and what is used stays. */
static void
what_is_used_stays(void **state)
{
	char name[16];
	int kept = 0;
	(void)state;

	learn(1, "main", 7);
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof name, "r%d", i);
		learn(1, name, 1);
		assert_int_equal(lookup(1, "main"), 7);
	}
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof name, "r%d", i);
		kept += lookup(1, name);
	}
	assert_true(kept > 500 && kept <= 1024);
	/* a name that no ref can have */
	char longest[400];
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	learn(1, longest, 3);
	assert_int_equal(lookup(1, longest), 0);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_cache, close_cache)
	const struct CMUnitTest tests[] = {
		T(what_was_kept_is_found),
		T(a_move_forgets_one),
		T(an_old_answer_is_not_kept),
		T(a_doubt_ends_with_the_next_move),
		T(too_many_doubts_end_it_all),
		T(what_is_used_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
