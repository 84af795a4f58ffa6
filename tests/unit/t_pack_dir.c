/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "pack_fixture.h"

static void
check_shards(const struct fixture *f, const char *name)
{
	char path[300];
	struct stat st;

	for (unsigned shard = 0; shard < 256; shard++) {
		snprintf(path, sizeof path, "%s/%s/%02x", f->root, name, shard);
		assert_int_equal(stat(path, &st), 0);
		assert_true(S_ISDIR(st.st_mode));
	}
}

static void
test_makes_shards(void **state)
{
	check_shards(*state, "blobs");
}

static void
test_opens_again(void **state)
{
	const struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct pack_dir *dir = NULL;
	char path[300];

	snprintf(path, sizeof path, "%s/again", f->root);
	assert_int_equal(pack_dir_open(path, &dir, &err), RC_OK);
	pack_dir_free(dir);
	/* as an interrupted first open, or a backup that knows no empty directories, leaves it */
	snprintf(path, sizeof path, "%s/again/ff", f->root);
	assert_int_equal(rmdir(path), 0);
	snprintf(path, sizeof path, "%s/again/13", f->root);
	assert_int_equal(rmdir(path), 0);
	snprintf(path, sizeof path, "%s/again", f->root);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pack_dir_open(path, &dir, &err), RC_OK);
		pack_dir_free(dir);
		check_shards(f, "again");
	}
	pack_dir_free(NULL);
}

static void
test_open_fails(void **state)
{
	const struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct pack_dir *dir = NULL;
	char path[300];

	snprintf(path, sizeof path, "%s/no/parent", f->root);
	assert_int_equal(pack_dir_open(path, &dir, &err), RC_IO);
	assert_null(dir);
	assert_non_null(strstr(err.detail, "no/parent"));

	/* a file where a shard should be */
	err_clear(&err);
	snprintf(path, sizeof path, "%s/other", f->root);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof path, "%s/other/80", f->root);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	snprintf(path, sizeof path, "%s/other", f->root);
	assert_int_equal(pack_dir_open(path, &dir, &err), RC_IO);
	assert_null(dir);
}

struct seen {
	uint64_t ids[16];
	size_t count;
	size_t stop_at;
};

static enum rc
note(void *arg, uint64_t pack_id, struct err *err)
{
	struct seen *seen = arg;

	if (seen->count == seen->stop_at)
		return err_set(err, RC_CONFLICT, NULL, "enough");
	assert_true(seen->count < 16);
	seen->ids[seen->count++] = pack_id;
	return RC_OK;
}

static int
cmp_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void
touch(const struct fixture *f, const char *name)
{
	char path[300];

	snprintf(path, sizeof path, "%s/blobs/%s", f->root, name);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void
test_lists_and_removes(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct pack_writer_options options = PACK_WRITER_OPTIONS_INIT;
	struct seen seen = {.stop_at = 99};
	static const uint64_t ids[] = {1, 0x101, 0xabcdef, 0x7fffffffffffffff, UINT64_MAX};

	options.bytes_max = 64u << 10;
	for (size_t i = 0; i < 5; i++) {
		struct pack_writer *w = NULL;
		assert_int_equal(
			pack_writer_open(f->dir, ids[i], fixture_uuid, &options, &w, &err), RC_OK);
		pack_writer_free(w);
	}
	/* foreign names: other shard, capitals, too long, too short, temporary */
	touch(f, "02/0000000000000001.pack");
	touch(f, "ab/00000000000000AB.pack");
	touch(f, "01/00000000000000001.pack");
	touch(f, "01/000000000000001.pack");
	touch(f, "01/0000000000000001.pack~");
	touch(f, "01/0000000000000001.tmp_");

	assert_int_equal(pack_dir_list(f->dir, note, &seen, &err), RC_OK);
	assert_int_equal(seen.count, 5);
	qsort(seen.ids, seen.count, sizeof seen.ids[0], cmp_u64);
	assert_memory_equal(seen.ids, ids, sizeof ids);

	seen = (struct seen){.stop_at = 2};
	assert_int_equal(pack_dir_list(f->dir, note, &seen, &err), RC_CONFLICT);
	assert_string_equal(err.text, "enough");

	err_clear(&err);
	assert_int_equal(pack_remove(f->dir, 0x101, &err), RC_OK);
	assert_int_equal(pack_remove(f->dir, 0x101, &err), RC_NOT_FOUND);
	err_clear(&err);
	seen = (struct seen){.stop_at = 99};
	assert_int_equal(pack_dir_list(f->dir, note, &seen, &err), RC_OK);
	assert_int_equal(seen.count, 4);
}

static void
test_knows_the_free_space(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	uint64_t bytes = 0;

	assert_int_equal(pack_dir_space(f->dir, &bytes, &err), RC_OK);
	assert_true(bytes > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_makes_shards),
		cmocka_unit_test(test_opens_again),
		cmocka_unit_test(test_open_fails),
		cmocka_unit_test(test_lists_and_removes),
		cmocka_unit_test(test_knows_the_free_space),
	};
	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
