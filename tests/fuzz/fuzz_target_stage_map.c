/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "stage_map.h"

/* The bytes are puts, removals and looks; after each the map says what a plain list says that is
 * looked through from end to end, and in the end it goes through it in order.
 * A step: u8 what (its bits say how), u8 bytes kept of the path of the step before, u8 bytes to
 * append, those. */

#define MODEL_MAX 2048

struct model_entry {
	size_t path_len;
	char path[PATH_BYTES_MAX];
	struct stage_entry e; /* but for the path */
};

static struct model_entry *model[MODEL_MAX]; /* sorted */
static size_t model_count;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
	if (!condition)
		abort();
}

static int
compare(const struct model_entry *m, const char *path, size_t len)
{
	for (size_t i = 0; i < m->path_len && i < len; i++)
		if (m->path[i] != path[i])
			return (uint8_t)m->path[i] < (uint8_t)path[i] ? -1 : 1;
	return m->path_len == len ? 0 : m->path_len < len ? -1 : 1;
}

/* The first that is >= path; *found says whether it is the path itself. */
static size_t
model_find(const char *path, size_t len, bool *found)
{
	size_t i = 0;

	while (i < model_count && compare(model[i], path, len) < 0)
		i++;
	*found = i < model_count && compare(model[i], path, len) == 0;
	return i;
}

static void
require_same(const struct stage_entry *e, const struct model_entry *m)
{
	require(e->path_len == m->path_len && memcmp(e->path, m->path, m->path_len) == 0);
	require(e->kind == m->e.kind && e->mode == m->e.mode && e->size == m->e.size);
	require(e->mtime_ns == m->e.mtime_ns && sha256_equal(&e->id, &m->e.id));
}

/* Numbers of every length, from the byte that says what to do. */
static struct stage_entry
entry_of(uint8_t what, size_t step, const char *path, size_t len)
{
	struct stage_entry e = {
		.path = path,
		.path_len = (uint16_t)len,
		.kind = what & 8 ? CONTENT_CHUNK : CONTENT_RECIPE,
		.mode = what & 16   ? 0644
			: what & 32 ? (uint32_t)step
				    : UINT32_MAX - what,
		.mtime_ns = what & 64 ? (int64_t)step * 1000000000 : -(int64_t)step * what,
		.size = step << what % 60,
	};

	memset(e.id.b, what, sizeof e.id.b);
	return e;
}

static void
put(struct stage_map *m, const struct stage_entry *e)
{
	struct err err = ERR_INIT;
	bool found, unchanged;

	size_t at = model_find(e->path, e->path_len, &found);
	if (!found && model_count == MODEL_MAX)
		return;
	if (!found) {
		memmove(model + at + 1, model + at, (model_count - at) * sizeof *model);
		model[at] = calloc(1, sizeof **model);
		require(model[at] != NULL);
		memcpy(model[at]->path, e->path, e->path_len);
		model[at]->path_len = e->path_len;
		model_count++;
	}
	const struct stage_entry *was = &model[at]->e;
	bool same = found && was->kind == e->kind && was->mode == e->mode && was->size == e->size &&
		    was->mtime_ns == e->mtime_ns && sha256_equal(&was->id, &e->id);
	require(stage_map_put(m, e, &unchanged, &err) == RC_OK && unchanged == same);
	model[at]->e = *e;
}

static void
take_out(struct stage_map *m, const char *path, size_t len)
{
	bool found;

	size_t at = model_find(path, len, &found);
	require(stage_map_remove(m, path, len) == found);
	if (!found)
		return;
	free(model[at]);
	model_count--;
	memmove(model + at, model + at + 1, (model_count - at) * sizeof *model);
}

static void
look(const struct stage_map *m, const char *path, size_t len, bool after)
{
	struct stage_map_cursor c;
	struct stage_entry e;
	bool found;

	size_t at = model_find(path, len, &found);
	require(stage_map_find(m, path, len, &e) == found);
	if (found)
		require_same(&e, model[at]);
	at += found && after;
	stage_map_seek(m, &c, path, len, after);
	require(stage_map_next(&c, &e) == (at < model_count));
	if (at < model_count)
		require_same(&e, model[at]);
}

static void
check_all(const struct stage_map *m)
{
	struct stage_map_cursor c;
	struct stage_entry e;
	uint64_t bytes = 0;

	stage_map_seek(m, &c, "", 0, false);
	for (size_t i = 0; i < model_count; i++) {
		require(stage_map_next(&c, &e));
		require_same(&e, model[i]);
		require(e.path[e.path_len] == '\0');
		bytes += e.size;
	}
	require(!stage_map_next(&c, &e));
	require(stage_map_count(m) == model_count && stage_map_bytes(m) == bytes);
}

static void
run(struct stage_map *m, struct cur *c)
{
	char path[PATH_BYTES_MAX];
	size_t len = 0;

	for (size_t step = 1; cur_left(c) >= 3; step++) {
		uint8_t what = cur_u8(c);
		size_t keep = cur_u8(c);
		size_t more = cur_u8(c);
		if (more > cur_left(c))
			more = cur_left(c);
		/* 255 keeps all: so paths get long */
		keep = keep == 255 || keep > len ? len : keep;
		if (keep + more > sizeof path)
			keep = 0;
		memcpy(path + keep, cur_bytes(c, more), more);
		len = keep + more;
		if (len == 0)
			continue;
		struct stage_entry e = entry_of(what, step, path, len);
		if ((what & 3) == 3)
			take_out(m, path, len);
		else if ((what & 3) == 2)
			look(m, path, len, what & 4);
		else
			put(m, &e);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stage_map *m = NULL;
	struct err err = ERR_INIT;
	struct cur c;

	require(stage_map_open(&m, &err) == RC_OK);
	cur_init(&c, data, size);
	run(m, &c);
	check_all(m);
	while (model_count > 0) {
		take_out(m, model[model_count / 2]->path, model[model_count / 2]->path_len);
		if (model_count % 64 == 0)
			check_all(m);
	}
	check_all(m);
	stage_map_free(m);
	return 0;
}
