/* SPDX-License-Identifier: Apache-2.0 */
#include "db_recipe.h"
#include "reader_internal.h"

/* The part that holds byte walked: after a seek anywhere inside it, when reading on at its start.
 */
static enum rc
load_part(struct reader *r, struct err *err)
{
	uint64_t start = 0;

	buf_clear(&r->part);
	enum rc rc = db_recipe_part_at(
		r->rs->options.db, r->recipe_id, r->walked, &start, &r->part, err);
	if (rc == RC_OK)
		rc = recipe_part_open(&r->slices, r->part.data, r->part.len, err);
	if (rc != RC_OK)
		return rc;
	if (r->sought ? start > r->walked : start != r->walked)
		return reader_corrupt(r, "recipe: the parts do not meet", err);
	r->sought = false;
	r->in_part = true;
	r->part_start = start;
	r->walked = start;
	return RC_OK;
}

/* The next slice that reaches behind offset. */
static enum rc
next_slice(struct reader *r, struct recipe_slice *slice, uint64_t *start, struct err *err)
{
	enum rc rc = RC_OK;

	while (rc == RC_OK) {
		if (!r->in_part) {
			rc = load_part(r, err);
		} else if (recipe_part_next(&r->slices, slice, err)) {
			*start = r->walked;
			if (slice->length > INT64_MAX - r->walked ||
				(r->exact && slice->length > r->size - r->walked))
				return reader_corrupt(r, "recipe: longer than its content", err);
			r->walked += slice->length;
			if (r->walked > r->offset)
				return RC_OK;
		} else if (err->rc != RC_OK) {
			return err->rc;
		} else if (r->walked == r->part_start) {
			return reader_corrupt(r, "recipe: an empty part", err);
		} else {
			r->in_part = false;
		}
	}
	return rc;
}

static enum rc
fill_recipe_batch(struct reader *r, struct err *err)
{
	while (r->count < r->batch_want && r->walked < r->size) {
		struct located *l = &r->batch[r->count];
		uint64_t start = 0;
		enum rc rc = next_slice(r, &l->slice, &start, err);
		if (rc != RC_OK)
			return rc;
		if (r->count++ == 0)
			r->slice_start = start;
	}
	return RC_OK;
}

static enum rc
locate_batch(struct reader *r, struct err *err)
{
	size_t found = 0;

	for (size_t i = 0; i < r->count; i++)
		r->hashes[i] = r->batch[i].slice.chunk;
	enum rc rc = db_chunk_locate(
		r->rs->options.db, r->repo_id, r->hashes, r->count, r->rows, &found, err);
	for (size_t i = 0; rc == RC_OK && i < r->count; i++)
		r->batch[i].row = r->rows[i];
	return rc;
}

/* The place of a chunk that was looked up ahead; those skipped are not wanted any more. */
static bool
take_expected(struct reader *r, struct located *l)
{
	for (size_t i = r->expected_next; i < r->expected_count; i++) {
		if (!sha256_equal(&r->expected[i].hash, &l->slice.chunk))
			continue;
		l->row = r->expected[i];
		r->expected_next = i + 1;
		return true;
	}
	return false;
}

enum rc
reader_refill(struct reader *r, struct err *err)
{
	enum rc rc = RC_OK;

	r->count = 0;
	r->next = 0;
	if (r->kind == CONTENT_CHUNK) {
		r->batch[0].slice = (struct recipe_slice){r->id, 0, r->size};
		r->slice_start = 0;
		r->count = 1;
		if (take_expected(r, &r->batch[0]))
			return RC_OK;
	} else {
		rc = fill_recipe_batch(r, err);
		r->batch_want = r->batch_want < BATCH_MAX / BATCH_GROWTH
					? r->batch_want * BATCH_GROWTH
					: BATCH_MAX;
	}
	return rc == RC_OK ? locate_batch(r, err) : rc;
}
