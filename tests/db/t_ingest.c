/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a byte in, on real packs and a real database: engine, stages, commits. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>

#include "cluster_fixture.h"
#include "commit.h"
#include "db_chunk.h"
#include "ingest.h"
#include "migrate.h"
#include "pack_dir.h"
#include "repo.h"
#include "stage.h"

static struct cluster_fixture fx;
static struct pack_dir *packs;
static struct repos *repos;
static struct ingest *ingest;
static struct stages *stages;
static struct history history;

#define OK(call)                                                                                   \
	do {                                                                                       \
		struct err *e_ = &err;                                                             \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s %s (%s)", #call, rc_name(e_->rc), e_->text, e_->detail);  \
	} while (0)

/* ---- a client ---- */

struct client {
	struct stage_put put;
	struct ingest_writer *writer;
	sem_t room;
	sem_t done;
	enum rc rc;
	struct err err;
};

static void
wake(void *arg)
{
	sem_post(&((struct client *)arg)->room);
}

static void
put_done(struct stage_put *put, enum rc rc, const struct err *err)
{
	struct client *c = put->owner;

	c->rc = rc;
	c->err = *err;
	sem_post(&c->done);
}

static struct client *
client_open(struct stage *s, const char *path)
{
	struct client *c = calloc(1, sizeof *c);
	struct err err = ERR_INIT;

	sem_init(&c->room, 0, 0);
	sem_init(&c->done, 0, 0);
	OK(ingest_writer_open(ingest, &stage_repo(s)->space, wake, c, &c->writer, &err));
	snprintf(c->put.path, sizeof c->put.path, "%s", path);
	c->put.path_len = strlen(path);
	c->put.mode = 0644;
	c->put.total_bytes = UINT64_MAX;
	c->put.resumable = true;
	c->put.done = put_done;
	c->put.owner = c;
	return c;
}

static void
client_begin(struct client *c, struct stage *s)
{
	struct err err = ERR_INIT;

	OK(stage_put_begin(s, &c->put, UINT64_MAX, &err));
	ingest_begin(c->writer, &c->put.file, UINT64_MAX);
}

static void
client_write(struct client *c, const uint8_t *data, size_t len)
{
	size_t at = 0;

	while (at < len) {
		size_t n = ingest_write(c->writer, data + at, len - at > 60000 ? 60000 : len - at);
		stage_live_received(c->put.stage, &c->put.live, n);
		at += n;
		if (n == 0)
			sem_wait(&c->room);
	}
}

static void
client_close(struct client *c)
{
	ingest_writer_close(c->writer);
	free(c->put.file.tail);
	sem_destroy(&c->room);
	sem_destroy(&c->done);
	free(c);
}

static void
client_finish(struct client *c)
{
	ingest_finish(c->writer);
	ingest_flush(c->writer);
	sem_wait(&c->done);
	assert_int_equal(c->rc, RC_OK);
}

static void
put_bytes(struct stage *s, const char *path, const uint8_t *data, size_t len, struct content *out,
	struct ingest_receipt *receipt)
{
	struct client *c = client_open(s, path);

	client_begin(c, s);
	client_write(c, data, len);
	client_finish(c);
	if (out != NULL)
		*out = c->put.file.content;
	if (receipt != NULL)
		*receipt = c->put.file.receipt;
	client_close(c);
}

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

static struct repo *
make_repo(const char *name)
{
	struct err err = ERR_INIT;
	struct repo *r = NULL;
	bool created;

	OK(repo_create(repos, name, 0, "", &r, &created, &err));
	return r;
}

static struct stage *
make_stage(struct repo *r, const char *name)
{
	struct err err = ERR_INIT;
	struct stage *s = NULL;

	OK(stage_open(stages, r, name, 0, &s, NULL, &err));
	return s;
}

static enum rc
run_number(struct db_tx *tx, void *arg, struct err *err)
{
	struct {
		const struct db_stmt *stmt;
		int64_t out;
	} *q = arg;
	struct db_result *r = NULL;

	enum rc rc = db_exec(tx, q->stmt, NULL, &r, err);
	if (rc == RC_OK)
		q->out = db_get_i64(r, 0, 0);
	db_result_free(r);
	return rc;
}

/* As count, as often as one likes. */
static int64_t
number(const struct db_stmt *stmt)
{
	struct err err = ERR_INIT;
	struct {
		const struct db_stmt *stmt;
		int64_t out;
	} q = {stmt, 0};

	OK(db_run_readonly(fx.db, run_number, &q, &err));
	return q.out;
}

static int64_t
count(const char *sql)
{
	return fixture_number(fx.db, sql);
}

/* ---- tests ---- */

static void
test_sizes_and_ids(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 1, 43711, 43712, 43713, 65535, 65536, 65537, 87360, 87361,
		200000, 262143, 1048576, 5000000};
	struct repo *r = make_repo("sizes");
	struct stage *s = make_stage(r, "s");
	uint8_t *data = malloc(5000000);

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct content c, again;
		struct ingest_receipt one, two;
		char path[32];
		fill(data, sizes[i], i + 1);
		snprintf(path, sizeof path, "f%zu", i);
		put_bytes(s, path, data, sizes[i], &c, &one);
		assert_int_equal(c.size, sizes[i]);
		assert_int_equal(one.logical_bytes, sizes[i]);
		assert_int_equal(one.new_bytes, sizes[i]);
		if (sizes[i] <= r->space.chunker.min) {
			struct sha256 h;
			sha256_of(data, sizes[i], &h);
			assert_int_equal(c.kind, CONTENT_CHUNK);
			assert_true(sha256_equal(&h, &c.id));
		}
		put_bytes(s, path, data, sizes[i], &again, &two);
		assert_true(content_equal(&c, &again));
		assert_int_equal(two.new_bytes, 0);
		assert_int_equal(two.stored_bytes, 0);
		assert_int_equal(two.dedup_bytes, sizes[i]);
	}
	/* every recipe's parts say exactly the file's size, and none is left over */
	assert_int_equal(count("SELECT count(*) FROM recipe_part p WHERE NOT EXISTS"
			       " (SELECT 1 FROM file f WHERE f.recipe_id = p.recipe_id)"),
		0);
	struct stage_info info;
	stage_info(s, &info);
	assert_int_equal(info.files, sizeof sizes / sizeof *sizes);
	stage_unref(s);
	free(data);
}

struct parallel {
	struct stage *s;
	int id;
	pthread_t thread;
};

static void *
parallel_main(void *arg)
{
	struct parallel *p = arg;
	uint8_t *data = malloc(700000);

	for (int i = 0; i < 12; i++) {
		char path[40];
		/* half of the contents are shared by all threads, at the same moment */
		fill(data, 700000, (uint64_t)(i % 2 == 0 ? 1000 + i : 2000 + p->id * 100 + i));
		snprintf(path, sizeof path, "t%d/f%d", p->id, i);
		put_bytes(p->s, path, data, (size_t)(50000 * (i + 1)), NULL, NULL);
	}
	free(data);
	return NULL;
}

static void
test_parallel_shared_chunks(void **state)
{
	(void)state;
	struct repo *r = make_repo("parallel");
	struct stage *s = make_stage(r, "s");
	struct parallel p[8];

	for (int i = 0; i < 8; i++) {
		p[i] = (struct parallel){.s = s, .id = i};
		pthread_create(&p[i].thread, NULL, parallel_main, &p[i]);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(p[i].thread, NULL);
	struct stage_info info;
	stage_info(s, &info);
	assert_int_equal(info.files, 96);
	assert_int_equal(info.uploads, 0);
	stage_unref(s);
}

static void
test_abort_leaves_nothing_staged(void **state)
{
	(void)state;
	struct repo *r = make_repo("abort");
	struct stage *s = make_stage(r, "s");
	uint8_t *data = malloc(3000000);
	struct err why = ERR_INIT;

	fill(data, 3000000, 77);
	struct client *c = client_open(s, "x");
	client_begin(c, s);
	client_write(c, data, 3000000);
	err_set(&why, RC_INVALID, "digest-mismatch", "no");
	ingest_abort(c->writer, &why);
	ingest_flush(c->writer);
	sem_wait(&c->done);
	assert_int_equal(c->rc, RC_INVALID);
	assert_string_equal(c->err.kind, "digest-mismatch");
	client_close(c);
	struct stage_info info;
	stage_info(s, &info);
	assert_int_equal(info.files, 0);
	stage_unref(s);
	free(data);
}

static void
test_suspend_and_resume(void **state)
{
	(void)state;
	static const size_t cuts[] = {
		0, 1, 1000, 43712, 87360, 87361, 100000, 1234567, 2999999, 3000000};
	struct repo *r = make_repo("resume");
	struct stage *s = make_stage(r, "s");
	struct err err = ERR_INIT;
	uint8_t *data = malloc(3000000);
	struct content whole;

	fill(data, 3000000, 99);
	put_bytes(s, "whole", data, 3000000, &whole, NULL);
	for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
		char path[32];
		uint64_t offset, total;
		snprintf(path, sizeof path, "part%zu", i);
		struct client *c = client_open(s, path);
		client_begin(c, s);
		client_write(c, data, cuts[i]);
		ingest_suspend(c->writer);
		ingest_flush(c->writer);
		sem_wait(&c->done);
		assert_int_equal(c->rc, RC_OK);
		client_close(c);
		OK(stage_upload_offset(s, path, strlen(path), &offset, &total, &err));
		assert_int_equal(offset, cuts[i]);

		c = client_open(s, path);
		OK(stage_put_begin(s, &c->put, UINT64_MAX, &err));
		OK(stage_put_resume(&c->put, &err));
		assert_int_equal(c->put.resumed_bytes, cuts[i]);
		uint8_t *tail = c->put.file.tail;
		size_t tail_bytes = c->put.file.tail_bytes;
		c->put.file.tail = NULL;
		c->put.file.tail_bytes = 0;
		ingest_continue(c->writer, &c->put.file, UINT64_MAX);
		for (size_t at = 0; at < tail_bytes;) {
			size_t n = ingest_write_tail(c->writer, tail + at, tail_bytes - at);
			at += n;
			if (n == 0)
				sem_wait(&c->room);
		}
		free(tail);
		client_write(c, data + cuts[i], 3000000 - cuts[i]);
		client_finish(c);
		assert_true(content_equal(&whole, &c->put.file.content));
		client_close(c);
		err_clear(&err);
		assert_int_equal(stage_upload_offset(s, path, strlen(path), &offset, &total, &err),
			RC_NOT_FOUND);
		err_clear(&err);
	}
	assert_int_equal(count("SELECT count(*) FROM upload"), 0);
	assert_int_equal(count("SELECT count(*) FROM recipe_part p WHERE NOT EXISTS"
			       " (SELECT 1 FROM file f WHERE f.recipe_id = p.recipe_id)"),
		0);
	stage_unref(s);
	free(data);
}

static struct sha256
commit_stage(struct stage *s, const char *ref, enum commit_mode mode)
{
	struct err err = ERR_INIT;
	struct commit_refusal refusal;
	struct commit c;
	struct commit_request q = {
		.stage = s,
		.ref = ref,
		.author = "tester",
		.message = "a message",
		.metadata = "{}",
		.mode = mode,
		.receipt = "{}",
	};

	OK(commit_make(&history, &q, &c, &refusal, &err));
	struct sha256 id = c.id;
	commit_done(&c);
	return id;
}

static void
test_commit_merge_and_replace(void **state)
{
	(void)state;
	struct repo *r = make_repo("commits");
	struct err err = ERR_INIT;
	struct commit c;
	bool is_ref;

	struct stage *s = make_stage(r, "one");
	put_bytes(s, "a", (const uint8_t *)"1", 1, NULL, NULL);
	put_bytes(s, "d/b", (const uint8_t *)"22", 2, NULL, NULL);
	struct sha256 first = commit_stage(s, "main", COMMIT_MERGE);
	assert_int_equal(stage_check_open(s, &err), RC_CONFLICT);
	err_clear(&err);
	stage_unref(s);

	s = make_stage(r, "two");
	put_bytes(s, "d/c", (const uint8_t *)"333", 3, NULL, NULL);
	struct sha256 second = commit_stage(s, "main", COMMIT_MERGE);
	stage_unref(s);
	OK(rev_resolve(&history, r, "main", &c, &is_ref, &err));
	assert_true(is_ref);
	assert_true(sha256_equal(&c.id, &second));
	assert_true(c.has_parent && sha256_equal(&c.parent, &first));
	assert_int_equal(c.files, 3);
	assert_int_equal(c.bytes, 6);
	assert_string_equal(c.author, "tester");
	assert_string_equal(c.ref, "main");
	commit_done(&c);

	s = make_stage(r, "three");
	put_bytes(s, "only", (const uint8_t *)"4", 1, NULL, NULL);
	commit_stage(s, "main", COMMIT_REPLACE);
	stage_unref(s);
	OK(rev_resolve(&history, r, "main", &c, &is_ref, &err));
	assert_int_equal(c.files, 1);
	commit_done(&c);

	/* a file where a directory is */
	s = make_stage(r, "four");
	put_bytes(s, "only/x", (const uint8_t *)"5", 1, NULL, NULL);
	struct commit_refusal refusal;
	struct commit_request q = {.stage = s,
		.ref = "main",
		.author = "",
		.message = "",
		.metadata = "{}",
		.receipt = "{}"};
	assert_int_equal(commit_make(&history, &q, &c, &refusal, &err), RC_CONFLICT);
	assert_string_equal(err.kind, "path-conflict");
	assert_string_equal(refusal.paths[0], "only");
	assert_string_equal(refusal.paths[1], "only/x");
	err_clear(&err);
	OK(stage_check_open(s, &err));
	OK(stage_abandon(stages, s, &err));
	stage_unref(s);
}

/* A commit that changes nothing is one all the same, and so is one that leaves nothing. */
static void
test_commit_of_nothing(void **state)
{
	(void)state;
	static const enum commit_mode modes[] = {COMMIT_MERGE, COMMIT_REPLACE, COMMIT_MERGE};
	static const uint64_t files[] = {1, 0, 0};
	struct repo *r = make_repo("nothing");
	struct err err = ERR_INIT;
	struct commit_refusal refusal;
	struct commit c;

	struct stage *s = make_stage(r, "one");
	put_bytes(s, "a", (const uint8_t *)"1", 1, NULL, NULL);
	struct sha256 parent = commit_stage(s, "main", COMMIT_MERGE);
	stage_unref(s);
	for (int i = 0; i < 3; i++) {
		char name[16];
		snprintf(name, sizeof name, "e%d", i);
		s = make_stage(r, name);
		struct commit_request q = {.stage = s,
			.ref = "main",
			.author = "",
			.message = "",
			.metadata = "{}",
			.mode = modes[i],
			.receipt = "{}"};
		assert_int_equal(commit_make(&history, &q, &c, &refusal, &err), RC_CONFLICT);
		assert_string_equal(err.kind, "stage-empty");
		err_clear(&err);
		q.allow_empty = true;
		OK(commit_make(&history, &q, &c, &refusal, &err));
		assert_true(c.has_parent && sha256_equal(&c.parent, &parent));
		assert_int_equal(c.files, files[i]);
		parent = c.id;
		commit_done(&c);
		stage_unref(s);
	}
}

static void
test_stage_survives_restart(void **state)
{
	(void)state;
	struct repo *r = make_repo("restart");
	struct err err = ERR_INIT;
	struct stage *s = make_stage(r, "s");
	struct tree_entry e;
	struct stage_live live = {.label = "removal", .total_bytes = 0};

	put_bytes(s, "keep", (const uint8_t *)"k", 1, NULL, NULL);
	put_bytes(s, "drop", (const uint8_t *)"d", 1, NULL, NULL);
	struct stage_change change = {.path = "drop", .path_len = 4, .remove = true};
	OK(stage_live_begin(s, &live, &err));
	OK(stage_apply(s, &change, 1, &err));
	stage_live_end(s, &live);
	stage_unref(s);

	struct stages_options options = {
		.db = fx.db, .ingest = ingest, .ttl_us = 3600000000u, .ttl_max_us = 7200000000u};
	struct stages *fresh = NULL;
	OK(stages_open(&options, &fresh, &err));
	OK(stage_find(fresh, r, "s", &s, &err));
	OK(stage_file_find(s, "keep", 4, &e, &err));
	assert_int_equal(e.content.size, 1);
	assert_int_equal(stage_file_find(s, "drop", 4, &e, &err), RC_NOT_FOUND);
	stage_unref(s);
	stages_free(fresh);
}

static void
test_bad_chunk_is_healed(void **state)
{
	(void)state;
	struct repo *r = make_repo("heal");
	struct stage *s = make_stage(r, "s");
	struct err err = ERR_INIT;
	uint8_t data[30000];
	struct content c;
	struct ingest_receipt receipt;
	struct chunk_row row;
	size_t found;

	fill(data, sizeof data, 5);
	put_bytes(s, "f", data, sizeof data, &c, NULL);
	OK(db_chunk_locate(fx.db, r->id, &c.id, 1, &row, &found, &err));
	assert_int_equal(found, 1);
	OK(db_chunk_mark_bad(fx.db, &row, &err));
	ingest_forget(ingest);
	put_bytes(s, "f", data, sizeof data, &c, &receipt);
	assert_int_equal(receipt.new_bytes, sizeof data);
	struct chunk_row healed;
	OK(db_chunk_locate(fx.db, r->id, &c.id, 1, &healed, &found, &err));
	assert_int_equal(found, 1);
	assert_true(healed.pack_id != row.pack_id || healed.frame_offset != row.frame_offset);
	stage_unref(s);
}

static bool
nothing_is_open(void *arg)
{
	static const struct db_stmt stmt = {
		.name = "t_open_packs", .sql = "SELECT count(*) FROM pack WHERE state = 0"};
	(void)arg;

	return number(&stmt) == 0;
}

/* Nobody closes the engine, nor waits until its packs have gone unused for long. */
static void
test_packs_are_sealed_when_asked(void **state)
{
	(void)state;
	struct repo *r = make_repo("seal");
	struct stage *s = make_stage(r, "s");
	uint8_t data[5000];

	fill(data, sizeof data, 4711);
	put_bytes(s, "f", data, sizeof data, NULL, NULL);
	assert_false(nothing_is_open(NULL));
	ingest_seal_soon(ingest);
	assert_true(fixture_wait(nothing_is_open, NULL, 25));
	stage_unref(s);
}

/* ---- set-up ---- */

static int
open_all(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	char path[FIXTURE_PATH_BYTES + 16];

	fixture_start(&fx);
	fx.db = fixture_pool(&fx, 30000);
	OK(migrate_run(fx.db, migration_list, migration_list_count, &err));
	snprintf(path, sizeof path, "%s/blobs", fx.dir);
	OK(pack_dir_open(path, &packs, &err));
	OK(repos_open(fx.db, 65536, &repos, &err));
	struct ingest_options options = {
		.db = fx.db,
		.packs = packs,
		.workers = 2,
		.slab_bytes = (size_t)8 << 20,
		.known_bytes = (size_t)1 << 20,
		.filter_bytes_max = (size_t)4 << 20,
		.pack_bytes = (uint64_t)4 << 20,
		.pack_direct = true,
		.level = 1,
	};
	OK(ingest_open(&options, &ingest, &err));
	struct stages_options so = {
		.db = fx.db, .ingest = ingest, .ttl_us = 3600000000u, .ttl_max_us = 7200000000u};
	OK(stages_open(&so, &stages, &err));
	history.db = fx.db;
	history.stages = stages;
	OK(node_cache_open((size_t)1 << 20, &history.nodes, &err));
	OK(rev_cache_open(&history.revs, &err));
	return 0;
}

static enum rc
add_file(void *arg, uint64_t id, struct err *err)
{
	char path[FIXTURE_PATH_BYTES + 64];
	struct stat st;

	snprintf(path, sizeof path, "%s/blobs/%02x/%016" PRIx64 ".pack", fx.dir,
		(unsigned)(id & 0xff), id);
	if (stat(path, &st) != 0)
		return err_set(err, RC_IO, NULL, "no file");
	*(uint64_t *)arg += (uint64_t)st.st_size;
	return RC_OK;
}

static int
close_all(void **state)
{
	(void)state;
	ingest_close(ingest);
	node_cache_free(history.nodes);
	rev_cache_free(history.revs);
	stages_free(stages);
	repos_free(repos);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM pack WHERE state = 0"), 0);
	uint64_t on_disk = 0;
	assert_int_equal(pack_dir_list(packs, add_file, &on_disk, &(struct err)ERR_INIT), RC_OK);
	assert_int_equal(fixture_number(fx.db, "SELECT sum(bytes)::bigint FROM pack"), on_disk);
	pack_dir_free(packs);
	return 0;
}

/* Each knob at both ends: the same content comes out, and its bytes are taken in. */
static void
test_knobs_change_no_content(void **state)
{
	(void)state;
	struct repo *r = make_repo("knobs");
	struct stage *s = make_stage(r, "s");
	struct knob *knobs = ingest_knobs(ingest);
	size_t len = 3000000;
	uint8_t *data = malloc(len);
	struct content first, again;

	fill(data, len, 77);
	put_bytes(s, "first", data, len, &first, NULL);
	for (int i = 0; i < 2 * INGEST_KNOBS; i++) {
		struct knob *k = &knobs[i / 2];
		char path[16];
		knob_set(k, i % 2 == 0 ? k->min : k->max);
		snprintf(path, sizeof path, "k%d", i);
		fill(data, 1000000,
			(uint64_t)i + 1000); /* so that there is something new to store */
		put_bytes(s, path, data, 1000000, NULL, NULL);
		fill(data, len, 77);
		put_bytes(s, path, data, len, &again, NULL);
		assert_true(sha256_equal(&first.id, &again.id));
		knob_set(k, k->fallback);
	}
	free(data);
	stage_unref(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_and_ids),
		cmocka_unit_test(test_parallel_shared_chunks),
		cmocka_unit_test(test_abort_leaves_nothing_staged),
		cmocka_unit_test(test_suspend_and_resume),
		cmocka_unit_test(test_commit_merge_and_replace),
		cmocka_unit_test(test_commit_of_nothing),
		cmocka_unit_test(test_stage_survives_restart),
		cmocka_unit_test(test_bad_chunk_is_healed),
		cmocka_unit_test(test_knobs_change_no_content),
		cmocka_unit_test(test_packs_are_sealed_when_asked),
	};

	fixture_init(&fx, false);
	int failed = cmocka_run_group_tests(tests, open_all, close_all);
	fixture_done(&fx);
	return failed;
}
