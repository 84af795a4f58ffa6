/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PUT_PREFIX_H
#define DG_PUT_PREFIX_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"
#include "path.h"
#include "request.h"

/* put_prefix: ?prefix= of uploads of many files, the directory that they are put below. */

#define PUT_PREFIX_BYTES (PATH_BYTES_MAX + 2)

/* text ("" or a directory, with or without a slash at its end) as "" or "some/dir/" into out
 * (PUT_PREFIX_BYTES). RC_INVALID kind "invalid-path". */
enum rc put_prefix_from(const char *text, char *out, struct err *err);
/* ?prefix= of rq, "" or "some/dir/" into out (PUT_PREFIX_BYTES). false: it is no path, and rq is
 * answered (400 invalid-path). */
bool put_prefix_take(struct request *rq, char *out);

#endif
