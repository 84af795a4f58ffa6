/* SPDX-License-Identifier: Apache-2.0 */
#include "hex.h"

#include <string.h>

void
hex_encode(const uint8_t *data, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*out++ = digits[data[i] >> 4];
		*out++ = digits[data[i] & 15];
	}
	*out = '\0';
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool
hex_decode(const char *text, size_t text_len, uint8_t *out, size_t len)
{
	if (text_len != 2 * len)
		return false;
	for (size_t i = 0; i < len; i++) {
		int hi = hex_value(text[2 * i]);
		int lo = hex_value(text[2 * i + 1]);
		if (hi < 0 || lo < 0)
			return false;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return true;
}

static int
base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	if (c == '/')
		return 63;
	return -1;
}

bool
base64_decode(const char *text, size_t text_len, uint8_t *out, size_t len)
{
	size_t groups = (len + 2) / 3;
	size_t pad = groups * 3 - len;

	if (text_len != groups * 4)
		return false;
	for (size_t g = 0, o = 0; g < groups; g++) {
		uint32_t v = 0;
		for (size_t k = 0; k < 4; k++) {
			char c = text[4 * g + k];
			bool is_pad = g == groups - 1 && k >= 4 - pad;
			int d = is_pad ? (c == '=' ? 0 : -1) : base64_value(c);
			if (d < 0)
				return false;
			v = v << 6 | (uint32_t)d;
		}
		for (int shift = 16; shift >= 0; shift -= 8) {
			if (o < len)
				out[o++] = (uint8_t)(v >> shift);
			else if ((uint8_t)(v >> shift) != 0)
				return false; /* not canonical */
		}
	}
	return true;
}

bool
parse_u64(const char *text, size_t text_len, uint64_t *out)
{
	uint64_t v = 0;

	if (text_len == 0 || text_len > 19)
		return false;
	for (size_t i = 0; i < text_len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(text[i] - '0');
	}
	*out = v;
	return true;
}
