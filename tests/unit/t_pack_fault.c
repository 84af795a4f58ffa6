/* SPDX-License-Identifier: Apache-2.0 */
/* Packs on a disk that fails. The functions below stand before those of the C library, so that a
 * test can make any of them fail; the file size limit stands in for a full disk. */
#undef _FORTIFY_SOURCE /* its inline pread would be in the way of ours */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "pack_fixture.h"

/* Fail with errnum, after so many calls that do not, so many times. */
struct fault {
	int errnum;
	int after;
	int times;
	int calls;
};

static struct fault fail_fdatasync, fail_fsync, fail_pread, fail_pwrite, fail_pwritev2,
	fail_fallocate;
/* no more than this many bytes a call; reads only fail below this offset of a file */
static size_t pwrite_max, pread_max;
static off_t pread_bad_from, pread_bad_to;

static bool
fails(struct fault *f)
{
	f->calls++;
	if (f->errnum == 0 || f->after-- > 0 || f->times-- <= 0)
		return false;
	errno = f->errnum;
	return true;
}

static void
no_faults(void)
{
	static const struct fault none;

	fail_fdatasync = fail_fsync = fail_pread = fail_pwrite = fail_pwritev2 = fail_fallocate =
		none;
	pwrite_max = pread_max = 0;
	pread_bad_from = pread_bad_to = 0;
}

int
fdatasync(int fd)
{
	return fails(&fail_fdatasync) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int
fsync(int fd)
{
	return fails(&fail_fsync) ? -1 : (int)syscall(SYS_fsync, fd);
}

int
fallocate(int fd, int mode, off_t offset, off_t len)
{
	return fails(&fail_fallocate) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

ssize_t
pread(int fd, void *data, size_t len, off_t offset)
{
	if (offset < pread_bad_to && offset + (off_t)len > pread_bad_from) {
		errno = EIO;
		return -1;
	}
	if (fails(&fail_pread))
		return -1;
	return syscall(
		SYS_pread64, fd, data, pread_max > 0 && pread_max < len ? pread_max : len, offset);
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t offset)
{
	if (fails(&fail_pwrite))
		return -1;
	return syscall(SYS_pwrite64, fd, data,
		pwrite_max > 0 && pwrite_max < len ? pwrite_max : len, offset);
}

ssize_t
pwritev2(int fd, const struct iovec *from, int count, off_t offset, int flags)
{
	struct iovec one = from[0];

	assert_int_equal(count, 1);
	if (fails(&fail_pwritev2))
		return -1;
	if (pwrite_max > 0 && pwrite_max < one.iov_len)
		one.iov_len = pwrite_max;
	return syscall(SYS_pwritev2, fd, &one, 1, offset, 0, flags);
}

/* Every call fails, and the disk is not asked again. */
static void
check_poisoned(struct pack_writer *w, struct test_frame *t, enum rc rc)
{
	struct err err = ERR_INIT;
	uint64_t offset = 0, bytes = 0;

	fail_fdatasync.calls = fail_fsync.calls = fail_pwrite.calls = 0;
	for (int i = 0; i < 2; i++) {
		err_clear(&err);
		assert_int_equal(pack_writer_append(w, &t->frame, &offset, &bytes, &err), rc);
		err_clear(&err);
		assert_int_equal(pack_writer_flush(w, &err), rc);
		err_clear(&err);
		assert_int_equal(pack_writer_sync(w, &err), rc);
		assert_non_null(strstr(err.detail, ".pack: "));
		err_clear(&err);
		assert_int_equal(pack_writer_sync_all(w, &err), rc);
		err_clear(&err);
		assert_int_equal(pack_writer_seal(w, &err), rc);
	}
	assert_int_equal(fail_fdatasync.calls + fail_fsync.calls + fail_pwrite.calls, 0);
}

static void
check_sync_fails(struct fixture *f, struct fault *fault, int errnum, enum rc rc)
{
	struct err err = ERR_INIT;
	struct test_frame a, b;

	no_faults();
	test_frame_make(&a, 1, CODEC_RAW, 1, 100);
	test_frame_make(&b, 2, CODEC_RAW, 1, 100);
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	*fault = (struct fault){.errnum = errnum, .times = 1};
	assert_int_equal(pack_writer_sync(w, &err), rc);
	check_poisoned(w, &b, rc);
	pack_writer_free(w);
	/* what reached the file can be read; nobody was told that it is durable */
	test_frame_check(&a, f->readers);
	test_frame_free(&a);
	test_frame_free(&b);
	no_faults();
}

static void
test_failed_sync_is_final(void **state)
{
	check_sync_fails(*state, &fail_fdatasync, EIO, RC_IO);
	check_sync_fails(*state, &fail_fdatasync, ENOSPC, RC_FULL);
	check_sync_fails(*state, &fail_fdatasync, EDQUOT, RC_FULL);
	/* the directory's */
	check_sync_fails(*state, &fail_fsync, EIO, RC_IO);
}

static void
test_sync_asks_only_for_news(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame a;

	no_faults();
	test_frame_make(&a, 1, CODEC_RAW, 1, 100);
	struct pack_writer *w = fixture_writer(f);
	assert_int_equal(pack_writer_sync(w, &err), RC_OK);
	assert_int_equal(fail_fdatasync.calls + fail_fsync.calls, 0);
	/* the header */
	assert_int_equal(pack_writer_sync_all(w, &err), RC_OK);
	assert_int_equal(fail_fdatasync.calls, 1);
	assert_int_equal(fail_fsync.calls, 1);
	test_frame_append(&a, w);
	assert_int_equal(pack_writer_sync(w, &err), RC_OK);
	assert_int_equal(fail_fdatasync.calls, 1);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pack_writer_sync(w, &err), RC_OK);
		assert_int_equal(fail_fdatasync.calls, 2);
		assert_int_equal(fail_fsync.calls, 1); /* the directory entry is durable already */
	}
	pack_writer_free(w);
	test_frame_free(&a);
}

static void
append_and_sync(struct pack_writer *w, struct test_frame *t)
{
	struct err err = ERR_INIT;

	test_frame_append(t, w);
	if (pack_writer_sync_all(w, &err) != RC_OK)
		fail_msg("%s [%s]", err.text, err.detail);
}

/* One write and nothing else, once all before it is durable. */
static void
test_sync_at_once(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame t[6];

	no_faults();
	for (uint64_t i = 0; i < 6; i++)
		test_frame_make(&t[i], i + 1, CODEC_RAW, 1, 100);
	struct pack_writer *w = fixture_writer(f);
	assert_int_equal(pack_writer_sync_all(w, &err), RC_OK);
	no_faults();
	append_and_sync(w, &t[0]); /* header and directory entry are durable by now */
	assert_int_equal(fail_pwritev2.calls, 1);
	assert_int_equal(fail_pwrite.calls + fail_fdatasync.calls + fail_fsync.calls, 0);
	assert_int_equal(pack_writer_sync_all(w, &err), RC_OK);
	assert_int_equal(fail_fdatasync.calls, 0);
	/* behind a flush that was not, that one must become durable too */
	test_frame_append(&t[1], w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	append_and_sync(w, &t[2]);
	assert_int_equal(fail_fdatasync.calls, 1);
	/* nothing to do */
	assert_int_equal(pack_writer_sync_all(w, &err), RC_OK);
	assert_int_equal(fail_fdatasync.calls, 1);
	/* short writes, interruptions */
	pwrite_max = 4096;
	fail_pwritev2 = (struct fault){.errnum = EINTR, .times = 1};
	append_and_sync(w, &t[3]);
	pwrite_max = 0;
	assert_int_equal(fail_fdatasync.calls, 1);
	/* a file system without such writes */
	fail_pwritev2 = (struct fault){.errnum = EOPNOTSUPP, .times = 1};
	append_and_sync(w, &t[4]);
	assert_int_equal(fail_fdatasync.calls, 2);
	append_and_sync(w, &t[5]);
	assert_int_equal(fail_fdatasync.calls, 3);
	assert_int_equal(fail_pwritev2.calls, 1);
	fixture_seal(w);
	for (int i = 0; i < 6; i++) {
		test_frame_check(&t[i], f->readers);
		test_frame_free(&t[i]);
	}
}

static void
test_failed_sync_at_once_is_final(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame a, b;

	for (int direct_refused = 0; direct_refused < 2; direct_refused++) {
		no_faults();
		test_frame_make(&a, 1, CODEC_RAW, 1, 100);
		test_frame_make(&b, 2, CODEC_RAW, 1, 100);
		struct pack_writer *w = fixture_writer(f);
		assert_int_equal(pack_writer_sync_all(w, &err), RC_OK);
		append_and_sync(w, &a);
		test_frame_append(&b, w);
		/* EINVAL: the second try, not direct, fails too */
		fail_pwritev2 = (struct fault){
			.errnum = direct_refused ? EINVAL : EIO, .times = direct_refused ? 2 : 1};
		assert_int_equal(pack_writer_sync_all(w, &err), RC_IO);
		err_clear(&err);
		check_poisoned(w, &b, RC_IO);
		pack_writer_free(w);
		test_frame_check(&a, f->readers);
		test_frame_free(&a);
		test_frame_free(&b);
	}
	no_faults();
}

static void
test_failed_write_is_final(void **state)
{
	struct fixture *f = *state;
	static const struct {
		int errnum;
		enum rc rc;
	} cases[] = {{EIO, RC_IO}, {ENOSPC, RC_FULL}, {EROFS, RC_IO}, {ENOMEM, RC_NOMEM}};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct err err = ERR_INIT;
		struct test_frame a, b;
		no_faults();
		test_frame_make(&a, 1, CODEC_RAW, 1, 100);
		test_frame_make(&b, 2, CODEC_RAW, 1, 100);
		struct pack_writer *w = fixture_writer(f);
		test_frame_append(&a, w);
		assert_int_equal(pack_writer_flush(w, &err), RC_OK);
		test_frame_append(&b, w);
		fail_pwrite = (struct fault){.errnum = cases[i].errnum, .times = 1};
		assert_int_equal(pack_writer_flush(w, &err), cases[i].rc);
		check_poisoned(w, &b, cases[i].rc);
		pack_writer_abandon(w);
		pack_writer_free(w);
		test_frame_check(&a, f->readers);
		test_frame_free(&a);
		test_frame_free(&b);
	}
	no_faults();
}

/* Short writes and interruptions are no failures. */
static void
test_short_writes_and_reads(void **state)
{
	struct fixture *f = *state;
	struct test_frame a;
	struct pack_scan_stats stats;

	no_faults();
	pwrite_max = 4096 * 3;
	fail_pwrite = (struct fault){.errnum = EINTR, .after = 1, .times = 2};
	test_frame_make(&a, 1, CODEC_RAW, 9, 65536);
	const struct test_frame *const all[] = {&a, NULL};
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	fixture_seal(w);
	pread_max = 1000;
	fail_pread = (struct fault){.errnum = EINTR, .after = 3, .times = 2};
	test_frame_check(&a, f->readers);
	fixture_scan(f, a.place.pack_id, all, &stats);
	no_faults();
	test_frame_free(&a);
}

/* A file system that accepts the flag and refuses the first direct write. */
static void
test_direct_write_refused(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame a;

	no_faults();
	test_frame_make(&a, 1, CODEC_RAW, 9, 65536);
	struct pack_writer *w = fixture_writer(f);
	bool direct = pack_writer_is_direct(w);
	fail_pwrite = (struct fault){.errnum = EINVAL, .times = 1};
	test_frame_append(&a, w);
	if (direct) {
		assert_int_equal(pack_writer_flush(w, &err), RC_OK);
		assert_false(pack_writer_is_direct(w));
		fixture_seal(w);
		test_frame_check(&a, f->readers);
	} else {
		/* in a plain write it is a failure as any other */
		assert_int_equal(pack_writer_flush(w, &err), RC_IO);
		pack_writer_free(w);
	}
	no_faults();
	test_frame_free(&a);
}

static void
test_no_room_to_begin(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct pack_writer_options options = PACK_WRITER_OPTIONS_INIT;
	struct pack_writer *w = NULL;
	struct stat st;
	char path[300];

	no_faults();
	fail_fallocate = (struct fault){.errnum = ENOSPC, .times = 1};
	assert_int_equal(
		pack_writer_open(f->dir, ++f->last_id, fixture_uuid, &options, &w, &err), RC_FULL);
	assert_null(w);
	assert_string_equal(err.kind, "disk-full");
	fixture_path(f, f->last_id, path, sizeof path);
	assert_int_equal(stat(path, &st), -1);
	no_faults();
}

/* A file system that cannot allocate ahead: the file grows with its writes. */
static void
test_no_preallocation(void **state)
{
	struct fixture *f = *state;
	struct test_frame a;

	no_faults();
	fail_fallocate = (struct fault){.errnum = EOPNOTSUPP, .times = 1};
	test_frame_make(&a, 1, CODEC_ZSTD, 9, 65536);
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	fixture_seal(w);
	test_frame_check(&a, f->readers);
	no_faults();
	test_frame_free(&a);
}

static void
set_file_limit(rlim_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The disk ends in the middle of a write, direct or not: the writer is poisoned, what was synced
 * before stays good, what came after was never called stored. */
static void
check_disk_full(struct fixture *f, bool direct)
{
	struct err err = ERR_INIT;
	struct pack_writer_options options = {64u << 20, 128u << 10, direct};
	struct pack_writer *w = NULL;
	struct test_frame a, big, more;
	struct pack_scan_stats stats;
	enum rc rc = RC_OK;

	no_faults();
	test_frame_make(&a, 1, CODEC_RAW, 2, 1000);
	test_frame_make(&big, 2, CODEC_RAW, 4, 65536);
	test_frame_make(&more, 3, CODEC_RAW, 1, 10);
	assert_int_equal(
		pack_writer_open(f->dir, ++f->last_id, fixture_uuid, &options, &w, &err), RC_OK);
	test_frame_append(&a, w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	assert_int_equal(pack_writer_sync(w, &err), RC_OK);
	set_file_limit((1u << 20) + 512);
	for (int i = 0; i < 100 && rc == RC_OK; i++)
		rc = pack_writer_append(w, &big.frame, &big.place.offset, &big.place.bytes, &err);
	assert_int_equal(rc, RC_FULL);
	assert_string_equal(err.kind, "disk-full");
	set_file_limit(RLIM_INFINITY);
	check_poisoned(w, &more, RC_FULL);
	pack_writer_free(w);

	test_frame_check(&a, f->readers);
	err_clear(&err);
	assert_int_equal(pack_scan(f->dir, a.place.pack_id, NULL, NULL, &stats, &err), RC_OK);
	/* the first and two of the others, of which a third lay in part in the buffer */
	assert_int_equal(stats.frames, 3);
	assert_int_equal(stats.damaged_bytes, 0);
	test_frame_free(&a);
	test_frame_free(&big);
	test_frame_free(&more);
}

static void
test_disk_full(void **state)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN}, before;

	assert_int_equal(sigaction(SIGXFSZ, &ignore, &before), 0);
	check_disk_full(*state, true);
	check_disk_full(*state, false);
	assert_int_equal(sigaction(SIGXFSZ, &before, NULL), 0);
}

static void
check_seal_fails(struct fixture *f, struct fault *fault, struct fault what, enum rc rc)
{
	struct err err = ERR_INIT;
	struct pack_index index;
	struct pack_scan_stats stats;
	struct test_frame a;

	no_faults();
	test_frame_make(&a, 1, CODEC_RAW, 2, 1000);
	const struct test_frame *const all[] = {&a, NULL};
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	assert_int_equal(pack_writer_flush(w, &err), RC_OK);
	assert_int_equal(pack_writer_sync(w, &err), RC_OK);
	*fault = what;
	assert_int_equal(pack_writer_seal(w, &err), rc);
	check_poisoned(w, &a, rc);
	pack_writer_free(w);
	no_faults();
	/* with or without a footer in the file: the frames are there */
	test_frame_check(&a, f->readers);
	fixture_scan(f, a.place.pack_id, all, &stats);
	err_clear(&err);
	rc = pack_read_footer(f->readers, a.place.pack_id, &index, &err);
	assert_true(rc == RC_OK || rc == RC_NOT_FOUND);
	pack_index_done(&index);
	test_frame_free(&a);
}

static void
test_seal_fails(void **state)
{
	check_seal_fails(
		*state, &fail_pwrite, (struct fault){.errnum = ENOSPC, .times = 1}, RC_FULL);
	check_seal_fails(*state, &fail_fdatasync, (struct fault){.errnum = EIO, .times = 1}, RC_IO);
	check_seal_fails(*state, &fail_fsync, (struct fault){.errnum = EIO, .times = 1}, RC_IO);
}

static void
test_read_error_is_tried_once_more(void **state)
{
	struct fixture *f = *state;
	struct test_frame a;

	no_faults();
	test_frame_make(&a, 1, CODEC_RAW, 2, 1000);
	struct pack_writer *w = fixture_writer(f);
	test_frame_append(&a, w);
	fixture_seal(w);
	test_frame_check(&a, f->readers);
	fail_pread = (struct fault){.errnum = EIO, .times = 1};
	test_frame_check(&a, f->readers);
	assert_int_equal(fail_pread.calls, 2);
	fail_pread = (struct fault){.errnum = EIO, .times = 2};
	test_frame_check_fails(&a, f->readers, RC_IO);
	assert_int_equal(fail_pread.calls, 2);
	fail_pread = (struct fault){.errnum = EBADF, .times = 1};
	test_frame_check_fails(&a, f->readers, RC_IO);
	assert_int_equal(fail_pread.calls, 1);
	no_faults();
	test_frame_check(&a, f->readers);
	test_frame_free(&a);
}

/* Blocks the disk does not give are damage; what lies around them is found. */
static void
test_scan_reads_around(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct test_frame t[30];
	const struct test_frame *left[31];
	struct pack_scan_stats stats;
	size_t count = 0;
	const uint64_t from = 12288, to = 20480;

	no_faults();
	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	for (uint32_t i = 0; i < 30; i++) {
		test_frame_make(&t[i], i + 1, CODEC_RAW, 2, 500);
		test_frame_append(&t[i], w);
		if (t[i].place.offset + t[i].place.bytes <= from || t[i].place.offset >= to)
			left[count++] = &t[i];
	}
	left[count] = NULL;
	fixture_seal(w);
	pread_bad_from = (off_t)from;
	pread_bad_to = (off_t)to;
	fixture_scan(f, id, left, &stats);
	assert_int_equal(stats.unreadable_bytes, to - from);
	assert_int_equal(stats.damaged_places, 1);
	assert_true(stats.footer_bytes > 0);
	/* the header and the tail, too */
	pread_bad_from = 0;
	pread_bad_to = 4096;
	err_clear(&err);
	assert_int_equal(pack_scan(f->dir, id, NULL, NULL, &stats, &err), RC_OK);
	assert_false(stats.header_ok);
	assert_int_equal(stats.frames, 30);
	no_faults();
	fail_pread = (struct fault){.errnum = EBADF, .times = 1};
	assert_int_equal(pack_scan(f->dir, id, NULL, NULL, &stats, &err), RC_IO);
	no_faults();
	for (uint32_t i = 0; i < 30; i++)
		test_frame_free(&t[i]);
}

static void
test_directory_sync_fails(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct pack_dir *dir = NULL;
	char path[300];

	no_faults();
	snprintf(path, sizeof path, "%s/second", f->root);
	fail_fsync = (struct fault){.errnum = EIO, .after = 100, .times = 1};
	assert_int_equal(pack_dir_open(path, &dir, &err), RC_IO);
	assert_null(dir);
	err_clear(&err);
	no_faults();
	assert_int_equal(pack_dir_open(path, &dir, &err), RC_OK);
	/* the first time was not complete, so all are synced again */
	assert_true(fail_fsync.calls >= 256);
	pack_dir_free(dir);

	struct pack_writer *w = fixture_writer(f);
	uint64_t id = pack_writer_id(w);
	pack_writer_free(w);
	fail_fsync = (struct fault){.errnum = EIO, .times = 1};
	assert_int_equal(pack_remove(f->dir, id, &err), RC_IO);
	no_faults();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failed_sync_is_final),
		cmocka_unit_test(test_sync_asks_only_for_news),
		cmocka_unit_test(test_sync_at_once),
		cmocka_unit_test(test_failed_sync_at_once_is_final),
		cmocka_unit_test(test_failed_write_is_final),
		cmocka_unit_test(test_short_writes_and_reads),
		cmocka_unit_test(test_direct_write_refused),
		cmocka_unit_test(test_no_room_to_begin),
		cmocka_unit_test(test_no_preallocation),
		cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_seal_fails),
		cmocka_unit_test(test_read_error_is_tried_once_more),
		cmocka_unit_test(test_scan_reads_around),
		cmocka_unit_test(test_directory_sync_fails),
	};
	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
