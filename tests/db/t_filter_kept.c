/* SPDX-License-Identifier: Apache-2.0 */
/* How ingest knows whether a chunk is new, from one run of the engine to the next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <semaphore.h>

#include "cluster_fixture.h"
#include "db_filter.h"
#include "filter.h"
#include "ingest.h"
#include "migrate.h"
#include "pack_dir.h"
#include "repo.h"

static struct cluster_fixture fx;
static struct pack_dir *packs;
static struct repos *repos;
static struct ingest *ingest;
static char path[FIXTURE_PATH_BYTES + 16];

#define OK(call)                                                                                   \
	do {                                                                                       \
		struct err *e_ = &err;                                                             \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s %s (%s)", #call, rc_name(e_->rc), e_->text, e_->detail);  \
	} while (0)

#define FILE_BYTES 2000000u

/* ---- uploads ---- */

struct upload {
	struct ingest_file file; /* first */
	sem_t room, done;
	enum rc rc;
};

static void
wake(void *arg)
{
	sem_post(&((struct upload *)arg)->room);
}

static void
upload_done(struct ingest_rider *rider, enum rc rc, const struct err *err)
{
	struct upload *u = (struct upload *)rider;

	(void)err;
	u->rc = rc;
	sem_post(&u->done);
}

static const struct ingest_rider_ops upload_ops = {.done = upload_done};

static void
fill(uint8_t *data, size_t len, uint64_t seed)
{
	uint64_t x = seed * 2654435761u + 88172645463325252u;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		data[i] = (uint8_t)x;
	}
}

/* A file of FILE_BYTES that is told by its seed. */
static struct ingest_receipt
put(struct repo *r, uint64_t seed)
{
	static struct meter meter;
	struct upload *u = calloc(1, sizeof *u);
	uint8_t *data = malloc(FILE_BYTES);
	struct ingest_writer *w = NULL;
	struct err err = ERR_INIT;

	sem_init(&u->room, 0, 0);
	sem_init(&u->done, 0, 0);
	u->file.rider.ops = &upload_ops;
	u->file.meter = &meter;
	OK(ingest_writer_open(ingest, &r->space, wake, u, &w, &err));
	ingest_begin(w, &u->file, FILE_BYTES);
	fill(data, FILE_BYTES, seed);
	for (size_t at = 0; at < FILE_BYTES;) {
		size_t n = ingest_write(w, data + at, FILE_BYTES - at);
		at += n;
		if (n == 0)
			sem_wait(&u->room);
	}
	ingest_finish(w);
	ingest_flush(w);
	sem_wait(&u->done);
	assert_int_equal(u->rc, RC_OK);
	ingest_writer_close(w);
	struct ingest_receipt receipt = u->file.receipt;
	sem_destroy(&u->room);
	sem_destroy(&u->done);
	free(data);
	free(u);
	return receipt;
}

static void
expect_new(struct repo *r, uint64_t seed)
{
	struct ingest_receipt receipt = put(r, seed);

	assert_int_equal(receipt.new_bytes, FILE_BYTES);
}

static void
expect_known(struct repo *r, uint64_t seed)
{
	struct ingest_receipt receipt = put(r, seed);

	assert_int_equal(receipt.new_bytes, 0);
	assert_int_equal(receipt.stored_bytes, 0);
	assert_int_equal(receipt.dedup_bytes, FILE_BYTES);
}

/* ---- the engine ---- */

static struct ingest_stats
stats(void)
{
	struct ingest_stats s;

	ingest_stats(ingest, &s);
	return s;
}

static void
start_engine(void)
{
	struct ingest_options options = {
		.db = fx.db,
		.packs = packs,
		.workers = 2,
		.slab_bytes = (size_t)8 << 20,
		.known_bytes = (size_t)1 << 20,
		.filter_bytes_max = (size_t)4 << 20,
		.filter_path = path,
		.pack_bytes = (uint64_t)4 << 20,
		.level = 1,
	};
	struct err err = ERR_INIT;

	OK(ingest_open(&options, &ingest, &err));
}

static void
wait_for_fills(uint64_t fills)
{
	while (stats().filter.fills < fills)
		usleep(1000);
}

static void
stop_engine(void)
{
	ingest_close(ingest);
	ingest = NULL;
}

/* As a process that was killed: no file is left. */
static void
crash_engine(void)
{
	stop_engine();
	assert_int_equal(unlink(path), 0);
}

static struct repo *
make_repo(const char *name)
{
	struct err err = ERR_INIT;
	struct repo *r = NULL;
	bool created;

	OK(repo_create(repos, name, 0, "", &r, &created, &err));
	return r;
}

/* ---- tests ---- */

static void
test_restart(void **state)
{
	(void)state;
	struct repo *r = make_repo("restart");

	start_engine();
	assert_false(stats().filter.loaded);
	wait_for_fills(1);
	expect_new(r, 1);
	stop_engine();
	assert_int_equal(access(path, F_OK), 0);
	start_engine();
	assert_true(stats().filter.ready && stats().filter.loaded);
	assert_int_equal(access(path, F_OK), -1);
	expect_new(r, 2);
	/* not a question to the database: what is new was known to be */
	assert_int_equal(stats().sql_lookups, 0);
	expect_known(r, 1);
	assert_true(stats().sql_lookups > 0);
	assert_int_equal(stats().sql_lookups, stats().sql_hits);
	stop_engine();
	start_engine();
	assert_true(stats().filter.loaded);
	expect_known(r, 1);
	expect_known(r, 2);
	assert_int_equal(stats().filter.fills, 0);
	stop_engine();
}

static void
test_crash(void **state)
{
	(void)state;
	struct repo *r = make_repo("crash");
	char kept[sizeof path + 8];

	snprintf(kept, sizeof kept, "%s.kept", path);
	start_engine();
	wait_for_fills(1);
	expect_new(r, 11);
	stop_engine();
	assert_int_equal(link(path, kept), 0);
	start_engine();
	expect_new(r, 12);
	crash_engine();
	/* not even if the file of the run before comes back */
	assert_int_equal(rename(kept, path), 0);
	start_engine();
	assert_false(stats().filter.loaded);
	assert_int_equal(access(path, F_OK), -1);
	wait_for_fills(1);
	expect_known(r, 11);
	expect_known(r, 12);
	expect_new(r, 13);
	stop_engine();
}

/* A backup of the database is put back: its id is that of the run it was taken in, so the file of
 * that run, which knows all that the backup has and more, is right; that of a later run is not. */
static void
test_restored_backup(void **state)
{
	(void)state;
	struct repo *r = make_repo("backup");
	char kept[sizeof path + 8];

	snprintf(kept, sizeof kept, "%s.kept", path);
	start_engine();
	wait_for_fills(1);
	expect_new(r, 21);
	fixture_sql(fx.db, "CREATE TABLE backup AS SELECT * FROM chunk;"
			   " CREATE TABLE backup_writer AS SELECT * FROM chunk_writer");
	expect_new(r, 22);
	stop_engine();
	assert_int_equal(link(path, kept), 0);
	start_engine();
	expect_new(r, 23);
	stop_engine();
	fixture_sql(fx.db, "TRUNCATE chunk; INSERT INTO chunk SELECT * FROM backup;"
			   " TRUNCATE chunk_writer; INSERT INTO chunk_writer SELECT * FROM"
			   " backup_writer; TRUNCATE file, recipe_part");
	start_engine();
	assert_false(stats().filter.loaded);
	wait_for_fills(1);
	expect_known(r, 21);
	expect_new(r, 22);
	stop_engine();
	/* once more, with the other file */
	fixture_sql(fx.db, "TRUNCATE chunk; INSERT INTO chunk SELECT * FROM backup;"
			   " TRUNCATE chunk_writer; INSERT INTO chunk_writer SELECT * FROM"
			   " backup_writer; TRUNCATE file, recipe_part");
	assert_int_equal(rename(kept, path), 0);
	start_engine();
	assert_true(stats().filter.loaded);
	expect_known(r, 21);
	expect_new(r, 22);
	expect_new(r, 23);
	stop_engine();
	fixture_sql(fx.db, "DROP TABLE backup, backup_writer");
}

static void
test_damaged_file(void **state)
{
	(void)state;
	struct repo *r = make_repo("damaged");

	start_engine();
	wait_for_fills(1);
	expect_new(r, 31);
	stop_engine();
	FILE *f = fopen(path, "r+b");
	assert_non_null(f);
	assert_int_equal(fseek(f, 5000, SEEK_SET), 0);
	int c = fgetc(f);
	assert_int_equal(fseek(f, 5000, SEEK_SET), 0);
	fputc(c ^ 4, f);
	fclose(f);
	start_engine();
	assert_false(stats().filter.loaded);
	expect_known(r, 31);
	stop_engine();
}

/* Rows that appear behind the engine's back are the only way to a wrong "new". It costs the bytes
 * once more; the row stays, or is healed, and the content is the same. */
static void
test_wrong_no(void **state)
{
	(void)state;
	struct repo *r = make_repo("wrong");

	start_engine();
	wait_for_fills(1);
	expect_new(r, 41);
	stop_engine();
	fixture_sql(fx.db, "CREATE TABLE aside AS SELECT * FROM chunk; TRUNCATE chunk");
	start_engine();
	ingest_filter_rebuild(ingest);
	wait_for_fills(1);
	fixture_sql(fx.db, "INSERT INTO chunk SELECT * FROM aside");
	expect_new(r, 41);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM (SELECT * FROM chunk EXCEPT"
					       " SELECT * FROM aside) x"),
		0);
	assert_true(fixture_number(fx.db, "SELECT count(*) FROM chunk") > 20);
	expect_known(r, 41);
	stop_engine();
	/* the same with rows that are marked bad */
	fixture_sql(fx.db, "TRUNCATE chunk");
	start_engine();
	ingest_filter_rebuild(ingest);
	wait_for_fills(1);
	fixture_sql(fx.db, "INSERT INTO chunk SELECT * FROM aside; UPDATE chunk SET state = 1");
	expect_new(r, 41);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM chunk c JOIN aside a"
					       " USING (repo_id, hash, pack_id, frame_offset)"
					       " WHERE c.repo_id = (SELECT id FROM repo WHERE name"
					       " = 'wrong')"),
		0);
	assert_int_equal(
		fixture_number(fx.db, "SELECT count(*) FROM chunk WHERE state = 1 AND repo_id ="
				      " (SELECT id FROM repo WHERE name = 'wrong')"),
		0);
	expect_known(r, 41);
	stop_engine();
	fixture_sql(fx.db, "DROP TABLE aside");
}

static enum rc
keep_pack(void *arg, uint64_t pack_id, struct err *err)
{
	(void)arg;
	(void)pack_id;
	(void)err;
	return RC_OK;
}

static void
test_dropped_repository(void **state)
{
	(void)state;
	struct repo *gone = make_repo("gone"), *stays = make_repo("stays");
	struct repo_swept swept = {.more = true};
	struct err err = ERR_INIT;

	fixture_sql(fx.db, "TRUNCATE chunk, file, recipe_part");
	start_engine();
	wait_for_fills(1);
	for (uint64_t i = 0; i < 4; i++)
		expect_new(gone, 50 + i);
	expect_new(stays, 60);
	uint64_t before = stats().filter.keys;
	OK(repo_drop(repos, gone, &err));
	while (swept.more) {
		OK(repo_sweep(repos, keep_pack, NULL, &swept, &err));
		if (swept.chunks > 0)
			ingest_chunks_gone(ingest, swept.chunks);
	}
	wait_for_fills(2);
	assert_true(stats().filter.keys < before / 3);
	expect_known(stays, 60);
	stop_engine();
}

static void
take_key(struct filter *f, uint64_t n, char *text)
{
	struct sha256 h;

	int len = snprintf(text, 24, "%llu", (unsigned long long)n);
	sha256_of(text, (size_t)len, &h);
	filter_add(f, 77, &h);
}

/* More chunks than the first filter was made for, from a real table. */
static void
test_growth(void **state)
{
	(void)state;
	struct filter_options options = {.db = fx.db, .bytes_max = (size_t)4 << 20, .path = path};
	const uint64_t count = FILTER_KEYS_MIN + 10000;
	struct filter_stats s;
	struct filter *f = NULL;
	struct err err = ERR_INIT;
	char text[24];

	fixture_sql(fx.db, "TRUNCATE chunk, file, recipe_part");
	OK(filter_open(&options, &f, &err));
	OK(filter_start(f, &err));
	for (filter_stats(f, &s); !s.ready; filter_stats(f, &s))
		usleep(1000);
	assert_int_equal(s.expected, FILTER_KEYS_MIN);
	filter_enter(f, 0);
	for (uint64_t n = 1; n <= count; n++)
		take_key(f, n, text);
	fixture_sql(fx.db,
		"INSERT INTO chunk SELECT 77, sha256(i::text::bytea), 1, 0, 0, 0, 1, 0, 0"
		" FROM generate_series(1, 272144) i");
	filter_leave(f, 0);
	for (filter_stats(f, &s); s.fills < 2; filter_stats(f, &s))
		usleep(1000);
	assert_true(s.expected > 3 * FILTER_KEYS_MIN);
	filter_close(f);
	OK(filter_open(&options, &f, &err));
	filter_stats(f, &s);
	assert_true(s.loaded && s.keys > count - count / 50 && s.keys <= count);
	filter_enter(f, 0);
	for (uint64_t n = 1; n <= count; n++) {
		struct sha256 h;
		int len = snprintf(text, sizeof text, "%llu", (unsigned long long)n);
		sha256_of(text, (size_t)len, &h);
		assert_false(filter_excludes(f, 77, &h));
	}
	filter_leave(f, 0);
	filter_close(f);
	fixture_sql(fx.db, "TRUNCATE chunk");
	unlink(path);
}

/* ---- set-up ---- */

static int
open_all(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	char blobs[FIXTURE_PATH_BYTES + 16];

	fixture_start(&fx);
	fx.db = fixture_pool(&fx, 30000);
	OK(migrate_run(fx.db, migration_list, migration_list_count, &err));
	snprintf(blobs, sizeof blobs, "%s/blobs", fx.dir);
	snprintf(path, sizeof path, "%s/filter", fx.dir);
	OK(pack_dir_open(blobs, &packs, &err));
	OK(repos_open(fx.db, 65536, &repos, &err));
	return 0;
}

static int
close_all(void **state)
{
	(void)state;
	repos_free(repos);
	pack_dir_free(packs);
	return 0;
}

static int
no_file(void **state)
{
	(void)state;
	unlink(path);
	return 0;
}

#define TEST(fn) cmocka_unit_test_setup(fn, no_file)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_restart),
		TEST(test_crash),
		TEST(test_restored_backup),
		TEST(test_damaged_file),
		TEST(test_wrong_no),
		TEST(test_dropped_repository),
		TEST(test_growth),
	};

	fixture_init(&fx, false);
	int failed = cmocka_run_group_tests(tests, open_all, close_all);
	fixture_done(&fx);
	return failed;
}
