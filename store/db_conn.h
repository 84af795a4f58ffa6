/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_CONN_H
#define DG_DB_CONN_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "db.h"
#include "err.h"

/* db_conn: one connection to PostgreSQL, and the waiting with a deadline. Only for db*.c.
 * Threads: a connection belongs to one thread at a time. */

struct db_prepared;

/* What was sent in a pipeline and has no answer yet. */
#define DB_UNANSWERED_MAX 64
struct db_unanswered {
	db_later_fn *fn; /* NULL: nobody asks how many rows */
	void *arg;
};

struct db_conn {
	PGconn *pg;
	uint64_t expires_ns; /* to be replaced from then on */
	unsigned timeout_ms; /* of the server for a statement; our deadline is a grace later */
	/* What became of the last commands; only db_conn.c sets them, nothing but broken stays. */
	bool broken;    /* never use it again */
	bool lost;      /* the server went away or did not answer */
	bool timed_out; /* lost because of our deadline */
	bool retryable; /* 40001, 40P01: the transaction may be repeated */
	bool in_doubt;  /* 40003, 08007: the server does not know either */
	bool committed; /* a COMMIT was confirmed */
	struct db_prepared *prepared;
	/* a transaction's pipeline */
	bool in_pipeline;
	bool answered; /* the server has answered in this pipeline */
	unsigned unanswered_count;
	struct db_unanswered unanswered[DB_UNANSWERED_MAX];
};

struct db_conn_options {
	const char *url;
	unsigned connect_timeout_ms;
	unsigned statement_timeout_ms;
};

/* Connect and set the timeouts of the session. Blocks up to connect_timeout_ms a host. */
enum rc db_conn_open(const struct db_conn_options *options, struct db_conn **conn, struct err *err);
/* Close, without waiting for the server. NULL is allowed. */
void db_conn_free(struct db_conn *c);
/* Idle, nothing to read, not expired: cheap, and finds most connections that died in the pool. */
bool db_conn_is_usable(const struct db_conn *c);
/* Forget the outcome flags before a new transaction. */
void db_conn_reset(struct db_conn *c);

/* ---- outside of a pipeline, and in one after what is unanswered: each waits for its answer ----
 */

/* A command without result. */
enum rc db_conn_command(struct db_conn *c, const char *sql, struct err *err);
/* Simple query of several statements; their errors are no bug of the program. */
enum rc db_conn_script(struct db_conn *c, const char *sql, struct err *err);
enum rc db_conn_prepare(struct db_conn *c, const struct db_stmt *stmt, struct err *err);
/* *out is owned by the caller (PQclear). */
enum rc db_conn_exec(struct db_conn *c, const struct db_stmt *stmt, const struct db_params *params,
	PGresult **out, struct err *err);

/* ---- a pipeline: what is queued is sent and run in order, and answered later ---- */

enum rc db_conn_pipeline_enter(struct db_conn *c, struct err *err);
/* All must be answered. A connection that cannot leave is broken. */
void db_conn_pipeline_leave(struct db_conn *c);
/* Queue a command or a statement. A failure of either is that of db_conn_settle. */
enum rc db_conn_queue_command(struct db_conn *c, const char *sql, struct err *err);
enum rc db_conn_queue(struct db_conn *c, const struct db_stmt *stmt, const struct db_params *params,
	db_later_fn *fn, void *arg, struct err *err);
/* Hand to the kernel what is queued; the server starts on it. */
enum rc db_conn_push(struct db_conn *c, struct err *err);
/* Nothing has come that says that the connection ended. Does not wait. */
bool db_conn_is_alive(struct db_conn *c);
/* Wait for all answers. *last (may be NULL) is the last one's, owned by the caller. The first
 * failure counts; what was queued behind it was not run. */
enum rc db_conn_settle(struct db_conn *c, PGresult **last, struct err *err);

/* db_error.c: what a failed result means, into err and c's flags. */
enum db_error_source {
	DB_ERROR_STATEMENT,
	DB_ERROR_SCRIPT,
};
enum rc db_error_from_result(
	struct db_conn *c, const PGresult *res, enum db_error_source source, struct err *err);
/* The connection is gone, or the deadline passed (after_ms, else 0). */
enum rc db_error_lost(struct db_conn *c, unsigned after_ms, struct err *err);
/* A connection could not be made; message is libpq's. */
enum rc db_error_connect(const char *message, struct err *err);

/* db_pool.c: a connection of the pool, for one transaction; see db.h for the errors. */
enum rc db_checkout(struct db *db, struct db_conn **conn, struct err *err);
/* Give it back, outside any transaction; a broken one is closed. */
void db_checkin(struct db *db, struct db_conn *c);
void db_note_retry(struct db *db);
void db_note_error(struct db *db);
/* Between half and all of ms, so that threads that failed together do not return together. */
uint64_t db_jitter_ns(unsigned ms);

/* db_result.c: *out takes res over, also on failure. */
enum rc db_result_wrap(PGresult *res, struct db_result **out, struct err *err);

#endif
