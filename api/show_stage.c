/* SPDX-License-Identifier: Apache-2.0 */
#include "show_stage.h"

#include <inttypes.h>

#include "clock.h"
#include "problem.h"
#include "show_entry.h"
#include "show_progress.h"

/* Busy time is measured where bytes are cut as they are received, so there is no "chunk". */
static const struct {
	const char *name;
	enum meter_stage stage;
} steps[] = {
	/* sorted by name, as canonical JSON is; "total" stands between sync and write */
	{"compress", METER_COMPRESS},
	{"database", METER_SQL},
	{"hash", METER_HASH},
	{"lookup", METER_LOOKUP},
	{"receive", METER_RECEIVE},
	{"sync", METER_SYNC},
};

void
stage_receipt(struct stage *s, struct ingest_receipt *out)
{
	const struct meter *m = stage_meter(s);

	*out = (struct ingest_receipt){
		.new_bytes = meter_get(&m->new_bytes),
		.dedup_bytes = meter_get(&m->dedup_bytes),
		.stored_bytes = meter_get(&m->stored_bytes),
		.chunks = meter_get(&m->chunks),
		.new_chunks = meter_get(&m->new_chunks),
	};
	/* read one by one while uploads run: the sums that a receipt promises are made here */
	out->logical_bytes = out->new_bytes + out->dedup_bytes;
	if (out->new_chunks > out->chunks)
		out->chunks = out->new_chunks;
	for (int i = 0; i < METER_STAGES; i++)
		out->stage_ns[i] = meter_get(&m->stage_ns[i]);
}

/* Seconds with microseconds, as a JSON number. */
static void
add_seconds(struct buf *out, const char *name, uint64_t ns)
{
	uint64_t us = ns / 1000;

	buf_addf(out, "\"%s\":%" PRIu64 ".%06" PRIu64, name, us / 1000000, us % 1000000);
}

void
show_receipt_text(struct buf *out, const struct ingest_receipt *r, uint64_t total_ns)
{
	buf_addf(out,
		"{\"chunks\":{\"deduplicated\":%" PRIu64 ",\"new\":%" PRIu64 ",\"total\":%" PRIu64
		"},\"deduplicated_bytes\":%" PRIu64
		",\"durability\":\"full\",\"logical_bytes\":%" PRIu64 ",\"new_bytes\":%" PRIu64
		",\"seconds\":{",
		r->chunks - r->new_chunks, r->new_chunks, r->chunks, r->dedup_bytes,
		r->logical_bytes, r->new_bytes);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		add_seconds(out, steps[i].name, r->stage_ns[steps[i].stage]);
		buf_add_u8(out, ',');
	}
	add_seconds(out, "total", total_ns);
	buf_add_u8(out, ',');
	add_seconds(out, "write", r->stage_ns[METER_WRITE]);
	buf_addf(out, "},\"stored_bytes\":%" PRIu64 "}", r->stored_bytes);
}

void
show_stage_receipt(struct stage *s, struct buf *out)
{
	struct ingest_receipt receipt;
	struct stage_info info;

	stage_info(s, &info);
	stage_receipt(s, &receipt);
	int64_t us = clock_wall_us() - info.created_us;
	show_receipt_text(out, &receipt, us > 0 ? (uint64_t)us * 1000 : 0);
}

json_t *
show_receipt(const struct ingest_receipt *r, uint64_t total_ns)
{
	struct buf b;
	json_t *out = NULL;

	buf_init(&b, RECEIPT_BYTES_MAX);
	show_receipt_text(&b, r, total_ns);
	if (buf_ok(&b))
		out = json_loadb((const char *)b.data, b.len, 0, NULL);
	buf_done(&b);
	return out;
}

/* From its opening to the last thing that happened in it. */
static uint64_t
life_ns(struct stage *s, const struct stage_info *info)
{
	struct err err = ERR_INIT;
	struct progress p;
	uint64_t ns = 0;

	if (stage_progress(s, &p, &err) != RC_OK)
		return 0;
	if (p.updated_us > info->created_us)
		ns = (uint64_t)(p.updated_us - info->created_us) * 1000;
	progress_done(&p);
	return ns;
}

json_t *
show_stage(struct stage *s)
{
	struct ingest_receipt receipt;
	struct stage_info info;

	stage_info(s, &info);
	stage_receipt(s, &receipt);
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:s, s:o, s:o}", "name", info.name,
		"repo", info.repo, "state", show_stage_state(info.state), "created_at",
		show_time(info.created_us), "expires_at", show_time(info.expires_us), "files",
		(json_int_t)info.files, "bytes", (json_int_t)info.bytes, "workload",
		show_workload(info.workload), "receipt", show_receipt(&receipt, life_ns(s, &info)),
		"commit", info.state == STAGE_COMMITTED ? show_hash(&info.commit_id) : json_null());
}

json_t *
show_batch(struct stage *s, const struct batch_result *b)
{
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:o}", "repo", stage_repo(s)->name, "stage",
		stage_name(s), "files", (json_int_t)b->files, "bytes", (json_int_t)b->bytes,
		"skipped", (json_int_t)b->skipped, "receipt",
		show_receipt(&b->receipt, b->total_ns));
}

void
reply_stage_problem(struct request *rq, struct stage *s, const struct err *err)
{
	struct stage_info info;
	json_t *extra = NULL;

	if (s != NULL && err_is(err, "stage-committed")) {
		stage_info(s, &info);
		extra = json_pack("{s:o}", "commit", show_hash(&info.commit_id));
	}
	reply_problem_with(rq, err, extra);
}

void
reply_stage(struct request *rq, struct stage *s, bool created)
{
	if (created)
		reply_header(rq, "Location", "/v1/repos/%s/stages/%s", stage_repo(s)->name,
			stage_name(s));
	reply_json(rq, created ? 201 : 200, show_stage(s));
}
