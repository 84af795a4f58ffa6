/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_NAME_H
#define DG_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

/* name: which names repositories, stages and refs may have.
 *
 * repository  [a-z0-9][a-z0-9._-]{0,99}, without ".." and not ending in "."
 * stage       [A-Za-z0-9][A-Za-z0-9._-]{0,99}
 * ref         segments of [A-Za-z0-9._-]+ joined by "/", at most 200 bytes in all, without "..";
 *             no segment starts with "." or ends in ".lock", the ref does not end in ".", and it
 *             is not 8 or more hex digits and nothing else, because that is a commit's id or a
 *             prefix of one wherever a revision is asked for
 *
 * Each check returns RC_OK, or RC_INVALID kind "invalid-name" whose text says what is wrong, at
 * which byte (from 0), and what is allowed. Names are borrowed and need not end in NUL. Nothing
 * here allocates. Threads: any. */

#define NAME_REPO_BYTES_MAX  100
#define NAME_STAGE_BYTES_MAX 100
#define NAME_REF_BYTES_MAX   200
/* A string of hex digits from this length on is a revision and never a ref. */
#define NAME_REV_DIGITS_MIN 8

enum rc name_check_repo(const char *p, size_t len, struct err *err);
enum rc name_check_stage(const char *p, size_t len, struct err *err);
enum rc name_check_ref(const char *p, size_t len, struct err *err);

/* Whether p is a commit id or a prefix of one by its form: NAME_REV_DIGITS_MIN to 64 hex digits of
 * either case. */
bool name_is_rev(const char *p, size_t len);

#endif
