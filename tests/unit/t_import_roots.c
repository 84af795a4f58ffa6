/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder_fixture.h"
#include "import_roots.h"

static struct import_roots *roots;
static struct err err;

static int
setup(void **state)
{
	folder_setup(state);
	folder_put_text("in/d/f", "x");
	folder_put_text("in/file", "x");
	folder_put_text("out/secret", "no");
	folder_mkdir("data/blobs");
	err_clear(&err);
	return 0;
}

static int
teardown(void **state)
{
	import_roots_free(roots);
	roots = NULL;
	return folder_teardown(state);
}

static const char *
full(const char *path)
{
	static char text[4][5000];
	static int next;
	char *out = text[next++ % 4];

	snprintf(out, sizeof text[0], "%s%s%s", folder_path, path[0] != '\0' ? "/" : "", path);
	return out;
}

static enum rc
open_one(const char *path)
{
	const char *paths[] = {path};

	import_roots_free(roots);
	err_clear(&err);
	return import_roots_open(paths, 1, full("data"), &roots, &err);
}

/* Looks for path and expects rc; kind NULL: it opens, and holds a file "f". */
static void
look(const char *path, enum rc want, const char *kind)
{
	struct stat st;
	int fd;

	err_clear(&err);
	enum rc rc = import_roots_find(roots, path, &fd, &err);
	if (rc != want)
		fail_msg("%s: %s %s", path, rc_name(rc), err.text);
	if (kind != NULL) {
		assert_int_equal(fd, -1);
		assert_string_equal(err.kind, kind);
		return;
	}
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	close(fd);
}

static void
what_lies_below_opens(void **state)
{
	(void)state;
	assert_int_equal(open_one(full("in/")), RC_OK);
	assert_int_equal(import_roots_count(roots), 1);
	look(full("in"), RC_OK, NULL);
	look(full("in/"), RC_OK, NULL);
	look(full("in/d"), RC_OK, NULL);
	look(full("in/d/"), RC_OK, NULL);
	look(full("in/none"), RC_NOT_FOUND, "path-not-found");
	look(full("in/file"), RC_INVALID, "invalid-field");
	look(full("in/file/x"), RC_INVALID, "invalid-field");
	look(full("out"), RC_DENIED, "import-denied");
	look(full("inside"), RC_DENIED, "import-denied");
	look(full(""), RC_DENIED, "import-denied");
	look("/", RC_DENIED, "import-denied");
}

static void
bad_paths(void **state)
{
	char longest[5000];

	(void)state;
	assert_int_equal(open_one(full("in")), RC_OK);
	const char *const bad[] = {"", "in", "./in", "../in", full("in/../out"), full("in/.."),
		full("in/d/.."), full("in/./d"), full("in/."), full("in//d"), full("in/d//")};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		look(bad[i], RC_INVALID, "invalid-field");
	snprintf(longest, sizeof longest, "%s/", full("in"));
	size_t len = strlen(longest);
	memset(longest + len, 'x', 4096 - len);
	longest[4096] = '\0';
	look(longest, RC_INVALID, "invalid-field");
	longest[300] = '\0';
	look(longest, RC_INVALID, "invalid-field");
}

static void
links_stay_below(void **state)
{
	(void)state;
	assert_int_equal(symlinkat("d", folder_fd, "in/current"), 0);
	assert_int_equal(symlinkat("../out", folder_fd, "in/away"), 0);
	assert_int_equal(symlinkat(full("in/d"), folder_fd, "in/absolute"), 0);
	assert_int_equal(symlinkat("again", folder_fd, "in/again"), 0);
	assert_int_equal(symlinkat("in", folder_fd, "alias"), 0);
	assert_int_equal(open_one(full("in")), RC_OK);
	look(full("in/current"), RC_OK, NULL);
	look(full("in/away"), RC_DENIED, "import-denied");
	look(full("in/absolute"), RC_DENIED, "import-denied");
	look(full("in/again"), RC_DENIED, "import-denied");
	/* a root may be a link itself; it is what it led to at start */
	assert_int_equal(open_one(full("alias")), RC_OK);
	assert_int_equal(unlinkat(folder_fd, "alias", 0), 0);
	assert_int_equal(symlinkat("out", folder_fd, "alias"), 0);
	look(full("alias/d"), RC_OK, NULL);
	look(full("in/d"), RC_DENIED, "import-denied");
}

static void
what_may_not_be_read(void **state)
{
	(void)state;
	assert_int_equal(open_one(full("in")), RC_OK);
	assert_int_equal(fchmodat(folder_fd, "in/d", 0, 0), 0);
	look(full("in/d"), RC_DENIED, "import-denied");
	assert_int_equal(fchmodat(folder_fd, "in", 0, 0), 0);
	assert_int_equal(open_one(full("in")), RC_INVALID);
	assert_non_null(strstr(err.text, "may enter"));
	assert_int_equal(fchmodat(folder_fd, "in", 0755, 0), 0);
}

static void
the_inner_root_counts(void **state)
{
	const char *paths[] = {full("in"), full("in/d")};

	(void)state;
	assert_int_equal(import_roots_open(paths, 2, full("data"), &roots, &err), RC_OK);
	look(full("in/d"), RC_OK, NULL);
	assert_int_equal(renameat(folder_fd, "in/d", folder_fd, "in/moved"), 0);
	look(full("in/d"), RC_OK, NULL);
	look(full("in/moved"), RC_OK, NULL);
}

static void
no_roots_no_imports(void **state)
{
	(void)state;
	assert_int_equal(import_roots_open(NULL, 0, full("data"), &roots, &err), RC_OK);
	look(full("in"), RC_DENIED, "import-denied");
	assert_non_null(strstr(err.text, "import_roots"));
	look("relative", RC_INVALID, "invalid-field");
}

/* However it is written. */
static void
the_data_directory_is_no_source(void **state)
{
	(void)state;
	assert_int_equal(symlinkat("data", folder_fd, "alias"), 0);
	folder_mkdir("data2");
	const char *const bad[] = {"/", full(""), full("data"), full("data/blobs"), full("alias")};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (open_one(bad[i]) != RC_INVALID)
			fail_msg("accepted: %s", bad[i]);
		assert_non_null(strstr(err.text, "data directory"));
		assert_null(roots);
	}
	assert_int_equal(open_one(full("data2")), RC_OK);
	assert_int_equal(open_one(full("none")), RC_INVALID);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_lies_below_opens),
		T(bad_paths),
		T(links_stay_below),
		T(what_may_not_be_read),
		T(the_inner_root_counts),
		T(no_roots_no_imports),
		T(the_data_directory_is_no_source),
	};

	folder_be_nobody();
	return cmocka_run_group_tests_name("import_roots", tests, NULL, NULL);
}
