/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_feed.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

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
	bool woken;
};

struct feed_file {
	struct ingest_file file; /* first */
	struct archive_feed *feed;
	size_t index;
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
add_receipt(struct ingest_receipt *sum, const struct ingest_receipt *r)
{
	sum->logical_bytes += r->logical_bytes;
	sum->new_bytes += r->new_bytes;
	sum->dedup_bytes += r->dedup_bytes;
	sum->stored_bytes += r->stored_bytes;
	sum->chunks += r->chunks;
	sum->new_chunks += r->new_chunks;
	for (size_t i = 0; i < METER_STAGES; i++)
		sum->stage_ns[i] += r->stage_ns[i];
}

static void
on_done(struct ingest_rider *rider, enum rc rc, const struct err *err)
{
	struct feed_file *file = (struct feed_file *)rider;
	struct archive_feed *f = file->feed;

	pthread_mutex_lock(&f->mtx);
	if (rc == RC_OK) {
		f->list->items[file->index].content = file->file.content;
		add_receipt(&f->receipt, &file->file.receipt);
	} else if (f->err.rc == RC_OK) {
		f->err = *err;
		atomic_store(&f->failed, true);
	}
	f->in_flight--;
	pthread_cond_signal(&f->cond);
	pthread_mutex_unlock(&f->mtx);
	free(file);
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
 * that blocks do not become tiny. */
static void
wait_for_files(struct archive_feed *f)
{
	pthread_mutex_lock(&f->mtx);
	bool full = f->in_flight >= ARCHIVE_FEED_FILES_MAX;
	pthread_mutex_unlock(&f->mtx);
	if (!full)
		return;
	ingest_flush(f->writer);
	pthread_mutex_lock(&f->mtx);
	while (f->in_flight > ARCHIVE_FEED_FILES_MAX / 2)
		pthread_cond_wait(&f->cond, &f->mtx);
	pthread_mutex_unlock(&f->mtx);
}

enum rc
archive_feed_begin(struct archive_feed *f, uint64_t expected_bytes, size_t *index, struct err *err)
{
	wait_for_files(f);
	enum rc rc = first_failure(f, err);
	if (rc != RC_OK)
		return rc;
	struct feed_file *file = calloc(1, sizeof *file);
	if (file == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	file->file.rider.ops = &feed_ops;
	file->file.meter = f->meter;
	file->feed = f;
	pthread_mutex_lock(&f->mtx);
	rc = archive_list_add(f->list, index, err);
	f->in_flight += rc == RC_OK;
	pthread_mutex_unlock(&f->mtx);
	if (rc != RC_OK) {
		free(file);
		return rc;
	}
	file->index = *index;
	ingest_begin(f->writer, &file->file, expected_bytes);
	return RC_OK;
}

enum rc
archive_feed_write(struct archive_feed *f, const uint8_t *data, size_t len, struct err *err)
{
	while (len > 0) {
		pthread_mutex_lock(&f->mtx);
		f->woken = false;
		pthread_mutex_unlock(&f->mtx);
		size_t n = ingest_write(f->writer, data, len);
		data += n;
		len -= n;
		if (ingest_failed(f->writer, err))
			return err->rc;
		if (len == 0)
			break;
		pthread_mutex_lock(&f->mtx);
		while (!f->woken)
			pthread_cond_wait(&f->cond, &f->mtx);
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
