/* SPDX-License-Identifier: Apache-2.0 */
#include "ingest.h"

#include <stdlib.h>

#include "codec.h"
#include "cond.h"
#include "db.h"
#include "ingest_internal.h"

#define QUEUE_BLOCKS 32768 /* more than the slabs and end markers there can be */

static enum rc
worker_open(struct ingest *in, unsigned number, struct err *err)
{
	struct worker *w = &in->workers[number];

	w->in = in;
	w->number = number;
	packs_set_init(&w->packs);
	/* a frame ends with the chunk that reaches FRAME_BYTES, so it may be one chunk longer */
	size_t raw = FRAME_BYTES + ((size_t)256 << 10);
	w->frame_out_cap = codec_bound(raw);
	w->frame_raw = malloc(raw);
	w->frame_out = malloc(w->frame_out_cap);
	if (w->frame_raw == NULL || w->frame_out == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	enum rc rc = codec_open(&w->codec, err);
	if (rc != RC_OK)
		return rc;
	int e = pthread_create(&w->thread, NULL, worker_main, w);
	if (e != 0)
		return err_errno(err, e, "start a worker", NULL);
	w->started = true;
	return RC_OK;
}

static void
worker_free(struct worker *w)
{
	codec_free(w->codec);
	free(w->frame_raw);
	free(w->frame_out);
}

static enum rc
start_committer(struct ingest *in, struct err *err)
{

	pthread_mutex_init(&in->commit_mtx, NULL);
	cond_init(&in->commit_work);
	pthread_cond_init(&in->commit_room, NULL);
	in->batches_end = &in->batches;
	in->riders_end = &in->riders;
	int e = pthread_create(&in->committer, NULL, committer_main, in);
	return e == 0 ? RC_OK : err_errno(err, e, "start the committer", NULL);
}

enum rc
ingest_open(const struct ingest_options *options, struct ingest **out, struct err *err)
{
	struct ingest *in = calloc(1, sizeof *in);
	enum rc rc;

	if (in == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	struct filter_options filter = {
		.db = options->db,
		.bytes_max = options->filter_bytes_max,
		.path = options->filter_path,
	};
	in->options = *options;
	in->worker_count = options->workers > WORKERS_MAX ? WORKERS_MAX : options->workers;
	ingest_knobs_init(in);
	packs_set_init(&in->shared);
	pressure_init(&in->pressure);
	atomic_init(&in->rung, in->pressure.rung);
	idle_clock_open(&in->idle);
	atomic_init(&in->level_now, options->level);
	if ((rc = slab_pool_open(options->slab_bytes, &in->slabs, err)) != RC_OK ||
		(rc = known_open(options->known_bytes, &in->known, err)) != RC_OK ||
		(rc = ring_open(QUEUE_BLOCKS, &in->queue, err)) != RC_OK ||
		(rc = filter_open(&filter, &in->filter, err)) != RC_OK ||
		(rc = ahead_open(options->db, in->known, &in->ahead, err)) != RC_OK ||
		(rc = packs_start(in, err)) != RC_OK) {
		/* a start that fails ends the process */
		return rc;
	}
	if ((rc = start_committer(in, err)) != RC_OK)
		return rc;
	for (unsigned i = 0; i < in->worker_count; i++)
		if ((rc = worker_open(in, i, err)) != RC_OK)
			return rc;
	if ((rc = filter_start(in->filter, err)) != RC_OK)
		return rc;
	*out = in;
	return RC_OK;
}

/* Order: workers drain the queue and let go of their packs; the committer writes what they handed
 * over and lets go as well; then the sealer has everything. */
void
ingest_close(struct ingest *in)
{
	if (in == NULL)
		return;
	atomic_store(&in->stopping, true);
	ring_close(in->queue);
	for (unsigned i = 0; i < in->worker_count; i++) {
		if (in->workers[i].started)
			pthread_join(in->workers[i].thread, NULL);
		worker_free(&in->workers[i]);
	}
	ahead_close(in->ahead);
	packs_close_idle(in, &in->shared, 0);
	pthread_mutex_lock(&in->commit_mtx);
	in->commit_stop = true;
	pthread_cond_signal(&in->commit_work);
	pthread_mutex_unlock(&in->commit_mtx);
	pthread_join(in->committer, NULL);
	packs_stop(in);
	filter_close(in->filter); /* after the last row was added: it is saved as it is now */
	idle_clock_close(&in->idle);
	ring_free(in->queue);
	known_free(in->known);
	slab_pool_free(in->slabs);
	free(in);
}

void
ingest_seal_soon(struct ingest *in)
{
	atomic_fetch_add(&in->seals, 1);
}

void
ingest_forget(struct ingest *in)
{
	known_forget_all(in->known);
}

void
ingest_chunks_gone(struct ingest *in, uint64_t count)
{
	filter_keys_gone(in->filter, count);
}

void
ingest_filter_rebuild(struct ingest *in)
{
	filter_rebuild(in->filter);
}

void
ingest_commit_wait(const struct ingest *in, struct histogram_view *out)
{
	histogram_read(&in->commit_wait, out);
}

static uint64_t
load(const _Atomic uint64_t *v)
{
	return meter_get(v);
}

void
ingest_stats(struct ingest *in, struct ingest_stats *out)
{
	*out = (struct ingest_stats){
		.slab_used_bytes = slab_used_bytes(in->slabs),
		.slab_peak_bytes = slab_peak_bytes(in->slabs),
		.slab_max_bytes = slab_bytes_max(in->slabs),
		.slab_waiting = slab_waiting(in->slabs),
		.queue_len = ring_len(in->queue),
		.pending_chunks = known_pending(in->known),
		.groups = load(&in->groups),
		.group_files = load(&in->group_files),
		.group_chunks = load(&in->group_chunks),
		.filter_negative = load(&in->filter_negative),
		.known_hits = load(&in->known_hits),
		.sql_lookups = load(&in->sql_lookups),
		.sql_hits = load(&in->sql_hits),
		.ahead_rows = ahead_rows(in->ahead),
		.ahead_hits = known_ahead_hits(in->known),
		.frames_raw = load(&in->frames_raw),
		.frames_zstd = load(&in->frames_zstd),
		.received_bytes = load(&in->total.received_bytes),
		.new_bytes = load(&in->total.new_bytes),
		.stored_bytes = load(&in->total.stored_bytes),
		.durable_bytes = load(&in->total.durable_bytes),
		.level = atomic_load(&in->level_now),
	};
	filter_stats(in->filter, &out->filter);
	for (int s = 0; s < METER_STAGES; s++)
		out->busy_ns[s] = load(&in->total.stage_ns[s]);
	pthread_mutex_lock(&in->commit_mtx);
	out->commit_queue = in->batch_count;
	pthread_mutex_unlock(&in->commit_mtx);
}
