/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "db.h"
#include "log.h"

/* Parameters in PostgreSQL's binary formats: integers big-endian, timestamps in microseconds since
 * 2000, arrays as a header {dimensions, has_null, element type, count, lower bound} followed by
 * {length, bytes} for each element. */

#define PG_EPOCH_US        INT64_C(946684800000000) /* 2000-01-01 in microseconds since 1970 */
#define ARRAY_HEADER_BYTES 20u
#define ARRAY_EMPTY_BYTES  12u
#define NULL_LENGTH        0xffffffffu

static void
put_be(uint8_t *at, uint64_t v, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
}

static void
append_be(struct db_params *p, uint64_t v, size_t bytes)
{
	uint8_t *at = buf_grow(&p->data, bytes);
	if (at != NULL)
		put_be(at, v, bytes);
}

static uint32_t
array_type_of(enum db_type element)
{
	switch (element) {
	case DB_BYTEA:
		return 1001;
	case DB_INT2:
		return 1005;
	case DB_INT4:
		return 1007;
	case DB_TEXT:
		return 1009;
	case DB_INT8:
		return 1016;
	case DB_BOOL:
	case DB_TIMESTAMPTZ:
	case DB_UUID:
		break;
	}
	return 0;
}

void
db_params_init(struct db_params *p)
{
	*p = (struct db_params){.count = 0};
	buf_init(&p->data, DB_PARAMS_BYTES_MAX);
}

void
db_params_done(struct db_params *p)
{
	buf_done(&p->data);
	db_params_clear(p);
}

void
db_params_clear(struct db_params *p)
{
	buf_clear(&p->data);
	p->count = 0;
	p->failed = false;
	p->array_is_open = false;
}

static struct db_param *
next_param(struct db_params *p, uint32_t type)
{
	if (p->count == DB_PARAMS_MAX || p->array_is_open) {
		bug("database parameter %u: too many, or inside an array", p->count + 1);
		p->failed = true;
		return NULL;
	}
	struct db_param *param = &p->list[p->count++];
	*param = (struct db_param){.type = type, .at = p->data.len};
	return param;
}

static void
add_bytes(struct db_params *p, uint32_t type, const void *data, size_t len)
{
	struct db_param *param = next_param(p, type);
	if (param == NULL)
		return;
	param->len = len;
	buf_add(&p->data, data, len);
}

static void
add_be(struct db_params *p, uint32_t type, uint64_t v, size_t bytes)
{
	uint8_t be[8];

	put_be(be, v, bytes);
	add_bytes(p, type, be, bytes);
}

void
db_add_null(struct db_params *p)
{
	struct db_param *param = next_param(p, 0);
	if (param != NULL)
		param->is_null = true;
}

void
db_add_bool(struct db_params *p, bool v)
{
	add_be(p, DB_BOOL, v ? 1 : 0, 1);
}

void
db_add_i16(struct db_params *p, int16_t v)
{
	add_be(p, DB_INT2, (uint64_t)v, 2);
}

void
db_add_i32(struct db_params *p, int32_t v)
{
	add_be(p, DB_INT4, (uint64_t)v, 4);
}

void
db_add_i64(struct db_params *p, int64_t v)
{
	add_be(p, DB_INT8, (uint64_t)v, 8);
}

void
db_add_numbers(struct db_params *p, const struct db_stmt *stmt, const uint64_t *numbers)
{
	for (unsigned i = 0; i < stmt->params; i++) {
		if (stmt->types[i] == DB_INT2)
			db_add_i16(p, (int16_t)numbers[i]);
		else if (stmt->types[i] == DB_INT4)
			db_add_i32(p, (int32_t)numbers[i]);
		else
			db_add_i64(p, (int64_t)numbers[i]);
	}
}

void
db_add_text(struct db_params *p, const char *text, size_t len)
{
	add_bytes(p, DB_TEXT, text, len);
}

void
db_add_str(struct db_params *p, const char *text)
{
	add_bytes(p, DB_TEXT, text, strlen(text));
}

void
db_add_bytea(struct db_params *p, const void *data, size_t len)
{
	add_bytes(p, DB_BYTEA, data, len);
}

void
db_add_timestamptz_us(struct db_params *p, int64_t unix_us)
{
	int64_t v = unix_us;

	/* the two ends are PostgreSQL's infinities in both countings */
	if (v != INT64_MAX && v != INT64_MIN && __builtin_sub_overflow(v, PG_EPOCH_US, &v))
		v = INT64_MIN;
	add_be(p, DB_TIMESTAMPTZ, (uint64_t)v, 8);
}

void
db_add_uuid(struct db_params *p, const uint8_t uuid[16])
{
	add_bytes(p, DB_UUID, uuid, 16);
}

void
db_array_begin(struct db_params *p, enum db_type element)
{
	uint32_t type = array_type_of(element);
	if (type == 0) {
		bug("no arrays of type %d", (int)element);
		p->failed = true;
		return;
	}
	if (next_param(p, type) == NULL)
		return;
	p->array_is_open = true;
	p->array_has_null = false;
	p->array_type = element;
	p->array_count = 0;
	p->array_at = p->data.len;
	buf_grow(&p->data, ARRAY_HEADER_BYTES);
}

void
db_array_end(struct db_params *p)
{
	if (!p->array_is_open)
		return;
	p->array_is_open = false;
	if (!buf_ok(&p->data))
		return;
	uint8_t *header = p->data.data + p->array_at;
	bool is_empty = p->array_count == 0;
	put_be(header, is_empty ? 0 : 1, 4);
	put_be(header + 4, p->array_has_null ? 1 : 0, 4);
	put_be(header + 8, p->array_type, 4);
	put_be(header + 12, p->array_count, 4);
	put_be(header + 16, 1, 4);
	if (is_empty)
		p->data.len = p->array_at + ARRAY_EMPTY_BYTES;
	p->list[p->count - 1].len = p->data.len - p->array_at;
}

/* False if no array of this type is open. The length is bounded by the buffer's limit. */
static bool
next_element(struct db_params *p, enum db_type type)
{
	if (!p->array_is_open || p->array_type != (uint32_t)type) {
		if (!p->failed)
			bug("array element of type %d does not belong here", (int)type);
		p->failed = true;
		return false;
	}
	p->array_count++;
	return true;
}

static void
array_be(struct db_params *p, enum db_type type, uint64_t v, size_t bytes)
{
	if (!next_element(p, type))
		return;
	append_be(p, bytes, 4);
	append_be(p, v, bytes);
}

static void
array_bytes(struct db_params *p, enum db_type type, const void *data, size_t len)
{
	if (!next_element(p, type))
		return;
	if (len > DB_PARAMS_BYTES_MAX)
		len = DB_PARAMS_BYTES_MAX; /* does not fit either, and 4 + len does not wrap */
	uint8_t *at = buf_grow(&p->data, 4 + len);
	if (at == NULL)
		return;
	put_be(at, len, 4);
	if (len > 0)
		memcpy(at + 4, data, len);
}

void
db_array_null(struct db_params *p)
{
	if (!p->array_is_open) {
		p->failed = true;
		return;
	}
	p->array_count++;
	p->array_has_null = true;
	append_be(p, NULL_LENGTH, 4);
}

void
db_array_i16(struct db_params *p, int16_t v)
{
	array_be(p, DB_INT2, (uint64_t)v, 2);
}

void
db_array_i32(struct db_params *p, int32_t v)
{
	array_be(p, DB_INT4, (uint64_t)v, 4);
}

void
db_array_i64(struct db_params *p, int64_t v)
{
	array_be(p, DB_INT8, (uint64_t)v, 8);
}

void
db_array_text(struct db_params *p, const char *text, size_t len)
{
	array_bytes(p, DB_TEXT, text, len);
}

void
db_array_bytea(struct db_params *p, const void *data, size_t len)
{
	array_bytes(p, DB_BYTEA, data, len);
}

/* One allocation for the whole array where its size is known. */
static void
reserve(struct db_params *p, size_t count, size_t element_bytes)
{
	size_t bytes;
	if (__builtin_mul_overflow(count, element_bytes, &bytes))
		bytes = SIZE_MAX;
	buf_reserve(&p->data, bytes);
}

static bool
is_ok(const struct db_params *p)
{
	return !p->failed && buf_ok(&p->data);
}

void
db_add_bytea_array(
	struct db_params *p, size_t count, const void *base, size_t stride, size_t item_len)
{
	const uint8_t *item = base;

	db_array_begin(p, DB_BYTEA);
	if (item_len <= DB_PARAMS_BYTES_MAX)
		reserve(p, count, 4 + item_len);
	for (size_t i = 0; i < count && is_ok(p); i++)
		db_array_bytea(p, item + i * stride, item_len);
	db_array_end(p);
}

void
db_add_bytea_list(struct db_params *p, size_t count, const void *const *items, const size_t *lens)
{
	db_array_begin(p, DB_BYTEA);
	for (size_t i = 0; i < count && is_ok(p); i++)
		db_array_bytea(p, items[i], lens[i]);
	db_array_end(p);
}

void
db_add_text_array(struct db_params *p, size_t count, const char *const *texts, const size_t *lens)
{
	db_array_begin(p, DB_TEXT);
	for (size_t i = 0; i < count && is_ok(p); i++)
		db_array_text(p, texts[i], lens != NULL ? lens[i] : strlen(texts[i]));
	db_array_end(p);
}

void
db_add_i64_column(struct db_params *p, size_t count, const void *base, size_t stride)
{
	db_array_begin(p, DB_INT8);
	reserve(p, count, 4 + 8);
	for (size_t i = 0; i < count && is_ok(p); i++) {
		int64_t v;
		memcpy(&v, (const char *)base + i * stride, sizeof v);
		db_array_i64(p, v);
	}
	db_array_end(p);
}

void
db_add_i64_array(struct db_params *p, size_t count, const int64_t *values)
{
	db_add_i64_column(p, count, values, sizeof *values);
}

void
db_add_i32_array(struct db_params *p, size_t count, const int32_t *values)
{
	db_array_begin(p, DB_INT4);
	reserve(p, count, 4 + 4);
	for (size_t i = 0; i < count && is_ok(p); i++)
		db_array_i32(p, values[i]);
	db_array_end(p);
}

void
db_add_i16_array(struct db_params *p, size_t count, const int16_t *values)
{
	db_array_begin(p, DB_INT2);
	reserve(p, count, 4 + 2);
	for (size_t i = 0; i < count && is_ok(p); i++)
		db_array_i16(p, values[i]);
	db_array_end(p);
}
