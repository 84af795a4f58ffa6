/* SPDX-License-Identifier: Apache-2.0 */
#include "ingest.h"

void
ingest_receipt_add(struct ingest_receipt *sum, const struct ingest_receipt *r)
{
	sum->logical_bytes += r->logical_bytes;
	sum->new_bytes += r->new_bytes;
	sum->dedup_bytes += r->dedup_bytes;
	sum->stored_bytes += r->stored_bytes;
	sum->chunks += r->chunks;
	sum->new_chunks += r->new_chunks;
	for (size_t i = 0; i < METER_STAGES; i++)
		sum->stage_ns[i] += r->stage_ns[i];
}
