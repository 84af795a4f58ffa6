/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"
#include "problem.h"
#include "services.h"

static void
end(struct request *rq)
{
	json_t *links = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "repos",
		"/v1/repos", "progress", "/v1/progress", "events", "/v1/events", "openapi",
		"/openapi.yaml", "health", "/healthz", "ready", "/readyz", "metrics", "/metrics",
		"monitor", "/v1/admin/monitor", "tuner", "/v1/admin/tuner");

	reply_json(rq, 200,
		json_pack("{s:s, s:s, s:s, s:o}", "name", "digstore", "version", rq->srv->version,
			"api", "v1", "links", links));
	request_complete(rq);
}

const struct op op_root_get = {
	.id = "root_get",
	.method = METHOD_GET,
	.path = "/v1",
	.end = end,
};
