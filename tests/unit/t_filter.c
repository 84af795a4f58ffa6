/* SPDX-License-Identifier: Apache-2.0 */
/* The filter of known chunks on a table in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#include "buf.h"
#include "db_filter.h"
#include "filter.h"

#define HANG_SECONDS 120
#define REPO         7
#define COMMITTER    (FILTER_USERS_MAX - 1)
#define ROWS_MAX     2000000u

/* ---- the database ---- */

static struct {
	pthread_mutex_t mtx;
	uint32_t *rows; /* numbers of keys */
	size_t count;
	uint8_t id[DB_FILTER_ID_BYTES]; /* who writes */
	int fail;                       /* so many readings break off in the middle */
	atomic_int readings;            /* begun */
	/* if held, a reading posts began and waits for go */
	atomic_bool hold;
	sem_t began, go;
} table = {.mtx = PTHREAD_MUTEX_INITIALIZER};

static struct sha256
key(uint64_t n)
{
	struct sha256 h;

	memset(h.b, 0, sizeof h.b);
	put_u64(h.b, n * 0x9E3779B97F4A7C15u);
	put_u64(h.b + 8, (n + 1) * 0xD1B54A32D192ED03u);
	return h;
}

static void
insert(uint64_t n)
{
	pthread_mutex_lock(&table.mtx);
	table.rows[table.count++] = (uint32_t)n;
	pthread_mutex_unlock(&table.mtx);
}

enum rc
db_filter_begin(struct db *db, const uint8_t id[DB_FILTER_ID_BYTES],
	uint8_t before[DB_FILTER_ID_BYTES], struct err *err)
{
	(void)db;
	(void)err;
	memcpy(before, table.id, DB_FILTER_ID_BYTES);
	memcpy(table.id, id, DB_FILTER_ID_BYTES);
	return RC_OK;
}

enum rc
db_filter_estimate(struct db *db, uint64_t *rows, struct err *err)
{
	(void)db;
	(void)err;
	pthread_mutex_lock(&table.mtx);
	*rows = table.count;
	pthread_mutex_unlock(&table.mtx);
	return RC_OK;
}

/* A snapshot of the rows, taken first and handed over after. */
enum rc
db_filter_keys(struct db *db, db_filter_take_fn *take, void *arg, struct err *err)
{
	static struct chunk_key page[1000];
	(void)db;

	atomic_fetch_add(&table.readings, 1);
	pthread_mutex_lock(&table.mtx);
	size_t count = table.count;
	uint32_t *rows = malloc(count * sizeof *rows + 1);
	memcpy(rows, table.rows, count * sizeof *rows);
	bool breaks = table.fail > 0 && table.fail-- > 0;
	pthread_mutex_unlock(&table.mtx);
	if (atomic_load(&table.hold)) {
		sem_post(&table.began);
		sem_wait(&table.go);
	}
	bool going = true;
	for (size_t at = 0; going && at < count; at += 1000) {
		size_t n = count - at < 1000 ? count - at : 1000;
		for (size_t i = 0; i < n; i++)
			page[i] = (struct chunk_key){REPO, key(rows[at + i])};
		going = take(arg, page, n) && !breaks;
	}
	if (count == 0)
		going = take(arg, page, 0);
	free(rows);
	if (breaks)
		return err_set(err, RC_UNAVAILABLE, "database-unavailable", "as told");
	return going ? RC_OK : err_set(err, RC_AGAIN, NULL, "stopped");
}

/* ---- */

static char dir[] = "/tmp/t_filter.XXXXXX";
static char path[64];

static int
start_afresh(void **state)
{
	(void)state;
	table.count = 0;
	table.fail = 0;
	atomic_store(&table.hold, false);
	atomic_store(&table.readings, 0);
	unlink(path);
	return 0;
}

static struct filter *
open_filter(size_t bytes_max, bool kept)
{
	struct filter_options o = {.bytes_max = bytes_max, .path = kept ? path : NULL};
	struct err err = ERR_INIT;
	struct filter *f = NULL;

	assert_int_equal(filter_open(&o, &f, &err), RC_OK);
	assert_int_equal(filter_start(f, &err), RC_OK);
	return f;
}

static void
nap(void)
{
	struct timespec ts = {.tv_nsec = 1000000};

	nanosleep(&ts, NULL);
}

static void
wait_for_fills(struct filter *f, uint64_t fills)
{
	struct filter_stats s;

	for (filter_stats(f, &s); s.fills < fills; filter_stats(f, &s))
		nap();
}

static bool
excludes(struct filter *f, unsigned user, uint64_t n)
{
	struct sha256 h = key(n);

	filter_enter(f, user);
	bool is = filter_excludes(f, REPO, &h);
	filter_leave(f, user);
	return is;
}

/* As the committer: the key, then the row. */
static void
commit(struct filter *f, uint64_t first, uint64_t count)
{
	filter_enter(f, COMMITTER);
	for (uint64_t n = first; n < first + count; n++) {
		struct sha256 h = key(n);
		filter_add(f, REPO, &h);
		insert(n);
	}
	filter_leave(f, COMMITTER);
}

static void
expect_all(struct filter *f, uint64_t first, uint64_t count)
{
	for (uint64_t n = first; n < first + count; n++)
		assert_false(excludes(f, 0, n));
}

/* Most of what is not there is excluded. */
static void
expect_none(struct filter *f, uint64_t first, uint64_t count)
{
	uint64_t wrong = 0;

	for (uint64_t n = first; n < first + count; n++)
		wrong += !excludes(f, 0, n);
	assert_true(wrong <= count / 50);
}

static void
it_answers_when_it_is_whole(void **state)
{
	(void)state;
	struct filter_stats s;

	for (uint64_t n = 0; n < 5000; n++)
		insert(n);
	atomic_store(&table.hold, true);
	struct filter *f = open_filter(1 << 20, false);
	sem_wait(&table.began);
	filter_stats(f, &s);
	assert_false(s.ready);
	assert_int_equal(s.fills, 0);
	assert_true(s.bytes > 0);
	assert_false(excludes(f, 0, 999999)); /* who knows */
	commit(f, 5000, 1000);                /* behind the snapshot */
	atomic_store(&table.hold, false);
	sem_post(&table.go);
	wait_for_fills(f, 1);
	filter_stats(f, &s);
	assert_true(s.ready && !s.loaded && !s.limited);
	assert_true(s.keys > 5900 && s.keys <= 6000);
	assert_int_equal(s.expected, FILTER_KEYS_MIN);
	expect_all(f, 0, 6000);
	expect_none(f, 100000, 5000);
	struct sha256 h = key(1);
	filter_enter(f, 3);
	assert_true(filter_excludes(f, REPO + 1, &h));
	filter_leave(f, 3);
	filter_close(f);
	filter_close(NULL);
}

static void
it_grows(void **state)
{
	(void)state;
	struct filter *f = open_filter(8 << 20, false);
	struct filter_stats s;
	uint64_t keys = 0;

	wait_for_fills(f, 1);
	for (; keys < FILTER_KEYS_MIN + 5000; keys += 1000)
		commit(f, keys, 1000);
	wait_for_fills(f, 2);
	filter_stats(f, &s);
	assert_true(s.expected > 3 * FILTER_KEYS_MIN);
	assert_true(s.keys > FILTER_KEYS_MIN && !s.limited);
	expect_all(f, 0, keys);
	expect_none(f, ROWS_MAX, 20000);
	commit(f, keys, 1000);
	expect_all(f, keys, 1000);
	/* it is not built over and over */
	for (int i = 0; i < 50; i++)
		nap();
	assert_int_equal(atomic_load(&table.readings), 2);
	filter_close(f);
}

static void
it_stays_within_its_limit(void **state)
{
	(void)state;
	struct filter *f = open_filter(3000, false); /* for 1984 keys */
	struct filter_stats s;

	wait_for_fills(f, 1);
	filter_stats(f, &s);
	assert_int_equal(s.expected, 1984);
	assert_true(s.bytes <= 3000);
	commit(f, 0, 1500);
	filter_stats(f, &s);
	assert_false(s.limited);
	commit(f, 1500, 2000);
	filter_stats(f, &s);
	assert_true(s.limited && s.ready);
	expect_all(f, 0, 3500);
	for (int i = 0; i < 20; i++)
		nap();
	assert_int_equal(atomic_load(&table.readings), 1);
	filter_close(f);
}

static void
what_is_gone_is_forgotten(void **state)
{
	(void)state;
	struct filter *f = open_filter(1 << 20, false);

	wait_for_fills(f, 1);
	commit(f, 0, 10000);
	table.count = 6000;
	expect_all(f, 0, 10000);
	filter_keys_gone(f, 100);
	filter_keys_gone(f, 2000);
	for (int i = 0; i < 20; i++)
		nap();
	assert_int_equal(atomic_load(&table.readings), 1); /* not worth it yet */
	filter_keys_gone(f, 1900);
	wait_for_fills(f, 2);
	expect_all(f, 0, 6000);
	expect_none(f, 6000, 4000);
	table.count = 5000;
	filter_keys_gone(f, 1000); /* counted anew */
	filter_rebuild(f);
	wait_for_fills(f, 3);
	expect_none(f, 5000, 5000);
	expect_all(f, 0, 5000);
	filter_close(f);
}

static void
a_failed_filling_begins_again(void **state)
{
	(void)state;
	for (uint64_t n = 0; n < 5000; n++)
		insert(n);
	table.fail = 1;
	struct filter *f = open_filter(1 << 20, false);
	while (atomic_load(&table.readings) < 1)
		nap();
	commit(f, 5000, 100);
	wait_for_fills(f, 1);
	assert_int_equal(atomic_load(&table.readings), 2);
	expect_all(f, 0, 5100);
	/* and one that answers goes on answering */
	table.fail = 1;
	filter_rebuild(f);
	while (atomic_load(&table.readings) < 3)
		nap();
	commit(f, 5100, 100);
	expect_all(f, 0, 5200);
	expect_none(f, 100000, 1000);
	wait_for_fills(f, 2);
	expect_all(f, 0, 5200);
	filter_close(f);
}

/* A transaction that began before the filling, and whose rows become visible after the reading has
 * taken its snapshot, if that does not wait. */
static void
a_reading_waits_for_transactions(void **state)
{
	(void)state;
	struct filter *f = open_filter(1 << 20, false);
	struct sha256 h = key(77);

	wait_for_fills(f, 1);
	filter_enter(f, COMMITTER);
	filter_add(f, REPO, &h);
	filter_rebuild(f);
	for (int i = 0; i < 50; i++)
		nap();
	assert_int_equal(atomic_load(&table.readings), 1);
	insert(77);
	filter_leave(f, COMMITTER);
	wait_for_fills(f, 2);
	expect_all(f, 77, 1);
	filter_close(f);
}

/* Who has entered may ask the old one until it leaves (the sanitizers watch). */
static void
a_replaced_filter_lives_while_it_is_used(void **state)
{
	(void)state;
	struct filter *f = open_filter(1 << 20, false);
	struct sha256 h = key(5), other = key(999);

	wait_for_fills(f, 1);
	commit(f, 0, 10);
	atomic_store(&table.hold, true);
	filter_rebuild(f);
	sem_wait(&table.began);
	filter_enter(f, 4);
	assert_false(filter_excludes(f, REPO, &h));
	atomic_store(&table.hold, false);
	sem_post(&table.go);
	wait_for_fills(f, 2);
	for (int i = 0; i < 20; i++) {
		assert_false(filter_excludes(f, REPO, &h));
		assert_true(filter_excludes(f, REPO, &other));
		nap();
	}
	filter_leave(f, 4);
	expect_all(f, 0, 10);
	filter_close(f);
}

/* ---- from run to run ---- */

static void
expect_loaded(struct filter *f, bool loaded)
{
	struct filter_stats s;

	filter_stats(f, &s);
	assert_int_equal(s.loaded, loaded);
	assert_int_equal(access(path, F_OK), -1); /* good for one start */
}

static void
it_is_kept(void **state)
{
	(void)state;
	struct filter *f = open_filter(1 << 20, true);

	expect_loaded(f, false);
	wait_for_fills(f, 1);
	commit(f, 0, 3000);
	filter_close(f);
	assert_int_equal(access(path, F_OK), 0);
	for (uint64_t run = 1; run < 4; run++) {
		f = open_filter(1 << 20, true);
		expect_loaded(f, true);
		expect_all(f, 0, 3000 * run);
		expect_none(f, 100000, 3000);
		commit(f, 3000 * run, 3000);
		filter_close(f);
	}
	assert_int_equal(atomic_load(&table.readings), 1);
	/* a filter that was loaded is filled anew like any other */
	f = open_filter(1 << 20, true);
	table.count = 1000;
	filter_rebuild(f);
	wait_for_fills(f, 1);
	expect_loaded(f, false);
	expect_none(f, 1000, 9000);
	filter_close(f);
}

static void
a_stale_file_is_not_believed(void **state)
{
	(void)state;
	char aside[80];

	snprintf(aside, sizeof aside, "%s.kept", path);
	struct filter *f = open_filter(1 << 20, true);
	wait_for_fills(f, 1);
	commit(f, 0, 1000);
	filter_close(f);
	/* the file comes back after a run that crashed */
	assert_int_equal(link(path, aside), 0);
	f = open_filter(1 << 20, true);
	expect_loaded(f, true);
	commit(f, 1000, 1000);
	filter_close(f);
	unlink(path);
	assert_int_equal(rename(aside, path), 0);
	f = open_filter(1 << 20, true);
	expect_loaded(f, false);
	wait_for_fills(f, 1);
	expect_all(f, 0, 2000);
	filter_close(f);
	/* another database, or somebody else added rows */
	table.id[3] ^= 1;
	f = open_filter(1 << 20, true);
	expect_loaded(f, false);
	filter_close(f);
}

static void
what_is_not_whole_is_not_kept(void **state)
{
	(void)state;
	for (uint64_t n = 0; n < 5000; n++)
		insert(n);
	atomic_store(&table.hold, true);
	struct filter *f = open_filter(1 << 20, true);
	sem_wait(&table.began);
	atomic_store(&table.hold, false);
	table.fail = 1000;
	sem_post(&table.go);
	filter_close(f);               /* while it is being filled */
	if (access(path, F_OK) == 0) { /* it was faster */
		f = open_filter(1 << 20, true);
		expect_loaded(f, true);
		expect_all(f, 0, 5000);
		filter_close(f);
	}
	table.fail = 1000;
	unlink(path);
	f = open_filter(1 << 20, true);
	commit(f, 5000, 10);
	filter_close(f);
	assert_int_equal(access(path, F_OK), -1);
}

/* A smaller limit than that of the run before. */
static void
a_file_above_the_limit_is_not_loaded(void **state)
{
	(void)state;
	struct filter *f = open_filter(1 << 20, true);

	wait_for_fills(f, 1);
	commit(f, 0, 1000);
	filter_close(f);
	f = open_filter(3000, true);
	expect_loaded(f, false);
	wait_for_fills(f, 1);
	expect_all(f, 0, 1000);
	filter_close(f);
	/* a larger one: it is loaded, and grows if it is full */
	f = open_filter(3000, true);
	expect_loaded(f, true);
	commit(f, 1000, 2000);
	filter_close(f);
	f = open_filter(1 << 20, true);
	wait_for_fills(f, 1);
	expect_all(f, 0, 3000);
	filter_close(f);
}

/* A full disk at the end: the next run fills it. */
static void
a_filter_that_cannot_be_saved(void **state)
{
	(void)state;
	struct filter_options o = {.bytes_max = 1 << 20, .path = "/nowhere/filter"};
	struct err err = ERR_INIT;
	struct filter *f = NULL;

	assert_int_equal(filter_open(&o, &f, &err), RC_OK);
	filter_close(f); /* was not started */
	assert_int_equal(filter_open(&o, &f, &err), RC_OK);
	assert_int_equal(filter_start(f, &err), RC_OK);
	wait_for_fills(f, 1);
	filter_close(f);
}

/* ---- threads ---- */

#define ASKERS 4
#define GROUPS 400
#define GROUP  50

static struct {
	struct filter *f;
	_Atomic uint64_t committed; /* keys below it have rows */
	atomic_bool done;
	atomic_int wrong;
} race;

static void *
asker_main(void *arg)
{
	unsigned user = (unsigned)(uintptr_t)arg;
	uint64_t x = user + 1;

	while (!atomic_load(&race.done)) {
		uint64_t committed = atomic_load(&race.committed);
		if (committed == 0)
			continue;
		filter_enter(race.f, user);
		for (int i = 0; i < 20; i++) {
			x = x * 6364136223846793005u + 1442695040888963407u;
			/* the newest ones above all */
			uint64_t back = (x >> 33) % (i % 2 == 0              ? committed
							    : 60 < committed ? 60
									     : 1);
			struct sha256 h = key(committed - 1 - back);
			if (filter_excludes(race.f, REPO, &h))
				atomic_fetch_add(&race.wrong, 1);
		}
		filter_leave(race.f, user);
	}
	return NULL;
}

static void *
rebuilder_main(void *arg)
{
	(void)arg;
	while (!atomic_load(&race.done)) {
		filter_rebuild(race.f);
		nap();
	}
	return NULL;
}

static void
nothing_is_missed_while_it_is_replaced(void **state)
{
	(void)state;
	pthread_t askers[ASKERS], rebuilder;

	race.f = open_filter(1 << 20, false);
	atomic_store(&race.committed, 0);
	atomic_store(&race.done, false);
	for (uintptr_t i = 0; i < ASKERS; i++)
		assert_int_equal(pthread_create(&askers[i], NULL, asker_main, (void *)i), 0);
	assert_int_equal(pthread_create(&rebuilder, NULL, rebuilder_main, NULL), 0);
	for (uint64_t g = 0; g < GROUPS; g++) {
		filter_enter(race.f, COMMITTER);
		for (uint64_t i = 0; i < GROUP; i++) {
			struct sha256 h = key(g * GROUP + i);
			filter_add(race.f, REPO, &h);
		}
		if (g % 4 == 0)
			nap(); /* the transaction takes its time */
		for (uint64_t i = 0; i < GROUP; i++)
			insert(g * GROUP + i);
		atomic_store(&race.committed, (g + 1) * GROUP);
		filter_leave(race.f, COMMITTER);
	}
	wait_for_fills(race.f, 3);
	atomic_store(&race.done, true);
	for (int i = 0; i < ASKERS; i++)
		pthread_join(askers[i], NULL);
	pthread_join(rebuilder, NULL);
	assert_int_equal(atomic_load(&race.wrong), 0);
	expect_all(race.f, 0, GROUPS * GROUP);
	filter_close(race.f);
}

#define TEST(fn) cmocka_unit_test_setup(fn, start_afresh)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_answers_when_it_is_whole),
		TEST(it_grows),
		TEST(it_stays_within_its_limit),
		TEST(what_is_gone_is_forgotten),
		TEST(a_failed_filling_begins_again),
		TEST(a_reading_waits_for_transactions),
		TEST(a_replaced_filter_lives_while_it_is_used),
		TEST(it_is_kept),
		TEST(a_stale_file_is_not_believed),
		TEST(what_is_not_whole_is_not_kept),
		TEST(a_file_above_the_limit_is_not_loaded),
		TEST(a_filter_that_cannot_be_saved),
		TEST(nothing_is_missed_while_it_is_replaced),
	};

	alarm(HANG_SECONDS);
	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(path, sizeof path, "%s/filter", dir);
	table.rows = malloc(ROWS_MAX * sizeof *table.rows);
	sem_init(&table.began, 0, 0);
	sem_init(&table.go, 0, 0);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	rmdir(dir);
	free(table.rows);
	return failed;
}
