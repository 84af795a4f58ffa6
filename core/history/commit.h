/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_COMMIT_H
#define DG_COMMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "node_cache.h"
#include "repo.h"
#include "rev_cache.h"
#include "sha256.h"
#include "stage.h"
#include "tree.h"

/* commit: immutable snapshots and the refs that point at them.
 *
 * Canonical form (the id is its SHA-256), all integers little-endian:
 *   "DGSTCMT" u8 version 1
 *   tree[32], u8 parents (0 or 1), parent[32] if 1, i64 created_us, u64 files, u64 bytes,
 *   then ref, author, message, metadata, receipt, each u32 length and bytes; ref is the name the
 *   commit was made for;
 *   metadata and receipt are JSON objects with sorted keys and no white space.
 * Threads: any. All functions block on SQL. */

#define COMMIT_MESSAGE_BYTES_MAX  65536
#define COMMIT_AUTHOR_BYTES_MAX   256
#define COMMIT_METADATA_BYTES_MAX 65536
#define REF_NAME_BYTES_MAX        200

struct db;

/* What commits, refs and trees are kept in: one for the server. */
struct history {
	struct db *db;
	struct node_cache *nodes;
	struct rev_cache *revs;
	struct stages *stages;
};

/* The tree nodes of one repository, from the database through the node cache; only read. Lives
 * where it was initialised; use &x.view.store. Nothing to close. */
struct history_nodes {
	struct node_cache_view view;
	struct tree_store behind;
	struct db *db;
	uint64_t repo_id;
};
void history_nodes_init(struct history_nodes *x, struct history *h, const struct repo *repo);
/* The same for a thread that must not wait: reading answers RC_AGAIN without kind where a node is
 * not in memory. */
void history_nodes_init_now(struct history_nodes *x, struct history *h, const struct repo *repo);

struct commit {
	struct sha256 id;
	struct sha256 tree;
	bool has_parent;
	struct sha256 parent;
	int64_t created_us;
	uint64_t files;
	uint64_t bytes;
	/* NUL-terminated, borrowed from text */
	const char *ref;
	const char *author;
	const char *message;
	const char *metadata; /* JSON object */
	const char *receipt;  /* JSON object */
	struct buf canonical; /* owned */
	struct buf text;      /* owned: the texts */
};
void commit_done(struct commit *c);

enum commit_mode {
	COMMIT_MERGE,   /* staged files on top of the ref's tree */
	COMMIT_REPLACE, /* the staged files are the tree */
};

struct commit_request {
	struct stage *stage;
	const char *ref;
	const char *author;
	const char *message;
	const char *metadata; /* canonical JSON, "{}" if none */
	enum commit_mode mode;
	bool has_expected;  /* expected_parent was given */
	bool expected_none; /* … as null: the ref must not exist */
	struct sha256 expected_parent;
	bool allow_empty; /* replace with nothing */
	/* Idempotency: key NULL if none; request is a hash over all the client said. */
	const char *key;
	struct sha256 request;
	/* JSON receipt of the stage, canonical; borrowed */
	const char *receipt;
	/* Render the answer to be remembered under key; called inside the transaction, may repeat.
	 */
	enum rc (*render)(void *arg, const struct commit *c, struct buf *body, struct err *err);
	void *render_arg;
};

/* What a refused commit ran into, for the members of the problem document. */
struct commit_refusal {
	bool has_head; /* the ref exists: head is where it is */
	struct sha256 head;
	unsigned path_count; /* merge-conflict: 1; path-conflict: 2, the file first */
	char paths[2][PATH_BYTES_MAX + 1];
};

/* Make a commit and move the ref, in one transaction. *out is filled and owned by the caller.
 * RC_CONFLICT: parent-mismatch, ref-conflict (lost a race and may not be merged), merge-conflict
 * (the same path changed on the ref meanwhile), path-conflict (file and directory of one name), or
 * as stage_begin_commit; *refusal says more. RC_EXISTS kind NULL: key was used before; ask
 * history_replay. */
enum rc commit_make(struct history *h, const struct commit_request *request, struct commit *out,
	struct commit_refusal *refusal, struct err *err);

/* The answer given to key. RC_NOT_FOUND: none yet. RC_CONFLICT kind "idempotency-mismatch": the key
 * belongs to another request. */
enum rc history_replay(struct history *h, const struct repo *repo, const char *key,
	const struct sha256 *request, int *status, struct buf *body, struct err *err);

/* RC_NOT_FOUND kind "commit-not-found". */
enum rc commit_find(struct history *h, const struct repo *repo, const struct sha256 *id,
	struct commit *out, struct err *err);
/* A rev is a ref name, a commit id or a unique prefix (>= 8 digits) of one; a ref wins. *ref says
 * whether it was a ref. RC_NOT_FOUND kind "rev-not-found"; RC_INVALID kind "rev-ambiguous". */
enum rc rev_resolve(struct history *h, const struct repo *repo, const char *rev, struct commit *out,
	bool *is_ref, struct err *err);
/* The same, from memory if it is there: for those who only want to read files. */
enum rc rev_find_head(struct history *h, const struct repo *repo, const char *rev,
	struct rev_head *out, struct err *err);
/* History from a commit along its parents: fn for up to limit commits, starting with `from`.
 * *next (if *more) is the first one not given. */
enum rc commit_walk(struct history *h, const struct repo *repo, const struct sha256 *from,
	size_t limit, void (*fn)(void *arg, const struct commit *c), void *arg, struct sha256 *next,
	bool *more, struct err *err);

struct ref_row {
	char name[REF_NAME_BYTES_MAX + 1];
	struct sha256 commit_id;
	int64_t updated_us;
};
/* RC_NOT_FOUND kind "ref-not-found". */
enum rc ref_find(struct history *h, const struct repo *repo, const char *name, struct ref_row *out,
	struct err *err);
/* Names after `after`, with prefix, in byte order, up to limit. */
enum rc ref_list(struct history *h, const struct repo *repo, const char *prefix, const char *after,
	size_t limit, void (*fn)(void *arg, const struct ref_row *row), void *arg, struct err *err);
/* Compare-and-swap. expected NULL with any = false: must not exist; any = true: whatever it is.
 * RC_CONFLICT kind "ref-conflict" (*head, *has_head as in commit_make); commit-not-found. */
struct ref_change {
	const char *name;
	bool any;
	const struct sha256 *expected;
	const struct sha256 *target; /* NULL: delete */
};
enum rc ref_move(struct history *h, const struct repo *repo, const struct ref_change *change,
	struct ref_row *out, struct sha256 *head, bool *has_head, struct err *err);

#endif
