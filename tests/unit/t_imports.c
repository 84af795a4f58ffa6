/* SPDX-License-Identifier: Apache-2.0 */
/* The line of imports, and what is told of them. Rows, stages and what an import does are doubles:
 * an import runs until its gate is opened or it is told to stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "db_import.h"
#include "folder_fixture.h"
#include "import_job.h"

#define HANG_SECONDS 60
#define ROWS_MAX     100
#define STAGES_MAX   100

/* ---- doubles ---- */

struct stage {
	char name[16];
	int refs, lives, abandoned;
	enum stage_state state;
};

struct row {
	bool used, has_commit;
	uint64_t repo_id;
	int state, skips;
	char path[200], prefix[64], stage[16], ref[16], kind[64], text[400];
	uint8_t result[4096];
	size_t result_bytes;
};

static struct {
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	/* what to do */
	bool gate_open;
	enum rc run_rc;
	const char *run_kind;
	atomic_bool rows_fail; /* the database is away */
	atomic_bool stage_closed;
	/* what was done */
	unsigned running, most, interrupted_all;
	uint64_t order[ROWS_MAX]; /* ids as they began */
	unsigned begun;
	struct row rows[ROWS_MAX]; /* by id */
	uint64_t next_id;
	atomic_uint told; /* by ended */
} fake = {.mtx = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct stage all_stages[STAGES_MAX];
static unsigned stage_count;
static struct repo repo = {.id = 7, .name = "r"}, other_repo = {.id = 8, .name = "o"};

const char *
stage_name(const struct stage *s)
{
	return s->name;
}

struct repo *
stage_repo(const struct stage *s)
{
	(void)s;
	return &repo;
}

void
stage_unref(struct stage *s)
{
	pthread_mutex_lock(&fake.mtx);
	s->refs--;
	pthread_mutex_unlock(&fake.mtx);
}

enum rc
stage_live_begin(struct stage *s, struct stage_live *live, struct err *err)
{
	assert_true(live->phased);
	assert_string_equal(live->label, "import");
	if (fake.stage_closed)
		return err_set(err, RC_CONFLICT, "stage-committed", "as told");
	pthread_mutex_lock(&fake.mtx);
	s->lives++;
	pthread_mutex_unlock(&fake.mtx);
	return RC_OK;
}

void
stage_live_end(struct stage *s, struct stage_live *live)
{
	(void)live;
	pthread_mutex_lock(&fake.mtx);
	s->lives--;
	pthread_mutex_unlock(&fake.mtx);
}

void
stage_live_reach(struct stage_live *live, enum stage_phase phase, uint32_t permille)
{
	(void)live;
	(void)phase;
	(void)permille;
}

void
stage_info(struct stage *s, struct stage_info *out)
{
	memset(out, 0, sizeof *out);
	pthread_mutex_lock(&fake.mtx);
	out->state = s->state;
	out->uploads = (uint64_t)s->lives;
	pthread_mutex_unlock(&fake.mtx);
}

enum rc
stage_abandon(struct stages *ss, struct stage *s, struct err *err)
{
	(void)ss;
	(void)err;
	pthread_mutex_lock(&fake.mtx);
	s->abandoned++;
	pthread_mutex_unlock(&fake.mtx);
	return RC_OK;
}

enum stage_workload
stage_workload_of(const struct stage_sizes *sizes)
{
	(void)sizes;
	return WORKLOAD_MIXED;
}

static enum rc
away(struct err *err)
{
	return err_set(err, RC_UNAVAILABLE, "database-unavailable", "as told");
}

enum rc
db_import_add(struct db *db, const struct import_row *row, uint64_t *id, int64_t *created_us,
	struct err *err)
{
	(void)db;
	if (fake.rows_fail)
		return away(err);
	pthread_mutex_lock(&fake.mtx);
	*id = ++fake.next_id;
	*created_us = 1000;
	struct row *r = &fake.rows[*id];
	*r = (struct row){.used = true, .repo_id = row->repo_id, .skips = row->skips};
	snprintf(r->path, sizeof r->path, "%s", row->path);
	snprintf(r->prefix, sizeof r->prefix, "%s", row->prefix);
	snprintf(r->stage, sizeof r->stage, "%s", row->stage);
	snprintf(r->ref, sizeof r->ref, "%s", row->ref != NULL ? row->ref : "");
	pthread_mutex_unlock(&fake.mtx);
	return RC_OK;
}

enum rc
db_import_end(struct db *db, const struct import_row *row, struct err *err)
{
	(void)db;
	if (fake.rows_fail)
		return away(err);
	pthread_mutex_lock(&fake.mtx);
	struct row *r = &fake.rows[row->id];
	bool used = r->used;
	r->state = row->state;
	r->has_commit = row->commit_id != NULL;
	snprintf(r->kind, sizeof r->kind, "%s", row->error_kind != NULL ? row->error_kind : "");
	snprintf(r->text, sizeof r->text, "%s", row->error_text != NULL ? row->error_text : "");
	assert_true(row->result_bytes <= sizeof r->result);
	memcpy(r->result, row->result, row->result_bytes);
	r->result_bytes = row->result_bytes;
	pthread_mutex_unlock(&fake.mtx);
	return used ? RC_OK : err_set(err, RC_NOT_FOUND, "import-not-found", "gone");
}

static enum rc
give(uint64_t id, import_row_fn *fn, void *arg, struct err *err)
{
	static const struct sha256 commit = {{1}};
	const struct row *r = &fake.rows[id];
	const struct import_row row = {
		.id = id,
		.repo_id = r->repo_id,
		.state = r->state,
		.skips = r->skips,
		.path = r->path,
		.prefix = r->prefix,
		.stage = r->stage,
		.ref = r->ref[0] != '\0' ? r->ref : NULL,
		.created_us = 1000,
		.ended_us = r->state != 0 ? 2000 : 0,
		.result = r->result_bytes > 0 ? r->result : NULL,
		.result_bytes = r->result_bytes,
		.commit_id = r->has_commit ? &commit : NULL,
		.error_kind = r->kind[0] != '\0' ? r->kind : NULL,
		.error_text = r->kind[0] != '\0' ? r->text : NULL,
	};

	return fn(arg, &row, err);
}

enum rc
db_import_find(
	struct db *db, uint64_t repo_id, uint64_t id, import_row_fn *fn, void *arg, struct err *err)
{
	(void)db;
	if (fake.rows_fail)
		return away(err);
	if (id >= ROWS_MAX || !fake.rows[id].used || fake.rows[id].repo_id != repo_id)
		return err_set(err, RC_NOT_FOUND, "import-not-found", "none");
	return give(id, fn, arg, err);
}

enum rc
db_import_list(struct db *db, uint64_t repo_id, uint64_t before, size_t limit, import_row_fn *fn,
	void *arg, struct err *err)
{
	enum rc rc = RC_OK;

	(void)db;
	for (uint64_t id = ROWS_MAX - 1; rc == RC_OK && id > 0 && limit > 0; id--) {
		if (id >= before || !fake.rows[id].used || fake.rows[id].repo_id != repo_id)
			continue;
		rc = give(id, fn, arg, err);
		limit--;
	}
	return rc;
}

enum rc
db_import_delete(struct db *db, uint64_t repo_id, uint64_t id, struct err *err)
{
	(void)db;
	if (id >= ROWS_MAX || !fake.rows[id].used || fake.rows[id].repo_id != repo_id)
		return err_set(err, RC_NOT_FOUND, "import-not-found", "none");
	fake.rows[id].used = false;
	return RC_OK;
}

enum rc
db_import_interrupt_all(struct db *db, struct err *err)
{
	(void)db;
	(void)err;
	fake.interrupted_all++;
	return RC_OK;
}

enum rc
db_import_expire(struct db *db, int64_t before_us, struct err *err)
{
	(void)db;
	(void)before_us;
	(void)err;
	return RC_OK;
}

enum rc
import_run(struct import *job, struct err *err)
{
	const struct timespec moment = {.tv_nsec = 1000000};

	pthread_mutex_lock(&fake.mtx);
	fake.order[fake.begun++] = job->id;
	if (++fake.running > fake.most)
		fake.most = fake.running;
	while (!fake.gate_open && !atomic_load(&job->stop)) {
		pthread_mutex_unlock(&fake.mtx);
		nanosleep(&moment, NULL);
		pthread_mutex_lock(&fake.mtx);
	}
	fake.running--;
	enum rc rc = fake.run_rc;
	pthread_mutex_unlock(&fake.mtx);
	import_report_add(&job->report, IMPORT_SYMLINK, "l", 1);
	atomic_store(&job->tally.found_files[IMPORT_SMALL], 5);
	job->taken_files = 5;
	job->has_commit = job->pushes;
	job->receipt.logical_bytes = 55;
	stage_live_end(job->stage, &job->live);
	job->is_live = false;
	if (atomic_load(&job->stop))
		return err_set(err, RC_UNAVAILABLE, "shutting-down", "stopped");
	return rc == RC_OK ? RC_OK : err_set(err, rc, fake.run_kind, "it did not \xc3\xa4");
}

static void
on_ended(const struct import_info *info)
{
	assert_true(info->state > IMPORT_RUNNING);
	atomic_fetch_add(&fake.told, 1);
}

/* ---- what tests do ---- */

static struct import_roots *roots;
static struct imports *is;
static struct err err;

static int
setup(void **state)
{
	folder_setup(state);
	const char *paths[] = {folder_path};
	memset(all_stages, 0, sizeof all_stages);
	stage_count = 0;
	memset(fake.rows, 0, sizeof fake.rows);
	fake.gate_open = false;
	atomic_store(&fake.rows_fail, false);
	atomic_store(&fake.stage_closed, false);
	fake.run_rc = RC_OK;
	fake.running = fake.most = fake.interrupted_all = fake.begun = 0;
	atomic_store(&fake.told, 0);
	fake.next_id = 0;
	err_clear(&err);
	assert_int_equal(import_roots_open(paths, 1, "/none", &roots, &err), RC_OK);
	const struct imports_options o = {.roots = roots, .threads = 2, .ended = on_ended};
	assert_int_equal(imports_open(&o, &is, &err), RC_OK);
	assert_int_equal(fake.interrupted_all, 1);
	return 0;
}

static int
teardown(void **state)
{
	imports_stop(is);
	imports_free(is);
	import_roots_free(roots);
	/* whatever happened, nothing is left behind */
	for (unsigned i = 0; i < stage_count; i++) {
		assert_int_equal(all_stages[i].refs, 0);
		assert_int_equal(all_stages[i].lives, 0);
	}
	return folder_teardown(state);
}

static enum rc
try_start(const char *ref, struct import_info *out)
{
	struct stage *s = &all_stages[stage_count++];
	const struct commit_request c = {
		.ref = ref, .author = "a", .message = "m", .metadata = "{}"};
	struct import_request rq = {.stage = s,
		.path = folder_path,
		.prefix = "p/",
		.skip_special = true,
		.commit = ref != NULL ? &c : NULL};

	snprintf(s->name, sizeof s->name, "s%u", stage_count);
	s->refs = 1;
	err_clear(&err);
	assert_int_equal(imports_open_dir(is, folder_path, &rq.dir, &err), RC_OK);
	return import_start(is, &rq, out, &err);
}

static uint64_t
start(const char *ref)
{
	struct import_info info;

	assert_int_equal(try_start(ref, &info), RC_OK);
	uint64_t id = info.id;
	import_info_done(&info);
	return id;
}

static struct import_info
look(uint64_t id)
{
	struct import_info info;

	err_clear(&err);
	assert_int_equal(import_find(is, &repo, id, &info, &err), RC_OK);
	import_info_done(&info);
	return info;
}

static void
wait_for(uint64_t id, enum import_state state)
{
	while (look(id).state != state)
		sched_yield();
}

static void
open_gate(enum rc rc, const char *kind)
{
	pthread_mutex_lock(&fake.mtx);
	fake.run_rc = rc;
	fake.run_kind = kind;
	fake.gate_open = true;
	pthread_mutex_unlock(&fake.mtx);
}

static bool
forget(uint64_t id)
{
	struct import_info info;
	bool forgotten;

	err_clear(&err);
	assert_int_equal(import_delete(is, &repo, id, &forgotten, &info, &err), RC_OK);
	import_info_done(&info);
	return forgotten;
}

/* ---- tests ---- */

static void
an_import_runs_and_is_written_down(void **state)
{
	struct import_info info;

	(void)state;
	assert_int_equal(try_start("main", &info), RC_OK);
	assert_true(info.state == IMPORT_WAITING || info.state == IMPORT_RUNNING);
	assert_string_equal(info.path, folder_path);
	assert_string_equal(info.prefix, "p/");
	assert_string_equal(info.ref, "main");
	assert_string_equal(info.repo, "r");
	assert_true(info.skip_special && !info.skip_failed);
	import_info_done(&info);
	uint64_t id = info.id;
	wait_for(id, IMPORT_RUNNING);
	assert_int_equal(fake.rows[id].state, 0);
	open_gate(RC_OK, NULL);
	wait_for(id, IMPORT_DONE);
	info = look(id);
	assert_true(info.has_commit);
	assert_int_equal(info.special, 1);
	assert_int_equal(info.record.found.files[IMPORT_SMALL], 5);
	assert_int_equal(info.record.receipt.logical_bytes, 55);
	imports_stop(is);
	assert_null(is->list);
	assert_int_equal(fake.rows[id].state, IMPORT_DONE);
	/* now from the row */
	info = look(id);
	assert_true(info.has_commit && info.has_record && info.skip_special);
	assert_int_equal(info.record.receipt.logical_bytes, 55);
	assert_int_equal(info.special, 1);
	assert_string_equal(info.ref, "main");
	assert_int_equal(all_stages[0].abandoned, 0);
	assert_int_equal(fake.told, 1);
}

static void
a_failure_is_told_and_its_stage_goes(void **state)
{
	(void)state;
	open_gate(RC_FULL, "disk-full");
	uint64_t pushed = start("main"), staged = start(NULL);
	wait_for(pushed, IMPORT_FAILED);
	wait_for(staged, IMPORT_FAILED);
	imports_stop(is);
	struct import_info info = look(pushed);
	assert_string_equal(info.error_kind, "disk-full");
	assert_string_equal(info.err.text, "it did not \xc3\xa4");
	assert_false(info.has_commit);
	assert_int_equal(info.record.receipt.logical_bytes, 0);
	assert_int_equal(all_stages[0].abandoned, 1);
	assert_int_equal(all_stages[1].abandoned, 0);
	struct imports_stats stats;
	imports_stats(is, &stats);
	assert_int_equal(stats.ended[IMPORT_FAILED], 2);
	assert_int_equal(stats.files, 0);
	assert_int_equal(stats.left_out[IMPORT_SYMLINK], 2);
}

/* It may be that the commit was made. */
static void
a_stage_in_doubt_is_left_alone(void **state)
{
	(void)state;
	uint64_t id = start("main");
	wait_for(id, IMPORT_RUNNING);
	all_stages[0].state = STAGE_FAILED;
	open_gate(RC_UNAVAILABLE, "commit-unknown");
	wait_for(id, IMPORT_FAILED);
	imports_stop(is);
	assert_int_equal(all_stages[0].abandoned, 0);
}

static void
some_run_the_others_wait_in_order(void **state)
{
	uint64_t ids[8];

	(void)state;
	for (int i = 0; i < 8; i++)
		ids[i] = start(NULL);
	wait_for(ids[1], IMPORT_RUNNING);
	assert_int_equal(look(ids[5]).state, IMPORT_WAITING);
	struct imports_stats stats;
	imports_stats(is, &stats);
	assert_int_equal(stats.running, IMPORTS_RUNNING_MAX);
	assert_int_equal(stats.waiting, 8 - IMPORTS_RUNNING_MAX);
	open_gate(RC_OK, NULL);
	for (int i = 0; i < 8; i++)
		wait_for(ids[i], IMPORT_DONE);
	assert_true(fake.most <= IMPORTS_RUNNING_MAX);
	for (unsigned i = IMPORTS_RUNNING_MAX; i < 8; i++)
		assert_true(fake.order[i] >= ids[i] - 1 && fake.order[i] <= ids[i] + 1);
	imports_stop(is);
	imports_stats(is, &stats);
	assert_int_equal(stats.waiting + stats.running, 0);
}

static void
the_line_is_so_long_and_no_longer(void **state)
{
	struct import_info info;

	(void)state;
	uint64_t first = start(NULL), second = start(NULL);
	wait_for(first, IMPORT_RUNNING);
	wait_for(second, IMPORT_RUNNING);
	for (int i = 0; i < IMPORTS_WAITING_MAX; i++)
		start(NULL);
	assert_int_equal(try_start("main", &info), RC_AGAIN);
	assert_string_equal(err.kind, "overloaded");
	import_info_done(&info);
	/* nothing of it stays */
	assert_int_equal(all_stages[stage_count - 1].abandoned, 1);
	assert_int_equal(fake.next_id, IMPORTS_WAITING_MAX + 2);
	assert_false(forget(IMPORTS_WAITING_MAX));
	start(NULL);
}

static void
what_cannot_begin_leaves_nothing(void **state)
{
	struct import_info info;
	struct imports_stats stats;

	(void)state;
	fake.rows_fail = true;
	assert_int_equal(try_start("main", &info), RC_UNAVAILABLE);
	assert_string_equal(err.kind, "database-unavailable");
	import_info_done(&info);
	assert_int_equal(all_stages[0].abandoned, 1);
	fake.rows_fail = false;
	fake.stage_closed = true;
	assert_int_equal(try_start(NULL, &info), RC_CONFLICT);
	assert_string_equal(err.kind, "stage-committed");
	import_info_done(&info);
	imports_stats(is, &stats);
	assert_int_equal(stats.waiting, 0);
	assert_null(is->list);
}

static void
cancelling(void **state)
{
	(void)state;
	uint64_t running = start("a"), also = start(NULL), waiting = start("b"), last = start(NULL);
	wait_for(also, IMPORT_RUNNING);
	wait_for(running, IMPORT_RUNNING);
	assert_false(forget(waiting));
	assert_int_equal(look(waiting).state, IMPORT_CANCELLED);
	assert_int_equal(all_stages[2].abandoned, 1);
	assert_false(forget(running));
	wait_for(running, IMPORT_CANCELLED);
	assert_int_equal(all_stages[0].abandoned, 1);
	wait_for(last, IMPORT_RUNNING);
	open_gate(RC_OK, NULL);
	wait_for(last, IMPORT_DONE);
	wait_for(also, IMPORT_DONE);
	/* those that have ended are forgotten */
	assert_true(forget(waiting));
	struct import_info info;
	bool forgotten;
	assert_int_equal(import_delete(is, &repo, waiting, &forgotten, &info, &err), RC_NOT_FOUND);
	err_clear(&err);
	assert_int_equal(
		import_delete(is, &other_repo, last, &forgotten, &info, &err), RC_NOT_FOUND);
	err_clear(&err);
	assert_int_equal(import_find(is, &repo, waiting, &info, &err), RC_NOT_FOUND);
}

static void
the_end_of_the_server_interrupts(void **state)
{
	uint64_t ids[6];
	struct import_info info;

	(void)state;
	for (int i = 0; i < 6; i++)
		ids[i] = start(i % 2 == 0 ? "main" : NULL);
	wait_for(ids[1], IMPORT_RUNNING);
	imports_stop(is);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(fake.rows[ids[i]].state, IMPORT_INTERRUPTED);
		assert_int_equal(look(ids[i]).state, IMPORT_INTERRUPTED);
		assert_int_equal(all_stages[i].abandoned, i % 2 == 0);
	}
	assert_int_equal(try_start("main", &info), RC_UNAVAILABLE);
	assert_string_equal(err.kind, "shutting-down");
	import_info_done(&info);
	imports_stop(is);
}

/* It stays in memory until it can be written down. */
static void
a_database_that_is_away_is_waited_for(void **state)
{
	(void)state;
	uint64_t id = start(NULL), forgotten = start(NULL);
	wait_for(id, IMPORT_RUNNING);
	wait_for(forgotten, IMPORT_RUNNING);
	fake.rows_fail = true;
	open_gate(RC_OK, NULL);
	wait_for(id, IMPORT_DONE);
	wait_for(forgotten, IMPORT_DONE);
	while (fake.told < 2)
		sched_yield();
	imports_tick(is);
	assert_int_equal(look(id).state, IMPORT_DONE);
	assert_int_equal(fake.rows[id].state, 0);
	fake.rows_fail = false;
	assert_true(forget(forgotten));
	struct import_info info;
	assert_int_equal(import_find(is, &repo, forgotten, &info, &err), RC_NOT_FOUND);
	imports_tick(is);
	assert_null(is->list);
	assert_int_equal(fake.rows[id].state, IMPORT_DONE);
	assert_int_equal(look(id).state, IMPORT_DONE);
}

/* As if two others looked into a file system that hangs. */
static void
those_who_look_wait_for_each_other_but_not_for_ever(void **state)
{
	int dir;

	(void)state;
	atomic_store(&is->looking, IMPORTS_LOOKING_MAX - 1);
	assert_int_equal(imports_open_dir(is, folder_path, &dir, &err), RC_OK);
	close(dir);
	atomic_store(&is->looking, IMPORTS_LOOKING_MAX);
	assert_int_equal(imports_open_dir(is, folder_path, &dir, &err), RC_AGAIN);
	assert_string_equal(err.kind, "overloaded");
	assert_int_equal(dir, -1);
	assert_int_equal(atomic_load(&is->looking), IMPORTS_LOOKING_MAX);
}

static struct {
	uint64_t ids[ROWS_MAX];
	enum import_state states[ROWS_MAX];
	unsigned count;
} listed;

static void
on_listed(void *arg, const struct import_info *info)
{
	(void)arg;
	listed.ids[listed.count] = info->id;
	listed.states[listed.count++] = info->state;
}

static void
lists_know_what_runs(void **state)
{
	(void)state;
	uint64_t ids[4];
	for (int i = 0; i < 4; i++)
		ids[i] = start(NULL);
	wait_for(ids[1], IMPORT_RUNNING);
	wait_for(ids[0], IMPORT_RUNNING);
	forget(ids[3]);
	listed.count = 0;
	assert_int_equal(import_list(is, &repo, INT64_MAX, 10, on_listed, NULL, &err), RC_OK);
	assert_int_equal(listed.count, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(listed.ids[i], ids[3 - i]);
	assert_int_equal(listed.states[0], IMPORT_CANCELLED);
	assert_int_equal(listed.states[1], IMPORT_WAITING);
	assert_int_equal(listed.states[2], IMPORT_RUNNING);
	listed.count = 0;
	assert_int_equal(import_list(is, &repo, ids[2], 1, on_listed, NULL, &err), RC_OK);
	assert_int_equal(listed.count, 1);
	assert_int_equal(listed.ids[0], ids[1]);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(an_import_runs_and_is_written_down),
		T(a_failure_is_told_and_its_stage_goes),
		T(a_stage_in_doubt_is_left_alone),
		T(some_run_the_others_wait_in_order),
		T(the_line_is_so_long_and_no_longer),
		T(what_cannot_begin_leaves_nothing),
		T(cancelling),
		T(the_end_of_the_server_interrupts),
		T(a_database_that_is_away_is_waited_for),
		T(those_who_look_wait_for_each_other_but_not_for_ever),
		T(lists_know_what_runs),
	};

	alarm(HANG_SECONDS);
	return cmocka_run_group_tests_name("imports", tests, NULL, NULL);
}
