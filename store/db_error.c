/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "db_conn.h"
#include "log.h"

/* SQLSTATE -> enum rc, in one table. The first row whose prefix fits wins. */

struct error_class {
	const char *prefix;
	enum rc rc;
	const char *kind;
	const char *text;
};

#define TEXT_AWAY     "the database is not available"
#define TEXT_OVERLOAD "the database is overloaded, try again later"

static const struct error_class classes[] = {
	{"23505", RC_EXISTS, "database-duplicate", "it exists already"},
	{"23503", RC_CONFLICT, "database-reference", "something it refers to does not exist"},
	{"40001", RC_UNAVAILABLE, "overloaded", TEXT_OVERLOAD},
	{"40P01", RC_UNAVAILABLE, "overloaded", TEXT_OVERLOAD},
	{"40003", RC_UNAVAILABLE, "database-unavailable", TEXT_AWAY},
	{"53100", RC_FULL, "disk-full", "the database has no space left"},
	{"53", RC_UNAVAILABLE, "overloaded", TEXT_OVERLOAD},
	{"55P03", RC_UNAVAILABLE, "overloaded", TEXT_OVERLOAD},
	{"57014", RC_UNAVAILABLE, "overloaded", TEXT_OVERLOAD},
	{"57P", RC_UNAVAILABLE, "database-unavailable", TEXT_AWAY},
	{"08", RC_UNAVAILABLE, "database-unavailable", TEXT_AWAY},
	{"25P03", RC_UNAVAILABLE, "database-unavailable", TEXT_AWAY},
	/* a standby: after a failover the next connection may find the primary */
	{"25006", RC_UNAVAILABLE, "database-unavailable", "the database is read-only"},
	/* a pooler gave us another session */
	{"26000", RC_UNAVAILABLE, "database-unavailable", TEXT_AWAY},
	{"28", RC_UNAVAILABLE, "database-unavailable", TEXT_AWAY},
	/* two that create the same thing at once; IF NOT EXISTS does not prevent it */
	{"42710", RC_EXISTS, "database-duplicate", "it exists already"},
	{"42P07", RC_EXISTS, "database-duplicate", "it exists already"},
	{"42501", RC_DENIED, "database-denied", "the database role lacks a privilege"},
	{"58", RC_IO, "database-io", "the database could not read or write its files"},
	{"XX001", RC_CORRUPT, "database-corrupt", "the database found damaged data"},
	{"XX002", RC_CORRUPT, "database-corrupt", "the database found damaged data"},
	{"", RC_BUG, NULL, "the database refused a statement"},
};

static const struct error_class *
classify(const char *sqlstate)
{
	const struct error_class *row = classes;
	while (strncmp(sqlstate, row->prefix, strlen(row->prefix)) != 0)
		row++;
	return row;
}

static bool
is(const char *sqlstate, const char *a, const char *b)
{
	return strcmp(sqlstate, a) == 0 || strcmp(sqlstate, b) == 0;
}

static const char *
field(const PGresult *res, int code)
{
	const char *text = PQresultErrorField(res, code);
	return text != NULL ? text : "";
}

/* A failure without SQLSTATE is libpq's own: a lost connection, no memory, or a COPY. */
static enum rc
without_sqlstate(struct db_conn *c, const PGresult *res, struct err *err)
{
	c->broken = true;
	if (PQresultStatus(res) != PGRES_FATAL_ERROR) {
		bug("a statement gave a result of kind %d", (int)PQresultStatus(res));
		return err_set(err, RC_BUG, NULL, "the database was asked in a wrong way");
	}
	if (PQstatus(c->pg) != CONNECTION_OK)
		return db_error_lost(c, 0, err);
	err_set(err, RC_NOMEM, "no-memory", "out of memory");
	return err_detail(err, "libpq: %s", PQresultErrorMessage(res));
}

enum rc
db_error_from_result(
	struct db_conn *c, const PGresult *res, enum db_error_source source, struct err *err)
{
	const char *sqlstate = field(res, PG_DIAG_SQLSTATE);
	if (sqlstate[0] == '\0')
		return without_sqlstate(c, res, err);

	const struct error_class *row = classify(sqlstate);
	const char *severity = field(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *message = field(res, PG_DIAG_MESSAGE_PRIMARY);
	const char *constraint = field(res, PG_DIAG_CONSTRAINT_NAME);

	if (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0)
		c->broken = c->lost = true;
	if (row->rc == RC_BUG || row->rc == RC_CORRUPT || is(sqlstate, "25006", "26000"))
		c->broken = true;
	c->retryable = is(sqlstate, "40001", "40P01");
	c->in_doubt = is(sqlstate, "40003", "08007");
	err_set(err, row->rc, row->kind, "%s", row->text);
	err_detail(err, "SQLSTATE %s%s%s: %s", sqlstate, constraint[0] ? " constraint " : "",
		constraint, message);
	if (row->rc == RC_BUG && source == DB_ERROR_STATEMENT)
		bug("SQLSTATE %s: %s", sqlstate, message);
	return row->rc;
}

enum rc
db_error_lost(struct db_conn *c, unsigned after_ms, struct err *err)
{
	c->broken = true;
	c->lost = true;
	err_set(err, RC_UNAVAILABLE, "database-unavailable", TEXT_AWAY);
	if (after_ms > 0)
		return err_detail(err, "no answer within %u ms, connection dropped", after_ms);
	return err_detail(err, "connection lost: %s", PQerrorMessage(c->pg));
}

enum rc
db_error_connect(const char *message, struct err *err)
{
	/* libpq gives no SQLSTATE for a refused connection. The words are those of PostgreSQL in
	 * English; another language only makes the answer less exact. */
	bool is_crowded = strstr(message, "too many clients") != NULL ||
			  strstr(message, "remaining connection slots") != NULL ||
			  strstr(message, "too many connections") != NULL;

	if (is_crowded)
		err_set(err, RC_UNAVAILABLE, "overloaded", TEXT_OVERLOAD);
	else
		err_set(err, RC_UNAVAILABLE, "database-unavailable", TEXT_AWAY);
	return err_detail(err, "connect: %s", message);
}
