/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_list.h"

#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "rand.h"

#define BLOCK_BYTES ((size_t)64 << 10)
#define SLOTS_MIN   256

struct archive_names {
	struct archive_names *next;
	size_t used;
	char bytes[BLOCK_BYTES];
};

_Static_assert(PATH_BYTES_MAX <= BLOCK_BYTES, "a name fits into a block");

void
archive_list_init(struct archive_list *l)
{
	*l = (struct archive_list){.seed = rand_u64()};
}

void
archive_list_done(struct archive_list *l)
{
	if (l == NULL)
		return;
	while (l->names != NULL) {
		struct archive_names *next = l->names->next;
		free(l->names);
		l->names = next;
	}
	free(l->items);
	free(l->slots);
	*l = (struct archive_list){.seed = l->seed};
}

static enum rc
no_memory(struct err *err)
{
	return err_set(err, RC_NOMEM, "no-memory", "out of memory");
}

enum rc
archive_list_add(struct archive_list *l, size_t *index, struct err *err)
{
	if (l->count == UINT32_MAX - 1)
		return err_set(
			err, RC_TOO_LARGE, "archive-too-large", "the archive has too many entries");
	if (l->count == l->cap) {
		size_t cap = l->cap == 0 ? 64 : l->cap + l->cap / 2;
		struct stage_change *items = realloc(l->items, cap * sizeof *items);
		if (items == NULL)
			return no_memory(err);
		l->items = items;
		l->cap = cap;
	}
	*index = l->count++;
	memset(&l->items[*index], 0, sizeof l->items[*index]);
	return RC_OK;
}

static char *
arena_take(struct archive_list *l, size_t len)
{
	struct archive_names *b = l->names;

	if (b == NULL || BLOCK_BYTES - b->used < len) {
		b = malloc(sizeof *b);
		if (b == NULL)
			return NULL;
		b->used = 0;
		b->next = l->names;
		l->names = b;
	}
	char *at = b->bytes + b->used;
	b->used += len;
	return at;
}

static uint32_t
hash_of(const struct archive_list *l, const char *path, size_t len)
{
	return (uint32_t)checksum64_seeded(path, len, l->seed);
}

/* The slot that holds the item of this name, or where it would be. */
static struct archive_slot *
slot_of(const struct archive_list *l, const char *path, size_t len, uint32_t hash)
{
	size_t i = hash & (l->slot_count - 1);

	for (; l->slots[i].item != 0; i = (i + 1) & (l->slot_count - 1)) {
		if (l->slots[i].hash != hash)
			continue;
		const struct stage_change *c = &l->items[l->slots[i].item - 1];
		if (c->path_len == len && memcmp(c->path, path, len) == 0)
			break;
	}
	return &l->slots[i];
}

/* At most half full. */
static bool
grow_slots(struct archive_list *l)
{
	if ((l->named + 1) * 2 <= l->slot_count)
		return true;
	size_t count = l->slot_count == 0 ? SLOTS_MIN : l->slot_count * 2;
	struct archive_slot *slots = calloc(count, sizeof *slots);
	if (slots == NULL)
		return false;
	for (size_t i = 0; i < l->slot_count; i++) {
		size_t to = l->slots[i].hash & (count - 1);
		if (l->slots[i].item == 0)
			continue;
		while (slots[to].item != 0)
			to = (to + 1) & (count - 1);
		slots[to] = l->slots[i];
	}
	free(l->slots);
	l->slots = slots;
	l->slot_count = count;
	return true;
}

enum rc
archive_list_name(struct archive_list *l, size_t index, const char *prefix, const char *name,
	size_t name_len, size_t *other, struct err *err)
{
	size_t prefix_len = strlen(prefix);
	size_t len = prefix_len + name_len;

	*other = SIZE_MAX;
	char *path = arena_take(l, len);
	if (path == NULL || !grow_slots(l))
		return no_memory(err);
	memcpy(path, prefix, prefix_len);
	memcpy(path + prefix_len, name, name_len);
	uint32_t hash = hash_of(l, path, len);
	struct archive_slot *slot = slot_of(l, path, len, hash);
	if (slot->item != 0) {
		*other = slot->item - 1;
		l->items[*other].path = NULL;
		l->items[*other].path_len = 0;
	} else {
		l->named++;
	}
	*slot = (struct archive_slot){(uint32_t)index + 1, hash};
	l->items[index].path = path;
	l->items[index].path_len = len;
	return RC_OK;
}

/* How many bytes of the directories of path its neighbour has been looked up for already. */
static size_t
common_bytes(const struct stage_change *a, const struct stage_change *b)
{
	size_t n = 0;

	while (n < a->path_len && n < b->path_len && a->path[n] == b->path[n])
		n++;
	return n;
}

bool
archive_list_find_clash(const struct archive_list *l, size_t *file, size_t *below)
{
	static const struct stage_change none;
	const struct stage_change *before = &none;

	if (l->slot_count == 0)
		return false;
	for (size_t i = 0; i < l->count; i++) {
		const struct stage_change *c = &l->items[i];
		if (c->path == NULL)
			continue;
		for (size_t n = common_bytes(before, c); n < c->path_len; n++) {
			if (c->path[n] != '/')
				continue;
			uint32_t hit = slot_of(l, c->path, n, hash_of(l, c->path, n))->item;
			if (hit == 0)
				continue;
			*file = hit - 1;
			*below = i;
			return true;
		}
		before = c;
	}
	return false;
}

void
archive_list_compact(struct archive_list *l)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->count; i++)
		if (l->items[i].path != NULL)
			l->items[kept++] = l->items[i];
	l->count = kept;
	/* the slots still speak of the old places */
	free(l->slots);
	l->slots = NULL;
	l->slot_count = 0;
	l->named = 0;
}
