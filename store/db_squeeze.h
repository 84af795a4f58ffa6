/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_SQUEEZE_H
#define DG_DB_SQUEEZE_H

#include <stddef.h>
#include <stdint.h>

#include "db_pack.h"
#include "err.h"

/* db_squeeze: which packs are worth recompressing, and what came of it.
 *
 * A pack is looked at once: its expected gain is noted, or that there is none. The best one of
 * those that were looked at is recompressed next. */

struct db;

struct squeeze_pack {
	uint64_t id;
	uint64_t repo_id;
	uint8_t repo_uuid[16];
	uint64_t bytes;
	uint64_t gain; /* 0 also if it was not looked at */
	enum pack_squeeze squeeze;
};

/* Which packs count: sealed or closed ones of repositories that are not dropped, and of them */
struct squeeze_filter {
	uint64_t cold_us;     /* that nobody has written to for so long, */
	uint64_t id_max;      /* with ids up to this one, */
	const uint64_t *skip; /* but for these */
	size_t skip_count;
};

/* As uploaded and not looked at: up to limit, oldest first. */
enum rc db_squeeze_unknown(struct db *db, const struct squeeze_filter *f,
	struct squeeze_pack *packs, size_t limit, size_t *count, struct err *err);
/* As uploaded, looked at, with the largest gain: at most one. */
enum rc db_squeeze_best(struct db *db, const struct squeeze_filter *f, struct squeeze_pack *pack,
	size_t *count, struct err *err);
/* Packs of a repository of less than bytes_max, but for the one of that id: those as uploaded and
 * looked at first, then the others; the smallest first. */
struct squeeze_small {
	uint64_t repo_id;
	uint64_t other_than;
	uint64_t bytes_max;
};
enum rc db_squeeze_small(struct db *db, const struct squeeze_filter *f,
	const struct squeeze_small *which, struct squeeze_pack *packs, size_t limit, size_t *count,
	struct err *err);

/* It was looked at. Nothing happens to a pack that is not as uploaded any more. */
enum rc db_squeeze_note(
	struct db *db, uint64_t id, uint64_t gain, uint64_t raw_bytes, struct err *err);
/* It is left as it is for good. raw_bytes 0: not known, or known before. */
enum rc db_squeeze_leave(struct db *db, uint64_t id, uint64_t raw_bytes, struct err *err);

/* Since ever, and now. */
struct squeeze_sums {
	uint64_t packs_before, packs_after, bytes_before, bytes_after, raw_bytes, frames, cpu_us;
	uint64_t left_packs; /* as uploaded, sealed or closed */
	uint64_t left_bytes;
	uint64_t left_gain;    /* of those that were looked at */
	uint64_t left_unknown; /* packs that were not */
	uint64_t retired_packs;
	uint64_t retired_bytes;
	uint64_t open_packs; /* written by uploads now, with ids up to open_id_max */
};
enum rc db_squeeze_sums(
	struct db *db, uint64_t open_id_max, struct squeeze_sums *out, struct err *err);

#endif
