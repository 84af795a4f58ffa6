/* SPDX-License-Identifier: Apache-2.0 */
#include "rewrite.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "db_rewrite.h"
#include "pack_dir.h"
#include "pack_reader.h"
#include "pack_scan.h"
#include "pack_trim.h"

/* One job reads about as much as a pack holds, so that two new packs are the rule at most. */
#define TARGETS_MAX   16
#define TARGETS_USUAL 8 /* a source larger than so many packs makes larger ones */
/* Room for frames that turn out larger than where they came from. */
#define SLACK_BYTES (UINT64_C(1) << 20)
#define LEFT_PAGE   64

struct moves {
	struct chunk_move *list;
	size_t count;
	size_t cap;
};

struct rewrite {
	struct rewrite_options options;
	struct pack_writer *writer; /* of the last target; NULL if that is sealed */
	struct rewritten_pack targets[TARGETS_MAX];
	size_t target_count;
	uint64_t target_chunks; /* in the last one */
	struct moves moves;
	struct moves bad;
	uint64_t frames;
	bool may_have_more; /* rows than targets */
	bool is_committed;
};

enum rc
rewrite_open(const struct rewrite_options *options, struct rewrite **out, struct err *err)
{
	*out = NULL;
	struct rewrite *w = calloc(1, sizeof *w);
	if (w == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	w->options = *options;
	*out = w;
	return RC_OK;
}

/* ---- new packs ---- */

/* A frame that is larger than a pack should be gets a pack of its own. */
static uint64_t
bytes_max(const struct rewrite *w, uint64_t frame_bytes)
{
	uint64_t least = w->options.expected_bytes / TARGETS_USUAL;
	uint64_t most = w->options.pack_bytes > least ? w->options.pack_bytes : least;
	uint64_t want = w->options.expected_bytes + SLACK_BYTES;

	want = want < most ? want : most;
	frame_bytes = pack_round_up(frame_bytes, PACK_BLOCK_BYTES) + PACK_BLOCK_BYTES;
	return want > frame_bytes ? want : frame_bytes;
}

static enum rc
open_target(struct rewrite *w, uint64_t frame_bytes, struct err *err)
{
	struct pack_writer_options options = PACK_WRITER_OPTIONS_INIT;
	uint64_t id = 0;

	if (w->target_count == TARGETS_MAX)
		return err_set(err, RC_TOO_LARGE, NULL, "too many packs for one rewrite");
	enum rc rc = db_pack_open(w->options.db, w->options.repo_id, PACK_REWRITING, &id, err);
	/* a COMMIT whose answer was lost may have made a row, whose id nobody knows */
	if (rc == RC_UNAVAILABLE)
		w->may_have_more = true;
	if (rc != RC_OK)
		return rc;
	/* noted before there is a file: from here on it is ours to take away */
	w->targets[w->target_count++] = (struct rewritten_pack){.id = id};
	w->target_chunks = 0;
	options.bytes_max = bytes_max(w, frame_bytes);
	options.direct = w->options.direct;
	return pack_writer_open(
		w->options.packs, id, w->options.repo_uuid, &options, &w->writer, err);
}

static enum rc
seal_target(struct rewrite *w, struct err *err)
{
	if (w->writer == NULL)
		return RC_OK;
	enum rc rc = pack_writer_seal(w->writer, err);
	w->targets[w->target_count - 1].bytes = pack_writer_bytes(w->writer);
	if (rc != RC_OK)
		return rc;
	pack_writer_free(w->writer);
	w->writer = NULL;
	return RC_OK;
}

/* ---- frames ---- */

static bool
reserve_moves(struct moves *m, size_t count)
{
	if (m->cap - m->count >= count)
		return true;
	size_t cap = m->cap * 2 > m->count + count ? m->cap * 2 : m->count + count;
	struct chunk_move *more = realloc(m->list, cap * sizeof *more);
	if (more == NULL)
		return false;
	m->list = more;
	m->cap = cap;
	return true;
}

static void
note_moves(struct rewrite *w, const struct pack_frame *frame, const struct rewrite_place *from,
	const struct pack_place *to)
{
	uint64_t raw_offset = 0;

	for (uint32_t i = 0; i < frame->chunk_count; i++) {
		w->moves.list[w->moves.count++] = (struct chunk_move){
			.hash = frame->chunks[i].hash,
			.from_pack = from[i].pack_id,
			.from_offset = from[i].frame_offset,
			.pack_id = to->pack_id,
			.frame_offset = to->offset,
			.frame_bytes = to->bytes,
			.raw_offset = raw_offset,
			.length = frame->chunks[i].length,
		};
		raw_offset += frame->chunks[i].length;
	}
	w->targets[w->target_count - 1].raw_bytes += raw_offset;
	w->target_chunks += frame->chunk_count;
	w->frames++;
}

enum rc
rewrite_add(struct rewrite *w, const struct pack_frame *frame, const struct rewrite_place *from,
	struct err *err)
{
	uint64_t frame_bytes = pack_frame_bytes(frame);
	enum rc rc = RC_OK;

	if (!reserve_moves(&w->moves, frame->chunk_count))
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	if (w->writer != NULL && !pack_writer_has_room(w->writer, frame_bytes))
		rc = seal_target(w, err);
	if (rc == RC_OK && w->writer == NULL)
		rc = open_target(w, frame_bytes, err);
	if (rc != RC_OK)
		return rc;
	struct pack_place to = {.pack_id = pack_writer_id(w->writer)};
	rc = pack_writer_append(w->writer, frame, &to.offset, &to.bytes, err);
	if (rc == RC_OK)
		note_moves(w, frame, from, &to);
	return rc;
}

enum rc
rewrite_mark_bad(struct rewrite *w, const struct pack_chunk *chunks, size_t count,
	const struct rewrite_place *place, struct err *err)
{
	if (!reserve_moves(&w->bad, count))
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	for (size_t i = 0; i < count; i++)
		w->bad.list[w->bad.count++] = (struct chunk_move){
			.hash = chunks[i].hash,
			.from_pack = place->pack_id,
			.from_offset = place->frame_offset,
		};
	return RC_OK;
}

uint64_t
rewrite_bytes(const struct rewrite *w)
{
	uint64_t bytes = 0;

	if (w->writer != NULL) /* what it will be once it is sealed */
		bytes = pack_round_up(pack_writer_bytes(w->writer), PACK_BLOCK_BYTES) +
			pack_footer_bytes(pack_writer_frames(w->writer), w->target_chunks) +
			PACK_TRAILER_BYTES;
	for (size_t i = 0; i < w->target_count; i++)
		bytes += w->targets[i].bytes;
	return bytes;
}

/* ---- reading it back ---- */

struct check {
	struct rewrite *w;
	struct codec *codec;
	struct buf stored;
	uint8_t *raw; /* of the frame at hand, expanded */
	size_t raw_cap;
};

static enum rc
wrong(const struct chunk_move *m, const char *why, struct err *err)
{
	err_set(err, RC_CORRUPT, "corrupt-data", "a new pack did not hold what was written to it");
	return err_detail(err, "pack %016" PRIx64 ", frame %" PRIu64 ": %s", m->pack_id,
		(uint64_t)m->frame_offset, why);
}

static enum rc
expand(struct check *c, const struct pack_frame_view *view, const uint8_t **raw, struct err *err)
{
	if (view->codec == CODEC_RAW) {
		*raw = view->stored;
		return RC_OK;
	}
	if (view->raw_bytes > c->raw_cap) {
		free(c->raw);
		c->raw = malloc(view->raw_bytes);
		c->raw_cap = c->raw != NULL ? view->raw_bytes : 0;
	}
	if (c->raw == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	*raw = c->raw;
	return codec_expand(c->codec, view->codec, view->stored, view->stored_bytes, c->raw,
		view->raw_bytes, err);
}

/* The chunks of one frame, as they were added. */
static enum rc
check_frame(struct check *c, const struct chunk_move *m, size_t count, struct err *err)
{
	const struct pack_place place = {m->pack_id, m->frame_offset, m->frame_bytes};
	struct pack_frame_view view;
	const uint8_t *raw = NULL;
	struct sha256 got;

	enum rc rc = pack_read_frame(c->w->options.readers, &place, NULL, &c->stored, &view, err);
	if (rc == RC_OK)
		rc = expand(c, &view, &raw, err);
	for (size_t i = 0; rc == RC_OK && i < count; i++) {
		if (m[i].raw_offset + m[i].length > view.raw_bytes)
			return wrong(m, "it is too short", err);
		sha256_of(raw + m[i].raw_offset, m[i].length, &got);
		if (!sha256_equal(&got, &m[i].hash))
			rc = wrong(m, "a chunk has another hash", err);
	}
	return rc;
}

static bool
is_same_frame(const struct chunk_move *a, const struct chunk_move *b)
{
	return a->pack_id == b->pack_id && a->frame_offset == b->frame_offset;
}

/* The moves are still in the order in which they were added: frame by frame. */
static enum rc
check_all(struct check *c, const struct rewrite_end *end, struct err *err)
{
	const struct moves *m = &c->w->moves;
	enum rc rc = RC_OK;

	for (size_t from = 0, to; rc == RC_OK && from < m->count; from = to) {
		for (to = from + 1; to < m->count && is_same_frame(&m->list[from], &m->list[to]);)
			to++;
		if (end->permit != NULL)
			rc = end->permit(end->arg, err);
		if (rc == RC_OK)
			rc = check_frame(c, &m->list[from], to - from, err);
	}
	return rc;
}

/* The old packs are going to be removed: what takes their place is what the disk gives back, not
 * what was meant to be written. */
static enum rc
read_back(struct rewrite *w, const struct rewrite_end *end, struct err *err)
{
	struct check c = {.w = w};

	buf_init(&c.stored, PACK_FRAME_BYTES_MAX);
	enum rc rc = codec_open(&c.codec, err);
	if (rc == RC_OK)
		rc = check_all(&c, end, err);
	codec_free(c.codec);
	buf_done(&c.stored);
	free(c.raw);
	return rc;
}

/* ---- the swap ---- */

static int
by_hash(const void *a, const void *b)
{
	const struct chunk_move *x = a;
	const struct chunk_move *y = b;

	return sha256_cmp(&x->hash, &y->hash);
}

/* A chunk that was added twice has one row: the first copy will do. */
static void
sort_moves(struct moves *m)
{
	size_t kept = 0;

	if (m->count > 0)
		qsort(m->list, m->count, sizeof *m->list, by_hash);
	for (size_t i = 0; i < m->count; i++)
		if (kept == 0 || by_hash(&m->list[kept - 1], &m->list[i]) != 0)
			m->list[kept++] = m->list[i];
	m->count = kept;
}

/* Each new pack its share of what the old ones took, by raw bytes; the last one what is left. */
static void
share_bytes(struct rewrite *w, uint64_t source_bytes)
{
	uint64_t raw_left = 0;

	for (size_t i = 0; i < w->target_count; i++)
		raw_left += w->targets[i].raw_bytes;
	for (size_t i = 0; i < w->target_count; i++) {
		struct rewritten_pack *t = &w->targets[i];
		t->bytes_before = raw_left > 0 ? (uint64_t)((double)source_bytes *
							    (double)t->raw_bytes / (double)raw_left)
					       : 0;
		if (i + 1 == w->target_count || t->bytes_before > source_bytes)
			t->bytes_before = source_bytes;
		source_bytes -= t->bytes_before;
		raw_left -= t->raw_bytes;
	}
}

enum rc
rewrite_finish(struct rewrite *w, const struct rewrite_end *end, struct rewrite_result *out,
	struct err *err)
{
	enum rc rc = seal_target(w, err);

	if (rc == RC_OK)
		rc = read_back(w, end, err);
	if (rc != RC_OK)
		return rc;
	sort_moves(&w->moves);
	share_bytes(w, end->source_bytes);
	struct db_rewrite swap = {
		.repo_id = w->options.repo_id,
		.sources = end->sources,
		.source_count = end->source_count,
		.targets = w->targets,
		.target_count = w->target_count,
		.moves = w->moves.list,
		.move_count = w->moves.count,
		.bad = w->bad.list,
		.bad_count = w->bad.count,
		.squeeze = end->squeeze,
		.frames = w->frames,
		.cpu_us = end->cpu_us,
	};
	rc = db_rewrite_commit(w->options.db, &swap, err);
	if (rc != RC_OK)
		return rc;
	w->is_committed = true;
	*out = (struct rewrite_result){
		.packs = w->target_count,
		.bytes = rewrite_bytes(w),
		.frames = w->frames,
		.chunks = w->moves.count,
		.moved = swap.moved,
		.last_pack = w->target_count > 0 ? w->targets[w->target_count - 1].id : 0,
	};
	return RC_OK;
}

/* ---- the end ---- */

static enum rc
remove_file(void *arg, uint64_t pack_id, struct err *err)
{
	struct pack_dir *packs = arg;
	struct err why = ERR_INIT;

	enum rc rc = pack_remove(packs, pack_id, &why);
	if (rc == RC_OK || rc == RC_NOT_FOUND)
		return RC_OK;
	*err = why;
	return rc;
}

bool
rewrite_free(struct rewrite *w)
{
	if (w == NULL)
		return true;
	bool all_gone = !w->may_have_more;
	pack_writer_free(w->writer);
	for (size_t i = 0; !w->is_committed && i < w->target_count; i++) {
		struct err ignored = ERR_INIT;
		if (db_rewrite_discard(w->options.db, w->targets[i].id, remove_file,
			    w->options.packs, &ignored) != RC_OK)
			all_gone = false;
	}
	for (size_t i = 0; i < w->target_count; i++)
		pack_readers_forget(w->options.readers, w->targets[i].id);
	free(w->moves.list);
	free(w->bad.list);
	free(w);
	return all_gone;
}

/* Sealing comes before the commit; what else than a clean tail without a footer is there, no crash
 * of a rewrite explains. */
static bool
may_have_been_committed(const struct pack_scan_stats *s)
{
	return s->footer_bytes > 0 || s->damaged_bytes > 0 || s->unreadable_bytes > 0 ||
	       (!s->header_ok && s->frames > 0);
}

static enum rc
shelve(struct db *db, struct pack_dir *packs, uint64_t id, const struct pack_scan_stats *s,
	struct err *err)
{
	/* what the disk did not give this time it may give the next */
	uint64_t bytes = s->unreadable_bytes > 0 ? s->file_bytes : s->end_bytes;

	enum rc rc = pack_trim(packs, id, bytes, err);
	return rc == RC_OK ? db_rewrite_retire(db, id, bytes, err) : rc;
}

static enum rc
settle(struct db *db, struct pack_dir *packs, uint64_t id, struct err *err)
{
	struct pack_scan_stats stats;
	struct err why = ERR_INIT;

	enum rc rc = pack_scan(packs, id, NULL, NULL, &stats, &why);
	if (rc == RC_OK && may_have_been_committed(&stats))
		return shelve(db, packs, id, &stats, err);
	if (rc == RC_OK || rc == RC_NOT_FOUND)
		return db_rewrite_discard(db, id, remove_file, packs, err);
	*err = why;
	return rc;
}

enum rc
rewrite_clean(struct db *db, struct pack_dir *packs, uint64_t *settled, struct err *err)
{
	uint64_t ids[LEFT_PAGE];
	uint64_t after = 0;
	size_t count;
	enum rc rc;

	do {
		rc = db_pack_list_state(db, PACK_REWRITING, after, ids, LEFT_PAGE, &count, err);
		for (size_t i = 0; rc == RC_OK && i < count; i++) {
			after = ids[i];
			rc = settle(db, packs, ids[i], err);
			if (rc == RC_OK && settled != NULL)
				++*settled;
		}
	} while (rc == RC_OK && count == LEFT_PAGE);
	return rc;
}
