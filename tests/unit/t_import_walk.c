/* SPDX-License-Identifier: Apache-2.0 */
/* Hostile folders, and folders that change while they are walked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "folder_fixture.h"
#include "import_record.h"
#include "import_walk.h"
#include "path.h"

#define HANG_SECONDS 120
#define THREADS      3

static struct import_files files;
static struct import_report trouble;
static struct import_tally tally;
static atomic_bool stop;
static struct err err;

static void *
walk_thread(void *arg)
{
	import_walk_run(arg);
	return NULL;
}

static void
forget(void)
{
	import_files_done(&files);
	import_report_done(&trouble);
}

static struct import_walk_options
defaults(void)
{
	return (struct import_walk_options){
		.dir = folder_fd,
		.prefix = "",
		.entries_max = 1000000,
		.bytes_max = INT64_MAX,
		.files = &files,
		.report = &trouble,
		.tally = &tally,
		.stop = &stop,
	};
}

/* Walk with several threads; what was found before is forgotten. */
static enum rc
walk(const struct import_walk_options *options)
{
	struct import_walk *w;
	pthread_t threads[THREADS];

	forget();
	err_clear(&err);
	memset(&tally, 0, sizeof tally);
	assert_int_equal(import_report_init(&trouble, &err), RC_OK);
	assert_int_equal(import_walk_open(options, &w, &err), RC_OK);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, walk_thread, w), 0);
	import_walk_run(w);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return import_walk_close(w, &err);
}

static void
walk_all(void)
{
	struct import_walk_options o = defaults();

	assert_int_equal(walk(&o), RC_OK);
}

static const struct stage_change *
found(const char *path)
{
	for (size_t i = 0; i < files.count; i++)
		if (strcmp(files.items[i].path, path) == 0)
			return &files.items[i];
	return NULL;
}

static void
expect_found(const char *path, uint64_t bytes)
{
	const struct stage_change *c = found(path);

	if (c == NULL)
		fail_msg("%s was not found", path);
	assert_int_equal(c->path_len, strlen(path));
	assert_int_equal(c->content.size, bytes);
}

static void
expect_trouble(const char *path, enum import_reason reason)
{
	for (size_t i = 0; i < trouble.count; i++) {
		if (strcmp(trouble.items[i].path, path) != 0)
			continue;
		assert_string_equal(
			import_reason_name(trouble.items[i].reason), import_reason_name(reason));
		return;
	}
	fail_msg("%s was not reported", path);
}

/* ---- what there is ---- */

static void
files_are_found_with_their_sizes(void **state)
{
	static char big[2000000];
	struct import_walk_options o = defaults();

	(void)state;
	folder_put_text("a", "12345");
	folder_put_text("empty", "");
	folder_put("d/medium", big, 100000);
	folder_put("d/e/large", big, sizeof big);
	folder_put_text("\xc3\xa4/\xe6\x97\xa5", "x");
	folder_mkdir("nothing/in/here");
	assert_int_equal(linkat(folder_fd, "a", folder_fd, "d/same", 0), 0);
	walk_all();
	assert_int_equal(files.count, 6);
	expect_found("a", 5);
	expect_found("empty", 0);
	expect_found("d/medium", 100000);
	expect_found("d/e/large", sizeof big);
	expect_found("d/same", 5);
	expect_found("\xc3\xa4/\xe6\x97\xa5", 1);
	assert_int_equal(trouble.count, 0);
	assert_int_equal(files.sizes.files[IMPORT_SMALL], 4);
	assert_int_equal(files.sizes.bytes[IMPORT_SMALL], 11);
	assert_int_equal(files.sizes.files[IMPORT_MEDIUM], 1);
	assert_int_equal(files.sizes.bytes[IMPORT_LARGE], sizeof big);
	assert_int_equal(import_sizes_bytes(&files.sizes), 100011 + sizeof big);
	assert_int_equal(atomic_load(&tally.directories), 7);
	assert_int_equal(atomic_load(&tally.found_files[IMPORT_LARGE]), 1);
	assert_int_equal(atomic_load(&tally.found_bytes[IMPORT_MEDIUM]), 100000);

	o.prefix = "some/dir/";
	assert_int_equal(walk(&o), RC_OK);
	assert_int_equal(files.count, 6);
	expect_found("some/dir/a", 5);
	expect_found("some/dir/d/e/large", sizeof big);
}

static void
an_empty_folder_is_none_the_worse(void **state)
{
	(void)state;
	walk_all();
	assert_int_equal(files.count, 0);
	assert_int_equal(trouble.count, 0);
	assert_int_equal(atomic_load(&tally.directories), 1);
}

static void
many_entries_of_one_directory(void **state)
{
	enum { COUNT = 9000 };
	char path[64];

	(void)state;
	for (int i = 0; i < COUNT; i++) {
		snprintf(path, sizeof path, "file-with-a-name-of-some-length-%d", i);
		folder_put_text(path, "x");
	}
	walk_all();
	assert_int_equal(files.count, COUNT);
	assert_int_equal(files.sizes.bytes[IMPORT_SMALL], COUNT);
}

static void
depth_costs_nothing(void **state)
{
	char path[PATH_BYTES_MAX * 2];
	size_t len = 0;

	(void)state;
	const char *deep = folder_put_deep("bottom");
	/* and deeper than a path may be: 600 directories */
	for (int i = 0; i < 600; i++)
		len += (size_t)snprintf(path + len, sizeof path - len, "x/");
	snprintf(path + len, sizeof path - len, "f");
	folder_put_text(path, "too deep");
	walk_all();
	assert_int_equal(files.count, 1);
	expect_found(deep, 4);
	assert_int_equal(trouble.counts[IMPORT_PATH_TOO_LONG], 1);
	assert_true(trouble.items[0].path_len > PATH_BYTES_MAX);
}

/* ---- what is not taken ---- */

static void
make_socket(const char *name)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(at.sun_path, sizeof at.sun_path, "%s/%s", folder_path, name);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	close(fd);
}

static void
special_things_are_reported(void **state)
{
	(void)state;
	folder_put_text("../secret", "not yours");
	folder_put_text("../beside/secret", "not yours");
	folder_put_text("ok", "x");
	assert_int_equal(symlinkat("../secret", folder_fd, "link-out"), 0);
	assert_int_equal(symlinkat("../beside", folder_fd, "dir-out"), 0);
	assert_int_equal(symlinkat("/etc/passwd", folder_fd, "absolute"), 0);
	assert_int_equal(symlinkat("ok", folder_fd, "link-in"), 0);
	assert_int_equal(symlinkat(".", folder_fd, "loop"), 0);
	assert_int_equal(symlinkat("gone", folder_fd, "dangling"), 0);
	folder_mkdir("d");
	assert_int_equal(mkfifoat(folder_fd, "d/fifo", 0644), 0);
	make_socket("socket");
	walk_all();
	assert_int_equal(files.count, 1);
	expect_found("ok", 1);
	assert_int_equal(trouble.count, 8);
	assert_int_equal(trouble.counts[IMPORT_SYMLINK], 6);
	expect_trouble("link-out", IMPORT_SYMLINK);
	expect_trouble("dir-out", IMPORT_SYMLINK);
	expect_trouble("d/fifo", IMPORT_FIFO);
	expect_trouble("socket", IMPORT_SOCKET);
	uint64_t special, failed;
	import_report_totals(&trouble, &special, &failed);
	assert_int_equal(special, 8);
	assert_int_equal(failed, 0);
	assert_int_equal(import_report_judge(&trouble, true, false, &err), RC_OK);
	assert_int_equal(import_report_judge(&trouble, false, true, &err), RC_INVALID);
	assert_string_equal(err.kind, "import-incomplete");
}

/* /dev: devices, links, and other file systems that are mounted there. */
static void
devices_and_mounts_are_left_alone(void **state)
{
	struct import_walk_options o = defaults();
	struct stat top, mounted;

	(void)state;
	o.dir = open("/dev", O_RDONLY | O_DIRECTORY);
	assert_true(o.dir >= 0);
	assert_int_equal(walk(&o), RC_OK);
	assert_true(trouble.counts[IMPORT_DEVICE] > 0); /* null, if nothing else */
	assert_int_equal(stat("/dev", &top), 0);
	if (stat("/dev/shm", &mounted) == 0 && mounted.st_dev != top.st_dev)
		assert_true(trouble.counts[IMPORT_MOUNT_POINT] > 0);
	close(o.dir);
}

static void
what_may_not_be_read_is_reported(void **state)
{
	(void)state;
	folder_put_text("closed/inside", "x");
	folder_put_text("searched/inside", "x");
	folder_put_text("listed/inside", "x");
	folder_put_text("open/inside", "x");
	assert_int_equal(fchmodat(folder_fd, "closed", 0, 0), 0);
	assert_int_equal(fchmodat(folder_fd, "searched", 0111, 0), 0);
	assert_int_equal(fchmodat(folder_fd, "listed", 0444, 0), 0);
	walk_all();
	assert_int_equal(files.count, 1);
	expect_found("open/inside", 1);
	assert_int_equal(trouble.count, 3);
	expect_trouble("closed", IMPORT_DENIED);
	expect_trouble("searched", IMPORT_DENIED);
	expect_trouble("listed/inside", IMPORT_DENIED);
}

static void
names_that_may_not_stand_in_a_tree(void **state)
{
	static const char *const names[] = {"\xff\xfe", "cut\xc3", "new\nline", "back\\slash",
		"\x7f", "over\xc0\xaflong", "surrogate\xed\xa0\x80"};

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		folder_put_text(names[i], "x");
	folder_put_text("bad\xff/inside", "x");
	folder_put_text("..not", "x");
	folder_put_text("...", "x");
	folder_put_text("-rf", "x");
	walk_all();
	assert_int_equal(files.count, 3);
	expect_found("..not", 1);
	expect_found("...", 1);
	expect_found("-rf", 1);
	assert_int_equal(trouble.count, 8);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		expect_trouble(names[i], IMPORT_INVALID_PATH);
	expect_trouble("bad\xff", IMPORT_INVALID_PATH);
}

static void
a_prefix_takes_room(void **state)
{
	struct import_walk_options o = defaults();
	char prefix[PATH_BYTES_MAX + 2];
	char name[11] = "0123456789";

	(void)state;
	folder_put_text(name, "x");
	memset(prefix, 'p', sizeof prefix);
	for (size_t i = 200; i < sizeof prefix; i += 200)
		prefix[i] = '/';
	o.prefix = prefix;
	prefix[PATH_BYTES_MAX - 11] = '/';
	prefix[PATH_BYTES_MAX - 10] = '\0';
	assert_int_equal(walk(&o), RC_OK);
	assert_int_equal(files.count, 1);
	assert_int_equal(files.items[0].path_len, PATH_BYTES_MAX);
	prefix[PATH_BYTES_MAX - 11] = 'p';
	prefix[PATH_BYTES_MAX - 10] = '/';
	prefix[PATH_BYTES_MAX - 9] = '\0';
	assert_int_equal(walk(&o), RC_OK);
	assert_int_equal(files.count, 0);
	expect_trouble(name, IMPORT_PATH_TOO_LONG);
}

static void
a_report_names_the_first_and_counts_all(void **state)
{
	char path[32];

	(void)state;
	for (int i = 0; i < IMPORT_REPORT_MAX + 50; i++) {
		snprintf(path, sizeof path, "l%d", i);
		assert_int_equal(symlinkat("x", folder_fd, path), 0);
	}
	walk_all();
	assert_int_equal(trouble.count, IMPORT_REPORT_MAX);
	assert_int_equal(trouble.counts[IMPORT_SYMLINK], IMPORT_REPORT_MAX + 50);
}

/* ---- limits ---- */

static void
limits_hold(void **state)
{
	struct import_walk_options o = defaults();

	(void)state;
	folder_put_text("a/b", "1234");
	folder_put_text("c", "56");
	assert_int_equal(symlinkat("x", folder_fd, "l"), 0);
	for (uint64_t max = 3; max <= 5; max++) {
		o.entries_max = max;
		assert_int_equal(walk(&o), max < 4 ? RC_TOO_LARGE : RC_OK);
		if (max < 4)
			assert_string_equal(err.kind, "import-too-large");
	}
	for (uint64_t max = 5; max <= 7; max++) {
		o.bytes_max = max;
		assert_int_equal(walk(&o), max < 6 ? RC_TOO_LARGE : RC_OK);
	}
}

static void
sizes_do_not_overflow(void **state)
{
	struct import_walk_options o = defaults();

	(void)state;
	for (int i = 0; i < 4; i++) {
		char path[8];
		snprintf(path, sizeof path, "s%d", i);
		folder_put_text(path, "");
		char full[128];
		snprintf(full, sizeof full, "%s/%s", folder_path, path);
		if (truncate(full, INT64_C(15) << 40) != 0)
			return; /* no such files here */
	}
	o.bytes_max = (uint64_t)45 << 40;
	assert_int_equal(walk(&o), RC_TOO_LARGE);
	o.bytes_max = (uint64_t)60 << 40;
	assert_int_equal(walk(&o), RC_OK);
}

static void
it_stops_when_told(void **state)
{
	struct import_walk_options o = defaults();

	(void)state;
	folder_put_text("a/b", "x");
	atomic_store(&stop, true);
	assert_int_equal(walk(&o), RC_OK);
	assert_int_equal(files.count, 0);
	atomic_store(&stop, false);
}

/* ---- folders that change ---- */

static atomic_bool calm;

/* Swaps a directory for a link that leads out of the folder, again and again. */
static void *
swap(void *arg)
{
	(void)arg;
	while (!atomic_load(&calm))
		renameat2(folder_fd, "d/inner", folder_fd, "link", RENAME_EXCHANGE);
	return NULL;
}

static void
a_swapped_directory_leads_nowhere(void **state)
{
	pthread_t thread;

	(void)state;
	folder_put_text("../beside/secret", "not yours");
	folder_put_text("../beside/deep/secret", "not yours");
	folder_put_text("d/inner/deep/mine", "x");
	for (int i = 0; i < 50; i++) {
		char path[64];
		snprintf(path, sizeof path, "d/inner/deep/f%d", i);
		folder_put_text(path, "x");
	}
	assert_int_equal(symlinkat("../beside", folder_fd, "link"), 0);
	atomic_store(&calm, false);
	assert_int_equal(pthread_create(&thread, NULL, swap, NULL), 0);
	for (int i = 0; i < 300; i++) {
		walk_all();
		for (size_t k = 0; k < files.count; k++)
			assert_null(strstr(files.items[k].path, "secret"));
	}
	atomic_store(&calm, true);
	pthread_join(thread, NULL);
}

/* Makes and removes a directory with a file in it, again and again. */
static void *
flicker(void *arg)
{
	(void)arg;
	while (!atomic_load(&calm)) {
		mkdirat(folder_fd, "d/now", 0755);
		int fd = openat(folder_fd, "d/now/f", O_CREAT | O_WRONLY, 0644);
		close(fd);
		unlinkat(folder_fd, "d/now/f", 0);
		unlinkat(folder_fd, "d/now", AT_REMOVEDIR);
	}
	return NULL;
}

static void
what_comes_and_goes_does_no_harm(void **state)
{
	pthread_t thread;

	(void)state;
	folder_put_text("d/stays", "x");
	atomic_store(&calm, false);
	assert_int_equal(pthread_create(&thread, NULL, flicker, NULL), 0);
	for (int i = 0; i < 300; i++) {
		walk_all();
		expect_found("d/stays", 1);
		assert_true(files.count <= 2);
		for (size_t k = 0; k < trouble.count; k++)
			assert_int_equal(trouble.items[k].reason, IMPORT_VANISHED);
	}
	atomic_store(&calm, true);
	pthread_join(thread, NULL);
}

/* ---- as bytes ---- */

static void
a_record_survives_its_bytes(void **state)
{
	struct import_record r = {.directories = 1,
		.found = {{2, 3, 4}, {5, 6, 7}},
		.read_files = 8,
		.read_bytes = UINT64_MAX,
		.receipt = {10, 11, 12, 13, 14, 15, {16, 17, 18, 19, 20, 21, 22}}};
	struct import_report again;
	struct import_record back;
	struct buf b;

	(void)state;
	forget();
	assert_int_equal(import_report_init(&trouble, &err), RC_OK);
	assert_int_equal(import_report_init(&again, &err), RC_OK);
	import_report_add(&trouble, IMPORT_CHANGED, "a/b", 3);
	import_report_add(&trouble, IMPORT_INVALID_PATH, "\xff\0x", 3);
	buf_init(&b, IMPORT_RECORD_BYTES_MAX);
	import_record_encode(&r, &trouble, &b);
	assert_true(buf_ok(&b));
	assert_int_equal(b.data[0], 1);
	assert_int_equal(import_record_decode(b.data, b.len, &back, &again, &err), RC_OK);
	assert_memory_equal(&r, &back, sizeof r);
	assert_int_equal(again.count, 2);
	assert_int_equal(again.items[1].path_len, 3);
	assert_memory_equal(again.items[1].path, "\xff\0x", 3);
	assert_int_equal(again.counts[IMPORT_CHANGED], 1);
	import_report_done(&again);
	/* every cut is noticed */
	for (size_t n = 0; n < b.len; n++) {
		err_clear(&err);
		assert_int_equal(import_report_init(&again, &err), RC_OK);
		assert_int_equal(import_record_decode(b.data, n, &back, &again, &err), RC_CORRUPT);
		import_report_done(&again);
	}
	/* a full report of longest paths fits */
	char longest[IMPORT_REPORT_PATH + 100];
	memset(longest, 'x', sizeof longest);
	for (int i = 0; i < 2 * IMPORT_REPORT_MAX; i++)
		import_report_add(&trouble, IMPORT_IO, longest, sizeof longest);
	buf_clear(&b);
	import_record_encode(&r, &trouble, &b);
	assert_true(buf_ok(&b));
	buf_done(&b);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)
	const struct CMUnitTest tests[] = {
		T(files_are_found_with_their_sizes),
		T(an_empty_folder_is_none_the_worse),
		T(many_entries_of_one_directory),
		T(depth_costs_nothing),
		T(special_things_are_reported),
		T(devices_and_mounts_are_left_alone),
		T(what_may_not_be_read_is_reported),
		T(names_that_may_not_stand_in_a_tree),
		T(a_prefix_takes_room),
		T(a_report_names_the_first_and_counts_all),
		T(limits_hold),
		T(sizes_do_not_overflow),
		T(it_stops_when_told),
		T(a_swapped_directory_leads_nowhere),
		T(what_comes_and_goes_does_no_harm),
		T(a_record_survives_its_bytes),
	};

	alarm(HANG_SECONDS);
	folder_be_nobody();
	int failed = cmocka_run_group_tests_name("import_walk", tests, NULL, NULL);
	forget();
	return failed;
}
