/* SPDX-License-Identifier: Apache-2.0 */
#include "stage_map.h"

#include <stdlib.h>
#include <string.h>

#include "checksum.h"

#define PATH_BLOCK_BYTES ((size_t)64 << 10)
#define ENTRIES_MAX      ((size_t)1 << 30)

struct path_block {
	struct path_block *next;
	size_t used;
	char bytes[];
};

struct stage_map {
	struct stage_entry *entries;
	size_t entry_count, entry_cap;
	uint32_t *table;   /* index + 1; 0 empty */
	size_t table_size; /* power of two */
	struct path_block *paths;
	uint32_t *sorted;
	size_t sorted_count;
	bool sorted_ok;
	size_t live_count;
	uint64_t live_bytes;
};

enum rc
stage_map_open(struct stage_map **out, struct err *err)
{
	struct stage_map *m = calloc(1, sizeof *m);

	if (m == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	*out = m;
	return RC_OK;
}

void
stage_map_free(struct stage_map *m)
{
	if (m == NULL)
		return;
	while (m->paths != NULL) {
		struct path_block *b = m->paths;
		m->paths = b->next;
		free(b);
	}
	free(m->entries);
	free(m->table);
	free(m->sorted);
	free(m);
}

static size_t
slot_of(const struct stage_map *m, const char *path, size_t len)
{
	size_t at = (size_t)checksum64(path, len) & (m->table_size - 1);

	while (m->table[at] != 0) {
		const struct stage_entry *e = &m->entries[m->table[at] - 1];
		if (e->path_len == len && memcmp(e->path, path, len) == 0)
			break;
		at = (at + 1) & (m->table_size - 1);
	}
	return at;
}

static bool
grow(struct stage_map *m)
{
	if (m->entry_count == m->entry_cap) {
		size_t cap = m->entry_cap == 0 ? 16 : m->entry_cap * 2;
		if (cap > ENTRIES_MAX)
			return false;
		struct stage_entry *more = realloc(m->entries, cap * sizeof *more);
		if (more == NULL)
			return false;
		m->entries = more;
		m->entry_cap = cap;
	}
	if ((m->entry_count + 1) * 2 <= m->table_size)
		return true;
	size_t size = m->table_size == 0 ? 64 : m->table_size * 2;
	uint32_t *table = calloc(size, sizeof *table);
	if (table == NULL)
		return false;
	free(m->table);
	m->table = table;
	m->table_size = size;
	for (size_t i = 0; i < m->entry_count; i++)
		m->table[slot_of(m, m->entries[i].path, m->entries[i].path_len)] = (uint32_t)i + 1;
	return true;
}

static const char *
keep_path(struct stage_map *m, const char *path, size_t len)
{
	struct path_block *b = m->paths;

	if (b == NULL || PATH_BLOCK_BYTES - b->used < len + 1) {
		b = malloc(sizeof *b + PATH_BLOCK_BYTES);
		if (b == NULL)
			return NULL;
		b->next = m->paths;
		b->used = 0;
		m->paths = b;
	}
	char *at = b->bytes + b->used;
	memcpy(at, path, len);
	at[len] = '\0';
	b->used += len + 1;
	return at;
}

static void
account(struct stage_map *m, const struct stage_entry *e, int sign)
{
	if (e->removed)
		return;
	m->live_count = (size_t)((int64_t)m->live_count + sign);
	m->live_bytes += sign > 0 ? e->size : (uint64_t)0 - e->size;
}

enum rc
stage_map_put(struct stage_map *m, const struct stage_entry *e, struct err *err)
{
	if (!grow(m))
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	size_t slot = slot_of(m, e->path, e->path_len);
	struct stage_entry *at;
	if (m->table[slot] != 0) {
		at = &m->entries[m->table[slot] - 1];
		const char *path = at->path;
		m->sorted_ok = m->sorted_ok && !at->removed;
		account(m, at, -1);
		*at = *e;
		at->path = path;
	} else {
		const char *path = keep_path(m, e->path, e->path_len);
		if (path == NULL)
			return err_set(err, RC_NOMEM, "no-memory", "out of memory");
		at = &m->entries[m->entry_count++];
		*at = *e;
		at->path = path;
		m->table[slot] = (uint32_t)m->entry_count;
		m->sorted_ok = false;
	}
	at->removed = 0;
	account(m, at, 1);
	return RC_OK;
}

bool
stage_map_remove(struct stage_map *m, const char *path, size_t path_len)
{
	if (m->table_size == 0)
		return false;
	uint32_t index = m->table[slot_of(m, path, path_len)];
	if (index == 0 || m->entries[index - 1].removed)
		return false;
	account(m, &m->entries[index - 1], -1);
	m->entries[index - 1].removed = 1;
	m->sorted_ok = false;
	return true;
}

const struct stage_entry *
stage_map_find(const struct stage_map *m, const char *path, size_t path_len)
{
	if (m->table_size == 0)
		return NULL;
	uint32_t index = m->table[slot_of(m, path, path_len)];
	if (index == 0 || m->entries[index - 1].removed)
		return NULL;
	return &m->entries[index - 1];
}

size_t
stage_map_count(const struct stage_map *m)
{
	return m->live_count;
}

uint64_t
stage_map_bytes(const struct stage_map *m)
{
	return m->live_bytes;
}

static int
compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int d = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return d != 0 ? d : (a_len > b_len) - (a_len < b_len);
}

static int
by_path(const void *a, const void *b, void *arg)
{
	const struct stage_map *m = arg;
	const struct stage_entry *x = &m->entries[*(const uint32_t *)a];
	const struct stage_entry *y = &m->entries[*(const uint32_t *)b];

	return compare(x->path, x->path_len, y->path, y->path_len);
}

enum rc
stage_map_sort(struct stage_map *m, struct err *err)
{
	if (m->sorted_ok)
		return RC_OK;
	uint32_t *sorted = malloc((m->live_count + 1) * sizeof *sorted);
	if (sorted == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	free(m->sorted);
	m->sorted = sorted;
	m->sorted_count = 0;
	for (size_t i = 0; i < m->entry_count; i++)
		if (!m->entries[i].removed)
			m->sorted[m->sorted_count++] = (uint32_t)i;
	qsort_r(m->sorted, m->sorted_count, sizeof *m->sorted, by_path, m);
	m->sorted_ok = true;
	return RC_OK;
}

const struct stage_entry *
stage_map_at(const struct stage_map *m, size_t i)
{
	return &m->entries[m->sorted[i]];
}

size_t
stage_map_lower(const struct stage_map *m, const char *key, size_t key_len, bool after)
{
	size_t lo = 0, hi = m->sorted_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct stage_entry *e = stage_map_at(m, mid);
		int d = compare(e->path, e->path_len, key, key_len);
		if (d < 0 || (after && d == 0))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}
