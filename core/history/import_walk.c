/* SPDX-License-Identifier: Apache-2.0 */
/* The types that a directory tells are hints that save a look: files are looked at again when they
 * are opened, and what has become something else meanwhile is not read. */
#include "import_walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beneath.h"
#include "path.h"

#define LISTING_BYTES ((size_t)64 << 10)       /* of one directory, at a time */
#define FOUND_MAX     (LISTING_BYTES / 24 + 1) /* entries that can be in it */

struct directory {
	const char *path; /* the list's; with the prefix */
	size_t path_len;
};

struct import_walk {
	struct import_walk_options o; /* immutable */
	size_t prefix_len;
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	/* guarded by mtx */
	struct directory *todo; /* a stack, so that few wait at a time */
	size_t todo_count, todo_cap;
	unsigned busy; /* threads that may yet add to it */
	bool over;
	uint64_t entries, bytes, directories;
	struct err err;
};

/* Entry of a listing that is taken. */
struct found {
	const char *name; /* in the listing */
	size_t name_len;
	bool is_directory;
	uint64_t bytes;
};

/* What one thread works with. */
struct scan {
	struct import_walk *w;
	struct directory at;
	int fd;
	struct found *found;
	size_t count;
	uint64_t entries; /* of the listing, taken or not */
	char *listing;
};

/* Bytes of the path of name in the directory. */
static size_t
joined_len(const struct directory *at, size_t name_len)
{
	bool slash = at->path_len > 0 && at->path[at->path_len - 1] != '/';

	return at->path_len + (slash ? 1 : 0) + name_len;
}

/* ---- the shared part; these are called with the lock held ---- */

static void
fail(struct import_walk *w, const struct err *err)
{
	if (w->err.rc == RC_OK)
		w->err = *err;
	w->over = true;
}

static void
fail_memory(struct import_walk *w)
{
	struct err err = ERR_INIT;

	err_set(&err, RC_NOMEM, "no-memory", "out of memory");
	fail(w, &err);
}

static bool
push(struct import_walk *w, const char *path, size_t path_len)
{
	if (w->todo_count == w->todo_cap) {
		size_t cap = w->todo_cap == 0 ? 64 : w->todo_cap * 2;
		struct directory *more = realloc(w->todo, cap * sizeof *more);
		if (more == NULL)
			return false;
		w->todo = more;
		w->todo_cap = cap;
	}
	w->todo[w->todo_count++] = (struct directory){path, path_len};
	return true;
}

static void
count_entries(struct import_walk *w, uint64_t n)
{
	struct err err = ERR_INIT;

	w->entries += n;
	if (w->entries <= w->o.entries_max)
		return;
	err_set(&err, RC_TOO_LARGE, "import-too-large",
		"the folder holds more than the %" PRIu64 " entries that this server imports",
		w->o.entries_max);
	fail(w, &err);
}

static bool
count_bytes(struct import_walk *w, uint64_t n)
{
	struct err err = ERR_INIT;

	if (n <= w->o.bytes_max - w->bytes) {
		w->bytes += n;
		return true;
	}
	err_set(&err, RC_TOO_LARGE, "import-too-large",
		"the files of the folder have more than the %" PRIu64
		" bytes that this server imports",
		w->o.bytes_max);
	fail(w, &err);
	return false;
}

static void
add_found(struct import_walk *w, const struct directory *at, const struct found *f)
{
	struct err err = ERR_INIT;
	size_t len = joined_len(at, f->name_len);
	const char *path =
		import_files_name(w->o.files, at->path, at->path_len, f->name, f->name_len);

	if (path == NULL || (f->is_directory && !push(w, path, len)))
		fail_memory(w);
	else if (!f->is_directory && count_bytes(w, f->bytes) &&
		 import_files_add(w->o.files, path, len, f->bytes, &err) != RC_OK)
		fail(w, &err);
}

static void
tell(struct import_walk *w)
{
	const struct import_sizes *sizes = &w->o.files->sizes;

	for (int i = 0; i < IMPORT_CLASSES; i++) {
		atomic_store(&w->o.tally->found_files[i], sizes->files[i]);
		atomic_store(&w->o.tally->found_bytes[i], sizes->bytes[i]);
	}
	atomic_store(&w->o.tally->directories, w->directories);
}

/* ---- one directory ---- */

static bool
should_end(const struct import_walk *w)
{
	return atomic_load_explicit((atomic_bool *)(uintptr_t)w->o.stop, memory_order_relaxed);
}

/* Report name in the directory at hand, or the directory itself (""). */
static void
report(struct scan *s, enum import_reason reason, const char *name, size_t name_len)
{
	char path[IMPORT_REPORT_PATH];
	size_t len = s->at.path_len - s->w->prefix_len;

	memcpy(path, s->at.path + s->w->prefix_len, len);
	if (len > 0 && name_len > 0)
		path[len++] = '/';
	if (name_len > sizeof path - len)
		name_len = sizeof path - len;
	memcpy(path + len, name, name_len);
	len += name_len;
	if (len == 0)
		path[len++] = '.';
	import_report_add(s->w->o.report, reason, path, len);
}

/* A failed call about name. */
static void
report_errno(struct scan *s, int errnum, const char *name, size_t name_len)
{
	enum import_reason reason;
	struct err err = ERR_INIT;

	if (import_reason_of_errno(errnum, &reason)) {
		report(s, reason, name, name_len);
		return;
	}
	err_errno(&err, errnum, "look into the folder", s->at.path);
	pthread_mutex_lock(&s->w->mtx);
	fail(s->w, &err);
	pthread_mutex_unlock(&s->w->mtx);
}

static bool
may_be_path(struct scan *s, const char *name, size_t name_len)
{
	struct err err = ERR_INIT;

	if (path_check(name, name_len, &err) != RC_OK)
		report(s, IMPORT_INVALID_PATH, name, name_len);
	else if (joined_len(&s->at, name_len) > PATH_BYTES_MAX)
		report(s, IMPORT_PATH_TOO_LONG, name, name_len);
	else
		return true;
	return false;
}

static void
take(struct scan *s, const char *name, size_t name_len, bool is_directory, uint64_t bytes)
{
	if (may_be_path(s, name, name_len))
		s->found[s->count++] = (struct found){name, name_len, is_directory, bytes};
}

static void
judge_mode(struct scan *s, const char *name, size_t name_len, const struct stat *st)
{
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		take(s, name, name_len, false, (uint64_t)st->st_size);
		break;
	case S_IFDIR:
		take(s, name, name_len, true, 0);
		break;
	case S_IFLNK:
		report(s, IMPORT_SYMLINK, name, name_len);
		break;
	case S_IFIFO:
		report(s, IMPORT_FIFO, name, name_len);
		break;
	case S_IFSOCK:
		report(s, IMPORT_SOCKET, name, name_len);
		break;
	default:
		report(s, IMPORT_DEVICE, name, name_len);
		break;
	}
}

static void
judge_entry(struct scan *s, const struct dirent64 *e)
{
	size_t len = strlen(e->d_name);
	struct stat st;

	if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
		return;
	s->entries++;
	if (e->d_type == DT_DIR) {
		take(s, e->d_name, len, true, 0);
		return;
	}
	if (fstatat(s->fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0)
		judge_mode(s, e->d_name, len, &st);
	else
		report_errno(s, errno, e->d_name, len);
}

/* Hand over what the listing held. false: it is over. */
static bool
flush(struct scan *s)
{
	struct import_walk *w = s->w;

	pthread_mutex_lock(&w->mtx);
	count_entries(w, s->entries);
	for (size_t i = 0; i < s->count && !w->over; i++)
		add_found(w, &s->at, &s->found[i]);
	tell(w);
	if (w->todo_count > 0)
		pthread_cond_broadcast(&w->changed);
	bool goes_on = !w->over;
	pthread_mutex_unlock(&w->mtx);
	s->count = 0;
	s->entries = 0;
	return goes_on;
}

static void
list_directory(struct scan *s)
{
	ssize_t n;

	while ((n = getdents64(s->fd, s->listing, LISTING_BYTES)) > 0) {
		for (ssize_t at = 0; at < n && !should_end(s->w);) {
			const struct dirent64 *e = (const void *)(s->listing + at);
			judge_entry(s, e);
			at += e->d_reclen;
		}
		if (!flush(s) || should_end(s->w))
			return;
	}
	if (n < 0)
		report_errno(s, errno, "", 0);
}

/* false: it could not be opened. */
static bool
scan_directory(struct scan *s)
{
	const struct import_walk *w = s->w;
	const char *path = s->at.path_len > w->prefix_len ? s->at.path + w->prefix_len : ".";

	s->fd = beneath_open(w->o.dir, path, O_RDONLY | O_DIRECTORY, BENEATH_PLAIN);
	if (s->fd < 0) {
		report_errno(s, errno, "", 0);
		return false;
	}
	list_directory(s);
	close(s->fd);
	return true;
}

/* ---- the whole ---- */

enum rc
import_walk_open(
	const struct import_walk_options *options, struct import_walk **out, struct err *err)
{
	struct import_walk *w = calloc(1, sizeof *w);

	*out = NULL;
	if (w == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	w->o = *options;
	w->prefix_len = strlen(options->prefix);
	pthread_mutex_init(&w->mtx, NULL);
	pthread_cond_init(&w->changed, NULL);
	if (!push(w, options->prefix, w->prefix_len)) {
		struct err late = ERR_INIT;
		import_walk_close(w, &late);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	*out = w;
	return RC_OK;
}

/* The next directory, waiting for it while another thread may find one. */
static bool
next_directory(struct import_walk *w, struct directory *out)
{
	bool got = false;

	pthread_mutex_lock(&w->mtx);
	while (w->todo_count == 0 && w->busy > 0 && !w->over)
		pthread_cond_wait(&w->changed, &w->mtx);
	if (w->todo_count > 0 && !w->over && !should_end(w)) {
		*out = w->todo[--w->todo_count];
		w->busy++;
		got = true;
	}
	pthread_mutex_unlock(&w->mtx);
	return got;
}

static void
end_directory(struct import_walk *w, bool opened)
{
	pthread_mutex_lock(&w->mtx);
	w->directories += opened;
	tell(w);
	w->busy--;
	if (w->busy == 0 || w->over)
		pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->mtx);
}

void
import_walk_run(struct import_walk *w)
{
	struct scan s = {
		.w = w,
		.found = malloc(FOUND_MAX * sizeof *s.found),
		.listing = malloc(LISTING_BYTES),
	};

	if (s.found == NULL || s.listing == NULL) {
		pthread_mutex_lock(&w->mtx);
		fail_memory(w);
		pthread_cond_broadcast(&w->changed);
		pthread_mutex_unlock(&w->mtx);
	}
	while (next_directory(w, &s.at)) {
		end_directory(w, scan_directory(&s));
	}
	free(s.found);
	free(s.listing);
}

enum rc
import_walk_close(struct import_walk *w, struct err *err)
{
	if (w == NULL)
		return RC_OK;
	enum rc rc = w->err.rc;
	if (rc != RC_OK)
		*err = w->err;
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->mtx);
	free(w->todo);
	free(w);
	return rc;
}
