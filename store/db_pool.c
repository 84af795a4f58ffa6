/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "cond.h"
#include "db_conn.h"
#include "log.h"
#include "rand.h"

/* The pool.
 *
 * Checkout takes the connection used last (the others may grow old and be replaced). When none is
 * free and the limit allows, the thread connects itself, outside the lock. After a failed connect
 * the pool is "down": one thread at a time may try again, not before down_until_ns, and everybody
 * else is refused at once, so that nobody queues behind a dead server. */

struct db {
	/* immutable after open */
	char *url;
	struct db_conn_options conn_options;
	unsigned connections_max;
	unsigned checkout_timeout_ms;

	/* guarded by mtx */
	pthread_mutex_t mtx;
	pthread_cond_t changed; /* a connection came back, went away, or the server did */
	struct db_conn **idle;  /* a stack */
	unsigned idle_count;
	unsigned open_count; /* idle, in use, or being made */
	bool is_down;
	bool is_probing; /* somebody is connecting while we are down */
	bool is_crowded; /* down because the server has no free connection */
	uint64_t down_until_ns;
	unsigned backoff_ms;
	struct err down_why;

	/* counters */
	atomic_uint in_use;
	atomic_ullong connects;
	atomic_ullong connect_errors;
	atomic_ullong errors;
	atomic_ullong retries;
};

uint64_t
db_jitter_ns(unsigned ms)
{
	uint64_t ns = (uint64_t)ms * 1000000;
	return ns / 2 + rand_u64() % (ns / 2 + 1);
}

static enum rc
check_options(const struct db_options *options, struct err *err)
{
	if (options->connections_max < 1 || options->connections_max > DB_CONNECTIONS_MAX)
		return err_set(err, RC_INVALID, NULL,
			"the number of database connections must be 1 to %u, not %u",
			DB_CONNECTIONS_MAX, options->connections_max);
	/* the server's settings are 31-bit milliseconds; a day is more than anybody needs */
	unsigned day_ms = 86400u * 1000u;
	if (options->connect_timeout_ms < 1 || options->connect_timeout_ms > day_ms ||
		options->statement_timeout_ms < 1 || options->statement_timeout_ms > day_ms ||
		options->checkout_timeout_ms < 1 || options->checkout_timeout_ms > day_ms)
		return err_set(
			err, RC_INVALID, NULL, "a database timeout must be 1 to %u ms", day_ms);
	return RC_OK;
}

static enum rc
check_url(const char *url, struct err *err)
{
	char *why = NULL;
	PQconninfoOption *parsed = PQconninfoParse(url, &why);

	if (parsed != NULL) {
		PQconninfoFree(parsed);
		return RC_OK;
	}
	err_set(err, RC_INVALID, "database-url-invalid", "the database URL could not be parsed");
	/* libpq may quote the whole URL, and that may hold a password */
	if (why != NULL && strstr(why, url) == NULL)
		err_detail(err, "%s", why);
	PQfreemem(why);
	return RC_INVALID;
}

enum rc
db_open(const struct db_options *options, struct db **out, struct err *err)
{
	*out = NULL;
	enum rc rc = check_options(options, err);
	if (rc == RC_OK)
		rc = check_url(options->url, err);
	if (rc != RC_OK)
		return rc;

	struct db *db = calloc(1, sizeof *db);
	if (db == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	pthread_mutex_init(&db->mtx, NULL);
	cond_init(&db->changed);
	db->url = strdup(options->url);
	db->idle = calloc(options->connections_max, sizeof *db->idle);
	if (db->url == NULL || db->idle == NULL) {
		db_free(db);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	db->connections_max = options->connections_max;
	db->checkout_timeout_ms = options->checkout_timeout_ms;
	db->conn_options = (struct db_conn_options){
		.url = db->url,
		.connect_timeout_ms = options->connect_timeout_ms,
		.statement_timeout_ms = options->statement_timeout_ms,
	};
	*out = db;
	return RC_OK;
}

void
db_free(struct db *db)
{
	if (db == NULL)
		return;
	if (db->open_count != db->idle_count)
		bug("%u database connections in use at close", db->open_count - db->idle_count);
	for (unsigned i = 0; i < db->idle_count; i++)
		db_conn_free(db->idle[i]);
	pthread_cond_destroy(&db->changed);
	pthread_mutex_destroy(&db->mtx);
	free(db->idle);
	free(db->url);
	free(db);
}

void
db_counters(struct db *db, struct db_counters *out)
{
	pthread_mutex_lock(&db->mtx);
	out->connections = db->open_count;
	pthread_mutex_unlock(&db->mtx);
	out->in_use = atomic_load(&db->in_use);
	out->connects = atomic_load(&db->connects);
	out->connect_errors = atomic_load(&db->connect_errors);
	out->errors = atomic_load(&db->errors);
	out->retries = atomic_load(&db->retries);
}

/* Called with the lock held. */
static void
note_connect_failure(struct db *db, const struct err *why)
{
	uint64_t now = clock_mono_ns();

	/* threads that failed together count as one failure */
	if (!db->is_down || now >= db->down_until_ns) {
		unsigned next_ms = db->backoff_ms * 2;
		if (next_ms < DB_BACKOFF_MIN_MS)
			next_ms = DB_BACKOFF_MIN_MS;
		db->backoff_ms = next_ms > DB_BACKOFF_MAX_MS ? DB_BACKOFF_MAX_MS : next_ms;
		db->down_until_ns = now + db_jitter_ns(db->backoff_ms);
	}
	db->is_down = true;
	db->is_crowded = err_is(why, "overloaded");
	db->down_why = *why;
	db->open_count--;
}

/* Called with the lock held, which is released while connecting. */
static enum rc
connect_one(struct db *db, struct db_conn **conn, struct err *err)
{
	struct err why = ERR_INIT;
	bool is_probe = db->is_down;

	db->open_count++;
	db->is_probing = db->is_probing || is_probe;
	pthread_mutex_unlock(&db->mtx);
	enum rc rc = db_conn_open(&db->conn_options, conn, &why);
	atomic_fetch_add(rc == RC_OK ? &db->connects : &db->connect_errors, 1);
	pthread_mutex_lock(&db->mtx);
	if (is_probe)
		db->is_probing = false;
	if (rc != RC_OK) {
		note_connect_failure(db, &why);
		*err = why;
	} else {
		db->is_down = false;
		db->backoff_ms = 0;
	}
	pthread_cond_broadcast(&db->changed);
	return rc;
}

enum next_step { STEP_TAKE_IDLE, STEP_CONNECT, STEP_WAIT, STEP_REFUSE };

/* Called with the lock held. */
static enum next_step
next_step(const struct db *db)
{
	if (db->idle_count > 0)
		return STEP_TAKE_IDLE;
	if (db->is_down && (db->is_probing || clock_mono_ns() < db->down_until_ns))
		/* a crowded server serves the connections that we have */
		return db->is_crowded && db->open_count > 0 ? STEP_WAIT : STEP_REFUSE;
	return db->open_count < db->connections_max ? STEP_CONNECT : STEP_WAIT;
}

/* Called with the lock held, which is released if the connection found is dead. */
static struct db_conn *
take_idle(struct db *db)
{
	struct db_conn *c = db->idle[--db->idle_count];

	if (db_conn_is_usable(c)) /* one poll with no time-out: no waiting */
		return c;
	pthread_mutex_unlock(&db->mtx);
	db_conn_free(c);
	pthread_mutex_lock(&db->mtx);
	db->open_count--;
	pthread_cond_signal(&db->changed);
	return NULL;
}

static enum rc
refuse(const struct db *db, struct err *err)
{
	*err = db->down_why;
	return err->rc;
}

enum rc
db_checkout(struct db *db, struct db_conn **conn, struct err *err)
{
	uint64_t deadline_ns = clock_mono_ns() + (uint64_t)db->checkout_timeout_ms * 1000000;
	enum rc rc = RC_OK;

	*conn = NULL;
	pthread_mutex_lock(&db->mtx);
	while (*conn == NULL && rc == RC_OK) {
		switch (next_step(db)) {
		case STEP_TAKE_IDLE:
			*conn = take_idle(db);
			break;
		case STEP_CONNECT:
			rc = connect_one(db, conn, err);
			break;
		case STEP_REFUSE:
			rc = refuse(db, err);
			break;
		case STEP_WAIT:
			if (cond_wait_until(&db->changed, &db->mtx, deadline_ns) == 0)
				break;
			rc = err_set(err, RC_UNAVAILABLE, "overloaded",
				"the database is overloaded, try again later");
			err_detail(err, "no connection of %u free within %u ms",
				db->connections_max, db->checkout_timeout_ms);
			break;
		}
	}
	pthread_mutex_unlock(&db->mtx);
	if (rc == RC_OK) {
		db_conn_reset(*conn);
		atomic_fetch_add(&db->in_use, 1);
	}
	return rc;
}

void
db_checkin(struct db *db, struct db_conn *c)
{
	bool is_reusable = !c->broken && PQstatus(c->pg) == CONNECTION_OK;

	if (is_reusable && PQtransactionStatus(c->pg) != PQTRANS_IDLE) {
		bug("a transaction was left open (status %d)", (int)PQtransactionStatus(c->pg));
		is_reusable = false;
	}
	c->timeout_ms = db->conn_options.statement_timeout_ms;
	atomic_fetch_sub(&db->in_use, 1);
	if (!is_reusable)
		db_conn_free(c);
	pthread_mutex_lock(&db->mtx);
	if (is_reusable)
		db->idle[db->idle_count++] = c;
	else
		db->open_count--;
	pthread_cond_signal(&db->changed);
	pthread_mutex_unlock(&db->mtx);
}

void
db_note_retry(struct db *db)
{
	atomic_fetch_add(&db->retries, 1);
}

void
db_note_error(struct db *db)
{
	atomic_fetch_add(&db->errors, 1);
}
