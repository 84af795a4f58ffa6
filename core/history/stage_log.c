/* SPDX-License-Identifier: Apache-2.0 */
#include "stage_log.h"

#include <string.h>

#include "path.h"

#define LOG_VERSION 1
#define LOG_PUT     1
#define LOG_REMOVE  2
#define LOG_COST    3

void
stage_log_begin(struct buf *b)
{
	buf_add_u8(b, LOG_VERSION);
}

void
stage_log_put(struct buf *b, const struct stage_entry *e)
{
	buf_add_u8(b, LOG_PUT);
	buf_add_varint(b, e->path_len);
	buf_add(b, e->path, e->path_len);
	buf_add_u8(b, e->kind);
	buf_add(b, e->id.b, sizeof e->id.b);
	buf_add_varint(b, e->size);
	buf_add_varint(b, e->mode);
	buf_add_varint(b, (uint64_t)e->mtime_ns << 1 ^ (uint64_t)(e->mtime_ns >> 63));
}

void
stage_log_remove(struct buf *b, const char *path, size_t path_len)
{
	buf_add_u8(b, LOG_REMOVE);
	buf_add_varint(b, path_len);
	buf_add(b, path, path_len);
}

void
stage_log_cost(struct buf *b, const struct stage_cost *cost)
{
	buf_add_u8(b, LOG_COST);
	buf_add_varint(b, STAGE_COSTS);
	for (int i = 0; i < STAGE_COSTS; i++)
		buf_add_varint(b, cost->n[i]);
}

/* A later version may add numbers behind those that this one knows. */
static enum rc
apply_cost(struct cur *c, struct stage_cost *cost, struct err *err)
{
	uint64_t count = cur_varint(c);

	for (uint64_t i = 0; i < count && cur_ok(c); i++) {
		uint64_t v = cur_varint(c);
		if (cost != NULL && i < STAGE_COSTS && cur_ok(c))
			cost->n[i] += v;
	}
	if (cur_ok(c))
		return RC_OK;
	err_set(err, RC_CORRUPT, "corrupt-data", "the log of this stage is damaged");
	return err_detail(err, "stage record of costs");
}

static enum rc
apply_one(struct stage_map *m, struct cur *c, struct stage_cost *cost, struct err *err)
{
	uint8_t type = cur_u8(c);
	if (type == LOG_COST && cur_ok(c))
		return apply_cost(c, cost, err);
	uint64_t path_len = cur_varint(c);
	if (path_len == 0 || path_len > PATH_BYTES_MAX)
		c->failed = true;
	const uint8_t *path = cur_bytes(c, c->failed ? 0 : (size_t)path_len);
	if (type == LOG_REMOVE && cur_ok(c)) {
		stage_map_remove(m, (const char *)path, (size_t)path_len);
		return RC_OK;
	}
	struct stage_entry e = {.path = (const char *)path, .path_len = (uint16_t)path_len};
	e.kind = cur_u8(c);
	const uint8_t *id = cur_bytes(c, sizeof e.id.b);
	e.size = cur_varint(c);
	uint64_t mode = cur_varint(c);
	uint64_t mtime = cur_varint(c);
	if (!cur_ok(c) || type != LOG_PUT || !content_kind_known(e.kind) || mode > UINT32_MAX) {
		err_set(err, RC_CORRUPT, "corrupt-data", "the log of this stage is damaged");
		return err_detail(err, "stage record of type %u", type);
	}
	memcpy(e.id.b, id, sizeof e.id.b);
	e.mode = (uint32_t)mode;
	e.mtime_ns = (int64_t)(mtime >> 1 ^ (0 - (mtime & 1)));
	return stage_map_put(m, &e, NULL, err);
}

enum rc
stage_log_apply(struct stage_map *m, const uint8_t *data, size_t len, struct err *err)
{
	return stage_log_replay(m, data, len, NULL, err);
}

enum rc
stage_log_replay(struct stage_map *m, const uint8_t *data, size_t len, struct stage_cost *cost,
	struct err *err)
{
	struct cur c;
	enum rc rc = RC_OK;

	cur_init(&c, data, len);
	if (cur_u8(&c) != LOG_VERSION) {
		err_set(err, RC_CORRUPT, "corrupt-data", "the log of this stage is damaged");
		return err_detail(err, "stage batch of an unknown version");
	}
	while (rc == RC_OK && cur_left(&c) > 0)
		rc = apply_one(m, &c, cost, err);
	return rc;
}
