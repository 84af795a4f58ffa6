/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "db_conn.h"
#include "hex.h"
#include "log.h"

/* Columns in PostgreSQL's binary formats; see db_params.c for the other direction. */

#define PG_EPOCH_US INT64_C(946684800000000) /* 2000-01-01 in microseconds since 1970 */

struct db_result {
	PGresult *res;
	size_t rows;
};

enum rc
db_result_wrap(PGresult *res, struct db_result **out, struct err *err)
{
	struct db_result *r = malloc(sizeof *r);
	if (r == NULL) {
		PQclear(res);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	*r = (struct db_result){.res = res, .rows = (size_t)PQntuples(res)};
	*out = r;
	return RC_OK;
}

void
db_result_free(struct db_result *r)
{
	if (r == NULL)
		return;
	PQclear(r->res);
	free(r);
}

size_t
db_rows(const struct db_result *r)
{
	return r->rows;
}

uint64_t
db_affected(const struct db_result *r)
{
	const char *text = PQcmdTuples(r->res);
	uint64_t count = 0;

	/* "" for statements that have no count */
	return parse_u64(text, strlen(text), &count) ? count : 0;
}

static bool
is_inside(const struct db_result *r, size_t row, unsigned col)
{
	if (row < r->rows && col < (unsigned)PQnfields(r->res))
		return true;
	bug("result row %zu column %u does not exist", row, col);
	return false;
}

/* Types whose binary form is the bare text. */
static bool
is_text(Oid type)
{
	return type == DB_TEXT || type == 1043 || type == 1042 || type == 114 || type == 19;
}

/* The bytes of a value of the wanted type, or NULL after a bug(). */
static const uint8_t *
value(const struct db_result *r, size_t row, unsigned col, enum db_type wanted)
{
	if (!is_inside(r, row, col))
		return NULL;
	Oid type = PQftype(r->res, (int)col);
	bool fits = wanted == DB_TEXT ? is_text(type) : type == (Oid)wanted;
	if (!fits || PQfformat(r->res, (int)col) != 1) {
		bug("column %u has type %u, read as %d", col, type, (int)wanted);
		return NULL;
	}
	if (PQgetisnull(r->res, (int)row, (int)col)) {
		bug("column %u is NULL in row %zu", col, row);
		return NULL;
	}
	return (const uint8_t *)PQgetvalue(r->res, (int)row, (int)col);
}

static size_t
value_len(const struct db_result *r, size_t row, unsigned col)
{
	return (size_t)PQgetlength(r->res, (int)row, (int)col);
}

static uint64_t
get_be(const struct db_result *r, size_t row, unsigned col, enum db_type type, size_t bytes)
{
	const uint8_t *at = value(r, row, col, type);
	uint64_t v = 0;

	if (at == NULL)
		return 0;
	if (value_len(r, row, col) != bytes) {
		bug("column %u has %zu bytes, not %zu", col, value_len(r, row, col), bytes);
		return 0;
	}
	for (size_t i = 0; i < bytes; i++)
		v = v << 8 | at[i];
	return v;
}

bool
db_is_null(const struct db_result *r, size_t row, unsigned col)
{
	return !is_inside(r, row, col) || PQgetisnull(r->res, (int)row, (int)col) != 0;
}

bool
db_get_bool(const struct db_result *r, size_t row, unsigned col)
{
	return get_be(r, row, col, DB_BOOL, 1) != 0;
}

int16_t
db_get_i16(const struct db_result *r, size_t row, unsigned col)
{
	return (int16_t)get_be(r, row, col, DB_INT2, 2);
}

int32_t
db_get_i32(const struct db_result *r, size_t row, unsigned col)
{
	return (int32_t)get_be(r, row, col, DB_INT4, 4);
}

int64_t
db_get_i64(const struct db_result *r, size_t row, unsigned col)
{
	return (int64_t)get_be(r, row, col, DB_INT8, 8);
}

int64_t
db_get_timestamptz_us(const struct db_result *r, size_t row, unsigned col)
{
	int64_t v = (int64_t)get_be(r, row, col, DB_TIMESTAMPTZ, 8);

	if (v != INT64_MAX && v != INT64_MIN && __builtin_add_overflow(v, PG_EPOCH_US, &v))
		v = INT64_MAX;
	return v;
}

const char *
db_get_text(const struct db_result *r, size_t row, unsigned col, size_t *len)
{
	const uint8_t *at = value(r, row, col, DB_TEXT);
	if (len != NULL)
		*len = at != NULL ? value_len(r, row, col) : 0;
	return at != NULL ? (const char *)at : "";
}

const uint8_t *
db_get_bytea(const struct db_result *r, size_t row, unsigned col, size_t *len)
{
	const uint8_t *at = value(r, row, col, DB_BYTEA);
	*len = at != NULL ? value_len(r, row, col) : 0;
	return at != NULL ? at : (const uint8_t *)"";
}

void
db_get_bytea_into(const struct db_result *r, size_t row, unsigned col, void *out, size_t len)
{
	const uint8_t *at = value(r, row, col, DB_BYTEA);
	if (at == NULL || value_len(r, row, col) != len) {
		if (at != NULL)
			bug("column %u does not have %zu bytes", col, len);
		memset(out, 0, len);
		return;
	}
	memcpy(out, at, len);
}

void
db_get_uuid(const struct db_result *r, size_t row, unsigned col, uint8_t out[16])
{
	const uint8_t *at = value(r, row, col, DB_UUID);
	if (at == NULL || value_len(r, row, col) != 16)
		memset(out, 0, 16);
	else
		memcpy(out, at, 16);
}
