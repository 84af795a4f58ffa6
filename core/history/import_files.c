/* SPDX-License-Identifier: Apache-2.0 */
#include "import_files.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "path.h"

#define BLOCK_BYTES ((size_t)64 << 10)
#define ITEMS_MIN   64

struct import_names {
	struct import_names *next;
	size_t used;
	char bytes[BLOCK_BYTES];
};

_Static_assert(PATH_BYTES_MAX + 1 <= BLOCK_BYTES, "a path fits into a block");

/* ---- sizes ---- */

enum import_class
import_class_of(uint64_t bytes)
{
	if (bytes <= STAGE_SMALL_BYTES)
		return IMPORT_SMALL;
	return bytes <= IMPORT_LARGE_BYTES ? IMPORT_MEDIUM : IMPORT_LARGE;
}

static uint64_t
sum(const uint64_t n[IMPORT_CLASSES])
{
	return n[IMPORT_SMALL] + n[IMPORT_MEDIUM] + n[IMPORT_LARGE];
}

uint64_t
import_sizes_files(const struct import_sizes *s)
{
	return sum(s->files);
}

uint64_t
import_sizes_bytes(const struct import_sizes *s)
{
	return sum(s->bytes);
}

struct stage_sizes
import_sizes_for_stage(const struct import_sizes *s)
{
	return (struct stage_sizes){
		.small_files = s->files[IMPORT_SMALL],
		.small_bytes = s->bytes[IMPORT_SMALL],
		.large_files = s->files[IMPORT_MEDIUM] + s->files[IMPORT_LARGE],
		.large_bytes = s->bytes[IMPORT_MEDIUM] + s->bytes[IMPORT_LARGE],
	};
}

/* ---- files ---- */

void
import_files_done(struct import_files *f)
{
	if (f == NULL)
		return;
	while (f->names != NULL) {
		struct import_names *next = f->names->next;
		free(f->names);
		f->names = next;
	}
	free(f->items);
	*f = (struct import_files){.count = 0};
}

static char *
take_bytes(struct import_files *f, size_t len)
{
	struct import_names *b = f->names;

	if (b == NULL || BLOCK_BYTES - b->used < len) {
		b = malloc(sizeof *b);
		if (b == NULL)
			return NULL;
		b->used = 0;
		b->next = f->names;
		f->names = b;
	}
	char *at = b->bytes + b->used;
	b->used += len;
	return at;
}

const char *
import_files_name(
	struct import_files *f, const char *dir, size_t dir_len, const char *name, size_t name_len)
{
	bool joined = dir_len > 0 && dir[dir_len - 1] != '/';
	size_t start = dir_len + (joined ? 1 : 0);
	char *at = take_bytes(f, start + name_len + 1);

	if (at == NULL)
		return NULL;
	memcpy(at, dir, dir_len);
	if (joined)
		at[dir_len] = '/';
	memcpy(at + start, name, name_len);
	at[start + name_len] = '\0';
	return at;
}

enum rc
import_files_add(
	struct import_files *f, const char *path, size_t path_len, uint64_t bytes, struct err *err)
{
	if (f->count == UINT32_MAX - 1)
		return err_set(
			err, RC_TOO_LARGE, "import-too-large", "the folder has too many files");
	if (f->count == f->cap) {
		size_t cap = f->cap == 0 ? ITEMS_MIN : f->cap + f->cap / 2;
		struct stage_change *items = realloc(f->items, cap * sizeof *items);
		if (items == NULL)
			return err_set(err, RC_NOMEM, "no-memory", "out of memory");
		f->items = items;
		f->cap = cap;
	}
	f->items[f->count++] = (struct stage_change){
		.path = path,
		.path_len = path_len,
		.content.size = bytes,
	};
	f->sizes.files[import_class_of(bytes)]++;
	f->sizes.bytes[import_class_of(bytes)] += bytes;
	return RC_OK;
}

void
import_files_compact(struct import_files *f)
{
	size_t kept = 0;

	for (size_t i = 0; i < f->count; i++)
		if (f->items[i].path != NULL)
			f->items[kept++] = f->items[i];
	f->count = kept;
}
