/* SPDX-License-Identifier: Apache-2.0 */
#include "data_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hex.h"

#define FORMAT_VERSION 1
#define VERSION_TEXT   "1\n"

static enum rc
take_lock(int dir, struct err *err)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = openat(dir, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_errno(err, errno, "open the lock file", "LOCK");
	/* an open-file-description lock: it ends with the process, whatever ends it */
	if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
		close(fd);
		return err_set(err, RC_CONFLICT, "data-dir-in-use",
			"another digstored is using this data directory");
	}
	return RC_OK; /* fd stays open */
}

static enum rc
write_version(int dir, struct err *err)
{
	int fd = openat(dir, "VERSION.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return err_errno(err, errno, "write the version file", "VERSION.new");
	ssize_t n = write(fd, VERSION_TEXT, sizeof VERSION_TEXT - 1);
	if (n != sizeof VERSION_TEXT - 1 || fsync(fd) != 0) {
		int e = n < 0 || errno != 0 ? errno : ENOSPC;
		close(fd);
		return err_errno(err, e, "write the version file", "VERSION.new");
	}
	close(fd);
	if (renameat(dir, "VERSION.new", dir, "VERSION") != 0 || fsync(dir) != 0)
		return err_errno(err, errno, "write the version file", "VERSION");
	return RC_OK;
}

static enum rc
check_version(int dir, struct err *err)
{
	char text[32];
	uint64_t version = 0;
	int fd = openat(dir, "VERSION", O_RDONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return write_version(dir, err);
	if (fd < 0)
		return err_errno(err, errno, "read the version file", "VERSION");
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n > 0 && text[n - 1] == '\n')
		n--;
	if (n <= 0 || !parse_u64(text, (size_t)n, &version))
		return err_set(err, RC_CONFLICT, "format-newer",
			"the file VERSION in the data directory is not one of Digstore's");
	if (version > FORMAT_VERSION)
		return err_set(err, RC_CONFLICT, "format-newer",
			"the data directory has format %llu, written by a newer version; this one "
			"knows %d",
			(unsigned long long)version, FORMAT_VERSION);
	return RC_OK;
}

enum rc
data_dir_open(const char *path, struct err *err)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return err_errno(err, errno, "open the data directory", path);
	enum rc rc = take_lock(dir, err);
	if (rc == RC_OK)
		rc = check_version(dir, err);
	close(dir);
	return rc;
}
