/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_UTF8_H
#define DG_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the len bytes are UTF-8 as RFC 3629 has it: shortest forms only, no surrogates, nothing
 * above U+10FFFF, no character cut off. NUL and other control characters pass: refusing those is
 * the caller's rule. No bytes at all are valid. */
bool utf8_valid(const char *text, size_t len);

#endif
