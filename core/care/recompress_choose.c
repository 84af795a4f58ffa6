/* SPDX-License-Identifier: Apache-2.0 */
/* What is worth rewriting. To look at a pack costs its footer, where its chunks are now, and a few
 * frames: zstd of a low level is known to shrink by a fifth, and of raw frames some are tried. */
#include "recompress_internal.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "codec.h"
#include "db_squeeze.h"
#include "pack_reader.h"

#define LOOK_BATCH 128 /* packs looked at before the best one so far is rewritten: some seconds */
#define SAMPLES    16  /* raw frames tried of a pack: 4 MiB of 64 */

/* Level 19 in frames of 1 MiB against level 1 in frames of 256 KiB, on programs, libraries, sources
 * and logs: 16 % to 29 % less. */
#define SQUEEZE_PERCENT 18
/* What a pack costs beside its frames: what merging small ones gives back at least. */
#define PACK_COST_BYTES 4096

/* ---- a pack's expected gain ---- */

/* Of raw frames, all together and tried. */
struct trial {
	uint64_t raw_bytes;
	uint64_t tried_bytes;
	uint64_t gain;
	size_t frames;
};

struct trial_tools {
	struct recompress *r;
	struct codec *codec;
	struct buf stored;
	uint8_t *packed;
	size_t packed_cap;
};

static bool
reserve_packed(struct trial_tools *t, size_t bytes)
{
	if (bytes <= t->packed_cap)
		return true;
	free(t->packed);
	t->packed = malloc(bytes);
	t->packed_cap = t->packed != NULL ? bytes : 0;
	return t->packed != NULL;
}

/* What one raw frame would gain; 0 if it is random, or cannot be read now. */
static enum rc
try_frame(struct trial_tools *t, const struct source *s, const struct source_frame *f,
	uint64_t *gain, struct err *err)
{
	const struct pack_place place = {s->pack_id, f->offset, f->bytes};
	struct pack_frame_view view;

	*gain = 0;
	enum rc rc = recompress_permit(t->r, s->repo_id, err);
	if (rc == RC_OK)
		rc = pack_read_frame(t->r->readers, &place, NULL, &t->stored, &view, err);
	if (rc == RC_CORRUPT) {
		err_clear(err);
		return RC_OK;
	}
	if (rc != RC_OK || !codec_probe_compressible(view.stored, view.raw_bytes))
		return rc;
	if (!reserve_packed(t, view.raw_bytes))
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	size_t n =
		codec_compress(t->codec, 1, view.stored, view.raw_bytes, t->packed, t->packed_cap);
	if (n > 0)
		*gain = view.raw_bytes - n + n * SQUEEZE_PERCENT / 100;
	return RC_OK;
}

static bool
is_raw(const struct source_frame *f)
{
	return f->codec == CODEC_RAW && f->live_count > 0;
}

/* Try every n-th raw frame. */
static enum rc
try_some(struct trial_tools *t, const struct source *s, struct trial *trial, struct err *err)
{
	size_t step = (trial->frames + SAMPLES - 1) / SAMPLES;
	enum rc rc = RC_OK;

	for (size_t i = 0, n = 0; rc == RC_OK && i < s->frame_count; i++) {
		const struct source_frame *f = &s->frames[i];
		uint64_t gain = 0;
		if (!is_raw(f) || n++ % step != 0)
			continue;
		rc = try_frame(t, s, f, &gain, err);
		trial->tried_bytes += f->raw_bytes;
		trial->gain += gain;
	}
	return rc;
}

/* What is known without reading: dead frames go, zstd of uploads shrinks. */
static uint64_t
known_gain(const struct source *s, struct trial *raw)
{
	uint64_t gain = 0;

	for (size_t i = 0; i < s->frame_count; i++) {
		const struct source_frame *f = &s->frames[i];
		uint64_t dead = f->chunk_count - f->live_count;
		if (is_raw(f)) {
			raw->raw_bytes += f->raw_bytes;
			raw->frames++;
		} else if (f->live_count > 0 && !job_frame_is_squeezed(f)) {
			gain += f->stored_bytes * SQUEEZE_PERCENT / 100;
		}
		gain += f->bytes * dead / f->chunk_count;
	}
	return gain;
}

static enum rc
estimate(struct recompress *r, const struct source *s, uint64_t *gain, struct err *err)
{
	struct trial_tools t = {.r = r};
	struct trial raw = {.raw_bytes = 0};
	enum rc rc = RC_OK;

	*gain = known_gain(s, &raw);
	if (raw.frames == 0)
		return RC_OK;
	buf_init(&t.stored, PACK_FRAME_BYTES_MAX);
	rc = codec_open(&t.codec, err);
	if (rc == RC_OK)
		rc = try_some(&t, s, &raw, err);
	if (rc == RC_OK && raw.tried_bytes > 0)
		*gain += (uint64_t)((double)raw.gain * (double)raw.raw_bytes /
				    (double)raw.tried_bytes);
	codec_free(t.codec);
	buf_done(&t.stored);
	free(t.packed);
	return rc;
}

/* ---- looking ---- */

static bool
is_small(const struct recompress *r, const struct squeeze_pack *p)
{
	return p->bytes < r->options.pack_bytes / SMALL_DIVISOR;
}

static bool
is_worth(uint64_t gain, uint64_t bytes)
{
	return gain > 0 && gain >= bytes / 100 * GAIN_MIN_PERCENT;
}

static enum rc
note(struct recompress *r, const struct squeeze_pack *p, const struct source *s, uint64_t gain,
	struct err *err)
{
	if (is_small(r, p))
		gain += PACK_COST_BYTES;
	else if (!is_worth(gain, p->bytes))
		return choose_leave(r, p, s->raw_bytes, err);
	return db_squeeze_note(r->options.db, p->id, gain, s->raw_bytes, err);
}

/* A pack that is not what it should be is evidence, and nothing to be tidied away. */
static enum rc
look_at(struct recompress *r, const struct squeeze_pack *p, struct err *err)
{
	struct source *s = NULL;
	uint64_t gain = 0;

	enum rc rc = source_open(&r->tools, p->id, p->repo_id, &s, err);
	if (rc == RC_NOT_FOUND || rc == RC_TOO_LARGE || (rc == RC_OK && s->is_damaged)) {
		source_free(s);
		err_clear(err);
		return choose_leave(r, p, 0, err);
	}
	if (rc == RC_OK)
		rc = source_mark_live(&r->tools, s, err);
	if (rc == RC_OK)
		rc = estimate(r, s, &gain, err);
	if (rc == RC_OK)
		rc = note(r, p, s, gain, err);
	source_free(s);
	pack_readers_forget(r->readers, p->id);
	return rc;
}

enum rc
choose_leave(
	struct recompress *r, const struct squeeze_pack *p, uint64_t raw_bytes, struct err *err)
{
	const struct recompress_event event = {
		.outcome = RECOMPRESS_LEFT,
		.repo_id = p->repo_id,
		.pack_id = p->id,
		.pack_count = 1,
		.bytes_before = p->bytes,
		.bytes_after = p->bytes,
		.raw_bytes = raw_bytes,
	};

	enum rc rc = db_squeeze_leave(r->options.db, p->id, raw_bytes, err);
	if (rc != RC_OK)
		return rc;
	pthread_mutex_lock(&r->mtx);
	r->stats.skipped++;
	pthread_mutex_unlock(&r->mtx);
	if (r->options.report != NULL)
		r->options.report(r->options.arg, &event);
	return RC_OK;
}

static void
make_filter(struct recompress *r, struct squeeze_filter *f, uint64_t *skip)
{
	uint64_t now = clock_mono_ns();

	pthread_mutex_lock(&r->mtx);
	bool run = r->run;
	pthread_mutex_unlock(&r->mtx);
	*f = (struct squeeze_filter){
		.cold_us = run ? 0 : r->options.after_us,
		.id_max = run ? r->run_id_max : INT64_MAX,
		.skip = skip,
	};
	for (unsigned i = 0; i < SKIP_MAX; i++)
		if (r->skipped[i].until_ns > now)
			skip[f->skip_count++] = r->skipped[i].pack_id;
}

/* What goes wrong with one pack shall not keep the others waiting; what goes wrong with the
 * database or the server is nobody's fault. */
static bool
is_packs_fault(enum rc rc)
{
	return rc == RC_IO || rc == RC_CORRUPT || rc == RC_INVALID || rc == RC_BUG;
}

enum rc
choose_look(struct recompress *r, bool *looked, struct err *err)
{
	struct squeeze_pack packs[LOOK_BATCH];
	uint64_t skip[SKIP_MAX];
	struct squeeze_filter filter;
	size_t count = 0;

	make_filter(r, &filter, skip);
	enum rc rc = db_squeeze_unknown(r->options.db, &filter, packs, LOOK_BATCH, &count, err);
	*looked = rc == RC_OK && count > 0;
	for (size_t i = 0; rc == RC_OK && i < count; i++) {
		rc = recompress_permit(r, packs[i].repo_id, err);
		if (rc == RC_OK)
			rc = look_at(r, &packs[i], err);
		if (rc == RC_NOT_FOUND) { /* the repository: its packs are no candidates any more */
			err_clear(err);
			rc = RC_OK;
		}
		if (is_packs_fault(rc))
			recompress_skip(r, packs[i].id);
	}
	return rc;
}

/* ---- choosing ---- */

static void
take(struct job_sources *out, const struct squeeze_pack *p)
{
	out->packs[out->count++] = *p;
	out->bytes += p->bytes;
}

/* Small packs go together, as many as fit. One that was looked at before and left, or is the result
 * of such a merge, joins in if it is not larger than what has come up to it: so whatever is small
 * is copied a few times at most until it is not small any more. */
static enum rc
add_small(struct recompress *r, const struct squeeze_filter *filter, struct job_sources *out,
	struct err *err)
{
	const struct squeeze_small which = {
		.repo_id = out->packs[0].repo_id,
		.other_than = out->packs[0].id,
		.bytes_max = r->options.pack_bytes / SMALL_DIVISOR,
	};
	struct squeeze_pack small[JOB_SOURCES_MAX - 1];
	size_t count = 0;

	enum rc rc = db_squeeze_small(
		r->options.db, filter, &which, small, JOB_SOURCES_MAX - 1, &count, err);
	for (size_t i = 0; rc == RC_OK && i < count; i++) {
		bool is_new = small[i].squeeze == PACK_AS_UPLOADED;
		if (out->bytes + small[i].bytes > r->options.pack_bytes)
			continue;
		if (is_new || small[i].bytes <= out->bytes)
			take(out, &small[i]);
	}
	return rc;
}

static int
by_id(const void *a, const void *b)
{
	const struct squeeze_pack *x = a;
	const struct squeeze_pack *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

/* What is in a pack, beside that it is one. */
static uint64_t
gain_inside(const struct recompress *r, const struct squeeze_pack *p)
{
	if (!is_small(r, p))
		return p->gain;
	return p->gain > PACK_COST_BYTES ? p->gain - PACK_COST_BYTES : 0;
}

/* The best pack and what goes with it. *alone: it is small, there is nothing in it to gain and
 * nothing to merge it with, and it was left for good. */
static enum rc
choose_best(struct recompress *r, struct job_sources *out, bool *alone, struct err *err)
{
	uint64_t skip[SKIP_MAX];
	struct squeeze_filter filter;
	struct squeeze_pack best;
	size_t count = 0;

	*alone = false;
	out->count = 0;
	out->bytes = 0;
	make_filter(r, &filter, skip);
	enum rc rc = db_squeeze_best(r->options.db, &filter, &best, &count, err);
	if (rc != RC_OK || count == 0)
		return rc;
	take(out, &best);
	if (is_small(r, &best))
		rc = add_small(r, &filter, out, err);
	*alone = rc == RC_OK && out->count == 1 && !is_worth(gain_inside(r, &best), best.bytes);
	return *alone ? choose_leave(r, &best, 0, err) : rc;
}

enum rc
choose_next(struct recompress *r, struct job_sources *out, struct err *err)
{
	bool alone;
	enum rc rc;

	do
		rc = choose_best(r, out, &alone, err);
	while (rc == RC_OK && alone);
	if (rc != RC_OK || out->count == 0)
		return rc;
	/* chunks that were uploaded one after the other stay side by side */
	const uint64_t best = out->packs[0].id;
	qsort(out->packs, out->count, sizeof *out->packs, by_id);
	out->best = 0;
	while (out->packs[out->best].id != best)
		out->best++;
	return RC_OK;
}
