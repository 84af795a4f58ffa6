/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "regulars.h"

/* A group of what waits is made and answered. */
static void
group(struct regulars *r)
{
	unsigned files = r->waiting;

	regulars_leave(r);
	regulars_answer(r, files);
}

static void
a_lone_client_never_waits(void **state)
{
	struct regulars r = {0};
	(void)state;

	assert_int_equal(regulars_expected(&r), 0);
	for (int i = 0; i < 100; i++) {
		regulars_come(&r, 1);
		assert_int_equal(regulars_expected(&r), 0);
		group(&r);
	}
}

/* Of eight, four came while the group of the other four was made: wait for those. */
static void
two_halves_become_one(void **state)
{
	struct regulars r = {0};
	(void)state;

	regulars_come(&r, 4);
	regulars_leave(&r);
	regulars_come(&r, 4); /* the others, meanwhile */
	regulars_answer(&r, 4);
	assert_int_equal(regulars_expected(&r), 4);
	regulars_come(&r, 4);
	regulars_learn(&r, 4, 4);
	assert_int_equal(r.waiting, 8);
	group(&r);
	/* now all eight return, one after the other */
	for (unsigned i = 1; i <= 8; i++) {
		regulars_come(&r, 1);
		assert_int_equal(regulars_expected(&r), 8 - i);
	}
	group(&r);
}

static void
nobody_is_waited_for_without_a_file(void **state)
{
	struct regulars r = {0};
	(void)state;

	regulars_come(&r, 5);
	group(&r);
	assert_int_equal(regulars_expected(&r), 0);
}

/* Clients that never return cost less and less. */
static void
waiting_in_vain_is_given_up(void **state)
{
	struct regulars r = {0};
	unsigned waits = 0, longest = 0, last = 0;
	(void)state;

	for (unsigned i = 0; i < 10000; i++) {
		regulars_come(&r, 1);
		regulars_leave(&r);
		regulars_come(&r, 1);
		regulars_answer(&r, 1);
		unsigned expected = regulars_expected(&r);
		if (expected > 0) {
			waits++;
			regulars_learn(&r, expected, 0);
			longest = i - last > longest ? i - last : longest;
			last = i;
		}
	}
	assert_true(waits < 50);
	assert_int_equal(longest, REGULARS_SKIP_MAX + 1);
	/* and taken up when it pays */
	while (r.skip > 0)
		(void)regulars_expected(&r);
	unsigned expected = regulars_expected(&r);
	assert_int_equal(expected, 1);
	regulars_learn(&r, expected, 1);
	assert_int_equal(regulars_expected(&r), 1);
}

/* Half of them is enough. */
static void
some_may_stay_away(void **state)
{
	struct regulars r = {.waiting = 1, .answered = 9};
	(void)state;

	assert_int_equal(regulars_expected(&r), 9);
	regulars_learn(&r, 9, 5);
	assert_int_equal(regulars_expected(&r), 9);
	regulars_learn(&r, 9, 4);
	assert_int_equal(regulars_expected(&r), 0);
	assert_int_equal(regulars_expected(&r), 9);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lone_client_never_waits),
		cmocka_unit_test(two_halves_become_one),
		cmocka_unit_test(nobody_is_waited_for_without_a_file),
		cmocka_unit_test(waiting_in_vain_is_given_up),
		cmocka_unit_test(some_may_stay_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
