/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster_fixture.h"
#include "db_import.h"
#include "db_repo.h"
#include "migrate.h"

static struct cluster_fixture fx;
static struct err err;

#define OK(call)                                                                                   \
	do {                                                                                       \
		err_clear(&err);                                                                   \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s (%s)", #call, err.text, err.detail);                      \
	} while (0)

static const struct import_row asked = {
	.repo_id = 1,
	.skips = 1,
	.path = "/srv/\xc3\xa4",
	.prefix = "a/b",
	.stage = "s-1",
};

static uint64_t
add(uint64_t repo_id, const char *stage, const char *ref)
{
	struct import_row row = asked;
	int64_t created_us = 0;
	uint64_t id = 0;

	row.repo_id = repo_id;
	row.stage = stage;
	row.ref = ref;
	OK(db_import_add(fx.db, &row, &id, &created_us, &err));
	assert_true(id > 0 && created_us > 0);
	return id;
}

/* What the last row looked like. */
static struct {
	size_t count;
	uint64_t first_id, last_id;
	int state, skips;
	char path[64], ref[64], error_kind[64], error_text[64];
	bool has_ref, has_commit, has_result, has_error;
	uint8_t result[16];
	size_t result_bytes;
	struct sha256 commit_id;
	int64_t started_us, ended_us;
} seen;

static enum rc
look_at(void *arg, const struct import_row *row, struct err *e)
{
	(void)arg;
	(void)e;
	if (seen.count++ == 0)
		seen.first_id = row->id;
	seen.last_id = row->id;
	seen.state = row->state;
	seen.skips = row->skips;
	snprintf(seen.path, sizeof seen.path, "%s", row->path);
	snprintf(seen.ref, sizeof seen.ref, "%s", row->ref != NULL ? row->ref : "");
	seen.has_ref = row->ref != NULL;
	seen.has_result = row->result != NULL;
	seen.result_bytes = row->result_bytes;
	if (row->result != NULL)
		memcpy(seen.result, row->result, row->result_bytes);
	seen.has_commit = row->commit_id != NULL;
	if (row->commit_id != NULL)
		seen.commit_id = *row->commit_id;
	seen.has_error = row->error_kind != NULL;
	if (row->error_kind != NULL) {
		snprintf(seen.error_kind, sizeof seen.error_kind, "%s", row->error_kind);
		snprintf(seen.error_text, sizeof seen.error_text, "%s", row->error_text);
	}
	seen.started_us = row->started_us;
	seen.ended_us = row->ended_us;
	return RC_OK;
}

static void
find(uint64_t repo_id, uint64_t id)
{
	memset(&seen, 0, sizeof seen);
	OK(db_import_find(fx.db, repo_id, id, look_at, NULL, &err));
	assert_int_equal(seen.count, 1);
}

static void
expect_missing(enum rc rc)
{
	assert_int_equal(rc, RC_NOT_FOUND);
	assert_string_equal(err.kind, "import-not-found");
	err_clear(&err);
}

static void
rows_begin_and_end(void **state)
{
	struct sha256 commit = {{7}};

	(void)state;
	uint64_t id = add(1, "s-1", "main");
	find(1, id);
	assert_int_equal(seen.state, 0);
	assert_int_equal(seen.skips, 1);
	assert_string_equal(seen.path, "/srv/\xc3\xa4");
	assert_string_equal(seen.ref, "main");
	assert_false(seen.has_result || seen.has_commit || seen.has_error);
	assert_int_equal(seen.ended_us, 0);
	expect_missing(db_import_find(fx.db, 2, id, look_at, NULL, &err));

	struct import_row row = {.id = id,
		.state = 2,
		.started_us = 1790000000123456,
		.ended_us = 1790000001123456,
		.result = (const uint8_t *)"\1\0\2",
		.result_bytes = 3,
		.commit_id = &commit};
	OK(db_import_end(fx.db, &row, &err));
	find(1, id);
	assert_int_equal(seen.state, 2);
	assert_int_equal(seen.started_us, 1790000000123456);
	assert_int_equal(seen.ended_us, 1790000001123456);
	assert_int_equal(seen.result_bytes, 3);
	assert_memory_equal(seen.result, "\1\0\2", 3);
	assert_true(seen.has_commit && sha256_equal(&seen.commit_id, &commit));

	row = (struct import_row){.id = id,
		.state = 3,
		.ended_us = 1,
		.error_kind = "disk-full",
		.error_text = "no \"space\""};
	OK(db_import_end(fx.db, &row, &err));
	find(1, id);
	assert_string_equal(seen.error_kind, "disk-full");
	assert_string_equal(seen.error_text, "no \"space\"");
	assert_false(seen.has_result || seen.has_commit);

	expect_missing(db_import_delete(fx.db, 2, id, &err));
	OK(db_import_delete(fx.db, 1, id, &err));
	expect_missing(db_import_delete(fx.db, 1, id, &err));
	expect_missing(db_import_end(fx.db, &row, &err));
}

static void
lists_are_newest_first(void **state)
{
	uint64_t ids[5];

	(void)state;
	add(2, "s", NULL);
	for (int i = 0; i < 5; i++)
		ids[i] = add(1, "s", NULL);
	memset(&seen, 0, sizeof seen);
	OK(db_import_list(fx.db, 1, INT64_MAX, 3, look_at, NULL, &err));
	assert_int_equal(seen.count, 3);
	assert_int_equal(seen.first_id, ids[4]);
	assert_int_equal(seen.last_id, ids[2]);
	assert_false(seen.has_ref);
	memset(&seen, 0, sizeof seen);
	OK(db_import_list(fx.db, 1, ids[2], 3, look_at, NULL, &err));
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.last_id, ids[0]);
}

/* A process dies: what it did not write down is known by its stage. */
static void
what_is_left_behind_is_told_by_its_stage(void **state)
{
	(void)state;
	fixture_sql(fx.db, "INSERT INTO stage (repo_id, name, expires_at, state, commit_id) VALUES"
			   " (1, 'committed', now(), 2, decode(repeat('ab', 32), 'hex')),"
			   " (1, 'open', now(), 0, NULL),"
			   " (2, 'gone', now(), 2, decode(repeat('cd', 32), 'hex'))");
	uint64_t done = add(1, "committed", "main");
	uint64_t staged = add(1, "committed", NULL); /* somebody else committed that one */
	uint64_t open = add(1, "open", "main");
	uint64_t gone = add(1, "gone", "main");
	uint64_t ended = add(1, "open", "main");
	const struct import_row row = {.id = ended, .state = 4, .ended_us = 5};
	OK(db_import_end(fx.db, &row, &err));
	OK(db_import_interrupt_all(fx.db, &err));
	find(1, done);
	assert_int_equal(seen.state, 2);
	assert_true(seen.has_commit && seen.commit_id.b[0] == 0xab);
	find(1, staged);
	assert_int_equal(seen.state, 5);
	assert_false(seen.has_commit);
	find(1, open);
	assert_int_equal(seen.state, 5);
	assert_true(seen.ended_us > 0);
	find(1, gone);
	assert_int_equal(seen.state, 5);
	find(1, ended);
	assert_int_equal(seen.state, 4);
	OK(db_import_interrupt_all(fx.db, &err));
}

static void
old_ones_are_forgotten(void **state)
{
	(void)state;
	uint64_t old = add(1, "s", NULL), young = add(1, "s", NULL), running = add(1, "s", NULL);
	struct import_row row = {.id = old, .state = 2, .ended_us = 1000000};
	OK(db_import_end(fx.db, &row, &err));
	row = (struct import_row){.id = young, .state = 2, .ended_us = 3000000};
	OK(db_import_end(fx.db, &row, &err));
	OK(db_import_expire(fx.db, 2000000, &err));
	expect_missing(db_import_find(fx.db, 1, old, look_at, NULL, &err));
	find(1, young);
	find(1, running);
}

static void
a_dropped_repository_loses_its_imports(void **state)
{
	struct import_row row = asked;
	int64_t created_us;
	uint64_t id;
	struct db_repo_swept swept = {.id = 0};

	(void)state;
	row.repo_id = 2;
	OK(db_repo_drop(fx.db, 2, &err));
	assert_int_equal(db_import_add(fx.db, &row, &id, &created_us, &err), RC_NOT_FOUND);
	assert_string_equal(err.kind, "repo-not-found");
	assert_true(fixture_number(fx.db, "SELECT count(*) FROM import WHERE repo_id = 2") > 0);
	while (swept.id == 0)
		OK(db_repo_sweep(fx.db, 1, &swept, &err));
	OK(db_repo_delete(fx.db, swept.id, &err));
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM import WHERE repo_id = 2"), 0);
}

static int
setup(void **state)
{
	(void)state;
	fixture_start(&fx);
	fx.db = fixture_pool(&fx, 10000);
	OK(migrate_run(fx.db, migration_list, migration_list_count, &err));
	fixture_sql(fx.db, "INSERT INTO repo (name, uuid, chunker, hash_alg, chunk_target) VALUES"
			   " ('a', '00000000-0000-0000-0000-000000000001', 1, 1, 65536),"
			   " ('b', '00000000-0000-0000-0000-000000000002', 1, 1, 65536)");
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	fixture_done(&fx);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_begin_and_end),
		cmocka_unit_test(lists_are_newest_first),
		cmocka_unit_test(what_is_left_behind_is_told_by_its_stage),
		cmocka_unit_test(old_ones_are_forgotten),
		cmocka_unit_test(a_dropped_repository_loses_its_imports),
	};

	fixture_init(&fx, false);
	return cmocka_run_group_tests_name("db_import", tests, setup, teardown);
}
