/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_files.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "hex.h"

#define SAME_BYTES_MAX 16384u /* our configuration files are smaller */

enum rc
pg_files_path(char *out, struct err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(out, PG_PATH_BYTES, fmt, ap);
	va_end(ap);
	if (n >= 0 && (unsigned)n < PG_PATH_BYTES)
		return RC_OK;
	err_set(err, RC_TOO_LARGE, NULL, "the path of the data directory is too long");
	return err_detail(err, "above %u bytes: %.200s", PG_PATH_BYTES - 1, out);
}

bool
pg_files_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

enum rc
pg_files_sync_dir(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0) {
		err_errno(err, errno, "sync a folder", path);
		if (fd >= 0)
			close(fd);
		return err->rc;
	}
	close(fd);
	return RC_OK;
}

static enum rc
sync_parent(const char *path, struct err *err)
{
	char parent[PG_PATH_BYTES];
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return pg_files_sync_dir(".", err);
	enum rc rc = pg_files_path(parent, err, "%.*s/", (int)(slash - path), path);
	return rc == RC_OK ? pg_files_sync_dir(parent, err) : rc;
}

enum rc
pg_files_mkdir(const char *path, struct err *err)
{
	struct stat st;

	if (mkdir(path, 0700) == 0)
		return sync_parent(path, err);
	if (errno != EEXIST)
		return err_errno(err, errno, "create a folder", path);
	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
		return err_errno(err, ENOTDIR, "create a folder", path);
	return RC_OK;
}

static enum rc
write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);
		if (n < 0 && errno != EINTR)
			return RC_IO;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return RC_OK;
}

static bool
has_text(const char *path, const char *text, size_t len)
{
	char now[SAME_BYTES_MAX];

	return len < sizeof now - 1 && pg_files_read(path, 0, now, sizeof now) == len &&
	       memcmp(now, text, len) == 0 && pg_files_exists(path);
}

enum rc
pg_files_write(const char *path, const char *text, size_t len, struct err *err)
{
	char aside[PG_PATH_BYTES];

	if (has_text(path, text, len))
		return RC_OK;
	enum rc rc = pg_files_path(aside, err, "%s.tmp", path);
	if (rc != RC_OK)
		return rc;
	int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, errno, "create a file", aside);
	if (write_all(fd, text, len) != RC_OK || fsync(fd) != 0)
		rc = err_errno(err, errno, "write a file", aside);
	close(fd);
	if (rc == RC_OK && rename(aside, path) != 0)
		rc = err_errno(err, errno, "rename a file", path);
	if (rc != RC_OK) {
		unlink(aside);
		return rc;
	}
	return sync_parent(path, err);
}

size_t
pg_files_read(const char *path, off_t offset, char *out, size_t bytes_max)
{
	size_t len = 0;

	out[0] = '\0';
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return 0;
	if (offset < 0) {
		off_t end = lseek(fd, 0, SEEK_END);
		offset = end + offset > 0 ? end + offset : 0;
	}
	while (len < bytes_max - 1) {
		ssize_t n = pread(fd, out + len, bytes_max - 1 - len, offset + (off_t)len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	close(fd);
	out[len] = '\0';
	return len;
}

uint64_t
pg_files_number(const char *text)
{
	uint64_t v = 0;

	return parse_u64(text, strspn(text, "0123456789"), &v) ? v : 0;
}

static int
sync_entry(const FTSENT *e)
{
	int fd = open(e->fts_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -1;
	int failed = fsync(fd);
	int why = errno;
	close(fd);
	errno = why;
	return failed;
}

static enum rc
walk(const char *path, int (*visit)(const FTSENT *), const char *doing, struct err *err)
{
	char *start = strdup(path);
	char *const paths[] = {start, NULL};
	FTS *tree = start != NULL ? fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL) : NULL;
	enum rc rc = RC_OK;

	if (tree == NULL)
		rc = err_errno(err, errno, doing, path);
	while (rc == RC_OK) {
		errno = 0;
		FTSENT *e = fts_read(tree);
		if (e == NULL) {
			if (errno != 0)
				rc = err_errno(err, errno, doing, path);
			break;
		}
		if (e->fts_info == FTS_ERR || e->fts_info == FTS_DNR || e->fts_info == FTS_NS)
			rc = err_errno(err, e->fts_errno, doing, e->fts_path);
		else if (e->fts_info != FTS_D && visit(e) != 0)
			rc = err_errno(err, errno, doing, e->fts_path);
	}
	if (tree != NULL)
		fts_close(tree);
	free(start);
	return rc;
}

static int
sync_visit(const FTSENT *e)
{
	return e->fts_info == FTS_F || e->fts_info == FTS_DP ? sync_entry(e) : 0;
}

enum rc
pg_files_sync_tree(const char *path, struct err *err)
{
	return walk(path, sync_visit, "sync a folder", err);
}

static int
remove_visit(const FTSENT *e)
{
	int failed = e->fts_info == FTS_DP ? rmdir(e->fts_path) : unlink(e->fts_path);
	return failed != 0 && errno == ENOENT ? 0 : failed;
}

enum rc
pg_files_remove_tree(const char *path, struct err *err)
{
	return pg_files_exists(path) ? walk(path, remove_visit, "remove a folder", err) : RC_OK;
}

uint64_t
pg_files_free_bytes(const char *path)
{
	struct statvfs fs;

	if (statvfs(path, &fs) != 0)
		return UINT64_MAX;
	return (uint64_t)fs.f_bavail * fs.f_frsize;
}

enum rc
pg_files_allocate(const char *path, uint64_t bytes, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, errno, "create a file", path);
	int why = posix_fallocate(fd, 0, (off_t)bytes);
	close(fd);
	if (why == 0)
		return RC_OK;
	unlink(path);
	return err_errno(err, why, "allocate a file", path);
}
