/* SPDX-License-Identifier: Apache-2.0 */
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
buf_init(struct buf *b, size_t bytes_max)
{
	*b = (struct buf){.max = bytes_max};
}

void
buf_done(struct buf *b)
{
	if (b == NULL)
		return;
	free(b->data);
	*b = (struct buf){.max = b->max};
}

void
buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

bool
buf_ok(const struct buf *b)
{
	return !b->failed;
}

bool
buf_reserve(struct buf *b, size_t n)
{
	if (b->failed)
		return false;
	if (n <= b->cap - b->len)
		return true;
	if (n > b->max || b->len > b->max - n) {
		b->failed = true;
		return false;
	}
	size_t cap = b->cap < 64 ? 64 : b->cap;
	if (cap > b->max) /* or what fits in cap would go past max */
		cap = b->max;
	while (cap < b->len + n)
		cap = cap > b->max / 2 ? b->max : cap * 2;
	uint8_t *data = realloc(b->data, cap);
	if (data == NULL) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

uint8_t *
buf_grow(struct buf *b, size_t n)
{
	if (!buf_reserve(b, n))
		return NULL;
	uint8_t *at = b->data + b->len;
	b->len += n;
	return at;
}

void
buf_add(struct buf *b, const void *data, size_t len)
{
	if (len == 0)
		return;
	uint8_t *at = buf_grow(b, len);
	if (at != NULL)
		memcpy(at, data, len);
}

void
buf_add_str(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void
buf_add_u8(struct buf *b, uint8_t v)
{
	buf_add(b, &v, 1);
}

void
buf_add_u16(struct buf *b, uint16_t v)
{
	uint8_t *at = buf_grow(b, 2);
	if (at != NULL)
		put_u16(at, v);
}

void
buf_add_u32(struct buf *b, uint32_t v)
{
	uint8_t *at = buf_grow(b, 4);
	if (at != NULL)
		put_u32(at, v);
}

void
buf_add_u64(struct buf *b, uint64_t v)
{
	uint8_t *at = buf_grow(b, 8);
	if (at != NULL)
		put_u64(at, v);
}

void
buf_add_varint(struct buf *b, uint64_t v)
{
	while (v >= 0x80) {
		buf_add_u8(b, (uint8_t)(v | 0x80));
		v >>= 7;
	}
	buf_add_u8(b, (uint8_t)v);
}

void
buf_add_decimal(struct buf *b, uint64_t v)
{
	char digits[20];
	size_t at = sizeof digits;

	do {
		digits[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	buf_add(b, digits + at, sizeof digits - at);
}

void
buf_addf(struct buf *b, const char *fmt, ...)
{
	size_t room = b->failed ? 0 : b->cap - b->len;
	va_list ap;
	va_list again;

	va_start(ap, fmt);
	va_copy(again, ap);
	int need = vsnprintf(room > 0 ? (char *)b->data + b->len : NULL, room, fmt, ap);
	va_end(ap);
	if (need < 0) {
		b->failed = true;
	} else if ((size_t)need < room) {
		b->len += (size_t)need;
	} else if (buf_reserve(b, (size_t)need + 1)) {
		vsnprintf((char *)b->data + b->len, (size_t)need + 1, fmt, again);
		b->len += (size_t)need;
	}
	va_end(again);
}

const char *
buf_cstr(struct buf *b)
{
	if (!buf_reserve(b, 1))
		return "";
	b->data[b->len] = '\0';
	return (const char *)b->data;
}

uint8_t *
buf_take(struct buf *b, size_t *len)
{
	uint8_t *data = b->data;
	*len = b->len;
	*b = (struct buf){.max = b->max};
	return data;
}

void
cur_init(struct cur *c, const void *data, size_t len)
{
	c->p = len > 0 ? data : (const uint8_t *)""; /* so that no bytes are never NULL */
	c->end = c->p + len;
	c->failed = false;
}

bool
cur_ok(const struct cur *c)
{
	return !c->failed;
}

size_t
cur_left(const struct cur *c)
{
	return c->failed ? 0 : (size_t)(c->end - c->p);
}

const uint8_t *
cur_bytes(struct cur *c, size_t n)
{
	if (c->failed || (size_t)(c->end - c->p) < n) {
		c->failed = true;
		return NULL;
	}
	const uint8_t *at = c->p;
	c->p += n;
	return at;
}

uint8_t
cur_u8(struct cur *c)
{
	const uint8_t *p = cur_bytes(c, 1);
	return p ? *p : 0;
}

uint16_t
cur_u16(struct cur *c)
{
	const uint8_t *p = cur_bytes(c, 2);
	return p ? get_u16(p) : 0;
}

uint32_t
cur_u32(struct cur *c)
{
	const uint8_t *p = cur_bytes(c, 4);
	return p ? get_u32(p) : 0;
}

uint64_t
cur_u64(struct cur *c)
{
	const uint8_t *p = cur_bytes(c, 8);
	return p ? get_u64(p) : 0;
}

uint64_t
cur_varint(struct cur *c)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t byte = cur_u8(c);
		if (c->failed)
			return 0;
		if (shift == 63 && byte > 1)
			break;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			return v;
	}
	c->failed = true;
	return 0;
}

uint16_t
get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

uint32_t
get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t
get_u64(const uint8_t *p)
{
	return (uint64_t)get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

void
put_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

void
put_u32(uint8_t *p, uint32_t v)
{
	put_u16(p, (uint16_t)v);
	put_u16(p + 2, (uint16_t)(v >> 16));
}

void
put_u64(uint8_t *p, uint64_t v)
{
	put_u32(p, (uint32_t)v);
	put_u32(p + 4, (uint32_t)(v >> 32));
}
