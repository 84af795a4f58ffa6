/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SHOW_COMMIT_H
#define DG_SHOW_COMMIT_H

#include <jansson.h>

#include "commit.h"
#include "repo.h"

/* show_commit: commits and refs as JSON. Every function gives a new reference, or NULL if there is
 * no memory. Threads: any. */

json_t *show_commit(const struct repo *repo, const struct commit *c);
json_t *show_ref(const struct ref_row *row);

#endif
