/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ARCHIVE_SQUEEZE_H
#define DG_ARCHIVE_SQUEEZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

/* archive_squeeze: gzip or zstd around an archive that goes out.
 *
 * Not done by libarchive, which leaks what zlib holds when a stream is given up half-way, and
 * compresses the missing half of it first. The same bytes in make the same bytes out, whatever the
 * pieces: gzip level 6 without a time, zstd level 3 with a checksum.
 * Threads: one at a time. */

enum archive_squeeze_kind {
	ARCHIVE_SQUEEZE_GZIP,
	ARCHIVE_SQUEEZE_ZSTD,
};

struct archive_squeeze;

/* RC_NOMEM. */
enum rc archive_squeeze_open(
	enum archive_squeeze_kind kind, struct archive_squeeze **out, struct err *err);
/* NULL is allowed. */
void archive_squeeze_free(struct archive_squeeze *s);

/* Take all len bytes and append what comes out to out; end: and all that is left. RC_NOMEM, also if
 * out is at its limit. */
enum rc archive_squeeze_add(struct archive_squeeze *s, const uint8_t *data, size_t len, bool end,
	struct buf *out, struct err *err);

#endif
