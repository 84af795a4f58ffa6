/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_zip_locals.h"

#include <stdlib.h>

enum rc
archive_zip_locals_add(
	struct archive_zip_locals *l, const struct archive_zip_local *local, struct err *err)
{
	if (l->count == l->cap) {
		size_t cap = l->cap == 0 ? 64 : l->cap + l->cap / 2;
		struct archive_zip_local *items = realloc(l->items, cap * sizeof *items);
		if (items == NULL)
			return err_set(err, RC_NOMEM, "no-memory", "out of memory");
		l->items = items;
		l->cap = cap;
	}
	l->items[l->count++] = *local;
	return RC_OK;
}

struct archive_zip_local *
archive_zip_locals_claim(struct archive_zip_locals *l, uint64_t offset)
{
	size_t low = 0;
	size_t high = l->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (l->items[mid].begin <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0 || offset >= l->items[low - 1].data || l->items[low - 1].claimed)
		return NULL;
	l->items[low - 1].claimed = true;
	l->claimed++;
	return &l->items[low - 1];
}

void
archive_zip_locals_done(struct archive_zip_locals *l)
{
	free(l->items);
	*l = (struct archive_zip_locals){.items = NULL};
}
