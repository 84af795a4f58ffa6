/* SPDX-License-Identifier: Apache-2.0 */
/* What imports look like: those in memory as they are, all others as their rows say. */
#include <stdio.h>
#include <string.h>

#include "db_import.h"
#include "import_job.h"

void
import_info_done(struct import_info *info)
{
	import_report_done(&info->report);
}

static void
fill_record(struct import *job, struct import_record *r)
{
	struct import_tally *t = &job->tally;

	r->directories = atomic_load(&t->directories);
	for (int i = 0; i < IMPORT_CLASSES; i++) {
		r->found.files[i] = atomic_load(&t->found_files[i]);
		r->found.bytes[i] = atomic_load(&t->found_bytes[i]);
	}
	r->read_files = atomic_load(&t->read_files);
	r->read_bytes = atomic_load(&t->read_bytes);
}

void
import_fill_info(struct import *job, struct import_info *out)
{
	uint32_t reached = atomic_load(&job->reached);

	memset(out, 0, sizeof *out);
	out->id = job->id;
	out->state = job->state;
	out->phase = (enum stage_phase)(reached >> 16);
	out->permille = reached & 0xffff;
	out->workload = (enum stage_workload)atomic_load(&job->workload);
	out->repo = job->repo->name;
	snprintf(out->path, sizeof out->path, "%s", job->path);
	snprintf(out->prefix, sizeof out->prefix, "%s", job->prefix);
	snprintf(out->stage, sizeof out->stage, "%s", stage_name(job->stage));
	if (job->pushes)
		snprintf(out->ref, sizeof out->ref, "%s", job->commit.ref);
	out->skip_failed = job->skip_failed;
	out->skip_special = job->skip_special;
	out->created_us = job->created_us;
	out->started_us = job->started_us;
	out->ended_us = job->ended_us;
	out->has_record = true;
	fill_record(job, &out->record);
	if (job->state == IMPORT_DONE) {
		out->record.receipt = job->receipt;
		out->has_commit = job->has_commit;
		out->commit_id = job->commit_id;
	}
	out->err = job->err;
}

enum rc
import_take_report(struct import *job, struct import_info *out, struct err *err)
{
	enum rc rc = import_report_init(&out->report, err);

	if (rc == RC_OK) {
		import_report_copy(&job->report, &out->report);
		import_report_totals(&out->report, &out->special, &out->failed);
	}
	import_unref(job);
	return rc;
}

static void
copy_text(char *out, size_t out_bytes, const char *text)
{
	snprintf(out, out_bytes, "%s", text != NULL ? text : "");
}

static enum rc
info_of_row(const struct repo *repo, const struct import_row *row, struct import_info *out,
	struct err *err)
{
	memset(out, 0, sizeof *out);
	out->id = row->id;
	out->state = (enum import_state)row->state; /* 0: it is just getting in line */
	out->permille = PROGRESS_PERMILLE_UNKNOWN;
	out->repo = repo->name;
	copy_text(out->path, sizeof out->path, row->path);
	copy_text(out->prefix, sizeof out->prefix, row->prefix);
	copy_text(out->stage, sizeof out->stage, row->stage);
	copy_text(out->ref, sizeof out->ref, row->ref);
	out->skip_failed = (row->skips & IMPORT_SKIPS_FAILED) != 0;
	out->skip_special = (row->skips & IMPORT_SKIPS_SPECIAL) != 0;
	out->created_us = row->created_us;
	out->started_us = row->started_us;
	out->ended_us = row->ended_us;
	out->has_commit = row->commit_id != NULL;
	if (out->has_commit)
		out->commit_id = *row->commit_id;
	if (out->state == IMPORT_FAILED) {
		copy_text(out->error_kind, sizeof out->error_kind, row->error_kind);
		err_set(&out->err, RC_BUG, out->error_kind[0] != '\0' ? out->error_kind : NULL,
			"%s", row->error_text != NULL ? row->error_text : "");
	}
	enum rc rc = import_report_init(&out->report, err);
	out->has_record = row->result != NULL;
	if (rc == RC_OK && out->has_record)
		rc = import_record_decode(
			row->result, row->result_bytes, &out->record, &out->report, err);
	if (rc != RC_OK) {
		import_info_done(out);
		return rc;
	}
	import_report_totals(&out->report, &out->special, &out->failed);
	const struct stage_sizes sizes = import_sizes_for_stage(&out->record.found);
	out->workload = stage_workload_of(&sizes);
	return RC_OK;
}

/* ---- looking ---- */

struct import *
imports_lookup(struct imports *is, const struct repo *repo, uint64_t id)
{
	struct import *job = is->list;

	while (job != NULL && (job->id != id || job->repo != repo || job->forgotten))
		job = job->next;
	return job;
}

/* From memory; false if it is not there. */
static bool
find_live(struct imports *is, const struct repo *repo, uint64_t id, struct import_info *out,
	enum rc *rc, struct err *err)
{
	pthread_mutex_lock(&is->mtx);
	struct import *job = imports_lookup(is, repo, id);
	if (job != NULL) {
		import_fill_info(job, out);
		atomic_fetch_add(&job->refs, 1);
	}
	pthread_mutex_unlock(&is->mtx);
	if (job != NULL)
		*rc = import_take_report(job, out, err);
	return job != NULL;
}

struct find_query {
	const struct repo *repo;
	struct import_info *out;
};

static enum rc
on_row(void *arg, const struct import_row *row, struct err *err)
{
	const struct find_query *q = arg;

	return info_of_row(q->repo, row, q->out, err);
}

enum rc
import_find(struct imports *is, const struct repo *repo, uint64_t id, struct import_info *out,
	struct err *err)
{
	struct find_query q = {repo, out};
	enum rc rc;

	memset(out, 0, sizeof *out);
	if (find_live(is, repo, id, out, &rc, err))
		return rc;
	return db_import_find(is->o.db, repo->id, id, on_row, &q, err);
}

struct list_query {
	struct imports *is;
	const struct repo *repo;
	void (*fn)(void *arg, const struct import_info *info);
	void *arg;
};

static enum rc
on_listed_row(void *arg, const struct import_row *row, struct err *err)
{
	const struct list_query *q = arg;
	struct import_info info;
	enum rc rc;

	/* one that was not ended when the rows were read may be by now: then the row is news */
	if (row->state == 0)
		rc = import_find(q->is, q->repo, row->id, &info, err);
	else
		rc = info_of_row(q->repo, row, &info, err);
	if (rc == RC_OK) {
		q->fn(q->arg, &info);
		import_info_done(&info);
	} else if (rc == RC_NOT_FOUND) { /* and it may be forgotten */
		err_clear(err);
		rc = RC_OK;
	}
	return rc;
}

enum rc
import_list(struct imports *is, const struct repo *repo, uint64_t before, size_t limit,
	void (*fn)(void *arg, const struct import_info *info), void *arg, struct err *err)
{
	struct list_query q = {is, repo, fn, arg};

	return db_import_list(is->o.db, repo->id, before, limit, on_listed_row, &q, err);
}
