/* SPDX-License-Identifier: Apache-2.0 */
/* One rewrite: packs in, packs out, and what is said about it. recompress_frame.c takes the frames.
 */
#include "recompress_internal.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "codec.h"
#include "db_chunk.h"
#include "ingest.h"
#include "pack_reader.h"

static enum rc
no_memory(struct err *err)
{
	return err_set(err, RC_NOMEM, "no-memory", "out of memory");
}

static enum rc
permit(struct job *j, struct err *err)
{
	return recompress_permit(j->r, j->chosen->packs[0].repo_id, err);
}

/* ---- sources ---- */

static enum rc
open_source(struct job *j, size_t i, struct err *err)
{
	const struct squeeze_pack *p = &j->chosen->packs[i];
	struct source *s = NULL;

	enum rc rc = source_open(&j->r->tools, p->id, p->repo_id, &s, err);
	if (rc == RC_NOT_FOUND || rc == RC_TOO_LARGE || (rc == RC_OK && s->is_damaged)) {
		source_free(s);
		err_clear(err);
		return choose_leave(j->r, p, 0, err);
	}
	if (rc == RC_OK)
		rc = source_mark_live(&j->r->tools, s, err);
	/* a new pack must not hold more than a source may */
	if (rc != RC_OK || s->chunk_count > SOURCE_CHUNKS_MAX - j->chunk_count) {
		source_free(s);
		return rc;
	}
	j->chunk_count += s->chunk_count;
	j->sources[i] = s;
	j->source_bytes += p->bytes;
	j->raw_bytes += s->raw_bytes;
	return RC_OK;
}

/* The best one comes first, or it could be left out for want of room each time it is chosen. */
static enum rc
open_sources(struct job *j, struct err *err)
{
	const struct job_sources *c = j->chosen;
	enum rc rc = RC_OK;

	for (size_t n = 0; rc == RC_OK && n <= c->count; n++) {
		size_t i = n == 0 ? c->best : n - 1;
		if (n > 0 && i == c->best)
			continue;
		rc = permit(j, err);
		if (rc == RC_OK)
			rc = open_source(j, i, err);
	}
	for (size_t i = 0; i < c->count; i++)
		if (j->sources[i] != NULL)
			j->ids[j->id_count++] = c->packs[i].id;
	return rc;
}

static enum rc
take_sources(struct job *j, struct err *err)
{
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < j->chosen->count; i++) {
		j->source = j->sources[i];
		if (j->source == NULL)
			continue;
		j->source_is_squeezed = j->chosen->packs[i].squeeze == PACK_RECOMPRESSED;
		for (size_t k = 0; rc == RC_OK && k < j->source->frame_count; k++) {
			j->frame = &j->source->frames[k];
			if (j->frame->live_count > 0)
				rc = job_take_frame(j, err);
		}
	}
	return rc == RC_OK ? job_finish_groups(j, err) : rc;
}

/* ---- the job ---- */

static enum rc
open_tools(struct job *j, struct err *err)
{
	const struct squeeze_pack *first = &j->chosen->packs[0];
	struct rewrite_options options = {
		.db = j->r->options.db,
		.packs = j->r->options.packs,
		.readers = j->r->readers,
		.repo_id = first->repo_id,
		.pack_bytes = j->r->options.pack_bytes,
		.expected_bytes = j->source_bytes,
		.direct = j->r->options.pack_direct,
	};

	memcpy(options.repo_uuid, first->repo_uuid, sizeof options.repo_uuid);
	enum rc rc = recompress_squeezer(j->r, &j->squeezer, err);
	if (rc == RC_OK)
		rc = codec_open(&j->codec, err);
	if (rc == RC_OK)
		rc = rewrite_open(&options, &j->rewrite, err);
	if (rc != RC_OK)
		return rc;
	struct squeezer_stats stats;
	squeezer_stats(j->squeezer, &stats);
	j->started_squeezer_ns = stats.cpu_ns;
	j->group_count = j->r->threads + 1;
	j->groups = calloc(j->group_count, sizeof *j->groups);
	return j->groups != NULL ? RC_OK : no_memory(err);
}

static uint64_t
cpu_used(const struct job *j)
{
	struct squeezer_stats stats = {.cpu_ns = 0};

	if (j->squeezer != NULL)
		squeezer_stats(j->squeezer, &stats);
	return clock_thread_cpu_ns() - j->started_cpu_ns + stats.cpu_ns - j->started_squeezer_ns;
}

/* A pack alone that hardly got smaller is not worth the moving of its rows and the cold caches of
 * its readers; what is merged makes files fewer. */
static bool
is_worth_it(const struct job *j)
{
	/* a pack with damage stays, so what of it is unreadable is not saved */
	uint64_t bytes = j->source_bytes > j->bad_bytes ? j->source_bytes - j->bad_bytes : 0;
	uint64_t limit = bytes - bytes / 100 * GAIN_MIN_PERCENT;

	return j->id_count > 1 || rewrite_bytes(j->rewrite) < limit;
}

/* Mark what was found outside of a swap, as a reader would. */
static void
mark_bad(struct job *j)
{
	for (size_t i = 0; i < j->bad_count; i++) {
		const struct chunk_row row = {
			.repo_id = j->chosen->packs[0].repo_id,
			.pack_id = j->bad[i].pack_id,
			.frame_offset = j->bad[i].frame_offset,
		};
		struct err ignored = ERR_INIT; /* a reader will come by */
		db_chunk_mark_bad(j->r->options.db, &row, &ignored);
	}
}

static enum rc
permit_again(void *arg, struct err *err)
{
	return permit(arg, err);
}

static enum rc
swap(struct job *j, struct err *err)
{
	const struct rewrite_end end = {
		.sources = j->ids,
		.source_count = j->id_count,
		.source_bytes = j->source_bytes,
		.squeeze = PACK_RECOMPRESSED,
		.cpu_us = cpu_used(j) / 1000,
		.permit = permit_again,
		.arg = j,
	};
	struct rewrite_result result;

	enum rc rc = rewrite_finish(j->rewrite, &end, &result, err);
	if (rc != RC_OK)
		return rc;
	j->event.outcome = RECOMPRESS_DONE;
	j->event.new_pack_id = result.last_pack;
	j->event.bytes_after = result.bytes;
	j->event.chunks = result.chunks;
	j->event.chunks_moved = result.moved;
	pthread_mutex_lock(&j->r->mtx);
	j->r->stats.packs += j->id_count;
	j->r->stats.new_packs += result.packs;
	j->r->stats.bytes_before += j->source_bytes;
	j->r->stats.bytes_after += result.bytes;
	j->r->stats.frames += result.frames;
	pthread_mutex_unlock(&j->r->mtx);
	return RC_OK;
}

/* The source of that id as it was chosen. */
static const struct squeeze_pack *
chosen_pack(const struct job *j, uint64_t id)
{
	const struct squeeze_pack *p = j->chosen->packs;

	while (p->id != id)
		p++;
	return p;
}

static enum rc
run(struct job *j, struct err *err)
{
	enum rc rc = open_sources(j, err);

	if (rc != RC_OK || j->id_count == 0)
		return rc;
	rc = open_tools(j, err);
	if (rc == RC_OK)
		rc = take_sources(j, err);
	if (rc != RC_OK)
		return rc;
	if (is_worth_it(j))
		return swap(j, err);
	mark_bad(j);
	return choose_leave(j->r, chosen_pack(j, j->ids[0]), j->raw_bytes, err);
}

/* Too much damage: mark what was found, and do not come back. */
static enum rc
give_up(struct job *j, struct err *err)
{
	mark_bad(j);
	err_clear(err);
	return choose_leave(j->r, chosen_pack(j, j->source->pack_id), 0, err);
}

static void
close_job(struct job *j)
{
	/* rows were marked, also by a COMMIT whose answer was lost: an upload of these chunks shall
	 * not be told that they are there */
	if (j->bad_count > 0 && j->r->options.ingest != NULL)
		ingest_forget(j->r->options.ingest);
	if (j->squeezer != NULL)
		squeezer_drop(j->squeezer);
	if (!rewrite_free(j->rewrite))
		j->r->has_leftovers = true;
	for (size_t i = 0; i < j->chosen->count; i++) {
		pack_readers_forget(j->r->readers, j->chosen->packs[i].id);
		source_free(j->sources[i]);
	}
	codec_free(j->codec);
	buf_done(&j->stored);
	free(j->groups);
	free(j->expanded);
	free(j->hash_jobs);
	free(j->hashes);
	free(j->good);
}

static void
report(struct job *j, enum rc rc, const struct err *err)
{
	struct recompress_event *e = &j->event;

	e->cpu_ns = cpu_used(j);
	e->bytes_before = j->source_bytes;
	e->raw_bytes = j->raw_bytes;
	e->pack_count = j->id_count;
	e->bad_frames = j->bad_count;
	pthread_mutex_lock(&j->r->mtx);
	j->r->stats.cpu_ns += e->cpu_ns;
	pthread_mutex_unlock(&j->r->mtx);
	if (rc != RC_OK) {
		e->outcome = RECOMPRESS_FAILED;
		e->err = err;
	}
	/* the end, or a database that is away: told by others */
	bool is_told = rc == RC_OK ? e->outcome == RECOMPRESS_DONE || j->bad_count > 0
				   : rc != RC_AGAIN && rc != RC_UNAVAILABLE;
	if (j->r->options.report != NULL && is_told)
		j->r->options.report(j->r->options.arg, e);
}

static bool
is_packs_fault(enum rc rc)
{
	return rc != RC_OK && rc != RC_AGAIN && rc != RC_UNAVAILABLE && rc != RC_FULL;
}

enum rc
job_run(struct recompress *r, const struct job_sources *sources, struct err *err)
{
	struct job *j = calloc(1, sizeof *j);

	if (j == NULL)
		return no_memory(err);
	j->r = r;
	j->chosen = sources;
	j->started_cpu_ns = clock_thread_cpu_ns();
	j->event = (struct recompress_event){
		.outcome = RECOMPRESS_LEFT,
		.repo_id = sources->packs[0].repo_id,
		.pack_id = sources->packs[0].id,
	};
	buf_init(&j->stored, PACK_FRAME_BYTES_MAX);
	enum rc rc = run(j, err);
	bool gave_up = rc == RC_CORRUPT && j->is_too_damaged;
	if (gave_up)
		rc = give_up(j, err);
	if (is_packs_fault(rc) || gave_up)
		recompress_skip(r, j->source != NULL ? j->source->pack_id : sources->packs[0].id);
	/* somebody else was faster, or the repository is gone: nothing went wrong */
	if (rc == RC_NOT_FOUND || rc == RC_CONFLICT) {
		err_clear(err);
		rc = RC_OK;
	}
	report(j, rc, err);
	close_job(j);
	free(j);
	return rc;
}
