/* SPDX-License-Identifier: Apache-2.0 */
#include "import_read.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beneath.h"

#define MTIME_SECONDS_MAX (INT64_MAX / 1000000000 - 1)

/* A file on its way. */
struct flight {
	struct ingest_file file; /* first */
	struct reader *reader;
	struct flight *next; /* of those that are free */
	size_t index;
	bool dropped; /* by us: it is not ingest that failed */
};

struct import_read {
	struct import_read_options o; /* immutable */
	/* indexes: of large files, the largest first, and of the others as they were found. What an
	 * item says of its size changes when it was read, so the order is settled before. */
	uint32_t *order;
	size_t large_count;
	atomic_size_t next_large, next_small;
	_Atomic uint64_t bytes; /* of all files, as far as is known */
	atomic_bool over;
	pthread_mutex_t mtx;
	/* guarded by mtx */
	struct ingest_receipt receipt;
	struct err err;
};

/* What one thread works with. */
struct reader {
	struct import_read *r;
	struct ingest_writer *writer;
	bool reported; /* the file at hand */
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	/* guarded by mtx */
	struct flight *free;
	size_t in_flight;
	bool woken;
	struct ingest_receipt receipt;
	struct flight flights[IMPORT_FLIGHTS];
};

/* ---- ending ---- */

static void
fail(struct import_read *r, const struct err *err)
{
	pthread_mutex_lock(&r->mtx);
	if (r->err.rc == RC_OK)
		r->err = *err;
	pthread_mutex_unlock(&r->mtx);
	atomic_store(&r->over, true);
}

static bool
is_over(const struct import_read *r)
{
	return atomic_load_explicit((atomic_bool *)(uintptr_t)&r->over, memory_order_relaxed) ||
	       atomic_load_explicit((atomic_bool *)(uintptr_t)r->o.stop, memory_order_relaxed);
}

/* ---- ingest's side ---- */

static void
on_wake(void *arg)
{
	struct reader *t = arg;

	pthread_mutex_lock(&t->mtx);
	t->woken = true;
	pthread_cond_signal(&t->cond);
	pthread_mutex_unlock(&t->mtx);
}

/* Committer thread. */
static void
on_done(struct ingest_rider *rider, enum rc rc, const struct err *err)
{
	struct flight *f = (struct flight *)rider;
	struct reader *t = f->reader;
	struct stage_change *item = &t->r->o.files->items[f->index];

	if (rc == RC_OK)
		item->content = f->file.content;
	else
		item->path = NULL;
	if (rc != RC_OK && !f->dropped)
		fail(t->r, err);
	pthread_mutex_lock(&t->mtx);
	if (rc == RC_OK)
		ingest_receipt_add(&t->receipt, &f->file.receipt);
	f->next = t->free;
	t->free = f;
	t->in_flight--;
	pthread_cond_signal(&t->cond);
	pthread_mutex_unlock(&t->mtx);
}

static const struct ingest_rider_ops flight_ops = {.done = on_done};

/* Once all flights are in the air, send the block off and let half of them land, so that blocks do
 * not become tiny. */
static struct flight *
take_flight(struct reader *t, size_t index)
{
	pthread_mutex_lock(&t->mtx);
	if (t->free == NULL) {
		pthread_mutex_unlock(&t->mtx);
		ingest_flush(t->writer);
		pthread_mutex_lock(&t->mtx);
		while (t->in_flight > IMPORT_FLIGHTS / 2)
			pthread_cond_wait(&t->cond, &t->mtx);
	}
	struct flight *f = t->free;
	t->free = f->next;
	t->in_flight++;
	pthread_mutex_unlock(&t->mtx);
	memset(f, 0, sizeof *f);
	f->file.rider.ops = &flight_ops;
	f->file.meter = t->r->o.meter;
	f->reader = t;
	f->index = index;
	return f;
}

/* ---- one file ---- */

static const char *
source_path(const struct reader *t, size_t index)
{
	return t->r->o.files->items[index].path + t->r->o.prefix_len;
}

static void
report(struct reader *t, size_t index, enum import_reason reason)
{
	const char *path = source_path(t, index);

	import_report_add(t->r->o.report, reason, path, strlen(path));
	t->reported = true;
	if (import_reason_is_special(reason) ? !t->r->o.skip_special : !t->r->o.skip_failed)
		atomic_store(&t->r->over, true);
}

/* A failed call about the file. */
static void
report_errno(struct reader *t, size_t index, int errnum)
{
	enum import_reason reason;
	struct err err = ERR_INIT;

	if (import_reason_of_errno(errnum, &reason)) {
		report(t, index, reason);
		return;
	}
	err_errno(&err, errnum, "read a file of the folder", source_path(t, index));
	fail(t->r, &err);
}

/* The next room for bytes of the file; 0: it has failed, or is not wanted any more. */
static size_t
wait_for_room(struct reader *t, uint8_t **at)
{
	size_t room = 0;

	for (;;) {
		pthread_mutex_lock(&t->mtx);
		t->woken = false;
		pthread_mutex_unlock(&t->mtx);
		if (ingest_reserve(t->writer, at, &room))
			return room;
		pthread_mutex_lock(&t->mtx);
		while (!t->woken)
			pthread_cond_wait(&t->cond, &t->mtx);
		pthread_mutex_unlock(&t->mtx);
		if (is_over(t->r))
			return 0;
	}
}

/* Bytes of the file into ingest. false: not all of them, because of the file (it was reported), of
 * ingest (which says so in the end), or because it is over. */
static bool
copy_bytes(struct reader *t, size_t index, int fd, uint64_t left)
{
	uint8_t *at;

	while (left > 0) {
		size_t room = wait_for_room(t, &at);
		if (room == 0 || is_over(t->r))
			return false;
		ssize_t n = read(fd, at, left < room ? (size_t)left : room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			report_errno(t, index, errno);
			return false;
		}
		if (n == 0) {
			report(t, index, IMPORT_CHANGED);
			return false;
		}
		ingest_advance(t->writer, (size_t)n);
		left -= (uint64_t)n;
		atomic_fetch_add_explicit(
			&t->r->o.tally->read_bytes, (uint64_t)n, memory_order_relaxed);
		t->r->o.progress(t->r->o.arg, (uint64_t)n);
	}
	return true;
}

static bool
same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* The path still leads to the file that was read, and nobody has touched it. */
static bool
is_unchanged(struct reader *t, size_t index, const struct stat *before)
{
	struct stat now;

	if (fstatat(t->r->o.dir, source_path(t, index), &now, AT_SYMLINK_NOFOLLOW) != 0) {
		report_errno(t, index, errno);
		return false;
	}
	if (now.st_dev == before->st_dev && now.st_ino == before->st_ino &&
		now.st_size == before->st_size && same_time(&now.st_mtim, &before->st_mtim) &&
		same_time(&now.st_ctim, &before->st_ctim))
		return true;
	report(t, index, IMPORT_CHANGED);
	return false;
}

/* It is larger than it was when it was found. */
static bool
may_grow(struct import_read *r, uint64_t by)
{
	struct err err = ERR_INIT;

	if (by == 0)
		return true;
	uint64_t before = atomic_fetch_add(&r->bytes, by);
	if (before <= r->o.bytes_max && by <= r->o.bytes_max - before)
		return true;
	err_set(&err, RC_TOO_LARGE, "import-too-large",
		"the files of the folder have more than the %" PRIu64
		" bytes that this server imports",
		r->o.bytes_max);
	fail(r, &err);
	return false;
}

static int64_t
mtime_ns(const struct stat *st)
{
	int64_t seconds = st->st_mtim.tv_sec;

	return seconds > MTIME_SECONDS_MAX || seconds < -MTIME_SECONDS_MAX
		       ? 0
		       : seconds * 1000000000 + st->st_mtim.tv_nsec;
}

/* The file is open and is one. */
static void
take_file(struct reader *t, size_t index, int fd, const struct stat *st)
{
	struct stage_change *item = &t->r->o.files->items[index];
	struct flight *f = take_flight(t, index);
	struct err err = ERR_INIT;

	item->mode = st->st_mode & 0777;
	item->mtime_ns = mtime_ns(st);
	ingest_begin(t->writer, &f->file, (uint64_t)st->st_size);
	if (copy_bytes(t, index, fd, (uint64_t)st->st_size) && is_unchanged(t, index, st)) {
		ingest_finish(t->writer);
		return;
	}
	f->dropped = t->reported || is_over(t->r);
	err_set(&err, RC_CONFLICT, NULL, "the file was not taken");
	ingest_abort(t->writer, &err);
}

/* false: it was not begun. */
static bool
read_file(struct reader *t, size_t index)
{
	const struct stage_change *item = &t->r->o.files->items[index];
	bool begun = false;
	struct stat st;

	int fd = beneath_open(t->r->o.dir, source_path(t, index), O_RDONLY, BENEATH_PLAIN);
	if (fd < 0) {
		report_errno(t, index, errno);
		return false;
	}
	if (fstat(fd, &st) != 0) {
		report_errno(t, index, errno);
	} else if (!S_ISREG(st.st_mode)) {
		report(t, index, IMPORT_CHANGED);
	} else {
		uint64_t size = (uint64_t)st.st_size;
		begun = may_grow(t->r, size > item->content.size ? size - item->content.size : 0);
		if (begun && size > IMPORT_LARGE_BYTES)
			posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
		if (begun)
			take_file(t, index, fd, &st);
	}
	close(fd);
	return begun;
}

static void
through_file(struct reader *t, size_t index)
{
	t->reported = false;
	if (!read_file(t, index))
		t->r->o.files->items[index].path = NULL;
	atomic_fetch_add_explicit(&t->r->o.tally->read_files, 1, memory_order_relaxed);
	t->r->o.progress(t->r->o.arg, 0);
}

/* ---- all files ---- */

/* For qsort_r. */
static int
by_size_falling(const void *a, const void *b, void *arg)
{
	const struct stage_change *items = arg;
	uint64_t x = items[*(const uint32_t *)a].content.size;
	uint64_t y = items[*(const uint32_t *)b].content.size;

	return (x < y) - (x > y);
}

static enum rc
settle_order(struct import_read *r, struct err *err)
{
	const struct import_files *files = r->o.files;
	size_t large = 0;

	r->large_count =
		(size_t)(files->sizes.files[IMPORT_MEDIUM] + files->sizes.files[IMPORT_LARGE]);
	r->order = malloc((files->count > 0 ? files->count : 1) * sizeof *r->order);
	if (r->order == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	size_t small = r->large_count;
	for (size_t i = 0; i < files->count; i++) {
		bool is_small = import_class_of(files->items[i].content.size) == IMPORT_SMALL;
		r->order[is_small ? small++ : large++] = (uint32_t)i;
	}
	qsort_r(r->order, r->large_count, sizeof *r->order, by_size_falling, files->items);
	atomic_store(&r->next_small, r->large_count);
	return RC_OK;
}

enum rc
import_read_open(
	const struct import_read_options *options, struct import_read **out, struct err *err)
{
	struct import_read *r = calloc(1, sizeof *r);

	*out = NULL;
	if (r == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	r->o = *options;
	atomic_store(&r->bytes, import_sizes_bytes(&options->files->sizes));
	pthread_mutex_init(&r->mtx, NULL);
	enum rc rc = settle_order(r, err);
	if (rc == RC_OK) {
		*out = r;
		return RC_OK;
	}
	struct ingest_receipt none;
	struct err late = ERR_INIT;
	import_read_close(r, &none, &late);
	return rc;
}

static void
read_large(struct reader *t)
{
	struct import_read *r = t->r;
	size_t i;

	while (!is_over(r) && (i = atomic_fetch_add(&r->next_large, 1)) < r->large_count)
		through_file(t, r->order[i]);
}

static void
read_small(struct reader *t)
{
	struct import_read *r = t->r;
	size_t count = r->o.files->count;
	size_t from;

	while (!is_over(r) &&
		(from = atomic_fetch_add(&r->next_small, IMPORT_BATCH_FILES)) < count) {
		size_t end = count - from > IMPORT_BATCH_FILES ? from + IMPORT_BATCH_FILES : count;
		for (size_t i = from; i < end && !is_over(r); i++)
			through_file(t, r->order[i]);
	}
}

static struct reader *
reader_open(struct import_read *r)
{
	struct reader *t = calloc(1, sizeof *t);
	struct err err = ERR_INIT;

	if (t == NULL) {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		fail(r, &err);
		return NULL;
	}
	t->r = r;
	pthread_mutex_init(&t->mtx, NULL);
	pthread_cond_init(&t->cond, NULL);
	for (size_t i = 0; i < IMPORT_FLIGHTS; i++) {
		t->flights[i].next = t->free;
		t->free = &t->flights[i];
	}
	if (ingest_writer_open(r->o.ingest, r->o.space, on_wake, t, &t->writer, &err) != RC_OK)
		fail(r, &err);
	return t;
}

static void
reader_close(struct reader *t)
{
	if (t->writer != NULL) {
		ingest_flush(t->writer);
		pthread_mutex_lock(&t->mtx);
		while (t->in_flight > 0)
			pthread_cond_wait(&t->cond, &t->mtx);
		pthread_mutex_unlock(&t->mtx);
		ingest_writer_close(t->writer);
	}
	pthread_mutex_lock(&t->r->mtx);
	ingest_receipt_add(&t->r->receipt, &t->receipt);
	pthread_mutex_unlock(&t->r->mtx);
	pthread_cond_destroy(&t->cond);
	pthread_mutex_destroy(&t->mtx);
	free(t);
}

void
import_read_run(struct import_read *r)
{
	struct reader *t = reader_open(r);

	if (t == NULL)
		return;
	if (t->writer != NULL) {
		read_large(t);
		read_small(t);
	}
	reader_close(t);
}

enum rc
import_read_close(struct import_read *r, struct ingest_receipt *receipt, struct err *err)
{
	if (r == NULL)
		return RC_OK;
	enum rc rc = r->err.rc;
	if (rc == RC_OK)
		*receipt = r->receipt;
	else
		*err = r->err;
	pthread_mutex_destroy(&r->mtx);
	free(r->order);
	free(r);
	return rc;
}
