/* SPDX-License-Identifier: Apache-2.0 */
#include "cursor.h"

#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "checksum.h"
#include "parse.h"

#define CHECK_BYTES 4

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* ---- base64url without padding ---- */

static size_t
encode(const uint8_t *data, size_t len, char *out)
{
	size_t n = 0;
	uint32_t bits = 0;
	unsigned held = 0;

	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | data[i];
		for (held += 8; held >= 6; held -= 6)
			out[n++] = digits[bits >> (held - 6) & 63];
	}
	if (held > 0)
		out[n++] = digits[bits << (6 - held) & 63];
	return n;
}

/* Returns the bytes, or SIZE_MAX if text is not what encode writes. */
static size_t
decode(const char *text, size_t len, uint8_t *out)
{
	size_t n = 0;
	uint32_t bits = 0;
	unsigned held = 0;

	for (size_t i = 0; i < len; i++) {
		const char *d = text[i] != '\0' ? strchr(digits, text[i]) : NULL;
		if (d == NULL)
			return SIZE_MAX;
		bits = bits << 6 | (uint32_t)(d - digits);
		held += 6;
		if (held >= 8) {
			held -= 8;
			out[n++] = (uint8_t)(bits >> held);
		}
	}
	if (held == 6 || (bits & ((1u << held) - 1)) != 0)
		return SIZE_MAX;
	return n;
}

/* ---- scope ---- */

void
cursor_scope_init(struct cursor_scope *s, enum cursor_list list)
{
	s->hash = (uint64_t)list;
}

void
cursor_scope_add(struct cursor_scope *s, const void *text, size_t len)
{
	s->hash = checksum64_seeded(text, len, s->hash);
}

void
cursor_scope_add_param(struct cursor_scope *s, struct request *rq, const char *name)
{
	const struct request_param *p = request_param(rq, name);

	cursor_scope_add(s, p->value, p->len);
}

void
cursor_scope_add_query(struct cursor_scope *s, struct request *rq, const char *name)
{
	const char *value = request_query(rq, name);

	cursor_scope_add(s, value != NULL ? value : "", value != NULL ? strlen(value) : 0);
}

/* ---- cursors ---- */

static uint32_t
check_of(const struct cursor_scope *s, const void *data, size_t len)
{
	return (uint32_t)checksum64_seeded(data, len, s->hash);
}

bool
cursor_decode(const struct cursor_scope *s, const char *text, size_t len, struct cursor *out)
{
	uint8_t raw[CURSOR_TEXT_MAX];

	if (len > CURSOR_TEXT_MAX)
		return false;
	size_t n = decode(text, len, raw);
	if (n == SIZE_MAX || n <= CHECK_BYTES || n > CHECK_BYTES + CURSOR_DATA_MAX)
		return false;
	out->len = n - CHECK_BYTES;
	memcpy(out->data, raw + CHECK_BYTES, out->len);
	out->data[out->len] = '\0';
	return get_u32(raw) == check_of(s, out->data, out->len);
}

bool
cursor_take(struct request *rq, const struct cursor_scope *s, struct cursor *out)
{
	const char *text = request_query(rq, "cursor");

	*out = (struct cursor){.len = 0};
	if (text == NULL || cursor_decode(s, text, strlen(text), out))
		return true;
	parse_refuse_query(rq, "cursor",
		"cursor is not the next_cursor of a page of this list; leave it out to begin at "
		"the "
		"start");
	return false;
}

json_t *
cursor_make(const struct cursor_scope *s, const void *data, size_t len)
{
	uint8_t raw[CHECK_BYTES + CURSOR_DATA_MAX];
	char text[CURSOR_TEXT_MAX];

	put_u32(raw, check_of(s, data, len));
	memcpy(raw + CHECK_BYTES, data, len);
	return json_stringn(text, encode(raw, CHECK_BYTES + len, text));
}
