/* SPDX-License-Identifier: Apache-2.0 */
/* The leading thread: when there may be work, and what everybody may know of it. It runs with an
 * ordinary priority because it holds files and transactions; it asks before every frame. */
#include "recompress_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "cond.h"
#include "db_pack.h"
#include "ingest.h"
#include "pack_reader.h"
#include "rewrite.h"

#define READER_FDS     4
#define REST_NAP_MS    100  /* while there is none */
#define LOOK_MS        5000 /* how often an idle server looks for packs that have gone cold */
#define SUMS_MS        5000
#define RUN_LOOK_MS    200
#define RUN_OPEN_MS    15000 /* and for packs that are being written: workers seal in 5 s */
#define RELEASE_MS     30000 /* without work: threads and memory go */
#define BACKOFF_MS_MIN 1000u
#define BACKOFF_MS_MAX 300000u
#define SKIP_MS        3600000u

/* ---- words ---- */

const char *
recompress_state_name(enum recompress_state state)
{
	static const char *const names[RECOMPRESS_STATES] = {
		[RECOMPRESS_OFF] = "off",
		[RECOMPRESS_WAITING] = "waiting",
		[RECOMPRESS_RUNNING] = "running",
		[RECOMPRESS_PAUSED] = "paused",
	};

	return names[state];
}

const char *
recompress_reason_name(enum recompress_reason reason)
{
	static const char *const names[] = {
		[RECOMPRESS_NO_REASON] = "none",
		[RECOMPRESS_DISABLED] = "disabled",
		[RECOMPRESS_ASKED] = "asked",
		[RECOMPRESS_BUSY] = "busy",
		[RECOMPRESS_NOTHING_TO_DO] = "nothing-to-do",
		[RECOMPRESS_NO_SPACE] = "disk-full",
		[RECOMPRESS_NO_DATABASE] = "database-unavailable",
		[RECOMPRESS_FAILURE] = "failed",
	};

	return names[reason];
}

/* ---- what others see and say ---- */

void
recompress_set_state(struct recompress *r, enum recompress_reason reason)
{
	enum recompress_state state = RECOMPRESS_WAITING;

	if (reason == RECOMPRESS_NO_REASON)
		state = RECOMPRESS_RUNNING;
	else if (reason == RECOMPRESS_ASKED)
		state = RECOMPRESS_PAUSED;
	pthread_mutex_lock(&r->mtx);
	r->stats.state = state;
	r->stats.reason = reason;
	pthread_mutex_unlock(&r->mtx);
}

bool
recompress_is_stopping(struct recompress *r)
{
	pthread_mutex_lock(&r->mtx);
	bool stop = r->stop;
	pthread_mutex_unlock(&r->mtx);
	return stop;
}

void
recompress_nap(struct recompress *r, unsigned ms)
{
	uint64_t until = clock_mono_ns() + ms * MS;

	pthread_mutex_lock(&r->mtx);
	if (!r->stop && r->kicks == r->kicks_seen)
		cond_wait_until(&r->kick, &r->mtx, until);
	r->kicks_seen = r->kicks;
	pthread_mutex_unlock(&r->mtx);
}

void
recompress_stats(struct recompress *r, struct recompress_stats *out)
{
	pthread_mutex_lock(&r->mtx);
	*out = r->stats;
	out->is_run = r->run;
	/* what was asked for is true from then on, though the leader may not have seen it */
	if (r->paused) {
		out->state = RECOMPRESS_PAUSED;
		out->reason = RECOMPRESS_ASKED;
	} else if (out->state == RECOMPRESS_PAUSED) {
		out->state = RECOMPRESS_WAITING;
		out->reason = RECOMPRESS_BUSY;
	}
	pthread_mutex_unlock(&r->mtx);
}

enum rc
recompress_control(struct recompress *r, enum recompress_action action, struct err *err)
{
	if (!r->started)
		return err_set(err, RC_CONFLICT, "recompression-off",
			"recompression is off: recompress_cpu_percent is 0");
	pthread_mutex_lock(&r->mtx);
	r->paused = action == RECOMPRESS_PAUSE;
	if (action == RECOMPRESS_RUN) {
		r->run = true;
		r->runs++;
	}
	r->kicks++;
	pthread_cond_broadcast(&r->kick);
	pthread_mutex_unlock(&r->mtx);
	return RC_OK;
}

/* ---- failures ---- */

void
recompress_skip(struct recompress *r, uint64_t pack_id)
{
	r->skipped[r->skip_next] = (struct skipped){pack_id, clock_mono_ns() + SKIP_MS * MS};
	r->skip_next = (r->skip_next + 1) % SKIP_MAX;
}

static void
back_off(struct recompress *r, const struct err *err)
{
	unsigned ms = BACKOFF_MS_MAX;

	if (r->failures < 8 && BACKOFF_MS_MIN << r->failures < ms)
		ms = BACKOFF_MS_MIN << r->failures;
	r->failures++;
	r->retry_ns = clock_mono_ns() + ms * MS;
	r->retry_reason = err->rc == RC_UNAVAILABLE ? RECOMPRESS_NO_DATABASE
			  : err->rc == RC_FULL      ? RECOMPRESS_NO_SPACE
						    : RECOMPRESS_FAILURE;
	pthread_mutex_lock(&r->mtx);
	r->stats.failures++;
	snprintf(r->stats.error, sizeof r->stats.error, "%.*s", (int)sizeof r->stats.error - 1,
		err->text);
	pthread_mutex_unlock(&r->mtx);
}

static void
forget_failures(struct recompress *r)
{
	if (r->failures == 0)
		return;
	r->failures = 0;
	r->retry_ns = 0;
	pthread_mutex_lock(&r->mtx);
	r->stats.error[0] = '\0';
	pthread_mutex_unlock(&r->mtx);
}

/* ---- sums and runs ---- */

static enum rc
read_sums(struct recompress *r, struct err *err)
{
	struct squeeze_sums s = {0};

	enum rc rc = db_squeeze_sums(r->options.db, r->run_id_max, &s, err);
	if (rc != RC_OK)
		return rc;
	r->summed_ns = clock_mono_ns();
	r->open_packs = s.open_packs;
	pthread_mutex_lock(&r->mtx);
	struct recompress_stats *o = &r->stats;
	o->is_known = true;
	o->total_packs_before = s.packs_before;
	o->total_packs_after = s.packs_after;
	o->total_bytes_before = s.bytes_before;
	o->total_bytes_after = s.bytes_after;
	o->total_raw_bytes = s.raw_bytes;
	o->total_frames = s.frames;
	o->total_cpu_us = s.cpu_us;
	o->left_packs = s.left_packs;
	o->left_bytes = s.left_bytes;
	o->left_gain = s.left_gain;
	o->left_unknown = s.left_unknown;
	o->retired_packs = s.retired_packs;
	o->retired_bytes = s.retired_bytes;
	pthread_mutex_unlock(&r->mtx);
	return RC_OK;
}

/* Has somebody asked for a run? What failed before gets its chance. */
static void
notice_run(struct recompress *r)
{
	pthread_mutex_lock(&r->mtx);
	uint64_t runs = r->runs;
	pthread_mutex_unlock(&r->mtx);
	if (runs == r->run_seen)
		return;
	r->run_seen = runs;
	r->run_is_new = true;
	memset(r->skipped, 0, sizeof r->skipped);
	forget_failures(r);
}

/* A run is about the packs there are when it begins. */
static enum rc
begin_run(struct recompress *r, struct err *err)
{
	if (!r->run_is_new)
		return RC_OK;
	if (r->options.ingest != NULL)
		ingest_seal_soon(r->options.ingest);
	enum rc rc = db_pack_last_id(r->options.db, &r->run_id_max, err);
	if (rc != RC_OK)
		return rc;
	r->run_is_new = false;
	r->run_open_until_ns = clock_mono_ns() + RUN_OPEN_MS * MS;
	return RC_OK;
}

/* Nothing is left to do. Packs that workers have let go of will be sealed in a moment. */
static void
end_run(struct recompress *r)
{
	struct err ignored = ERR_INIT;

	if (read_sums(r, &ignored) != RC_OK)
		return;
	pthread_mutex_lock(&r->mtx);
	if (r->runs == r->run_seen &&
		(r->open_packs == 0 || clock_mono_ns() >= r->run_open_until_ns))
		r->run = false;
	pthread_mutex_unlock(&r->mtx);
}

static bool
is_run(struct recompress *r)
{
	pthread_mutex_lock(&r->mtx);
	bool run = r->run;
	pthread_mutex_unlock(&r->mtx);
	return run;
}

/* ---- the leader ---- */

static void
report_failure(struct recompress *r, const struct err *err)
{
	const struct recompress_event event = {.outcome = RECOMPRESS_FAILED, .err = err};

	/* the database's absence is told by those who look after it */
	if (r->options.report != NULL && err->rc != RC_UNAVAILABLE && err->rc != RC_AGAIN)
		r->options.report(r->options.arg, &event);
}

static enum rc
choose(struct recompress *r, struct job_sources *sources, bool *looked, struct err *err)
{
	enum rc rc = begin_run(r, err);

	if (rc == RC_OK)
		rc = choose_look(r, looked, err);
	if (rc == RC_OK)
		rc = choose_next(r, sources, err);
	if (rc != RC_OK)
		report_failure(r, err);
	return rc;
}

/* RC_NOT_FOUND: there is nothing to do. */
static enum rc
work(struct recompress *r, struct err *err)
{
	struct job_sources *sources = calloc(1, sizeof *sources);
	bool looked = false;

	if (sources == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	enum rc rc = choose(r, sources, &looked, err);
	if (rc == RC_OK && sources->count > 0) {
		rc = job_run(r, sources, err);
		r->summed_ns = 0;
	} else if (rc == RC_OK && !looked) {
		rc = err_set(err, RC_NOT_FOUND, NULL, "there is nothing to do");
	}
	free(sources);
	r->worked_ns = clock_mono_ns();
	return rc;
}

static void
rest(struct recompress *r, enum recompress_reason why, unsigned ms)
{
	recompress_set_state(r, why);
	if (clock_mono_ns() - r->worked_ns >= RELEASE_MS * MS)
		recompress_release(r);
	recompress_nap(r, ms);
}

static void
look_after_sums(struct recompress *r)
{
	struct err ignored = ERR_INIT;
	uint64_t now = clock_mono_ns();

	if (r->summed_ns != 0 && now - r->summed_ns < SUMS_MS * MS)
		return;
	if (read_sums(r, &ignored) != RC_OK)
		r->summed_ns = now; /* what was known stays */
}

static enum recompress_reason
why_not(struct recompress *r)
{
	struct err ignored = ERR_INIT;

	enum recompress_reason why = recompress_obstacle(r);
	if (why == RECOMPRESS_NO_REASON && clock_mono_ns() < r->retry_ns)
		why = r->retry_reason;
	if (why == RECOMPRESS_NO_REASON && recompress_check_space(r, &ignored) == RC_FULL)
		why = RECOMPRESS_NO_SPACE;
	return why;
}

/* Also while the server is busy or the disk is full: they take space, and the sweeping of dropped
 * repositories waits for them. */
static void
clean_leftovers(struct recompress *r)
{
	struct err ignored = ERR_INIT;
	uint64_t now = clock_mono_ns();

	if (!r->has_leftovers || now < r->clean_ns)
		return;
	r->clean_ns = now + LOOK_MS * MS;
	r->has_leftovers = rewrite_clean(r->options.db, r->options.packs, NULL, &ignored) != RC_OK;
}

static void
round_of_work(struct recompress *r)
{
	uint64_t worked_ns = r->worked_ns;
	struct err err = ERR_INIT;

	notice_run(r);
	clean_leftovers(r);
	look_after_sums(r);
	enum recompress_reason why = why_not(r);
	if (why != RECOMPRESS_NO_REASON) {
		rest(r, why, REST_NAP_MS);
		return;
	}
	enum rc rc = work(r, &err);
	if (rc == RC_NOT_FOUND) {
		r->worked_ns = worked_ns;
		forget_failures(r);
		if (is_run(r))
			end_run(r);
		rest(r, RECOMPRESS_NOTHING_TO_DO, is_run(r) ? RUN_LOOK_MS : LOOK_MS);
	} else if (rc == RC_OK) {
		forget_failures(r);
	} else if (rc != RC_AGAIN) {
		back_off(r, &err);
	}
}

static void *
leader_main(void *arg)
{
	struct recompress *r = arg;

	while (!recompress_is_stopping(r))
		round_of_work(r);
	recompress_release(r);
	return NULL;
}

/* ---- opening and closing ---- */

static void
divide_budget(struct recompress *r)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned budget = r->options.cpu_percent * (unsigned)(cores < 1 ? 1 : cores);

	r->threads = (budget + 99) / 100;
	if (r->threads > SQUEEZER_THREADS_MAX)
		r->threads = SQUEEZER_THREADS_MAX;
	r->duty_percent = r->threads > 0 ? budget / r->threads : 0;
	if (r->duty_percent > 100)
		r->duty_percent = 100;
	r->stats = (struct recompress_stats){
		.state = r->threads > 0 ? RECOMPRESS_WAITING : RECOMPRESS_OFF,
		.reason = r->threads > 0 ? RECOMPRESS_BUSY : RECOMPRESS_DISABLED,
		.threads = r->threads,
		.level = r->options.level,
		.cpu_percent = r->options.cpu_percent,
	};
}

static enum rc
start(struct recompress *r, struct err *err)
{
	enum rc rc = pack_readers_open(r->options.packs, READER_FDS, &r->readers, err);

	if (rc != RC_OK)
		return rc;
	r->tools = (struct source_tools){r->options.db, r->options.packs, r->readers};
	r->active_ns = clock_mono_ns();
	/* the last statement of a process that died may have been carried out after recovery */
	r->has_leftovers = true;
	int e = pthread_create(&r->leader, NULL, leader_main, r);
	if (e != 0)
		return err_errno(err, e, "start recompression", NULL);
	r->started = true;
	return RC_OK;
}

enum rc
recompress_open(const struct recompress_options *options, struct recompress **out, struct err *err)
{
	enum rc rc = RC_OK;

	*out = NULL;
	struct recompress *r = calloc(1, sizeof *r);
	if (r == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	r->options = *options;
	pthread_mutex_init(&r->mtx, NULL);
	cond_init(&r->kick);
	divide_budget(r);
	if (r->threads > 0)
		rc = start(r, err);
	if (rc != RC_OK) {
		recompress_close(r);
		return rc;
	}
	*out = r;
	return RC_OK;
}

void
recompress_close(struct recompress *r)
{
	if (r == NULL)
		return;
	pthread_mutex_lock(&r->mtx);
	r->stop = true;
	pthread_cond_broadcast(&r->kick);
	pthread_mutex_unlock(&r->mtx);
	if (r->started)
		pthread_join(r->leader, NULL);
	pack_readers_free(r->readers);
	pthread_cond_destroy(&r->kick);
	pthread_mutex_destroy(&r->mtx);
	free(r);
}
