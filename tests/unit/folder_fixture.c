/* SPDX-License-Identifier: Apache-2.0 */
#include "folder_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NOBODY     65534
#define PATH_BYTES 2048

char folder_top[64];
char folder_path[80];
int folder_fd = -1;

void
folder_be_nobody(void)
{
	if (geteuid() != 0)
		return;
	if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
		abort();
	prctl(PR_SET_DUMPABLE, 1); /* or leaks cannot be looked for */
}

int
folder_setup(void **state)
{
	(void)state;
	snprintf(folder_top, sizeof folder_top, "/tmp/t_folder.XXXXXX");
	assert_non_null(mkdtemp(folder_top));
	snprintf(folder_path, sizeof folder_path, "%s/folder", folder_top);
	assert_int_equal(mkdir(folder_path, 0755), 0);
	folder_fd = open(folder_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(folder_fd >= 0);
	return 0;
}

static int
open_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	if (type == FTW_DNR || type == FTW_D)
		chmod(path, 0755);
	return 0;
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int
folder_teardown(void **state)
{
	(void)state;
	close(folder_fd);
	folder_fd = -1;
	nftw(folder_top, open_entry, 16, FTW_PHYS);
	return nftw(folder_top, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void
folder_mkdir(const char *path)
{
	char part[PATH_BYTES];

	for (size_t i = 1; i <= strlen(path); i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdirat(folder_fd, part, 0755) != 0)
			assert_int_equal(errno, EEXIST);
	}
}

void
folder_put(const char *path, const void *data, size_t len)
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_BYTES];

	if (slash != NULL) {
		snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
		folder_mkdir(parent);
	}
	int fd = openat(folder_fd, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

void
folder_put_text(const char *path, const char *text)
{
	folder_put(path, text, strlen(text));
}

const char *
folder_put_deep(const char *name)
{
	static char path[PATH_BYTES];
	size_t len = 0;

	for (int i = 0; i < 100; i++)
		len += (size_t)snprintf(path + len, sizeof path - len, "n%d/", i);
	snprintf(path + len, sizeof path - len, "%s", name);
	folder_put_text(path, "deep");
	return path;
}
