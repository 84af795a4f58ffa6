/* SPDX-License-Identifier: Apache-2.0 */
#include "pack_fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ROOT_BYTES      200
#define PACK_BYTES_TEST (8u << 20)

const uint8_t fixture_uuid[PACK_UUID_BYTES] = "repository uuid";

void
fixture_mkdtemp(char *path)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(
		path, ROOT_BYTES, "%s/t_pack.XXXXXX", tmp != NULL && tmp[0] != '\0' ? tmp : "/tmp");
	assert_non_null(mkdtemp(path));
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void
fixture_rmtree(const char *path)
{
	assert_int_equal(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}

int
fixture_setup(void **state)
{
	struct err err = ERR_INIT;
	char packs[ROOT_BYTES + 8];

	struct fixture *f = calloc(1, sizeof *f);
	assert_non_null(f);
	fixture_mkdtemp(f->root);
	snprintf(packs, sizeof packs, "%s/blobs", f->root);
	assert_int_equal(pack_dir_open(packs, &f->dir, &err), RC_OK);
	assert_int_equal(pack_readers_open(f->dir, 4, &f->readers, &err), RC_OK);
	*state = f;
	return 0;
}

int
fixture_teardown(void **state)
{
	struct fixture *f = *state;

	pack_readers_free(f->readers);
	pack_dir_free(f->dir);
	fixture_rmtree(f->root);
	free(f);
	return 0;
}

/* xorshift: the same bytes for the same seed, everywhere */
static void
fill(uint8_t *data, size_t len, uint32_t seed)
{
	uint32_t x = seed * 2654435761u + 1;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		data[i] = (uint8_t)(x >> 11);
	}
}

void
test_frame_make(struct test_frame *t, uint32_t seed, enum codec_id codec, uint32_t chunk_count,
	uint32_t chunk_bytes)
{
	size_t raw_bytes = (size_t)chunk_count * chunk_bytes;
	size_t stored_bytes = codec == CODEC_RAW ? raw_bytes : raw_bytes / 2 + 1;

	memset(t, 0, sizeof *t);
	t->chunks = calloc(chunk_count, sizeof *t->chunks);
	t->payload = malloc(raw_bytes + 1);
	assert_non_null(t->chunks);
	assert_non_null(t->payload);
	fill(t->payload, raw_bytes + 1, seed);
	for (uint32_t i = 0; i < chunk_count; i++) {
		fill(t->chunks[i].hash.b, sizeof t->chunks[i].hash.b, seed ^ (i << 16) ^ 0x5555);
		t->chunks[i].length = chunk_bytes;
	}
	t->parts[0] = (struct iovec){t->payload, stored_bytes / 3};
	t->parts[1] = (struct iovec){NULL, 0};
	t->parts[2] =
		(struct iovec){t->payload + stored_bytes / 3, stored_bytes - stored_bytes / 3};
	t->frame = (struct pack_frame){
		.codec = codec,
		.chunks = t->chunks,
		.chunk_count = chunk_count,
		.raw_bytes = raw_bytes,
		.stored = t->parts,
		.stored_count = 3,
		.stored_bytes = stored_bytes,
	};
}

void
test_frame_free(struct test_frame *t)
{
	free(t->chunks);
	free(t->payload);
}

void
test_frame_append(struct test_frame *t, struct pack_writer *w)
{
	struct err err = ERR_INIT;

	t->place.pack_id = pack_writer_id(w);
	assert_int_equal(
		pack_writer_append(w, &t->frame, &t->place.offset, &t->place.bytes, &err), RC_OK);
	assert_int_equal(t->place.offset % PACK_ALIGN_BYTES, 0);
	assert_int_equal(t->place.bytes, pack_frame_bytes(&t->frame));
}

bool
test_frame_is(const struct test_frame *t, const struct pack_frame_view *view)
{
	const struct pack_frame *f = &t->frame;
	struct pack_chunk c;

	if (view->place.pack_id != t->place.pack_id || view->place.offset != t->place.offset ||
		view->place.bytes != t->place.bytes || view->codec != f->codec ||
		view->chunk_count != f->chunk_count || view->raw_bytes != f->raw_bytes ||
		view->stored_bytes != f->stored_bytes)
		return false;
	for (uint32_t i = 0; i < f->chunk_count; i++) {
		pack_frame_chunk(view, i, &c);
		if (memcmp(&c.hash, &f->chunks[i].hash, sizeof c.hash) != 0 ||
			c.length != f->chunks[i].length)
			return false;
	}
	return memcmp(view->stored, t->payload, view->stored_bytes) == 0;
}

void
test_frame_check(const struct test_frame *t, struct pack_readers *readers)
{
	struct err err = ERR_INIT;
	struct pack_frame_view view;
	struct buf buf;

	buf_init(&buf, PACK_FRAME_BYTES_MAX);
	assert_int_equal(pack_read_frame(readers, &t->place, NULL, &buf, &view, &err), RC_OK);
	assert_true(test_frame_is(t, &view));
	buf_done(&buf);
}

void
test_frame_check_fails(const struct test_frame *t, struct pack_readers *readers, enum rc rc)
{
	struct err err = ERR_INIT;
	struct pack_frame_view view;
	struct buf buf;

	buf_init(&buf, PACK_FRAME_BYTES_MAX);
	assert_int_equal(pack_read_frame(readers, &t->place, NULL, &buf, &view, &err), rc);
	assert_int_equal(err.rc, rc);
	if (rc == RC_CORRUPT) {
		assert_string_equal(err.kind, "corrupt-data");
		assert_non_null(strstr(err.detail, ".pack at "));
	}
	buf_done(&buf);
}

struct pack_writer *
fixture_writer(struct fixture *f)
{
	struct err err = ERR_INIT;
	struct pack_writer_options options = PACK_WRITER_OPTIONS_INIT;
	struct pack_writer *w = NULL;

	options.bytes_max = PACK_BYTES_TEST;
	assert_int_equal(
		pack_writer_open(f->dir, ++f->last_id, fixture_uuid, &options, &w, &err), RC_OK);
	return w;
}

void
fixture_seal(struct pack_writer *w)
{
	struct err err = ERR_INIT;

	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	assert_int_equal(pack_writer_sync(w, &err), RC_OK);
	assert_int_equal(pack_writer_seal(w, &err), RC_OK);
	pack_writer_free(w);
}

void
fixture_path(const struct fixture *f, uint64_t pack_id, char *out, size_t out_bytes)
{
	snprintf(out, out_bytes, "%s/blobs/%02x/%016" PRIx64 ".pack", f->root,
		(unsigned)(pack_id & 0xff), pack_id);
}

uint8_t *
fixture_file(const struct fixture *f, uint64_t pack_id, size_t *len)
{
	char path[ROOT_BYTES + 64];
	struct stat st;

	fixture_path(f, pack_id, path, sizeof path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	uint8_t *data = malloc((size_t)st.st_size + 1);
	assert_non_null(data);
	assert_int_equal(pack_dir_pread(fd, data, (size_t)st.st_size, 0, len), 0);
	assert_int_equal(*len, st.st_size);
	close(fd);
	return data;
}

void
fixture_poke(
	const struct fixture *f, uint64_t pack_id, uint64_t offset, const void *data, size_t len)
{
	char path[ROOT_BYTES + 64];

	fixture_path(f, pack_id, path, sizeof path);
	assert_int_equal(chmod(path, 0640), 0);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, (off_t)offset), len);
	close(fd);
}

void
fixture_truncate(const struct fixture *f, uint64_t pack_id, uint64_t bytes)
{
	char path[ROOT_BYTES + 64];

	fixture_path(f, pack_id, path, sizeof path);
	assert_int_equal(chmod(path, 0640), 0);
	assert_int_equal(truncate(path, (off_t)bytes), 0);
}

static enum rc
compare_next(void *arg, const struct pack_frame_view *view, struct err *err)
{
	const struct test_frame *const **next = arg;

	if (**next == NULL || !test_frame_is(**next, view))
		return err_set(err, RC_BUG, NULL, "not the frame that should come now");
	(*next)++;
	return RC_OK;
}

void
fixture_scan(const struct fixture *f, uint64_t pack_id, const struct test_frame *const *frames,
	struct pack_scan_stats *stats)
{
	struct err err = ERR_INIT;
	const struct test_frame *const *next = frames;

	assert_int_equal(pack_scan(f->dir, pack_id, compare_next, &next, stats, &err), RC_OK);
	assert_null(*next);
	assert_int_equal(stats->frames, next - frames);
	uint64_t header_bytes =
		stats->file_bytes < PACK_BLOCK_BYTES ? stats->file_bytes : PACK_BLOCK_BYTES;
	assert_int_equal(stats->file_bytes,
		header_bytes + stats->frame_bytes + stats->padding_bytes + stats->damaged_bytes +
			stats->torn_bytes + stats->unwritten_bytes + stats->footer_bytes);
}
