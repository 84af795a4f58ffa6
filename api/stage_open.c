/* SPDX-License-Identifier: Apache-2.0 */
/* stage_open and stage_create: the same, but for who says the name, and where. */

#include "json_body.h"
#include "name.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_stage.h"
#include "upload.h"

#define TTL_SECONDS_MAX 604800
#define BODY_BYTES_MAX  ((size_t)256 << 10)

/* From the life that was asked for; 0: none was. */
static bool
take_ttl(struct request *rq, const struct json_field *f, uint64_t *ttl_us)
{
	*ttl_us = 0;
	if (!f->given)
		return true;
	if (f->integer < 1 || f->integer > TTL_SECONDS_MAX) {
		json_body_refuse(
			rq, f->name, "field \"%s\" must be from 1 to %d", f->name, TTL_SECONDS_MAX);
		return false;
	}
	*ttl_us = (uint64_t)f->integer * 1000000;
	return true;
}

static void
open_stage(struct request *rq, const char *name, uint64_t ttl_us)
{
	struct err err = ERR_INIT;
	struct stage *s;
	bool created;

	enum rc rc = upload_open_stage(rq, name, ttl_us, &s, &created, &err);
	if (s != NULL)
		reply_header(rq, "Digstore-Stage", "%s", stage_name(s));
	if (rc == RC_OK)
		reply_stage(rq, s, created);
	else if (err_is(&err, "invalid-field"))
		json_body_refuse(rq, "ttl_seconds", "%s", err.text); /* the server allows less */
	else
		reply_stage_problem(rq, s, &err);
	stage_unref(s);
}

static bool
check_name(struct request *rq, const struct json_field *f)
{
	struct err err = ERR_INIT;

	if (!f->given || name_check_stage(f->text, f->text_len, &err) == RC_OK)
		return true;
	reply_problem_with(rq, &err, json_pack("{s:s}", "field", f->name));
	return false;
}

static void
run_open(struct request *rq)
{
	struct json_field fields[] = {
		{.name = "name", .kind = JSON_KIND_TEXT},
		{.name = "ttl_seconds", .kind = JSON_KIND_INTEGER},
	};
	json_t *root = NULL;
	uint64_t ttl_us;

	if (json_body_take(rq, fields, 2, &root) && check_name(rq, &fields[0]) &&
		take_ttl(rq, &fields[1], &ttl_us))
		open_stage(rq, fields[0].text, ttl_us);
	json_decref(root);
	request_complete(rq);
}

static void
run_create(struct request *rq)
{
	struct json_field fields[] = {{.name = "ttl_seconds", .kind = JSON_KIND_INTEGER}};
	json_t *root = NULL;
	uint64_t ttl_us;

	if (json_body_take(rq, fields, 1, &root) && take_ttl(rq, &fields[0], &ttl_us))
		open_stage(rq, request_param(rq, "stage")->value, ttl_us);
	json_decref(root);
	request_complete(rq);
}

const struct op op_stage_open = {
	.id = "stage_open",
	.method = METHOD_POST,
	.path = "/v1/repos/{repo}/stages",
	.body = BODY_JSON,
	.body_bytes_max = BODY_BYTES_MAX,
	.body_optional = true,
	.admit = parse_admit,
	.run = run_open,
};

const struct op op_stage_create = {
	.id = "stage_create",
	.method = METHOD_PUT,
	.path = "/v1/repos/{repo}/stages/{stage}",
	.body = BODY_JSON,
	.body_bytes_max = BODY_BYTES_MAX,
	.body_optional = true,
	.admit = parse_admit,
	.run = run_create,
};
