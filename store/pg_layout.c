/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "pg_init.h"

#define SOCKET_NAME     "/.s.PGSQL.5432"
#define SOCKET_PATH_MAX 107u /* sun_path without the NUL */

void
pg_layout_init(struct pg_layout *l)
{
	*l = (struct pg_layout){.lock_fd = -1, .log_fd = -1};
}

void
pg_layout_done(struct pg_layout *l)
{
	if (l->removes_socket_dir)
		rmdir(l->socket_dir);
	if (l->log_fd >= 0)
		close(l->log_fd);
	if (l->lock_fd >= 0)
		close(l->lock_fd); /* last: from here on another may open it */
	free(l->url);
	pg_layout_init(l);
}

static enum rc
take_lock(struct pg_layout *l, struct err *err)
{
	char path[PG_PATH_BYTES];

	enum rc rc = pg_files_path(path, err, "%s/lock", l->root);
	if (rc != RC_OK)
		return rc;
	l->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (l->lock_fd < 0)
		return err_errno(err, errno, "open a lock file", path);
	while (flock(l->lock_fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return err_errno(err, errno, "lock a file", path);
		return err_set(err, RC_CONFLICT, "data-dir-in-use",
			"another server uses the data directory (%.200s is locked)", path);
	}
	return RC_OK;
}

/* A folder in /tmp that belongs to this data directory, found again after a crash; another user
 * may have taken the name first, then any free name. */
static enum rc
short_socket_dir(struct pg_layout *l, struct err *err)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
	struct stat st;

	for (const char *p = l->root; *p != '\0'; p++)
		hash = (hash ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
	snprintf(l->socket_dir, sizeof l->socket_dir, "/tmp/digstore-%u-%016llx",
		(unsigned)geteuid(), (unsigned long long)hash);
	bool is_ours = mkdir(l->socket_dir, 0700) == 0 ||
		       (lstat(l->socket_dir, &st) == 0 && S_ISDIR(st.st_mode) &&
			       st.st_uid == geteuid() && (st.st_mode & 0077) == 0);
	if (!is_ours) {
		snprintf(l->socket_dir, sizeof l->socket_dir, "/tmp/digstore-XXXXXX");
		if (mkdtemp(l->socket_dir) == NULL)
			return err_errno(err, errno, "create a folder", l->socket_dir);
	}
	l->removes_socket_dir = true;
	return RC_OK;
}

static enum rc
choose_socket_dir(struct pg_layout *l, const char *runtime_dir, struct err *err)
{
	enum rc rc = runtime_dir != NULL ? pg_files_path(l->socket_dir, err, "%s", runtime_dir)
					 : pg_files_path(l->socket_dir, err, "%s/run", l->root);
	if (rc != RC_OK)
		return rc;
	/* a comma would separate two folders, both for the server and for libpq */
	if (strlen(l->socket_dir) + strlen(SOCKET_NAME) > SOCKET_PATH_MAX ||
		l->socket_dir[0] != '/' || strchr(l->socket_dir, ',') != NULL)
		return short_socket_dir(l, err);
	return pg_files_mkdir(l->socket_dir, err);
}

static void
add_quoted(struct buf *b, const char *text)
{
	buf_add_str(b, "'");
	for (; *text != '\0'; text++) {
		if (*text == '\'' || *text == '\\')
			buf_add_str(b, "\\");
		buf_add(b, text, 1);
	}
	buf_add_str(b, "'");
}

static enum rc
make_url(struct pg_layout *l, struct err *err)
{
	struct buf b;
	size_t len;

	buf_init(&b, 4 * PG_PATH_BYTES);
	buf_add_str(&b, "host=");
	add_quoted(&b, l->socket_dir);
	buf_add_str(&b, " port=5432 user=" PG_INIT_ROLE " dbname=" PG_INIT_ROLE);
	buf_add_u8(&b, 0);
	if (!buf_ok(&b)) {
		buf_done(&b);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	l->url = (char *)buf_take(&b, &len);
	return RC_OK;
}

enum rc
pg_layout_open_root(struct pg_layout *l, const char *data_dir, struct err *err)
{
	/* PostgreSQL's working directory is a resolved path, and we compare with it */
	char *real = realpath(data_dir, NULL);
	if (real == NULL)
		return err_errno(err, errno, "find the data directory", data_dir);
	enum rc rc = pg_files_path(l->root, err, "%s/pg", real);
	free(real);
	if (rc == RC_OK)
		rc = pg_files_mkdir(l->root, err);
	if (rc == RC_OK)
		rc = take_lock(l, err);
	return rc;
}

enum rc
pg_layout_open(struct pg_layout *l, unsigned major, const char *runtime_dir, struct err *err)
{
	char log_dir[PG_PATH_BYTES];

	enum rc rc = pg_files_path(l->data, err, "%s/%u", l->root, major);
	if (rc == RC_OK)
		rc = pg_files_path(l->pid_file, err, "%s/postmaster.pid", l->data);
	if (rc == RC_OK)
		rc = pg_files_path(l->ballast, err, "%s/ballast", l->root);
	if (rc == RC_OK)
		rc = pg_files_path(log_dir, err, "%s/log", l->root);
	if (rc == RC_OK)
		rc = pg_files_path(l->log_path, err, "%s/postgresql.log", log_dir);
	if (rc == RC_OK)
		rc = pg_files_mkdir(log_dir, err);
	if (rc == RC_OK)
		rc = choose_socket_dir(l, runtime_dir, err);
	if (rc == RC_OK)
		rc = make_url(l, err);
	if (rc != RC_OK)
		return rc;
	l->log_fd = open(l->log_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	return l->log_fd < 0 ? err_errno(err, errno, "open a log file", l->log_path) : RC_OK;
}

/* The end of what this run has logged. */
void
pg_layout_log_tail(const struct pg_layout *l, char *out, size_t out_bytes)
{
	struct stat st;
	off_t from = l->log_start;

	if (fstat(l->log_fd, &st) == 0 && st.st_size - from > (off_t)(out_bytes - 1))
		from = st.st_size - (off_t)(out_bytes - 1);
	pg_files_read(l->log_path, from, out, out_bytes);
}

/* The last whole lines that fit. */
void
pg_layout_last_lines(const char *text, char *out, size_t out_bytes)
{
	size_t len = strlen(text);

	while (len > 0 && text[len - 1] == '\n')
		len--;
	if (len > out_bytes - 1) {
		text += len - (out_bytes - 1);
		len = out_bytes - 1;
		const char *line = memchr(text, '\n', len);
		if (line != NULL) {
			len -= (size_t)(line + 1 - text);
			text = line + 1;
		}
	}
	memcpy(out, text, len);
	out[len] = '\0';
}

/* The writers append, so cutting the file to nothing is safe; lines written between the copy and
 * the cut are lost, deliberately. */
void
pg_layout_bound_log(struct pg_layout *l)
{
	struct stat st;
	struct err ignored = ERR_INIT;
	char old[PG_PATH_BYTES];

	if (fstat(l->log_fd, &st) != 0 || (uint64_t)st.st_size <= PG_LAYOUT_LOG_BYTES_MAX ||
		pg_files_path(old, &ignored, "%s.1", l->log_path) != RC_OK)
		return;
	int fd = open(old, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	off_t from = st.st_size - (off_t)PG_LAYOUT_LOG_BYTES_MAX;
	while (fd >= 0 && from < st.st_size) {
		ssize_t n =
			copy_file_range(l->log_fd, &from, fd, NULL, (size_t)(st.st_size - from), 0);
		if (n <= 0)
			break;
	}
	if (fd >= 0)
		close(fd);
	if (ftruncate(l->log_fd, 0) == 0)
		l->log_start = 0;
}

void
pg_layout_keep_ballast(const struct pg_layout *l, uint64_t bytes)
{
	struct err ignored = ERR_INIT;
	struct stat st;

	if (bytes == 0 || (stat(l->ballast, &st) == 0 && (uint64_t)st.st_size >= bytes))
		return;
	/* only when as much is free again: ballast must not itself fill the disk */
	if (pg_files_free_bytes(l->root) / 2 >= bytes)
		pg_files_allocate(l->ballast, bytes, &ignored);
}

bool
pg_layout_drop_ballast(const struct pg_layout *l)
{
	return unlink(l->ballast) == 0;
}
