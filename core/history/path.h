/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PATH_H
#define DG_PATH_H

#include <stddef.h>

#include "err.h"

/* path: which names a file of a snapshot may have, and how one is shown in a message.
 *
 * A path is 1 to PATH_BYTES_MAX bytes of UTF-8: segments of 1 to PATH_SEGMENT_BYTES_MAX bytes
 * joined by single slashes. No segment is "." or "..", and no byte is below 0x20, 0x7f or a
 * backslash. So a path can be unpacked below any directory of any system we know without leaving
 * it, and sorting by bytes sorts by code point. Nothing is folded or normalised: two paths are the
 * same if their bytes are. Nothing here allocates. Threads: any. */

#define PATH_BYTES_MAX         1024
#define PATH_SEGMENT_BYTES_MAX 255

/* RC_OK, or RC_INVALID kind "invalid-path" whose text says what is wrong, at which byte (from 0),
 * and what is allowed. p is borrowed and need not end in NUL. */
enum rc path_check(const char *p, size_t len, struct err *err);

#define PATH_SHOW_BYTES 128
/* p as one printable line of valid UTF-8 for a message, shortened in the middle to fit into out
 * (PATH_SHOW_BYTES); control bytes, quotes and backslashes become "?", and so does every byte above
 * 0x7e if p is not UTF-8. Returns out. */
const char *path_show(char *out, const char *p, size_t len);

#endif
