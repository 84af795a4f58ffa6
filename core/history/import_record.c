/* SPDX-License-Identifier: Apache-2.0 */
#include "import_record.h"

#include <string.h>

#define VERSION 1
#define NUMBERS (9 + 2 * IMPORT_CLASSES + METER_STAGES)

/* Every number of a record, in the order of the form. */
static void
list_numbers(struct import_record *r, uint64_t *at[NUMBERS])
{
	size_t n = 0;

	at[n++] = &r->directories;
	for (int i = 0; i < IMPORT_CLASSES; i++) {
		at[n++] = &r->found.files[i];
		at[n++] = &r->found.bytes[i];
	}
	at[n++] = &r->read_files;
	at[n++] = &r->read_bytes;
	at[n++] = &r->receipt.logical_bytes;
	at[n++] = &r->receipt.new_bytes;
	at[n++] = &r->receipt.dedup_bytes;
	at[n++] = &r->receipt.stored_bytes;
	at[n++] = &r->receipt.chunks;
	at[n++] = &r->receipt.new_chunks;
	for (int i = 0; i < METER_STAGES; i++)
		at[n++] = &r->receipt.stage_ns[i];
}

void
import_record_encode(
	const struct import_record *record, struct import_report *report, struct buf *out)
{
	struct import_record copy = *record;
	uint64_t *at[NUMBERS];

	list_numbers(&copy, at);
	buf_add_u8(out, VERSION);
	for (size_t i = 0; i < NUMBERS; i++)
		buf_add_varint(out, *at[i]);
	import_report_encode(report, out);
}

enum rc
import_record_decode(const uint8_t *data, size_t len, struct import_record *record,
	struct import_report *report, struct err *err)
{
	uint64_t *at[NUMBERS];
	struct cur c;

	memset(record, 0, sizeof *record);
	list_numbers(record, at);
	cur_init(&c, data, len);
	if (cur_u8(&c) != VERSION)
		return err_set(err, RC_CORRUPT, "corrupt-data",
			"the record of this import is damaged, or of a newer version");
	for (size_t i = 0; i < NUMBERS; i++)
		*at[i] = cur_varint(&c);
	return import_report_decode(report, &c, err);
}
