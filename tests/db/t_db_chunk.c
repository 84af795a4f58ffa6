/* SPDX-License-Identifier: Apache-2.0 */
/* Chunk rows: found by hash and by place, by index whatever the planner was told; all keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>

#include "buf.h"
#include "cluster_fixture.h"
#include "db_chunk.h"
#include "db_filter.h"
#include "migrate.h"

#define MANY 45000 /* more than two pages of keys */

static struct cluster_fixture fx;

#define OK(call)                                                                                   \
	do {                                                                                       \
		struct err *e_ = &err;                                                             \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s %s (%s)", #call, rc_name(e_->rc), e_->text, e_->detail);  \
	} while (0)

/* As sha256(n::text::bytea) in SQL. */
static struct sha256
hash_of(uint64_t n)
{
	char text[24];
	struct sha256 h;

	int len = snprintf(text, sizeof text, "%llu", (unsigned long long)n);
	sha256_of(text, (size_t)len, &h);
	return h;
}

static int
empty_table(void **state)
{
	(void)state;
	fixture_sql(fx.db, "TRUNCATE chunk; UPDATE pg_class SET reltuples = -1, relpages = 0"
			   " WHERE oid = 'chunk'::regclass");
	return 0;
}

/* ---- by hash ---- */

static void
test_known(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	struct sha256 h[5];
	const struct sha256 *p[5];
	struct chunk_place places[5];

	for (uint64_t i = 0; i < 5; i++) {
		h[i] = hash_of(i < 4 ? i : 0); /* the first one twice */
		p[i] = &h[i];
	}
	fixture_sql(fx.db, "INSERT INTO chunk VALUES"
			   " (1, sha256('0'), 7, 4096, 1, 0, 1, 0, 0),"
			   " (1, sha256('1'), 8, 8192, 1, 0, 1, 0, 1),"  /* bad */
			   " (2, sha256('2'), 9, 4096, 1, 0, 1, 0, 0)"); /* another repository's */
	OK(db_chunk_known(fx.db, 1, p, 5, places, &err));
	assert_int_equal(places[0].pack_id, 7);
	assert_int_equal(places[0].frame_offset, 4096);
	assert_int_equal(places[1].pack_id, 0);
	assert_int_equal(places[2].pack_id, 0);
	assert_int_equal(places[3].pack_id, 0);
	assert_int_equal(places[4].pack_id, 7);
	OK(db_chunk_known(fx.db, 1, p, 0, places, &err));
}

static void
test_any(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	bool any = true;

	OK(db_chunk_any(fx.db, &any, &err));
	assert_false(any);
	fixture_sql(fx.db, "INSERT INTO chunk VALUES (1, sha256('0'), 7, 4096, 1, 0, 1, 0, 1)");
	OK(db_chunk_any(fx.db, &any, &err));
	assert_true(any);
}

/* ---- by place ---- */

/* Pack 5: frames at 0, 100, 200 ... of three chunks each. */
static void
fill_pack(void)
{
	fixture_sql(fx.db,
		"INSERT INTO chunk SELECT 1, sha256(i::text::bytea), 5, i / 3 * 100, 100,"
		" i % 3, 1, 0, 0 FROM generate_series(0, 29) i");
	fixture_sql(fx.db, "INSERT INTO chunk VALUES (1, sha256('x'), 6, 0, 1, 0, 1, 0, 0)");
}

static size_t
in_pack(uint64_t pack, uint64_t from, size_t limit, uint64_t *first, uint64_t *last)
{
	struct err err = ERR_INIT;
	struct chunk_in_pack *rows = NULL;
	size_t n = 99;

	OK(db_chunk_in_pack(fx.db, pack, from, limit, &rows, &n, &err));
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(rows[i].repo_id, 1);
		if (i > 0)
			assert_true(rows[i].frame_offset >= rows[i - 1].frame_offset);
	}
	if (n > 0) {
		*first = rows[0].frame_offset;
		*last = rows[n - 1].frame_offset;
	}
	free(rows);
	return n;
}

static void
test_in_pack(void **state)
{
	(void)state;
	uint64_t first = 0, last = 0;

	fill_pack();
	assert_int_equal(in_pack(5, 0, 100, &first, &last), 30);
	assert_int_equal(first, 0);
	assert_int_equal(last, 900);
	/* whole frames, however small the limit */
	assert_int_equal(in_pack(5, 0, 1, &first, &last), 3);
	assert_int_equal(in_pack(5, 100, 4, &first, &last), 6);
	assert_int_equal(first, 100);
	assert_int_equal(last, 200);
	assert_int_equal(in_pack(5, 850, 100, &first, &last), 3);
	assert_int_equal(in_pack(5, 901, 100, &first, &last), 0);
	assert_int_equal(in_pack(4, 0, 100, &first, &last), 0);
	fixture_sql(fx.db, "UPDATE chunk SET state = 1 WHERE pack_id = 5 AND frame_offset < 500");
	assert_int_equal(in_pack(5, 0, 100, &first, &last), 15);
	assert_int_equal(first, 500);
}

static void
test_mark_bad(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	struct chunk_row row = {.repo_id = 2, .pack_id = 5, .frame_offset = 300};

	fill_pack();
	OK(db_chunk_mark_bad(fx.db, &row, &err));
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM chunk WHERE state = 1"), 0);
	row.repo_id = 1;
	OK(db_chunk_mark_bad(fx.db, &row, &err));
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM chunk WHERE state = 1"), 3);
	assert_int_equal(fixture_number(fx.db, "SELECT sum(frame_offset)::bigint FROM chunk"
					       " WHERE state = 1"),
		900);
}

static void
test_pack_ends(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	const uint64_t ids[] = {4, 5, 6, 5};
	uint64_t ends[4] = {9, 9, 9, 9};

	fill_pack();
	fixture_sql(fx.db, "UPDATE chunk SET frame_bytes = 9223372036854775807 WHERE pack_id = 6");
	OK(db_chunk_pack_ends(fx.db, ids, 4, ends, &err));
	assert_int_equal(ends[0], 0);
	assert_int_equal(ends[1], 1000);
	assert_true(ends[2] == UINT64_C(1) << 40);
	assert_int_equal(ends[3], 1000);
}

/* ---- plans ---- */

struct plan {
	struct db_stmt stmt;
	struct buf text;
};

static enum rc
run_explain(struct db_tx *tx, void *arg, struct err *err)
{
	struct plan *p = arg;
	struct db_result *r = NULL;

	enum rc rc = db_exec(tx, &p->stmt, NULL, &r, err);
	for (size_t i = 0; rc == RC_OK && i < db_rows(r); i++) {
		buf_add_str(&p->text, db_get_text(r, i, 0, NULL));
		buf_add_str(&p->text, "\n");
	}
	db_result_free(r);
	return rc;
}

/* The plan that the connection keeps for a statement that was prepared there: there is one thread
 * and so one connection. Leaked, as a pool knows statements by their address. */
static const char *
plan_of(const char *name, const char *call)
{
	static char names[16][32], sql[16][128];
	static unsigned serial;
	struct err err = ERR_INIT;
	struct plan *p = calloc(1, sizeof *p);

	assert_true(serial < 16);
	snprintf(names[serial], sizeof names[0], "plan_%u", serial);
	snprintf(sql[serial], sizeof sql[0], "EXPLAIN EXECUTE %s%s", name, call);
	buf_init(&p->text, 65536);
	p->stmt = (struct db_stmt){.name = names[serial], .sql = sql[serial]};
	serial++;
	OK(db_run(fx.db, run_explain, p, &err));
	return buf_cstr(&p->text);
}

static void
use_statements(void)
{
	struct err err = ERR_INIT;
	struct sha256 h[3] = {hash_of(1), hash_of(2), hash_of(3)};
	const struct sha256 *p[3] = {&h[0], &h[1], &h[2]};
	struct chunk_row rows[3] = {{.repo_id = 1, .pack_id = 1, .frame_offset = 1}};
	struct chunk_place places[3];
	struct chunk_in_pack *in = NULL;
	uint64_t ends[1], pack = 77;
	size_t n;

	for (int i = 0; i < 8; i++) { /* from the sixth on the plan is kept */
		OK(db_chunk_known(fx.db, 1, p, 3, places, &err));
		OK(db_chunk_locate(fx.db, 1, h, 3, rows, &n, &err));
		OK(db_chunk_in_pack(fx.db, 1, 0, 10, &in, &n, &err));
		free(in);
		OK(db_chunk_pack_ends(fx.db, &pack, 1, ends, &err));
		OK(db_chunk_mark_bad(fx.db,
			&(struct chunk_row){.repo_id = 9, .pack_id = 77, .frame_offset = 1}, &err));
	}
}

static void
check_plans(void)
{
	static const struct {
		const char *name, *call, *must;
	} all[] = {
		{"chunk_known", "(1, '{}')", "AND (hash = u.hash))"},
		{"chunk_locate", "(1, '{}')", "AND (hash = u.hash))"},
		{"chunk_in_pack", "(1, 2, 3)", "using chunk_place"},
		{"chunk_pack_ends", "('{}')", "Index Cond: (pack_id = u.id)"},
		{"chunk_mark_bad", "(1, 2, 3)", "chunk_place"},
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		const char *plan = plan_of(all[i].name, all[i].call);
		if (strstr(plan, "Seq Scan") != NULL || strstr(plan, "Sort") != NULL ||
			strstr(plan, all[i].must) == NULL)
			fail_msg("%s: %s", all[i].name, plan);
	}
}

static void
fill_table(void)
{
	fixture_sql(fx.db, "INSERT INTO chunk SELECT 1, sha256(i::text::bytea), i / 1000, i * 100,"
			   " 100, 0, 1, 0, 0 FROM generate_series(1, 45000) i");
}

/* Prepared when the table was new, and used when it is large. */
static void
test_plans_of_a_new_table(void **state)
{
	(void)state;
	use_statements();
	fill_table();
	use_statements();
	check_plans();
}

/* As after everything was dropped and vacuumed away. */
static void
test_plans_of_an_emptied_table(void **state)
{
	(void)state;
	fixture_sql(fx.db, "ANALYZE chunk");
	use_statements();
	fill_table();
	use_statements();
	check_plans();
}

/* A few rows when the table was looked at, of many repositories. */
static void
test_plans_of_old_statistics(void **state)
{
	(void)state;
	fixture_sql(fx.db,
		"INSERT INTO chunk SELECT i / 10, sha256((-i)::text::bytea), 1, 0, 0, 0, 1,"
		" 0, 0 FROM generate_series(20, 3000) i");
	fixture_sql(fx.db, "ANALYZE chunk");
	use_statements();
	fill_table();
	use_statements();
	check_plans();
}

/* ---- all keys ---- */

struct seen {
	uint8_t *has; /* by number */
	size_t keys, pages, waits;
	size_t stop_after;
	sem_t *tell; /* posted when asked to wait */
};

static bool
take(void *arg, const struct chunk_key *keys, size_t count)
{
	struct seen *s = arg;

	if (count == 0) {
		s->waits++;
		if (s->tell != NULL)
			sem_post(s->tell);
		s->tell = NULL;
		return s->waits < s->stop_after;
	}
	s->pages++;
	for (size_t i = 0; i < count; i++)
		s->has[get_u64(keys[i].hash.b) % (1u << 20)]++;
	s->keys += count;
	return s->pages < s->stop_after;
}

static bool
has(const struct seen *s, uint64_t n)
{
	struct sha256 h = hash_of(n);

	return s->has[get_u64(h.b) % (1u << 20)] > 0;
}

static void
test_keys(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	struct seen s = {.has = calloc(1, 1u << 20), .stop_after = SIZE_MAX};
	uint64_t rows = 0;

	OK(db_filter_keys(fx.db, take, &s, &err));
	assert_int_equal(s.keys, 0);
	fill_table();
	fixture_sql(fx.db, "UPDATE chunk SET state = 1 WHERE pack_id = 3"); /* bad ones too */
	for (int round = 0; round < 2; round++) {
		s.keys = 0;
		memset(s.has, 0, 1u << 20);
		OK(db_filter_keys(fx.db, take, &s, &err));
		assert_int_equal(s.keys, MANY);
		for (uint64_t i = 1; i <= MANY; i++)
			assert_true(has(&s, i));
	}
	OK(db_filter_estimate(fx.db, &rows, &err));
	assert_true(rows >= MANY && rows < 2 * MANY);
	s.pages = 0;
	s.stop_after = 1;
	assert_int_equal(db_filter_keys(fx.db, take, &s, &err), RC_AGAIN);
	assert_int_equal(s.pages, 1);
	free(s.has);
}

struct slow_writer {
	pthread_t thread;
	sem_t wrote, go;
};

static enum rc
write_slowly(struct db_tx *tx, void *arg, struct err *err)
{
	struct slow_writer *w = arg;

	enum rc rc = db_exec_script(
		tx, "INSERT INTO chunk VALUES (1, sha256('99999'), 7, 4096, 1, 0, 1, 0, 1)", err);
	sem_post(&w->wrote);
	sem_wait(&w->go);
	return rc;
}

static void *
slow_writer_main(void *arg)
{
	struct err err = ERR_INIT;

	if (db_run(fx.db, write_slowly, arg, &err) != RC_OK)
		abort();
	return NULL;
}

/* A transaction that another process left running, or whose end we have not heard of. */
static void
test_keys_wait_for_writers(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	struct slow_writer w;
	struct seen s = {.has = calloc(1, 1u << 20), .stop_after = 3};

	sem_init(&w.wrote, 0, 0);
	sem_init(&w.go, 0, 0);
	fill_table();
	assert_int_equal(pthread_create(&w.thread, NULL, slow_writer_main, &w), 0);
	sem_wait(&w.wrote);
	assert_int_equal(db_filter_keys(fx.db, take, &s, &err), RC_AGAIN);
	assert_int_equal(s.pages, 0);
	assert_int_equal(s.waits, 3);
	s = (struct seen){.has = s.has, .stop_after = SIZE_MAX, .tell = &w.go};
	err_clear(&err);
	OK(db_filter_keys(fx.db, take, &s, &err));
	assert_true(s.waits > 0);
	assert_int_equal(s.keys, MANY + 1);
	assert_true(has(&s, 99999));
	pthread_join(w.thread, NULL);
	sem_destroy(&w.wrote);
	sem_destroy(&w.go);
	free(s.has);
}

static enum rc
change(struct db_tx *tx, void *arg, struct err *err)
{
	(void)arg;
	return db_filter_change(tx, err);
}

static void
test_who_writes(void **state)
{
	(void)state;
	struct err err = ERR_INIT;
	const uint8_t a[16] = {1, 2, 3}, b[16] = {4, 5, 6}, zero[16] = {0};
	uint8_t before[16];

	OK(db_filter_begin(fx.db, a, before, &err));
	assert_memory_not_equal(before, zero, 16);
	OK(db_filter_begin(fx.db, b, before, &err));
	assert_memory_equal(before, a, 16);
	OK(db_run(fx.db, change, NULL, &err));
	OK(db_filter_begin(fx.db, a, before, &err));
	assert_memory_not_equal(before, b, 16);
	assert_memory_not_equal(before, zero, 16);
	/* somebody's hand, or a restored dump without it: as good as any other id */
	fixture_sql(fx.db, "DELETE FROM chunk_writer");
	OK(db_filter_begin(fx.db, b, before, &err));
	assert_memory_equal(before, zero, 16);
	OK(db_filter_begin(fx.db, a, before, &err));
	assert_memory_equal(before, b, 16);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM chunk_writer"), 1);
}

static int
start(void **state)
{
	(void)state;
	struct err err = ERR_INIT;

	fixture_start(&fx);
	fx.db = fixture_pool(&fx, 30000);
	OK(migrate_run(fx.db, migration_list, migration_list_count, &err));
	return 0;
}

#define TEST(fn) cmocka_unit_test_setup(fn, empty_table)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_known),
		TEST(test_any),
		TEST(test_in_pack),
		TEST(test_mark_bad),
		TEST(test_pack_ends),
		TEST(test_plans_of_a_new_table),
		TEST(test_plans_of_an_emptied_table),
		TEST(test_plans_of_old_statistics),
		TEST(test_keys),
		TEST(test_keys_wait_for_writers),
		TEST(test_who_writes),
	};

	fixture_init(&fx, false);
	int failed = cmocka_run_group_tests(tests, start, NULL);
	fixture_done(&fx);
	return failed;
}
