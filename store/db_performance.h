/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_PERFORMANCE_H
#define DG_DB_PERFORMANCE_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* db_performance: rows of table performance, one a minute. */

struct db;

#define DB_PERFORMANCE_ROWS_MAX    1440 /* a day: kept, and in one call */
#define DB_PERFORMANCE_FIGURES_MAX 256u /* of a row */

struct performance_row {
	int64_t at_us;
	const uint64_t *figures; /* borrowed: from the caller, or during the callback */
};

typedef void db_performance_fn(void *arg, const struct performance_row *row);

/* fn for the newest rows of that version with count figures (at most DB_PERFORMANCE_FIGURES_MAX),
 * oldest first, at most DB_PERFORMANCE_ROWS_MAX rows. Others are left out. Errors of the database.
 */
enum rc db_performance_load(struct db *db, int version, size_t count, db_performance_fn *fn,
	void *arg, struct err *err);
/* Add rows of count figures each, replacing those of the same time (of several with one time the
 * last counts), and delete those that are a day older than the newest or more than a day in the
 * future. At most DB_PERFORMANCE_ROWS_MAX. Errors of the database. */
enum rc db_performance_save(struct db *db, int version, size_t count,
	const struct performance_row *rows, size_t row_count, struct err *err);

#endif
