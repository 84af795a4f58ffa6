/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "json_body.h"
#include "ops.h"
#include "problem.h"
#include "services.h"
#include "show_recompression.h"

#define BODY_BYTES_MAX ((size_t)256 << 10)

static bool
take_action(struct request *rq, const struct json_field *f, enum recompress_action *out)
{
	static const char *const names[] = {
		[RECOMPRESS_RUN] = "run",
		[RECOMPRESS_PAUSE] = "pause",
		[RECOMPRESS_RESUME] = "resume",
	};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strlen(names[i]) == f->text_len && strcmp(names[i], f->text) == 0) {
			*out = (enum recompress_action)i;
			return true;
		}
	json_body_refuse(rq, f->name, "action must be \"run\", \"pause\" or \"resume\"");
	return false;
}

static void
answer(struct request *rq)
{
	struct json_field fields[] = {
		{.name = "action", .kind = JSON_KIND_TEXT, .required = true},
	};
	enum recompress_action action;
	struct err err = ERR_INIT;
	json_t *root = NULL;

	if (!json_body_take(rq, fields, sizeof fields / sizeof fields[0], &root))
		return;
	bool ok = take_action(rq, &fields[0], &action);
	json_decref(root);
	if (!ok)
		return;
	if (recompress_control(rq->srv->recompress, action, &err) == RC_OK)
		reply_recompression(rq);
	else
		reply_problem(rq, &err);
}

/* Nothing here blocks. */
static void
end(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

const struct op op_recompression_control = {
	.id = "recompression_control",
	.method = METHOD_POST,
	.path = "/v1/admin/recompression",
	.body = BODY_JSON,
	.body_bytes_max = BODY_BYTES_MAX,
	.end = end,
};
