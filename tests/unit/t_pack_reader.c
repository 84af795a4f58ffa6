/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what is not there, not right, or not where it should be; and how many files that takes.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "buf.h"
#include "checksum.h"
#include "pack_fixture.h"

static void
test_missing_and_short(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct pack_index index;
	struct pack_header header;
	struct test_frame a;

	test_frame_make(&a, 1, CODEC_RAW, 1, 5000);
	a.place = (struct pack_place){0x7777, 4096, pack_frame_bytes(&a.frame)};
	test_frame_check_fails(&a, f->readers, RC_CORRUPT);
	assert_int_equal(pack_read_footer(f->readers, 0x7777, &index, &err), RC_CORRUPT);
	pack_index_done(&index);
	err_clear(&err);
	assert_int_equal(pack_read_header(f->readers, 0x7777, &header, &err), RC_CORRUPT);
	err_clear(&err);

	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	test_frame_check(&a, f->readers);
	assert_int_equal(pack_read_footer(f->readers, a.place.pack_id, &index, &err), RC_NOT_FOUND);
	pack_index_done(&index);
	pack_writer_free(w);
	fixture_truncate(f, a.place.pack_id, a.place.offset + a.place.bytes - 1);
	test_frame_check_fails(&a, f->readers, RC_CORRUPT);
	fixture_truncate(f, a.place.pack_id, 10);
	test_frame_check_fails(&a, f->readers, RC_CORRUPT);
	err_clear(&err);
	assert_int_equal(pack_read_footer(f->readers, a.place.pack_id, &index, &err), RC_NOT_FOUND);
	pack_index_done(&index);
	err_clear(&err);
	assert_int_equal(pack_read_header(f->readers, a.place.pack_id, &header, &err), RC_CORRUPT);
	test_frame_free(&a);
}

/* Places that no database row should hold. */
static void
test_wrong_places(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame a, b;
	struct pack_frame_view view;
	struct buf small;

	test_frame_make(&a, 1, CODEC_RAW, 2, 500);
	test_frame_make(&b, 2, CODEC_RAW, 2, 500);
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	test_frame_append(&b, w);
	fixture_seal(w);
	const struct pack_place right = a.place;
	const struct pack_place wrong[] = {
		{right.pack_id, right.offset + 16, right.bytes},
		{right.pack_id, right.offset, right.bytes - 16},
		{right.pack_id, right.offset, right.bytes + 16},
		{right.pack_id, right.offset, 47},
		{right.pack_id, right.offset, 0},
		{right.pack_id, right.offset, UINT64_MAX},
		{right.pack_id, right.offset, PACK_FRAME_BYTES_MAX},
		{right.pack_id, UINT64_MAX, right.bytes},
		{right.pack_id, INT64_MAX, right.bytes},
		{right.pack_id, 0, right.bytes},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		a.place = wrong[i];
		test_frame_check_fails(&a, f->readers, RC_CORRUPT);
	}
	buf_init(&small, 100);
	assert_int_equal(pack_read_frame(f->readers, &right, NULL, &small, &view, &err), RC_NOMEM);
	buf_done(&small);
	test_frame_check(&b, f->readers);
	test_frame_free(&a);
	test_frame_free(&b);
}

/* A frame that lies in another place, or in another pack, than it was written for. */
static void
test_misplaced_frames(void **state)
{
	struct fixture *f = *state;
	struct test_frame a, b;
	size_t len = 0;

	test_frame_make(&a, 1, CODEC_RAW, 2, 500);
	test_frame_make(&b, 2, CODEC_RAW, 2, 500);
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	test_frame_append(&b, w);
	fixture_seal(w);
	uint8_t *data = fixture_file(f, a.place.pack_id, &len);
	fixture_poke(f, a.place.pack_id, b.place.offset, data + a.place.offset, a.place.bytes);
	a.place.offset = b.place.offset;
	test_frame_check_fails(&a, f->readers, RC_CORRUPT);
	free(data);
	test_frame_free(&a);
	test_frame_free(&b);
}

/* Every byte of a small sealed pack is watched over by something. */
static void
test_every_flip(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame frames[2];
	struct pack_index index;
	struct pack_header header;
	size_t len = 0;

	test_frame_make(&frames[0], 1, CODEC_RAW, 3, 61);
	test_frame_make(&frames[1], 2, CODEC_ZSTD, 2, 80);
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&frames[0], w);
	test_frame_append(&frames[1], w);
	fixture_seal(w);
	uint64_t id = frames[0].place.pack_id;
	uint8_t *data = fixture_file(f, id, &len);
	for (size_t at = 0; at < len; at++) {
		uint8_t flipped = data[at] ^ (uint8_t)(1 << at % 8);
		fixture_poke(f, id, at, &flipped, 1);
		/* which of the two frames, if any, holds it; their paddings hold nothing */
		unsigned hit = 2;
		for (unsigned i = 0; i < 2; i++) {
			const struct pack_frame *frame = &frames[i].frame;
			uint64_t end = frames[i].place.offset + PACK_FRAME_HEAD_BYTES +
				       frame->chunk_count * PACK_CHUNK_ENTRY_BYTES +
				       frame->stored_bytes;
			if (at >= frames[i].place.offset && at < end)
				hit = i;
		}
		for (unsigned i = 0; i < 2; i++) {
			if (i == hit)
				test_frame_check_fails(&frames[i], f->readers, RC_CORRUPT);
			else
				test_frame_check(&frames[i], f->readers);
		}
		err_clear(&err);
		assert_int_equal(pack_read_header(f->readers, id, &header, &err),
			at < 4096 ? RC_CORRUPT : RC_OK);
		err_clear(&err);
		assert_int_equal(pack_read_footer(f->readers, id, &index, &err),
			at >= 8192 ? RC_CORRUPT : RC_OK);
		pack_index_done(&index);
		fixture_poke(f, id, at, &data[at], 1);
	}
	free(data);
	test_frame_free(&frames[0]);
	test_frame_free(&frames[1]);
}

/* A footer cut anywhere is no footer. */
static void
test_cut_footer(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame a;
	struct pack_index index;
	size_t len = 0;

	test_frame_make(&a, 1, CODEC_RAW, 3, 61);
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	fixture_seal(w);
	free(fixture_file(f, a.place.pack_id, &len));
	while (--len >= 8192) {
		fixture_truncate(f, a.place.pack_id, len);
		err_clear(&err);
		assert_int_equal(
			pack_read_footer(f->readers, a.place.pack_id, &index, &err), RC_NOT_FOUND);
		pack_index_done(&index);
		test_frame_check(&a, f->readers);
	}
	test_frame_free(&a);
}

/* Footers whose checksums are right, but not what they say. */
static void
write_footer(
	const struct fixture *f, uint64_t id, uint8_t *footer, size_t footer_len, uint64_t offset)
{
	uint8_t trailer[PACK_TRAILER_BYTES];
	struct pack_trailer t = {id, offset, footer_len, checksum64(footer, footer_len)};

	put_u64(footer + 56, checksum64(footer, 56));
	t.footer_checksum = checksum64(footer, footer_len);
	pack_trailer_encode(&t, trailer);
	fixture_poke(f, id, offset, footer, footer_len);
	fixture_poke(f, id, offset + footer_len, trailer, sizeof trailer);
}

static void
test_lying_footers(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame a, b;
	struct pack_index index;
	size_t len = 0;
	/* where in the footer, how many bytes, and what is wrong there */
	static const struct {
		size_t at, bytes;
		uint64_t value;
	} lies[] = {
		{8, 4, 1},                 /* frame_count */
		{8, 4, 3},                 /* */
		{16, 8, 4},                /* chunk_count */
		{16, 8, UINT64_MAX},       /* */
		{24, 8, 1},                /* pack id */
		{32, 8, 4096},             /* offset */
		{64, 8, 4096 + 8},         /* frame 0 offset: not aligned */
		{64, 8, 4080},             /* in the header */
		{64, 8, 8192},             /* in the footer */
		{64, 8, UINT64_MAX - 15},  /* */
		{64 + 8, 8, 1},            /* raw_bytes */
		{64 + 16, 8, UINT64_MAX},  /* stored_bytes */
		{64 + 16, 8, 8192},        /* */
		{64 + 24, 4, 0},           /* chunk_count */
		{64 + 24, 4, 6},           /* */
		{64 + 28, 1, 2},           /* codec */
		{96, 8, 4096},             /* frame 1 offset: inside frame 0 */
		{128 + 32, 8, 0},          /* length of chunk 0 */
		{128 + 32, 8, UINT64_MAX}, /* */
	};

	test_frame_make(&a, 1, CODEC_RAW, 3, 61);
	test_frame_make(&b, 2, CODEC_RAW, 2, 61);
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	test_frame_append(&b, w);
	fixture_seal(w);
	uint64_t id = a.place.pack_id;
	uint8_t *data = fixture_file(f, id, &len);
	size_t footer_len = len - 8192 - PACK_TRAILER_BYTES;
	uint8_t *footer = malloc(footer_len);
	assert_non_null(footer);
	for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
		memcpy(footer, data + 8192, footer_len);
		for (size_t k = 0; k < lies[i].bytes; k++)
			footer[lies[i].at + k] = (uint8_t)(lies[i].value >> 8 * k);
		write_footer(f, id, footer, footer_len, 8192);
		err_clear(&err);
		assert_int_equal(pack_read_footer(f->readers, id, &index, &err), RC_CORRUPT);
		assert_int_equal(index.frame_count, 0);
		pack_index_done(&index);
	}
	memcpy(footer, data + 8192, footer_len);
	write_footer(f, id, footer, footer_len, 8192);
	err_clear(&err);
	assert_int_equal(pack_read_footer(f->readers, id, &index, &err), RC_OK);
	pack_index_done(&index);
	free(footer);
	free(data);
	test_frame_free(&a);
	test_frame_free(&b);
}

/* Trailers that are right but for what they say of the footer. */
static void
test_lying_trailers(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct pack_index index;
	uint8_t data[PACK_TRAILER_BYTES];

	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	fixture_seal(w);
	const struct pack_trailer lies[] = {
		{id, 0, 4160, 0},
		{id, 4032, 128, 0},
		{id, 4096, 63, 0},
		{id, 4096, 65, 0},
		{id, 4160, 0, 0},
		{id, 4161, UINT64_MAX, 0},
		{id, UINT64_MAX, 4161, 0},
		{id + 256, 4096, 64, 0},
	};
	for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
		pack_trailer_encode(&lies[i], data);
		fixture_poke(f, id, 4096 + 64, data, sizeof data);
		err_clear(&err);
		assert_int_equal(pack_read_footer(f->readers, id, &index, &err), RC_CORRUPT);
		pack_index_done(&index);
	}
}

static unsigned
open_fds(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void
test_reader_keeps_few_files(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame frames[20];
	struct pack_readers *readers = NULL;

	assert_int_equal(pack_readers_open(f->dir, 0, &readers, &err), RC_INVALID);
	err_clear(&err);
	for (uint32_t i = 0; i < 20; i++) {
		test_frame_make(&frames[i], i + 1, CODEC_RAW, 1, 100);
		struct pack_writer *w = fixture_writer(f);
		test_frame_append(&frames[i], w);
		fixture_seal(w);
	}
	unsigned before = open_fds();
	assert_int_equal(pack_readers_open(f->dir, 3, &readers, &err), RC_OK);
	for (int round = 0; round < 3; round++)
		for (uint32_t i = 0; i < 20; i++) {
			test_frame_check(&frames[i], readers);
			test_frame_check(&frames[0], readers);
			assert_true(open_fds() <= before + 3);
		}
	assert_int_equal(open_fds(), before + 3);

	/* a file that is kept open can be read after its removal, until it is forgotten */
	uint64_t id = frames[0].place.pack_id;
	assert_int_equal(pack_remove(f->dir, id, &err), RC_OK);
	test_frame_check(&frames[0], readers);
	pack_readers_forget(readers, id);
	pack_readers_forget(readers, id);
	assert_int_equal(open_fds(), before + 2);
	test_frame_check_fails(&frames[0], readers, RC_CORRUPT);

	pack_readers_free(readers);
	assert_int_equal(open_fds(), before);
	pack_readers_free(NULL);
	for (uint32_t i = 0; i < 20; i++)
		test_frame_free(&frames[i]);
}

static void
set_fd_limit(rlim_t count)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = count;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* No descriptor is left: files kept open for later make room, then the answer is "not now". */
static void
test_out_of_descriptors(void **state)
{
	struct fixture *f = *state;
	struct test_frame a, b;
	struct err err = ERR_INIT;
	struct pack_readers *readers = NULL;
	struct rlimit limit;
	rlim_t end = 1024;
	int holes[1024];
	size_t hole_count = 0;

	test_frame_make(&a, 1, CODEC_RAW, 1, 100);
	test_frame_make(&b, 2, CODEC_RAW, 1, 100);
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	fixture_seal(w);
	w = fixture_writer(f);
	test_frame_append(&b, w);
	fixture_seal(w);
	assert_int_equal(pack_readers_open(f->dir, 4, &readers, &err), RC_OK);
	test_frame_check(&a, readers);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	while (fcntl((int)end - 1, F_GETFD) < 0)
		end--;
	while (open_fds() < end)
		holes[hole_count++] = dup(0);
	set_fd_limit(end);
	test_frame_check(&b, readers);
	test_frame_check(&a, readers);
	set_fd_limit(0);
	test_frame_check(&a, readers);
	test_frame_check_fails(&b, readers, RC_AGAIN);
	set_fd_limit(limit.rlim_cur);
	test_frame_check(&b, readers);
	pack_readers_free(readers);
	while (hole_count > 0)
		close(holes[--hole_count]);
	test_frame_free(&a);
	test_frame_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing_and_short),
		cmocka_unit_test(test_wrong_places),
		cmocka_unit_test(test_misplaced_frames),
		cmocka_unit_test(test_every_flip),
		cmocka_unit_test(test_cut_footer),
		cmocka_unit_test(test_lying_footers),
		cmocka_unit_test(test_lying_trailers),
		cmocka_unit_test(test_reader_keeps_few_files),
		cmocka_unit_test(test_out_of_descriptors),
	};
	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
