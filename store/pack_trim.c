/* SPDX-License-Identifier: Apache-2.0 */
#include "pack_trim.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static enum rc
failed(struct pack_dir *dir, uint64_t pack_id, int errnum, const char *doing, struct err *err)
{
	if (errnum == ENOENT)
		return err_set(err, RC_NOT_FOUND, NULL, "there is no such pack");
	return pack_dir_errno(dir, pack_id, errnum, doing, err);
}

/* A descriptor to write with, of the file that read_fd has open. A file that was made read-only
 * before (the process died between that and the database) is made writable again. */
static int
open_to_write(struct pack_dir *dir, uint64_t pack_id, int read_fd)
{
	int fd = pack_dir_openat(dir, pack_id, O_WRONLY);

	if (fd >= 0 || errno != EACCES || fchmod(read_fd, 0640) != 0)
		return fd;
	return pack_dir_openat(dir, pack_id, O_WRONLY);
}

static int
cut(struct pack_dir *dir, uint64_t pack_id, int read_fd, uint64_t bytes)
{
	int fd = open_to_write(dir, pack_id, read_fd);

	if (fd < 0)
		return -1;
	int rc = ftruncate(fd, (off_t)bytes);
	int saved = errno;
	close(fd);
	errno = saved;
	return rc;
}

static enum rc
sync_entry(struct pack_dir *dir, uint64_t pack_id, struct err *err)
{
	int fd = pack_dir_open_shard(dir, pack_id);

	if (fd < 0)
		return pack_dir_errno(dir, pack_id, errno, "sync a pack's directory", err);
	int rc = fsync(fd);
	int saved = errno;
	close(fd);
	return rc == 0 ? RC_OK
		       : pack_dir_errno(dir, pack_id, saved, "sync a pack's directory", err);
}

enum rc
pack_trim(struct pack_dir *dir, uint64_t pack_id, uint64_t bytes, struct err *err)
{
	struct stat st;
	enum rc rc = RC_OK;

	int fd = pack_dir_openat(dir, pack_id, O_RDONLY);
	if (fd < 0)
		return failed(dir, pack_id, errno, "close a pack", err);
	if (fstat(fd, &st) != 0)
		rc = failed(dir, pack_id, errno, "close a pack", err);
	else if ((uint64_t)st.st_size < bytes)
		rc = err_set(err, RC_INVALID, NULL, "the pack is shorter than what is to be kept");
	else if (((uint64_t)st.st_size > bytes && cut(dir, pack_id, fd, bytes) != 0) ||
		 fchmod(fd, 0440) != 0 || fsync(fd) != 0)
		rc = failed(dir, pack_id, errno, "close a pack", err);
	close(fd);
	return rc == RC_OK ? sync_entry(dir, pack_id, err) : rc;
}

enum rc
pack_sync(struct pack_dir *dir, uint64_t pack_id, struct err *err)
{
	int fd = pack_dir_openat(dir, pack_id, O_RDONLY);

	if (fd < 0)
		return failed(dir, pack_id, errno, "sync a pack", err);
	int rc = fsync(fd);
	int saved = errno;
	close(fd);
	if (rc != 0)
		return failed(dir, pack_id, saved, "sync a pack", err);
	return sync_entry(dir, pack_id, err);
}
