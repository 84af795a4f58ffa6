/* SPDX-License-Identifier: Apache-2.0 */
#include "recover.h"

#include <stdlib.h>
#include <string.h>

#include "db_chunk.h"
#include "db_pack.h"
#include "pack_dir.h"
#include "pack_scan.h"
#include "pack_trim.h"
#include "rewrite.h"

/* Packs looked at together. A process has a handful open, so nearly always one page is all. */
#define PAGE 256

/* A pack whose row is open. */
struct left {
	uint64_t id;
	bool has_file;
	struct pack_scan_stats stats;
	uint64_t row_end; /* where the last frame ends that a chunk row names; 0 if none does */
};

struct recovery {
	struct db *db;
	struct pack_dir *dir;
	struct recover_report *report;
	struct left packs[PAGE];
	size_t count;
};

/* ---- ids ---- */

struct ids_on_disk {
	uint64_t given; /* the last one the database gave out */
	uint64_t highest;
	uint64_t unlisted;
};

static enum rc
note_id(void *arg, uint64_t pack_id, struct err *err)
{
	struct ids_on_disk *ids = arg;

	(void)err;
	if (pack_id <= ids->given)
		return RC_OK;
	ids->unlisted++;
	/* no sequence gave a larger one: a stray name must not use the sequence up */
	if (pack_id <= DB_PACK_ID_MAX && pack_id > ids->highest)
		ids->highest = pack_id;
	return RC_OK;
}

static enum rc
reserve_ids(struct recovery *r, struct err *err)
{
	struct ids_on_disk ids = {0};

	enum rc rc = db_pack_last_id(r->db, &ids.given, err);
	if (rc == RC_OK)
		rc = pack_dir_list(r->dir, note_id, &ids, err);
	if (rc != RC_OK)
		return rc;
	r->report->unlisted = ids.unlisted;
	return ids.highest > 0 ? db_pack_reserve_ids(r->db, ids.highest, err) : RC_OK;
}

/* ---- looking ---- */

static bool
has_damage(const struct pack_scan_stats *s)
{
	return s->damaged_bytes > 0 || s->unreadable_bytes > 0 || (!s->header_ok && s->frames > 0);
}

/* Are there bytes, beyond zeros behind the last right thing, that might be somebody's? */
static bool
needs_rows(const struct left *p)
{
	return !p->has_file || p->stats.frames == 0 || p->stats.torn_bytes > 0 ||
	       has_damage(&p->stats);
}

static enum rc
look(struct recovery *r, struct left *p, struct err *err)
{
	struct err why = ERR_INIT;

	enum rc rc = pack_scan(r->dir, p->id, NULL, NULL, &p->stats, &why);
	p->has_file = rc == RC_OK;
	if (rc == RC_OK || rc == RC_NOT_FOUND)
		return RC_OK;
	*err = why;
	return rc;
}

/* Find the ends of what chunk rows name, in all packs of the page that are not plainly clean. */
static enum rc
ask_rows(struct recovery *r, struct err *err)
{
	struct left *asked[PAGE];
	uint64_t ids[PAGE];
	uint64_t ends[PAGE];
	size_t n = 0;

	for (size_t i = 0; i < r->count; i++)
		if (needs_rows(&r->packs[i])) {
			asked[n] = &r->packs[i];
			ids[n++] = r->packs[i].id;
		}
	if (n == 0)
		return RC_OK;
	enum rc rc = db_chunk_pack_ends(r->db, ids, n, ends, err);
	for (size_t i = 0; rc == RC_OK && i < n; i++)
		asked[i]->row_end = ends[i];
	return rc;
}

/* ---- acting: the file first, then the row, so that a crash between them is found again ---- */

static enum rc
settle_missing(struct recovery *r, const struct left *p, struct err *err)
{
	bool is_named = p->row_end > 0;

	enum rc rc = is_named ? db_pack_close(r->db, p->id, PACK_CLOSED, 0, err)
			      : db_pack_delete(r->db, p->id, err);
	if (rc == RC_OK)
		*(is_named ? &r->report->missing : &r->report->removed) += 1;
	return rc;
}

static enum rc
settle_empty(struct recovery *r, const struct left *p, struct err *err)
{
	enum rc rc = pack_remove(r->dir, p->id, err);

	if (rc == RC_OK)
		rc = db_pack_delete(r->db, p->id, err);
	if (rc == RC_OK)
		r->report->removed++;
	return rc;
}

/* How much of the file stays. */
static uint64_t
kept_bytes(const struct left *p)
{
	const struct pack_scan_stats *s = &p->stats;
	uint64_t keep = s->end_bytes > p->row_end ? s->end_bytes : p->row_end;

	/* what the disk did not give this time it may give the next */
	if (s->unreadable_bytes > 0 || keep > s->file_bytes)
		return s->file_bytes;
	return keep;
}

static enum rc
settle_used(struct recovery *r, const struct left *p, struct err *err)
{
	const struct pack_scan_stats *s = &p->stats;
	struct recover_report *report = r->report;
	uint64_t keep = kept_bytes(p);
	uint64_t spared = keep - s->end_bytes; /* not right, and not cut */
	bool sealed = s->ends_with_footer && spared == 0;

	enum rc rc = pack_trim(r->dir, p->id, keep, err);
	if (rc == RC_OK)
		rc = db_pack_close(r->db, p->id, sealed ? PACK_SEALED : PACK_CLOSED, keep, err);
	if (rc != RC_OK)
		return rc;
	*(sealed ? &report->sealed : &report->closed) += 1;
	report->cut_bytes += s->file_bytes - keep;
	report->torn_bytes += s->torn_bytes > spared ? s->torn_bytes - spared : 0;
	report->damaged += has_damage(s) || p->row_end > s->end_bytes;
	return RC_OK;
}

static enum rc
settle(struct recovery *r, const struct left *p, struct err *err)
{
	if (!p->has_file)
		return settle_missing(r, p, err);
	if (p->stats.frames == 0 && p->row_end == 0 && p->stats.unreadable_bytes == 0)
		return settle_empty(r, p, err);
	return settle_used(r, p, err);
}

/* ---- all of it ---- */

/* The packs that are open and have ids above *after, which moves on. */
static enum rc
list_page(struct recovery *r, uint64_t *after, struct err *err)
{
	uint64_t ids[PAGE];

	r->count = 0;
	enum rc rc = db_pack_list_open(r->db, ids, PAGE, &r->count, err);
	if (rc != RC_OK || r->count == 0)
		return rc;
	/* all of the page before were closed */
	if (ids[0] <= *after)
		return err_set(err, RC_BUG, NULL, "a pack could not be closed");
	*after = ids[r->count - 1];
	for (size_t i = 0; i < r->count; i++)
		r->packs[i] = (struct left){.id = ids[i]};
	return RC_OK;
}

static enum rc
recover_page(struct recovery *r, struct err *err)
{
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < r->count; i++)
		rc = look(r, &r->packs[i], err);
	if (rc == RC_OK)
		rc = ask_rows(r, err);
	for (size_t i = 0; rc == RC_OK && i < r->count; i++)
		rc = settle(r, &r->packs[i], err);
	return rc;
}

enum rc
recover_packs(struct db *db, struct pack_dir *dir, struct recover_report *out, struct err *err)
{
	uint64_t after = 0;

	memset(out, 0, sizeof *out);
	struct recovery *r = calloc(1, sizeof *r);
	if (r == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	r->db = db;
	r->dir = dir;
	r->report = out;
	enum rc rc = reserve_ids(r, err);
	if (rc == RC_OK)
		rc = rewrite_clean(db, dir, &out->unfinished, err);
	do {
		if (rc == RC_OK)
			rc = list_page(r, &after, err);
		if (rc == RC_OK)
			rc = recover_page(r, err);
	} while (rc == RC_OK && r->count > 0);
	free(r);
	return rc;
}
