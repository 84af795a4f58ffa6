/* SPDX-License-Identifier: Apache-2.0 */
#include "rebuild.h"

#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "db.h"
#include "db_chunk.h"
#include "db_pack.h"
#include "db_rebuild.h"
#include "pack_dir.h"
#include "pack_reader.h"
#include "pack_scan.h"
#include "pack_trim.h"
#include "sha256.h"

#define CHUNK_BATCH  4096
#define PACK_BATCH   512
#define RETIRED_PAGE 512
#define FDS_MAX      2

struct found {
	uint64_t id;
	bool is_retired;
};

struct rebuild {
	struct db *db;
	struct pack_dir *dir;
	struct rebuild_report *report;
	struct pack_readers *readers;
	struct codec *codec;

	struct found *found; /* all packs on disk, the preferred ones first */
	size_t found_count;
	size_t found_cap;
	uint64_t highest_id;

	/* a frame */
	uint8_t *raw;
	size_t raw_cap;
	struct sha256_job *jobs;
	struct sha256 *hashes;
	size_t job_cap;

	/* the transaction */
	struct db_tx *tx;
	uint64_t repo_id; /* of the pack being read */
	bool damaged;     /* is it */
	struct chunk_row *rows;
	size_t row_count;
	struct db_rebuild_pack *packs;
	size_t pack_count;
};

static enum rc
no_memory(struct err *err)
{
	return err_set(err, RC_NOMEM, "no-memory", "out of memory");
}

/* ---- which packs there are ---- */

static enum rc
take_id(void *arg, uint64_t pack_id, struct err *err)
{
	struct rebuild *r = arg;

	if (r->found_count == r->found_cap) {
		size_t cap = r->found_cap == 0 ? 1024 : r->found_cap * 2;
		struct found *more = realloc(r->found, cap * sizeof *more);
		if (more == NULL)
			return no_memory(err);
		r->found = more;
		r->found_cap = cap;
	}
	r->found[r->found_count++] = (struct found){.id = pack_id};
	/* no sequence gave a larger one: a stray name must not use the sequence up */
	if (pack_id <= DB_PACK_ID_MAX && pack_id > r->highest_id)
		r->highest_id = pack_id;
	return RC_OK;
}

static int
by_number(const void *a, const void *b)
{
	uint64_t x = ((const struct found *)a)->id;
	uint64_t y = ((const struct found *)b)->id;

	return (x > y) - (x < y);
}

static int
by_preference(const void *a, const void *b)
{
	const struct found *x = a;
	const struct found *y = b;

	if (x->is_retired != y->is_retired)
		return x->is_retired ? 1 : -1;
	return by_number(b, a);
}

static enum rc
mark_retired(struct rebuild *r, struct err *err)
{
	uint64_t ids[RETIRED_PAGE];
	uint64_t after = 0;
	size_t count = 0;
	enum rc rc;

	do {
		rc = db_pack_list_state(r->db, PACK_RETIRED, after, ids, RETIRED_PAGE, &count, err);
		for (size_t i = 0; rc == RC_OK && i < count; i++) {
			const struct found key = {.id = after = ids[i]};
			struct found *f = bsearch(
				&key, r->found, r->found_count, sizeof *r->found, by_number);
			if (f != NULL)
				f->is_retired = true;
		}
	} while (rc == RC_OK && count == RETIRED_PAGE);
	return rc;
}

static enum rc
refuse_if_packs_are_elsewhere(struct rebuild *r, struct err *err)
{
	bool any = false;

	enum rc rc = db_chunk_any(r->db, &any, err);
	if (rc == RC_OK && any)
		rc = err_set(err, RC_CONFLICT, "packs-missing",
			"the pack directory is empty, but the database knows chunks: is this the "
			"data directory that belongs to the database? If all packs are lost "
			"indeed, empty table chunk first");
	return rc;
}

/* The ids are reserved before the rows come, since a row with an id of its own does not move the
 * sequence on. */
static enum rc
list_packs(struct rebuild *r, struct err *err)
{
	enum rc rc = pack_dir_list(r->dir, take_id, r, err);
	if (rc != RC_OK)
		return rc;
	if (r->found_count == 0)
		return refuse_if_packs_are_elsewhere(r, err);
	qsort(r->found, r->found_count, sizeof *r->found, by_number);
	rc = mark_retired(r, err);
	qsort(r->found, r->found_count, sizeof *r->found, by_preference);
	if (rc != RC_OK || r->highest_id == 0)
		return rc;
	return db_pack_reserve_ids(r->db, r->highest_id, err);
}

/* ---- rows ---- */

static enum rc
flush_rows(struct rebuild *r, struct err *err)
{
	enum rc rc = RC_OK;

	if (r->row_count > 0)
		rc = db_rebuild_add_chunks(
			r->tx, r->rows, r->row_count, &r->report->duplicates, err);
	r->row_count = 0;
	return rc;
}

static enum rc
flush_packs(struct rebuild *r, struct err *err)
{
	enum rc rc = RC_OK;

	if (r->pack_count > 0)
		rc = db_rebuild_add_packs(r->tx, r->packs, r->pack_count, err);
	r->pack_count = 0;
	return rc;
}

static enum rc
add_pack(struct rebuild *r, const struct db_rebuild_pack *pack, struct err *err)
{
	r->packs[r->pack_count++] = *pack;
	return r->pack_count == PACK_BATCH ? flush_packs(r, err) : RC_OK;
}

/* ---- frames ---- */

static bool
reserve_frame(struct rebuild *r, const struct pack_frame_view *f)
{
	if (f->raw_bytes > r->raw_cap) {
		free(r->raw);
		r->raw = malloc(f->raw_bytes);
		r->raw_cap = r->raw != NULL ? f->raw_bytes : 0;
	}
	if (f->chunk_count > r->job_cap) {
		free(r->jobs);
		free(r->hashes);
		r->jobs = malloc(f->chunk_count * sizeof *r->jobs);
		r->hashes = malloc(f->chunk_count * sizeof *r->hashes);
		r->job_cap = f->chunk_count;
	}
	return r->raw != NULL && r->jobs != NULL && r->hashes != NULL;
}

static void
hash_chunks(struct rebuild *r, const struct pack_frame_view *f, const uint8_t *raw)
{
	struct pack_chunk chunk;

	for (uint32_t i = 0; i < f->chunk_count; i++) {
		pack_frame_chunk(f, i, &chunk);
		r->jobs[i] = (struct sha256_job){raw, chunk.length, &r->hashes[i]};
		raw += chunk.length;
	}
	sha256_many(r->jobs, f->chunk_count);
}

static void
note_damage(struct rebuild *r, uint64_t chunks, uint64_t bytes)
{
	r->damaged = true;
	r->report->damaged_frames++;
	r->report->damaged_chunks += chunks;
	r->report->damaged_bytes += bytes;
}

/* Rows for those chunks whose hashes are what the frame says. */
static enum rc
take_chunks(struct rebuild *r, const struct pack_frame_view *f, struct err *err)
{
	struct pack_chunk chunk;
	uint64_t raw_offset = 0;
	uint64_t bad_chunks = 0;
	uint64_t bad_bytes = 0;
	enum rc rc = RC_OK;

	for (uint32_t i = 0; rc == RC_OK && i < f->chunk_count; i++, raw_offset += chunk.length) {
		pack_frame_chunk(f, i, &chunk);
		if (!sha256_equal(&chunk.hash, &r->hashes[i])) {
			bad_chunks++;
			bad_bytes += chunk.length;
			continue;
		}
		r->rows[r->row_count++] = (struct chunk_row){
			.repo_id = r->repo_id,
			.hash = chunk.hash,
			.pack_id = f->place.pack_id,
			.frame_offset = f->place.offset,
			.frame_bytes = f->place.bytes,
			.raw_offset = raw_offset,
			.length = chunk.length,
		};
		if (r->row_count == CHUNK_BATCH)
			rc = flush_rows(r, err);
	}
	if (bad_chunks > 0)
		note_damage(r, bad_chunks, bad_bytes);
	return rc;
}

static enum rc
take_frame(void *arg, const struct pack_frame_view *f, struct err *err)
{
	struct rebuild *r = arg;
	struct err why = ERR_INIT;
	const uint8_t *raw = f->stored;

	r->report->frames++;
	if (!reserve_frame(r, f))
		return no_memory(err);
	if (f->codec != CODEC_RAW) {
		enum rc rc = codec_expand(
			r->codec, f->codec, f->stored, f->stored_bytes, r->raw, f->raw_bytes, &why);
		if (rc == RC_CORRUPT) {
			note_damage(r, 0, f->place.bytes);
			return RC_OK;
		}
		if (rc != RC_OK) {
			*err = why;
			return rc;
		}
		raw = r->raw;
	}
	hash_chunks(r, f, raw);
	return take_chunks(r, f, err);
}

/* ---- packs ---- */

/* What a pack says of itself outside its frames. */
struct labels {
	bool has_header;
	struct pack_header header;
	bool has_footer;
	bool footer_is_damaged;
	uint8_t footer_uuid[PACK_UUID_BYTES];
};

/* Damage and bad places on the disk are answers here. */
static bool
is_answer(enum rc rc)
{
	return rc == RC_OK || rc == RC_NOT_FOUND || rc == RC_CORRUPT || rc == RC_IO;
}

static enum rc
read_labels(struct rebuild *r, uint64_t id, struct labels *out, struct err *err)
{
	struct err why = ERR_INIT;
	struct pack_index footer;

	*out = (struct labels){.has_header = false};
	enum rc rc = pack_read_header(r->readers, id, &out->header, &why);
	out->has_header = rc == RC_OK;
	if (is_answer(rc)) {
		err_clear(&why);
		rc = pack_read_footer(r->readers, id, &footer, &why);
		out->has_footer = rc == RC_OK;
		out->footer_is_damaged = rc == RC_CORRUPT || rc == RC_IO;
		memcpy(out->footer_uuid, footer.repo_uuid, sizeof out->footer_uuid);
		pack_index_done(&footer);
	}
	pack_readers_forget(r->readers, id);
	if (is_answer(rc))
		return RC_OK;
	*err = why;
	return rc;
}

/* The repository: by the header, else by the footer, else by the row. 0: unknown. */
static enum rc
find_repo(struct rebuild *r, uint64_t id, const struct labels *labels,
	struct db_rebuild_known *known, uint64_t *repo_id, struct err *err)
{
	const uint8_t *uuid = NULL;

	if (labels->has_header)
		uuid = labels->header.repo_uuid;
	else if (labels->has_footer)
		uuid = labels->footer_uuid;
	enum rc rc = db_rebuild_lookup(r->tx, id, uuid, known, err);
	if (rc == RC_OK)
		*repo_id = uuid != NULL ? known->repo_id : known->row_repo_id;
	return rc;
}

/* A crash explains a bad end, but not in a pack that was sealed or closed. */
static bool
is_crash_left(const struct labels *labels, const struct db_rebuild_known *known)
{
	return !labels->footer_is_damaged && (!known->has_row || known->row_state == PACK_OPEN ||
						     known->row_state == PACK_REWRITING);
}

/* What the row should say. A pack with something to cut off is left open: the next start does that,
 * with all the care it takes. One that is damaged stays as it is. */
static enum pack_state
state_of(const struct pack_scan_stats *s, bool crash_left, bool damaged)
{
	bool needs_care = s->frames == 0 || s->end_bytes < s->file_bytes;

	if (s->ends_with_footer && s->end_bytes == s->file_bytes)
		return PACK_SEALED;
	return needs_care && crash_left && !damaged ? PACK_OPEN : PACK_CLOSED;
}

static void
count_scan(struct rebuild *r, const struct pack_scan_stats *s, bool crash_left)
{
	struct rebuild_report *report = r->report;

	report->packs++;
	report->damaged_bytes += s->damaged_bytes;
	if (s->torn_bytes == 0 || crash_left)
		report->torn_bytes += s->torn_bytes;
	else
		report->damaged_bytes += s->torn_bytes;
	/* bad payloads at the end of a pack that a crash left are torn, not damaged */
	if (s->damaged_places > 0 || !crash_left)
		report->damaged_frames += s->damaged_frames;
	/* a process may die before it has written anything, the header included */
	bool header_is_wrong = !s->header_ok && (s->frames > 0 || !crash_left);
	if (s->damaged_bytes > 0 || s->unreadable_bytes > 0 || header_is_wrong ||
		(s->torn_bytes > 0 && !crash_left))
		r->damaged = true;
	report->damaged_packs += r->damaged;
}

static enum rc
read_pack(struct rebuild *r, uint64_t id, const struct labels *labels,
	const struct db_rebuild_known *known, struct err *err)
{
	bool crash_left = is_crash_left(labels, known);
	struct pack_scan_stats stats;

	r->damaged = labels->footer_is_damaged;
	/* what can be read but was never synced must not be promised */
	enum rc rc = pack_sync(r->dir, id, err);
	if (rc == RC_OK)
		rc = pack_scan(r->dir, id, take_frame, r, &stats, err);
	if (rc != RC_OK)
		return rc;
	count_scan(r, &stats, crash_left);
	struct db_rebuild_pack pack = {
		.id = id,
		.repo_id = r->repo_id,
		.state = state_of(&stats, crash_left, r->damaged),
		.was_retired = known->has_row && known->row_state == PACK_RETIRED,
		.bytes = stats.file_bytes,
		.created_us = stats.header_ok ? stats.header.created_us : 0,
	};
	return add_pack(r, &pack, err);
}

static enum rc
take_pack(struct rebuild *r, uint64_t id, struct err *err)
{
	struct db_rebuild_known known;
	struct labels labels;

	if (id > DB_PACK_ID_MAX) {
		r->report->unknown_packs++;
		return RC_OK;
	}
	enum rc rc = read_labels(r, id, &labels, err);
	if (rc == RC_OK)
		rc = find_repo(r, id, &labels, &known, &r->repo_id, err);
	if (rc != RC_OK)
		return rc;
	if (r->repo_id != 0)
		return read_pack(r, id, &labels, &known, err);
	r->report->unknown_packs++;
	return add_pack(r, &(struct db_rebuild_pack){.id = id}, err);
}

/* ---- the transaction ---- */

static enum rc
finish(struct rebuild *r, struct err *err)
{
	struct db_rebuild_counts counts;

	enum rc rc = flush_rows(r, err);
	if (rc == RC_OK)
		rc = flush_packs(r, err);
	if (rc == RC_OK)
		rc = db_rebuild_finish(r->tx, &counts, err);
	if (rc != RC_OK)
		return rc;
	r->report->chunks = counts.chunks;
	r->report->bytes = counts.bytes;
	r->report->chunks_added = counts.chunks_added;
	r->report->chunks_moved = counts.chunks_moved;
	r->report->lost_chunks = counts.chunks_gone;
	r->report->packs_added = counts.packs_added;
	r->report->packs_changed = counts.packs_changed;
	r->report->packs_gone = counts.packs_gone;
	return RC_OK;
}

/* May run again from the start. */
static enum rc
run_rebuild(struct db_tx *tx, void *arg, struct err *err)
{
	struct rebuild *r = arg;

	memset(r->report, 0, sizeof *r->report);
	r->tx = tx;
	r->row_count = 0;
	r->pack_count = 0;
	enum rc rc = db_rebuild_begin(tx, err);
	for (size_t i = 0; rc == RC_OK && i < r->found_count; i++)
		rc = take_pack(r, r->found[i].id, err);
	return rc == RC_OK ? finish(r, err) : rc;
}

static enum rc
open_tools(struct rebuild *r, struct err *err)
{
	r->rows = malloc(CHUNK_BATCH * sizeof *r->rows);
	r->packs = malloc(PACK_BATCH * sizeof *r->packs);
	if (r->rows == NULL || r->packs == NULL)
		return no_memory(err);
	enum rc rc = codec_open(&r->codec, err);
	return rc == RC_OK ? pack_readers_open(r->dir, FDS_MAX, &r->readers, err) : rc;
}

static void
close_tools(struct rebuild *r)
{
	pack_readers_free(r->readers);
	codec_free(r->codec);
	free(r->found);
	free(r->raw);
	free(r->jobs);
	free(r->hashes);
	free(r->rows);
	free(r->packs);
}

enum rc
rebuild_index(struct db *db, struct pack_dir *dir, struct rebuild_report *out, struct err *err)
{
	struct rebuild r = {.db = db, .dir = dir, .report = out};

	memset(out, 0, sizeof *out);
	enum rc rc = open_tools(&r, err);
	if (rc == RC_OK)
		rc = list_packs(&r, err);
	if (rc == RC_OK)
		rc = db_run(db, run_rebuild, &r, err);
	close_tools(&r);
	return rc;
}

bool
rebuild_is_clean(const struct rebuild_report *report)
{
	return report->damaged_packs == 0 && report->lost_chunks == 0;
}
