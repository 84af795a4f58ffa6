/* SPDX-License-Identifier: Apache-2.0 */
#include "repo.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db_pack.h"
#include "db_repo.h"
#include "name.h"
#include "rand.h"
#include "recipe.h"

#define SWEEP_ROWS  5000
#define SWEEP_PACKS 64

struct repos {
	struct db *db;
	uint32_t chunk_target;
	pthread_mutex_t mtx;
	struct repo *all; /* guarded by mtx; grows only */
};

enum rc
repos_open(struct db *db, uint32_t chunk_target, struct repos **out, struct err *err)
{
	struct repos *rs = calloc(1, sizeof *rs);

	if (rs == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	rs->db = db;
	rs->chunk_target = chunk_target;
	pthread_mutex_init(&rs->mtx, NULL);
	*out = rs;
	return RC_OK;
}

static void
repo_free(struct repo *r)
{
	struct repo_text *t = r != NULL ? atomic_load(&r->text) : NULL;

	while (t != NULL) {
		struct repo_text *older = t->older;
		free(t);
		t = older;
	}
	free(r);
}

static bool
set_text(struct repo *r, const char *description)
{
	size_t len = strlen(description) + 1;
	struct repo_text *t = malloc(sizeof *t + len);

	if (t == NULL)
		return false;
	memcpy(t->bytes, description, len);
	t->older = atomic_load(&r->text);
	while (!atomic_compare_exchange_weak(&r->text, &t->older, t))
		;
	return true;
}

const char *
repo_description(const struct repo *repo)
{
	return atomic_load(&((struct repo *)(uintptr_t)repo)->text)->bytes;
}

void
repos_free(struct repos *rs)
{
	if (rs == NULL)
		return;
	while (rs->all != NULL) {
		struct repo *r = rs->all;
		rs->all = r->next;
		repo_free(r);
	}
	pthread_mutex_destroy(&rs->mtx);
	free(rs);
}

static struct repo *
lookup(struct repos *rs, const char *name)
{
	for (struct repo *r = rs->all; r != NULL; r = r->next)
		if (!atomic_load(&r->dropped) && strcmp(r->name, name) == 0)
			return r;
	return NULL;
}

struct repo *
repo_cached(struct repos *rs, const char *name)
{
	pthread_mutex_lock(&rs->mtx);
	struct repo *r = lookup(rs, name);
	pthread_mutex_unlock(&rs->mtx);
	return r;
}

struct keep {
	struct repos *rs;
	struct repo *repo;
	void (*fn)(void *arg, const struct repo *repo);
	void *arg;
};

static enum rc
make(const struct repo_row *row, struct repo **out, struct err *err)
{
	if (row->chunker != CHUNKER_ID || row->hash_alg != RECIPE_HASH_SHA256) {
		err_set(err, RC_CORRUPT, "corrupt-data",
			"this repository was made by a newer version of Digstore");
		return err_detail(err, "chunker %d hash %d", row->chunker, row->hash_alg);
	}
	struct repo *r = calloc(1, sizeof *r);
	if (r == NULL || !set_text(r, row->description)) {
		free(r);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	r->id = row->id;
	r->created_us = row->created_us;
	r->space.repo_id = row->id;
	memcpy(r->space.repo_uuid, row->uuid, sizeof r->space.repo_uuid);
	snprintf(r->name, sizeof r->name, "%s", row->name);
	enum rc rc = chunker_init(&r->space.chunker, (uint32_t)row->chunk_target, err);
	if (rc != RC_OK) {
		repo_free(r);
		return rc;
	}
	*out = r;
	return RC_OK;
}

/* Enter a row that was read; the one that is in memory already wins. */
static enum rc
keep_row(void *arg, const struct repo_row *row, struct err *err)
{
	struct keep *k = arg;
	struct repo *r = NULL;

	enum rc rc = make(row, &r, err);
	if (rc != RC_OK)
		return rc;
	pthread_mutex_lock(&k->rs->mtx);
	k->repo = NULL;
	for (struct repo *old = k->rs->all; old != NULL && k->repo == NULL; old = old->next)
		if (old->id == r->id)
			k->repo = old;
	if (k->repo == NULL) {
		r->next = k->rs->all;
		k->rs->all = k->repo = r;
		r = NULL; /* handed over */
	}
	pthread_mutex_unlock(&k->rs->mtx);
	repo_free(r);
	if (k->fn != NULL)
		k->fn(k->arg, k->repo);
	return RC_OK;
}

enum rc
repo_find(struct repos *rs, const char *name, struct repo **out, struct err *err)
{
	struct keep k = {.rs = rs};

	if ((*out = repo_cached(rs, name)) != NULL)
		return RC_OK;
	enum rc rc = name_check_repo(name, strlen(name), err);
	if (rc == RC_OK)
		rc = db_repo_find(rs->db, name, keep_row, &k, err);
	if (rc == RC_OK)
		*out = k.repo;
	return rc;
}

static enum rc
check_target(const struct repo *r, uint32_t chunk_target, struct err *err)
{
	if (chunk_target == 0 || chunk_target == r->space.chunker.target)
		return RC_OK;
	return err_set(err, RC_CONFLICT, "repo-mismatch",
		"repository \"%s\" exists with a chunk target of %u bytes, which never changes",
		r->name, r->space.chunker.target);
}

enum rc
repo_create(struct repos *rs, const char *name, uint32_t chunk_target, const char *description,
	struct repo **out, bool *created, struct err *err)
{
	struct keep k = {.rs = rs};
	struct chunker probe;

	*created = false;
	enum rc rc = name_check_repo(name, strlen(name), err);
	if (rc == RC_OK && chunk_target != 0)
		rc = chunker_init(&probe, chunk_target, err);
	if (rc != RC_OK)
		return rc;
	struct repo *r = repo_cached(rs, name);
	if (r == NULL) {
		struct repo_row row = {
			.name = name,
			.chunker = CHUNKER_ID,
			.hash_alg = RECIPE_HASH_SHA256,
			.chunk_target = chunk_target != 0 ? chunk_target : rs->chunk_target,
			.description = description != NULL ? description : "",
		};
		rand_bytes(row.uuid, sizeof row.uuid);
		rc = db_repo_create(rs->db, &row, created, keep_row, &k, err);
		if (rc != RC_OK)
			return rc;
		r = k.repo;
	}
	if (!*created)
		rc = check_target(r, chunk_target, err);
	if (rc == RC_OK && !*created && description != NULL &&
		strcmp(description, repo_description(r)) != 0) {
		rc = db_repo_describe(rs->db, r->id, description, err);
		if (rc == RC_OK && !set_text(r, description))
			rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	if (rc == RC_OK)
		*out = r;
	return rc;
}

enum rc
repo_drop(struct repos *rs, struct repo *repo, struct err *err)
{
	enum rc rc = db_repo_drop(rs->db, repo->id, err);

	if (rc == RC_OK)
		atomic_store(&repo->dropped, true);
	return rc;
}

enum rc
repo_sweep(struct repos *rs, enum rc (*remove_pack)(void *arg, uint64_t pack_id, struct err *),
	void *arg, struct repo_swept *out, struct err *err)
{
	uint64_t after = 0, packs[SWEEP_PACKS];
	struct db_repo_swept swept;
	size_t count;

	*out = (struct repo_swept){.more = true};
	enum rc rc = db_repo_sweep(rs->db, SWEEP_ROWS, &swept, err);
	if (rc != RC_OK)
		return rc;
	*out = (struct repo_swept){swept.left, swept.chunks};
	uint64_t id = swept.id;
	if (id == 0)
		return RC_OK;
	do {
		rc = db_pack_list(rs->db, id, after, packs, SWEEP_PACKS, &count, err);
		for (size_t i = 0; rc == RC_OK && i < count; i++) {
			after = packs[i];
			rc = remove_pack(arg, packs[i], err);
			if (rc == RC_NOT_FOUND) { /* removed before a crash */
				err_clear(err);
				rc = RC_OK;
			}
		}
	} while (rc == RC_OK && count == SWEEP_PACKS);
	if (rc == RC_OK)
		rc = db_repo_delete(rs->db, id, err);
	return rc;
}

enum rc
repo_statistics(
	struct repos *rs, const struct repo *repo, struct repo_statistics *out, struct err *err)
{
	struct repo_counts c;

	enum rc rc = db_repo_counts(rs->db, repo->id, &c, err);
	if (rc == RC_OK)
		*out = (struct repo_statistics){c.chunks, c.chunk_bytes, c.packs, c.pack_bytes,
			c.stages, c.commits, c.refs};
	return rc;
}

enum rc
repo_list(struct repos *rs, const char *after, size_t limit,
	void (*fn)(void *arg, const struct repo *repo), void *arg, struct err *err)
{
	struct keep k = {.rs = rs, .fn = fn, .arg = arg};

	return db_repo_list(rs->db, after, limit, keep_row, &k, err);
}
