/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SHOW_TUNER_H
#define DG_SHOW_TUNER_H

#include "request.h"

/* show_tuner: what the tuner knows and does. Op workers; does not block. */

/* Answer 200 with all of it, or 503 if there is no memory. */
void show_tuner_reply(struct request *rq);

#endif
