/* SPDX-License-Identifier: Apache-2.0 */
/* Whether there may be work at this moment; and the threads that compress, which are held when
 * there may not. */
#include "recompress_internal.h"

#include "background.h"
#include "clock.h"
#include "db_repo.h"
#include "pack_dir.h"

#define HELD_NAP_MS 20    /* between two looks while a job waits */
#define CHECK_MS    2000  /* how often a job looks whether its repository and the space are there */
#define RUN_IDLE_MS 100   /* a run waits so long after other work, however long idle means */
#define TABLES_MS   10000 /* held: the tables of the threads go */

/* ---- may it work? ---- */

static bool
is_idle(struct recompress *r, bool run)
{
	struct recompress_activity a = {.is_busy = false};
	uint64_t now = clock_mono_ns();

	r->options.look(r->options.arg, &a);
	if (a.is_busy || a.events != r->events) {
		r->events = a.events;
		r->active_ns = now;
	}
	return !a.is_busy && now - r->active_ns >= (run ? RUN_IDLE_MS * MS : r->options.idle_ns);
}

enum recompress_reason
recompress_obstacle(struct recompress *r)
{
	pthread_mutex_lock(&r->mtx);
	bool paused = r->paused;
	bool run = r->run;
	pthread_mutex_unlock(&r->mtx);
	/* looked at in any case, so that the clock of idleness is right */
	bool idle = is_idle(r, run);
	if (paused)
		return RECOMPRESS_ASKED;
	return idle ? RECOMPRESS_NO_REASON : RECOMPRESS_BUSY;
}

static void
hold(struct recompress *r, bool is_held)
{
	if (r->is_held == is_held || r->squeezer == NULL)
		return;
	squeezer_hold(r->squeezer, is_held);
	r->is_held = is_held;
	if (!is_held)
		return;
	pthread_mutex_lock(&r->mtx);
	r->stats.yields++;
	pthread_mutex_unlock(&r->mtx);
}

enum rc
recompress_check_space(struct recompress *r, struct err *err)
{
	uint64_t free_bytes = 0;

	enum rc rc = pack_dir_space(r->options.packs, &free_bytes, err);
	if (rc == RC_OK && free_bytes < r->options.free_bytes_min)
		rc = err_set(err, RC_FULL, "disk-full", "too little space is free");
	return rc;
}

/* That the database is away is no reason to give a pack up. */
static enum rc
check_repo(struct recompress *r, uint64_t repo_id, struct err *err)
{
	struct err ignored = ERR_INIT;
	bool is_live = true;

	if (db_repo_is_live(r->options.db, repo_id, &is_live, &ignored) != RC_OK || is_live)
		return RC_OK;
	return err_set(err, RC_NOT_FOUND, "repo-not-found", "the repository was dropped");
}

static enum rc
check_job(struct recompress *r, uint64_t repo_id, struct err *err)
{
	uint64_t now = clock_mono_ns();

	if (repo_id == 0 || now - r->checked_ns < CHECK_MS * MS)
		return RC_OK;
	r->checked_ns = now;
	enum rc rc = check_repo(r, repo_id, err);
	return rc == RC_OK ? recompress_check_space(r, err) : rc;
}

enum rc
recompress_permit(struct recompress *r, uint64_t repo_id, struct err *err)
{
	for (;;) {
		if (recompress_is_stopping(r))
			return err_set(err, RC_AGAIN, NULL, "the server stops");
		enum recompress_reason why = recompress_obstacle(r);
		hold(r, why != RECOMPRESS_NO_REASON);
		recompress_set_state(r, why);
		enum rc rc = check_job(r, repo_id, err);
		if (rc != RC_OK || why == RECOMPRESS_NO_REASON)
			return rc;
		recompress_nap(r, HELD_NAP_MS);
	}
}

/* ---- threads that compress ---- */

enum rc
recompress_squeezer(struct recompress *r, struct squeezer **out, struct err *err)
{
	const struct squeezer_options options = {
		.threads = r->threads,
		.level = r->options.level,
		.duty_percent = r->duty_percent,
		.release_ms = TABLES_MS,
	};
	enum rc rc = RC_OK;

	if (r->squeezer == NULL) {
		r->is_held = false;
		rc = squeezer_open(&options, &r->squeezer, err);
	}
	*out = r->squeezer;
	return rc;
}

void
recompress_release(struct recompress *r)
{
	if (r->squeezer == NULL)
		return;
	squeezer_free(r->squeezer);
	r->squeezer = NULL;
	background_give_memory();
}
