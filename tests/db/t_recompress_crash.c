/* SPDX-License-Identifier: Apache-2.0 */
/* A process that recompresses dies, or meets a failure, at every single thing it asks of the disk
 * and of the database, one after the other; each time the next start finds all chunks, and in the
 * end no pack too many. The functions below stand before those of the libraries. */
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster_fixture.h"
#include "pack_maker.h"
#include "recompress.h"
#include "recover.h"
#include "retire.h"

/* Of libpq; this layer does not see its headers. */
typedef struct pg_conn PGconn;
int PQflush(PGconn *conn);
int PQsocket(const PGconn *conn);
int PQsendQuery(PGconn *conn, const char *query);
int PQsendQueryPrepared(PGconn *conn, const char *name, int count, const char *const *values,
	const int *lengths, const int *formats, int format);

#define WAIT      120
#define DIED      42
#define STEPS_MAX 2000

static struct cluster_fixture fx;
static struct maker m;

/* ---- what goes wrong ---- */

enum fate {
	DIES_BEFORE,
	DIES_AFTER,
	DISK_FAILS,     /* the call fails and does nothing */
	DATABASE_FAILS, /* the statement is sent, the answer is lost */
};

/* At which call, counted from 1; 0: never. */
static enum fate fate;
static atomic_int calls, fatal_call;

enum call {
	CALL_DISK,
	CALL_DATABASE,
};

static bool
is_meant(enum call call)
{
	if (fate == DISK_FAILS)
		return call == CALL_DISK;
	return fate != DATABASE_FAILS || call == CALL_DATABASE;
}

/* Is this call the one? */
static bool
is_fatal(enum call call)
{
	if (atomic_load(&fatal_call) == 0 || !is_meant(call))
		return false;
	bool now = atomic_fetch_add(&calls, 1) + 1 == atomic_load(&fatal_call);
	if (now && fate == DIES_BEFORE)
		_exit(DIED);
	return now;
}

static bool
disk_fails(bool fatal, int errnum)
{
	if (fatal && fate == DISK_FAILS)
		errno = errnum;
	return fatal && fate == DISK_FAILS;
}

static void
after(bool fatal)
{
	if (fatal && fate == DIES_AFTER)
		_exit(DIED);
}

/* ---- the calls ---- */

#define DISK_CALL(errnum, call)                                                                    \
	bool fatal = is_fatal(CALL_DISK);                                                          \
	if (disk_fails(fatal, errnum))                                                             \
		return -1;                                                                         \
	long result = call;                                                                        \
	after(fatal);                                                                              \
	return (int)result

int
openat(int dir, const char *path, int flags, ...)
{
	va_list ap;

	va_start(ap, flags);
	int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
	va_end(ap);
	if ((flags & O_CREAT) == 0)
		return (int)syscall(SYS_openat, dir, path, flags, mode);
	DISK_CALL(ENOSPC, syscall(SYS_openat, dir, path, flags, mode));
}

int
fallocate(int fd, int mode, off_t offset, off_t len)
{
	DISK_CALL(ENOSPC, syscall(SYS_fallocate, fd, mode, offset, len));
}

ssize_t
pwrite(int fd, const void *data, size_t len, off_t offset)
{
	bool fatal = is_fatal(CALL_DISK);
	if (disk_fails(fatal, EIO))
		return -1;
	/* torn */
	ssize_t n = syscall(SYS_pwrite64, fd, data, fatal && len > 4096 ? len / 2 : len, offset);
	after(fatal);
	return n;
}

int
fsync(int fd)
{
	(void)fd; /* processes die here, not machines */
	DISK_CALL(EIO, 0);
}

int
fdatasync(int fd)
{
	(void)fd;
	DISK_CALL(EIO, 0);
}

int
ftruncate(int fd, off_t len)
{
	DISK_CALL(EIO, syscall(SYS_ftruncate, fd, len));
}

int
fchmod(int fd, mode_t mode)
{
	DISK_CALL(EIO, syscall(SYS_fchmod, fd, mode));
}

int
unlinkat(int dir, const char *path, int flags)
{
	DISK_CALL(EIO, syscall(SYS_unlinkat, dir, path, flags));
}

static void
after_send(PGconn *conn, bool fatal)
{
	after(fatal);
	if (!fatal || fate != DATABASE_FAILS)
		return;
	PQflush(conn);
	shutdown(PQsocket(conn), SHUT_RDWR);
}

int
PQsendQuery(PGconn *conn, const char *query)
{
	static int (*real)(PGconn *, const char *);

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "PQsendQuery");
	bool fatal = is_fatal(CALL_DATABASE);
	int n = real(conn, query);
	after_send(conn, fatal);
	return n;
}

int
PQsendQueryPrepared(PGconn *conn, const char *name, int count, const char *const *values,
	const int *lengths, const int *formats, int format)
{
	static int (*real)(
		PGconn *, const char *, int, const char *const *, const int *, const int *, int);

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "PQsendQueryPrepared");
	bool fatal = is_fatal(CALL_DATABASE);
	int n = real(conn, name, count, values, lengths, formats, format);
	after_send(conn, fatal);
	return n;
}

/* ---- recompression, from the first look to the last file ---- */

#define OK(call)                                                                                   \
	do {                                                                                       \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s %s [%s]", #call, rc_name(err.rc), err.text, err.detail);  \
	} while (0)

static void
nothing_happens(void *arg, struct recompress_activity *out)
{
	(void)arg;
	(void)out;
}

static bool
is_done(void *arg)
{
	struct recompress_stats s;
	struct err err = ERR_INIT;

	recompress_stats(arg, &s);
	/* do not wait to try again */
	if (s.error[0] != '\0' && !s.is_run)
		recompress_control(arg, RECOMPRESS_RUN, &err);
	return s.reason == RECOMPRESS_NOTHING_TO_DO && s.is_known && !s.is_run && s.left_packs == 0;
}

static bool
recompress_all(struct db *db)
{
	const struct recompress_options o = {
		.db = db,
		.packs = m.dir,
		.level = 3,
		.cpu_percent = 50,
		.pack_bytes = (uint64_t)4 << 20,
		.look = nothing_happens,
	};
	struct recompress *r = NULL;
	struct err err = ERR_INIT;

	if (recompress_open(&o, &r, &err) != RC_OK)
		return false;
	bool done = fixture_wait(is_done, r, WAIT);
	recompress_close(r);
	return done;
}

/* Until nothing is due any more; failures are looked at by who asks for none. */
static bool
retire_all(struct db *db, struct pack_readers *readers)
{
	const struct retire_options o = {db, m.dir, readers, 0};
	struct retire_report report;
	bool ok = true;

	do {
		struct err err = ERR_INIT;
		ok = retire_packs(&o, &report, &err) == RC_OK && ok;
	} while (report.removed > 0);
	return ok;
}

/* With a pool of its own: the connections of the parent are not ours. */
static void __attribute__((noreturn)) live_and_die(int call)
{
	struct pack_readers *readers = NULL;
	struct err err = ERR_INIT;

	struct db *db = fixture_pool(&fx, 30000);
	if (db_ping(db, &err) != RC_OK || pack_readers_open(m.dir, 4, &readers, &err) != RC_OK)
		_exit(1);
	atomic_store(&fatal_call, call);
	bool done = recompress_all(db);
	retire_all(db, readers);
	bool fired = atomic_load(&calls) >= call;
	atomic_store(&fatal_call, 0);
	_exit(!done ? 1 : fired ? DIED : 0);
}

/* ---- before and after ---- */

/* Small packs that are merged: all kinds of frames, one of them with a bad chunk, and a pack that
 * nobody names. */
static const struct maker_frame mixed[] = {
	{.data = MAKER_TEXT, .seed = 1, .chunk_count = 9, .chunk_bytes = 30000, .level = 0},
	{.data = MAKER_RANDOM, .seed = 2, .chunk_count = 5, .chunk_bytes = 30000, .level = 0},
	{.data = MAKER_TEXT, .seed = 3, .chunk_count = 9, .chunk_bytes = 30000, .level = 1},
	{.data = MAKER_TEXT, .seed = 4, .chunk_count = 2, .chunk_bytes = 3000, .bad_bytes = true},
};
static const struct maker_frame raw[] = {
	{.data = MAKER_TEXT, .seed = 5, .chunk_count = 30, .chunk_bytes = 30000, .level = 0},
};
static const struct maker_frame dead[] = {
	{.data = MAKER_RANDOM, .seed = 6, .chunk_count = 3, .chunk_bytes = 9000, .no_rows = true},
};
#define GOOD_ROWS (9 + 5 + 9 + 1 + 30)
#define ALL_ROWS  (GOOD_ROWS + 1)

static void
prepare(void)
{
	maker_clear(&m);
	maker_pack(&m, MAKER_REPO_A, mixed, 4);
	maker_pack(&m, MAKER_REPO_A, raw, 1);
	maker_pack(&m, MAKER_REPO_A, dead, 1);
}

static int64_t count(const struct db_stmt *stmt);

/* All that was good is there and leads to its bytes, wherever it is now. */
static void
expect_all_chunks(void)
{
	size_t wrong = 0;

	size_t good = maker_true_rows(&m, &wrong);
	/* the bad one may have been marked, and then is no live row */
	assert_int_equal(good, GOOD_ROWS);
	assert_true(wrong <= 1);
}

static const struct db_stmt stmt_rows = {.name = "t_rows", .sql = "SELECT count(*) FROM chunk"};
static const struct db_stmt stmt_unsettled = {.name = "t_unsettled",
	.sql = "SELECT count(*) FROM pack WHERE state IN (0, 4) OR (squeeze = 0 AND state <> 3)"};
static const struct db_stmt stmt_needed = {.name = "t_needed",
	.sql = "SELECT count(*) FROM pack p WHERE state = 3"
	       " AND NOT EXISTS (SELECT 1 FROM chunk c WHERE c.pack_id = p.id AND c.state = 1)"};

struct number {
	const struct db_stmt *stmt;
	int64_t number;
};

static enum rc
run_count(struct db_tx *tx, void *arg, struct err *err)
{
	struct number *q = arg;
	struct db_result *r = NULL;

	enum rc rc = db_exec(tx, q->stmt, NULL, &r, err);
	if (rc == RC_OK)
		q->number = db_get_i64(r, 0, 0);
	db_result_free(r);
	return rc;
}

static int64_t
count(const struct db_stmt *stmt)
{
	struct number q = {stmt, 0};
	struct err err = ERR_INIT;

	OK(db_run_readonly(fx.db, run_count, &q, &err));
	return q.number;
}

/* As the next start of a server, and some time later. */
static void
start_again(void)
{
	struct recover_report report;
	struct err err = ERR_INIT;

	pack_readers_free(m.readers);
	OK(pack_readers_open(m.dir, 8, &m.readers, &err));
	OK(recover_packs(fx.db, m.dir, &report, &err));
	assert_int_equal(report.closed + report.sealed + report.missing + report.unlisted, 0);
	expect_all_chunks();
	assert_true(recompress_all(fx.db));
	expect_all_chunks();
	assert_true(retire_all(fx.db, m.readers));
	expect_all_chunks();
	assert_int_equal(count(&stmt_rows), ALL_ROWS);
	assert_int_equal(count(&stmt_unsettled), 0);
	/* one new pack, and the old one that a bad row names */
	assert_int_equal(count(&stmt_needed), 0);
	assert_int_equal(maker_file_count(&m), 2);
	maker_check(&m);
}

/* true: it came as far as the call. */
static bool
live_until(int call)
{
	int status = 0;

	prepare();
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		live_and_die(call);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) != DIED && WEXITSTATUS(status) != 0)
		fail_msg("call %d: ended with %d", call, WEXITSTATUS(status));
	expect_all_chunks();
	start_again();
	return WEXITSTATUS(status) == DIED;
}

static void
at_every_call(enum fate f)
{
	int call = 1;

	fate = f;
	while (live_until(call)) {
		call++;
		assert_true(call < STEPS_MAX);
	}
	print_message("           %d calls\n", call - 1);
	assert_true(call > 10);
}

static void
test_dies_before_every_call(void **state)
{
	(void)state;
	at_every_call(DIES_BEFORE);
}

static void
test_dies_after_every_call(void **state)
{
	(void)state;
	at_every_call(DIES_AFTER);
}

static void
test_every_write_fails(void **state)
{
	(void)state;
	at_every_call(DISK_FAILS);
}

static void
test_every_answer_is_lost(void **state)
{
	(void)state;
	at_every_call(DATABASE_FAILS);
}

/* It is not PostgreSQL that dies here. */
static void
hurry(void)
{
	fixture_sql(fx.db, "DO $$ BEGIN EXECUTE format("
			   "'ALTER DATABASE %I SET synchronous_commit = off', current_database());"
			   " END $$");
	db_free(fx.db);
	fx.db = fixture_pool(&fx, 30000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dies_before_every_call),
		cmocka_unit_test(test_dies_after_every_call),
		cmocka_unit_test(test_every_write_fails),
		cmocka_unit_test(test_every_answer_is_lost),
	};

	fixture_init(&fx, false);
	maker_open(&m, &fx);
	hurry();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	maker_close(&m);
	fixture_done(&fx);
	return failed;
}
