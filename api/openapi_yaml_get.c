/* SPDX-License-Identifier: Apache-2.0 */
#include "openapi_data.h"
#include "ops.h"

static void
end(struct request *rq)
{
	reply_bytes(rq, 200, "application/yaml", openapi_yaml, openapi_yaml_bytes);
	request_complete(rq);
}

const struct op op_openapi_yaml_get = {
	.id = "openapi_yaml_get",
	.method = METHOD_GET,
	.path = "/openapi.yaml",
	.end = end,
};
