/* SPDX-License-Identifier: Apache-2.0 */
#include "pack_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "buf.h"
#include "hex.h"

#define SHARDS     256u
#define LAST_SHARD (SHARDS - 1)
#define SUFFIX     ".pack"
#define ID_DIGITS  16
#define NAME_BYTES (ID_DIGITS + sizeof SUFFIX)
/* as much of a path as fits into the detail of an err, with something to say about it */
#define PATH_BYTES 300
#define DIR_FLAGS  (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

struct pack_dir {
	char *path;
	int root_fd;
	int shard_fd[SHARDS];
};

static unsigned
shard_of(uint64_t pack_id)
{
	return (unsigned)(pack_id & 0xff);
}

/* The name inside the shard, NAME_BYTES with its NUL. */
static void
file_name(uint64_t pack_id, char *out)
{
	snprintf(out, NAME_BYTES, "%016" PRIx64 SUFFIX, pack_id);
}

static void
pack_path(const struct pack_dir *dir, uint64_t pack_id, char *out, size_t out_bytes)
{
	snprintf(out, out_bytes, "%s/%02x/%016" PRIx64 SUFFIX, dir->path, shard_of(pack_id),
		pack_id);
}

enum rc
pack_dir_errno(const struct pack_dir *dir, uint64_t pack_id, int errnum, const char *doing,
	struct err *err)
{
	char path[PATH_BYTES];

	pack_path(dir, pack_id, path, sizeof path);
	return err_errno(err, errnum, doing, path);
}

enum rc
pack_dir_corrupt(const struct pack_dir *dir, uint64_t pack_id, uint64_t offset, const char *why,
	struct err *err)
{
	char path[PATH_BYTES];

	pack_path(dir, pack_id, path, sizeof path);
	err_set(err, RC_CORRUPT, "corrupt-data", "stored data is damaged or missing");
	return err_detail(err, "%s at %" PRIu64 ": %s", path, offset, why);
}

int
pack_dir_openat(const struct pack_dir *dir, uint64_t pack_id, int flags)
{
	char name[NAME_BYTES];

	file_name(pack_id, name);
	return openat(dir->shard_fd[shard_of(pack_id)], name, flags | O_CLOEXEC | O_NOCTTY, 0640);
}

int
pack_dir_unlinkat(const struct pack_dir *dir, uint64_t pack_id)
{
	char name[NAME_BYTES];

	file_name(pack_id, name);
	return unlinkat(dir->shard_fd[shard_of(pack_id)], name, 0);
}

int
pack_dir_open_shard(const struct pack_dir *dir, uint64_t pack_id)
{
	return openat(dir->shard_fd[shard_of(pack_id)], ".", DIR_FLAGS);
}

int
pack_dir_pread(int fd, uint8_t *data, size_t len, uint64_t offset, size_t *got)
{
	*got = 0;
	while (*got < len) {
		ssize_t n = pread(fd, data + *got, len - *got, (off_t)(offset + *got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		if (n == 0)
			break;
		*got += (size_t)n;
	}
	return 0;
}

/* Make the shard if it is missing, open it, and sync it if it is new or must_sync. */
static int
open_shard(struct pack_dir *dir, unsigned shard, bool must_sync)
{
	char name[3];

	snprintf(name, sizeof name, "%02x", shard & 0xff);
	bool made = mkdirat(dir->root_fd, name, 0750) == 0;
	if (!made && errno != EEXIST)
		return -1;
	dir->shard_fd[shard] = openat(dir->root_fd, name, DIR_FLAGS);
	if (dir->shard_fd[shard] < 0)
		return -1;
	return made || must_sync ? fsync(dir->shard_fd[shard]) : 0;
}

/* The last shard is made only when the others are durable, and synced on every open: so if it is
 * there, nothing that an interrupted first open left behind can still be volatile. */
static int
open_shards(struct pack_dir *dir)
{
	bool complete = faccessat(dir->root_fd, "ff", F_OK, 0) == 0;

	for (unsigned shard = 0; shard < LAST_SHARD; shard++)
		if (open_shard(dir, shard, !complete) != 0)
			return -1;
	if (!complete && fsync(dir->root_fd) != 0)
		return -1;
	if (open_shard(dir, LAST_SHARD, true) != 0)
		return -1;
	return fsync(dir->root_fd);
}

static int
open_root(struct pack_dir *dir)
{
	if (mkdir(dir->path, 0750) != 0 && errno != EEXIST)
		return -1;
	dir->root_fd = open(dir->path, DIR_FLAGS);
	if (dir->root_fd < 0)
		return -1;
	int parent_fd = openat(dir->root_fd, "..", DIR_FLAGS);
	if (parent_fd < 0)
		return -1;
	int rc = fsync(parent_fd);
	int saved = errno;
	close(parent_fd);
	errno = saved;
	return rc;
}

enum rc
pack_dir_open(const char *path, struct pack_dir **out, struct err *err)
{
	*out = NULL;
	struct pack_dir *dir = malloc(sizeof *dir);
	if (dir == NULL)
		return err_errno(err, ENOMEM, "open the pack directory", path);
	dir->root_fd = -1;
	for (unsigned shard = 0; shard < SHARDS; shard++)
		dir->shard_fd[shard] = -1;
	dir->path = strdup(path);
	if (dir->path == NULL || open_root(dir) != 0 || open_shards(dir) != 0) {
		enum rc rc = err_errno(err, errno, "open the pack directory", path);
		pack_dir_free(dir);
		return rc;
	}
	*out = dir;
	return RC_OK;
}

void
pack_dir_free(struct pack_dir *dir)
{
	if (dir == NULL)
		return;
	for (unsigned shard = 0; shard < SHARDS; shard++)
		if (dir->shard_fd[shard] >= 0)
			close(dir->shard_fd[shard]);
	if (dir->root_fd >= 0)
		close(dir->root_fd);
	free(dir->path);
	free(dir);
}

enum rc
pack_remove(struct pack_dir *dir, uint64_t pack_id, struct err *err)
{
	enum rc rc = RC_OK;

	int fd = pack_dir_open_shard(dir, pack_id);
	if (fd < 0)
		return pack_dir_errno(dir, pack_id, errno, "remove a pack", err);
	bool is_there = pack_dir_unlinkat(dir, pack_id) == 0;
	if (!is_there && errno != ENOENT)
		rc = pack_dir_errno(dir, pack_id, errno, "remove a pack", err);
	else if (fsync(fd) != 0) /* also of a removal that a process did not live to sync */
		rc = pack_dir_errno(dir, pack_id, errno, "sync the removal of a pack", err);
	else if (!is_there)
		rc = err_set(err, RC_NOT_FOUND, NULL, "there is no such pack");
	close(fd);
	return rc;
}

enum rc
pack_dir_space(const struct pack_dir *dir, uint64_t *free_bytes, struct err *err)
{
	struct statvfs fs;

	if (fstatvfs(dir->root_fd, &fs) != 0)
		return err_errno(err, errno, "look for free space", dir->path);
	*free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	return RC_OK;
}

/* Is name what file_name makes of some id of this shard? */
static bool
parse_name(const char *name, unsigned shard, uint64_t *pack_id)
{
	uint8_t id[8];
	char again[NAME_BYTES];

	if (strlen(name) != ID_DIGITS + strlen(SUFFIX) || !hex_decode(name, ID_DIGITS, id, 8))
		return false;
	*pack_id = 0;
	for (size_t i = 0; i < sizeof id; i++)
		*pack_id = *pack_id << 8 | id[i];
	file_name(*pack_id, again);
	return shard_of(*pack_id) == shard && strcmp(name, again) == 0;
}

static enum rc
list_shard(struct pack_dir *dir, unsigned shard, pack_dir_list_fn *fn, void *arg, struct err *err)
{
	uint64_t pack_id = 0;
	enum rc rc = RC_OK;

	/* a descriptor of its own, for a position of its own */
	int fd = openat(dir->shard_fd[shard], ".", DIR_FLAGS);
	DIR *entries = fd < 0 ? NULL : fdopendir(fd);
	if (entries == NULL) {
		rc = err_errno(err, errno, "list packs", dir->path);
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (rc == RC_OK) {
		errno = 0;
		struct dirent *entry = readdir(entries);
		if (entry == NULL) {
			if (errno != 0)
				rc = err_errno(err, errno, "list packs", dir->path);
			break;
		}
		if (parse_name(entry->d_name, shard, &pack_id))
			rc = fn(arg, pack_id, err);
	}
	closedir(entries);
	return rc;
}

enum rc
pack_dir_list(struct pack_dir *dir, pack_dir_list_fn *fn, void *arg, struct err *err)
{
	enum rc rc = RC_OK;

	for (unsigned shard = 0; shard < SHARDS && rc == RC_OK; shard++)
		rc = list_shard(dir, shard, fn, arg, err);
	return rc;
}
