/* SPDX-License-Identifier: Apache-2.0 */
/* Archives that are as they should be, and failures around them. */
#include "archive_in.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "archive_fixture.h"

/* ---- good ones ---- */

static void
test_formats(void **state)
{
	const size_t steps[] = {7, 512, 65536, SIZE_MAX};

	(void)state;
	for (int format = PAX; format <= ZIP_STORED; format++) {
		for (int coding = PLAIN; coding <= ZST; coding++) {
			struct buf b = make(format, coding, usual, USUAL);
			for (size_t i = coding == PLAIN ? 0 : 1; i < 4; i++) {
				struct archive_in_options o = archive_defaults();
				struct archive_in_result result;
				struct stream s = {b.data, b.len, steps[i], SIZE_MAX, NULL, RC_OK};
				o.prefix = i == 2 ? "some/dir/" : "";
				if (format == USTAR)
					o.allow_zip = false;
				enum rc rc = run_stream(&o, &s, &result);
				if (rc != RC_OK)
					print_error("%d %d: %s\n", format, coding, last_err.text);
				assert_int_equal(rc, RC_OK);
				expect_usual(o.prefix);
				assert_int_equal(result.files, fake.staged_count);
				assert_int_equal(result.receipt.chunks, fake.files);
				assert_true(result.receipt.logical_bytes > sizeof big);
				assert_int_equal(result.receipt.stage_ns[0], fake.files);
				assert_int_equal(result.skipped, 0);
				assert_string_equal(refused, "");
			}
			buf_done(&b);
		}
	}
}

/* One byte at a time, with a slow ingest. */
static void
test_trickle(void **state)
{
	const struct item items[] = {{.name = "a", .data = "12345"}, {.name = "b", .data = "678"},
		{.name = "c", .data = ""}};

	(void)state;
	fake.take_max = 2;
	for (int format = PAX; format <= ZIP_STORED; format++) {
		for (int coding = PLAIN; coding <= ZST; coding++) {
			struct buf b = make(format, coding, items, 3);
			struct archive_in_options o = archive_defaults();
			assert_int_equal(run(&o, b.data, b.len, 1), RC_OK);
			expect_file("a", "12345", 5);
			expect_file("b", "678", 3);
			expect_file("c", "", 0);
			buf_done(&b);
		}
	}
}

static void
test_back_pressure(void **state)
{
	(void)state;
	struct buf b = make(PAX, PLAIN, usual, USUAL);
	fake.take_max = 70000;
	assert_int_equal(run_buf(&b), RC_OK);
	expect_usual("");
	buf_done(&b);
}

static void
test_many_files(void **state)
{
	enum { COUNT = 10000 };
	static char names[COUNT][24];
	struct item *items = calloc(COUNT, sizeof *items);

	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		snprintf(names[i], sizeof names[i], "d%zu/f%zu", i % 100, i);
		items[i] = (struct item){.name = names[i], .data = names[i]};
	}
	struct buf b = make(GNU, PLAIN, items, COUNT);
	assert_int_equal(run_buf(&b), RC_OK);
	assert_int_equal(fake.staged_count, COUNT);
	for (size_t i = 0; i < COUNT; i++)
		assert_string_equal(fake.staged[i].path, names[i]);
	expect_file(names[COUNT - 1], names[COUNT - 1], strlen(names[COUNT - 1]));
	assert_true(fake.in_flight_most <= 4096);
	buf_done(&b);
	b = make(ZIP, PLAIN, items, COUNT);
	assert_int_equal(run_buf(&b), RC_OK);
	assert_int_equal(fake.staged_count, COUNT);
	buf_done(&b);
	free(items);
}

static void
test_times(void **state)
{
	const struct item items[] = {
		{.name = "a", .data = "x", .mtime = 1700000000, .mtime_ns = 123456789},
		{.name = "b", .data = "x", .mtime = -5}};

	(void)state;
	struct buf b = make(PAX, PLAIN, items, 2);
	assert_int_equal(run_buf(&b), RC_OK);
	assert_int_equal(find_staged("a")->mtime_ns, INT64_C(1700000000123456789));
	assert_int_equal(find_staged("b")->mtime_ns, INT64_C(-5000000000));
	buf_done(&b);
}

static void
test_no_files(void **state)
{
	const struct item dir = {.name = "d/", .mode = S_IFDIR | 0755};

	(void)state;
	for (int format = PAX; format <= ZIP; format++) {
		for (size_t count = 0; count < 2; count++) {
			struct buf b = make(format, GZ, &dir, count);
			assert_int_equal(run_buf(&b), RC_OK);
			assert_int_equal(fake.applied, 0);
			buf_done(&b);
		}
	}
}

static void
test_declared(void **state)
{
	const struct item items[] = {{.name = "a", .data = "12345"}};

	(void)state;
	for (int bits = 0; bits < 32; bits++) {
		for (int format = PAX; format <= ZIP; format += ZIP - PAX) {
			for (int coding = PLAIN; coding <= ZST; coding++) {
				struct archive_in_options o = archive_defaults();
				o.deny_plain = (bits & 1) == 0;
				o.allow_gzip = (bits & 2) != 0;
				o.allow_zstd = (bits & 4) != 0;
				o.allow_tar = (bits & 8) != 0;
				o.allow_zip = (bits & 16) != 0;
				bool fits = (bits >> coding & 1) != 0 &&
					    (format == ZIP ? o.allow_zip : o.allow_tar);
				struct buf b = make(format, coding, items, 1);
				enum rc rc = run(&o, b.data, b.len, 100);
				if (fits)
					assert_int_equal(rc, RC_OK);
				else
					expect_fails(rc, RC_INVALID, "invalid-archive");
				buf_done(&b);
			}
		}
	}
}

/* ---- failures around it ---- */

static void
test_read_fails(void **state)
{
	(void)state;
	for (int format = PAX; format <= ZIP; format += ZIP - PAX) {
		for (int coding = PLAIN; coding <= ZST; coding++) {
			struct buf b = make(format, coding, usual, 8);
			for (size_t at = 0; at <= b.len; at += at < 20 ? 1 : 97) {
				struct archive_in_options o = archive_defaults();
				struct archive_in_result result;
				struct stream s = {b.data, b.len, 1000, at, NULL, RC_OK};
				expect_fails(
					run_stream(&o, &s, &result), RC_INVALID, "body-mismatch");
			}
			buf_done(&b);
		}
	}
}

static void
test_ingest_fails(void **state)
{
	(void)state;
	struct buf b = make(PAX, PLAIN, usual, USUAL);
	for (uint64_t n = 1; n <= 10; n++) {
		fake.fail_file = n;
		expect_fails(run_buf(&b), RC_UNAVAILABLE, "disk-full");
		fake.fail_file = 0;
		fake.fail_write = n;
		if (n == 3)
			continue; /* the empty one is never written */
		expect_fails(run_buf(&b), RC_FULL, "disk-full");
		assert_int_equal(fake.aborted, 1);
		fake.fail_write = 0;
	}
	buf_done(&b);
}

static void
test_end_fails(void **state)
{
	(void)state;
	struct buf b = make(PAX, PLAIN, usual, USUAL);
	struct archive_in_options o = archive_defaults();
	struct archive_in_result result;
	struct stream s = {b.data, b.len, 5000, SIZE_MAX, NULL, RC_INVALID};
	expect_fails(run_stream(&o, &s, &result), RC_INVALID, "digest-mismatch");
	fake.apply_rc = RC_UNAVAILABLE;
	assert_int_equal(run_buf(&b), RC_UNAVAILABLE);
	assert_int_equal(fake.applied, 1);
	buf_done(&b);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup(name, archive_reset)
	const struct CMUnitTest tests[] = {
		T(test_formats),
		T(test_trickle),
		T(test_back_pressure),
		T(test_many_files),
		T(test_times),
		T(test_no_files),
		T(test_declared),
		T(test_read_fails),
		T(test_ingest_fails),
		T(test_end_fails),
	};

	return cmocka_run_group_tests_name("archive_in", tests, archive_setup, archive_teardown);
}
