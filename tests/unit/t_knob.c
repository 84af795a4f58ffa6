/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "knob.h"

static struct knob added = {
	.name = "added", .min = -7, .max = 3, .fallback = 1, .step = 2, .scale = KNOB_ADD};
static struct knob doubled = {
	.name = "doubled", .min = 3, .max = 50, .fallback = 12, .scale = KNOB_DOUBLE};

static void
values_stay_within_the_limits(void **state)
{
	(void)state;
	knob_set(&added, 2);
	assert_int_equal(knob_get(&added), 2);
	knob_set(&added, 4);
	assert_int_equal(knob_get(&added), 3);
	knob_set(&added, INT64_MIN);
	assert_int_equal(knob_get(&added), -7);
	knob_set(&doubled, INT64_MAX);
	assert_int_equal(knob_get(&doubled), 50);
}

static void
neighbours_lead_to_the_limits_and_no_further(void **state)
{
	static const int64_t up[] = {-7, -5, -3, -1, 1, 3, 3};
	static const int64_t down[] = {50, 25, 12, 6, 3, 3};
	(void)state;

	for (size_t i = 0; i + 1 < sizeof up / sizeof up[0]; i++)
		assert_int_equal(knob_neighbour(&added, up[i], 1), up[i + 1]);
	for (size_t i = 0; i + 1 < sizeof down / sizeof down[0]; i++)
		assert_int_equal(knob_neighbour(&doubled, down[i], -1), down[i + 1]);
	assert_int_equal(knob_neighbour(&added, -6, -1), -7);
	assert_int_equal(knob_neighbour(&doubled, 30, 1), 50);
}

static void
fixed_knobs_stay_where_they_are(void **state)
{
	struct knob a = added, b = doubled;
	struct knob *const list[] = {&a, &b};
	struct err err = ERR_INIT;
	(void)state;

	assert_int_equal(knob_fix(list, 2, "", &err), RC_OK);
	assert_int_equal(a.min, -7);
	assert_int_equal(knob_fix(list, 2, " added=-6,doubled=50 ", &err), RC_OK);
	knob_set(&a, 3);
	knob_set(&b, 3);
	assert_int_equal(knob_get(&a), -6);
	assert_int_equal(knob_get(&b), 50);
	assert_int_equal(knob_neighbour(&a, -6, 1), -6);
	assert_int_equal(a.fallback, -6);
}

static void
what_cannot_be_fixed_is_named(void **state)
{
	static const char *const bad[][2] = {
		{"add=1", "\"add=1\": there is no such knob"},
		{"added", "\"added\": a knob is fixed by NAME=VALUE with a whole number"},
		{"added=", "\"added=\": a knob is fixed by NAME=VALUE with a whole number"},
		{"added=x", "\"added=x\": a knob is fixed by NAME=VALUE with a whole number"},
		{"added=--1", "\"added=--1\": a knob is fixed by NAME=VALUE with a whole number"},
		{"added=99999999999999999999", "\"added=99999999999999999999\": a knob is fixed by "
					       "NAME=VALUE with a whole number"},
		{"added=1 = 2", "\"=\": there is no such knob"},
		{"added=4", "added = 4 is out of range: -7 to 3"},
		{"doubled=2", "doubled = 2 is out of range: 3 to 50"},
	};
	(void)state;

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct knob a = added, b = doubled;
		struct knob *const list[] = {&a, &b};
		struct err err = ERR_INIT;
		assert_int_equal(knob_fix(list, 2, bad[i][0], &err), RC_INVALID);
		assert_string_equal(err.text, bad[i][1]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_stay_within_the_limits),
		cmocka_unit_test(neighbours_lead_to_the_limits_and_no_further),
		cmocka_unit_test(fixed_knobs_stay_where_they_are),
		cmocka_unit_test(what_cannot_be_fixed_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
