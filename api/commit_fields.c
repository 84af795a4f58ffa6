/* SPDX-License-Identifier: Apache-2.0 */
#include "commit_fields.h"

#include <string.h>

#include "name.h"
#include "parse.h"
#include "problem.h"
#include "reply_commit.h"

const struct json_field commit_fields[COMMIT_FIELDS] = {
	[COMMIT_FIELD_REF] = {.name = "ref", .kind = JSON_KIND_TEXT},
	[COMMIT_FIELD_MESSAGE] = {.name = "message",
		.kind = JSON_KIND_TEXT,
		.bytes_max = COMMIT_MESSAGE_BYTES_MAX},
	[COMMIT_FIELD_AUTHOR] = {.name = "author",
		.kind = JSON_KIND_TEXT,
		.bytes_max = COMMIT_AUTHOR_BYTES_MAX},
	[COMMIT_FIELD_MODE] = {.name = "mode", .kind = JSON_KIND_TEXT},
	[COMMIT_FIELD_PARENT] = {.name = "expected_parent",
		.kind = JSON_KIND_TEXT,
		.nullable = true},
	[COMMIT_FIELD_METADATA] = {.name = "metadata", .kind = JSON_KIND_OBJECT},
};

/* Each function answers when it returns false. */

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
	return len > 0 && len <= COMMIT_METADATA_KEY_MAX && plain == len;
}

static bool
check_pair(struct request *rq, const char *key, const json_t *value)
{
	if (!is_metadata_key(key))
		json_body_refuse(rq, "metadata",
			"a key of \"metadata\" has 1 to %d letters, digits or . _ / - and begins "
			"with "
			"a letter or digit",
			COMMIT_METADATA_KEY_MAX);
	else if (!json_is_string(value))
		json_body_refuse(rq, "metadata", "\"metadata.%s\" must be a string", key);
	else if (json_string_length(value) > COMMIT_METADATA_VALUE_MAX)
		json_body_refuse(rq, "metadata",
			"\"metadata.%s\" has %zu bytes; at most %d are allowed", key,
			json_string_length(value), COMMIT_METADATA_VALUE_MAX);
	else
		return true;
	return false;
}

static bool
take_metadata(
	struct request *rq, const struct json_field *f, struct commit_request *q, char **metadata)
{
	struct err err = ERR_INIT;
	const char *key;
	json_t *value;

	q->metadata = "{}";
	if (!f->given)
		return true;
	if (json_object_size(f->object) > COMMIT_METADATA_COUNT_MAX) {
		json_body_refuse(rq, f->name, "\"metadata\" may have at most %d pairs",
			COMMIT_METADATA_COUNT_MAX);
		return false;
	}
	json_object_foreach(f->object, key, value) if (!check_pair(rq, key, value)) return false;
	q->metadata = *metadata = json_dumps(f->object, JSON_COMPACT | JSON_SORT_KEYS);
	if (*metadata != NULL)
		return true;
	err_set(&err, RC_NOMEM, "no-memory", "out of memory");
	reply_problem(rq, &err);
	return false;
}

bool
commit_fields_take(struct request *rq, const struct json_field *fields, struct commit_request *q,
	char **metadata)
{
	const struct json_field *message = &fields[COMMIT_FIELD_MESSAGE];

	*metadata = NULL;
	q->message = message->given ? message->text : "";
	return take_ref(rq, &fields[COMMIT_FIELD_REF], q) &&
	       take_author(rq, &fields[COMMIT_FIELD_AUTHOR], q) &&
	       take_mode(rq, &fields[COMMIT_FIELD_MODE], q) &&
	       take_parent(rq, &fields[COMMIT_FIELD_PARENT], q) &&
	       take_metadata(rq, &fields[COMMIT_FIELD_METADATA], q, metadata);
}
