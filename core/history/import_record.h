/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_IMPORT_RECORD_H
#define DG_IMPORT_RECORD_H

#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "import_files.h"
#include "import_report.h"
#include "ingest.h"

/* import_record: what an import came to, as the column result of its row.
 *
 *   u8 version (1), then varints: directories; files and bytes of each class, small, medium, large;
 *   files and bytes that were read; logical, new, deduplicated and stored bytes, chunks, new
 * chunks; 7 nanosecond counts in the order of enum meter_stage; then the report (import_report.h).
 */

#define IMPORT_RECORD_BYTES_MAX ((size_t)256 << 10) /* above a full report of longest paths */

struct import_record {
	uint64_t directories;
	struct import_sizes found;
	uint64_t read_files, read_bytes;
	struct ingest_receipt receipt;
};

/* Append to out, which may fail. */
void import_record_encode(
	const struct import_record *record, struct import_report *report, struct buf *out);
/* report is empty and filled. RC_CORRUPT kind "corrupt-data", also for a version that is not known;
 * RC_NOMEM. */
enum rc import_record_decode(const uint8_t *data, size_t len, struct import_record *record,
	struct import_report *report, struct err *err);

#endif
