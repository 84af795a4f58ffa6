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

/* The slot that holds the item of this name, or where it would be. */
static uint32_t *
slot_of(const struct archive_list *l, const char *path, size_t len)
{
	size_t i = checksum64_seeded(path, len, l->seed) & (l->slot_count - 1);

	while (l->slots[i] != 0) {
		const struct stage_change *c = &l->items[l->slots[i] - 1];
		if (c->path_len == len && memcmp(c->path, path, len) == 0)
			break;
		i = (i + 1) & (l->slot_count - 1);
	}
	return &l->slots[i];
}

/* At most half full. */
static bool
grow_slots(struct archive_list *l)
{
	if ((l->named + 1) * 2 <= l->slot_count)
		return true;
	uint32_t *old = l->slots;
	size_t old_count = l->slot_count;
	size_t count = old_count == 0 ? SLOTS_MIN : old_count * 2;
	uint32_t *slots = calloc(count, sizeof *slots);
	if (slots == NULL)
		return false;
	l->slots = slots;
	l->slot_count = count;
	for (size_t i = 0; i < old_count; i++)
		if (old[i] != 0)
			*slot_of(l, l->items[old[i] - 1].path, l->items[old[i] - 1].path_len) =
				old[i];
	free(old);
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
	uint32_t *slot = slot_of(l, path, len);
	if (*slot != 0) {
		*other = *slot - 1;
		l->items[*other].path = NULL;
		l->items[*other].path_len = 0;
	} else {
		l->named++;
	}
	*slot = (uint32_t)index + 1;
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
			uint32_t hit = *slot_of(l, c->path, n);
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
