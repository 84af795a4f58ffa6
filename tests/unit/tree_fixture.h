/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TREE_FIXTURE_H
#define DG_TREE_FIXTURE_H

#include "tree.h"

/* tree_fixture: what the tests of trees share: nodes in memory, and a plain sorted list of files to
 * compare a tree with. Everything aborts the test when it cannot go on. */

/* A repeatable sequence of numbers. */
struct dice {
	uint64_t state;
};

uint64_t dice_u64(struct dice *d);
/* 0 to n - 1. */
uint64_t dice_below(struct dice *d, uint64_t n);

/* Nodes in memory. */
struct mem_node {
	struct sha256 hash;
	uint8_t *data;
	size_t len;
	bool marked;
};

struct mem_store {
	struct tree_store store;
	struct mem_node *nodes; /* open addressing; data NULL is free */
	size_t cap;
	size_t count;
	uint64_t gets;
	uint64_t puts;
	uint64_t marked_puts; /* of marked nodes */
	enum rc get_rc;       /* what get fails with, if not RC_OK */
	enum rc put_rc;
};

void mem_store_init(struct mem_store *m);
void mem_store_done(struct mem_store *m);
/* Mark all nodes that are there. */
void mem_store_mark(struct mem_store *m);
/* NULL if there is none. */
struct mem_node *mem_store_find(struct mem_store *m, const struct sha256 *hash);
/* Store bytes under their hash. */
struct sha256 mem_store_add(struct mem_store *m, const void *data, size_t len);

/* A sorted list of files that owns its paths. */
struct model {
	struct tree_entry *entries;
	size_t count;
	size_t cap;
};

void model_done(struct model *m);
/* Index of the first entry not below path. */
size_t model_lower_bound(const struct model *m, const char *path, size_t path_len);
const struct tree_entry *model_find(const struct model *m, const char *path, size_t path_len);
void model_put(struct model *m, const struct tree_entry *entry);
/* Many at once: append, then sort; of several with one path one is kept. */
void model_append(struct model *m, const struct tree_entry *entry);
void model_sort(struct model *m);
/* false if it was not there */
bool model_delete(struct model *m, const char *path, size_t path_len);
struct tree_totals model_totals(const struct model *m, const char *prefix, size_t prefix_len);
/* The root of a tree built from nothing of what the model holds. */
struct sha256 model_build(const struct model *m, struct mem_store *store);

/* An entry with a content of its own made of seed; path is borrowed. */
struct tree_entry entry_of(const char *path, size_t path_len, uint64_t seed);

#define FIXTURE_PATH_MAX 128
/* A path like those of source trees, out of about `variety` different ones; NUL-terminated in out
 * (FIXTURE_PATH_MAX). Returns its length. */
size_t path_of(struct dice *d, uint64_t variety, char *out);

void assert_same_entry(const struct tree_entry *got, const struct tree_entry *want);

#endif
