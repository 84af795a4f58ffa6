/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SHOW_IMPORT_H
#define DG_SHOW_IMPORT_H

#include <jansson.h>

#include "imports.h"

/* show_import: imports as JSON. Threads: any. */

/* "waiting", "running", …; static. */
const char *show_import_state(enum import_state state);
/* All but the report, as lists have it. A new reference; NULL: no memory. */
json_t *show_import(const struct import_info *info);
/* With the report. */
json_t *show_import_whole(const struct import_info *info);

#endif
