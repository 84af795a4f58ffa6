/* SPDX-License-Identifier: Apache-2.0 */
/* A commit is made without a lock on its ref: build the tree on the head that was read, then move
 * the ref by compare-and-swap in the transaction that inserts everything. Who loses the race builds
 * again on the new head, if merging was asked for and the other side touched none of the same
 * paths; else the loser is told the new head. */
#include "commit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "commit_form.h"
#include "db.h"
#include "db_history.h"
#include "db_stage.h"
#include "name.h"
#include "path.h"
#include "stage_internal.h"
#include "tree_diff.h"
#include "tree_edit.h"
#include "tree_node.h"

#define RACES_MAX          16
#define NODES_PER_STMT     256
#define RESPONSE_BYTES_MAX ((size_t)1 << 20)
#define UNKNOWN_TRIES      10

/* ---- tree nodes ---- */

static enum rc
nodes_get(void *arg, const struct sha256 *hash, struct buf *out, struct err *err)
{
	struct history_nodes *x = arg;

	return db_tree_node_get(x->db, x->repo_id, hash, out, err);
}

void
history_nodes_init(struct history_nodes *x, struct history *h, const struct repo *repo)
{
	x->db = h->db;
	x->repo_id = repo->id;
	x->behind = (struct tree_store){.get = nodes_get, .arg = x};
	node_cache_view_init(&x->view, h->nodes, repo->id, &x->behind);
}

static enum rc
nodes_not_here(void *arg, const struct sha256 *hash, struct buf *out, struct err *err)
{
	(void)arg;
	(void)hash;
	(void)out;
	return err_set(err, RC_AGAIN, NULL, "not without waiting for the database");
}

void
history_nodes_init_now(struct history_nodes *x, struct history *h, const struct repo *repo)
{
	history_nodes_init(x, h, repo);
	x->behind.get = nodes_not_here;
}

/* New nodes, kept until the transaction. */
struct new_nodes {
	struct tree_node_row *rows;
	size_t count, cap;
	const struct tree_store *base;
};

static enum rc
new_get(void *arg, const struct sha256 *hash, struct buf *out, struct err *err)
{
	struct new_nodes *n = arg;

	return n->base->get(n->base->arg, hash, out, err);
}

static enum rc
new_put(void *arg, const struct sha256 *hash, const uint8_t *data, size_t len, struct err *err)
{
	struct new_nodes *n = arg;

	if (n->count == n->cap) {
		size_t cap = n->cap == 0 ? 64 : n->cap * 2;
		struct tree_node_row *more = realloc(n->rows, cap * sizeof *more);
		if (more == NULL)
			return err_set(err, RC_NOMEM, "no-memory", "out of memory");
		n->rows = more;
		n->cap = cap;
	}
	uint8_t *copy = malloc(len > 0 ? len : 1);
	if (copy == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	memcpy(copy, data, len);
	n->rows[n->count++] = (struct tree_node_row){*hash, copy, len};
	return RC_OK;
}

static void
new_nodes_clear(struct new_nodes *n)
{
	for (size_t i = 0; i < n->count; i++)
		free((void *)(uintptr_t)n->rows[i].data);
	n->count = 0;
}

static int
by_hash(const void *a, const void *b)
{
	const struct tree_node_row *x = a;
	const struct tree_node_row *y = b;

	return sha256_cmp(&x->hash, &y->hash);
}

/* ---- making a commit ---- */

struct attempt {
	struct history *h;
	const struct commit_request *request;
	const struct repo *repo;
	struct new_nodes nodes;
	struct commit commit;
	bool made; /* commit is filled */
	bool has_base;
	struct rev_head base; /* the head the tree was built on */
	struct buf body;
	/* what the transaction found */
	bool swapped;
	struct commit_refusal *refusal;
};

static enum rc
write_nodes(struct db_tx *tx, struct attempt *a, struct err *err)
{
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < a->nodes.count; i += NODES_PER_STMT) {
		size_t n =
			a->nodes.count - i < NODES_PER_STMT ? a->nodes.count - i : NODES_PER_STMT;
		rc = db_tree_node_put(tx, a->repo->id, a->nodes.rows + i, n, err);
	}
	return rc;
}

static void
told_rows(void *arg, uint64_t rows)
{
	*(uint64_t *)arg = rows;
}

static enum rc
write_commit(struct db_tx *tx, void *arg, struct err *err)
{
	struct attempt *a = arg;
	const struct commit_request *q = a->request;
	struct commit *c = &a->commit;
	struct commit_row row = {
		.repo_id = a->repo->id,
		.id = c->id,
		.parent = c->has_parent ? &c->parent : NULL,
		.tree = c->tree,
		.created_us = c->created_us,
		.canonical = c->canonical.data,
		.canonical_bytes = c->canonical.len,
	};

	/* the key first: of two equal requests the second waits here and then knows the answer */
	if (q->key != NULL) {
		buf_clear(&a->body);
		enum rc put = q->render(q->render_arg, c, &a->body, err);
		if (put == RC_OK)
			put = db_idempotency_put(tx, a->repo->id, q->key, &q->request, 201,
				a->body.data, a->body.len, err);
		if (put != RC_OK)
			return put;
	}
	uint64_t closed = 0;
	enum rc rc = write_nodes(tx, a, err);
	if (rc == RC_OK)
		rc = db_commit_put(tx, &row, err);
	if (rc == RC_OK)
		rc = db_stage_set_state(
			tx, stage_id(q->stage), STAGE_COMMITTED, &c->id, told_rows, &closed, err);
	if (rc == RC_OK)
		rc = db_stage_log_delete(tx, stage_id(q->stage), err);
	/* the first that waits for an answer: all before it have theirs then */
	if (rc == RC_OK)
		rc = db_ref_swap(tx, a->repo->id, q->ref, a->has_base ? &a->base.id : NULL, &c->id,
			&a->swapped, &a->refusal->has_head, &a->refusal->head, err);
	if (rc == RC_OK && !a->swapped)
		return err_set(
			err, RC_CONFLICT, "ref-conflict", "ref \"%s\" moved meanwhile", q->ref);
	if (rc == RC_OK && closed != 1)
		return err_set(
			err, RC_CONFLICT, "stage-committed", "the stage is not open any more");
	return rc;
}

static bool
is_unknown(enum rc rc, const struct err *err)
{
	return rc == RC_UNAVAILABLE && err_is(err, "commit-unknown");
}

/* Did the commit whose COMMIT got no answer happen? */
static bool
happened_after_all(struct attempt *a)
{
	for (int i = 0; i < UNKNOWN_TRIES; i++) {
		struct err err = ERR_INIT;
		struct buf b;
		buf_init(&b, RESPONSE_BYTES_MAX);
		enum rc rc = db_commit_get(a->h->db, a->repo->id, &a->commit.id, &b, &err);
		buf_done(&b);
		if (rc == RC_OK)
			return true;
		if (rc == RC_NOT_FOUND)
			return false;
		struct timespec nap = {.tv_nsec = 300000000};
		nanosleep(&nap, NULL);
	}
	return false;
}

static enum rc
check_expected(
	const struct commit_request *q, bool has_head, const struct sha256 *head, struct err *err)
{
	char hex[SHA256_HEX_BYTES];

	if (!q->has_expected)
		return RC_OK;
	if (q->expected_none ? !has_head : has_head && sha256_equal(head, &q->expected_parent))
		return RC_OK;
	if (!has_head)
		return err_set(
			err, RC_CONFLICT, "parent-mismatch", "ref \"%s\" does not exist", q->ref);
	sha256_hex(head, hex);
	return err_set(
		err, RC_CONFLICT, "parent-mismatch", "ref \"%s\" is at commit %s", q->ref, hex);
}

static enum rc
ask_head(struct history *h, const struct repo *repo, const char *ref, struct rev_head *head,
	struct err *err)
{
	struct commit c;
	bool is_ref;

	enum rc rc = rev_resolve(h, repo, ref, &c, &is_ref, err);
	if (rc == RC_OK) {
		*head = (struct rev_head){c.id, c.tree, c.created_us};
		commit_done(&c);
	}
	return rc;
}

/* Where the ref is: from memory, if that is known, for the first attempt; one that lost a race asks
 * the database. */
static enum rc
read_head(struct history *h, const struct repo *repo, const char *ref, bool again, bool *has_head,
	struct rev_head *head, struct err *err)
{
	enum rc rc =
		again ? ask_head(h, repo, ref, head, err) : rev_find_head(h, repo, ref, head, err);

	*has_head = rc == RC_OK;
	if (rc == RC_NOT_FOUND) {
		err_clear(err);
		rc = RC_OK;
	}
	return rc;
}

/* ---- merging after a lost race ---- */

struct collision {
	const struct tree_edit *edits;
	size_t count;
	struct commit_refusal *refusal;
	bool found;
};

static void
refuse_path(struct commit_refusal *r, const char *path, size_t len)
{
	char *to = r->paths[r->path_count++];

	memcpy(to, path, len);
	to[len] = '\0';
}

static bool
collide(void *arg, const struct tree_diff_item *item)
{
	struct collision *c = arg;
	size_t lo = 0, hi = c->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct tree_entry *e = &c->edits[mid].entry;
		size_t n = e->path_len < item->path_len ? e->path_len : item->path_len;
		int d = memcmp(e->path, item->path, n);
		if (d == 0)
			d = (e->path_len > item->path_len) - (e->path_len < item->path_len);
		if (d == 0) {
			refuse_path(c->refusal, item->path, item->path_len);
			c->found = true;
			return false;
		}
		if (d < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return true;
}

/* May the edits be made on the new head, given what changed between? */
static enum rc
check_merge(struct attempt *a, const struct history_nodes *nodes, const struct sha256 *old_tree,
	const struct sha256 *new_tree, const struct tree_edit *edits, size_t count, struct err *err)
{
	struct collision c = {.edits = edits, .count = count, .refusal = a->refusal};
	char shown[PATH_SHOW_BYTES];
	struct tree_diff_query query = {.prefix = "", .after = "", .fn = collide, .arg = &c};

	if (a->request->mode != COMMIT_MERGE)
		return err_set(err, RC_CONFLICT, "ref-conflict",
			"ref \"%s\" was moved by another commit meanwhile", a->request->ref);
	enum rc rc = tree_diff(&nodes->view.store, old_tree, new_tree, &query, err);
	if (rc == RC_OK && c.found)
		rc = err_set(err, RC_CONFLICT, "merge-conflict",
			"another commit changed \"%s\" on ref \"%s\" meanwhile",
			path_show(shown, a->refusal->paths[0], strlen(a->refusal->paths[0])),
			a->request->ref);
	return rc;
}

/* Build the tree and the commit on a->base. */
static enum rc
build(struct attempt *a, const struct history_nodes *nodes, const struct sha256 *base_tree,
	const struct tree_edit *edits, size_t count, struct err *err)
{
	const struct commit_request *q = a->request;
	const struct sha256 *under = q->mode == COMMIT_MERGE ? base_tree : NULL;
	struct tree_change change;

	new_nodes_clear(&a->nodes);
	a->nodes.base = &nodes->view.store;
	struct tree_store store = {.get = new_get,
		.put = new_put,
		.arg = &a->nodes,
		.get_verifies = nodes->view.store.get_verifies};
	struct tree_clash clash;
	enum rc rc = tree_edit_find_clash(&store, under, edits, count, &clash, err);
	if (rc == RC_CONFLICT) {
		refuse_path(a->refusal, clash.file, strlen(clash.file));
		refuse_path(a->refusal, clash.under, strlen(clash.under));
	}
	if (rc == RC_OK)
		rc = tree_edit(&store, under, edits, count, &change, err);
	if (rc != RC_OK)
		return rc;
	if (a->nodes.count > 1)
		qsort(a->nodes.rows, a->nodes.count, sizeof *a->nodes.rows, by_hash);
	struct commit_fields fields = {
		.tree = change.root,
		.parent = a->has_base ? &a->base.id : NULL,
		.created_us = clock_wall_us(),
		.files = change.totals.entries,
		.bytes = change.totals.bytes,
		.ref = q->ref,
		.author = q->author,
		.message = q->message,
		.metadata = q->metadata,
		.receipt = q->receipt,
	};
	if (a->made)
		commit_done(&a->commit);
	a->made = false;
	rc = commit_form_encode(&fields, &a->commit, err);
	a->made = rc == RC_OK;
	return rc;
}

static enum rc
try_once(struct attempt *a, const struct tree_edit *edits, size_t count, bool again,
	struct sha256 *last_tree, bool *has_last_tree, struct err *err)
{
	const struct sha256 *tree = a->has_base ? &a->base.tree : NULL;
	struct history_nodes nodes;
	enum rc rc = RC_OK;

	history_nodes_init(&nodes, a->h, a->repo);
	if (again)
		rc = check_merge(
			a, &nodes, *has_last_tree ? last_tree : NULL, tree, edits, count, err);
	if (rc == RC_OK)
		rc = build(a, &nodes, tree, edits, count, err);
	if (rc != RC_OK)
		return rc;
	*has_last_tree = a->has_base;
	*last_tree = a->base.tree;
	rc = db_run(a->h->db, write_commit, a, err);
	bool in_doubt = is_unknown(rc, err);
	if (in_doubt && happened_after_all(a)) {
		err_clear(err);
		rc = RC_OK;
		in_doubt = false;
	}
	if (in_doubt)
		rev_cache_doubt(a->h->revs, a->repo->id, a->request->ref);
	else if (rc == RC_OK)
		rev_cache_moved(a->h->revs, a->repo->id, a->request->ref);
	if (rc == RC_EXISTS)
		err->kind = NULL; /* the key was used: the caller replays */
	return rc;
}

static enum rc
race(struct attempt *a, const struct tree_edit *edits, size_t count, struct err *err)
{
	struct sha256 last_tree = {{0}};
	bool has_last_tree = false;
	enum rc rc = RC_OK;

	for (int i = 0; i < RACES_MAX; i++) {
		rc = read_head(a->h, a->repo, a->request->ref, i > 0, &a->has_base, &a->base, err);
		if (rc != RC_OK)
			return rc;
		a->refusal->has_head = a->has_base;
		a->refusal->head = a->base.id;
		rc = check_expected(a->request, a->has_base, &a->base.id, err);
		if (rc != RC_OK)
			return rc;
		a->swapped = false;
		rc = try_once(a, edits, count, i > 0, &last_tree, &has_last_tree, err);
		bool lost = rc == RC_CONFLICT && !a->swapped && err_is(err, "ref-conflict") &&
			    a->request->mode == COMMIT_MERGE;
		if (!lost)
			return rc;
		err_clear(err);
	}
	return err_set(err, RC_CONFLICT, "ref-conflict", "ref \"%s\" moves too fast; try again",
		a->request->ref);
}

enum rc
commit_make(struct history *h, const struct commit_request *request, struct commit *out,
	struct commit_refusal *refusal, struct err *err)
{
	struct attempt a = {
		.h = h, .request = request, .repo = stage_repo(request->stage), .refusal = refusal};
	struct tree_edit *edits = NULL;
	size_t count = 0;

	memset(refusal, 0, sizeof *refusal);
	enum rc rc = name_check_ref(request->ref, strlen(request->ref), err);
	if (rc == RC_OK)
		rc = stage_begin_commit(request->stage, request->allow_empty, err);
	if (rc != RC_OK)
		return rc;
	buf_init(&a.body, RESPONSE_BYTES_MAX);
	rc = stage_edits(request->stage, &edits, &count, err);
	if (rc == RC_OK)
		rc = race(&a, edits, count, err);
	free(edits);
	if (is_unknown(rc, err))
		stage_doubt(request->stage);
	else
		stage_end_commit(request->stage, rc == RC_OK ? &a.commit.id : NULL);
	new_nodes_clear(&a.nodes);
	free(a.nodes.rows);
	buf_done(&a.body);
	if (rc == RC_OK) {
		*out = a.commit;
		return RC_OK;
	}
	if (a.made)
		commit_done(&a.commit);
	return rc;
}

enum rc
history_replay(struct history *h, const struct repo *repo, const char *key,
	const struct sha256 *request, int *status, struct buf *body, struct err *err)
{
	struct sha256 was;

	enum rc rc = db_idempotency_get(h->db, repo->id, key, &was, status, body, err);
	if (rc == RC_OK && !sha256_equal(&was, request))
		rc = err_set(err, RC_CONFLICT, "idempotency-mismatch",
			"this Idempotency-Key was used for another request");
	return rc;
}

/* ---- reading ---- */

enum rc
commit_find(struct history *h, const struct repo *repo, const struct sha256 *id, struct commit *out,
	struct err *err)
{
	struct buf b;

	buf_init(&b, RESPONSE_BYTES_MAX);
	enum rc rc = db_commit_get(h->db, repo->id, id, &b, err);
	if (rc == RC_OK)
		rc = commit_form_decode(id, b.data, b.len, out, err);
	buf_done(&b);
	return rc;
}

static enum rc
rev_missing(const char *rev, struct err *err)
{
	char shown[PATH_SHOW_BYTES];

	err_clear(err);
	return err_set(err, RC_NOT_FOUND, "rev-not-found",
		"\"%s\" is no ref and no commit of this repository",
		path_show(shown, rev, strlen(rev)));
}

/* The only commit whose id begins with the digits. */
static enum rc
find_prefix(struct history *h, const struct repo *repo, const char *rev, struct sha256 *id,
	struct err *err)
{
	char low[65], high[65];
	struct sha256 from, to, found[2];
	size_t len = strlen(rev), count = 0;

	memset(low, '0', 64);
	memset(high, 'f', 64);
	memcpy(low, rev, len);
	memcpy(high, rev, len);
	if (!sha256_parse(low, 64, &from) || !sha256_parse(high, 64, &to))
		return rev_missing(rev, err);
	enum rc rc = db_commit_between(h->db, repo->id, &from, &to, 2, found, &count, err);
	if (rc == RC_OK && count == 0)
		rc = rev_missing(rev, err);
	else if (rc == RC_OK && count > 1)
		rc = err_set(err, RC_INVALID, "rev-ambiguous",
			"more than one commit begins with %s; give more digits", rev);
	if (rc == RC_OK)
		*id = found[0];
	return rc;
}

enum rc
rev_resolve(struct history *h, const struct repo *repo, const char *rev, struct commit *out,
	bool *is_ref, struct err *err)
{
	struct sha256 id;
	struct db_ref row;
	enum rc rc;

	*is_ref = false;
	if (name_is_rev(rev, strlen(rev))) {
		rc = find_prefix(h, repo, rev, &id, err);
	} else if (name_check_ref(rev, strlen(rev), err) != RC_OK) {
		rc = rev_missing(rev, err);
	} else {
		rc = db_ref_get(h->db, repo->id, rev, &row, err);
		if (rc == RC_NOT_FOUND)
			rc = rev_missing(rev, err);
		*is_ref = true;
		id = row.commit_id;
	}
	if (rc == RC_OK)
		rc = commit_find(h, repo, &id, out, err);
	return rc;
}

enum rc
rev_find_head(struct history *h, const struct repo *repo, const char *rev, struct rev_head *out,
	struct err *err)
{
	uint64_t epoch = rev_cache_epoch(h->revs);
	bool is_ref = false;
	struct commit c;

	if (rev_cache_find(h->revs, repo->id, rev, out))
		return RC_OK;
	enum rc rc = rev_resolve(h, repo, rev, &c, &is_ref, err);
	if (rc != RC_OK)
		return rc;
	*out = (struct rev_head){c.id, c.tree, c.created_us};
	commit_done(&c);
	if (is_ref || strlen(rev) == SHA256_HEX_BYTES - 1)
		rev_cache_keep(h->revs, repo->id, rev, out, epoch);
	return RC_OK;
}

enum rc
commit_walk(struct history *h, const struct repo *repo, const struct sha256 *from, size_t limit,
	void (*fn)(void *arg, const struct commit *c), void *arg, struct sha256 *next, bool *more,
	struct err *err)
{
	struct sha256 id = *from;
	bool left = true;
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && left && i < limit; i++) {
		struct commit c;
		rc = commit_find(h, repo, &id, &c, err);
		if (rc != RC_OK)
			break;
		fn(arg, &c);
		left = c.has_parent;
		id = c.parent;
		commit_done(&c);
	}
	*more = left;
	*next = id;
	return rc;
}

/* ---- refs ---- */

static void
ref_row_from(const struct db_ref *row, struct ref_row *out)
{
	snprintf(out->name, sizeof out->name, "%s", row->name);
	out->commit_id = row->commit_id;
	out->updated_us = row->updated_us;
}

enum rc
ref_find(struct history *h, const struct repo *repo, const char *name, struct ref_row *out,
	struct err *err)
{
	struct db_ref row;

	enum rc rc = name_check_ref(name, strlen(name), err);
	if (rc == RC_OK)
		rc = db_ref_get(h->db, repo->id, name, &row, err);
	if (rc == RC_OK)
		ref_row_from(&row, out);
	return rc;
}

enum rc
ref_list(struct history *h, const struct repo *repo, const char *prefix, const char *after,
	size_t limit, void (*fn)(void *arg, const struct ref_row *row), void *arg, struct err *err)
{
	struct db_ref *rows = calloc(limit + 1, sizeof *rows);
	size_t count = 0;

	if (rows == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	enum rc rc = db_ref_list(h->db, repo->id, prefix, after, limit, rows, &count, err);
	for (size_t i = 0; rc == RC_OK && i < count; i++) {
		struct ref_row row;
		ref_row_from(&rows[i], &row);
		fn(arg, &row);
	}
	free(rows);
	return rc;
}

struct ref_move_arg {
	const struct repo *repo;
	const struct ref_change *change;
	bool swapped, existed, has_head, no_commit;
	struct sha256 head;
};

static enum rc
run_ref_move(struct db_tx *tx, void *arg, struct err *err)
{
	struct ref_move_arg *m = arg;
	const struct ref_change *c = m->change;
	enum rc rc = RC_OK;

	m->no_commit = false;
	if (c->target != NULL) {
		bool exists = false;
		rc = db_commit_exists(tx, m->repo->id, c->target, &exists, err);
		if (rc == RC_OK && !exists) {
			char hex[SHA256_HEX_BYTES];
			sha256_hex(c->target, hex);
			return err_set(err, RC_NOT_FOUND, "commit-not-found",
				"there is no commit %s", hex);
		}
	}
	if (rc == RC_OK && c->any && c->target != NULL) {
		m->swapped = true;
		return db_ref_set(tx, m->repo->id, c->name, c->target, &m->existed, err);
	}
	if (rc == RC_OK)
		rc = db_ref_swap(tx, m->repo->id, c->name, c->expected, c->target, &m->swapped,
			&m->has_head, &m->head, err);
	if (rc == RC_OK && !m->swapped)
		return err_set(err, RC_CONFLICT, "ref-conflict",
			"ref \"%s\" is not what was expected", c->name);
	return rc;
}

enum rc
ref_move(struct history *h, const struct repo *repo, const struct ref_change *change,
	struct ref_row *out, struct sha256 *head, bool *has_head, struct err *err)
{
	struct ref_move_arg m = {.repo = repo, .change = change};
	struct ref_change known = *change;
	struct ref_row now;

	*has_head = false;
	enum rc rc = name_check_ref(change->name, strlen(change->name), err);
	if (rc != RC_OK)
		return rc;
	if (change->any && change->target == NULL) {
		/* deleting whatever it is: what it is now */
		rc = ref_find(h, repo, change->name, &now, err);
		if (rc != RC_OK)
			return rc;
		known.any = false;
		known.expected = &now.commit_id;
		m.change = &known;
	}
	rc = db_run(h->db, run_ref_move, &m, err);
	if (rc == RC_OK)
		rev_cache_moved(h->revs, repo->id, change->name);
	else if (is_unknown(rc, err))
		rev_cache_doubt(h->revs, repo->id, change->name);
	if (rc != RC_OK) {
		*has_head = m.has_head;
		*head = m.head;
		if (rc == RC_CONFLICT && !m.has_head && change->target == NULL) {
			err_clear(err);
			return err_set(err, RC_NOT_FOUND, "ref-not-found", "there is no ref \"%s\"",
				change->name);
		}
		return rc;
	}
	if (change->target == NULL) {
		memset(out, 0, sizeof *out);
		return RC_OK;
	}
	return ref_find(h, repo, change->name, out, err);
}
