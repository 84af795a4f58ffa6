/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ARCHIVE_IN_H
#define DG_ARCHIVE_IN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"
#include "ingest.h"
#include "stage.h"

/* archive_in: a tar or zip stream (plain, gzip, zstd) becomes staged files, all of them or none.
 *
 * The stream is read once, nothing is unpacked to disk. Contents go into ingest while the archive
 * is read; the entries are written to the stage in one durable step after its end was seen, so a
 * broken archive stages nothing. Directories are skipped. Names are taken as they are after one
 * leading "./" and checked by path_check; links, devices, sparse files, absolute and ".." names,
 * two entries of one name (the last would win in silence), file-and-directory clashes and encrypted
 * entries are refused (RC_INVALID kind "archive-entry-refused"); damaged or cut streams, and such
 * as have something behind their end, are RC_INVALID kind "invalid-archive"; more than the limits
 * allow is RC_TOO_LARGE kind "archive-too-large". An archive without files is none the worse.
 * A tar needs the zeros that mark its end, a zip its central directory: without them nobody could
 * tell a cut one from a whole one. Of a zip only what is stored or deflated is taken.
 * Of modes the permission bits are kept; times that are not told are 0. */

struct archive_in_options {
	struct stage *stage;
	struct ingest *ingest;
	const char *prefix; /* "" or "some/dir/": put before every name */
	uint64_t entries_max;
	uint64_t expanded_bytes_max; /* sum of entry sizes */
	uint64_t ratio_max; /* expanded to compressed bytes, looked at after the first 64 MiB
			       expanded */
	/* Which filters the sender declared; libarchive finds out the rest. */
	bool allow_gzip, allow_zstd, allow_tar, allow_zip;
	bool deny_plain;   /* one of the allowed filters must be there */
	bool last_wins;    /* of entries with one name the last counts, instead of a refusal */
	bool skip_special; /* leave links, devices and sparse files out, instead of a refusal */
	/* NULL, or where the name of the entry goes that was refused, as valid UTF-8:
	 * PATH_BYTES_MAX
	 * + 1 bytes, made "" at first. Longer ones are cut. */
	char *refused;
	/* The next bytes of the stream: > 0 how many are at *data (borrowed until the next call), 0
	 * at its end, -1 if it was cut (err filled). Blocks. */
	ssize_t (*read)(void *arg, const uint8_t **data, struct err *err);
	void *arg;
	/* Called before the entries are staged; a failure refuses them all (digest check). NULL:
	 * none. */
	enum rc (*accept)(void *arg, struct err *err);
};

struct archive_in_result {
	uint64_t files;
	uint64_t skipped;              /* special entries left out */
	struct ingest_receipt receipt; /* summed over the files */
};

/* Blocks until everything is durable or refused; runs on a thread that may wait for clients. The
 * caller has a stage_live there, and has checked that prefix + a name can be a path. */
enum rc archive_in_run(
	const struct archive_in_options *options, struct archive_in_result *out, struct err *err);

#endif
