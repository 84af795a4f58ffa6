/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ARCHIVE_FEED_H
#define DG_ARCHIVE_FEED_H

#include <stddef.h>
#include <stdint.h>

#include "archive_list.h"
#include "err.h"
#include "ingest.h"

/* archive_feed: hands the files of an archive to ingest one after the other and collects what
 * becomes of them: contents go into the list, receipts are summed, the first failure is kept.
 *
 * A file is in flight until it is durable; at most ARCHIVE_FEED_FILES_MAX are, about 2 KiB each.
 * Threads: one uses the feed; ingest's threads call back. Calls block while ingest has no memory.
 */

#define ARCHIVE_FEED_FILES_MAX 4096

struct archive_feed;

/* list is borrowed until free: the feed alone adds to it. RC_NOMEM. */
enum rc archive_feed_open(struct ingest *ingest, const struct ingest_space *space,
	struct meter *meter, struct archive_list *list, struct archive_feed **out, struct err *err);
/* After archive_feed_settle, or if no file was begun. NULL is allowed. */
void archive_feed_free(struct archive_feed *f);

/* Begin a file of the list: *index is its new item. RC_NOMEM, RC_TOO_LARGE (of the list), or what
 * an earlier file failed with. */
enum rc archive_feed_begin(
	struct archive_feed *f, uint64_t expected_bytes, size_t *index, struct err *err);
/* Its next bytes. A failure (of this file, or noticed now) does not end it. */
enum rc archive_feed_write(
	struct archive_feed *f, const uint8_t *data, size_t len, struct err *err);
void archive_feed_finish(struct archive_feed *f);
/* Drop it because of err. */
void archive_feed_abort(struct archive_feed *f, const struct err *err);

/* Send off what has been written, without waiting for it. */
void archive_feed_flush(struct archive_feed *f);
/* Wait until nothing is in flight; *receipt is filled in any case. The first failure. */
enum rc archive_feed_settle(
	struct archive_feed *f, struct ingest_receipt *receipt, struct err *err);

#endif
