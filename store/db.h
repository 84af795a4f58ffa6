/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_H
#define DG_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

/* db: PostgreSQL as Digstore uses it: a pool of connections, transactions that are repeated when
 * the server asks for it, and prepared statements with binary parameters and results.
 *
 * A function that needs a transaction takes a struct db_tx; one that runs its own takes struct db.
 * Nothing depends on session state beyond prepared statements and timeouts, so a pooler in session
 * mode and multi-host URLs work. Every wait has a deadline: a frozen server never holds a thread
 * longer than statement_timeout_ms + DB_DEADLINE_GRACE_MS.
 *
 * Errors (rc, kind), the same for every function here; no client text holds SQL, the detail holds
 * SQLSTATE and the server's primary message:
 *   RC_UNAVAILABLE database-unavailable  no connection, lost connection, deadline, read-only server
 *   RC_UNAVAILABLE commit-unknown        lost after COMMIT was sent: done or not done, ask again
 *   RC_UNAVAILABLE overloaded            no free connection in time, timeouts, locks, deadlocks
 *   RC_FULL        disk-full             the database has no space left
 *   RC_EXISTS      database-duplicate    unique violation; the constraint's name is in the detail
 *   RC_CONFLICT    database-reference    foreign key violation
 *   RC_CORRUPT     database-corrupt      the server found damaged pages
 *   RC_DENIED      database-denied       the role lacks a privilege
 *   RC_IO          database-io           the server could not read or write its files
 *   RC_NOMEM       no-memory             here, not in the server
 *   RC_BUG         (also calls bug())    wrong SQL, wrong types, a transaction used after a failure
 *
 * Threads: struct db is for any number of threads; a struct db_tx, its results and parameters
 * belong to the one thread that runs the callback. No lock is held over I/O or callbacks. */

#define DB_PARAMS_MAX         32u                  /* parameters of one statement */
#define DB_PARAMS_BYTES_MAX   ((size_t)256u << 20) /* all parameters of one call together */
#define DB_STATEMENTS_MAX     384u                 /* different statements on one connection */
#define DB_CONNECTIONS_MAX    1000u                /* connections_max may not be above this */
#define DB_RETRIES_MAX        5u                   /* repeats after 40001 and 40P01 */
#define DB_DEADLINE_GRACE_MS  1000u  /* we wait this longer than the server's timeout */
#define DB_LOCK_TIMEOUT_MS    5000u  /* the server gives up on a lock after this */
#define DB_IDLE_IN_TX_MS      60000u /* the server ends a forgotten transaction */
#define DB_CONNECTION_LIFE_MS ((uint64_t)3600 * 1000) /* a connection is replaced after this */
#define DB_BACKOFF_MIN_MS     50u
#define DB_BACKOFF_MAX_MS     5000u

struct db;
struct db_tx;
struct db_result;
struct db_params;

struct db_options {
	const char *url;          /* libpq URI or keyword string; copied; several hosts allowed */
	unsigned connections_max; /* 1 to DB_CONNECTIONS_MAX */
	unsigned connect_timeout_ms;   /* for one host; libpq counts whole seconds and at least 2 */
	unsigned statement_timeout_ms; /* at the server, for every statement */
	unsigned checkout_timeout_ms;  /* longest wait for a free connection */
};

/* Types Digstore sends and reads; the values are PostgreSQL's type ids. */
enum db_type {
	DB_BOOL = 16,
	DB_BYTEA = 17,
	DB_INT8 = 20,
	DB_INT2 = 21,
	DB_INT4 = 23,
	DB_TEXT = 25,
	DB_TIMESTAMPTZ = 1184,
	DB_UUID = 2950,
};

/* A statement is a constant: its address identifies it, so it must live as long as the db.
 * It is prepared on a connection when that connection first needs it. */
struct db_stmt {
	const char *name;      /* unique in the program */
	const char *sql;       /* $1 … $n */
	unsigned params;       /* n */
	const uint32_t *types; /* n type ids, or NULL: the server infers them */
};

/* The callback of a transaction. It must be repeatable: db_run calls it again after a deadlock or
 * a serialization failure. After a db_ function failed it must return that failure (or its own),
 * and run nothing more. */
typedef enum rc db_tx_fn(struct db_tx *tx, void *arg, struct err *err);

/* Make a pool. Connects only when asked for the first transaction: the server may be down.
 * options is borrowed for the call. The caller owns *db.
 * RC_INVALID database-url-invalid: the URL does not parse. RC_INVALID: a number is out of range. */
enum rc db_open(const struct db_options *options, struct db **db, struct err *err);
/* Close every connection. No transaction may be running. NULL is allowed. */
void db_free(struct db *db);

/* BEGIN (READ COMMITTED), fn, COMMIT; if fn fails, ROLLBACK and fn's rc. Durable after RC_OK.
 * BEGIN and COMMIT travel with the statements next to them.
 * Repeats on 40001 and 40P01 up to DB_RETRIES_MAX times with jitter, then RC_UNAVAILABLE
 * overloaded. A connection that turns out to be dead before the server has answered, and before
 * COMMIT was sent, is replaced once and fn repeated. Blocks; never call it inside
 * fn (the pool may be empty). May return what fn returns and every error above. */
enum rc db_run(struct db *db, db_tx_fn *fn, void *arg, struct err *err);
/* As db_run, without BEGIN: each statement sees its own snapshot, and only SELECT is allowed
 * (others are a bug). A lost connection is replaced and fn repeated once. */
enum rc db_run_readonly(struct db *db, db_tx_fn *fn, void *arg, struct err *err);

/* One round trip to the server. Fails fast while the pool is backing off. */
enum rc db_ping(struct db *db, struct err *err);
/* RC_INVALID database-not-durable: the server runs with fsync, full_page_writes or
 * synchronous_commit off (or local), so a COMMIT could be lost. */
enum rc db_check_durable(struct db *db, struct err *err);

struct db_counters {
	unsigned connections;    /* open now */
	unsigned in_use;         /* of them, in a transaction now */
	uint64_t connects;       /* connections made since db_open */
	uint64_t connect_errors; /* failed attempts */
	uint64_t errors;         /* transactions that failed because of the database */
	uint64_t retries;        /* repeats of transactions, for whatever reason */
};
/* Each number is exact, together they are no snapshot. */
void db_counters(struct db *db, struct db_counters *out);

/* Run a statement with params (NULL if it has none). *out, if out is not NULL, is owned by the
 * caller until db_result_free, also past the end of the transaction. */
enum rc db_exec(struct db_tx *tx, const struct db_stmt *stmt, const struct db_params *params,
	struct db_result **out, struct err *err);
/* db_exec of a statement with db_add_numbers. *rows (may be NULL):
 * how many it gave or changed. */
enum rc db_exec_numbers(struct db_tx *tx, const struct db_stmt *stmt, const uint64_t *numbers,
	uint64_t *rows, struct err *err);
/* The same without waiting: the statement is queued, and runs when the server comes to it. What it
 * returns, apart from RC_NOMEM and mistakes in the call, is told by the next db_exec or by the end
 * of the transaction, which then fails. fn (may be NULL) is called with the number of rows, on this
 * thread, before db_run returns, if the statement was run; the transaction may fail after that, and
 * be repeated. arg is borrowed until db_run returns, params are copied. Not in db_run_readonly. */
typedef void db_later_fn(void *arg, uint64_t affected);
enum rc db_exec_later(struct db_tx *tx, const struct db_stmt *stmt, const struct db_params *params,
	db_later_fn *fn, void *arg, struct err *err);
/* Have the server begin with what is queued, while the caller does something else. */
enum rc db_push(struct db_tx *tx, struct err *err);
/* Prepare only: tells whether the statement fits the schema. Not needed before db_exec. */
enum rc db_prepare(struct db_tx *tx, const struct db_stmt *stmt, struct err *err);
/* Run several statements of trusted text, for migrations; results are dropped. Errors of the
 * script are RC_BUG without bug(). RC_BUG too if the script ended the transaction. */
enum rc db_exec_script(struct db_tx *tx, const char *sql, struct err *err);
/* For the rest of this transaction (not in db_run_readonly) the server may read whole tables where
 * it thinks that better. Otherwise it does not where there is an index: see db_conn.c. */
enum rc db_allow_scans(struct db_tx *tx, struct err *err);
/* For the rest of this transaction (not in db_run_readonly): the statement timeout and, with
 * DB_DEADLINE_GRACE_MS, our own deadline; the lock timeout. Milliseconds, not 0. */
enum rc db_set_timeouts(struct db_tx *tx, unsigned statement_ms, unsigned lock_ms, struct err *err);

/* Parameters, in order $1, $2, …; values are copied. Failure (too many, too large, no memory) is
 * sticky and reported by db_exec. The struct may be reused after db_params_clear. */
struct db_param {
	uint32_t type; /* 0 for NULL: of the type the statement wants */
	bool is_null;
	size_t at; /* offset in data */
	size_t len;
};
struct db_params {
	struct buf data;
	unsigned count;
	bool failed;
	size_t array_at; /* offset of the header of the array being built */
	uint32_t array_type;
	uint32_t array_count; /* elements so far */
	bool array_is_open;
	bool array_has_null;
	struct db_param list[DB_PARAMS_MAX];
};

void db_params_init(struct db_params *p);
void db_params_done(struct db_params *p);
/* Forget the values, keep the memory. */
void db_params_clear(struct db_params *p);
void db_add_null(struct db_params *p);
void db_add_bool(struct db_params *p, bool v);
void db_add_i16(struct db_params *p, int16_t v);
void db_add_i32(struct db_params *p, int32_t v);
void db_add_i64(struct db_params *p, int64_t v);
/* All parameters of a statement whose types it names, all of them integers. */
void db_add_numbers(struct db_params *p, const struct db_stmt *stmt, const uint64_t *numbers);
void db_add_text(struct db_params *p, const char *text, size_t len);
/* NUL-terminated text. */
void db_add_str(struct db_params *p, const char *text);
void db_add_bytea(struct db_params *p, const void *data, size_t len);
/* Microseconds since 1970, UTC. INT64_MAX is 'infinity', INT64_MIN '-infinity'. */
void db_add_timestamptz_us(struct db_params *p, int64_t unix_us);
void db_add_uuid(struct db_params *p, const uint8_t uuid[16]);

/* Arrays for unnest($1::bytea[], …); count 0 is allowed and then the pointers are not used. */
/* Items of item_len bytes, one every stride bytes from base: a field of an array of structs. */
void db_add_bytea_array(
	struct db_params *p, size_t count, const void *base, size_t stride, size_t item_len);
void db_add_bytea_list(
	struct db_params *p, size_t count, const void *const *items, const size_t *lens);
/* lens NULL: the texts are NUL-terminated. */
void db_add_text_array(
	struct db_params *p, size_t count, const char *const *texts, const size_t *lens);
void db_add_i64_array(struct db_params *p, size_t count, const int64_t *values);
/* int64_t or uint64_t, one every stride bytes from base. */
void db_add_i64_column(struct db_params *p, size_t count, const void *base, size_t stride);
void db_add_i32_array(struct db_params *p, size_t count, const int32_t *values);
void db_add_i16_array(struct db_params *p, size_t count, const int16_t *values);
/* Any other array: begin with the type of the elements (DB_BYTEA, DB_TEXT, DB_INT2, DB_INT4,
 * DB_INT8), add elements of that type, end. It is one parameter. */
void db_array_begin(struct db_params *p, enum db_type element);
void db_array_null(struct db_params *p);
void db_array_i16(struct db_params *p, int16_t v);
void db_array_i32(struct db_params *p, int32_t v);
void db_array_i64(struct db_params *p, int64_t v);
void db_array_text(struct db_params *p, const char *text, size_t len);
void db_array_bytea(struct db_params *p, const void *data, size_t len);
void db_array_end(struct db_params *p);

/* Results. A row or column out of range, another type than the column's, or a NULL that was not
 * asked for is a bug(): the getter then gives 0, "" or zero bytes. Pointers are borrowed until
 * db_result_free. */
void db_result_free(struct db_result *r);
size_t db_rows(const struct db_result *r);
/* Rows inserted, updated, deleted or selected. */
uint64_t db_affected(const struct db_result *r);
bool db_is_null(const struct db_result *r, size_t row, unsigned col);
bool db_get_bool(const struct db_result *r, size_t row, unsigned col);
int16_t db_get_i16(const struct db_result *r, size_t row, unsigned col);
int32_t db_get_i32(const struct db_result *r, size_t row, unsigned col);
int64_t db_get_i64(const struct db_result *r, size_t row, unsigned col);
/* NUL-terminated; len may be NULL. Also for varchar, bpchar, name and json columns. */
const char *db_get_text(const struct db_result *r, size_t row, unsigned col, size_t *len);
const uint8_t *db_get_bytea(const struct db_result *r, size_t row, unsigned col, size_t *len);
/* Copy a bytea of exactly len bytes, as hashes are; another length is a bug() and gives zeros. */
void db_get_bytea_into(const struct db_result *r, size_t row, unsigned col, void *out, size_t len);
void db_get_uuid(const struct db_result *r, size_t row, unsigned col, uint8_t out[16]);
/* As db_add_timestamptz_us. */
int64_t db_get_timestamptz_us(const struct db_result *r, size_t row, unsigned col);

#endif
