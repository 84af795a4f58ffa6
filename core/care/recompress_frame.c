/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of a pack that is rewritten, in order, verified. What compresses is gathered, chunk by
 * chunk, into groups of up to 1 MiB, which the squeezer works on; what looks random, and what was
 * squeezed before, is copied as it is. Groups are appended in the order they were made. */
#include "recompress_internal.h"

#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "db_repo.h"
#include "pack_reader.h"
#include "sha256.h"

#define WAIT_MS        10                /* between two looks at what the server does */
#define SQUEEZED_BYTES (GROUP_BYTES / 2) /* raw; uploads make no frame so large */

static enum rc
no_memory(struct err *err)
{
	return err_set(err, RC_NOMEM, "no-memory", "out of memory");
}

bool
job_frame_is_squeezed(const struct source_frame *f)
{
	return f->codec != CODEC_RAW && f->raw_bytes >= SQUEEZED_BYTES;
}

/* ---- groups ---- */

static enum rc
permit(struct job *j, struct err *err)
{
	return recompress_permit(j->r, j->chosen->packs[0].repo_id, err);
}

static enum rc
append(struct job *j, struct group *g, struct err *err)
{
	bool packed = g->piece.out_bytes > 0;
	struct iovec stored = {
		.iov_base = packed ? g->out : g->raw,
		.iov_len = packed ? g->piece.out_bytes : g->bytes,
	};
	const struct pack_frame frame = {
		.codec = packed ? CODEC_ZSTD : CODEC_RAW,
		.chunks = g->chunks,
		.chunk_count = g->count,
		.raw_bytes = g->bytes,
		.stored = &stored,
		.stored_count = 1,
		.stored_bytes = stored.iov_len,
	};

	enum rc rc = rewrite_add(j->rewrite, &frame, g->from, err);
	g->is_submitted = false;
	g->count = 0;
	g->bytes = 0;
	return rc;
}

/* Wait for a group, looking what the server does, and append it. */
static enum rc
collect(struct job *j, struct group *g, struct err *err)
{
	enum rc rc = RC_OK;

	if (!g->is_submitted)
		return RC_OK;
	while (rc == RC_OK && !squeezer_wait(j->squeezer, &g->piece, WAIT_MS))
		rc = permit(j, err);
	return rc == RC_OK ? append(j, g, err) : rc;
}

/* Hand over the group that is being filled; the next one is the one that was handed over first. */
static enum rc
submit(struct job *j, struct err *err)
{
	struct group *g = &j->groups[j->filling];

	if (g->count == 0)
		return RC_OK;
	g->piece = (struct squeeze_piece){
		.raw = g->raw,
		.raw_bytes = g->bytes,
		.out = g->out,
		.out_cap = sizeof g->out,
	};
	g->is_submitted = true;
	squeezer_submit(j->squeezer, &g->piece);
	j->filling = (j->filling + 1) % j->group_count;
	return collect(j, &j->groups[j->filling], err);
}

enum rc
job_finish_groups(struct job *j, struct err *err)
{
	enum rc rc = submit(j, err);

	for (unsigned i = 0; rc == RC_OK && i < j->group_count; i++)
		rc = collect(j, &j->groups[(j->filling + i) % j->group_count], err);
	return rc;
}

static enum rc
gather(struct job *j, const struct pack_chunk *chunk, const uint8_t *data, struct err *err)
{
	struct group *g = &j->groups[j->filling];
	enum rc rc = RC_OK;

	if (g->bytes + chunk->length > GROUP_BYTES || g->count == GROUP_CHUNKS_MAX)
		rc = submit(j, err);
	if (rc != RC_OK)
		return rc;
	g = &j->groups[j->filling];
	memcpy(g->raw + g->bytes, data, chunk->length);
	g->chunks[g->count] = *chunk;
	g->from[g->count++] = (struct rewrite_place){j->source->pack_id, j->frame->offset};
	g->bytes += chunk->length;
	return RC_OK;
}

/* ---- a frame ---- */

static bool
reserve_frame(struct job *j, const struct source_frame *f)
{
	if (f->raw_bytes > j->expanded_cap) {
		free(j->expanded);
		j->expanded = malloc(f->raw_bytes);
		j->expanded_cap = j->expanded != NULL ? f->raw_bytes : 0;
	}
	if (f->chunk_count > j->hash_cap) {
		free(j->hash_jobs);
		free(j->hashes);
		free(j->good);
		j->hash_jobs = malloc(f->chunk_count * sizeof *j->hash_jobs);
		j->hashes = malloc(f->chunk_count * sizeof *j->hashes);
		j->good = malloc(f->chunk_count * sizeof *j->good);
		j->hash_cap = f->chunk_count;
	}
	return j->expanded != NULL && j->hash_jobs != NULL && j->hashes != NULL && j->good != NULL;
}

/* The frame at hand, or a chunk of it, does not verify. What of it is good moves; what is still
 * there after that will be marked. */
static enum rc
note_bad(struct job *j, struct err *err)
{
	const struct rewrite_place place = {j->source->pack_id, j->frame->offset};
	bool is_live = true;

	/* of a repository that is swept at this moment files are missing, and that is no damage */
	enum rc rc = db_repo_is_live(j->r->options.db, j->source->repo_id, &is_live, err);
	if (rc == RC_OK && !is_live)
		rc = err_set(err, RC_NOT_FOUND, "repo-not-found", "the repository was dropped");
	if (rc != RC_OK)
		return rc;
	if (j->bad_count == BAD_FRAMES_MAX) {
		j->is_too_damaged = true;
		err_set(err, RC_CORRUPT, "corrupt-data", "a pack is damaged in many places");
		return err_detail(err, "pack %llu", (unsigned long long)place.pack_id);
	}
	j->bad[j->bad_count++] = place;
	j->bad_bytes += j->frame->bytes;
	return rewrite_mark_bad(j->rewrite, j->source->chunks + j->frame->first,
		j->frame->chunk_count, &place, err);
}

/* Read and expand the frame at hand; *raw is NULL if it is damaged. */
static enum rc
read_frame(struct job *j, struct pack_frame_view *view, const uint8_t **raw, struct err *err)
{
	const struct source_frame *f = j->frame;
	const struct pack_place place = {j->source->pack_id, f->offset, f->bytes};
	struct err why = ERR_INIT;

	*raw = NULL;
	if (!reserve_frame(j, f))
		return no_memory(err);
	enum rc rc = pack_read_frame(j->r->readers, &place, NULL, &j->stored, view, &why);
	if (rc == RC_OK && (view->chunk_count != f->chunk_count || view->raw_bytes != f->raw_bytes))
		rc = err_set(&why, RC_CORRUPT, NULL, "the frame is not the one that was listed");
	if (rc == RC_OK && view->codec != CODEC_RAW)
		rc = codec_expand(j->codec, view->codec, view->stored, view->stored_bytes,
			j->expanded, view->raw_bytes, &why);
	if (rc == RC_CORRUPT)
		return note_bad(j, err);
	if (rc != RC_OK) {
		*err = why;
		return rc;
	}
	*raw = view->codec == CODEC_RAW ? view->stored : j->expanded;
	return RC_OK;
}

/* Compare the hash of every chunk that is alive; *all says whether that is all of them, and right.
 */
static enum rc
verify(struct job *j, const uint8_t *raw, bool *all, struct err *err)
{
	const struct source_frame *f = j->frame;
	const struct pack_chunk *chunks = j->source->chunks + f->first;
	const bool *live = j->source->live + f->first;
	bool is_bad = false;
	size_t n = 0;

	for (uint32_t i = 0; i < f->chunk_count; i++) {
		if (live[i])
			j->hash_jobs[n++] =
				(struct sha256_job){raw, chunks[i].length, &j->hashes[i]};
		raw += chunks[i].length;
	}
	sha256_many(j->hash_jobs, n);
	for (uint32_t i = 0; i < f->chunk_count; i++) {
		j->good[i] = live[i] && sha256_equal(&j->hashes[i], &chunks[i].hash);
		is_bad = is_bad || (live[i] && !j->good[i]);
	}
	*all = !is_bad && n == f->chunk_count;
	return is_bad ? note_bad(j, err) : RC_OK;
}

/* Append the chunks of the frame that are good: all of them, as they are stored, or, if only some
 * are wanted, raw. */
static enum rc
copy_frame(struct job *j, const struct pack_frame_view *view, const uint8_t *raw, bool all,
	struct err *err)
{
	const struct source_frame *f = j->frame;
	const struct pack_chunk *chunks = j->source->chunks + f->first;
	struct pack_chunk *kept = malloc(f->chunk_count * sizeof *kept);
	struct rewrite_place *from = malloc(f->chunk_count * sizeof *from);
	struct iovec *parts = malloc(f->chunk_count * sizeof *parts);
	struct pack_frame frame = {.codec = all ? view->codec : CODEC_RAW, .chunks = kept};
	enum rc rc = RC_OK;

	if (kept == NULL || from == NULL || parts == NULL) {
		rc = no_memory(err);
		goto out;
	}
	for (uint32_t i = 0; i < f->chunk_count; raw += chunks[i++].length) {
		if (!j->good[i])
			continue;
		uint32_t n = frame.chunk_count++;
		kept[n] = chunks[i];
		from[n] = (struct rewrite_place){j->source->pack_id, f->offset};
		parts[n] = (struct iovec){(void *)(uintptr_t)raw, chunks[i].length};
		frame.raw_bytes += chunks[i].length;
	}
	frame.stored = parts;
	frame.stored_count = (int)frame.chunk_count;
	frame.stored_bytes = frame.raw_bytes;
	if (all) {
		parts[0] = (struct iovec){(void *)(uintptr_t)view->stored, view->stored_bytes};
		frame.stored_count = 1;
		frame.stored_bytes = view->stored_bytes;
	}
	if (frame.chunk_count > 0)
		rc = rewrite_add(j->rewrite, &frame, from, err);
out:
	free(kept);
	free(from);
	free(parts);
	return rc;
}

static enum rc
gather_frame(struct job *j, const uint8_t *raw, struct err *err)
{
	const struct source_frame *f = j->frame;
	const struct pack_chunk *chunks = j->source->chunks + f->first;
	enum rc rc = RC_OK;

	for (uint32_t i = 0; rc == RC_OK && i < f->chunk_count; raw += chunks[i++].length)
		if (j->good[i])
			rc = gather(j, &chunks[i], raw, err);
	return rc;
}

/* Chunks are never so large; the format would let them be. */
static bool
has_large_chunk(const struct job *j)
{
	const struct pack_chunk *chunks = j->source->chunks + j->frame->first;

	for (uint32_t i = 0; i < j->frame->chunk_count; i++)
		if (chunks[i].length > GROUP_BYTES)
			return true;
	return false;
}

/* Nothing more is to be had from it: random, or squeezed before. */
static bool
is_spent(const struct job *j, const struct pack_frame_view *view, const uint8_t *raw)
{
	if (has_large_chunk(j) || j->source_is_squeezed || job_frame_is_squeezed(j->frame))
		return true;
	return view->codec == CODEC_RAW && !codec_probe_compressible(raw, view->raw_bytes);
}

enum rc
job_take_frame(struct job *j, struct err *err)
{
	struct pack_frame_view view;
	const uint8_t *raw = NULL;
	bool all = false;

	enum rc rc = permit(j, err);
	if (rc == RC_OK)
		rc = read_frame(j, &view, &raw, err);
	if (rc == RC_OK && raw != NULL)
		rc = verify(j, raw, &all, err);
	if (rc != RC_OK || raw == NULL)
		return rc;
	/* what is spent and not whole any more is expanded: squeezing it again gives it back */
	if (is_spent(j, &view, raw) && (all || view.codec == CODEC_RAW || has_large_chunk(j)))
		return copy_frame(j, &view, raw, all, err);
	return gather_frame(j, raw, err);
}
