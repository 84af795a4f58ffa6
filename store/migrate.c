/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate.h"

#include <stdio.h>
#include <string.h>

/* The lock is a table lock inside each migration's transaction: it needs no session state and goes
 * away with the transaction, however that ends. Readers are not blocked by it. */

struct migrator {
	const struct migration *list;
	size_t count;
	size_t applied; /* the first that many are in the database */
};

static const struct db_stmt find_table = {
	.name = "migrate_find_table",
	.sql = "SELECT to_regclass('schema_migration') IS NOT NULL",
};

static const struct db_stmt create_table = {
	.name = "migrate_create_table",
	.sql = "CREATE TABLE IF NOT EXISTS schema_migration ("
	       "number integer PRIMARY KEY, "
	       "name text NOT NULL, "
	       "sha256 bytea NOT NULL CHECK (length(sha256) = 32), "
	       "applied_at timestamptz NOT NULL DEFAULT now())",
};

static const struct db_stmt list_applied = {
	.name = "migrate_list_applied",
	.sql = "SELECT number, name, sha256 FROM schema_migration ORDER BY number",
};

static const struct db_stmt lock_table = {
	.name = "migrate_lock_table",
	.sql = "LOCK TABLE schema_migration IN EXCLUSIVE MODE",
};

static const struct db_stmt insert_applied = {
	.name = "migrate_insert_applied",
	.sql = "INSERT INTO schema_migration (number, name, sha256) VALUES ($1, $2, $3)",
	.params = 3,
};

static enum rc
check_list(const struct migration *list, size_t count, struct err *err)
{
	if (count > MIGRATE_COUNT_MAX)
		return err_set(err, RC_INVALID, "schema-list", "too many migrations");
	for (size_t i = 0; i < count; i++)
		if (list[i].number != i + 1)
			return err_set(err, RC_INVALID, "schema-list",
				"migration %u stands where %zu is expected", list[i].number, i + 1);
	return RC_OK;
}

/* Row i of what is applied, against the list. */
static enum rc
check_applied(const struct migrator *m, const struct db_result *r, size_t i, struct err *err)
{
	int32_t number = db_get_i32(r, i, 0);
	const char *name = db_get_text(r, i, 1, NULL);
	uint8_t sha256[32];

	if (number < 1 || (size_t)number > m->count)
		return err_set(err, RC_CONFLICT, "schema-newer",
			"the database has migration %d (%s), this program knows migrations up to "
			"%zu: the database belongs to a newer version; nothing was changed",
			number, name, m->count);
	if ((size_t)number != i + 1)
		return err_set(err, RC_CONFLICT, "schema-gap",
			"the database has migration %d (%s) but not migration %zu; "
			"nothing was changed",
			number, name, i + 1);
	db_get_bytea_into(r, i, 2, sha256, sizeof sha256);
	if (memcmp(sha256, m->list[i].sha256, sizeof sha256) != 0)
		return err_set(err, RC_CONFLICT, "schema-changed",
			"migration %d (%s) in the database is not the migration %d (%s) of this "
			"program: their texts differ; nothing was changed",
			number, name, number, m->list[i].name);
	return RC_OK;
}

static enum rc
read_applied(struct migrator *m, struct db_tx *tx, struct err *err)
{
	struct db_result *r = NULL;
	enum rc rc = db_exec(tx, &list_applied, NULL, &r, err);

	if (rc != RC_OK)
		return rc;
	size_t rows = db_rows(r);
	/* the newest first: "newer" says more than the gap or change it may come with */
	if (rows > 0 && db_get_i32(r, rows - 1, 0) > (int32_t)m->count)
		rc = check_applied(m, r, rows - 1, err);
	for (size_t i = 0; rc == RC_OK && i < rows; i++)
		rc = check_applied(m, r, i, err);
	if (rc == RC_OK)
		m->applied = rows;
	db_result_free(r);
	return rc;
}

/* Look before locking or creating anything, so that a refusal leaves no trace. */
static enum rc
inspect(struct db_tx *tx, void *arg, struct err *err)
{
	struct migrator *m = arg;
	struct db_result *r = NULL;
	enum rc rc = db_exec(tx, &find_table, NULL, &r, err);

	if (rc != RC_OK)
		return rc;
	bool exists = db_get_bool(r, 0, 0);
	db_result_free(r);
	m->applied = 0;
	return exists ? read_applied(m, tx, err) : RC_OK;
}

static enum rc
create(struct db_tx *tx, void *arg, struct err *err)
{
	(void)arg;
	return db_exec(tx, &create_table, NULL, NULL, err);
}

/* IF NOT EXISTS does not help two servers that create at the same moment: one of them meets a
 * duplicate in the catalogue, and then the table is there. */
static enum rc
ensure_table(struct db *db, struct err *err)
{
	struct err first = ERR_INIT;
	enum rc rc = db_run(db, create, NULL, &first);

	if (rc == RC_EXISTS)
		return db_run(db, create, NULL, err);
	if (rc != RC_OK)
		*err = first;
	return rc;
}

static enum rc
record(struct db_tx *tx, const struct migration *mig, struct err *err)
{
	struct db_params p;

	db_params_init(&p);
	db_add_i32(&p, (int32_t)mig->number);
	db_add_str(&p, mig->name);
	db_add_bytea(&p, mig->sha256, sizeof mig->sha256);
	enum rc rc = db_exec(tx, &insert_applied, &p, NULL, err);
	db_params_done(&p);
	return rc;
}

static enum rc
run_script(struct db_tx *tx, const struct migration *mig, struct err *err)
{
	struct err why = ERR_INIT;

	if (db_exec_script(tx, mig->sql, &why) == RC_OK)
		return RC_OK;
	/* only what the script itself did wrong is named after it */
	if (why.rc != RC_BUG && why.rc != RC_EXISTS && why.rc != RC_CONFLICT) {
		*err = why;
		return why.rc;
	}
	err_set(err, RC_BUG, "migration-failed",
		"migration %u (%s) failed; the database is as it was before it", mig->number,
		mig->name);
	return err_detail(err, "%s", why.detail[0] != '\0' ? why.detail : why.text);
}

/* The next missing migration, whichever that is by the time we hold the lock. */
static enum rc
apply_next(struct db_tx *tx, void *arg, struct err *err)
{
	struct migrator *m = arg;

	enum rc rc = db_set_timeouts(tx, MIGRATE_STATEMENT_MS_MAX, MIGRATE_LOCK_MS_MAX, err);
	if (rc == RC_OK)
		rc = db_exec(tx, &lock_table, NULL, NULL, err);
	if (rc == RC_OK)
		rc = db_set_timeouts(tx, MIGRATE_STATEMENT_MS_MAX, DB_LOCK_TIMEOUT_MS, err);
	if (rc == RC_OK)
		rc = read_applied(m, tx, err);
	if (rc != RC_OK || m->applied == m->count)
		return rc;
	const struct migration *mig = &m->list[m->applied];
	rc = run_script(tx, mig, err);
	return rc == RC_OK ? record(tx, mig, err) : rc;
}

enum rc
migrate_run(struct db *db, const struct migration *list, size_t count, struct err *err)
{
	struct migrator m = {.list = list, .count = count};

	enum rc rc = check_list(list, count, err);
	if (rc == RC_OK)
		rc = db_run_readonly(db, inspect, &m, err);
	if (rc == RC_OK && m.applied < count)
		rc = ensure_table(db, err);
	while (rc == RC_OK && m.applied < count) {
		rc = db_run(db, apply_next, &m, err);
		m.applied++; /* the one that apply_next added, if any was missing */
	}
	return rc;
}
