/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SHOW_PROGRESS_H
#define DG_SHOW_PROGRESS_H

#include <jansson.h>

#include "stage.h"

/* show_progress: the progress object. Threads: any. */

/* "open", "committing", …; a stage that is gone counts as expired. Static. */
const char *show_stage_state(enum stage_state state);
/* "many_small", "few_large", or "mixed" while nothing is known. Static. */
const char *show_workload(enum stage_workload workload);
/* "analyzing", "processing" or "finalizing". Static. */
const char *show_phase_name(enum stage_phase phase);
/* A new reference; NULL: no memory. */
json_t *show_progress(const struct progress *p);

#endif
