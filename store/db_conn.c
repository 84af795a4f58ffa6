/* SPDX-License-Identifier: Apache-2.0 */
#include "db_conn.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "hex.h"
#include "log.h"
#include "rand.h"

/* Every command is sent and awaited without blocking in libpq, with a deadline of our own: a
 * stopped backend on a Unix socket never gives an error.
 *
 * At the deadline the connection is dropped without PQcancel, on purpose. The server's
 * statement_timeout is shorter than our deadline, so a living server has cancelled already; and
 * PQcancel itself blocks without limit when the postmaster is the one that is stopped. A COMMIT
 * that waits for a standby must not be cancelled at all. */

#define ALIVE_READS_MAX 64
#define STATEMENT_SLOTS 512u /* a power of two, above DB_STATEMENTS_MAX */

struct db_prepared {
	unsigned count;
	struct {
		const struct db_stmt *stmt;
		uint32_t types[DB_PARAMS_MAX];
	} slot[STATEMENT_SLOTS];
};

static void
ignore_notice(void *arg, const PGresult *res)
{
	(void)arg;
	(void)res;
}

static bool
is_past(uint64_t when_ns)
{
	return clock_mono_ns() >= when_ns;
}

/* Milliseconds for poll, rounded up, so that it does not spin before the deadline. */
static int
left_ms(uint64_t deadline_ns)
{
	uint64_t now = clock_mono_ns();
	if (now >= deadline_ns)
		return 0;
	uint64_t ms = (deadline_ns - now + 999999) / 1000000;
	return ms > 60000 ? 60000 : (int)ms;
}

/* Until PQgetResult would not block, also because the connection is gone; false: the deadline. */
static bool
wait_for_result(struct db_conn *c, uint64_t deadline_ns)
{
	for (;;) {
		int unsent = PQflush(c->pg);
		if (unsent < 0 || (unsent == 0 && !PQisBusy(c->pg)))
			return true;
		struct pollfd p = {.fd = PQsocket(c->pg), .events = POLLIN};
		if (p.fd < 0)
			return true;
		if (unsent > 0)
			p.events |= POLLOUT;
		int n = poll(&p, 1, left_ms(deadline_ns));
		if (n > 0 && (p.revents & ~POLLOUT) != 0 && PQconsumeInput(c->pg) == 0)
			return true;
		if (n <= 0 && is_past(deadline_ns))
			return false;
	}
}

static bool
is_error(const PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);

	return status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK &&
	       status != PGRES_EMPTY_QUERY;
}

static bool
is_copy(const PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);

	return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/* The next result, or NULL at the end of those of one statement. A lost connection is an error
 * result too; what came before it counts, above all the word COMMIT. */
static enum rc
next_result(struct db_conn *c, PGresult **out, struct err *err)
{
	unsigned wait_ms = c->timeout_ms + DB_DEADLINE_GRACE_MS;
	uint64_t deadline_ns = clock_mono_ns() + (uint64_t)wait_ms * 1000000;

	if (!wait_for_result(c, deadline_ns)) {
		c->timed_out = true;
		return db_error_lost(c, wait_ms, err);
	}
	*out = PQgetResult(c->pg);
	if (*out != NULL && strcmp(PQcmdStatus(*out), "COMMIT") == 0)
		c->committed = true;
	return RC_OK;
}

/* Take the results of what was sent: the first error, else the last one. */
static enum rc
collect(struct db_conn *c, PGresult **out, struct err *err)
{
	PGresult *kept = NULL;

	for (;;) {
		PGresult *res = NULL;
		enum rc rc = next_result(c, &res, err);
		if (rc != RC_OK) {
			PQclear(kept);
			return rc;
		}
		if (res == NULL)
			break;
		if (kept != NULL && is_error(kept)) {
			PQclear(res);
			continue;
		}
		PQclear(kept);
		kept = res;
		if (is_copy(res)) {
			c->broken = true; /* COPY would go on for ever */
			break;
		}
	}
	if (kept == NULL)
		return db_error_lost(c, 0, err);
	*out = kept;
	return RC_OK;
}

/* As collect, and an error result becomes an error. */
static enum rc
finish_simple(struct db_conn *c, enum db_error_source source, PGresult **out, struct err *err)
{
	PGresult *res = NULL;
	enum rc rc = collect(c, &res, err);
	if (rc != RC_OK)
		return rc;
	if (is_error(res))
		rc = db_error_from_result(c, res, source, err);
	else if (PQstatus(c->pg) != CONNECTION_OK)
		c->broken = c->lost = true;
	if (rc == RC_OK && out != NULL) {
		*out = res;
		res = NULL; /* handed over */
	}
	PQclear(res);
	return rc;
}

/* ---- pipelines ---- */

enum rc
db_conn_pipeline_enter(struct db_conn *c, struct err *err)
{
	if (PQenterPipelineMode(c->pg) == 0)
		return db_error_lost(c, 0, err);
	c->in_pipeline = true;
	c->answered = false;
	c->unanswered_count = 0;
	return RC_OK;
}

void
db_conn_pipeline_leave(struct db_conn *c)
{
	if (!c->in_pipeline)
		return;
	c->in_pipeline = false;
	if (!c->broken && PQexitPipelineMode(c->pg) == 0)
		c->broken = true;
}

static void
note_sent(struct db_conn *c, db_later_fn *fn, void *arg)
{
	c->unanswered[c->unanswered_count++] = (struct db_unanswered){fn, arg};
}

/* Room for one more to be sent. */
static enum rc
make_room(struct db_conn *c, struct err *err)
{
	return c->unanswered_count < DB_UNANSWERED_MAX - 1 ? RC_OK : db_conn_settle(c, NULL, err);
}

enum rc
db_conn_queue_command(struct db_conn *c, const char *sql, struct err *err)
{
	enum rc rc = make_room(c, err);

	if (rc != RC_OK)
		return rc;
	if (PQsendQueryParams(c->pg, sql, 0, NULL, NULL, NULL, NULL, 1) == 0)
		return db_error_lost(c, 0, err);
	note_sent(c, NULL, NULL);
	return RC_OK;
}

/* All results of one statement: its only one, or its error. *res is NULL if it was not run because
 * one before it failed. */
static enum rc
answer_of(struct db_conn *c, PGresult **out, struct err *err)
{
	enum rc rc = collect(c, out, err);

	if (rc != RC_OK)
		return rc;
	c->answered = true;
	if (PQresultStatus(*out) == PGRES_PIPELINE_ABORTED) {
		PQclear(*out);
		*out = NULL;
		return RC_OK;
	}
	if (!is_error(*out))
		return RC_OK;
	rc = db_error_from_result(c, *out, DB_ERROR_STATEMENT, err);
	PQclear(*out);
	*out = NULL;
	return rc;
}

/* The mark that ends what was sent. */
static enum rc
end_of_answers(struct db_conn *c, struct err *err)
{
	PGresult *res = NULL;
	enum rc rc = next_result(c, &res, err);

	if (rc == RC_OK && PQresultStatus(res) != PGRES_PIPELINE_SYNC)
		rc = db_error_lost(c, 0, err);
	PQclear(res);
	return rc;
}

static uint64_t
rows_of(PGresult *res)
{
	const char *digits = PQcmdTuples(res);
	uint64_t rows = 0;

	return parse_u64(digits, strlen(digits), &rows) ? rows : 0;
}

enum rc
db_conn_settle(struct db_conn *c, PGresult **last, struct err *err)
{
	struct err first = ERR_INIT;
	PGresult *res = NULL;
	unsigned count = c->unanswered_count;

	c->unanswered_count = 0;
	if (PQpipelineSync(c->pg) == 0)
		return db_error_lost(c, 0, err);
	for (unsigned i = 0; i < count && !c->broken; i++) {
		PQclear(res);
		res = NULL;
		struct err why = ERR_INIT;
		if (answer_of(c, &res, &why) != RC_OK && first.rc == RC_OK)
			first = why;
		if (res != NULL && c->unanswered[i].fn != NULL)
			c->unanswered[i].fn(c->unanswered[i].arg, rows_of(res));
	}
	if (!c->broken)
		end_of_answers(c, &first);
	if (first.rc == RC_OK && PQstatus(c->pg) != CONNECTION_OK)
		c->broken = c->lost = true;
	if (first.rc == RC_OK && last != NULL) {
		*last = res;
		res = NULL; /* handed over */
	}
	PQclear(res);
	if (first.rc != RC_OK)
		*err = first;
	return first.rc;
}

enum rc
db_conn_push(struct db_conn *c, struct err *err)
{
	return PQflush(c->pg) >= 0 ? RC_OK : db_error_lost(c, 0, err);
}

bool
db_conn_is_alive(struct db_conn *c)
{
	struct pollfd p = {.fd = PQsocket(c->pg), .events = POLLIN};

	if (c->broken || p.fd < 0)
		return false;
	/* answers first, a farewell, then the end: which only the read behind them finds */
	for (int i = 0; i < ALIVE_READS_MAX && poll(&p, 1, 0) > 0; i++)
		if (PQconsumeInput(c->pg) == 0)
			return false;
	return PQstatus(c->pg) == CONNECTION_OK;
}

/* ---- one at a time ---- */

/* Wait for what was just sent. */
static enum rc
finish(struct db_conn *c, enum db_error_source source, PGresult **out, struct err *err)
{
	if (!c->in_pipeline)
		return finish_simple(c, source, out, err);
	note_sent(c, NULL, NULL);
	return db_conn_settle(c, out, err);
}

enum rc
db_conn_command(struct db_conn *c, const char *sql, struct err *err)
{
	if (PQsendQueryParams(c->pg, sql, 0, NULL, NULL, NULL, NULL, 1) == 0)
		return db_error_lost(c, 0, err);
	return finish(c, DB_ERROR_STATEMENT, NULL, err);
}

/* A script is a simple query, which a pipeline does not have. */
enum rc
db_conn_script(struct db_conn *c, const char *sql, struct err *err)
{
	bool was_in = c->in_pipeline;
	enum rc rc = RC_OK;

	if (was_in)
		rc = db_conn_settle(c, NULL, err);
	if (rc != RC_OK)
		return rc;
	db_conn_pipeline_leave(c);
	if (PQsendQuery(c->pg, sql) == 0)
		rc = db_error_lost(c, 0, err);
	else
		rc = finish_simple(c, DB_ERROR_SCRIPT, NULL, err);
	if (was_in && !c->broken) {
		struct err why = ERR_INIT;
		if (db_conn_pipeline_enter(c, &why) != RC_OK && rc == RC_OK) {
			*err = why;
			rc = why.rc;
		}
		c->answered = true;
	}
	return rc;
}

/* SET after connecting, not the startup packet's options: poolers refuse those.
 *
 * Without sequential scans where there is an index: plans are kept with the connection, and one
 * that was made while a table was empty would still read all of it when it has a million rows. What
 * does read whole tables says so in its transaction. */
static enum rc
set_up_session(struct db_conn *c, unsigned statement_timeout_ms, struct err *err)
{
	char sql[256];

	snprintf(sql, sizeof sql,
		"SET statement_timeout = %u; SET lock_timeout = %u; "
		"SET idle_in_transaction_session_timeout = %u; SET client_min_messages = warning; "
		"SET enable_seqscan = off",
		statement_timeout_ms, DB_LOCK_TIMEOUT_MS, DB_IDLE_IN_TX_MS);
	return db_conn_script(c, sql, err);
}

/* A blocking connect, on purpose: only that form of libpq goes on to the next host of a multi-host
 * URL when one host does not answer in time. */
static PGconn *
connect_blocking(const struct db_conn_options *options)
{
	char seconds[16];
	unsigned s = (options->connect_timeout_ms + 999) / 1000;

	snprintf(seconds, sizeof seconds, "%u", s < 2 ? 2 : s);
	/* what stands before dbname is a default for the URL, what stands after overrides it */
	const char *const keys[] = {
		"connect_timeout", "fallback_application_name", "dbname", "client_encoding", NULL};
	const char *const values[] = {seconds, "digstore", options->url, "UTF8", NULL};
	return PQconnectdbParams(keys, values, 1);
}

static uint64_t
pick_expiry(void)
{
	/* up to a tenth earlier, so that a pool is not renewed all at once */
	uint64_t life_ms = DB_CONNECTION_LIFE_MS - rand_u64() % (DB_CONNECTION_LIFE_MS / 10);
	return clock_mono_ns() + life_ms * 1000000;
}

enum rc
db_conn_open(const struct db_conn_options *options, struct db_conn **conn, struct err *err)
{
	enum rc rc = RC_NOMEM;
	struct db_conn *c = calloc(1, sizeof *c);

	*conn = NULL;
	if (c == NULL || (c->prepared = calloc(1, sizeof *c->prepared)) == NULL)
		goto out;
	c->expires_ns = pick_expiry();
	c->timeout_ms = options->statement_timeout_ms;
	c->pg = connect_blocking(options);
	if (c->pg == NULL)
		goto out;
	if (PQstatus(c->pg) != CONNECTION_OK) {
		rc = db_error_connect(PQerrorMessage(c->pg), err);
		goto out;
	}
	PQsetNoticeReceiver(c->pg, ignore_notice, NULL);
	PQsetnonblocking(c->pg, 1);
	rc = set_up_session(c, options->statement_timeout_ms, err);
	if (rc == RC_OK) {
		db_conn_reset(c);
		*conn = c;
		c = NULL; /* handed over */
	}
out:
	db_conn_free(c);
	if (rc == RC_NOMEM)
		err_set(err, rc, "no-memory", "out of memory");
	return rc;
}

void
db_conn_free(struct db_conn *c)
{
	if (c == NULL)
		return;
	PQfinish(c->pg);
	free(c->prepared);
	free(c);
}

bool
db_conn_is_usable(const struct db_conn *c)
{
	struct pollfd p = {.fd = PQsocket(c->pg), .events = POLLIN};

	if (c->broken || PQstatus(c->pg) != CONNECTION_OK || is_past(c->expires_ns))
		return false;
	/* nobody asked anything: bytes here are a farewell or the end of the stream */
	return poll(&p, 1, 0) == 0;
}

void
db_conn_reset(struct db_conn *c)
{
	c->lost = c->timed_out = c->retryable = c->in_doubt = c->committed = false;
}

/* The slot of a statement, or the free one it would take. The table is never full. */
static unsigned
find_slot(const struct db_prepared *set, const struct db_stmt *stmt)
{
	uint64_t hash = (uint64_t)(uintptr_t)stmt * UINT64_C(0x9e3779b97f4a7c15);
	unsigned i = (unsigned)(hash >> 32) % STATEMENT_SLOTS;

	while (set->slot[i].stmt != NULL && set->slot[i].stmt != stmt)
		i = (i + 1) % STATEMENT_SLOTS;
	return i;
}

static enum rc
bug_in_call(const struct db_stmt *stmt, const char *what, struct err *err)
{
	bug("statement %s: %s", stmt->name, what);
	err_set(err, RC_BUG, NULL, "the database was asked in a wrong way");
	return err_detail(err, "statement %s: %s", stmt->name, what);
}

/* Which parameter types the server has inferred. */
static enum rc
describe(struct db_conn *c, const struct db_stmt *stmt, uint32_t *types, struct err *err)
{
	PGresult *res = NULL;

	if (PQsendDescribePrepared(c->pg, stmt->name) == 0)
		return db_error_lost(c, 0, err);
	enum rc rc = finish(c, DB_ERROR_STATEMENT, &res, err);
	if (rc != RC_OK)
		return rc;
	if (PQnparams(res) != (int)stmt->params)
		rc = bug_in_call(stmt, "the SQL has another number of parameters", err);
	for (unsigned i = 0; rc == RC_OK && i < stmt->params; i++)
		types[i] = PQparamtype(res, (int)i);
	PQclear(res);
	return rc;
}

enum rc
db_conn_prepare(struct db_conn *c, const struct db_stmt *stmt, struct err *err)
{
	unsigned i = find_slot(c->prepared, stmt);
	if (c->prepared->slot[i].stmt == stmt)
		return RC_OK;
	if (stmt->params > DB_PARAMS_MAX || c->prepared->count == DB_STATEMENTS_MAX)
		return bug_in_call(stmt, "too many parameters or statements", err);

	if (c->in_pipeline) { /* once a connection: what waits is not in its way */
		enum rc settled = db_conn_settle(c, NULL, err);
		if (settled != RC_OK)
			return settled;
	}
	uint32_t *types = c->prepared->slot[i].types;
	if (PQsendPrepare(c->pg, stmt->name, stmt->sql, stmt->types != NULL ? (int)stmt->params : 0,
		    stmt->types) == 0)
		return db_error_lost(c, 0, err);
	enum rc rc = finish(c, DB_ERROR_STATEMENT, NULL, err);
	if (rc != RC_OK)
		return rc;
	if (stmt->types != NULL)
		memcpy(types, stmt->types, stmt->params * sizeof *types);
	else if ((rc = describe(c, stmt, types, err)) != RC_OK) {
		c->broken = true; /* it is prepared, but not in our table */
		return rc;
	}
	c->prepared->slot[i].stmt = stmt;
	c->prepared->count++;
	return RC_OK;
}

/* text, varchar, bpchar, name and json look alike on the wire. */
static bool
type_fits(uint32_t given, uint32_t wanted)
{
	if (given == 0 || given == wanted)
		return true;
	return given == DB_TEXT &&
	       (wanted == 1043 || wanted == 1042 || wanted == 114 || wanted == 19);
}

static enum rc
check_params(const struct db_conn *c, const struct db_stmt *stmt, const struct db_params *params,
	struct err *err)
{
	unsigned count = params != NULL ? params->count : 0;

	if (params != NULL && !buf_ok(&params->data)) {
		err_set(err, RC_NOMEM, "no-memory", "out of memory");
		return err_detail(err, "parameters of %s: no memory or above %zu bytes", stmt->name,
			DB_PARAMS_BYTES_MAX);
	}
	if (params != NULL && (params->failed || params->array_is_open))
		return bug_in_call(stmt, "parameters badly built", err);
	if (count != stmt->params)
		return bug_in_call(stmt, "wrong number of parameters", err);
	const uint32_t *types = c->prepared->slot[find_slot(c->prepared, stmt)].types;
	for (unsigned i = 0; i < count; i++)
		if (!type_fits(params->list[i].type, types[i])) {
			char what[96];
			snprintf(what, sizeof what, "$%u wants type %u, got %u", i + 1, types[i],
				params->list[i].type);
			return bug_in_call(stmt, what, err);
		}
	return RC_OK;
}

static int
send_prepared(struct db_conn *c, const struct db_stmt *stmt, const struct db_params *params)
{
	static const int all_binary[DB_PARAMS_MAX] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
		1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
	const char *values[DB_PARAMS_MAX];
	int lens[DB_PARAMS_MAX];

	for (unsigned i = 0; i < stmt->params; i++) {
		const struct db_param *p = &params->list[i];
		/* an empty value needs a pointer too: NULL would make it SQL NULL */
		const char *at = p->len > 0 ? (const char *)params->data.data + p->at : "";
		values[i] = p->is_null ? NULL : at;
		lens[i] = (int)p->len;
	}
	return PQsendQueryPrepared(
		c->pg, stmt->name, (int)stmt->params, values, lens, all_binary, 1);
}

/* Check and send. */
static enum rc
send_statement(struct db_conn *c, const struct db_stmt *stmt, const struct db_params *params,
	struct err *err)
{
	enum rc rc = db_conn_prepare(c, stmt, err);

	if (rc == RC_OK)
		rc = check_params(c, stmt, params, err);
	if (rc == RC_OK && send_prepared(c, stmt, params) == 0)
		rc = db_error_lost(c, 0, err);
	return rc;
}

enum rc
db_conn_exec(struct db_conn *c, const struct db_stmt *stmt, const struct db_params *params,
	PGresult **out, struct err *err)
{
	enum rc rc = send_statement(c, stmt, params, err);

	return rc == RC_OK ? finish(c, DB_ERROR_STATEMENT, out, err) : rc;
}

enum rc
db_conn_queue(struct db_conn *c, const struct db_stmt *stmt, const struct db_params *params,
	db_later_fn *fn, void *arg, struct err *err)
{
	enum rc rc = make_room(c, err);

	if (rc == RC_OK)
		rc = send_statement(c, stmt, params, err);
	if (rc == RC_OK)
		note_sent(c, fn, arg);
	return rc;
}
