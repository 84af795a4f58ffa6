/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_TREE_LIST_H
#define DG_TREE_LIST_H

#include "tree.h"

/* tree_list: one page of a listing, as object stores list: by prefix, with everything below a
 * delimiter rolled up into one line. What is rolled up is jumped over, never walked. */

/* A line. Pointers are valid during the callback. */
struct tree_list_item {
	const char *name; /* the path, or the common prefix up to and with the delimiter */
	size_t name_len;
	const struct tree_entry *entry; /* NULL: a common prefix */
	struct tree_totals totals;      /* of all entries below the prefix; of the entry itself */
};

/* Return false to stop. */
typedef bool tree_list_fn(void *arg, const struct tree_list_item *item);

struct tree_list_query {
	const char *prefix; /* only paths that start with it */
	size_t prefix_len;
	/* Go on behind this name, which is the last name of the page before. If it ends in the
	 * delimiter it is a common prefix, and all below it is skipped. */
	const char *after;
	size_t after_len;
	char delimiter; /* 0: none */
	size_t limit;   /* lines */
	tree_list_fn *fn;
	void *arg;
};

/* Call fn for each line in ascending order of names. more says whether lines are left behind those
 * that fn was called for, whether because of the limit or because fn returned false.
 * Reads the nodes of the lines, and for each common prefix at most one node a level.
 * Errors of tree.h. */
enum rc tree_list(const struct tree_store *store, const struct sha256 *root,
	const struct tree_list_query *query, bool *more, struct err *err);

#endif
