/* SPDX-License-Identifier: Apache-2.0 */
/* What comes next: slices from the part at hand, places from its layout. What is not known is asked
 * of the database, a batch at a time, and remembered in the part for whoever comes after. */
#include <stdlib.h>
#include <string.h>

#include "db_recipe.h"
#include "reader_internal.h"
#include "recipe.h"

void
reader_forget_slices(struct reader *r)
{
	layout_part_unref(r->part);
	r->part = NULL;
	r->count = 0;
	r->next = 0;
}

/* ---- parts ---- */

/* The least an entry of a part takes: hash and a varint. */
#define ENTRY_BYTES_MIN 33

static enum rc
decode_slices(struct reader *r, const struct buf *bytes, uint64_t start,
	struct layout_slice *slices, uint32_t *count, struct err *err)
{
	struct recipe_part_reader part;
	struct recipe_slice s;

	*count = 0;
	enum rc rc = recipe_part_open(&part, bytes->data, bytes->len, err);
	if (rc != RC_OK)
		return rc;
	while (recipe_part_next(&part, &s, err)) {
		if (s.length > INT64_MAX - start || (r->exact && s.length > r->size - start))
			return reader_corrupt(r, "recipe: longer than its content", err);
		slices[(*count)++] = (struct layout_slice){s.chunk, start, s.offset, s.length};
		start += s.length;
	}
	if (err->rc == RC_OK && *count == 0)
		reader_corrupt(r, "recipe: an empty part", err);
	return err->rc;
}

static enum rc
part_of(struct reader *r, const struct buf *bytes, uint64_t start, struct layout_part **out,
	struct err *err)
{
	size_t most = bytes->len / ENTRY_BYTES_MIN + 1;
	struct layout_slice *slices = malloc(most * sizeof *slices);
	uint32_t count = 0;

	if (slices == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	enum rc rc = decode_slices(r, bytes, start, slices, &count, err);
	if (rc != RC_OK) {
		free(slices);
		return rc;
	}
	struct layout_slice *fitted = realloc(slices, count * sizeof *slices);
	return layout_part_new(r->rs->layouts, fitted != NULL ? fitted : slices, count, out, err);
}

/* From the database: the part that holds byte walked, or that ends before it. */
static enum rc
load_part(struct reader *r, struct layout_part **out, struct err *err)
{
	struct file_row file;
	struct buf bytes;
	uint64_t start = 0;
	enum rc rc = RC_OK;

	if (r->no_wait)
		return reader_would_wait(err);
	if (!r->recipe_known) {
		rc = db_file_get(r->rs->options.db, r->repo_id, &r->key.content.id, &file, err);
		if (rc != RC_OK)
			return rc;
		r->recipe_id = file.recipe_id;
		r->recipe_known = true;
	}
	buf_init(&bytes, PART_BYTES_MAX);
	rc = db_recipe_part_at(r->rs->options.db, r->recipe_id, r->walked, &start, &bytes, err);
	if (rc == RC_OK && start > r->walked)
		rc = reader_corrupt(r, "recipe: the parts do not meet", err);
	if (rc == RC_OK)
		rc = part_of(r, &bytes, start, out, err);
	buf_done(&bytes);
	if (rc == RC_OK && r->exact)
		layout_keep(r->rs->layouts, &r->key, *out);
	return rc;
}

/* A part that holds byte walked: after a seek anywhere inside it, when reading on at its start. */
static enum rc
need_part(struct reader *r, struct err *err)
{
	enum rc rc = RC_OK;

	if (r->part != NULL && r->part->start <= r->walked && r->walked < r->part->end)
		return RC_OK;
	layout_part_unref(r->part);
	r->part = r->exact ? layout_find(r->rs->layouts, &r->key, r->walked) : NULL;
	if (r->part == NULL)
		rc = load_part(r, &r->part, err);
	if (rc == RC_OK &&
		(r->walked >= r->part->end || (!r->sought && r->part->start != r->walked)))
		rc = reader_corrupt(r, "recipe: the parts do not meet", err);
	return rc;
}

/* ---- places ---- */

static enum rc
need_look_up(struct reader *r, struct err *err)
{
	if (r->look_up == NULL)
		r->look_up = malloc(sizeof *r->look_up);
	return r->look_up != NULL ? RC_OK : err_set(err, RC_NOMEM, "no-memory", "out of memory");
}

/* Those of the slices from first on whose places are not known, as many as are worth a query now.
 */
static size_t
collect_unknown(struct reader *r, uint32_t first)
{
	struct look_up *l = r->look_up;
	struct layout_place places[WINDOW_MAX];
	size_t n = 0;

	while (first < r->part->count && n < r->batch_want) {
		uint32_t some = r->part->count - first;
		some = some < WINDOW_MAX ? some : WINDOW_MAX;
		size_t before = n;
		layout_places(r->part, first, some, places);
		for (uint32_t i = 0; i < some && n < r->batch_want; i++) {
			if (places[i].pack_id != 0)
				continue;
			l->hashes[n] = r->part->slices[first + i].chunk;
			l->indexes[n++] = first + i;
		}
		first += some;
		/* what lies far behind known ones is not wanted soon */
		if (n == before)
			break;
	}
	return n;
}

static enum rc
locate(struct reader *r, uint32_t first, struct err *err)
{
	size_t found = 0;

	if (r->no_wait)
		return reader_would_wait(err);
	enum rc rc = need_look_up(r, err);
	if (rc != RC_OK)
		return rc;
	struct look_up *l = r->look_up;
	size_t n = collect_unknown(r, first);
	if (n == 0)
		return RC_OK;
	rc = db_chunk_locate(r->rs->options.db, r->repo_id, l->hashes, n, l->rows, &found, err);
	for (size_t i = 0; rc == RC_OK && i < n; i++)
		if (l->rows[i].length > 0)
			layout_learn_row(r->part, l->indexes[i], &l->rows[i]);
	r->batch_want =
		r->batch_want < BATCH_MAX / BATCH_GROWTH ? r->batch_want * BATCH_GROWTH : BATCH_MAX;
	return rc;
}

void
reader_learn_row(struct reader *r, size_t i, const struct chunk_row *row)
{
	if (r->part != NULL)
		layout_learn_row(r->part, layout_slice_at(r->part, r->window[i].slice.start), row);
	layout_place_of(row, &r->window[i].place);
}

void
reader_learn_shape(struct reader *r, size_t i)
{
	const struct layout_place *known = &r->window[i].place;

	if (r->part != NULL)
		layout_learn_shape(
			r->part, layout_slice_at(r->part, r->window[i].slice.start), known);
	for (size_t k = i + 1; k < r->count; k++) {
		struct layout_place *p = &r->window[k].place;
		if (p->pack_id != known->pack_id || p->frame_offset != known->frame_offset)
			break;
		p->payload_at = known->payload_at;
		p->codec = known->codec;
	}
}

/* ---- the window ---- */

static void
copy_window(struct reader *r, uint32_t first, const struct layout_place *places, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		r->window[i] = (struct located){r->part->slices[first + i], places[i]};
	r->count = count;
	r->next = 0;
	r->walked = r->part->slices[first + count - 1].start +
		    r->part->slices[first + count - 1].length;
	r->sought = false;
}

static enum rc
fill_from_part(struct reader *r, struct err *err)
{
	struct layout_place places[WINDOW_MAX];
	enum rc rc = need_part(r, err);

	if (rc != RC_OK)
		return rc;
	uint32_t first = layout_slice_at(r->part, r->walked);
	uint32_t count = r->part->count - first;
	count = count < WINDOW_MAX ? count : WINDOW_MAX;
	layout_places(r->part, first, count, places);
	if (places[0].pack_id == 0) {
		rc = locate(r, first, err);
		if (rc != RC_OK)
			return rc;
		layout_places(r->part, first, count, places);
	}
	/* up to the first that must be asked for; one whose chunk is nowhere stands alone */
	uint32_t known = 1;
	while (known < count && places[known].pack_id != 0)
		known++;
	copy_window(r, first, places, known);
	return RC_OK;
}

/* The place of a chunk that was looked up ahead; those skipped are not wanted any more. */
static bool
take_expected(struct reader *r, struct layout_place *place)
{
	for (size_t i = r->expected_next; i < r->expected_count; i++) {
		if (!sha256_equal(&r->expected[i].hash, &r->key.content.id))
			continue;
		layout_place_of(&r->expected[i], place);
		r->expected_next = i + 1;
		return place->pack_id != 0;
	}
	return false;
}

/* A content of one chunk is a part of one slice. */
static enum rc
part_of_chunk(struct reader *r, struct err *err)
{
	struct layout_slice *slice = malloc(sizeof *slice);

	if (slice == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	*slice = (struct layout_slice){r->key.content.id, 0, 0, r->size};
	enum rc rc = layout_part_new(r->rs->layouts, slice, 1, &r->part, err);
	if (rc == RC_OK)
		layout_keep(r->rs->layouts, &r->key, r->part);
	return rc;
}

static enum rc
fill_from_chunk(struct reader *r, struct err *err)
{
	struct layout_place place;
	enum rc rc = RC_OK;

	if (take_expected(r, &place)) {
		r->window[0] = (struct located){{r->key.content.id, 0, 0, r->size}, place};
		r->count = 1;
		r->next = 0;
		return RC_OK;
	}
	if (r->part == NULL)
		r->part = layout_find(r->rs->layouts, &r->key, 0);
	if (r->part == NULL && r->no_wait)
		return reader_would_wait(err);
	if (r->part == NULL)
		rc = part_of_chunk(r, err);
	r->walked = 0;
	return rc == RC_OK ? fill_from_part(r, err) : rc;
}

enum rc
reader_refill(struct reader *r, struct err *err)
{
	r->count = 0;
	r->next = 0;
	return r->key.content.kind == CONTENT_CHUNK ? fill_from_chunk(r, err)
						    : fill_from_part(r, err);
}

enum rc
reader_expect(struct reader *r, const struct content *contents, size_t count, struct err *err)
{
	size_t n = 0;
	size_t found = 0;

	r->expected_count = 0;
	r->expected_next = 0;
	enum rc rc = need_look_up(r, err);
	if (rc != RC_OK)
		return rc;
	for (size_t i = 0; i < count && n < READER_EXPECT_MAX; i++)
		if (contents[i].kind == CONTENT_CHUNK && contents[i].size > 0)
			r->look_up->hashes[n++] = contents[i].id;
	if (n < 2)
		return RC_OK;
	if (r->expected == NULL)
		r->expected = calloc(READER_EXPECT_MAX, sizeof *r->expected);
	if (r->expected == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	rc = db_chunk_locate(
		r->rs->options.db, r->repo_id, r->look_up->hashes, n, r->expected, &found, err);
	if (rc == RC_OK)
		r->expected_count = n;
	return rc;
}
