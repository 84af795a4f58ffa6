/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ARCHIVE_ZIP_END_H
#define DG_ARCHIVE_ZIP_END_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "archive_source.h"
#include "err.h"

/* archive_zip_end: the central directory at the end of a zip.
 *
 * Only there does a zip say what is a link and which modes its files have, and only a complete one
 * shows that nothing of the zip was cut off. Its names are handed on as they are, while libarchive
 * loses or normalises those that are not ASCII. Hostile input.
 * Threads: one at a time. */

enum archive_zip_type {
	ARCHIVE_ZIP_FILE,
	ARCHIVE_ZIP_DIR,
	ARCHIVE_ZIP_LINK,
	ARCHIVE_ZIP_OTHER,
};

struct archive_zip_record {
	const char *name; /* borrowed for the call; raw bytes, not NUL-terminated */
	size_t name_len;
	enum archive_zip_type type;
	bool encrypted;
	uint64_t offset; /* of the local header */
	uint64_t bytes;  /* of the content */
	bool has_mode;
	uint32_t mode;    /* permission bits */
	int64_t mtime_ns; /* times without a zone are taken for UTC; 0 if there is none */
};

typedef enum rc archive_zip_record_fn(
	void *arg, const struct archive_zip_record *record, struct err *err);

/* Read from source, rewound to where the central directory begins (position), to its end, calling
 * fn for every record. RC_INVALID kind "invalid-archive": damaged, cut off or followed by
 * something. RC_NOMEM, what the source says, or what fn returned. */
enum rc archive_zip_end_read(struct archive_source *source, uint64_t position,
	archive_zip_record_fn *fn, void *arg, struct err *err);

#endif
