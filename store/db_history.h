/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DB_HISTORY_H
#define DG_DB_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "sha256.h"

/* db_history: rows of tables tree_node, commit, ref and idempotency, which change together in the
 * transaction of a commit. */

struct db;
struct db_tx;

#define DB_REF_NAME_BYTES 201

struct tree_node_row {
	struct sha256 hash;
	const uint8_t *data;
	size_t data_bytes;
};
/* Insert those that are not there. rows are sorted by hash. */
enum rc db_tree_node_put(struct db_tx *tx, uint64_t repo_id, const struct tree_node_row *rows,
	size_t count, struct err *err);
/* Append the node to out. RC_NOT_FOUND. */
enum rc db_tree_node_get(struct db *db, uint64_t repo_id, const struct sha256 *hash,
	struct buf *out, struct err *err);

/* Insert a commit; one that is there already (the same canonical bytes) is a success. */
struct commit_row {
	uint64_t repo_id;
	struct sha256 id;
	const struct sha256 *parent; /* NULL: none */
	struct sha256 tree;
	int64_t created_us;
	const uint8_t *canonical;
	size_t canonical_bytes;
};
enum rc db_commit_put(struct db_tx *tx, const struct commit_row *row, struct err *err);
/* canonical bytes of a commit into out (emptied first). RC_NOT_FOUND kind "commit-not-found". */
enum rc db_commit_get(
	struct db *db, uint64_t repo_id, const struct sha256 *id, struct buf *out, struct err *err);
/* Ids that lie in low..high (a prefix): up to limit into out. */
enum rc db_commit_between(struct db *db, uint64_t repo_id, const struct sha256 *low,
	const struct sha256 *high, size_t limit, struct sha256 *out, size_t *count,
	struct err *err);

struct db_ref {
	char name[DB_REF_NAME_BYTES];
	struct sha256 commit_id;
	int64_t updated_us;
};
/* RC_NOT_FOUND kind "ref-not-found". */
enum rc db_ref_get(
	struct db *db, uint64_t repo_id, const char *name, struct db_ref *out, struct err *err);
enum rc db_ref_list(struct db *db, uint64_t repo_id, const char *prefix, const char *after,
	size_t limit, struct db_ref *out, size_t *count, struct err *err);
/* Compare-and-swap in the caller's transaction. expected NULL: it must not exist. target NULL:
 * delete. *swapped false: it is something else now; then *has_head and *head say what. */
enum rc db_ref_swap(struct db_tx *tx, uint64_t repo_id, const char *name,
	const struct sha256 *expected, const struct sha256 *target, bool *swapped, bool *has_head,
	struct sha256 *head, struct err *err);
/* Whatever it was before. */
enum rc db_ref_set(struct db_tx *tx, uint64_t repo_id, const char *name,
	const struct sha256 *target, bool *existed, struct err *err);
/* Is there such a commit? In the caller's transaction. */
enum rc db_commit_exists(
	struct db_tx *tx, uint64_t repo_id, const struct sha256 *id, bool *exists, struct err *err);

/* RC_EXISTS: the key was used. */
enum rc db_idempotency_put(struct db_tx *tx, uint64_t repo_id, const char *key,
	const struct sha256 *request, int status, const uint8_t *body, size_t body_bytes,
	struct err *err);
/* RC_NOT_FOUND. body is emptied first. */
enum rc db_idempotency_get(struct db *db, uint64_t repo_id, const char *key, struct sha256 *request,
	int *status, struct buf *body, struct err *err);
/* Forget keys older than that. */
enum rc db_idempotency_expire(struct db *db, int64_t before_us, struct err *err);

/* Empty the log of a stage whose files are in a commit now. */
enum rc db_stage_log_delete(struct db_tx *tx, uint64_t stage_id, struct err *err);

#endif
