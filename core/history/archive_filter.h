/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ARCHIVE_FILTER_H
#define DG_ARCHIVE_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

/* archive_filter: takes the compression off an archive while it comes in.
 *
 * gzip (any number of members, zeros behind the last) and zstd (any number of frames), told from
 * the first bytes; one layer of them. gzip is done here and not by libarchive, which compares
 * neither checksum nor length and takes no notice of what follows the stream.
 * Memory: 256 KiB for what is expanded, and for zstd a window of at most 8 MiB.
 * Threads: one at a time. */

enum archive_coding {
	ARCHIVE_PLAIN,
	ARCHIVE_GZIP,
	ARCHIVE_ZSTD,
};

struct archive_filter_options {
	bool allow_plain, allow_gzip, allow_zstd;
	/* As struct archive_in_options has it. */
	ssize_t (*read)(void *arg, const uint8_t **data, struct err *err);
	void *arg;
};

struct archive_filter;

/* Reads the first bytes. RC_INVALID kind "invalid-archive": nothing came at all, or a coding that
 * is not allowed. RC_NOMEM, or what read said. */
enum rc archive_filter_open(
	const struct archive_filter_options *options, struct archive_filter **out, struct err *err);
/* NULL is allowed. */
void archive_filter_free(struct archive_filter *f);

enum archive_coding archive_filter_coding(const struct archive_filter *f);

/* The next expanded bytes, borrowed until the next call; *len is 0 only at the proper end.
 * RC_INVALID kind "invalid-archive": damaged, cut off, or followed by something else. Or what read
 * said. After an error it may only be freed. */
enum rc archive_filter_next(
	struct archive_filter *f, const uint8_t **data, size_t *len, struct err *err);

/* Bytes that read has given. */
uint64_t archive_filter_read_bytes(const struct archive_filter *f);
/* Whether read has come to its end. */
bool archive_filter_at_end(const struct archive_filter *f);

#endif
