/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_NODE_CACHE_H
#define DG_NODE_CACHE_H

#include "tree.h"

/* node_cache: tree nodes of all repositories in memory, least recently used out first.
 *
 * It stands before any tree_store: a view is a tree_store itself. A node is kept under (repository,
 * hash), so what one repository has says nothing about another. Nodes enter when they are read,
 * after their hash was compared, and never when they are put: a put may be part of a transaction
 * that is rolled back, and a node must not be readable because of that.
 *
 * Threads: any number share a cache; a view belongs to one thread at a time. The lock is held to
 * find, link and unlink, never over the store behind or while bytes are copied. Two threads that
 * miss the same node both fetch it. */

struct node_cache;

/* bytes_max counts nodes and what keeps them; 0 keeps nothing. RC_NOMEM. */
enum rc node_cache_open(size_t bytes_max, struct node_cache **out, struct err *err);
/* No view may be in use. NULL is allowed. */
void node_cache_free(struct node_cache *cache);

/* A repository's store seen through the cache. */
struct node_cache_view {
	struct tree_store store; /* hand this to the tree */
	/* private */
	struct node_cache *cache;
	uint64_t repo_id;
	const struct tree_store *behind;
};

/* view is where it will stay: its store points to it. cache and behind are borrowed as long as the
 * view is used. There is nothing to close. */
void node_cache_view_init(struct node_cache_view *view, struct node_cache *cache, uint64_t repo_id,
	const struct tree_store *behind);

struct node_cache_stats {
	uint64_t hits;
	uint64_t misses;
	uint64_t evictions;
	uint64_t nodes; /* held now */
	uint64_t bytes; /* held now, of bytes_max */
};

void node_cache_stats(struct node_cache *cache, struct node_cache_stats *out);

#endif
