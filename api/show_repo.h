/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SHOW_REPO_H
#define DG_SHOW_REPO_H

#include <jansson.h>

#include "repo.h"

/* show_repo: name, description, chunk_target_bytes, created_at. A new reference; NULL: no memory.
 * Threads: any. */
json_t *show_repo(const struct repo *repo);

#endif
