/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beneath.h"

static char top[] = "/tmp/t_beneath.XXXXXX";
static int root = -1;

static void
put(const char *path, const char *text)
{
	int fd = openat(root, path, O_WRONLY | O_CREAT | O_EXCL, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int
make_tree(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(top));
	int above = open(top, O_RDONLY | O_DIRECTORY);
	assert_int_equal(mkdirat(above, "root", 0755), 0);
	assert_int_equal(mkdirat(above, "beside", 0755), 0);
	root = openat(above, "root", O_RDONLY | O_DIRECTORY);
	close(above);
	assert_int_equal(mkdirat(root, "d", 0755), 0);
	assert_int_equal(mkdirat(root, "d/e", 0755), 0);
	put("f", "f");
	put("d/e/g", "g");
	put("../beside/secret", "no");
	assert_int_equal(symlinkat("e", root, "d/inside"), 0);
	assert_int_equal(symlinkat("../../beside", root, "d/outside"), 0);
	assert_int_equal(symlinkat("../beside/../root/f", root, "around"), 0);
	assert_int_equal(symlinkat("/etc/passwd", root, "absolute"), 0);
	assert_int_equal(symlinkat("loop", root, "loop"), 0);
	assert_int_equal(mkfifoat(root, "fifo", 0644), 0);
	return 0;
}

static int
remove_tree(void **state)
{
	char command[64];

	(void)state;
	close(root);
	snprintf(command, sizeof command, "rm -rf %s", top);
	return system(command); /* lint: allow system */
}

static void
expect(const char *path, enum beneath_way way, int error)
{
	int fd = beneath_open(root, path, O_RDONLY, way);
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
	int fd = beneath_open(root, "fifo", O_RDONLY, BENEATH_PLAIN);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, &byte, 1), 0);
	close(fd);
	fd = beneath_open(root, "d", O_PATH | O_DIRECTORY, BENEATH_PLAIN);
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

	return cmocka_run_group_tests_name("beneath", tests, make_tree, remove_tree);
}
