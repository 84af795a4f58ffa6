/* SPDX-License-Identifier: Apache-2.0 */
/* An archive goes in, is committed, comes out, and goes in again, on real packs and a real
 * database; what is read on the way rots, is noticed and healed. */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "archive_in.h"
#include "archive_out.h"
#include "cluster_fixture.h"
#include "commit.h"
#include "db_chunk.h"
#include "ingest.h"
#include "migrate.h"
#include "pack_dir.h"
#include "pack_reader.h"
#include "reader.h"
#include "repo.h"
#include "stage.h"

#define FILES       1500
#define BYTES_MAX   ((size_t)64 << 20)
#define BIG_BYTES   2000000
#define SMALL_BYTES 3000

static struct cluster_fixture fx;
static struct pack_dir *packs;
static struct pack_readers *pack_readers;
static struct repos *repos;
static struct ingest *ingest;
static struct stages *stages;
static struct history history;
static struct read_service *reads;

#define OK(call)                                                                                   \
	do {                                                                                       \
		struct err *e_ = &err;                                                             \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s %s (%s)", #call, rc_name(e_->rc), e_->text, e_->detail);  \
	} while (0)

/* File i: many small ones, an empty one, and two of many chunks, the second of which is mostly what
 * the first is. */
static size_t
file_of(size_t i, char *path, uint8_t *data)
{
	size_t len = i == 0 ? 0 : i < 3 ? BIG_BYTES : i * 7919 % SMALL_BYTES;
	uint64_t x = i < 3 ? 1 : i * 0x9e3779b97f4a7c15u;

	snprintf(path, 64, "d%zu/\xc3\xa4/f%zu", i % 40, i);
	for (size_t k = 0; k < len; k++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		data[k] = i % 2 == 1 ? (uint8_t)x : (uint8_t)(x & 15);
	}
	if (i == 2) {
		file_of(1, path, data);
		snprintf(path, 64, "d2/\xc3\xa4/f2");
		memset(data + BIG_BYTES / 2, 0x55, 1000);
	}
	return len;
}

static la_ssize_t
on_write(struct archive *a, void *arg, const void *data, size_t len)
{
	(void)a;
	buf_add(arg, data, len);
	return (la_ssize_t)len;
}

static struct buf
make_tar(void)
{
	uint8_t *data = malloc(BIG_BYTES);
	char path[64];
	struct buf b;
	struct archive *a = archive_write_new();

	buf_init(&b, BYTES_MAX);
	archive_write_set_format_gnutar(a);
	archive_write_open(a, &b, NULL, on_write, NULL);
	for (size_t i = 0; i < FILES; i++) {
		size_t len = file_of(i, path, data);
		struct archive_entry *e = archive_entry_new();
		archive_entry_copy_pathname(e, path);
		archive_entry_set_mode(e, S_IFREG | (i % 2 == 0 ? 0644 : 0755));
		archive_entry_set_size(e, (la_int64_t)len);
		archive_entry_set_mtime(e, (time_t)(1700000000 + i), 0);
		assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
		assert_int_equal(archive_write_data(a, data, len), len);
		archive_entry_free(e);
	}
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_write_free(a);
	free(data);
	return b;
}

struct stream {
	const struct buf *b;
	size_t at;
	size_t cut; /* there is no more after so many bytes */
};

static ssize_t
on_read(void *arg, const uint8_t **data, struct err *err)
{
	struct stream *s = arg;
	size_t n = s->cut - s->at < 100000 ? s->cut - s->at : 100000;

	(void)err;
	*data = s->b->data + s->at;
	s->at += n;
	return (ssize_t)n;
}

static enum rc
put_archive(struct stage *stage, const struct buf *b, size_t cut, struct archive_in_result *result,
	struct err *err)
{
	struct stream s = {b, 0, cut};
	const struct archive_in_options options = {
		.stage = stage,
		.ingest = ingest,
		.prefix = "",
		.entries_max = FILES,
		.expanded_bytes_max = BYTES_MAX,
		.ratio_max = 1000,
		.allow_gzip = true,
		.allow_zstd = true,
		.allow_tar = true,
		.allow_zip = true,
		.read = on_read,
		.arg = &s,
	};
	struct stage_live live = {.label = "archive", .total_bytes = b->len};
	struct err begin = ERR_INIT;

	assert_int_equal(stage_live_begin(stage, &live, &begin), RC_OK);
	enum rc rc = archive_in_run(&options, result, err);
	stage_live_end(stage, &live);
	return rc;
}

static void
commit_stage(struct stage *s, const char *ref, struct commit *c)
{
	struct err err = ERR_INIT;
	struct commit_refusal refusal;
	const struct commit_request request = {
		.stage = s,
		.ref = ref,
		.author = "a",
		.message = "",
		.metadata = "{}",
		.receipt = "{}",
	};

	OK(commit_make(&history, &request, c, &refusal, &err));
}

static struct buf
get_archive(const struct repo *repo, const struct commit *c, enum archive_format format)
{
	struct err err = ERR_INIT;
	struct history_nodes nodes;
	struct archive_out *a = NULL;
	struct buf all;
	size_t before;

	history_nodes_init(&nodes, &history, repo);
	OK(archive_out_open(reads, repo, &nodes.view.store, &c->tree, "", format, &a, &err));
	buf_init(&all, BYTES_MAX);
	do {
		before = all.len;
		OK(archive_out_more(a, &all, 65536, &err));
	} while (all.len > before);
	archive_out_free(a);
	return all;
}

static void
expect_file(const struct repo *repo, const struct content *content, const uint8_t *data)
{
	struct err err = ERR_INIT;
	struct reader *r = NULL;
	uint8_t *got = malloc(content->size + 1);
	size_t n = 0;
	size_t at = 0;

	OK(reader_open(reads, repo, content, 0, &r, &err));
	do {
		OK(reader_read(r, got + at, content->size - at + 1, &n, &err));
		at += n;
	} while (n > 0);
	assert_int_equal(at, content->size);
	assert_memory_equal(got, data, at);
	for (uint64_t offset = content->size; offset > 0; offset -= offset / 3 + 1) {
		OK(reader_seek(r, offset, &err));
		OK(reader_read(r, got, 1000, &n, &err));
		assert_memory_equal(got, data + offset, n);
	}
	reader_free(r);
	free(got);
}

static void
test_round_trip(void **state)
{
	struct err err = ERR_INIT;
	struct archive_in_result result;
	struct repo *repo = NULL;
	struct stage *s = NULL;
	struct commit first;
	struct tree_entry e;
	bool created;
	char path[64];
	uint8_t *data = malloc(BIG_BYTES);

	(void)state;
	struct buf tar = make_tar();
	OK(repo_create(repos, "r", 0, "", &repo, &created, &err));
	OK(stage_open(stages, repo, "s", 0, &s, NULL, &err));
	assert_int_equal(put_archive(s, &tar, tar.len / 2, &result, &err), RC_INVALID);
	assert_string_equal(err.kind, "invalid-archive");
	err_clear(&err);
	struct stage_info info;
	stage_info(s, &info);
	assert_int_equal(info.files, 0);
	OK(put_archive(s, &tar, tar.len, &result, &err));
	assert_int_equal(result.files, FILES);
	stage_info(s, &info);
	assert_int_equal(info.files, FILES);
	assert_int_equal(info.bytes, result.receipt.logical_bytes);
	assert_int_equal(result.receipt.new_bytes + result.receipt.dedup_bytes,
		result.receipt.logical_bytes);
	for (size_t i = 0; i < FILES; i += i < 10 ? 1 : 97) {
		size_t len = file_of(i, path, data);
		OK(stage_file_find(s, path, strlen(path), &e, &err));
		assert_int_equal(e.content.size, len);
		assert_int_equal(e.mode & 0777, i % 2 == 0 ? 0644 : 0755);
		assert_int_equal(e.mtime_ns, (int64_t)(1700000000 + i) * 1000000000);
		expect_file(repo, &e.content, data);
	}
	commit_stage(s, "main", &first);
	stage_unref(s);
	for (int f = ARCHIVE_TAR; f <= ARCHIVE_ZIP; f++) {
		struct buf out = get_archive(repo, &first, (enum archive_format)f);
		struct commit again;
		snprintf(path, sizeof path, "copy%d", f);
		OK(stage_open(stages, repo, path, 0, &s, NULL, &err));
		OK(put_archive(s, &out, out.len, &result, &err));
		assert_int_equal(result.files, FILES);
		assert_int_equal(result.receipt.new_bytes, 0);
		commit_stage(s, path, &again);
		assert_true(sha256_equal(&again.tree, &first.tree));
		commit_done(&again);
		stage_unref(s);
		buf_done(&out);
	}
	commit_done(&first);
	buf_done(&tar);
	free(data);
}

/* Flip a byte in the middle of the frame that holds the first chunk of a big file. */
static void
rot(struct repo *repo, const uint8_t *data)
{
	struct err err = ERR_INIT;
	struct sha256 hash;
	struct chunk_row row;
	char path[FIXTURE_PATH_BYTES + 64];
	size_t found;
	uint8_t byte;

	sha256_of(data, chunker_cut(&repo->space.chunker, data, BIG_BYTES), &hash);
	OK(db_chunk_locate(fx.db, repo->id, &hash, 1, &row, &found, &err));
	assert_int_equal(found, 1);
	snprintf(path, sizeof path, "%s/blobs/%02x/%016llx.pack", fx.dir,
		(unsigned)(row.pack_id & 0xff), (unsigned long long)row.pack_id);
	assert_int_equal(chmod(path, 0640), 0);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	off_t at = (off_t)(row.frame_offset + row.frame_bytes / 2);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 4;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static void
test_rot_is_healed(void **state)
{
	struct err err = ERR_INIT;
	struct archive_in_result result;
	struct repo *repo = NULL;
	struct stage *s = NULL;
	struct reader *r = NULL;
	struct tree_entry e;
	struct read_options options = {
		.db = fx.db, .ingest = ingest, .packs = pack_readers, .cache_bytes = 0};
	struct read_service *cold = NULL;
	char path[64];
	size_t n;
	uint8_t *data = malloc(BIG_BYTES);

	(void)state;
	file_of(1, path, data);
	OK(repo_find(repos, "r", &repo, &err));
	OK(stage_open(stages, repo, "heal", 0, &s, NULL, &err));
	struct buf tar = make_tar();
	OK(put_archive(s, &tar, tar.len, &result, &err));
	assert_int_equal(result.receipt.new_bytes, 0);
	OK(stage_file_find(s, path, strlen(path), &e, &err));
	rot(repo, data);
	OK(read_service_open(&options, &cold, &err));
	/* every chunk of the frame is found out when it is read */
	int64_t bad = 0;
	enum rc rc = RC_OK;
	uint8_t *got = malloc(BIG_BYTES);
	for (uint64_t offset = 0; offset < BIG_BYTES; offset += 20000) {
		OK(reader_open(cold, repo, &e.content, offset, &r, &err));
		struct err why = ERR_INIT;
		rc = reader_read(r, got, 1, &n, &why);
		if (rc != RC_OK) {
			assert_int_equal(rc, RC_CORRUPT);
			assert_string_equal(why.kind, "corrupt-data");
			bad++;
		} else {
			assert_int_equal(got[0], data[offset]);
		}
		reader_free(r);
	}
	assert_true(bad > 0);
	assert_true(fixture_number(fx.db, "SELECT count(*) FROM chunk WHERE state = 1") > 0);
	/* the next upload brings the bytes again */
	OK(put_archive(s, &tar, tar.len, &result, &err));
	assert_true(result.receipt.new_bytes > 0 && result.receipt.new_bytes < BIG_BYTES / 5);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM chunk WHERE state = 1"), 0);
	OK(reader_open(cold, repo, &e.content, 0, &r, &err));
	for (size_t at = 0; at < BIG_BYTES; at += n) {
		OK(reader_read(r, got + at, BIG_BYTES - at, &n, &err));
		assert_true(n > 0);
	}
	assert_memory_equal(got, data, BIG_BYTES);
	reader_free(r);
	read_service_free(cold);
	stage_unref(s);
	buf_done(&tar);
	free(got);
	free(data);
}

static int
open_all(void **state)
{
	struct err err = ERR_INIT;
	char path[FIXTURE_PATH_BYTES + 16];

	(void)state;
	fixture_start(&fx);
	fx.db = fixture_pool(&fx, 30000);
	OK(migrate_run(fx.db, migration_list, migration_list_count, &err));
	snprintf(path, sizeof path, "%s/blobs", fx.dir);
	OK(pack_dir_open(path, &packs, &err));
	OK(pack_readers_open(packs, 16, &pack_readers, &err));
	OK(repos_open(fx.db, 65536, &repos, &err));
	const struct ingest_options io = {
		.db = fx.db,
		.packs = packs,
		.workers = 2,
		.slab_bytes = (size_t)4 << 20,
		.known_bytes = (size_t)1 << 20,
		.filter_bytes_max = (size_t)4 << 20,
		.pack_bytes = (uint64_t)4 << 20,
		.pack_direct = true,
		.level = 1,
	};
	OK(ingest_open(&io, &ingest, &err));
	const struct stages_options so = {
		.db = fx.db, .ingest = ingest, .ttl_us = 3600000000u, .ttl_max_us = 7200000000u};
	OK(stages_open(&so, &stages, &err));
	history.db = fx.db;
	history.stages = stages;
	OK(node_cache_open((size_t)1 << 20, &history.nodes, &err));
	OK(rev_cache_open(&history.revs, &err));
	const struct read_options ro = {.db = fx.db,
		.ingest = ingest,
		.packs = pack_readers,
		.cache_bytes = (size_t)2 << 20};
	OK(read_service_open(&ro, &reads, &err));
	return 0;
}

static int
close_all(void **state)
{
	(void)state;
	read_service_free(reads);
	ingest_close(ingest);
	node_cache_free(history.nodes);
	rev_cache_free(history.revs);
	stages_free(stages);
	repos_free(repos);
	pack_readers_free(pack_readers);
	pack_dir_free(packs);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_rot_is_healed),
	};

	fixture_init(&fx, false);
	int failed = cmocka_run_group_tests_name("archives", tests, open_all, close_all);
	fixture_done(&fx);
	return failed;
}
