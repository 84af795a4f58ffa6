/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_MIGRATE_H
#define DG_MIGRATE_H

#include <stddef.h>
#include <stdint.h>

#include "db.h"
#include "err.h"

/* migrate: brings the database schema to the version of this program.
 *
 * Migrations are the files migrations/NNNN_name.sql, numbered from 1 without gaps, compiled into
 * the program by store/embed_migrations.sh together with their SHA-256. Each is applied once, in
 * order, in one transaction with its line in the table schema_migration; forward only. */

#define MIGRATE_COUNT_MAX        9999u
#define MIGRATE_STATEMENT_MS_MAX (3600u * 1000u) /* a migration may rewrite a large table */
#define MIGRATE_LOCK_MS_MAX      60000u          /* wait for another server that is migrating */

struct migration {
	uint32_t number;
	const char *name; /* "init" of 0001_init.sql */
	const char *sql;  /* NUL-terminated */
	size_t sql_bytes; /* without the NUL */
	uint8_t sha256[32];
};

/* What embed_migrations.sh generated (migrations_data.c). */
extern const struct migration migration_list[];
extern const size_t migration_list_count;

/* Apply what is missing of list (count entries, numbers 1 to count). Blocks, durable; safe when
 * several servers start at once; repeat it after any failure: every migration is either applied
 * or absent.
 * RC_CONFLICT schema-newer: the database has a migration this program does not know; untouched.
 * RC_CONFLICT schema-changed: an applied migration had another text; untouched.
 * RC_CONFLICT schema-gap: an earlier migration is missing in the database; untouched.
 * RC_INVALID schema-list: list itself is not 1 to count; nothing was asked of the database.
 * RC_BUG migration-failed: a script failed; the detail has SQLSTATE and message.
 * And the errors of db.h. */
enum rc migrate_run(struct db *db, const struct migration *list, size_t count, struct err *err);

#endif
