/* SPDX-License-Identifier: Apache-2.0 */
#include "tree_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tree_edit.h"
#include "tree_node.h"

uint64_t
dice_u64(struct dice *d)
{
	uint64_t z = d->state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

uint64_t
dice_below(struct dice *d, uint64_t n)
{
	return dice_u64(d) % n;
}

static struct mem_node *
slot(struct mem_store *m, const struct sha256 *hash)
{
	size_t i = get_u64(hash->b) & (m->cap - 1);

	while (m->nodes[i].data != NULL && !sha256_equal(&m->nodes[i].hash, hash))
		i = (i + 1) & (m->cap - 1);
	return &m->nodes[i];
}

static void
grow(struct mem_store *m)
{
	struct mem_node *old = m->nodes;
	size_t old_cap = m->cap;

	m->cap = old_cap == 0 ? 1024 : old_cap * 2;
	m->nodes = calloc(m->cap, sizeof *m->nodes);
	assert_non_null(m->nodes);
	for (size_t i = 0; i < old_cap; i++)
		if (old[i].data != NULL)
			*slot(m, &old[i].hash) = old[i];
	free(old);
}

static enum rc
mem_get(void *arg, const struct sha256 *hash, struct buf *out, struct err *err)
{
	struct mem_store *m = arg;

	m->gets++;
	if (m->get_rc != RC_OK)
		return err_set(err, m->get_rc, NULL, "as told");
	const struct mem_node *n = mem_store_find(m, hash);
	if (n == NULL)
		return err_set(err, RC_NOT_FOUND, NULL, "no such node");
	buf_add(out, n->data, n->len);
	return RC_OK;
}

static enum rc
mem_put(void *arg, const struct sha256 *hash, const uint8_t *data, size_t len, struct err *err)
{
	struct mem_store *m = arg;
	struct sha256 got;

	m->puts++;
	if (m->put_rc != RC_OK)
		return err_set(err, m->put_rc, NULL, "as told");
	sha256_of(data, len, &got);
	assert_true(sha256_equal(&got, hash));
	mem_store_add(m, data, len);
	m->marked_puts += mem_store_find(m, hash)->marked;
	return RC_OK;
}

void
mem_store_init(struct mem_store *m)
{
	*m = (struct mem_store){.store = {.get = mem_get, .put = mem_put}};
	m->store.arg = m;
	grow(m);
}

void
mem_store_done(struct mem_store *m)
{
	for (size_t i = 0; i < m->cap; i++)
		free(m->nodes[i].data);
	free(m->nodes);
}

void
mem_store_mark(struct mem_store *m)
{
	for (size_t i = 0; i < m->cap; i++)
		m->nodes[i].marked = m->nodes[i].data != NULL;
}

struct mem_node *
mem_store_find(struct mem_store *m, const struct sha256 *hash)
{
	struct mem_node *n = slot(m, hash);

	return n->data != NULL ? n : NULL;
}

struct sha256
mem_store_add(struct mem_store *m, const void *data, size_t len)
{
	struct sha256 hash;

	sha256_of(data, len, &hash);
	struct mem_node *n = slot(m, &hash);
	if (n->data != NULL)
		return hash;
	n->hash = hash;
	n->data = malloc(len);
	n->len = len;
	assert_non_null(n->data);
	memcpy(n->data, data, len);
	if (++m->count * 2 > m->cap)
		grow(m);
	return hash;
}

static void
free_path(const struct tree_entry *e)
{
	union {
		const char *in;
		char *out;
	} path = {.in = e->path};

	free(path.out);
}

void
model_done(struct model *m)
{
	for (size_t i = 0; i < m->count; i++)
		free_path(&m->entries[i]);
	free(m->entries);
	*m = (struct model){0};
}

size_t
model_lower_bound(const struct model *m, const char *path, size_t path_len)
{
	size_t low = 0;
	size_t high = m->count;

	while (low < high) {
		size_t mid = (low + high) / 2;
		const struct tree_entry *e = &m->entries[mid];
		if (tree_key_cmp(e->path, e->path_len, path, path_len) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct tree_entry *
model_find(const struct model *m, const char *path, size_t path_len)
{
	size_t i = model_lower_bound(m, path, path_len);

	if (i == m->count ||
		tree_key_cmp(m->entries[i].path, m->entries[i].path_len, path, path_len) != 0)
		return NULL;
	return &m->entries[i];
}

static void
insert_at(struct model *m, size_t i, const struct tree_entry *entry)
{
	if (m->count == m->cap) {
		m->cap = m->cap == 0 ? 64 : m->cap * 2;
		m->entries = realloc(m->entries, m->cap * sizeof *m->entries);
		assert_non_null(m->entries);
	}
	char *path = malloc(entry->path_len);
	assert_non_null(path);
	memcpy(path, entry->path, entry->path_len);
	memmove(&m->entries[i + 1], &m->entries[i], (m->count - i) * sizeof *m->entries);
	m->entries[i] = *entry;
	m->entries[i].path = path;
	m->count++;
}

void
model_append(struct model *m, const struct tree_entry *entry)
{
	insert_at(m, m->count, entry);
}

static int
by_path(const void *a, const void *b)
{
	const struct tree_entry *x = a;
	const struct tree_entry *y = b;

	return tree_key_cmp(x->path, x->path_len, y->path, y->path_len);
}

void
model_sort(struct model *m)
{
	size_t kept = 0;

	if (m->count > 0)
		qsort(m->entries, m->count, sizeof *m->entries, by_path);
	for (size_t i = 0; i < m->count; i++) {
		if (kept > 0 && by_path(&m->entries[kept - 1], &m->entries[i]) == 0)
			free_path(&m->entries[i]);
		else
			m->entries[kept++] = m->entries[i];
	}
	m->count = kept;
}

void
model_put(struct model *m, const struct tree_entry *entry)
{
	size_t i = model_lower_bound(m, entry->path, entry->path_len);

	if (i < m->count && tree_key_cmp(m->entries[i].path, m->entries[i].path_len, entry->path,
				    entry->path_len) == 0) {
		const char *path = m->entries[i].path;
		m->entries[i] = *entry;
		m->entries[i].path = path;
	} else {
		insert_at(m, i, entry);
	}
}

bool
model_delete(struct model *m, const char *path, size_t path_len)
{
	if (model_find(m, path, path_len) == NULL)
		return false;
	size_t i = model_lower_bound(m, path, path_len);
	free_path(&m->entries[i]);
	m->count--;
	memmove(&m->entries[i], &m->entries[i + 1], (m->count - i) * sizeof *m->entries);
	return true;
}

struct tree_totals
model_totals(const struct model *m, const char *prefix, size_t prefix_len)
{
	struct tree_totals sum = {0};

	for (size_t i = 0; i < m->count; i++) {
		const struct tree_entry *e = &m->entries[i];
		if (!tree_key_has_prefix(e->path, e->path_len, prefix, prefix_len))
			continue;
		sum.entries++;
		sum.bytes += e->content.size;
	}
	return sum;
}

struct sha256
model_build(const struct model *m, struct mem_store *store)
{
	struct err err = ERR_INIT;
	struct tree_change change;

	assert_int_equal(tree_build(&store->store, m->entries, m->count, &change, &err), RC_OK);
	return change.root;
}

struct tree_entry
entry_of(const char *path, size_t path_len, uint64_t seed)
{
	struct tree_entry e = {
		.path = path,
		.path_len = path_len,
		.content = {.kind = seed % 5 == 0 ? CONTENT_RECIPE : CONTENT_CHUNK,
			.size = seed % 7 == 0 ? 0 : seed % 1000003},
		.mode = seed % 11 == 0 ? 0100755 : 0100644,
		.mtime_ns = 1700000000000000000 + (int64_t)(seed % 1000000007),
	};

	sha256_of(&seed, sizeof seed, &e.content.id);
	return e;
}

size_t
path_of(struct dice *d, uint64_t variety, char *out)
{
	static const char *const words[] = {"src", "include", "lib", "a", "main", "test-data", "b",
		"README.md", "Makefile", "deep", "\xc3\xa4rger", "x", "node_modules", "index.js"};
	const size_t word_count = sizeof words / sizeof words[0];
	uint64_t pick = dice_below(d, variety);
	struct dice own = {.state = pick};
	size_t depth = dice_below(&own, 5);
	int len = 0;

	for (size_t i = 0; i < depth; i++)
		len += snprintf(out + len, FIXTURE_PATH_MAX - (size_t)len, "%s/",
			words[dice_below(&own, word_count)]);
	len += snprintf(out + len, FIXTURE_PATH_MAX - (size_t)len, "%s%llx",
		words[dice_below(&own, word_count)], (unsigned long long)pick);
	assert_true(len > 0 && len < FIXTURE_PATH_MAX);
	return (size_t)len;
}

void
assert_same_entry(const struct tree_entry *got, const struct tree_entry *want)
{
	assert_non_null(got);
	assert_int_equal(got->path_len, want->path_len);
	assert_memory_equal(got->path, want->path, want->path_len);
	assert_true(tree_entry_same(got, want));
}
