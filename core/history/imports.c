/* SPDX-License-Identifier: Apache-2.0 */
/* The line, the runners, and the rows that say how it ended. */
#include "imports.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "db_import.h"
#include "import_job.h"
#include "import_team.h"
#include "utf8.h"

/* ---- the list ---- */

void
import_unref(struct import *job)
{
	if (job == NULL || atomic_fetch_sub(&job->refs, 1) != 1)
		return;
	stage_unref(job->stage);
	if (job->dir >= 0)
		close(job->dir);
	import_report_done(&job->report);
	free(job->texts);
	free(job);
}

static void
unlist(struct imports *is, struct import *job)
{
	pthread_mutex_lock(&is->mtx);
	struct import **at = &is->list;
	while (*at != NULL && *at != job)
		at = &(*at)->next;
	bool listed = *at == job;
	if (listed)
		*at = job->next;
	pthread_mutex_unlock(&is->mtx);
	if (listed)
		import_unref(job);
}

/* ---- the row ---- */

/* Text that may have been cut in the middle of a character, up to there. */
static void
cut_text(char *text)
{
	size_t len = strlen(text);

	while (len > 0 && !utf8_valid(text, len))
		len--;
	text[len] = '\0';
}

/* Write how it ended; then nobody needs it in memory. The caller has set saving, and a reference.
 */
static bool
save(struct imports *is, struct import *job)
{
	struct import_info info;
	struct err err = ERR_INIT;
	struct buf result;

	pthread_mutex_lock(&is->mtx);
	import_fill_info(job, &info);
	pthread_mutex_unlock(&is->mtx);
	buf_init(&result, IMPORT_RECORD_BYTES_MAX);
	import_record_encode(&info.record, &job->report, &result);
	cut_text(info.err.text);
	struct import_row row = {
		.id = job->id,
		.state = (int)info.state,
		.started_us = info.started_us,
		.ended_us = info.ended_us,
		.result = buf_ok(&result) ? result.data : NULL,
		.result_bytes = result.len,
		.commit_id = info.has_commit ? &info.commit_id : NULL,
		.error_kind = info.state == IMPORT_FAILED ? info.err.kind : NULL,
		.error_text = info.state == IMPORT_FAILED ? info.err.text : NULL,
	};
	enum rc rc = db_import_end(is->o.db, &row, &err);
	buf_done(&result);
	bool settled = rc == RC_OK || rc == RC_NOT_FOUND;
	if (settled) {
		unlist(is, job);
	} else {
		pthread_mutex_lock(&is->mtx);
		job->saving = false;
		pthread_mutex_unlock(&is->mtx);
	}
	return settled;
}

void
imports_tick(struct imports *is)
{
	bool goes_on = true;

	while (goes_on) {
		pthread_mutex_lock(&is->mtx);
		struct import *job = is->list;
		while (job != NULL && (job->state <= IMPORT_RUNNING || job->saving))
			job = job->next;
		if (job != NULL) {
			job->saving = true;
			atomic_fetch_add(&job->refs, 1);
		}
		pthread_mutex_unlock(&is->mtx);
		goes_on = job != NULL && save(is, job);
		import_unref(job);
	}
}

enum rc
imports_expire(struct imports *is, int64_t before_us, struct err *err)
{
	return db_import_expire(is->o.db, before_us, err);
}

/* ---- ending ---- */

static void
count_end(struct imports *is, struct import *job, enum import_state state)
{
	atomic_fetch_add(&is->ended[state], 1);
	if (state == IMPORT_DONE)
		atomic_fetch_add(&is->files, job->taken_files);
	pthread_mutex_lock(&job->report.mtx);
	for (int i = 0; i < IMPORT_REASONS; i++)
		atomic_fetch_add(&is->left_out[i], job->report.counts[i]);
	pthread_mutex_unlock(&job->report.mtx);
}

void
import_abandon(struct import *job)
{
	struct err err = ERR_INIT;
	struct stage_info info;

	stage_info(job->stage, &info);
	if (info.state == STAGE_OPEN && info.uploads == 0)
		stage_abandon(job->is->o.stages, job->stage, &err);
}

/* Whoever cancels while nobody knows whether the commit was made is told just that. */
static enum import_state
state_after(const struct import *job, enum rc rc, const struct err *err)
{
	bool is_in_doubt = err_is(err, "commit-unknown");

	if (rc == RC_OK)
		return IMPORT_DONE;
	if (is_in_doubt || !atomic_load((atomic_bool *)(uintptr_t)&job->stop))
		return IMPORT_FAILED;
	return job->cancelled ? IMPORT_CANCELLED : IMPORT_INTERRUPTED;
}

void
import_end(struct import *job, enum rc rc, const struct err *err)
{
	struct imports *is = job->is;
	struct import_info info;
	struct err late = ERR_INIT;

	if (job->is_live)
		stage_live_end(job->stage, &job->live);
	job->is_live = false;
	if (rc != RC_OK && job->pushes)
		import_abandon(job);
	close(job->dir);
	job->dir = -1;
	pthread_mutex_lock(&is->mtx);
	job->state = state_after(job, rc, err);
	job->ended_us = clock_wall_us();
	if (job->state == IMPORT_FAILED)
		job->err = *err;
	job->saving = true;
	import_fill_info(job, &info);
	pthread_mutex_unlock(&is->mtx);
	count_end(is, job, info.state);
	save(is, job);
	atomic_fetch_add(&job->refs, 1);
	if (import_take_report(job, &info, &late) == RC_OK && is->o.ended != NULL)
		is->o.ended(&info);
	import_info_done(&info);
}

/* ---- running ---- */

/* The next in line, running from now on; NULL: there will be none. The reference is the list's, and
 * one for us. */
static struct import *
next_job(struct imports *is)
{
	pthread_mutex_lock(&is->mtx);
	while (is->line == NULL && !is->stopping)
		pthread_cond_wait(&is->work, &is->mtx);
	struct import *job = is->stopping ? NULL : is->line;
	if (job != NULL) {
		is->line = job->next_line;
		if (is->line == NULL)
			is->line_end = &is->line;
		is->waiting--;
		is->running++;
		job->state = IMPORT_RUNNING;
		job->started_us = clock_wall_us();
		atomic_fetch_add(&job->refs, 1);
	}
	pthread_mutex_unlock(&is->mtx);
	return job;
}

static void *
runner_main(void *arg)
{
	struct imports *is = arg;
	struct import *job;

	while ((job = next_job(is)) != NULL) {
		struct err err = ERR_INIT;
		enum rc rc = import_run(job, &err);
		import_end(job, rc, &err);
		import_unref(job);
		pthread_mutex_lock(&is->mtx);
		is->running--;
		pthread_mutex_unlock(&is->mtx);
	}
	return NULL;
}

/* ---- the service ---- */

static enum rc
start_runners(struct imports *is, struct err *err)
{
	while (is->runner_count < IMPORTS_RUNNING_MAX) {
		int e = pthread_create(&is->runners[is->runner_count], NULL, runner_main, is);
		if (e != 0)
			return err_errno(err, e, "start the imports", NULL);
		is->runner_count++;
	}
	return RC_OK;
}

enum rc
imports_open(const struct imports_options *options, struct imports **out, struct err *err)
{
	struct imports *is = calloc(1, sizeof *is);

	*out = NULL;
	if (is == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	is->o = *options;
	if (is->o.threads < 1 || is->o.threads > IMPORT_TEAM_MAX)
		is->o.threads = is->o.threads < 1 ? 1 : IMPORT_TEAM_MAX;
	is->line_end = &is->line;
	pthread_mutex_init(&is->mtx, NULL);
	pthread_cond_init(&is->work, NULL);
	enum rc rc = db_import_interrupt_all(options->db, err);
	if (rc == RC_OK && import_roots_count(options->roots) > 0)
		rc = start_runners(is, err);
	if (rc != RC_OK) {
		imports_stop(is);
		imports_free(is);
		return rc;
	}
	*out = is;
	return RC_OK;
}

/* All that wait leave the line and end. */
static void
empty_line(struct imports *is)
{
	struct err err = ERR_INIT;

	for (;;) {
		pthread_mutex_lock(&is->mtx);
		struct import *job = is->line;
		if (job != NULL) {
			is->line = job->next_line;
			is->waiting--;
			atomic_fetch_add(&job->refs, 1);
		}
		pthread_mutex_unlock(&is->mtx);
		if (job == NULL)
			break;
		import_end(job, RC_UNAVAILABLE, &err);
		import_unref(job);
	}
}

void
imports_stop(struct imports *is)
{
	if (is == NULL)
		return;
	pthread_mutex_lock(&is->mtx);
	is->stopping = true;
	for (struct import *job = is->list; job != NULL; job = job->next)
		atomic_store(&job->stop, true);
	pthread_cond_broadcast(&is->work);
	pthread_mutex_unlock(&is->mtx);
	empty_line(is);
	while (is->runner_count > 0)
		pthread_join(is->runners[--is->runner_count], NULL);
}

void
imports_free(struct imports *is)
{
	if (is == NULL)
		return;
	/* what could not be written down is found at the next start */
	while (is->list != NULL) {
		struct import *job = is->list;
		is->list = job->next;
		import_unref(job);
	}
	pthread_cond_destroy(&is->work);
	pthread_mutex_destroy(&is->mtx);
	free(is);
}

static bool
may_look(struct imports *is)
{
	const struct timespec moment = {.tv_nsec = 1000000};

	for (int i = 0; i < IMPORTS_LOOKING_WAIT_MS; i++) {
		if (atomic_fetch_add(&is->looking, 1) < IMPORTS_LOOKING_MAX)
			return true;
		atomic_fetch_sub(&is->looking, 1);
		nanosleep(&moment, NULL);
	}
	return false;
}

enum rc
imports_open_dir(struct imports *is, const char *path, int *dir, struct err *err)
{
	*dir = -1;
	if (!may_look(is))
		return err_set(err, RC_AGAIN, "overloaded",
			"the file system of other imports does not answer; try again");
	enum rc rc = import_roots_find(is->o.roots, path, dir, err);
	atomic_fetch_sub(&is->looking, 1);
	return rc;
}

void
imports_stats(struct imports *is, struct imports_stats *out)
{
	memset(out, 0, sizeof *out);
	for (int i = 0; i < IMPORT_STATES; i++)
		out->ended[i] = atomic_load(&is->ended[i]);
	for (int i = 0; i < IMPORT_REASONS; i++)
		out->left_out[i] = atomic_load(&is->left_out[i]);
	out->files = atomic_load(&is->files);
	out->read_bytes = atomic_load(&is->read_bytes);
	pthread_mutex_lock(&is->mtx);
	out->waiting = is->waiting;
	out->running = is->running;
	pthread_mutex_unlock(&is->mtx);
}

/* ---- cancelling ---- */

/* Under the lock: take job out of the line; false: it is not in it. */
static bool
leave_line(struct imports *is, struct import *job)
{
	struct import **at = &is->line;

	while (*at != NULL && *at != job)
		at = &(*at)->next_line;
	if (*at == NULL)
		return false;
	*at = job->next_line;
	if (is->line_end == &job->next_line)
		is->line_end = at;
	is->waiting--;
	return true;
}

/* Cancel one that waits or runs; false: there is no such import. */
static bool
cancel(struct imports *is, const struct repo *repo, uint64_t id, struct import_info *out,
	enum rc *rc, struct err *err)
{
	struct err none = ERR_INIT;
	bool waited = false;

	pthread_mutex_lock(&is->mtx);
	struct import *job = imports_lookup(is, repo, id);
	if (job != NULL && job->state > IMPORT_RUNNING)
		job = NULL;
	if (job != NULL) {
		if (!atomic_load(&job->stop))
			job->cancelled = true;
		atomic_store(&job->stop, true);
		waited = leave_line(is, job);
		atomic_fetch_add(&job->refs, 1);
	}
	pthread_mutex_unlock(&is->mtx);
	if (job == NULL)
		return false;
	if (waited)
		import_end(job, RC_UNAVAILABLE, &none);
	pthread_mutex_lock(&is->mtx);
	import_fill_info(job, out);
	pthread_mutex_unlock(&is->mtx);
	*rc = import_take_report(job, out, err);
	return true;
}

enum rc
import_delete(struct imports *is, const struct repo *repo, uint64_t id, bool *forgotten,
	struct import_info *out, struct err *err)
{
	enum rc rc;

	*forgotten = false;
	memset(out, 0, sizeof *out);
	if (cancel(is, repo, id, out, &rc, err))
		return rc;
	rc = db_import_delete(is->o.db, repo->id, id, err);
	if (rc != RC_OK)
		return rc;
	/* its end may not be written down yet: whoever tries finds no row */
	pthread_mutex_lock(&is->mtx);
	struct import *job = imports_lookup(is, repo, id);
	if (job != NULL)
		job->forgotten = true;
	pthread_mutex_unlock(&is->mtx);
	*forgotten = true;
	return RC_OK;
}
