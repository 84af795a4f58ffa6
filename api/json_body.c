/* SPDX-License-Identifier: Apache-2.0 */
#include "json_body.h"

#include <stdio.h>
#include <string.h>

#define NAMES_BYTES 200

/* ---- before parsing ---- */

/* Whether brackets nest deeper than max; brackets in strings do not count. What is no JSON is
 * judged as far as it looks like some: the parser comes after. */
static bool
is_deeper(const char *text, size_t len, size_t max)
{
	size_t depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
			continue;
		}
		if (c == '"')
			in_string = true;
		else if ((c == '[' || c == '{') && ++depth > max)
			return true;
		else if ((c == ']' || c == '}') && depth > 0)
			depth--;
	}
	return false;
}

static enum rc
load(const char *text, size_t len, json_t **root, struct json_problem *problem, struct err *err)
{
	json_error_t at;

	if (is_deeper(text, len, JSON_DEPTH_MAX)) {
		problem->limit = JSON_DEPTH_MAX;
		return err_set(err, RC_TOO_LARGE, "json-too-large",
			"the JSON body is nested deeper than %d", JSON_DEPTH_MAX);
	}
	*root = len == 0 ? json_object() : json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
	if (*root == NULL && (len == 0 || json_error_code(&at) == json_error_out_of_memory))
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	if (*root == NULL)
		return err_set(err, RC_INVALID, "invalid-json",
			"the body is not valid JSON: %s, line %d column %d", at.text, at.line,
			at.column);
	if (json_is_object(*root))
		return RC_OK;
	json_decref(*root);
	*root = NULL;
	return err_set(err, RC_INVALID, "invalid-json", "the JSON body must be an object");
}

/* ---- members ---- */

static void
list_names(const struct json_field *fields, size_t count, char *out)
{
	size_t len = 0;

	snprintf(out, NAMES_BYTES, "none");
	for (size_t i = 0; i < count && len < NAMES_BYTES; i++)
		len += (size_t)snprintf(
			out + len, NAMES_BYTES - len, "%s%s", len > 0 ? ", " : "", fields[i].name);
}

static enum rc
refuse_unknown(const char *name, const struct json_field *fields, size_t count,
	struct json_problem *problem, struct err *err)
{
	char names[NAMES_BYTES];

	list_names(fields, count, names);
	snprintf(problem->field, sizeof problem->field, "%s", name);
	return err_set(err, RC_INVALID, "invalid-field",
		"\"%.64s\" is not a field of this body; allowed are: %s", name, names);
}

static const char *
type_name(const struct json_field *f)
{
	switch (f->kind) {
	case JSON_KIND_TEXT:
		return f->nullable ? "a string or null" : "a string";
	case JSON_KIND_INTEGER:
		return f->nullable ? "a whole number or null" : "a whole number";
	case JSON_KIND_BOOLEAN:
		return f->nullable ? "true, false or null" : "true or false";
	case JSON_KIND_OBJECT:
		return f->nullable ? "an object or null" : "an object";
	}
	return "something else";
}

static bool
take_value(struct json_field *f, json_t *value)
{
	switch (f->kind) {
	case JSON_KIND_TEXT:
		f->text = json_string_value(value);
		f->text_len = json_string_length(value);
		return f->text != NULL;
	case JSON_KIND_INTEGER:
		f->integer = json_integer_value(value);
		return json_is_integer(value);
	case JSON_KIND_BOOLEAN:
		f->boolean = json_is_true(value);
		return json_is_boolean(value);
	case JSON_KIND_OBJECT:
		f->object = json_is_object(value) ? value : NULL;
		return f->object != NULL;
	}
	return false;
}

static enum rc
take_field(struct json_field *f, const json_t *root, struct json_problem *problem, struct err *err)
{
	json_t *value = json_object_get(root, f->name);
	enum rc rc = RC_OK;

	f->given = value != NULL;
	f->is_null = json_is_null(value);
	if (value == NULL && f->required)
		rc = err_set(err, RC_INVALID, "invalid-field", "field \"%s\" is missing; it is %s",
			f->name, type_name(f));
	else if (value != NULL && !(f->is_null && f->nullable) && !take_value(f, value))
		rc = err_set(err, RC_INVALID, "invalid-field", "field \"%s\" must be %s", f->name,
			type_name(f));
	else if (f->text != NULL && f->bytes_max > 0 && f->text_len > f->bytes_max)
		rc = err_set(err, RC_INVALID, "invalid-field",
			"field \"%s\" has %zu bytes; at most %zu are allowed", f->name, f->text_len,
			f->bytes_max);
	if (rc != RC_OK)
		snprintf(problem->field, sizeof problem->field, "%s", f->name);
	return rc;
}

static bool
is_known(const char *name, const struct json_field *fields, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(fields[i].name, name) == 0)
			return true;
	return false;
}

static enum rc
take_fields(json_t *root, struct json_field *fields, size_t count, struct json_problem *problem,
	struct err *err)
{
	const char *name;
	json_t *value;

	json_object_foreach(
		root, name, value) if (!is_known(name, fields, count)) return refuse_unknown(name,
		fields, count, problem, err);
	for (size_t i = 0; i < count; i++)
		if (take_field(&fields[i], root, problem, err) != RC_OK)
			return err->rc;
	return RC_OK;
}

enum rc
json_body_parse(const char *text, size_t len, struct json_field *fields, size_t count,
	json_t **root, struct json_problem *problem, struct err *err)
{
	*root = NULL;
	*problem = (struct json_problem){.limit = 0};
	enum rc rc = load(text, len, root, problem, err);
	if (rc == RC_OK)
		rc = take_fields(*root, fields, count, problem, err);
	if (rc != RC_OK) {
		json_decref(*root);
		*root = NULL;
	}
	return rc;
}
