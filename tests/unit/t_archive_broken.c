/* SPDX-License-Identifier: Apache-2.0 */
/* Archives that are cut, damaged, followed by something, too large, or none at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "archive_fixture.h"

/* ---- cut, flipped, followed ---- */

static void
test_truncated(void **state)
{
	const struct item items[] = {{.name = "a", .data = "12345"},
		{.name = "dir/b", .data = "678"}, {.name = LONG_NAME, .data = "9"}};

	(void)state;
	for (int format = PAX; format <= ZIP_STORED; format++) {
		if (format == USTAR)
			continue;
		for (int coding = PLAIN; coding <= ZST; coding++) {
			struct buf b = make(format, coding, items, 3);
			/* of a plain tar the second block of the end mark may be missing */
			size_t whole = b.len;
			if (coding == PLAIN && format < ZIP)
				while (whole > 512 && b.data[whole - 513] == 0 &&
					memcmp(b.data + whole - 513, b.data + whole - 512, 512) ==
						0)
					whole--;
			if (coding == PLAIN && format < ZIP)
				whole = (whole + 511) / 512 * 512;
			for (size_t len = 0; len < b.len; len++) {
				struct archive_in_options o = archive_defaults();
				enum rc rc = run(&o, b.data, len, 1000);
				if (len >= whole && len % 512 == 0)
					assert_int_equal(rc, RC_OK);
				else if (rc != RC_OK)
					expect_fails(rc, RC_INVALID, "invalid-archive");
				else
					assert_true(len >= whole);
			}
			buf_done(&b);
		}
	}
}

static void
test_cut_says_where(void **state)
{
	const struct item items[] = {
		{.name = "first", .data = "1"}, {.name = "src/main.c", .data = big, .len = 100000}};

	(void)state;
	struct buf b = make(PAX, PLAIN, items, 2);
	b.len = 50000;
	expect_invalid(&b);
	assert_string_equal(last_err.text, "the archive ends in the middle of \"src/main.c\"");
	assert_int_equal(fake.aborted, 1);
	b.len = 1024;
	expect_invalid(&b);
	assert_non_null(strstr(last_err.text, "end"));
	buf_done(&b);
}

/* Wherever a byte is wrong, either the archive is refused or its contents are what they were. */
static void
test_flipped(void **state)
{
	const struct item items[] = {{.name = "a", .data = "12345 12345 12345"},
		{.name = "dir/b", .data = "678"}, {.name = "c", .data = ""}};

	(void)state;
	for (int format = PAX; format <= ZIP_STORED; format++) {
		for (int coding = PLAIN; coding <= ZST; coding++) {
			/* neither a tar nor zstd without its option has a checksum of the data */
			if (format < ZIP && coding != GZ)
				continue;
			struct buf b = make(format, coding, items, 3);
			for (size_t at = 0; at < b.len; at++) {
				struct archive_in_options o = archive_defaults();
				struct sha256 want;
				b.data[at] ^= (uint8_t)(1 << at % 8);
				enum rc rc = run(&o, b.data, b.len, 4096);
				b.data[at] ^= (uint8_t)(1 << at % 8);
				assert_true(rc == RC_OK || rc == RC_INVALID);
				for (size_t i = 0; rc == RC_OK && i < 3; i++) {
					sha256_of(items[i].data, strlen(items[i].data), &want);
					assert_int_equal(fake.staged_count, 3);
					assert_true(
						sha256_equal(&want, &fake.staged[i].content.id));
				}
			}
			buf_done(&b);
		}
	}
}

static void
test_followed(void **state)
{
	const struct item items[] = {{.name = "a", .data = "12345"}, {.name = "b", .data = "6"}};
	const uint8_t zeros[3000] = {0};

	(void)state;
	for (int format = PAX; format <= ZIP_STORED; format++) {
		for (int coding = PLAIN; coding <= ZST; coding++) {
			struct buf b = make(format, coding, items, 2);
			size_t len = b.len;
			bool zeros_pass = coding == GZ || (coding == PLAIN && format < ZIP);
			buf_add(&b, zeros, sizeof zeros);
			if (zeros_pass)
				assert_int_equal(run_buf(&b), RC_OK);
			else
				expect_invalid(&b);
			buf_add_u8(&b, 1);
			expect_invalid(&b);
			b.len = len;
			buf_add_str(&b, "garbage");
			expect_invalid(&b);
			b.len = len;
			buf_reserve(&b, len); /* a second archive behind the first */
			buf_add(&b, b.data, len);
			expect_invalid(&b);
			buf_done(&b);
		}
	}
}

/* Members of gzip and frames of zstd may follow each other; pzstd puts skippable ones between. */
static void
test_members(void **state)
{
	static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};

	(void)state;
	struct buf b = make(PAX, PLAIN, usual, USUAL);
	for (int coding = GZ; coding <= ZST; coding++) {
		struct buf all;
		buf_init(&all, ARCHIVE_BYTES_MAX);
		for (size_t at = 0; at < b.len; at += 400000) {
			size_t n = b.len - at < 400000 ? b.len - at : 400000;
			struct buf part = pack(coding, b.data + at, n);
			if (coding == ZST)
				buf_add(&all, skippable, sizeof skippable);
			buf_add(&all, part.data, part.len);
			buf_done(&part);
		}
		assert_int_equal(run_buf(&all), RC_OK);
		expect_usual("");
		all.len -= 5;
		expect_invalid(&all);
		buf_done(&all);
	}
	buf_done(&b);
}

static void
test_no_archive(void **state)
{
	static const char cpio[] =
		"070701000000000000000000000000000000000000000000000000000000000000"
		"0000000000000000000000000000000000000000000B00000000TRAILER!!!";
	static const char *const texts[] = {"x", "PK", "PK\3\4",
		"PK\3\4xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "This is no archive.", "!<arch>\n",
		"\x1f\x8b", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd", cpio};
	struct buf b;

	(void)state;
	buf_init(&b, 1 << 20);
	expect_invalid(&b);
	assert_non_null(strstr(last_err.text, "empty"));
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		for (int k = 1; k <= 200; k *= 200) {
			buf_clear(&b);
			for (int n = 0; n < k; n++)
				buf_add_str(&b, texts[i]);
			expect_invalid(&b);
			for (int coding = GZ; coding <= ZST; coding++) {
				struct buf packed = pack(coding, b.data, b.len);
				expect_invalid(&packed);
				buf_done(&packed);
			}
		}
	}
	buf_clear(&b);
	buf_add(&b, big + 1, 20000);
	expect_invalid(&b);
	assert_non_null(strstr(last_err.text, "tar and zip"));
	buf_done(&b);
	/* a tar in two coats */
	b = make(PAX, GZ, usual, 2);
	struct buf twice = pack(ZST, b.data, b.len);
	expect_invalid(&twice);
	buf_done(&twice);
	buf_done(&b);
}

/* ---- zips that lie ---- */

static void
test_lying_zips(void **state)
{
	const struct zip_item good[] = {{.name = "a", .data = "123"}, {.name = "b", .data = "45"}};

	(void)state;
	for (int i = 0; i < 15; i++) {
		struct zip_item z[3] = {good[0], good[1], {.name = "c", .data = "6"}};
		size_t count = 2;
		int count_add = 0;
		switch (i) {
		case 0:
			z[0].crc_xor = 1;
			break;
		case 1:
			z[1].size_add = 1; /* only the directory lies */
			break;
		case 2:
			z[1].offset_add = 1000;
			break;
		case 3:
			z[1].offset_add = (uint32_t)-34; /* both name the first one */
			break;
		case 4:
			z[1].no_central = true;
			break;
		case 5:
			z[1].no_local = true;
			break;
		case 6:
			count_add = 1;
			break;
		case 7:
			z[0].method = 99;
			break;
		case 8:
			z[0].method = 14; /* LZMA */
			break;
		case 9:
			z[0].extra = "\1\0\x10\0xx"; /* longer than there is */
			z[0].extra_len = 6;
			break;
		case 10:
			z[0].method = 8; /* not deflated at all */
			break;
		case 11:
			z[0].name = "a/";
			z[0].central_name = "a";
			break;
		case 12:
			z[0].central_name = "a/"; /* a directory that has bytes */
			break;
		case 13:
			z[1].size_add = UINT32_MAX - 2; /* 64 bits are promised and missing */
			z[1].extra = "\1\0\0\0";
			z[1].extra_len = 4;
			break;
		default:
			z[0].size_add = (uint32_t)-1;
		}
		struct buf b = make_zip(z, count, count_add, "");
		expect_invalid(&b);
		buf_done(&b);
	}
	struct zip_item secret[] = {{.name = "a", .data = "0123456789abcdef", .flags = 1}};
	struct buf b = make_zip(secret, 1, 0, "");
	expect_refused(&b, "a");
	assert_non_null(strstr(last_err.text, "encrypted"));
	buf_done(&b);
	/* something between entries that is none */
	b = make_zip(good, 2, 0, "");
	assert_int_equal(run_buf(&b), RC_OK);
	assert_int_equal(fake.staged_count, 2);
	buf_done(&b);
}

static void
test_lying_tars(void **state)
{
	static const char sizes[][13] = {"00000100000", "77777777777", "-0000000001",
		{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
		{-128, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}};
	const struct item item = {.name = "f", .data = "x"};

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct buf b = make(USTAR, PLAIN, &item, 1);
		unsigned sum = 0;
		memcpy(b.data + 124, sizes[i], 12);
		memset(b.data + 148, ' ', 8);
		for (size_t k = 0; k < 512; k++)
			sum += b.data[k];
		snprintf((char *)b.data + 148, 8, "%06o", sum);
		expect_invalid(&b);
		buf_done(&b);
	}
}

/* ---- limits ---- */

static void
test_limits(void **state)
{
	const struct item items[] = {{.name = "d/", .mode = S_IFDIR | 0755},
		{.name = "d/a", .data = "12345"}, {.name = "d/b", .data = "678"}};

	(void)state;
	for (int format = PAX; format <= ZIP_STORED; format++) {
		struct buf b = make(format, PLAIN, items, 3);
		struct archive_in_options o = archive_defaults();
		o.entries_max = 3;
		o.expanded_bytes_max = 8;
		assert_int_equal(run(&o, b.data, b.len, 300), RC_OK);
		o.entries_max = 2;
		expect_fails(run(&o, b.data, b.len, 300), RC_TOO_LARGE, "archive-too-large");
		o.entries_max = 4;
		o.expanded_bytes_max = 7;
		expect_fails(run(&o, b.data, b.len, 300), RC_TOO_LARGE, "archive-too-large");
		buf_done(&b);
	}
}

static void
test_bombs(void **state)
{
	const size_t bytes = (size_t)70 << 20;
	char *zeros = calloc(1, bytes);
	const struct item item = {.name = "zeros", .data = zeros, .len = bytes};

	(void)state;
	for (int format = GNU; format <= ZIP; format += ZIP - GNU) {
		for (int coding = PLAIN; coding <= ZST; coding++) {
			if (format == GNU && coding == PLAIN)
				continue;
			struct buf b = make(format, coding, &item, 1);
			struct archive_in_options o = archive_defaults();
			o.ratio_max = 900;
			expect_fails(
				run(&o, b.data, b.len, 65536), RC_TOO_LARGE, "archive-too-large");
			assert_non_null(strstr(last_err.text, "900 times"));
			o.ratio_max = 100000000;
			if (format == GNU && coding == ZST)
				assert_int_equal(run(&o, b.data, b.len, 65536), RC_OK);
			buf_done(&b);
		}
	}
	/* not in an entry: behind the end of the tar */
	struct buf tar = make(GNU, PLAIN, &item, 0);
	struct buf b = pack(ZST, tar.data, tar.len);
	struct buf tail = pack(ZST, zeros, bytes);
	buf_add(&b, tail.data, tail.len);
	expect_fails(run_buf(&b), RC_TOO_LARGE, "archive-too-large");
	buf_done(&tail);
	buf_done(&tar);
	buf_done(&b);
	free(zeros);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup(name, archive_reset)
	const struct CMUnitTest tests[] = {
		T(test_truncated),
		T(test_cut_says_where),
		T(test_flipped),
		T(test_followed),
		T(test_members),
		T(test_no_archive),
		T(test_lying_zips),
		T(test_lying_tars),
		T(test_limits),
		T(test_bombs),
	};

	return cmocka_run_group_tests_name(
		"archive_broken", tests, archive_setup, archive_teardown);
}
