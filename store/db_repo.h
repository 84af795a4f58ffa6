/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_REPO_H
#define DG_DB_REPO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

/* db_repo: rows of table repo. */

struct db;

struct repo_row {
	uint64_t id;
	const char *name; /* borrowed: from the caller, or during the callback */
	uint8_t uuid[16];
	int chunker;
	int hash_alg;
	uint64_t chunk_target;
	const char *description;
	int64_t created_us;
};

typedef enum rc db_repo_fn(void *arg, const struct repo_row *row, struct err *err);

/* fn for the repository of that name. RC_NOT_FOUND kind "repo-not-found". */
enum rc db_repo_find(struct db *db, const char *name, db_repo_fn *fn, void *arg, struct err *err);
/* Insert unless there is one of that name; then fn for what is there. *created says which. */
enum rc db_repo_create(struct db *db, const struct repo_row *row, bool *created, db_repo_fn *fn,
	void *arg, struct err *err);
/* fn for up to limit repositories by name after `after`. */
enum rc db_repo_list(
	struct db *db, const char *after, size_t limit, db_repo_fn *fn, void *arg, struct err *err);
/* Replace the description. */
enum rc db_repo_describe(struct db *db, uint64_t id, const char *description, struct err *err);
/* Take the name away and delete its stages. RC_NOT_FOUND: it has none any more. */
enum rc db_repo_drop(struct db *db, uint64_t id, struct err *err);

struct db_repo_swept {
	bool left;       /* some repository is dropped and not gone yet */
	uint64_t id;     /* one whose rows are gone but whose packs and row are not, or 0 */
	uint64_t chunks; /* rows of table chunk that were deleted now */
};
/* Delete up to limit rows that belong to some dropped repository, packs aside. */
enum rc db_repo_sweep(struct db *db, size_t limit, struct db_repo_swept *out, struct err *err);
/* Delete the row of a swept repository and those of its packs. RC_OK: also if one of the packs is
 * in state PACK_REWRITING; that one and the repository stay then, and the next sweep finds them. */
enum rc db_repo_delete(struct db *db, uint64_t id, struct err *err);
/* Is there a repository of that id, and was it not dropped? */
enum rc db_repo_is_live(struct db *db, uint64_t id, bool *is_live, struct err *err);

/* packs, pack_bytes: without packs that were replaced and wait to be removed. */
struct repo_counts {
	uint64_t chunks, chunk_bytes, packs, pack_bytes, stages, commits, refs;
};
enum rc db_repo_counts(struct db *db, uint64_t id, struct repo_counts *out, struct err *err);
/* id of every repository by its uuid, dropped ones too; RC_NOT_FOUND. */
enum rc db_repo_by_uuid(struct db *db, const uint8_t uuid[16], uint64_t *id, struct err *err);

#endif
