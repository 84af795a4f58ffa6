/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_RECIPE_H
#define DG_DB_RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "sha256.h"

/* db_recipe: rows of tables file and recipe_part. */

struct db;
struct db_tx;

#define DB_RECIPE_IDS 64 /* what one call of db_recipe_ids gives */

/* Reserve DB_RECIPE_IDS recipe ids: *first .. *first + DB_RECIPE_IDS - 1. */
enum rc db_recipe_ids(struct db *db, uint64_t *first, struct err *err);

struct recipe_part_row {
	uint64_t recipe_id;
	uint64_t start; /* byte offset in the file */
	const uint8_t *entries;
	size_t entries_bytes;
};
enum rc db_recipe_part_put(
	struct db_tx *tx, const struct recipe_part_row *rows, size_t count, struct err *err);
/* Delete the parts of these recipes. */
enum rc db_recipe_delete(
	struct db_tx *tx, const uint64_t *recipe_ids, size_t count, struct err *err);

struct file_row {
	uint64_t repo_id;
	struct sha256 id;
	uint64_t size;
	uint64_t chunks;
	uint64_t recipe_id;
	bool has_sha;
	struct sha256 sha;
};
/* Insert; a row that is there already stays (and learns sha if it had none). inserted[i] says which
 * are new. */
enum rc db_file_put(struct db_tx *tx, const struct file_row *rows, size_t count, bool *inserted,
	struct err *err);
/* RC_NOT_FOUND (kind "corrupt-data") if there is no such file. */
enum rc db_file_get(struct db *db, uint64_t repo_id, const struct sha256 *id, struct file_row *out,
	struct err *err);

/* The part of a recipe that holds byte offset, and where it begins; entries is emptied first. */
enum rc db_recipe_part_at(struct db *db, uint64_t recipe_id, uint64_t offset, uint64_t *start,
	struct buf *entries, struct err *err);

#endif
