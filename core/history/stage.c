/* SPDX-License-Identifier: Apache-2.0 */
/* The registry and the life of stages. Putting is in stage_put.c, progress in stage_progress.c. */
#include "stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "clock.h"
#include "hex.h"
#include "name.h"
#include "path.h"
#include "rand.h"
#include "stage_internal.h"
#include "stage_log.h"
#include "tree_node.h"

#define IDLE_NS        ((uint64_t)300 * 1000000000) /* then a stage leaves memory */
#define DUE_EVERY_NS   ((uint64_t)2 * 1000000000)
#define DUE_LIMIT      64
#define LOG_PAGE       4
#define LIST_LIMIT_MAX 1000

/* ---- registry ---- */

enum rc
stages_open(const struct stages_options *options, struct stages **out, struct err *err)
{
	struct stages *ss = calloc(1, sizeof *ss);

	if (ss == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	ss->options = *options;
	pthread_mutex_init(&ss->mtx, NULL);
	pthread_mutex_init(&ss->watch_mtx, NULL);
	pthread_cond_init(&ss->watch_idle, NULL);
	ss->watches.next = ss->watches.prev = &ss->watches;
	atomic_store(&ss->bottleneck, "none");
	enum rc rc = db_stage_reopen_all(options->db, err);
	if (rc != RC_OK) {
		free(ss);
		return rc;
	}
	*out = ss;
	return RC_OK;
}

static void
stage_free(struct stage *s)
{
	stage_map_free(s->map);
	pthread_mutex_destroy(&s->mtx);
	free(s);
}

struct save {
	uint64_t id;
	const struct buf *counters;
};

static enum rc
run_save(struct db_tx *tx, void *arg, struct err *err)
{
	const struct save *v = arg;

	return db_stage_counters(tx, v->id, v->counters->data, v->counters->len, err);
}

/* Progress survives a restart as far as this got; what it counts is safe without it. */
static void
save_counters(struct stages *ss, struct stage *s)
{
	struct err err = ERR_INIT;
	struct buf b;

	pthread_mutex_lock(&s->mtx);
	uint64_t mark = s->tick_mark;
	bool wanted =
		mark != s->saved_mark && (s->state == STAGE_OPEN || s->state == STAGE_COMMITTED);
	s->saved_mark = mark;
	pthread_mutex_unlock(&s->mtx);
	if (!wanted)
		return;
	buf_init(&b, STAGE_COUNTERS_MAX);
	stage_counters_save(s, &b);
	struct save v = {s->id, &b};
	if (buf_ok(&b))
		db_run(ss->options.db, run_save, &v, &err);
	buf_done(&b);
}

void
stages_free(struct stages *ss)
{
	if (ss == NULL)
		return;
	for (size_t b = 0; b < STAGE_BUCKETS; b++) {
		while (ss->buckets[b] != NULL) {
			struct stage *s = ss->buckets[b];
			ss->buckets[b] = s->next;
			stage_progress_tick(s, clock_mono_ns());
			save_counters(ss, s);
			stage_free(s);
		}
	}
	free(ss);
}

static struct stage **
bucket_of(struct stages *ss, uint64_t repo_id, const char *name)
{
	return &ss->buckets[checksum64_seeded(name, strlen(name), repo_id) % STAGE_BUCKETS];
}

/* Under the lock; takes a reference. */
static struct stage *
lookup(struct stages *ss, uint64_t repo_id, const char *name)
{
	for (struct stage *s = *bucket_of(ss, repo_id, name); s != NULL; s = s->next) {
		if (s->repo->id == repo_id && strcmp(s->name, name) == 0) {
			atomic_fetch_add(&s->refs, 1);
			return s;
		}
	}
	return NULL;
}

struct stage *
stage_cached(struct stages *ss, const struct repo *repo, const char *name)
{
	pthread_mutex_lock(&ss->mtx);
	struct stage *s = lookup(ss, repo->id, name);
	pthread_mutex_unlock(&ss->mtx);
	return s;
}

void
stage_ref(struct stage *s)
{
	atomic_fetch_add(&s->refs, 1);
}

void
stage_unref(struct stage *s)
{
	if (s != NULL && atomic_fetch_sub(&s->refs, 1) == 1)
		stage_free(s);
}

/* Take it out of the registry and drop the registry's reference. */
static void
unlist(struct stages *ss, struct stage *s)
{
	bool was_listed = false;

	pthread_mutex_lock(&ss->mtx);
	for (struct stage **at = bucket_of(ss, s->repo->id, s->name); *at != NULL;
		at = &(*at)->next) {
		if (*at == s) {
			*at = s->next;
			was_listed = true;
			break;
		}
	}
	pthread_mutex_unlock(&ss->mtx);
	if (was_listed)
		stage_unref(s);
}

/* ---- reading a stage from the database ---- */

static enum rc
replay(void *arg, const struct stage_batch_row *row, struct err *err)
{
	struct stage *s = arg;

	if (checksum64(row->records, row->records_bytes) != row->checksum) {
		err_set(err, RC_CORRUPT, "corrupt-data", "the log of this stage is damaged");
		return err_detail(err, "stage %llu batch %llu", (unsigned long long)s->id,
			(unsigned long long)row->seq);
	}
	s->seq = s->seq_tried = row->seq;
	return stage_log_replay(s->map, row->records, row->records_bytes, &s->replayed, err);
}

static enum rc
replay_log(struct stage *s, struct err *err)
{
	size_t count;
	enum rc rc;

	do {
		rc = db_stage_batches(
			s->ss->options.db, s->id, s->seq, LOG_PAGE, replay, s, &count, err);
	} while (rc == RC_OK && count == LOG_PAGE);
	return rc;
}

static enum rc
stage_new(struct stages *ss, struct repo *repo, const struct stage_row *row,
	const struct buf *counters, struct stage **out, struct err *err)
{
	struct stage *s = calloc(1, sizeof *s);

	if (s == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	s->ss = ss;
	s->repo = repo;
	s->id = row->id;
	snprintf(s->name, sizeof s->name, "%s", row->name);
	s->created_us = row->created_us;
	s->expires_us = row->expires_us;
	s->state = (enum stage_state)row->state;
	s->commit_id = row->commit_id;
	s->lives.next = s->lives.prev = &s->lives;
	s->used_ns = s->tick_ns = clock_mono_ns();
	s->updated_us = clock_wall_us();
	/* numbers go on growing over a restart, so that a client that waits for more is not left
	 * waiting */
	s->progress_seq = s->told_seq = (uint64_t)s->updated_us / 1000;
	atomic_store(&s->may_have_uploads, STAGE_UPLOADS_UNKNOWN);
	atomic_store(&s->refs, 2);
	pthread_mutex_init(&s->mtx, NULL);
	stage_counters_load(s, counters->data, counters->len);
	enum rc rc = stage_map_open(&s->map, err);
	if (rc == RC_OK && s->state == STAGE_OPEN) {
		rc = replay_log(s, err);
		stage_counters_replayed(s);
	}
	if (rc != RC_OK) {
		stage_free(s);
		return rc;
	}
	*out = s;
	return RC_OK;
}

/* Enter a stage that was read; if another thread was faster, take its one. */
static struct stage *
list(struct stages *ss, struct stage *s)
{
	pthread_mutex_lock(&ss->mtx);
	struct stage *other = lookup(ss, s->repo->id, s->name);
	if (other == NULL) {
		struct stage **bucket = bucket_of(ss, s->repo->id, s->name);
		s->next = *bucket;
		*bucket = s;
	}
	pthread_mutex_unlock(&ss->mtx);
	if (other == NULL)
		return s;
	stage_free(s);
	return other;
}

enum rc
stage_find(
	struct stages *ss, struct repo *repo, const char *name, struct stage **out, struct err *err)
{
	struct stage *s = stage_cached(ss, repo, name);
	struct stage_row row;
	struct buf counters;

	if (s != NULL) {
		*out = s;
		return RC_OK;
	}
	buf_init(&counters, STAGE_COUNTERS_MAX);
	enum rc rc = db_stage_find(ss->options.db, repo->id, name, &row, &counters, err);
	if (rc == RC_OK)
		rc = stage_new(ss, repo, &row, &counters, &s, err);
	if (rc == RC_OK)
		*out = list(ss, s);
	buf_done(&counters);
	return rc;
}

static void
invent_name(char *out)
{
	uint8_t random[8];

	rand_bytes(random, sizeof random);
	memcpy(out, "s-", 2);
	hex_encode(random, sizeof random, out + 2);
}

enum rc
stage_open(struct stages *ss, struct repo *repo, const char *name, uint64_t ttl_us,
	struct stage **out, bool *created, struct err *err)
{
	char invented[32];
	struct stage_row row;
	struct buf counters;
	struct stage *s;
	bool is_new = false;
	enum rc rc;

	if (name == NULL) {
		invent_name(invented);
		name = invented;
	}
	if (created != NULL)
		*created = false;
	rc = name_check_stage(name, strlen(name), err);
	if (rc != RC_OK)
		return rc;
	if (ttl_us == 0)
		ttl_us = ss->options.ttl_us;
	if (ttl_us > ss->options.ttl_max_us)
		return err_set(err, RC_INVALID, "invalid-field",
			"a stage may live for at most %llu seconds",
			(unsigned long long)(ss->options.ttl_max_us / 1000000));
	s = stage_cached(ss, repo, name);
	if (s != NULL) {
		*out = s;
		return RC_OK;
	}
	buf_init(&counters, STAGE_COUNTERS_MAX);
	rc = db_stage_open(ss->options.db, repo->id, name, clock_wall_us() + (int64_t)ttl_us, &row,
		&counters, &is_new, err);
	if (rc == RC_NOT_FOUND) /* dropped, perhaps by a request whose answer was lost */
		atomic_store(&repo->dropped, true);
	if (rc == RC_OK)
		rc = stage_new(ss, repo, &row, &counters, &s, err);
	if (rc == RC_OK) {
		int unknown = STAGE_UPLOADS_UNKNOWN;
		*out = list(ss, s);
		/* listed by whom it may: its row was made here, so what it has was written since */
		if (is_new)
			atomic_compare_exchange_strong(&(*out)->may_have_uploads, &unknown, 0);
		if (created != NULL)
			*created = is_new;
	}
	buf_done(&counters);
	return rc;
}

/* ---- state ---- */

static enum rc
check_open_locked(struct stage *s, struct err *err)
{
	if (s->state == STAGE_OPEN && s->expires_us > clock_wall_us())
		return RC_OK;
	switch (s->state) {
	case STAGE_OPEN: /* its time has come, the ticker only has not been here yet */
	case STAGE_EXPIRED:
		return err_set(
			err, RC_NOT_FOUND, "stage-expired", "stage \"%s\" has expired", s->name);
	case STAGE_COMMITTING:
		return err_set(err, RC_CONFLICT, "stage-committing",
			"stage \"%s\" is being committed now", s->name);
	case STAGE_COMMITTED:
		return err_set(err, RC_CONFLICT, "stage-committed",
			"stage \"%s\" was committed already; use another name", s->name);
	case STAGE_FAILED:
	case STAGE_GONE:
		break;
	}
	return err_set(
		err, RC_NOT_FOUND, "stage-not-found", "there is no stage \"%s\" any more", s->name);
}

enum rc
stage_check_open(struct stage *s, struct err *err)
{
	pthread_mutex_lock(&s->mtx);
	enum rc rc = check_open_locked(s, err);
	pthread_mutex_unlock(&s->mtx);
	return rc;
}

enum rc
stage_check_room(struct stage *s, struct err *err)
{
	size_t max = s->ss->options.memory_max;

	pthread_mutex_lock(&s->mtx);
	bool full = max > 0 && stage_map_memory(s->map) >= max;
	pthread_mutex_unlock(&s->mtx);
	if (!full)
		return RC_OK;
	return err_set(err, RC_TOO_LARGE, "stage-full",
		"the files of stage \"%s\" take the %zu bytes of memory that one stage may take; "
		"commit it and go on in another",
		s->name, max);
}

enum rc
stage_live_begin(struct stage *s, struct stage_live *live, struct err *err)
{
	pthread_mutex_lock(&s->mtx);
	enum rc rc = check_open_locked(s, err);
	if (rc == RC_OK) {
		live->prev = s->lives.prev;
		live->next = &s->lives;
		live->prev->next = live;
		s->lives.prev = live;
		s->live_count++;
		live->files_before = meter_get(&s->meter.files_received);
		s->used_ns = clock_mono_ns();
	}
	pthread_mutex_unlock(&s->mtx);
	return rc;
}

void
stage_live_received(struct stage *s, struct stage_live *live, uint64_t bytes)
{
	meter_add(&live->received_bytes, bytes);
	meter_add(&s->body_received, bytes);
}

void
stage_live_plan(struct stage *s, struct stage_live *live, const struct stage_sizes *sizes)
{
	pthread_mutex_lock(&s->mtx);
	live->plan = *sizes;
	live->planned = true;
	live->total_bytes = sizes->small_bytes + sizes->large_bytes;
	s->planned.small_files += sizes->small_files;
	s->planned.small_bytes += sizes->small_bytes;
	s->planned.large_files += sizes->large_files;
	s->planned.large_bytes += sizes->large_bytes;
	pthread_mutex_unlock(&s->mtx);
}

void
stage_live_end(struct stage *s, struct stage_live *live)
{
	pthread_mutex_lock(&s->mtx);
	live->prev->next = live->next;
	live->next->prev = live->prev;
	s->live_count--;
	s->planned.small_files -= live->plan.small_files;
	s->planned.small_bytes -= live->plan.small_bytes;
	s->planned.large_files -= live->plan.large_files;
	s->planned.large_bytes -= live->plan.large_bytes;
	s->ended_bytes += meter_get(&live->received_bytes);
	s->used_ns = clock_mono_ns();
	pthread_mutex_unlock(&s->mtx);
}

enum rc
stage_abandon(struct stages *ss, struct stage *s, struct err *err)
{
	pthread_mutex_lock(&s->mtx);
	enum stage_state was = s->state;
	uint64_t busy = s->live_count;
	if (was != STAGE_COMMITTING && busy == 0)
		s->state = STAGE_GONE;
	pthread_mutex_unlock(&s->mtx);
	if (was == STAGE_COMMITTING)
		return err_set(err, RC_CONFLICT, "stage-committing",
			"stage \"%s\" is being committed now", s->name);
	if (busy > 0)
		return err_set(err, RC_CONFLICT, "stage-busy",
			"%llu uploads into stage \"%s\" are still under way",
			(unsigned long long)busy, s->name);
	enum rc rc = db_stage_delete(ss->options.db, s->id, err);
	if (rc == RC_OK) {
		unlist(ss, s);
		return RC_OK;
	}
	pthread_mutex_lock(&s->mtx);
	s->state = was; /* the answer says that it was not done */
	pthread_mutex_unlock(&s->mtx);
	return rc;
}

enum rc
stage_begin_commit(struct stage *s, bool allow_empty, struct err *err)
{
	pthread_mutex_lock(&s->mtx);
	enum rc rc = check_open_locked(s, err);
	if (rc == RC_OK && s->live_count > 0)
		rc = err_set(err, RC_CONFLICT, "stage-busy",
			"%llu uploads into stage \"%s\" are still under way",
			(unsigned long long)s->live_count, s->name);
	if (rc == RC_OK && !allow_empty && stage_map_count(s->map) == 0)
		rc = err_set(
			err, RC_CONFLICT, "stage-empty", "stage \"%s\" holds no files", s->name);
	if (rc == RC_OK)
		s->state = STAGE_COMMITTING;
	pthread_mutex_unlock(&s->mtx);
	return rc;
}

/* The map stands still while the stage is being committed: it is read without the lock, so that
 * looking at the stage does not wait for a million paths. */
enum rc
stage_edits(struct stage *s, struct tree_edit **out, size_t *count, struct err *err)
{
	struct stage_map_cursor c;
	struct stage_entry e;
	size_t n = stage_map_count(s->map), path_bytes = 0, i = 0;

	stage_map_seek(s->map, &c, "", 0, false);
	while (stage_map_next(&c, &e))
		path_bytes += e.path_len;
	struct tree_edit *edits = malloc(n * sizeof *edits + path_bytes + 1);
	if (edits == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	char *path = (char *)(edits + n);
	stage_map_seek(s->map, &c, "", 0, false);
	while (stage_map_next(&c, &e)) {
		memcpy(path, e.path, e.path_len);
		edits[i++] = (struct tree_edit){
			.op = TREE_EDIT_PUT,
			.entry = {path, e.path_len, {e.kind, e.id, e.size}, e.mode, e.mtime_ns},
		};
		path += e.path_len;
	}
	*out = edits;
	*count = n;
	return RC_OK;
}

void
stage_end_commit(struct stage *s, const struct sha256 *commit_id)
{
	pthread_mutex_lock(&s->mtx);
	if (commit_id != NULL) {
		s->state = STAGE_COMMITTED;
		s->commit_id = *commit_id;
	} else {
		s->state = STAGE_OPEN;
	}
	s->used_ns = clock_mono_ns();
	pthread_mutex_unlock(&s->mtx);
}

void
stage_doubt(struct stage *s)
{
	pthread_mutex_lock(&s->mtx);
	s->state = STAGE_FAILED;
	pthread_mutex_unlock(&s->mtx);
	unlist(s->ss, s);
}

/* ---- looking ---- */

const char *
stage_name(const struct stage *s)
{
	return s->name;
}

struct repo *
stage_repo(const struct stage *s)
{
	return s->repo;
}

struct meter *
stage_meter(struct stage *s)
{
	return &s->meter;
}

uint64_t
stage_id(const struct stage *s)
{
	return s->id;
}

enum stage_workload
stage_workload_of(const struct stage_sizes *z)
{
	if (z->small_files + z->large_files == 0)
		return WORKLOAD_UNKNOWN;
	if (z->large_files == 0 || z->small_bytes >= z->large_bytes * 4)
		return WORKLOAD_MANY_SMALL;
	if (z->small_files <= 16 || z->large_bytes >= z->small_bytes * 16)
		return WORKLOAD_FEW_LARGE;
	return WORKLOAD_MIXED;
}

/* Of what was put and what is known to come. */
static enum stage_workload
workload_of(const struct stage *s)
{
	const struct stage_sizes all = {
		.small_files = s->small_files + s->planned.small_files,
		.small_bytes = s->small_bytes + s->planned.small_bytes,
		.large_files = s->large_files + s->planned.large_files,
		.large_bytes = s->large_bytes + s->planned.large_bytes,
	};

	return stage_workload_of(&all);
}

void
stage_info(struct stage *s, struct stage_info *out)
{
	memset(out, 0, sizeof *out);
	snprintf(out->name, sizeof out->name, "%s", s->name);
	snprintf(out->repo, sizeof out->repo, "%s", s->repo->name);
	out->created_us = s->created_us;
	out->expires_us = s->expires_us;
	pthread_mutex_lock(&s->mtx);
	out->state = s->state;
	if (s->state == STAGE_OPEN && s->expires_us <= clock_wall_us())
		out->state = STAGE_EXPIRED;
	out->workload = workload_of(s);
	out->files = stage_map_count(s->map);
	out->bytes = stage_map_bytes(s->map);
	out->uploads = s->live_count;
	out->commit_id = s->commit_id;
	pthread_mutex_unlock(&s->mtx);
}

static struct tree_entry
entry_of(const struct stage_entry *e)
{
	return (struct tree_entry){
		e->path, e->path_len, {e->kind, e->id, e->size}, e->mode, e->mtime_ns};
}

enum rc
stage_file_find(
	struct stage *s, const char *path, size_t path_len, struct tree_entry *out, struct err *err)
{
	char shown[PATH_SHOW_BYTES];
	struct stage_entry e;

	pthread_mutex_lock(&s->mtx);
	bool found = stage_map_find(s->map, path, path_len, &e);
	pthread_mutex_unlock(&s->mtx);
	if (!found)
		return err_set(err, RC_NOT_FOUND, "path-not-found",
			"stage \"%s\" has no file \"%s\"", s->name,
			path_show(shown, path, path_len));
	*out = entry_of(&e);
	return RC_OK;
}

bool
stage_file_list(struct stage *s, const char *prefix, size_t prefix_len, const char *after,
	size_t after_len, size_t limit, void (*fn)(void *arg, const struct tree_entry *e),
	void *arg)
{
	struct stage_map_cursor c;
	struct stage_entry e;
	bool more = false;

	pthread_mutex_lock(&s->mtx);
	if (after_len > 0 && tree_key_cmp(after, after_len, prefix, prefix_len) >= 0)
		stage_map_seek(s->map, &c, after, after_len, true);
	else
		stage_map_seek(s->map, &c, prefix, prefix_len, false);
	for (size_t given = 0; stage_map_next(&c, &e); given++) {
		if (e.path_len < prefix_len || memcmp(e.path, prefix, prefix_len) != 0)
			break;
		if (given == limit) {
			more = true;
			break;
		}
		struct tree_entry t = entry_of(&e);
		fn(arg, &t);
	}
	pthread_mutex_unlock(&s->mtx);
	return more;
}

enum rc
stage_list(struct stages *ss, struct repo *repo, const char *after, size_t limit,
	void (*fn)(void *arg, const struct stage_info *info), void *arg, struct err *err)
{
	size_t count = 0;

	if (limit > LIST_LIMIT_MAX)
		limit = LIST_LIMIT_MAX;
	struct stage_row *rows = calloc(limit + 1, sizeof *rows);
	if (rows == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	enum rc rc = db_stage_list(ss->options.db, repo->id, after, limit, rows, &count, err);
	for (size_t i = 0; rc == RC_OK && i < count; i++) {
		struct stage *s = NULL;
		struct stage_info info;
		struct err gone = ERR_INIT;
		/* one that vanished between the two is simply not listed */
		if (stage_find(ss, repo, rows[i].name, &s, &gone) != RC_OK) {
			if (gone.rc != RC_NOT_FOUND) {
				*err = gone;
				rc = gone.rc;
			}
			continue;
		}
		stage_info(s, &info);
		stage_unref(s);
		fn(arg, &info);
	}
	free(rows);
	return rc;
}

/* ---- the ticker ---- */

/* All listed stages, each with a reference; NULL if there is no memory. */
static struct stage **
snapshot(struct stages *ss, size_t *count)
{
	size_t n = 0, cap = 64;
	struct stage **list_of = malloc(cap * sizeof(struct stage *));

	pthread_mutex_lock(&ss->mtx);
	for (size_t b = 0; list_of != NULL && b < STAGE_BUCKETS; b++) {
		for (struct stage *s = ss->buckets[b]; s != NULL; s = s->next) {
			if (n == cap) {
				struct stage **bigger =
					realloc(list_of, 2 * cap * sizeof(struct stage *));
				if (bigger == NULL)
					break;
				list_of = bigger;
				cap *= 2;
			}
			atomic_fetch_add(&s->refs, 1);
			list_of[n++] = s;
		}
	}
	pthread_mutex_unlock(&ss->mtx);
	*count = list_of != NULL ? n : 0;
	return list_of;
}

void
stages_active(struct stages *ss, void (*fn)(void *arg, struct stage *s), void *arg)
{
	size_t n;
	struct stage **all = snapshot(ss, &n);

	for (size_t i = 0; i < n; i++) {
		fn(arg, all[i]);
		stage_unref(all[i]);
	}
	free(all);
}

/* Expired and abandoned stages lose their row as soon as nothing is under way in them; a committed
 * one keeps it until its time has come, so that a late look at it is answered. */
static void
end_if_due(struct stages *ss, struct stage *s)
{
	struct err err = ERR_INIT;
	bool due = false;

	pthread_mutex_lock(&s->mtx);
	bool past = s->expires_us <= clock_wall_us();
	if (s->state == STAGE_OPEN && past && s->live_count == 0)
		s->state = STAGE_EXPIRED;
	if (s->live_count == 0)
		due = s->state == STAGE_GONE ||
		      /* an expired one is remembered as such for a while */
		      (past && s->state != STAGE_COMMITTING &&
			      s->expires_us + (int64_t)ss->options.ttl_us / 8 <= clock_wall_us());
	pthread_mutex_unlock(&s->mtx);
	if (due && db_stage_delete(ss->options.db, s->id, &err) == RC_OK)
		unlist(ss, s);
}

static void
forget_if_idle(struct stages *ss, struct stage *s, uint64_t now)
{
	pthread_mutex_lock(&s->mtx);
	/* one that failed shows nothing until it is read again: the sooner the better */
	bool unused = s->state == STAGE_FAILED || (now > s->used_ns && now - s->used_ns > IDLE_NS);
	bool idle = s->live_count == 0 && unused && s->state != STAGE_COMMITTING &&
		    s->state != STAGE_GONE;
	pthread_mutex_unlock(&s->mtx);
	/* the registry's reference and the snapshot's: nobody else has it, and under the registry's
	 * lock nobody can find it; a watcher holds one of its own */
	if (!idle)
		return;
	bool alone = false;
	pthread_mutex_lock(&ss->mtx);
	if (atomic_load(&s->refs) == 2) {
		for (struct stage **at = bucket_of(ss, s->repo->id, s->name); *at != NULL;
			at = &(*at)->next) {
			if (*at == s) {
				*at = s->next;
				alone = true;
				break;
			}
		}
	}
	pthread_mutex_unlock(&ss->mtx);
	if (alone)
		stage_unref(s);
}

/* Rows of stages that are not in memory. */
static void
end_due_rows(struct stages *ss)
{
	struct stage_row rows[DUE_LIMIT];
	size_t count = 0;
	struct err err = ERR_INIT;
	int64_t before = clock_wall_us() - (int64_t)ss->options.ttl_us / 8;

	if (db_stage_due(ss->options.db, before, DUE_LIMIT, rows, &count, &err) != RC_OK)
		return;
	for (size_t i = 0; i < count; i++) {
		pthread_mutex_lock(&ss->mtx);
		struct stage *s = lookup(ss, rows[i].repo_id, rows[i].name);
		pthread_mutex_unlock(&ss->mtx);
		if (s != NULL) {
			stage_unref(s);
			continue;
		}
		struct err gone = ERR_INIT;
		db_stage_delete(ss->options.db, rows[i].id, &gone);
	}
}

void
stages_tick(struct stages *ss)
{
	uint64_t now = clock_mono_ns();
	size_t n;
	struct stage **all = snapshot(ss, &n);

	stages_bottleneck_tick(ss);
	bool look_for_due = now >= ss->due_ns;
	for (size_t i = 0; i < n; i++) {
		struct stage *s = all[i];
		if (stage_progress_tick(s, now))
			stage_watchers_tell(ss, s);
		if (look_for_due) {
			save_counters(ss, s);
			end_if_due(ss, s);
			forget_if_idle(ss, s, now);
		}
		stage_unref(s);
	}
	free(all);
	if (look_for_due) {
		end_due_rows(ss);
		ss->due_ns = now + DUE_EVERY_NS;
	}
}
