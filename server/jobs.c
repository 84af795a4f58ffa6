/* SPDX-License-Identifier: Apache-2.0 */
#include "jobs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <time.h>

#include "clock.h"
#include "cond.h"
#include "config.h"
#include "db.h"
#include "db_history.h"
#include "imports.h"
#include "log.h"
#include "pack_dir.h"
#include "pack_reader.h"
#include "pilot.h"
#include "retire.h"
#include "services.h"
#include "unpack_threads.h"
#include "work.h"

#define TICK_NS          ((uint64_t)250 * 1000000)
#define LOOK_NS          ((uint64_t)1000 * 1000000)
#define SWEEP_NS         ((uint64_t)5000 * 1000000)
#define EXPIRE_NS        ((uint64_t)3600 * 1000000000)
#define KEY_LIFE_US      ((int64_t)7 * 24 * 3600 * 1000000) /* an Idempotency-Key is remembered */
#define IMPORT_LIFE_US   KEY_LIFE_US /* what became of an import is told as long as a key is kept */
#define STORAGE_FREE_MIN ((uint64_t)128 << 20) /* below: two packs and some WAL do not fit */
/* Replaced packs stay for a while, so recompression needs room before it gives some back. */
#define RECOMPRESS_FREE_MIN ((uint64_t)512 << 20)

struct jobs {
	struct jobs_options options;
	pthread_t thread;
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	bool stop;
	/* owned by the thread */
	uint64_t looked_ns, swept_ns, retired_ns, expired_ns;
	bool database_was_away, storage_was_full;
};

static enum rc
remove_pack(void *arg, uint64_t pack_id, struct err *err)
{
	struct jobs *j = arg;

	pack_readers_forget(j->options.readers, pack_id);
	return pack_remove(j->options.packs, pack_id, err);
}

static void
look(struct jobs *j)
{
	struct readiness *r = &j->options.srv->readiness;
	struct err err = ERR_INIT;
	struct statvfs fs;

	bool away = db_ping(j->options.srv->db, &err) != RC_OK;
	atomic_store(&r->database, away ? "the database does not answer" : NULL);
	if (away != j->database_was_away)
		log_event(away ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
			away ? "database_away" : "database_back", "detail=\"%s\"", err.detail);
	j->database_was_away = away;
	if (statvfs(j->options.data_dir, &fs) != 0)
		return;
	uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
	bool full = left < STORAGE_FREE_MIN || (fs.f_files > 0 && fs.f_favail < 64);
	atomic_store(&r->storage, full ? "the disk of the data directory is nearly full" : NULL);
	if (full != j->storage_was_full)
		log_event(full ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO,
			full ? "disk_full" : "disk_has_space", "free_bytes=%llu free_inodes=%llu",
			(unsigned long long)left, (unsigned long long)fs.f_favail);
	j->storage_was_full = full;
}

static void
sweep(struct jobs *j)
{
	struct repo_swept swept;

	/* one batch a round, so that ticks go on */
	struct err err = ERR_INIT;
	if (repo_sweep(j->options.srv->repos, remove_pack, j, &swept, &err) != RC_OK &&
		err.rc != RC_UNAVAILABLE)
		log_event(LOG_LEVEL_WARN, "sweep_failed", "rc=%s text=\"%s\" detail=\"%s\"",
			rc_name(err.rc), err.text, err.detail);
	if (swept.chunks > 0)
		ingest_chunks_gone(j->options.srv->ingest, swept.chunks);
	j->swept_ns = clock_mono_ns() - (swept.more && err.rc == RC_OK ? SWEEP_NS : 0);
}

/* One line a decision. */
static void
tell_decisions(struct jobs *j)
{
	struct decision d;

	while (pilot_news(j->options.srv->pilot, &d, 1) == 1)
		log_event(LOG_LEVEL_INFO, "tuner",
			"class=%s knob=%s from=%lld to=%lld decision=%s before=%.0f after=%.0f "
			"unit=%s pairs=%u reason=\"%s\"",
			load_class_name(d.class), d.knob, (long long)d.from, (long long)d.to,
			decision_name(d.kind), d.before, d.after, load_class_unit(d.class), d.pairs,
			d.reason);
}

static void
save_learnt(struct jobs *j)
{
	struct err err = ERR_INIT;

	if (pilot_save(j->options.srv->pilot, &err) != RC_OK && err.rc != RC_UNAVAILABLE)
		log_event(LOG_LEVEL_WARN, "tuner_not_saved", "rc=%s text=\"%s\" detail=\"%s\"",
			rc_name(err.rc), err.text, err.detail);
}

static void
retire(struct jobs *j)
{
	const struct retire_options options = {
		.db = j->options.srv->db,
		.packs = j->options.packs,
		.readers = j->options.readers,
		.grace_us = j->options.config->pack_grace_ms * 1000,
	};
	struct retire_report report;
	struct err err = ERR_INIT;

	if (retire_packs(&options, &report, &err) != RC_OK && err.rc != RC_UNAVAILABLE)
		log_event(LOG_LEVEL_WARN, "retire_failed", "rc=%s text=\"%s\" detail=\"%s\"",
			rc_name(err.rc), err.text, err.detail);
	/* what is needed still is found again and again */
	if (report.removed + report.kept > 0)
		log_event(report.removed > 0 ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "packs_removed",
			"removed=%llu bytes=%llu still_needed=%llu",
			(unsigned long long)report.removed, (unsigned long long)report.bytes,
			(unsigned long long)report.kept);
	j->retired_ns = clock_mono_ns() - (report.more ? SWEEP_NS : 0);
}

static void
round_of_work(struct jobs *j)
{
	uint64_t now = clock_mono_ns();

	stages_tick(j->options.srv->stages);
	tell_decisions(j);
	if (now - j->looked_ns >= LOOK_NS) {
		look(j);
		j->looked_ns = now;
	}
	if (j->database_was_away)
		return;
	imports_tick(j->options.srv->imports);
	if (now - j->swept_ns >= SWEEP_NS)
		sweep(j);
	save_learnt(j);
	if (now - j->retired_ns >= SWEEP_NS)
		retire(j);
	if (now - j->expired_ns >= EXPIRE_NS) {
		struct err err = ERR_INIT;
		db_idempotency_expire(j->options.srv->db, clock_wall_us() - KEY_LIFE_US, &err);
		err_clear(&err);
		imports_expire(j->options.srv->imports, clock_wall_us() - IMPORT_LIFE_US, &err);
		j->expired_ns = now;
	}
}

/* ---- recompression ---- */

/* Watching, listing and metrics are no work: a dashboard must not keep the server busy. */
static void
look_at_work(void *arg, struct recompress_activity *out)
{
	const struct server_ctx *srv = ((struct jobs *)arg)->options.srv;
	struct work_stats ops = work_stats(srv->work);
	struct ingest_stats in;
	struct read_stats reads;

	ingest_stats(srv->ingest, &in);
	read_service_stats(srv->reads, &reads);
	*out = (struct recompress_activity){
		.is_busy = in.queue_len > 0 || in.commit_queue > 0 || in.slab_waiting > 0 ||
			   in.pending_chunks > 0 || ops.running > 0 || ops.queued > 0 ||
			   unpack_threads_running() > 0,
		.events = in.received_bytes + in.groups + reads.frame_hits + reads.frame_misses +
			  reads.chunks_verified + reads.chunks_proven + reads.bytes_direct,
	};
}

static void
log_outcome(void *arg, const struct recompress_event *e)
{
	(void)arg;
	switch (e->outcome) {
	case RECOMPRESS_DONE:
		log_event(e->bad_frames > 0 ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "pack_recompressed",
			"repo=%llu pack=%016llx packs=%zu new_pack=%016llx bytes_before=%llu "
			"bytes_after=%llu raw_bytes=%llu chunks=%llu moved=%llu bad_frames=%llu "
			"cpu_ms=%llu",
			(unsigned long long)e->repo_id, (unsigned long long)e->pack_id,
			e->pack_count, (unsigned long long)e->new_pack_id,
			(unsigned long long)e->bytes_before, (unsigned long long)e->bytes_after,
			(unsigned long long)e->raw_bytes, (unsigned long long)e->chunks,
			(unsigned long long)e->chunks_moved, (unsigned long long)e->bad_frames,
			(unsigned long long)(e->cpu_ns / 1000000));
		break;
	case RECOMPRESS_LEFT:
		log_event(e->bad_frames > 0 ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, "pack_left",
			"repo=%llu pack=%016llx bytes=%llu bad_frames=%llu",
			(unsigned long long)e->repo_id, (unsigned long long)e->pack_id,
			(unsigned long long)e->bytes_before, (unsigned long long)e->bad_frames);
		break;
	case RECOMPRESS_FAILED:
		log_event(LOG_LEVEL_WARN, "recompression_failed",
			"pack=%016llx rc=%s text=\"%s\" detail=\"%s\"",
			(unsigned long long)e->pack_id, rc_name(e->err->rc), e->err->text,
			e->err->detail);
		break;
	}
}

static enum rc
open_recompress(struct jobs *j, struct err *err)
{
	const struct config *c = j->options.config;
	const struct recompress_options options = {
		.db = j->options.srv->db,
		.packs = j->options.packs,
		.ingest = j->options.srv->ingest,
		.level = (int)c->recompress_level,
		.cpu_percent = (unsigned)c->recompress_cpu_percent,
		.after_us = c->recompress_after_ms * 1000,
		.idle_ns = c->recompress_idle_ms * 1000000,
		.pack_bytes = c->pack_bytes,
		.pack_direct = c->pack_direct,
		.free_bytes_min = RECOMPRESS_FREE_MIN,
		.look = look_at_work,
		.report = log_outcome,
		.arg = j,
	};

	return recompress_open(&options, &j->options.srv->recompress, err);
}

/* ---- the thread ---- */

static void *
jobs_main(void *arg)
{
	struct jobs *j = arg;

	pthread_mutex_lock(&j->mtx);
	while (!j->stop) {
		pthread_mutex_unlock(&j->mtx);
		round_of_work(j);
		uint64_t until = clock_mono_ns() + TICK_NS;
		pthread_mutex_lock(&j->mtx);
		if (!j->stop)
			cond_wait_until(&j->cond, &j->mtx, until);
	}
	pthread_mutex_unlock(&j->mtx);
	return NULL;
}

enum rc
jobs_start(const struct jobs_options *options, struct jobs **out, struct err *err)
{
	struct jobs *j = calloc(1, sizeof *j);

	if (j == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	j->options = *options;
	pthread_mutex_init(&j->mtx, NULL);
	cond_init(&j->cond);
	enum rc rc = open_recompress(j, err);
	int e = rc == RC_OK ? pthread_create(&j->thread, NULL, jobs_main, j) : 0;
	if (e != 0)
		rc = err_errno(err, e, "start the jobs", NULL);
	if (rc != RC_OK) {
		recompress_close(j->options.srv->recompress);
		j->options.srv->recompress = NULL;
		free(j);
		return rc;
	}
	*out = j;
	return RC_OK;
}

void
jobs_stop(struct jobs *j)
{
	if (j == NULL)
		return;
	pthread_mutex_lock(&j->mtx);
	j->stop = true;
	pthread_cond_signal(&j->cond);
	pthread_mutex_unlock(&j->mtx);
	pthread_join(j->thread, NULL);
	recompress_close(j->options.srv->recompress);
	j->options.srv->recompress = NULL;
	free(j);
}
