/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "json_body.h"

/* Any bytes are refused with a reason, or are an object whose members are what was asked for and
 * are so again after being written and read once more. */

enum { NAME, COUNT, META, PARENT, FIELDS };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
require(int condition)
{
	if (!condition)
		abort();
}

static enum rc
parse(const char *text, size_t len, struct json_field *fields, json_t **root)
{
	static const struct json_field wanted[FIELDS] = {
		[NAME] = {.name = "name", .bytes_max = 16},
		[COUNT] = {.name = "count", .kind = JSON_KIND_INTEGER},
		[META] = {.name = "meta", .kind = JSON_KIND_OBJECT},
		[PARENT] = {.name = "parent", .nullable = true},
	};
	struct json_problem problem;
	struct err err = ERR_INIT;

	memcpy(fields, wanted, sizeof wanted);
	enum rc rc = json_body_parse(text, len, fields, FIELDS, root, &problem, &err);
	require((rc == RC_OK) == (*root != NULL));
	require(rc == err.rc && (rc == RC_OK || (err.kind != NULL && err.text[0] != '\0')));
	require(memchr(problem.field, '\0', sizeof problem.field) != NULL);
	return rc;
}

static void
check_fields(const struct json_field *f)
{
	const struct json_field *name = &f[NAME], *parent = &f[PARENT];

	require(!name->given || (name->text != NULL && name->text_len <= 16));
	require(name->text == NULL || strlen(name->text) == name->text_len);
	require(parent->is_null ? parent->text == NULL : parent->given == (parent->text != NULL));
	require(f[META].given == (f[META].object != NULL));
}

static void
check_again(const struct json_field *a, const json_t *root)
{
	struct json_field b[FIELDS];
	char *text = json_dumps(root, JSON_COMPACT);
	json_t *again;

	require(text != NULL);
	require(parse(text, strlen(text), b, &again) == RC_OK);
	for (int i = 0; i < FIELDS; i++)
		require(a[i].given == b[i].given && a[i].is_null == b[i].is_null);
	require(a[COUNT].integer == b[COUNT].integer);
	require(a[NAME].text == NULL || strcmp(a[NAME].text, b[NAME].text) == 0);
	json_decref(again);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct json_field fields[FIELDS];
	json_t *root;

	if (parse((const char *)data, len, fields, &root) != RC_OK)
		return 0;
	check_fields(fields);
	check_again(fields, root);
	json_decref(root);
	return 0;
}
