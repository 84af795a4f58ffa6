/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"
#include "show_recompression.h"

/* From memory, on the HTTP thread: who watches must not look like work. */
static void
end(struct request *rq)
{
	reply_recompression(rq);
	request_complete(rq);
}

const struct op op_recompression_get = {
	.id = "recompression_get",
	.method = METHOD_GET,
	.path = "/v1/admin/recompression",
	.end = end,
};
