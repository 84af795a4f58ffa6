/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "json_body.h"
#include "name.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "reply_commit.h"
#include "show_stage.h"

#define BODY_BYTES_MAX      ((size_t)256 << 10)
#define MESSAGE_BYTES_MAX   65536
#define METADATA_COUNT_MAX  64
#define METADATA_KEY_MAX    64
#define METADATA_VALUE_MAX  1024
#define IDEMPOTENCY_KEY_MAX 128

enum {
	FIELD_REF,
	FIELD_MESSAGE,
	FIELD_AUTHOR,
	FIELD_MODE,
	FIELD_PARENT,
	FIELD_METADATA,
	FIELD_COUNT,
};

static const struct json_field expected[FIELD_COUNT] = {
	[FIELD_REF] = {.name = "ref", .kind = JSON_KIND_TEXT},
	[FIELD_MESSAGE] = {.name = "message",
		.kind = JSON_KIND_TEXT,
		.bytes_max = MESSAGE_BYTES_MAX},
	[FIELD_AUTHOR] = {.name = "author",
		.kind = JSON_KIND_TEXT,
		.bytes_max = COMMIT_AUTHOR_BYTES_MAX},
	[FIELD_MODE] = {.name = "mode", .kind = JSON_KIND_TEXT},
	[FIELD_PARENT] = {.name = "expected_parent", .kind = JSON_KIND_TEXT, .nullable = true},
	[FIELD_METADATA] = {.name = "metadata", .kind = JSON_KIND_OBJECT},
};

/* What one request is made from. */
struct body {
	struct json_field fields[FIELD_COUNT];
	json_t *root;
	char *metadata; /* canonical, owned */
};

/* ---- fields; each function answers when it returns false ---- */

static bool
take_ref(struct request *rq, const struct json_field *f, struct commit_request *q)
{
	struct err err = ERR_INIT;

	q->ref = f->given ? f->text : COMMIT_REF_DEFAULT;
	if (!f->given || name_check_ref(f->text, f->text_len, &err) == RC_OK)
		return true;
	reply_problem_with(rq, &err, json_pack("{s:s}", "field", f->name));
	return false;
}

static bool
take_author(struct request *rq, const struct json_field *f, struct commit_request *q)
{
	bool ok = !f->given || f->text_len > 0;

	q->author = f->given ? f->text : COMMIT_AUTHOR_DEFAULT;
	for (const char *p = q->author; ok && *p != '\0'; p++)
		ok = (unsigned char)*p >= 0x20 && *p != 0x7f;
	if (!ok)
		json_body_refuse(rq, f->name,
			"field \"author\" must have 1 to %d bytes and no control characters",
			COMMIT_AUTHOR_BYTES_MAX);
	return ok;
}

static bool
take_mode(struct request *rq, const struct json_field *f, struct commit_request *q)
{
	bool replace = f->given && strcmp(f->text, "replace") == 0;

	q->mode = replace ? COMMIT_REPLACE : COMMIT_MERGE;
	if (!f->given || replace || strcmp(f->text, "merge") == 0)
		return true;
	json_body_refuse(rq, f->name, "field \"mode\" must be \"merge\" or \"replace\"");
	return false;
}

static bool
take_parent(struct request *rq, const struct json_field *f, struct commit_request *q)
{
	q->has_expected = f->given;
	q->expected_none = f->is_null;
	if (!f->given || f->is_null || hash_from_text(f->text, f->text_len, &q->expected_parent))
		return true;
	json_body_refuse(rq, f->name,
		"field \"expected_parent\" must be a commit id of 64 lower-case digits, or null");
	return false;
}

static bool
is_metadata_key(const char *key)
{
	static const char first[] =
		"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	size_t len = strlen(key);
	size_t plain = 0;

	while (plain < len && (strchr(first, key[plain]) != NULL ||
				      (plain > 0 && strchr("._/-", key[plain]) != NULL)))
		plain++;
	return len > 0 && len <= METADATA_KEY_MAX && plain == len;
}

static bool
check_pair(struct request *rq, const char *key, const json_t *value)
{
	if (!is_metadata_key(key))
		json_body_refuse(rq, "metadata",
			"a key of \"metadata\" has 1 to %d letters, digits or . _ / - and begins "
			"with "
			"a letter or digit",
			METADATA_KEY_MAX);
	else if (!json_is_string(value))
		json_body_refuse(rq, "metadata", "\"metadata.%s\" must be a string", key);
	else if (json_string_length(value) > METADATA_VALUE_MAX)
		json_body_refuse(rq, "metadata",
			"\"metadata.%s\" has %zu bytes; at most %d are allowed", key,
			json_string_length(value), METADATA_VALUE_MAX);
	else
		return true;
	return false;
}

static bool
take_metadata(struct request *rq, struct body *b, struct commit_request *q)
{
	const struct json_field *f = &b->fields[FIELD_METADATA];
	struct err err = ERR_INIT;
	const char *key;
	json_t *value;

	q->metadata = "{}";
	if (!f->given)
		return true;
	if (json_object_size(f->object) > METADATA_COUNT_MAX) {
		json_body_refuse(
			rq, f->name, "\"metadata\" may have at most %d pairs", METADATA_COUNT_MAX);
		return false;
	}
	json_object_foreach(f->object, key, value) if (!check_pair(rq, key, value)) return false;
	q->metadata = b->metadata = json_dumps(f->object, JSON_COMPACT | JSON_SORT_KEYS);
	if (b->metadata != NULL)
		return true;
	err_set(&err, RC_NOMEM, "no-memory", "out of memory");
	reply_problem(rq, &err);
	return false;
}

static bool
take_body(struct request *rq, struct body *b, struct commit_request *q)
{
	memcpy(b->fields, expected, sizeof expected);
	if (!json_body_take(rq, b->fields, FIELD_COUNT, &b->root))
		return false;
	q->message = b->fields[FIELD_MESSAGE].given ? b->fields[FIELD_MESSAGE].text : "";
	return take_ref(rq, &b->fields[FIELD_REF], q) &&
	       take_author(rq, &b->fields[FIELD_AUTHOR], q) &&
	       take_mode(rq, &b->fields[FIELD_MODE], q) &&
	       take_parent(rq, &b->fields[FIELD_PARENT], q) && take_metadata(rq, b, q);
}

/* ---- the key ---- */

static bool
check_key(struct request *rq, const char *key)
{
	struct err err = ERR_INIT;
	size_t len = strlen(key);
	bool ok = len > 0 && len <= IDEMPOTENCY_KEY_MAX;

	for (size_t i = 0; ok && i < len; i++)
		ok = key[i] > 0x20 && key[i] < 0x7f;
	if (ok)
		return true;
	err_set(&err, RC_INVALID, "invalid-header",
		"Idempotency-Key must be 1 to %d printable ASCII characters without spaces",
		IDEMPOTENCY_KEY_MAX);
	reply_problem_with(rq, &err, json_pack("{s:s}", "field", "Idempotency-Key"));
	return false;
}

/* A hash over what the client said, however it was written. false: no memory. */
static bool
hash_request(struct request *rq, const struct body *b, struct sha256 *out)
{
	static const char op[] = "stage_commit";
	const struct request_param *stage = request_param(rq, "stage");
	char *text = json_dumps(b->root, JSON_COMPACT | JSON_SORT_KEYS);
	struct sha256_stream s;

	if (text == NULL)
		return false;
	sha256_stream_init(&s);
	sha256_stream_update(&s, op, sizeof op);
	sha256_stream_update(&s, stage->value, stage->len + 1);
	sha256_stream_update(&s, text, strlen(text));
	sha256_stream_final(&s, out);
	free(text);
	return true;
}

/* ---- the operation ---- */

static void
admit(struct request *rq)
{
	const char *key = request_header(rq, "Idempotency-Key");

	if (parse_names(rq) && key != NULL)
		check_key(rq, key);
}

static void
commit(struct request *rq, struct repo *repo, struct commit_request *q)
{
	struct stage *s;

	reply_header(rq, "Digstore-Stage", "%s", request_param(rq, "stage")->value);
	if (q->key != NULL && reply_replayed(rq, repo, q->key, &q->request))
		return;
	if (!parse_stage(rq, repo, &s))
		return;
	q->stage = s;
	reply_commit(rq, q);
	stage_unref(s);
}

static void
answer(struct request *rq, struct body *b)
{
	struct commit_request q = {.key = request_header(rq, "Idempotency-Key")};
	struct err err = ERR_INIT;
	struct repo *repo;

	if (!take_body(rq, b, &q) || !parse_repo(rq, &repo))
		return;
	if (q.key != NULL && !hash_request(rq, b, &q.request)) {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
		return;
	}
	commit(rq, repo, &q);
}

static void
run(struct request *rq)
{
	struct body b = {.root = NULL};

	answer(rq, &b);
	free(b.metadata);
	json_decref(b.root);
	request_complete(rq);
}

const struct op op_stage_commit = {
	.id = "stage_commit",
	.method = METHOD_POST,
	.path = "/v1/repos/{repo}/stages/{stage}/commit",
	.body = BODY_JSON,
	.body_bytes_max = BODY_BYTES_MAX,
	.body_optional = true,
	.admit = admit,
	.run = run,
};
