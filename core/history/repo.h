/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_REPO_H
#define DG_REPO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "ingest.h"

/* repo: repositories, by name. Once read, a struct repo stays in memory until the end, so that a
 * pointer to it is never stale; a dropped one is marked and no longer found by its name.
 * Threads: any. Functions that say "blocks" run SQL. */

#define REPO_NAME_BYTES_MAX        100
#define REPO_DESCRIPTION_BYTES_MAX 1024

struct db;
struct repos;

/* A description; those before it stay until the end, because somebody may be reading one. */
struct repo_text {
	struct repo_text *older;
	char bytes[];
};

struct repo {
	/* immutable */
	uint64_t id;
	char name[REPO_NAME_BYTES_MAX + 1];
	int64_t created_us;
	struct ingest_space space; /* repo_id, uuid, chunker */
	/* any thread */
	atomic_bool dropped;
	_Atomic(struct repo_text *) text; /* see repo_description */
	/* the registry's */
	struct repo *next;
};

/* chunk_target: of repositories made without saying one. */
enum rc repos_open(struct db *db, uint32_t chunk_target, struct repos **out, struct err *err);
void repos_free(struct repos *rs);

/* Borrowed until the end. */
const char *repo_description(const struct repo *repo);

/* From memory only; NULL if it was not read yet (or does not exist). Does not block. */
struct repo *repo_cached(struct repos *rs, const char *name);
/* RC_NOT_FOUND kind "repo-not-found". Blocks. */
enum rc repo_find(struct repos *rs, const char *name, struct repo **out, struct err *err);
/* Find or create. chunk_target 0: whatever it is, the default if new. An existing repository with
 * another target: RC_CONFLICT kind "repo-mismatch". RC_INVALID: name or target. A description
 * (NULL: none was given) replaces the one it has. *created says
 * which. Blocks. */
enum rc repo_create(struct repos *rs, const char *name, uint32_t chunk_target,
	const char *description, struct repo **out, bool *created, struct err *err);
/* Take its name away; what it holds is swept later. Its stages end. Blocks. */
enum rc repo_drop(struct repos *rs, struct repo *repo, struct err *err);
struct repo_swept {
	bool more;       /* there is work left */
	uint64_t chunks; /* chunk rows that were deleted: see ingest_chunks_gone */
};
/* Sweep one batch of a dropped repository. Packs that are gone are removed by remove_pack. *out is
 * filled also after a failure. Blocks; safe to repeat after a crash. */
enum rc repo_sweep(struct repos *rs,
	enum rc (*remove_pack)(void *arg, uint64_t pack_id, struct err *), void *arg,
	struct repo_swept *out, struct err *err);

struct repo_statistics {
	uint64_t chunks, chunk_bytes, packs, pack_bytes, stages, commits, refs;
};
/* Counted now; blocks. */
enum rc repo_statistics(
	struct repos *rs, const struct repo *repo, struct repo_statistics *out, struct err *err);

/* Names after `after` ("" = from the start), in byte order: fn for up to limit repositories.
 * Blocks. */
enum rc repo_list(struct repos *rs, const char *after, size_t limit,
	void (*fn)(void *arg, const struct repo *repo), void *arg, struct err *err);

#endif
