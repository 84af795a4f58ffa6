/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_HEX_H
#define DG_HEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* hex, base64 and strict numbers: text forms of bytes and integers. */

/* 2*len lower-case digits and a NUL into out. */
void hex_encode(const uint8_t *data, size_t len, char *out);
/* Exactly 2*len digits of either case; false (out undefined) otherwise. */
bool hex_decode(const char *text, size_t text_len, uint8_t *out, size_t len);
/* Standard base64 with padding that decodes to exactly len bytes; false otherwise. */
bool base64_decode(const char *text, size_t text_len, uint8_t *out, size_t len);
/* Digits only, no sign, at most 19 of them; false otherwise. */
bool parse_u64(const char *text, size_t text_len, uint64_t *out);

#endif
