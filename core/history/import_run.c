/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "import_job.h"
#include "import_read.h"
#include "import_team.h"

/* What opening, looking at and closing a file costs, in bytes that are read in that time. */
#define FILE_COST_BYTES 8192

/* How long the phases take of a whole, in thousandths (the rest is finalizing): measured on 20,000
 * small files, on one file of 2 GB, and on the former with one of 300 MB. */
struct weights {
	uint32_t analyzing, processing;
};
static const struct weights weights_of[] = {
	[WORKLOAD_UNKNOWN] = {500, 0},
	[WORKLOAD_MANY_SMALL] = {110, 780},
	[WORKLOAD_FEW_LARGE] = {2, 988},
	[WORKLOAD_MIXED] = {60, 860},
};

static void
reach(struct import *job, enum stage_phase phase, uint32_t permille)
{
	unsigned now = (unsigned)phase << 16 | permille;
	unsigned was = atomic_load_explicit(&job->reached, memory_order_relaxed);

	while (was < now && !atomic_compare_exchange_weak(&job->reached, &was, now))
		;
	stage_live_reach(&job->live, phase, permille);
}

static const struct weights *
weights(struct import *job)
{
	return &weights_of[atomic_load_explicit(&job->workload, memory_order_relaxed)];
}

static enum rc
check_stop(struct import *job, struct err *err)
{
	return atomic_load(&job->stop)
		       ? err_set(err, RC_UNAVAILABLE, "shutting-down", "the import was stopped")
		       : RC_OK;
}

/* ---- analyzing ---- */

static void
run_walk(void *arg)
{
	import_walk_run(arg);
}

static enum rc
analyze(struct import *job, struct import_files *files, struct err *err)
{
	const struct import_walk_options options = {
		.dir = job->dir,
		.prefix = job->prefix,
		.entries_max = job->is->o.entries_max,
		.bytes_max = job->is->o.bytes_max,
		.files = files,
		.report = &job->report,
		.tally = &job->tally,
		.stop = &job->stop,
	};
	struct import_walk *walk;

	reach(job, PHASE_ANALYZING, PROGRESS_PERMILLE_UNKNOWN);
	enum rc rc = import_walk_open(&options, &walk, err);
	if (rc == RC_OK) {
		import_team_run(job->is->o.threads, run_walk, walk);
		rc = import_walk_close(walk, err);
	}
	if (rc == RC_OK)
		rc = check_stop(job, err);
	/* all that is wrong is known by now, and nothing was read in vain */
	if (rc == RC_OK)
		rc = import_report_judge(&job->report, job->skip_special, job->skip_failed, err);
	if (rc != RC_OK)
		return rc;
	const struct stage_sizes sizes = import_sizes_for_stage(&files->sizes);
	atomic_store(&job->workload, (int)stage_workload_of(&sizes));
	stage_live_plan(job->stage, &job->live, &sizes);
	return RC_OK;
}

/* ---- processing ---- */

static uint64_t
cost(uint64_t files, uint64_t bytes)
{
	return files * FILE_COST_BYTES + bytes;
}

/* Any thread. */
static void
on_progress(void *arg, uint64_t bytes)
{
	struct import *job = arg;
	struct import_tally *t = &job->tally;
	const struct weights *w = weights(job);
	uint64_t files = 0, all = 0;

	if (bytes > 0) {
		stage_live_received(job->stage, &job->live, bytes);
		atomic_fetch_add_explicit(&job->is->read_bytes, bytes, memory_order_relaxed);
	}
	for (int i = 0; i < IMPORT_CLASSES; i++) {
		files += atomic_load_explicit(&t->found_files[i], memory_order_relaxed);
		all += atomic_load_explicit(&t->found_bytes[i], memory_order_relaxed);
	}
	double whole = (double)cost(files, all);
	double done = (double)cost(atomic_load_explicit(&t->read_files, memory_order_relaxed),
		atomic_load_explicit(&t->read_bytes, memory_order_relaxed));
	double share = whole > 0 && done < whole ? done / whole : 1;
	reach(job, PHASE_PROCESSING, w->analyzing + (uint32_t)(w->processing * share));
}

static void
run_read(void *arg)
{
	import_read_run(arg);
}

/* No more threads than there is work for. */
static unsigned
readers_for(const struct import *job, const struct import_files *files)
{
	uint64_t portions = files->sizes.files[IMPORT_SMALL] / IMPORT_BATCH_FILES + 1 +
			    files->sizes.files[IMPORT_MEDIUM] + files->sizes.files[IMPORT_LARGE];

	return portions < job->is->o.threads ? (unsigned)portions : job->is->o.threads;
}

/* The time of syncs and transactions is that of whole groups, and every file of a group has all of
 * it in its receipt. The meter of the stage counts it once a group. */
static void
count_groups_once(struct import *job, const uint64_t before[METER_STAGES])
{
	const struct meter *m = stage_meter(job->stage);

	for (int i = METER_SYNC; i <= METER_SQL; i++)
		job->receipt.stage_ns[i] = meter_get(&m->stage_ns[i]) - before[i];
}

static enum rc
process(struct import *job, struct import_files *files, struct err *err)
{
	const struct import_read_options options = {
		.dir = job->dir,
		.prefix_len = strlen(job->prefix),
		.files = files,
		.report = &job->report,
		.tally = &job->tally,
		.stop = &job->stop,
		.skip_special = job->skip_special,
		.skip_failed = job->skip_failed,
		.bytes_max = job->is->o.bytes_max,
		.ingest = job->is->o.ingest,
		.space = &job->repo->space,
		.meter = stage_meter(job->stage),
		.progress = on_progress,
		.arg = job,
	};
	uint64_t before[METER_STAGES];
	struct import_read *read;

	for (int i = 0; i < METER_STAGES; i++)
		before[i] = meter_get(&options.meter->stage_ns[i]);
	reach(job, PHASE_PROCESSING, weights(job)->analyzing);
	enum rc rc = import_read_open(&options, &read, err);
	if (rc == RC_OK) {
		import_team_run(readers_for(job, files), run_read, read);
		rc = import_read_close(read, &job->receipt, err);
	}
	if (rc == RC_OK)
		count_groups_once(job, before);
	if (rc == RC_OK)
		rc = check_stop(job, err);
	if (rc == RC_OK)
		rc = import_report_judge(&job->report, job->skip_special, job->skip_failed, err);
	return rc;
}

/* ---- finalizing ---- */

static enum rc
stage_files(struct import *job, struct import_files *files, struct err *err)
{
	import_files_compact(files);
	job->taken_files = files->count;
	if (files->count == 0)
		return RC_OK;
	return stage_apply_costly(job->stage, files->items, files->count, &job->receipt, err);
}

static void
leave_stage(struct import *job)
{
	if (job->is_live)
		stage_live_end(job->stage, &job->live);
	job->is_live = false;
}

static enum rc
commit(struct import *job, struct err *err)
{
	struct commit_refusal *refusal = calloc(1, sizeof *refusal);
	struct commit_request request = job->commit;
	struct commit made;
	struct buf receipt;
	enum rc rc;

	buf_init(&receipt, COMMIT_METADATA_BYTES_MAX);
	job->is->o.write_receipt(job->stage, &receipt);
	request.stage = job->stage;
	request.receipt = buf_cstr(&receipt);
	if (refusal == NULL || !buf_ok(&receipt))
		rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
	else
		rc = commit_make(job->is->o.history, &request, &made, refusal, err);
	if (rc == RC_OK) {
		job->has_commit = true;
		job->commit_id = made.id;
		commit_done(&made);
	}
	buf_done(&receipt);
	free(refusal);
	return rc;
}

static enum rc
finalize(struct import *job, struct import_files *files, struct err *err)
{
	const struct weights *w = weights(job);
	uint32_t from = w->analyzing + w->processing;

	reach(job, PHASE_FINALIZING, from);
	enum rc rc = stage_files(job, files, err);
	if (rc != RC_OK || !job->pushes)
		return rc;
	reach(job, PHASE_FINALIZING, from + (1000 - from) / 4);
	import_files_done(files);
	rc = check_stop(job, err);
	leave_stage(job); /* or the commit would wait for us */
	return rc == RC_OK ? commit(job, err) : rc;
}

enum rc
import_run(struct import *job, struct err *err)
{
	struct import_files files = {.count = 0};

	enum rc rc = analyze(job, &files, err);
	if (rc == RC_OK)
		rc = process(job, &files, err);
	if (rc == RC_OK)
		rc = finalize(job, &files, err);
	import_files_done(&files);
	leave_stage(job);
	return rc;
}
