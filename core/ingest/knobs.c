/* SPDX-License-Identifier: Apache-2.0 */
#include "ingest_internal.h"

#define MIB ((int64_t)1 << 20)

void
ingest_knobs_init(struct ingest *in)
{
	const struct ingest_options *o = &in->options;
	int64_t workers = in->worker_count > 0 ? (int64_t)in->worker_count : 1;

	in->knobs[INGEST_KNOB_WORKERS] = (struct knob){
		.name = "ingest_workers",
		.unit = "threads",
		.what = "threads that hash, compress and write",
		.min = 1,
		.max = workers,
		.fallback = workers,
		.scale = KNOB_ADD,
		.step = 1,
	};
	in->knobs[INGEST_KNOB_BATCH] = (struct knob){
		.name = "ingest_batch_bytes",
		.unit = "bytes",
		.what = "most bytes a worker takes at once",
		.min = MIB / 4,
		.max = 16 * MIB,
		.fallback = 4 * MIB,
		.scale = KNOB_DOUBLE,
	};
	in->knobs[INGEST_KNOB_GROUP] = (struct knob){
		.name = "commit_group_bytes",
		.unit = "bytes",
		.what = "bytes after which a transaction is made though nobody waits for it",
		.min = 4 * MIB,
		.max = 128 * MIB,
		.fallback = 32 * MIB,
		.scale = KNOB_DOUBLE,
	};
	in->knobs[INGEST_KNOB_FLUSH] = (struct knob){
		.name = "commit_interval_us",
		.unit = "us",
		.what = "time after which a transaction is made though nobody waits for it",
		.min = 12500,
		.max = 800000,
		.fallback = 100000,
		.scale = KNOB_DOUBLE,
	};
	in->knobs[INGEST_KNOB_LINGER] = (struct knob){
		.name = "commit_linger_us",
		.unit = "us",
		.what = "most that a transaction waits for clients that were answered just before",
		.min = 0,
		.max = 1000,
		.fallback = 300,
		.scale = KNOB_ADD,
		.step = 100,
	};
	in->knobs[INGEST_KNOB_LEVEL] = (struct knob){
		.name = "compress_level",
		.unit = "level",
		.what = "zstd level of uploads while nothing waits",
		.min = o->level < -7 ? o->level : -7,
		.max = o->level,
		.fallback = o->level,
		.scale = KNOB_ADD,
		.step = 1,
	};
	for (int i = 0; i < INGEST_KNOBS; i++)
		knob_set(&in->knobs[i], in->knobs[i].fallback);
}

struct knob *
ingest_knobs(struct ingest *in)
{
	return in->knobs;
}
