/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SHOW_RECOMPRESSION_H
#define DG_SHOW_RECOMPRESSION_H

#include "request.h"

/* show_recompression: what recompression does, as the answer to rq: 200. From memory; does not
 * block. Threads: any. */
void reply_recompression(struct request *rq);

#endif
