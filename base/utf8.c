/* SPDX-License-Identifier: Apache-2.0 */
#include "utf8.h"

#include <stdint.h>
#include <string.h>

static bool
is_trail(uint8_t c)
{
	return (c & 0xc0) == 0x80;
}

/* Length of the multi-byte character at p, of which left bytes are there; 0 if it is none. What
 * the second byte may be decides alone about overlong forms, surrogates and the upper end. */
static size_t
multibyte(const uint8_t *p, size_t left)
{
	uint8_t lead = p[0];
	size_t len = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
	uint8_t low = 0x80;
	uint8_t high = 0xbf;

	if (lead < 0xc2 || lead > 0xf4 || left < len)
		return 0;
	if (lead == 0xe0)
		low = 0xa0;
	else if (lead == 0xed)
		high = 0x9f;
	else if (lead == 0xf0)
		low = 0x90;
	else if (lead == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (!is_trail(p[i]))
			return 0;
	return len;
}

bool
utf8_valid(const char *text, size_t len)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t i = 0;

	while (i < len) {
		uint64_t eight;
		if (len - i >= sizeof eight) {
			memcpy(&eight, p + i, sizeof eight);
			if ((eight & UINT64_C(0x8080808080808080)) == 0) {
				i += sizeof eight;
				continue;
			}
		}
		size_t n = p[i] < 0x80 ? 1 : multibyte(p + i, len - i);
		if (n == 0)
			return false;
		i += n;
	}
	return true;
}
