/* SPDX-License-Identifier: Apache-2.0 */
#include "show_import.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "problem.h"
#include "show_entry.h"
#include "show_progress.h"
#include "show_stage.h"

const char *
show_import_state(enum import_state state)
{
	static const char *const names[IMPORT_STATES] = {
		[IMPORT_WAITING] = "waiting",
		[IMPORT_RUNNING] = "running",
		[IMPORT_DONE] = "done",
		[IMPORT_FAILED] = "failed",
		[IMPORT_CANCELLED] = "cancelled",
		[IMPORT_INTERRUPTED] = "interrupted",
	};

	return names[state];
}

static json_t *
show_time_or_null(int64_t us)
{
	return us != 0 ? show_time(us) : json_null();
}

static json_t *
show_count(uint64_t files, uint64_t bytes)
{
	return json_pack("{s:I, s:I}", "files", (json_int_t)files, "bytes", (json_int_t)bytes);
}

static json_t *
show_class(const struct import_sizes *s, enum import_class class)
{
	return show_count(s->files[class], s->bytes[class]);
}

/* What the walk found; null where nobody wrote it down. */
static json_t *
show_found(const struct import_info *info)
{
	const struct import_sizes *s = &info->record.found;

	if (!info->has_record)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:o, s:o, s:o}", "directories",
		(json_int_t)info->record.directories, "files", (json_int_t)import_sizes_files(s),
		"bytes", (json_int_t)import_sizes_bytes(s), "small", show_class(s, IMPORT_SMALL),
		"medium", show_class(s, IMPORT_MEDIUM), "large", show_class(s, IMPORT_LARGE));
}

static json_t *
show_percent(const struct import_info *info)
{
	if (info->state == IMPORT_DONE)
		return json_real(100);
	if (info->state != IMPORT_RUNNING || info->permille > 1000)
		return json_null();
	return json_real((double)info->permille / 10);
}

static json_t *
show_phase(const struct import_info *info)
{
	return info->state == IMPORT_RUNNING ? json_string(show_phase_name(info->phase))
					     : json_null();
}

static json_t *
show_receipt_of(const struct import_info *info)
{
	int64_t us = info->ended_us - info->started_us;

	if (info->state != IMPORT_DONE || !info->has_record)
		return json_null();
	return show_receipt(
		&info->record.receipt, us > 0 && info->started_us != 0 ? (uint64_t)us * 1000 : 0);
}

static json_t *
show_problem(const struct import_info *info)
{
	char type[96];

	if (info->state != IMPORT_FAILED)
		return json_null();
	const struct problem_kind *kind = problem_of(&info->err);
	snprintf(type, sizeof type, "urn:digstore:problem:%s", kind->slug);
	return json_pack("{s:s, s:s, s:o}", "type", type, "title", kind->title, "detail",
		problem_text(info->err.text[0] != '\0' ? info->err.text : kind->title));
}

json_t *
show_import(const struct import_info *info)
{
	char id[24];

	snprintf(id, sizeof id, "%" PRIu64, info->id);
	return json_pack("{s:s, s:s, s:s, s:o, s:s, s:o, s:s, s:s, s:s, s:o, s:s, s:s, s:o, s:o,"
			 " s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}",
		"id", id, "repo", info->repo, "state", show_import_state(info->state), "phase",
		show_phase(info), "workload", show_workload(info->workload), "percent",
		show_percent(info), "path", info->path, "prefix", info->prefix, "stage",
		info->stage, "ref", info->ref[0] != '\0' ? json_string(info->ref) : json_null(),
		"on_error", info->skip_failed ? "skip" : "fail", "special",
		info->skip_special ? "skip" : "refuse", "found", show_found(info), "read",
		info->has_record ? show_count(info->record.read_files, info->record.read_bytes)
				 : json_null(),
		"skipped", (json_int_t)info->special, "failed", (json_int_t)info->failed, "receipt",
		show_receipt_of(info), "commit",
		info->has_commit ? show_hash(&info->commit_id) : json_null(), "problem",
		show_problem(info), "created_at", show_time(info->created_us), "started_at",
		show_time_or_null(info->started_us), "ended_at", show_time_or_null(info->ended_us));
}

json_t *
show_import_whole(const struct import_info *info)
{
	json_t *list = json_array();
	json_t *out = show_import(info);

	for (size_t i = 0; i < info->report.count; i++) {
		const struct import_trouble *t = &info->report.items[i];
		json_array_append_new(list, json_pack("{s:o, s:s}", "path", problem_text(t->path),
						    "reason", import_reason_name(t->reason)));
	}
	if (out == NULL || json_object_set_new(out, "report", list) != 0) {
		json_decref(out);
		return NULL;
	}
	return out;
}
