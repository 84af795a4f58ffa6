/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "cluster_fixture.h"
#include "db.h"

static struct cluster_fixture fx;

#define assert_ok(call, err)                                                                       \
	do {                                                                                       \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s [%s]", #call, (err).text, (err).detail);                  \
	} while (0)

/* ---- types ---- */

static const struct db_stmt scalars_stmt = {
	.name = "t_scalars",
	.sql = "SELECT $1::bool, $2::int2, $3::int4, $4::int8, $5::text, $6::bytea, "
	       "$7::timestamptz, $8::uuid, $9::text, $10::varchar",
	.params = 10,
};

static const uint8_t some_uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255};

static enum rc
scalars(struct db_tx *tx, void *arg, struct err *err)
{
	struct db_params p;
	struct db_result *r;
	uint8_t uuid[16];
	uint8_t hash[3];
	size_t len;

	(void)arg;
	db_params_init(&p);
	for (int round = 0; round < 2; round++) {
		db_params_clear(&p);
		db_add_bool(&p, round == 0);
		db_add_i16(&p, round ? INT16_MIN : INT16_MAX);
		db_add_i32(&p, round ? INT32_MIN : INT32_MAX);
		db_add_i64(&p, round ? INT64_MIN : INT64_MAX);
		db_add_str(&p, round ? "" : "h\303\251llo");
		db_add_bytea(&p, "\0\377\1", round ? 0 : 3);
		db_add_timestamptz_us(&p, round ? -1 : INT64_C(1790000000123456));
		db_add_uuid(&p, some_uuid);
		db_add_null(&p);
		db_add_text(&p, "varchar!", 7);
		assert_ok(db_exec(tx, &scalars_stmt, &p, &r, err), *err);
		assert_int_equal(db_rows(r), 1);
		assert_true(db_get_bool(r, 0, 0) == (round == 0));
		assert_int_equal(db_get_i16(r, 0, 1), round ? INT16_MIN : INT16_MAX);
		assert_int_equal(db_get_i32(r, 0, 2), round ? INT32_MIN : INT32_MAX);
		assert_true(db_get_i64(r, 0, 3) == (round ? INT64_MIN : INT64_MAX));
		assert_string_equal(db_get_text(r, 0, 4, &len), round ? "" : "h\303\251llo");
		assert_int_equal(len, round ? 0 : 6);
		assert_false(db_is_null(r, 0, 4));
		assert_memory_equal(db_get_bytea(r, 0, 5, &len), "\0\377\1", round ? 0 : 3);
		assert_int_equal(len, round ? 0 : 3);
		assert_false(db_is_null(r, 0, 5));
		if (round == 0) {
			db_get_bytea_into(r, 0, 5, hash, 3);
			assert_memory_equal(hash, "\0\377\1", 3);
		}
		assert_true(
			db_get_timestamptz_us(r, 0, 6) == (round ? -1 : INT64_C(1790000000123456)));
		db_get_uuid(r, 0, 7, uuid);
		assert_memory_equal(uuid, some_uuid, 16);
		assert_true(db_is_null(r, 0, 8));
		assert_string_equal(db_get_text(r, 0, 9, NULL), "varchar");
		db_result_free(r);
	}
	db_params_done(&p);
	return RC_OK;
}

static void
test_scalars(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_ok(db_run(fx.db, scalars, NULL, &err), err);
	assert_ok(db_run_readonly(fx.db, scalars, NULL, &err), err);
	/* what the server sees, not only what comes back */
	fixture_sql(fx.db, "DO $$ BEGIN ASSERT extract(epoch from timestamptz "
			   "'2026-09-21 14:13:20.123456+00') * 1000000 = 1790000000123456; END $$");
}

static const struct db_stmt arrays_stmt = {
	.name = "t_arrays",
	.sql = "SELECT count(*), coalesce(sum(length(b)), 0), coalesce(sum(i8), 0)::int8, "
	       "coalesce(sum(i4), 0), coalesce(sum(i2), 0), coalesce(max(t), '-'), "
	       "count(*) FILTER (WHERE b IS NULL) "
	       "FROM unnest($1::bytea[], $2::int8[], $3::int4[], $4::int2[], $5::text[]) "
	       "AS u(b, i8, i4, i2, t)",
	.params = 5,
};

struct row {
	uint32_t filler;
	uint8_t hash[32];
};

struct arrays {
	size_t count;
	struct row *rows;
	int64_t *i8;
	int32_t *i4;
	int16_t *i2;
	const char **texts;
};

static enum rc
arrays(struct db_tx *tx, void *arg, struct err *err)
{
	const struct arrays *a = arg;
	struct db_params p;
	struct db_result *r;
	int64_t n = (int64_t)a->count;

	db_params_init(&p);
	db_add_bytea_array(&p, a->count, a->count ? a->rows[0].hash : NULL, sizeof(struct row), 32);
	db_add_i64_array(&p, a->count, a->i8);
	db_add_i32_array(&p, a->count, a->i4);
	db_add_i16_array(&p, a->count, a->i2);
	db_add_text_array(&p, a->count, a->texts, NULL);
	enum rc rc = db_exec(tx, &arrays_stmt, &p, &r, err);
	db_params_done(&p);
	assert_ok(rc, *err);
	assert_true(db_get_i64(r, 0, 0) == n);
	assert_true(db_get_i64(r, 0, 1) == 32 * n);
	assert_true(db_get_i64(r, 0, 2) == n * (n - 1) / 2);
	assert_true(db_get_i64(r, 0, 3) == -n);
	assert_true(db_get_i64(r, 0, 4) == 7 * n);
	assert_string_equal(db_get_text(r, 0, 5, NULL), n > 0 ? "text" : "-");
	assert_true(db_get_i64(r, 0, 6) == 0);
	db_result_free(r);
	return RC_OK;
}

static void
test_arrays(void **state)
{
	static const size_t counts[] = {0, 1, 2, 100000};
	struct err err = ERR_INIT;

	(void)state;
	for (unsigned k = 0; k < 4; k++) {
		size_t n = counts[k];
		struct arrays a = {.count = n};
		a.rows = calloc(n + 1, sizeof *a.rows);
		a.i8 = calloc(n + 1, sizeof *a.i8);
		a.i4 = calloc(n + 1, sizeof *a.i4);
		a.i2 = calloc(n + 1, sizeof *a.i2);
		a.texts = calloc(n + 1, sizeof *a.texts);
		for (size_t i = 0; i < n; i++) {
			a.i8[i] = (int64_t)i;
			a.i4[i] = -1;
			a.i2[i] = 7;
			a.texts[i] = "text";
		}
		assert_ok(db_run_readonly(fx.db, arrays, &a, &err), err);
		free(a.rows);
		free(a.i8);
		free(a.i4);
		free(a.i2);
		free(a.texts);
	}
}

static const struct db_stmt elements_stmt = {
	.name = "t_elements",
	.sql = "SELECT b, t FROM unnest($1::bytea[], $2::text[]) AS u(b, t)",
	.params = 2,
};

static enum rc
elements(struct db_tx *tx, void *arg, struct err *err)
{
	struct db_params p;
	struct db_result *r;
	const void *items[] = {"abc", "", "\0x"};
	const size_t lens[] = {3, 0, 2};
	size_t len;

	(void)arg;
	db_params_init(&p);
	db_add_bytea_list(&p, 3, items, lens);
	db_array_begin(&p, DB_TEXT);
	db_array_text(&p, "first", 5);
	db_array_null(&p);
	db_array_text(&p, "", 0);
	db_array_end(&p);
	assert_ok(db_exec(tx, &elements_stmt, &p, &r, err), *err);
	db_params_done(&p);
	assert_int_equal(db_rows(r), 3);
	assert_int_equal(db_affected(r), 3);
	assert_memory_equal(db_get_bytea(r, 0, 0, &len), "abc", 3);
	db_get_bytea(r, 1, 0, &len);
	assert_int_equal(len, 0);
	assert_memory_equal(db_get_bytea(r, 2, 0, &len), "\0x", 2);
	assert_string_equal(db_get_text(r, 0, 1, NULL), "first");
	assert_true(db_is_null(r, 1, 1));
	assert_false(db_is_null(r, 2, 1));
	db_result_free(r);
	return RC_OK;
}

static void
test_elements(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_ok(db_run_readonly(fx.db, elements, NULL, &err), err);
}

/* ---- our own mistakes are found, and do not spoil the pool ---- */

static const struct db_stmt int8_stmt = {.name = "t_int8", .sql = "SELECT $1::int8", .params = 1};
static const struct db_stmt bad_sql = {.name = "t_bad", .sql = "SELECT nonsense FROM nowhere"};
static const uint32_t int4_types[] = {DB_INT4};
static const struct db_stmt typed_stmt = {
	.name = "t_typed", .sql = "SELECT $1", .params = 1, .types = int4_types};
static const struct db_stmt insert_stmt = {
	.name = "t_insert", .sql = "INSERT INTO t (k) VALUES ($1)", .params = 1};

static const struct db_stmt copy_stmt = {.name = "t_copy", .sql = "COPY t TO STDOUT"};

struct mistake {
	const struct db_stmt *stmt;
	void (*fill)(struct db_params *p);
	bool is_readonly;
};

static void
add_i32(struct db_params *p)
{
	db_add_i32(p, 5);
}

static void
add_i64(struct db_params *p)
{
	db_add_i64(p, 5);
}

static void
add_nothing(struct db_params *p)
{
	(void)p;
}

static void
add_open_array(struct db_params *p)
{
	db_array_begin(p, DB_INT8);
}

static void
add_too_large(struct db_params *p)
{
	db_add_bytea_array(p, SIZE_MAX / 8, "", 0, 1);
}

static enum rc
make_mistake(struct db_tx *tx, void *arg, struct err *err)
{
	const struct mistake *m = arg;
	struct db_params p;

	db_params_init(&p);
	m->fill(&p);
	enum rc rc = db_exec(tx, m->stmt, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

static void
test_mistakes(void **state)
{
	static const struct mistake mistakes[] = {
		{&int8_stmt, add_i32, false},
		{&int8_stmt, add_nothing, false},
		{&int8_stmt, add_open_array, false},
		{&bad_sql, add_nothing, false},
		{&copy_stmt, add_nothing, false},
		{&typed_stmt, add_i64, false},
		{&insert_stmt, add_i64, true},
	};
	unsigned long before = bug_count();

	(void)state;
	unsetenv("DIGSTORE_ABORT_ON_BUG");
	fixture_sql(fx.db, "CREATE TABLE t (k int8 PRIMARY KEY)");
	for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
		struct err err = ERR_INIT;
		struct mistake m = mistakes[i];
		enum rc rc = m.is_readonly ? db_run_readonly(fx.db, make_mistake, &m, &err)
					   : db_run(fx.db, make_mistake, &m, &err);
		assert_int_equal(rc, RC_BUG);
		assert_true(bug_count() > before);
		assert_null(strstr(err.text, "SELECT"));
		before = bug_count();
	}
	struct err err = ERR_INIT;
	struct mistake large = {&int8_stmt, add_too_large, false};
	assert_int_equal(db_run(fx.db, make_mistake, &large, &err), RC_NOMEM);
	setenv("DIGSTORE_ABORT_ON_BUG", "1", 1);
	err_clear(&err);
	struct mistake fine = {&typed_stmt, add_i32, false};
	assert_ok(db_run(fx.db, make_mistake, &fine, &err), err);
	fixture_sql(fx.db, "DROP TABLE t");
}

static enum rc
read_wrongly(struct db_tx *tx, void *arg, struct err *err)
{
	struct db_result *r;
	struct db_params p;
	uint8_t bytes[4] = {1, 1, 1, 1};
	unsigned long before = bug_count();

	(void)arg;
	db_params_init(&p);
	db_add_i64(&p, 77);
	assert_ok(db_exec(tx, &int8_stmt, &p, &r, err), *err);
	db_params_done(&p);
	assert_int_equal(db_get_i32(r, 0, 0), 0);
	assert_string_equal(db_get_text(r, 0, 0, NULL), "");
	assert_true(db_get_i64(r, 1, 0) == 0);
	assert_true(db_get_i64(r, 0, 1) == 0);
	db_get_bytea_into(r, 0, 0, bytes, 4);
	assert_memory_equal(bytes, "\0\0\0\0", 4);
	assert_int_equal(bug_count() - before, 5);
	db_result_free(r);
	return RC_OK;
}

static void
test_wrong_reads(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	unsetenv("DIGSTORE_ABORT_ON_BUG");
	assert_ok(db_run_readonly(fx.db, read_wrongly, NULL, &err), err);
	setenv("DIGSTORE_ABORT_ON_BUG", "1", 1);
}

/* ---- transactions ---- */

struct insertion {
	int64_t key;
	enum rc then; /* what the callback answers after a successful insert */
	unsigned calls;
};

static enum rc
insert(struct db_tx *tx, void *arg, struct err *err)
{
	struct insertion *in = arg;
	struct db_params p;
	struct db_result *r;

	in->calls++;
	db_params_init(&p);
	db_add_i64(&p, in->key);
	enum rc rc = db_exec(tx, &insert_stmt, &p, &r, err);
	db_params_done(&p);
	if (rc != RC_OK)
		return rc;
	assert_int_equal(db_affected(r), 1);
	db_result_free(r);
	if (in->then != RC_OK)
		return err_set(err, in->then, "test", "refused by the test");
	return RC_OK;
}

static void
test_commit_and_rollback(void **state)
{
	struct err err = ERR_INIT;
	struct insertion in = {.key = 1};

	(void)state;
	fixture_sql(fx.db, "CREATE TABLE t (k int8 CONSTRAINT t_key PRIMARY KEY)");
	assert_ok(db_run(fx.db, insert, &in, &err), err);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM t"), 1);

	in = (struct insertion){.key = 2, .then = RC_CONFLICT};
	assert_int_equal(db_run(fx.db, insert, &in, &err), RC_CONFLICT);
	assert_string_equal(err.kind, "test");
	assert_int_equal(in.calls, 1);
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM t"), 1);

	err_clear(&err);
	in = (struct insertion){.key = 1};
	assert_int_equal(db_run(fx.db, insert, &in, &err), RC_EXISTS);
	assert_int_equal(in.calls, 1);
	assert_non_null(strstr(err.detail, "23505"));
	assert_non_null(strstr(err.detail, "t_key"));
	assert_null(strstr(err.text, "t_key"));
	assert_int_equal(fixture_number(fx.db, "SELECT count(*) FROM t"), 1);
}

static enum rc
hide_failure(struct db_tx *tx, void *arg, struct err *err)
{
	struct err hidden = ERR_INIT;

	(void)err;
	assert_int_equal(insert(tx, arg, &hidden), RC_EXISTS);
	return RC_OK;
}

static void
test_hidden_failure(void **state)
{
	struct err err = ERR_INIT;
	struct insertion in = {.key = 1};
	unsigned long before = bug_count();

	(void)state;
	unsetenv("DIGSTORE_ABORT_ON_BUG");
	assert_int_equal(db_run(fx.db, hide_failure, &in, &err), RC_BUG);
	assert_int_equal(bug_count(), before + 1);
	setenv("DIGSTORE_ABORT_ON_BUG", "1", 1);
}

static enum rc
close_transaction(struct db_tx *tx, void *arg, struct err *err)
{
	(void)arg;
	return db_exec_script(tx, "COMMIT", err);
}

static void
test_script_that_commits(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(db_run(fx.db, close_transaction, NULL, &err), RC_BUG);
	err_clear(&err);
	assert_ok(db_ping(fx.db, &err), err);
}

/* ---- deadlock ---- */

static const struct db_stmt lock_row = {
	.name = "t_lock_row", .sql = "UPDATE d SET n = n + 1 WHERE k = $1", .params = 1};

struct crossing {
	pthread_barrier_t *met;
	int64_t first, second;
	unsigned calls;
	enum rc rc;
	struct err err;
};

static enum rc
update_row(struct db_tx *tx, int64_t key, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i64(&p, key);
	enum rc rc = db_exec(tx, &lock_row, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

static enum rc
cross(struct db_tx *tx, void *arg, struct err *err)
{
	struct crossing *c = arg;

	enum rc rc = update_row(tx, c->first, err);
	/* both hold one row before either asks for the other: a certain deadlock, once */
	if (c->calls++ == 0)
		pthread_barrier_wait(c->met);
	return rc == RC_OK ? update_row(tx, c->second, err) : rc;
}

static void *
cross_thread(void *arg)
{
	struct crossing *c = arg;

	c->rc = db_run(fx.db, cross, c, &c->err);
	return NULL;
}

static void
test_deadlock_is_retried(void **state)
{
	pthread_barrier_t met;
	struct crossing c[2] = {
		{.met = &met, .first = 1, .second = 2}, {.met = &met, .first = 2, .second = 1}};
	pthread_t threads[2];
	struct db_counters before, after;

	(void)state;
	fixture_sql(fx.db, "CREATE TABLE d (k int8 PRIMARY KEY, n int8); "
			   "INSERT INTO d VALUES (1, 0), (2, 0)");
	db_counters(fx.db, &before);
	pthread_barrier_init(&met, NULL, 2);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, cross_thread, &c[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&met);
	db_counters(fx.db, &after);
	for (int i = 0; i < 2; i++)
		assert_ok(c[i].rc, c[i].err);
	assert_int_equal(c[0].calls + c[1].calls, 3);
	assert_true(after.retries == before.retries + 1);
	assert_int_equal(fixture_number(fx.db, "SELECT sum(n)::int8 FROM d"), 4);
}

static const struct db_stmt raise_stmt = {
	.name = "t_raise", .sql = "SELECT raise($1)", .params = 1};

struct raising {
	const char *sqlstate;
	unsigned calls;
};

static enum rc
raise_error(struct db_tx *tx, void *arg, struct err *err)
{
	struct raising *r = arg;
	struct db_params p;

	r->calls++;
	db_params_init(&p);
	db_add_str(&p, r->sqlstate);
	enum rc rc = db_exec(tx, &raise_stmt, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

static void
test_error_map(void **state)
{
	static const struct {
		const char *sqlstate;
		enum rc rc;
		const char *kind;
		unsigned calls;
	} map[] = {
		{"40001", RC_UNAVAILABLE, "overloaded", DB_RETRIES_MAX + 1},
		{"53100", RC_FULL, "disk-full", 1},
		{"53200", RC_UNAVAILABLE, "overloaded", 1},
		{"53300", RC_UNAVAILABLE, "overloaded", 1},
		{"57014", RC_UNAVAILABLE, "overloaded", 1},
		{"55P03", RC_UNAVAILABLE, "overloaded", 1},
		{"57P01", RC_UNAVAILABLE, "database-unavailable", 1},
		{"08006", RC_UNAVAILABLE, "database-unavailable", 1},
		{"25006", RC_UNAVAILABLE, "database-unavailable", 1},
		{"23505", RC_EXISTS, "database-duplicate", 1},
		{"23503", RC_CONFLICT, "database-reference", 1},
		{"42501", RC_DENIED, "database-denied", 1},
		{"58030", RC_IO, "database-io", 1},
		{"XX001", RC_CORRUPT, "database-corrupt", 1},
		{"XX002", RC_CORRUPT, "database-corrupt", 1},
	};

	(void)state;
	fixture_sql(fx.db, "CREATE FUNCTION raise(s text) RETURNS void LANGUAGE plpgsql AS "
			   "$$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = s; END $$");
	for (size_t i = 0; i < sizeof map / sizeof map[0]; i++) {
		struct err err = ERR_INIT;
		struct raising r = {.sqlstate = map[i].sqlstate};
		assert_int_equal(db_run(fx.db, raise_error, &r, &err), map[i].rc);
		assert_string_equal(err.kind, map[i].kind);
		assert_int_equal(r.calls, map[i].calls);
		assert_non_null(strstr(err.detail, map[i].sqlstate));
		assert_non_null(strstr(err.detail, "as asked"));
	}
	struct err err = ERR_INIT;
	struct raising r = {.sqlstate = "22012"};
	unsetenv("DIGSTORE_ABORT_ON_BUG");
	assert_int_equal(db_run(fx.db, raise_error, &r, &err), RC_BUG);
	setenv("DIGSTORE_ABORT_ON_BUG", "1", 1);
}

static int
set_up(void **state)
{
	(void)state;
	fixture_start(&fx);
	fx.db = fixture_pool(&fx, 5000);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	fixture_done(&fx);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scalars),
		cmocka_unit_test(test_arrays),
		cmocka_unit_test(test_elements),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_wrong_reads),
		cmocka_unit_test(test_commit_and_rollback),
		cmocka_unit_test(test_hidden_failure),
		cmocka_unit_test(test_script_that_commits),
		cmocka_unit_test(test_deadlock_is_retried),
		cmocka_unit_test(test_error_map),
	};

	fixture_init(&fx, false);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
