/* SPDX-License-Identifier: Apache-2.0 */
#include "db.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "db_conn.h"
#include "log.h"

/* Transactions; the connections come from db_pool.c. */

struct db_tx {
	struct db_conn *conn;
	bool is_readonly;
	bool failed;        /* a statement failed: the transaction is over */
	bool lost_at_begin; /* the connection was dead before anything ran */
};

/* Prepared, like all that runs often: parsing costs as much as running them. */
static const struct db_stmt begin_stmt = {
	.name = "db_begin",
	.sql = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
	.types = (const uint32_t[]){0},
};
static const struct db_stmt commit_stmt = {
	.name = "db_commit",
	.sql = "COMMIT",
	.types = (const uint32_t[]){0},
};

/* fn must not come back with RC_OK after a statement failed: nothing would be committed. */
static enum rc
call(struct db_tx *tx, db_tx_fn *fn, void *arg, struct err *err)
{
	enum rc rc = fn(tx, arg, err);
	if (rc != RC_OK || !tx->failed)
		return rc;
	if (!tx->conn->lost && !tx->conn->retryable)
		bug("the callback of a transaction hid a failed statement");
	return err_set(err, RC_BUG, NULL, "a database transaction was not finished");
}

static enum rc
commit(struct db_conn *c, struct err *err)
{
	struct err why = ERR_INIT;

	/* a connection that is dead before COMMIT is sent leaves no doubt */
	if (!db_conn_is_alive(c))
		return db_error_lost(c, 0, err);
	enum rc rc = db_conn_queue(c, &commit_stmt, NULL, NULL, NULL, err);
	if (rc != RC_OK)
		return rc;
	rc = db_conn_settle(c, NULL, &why);
	if (c->committed)
		return RC_OK;
	if (rc == RC_OK) { /* the server answered ROLLBACK */
		bug("COMMIT of a failed transaction");
		return err_set(err, RC_BUG, NULL, "a database transaction was not finished");
	}
	if (!c->lost && !c->in_doubt) {
		*err = why;
		return rc;
	}
	err_set(err, RC_UNAVAILABLE, "commit-unknown",
		"the database went away while it was committing; the change may have been made");
	return err_detail(err, "%s", why.detail);
}

static void
roll_back(struct db_conn *c)
{
	struct err ignored = ERR_INIT;
	/* rolling back must not forget that the failure was a retryable one */
	bool retryable = c->retryable;

	if (!c->broken && c->unanswered_count > 0)
		db_conn_settle(c, NULL, &ignored);
	if (!c->broken && db_conn_command(c, "ROLLBACK", &ignored) != RC_OK)
		c->broken = true;
	c->retryable = retryable;
}

static enum rc
run_once(struct db_tx *tx, db_tx_fn *fn, void *arg, struct err *err)
{
	struct db_conn *c = tx->conn;

	enum rc rc = db_conn_pipeline_enter(c, err);
	if (rc == RC_OK)
		rc = db_conn_queue(c, &begin_stmt, NULL, NULL, NULL, err);
	if (rc == RC_OK)
		rc = call(tx, fn, arg, err);
	/* nothing was heard of it, and COMMIT not sent: as good as never begun */
	bool never_answered = c->lost && !c->answered && !c->timed_out;
	if (rc == RC_OK) {
		rc = commit(c, err);
		never_answered = c->lost && !c->answered && !c->timed_out && err->kind != NULL &&
				 !err_is(err, "commit-unknown");
	}
	if (rc != RC_OK)
		roll_back(c);
	db_conn_pipeline_leave(c);
	tx->lost_at_begin = rc != RC_OK && never_answered;
	return rc;
}

static enum rc
run_readonly_once(struct db_tx *tx, db_tx_fn *fn, void *arg, struct err *err)
{
	enum rc rc = call(tx, fn, arg, err);
	/* whatever ran were reads, so the whole may be repeated */
	tx->lost_at_begin = rc != RC_OK && tx->conn->lost && !tx->conn->timed_out;
	return rc;
}

static void
pause_before_retry(unsigned retry)
{
	uint64_t ns = db_jitter_ns(5u << retry);
	struct timespec ts = {.tv_nsec = (long)ns};

	nanosleep(&ts, NULL);
}

static enum rc
hand_over(struct db *db, const struct err *why, enum rc rc, struct err *err)
{
	if (why->rc == RC_UNAVAILABLE || why->rc == RC_FULL || why->rc == RC_IO ||
		why->rc == RC_CORRUPT)
		db_note_error(db);
	if (err->rc == RC_OK)
		*err = *why;
	return rc;
}

static enum rc
run(struct db *db, struct db_tx *tx, db_tx_fn *fn, void *arg, struct err *err)
{
	bool reconnected = false;
	unsigned retries = 0;

	for (;;) {
		struct err why = ERR_INIT;
		enum rc rc = db_checkout(db, &tx->conn, &why);
		if (rc != RC_OK)
			return hand_over(db, &why, rc, err);
		tx->failed = tx->lost_at_begin = false;
		rc = tx->is_readonly ? run_readonly_once(tx, fn, arg, &why)
				     : run_once(tx, fn, arg, &why);
		bool is_transient = tx->conn->retryable;
		db_checkin(db, tx->conn);
		if (rc == RC_OK)
			return RC_OK;
		if (tx->lost_at_begin && !reconnected)
			reconnected = true;
		else if (is_transient && retries < DB_RETRIES_MAX)
			pause_before_retry(retries++);
		else
			return hand_over(db, &why, rc, err);
		db_note_retry(db);
	}
}

enum rc
db_run(struct db *db, db_tx_fn *fn, void *arg, struct err *err)
{
	struct db_tx tx = {.is_readonly = false};

	return run(db, &tx, fn, arg, err);
}

enum rc
db_run_readonly(struct db *db, db_tx_fn *fn, void *arg, struct err *err)
{
	struct db_tx tx = {.is_readonly = true};

	return run(db, &tx, fn, arg, err);
}

static enum rc
note_failure(struct db_tx *tx, enum rc rc)
{
	if (rc != RC_OK)
		tx->failed = true;
	return rc;
}

enum rc
db_exec(struct db_tx *tx, const struct db_stmt *stmt, const struct db_params *params,
	struct db_result **out, struct err *err)
{
	PGresult *res = NULL;

	if (out != NULL)
		*out = NULL;
	enum rc rc = db_conn_exec(tx->conn, stmt, params, &res, err);
	if (rc != RC_OK)
		return note_failure(tx, rc);
	if (tx->is_readonly && strncmp(PQcmdStatus(res), "SELECT", 6) != 0) {
		PQclear(res);
		bug("statement %s writes outside a transaction", stmt->name);
		return note_failure(
			tx, err_set(err, RC_BUG, NULL, "the database was asked in a wrong way"));
	}
	if (out == NULL) {
		PQclear(res);
		return RC_OK;
	}
	return note_failure(tx, db_result_wrap(res, out, err));
}

enum rc
db_exec_numbers(struct db_tx *tx, const struct db_stmt *stmt, const uint64_t *numbers,
	uint64_t *rows, struct err *err)
{
	struct db_result *r = NULL;
	struct db_params p;

	db_params_init(&p);
	db_add_numbers(&p, stmt, numbers);
	enum rc rc = db_exec(tx, stmt, &p, &r, err);
	if (rc == RC_OK && rows != NULL)
		*rows = db_affected(r);
	db_result_free(r);
	db_params_done(&p);
	return rc;
}

enum rc
db_exec_later(struct db_tx *tx, const struct db_stmt *stmt, const struct db_params *params,
	db_later_fn *fn, void *arg, struct err *err)
{
	if (tx->is_readonly) {
		bug("statement %s is queued outside a transaction", stmt->name);
		return note_failure(
			tx, err_set(err, RC_BUG, NULL, "the database was asked in a wrong way"));
	}
	return note_failure(tx, db_conn_queue(tx->conn, stmt, params, fn, arg, err));
}

enum rc
db_push(struct db_tx *tx, struct err *err)
{
	return note_failure(tx, db_conn_push(tx->conn, err));
}

enum rc
db_prepare(struct db_tx *tx, const struct db_stmt *stmt, struct err *err)
{
	return note_failure(tx, db_conn_prepare(tx->conn, stmt, err));
}

enum rc
db_exec_script(struct db_tx *tx, const char *sql, struct err *err)
{
	enum rc rc = db_conn_script(tx->conn, sql, err);
	if (rc == RC_OK && PQtransactionStatus(tx->conn->pg) != PQTRANS_INTRANS) {
		tx->conn->broken = true;
		rc = err_set(err, RC_BUG, NULL, "a database script ended its transaction");
	}
	return note_failure(tx, rc);
}

enum rc
db_set_timeouts(struct db_tx *tx, unsigned statement_ms, unsigned lock_ms, struct err *err)
{
	char sql[128];

	if (tx->is_readonly || statement_ms == 0 || lock_ms == 0) {
		bug("timeouts %u and %u ms cannot be set here", statement_ms, lock_ms);
		return note_failure(
			tx, err_set(err, RC_BUG, NULL, "the database was asked in a wrong way"));
	}
	snprintf(sql, sizeof sql, "SET LOCAL statement_timeout = %u", statement_ms);
	enum rc rc = db_conn_queue_command(tx->conn, sql, err);
	snprintf(sql, sizeof sql, "SET LOCAL lock_timeout = %u", lock_ms);
	if (rc == RC_OK)
		rc = db_conn_command(tx->conn, sql, err);
	if (rc == RC_OK)
		tx->conn->timeout_ms = statement_ms;
	return note_failure(tx, rc);
}

enum rc
db_allow_scans(struct db_tx *tx, struct err *err)
{
	if (tx->is_readonly) {
		bug("scans cannot be allowed here");
		return note_failure(
			tx, err_set(err, RC_BUG, NULL, "the database was asked in a wrong way"));
	}
	return note_failure(tx, db_conn_command(tx->conn, "SET LOCAL enable_seqscan = on", err));
}

static const struct db_stmt ping_stmt = {.name = "db_ping", .sql = "SELECT 1::int4"};

static enum rc
ping(struct db_tx *tx, void *arg, struct err *err)
{
	(void)arg;
	return db_exec(tx, &ping_stmt, NULL, NULL, err);
}

enum rc
db_ping(struct db *db, struct err *err)
{
	return db_run_readonly(db, ping, NULL, err);
}

static const struct db_stmt durable_stmt = {
	.name = "db_check_durable",
	.sql = "SELECT current_setting('fsync'), current_setting('full_page_writes'), "
	       "current_setting('synchronous_commit')",
};

static enum rc
check_durable(struct db_tx *tx, void *arg, struct err *err)
{
	struct db_result *r = NULL;

	(void)arg;
	enum rc rc = db_exec(tx, &durable_stmt, NULL, &r, err);
	if (rc != RC_OK)
		return rc;
	const char *fsync = db_get_text(r, 0, 0, NULL);
	const char *pages = db_get_text(r, 0, 1, NULL);
	const char *sync = db_get_text(r, 0, 2, NULL);
	if (strcmp(fsync, "on") != 0 || strcmp(pages, "on") != 0 || strcmp(sync, "off") == 0 ||
		strcmp(sync, "local") == 0)
		rc = err_set(err, RC_INVALID, "database-not-durable",
			"the database may lose what it has committed: fsync is %s, "
			"full_page_writes is %s, synchronous_commit is %s; "
			"the first two must be on, the last one on, remote_write or remote_apply",
			fsync, pages, sync);
	db_result_free(r);
	return rc;
}

enum rc
db_check_durable(struct db *db, struct err *err)
{
	return db_run_readonly(db, check_durable, NULL, err);
}
