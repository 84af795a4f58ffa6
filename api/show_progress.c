/* SPDX-License-Identifier: Apache-2.0 */
#include "show_progress.h"

#include "show_entry.h"

const char *
show_stage_state(enum stage_state state)
{
	switch (state) {
	case STAGE_OPEN:
		return "open";
	case STAGE_COMMITTING:
		return "committing";
	case STAGE_COMMITTED:
		return "committed";
	case STAGE_FAILED:
		return "failed";
	case STAGE_EXPIRED:
	case STAGE_GONE:
		break;
	}
	return "expired";
}

const char *
show_workload(enum stage_workload workload)
{
	switch (workload) {
	case WORKLOAD_MANY_SMALL:
		return "many_small";
	case WORKLOAD_FEW_LARGE:
		return "few_large";
	case WORKLOAD_UNKNOWN:
	case WORKLOAD_MIXED:
		break;
	}
	return "mixed";
}

const char *
show_phase_name(enum stage_phase phase)
{
	switch (phase) {
	case PHASE_ANALYZING:
		return "analyzing";
	case PHASE_PROCESSING:
		return "processing";
	case PHASE_FINALIZING:
		break;
	}
	return "finalizing";
}

/* Cut off behind the first decimal, so that 99.99 % is not yet 100. */
static double
tenths(double v)
{
	return v < 1e15 ? (double)(int64_t)(v * 10) / 10 : v;
}

/* A number, or null for one that cannot be told. */
static json_t *
known_or_null(double v)
{
	return v >= 0 ? json_real(tenths(v)) : json_null();
}

static void
set_count(json_t *object, const char *name, uint64_t n)
{
	json_object_set_new(object, name, json_integer((json_int_t)n));
}

static json_t *
show_bytes(const struct progress *p)
{
	json_t *bytes = json_object();

	set_count(bytes, "received", p->received);
	set_count(bytes, "chunked", p->chunked);
	set_count(bytes, "hashed", p->hashed);
	set_count(bytes, "deduplicated", p->deduplicated);
	set_count(bytes, "new", p->new_bytes);
	set_count(bytes, "compressed", p->compressed);
	set_count(bytes, "durable", p->durable);
	if (p->total != UINT64_MAX)
		set_count(bytes, "total", p->total);
	return bytes;
}

static json_t *
show_files(const struct progress *p)
{
	json_t *files = json_object();

	set_count(files, "received", p->files_received);
	if (p->files_total != UINT64_MAX)
		set_count(files, "total", p->files_total);
	return files;
}

static json_t *
show_uploads(const struct progress *p)
{
	json_t *list = json_array();

	for (size_t i = 0; i < p->upload_count && i < PROGRESS_UPLOADS_MAX; i++) {
		const struct progress_upload *u = &p->uploads[i];
		json_t *one = json_pack("{s:s, s:I}", "path", u->path[0] != '\0' ? u->path : "-",
			"received", (json_int_t)u->received);
		if (u->total != UINT64_MAX)
			set_count(one, "total", u->total);
		json_array_append_new(list, one);
	}
	return list;
}

json_t *
show_progress(const struct progress *p)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:f, s:o, s:s, s:o, s:I, s:o}",
		"repo", p->stage.repo, "stage", p->stage.name, "state",
		show_stage_state(p->stage.state), "workload", show_workload(p->stage.workload),
		"phase", show_phase_name(p->phase), "percent", known_or_null(p->percent), "files",
		show_files(p), "bytes", show_bytes(p), "rate_bps", tenths(p->rate_bps), "eta_s",
		known_or_null(p->eta_s), "bottleneck", p->bottleneck, "uploads", show_uploads(p),
		"seq", (json_int_t)p->seq, "updated_at", show_time(p->updated_us));
}
