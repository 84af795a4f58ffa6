/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stddef.h>

#include "ops.h"
#include "problem.h"
#include "services.h"

#define RETRY_SECONDS 2

/* why is NULL if all is well. */
static void
add_check(json_t *checks, const char *name, const char *why, bool *is_ready)
{
	json_array_append_new(checks,
		json_pack("{s:s, s:b, s:s?}", "name", name, "ok", why == NULL, "reason", why));
	*is_ready = *is_ready && why == NULL;
}

static void
end(struct request *rq)
{
	struct readiness *r = &rq->srv->readiness;
	json_t *checks = json_array();
	bool is_ready = true;

	add_check(checks, "database", atomic_load(&r->database), &is_ready);
	add_check(checks, "storage", atomic_load(&r->storage), &is_ready);
	add_check(checks, "accepting",
		atomic_load(&r->draining) ? "the server is shutting down" : NULL, &is_ready);
	if (!is_ready)
		reply_header(rq, "Retry-After", "%d", RETRY_SECONDS);
	reply_json(rq, is_ready ? 200 : 503,
		json_pack("{s:s, s:o}", "status", is_ready ? "ready" : "not-ready", "checks",
			checks));
	request_complete(rq);
}

const struct op op_ready_get = {
	.id = "ready_get",
	.method = METHOD_GET,
	.path = "/readyz",
	.end = end,
};
