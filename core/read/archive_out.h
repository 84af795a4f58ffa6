/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ARCHIVE_OUT_H
#define DG_ARCHIVE_OUT_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "reader.h"
#include "tree.h"

/* archive_out: a subtree as a tar, tar.gz, tar.zst or zip stream, made a piece at a time.
 *
 * Entries come in path order; names are relative to the last '/' of the prefix ("" = whole paths).
 * A zip ends with a directory of all its files, which is kept until then: about 250 bytes a file.
 * The same tree gives the same bytes for tar (headers hold only path, size, mode and mtime).
 * Threads: one at a time; every call blocks on disk and SQL. */

enum archive_format {
	ARCHIVE_TAR,
	ARCHIVE_TAR_GZ,
	ARCHIVE_TAR_ZST,
	ARCHIVE_ZIP,
};

struct archive_out;

/* store is copied (and its arg borrowed until free), root and prefix too. RC_NOMEM; RC_INVALID: the
 * prefix is longer than PATH_BYTES_MAX. */
enum rc archive_out_open(struct read_service *rs, const struct repo *repo,
	const struct tree_store *store, const struct sha256 *root, const char *prefix,
	enum archive_format format, struct archive_out **out, struct err *err);
/* Before the first archive_out_more: names are whole paths, whatever the prefix. */
void archive_out_whole_paths(struct archive_out *a);
/* Before the first archive_out_more: the mtime of entries that have none (0). */
void archive_out_default_mtime(struct archive_out *a, int64_t mtime_ns);
/* Append the next bytes of the stream to out, about want_bytes of them (a little more is possible);
 * appends nothing only at the end. Errors of tree_iter and reader; RC_NOMEM, also if out is at its
 * limit. After one the stream cannot go on: every later call fails with it. */
enum rc archive_out_more(
	struct archive_out *a, struct buf *out, size_t want_bytes, struct err *err);
void archive_out_free(struct archive_out *a);

#endif
