/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"

#include <stdlib.h>
#include <string.h>

#include "db_chunk.h"
#include "pack_reader.h"
#include "pack_scan.h"

#define LOCATE_BATCH 1024

static enum rc
no_memory(struct err *err)
{
	return err_set(err, RC_NOMEM, "no-memory", "out of memory");
}

static enum rc
too_many(struct err *err)
{
	return err_set(err, RC_TOO_LARGE, NULL, "the pack holds too many chunks");
}

/* ---- listing ---- */

static bool
reserve(struct source *s, uint32_t chunk_count)
{
	if (s->frame_count == s->frame_cap) {
		size_t cap = s->frame_cap == 0 ? 256 : s->frame_cap * 2;
		struct source_frame *more = realloc(s->frames, cap * sizeof *more);
		if (more == NULL)
			return false;
		s->frames = more;
		s->frame_cap = cap;
	}
	if (s->chunk_cap - s->chunk_count < chunk_count) {
		size_t cap = s->chunk_cap * 2 > s->chunk_count + chunk_count
				     ? s->chunk_cap * 2
				     : s->chunk_count + chunk_count;
		struct pack_chunk *more = realloc(s->chunks, cap * sizeof *more);
		if (more == NULL)
			return false;
		s->chunks = more;
		s->chunk_cap = cap;
	}
	return true;
}

static enum rc
add_frame(struct source *s, const struct source_frame *f, struct err *err)
{
	if (f->chunk_count > SOURCE_CHUNKS_MAX - s->chunk_count)
		return too_many(err);
	if (!reserve(s, f->chunk_count))
		return no_memory(err);
	s->frames[s->frame_count] = *f;
	s->frames[s->frame_count++].first = s->chunk_count;
	s->raw_bytes += f->raw_bytes;
	return RC_OK;
}

static enum rc
take_footer(struct source *s, const struct pack_index *index, struct err *err)
{
	enum rc rc = RC_OK;

	for (uint32_t i = 0; rc == RC_OK && i < index->frame_count; i++) {
		struct pack_footer_frame f;
		pack_index_frame(index, i, &f);
		rc = add_frame(s,
			&(struct source_frame){
				.offset = f.offset,
				.bytes = pack_frame_bytes_of(f.chunk_count, f.stored_bytes),
				.raw_bytes = f.raw_bytes,
				.stored_bytes = f.stored_bytes,
				.chunk_count = f.chunk_count,
				.codec = f.codec,
			},
			err);
		for (uint32_t k = 0; rc == RC_OK && k < f.chunk_count; k++, s->chunk_count++)
			pack_index_chunk(index, s->chunk_count, &s->chunks[s->chunk_count]);
	}
	return rc;
}

static enum rc
take_frame(void *arg, const struct pack_frame_view *f, struct err *err)
{
	struct source *s = arg;

	enum rc rc = add_frame(s,
		&(struct source_frame){
			.offset = f->place.offset,
			.bytes = f->place.bytes,
			.raw_bytes = f->raw_bytes,
			.stored_bytes = f->stored_bytes,
			.chunk_count = f->chunk_count,
			.codec = f->codec,
		},
		err);
	for (uint32_t i = 0; rc == RC_OK && i < f->chunk_count; i++)
		pack_frame_chunk(f, i, &s->chunks[s->chunk_count++]);
	return rc;
}

/* Damage at the end counts too: a row may lead there. */
static bool
has_damage(const struct pack_scan_stats *s)
{
	return !s->header_ok || s->damaged_bytes > 0 || s->torn_bytes > 0 ||
	       s->unreadable_bytes > 0 || s->damaged_frames > 0;
}

static enum rc
scan(const struct source_tools *t, struct source *s, struct err *err)
{
	struct pack_scan_stats stats;

	enum rc rc = pack_scan(t->packs, s->pack_id, take_frame, s, &stats, err);
	if (rc == RC_OK && has_damage(&stats))
		s->is_damaged = true;
	return rc;
}

static enum rc
list(const struct source_tools *t, struct source *s, struct err *err)
{
	struct err why = ERR_INIT;
	struct pack_index index;

	enum rc rc = pack_read_footer(t->readers, s->pack_id, &index, &why);
	if (rc == RC_OK)
		rc = take_footer(s, &index, &why);
	pack_index_done(&index);
	if (rc == RC_NOT_FOUND)
		return scan(t, s, err);
	if (rc == RC_CORRUPT) { /* the footer is damaged, or there is no file */
		s->is_damaged = true;
		return scan(t, s, err);
	}
	if (rc != RC_OK)
		*err = why;
	return rc;
}

enum rc
source_open(const struct source_tools *t, uint64_t pack_id, uint64_t repo_id, struct source **out,
	struct err *err)
{
	*out = NULL;
	struct source *s = calloc(1, sizeof *s);
	if (s == NULL)
		return no_memory(err);
	s->pack_id = pack_id;
	s->repo_id = repo_id;
	enum rc rc = list(t, s, err);
	if (rc != RC_OK) {
		source_free(s);
		return rc;
	}
	*out = s;
	return RC_OK;
}

void
source_free(struct source *s)
{
	if (s == NULL)
		return;
	free(s->frames);
	free(s->chunks);
	free(s->live);
	free(s);
}

/* ---- what is alive ---- */

/* The place of each chunk, walked along with the rows. */
struct walk {
	struct source *s;
	size_t frame;
	uint64_t raw_offset;
};

static void
judge(struct walk *w, size_t i, const struct chunk_row *row)
{
	struct source *s = w->s;
	struct source_frame *f = &s->frames[w->frame];

	if (i == f->first + f->chunk_count) {
		f = &s->frames[++w->frame];
		w->raw_offset = 0;
	}
	s->live[i] = row->length > 0 && row->pack_id == s->pack_id &&
		     row->frame_offset == f->offset && row->frame_bytes == f->bytes &&
		     row->raw_offset == w->raw_offset && row->length == s->chunks[i].length;
	w->raw_offset += s->chunks[i].length;
	if (!s->live[i])
		return;
	f->live_count++;
	s->live_count++;
	s->live_bytes += s->chunks[i].length;
}

static enum rc
locate(const struct source_tools *t, struct walk *w, size_t from, size_t count, struct err *err)
{
	struct sha256 hashes[LOCATE_BATCH];
	size_t found = 0;

	struct chunk_row *rows = malloc(count * sizeof *rows);
	if (rows == NULL)
		return no_memory(err);
	for (size_t i = 0; i < count; i++)
		hashes[i] = w->s->chunks[from + i].hash;
	enum rc rc = db_chunk_locate(t->db, w->s->repo_id, hashes, count, rows, &found, err);
	for (size_t i = 0; rc == RC_OK && i < count; i++)
		judge(w, from + i, &rows[i]);
	free(rows);
	return rc;
}

enum rc
source_mark_live(const struct source_tools *t, struct source *s, struct err *err)
{
	struct walk w = {.s = s};
	enum rc rc = RC_OK;

	s->live = calloc(s->chunk_count + 1, sizeof *s->live);
	if (s->live == NULL)
		return no_memory(err);
	for (size_t at = 0; rc == RC_OK && at < s->chunk_count; at += LOCATE_BATCH) {
		size_t left = s->chunk_count - at;
		rc = locate(t, &w, at, left < LOCATE_BATCH ? left : LOCATE_BATCH, err);
	}
	return rc;
}
