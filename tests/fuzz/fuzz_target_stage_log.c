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
	return m;
}

static void
check_entries(const struct stage_map *m)
{
	struct stage_map_cursor c;
	struct stage_entry e, is;
	uint64_t bytes = 0;
	size_t count = 0;

	stage_map_seek(m, &c, "", 0, false);
	for (; stage_map_next(&c, &e); count++) {
		require(e.path_len > 0 && e.path_len <= PATH_BYTES_MAX);
		require(content_kind_known(e.kind));
		require(stage_map_find(m, e.path, e.path_len, &is));
		require(is.size == e.size && sha256_equal(&is.id, &e.id));
		bytes += e.size;
	}
	require(stage_map_bytes(m) == bytes);
	require(stage_map_count(m) == count);
}

static void
require_same(const struct stage_map *a, const struct stage_map *b)
{
	struct stage_map_cursor in_a, in_b;
	struct stage_entry x, y;

	require(stage_map_count(a) == stage_map_count(b));
	stage_map_seek(a, &in_a, "", 0, false);
	stage_map_seek(b, &in_b, "", 0, false);
	while (stage_map_next(&in_a, &x)) {
		require(stage_map_next(&in_b, &y));
		require(x.path_len == y.path_len && memcmp(x.path, y.path, x.path_len) == 0);
		require(x.kind == y.kind && x.mode == y.mode && x.size == y.size);
		require(x.mtime_ns == y.mtime_ns && sha256_equal(&x.id, &y.id));
	}
}

/* The entries as a log of their own. */
static void
write_again(const struct stage_map *m, struct buf *out)
{
	struct stage_map_cursor c;
	struct stage_entry e;

	buf_init(out, (size_t)64 << 20);
	stage_log_begin(out);
	stage_map_seek(m, &c, "", 0, false);
	while (stage_map_next(&c, &e))
		stage_log_put(out, &e);
	require(buf_ok(out));
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
	write_again(m, &again);
	same = apply(again.data, again.len, NULL, &none);
	require(none.rc == RC_OK);
	require_same(m, same);
	stage_map_free(same);
	stage_map_free(m);
	buf_done(&again);
	return 0;
}
