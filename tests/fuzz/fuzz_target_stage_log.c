/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "path.h"
#include "stage_log.h"

/* Any bytes are refused, or leave entries that may be there and that written again give the same
 * map. Whether somebody wants the costs makes no difference. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
	if (!condition)
		abort();
}

static struct stage_map *
apply(const uint8_t *data, size_t size, struct stage_cost *cost, struct err *err)
{
	struct stage_map *m = NULL;
	struct err none = ERR_INIT;

	require(stage_map_open(&m, &none) == RC_OK);
	enum rc rc = stage_log_replay(m, data, size, cost, err);
	require(rc == err->rc && (rc == RC_OK || rc == RC_CORRUPT));
	require(stage_map_sort(m, &none) == RC_OK);
	return m;
}

static void
check_entries(const struct stage_map *m)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < stage_map_count(m); i++) {
		const struct stage_entry *e = stage_map_at(m, i);
		require(e->path_len > 0 && e->path_len <= PATH_BYTES_MAX && !e->removed);
		require(content_kind_known(e->kind));
		require(stage_map_find(m, e->path, e->path_len) == e);
		require(stage_map_lower(m, e->path, e->path_len, false) == i);
		bytes += e->size;
	}
	require(stage_map_bytes(m) == bytes);
}

static void
require_same(const struct stage_map *a, const struct stage_map *b)
{
	require(stage_map_count(a) == stage_map_count(b));
	for (size_t i = 0; i < stage_map_count(a); i++) {
		const struct stage_entry *x = stage_map_at(a, i), *y = stage_map_at(b, i);
		require(x->path_len == y->path_len && memcmp(x->path, y->path, x->path_len) == 0);
		require(x->kind == y->kind && x->mode == y->mode && x->size == y->size);
		require(x->mtime_ns == y->mtime_ns && sha256_equal(&x->id, &y->id));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT, other = ERR_INIT, none = ERR_INIT;
	struct stage_cost cost = {{0}};
	struct buf again;

	struct stage_map *m = apply(data, size, &cost, &err);
	struct stage_map *same = apply(data, size, NULL, &other);
	require(err.rc == other.rc);
	require_same(m, same);
	check_entries(m);
	stage_map_free(same);
	buf_init(&again, (size_t)64 << 20);
	stage_log_begin(&again);
	for (size_t i = 0; i < stage_map_count(m); i++)
		stage_log_put(&again, stage_map_at(m, i));
	require(buf_ok(&again));
	same = apply(again.data, again.len, NULL, &none);
	require(none.rc == RC_OK);
	require_same(m, same);
	stage_map_free(same);
	stage_map_free(m);
	buf_done(&again);
	return 0;
}
