/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ARCHIVE_SOURCE_H
#define DG_ARCHIVE_SOURCE_H

#include <archive.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "archive_filter.h"
#include "err.h"

/* archive_source: the expanded bytes of an archive, for libarchive to read; and, when libarchive
 * has seen the end of the archive, what comes behind: it stops there, and does not say whether the
 * rest is what it should be.
 *
 * libarchive reads ahead, so some of the rest may be in blocks that are gone by then: the source
 * remembers their tails.
 * Threads: one at a time. */

/* A zip header needs up to 30 + 65535 bytes at once, a tar one a block of 512. */
#define ARCHIVE_SOURCE_KEEP_ZIP (128u << 10)
#define ARCHIVE_SOURCE_KEEP_TAR 1024u

struct archive_source_options {
	struct archive_filter_options filter;
	uint64_t ratio_max; /* as struct archive_in_options has it */
};

struct archive_source;

/* Errors of archive_filter_open. */
enum rc archive_source_open(
	const struct archive_source_options *options, struct archive_source **out, struct err *err);
/* NULL is allowed. */
void archive_source_free(struct archive_source *s);
/* Remember no more than so many bytes from now on; at first it is enough for a zip. */
void archive_source_keep(struct archive_source *s, size_t bytes);

/* An archive_read_callback; the client data is the source. */
la_ssize_t archive_source_read(struct archive *a, void *source, const void **data);
/* Whether a read failed, and how: this is then the error to tell, whatever libarchive says. */
bool archive_source_failed(const struct archive_source *s, struct err *err);
/* Whether libarchive was told that there is no more. */
bool archive_source_ended(const struct archive_source *s);

/* RC_TOO_LARGE kind "archive-too-large": the archive makes too much out of what was read, be it
 * expanded_bytes (what came out of its entries) or what it took to read them. */
enum rc archive_source_check_ratio(
	const struct archive_source *s, uint64_t expanded_bytes, struct err *err);

/* From here on the source is read with archive_source_next, starting at position (as
 * archive_filter_bytes counts). RC_BUG: that is not remembered any more. */
enum rc archive_source_rewind(struct archive_source *s, uint64_t position, struct err *err);
/* The next bytes, borrowed until the next call; *len is 0 only at the end. */
enum rc archive_source_next(
	struct archive_source *s, const uint8_t **data, size_t *len, struct err *err);

#endif
