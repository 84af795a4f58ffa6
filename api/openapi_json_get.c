/* SPDX-License-Identifier: Apache-2.0 */
#include "openapi_data.h"
#include "ops.h"

static void
end(struct request *rq)
{
	reply_bytes(rq, 200, "application/json", openapi_json, openapi_json_bytes);
	request_complete(rq);
}

const struct op op_openapi_json_get = {
	.id = "openapi_json_get",
	.method = METHOD_GET,
	.path = "/openapi.json",
	.end = end,
};
