/* SPDX-License-Identifier: Apache-2.0 */
#include "show_recompression.h"

#include "problem.h"
#include "services.h"

static uint64_t
saved(uint64_t before, uint64_t after)
{
	return before > after ? before - after : 0;
}

static json_t *
show_total(const struct recompress_stats *s)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "packs_before",
		(json_int_t)s->total_packs_before, "packs_after", (json_int_t)s->total_packs_after,
		"bytes_before", (json_int_t)s->total_bytes_before, "bytes_after",
		(json_int_t)s->total_bytes_after, "saved_bytes",
		(json_int_t)saved(s->total_bytes_before, s->total_bytes_after), "raw_bytes",
		(json_int_t)s->total_raw_bytes, "frames", (json_int_t)s->total_frames,
		"cpu_seconds", (double)s->total_cpu_us / 1e6);
}

static json_t *
show_left(const struct recompress_stats *s)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "packs", (json_int_t)s->left_packs, "bytes",
		(json_int_t)s->left_bytes, "expected_saved_bytes", (json_int_t)s->left_gain,
		"unexamined_packs", (json_int_t)s->left_unknown);
}

static json_t *
show(const struct recompress_stats *s)
{
	const char *reason =
		s->reason != RECOMPRESS_NO_REASON ? recompress_reason_name(s->reason) : NULL;

	return json_pack("{s:s, s:s?, s:s?, s:b, s:i, s:i, s:i, s:o, s:o, s:{s:I, s:I}}", "state",
		recompress_state_name(s->state), "reason", reason, "error",
		s->error[0] != '\0' ? s->error : NULL, "run_requested", s->is_run, "level",
		s->level, "cpu_percent", (int)s->cpu_percent, "threads", (int)s->threads, "total",
		show_total(s), "left", show_left(s), "replaced", "packs",
		(json_int_t)s->retired_packs, "bytes", (json_int_t)s->retired_bytes);
}

void
reply_recompression(struct request *rq)
{
	struct recompress_stats s;

	recompress_stats(rq->srv->recompress, &s);
	reply_header(rq, "Cache-Control", "no-store");
	reply_json(rq, 200, show(&s));
}
