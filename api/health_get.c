/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"

/* On the HTTP thread, without memory or workers: it answers as long as the process can. */
static void
end(struct request *rq)
{
	static const char body[] = "{\"status\":\"ok\"}\n";

	reply_bytes(rq, 200, "application/json", body, sizeof body - 1);
	request_complete(rq);
}

const struct op op_health_get = {
	.id = "health_get",
	.method = METHOD_GET,
	.path = "/healthz",
	.end = end,
};
