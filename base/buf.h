/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_BUF_H
#define DG_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* buf: a growable byte buffer that knows the size it may never exceed.
 *
 * Failure is sticky: once an append does not fit (limit or memory), the buffer is failed, further
 * appends do nothing, and buf_ok() says so; so a builder appends freely and checks once.
 * Integers are little-endian, as everything Digstore writes.
 * Threads: one buffer, one thread. */

struct buf {
	uint8_t *data;
	size_t len;
	size_t cap;
	size_t max;
	bool failed;
};

void buf_init(struct buf *b, size_t bytes_max);
/* Free the memory; the buffer may be used again with the same limit. NULL is allowed. */
void buf_done(struct buf *b);
/* Empty it, keep the memory, forget a failure. */
void buf_clear(struct buf *b);
bool buf_ok(const struct buf *b);
/* Room for n more bytes without another allocation; false (and failed) if impossible. */
bool buf_reserve(struct buf *b, size_t n);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_add_str(struct buf *b, const char *s);
void buf_add_u8(struct buf *b, uint8_t v);
void buf_add_u16(struct buf *b, uint16_t v);
void buf_add_u32(struct buf *b, uint32_t v);
void buf_add_u64(struct buf *b, uint64_t v);
/* LEB128, 1 to 10 bytes. */
void buf_add_varint(struct buf *b, uint64_t v);
/* Its decimal digits. */
void buf_add_decimal(struct buf *b, uint64_t v);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Append n uninitialised bytes and return where they are; NULL on failure. */
uint8_t *buf_grow(struct buf *b, size_t n);
/* NUL-terminate (the NUL does not count in len) and return as text; "" on failure. */
const char *buf_cstr(struct buf *b);
/* Hand the memory over to the caller, who frees it with free(); the buffer is empty after. */
uint8_t *buf_take(struct buf *b, size_t *len);

/* cur: a bounds-checked reader over borrowed bytes. A read past the end returns 0 (or NULL) and
 * makes the cursor failed for good; check cur_ok() once at the end. */
struct cur {
	const uint8_t *p;
	const uint8_t *end;
	bool failed;
};

void cur_init(struct cur *c, const void *data, size_t len);
bool cur_ok(const struct cur *c);
size_t cur_left(const struct cur *c);
uint8_t cur_u8(struct cur *c);
uint16_t cur_u16(struct cur *c);
uint32_t cur_u32(struct cur *c);
uint64_t cur_u64(struct cur *c);
uint64_t cur_varint(struct cur *c);
/* n borrowed bytes, or NULL. n = 0 gives a non-NULL pointer. */
const uint8_t *cur_bytes(struct cur *c, size_t n);

/* Little-endian loads and stores at any alignment. */
uint16_t get_u16(const uint8_t *p);
uint32_t get_u32(const uint8_t *p);
uint64_t get_u64(const uint8_t *p);
void put_u16(uint8_t *p, uint16_t v);
void put_u32(uint8_t *p, uint32_t v);
void put_u64(uint8_t *p, uint64_t v);

#endif
