/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "json_body.h"
#include "ops.h"
#include "pilot.h"
#include "problem.h"
#include "services.h"
#include "show_tuner.h"

#define BODY_BYTES_MAX ((size_t)256 << 10)

static void
answer(struct request *rq)
{
	struct json_field fields[] = {
		{.name = "mode", .kind = JSON_KIND_TEXT, .required = true},
		{.name = "reset", .kind = JSON_KIND_BOOLEAN},
	};
	json_t *root;
	enum tuner_mode mode;
	struct err err = ERR_INIT;

	if (!json_body_take(rq, fields, sizeof fields / sizeof fields[0], &root))
		return;
	if (!tuner_mode_find(fields[0].text, &mode))
		json_body_refuse(rq, "mode", "mode must be \"on\", \"frozen\" or \"off\"");
	else if (pilot_set_mode(rq->srv->pilot, mode, fields[1].boolean, &err) != RC_OK)
		reply_problem(rq, &err);
	else
		show_tuner_reply(rq);
	json_decref(root);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

const struct op op_tuner_put = {
	.id = "tuner_put",
	.method = METHOD_PUT,
	.path = "/v1/admin/tuner",
	.body = BODY_JSON,
	.body_bytes_max = BODY_BYTES_MAX,
	.run = run,
};
