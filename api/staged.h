/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_STAGED_H
#define DG_STAGED_H

#include <stdbool.h>

#include "request.h"
#include "stage.h"

/* staged: what operations on staged files begin and end with. All block. */

/* The stage of rq, not an expired one, with the header that names it. false: rq is answered. To be
 * given back with stage_unref. */
bool staged_find(struct request *rq, struct stage **out);
/* Answer with err; "path-not-found" names the path. */
void staged_refuse(struct request *rq, struct stage *s, const struct err *err);

#endif
