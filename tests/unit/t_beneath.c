/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beneath.h"
#include "folder_fixture.h"

static int
make_tree(void **state)
{
	folder_setup(state);
	folder_put_text("f", "f");
	folder_put_text("d/e/g", "g");
	folder_put_text("../beside/secret", "no");
	assert_int_equal(symlinkat("e", folder_fd, "d/inside"), 0);
	assert_int_equal(symlinkat("../../beside", folder_fd, "d/outside"), 0);
	assert_int_equal(symlinkat("../beside/../folder/f", folder_fd, "around"), 0);
	assert_int_equal(symlinkat("/etc/passwd", folder_fd, "absolute"), 0);
	assert_int_equal(symlinkat("loop", folder_fd, "loop"), 0);
	assert_int_equal(mkfifoat(folder_fd, "fifo", 0644), 0);
	return 0;
}

static void
expect(const char *path, enum beneath_way way, int error)
{
	int fd = beneath_open(folder_fd, path, O_RDONLY, way);
	int e = errno;

	if (fd >= 0)
		close(fd);
	if (error == 0 && fd < 0)
		fail_msg("%s: errno %d", path, e);
	if (error != 0 && (fd >= 0 || e != error))
		fail_msg("%s: opened or errno %d, not %d", path, e, error);
}

static void
what_is_below_opens(void **state)
{
	(void)state;
	expect(".", BENEATH_PLAIN, 0);
	expect("f", BENEATH_PLAIN, 0);
	expect("d/e/g", BENEATH_PLAIN, 0);
	expect("d/../f", BENEATH_PLAIN, 0);
	expect("d/inside/g", BENEATH_LINKS, 0);
	expect("none", BENEATH_PLAIN, ENOENT);
	expect("f/g", BENEATH_PLAIN, ENOTDIR);
}

static void
what_is_not_does_not(void **state)
{
	static const char *const paths[] = {"..", "../beside/secret", "d/../../beside/secret",
		"/etc/passwd", "d/outside/secret", "absolute", "around"};

	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		expect(paths[i], BENEATH_LINKS, EXDEV);
	expect("loop", BENEATH_LINKS, ELOOP);
	expect("d/inside/g", BENEATH_PLAIN, ELOOP);
	expect("d/inside", BENEATH_PLAIN, ELOOP);
	expect("absolute", BENEATH_PLAIN, ELOOP);
}

/* /proc is a mount, and its links lead anywhere. */
static void
mounts_and_magic_links(void **state)
{
	char self[64];
	int fd;

	(void)state;
	int slash = open("/", O_PATH | O_DIRECTORY);
	fd = beneath_open(slash, "proc/version", O_RDONLY, BENEATH_PLAIN);
	assert_true(fd == -1 && errno == EXDEV);
	fd = beneath_open(slash, "proc/version", O_RDONLY, BENEATH_LINKS);
	assert_true(fd >= 0);
	close(fd);
	snprintf(self, sizeof self, "proc/%d/root/etc/passwd", (int)getpid());
	fd = beneath_open(slash, self, O_RDONLY, BENEATH_LINKS);
	assert_true(fd == -1 && (errno == ELOOP || errno == EXDEV));
	close(slash);
}

/* Nobody writes into the fifo, and nobody waits for that. */
static void
nothing_blocks(void **state)
{
	char byte;

	(void)state;
	alarm(30);
	int fd = beneath_open(folder_fd, "fifo", O_RDONLY, BENEATH_PLAIN);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, &byte, 1), 0);
	close(fd);
	fd = beneath_open(folder_fd, "d", O_PATH | O_DIRECTORY, BENEATH_PLAIN);
	assert_true(fd >= 0);
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_below_opens),
		cmocka_unit_test(what_is_not_does_not),
		cmocka_unit_test(mounts_and_magic_links),
		cmocka_unit_test(nothing_blocks),
	};

	return cmocka_run_group_tests_name("beneath", tests, make_tree, folder_teardown);
}
