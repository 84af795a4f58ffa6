/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_feed.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct feed_file {
	struct ingest_file file; /* first */
	struct archive_feed *feed;
	size_t index;
	struct feed_file *next; /* of the spare ones */
};

struct archive_feed {
	/* immutable after open */
	struct meter *meter;
	struct ingest_writer *writer;
	/* any thread */
	atomic_bool failed; /* err is filled */
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	/* guarded by mtx */
	struct archive_list *list; /* the contents, and where the items are */
	struct ingest_receipt receipt;
	struct err err;
	size_t in_flight;
	struct feed_file *spare; /* of files that are through */
	bool woken;              /* since a write fell short */
};

static void
on_wake(void *arg)
{
	struct archive_feed *f = arg;

	pthread_mutex_lock(&f->mtx);
	f->woken = true;
	pthread_cond_signal(&f->cond);
	pthread_mutex_unlock(&f->mtx);
}

static void
on_done(struct ingest_rider *rider, enum rc rc, const struct err *err)
{
	struct feed_file *file = (struct feed_file *)rider;
	struct archive_feed *f = file->feed;

	pthread_mutex_lock(&f->mtx);
	if (rc == RC_OK) {
		f->list->items[file->index].content = file->file.content;
		ingest_receipt_add(&f->receipt, &file->file.receipt);
	} else if (f->err.rc == RC_OK) {
		f->err = *err;
		atomic_store(&f->failed, true);
	}
	f->in_flight--;
	file->next = f->spare;
	f->spare = file;
	pthread_cond_signal(&f->cond);
	pthread_mutex_unlock(&f->mtx);
}

static const struct ingest_rider_ops feed_ops = {.done = on_done};

enum rc
archive_feed_open(struct ingest *ingest, const struct ingest_space *space, struct meter *meter,
	struct archive_list *list, struct archive_feed **out, struct err *err)
{
	*out = NULL;
	struct archive_feed *f = calloc(1, sizeof *f);
	if (f == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	f->meter = meter;
	f->list = list;
	pthread_mutex_init(&f->mtx, NULL);
	pthread_cond_init(&f->cond, NULL);
	enum rc rc = ingest_writer_open(ingest, space, on_wake, f, &f->writer, err);
	if (rc != RC_OK) {
		archive_feed_free(f);
		return rc;
	}
	*out = f;
	return RC_OK;
}

void
archive_feed_free(struct archive_feed *f)
{
	if (f == NULL)
		return;
	ingest_writer_close(f->writer);
	while (f->spare != NULL) {
		struct feed_file *next = f->spare->next;
		free(f->spare);
		f->spare = next;
	}
	pthread_cond_destroy(&f->cond);
	pthread_mutex_destroy(&f->mtx);
	free(f);
}

static enum rc
first_failure(struct archive_feed *f, struct err *err)
{
	if (!atomic_load_explicit(&f->failed, memory_order_acquire))
		return RC_OK;
	pthread_mutex_lock(&f->mtx);
	*err = f->err;
	pthread_mutex_unlock(&f->mtx);
	return err->rc;
}

/* Files wait for the block they are in: once too many do, send it off and let half of them pass, so
 * that blocks do not become tiny. Under the lock. */
static void
wait_for_files(struct archive_feed *f)
{
	if (f->in_flight < ARCHIVE_FEED_FILES_MAX)
		return;
	pthread_mutex_unlock(&f->mtx);
	ingest_flush(f->writer);
	pthread_mutex_lock(&f->mtx);
	while (f->in_flight > ARCHIVE_FEED_FILES_MAX / 2)
		pthread_cond_wait(&f->cond, &f->mtx);
}

/* A file in flight and its item of the list; NULL: err says why not. Under the lock. */
static struct feed_file *
take_file(struct archive_feed *f, struct err *err)
{
	size_t index;

	if (archive_list_add(f->list, &index, err) != RC_OK)
		return NULL;
	struct feed_file *file = f->spare;
	if (file != NULL)
		f->spare = file->next;
	else
		file = malloc(sizeof *file);
	if (file == NULL) {
		err_set(err, RC_NOMEM, "no-memory", "out of memory");
		return NULL;
	}
	memset(file, 0, sizeof *file);
	file->file.rider.ops = &feed_ops;
	file->file.meter = f->meter;
	file->feed = f;
	file->index = index;
	f->in_flight++;
	return file;
}

enum rc
archive_feed_begin(struct archive_feed *f, uint64_t expected_bytes, size_t *index, struct err *err)
{
	enum rc rc = first_failure(f, err);
	if (rc != RC_OK)
		return rc;
	pthread_mutex_lock(&f->mtx);
	wait_for_files(f);
	struct feed_file *file = take_file(f, err);
	pthread_mutex_unlock(&f->mtx);
	if (file == NULL)
		return err->rc;
	*index = file->index;
	ingest_begin(f->writer, &file->file, expected_bytes);
	return RC_OK;
}

enum rc
archive_feed_write(struct archive_feed *f, const uint8_t *data, size_t len, struct err *err)
{
	while (len > 0) {
		size_t n = ingest_write(f->writer, data, len);
		data += n;
		len -= n;
		if (ingest_failed(f->writer, err))
			return err->rc;
		if (len == 0)
			break;
		/* the engine wakes once for each write that fell short */
		pthread_mutex_lock(&f->mtx);
		while (!f->woken)
			pthread_cond_wait(&f->cond, &f->mtx);
		f->woken = false;
		pthread_mutex_unlock(&f->mtx);
	}
	return first_failure(f, err);
}

void
archive_feed_finish(struct archive_feed *f)
{
	ingest_finish(f->writer);
}

void
archive_feed_abort(struct archive_feed *f, const struct err *err)
{
	ingest_abort(f->writer, err);
}

void
archive_feed_flush(struct archive_feed *f)
{
	ingest_flush(f->writer);
}

enum rc
archive_feed_settle(struct archive_feed *f, struct ingest_receipt *receipt, struct err *err)
{
	ingest_flush(f->writer);
	pthread_mutex_lock(&f->mtx);
	while (f->in_flight > 0)
		pthread_cond_wait(&f->cond, &f->mtx);
	*receipt = f->receipt;
	pthread_mutex_unlock(&f->mtx);
	return first_failure(f, err);
}
