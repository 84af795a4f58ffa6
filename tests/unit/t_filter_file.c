/* SPDX-License-Identifier: Apache-2.0 */
/* The functions below stand before those of the C library, so that a test can make them fail. */
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "buf.h"
#include "checksum.h"
#include "filter_file.h"

#define HEADER 128

static char dir[] = "/tmp/t_filter_file.XXXXXX";
static char path[64], aside[64];
static const uint8_t id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t other[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17};

/* the n-th call from now fails; 0: none does */
static int fail_fsync, fail_write;
static size_t write_max;

int
fsync(int fd)
{
	if (fail_fsync > 0 && --fail_fsync == 0) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

ssize_t
write(int fd, const void *data, size_t len)
{
	if (fail_write > 0 && --fail_write == 0) {
		errno = ENOSPC;
		return -1;
	}
	return syscall(SYS_write, fd, data, write_max > 0 && len > write_max ? write_max : len);
}

static struct sha256
key(uint64_t n)
{
	uint8_t text[8];
	struct sha256 h;

	put_u64(text, n);
	sha256_of(text, sizeof text, &h);
	return h;
}

static struct bloom *
make(uint64_t expected, uint64_t keys)
{
	struct err err = ERR_INIT;
	struct bloom *b = NULL;

	assert_int_equal(bloom_open(expected, 12, &b, &err), RC_OK);
	for (uint64_t i = 0; i < keys; i++) {
		struct sha256 h = key(i);
		bloom_add(b, &h, (uint32_t)(i % 3));
	}
	return b;
}

static int
clean(void **state)
{
	(void)state;
	fail_fsync = fail_write = 0;
	write_max = 0;
	filter_file_remove(path);
	return 0;
}

static void
save(const struct bloom *b)
{
	struct err err = ERR_INIT;

	assert_int_equal(filter_file_save(path, id, b, &err), RC_OK);
}

static enum rc
load(const uint8_t *of, size_t bytes_max, struct bloom **out)
{
	struct err err = ERR_INIT;

	*out = (struct bloom *)&err;
	enum rc rc = filter_file_load(path, of, bytes_max, out, &err);
	assert_int_equal(rc, err.rc);
	if (rc != RC_OK)
		assert_null(*out);
	return rc;
}

static size_t
slurp(uint8_t *data, size_t cap)
{
	FILE *f = fopen(path, "rb");

	assert_non_null(f);
	size_t n = fread(data, 1, cap, f);
	fclose(f);
	return n;
}

static void
spit(const uint8_t *data, size_t len)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

static void
what_was_saved_is_loaded(void **state)
{
	/* less than a piece, exactly one, a little more, several */
	static const uint64_t sizes[] = {1, 1000, 699050, 699060, 2000000};
	(void)state;

	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		struct bloom *b = make(sizes[s], 3000), *c = NULL;
		save(b);
		assert_int_equal(load(id, bloom_bytes(b), &c), RC_OK);
		assert_int_equal(bloom_blocks(c), bloom_blocks(b));
		assert_int_equal(bloom_expected(c), sizes[s]);
		assert_int_equal(bloom_count(c), bloom_count(b));
		size_t bytes = bloom_bytes(b);
		uint8_t *x = malloc(bytes), *y = malloc(bytes);
		bloom_get_blocks(b, 0, bloom_blocks(b), x);
		bloom_get_blocks(c, 0, bloom_blocks(c), y);
		assert_memory_equal(x, y, bytes);
		free(x);
		free(y);
		bloom_free(b);
		bloom_free(c);
		assert_int_equal(access(aside, F_OK), -1);
	}
}

static void
it_is_of_one_run(void **state)
{
	struct bloom *b = make(1000, 500), *c;
	(void)state;

	assert_int_equal(load(id, SIZE_MAX, &c), RC_NOT_FOUND);
	save(b);
	assert_int_equal(load(other, SIZE_MAX, &c), RC_NOT_FOUND);
	assert_int_equal(load(id, SIZE_MAX, &c), RC_OK);
	bloom_free(c);
	assert_int_equal(load(id, bloom_bytes(b) - 1, &c), RC_CORRUPT);
	filter_file_remove(path);
	assert_int_equal(load(id, SIZE_MAX, &c), RC_NOT_FOUND);
	filter_file_remove(path);
	bloom_free(b);
}

static void
every_changed_byte_is_found(void **state)
{
	static uint8_t good[8192], bad[8192 + 1];
	struct bloom *b = make(3000, 1000), *c;
	(void)state;

	save(b);
	bloom_free(b);
	size_t len = slurp(good, sizeof good);
	assert_true(len > HEADER + 4000 && len < sizeof good);
	for (size_t i = 0; i < len; i++) {
		for (unsigned bit = 0; bit < 8; bit += 7) {
			memcpy(bad, good, len);
			bad[i] ^= (uint8_t)(1u << bit);
			spit(bad, len);
			assert_int_equal(load(id, SIZE_MAX, &c), RC_CORRUPT);
		}
	}
	for (size_t n = 0; n < len; n += n < 200 ? 1 : 97) {
		spit(good, n);
		assert_int_equal(load(id, SIZE_MAX, &c), RC_CORRUPT);
	}
	memcpy(bad, good, len);
	spit(bad, len + 1);
	assert_int_equal(load(id, SIZE_MAX, &c), RC_CORRUPT);
	spit(good, len);
	assert_int_equal(load(id, SIZE_MAX, &c), RC_OK);
	bloom_free(c);
}

/* A header that is whole and says something that cannot be. */
static void
a_strange_header_is_refused(void **state)
{
	static const struct {
		size_t at;
		uint64_t value;
		enum rc rc;
	} cases[] = {
		{8, 2, RC_NOT_FOUND},         /* the next version */
		{8, 1 | 1 << 16, RC_CORRUPT}, /* something behind it */
		{32, 0, RC_CORRUPT},          /* no blocks */
		{32, UINT64_MAX, RC_CORRUPT}, /* more than the limit */
		{32, (uint64_t)1 << 33, RC_CORRUPT},
		{40, 0, RC_CORRUPT}, /* no keys expected */
		{64, 1, RC_CORRUPT}, /* zero fields */
		{112, 1, RC_CORRUPT},
	};
	static uint8_t data[8192];
	struct bloom *b = make(3000, 1000), *c;
	(void)state;

	save(b);
	bloom_free(b);
	size_t len = slurp(data, sizeof data);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t was = get_u64(data + cases[i].at);
		put_u64(data + cases[i].at, cases[i].value);
		put_u64(data + 120, checksum64(data, 120));
		spit(data, len);
		assert_int_equal(load(id, (size_t)1 << 30, &c), cases[i].rc);
		put_u64(data + cases[i].at, was);
	}
}

static void
a_failed_save_leaves_what_was(void **state)
{
	struct bloom *b = make(400000, 10), *c;
	struct err err;
	(void)state;

	save(b);
	bloom_free(b);
	b = make(400000, 20);
	for (int n = 1; n <= 3; n++) {
		fail_write = n;
		err_clear(&err);
		assert_int_equal(filter_file_save(path, other, b, &err), RC_FULL);
		assert_int_equal(access(aside, F_OK), -1);
	}
	fail_write = 0;
	fail_fsync = 1;
	err_clear(&err);
	assert_int_equal(filter_file_save(path, other, b, &err), RC_IO);
	assert_int_equal(access(aside, F_OK), -1);
	assert_int_equal(load(id, SIZE_MAX, &c), RC_OK);
	assert_int_equal(bloom_count(c), 10);
	bloom_free(c);
	/* the directory's: the file may be the new one, and is whole */
	fail_fsync = 2;
	err_clear(&err);
	assert_int_equal(filter_file_save(path, other, b, &err), RC_IO);
	assert_int_equal(load(other, SIZE_MAX, &c), RC_OK);
	bloom_free(c);
	write_max = 4097;
	err_clear(&err);
	assert_int_equal(filter_file_save(path, id, b, &err), RC_OK);
	assert_int_equal(load(id, SIZE_MAX, &c), RC_OK);
	bloom_free(c);
	bloom_free(b);
}

static void
strange_files_are_refused(void **state)
{
	struct bloom *b = make(100, 10), *c;
	struct err err = ERR_INIT;
	char longer[5000], target[80];
	(void)state;

	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_not_equal(load(id, SIZE_MAX, &c), RC_OK);
	assert_int_not_equal(filter_file_save(path, id, b, &err), RC_OK);
	assert_int_equal(access(aside, F_OK), -1);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_not_equal(load(id, SIZE_MAX, &c), RC_OK);
	assert_int_equal(unlink(path), 0);
	/* a link is neither read nor written through */
	snprintf(target, sizeof target, "%s/target", dir);
	save(b);
	assert_int_equal(rename(path, target), 0);
	assert_int_equal(symlink(target, path), 0);
	assert_int_not_equal(load(id, SIZE_MAX, &c), RC_OK);
	assert_int_equal(symlink("/nowhere", aside), 0);
	save(b);
	assert_int_equal(load(id, SIZE_MAX, &c), RC_OK);
	bloom_free(c);
	assert_int_equal(unlink(target), 0);
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	err_clear(&err);
	assert_int_equal(filter_file_save(longer, id, b, &err), RC_TOO_LARGE);
	err_clear(&err);
	assert_int_not_equal(filter_file_save("/nowhere/filter", id, b, &err), RC_OK);
	bloom_free(b);
}

/* The example of doc/FORMAT.md: whatever changes these bytes needs a new version. */
static void
the_bytes_are_these(void **state)
{
	static const char expected[] =
		"44475354464c545201000000000000000102030405060708090a0b0c0d0e0f10"
		"02000000000000002a0000000000000003000000000000006588983f89df9260"
		"0000000000000000000000000000000000000000000000000000000000000000"
		"000000000000000000000000000000000000000000000000b2c776e39be9902b"
		"0400000000000100000010000100000000040000000001000100000080000000"
		"0000900000100080100800001020000000004200001002000000010844000000";
	struct err err = ERR_INIT;
	struct bloom *b = NULL;
	uint8_t data[512];
	char hex[1024];
	(void)state;

	assert_int_equal(bloom_open_blocks(2, 42, 0, &b, &err), RC_OK);
	struct sha256 h;
	sha256_of("hello, ", 7, &h);
	bloom_add(b, &h, 1);
	bloom_add(b, &h, 2);
	sha256_of("world\n", 6, &h);
	bloom_add(b, &h, 1);
	save(b);
	bloom_free(b);
	size_t len = slurp(data, sizeof data);
	assert_int_equal(len, HEADER + 64);
	for (size_t i = 0; i < len; i++)
		snprintf(hex + 2 * i, 3, "%02x", data[i]);
	assert_string_equal(hex, expected);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_was_saved_is_loaded, clean),
		cmocka_unit_test_setup(it_is_of_one_run, clean),
		cmocka_unit_test_setup(every_changed_byte_is_found, clean),
		cmocka_unit_test_setup(a_strange_header_is_refused, clean),
		cmocka_unit_test_setup(a_failed_save_leaves_what_was, clean),
		cmocka_unit_test_setup(strange_files_are_refused, clean),
		cmocka_unit_test_setup(the_bytes_are_these, clean),
	};

	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(path, sizeof path, "%s/filter", dir);
	snprintf(aside, sizeof aside, "%s/filter.new", dir);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	clean(NULL);
	rmdir(dir);
	return failed;
}
