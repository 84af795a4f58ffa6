/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "load.h"

#define MB 1000000u

/* Five seconds with so much in, in so many files, and so much out; all of it new. */
static struct load_window
window(uint64_t in, uint64_t files, uint64_t out)
{
	return (struct load_window){
		.seconds = 5, .bytes_in = in, .files_in = files, .bytes_out = out, .new_bytes = in};
}

static enum load_class
classify(struct load_window w)
{
	return load_classify(&w, LOAD_NONE);
}

static void
each_kind_of_work_has_its_class(void **state)
{
	(void)state;
	assert_int_equal(classify(window(70 * MB, 10000, 7 * MB)), LOAD_SMALL);
	assert_int_equal(classify(window(0, 10000, 7 * MB)), LOAD_SMALL); /* empty files */
	assert_int_equal(classify(window(900 * MB, 0, 0)), LOAD_LARGE);
	assert_int_equal(classify(window(900 * MB, 3, 0)), LOAD_LARGE);
	assert_int_equal(classify(window(900 * MB, 900, 0)), LOAD_MIXED);
	assert_int_equal(classify(window(900 * MB, 3, 900 * MB)), LOAD_MIXED);
	assert_int_equal(classify(window(0, 0, 900 * MB)), LOAD_READING);
	assert_int_equal(classify(window(10 * MB, 3, 900 * MB)), LOAD_READING);
	struct load_window known = window(900 * MB, 3, 0);
	known.new_bytes = 9 * MB;
	assert_int_equal(classify(known), LOAD_REPEATED);
}

static void
too_little_is_no_load(void **state)
{
	struct load_window w = window(900 * MB, 3, 0);
	(void)state;

	assert_int_equal(classify(window(0, 0, 0)), LOAD_NONE);
	assert_int_equal(classify(window(4 * MB, 90, 4 * MB)), LOAD_NONE);
	assert_int_not_equal(classify(window(4 * MB, 110, 0)), LOAD_NONE);
	assert_int_not_equal(classify(window(6 * MB, 0, 0)), LOAD_NONE);
	w.faulty = true;
	assert_int_equal(classify(w), LOAD_NONE);
	w = window(900 * MB, 3, 0);
	w.seconds = 0;
	assert_int_equal(classify(w), LOAD_NONE);
}

/* Work right at a border stays where it was. */
static void
borders_are_sticky(void **state)
{
	struct load_window small = window(1000 * 280000, 1000, 0);
	struct load_window large = window(100 * 4000000, 100, 0);
	struct load_window reading = window(100 * MB, 1, 300 * MB);
	struct load_window known = window(100 * MB, 1, 0);
	(void)state;

	known.new_bytes = 30 * MB;
	assert_int_equal(load_classify(&small, LOAD_SMALL), LOAD_SMALL);
	assert_int_equal(load_classify(&small, LOAD_MIXED), LOAD_MIXED);
	assert_int_equal(load_classify(&large, LOAD_LARGE), LOAD_LARGE);
	assert_int_equal(load_classify(&large, LOAD_MIXED), LOAD_MIXED);
	assert_int_equal(load_classify(&reading, LOAD_READING), LOAD_READING);
	assert_int_equal(load_classify(&reading, LOAD_MIXED), LOAD_MIXED);
	assert_int_equal(load_classify(&known, LOAD_REPEATED), LOAD_REPEATED);
	assert_int_equal(load_classify(&known, LOAD_LARGE), LOAD_LARGE);
}

static void
each_class_has_its_measure(void **state)
{
	struct load_window w = window(100 * MB, 1000, 50 * MB);
	struct load_figures f;
	(void)state;

	w.cpu_ns = 2000000000;
	load_measure(&w, LOAD_SMALL, &f);
	assert_float_equal(f.rate, 200, 1e-9);
	assert_float_equal(f.cpu, 2000000, 1e-6);
	load_measure(&w, LOAD_LARGE, &f);
	assert_float_equal(f.rate, 20e6, 1e-3);
	load_measure(&w, LOAD_MIXED, &f);
	assert_float_equal(f.rate, (150e6 + 65536e3) / 5, 1e-3);
	load_measure(&w, LOAD_REPEATED, &f);
	assert_float_equal(f.rate, (100e6 + 65536e3) / 5, 1e-3);
	load_measure(&w, LOAD_READING, &f);
	assert_float_equal(f.rate, 10e6, 1e-3);
	/* what is divided by is never 0 */
	load_measure(&(struct load_window){.seconds = 1}, LOAD_LARGE, &f);
	assert_true(f.rate > 0 && f.cpu > 0 && f.rss_bytes > 0);
}

static void
names_lead_back(void **state)
{
	(void)state;
	for (int i = 0; i < LOAD_CLASSES; i++)
		assert_int_equal(load_class_find(load_class_name((enum load_class)i)), i);
	assert_int_equal(load_class_find("none"), LOAD_NONE);
	assert_int_equal(load_class_find(""), LOAD_NONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_of_work_has_its_class),
		cmocka_unit_test(too_little_is_no_load),
		cmocka_unit_test(borders_are_sticky),
		cmocka_unit_test(each_class_has_its_measure),
		cmocka_unit_test(names_lead_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
