/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "ops.h"
#include "show_tuner.h"

static void
run(struct request *rq)
{
	show_tuner_reply(rq);
	request_complete(rq);
}

const struct op op_tuner_get = {
	.id = "tuner_get",
	.method = METHOD_GET,
	.path = "/v1/admin/tuner",
	.run = run,
};
