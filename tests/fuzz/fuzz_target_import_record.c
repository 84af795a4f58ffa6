/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "import_record.h"

/* Any bytes are refused, or give a record and a report that written again read the same. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
	if (!condition)
		abort();
}

static enum rc
decode(const uint8_t *data, size_t size, struct import_record *r, struct import_report *report)
{
	struct err err = ERR_INIT, none = ERR_INIT;

	require(import_report_init(report, &none) == RC_OK);
	enum rc rc = import_record_decode(data, size, r, report, &err);
	require(rc == err.rc && (rc == RC_OK || rc == RC_CORRUPT));
	require(report->count <= IMPORT_REPORT_MAX);
	return rc;
}

static void
require_same(const struct import_report *a, const struct import_report *b)
{
	require(memcmp(a->counts, b->counts, sizeof a->counts) == 0 && a->count == b->count);
	for (size_t i = 0; i < a->count; i++) {
		const struct import_trouble *x = &a->items[i], *y = &b->items[i];
		require(x->reason == y->reason && x->path_len == y->path_len);
		require(memcmp(x->path, y->path, x->path_len + 1) == 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct import_record first, second;
	struct import_report a, b;
	struct buf again;

	if (decode(data, size, &first, &a) == RC_OK) {
		buf_init(&again, IMPORT_RECORD_BYTES_MAX);
		import_record_encode(&first, &a, &again);
		require(buf_ok(&again));
		require(decode(again.data, again.len, &second, &b) == RC_OK);
		require(memcmp(&first, &second, sizeof first) == 0);
		require_same(&a, &b);
		import_report_done(&b);
		buf_done(&again);
	}
	import_report_done(&a);
	return 0;
}
