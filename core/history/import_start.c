/* SPDX-License-Identifier: Apache-2.0 */
/* From what a client asks for to a job in line. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "db_import.h"
#include "import_job.h"

/* A copy of text in the job's memory at *at, which is moved. */
static const char *
keep(char **at, const char *text)
{
	size_t len = strlen(text) + 1;
	char *copy = memcpy(*at, text, len);

	*at += len;
	return copy;
}

static bool
keep_texts(struct import *job, const struct import_request *rq)
{
	const struct commit_request *c = rq->commit;
	size_t bytes = strlen(rq->path) + strlen(rq->prefix) + 2;

	if (c != NULL)
		bytes += strlen(c->ref) + strlen(c->author) + strlen(c->message) +
			 strlen(c->metadata) + 4;
	char *at = job->texts = malloc(bytes);
	if (at == NULL)
		return false;
	job->path = keep(&at, rq->path);
	job->prefix = keep(&at, rq->prefix);
	if (c == NULL)
		return true;
	job->pushes = true;
	job->commit = (struct commit_request){
		.ref = keep(&at, c->ref),
		.author = keep(&at, c->author),
		.message = keep(&at, c->message),
		.metadata = keep(&at, c->metadata),
		.mode = c->mode,
		.has_expected = c->has_expected,
		.expected_none = c->expected_none,
		.expected_parent = c->expected_parent,
	};
	return true;
}

/* Takes what request hands over in any case. */
static enum rc
make_job(struct imports *is, const struct import_request *rq, struct import **out, struct err *err)
{
	struct import *job = calloc(1, sizeof *job);

	*out = NULL;
	if (job == NULL) {
		stage_unref(rq->stage);
		close(rq->dir);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	job->is = is;
	job->repo = stage_repo(rq->stage);
	job->stage = rq->stage;
	job->dir = rq->dir;
	job->skip_failed = rq->skip_failed;
	job->skip_special = rq->skip_special;
	job->live =
		(struct stage_live){.label = "import", .total_bytes = UINT64_MAX, .phased = true};
	atomic_store(&job->refs, 1);
	atomic_store(&job->reached, PROGRESS_PERMILLE_UNKNOWN);
	stage_live_reach(&job->live, PHASE_ANALYZING, PROGRESS_PERMILLE_UNKNOWN);
	*out = job;
	if (!keep_texts(job, rq))
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	return import_report_init(&job->report, err);
}

static enum rc
take_slot(struct imports *is, struct err *err)
{
	enum rc rc = RC_OK;

	pthread_mutex_lock(&is->mtx);
	if (is->stopping)
		rc = err_set(err, RC_UNAVAILABLE, "shutting-down", "the server is shutting down");
	else if (is->waiting >= IMPORTS_WAITING_MAX)
		rc = err_set(err, RC_AGAIN, "overloaded",
			"%d imports wait already; try again when one has ended",
			IMPORTS_WAITING_MAX);
	else
		is->waiting++;
	pthread_mutex_unlock(&is->mtx);
	return rc;
}

static void
give_slot(struct imports *is)
{
	pthread_mutex_lock(&is->mtx);
	is->waiting--;
	pthread_mutex_unlock(&is->mtx);
}

static enum rc
enter_row(struct imports *is, struct import *job, struct err *err)
{
	const struct import_row row = {
		.repo_id = job->repo->id,
		.skips = (job->skip_failed ? IMPORT_SKIPS_FAILED : 0) |
			 (job->skip_special ? IMPORT_SKIPS_SPECIAL : 0),
		.path = job->path,
		.prefix = job->prefix,
		.stage = stage_name(job->stage),
		.ref = job->pushes ? job->commit.ref : NULL,
	};

	return db_import_add(is->o.db, &row, &job->id, &job->created_us, err);
}

/* false: nothing runs any more. */
static bool
enter_line(struct imports *is, struct import *job, struct import_info *out)
{
	pthread_mutex_lock(&is->mtx);
	bool goes_on = !is->stopping;
	job->next = is->list;
	is->list = job;
	if (goes_on) {
		*is->line_end = job;
		is->line_end = &job->next_line;
		pthread_cond_signal(&is->work);
	} else {
		atomic_store(&job->stop, true);
		is->waiting--;
	}
	import_fill_info(job, out);
	atomic_fetch_add(&job->refs, 1);
	pthread_mutex_unlock(&is->mtx);
	return goes_on;
}

/* It did not get in line. */
static void
drop_job(struct import *job)
{
	if (job->is_live)
		stage_live_end(job->stage, &job->live);
	job->is_live = false;
	if (job->pushes)
		import_abandon(job);
	import_unref(job);
}

enum rc
import_start(struct imports *is, const struct import_request *request, struct import_info *out,
	struct err *err)
{
	bool has_slot = false;
	struct import *job;

	memset(out, 0, sizeof *out);
	enum rc rc = make_job(is, request, &job, err);
	if (rc == RC_OK)
		rc = take_slot(is, err);
	has_slot = rc == RC_OK;
	if (rc == RC_OK)
		rc = stage_live_begin(job->stage, &job->live, err);
	if (rc == RC_OK) {
		job->is_live = true;
		rc = enter_row(is, job, err);
	}
	if (rc != RC_OK) {
		if (has_slot)
			give_slot(is);
		if (job != NULL)
			drop_job(job);
		return rc;
	}
	if (!enter_line(is, job, out)) {
		struct err none = ERR_INIT;
		import_end(job, RC_UNAVAILABLE, &none);
	}
	return import_take_report(job, out, err);
}
