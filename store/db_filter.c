/* SPDX-License-Identifier: Apache-2.0 */
#include "db_filter.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "db.h"

/* A transaction that writes chunk rows takes milliseconds. One that takes this long is stuck, and
 * the caller may as well begin again later. */
#define WRITERS_MS_MAX 60000u
/* Connections, and then some: see DB_CONNECTIONS_MAX. */
#define WRITERS_MAX 1024u

/* ---- who adds rows ---- */

static const struct db_stmt stmt_writer = {
	.name = "filter_writer",
	.sql = "SELECT id FROM chunk_writer FOR UPDATE",
};
static const struct db_stmt stmt_set_writer = {
	.name = "filter_set_writer",
	.sql = "INSERT INTO chunk_writer (id) VALUES ($1)"
	       " ON CONFLICT (one) DO UPDATE SET id = excluded.id",
	.params = 1,
	.types = (const uint32_t[]){DB_UUID},
};
static const struct db_stmt stmt_change_writer = {
	.name = "filter_change_writer",
	.sql = "UPDATE chunk_writer SET id = gen_random_uuid()",
};

struct begin_query {
	const uint8_t *id;
	uint8_t *before;
};

/* Two statements: the first waits for another one who begins, and sees what that one wrote. */
static enum rc
run_begin(struct db_tx *tx, void *arg, struct err *err)
{
	struct begin_query *q = arg;
	struct db_result *r = NULL;
	struct db_params p;

	enum rc rc = db_exec(tx, &stmt_writer, NULL, &r, err);
	if (rc != RC_OK)
		return rc;
	memset(q->before, 0, DB_FILTER_ID_BYTES);
	if (db_rows(r) == 1)
		db_get_uuid(r, 0, 0, q->before);
	db_result_free(r);
	db_params_init(&p);
	db_add_uuid(&p, q->id);
	rc = db_exec(tx, &stmt_set_writer, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

enum rc
db_filter_begin(struct db *db, const uint8_t id[DB_FILTER_ID_BYTES],
	uint8_t before[DB_FILTER_ID_BYTES], struct err *err)
{
	struct begin_query q = {id, before};

	return db_run(db, run_begin, &q, err);
}

enum rc
db_filter_change(struct db_tx *tx, struct err *err)
{
	return db_exec(tx, &stmt_change_writer, NULL, NULL, err);
}

/* ---- how many ---- */

/* reltuples is -1 before the first analyze and may be old; the size of the table never is. A row
 * takes 132 bytes. */
static const struct db_stmt stmt_estimate = {
	.name = "filter_estimate",
	.sql = "SELECT greatest(reltuples, pg_relation_size(oid) / 120)::bigint FROM pg_class"
	       " WHERE oid = 'chunk'::regclass",
};

static enum rc
run_estimate(struct db_tx *tx, void *arg, struct err *err)
{
	uint64_t *rows = arg;
	struct db_result *r = NULL;

	enum rc rc = db_exec(tx, &stmt_estimate, NULL, &r, err);
	if (rc == RC_OK)
		*rows = db_rows(r) == 1 ? (uint64_t)db_get_i64(r, 0, 0) : 0;
	db_result_free(r);
	return rc;
}

enum rc
db_filter_estimate(struct db *db, uint64_t *rows, struct err *err)
{
	return db_run_readonly(db, run_estimate, rows, err);
}

/* ---- transactions that were there before ---- */

struct writers {
	struct db_result *rows; /* holds the texts */
	const char *ids[WRITERS_MAX];
	size_t count;
	uint64_t left;
};

#define WRITERS                                                                                    \
	" FROM pg_locks WHERE locktype = 'relation' AND relation = 'chunk'::regclass"              \
	" AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"         \
	" AND mode = 'RowExclusiveLock' AND granted"

/* A transaction is found by the lock that its first write to the table took, and that it keeps
 * until others see what it has committed. Locking the table instead would hold everybody up who
 * comes behind us. */
static const struct db_stmt stmt_writers = {
	.name = "filter_writers",
	.sql = "SELECT virtualtransaction" WRITERS " LIMIT 1024",
};
static const struct db_stmt stmt_writers_left = {
	.name = "filter_writers_left",
	.sql = "SELECT count(*)" WRITERS " AND virtualtransaction = ANY ($1::text[])",
	.params = 1,
};

static enum rc
list_writers(struct db_tx *tx, void *arg, struct err *err)
{
	struct writers *w = arg;

	db_result_free(w->rows);
	w->rows = NULL;
	enum rc rc = db_exec(tx, &stmt_writers, NULL, &w->rows, err);
	for (w->count = 0; rc == RC_OK && w->count < db_rows(w->rows); w->count++)
		w->ids[w->count] = db_get_text(w->rows, w->count, 0, NULL);
	w->left = w->count;
	return rc;
}

static enum rc
count_left(struct db_tx *tx, void *arg, struct err *err)
{
	struct writers *w = arg;
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_text_array(&p, w->count, w->ids, NULL);
	enum rc rc = db_exec(tx, &stmt_writers_left, &p, &r, err);
	if (rc == RC_OK)
		w->left = (uint64_t)db_get_i64(r, 0, 0);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

static enum rc
stopped(struct err *err)
{
	return err_set(err, RC_AGAIN, NULL, "asked to stop");
}

static enum rc
wait_for_writers(struct db *db, db_filter_take_fn *take, void *arg, struct err *err)
{
	struct timespec nap = {.tv_nsec = (long)DB_FILTER_POLL_MS * 1000000};
	struct writers *w = calloc(1, sizeof *w);

	if (w == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	enum rc rc = db_run_readonly(db, list_writers, w, err);
	for (unsigned ms = 0; rc == RC_OK && w->left > 0; ms += DB_FILTER_POLL_MS) {
		if (ms >= WRITERS_MS_MAX)
			rc = err_set(err, RC_UNAVAILABLE, "overloaded",
				"a database transaction does not end");
		else if (!take(arg, NULL, 0))
			rc = stopped(err);
		if (rc == RC_OK) {
			nanosleep(&nap, NULL);
			rc = db_run_readonly(db, count_left, w, err);
		}
	}
	db_result_free(w->rows);
	free(w);
	return rc;
}

/* ---- all keys ---- */

/* A cursor and not pages by key: rows move between places while we read, keys come in no order that
 * is also the order on the disk, and a snapshot sees each row once, wherever it is. */
#define OPEN_CURSOR "DECLARE chunk_keys NO SCROLL CURSOR FOR SELECT repo_id, hash FROM chunk"

static const struct db_stmt stmt_fetch = {
	.name = "filter_fetch_keys",
	.sql = "FETCH FORWARD 20000 FROM chunk_keys",
};

struct keys_query {
	db_filter_take_fn *take;
	void *arg;
	struct chunk_key *page;
};

static enum rc
fetch(struct db_tx *tx, struct keys_query *q, size_t *count, struct err *err)
{
	struct db_result *r = NULL;

	enum rc rc = db_exec(tx, &stmt_fetch, NULL, &r, err);
	if (rc != RC_OK)
		return rc;
	*count = db_rows(r) < DB_FILTER_PAGE ? db_rows(r) : DB_FILTER_PAGE;
	for (size_t i = 0; i < *count; i++) {
		q->page[i].repo_id = (uint64_t)db_get_i64(r, i, 0);
		db_get_bytea_into(r, i, 1, q->page[i].hash.b, sizeof q->page[i].hash.b);
	}
	db_result_free(r);
	return RC_OK;
}

static enum rc
run_keys(struct db_tx *tx, void *arg, struct err *err)
{
	struct keys_query *q = arg;
	size_t count = 0;

	enum rc rc = db_allow_scans(tx, err);
	if (rc == RC_OK)
		rc = db_exec_script(tx, OPEN_CURSOR, err);
	do {
		if (rc == RC_OK)
			rc = fetch(tx, q, &count, err);
		if (rc == RC_OK && !q->take(q->arg, q->page, count))
			rc = stopped(err);
	} while (rc == RC_OK && count == DB_FILTER_PAGE);
	return rc;
}

enum rc
db_filter_keys(struct db *db, db_filter_take_fn *take, void *arg, struct err *err)
{
	struct keys_query q = {take, arg, malloc(DB_FILTER_PAGE * sizeof *q.page)};

	if (q.page == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	enum rc rc = wait_for_writers(db, take, arg, err);
	if (rc == RC_OK)
		rc = db_run(db, run_keys, &q, err);
	free(q.page);
	return rc;
}
