/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads while something breaks: the database dies or loses connections, the disk is full, the
 * repository goes away. Who is told "stored" must find it; who is not must be told, and the next
 * one must get through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "clock.h"
#include "cluster_fixture.h"
#include "ingest.h"
#include "migrate.h"
#include "pack_dir.h"
#include "pack_reader.h"
#include "reader.h"
#include "repo.h"
#include "stage.h"

static struct cluster_fixture fx;

/* What a server would have open. */
static struct {
	struct pack_dir *packs;
	struct pack_readers *pack_readers;
	struct repos *repos;
	struct ingest *ingest;
	struct read_service *reads;
	struct stages *stages;
} srv;

#define OK(call)                                                                                   \
	do {                                                                                       \
		struct err *e_ = &err;                                                             \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s %s (%s)", #call, rc_name(e_->rc), e_->text, e_->detail);  \
	} while (0)

static void
open_server(const char *folder)
{
	struct err err = ERR_INIT;
	char path[FIXTURE_PATH_BYTES + 16];

	snprintf(path, sizeof path, "%s/blobs", folder);
	OK(pack_dir_open(path, &srv.packs, &err));
	OK(pack_readers_open(srv.packs, 8, &srv.pack_readers, &err));
	OK(repos_open(fx.db, 65536, &srv.repos, &err));
	const struct ingest_options options = {
		.db = fx.db,
		.packs = srv.packs,
		.workers = 2,
		.slab_bytes = (size_t)8 << 20,
		.known_bytes = (size_t)1 << 20,
		.filter_bytes_max = (size_t)4 << 20,
		.pack_bytes = (uint64_t)8 << 20,
		.pack_direct = false,
		.level = 1,
	};
	OK(ingest_open(&options, &srv.ingest, &err));
	const struct read_options reads = {.db = fx.db,
		.ingest = srv.ingest,
		.packs = srv.pack_readers,
		.cache_bytes = (size_t)1 << 20};
	OK(read_service_open(&reads, &srv.reads, &err));
	const struct stages_options so = {.db = fx.db,
		.ingest = srv.ingest,
		.ttl_us = 3600000000u,
		.ttl_max_us = 7200000000u};
	OK(stages_open(&so, &srv.stages, &err));
}

static void
close_server(void)
{
	ingest_close(srv.ingest);
	read_service_free(srv.reads);
	stages_free(srv.stages);
	repos_free(srv.repos);
	pack_readers_free(srv.pack_readers);
	pack_dir_free(srv.packs);
	memset(&srv, 0, sizeof srv);
}

static struct repo *
make_repo(const char *name)
{
	struct err err = ERR_INIT;
	struct repo *r = NULL;
	bool created;

	OK(repo_create(srv.repos, name, 0, "", &r, &created, &err));
	return r;
}

static struct stage *
make_stage(struct repo *r)
{
	struct err err = ERR_INIT;
	struct stage *s = NULL;

	OK(stage_open(srv.stages, r, "s", 0, &s, NULL, &err));
	return s;
}

/* ---- a client ---- */

struct client {
	struct stage_put put;
	struct ingest_writer *writer;
	sem_t room, done;
	enum rc rc;
	struct err err;
};

static void
on_wake(void *arg)
{
	sem_post(&((struct client *)arg)->room);
}

static void
on_done(struct stage_put *put, enum rc rc, const struct err *err)
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

	if (c == NULL)
		abort();
	sem_init(&c->room, 0, 0);
	sem_init(&c->done, 0, 0);
	OK(ingest_writer_open(srv.ingest, &stage_repo(s)->space, on_wake, c, &c->writer, &err));
	snprintf(c->put.path, sizeof c->put.path, "%s", path);
	c->put.path_len = strlen(path);
	c->put.mode = 0644;
	c->put.total_bytes = UINT64_MAX;
	c->put.resumable = true;
	c->put.done = on_done;
	c->put.owner = c;
	OK(stage_put_begin(s, &c->put, UINT64_MAX, &err));
	return c;
}

static void
client_write(struct client *c, const uint8_t *data, size_t len, bool is_tail)
{
	for (size_t at = 0; at < len;) {
		size_t most = len - at > 60000 ? 60000 : len - at;
		size_t n = is_tail ? ingest_write_tail(c->writer, data + at, most)
				   : ingest_write(c->writer, data + at, most);
		at += n;
		if (n == 0)
			sem_wait(&c->room);
	}
}

static enum rc
client_wait(struct client *c, struct content *out)
{
	ingest_flush(c->writer);
	sem_wait(&c->done);
	if (out != NULL)
		*out = c->put.file.content;
	enum rc rc = c->rc;
	ingest_writer_close(c->writer);
	free(c->put.file.tail);
	sem_destroy(&c->room);
	sem_destroy(&c->done);
	free(c);
	return rc;
}

static enum rc
put_bytes(struct stage *s, const char *path, const uint8_t *data, size_t len, struct content *out)
{
	struct client *c = client_open(s, path);

	ingest_begin(c->writer, &c->put.file, len);
	client_write(c, data, len, false);
	ingest_finish(c->writer);
	return client_wait(c, out);
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

static void
check_content(struct repo *r, const struct content *c, const uint8_t *data, size_t len)
{
	static uint8_t got[1 << 16];
	struct reader *reader = NULL;
	struct err err = ERR_INIT;
	size_t at = 0, n;

	assert_int_equal(c->size, len);
	OK(reader_open(srv.reads, r, c, 0, &reader, &err));
	for (;;) {
		OK(reader_read(reader, got, sizeof got, &n, &err));
		if (n == 0)
			break;
		assert_true(n <= len - at);
		assert_memory_equal(got, data + at, n);
		at += n;
	}
	assert_int_equal(at, len);
	reader_free(reader);
}

static bool
cluster_is_ready(void *arg)
{
	struct err err = ERR_INIT;

	(void)arg;
	pg_cluster_tick(fx.cluster, &err);
	return pg_cluster_state(fx.cluster) == PG_CLUSTER_READY && db_ping(fx.db, &err) == RC_OK;
}

/* ---- the database dies ---- */

#define DATA_BYTES ((size_t)6 << 20)

static uint8_t data[DATA_BYTES];

struct offset_query {
	struct stage *s;
	const char *path;
	uint64_t offset, total;
};

static bool
has_checkpoint(void *arg)
{
	struct offset_query *q = arg;
	struct err err = ERR_INIT;

	return stage_upload_offset(q->s, q->path, strlen(q->path), &q->offset, &q->total, &err) ==
	       RC_OK;
}

/* Once in the middle of an upload. What the checkpoint noted is there afterwards, and the upload
 * goes on from it. */
static void
test_database_dies_in_an_upload(void **state)
{
	struct err err = ERR_INIT;
	struct content whole, content;
	(void)state;

	open_server(fx.dir);
	struct repo *r = make_repo("dies");
	struct stage *s = make_stage(r);
	struct offset_query q = {.s = s, .path = "f"};
	fill(data, DATA_BYTES, 1);
	struct client *c = client_open(s, "f");
	ingest_begin(c->writer, &c->put.file, UINT64_MAX);
	client_write(c, data, 2 << 20, false);
	usleep(1100000); /* then a checkpoint is due */
	client_write(c, data + (2 << 20), 1 << 20, false);
	ingest_flush(c->writer);
	assert_true(fixture_wait(has_checkpoint, &q, 20));
	uint64_t noted = q.offset;
	assert_true(noted > 0 && noted <= 3 << 20);

	kill(fixture_postmaster(fx.dir), SIGKILL);
	client_write(c, data + (3 << 20), 3 << 20, false);
	ingest_finish(c->writer);
	assert_int_equal(client_wait(c, NULL), RC_UNAVAILABLE);
	c = client_open(s, "g");
	ingest_begin(c->writer, &c->put.file, 5);
	client_write(c, data, 5, false);
	ingest_finish(c->writer);
	assert_int_equal(client_wait(c, NULL), RC_UNAVAILABLE);
	assert_true(fixture_wait(cluster_is_ready, NULL, 60));

	assert_int_equal(put_bytes(s, "whole", data, DATA_BYTES, &whole), RC_OK);
	assert_true(has_checkpoint(&q));
	assert_true(q.offset >= noted);
	c = client_open(s, "f");
	OK(stage_put_resume(&c->put, &err));
	assert_int_equal(c->put.resumed_bytes, q.offset);
	ingest_continue(c->writer, &c->put.file, UINT64_MAX);
	uint8_t *tail = c->put.file.tail;
	size_t tail_bytes = c->put.file.tail_bytes;
	c->put.file.tail = NULL;
	c->put.file.tail_bytes = 0;
	client_write(c, tail, tail_bytes, true);
	free(tail);
	client_write(c, data + q.offset, DATA_BYTES - q.offset, false);
	ingest_finish(c->writer);
	assert_int_equal(client_wait(c, &content), RC_OK);
	assert_true(content_equal(&whole, &content));
	check_content(r, &content, data, DATA_BYTES);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM upload"), 0);
	assert_int_equal(
		fixture_number(fx.db, "SELECT count(*) FROM recipe_part p WHERE NOT EXISTS"
				      " (SELECT 1 FROM file f WHERE f.recipe_id = p.recipe_id)"),
		0);
	stage_unref(s);
	close_server();
}

/* ---- connections are lost, again and again ---- */

#define CLIENTS 4
#define FILES   24

struct uploader {
	struct stage *s;
	int id;
	pthread_t thread;
	struct content stored[FILES];
};

static atomic_int uploaders_left;

/* Some of the bytes are everybody's, at the same moment. */
static size_t
make_bytes(uint8_t *out, int id, int i)
{
	size_t len = (size_t)(30000 + 40000 * (i % 12));

	fill(out, len, (uint64_t)i + 1);
	if (i % 2)
		fill(out + len / 2, len - len / 2, (uint64_t)(1000 + id * FILES + i));
	return len;
}

static void *
uploader_main(void *arg)
{
	struct uploader *u = arg;
	uint8_t *bytes = malloc(1 << 19);

	for (int i = 0; bytes != NULL && i < FILES; i++) {
		char path[40];
		size_t len = make_bytes(bytes, u->id, i);
		snprintf(path, sizeof path, "t%d/f%d", u->id, i);
		while (put_bytes(u->s, path, bytes, len, &u->stored[i]) != RC_OK)
			usleep(2000);
	}
	free(bytes);
	atomic_fetch_sub(&uploaders_left, 1);
	return NULL;
}

static void
test_connections_are_lost(void **state)
{
	struct uploader u[CLIENTS];
	struct err err = ERR_INIT;
	struct db *killer = fixture_pool(&fx, 5000);
	uint8_t *bytes = malloc(1 << 19);
	(void)state;

	assert_non_null(bytes);
	open_server(fx.dir);
	struct repo *r = make_repo("lost");
	struct stage *s = make_stage(r);
	atomic_store(&uploaders_left, CLIENTS);
	for (int i = 0; i < CLIENTS; i++) {
		u[i] = (struct uploader){.s = s, .id = i};
		assert_int_equal(pthread_create(&u[i].thread, NULL, uploader_main, &u[i]), 0);
	}
	for (int i = 0; i < 150 && atomic_load(&uploaders_left) > 0; i++) {
		fixture_sql(killer, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
				    " WHERE usename = 'digstore' AND pid <> pg_backend_pid()"
				    " AND random() < 0.7");
		usleep(3000 + 1000 * (unsigned)(i % 20));
	}
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(u[i].thread, NULL);
	db_free(killer);
	/* everything is there, also for somebody who reads the log */
	struct stages *fresh = NULL;
	struct stage *again = NULL;
	const struct stages_options so = {.db = fx.db,
		.ingest = srv.ingest,
		.ttl_us = 3600000000u,
		.ttl_max_us = 7200000000u};
	OK(stages_open(&so, &fresh, &err));
	OK(stage_find(fresh, r, "s", &again, &err));
	for (int i = 0; i < CLIENTS * FILES; i++) {
		const struct uploader *w = &u[i / FILES];
		char path[40];
		struct tree_entry e;
		int k = i % FILES;
		snprintf(path, sizeof path, "t%d/f%d", w->id, k);
		OK(stage_file_find(s, path, strlen(path), &e, &err));
		assert_true(content_equal(&e.content, &w->stored[k]));
		OK(stage_file_find(again, path, strlen(path), &e, &err));
		assert_true(content_equal(&e.content, &w->stored[k]));
		check_content(r, &w->stored[k], bytes, make_bytes(bytes, w->id, k));
	}
	stage_unref(again);
	stages_free(fresh);
	stage_unref(s);
	close_server();
	free(bytes);
}

/* ---- the disk is full ---- */

static int
fill_disk(const char *path, uint64_t leave_bytes)
{
	struct statvfs fs;
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fstatvfs(fd, &fs), 0);
	uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
	assert_true(left > leave_bytes);
	assert_int_equal(posix_fallocate(fd, 0, (off_t)(left - leave_bytes)), 0);
	return fd;
}

static void
test_disk_is_full(void **state)
{
	struct content before, c;
	char filler[FIXTURE_PATH_BYTES + 16];
	(void)state;

	if (fx.small_disk == NULL)
		skip();
	open_server(fx.small_disk);
	struct repo *r = make_repo("full");
	struct stage *s = make_stage(r);
	fill(data, DATA_BYTES, 2);
	assert_int_equal(put_bytes(s, "before", data, DATA_BYTES, &before), RC_OK);
	snprintf(filler, sizeof filler, "%s/filler", fx.small_disk);
	close(fill_disk(filler, 1 << 20));
	int64_t packs = fixture_number(fx.db, "SELECT count(*) FROM pack");
	/* what there is room for in the open packs gets in, then nothing */
	enum rc rc = RC_OK;
	for (uint64_t i = 0; i < 12; i++) {
		fill(data, DATA_BYTES, 10 + i);
		rc = put_bytes(s, "more", data, DATA_BYTES, NULL);
		assert_true(rc == RC_OK || rc == RC_FULL);
	}
	assert_int_equal(rc, RC_FULL);
	/* what is known needs no space, and can be read; nothing is left of the attempts */
	fill(data, DATA_BYTES, 2);
	assert_int_equal(put_bytes(s, "again", data, DATA_BYTES, &c), RC_OK);
	assert_true(content_equal(&c, &before));
	check_content(r, &c, data, DATA_BYTES);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM pack"), packs);
	/* and when there is space again nobody need be restarted */
	assert_int_equal(unlink(filler), 0);
	fill(data, DATA_BYTES, 3);
	assert_int_equal(put_bytes(s, "after", data, DATA_BYTES, &c), RC_OK);
	check_content(r, &c, data, DATA_BYTES);
	stage_unref(s);
	close_server();
}

/* ---- the repository goes ---- */

static enum rc
keep_pack(void *arg, uint64_t pack_id, struct err *err)
{
	(void)arg;
	(void)pack_id;
	(void)err;
	return RC_OK;
}

static void *
hold_lock(void *arg)
{
	sem_post(arg);
	fixture_sql(fx.db, "LOCK TABLE stage_batch IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(1)");
	return NULL;
}

/* It is dropped and swept while a file comes in: that upload is refused at its end, and takes
 * nobody with it who is in the same transaction. */
static void
test_repository_is_swept(void **state)
{
	struct err err = ERR_INIT;
	struct repo *gone, *stays;
	struct stage *s, *t;
	pthread_t locker;
	sem_t locks;
	struct repo_swept swept = {.more = true};
	(void)state;

	open_server(fx.dir);
	gone = make_repo("gone");
	stays = make_repo("stays");
	s = make_stage(gone);
	t = make_stage(stays);
	assert_int_equal(put_bytes(s, "first", (const uint8_t *)"x", 1, NULL), RC_OK);
	struct client *a = client_open(s, "second");
	ingest_begin(a->writer, &a->put.file, 1);
	client_write(a, (const uint8_t *)"x", 1, false);
	OK(repo_drop(srv.repos, gone, &err));
	while (swept.more)
		OK(repo_sweep(srv.repos, keep_pack, NULL, &swept, &err));
	assert_int_equal(
		fixture_number(fx.db,
			"SELECT count(*) FROM stage s WHERE NOT EXISTS"
			" (SELECT 1 FROM repo r WHERE r.id = s.repo_id AND r.name IS NOT NULL)"),
		0);
	/* the committer is held up by one, so that the next two come together */
	sem_init(&locks, 0, 0);
	assert_int_equal(pthread_create(&locker, NULL, hold_lock, &locks), 0);
	sem_wait(&locks);
	usleep(200000);
	struct client *b = client_open(t, "first");
	ingest_begin(b->writer, &b->put.file, 1);
	client_write(b, (const uint8_t *)"1", 1, false);
	ingest_finish(b->writer);
	ingest_flush(b->writer);
	usleep(200000);
	struct client *c = client_open(t, "second");
	ingest_begin(c->writer, &c->put.file, 1);
	client_write(c, (const uint8_t *)"2", 1, false);
	ingest_finish(c->writer);
	ingest_flush(c->writer);
	ingest_finish(a->writer);
	ingest_flush(a->writer);
	assert_int_equal(client_wait(b, NULL), RC_OK);
	assert_int_equal(client_wait(c, NULL), RC_OK);
	assert_int_equal(client_wait(a, NULL), RC_NOT_FOUND);
	pthread_join(locker, NULL);
	sem_destroy(&locks);
	stage_unref(s);
	stage_unref(t);
	close_server();
}

/* ---- set-up ---- */

static int
start(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	fixture_start(&fx);
	fx.db = fixture_pool(&fx, 30000);
	OK(migrate_run(fx.db, migration_list, migration_list_count, &err));
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_repository_is_swept),
		cmocka_unit_test(test_disk_is_full),
		cmocka_unit_test(test_connections_are_lost),
		cmocka_unit_test(test_database_dies_in_an_upload),
	};

	fixture_init(&fx, true);
	int failed = cmocka_run_group_tests(tests, start, NULL);
	fixture_done(&fx);
	return failed;
}
