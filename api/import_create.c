/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commit_fields.h"
#include "json_body.h"
#include "name.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "put_prefix.h"
#include "services.h"
#include "show_import.h"
#include "show_stage.h"
#include "upload.h"

#define BODY_BYTES_MAX ((size_t)256 << 10)

enum {
	FIELD_PATH = COMMIT_FIELDS,
	FIELD_STAGE,
	FIELD_PREFIX,
	FIELD_ON_ERROR,
	FIELD_SPECIAL,
	FIELD_COUNT,
};

static const struct json_field own_fields[FIELD_COUNT - COMMIT_FIELDS] = {
	{.name = "path", .kind = JSON_KIND_TEXT, .required = true},
	{.name = "stage", .kind = JSON_KIND_TEXT},
	{.name = "prefix", .kind = JSON_KIND_TEXT},
	{.name = "on_error", .kind = JSON_KIND_TEXT},
	{.name = "special", .kind = JSON_KIND_TEXT},
};

/* What one request is made from. */
struct body {
	struct json_field fields[FIELD_COUNT];
	json_t *root;
	char *metadata; /* canonical, owned */
	char prefix[PUT_PREFIX_BYTES];
	const char *stage; /* NULL: one of the import's own */
	struct commit_request commit;
	struct import_request request;
};

/* ---- fields; each function answers when it returns false ---- */

/* Exactly one of ref and stage, and nothing about a commit that will not be made. */
static bool
check_target(struct request *rq, const struct json_field *fields)
{
	bool pushes = fields[COMMIT_FIELD_REF].given;

	if (pushes == fields[FIELD_STAGE].given) {
		json_body_refuse(rq, "ref",
			"exactly one of \"ref\" (the import is committed to it) and \"stage\" (its "
			"files are staged there) must be given");
		return false;
	}
	for (int i = 0; i < COMMIT_FIELDS; i++) {
		if (pushes || !fields[i].given)
			continue;
		json_body_refuse(rq, fields[i].name,
			"field \"%s\" is about a commit, and none is made without \"ref\"",
			fields[i].name);
		return false;
	}
	return true;
}

static bool
take_stage(struct request *rq, const struct json_field *f, const char **out)
{
	struct err err = ERR_INIT;

	*out = f->given ? f->text : NULL;
	if (!f->given || name_check_stage(f->text, f->text_len, &err) == RC_OK)
		return true;
	reply_problem_with(rq, &err, json_pack("{s:s}", "field", f->name));
	return false;
}

static bool
take_prefix(struct request *rq, const struct json_field *f, char *out)
{
	struct err err = ERR_INIT;

	if (put_prefix_from(f->given ? f->text : "", out, &err) == RC_OK)
		return true;
	reply_problem_with(rq, &err, json_pack("{s:s}", "field", f->name));
	return false;
}

/* One of two words, the first if none is given. */
static bool
take_word(struct request *rq, const struct json_field *f, const char *usual, const char *other,
	bool *is_other)
{
	*is_other = f->given && strcmp(f->text, other) == 0;
	if (!f->given || *is_other || strcmp(f->text, usual) == 0)
		return true;
	json_body_refuse(
		rq, f->name, "field \"%s\" must be \"%s\" or \"%s\"", f->name, usual, other);
	return false;
}

static bool
take_body(struct request *rq, struct body *b)
{
	struct json_field *f = b->fields;

	memcpy(f, commit_fields, sizeof commit_fields);
	memcpy(f + COMMIT_FIELDS, own_fields, sizeof own_fields);
	if (!json_body_take(rq, f, FIELD_COUNT, &b->root) || !check_target(rq, f) ||
		!commit_fields_take(rq, f, &b->commit, &b->metadata) ||
		!take_stage(rq, &f[FIELD_STAGE], &b->stage) ||
		!take_prefix(rq, &f[FIELD_PREFIX], b->prefix) ||
		!take_word(rq, &f[FIELD_ON_ERROR], "fail", "skip", &b->request.skip_failed) ||
		!take_word(rq, &f[FIELD_SPECIAL], "refuse", "skip", &b->request.skip_special))
		return false;
	b->request.path = f[FIELD_PATH].text;
	b->request.prefix = b->prefix;
	b->request.commit = f[COMMIT_FIELD_REF].given ? &b->commit : NULL;
	return true;
}

/* ---- the operation ---- */

static void
refuse_dir(struct request *rq, const char *path, const struct err *err)
{
	if (err->rc == RC_INVALID)
		json_body_refuse(rq, "path", "%s", err->text);
	else if (err->rc == RC_NOT_FOUND)
		reply_problem_with(rq, err, json_pack("{s:o}", "path", problem_text(path)));
	else
		reply_problem(rq, err);
}

/* Open the directory and, if that may be, the stage. */
static bool
open_both(struct request *rq, struct body *b)
{
	struct err err = ERR_INIT;
	struct stage *s;
	bool created;

	if (imports_open_dir(rq->srv->imports, b->request.path, &b->request.dir, &err) != RC_OK) {
		refuse_dir(rq, b->request.path, &err);
		return false;
	}
	if (upload_open_stage(rq, b->stage, 0, &s, &created, &err) == RC_OK) {
		b->request.stage = s;
		return true;
	}
	reply_stage_problem(rq, s, &err);
	stage_unref(s);
	close(b->request.dir);
	return false;
}

static void
start(struct request *rq, struct body *b)
{
	struct stage *s = b->request.stage;
	struct err err = ERR_INIT;
	struct import_info info;

	reply_header(rq, "Digstore-Stage", "%s", stage_name(s));
	stage_ref(s); /* the other reference is handed over */
	if (import_start(rq->srv->imports, &b->request, &info, &err) == RC_OK) {
		reply_header(rq, "Location", "/v1/repos/%s/imports/%llu", info.repo,
			(unsigned long long)info.id);
		reply_json(rq, 202, show_import_whole(&info));
	} else {
		reply_stage_problem(rq, s, &err);
	}
	import_info_done(&info);
	stage_unref(s);
}

static void
run(struct request *rq)
{
	struct body b = {.root = NULL};

	if (take_body(rq, &b) && open_both(rq, &b))
		start(rq, &b);
	free(b.metadata);
	json_decref(b.root);
	request_complete(rq);
}

const struct op op_import_create = {
	.id = "import_create",
	.method = METHOD_POST,
	.path = "/v1/repos/{repo}/imports",
	.body = BODY_JSON,
	.body_bytes_max = BODY_BYTES_MAX,
	.admit = parse_admit,
	.run = run,
};
