/* SPDX-License-Identifier: Apache-2.0 */
#include "retire.h"

#include <stdlib.h>
#include <string.h>

#include "db_chunk.h"
#include "db_retired.h"
#include "pack_dir.h"
#include "pack_reader.h"
#include "source.h"

#define BATCH 4 /* packs of one call: some 10 ms each */

/* One pack on its way out. */
struct leaving {
	const struct retire_options *o;
	struct source *source; /* NULL: there is no file any more */
	struct retired_uses *uses;
	uint64_t seen; /* the other pack that was last found to be there */
};

/* ---- is it needed? ---- */

/* Is the pack that rows name there? Reading its header is enough to know that it was not removed.
 */
static enum rc
check_other(struct leaving *l, uint64_t pack_id, bool *needed, struct err *err)
{
	struct pack_header header;
	struct err why = ERR_INIT;

	if (pack_id == l->seen)
		return RC_OK;
	enum rc rc = pack_read_header(l->o->readers, pack_id, &header, &why);
	if (rc == RC_CORRUPT || rc == RC_IO) {
		*needed = true;
		return RC_OK;
	}
	if (rc != RC_OK)
		*err = why;
	else
		l->seen = pack_id;
	return rc;
}

static enum rc
check_batch(struct leaving *l, const struct retired_pack *pack, size_t from, size_t count,
	bool *needed, struct err *err)
{
	enum rc rc = db_retired_uses(l->o->db, pack, l->source->chunks + from, count, l->uses, err);

	if (rc != RC_OK)
		return rc;
	*needed = l->uses->is_named || l->uses->is_bad;
	for (size_t i = 0; rc == RC_OK && !*needed && i < l->uses->other_count; i++)
		rc = check_other(l, l->uses->others[i], needed, err);
	return rc;
}

static enum rc
check_uses(struct leaving *l, const struct retired_pack *pack, bool *needed, struct err *err)
{
	const struct source *s = l->source;
	enum rc rc = RC_OK;

	for (size_t at = 0; rc == RC_OK && !*needed && at < s->chunk_count;
		at += DB_RETIRED_BATCH) {
		size_t left = s->chunk_count - at;
		rc = check_batch(l, pack, at, left < DB_RETIRED_BATCH ? left : DB_RETIRED_BATCH,
			needed, err);
	}
	return rc;
}

/* A process died between the file and the row: there are no hashes to ask by, so the whole table
 * is asked. */
static enum rc
check_without_file(
	struct leaving *l, const struct retired_pack *pack, bool *needed, struct err *err)
{
	uint64_t end = 0;

	enum rc rc = db_chunk_pack_ends(l->o->db, &pack->id, 1, &end, err);
	*needed = end > 0;
	return rc;
}

/* ---- going ---- */

static enum rc
remove_file(void *arg, uint64_t pack_id, struct err *err)
{
	const struct retire_options *o = arg;
	struct err why = ERR_INIT;

	pack_readers_forget(o->readers, pack_id);
	enum rc rc = pack_remove(o->packs, pack_id, &why);
	if (rc == RC_OK || rc == RC_NOT_FOUND)
		return RC_OK;
	*err = why;
	return rc;
}

static enum rc
let_go(struct leaving *l, const struct retired_pack *pack, bool *removed, struct err *err)
{
	const struct source *s = l->source;
	struct db_retired_removal r = {
		.pack = *pack,
		.chunks = s != NULL ? s->chunks : NULL,
		.chunk_count = s != NULL ? s->chunk_count : 0,
		.remove = remove_file,
		.arg = (void *)(uintptr_t)l->o,
	};

	enum rc rc = db_retired_remove(l->o->db, &r, err);
	*removed = rc == RC_OK && r.removed;
	return rc;
}

/* What of the pack cannot be read may be what is needed. */
static enum rc
open_source(struct leaving *l, const struct retired_pack *pack, bool *needed, struct err *err)
{
	const struct source_tools tools = {l->o->db, l->o->packs, l->o->readers};
	struct err why = ERR_INIT;

	enum rc rc = source_open(&tools, pack->id, pack->repo_id, &l->source, &why);
	*needed = (rc == RC_OK && l->source->is_damaged) || rc == RC_IO || rc == RC_TOO_LARGE;
	if (rc == RC_OK || rc == RC_NOT_FOUND || *needed)
		return RC_OK;
	*err = why;
	return rc;
}

static enum rc
look_at(struct leaving *l, const struct retired_pack *pack, struct retire_report *report,
	struct err *err)
{
	bool needed = false;
	bool removed = false;

	enum rc rc = open_source(l, pack, &needed, err);
	if (rc == RC_OK && !needed)
		rc = l->source != NULL ? check_uses(l, pack, &needed, err)
				       : check_without_file(l, pack, &needed, err);
	if (rc == RC_OK && !needed)
		rc = let_go(l, pack, &removed, err);
	if (rc == RC_OK && !removed)
		rc = db_retired_keep(l->o->db, pack->id, err);
	if (rc != RC_OK)
		return rc;
	report->removed += removed;
	report->bytes += removed ? pack->bytes : 0;
	report->kept += !removed;
	return RC_OK;
}

/* What is wrong with one pack shall not keep the others: it stands at the end of the line again. Of
 * what happened the first is told. */
static enum rc
pass_over(struct leaving *l, const struct retired_pack *pack, const struct err *why,
	enum rc *failed, struct err *err)
{
	struct err ignored = ERR_INIT;

	if (*failed == RC_OK)
		*err = *why;
	*failed = err->rc;
	if (why->rc == RC_UNAVAILABLE || why->rc == RC_NOMEM)
		return why->rc;
	return db_retired_keep(l->o->db, pack->id, &ignored) == RC_OK ? RC_OK : *failed;
}

enum rc
retire_packs(const struct retire_options *options, struct retire_report *out, struct err *err)
{
	struct retired_pack packs[BATCH];
	struct leaving l = {.o = options};
	enum rc failed = RC_OK;
	size_t count = 0;

	memset(out, 0, sizeof *out);
	enum rc rc = db_retired_due(options->db, options->grace_us, packs, BATCH, &count, err);
	if (rc != RC_OK || count == 0)
		return rc;
	l.uses = malloc(sizeof *l.uses);
	if (l.uses == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	for (size_t i = 0; rc == RC_OK && i < count; i++) {
		struct err why = ERR_INIT;
		rc = look_at(&l, &packs[i], out, &why);
		pack_readers_forget(options->readers, packs[i].id);
		source_free(l.source);
		l.source = NULL;
		if (rc != RC_OK)
			rc = pass_over(&l, &packs[i], &why, &failed, err);
	}
	free(l.uses);
	out->more = count == BATCH && out->removed > 0;
	return rc == RC_OK ? failed : rc;
}
