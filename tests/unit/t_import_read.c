/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are read, and what happens to them meanwhile. Ingest is a double: a content is the
 * SHA-256 of the bytes, files settle on a thread of their own, and a hook runs in the middle of a
 * file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder_fixture.h"
#include "import_read.h"
#include "import_team.h"

#define HANG_SECONDS 120
#define ROOM_BYTES   1000
#define BIG_BYTES    300000

/* ---- the double ---- */

typedef void hook_fn(void);
#define NO_HOOK ((hook_fn *)0)

static struct {
	/* what to do */
	_Atomic(hook_fn *) hook; /* once, after the first bytes of a file */
	unsigned refuse_of_4;    /* how often there is no room at first */
	uint64_t fail_begun;     /* the how-manieth file fails while it is written; 0: none */
	bool fail_settle;        /* the last file that settles fails */
	/* what was done */
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	struct ingest_file *ended, *flushed;
	uint64_t begun, aborted, in_flight, in_flight_most;
	uint64_t sizes[64]; /* of the first files, as they were announced */
	bool stop;
	pthread_t settler;
} fake = {.mtx = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

struct ingest_writer {
	void (*wake)(void *arg);
	void *arg;
	struct ingest_file *file;
	struct sha256_stream sha;
	uint64_t bytes;
	unsigned asked;
	bool lent;
	uint8_t room[ROOM_BYTES];
};

static void
settle(struct ingest_file *f)
{
	struct err err = ERR_INIT;
	enum rc rc = (enum rc)f->x.failed;

	if (rc != RC_OK)
		err_set(&err, rc, "disk-full", "the file failed");
	f->rider.ops->done(&f->rider, rc, &err);
}

static void *
settle_all(void *arg)
{
	pthread_mutex_lock(&fake.mtx);
	while (!fake.stop || fake.flushed != NULL) {
		struct ingest_file *f = fake.flushed;
		if (f == NULL) {
			pthread_cond_wait(&fake.cond, &fake.mtx);
			continue;
		}
		fake.flushed = f->x.next;
		fake.in_flight--;
		if (fake.fail_settle && fake.flushed == NULL)
			f->x.failed = RC_FULL;
		pthread_mutex_unlock(&fake.mtx);
		settle(f);
		pthread_mutex_lock(&fake.mtx);
	}
	pthread_mutex_unlock(&fake.mtx);
	return arg;
}

enum rc
ingest_writer_open(struct ingest *in, const struct ingest_space *space, void (*wake)(void *arg),
	void *arg, struct ingest_writer **out, struct err *err)
{
	(void)in;
	(void)space;
	(void)err;
	*out = calloc(1, sizeof **out);
	(*out)->wake = wake;
	(*out)->arg = arg;
	return RC_OK;
}

void
ingest_writer_close(struct ingest_writer *w)
{
	assert_null(w->file);
	free(w);
}

void
ingest_begin(struct ingest_writer *w, struct ingest_file *f, uint64_t expected_bytes)
{
	assert_null(w->file);
	w->file = f;
	w->bytes = 0;
	sha256_stream_init(&w->sha);
	pthread_mutex_lock(&fake.mtx);
	if (fake.begun < 64)
		fake.sizes[fake.begun] = expected_bytes;
	if (++fake.begun == fake.fail_begun)
		f->x.failed = RC_FULL;
	if (++fake.in_flight > fake.in_flight_most)
		fake.in_flight_most = fake.in_flight;
	pthread_mutex_unlock(&fake.mtx);
}

bool
ingest_reserve(struct ingest_writer *w, uint8_t **at, size_t *room)
{
	*at = NULL;
	*room = 0;
	if (w->file->x.failed != 0)
		return true;
	if (w->asked++ % 4 < fake.refuse_of_4) {
		w->wake(w->arg);
		return false;
	}
	w->lent = true;
	*at = w->room;
	*room = ROOM_BYTES;
	return true;
}

void
ingest_advance(struct ingest_writer *w, size_t len)
{
	assert_true(w->lent && len <= ROOM_BYTES && len > 0);
	w->lent = false;
	sha256_stream_update(&w->sha, w->room, len);
	bool first = w->bytes == 0;
	w->bytes += len;
	hook_fn *hook = first ? atomic_exchange(&fake.hook, NO_HOOK) : NO_HOOK;
	if (hook != NO_HOOK)
		hook();
}

static void
end_file(struct ingest_writer *w)
{
	struct ingest_file *f = w->file;

	w->file = NULL;
	f->content = (struct content){.kind = CONTENT_CHUNK, .size = w->bytes};
	sha256_stream_final(&w->sha, &f->content.id);
	f->receipt.logical_bytes = w->bytes;
	f->receipt.chunks = 1;
	pthread_mutex_lock(&fake.mtx);
	f->x.next = fake.ended;
	fake.ended = f;
	pthread_mutex_unlock(&fake.mtx);
}

void
ingest_finish(struct ingest_writer *w)
{
	end_file(w);
}

void
ingest_abort(struct ingest_writer *w, const struct err *err)
{
	assert_int_not_equal(err->rc, RC_OK);
	pthread_mutex_lock(&fake.mtx);
	fake.aborted++;
	pthread_mutex_unlock(&fake.mtx);
	if (w->file->x.failed == 0)
		w->file->x.failed = (int)err->rc;
	end_file(w);
}

void
ingest_flush(struct ingest_writer *w)
{
	assert_null(w->file);
	pthread_mutex_lock(&fake.mtx);
	while (fake.ended != NULL) {
		struct ingest_file *f = fake.ended;
		fake.ended = f->x.next;
		f->x.next = fake.flushed;
		fake.flushed = f;
	}
	pthread_cond_broadcast(&fake.cond);
	pthread_mutex_unlock(&fake.mtx);
}

/* ---- running ---- */

static struct import_files files;
static struct import_report trouble;
static struct import_tally tally;
static struct ingest_receipt receipt;
static _Atomic uint64_t told_bytes, told_files;
static atomic_bool stop;
static struct err err;
static char big[BIG_BYTES];

static void
on_progress(void *arg, uint64_t bytes)
{
	(void)arg;
	atomic_fetch_add(&told_bytes, bytes);
	atomic_fetch_add(&told_files, bytes == 0);
}

static int
setup(void **state)
{
	folder_setup(state);
	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (char)(i * i >> 7);
	fake.hook = NO_HOOK;
	fake.refuse_of_4 = 0;
	fake.fail_begun = fake.begun = fake.aborted = fake.in_flight_most = 0;
	fake.fail_settle = false;
	atomic_store(&stop, false);
	return 0;
}

static void
forget(void)
{
	import_files_done(&files);
	import_report_done(&trouble);
}

static int
teardown(void **state)
{
	forget();
	return folder_teardown(state);
}

static struct import_read_options
defaults(void)
{
	return (struct import_read_options){
		.dir = folder_fd,
		.files = &files,
		.report = &trouble,
		.tally = &tally,
		.stop = &stop,
		.skip_special = true,
		.skip_failed = true,
		.bytes_max = INT64_MAX,
		.progress = on_progress,
	};
}

/* Find what is there. */
static void
find(const char *prefix)
{
	static atomic_bool never;
	struct import_walk *w;
	const struct import_walk_options o = {
		.dir = folder_fd,
		.prefix = prefix,
		.entries_max = 1000000,
		.bytes_max = INT64_MAX,
		.files = &files,
		.report = &trouble,
		.tally = &tally,
		.stop = &never,
	};

	forget();
	memset(&tally, 0, sizeof tally);
	atomic_store(&told_bytes, 0);
	atomic_store(&told_files, 0);
	err_clear(&err);
	assert_int_equal(import_report_init(&trouble, &err), RC_OK);
	assert_int_equal(import_walk_open(&o, &w, &err), RC_OK);
	import_walk_run(w);
	assert_int_equal(import_walk_close(w, &err), RC_OK);
}

static void
run_one(void *arg)
{
	import_read_run(arg);
}

static enum rc
read_found(const struct import_read_options *o, unsigned threads)
{
	struct import_read *r;

	memset(&receipt, 0, sizeof receipt);
	assert_int_equal(import_read_open(o, &r, &err), RC_OK);
	import_team_run(threads, run_one, r);
	return import_read_close(r, &receipt, &err);
}

static enum rc
read_all(unsigned threads)
{
	struct import_read_options o = defaults();

	return read_found(&o, threads);
}

/* The file was taken with these bytes. */
static const struct stage_change *
expect_taken(const char *path, const void *data, size_t len)
{
	struct sha256 want;

	sha256_of(data, len, &want);
	for (size_t i = 0; i < files.count; i++) {
		const struct stage_change *c = &files.items[i];
		if (c->path == NULL || strcmp(c->path, path) != 0)
			continue;
		assert_int_equal(c->content.size, len);
		assert_true(sha256_equal(&c->content.id, &want));
		return c;
	}
	fail_msg("%s was not taken", path);
	return NULL;
}

/* Nothing but these was taken. */
static void
expect_count(size_t n)
{
	import_files_compact(&files);
	assert_int_equal(files.count, n);
}

static void
expect_trouble(const char *path, enum import_reason reason)
{
	assert_int_equal(trouble.count, 1);
	assert_string_equal(trouble.items[0].path, path);
	assert_string_equal(
		import_reason_name(trouble.items[0].reason), import_reason_name(reason));
}

/* ---- as it should be ---- */

static void
files_are_taken_as_they_are(void **state)
{
	const struct timespec times[2] = {{.tv_sec = 5}, {1700000000, 123456789}};
	struct import_read_options o = defaults();

	(void)state;
	folder_put_text("a", "12345");
	folder_put_text("empty", "");
	folder_put("d/e/big", big, sizeof big);
	assert_int_equal(fchmodat(folder_fd, "a", 04751, 0), 0);
	assert_int_equal(utimensat(folder_fd, "a", times, 0), 0);
	for (unsigned threads = 1; threads <= 3; threads++) {
		find("some/dir/");
		o.prefix_len = strlen("some/dir/");
		assert_int_equal(read_found(&o, threads), RC_OK);
		const struct stage_change *a = expect_taken("some/dir/a", "12345", 5);
		assert_int_equal(a->mode, 0751);
		assert_int_equal(a->mtime_ns, INT64_C(1700000000123456789));
		expect_taken("some/dir/empty", "", 0);
		expect_taken("some/dir/d/e/big", big, sizeof big);
		expect_count(3);
		assert_int_equal(trouble.count, 0);
		assert_int_equal(receipt.logical_bytes, 5 + sizeof big);
		assert_int_equal(receipt.chunks, 3);
		assert_int_equal(atomic_load(&told_bytes), 5 + sizeof big);
		assert_int_equal(atomic_load(&told_files), 3);
		assert_int_equal(atomic_load(&tally.read_files), 3);
		assert_int_equal(atomic_load(&tally.read_bytes), 5 + sizeof big);
	}
}

static void
large_files_come_first(void **state)
{
	(void)state;
	folder_put_text("small", "x");
	folder_put("one", big, 100000);
	folder_put("two", big, 250000);
	folder_put("three", big, 70000);
	find("");
	assert_int_equal(read_all(1), RC_OK);
	assert_int_equal(fake.sizes[0], 250000);
	assert_int_equal(fake.sizes[1], 100000);
	assert_int_equal(fake.sizes[2], 70000);
	assert_int_equal(fake.sizes[3], 1);
	expect_count(4);
}

static void
many_files_by_several_threads(void **state)
{
	enum { COUNT = 6000 };
	char path[32];

	(void)state;
	fake.refuse_of_4 = 2;
	for (int i = 0; i < COUNT; i++) {
		snprintf(path, sizeof path, "d%d/f%d", i % 50, i);
		folder_put_text(path, path);
	}
	find("");
	assert_int_equal(read_all(3), RC_OK);
	assert_true(fake.in_flight_most <= 3 * IMPORT_FLIGHTS);
	for (int i = 0; i < COUNT; i += 500) {
		snprintf(path, sizeof path, "d%d/f%d", i % 50, i);
		expect_taken(path, path, strlen(path));
	}
	expect_count(COUNT);
	assert_int_equal(receipt.chunks, COUNT);
}

/* ---- changed while it was read ---- */

static void
cut_off(void)
{
	char path[128];

	snprintf(path, sizeof path, "%s/victim", folder_path);
	assert_int_equal(truncate(path, 1500), 0);
}

static void
append(void)
{
	int fd = openat(folder_fd, "victim", O_WRONLY | O_APPEND);

	assert_int_equal(write(fd, "more", 4), 4);
	close(fd);
}

/* Other bytes, and the times put back. */
static void
forge(void)
{
	struct stat st;
	int fd = openat(folder_fd, "victim", O_WRONLY);

	assert_int_equal(fstat(fd, &st), 0);
	const struct timespec times[2] = {st.st_atim, st.st_mtim};
	assert_int_equal(pwrite(fd, "other", 5, 2000), 5);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
}

static void
replace(void)
{
	folder_put("new", big + 1, sizeof big - 1);
	assert_int_equal(renameat(folder_fd, "new", folder_fd, "victim"), 0);
}

static void
take_away(void)
{
	assert_int_equal(unlinkat(folder_fd, "victim", 0), 0);
}

static void
move_directory(void)
{
	assert_int_equal(renameat(folder_fd, "d", folder_fd, "../d"), 0);
}

static void
what_changes_is_not_taken(void **state)
{
	static const struct {
		void (*hook)(void);
		enum import_reason reason;
	} cases[] = {
		{cut_off, IMPORT_CHANGED},
		{append, IMPORT_CHANGED},
		{forge, IMPORT_CHANGED},
		{replace, IMPORT_CHANGED},
		{take_away, IMPORT_VANISHED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		folder_put("victim", big, sizeof big);
		folder_put_text("other", "untouched");
		/* a change within the tick of the clock that the file was made in shows no time */
		const struct timespec tick = {.tv_nsec = 20000000};
		nanosleep(&tick, NULL);
		find("");
		fake.hook = cases[i].hook;
		assert_int_equal(read_all(1), RC_OK);
		assert_true(fake.hook == NO_HOOK);
		expect_trouble("victim", cases[i].reason);
		expect_taken("other", "untouched", 9);
		expect_count(1);
		assert_int_equal(receipt.logical_bytes, 9);
	}
}

static void
a_moved_directory_takes_its_files_along(void **state)
{
	(void)state;
	folder_put("d/a", big, sizeof big);
	folder_put("d/b", big, 100000);
	find("");
	fake.hook = move_directory;
	assert_int_equal(read_all(1), RC_OK);
	assert_int_equal(trouble.counts[IMPORT_VANISHED], 2);
	expect_count(0);
}

/* ---- something else by the time it is its turn ---- */

static void
become_link(void)
{
	folder_put_text("../secret", "not yours");
	take_away();
	assert_int_equal(symlinkat("../secret", folder_fd, "victim"), 0);
}

static void
become_fifo(void)
{
	take_away();
	assert_int_equal(mkfifoat(folder_fd, "victim", 0644), 0);
}

static void
become_directory(void)
{
	take_away();
	folder_mkdir("victim");
}

static void
become_closed(void)
{
	assert_int_equal(fchmodat(folder_fd, "victim", 0, 0), 0);
}

static void
what_is_no_file_any_more_is_not_read(void **state)
{
	static const struct {
		void (*turn)(void);
		enum import_reason reason;
	} cases[] = {
		{become_link, IMPORT_CHANGED},
		{become_fifo, IMPORT_CHANGED},
		{become_directory, IMPORT_CHANGED},
		{become_closed, IMPORT_DENIED},
		{take_away, IMPORT_VANISHED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		folder_put_text("victim", "x");
		find("");
		cases[i].turn();
		fake.begun = 0;
		assert_int_equal(read_all(1), RC_OK);
		expect_trouble("victim", cases[i].reason);
		expect_count(0);
		assert_int_equal(fake.begun, 0);
		if (unlinkat(folder_fd, "victim", 0) != 0)
			unlinkat(folder_fd, "victim", AT_REMOVEDIR);
	}
}

/* The directory of a file becomes a link to one with a file of the same name. */
static void
a_swapped_directory_gives_nothing_away(void **state)
{
	(void)state;
	folder_put_text("d/f", "mine");
	folder_put_text("../beside/f", "not yours");
	find("");
	assert_int_equal(renameat(folder_fd, "d", folder_fd, "../d"), 0);
	assert_int_equal(symlinkat("../beside", folder_fd, "d"), 0);
	assert_int_equal(read_all(1), RC_OK);
	expect_trouble("d/f", IMPORT_CHANGED);
	expect_count(0);
}

static void
a_file_that_grew_before_is_taken_whole(void **state)
{
	struct import_read_options o = defaults();

	(void)state;
	folder_put_text("f", "short");
	find("");
	folder_put("f", big, sizeof big);
	assert_int_equal(read_all(1), RC_OK);
	expect_taken("f", big, sizeof big);
	for (int over = 0; over < 2; over++) {
		folder_put_text("f", "short");
		find("");
		folder_put("f", big, sizeof big);
		o.bytes_max = sizeof big - (size_t)over;
		assert_int_equal(read_found(&o, 1), over ? RC_TOO_LARGE : RC_OK);
	}
	assert_string_equal(err.kind, "import-too-large");
}

static void
a_file_that_shrank_before_is_taken_once(void **state)
{
	(void)state;
	folder_put("f", big, sizeof big);
	folder_put_text("g", "x");
	find("");
	folder_put_text("f", "short");
	assert_int_equal(read_all(2), RC_OK);
	expect_taken("f", "short", 5);
	expect_count(2);
	assert_int_equal(fake.begun, 2);
}

/* ---- ending early ---- */

static void
the_first_failure_ends_it_if_none_may_be_skipped(void **state)
{
	struct import_read_options o = defaults();
	char path[32];

	(void)state;
	for (int i = 0; i < 200; i++) {
		snprintf(path, sizeof path, "f%d", i);
		folder_put_text(path, path);
		assert_int_equal(fchmodat(folder_fd, path, 0, 0), 0);
	}
	find("");
	o.skip_failed = false;
	assert_int_equal(read_found(&o, 1), RC_OK);
	assert_int_equal(trouble.count, 1);
	assert_int_equal(import_report_judge(&trouble, true, false, &err), RC_INVALID);
	assert_int_equal(fake.begun, 0);
	find("");
	assert_int_equal(read_all(1), RC_OK);
	assert_int_equal(trouble.counts[IMPORT_DENIED], 200);
}

static void
stop_it(void)
{
	atomic_store(&stop, true);
}

static void
it_stops_in_the_middle_of_a_file(void **state)
{
	(void)state;
	folder_put("f", big, sizeof big);
	folder_put_text("g", "x");
	find("");
	fake.hook = stop_it;
	assert_int_equal(read_all(2), RC_OK);
	assert_true(fake.aborted >= 1);
	assert_int_equal(trouble.count, 0);
	assert_true(atomic_load(&told_bytes) < sizeof big);
}

static void
what_ingest_fails_with_counts(void **state)
{
	(void)state;
	folder_put("f", big, 100000);
	folder_put("g", big, 90000);
	folder_put_text("h", "x");
	for (uint64_t n = 1; n <= 2; n++) {
		find("");
		fake.begun = 0;
		fake.fail_begun = n;
		assert_int_equal(read_all(1), RC_FULL);
		assert_string_equal(err.kind, "disk-full");
		assert_int_equal(trouble.count, 0);
	}
	fake.fail_begun = 0;
	fake.fail_settle = true;
	find("");
	assert_int_equal(read_all(1), RC_FULL);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(files_are_taken_as_they_are),
		T(large_files_come_first),
		T(many_files_by_several_threads),
		T(what_changes_is_not_taken),
		T(a_moved_directory_takes_its_files_along),
		T(what_is_no_file_any_more_is_not_read),
		T(a_swapped_directory_gives_nothing_away),
		T(a_file_that_grew_before_is_taken_whole),
		T(a_file_that_shrank_before_is_taken_once),
		T(the_first_failure_ends_it_if_none_may_be_skipped),
		T(it_stops_in_the_middle_of_a_file),
		T(what_ingest_fails_with_counts),
	};

	alarm(HANG_SECONDS);
	folder_be_nobody();
	if (pthread_create(&fake.settler, NULL, settle_all, NULL) != 0)
		return 1;
	int failed = cmocka_run_group_tests_name("import_read", tests, NULL, NULL);
	pthread_mutex_lock(&fake.mtx);
	fake.stop = true;
	pthread_cond_broadcast(&fake.cond);
	pthread_mutex_unlock(&fake.mtx);
	pthread_join(fake.settler, NULL);
	return failed;
}
