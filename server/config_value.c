/* SPDX-License-Identifier: Apache-2.0 */
#include "config_value.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "endpoint.h"
#include "hex.h"

#define KIB    (UINT64_C(1) << 10)
#define MIB    (UINT64_C(1) << 20)
#define GIB    (UINT64_C(1) << 30)
#define TIB    (UINT64_C(1) << 40)
#define SECOND UINT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

static void *
field(const struct config_key *k, struct config *c)
{
	return (char *)c + k->offset;
}

static const void *
const_field(const struct config_key *k, const struct config *c)
{
	return (const char *)c + k->offset;
}

static enum rc
no_memory(struct err *err)
{
	return err_set(err, RC_NOMEM, "no-memory", "no memory for the settings");
}

struct unit {
	const char *suffix;
	uint64_t factor;
};

/* From large to small; the last one is the unit of a bare number, if it has no suffix. */
static const struct unit byte_units[] = {
	{"TiB", TIB}, {"GiB", GIB}, {"MiB", MIB}, {"KiB", KIB}, {"B", 1}, {"", 1}, {NULL, 0}};
static const struct unit time_units[] = {
	{"d", DAY}, {"h", HOUR}, {"m", MINUTE}, {"s", SECOND}, {"ms", 1}, {NULL, 0}};

static bool
parse_with_unit(const char *text, const struct unit *units, uint64_t *out)
{
	size_t digits = strspn(text, "0123456789");
	const char *suffix = text + digits + strspn(text + digits, " ");
	uint64_t n;

	if (!parse_u64(text, digits, &n))
		return false;
	if (n == 0 && *suffix == '\0') {
		*out = 0;
		return true;
	}
	for (; units->suffix != NULL; units++)
		if (strcmp(suffix, units->suffix) == 0)
			return !__builtin_mul_overflow(n, units->factor, out);
	return false;
}

/* The largest unit that divides n exactly. */
static void
format_with_unit(uint64_t n, const struct unit *units, char *out)
{
	while (units[1].suffix != NULL && units[1].suffix[0] != '\0' &&
		(n == 0 || n % units->factor != 0))
		units++;
	bool bare = n == 0 || (units->factor == 1 && strcmp(units->suffix, "B") == 0);
	snprintf(out, CONFIG_NUMBER_BYTES, "%llu%s", (unsigned long long)(n / units->factor),
		bare ? "" : units->suffix);
}

/* The number of the word among words between spaces, or -1. */
static int
word_index(const char *words, const char *word)
{
	size_t len = strlen(word);

	for (int i = 0; *words != '\0'; i++) {
		size_t n = strcspn(words, " ");
		if (n == len && memcmp(words, word, n) == 0)
			return i;
		words += n + strspn(words + n, " ");
	}
	return -1;
}

static void
copy_word(const char *words, uint64_t index, char *out)
{
	while (index-- > 0) {
		words += strcspn(words, " ");
		words += strspn(words, " ");
	}
	snprintf(out, CONFIG_NUMBER_BYTES, "%.*s", (int)strcspn(words, " "), words);
}

void
config_value_number(const struct config_key *k, uint64_t n, char *out)
{
	switch (k->type) {
	case KEY_BYTES:
		format_with_unit(n, byte_units, out);
		return;
	case KEY_DURATION:
		format_with_unit(n, time_units, out);
		return;
	case KEY_ENUM:
		copy_word(k->choices, n, out);
		return;
	case KEY_INT:
	case KEY_STRING:
	case KEY_PATH:
	case KEY_BOOL:
	case KEY_ENDPOINTS:
	case KEY_FOLDERS:
		break;
	}
	snprintf(out, CONFIG_NUMBER_BYTES, "%llu", (unsigned long long)n);
}

static enum rc
refuse_value(const struct config_key *k, const struct config_place *p, const char *text,
	const char *want, struct err *err)
{
	return err_set(err, RC_INVALID, NULL, "%s: %s = \"%.80s\": must be %s", p->text, k->name,
		text, want);
}

static enum rc
check_range(const struct config_key *k, const struct config_place *p, const char *text, uint64_t n,
	struct err *err)
{
	char low[CONFIG_NUMBER_BYTES];
	char high[CONFIG_NUMBER_BYTES];
	char want[2 * CONFIG_NUMBER_BYTES + 16];

	if (n >= k->min && n <= k->max)
		return RC_OK;
	config_value_number(k, k->min, low);
	config_value_number(k, k->max, high);
	snprintf(want, sizeof want, "from %s to %s", low, high);
	return refuse_value(k, p, text, want, err);
}

static enum rc
set_number(const struct config_key *k, const struct config_place *p, const char *text,
	uint64_t *out, struct err *err)
{
	char want[128];
	char canonical[CONFIG_NUMBER_BYTES];
	uint64_t n;

	if (k->type == KEY_INT && !parse_u64(text, strlen(text), &n))
		return refuse_value(k, p, text, "a whole number", err);
	if (k->type == KEY_BYTES && !parse_with_unit(text, byte_units, &n))
		return refuse_value(k, p, text, "a size like 4096, 256KiB or 64MiB", err);
	if (k->type == KEY_DURATION && !parse_with_unit(text, time_units, &n))
		return refuse_value(k, p, text, "a time like 500ms, 30s, 5m, 12h or 7d", err);
	if (k->choices != NULL) {
		config_value_number(k, n, canonical);
		if (word_index(k->choices, canonical) < 0) {
			snprintf(want, sizeof want, "one of %s", k->choices);
			return refuse_value(k, p, text, want, err);
		}
	}
	if (check_range(k, p, text, n, err) == RC_OK)
		*out = n;
	return err->rc;
}

static enum rc
set_bool(const struct config_key *k, const struct config_place *p, const char *text, bool *out,
	struct err *err)
{
	if (word_index("true yes on 1", text) >= 0)
		*out = true;
	else if (word_index("false no off 0", text) >= 0)
		*out = false;
	else
		return refuse_value(k, p, text, "true or false", err);
	return RC_OK;
}

static enum rc
set_enum(const struct config_key *k, const struct config_place *p, const char *text, uint64_t *out,
	struct err *err)
{
	int i = text[0] != '\0' ? word_index(k->choices, text) : -1;
	char want[128];

	if (i < 0) {
		snprintf(want, sizeof want, "one of %s", k->choices);
		return refuse_value(k, p, text, want, err);
	}
	*out = (uint64_t)i;
	return RC_OK;
}

static enum rc
set_string(const struct config_key *k, const struct config_place *p, const char *text, char **out,
	struct err *err)
{
	if (k->type == KEY_PATH && text[0] == '\0')
		return refuse_value(k, p, text, "a path", err);
	for (const char *t = text; *t != '\0'; t++)
		if ((unsigned char)*t < 0x20 || *t == 0x7f)
			return refuse_value(k, p, "...", "without control bytes", err);
	char *copy = strdup(text);
	if (copy == NULL)
		return no_memory(err);
	free(*out);
	*out = copy;
	return RC_OK;
}

static void
list_done(struct config_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->items[i]);
	free(l->items);
	*l = (struct config_list){0};
}

static enum rc
list_add(struct config_list *l, const char *word, size_t len, struct err *err)
{
	char **items = realloc(l->items, (l->count + 1) * sizeof *items);

	if (items == NULL)
		return no_memory(err);
	l->items = items;
	items[l->count] = strndup(word, len);
	if (items[l->count] == NULL)
		return no_memory(err);
	l->count++;
	return RC_OK;
}

static enum rc
check_endpoint(
	const struct config_key *k, const struct config_place *p, const char *text, struct err *err)
{
	struct err why = ERR_INIT;
	struct endpoint e;

	if (endpoint_parse(text, &e, &why) == RC_OK)
		return RC_OK;
	return err_set(err, RC_INVALID, NULL, "%s: %s: %s", p->text, k->name, why.text);
}

/* "/" and segments that are neither "." nor ".." nor, but for the last one, empty. */
static bool
is_plain_path(const char *text)
{
	for (const char *at = text; *at == '/'; at += 1 + strcspn(at + 1, "/")) {
		size_t len = strcspn(at + 1, "/");
		bool last = at[1 + len] == '\0';
		if ((len == 0 && !last) || (len == 1 && at[1] == '.') ||
			(len == 2 && at[1] == '.' && at[2] == '.'))
			return false;
	}
	return text[0] == '/';
}

/* Plain, so that paths below it can be compared as text. Whoever it is for looks again when it
 * opens it: this is to name the line. */
static enum rc
check_folder(
	const struct config_key *k, const struct config_place *p, const char *text, struct err *err)
{
	struct stat st;

	if (!is_plain_path(text))
		return refuse_value(k, p, text, "an absolute path without . or ..", err);
	if (stat(text, &st) != 0 || !S_ISDIR(st.st_mode))
		return refuse_value(k, p, text, "a directory that exists", err);
	return RC_OK;
}

static enum rc
check_item(
	const struct config_key *k, const struct config_place *p, const char *text, struct err *err)
{
	return k->type == KEY_FOLDERS ? check_folder(k, p, text, err)
				      : check_endpoint(k, p, text, err);
}

/* Words between commas are added; what a weaker source said was removed before. */
static enum rc
set_list(const struct config_key *k, const struct config_place *p, const char *text,
	struct config_list *out, struct err *err)
{
	const char *at = text;

	if (k->min == 0 && text[strspn(text, " \t")] == '\0')
		return RC_OK;
	do {
		at += strspn(at, " \t");
		size_t len = strcspn(at, ",");
		size_t keep = len;
		while (keep > 0 && isspace((unsigned char)at[keep - 1]))
			keep--;
		if (keep == 0)
			return refuse_value(k, p, text, "values between commas", err);
		if (out->count == k->max)
			return refuse_value(k, p, text, "a shorter list", err);
		if (list_add(out, at, keep, err) != RC_OK ||
			check_item(k, p, out->items[out->count - 1], err) != RC_OK)
			return err->rc;
		at += len;
	} while (*at++ == ',');
	return RC_OK;
}

enum rc
config_value_set(const struct config_key *k, size_t index, const struct config_place *p,
	const char *text, struct config *c, struct err *err)
{
	uint8_t *source = &c->source[index];
	bool stronger = *source != (uint8_t)p->source;

	*source = (uint8_t)p->source;
	switch (k->type) {
	case KEY_STRING:
	case KEY_PATH:
		return set_string(k, p, text, field(k, c), err);
	case KEY_INT:
	case KEY_BYTES:
	case KEY_DURATION:
		return set_number(k, p, text, field(k, c), err);
	case KEY_BOOL:
		return set_bool(k, p, text, field(k, c), err);
	case KEY_ENUM:
		return set_enum(k, p, text, field(k, c), err);
	case KEY_ENDPOINTS:
	case KEY_FOLDERS:
		if (stronger)
			list_done(field(k, c));
		return set_list(k, p, text, field(k, c), err);
	}
	return RC_OK;
}

void
config_value_done(const struct config_key *k, struct config *c)
{
	char **string = field(k, c);

	switch (k->type) {
	case KEY_ENDPOINTS:
	case KEY_FOLDERS:
		list_done(field(k, c));
		return;
	case KEY_STRING:
	case KEY_PATH:
		free(*string);
		*string = NULL;
		return;
	case KEY_INT:
	case KEY_BYTES:
	case KEY_DURATION:
	case KEY_BOOL:
	case KEY_ENUM:
		return;
	}
}

void
config_value_print(const struct config_key *k, const struct config *c, struct buf *out)
{
	const struct config_list *list = const_field(k, c);
	const char *const *string = const_field(k, c);
	const uint64_t *number = const_field(k, c);
	const bool *flag = const_field(k, c);
	char text[CONFIG_NUMBER_BYTES];

	switch (k->type) {
	case KEY_STRING:
	case KEY_PATH:
		/* quoted, so that spaces at the ends survive */
		buf_addf(out, "\"%s\"", *string);
		return;
	case KEY_BOOL:
		buf_add_str(out, *flag ? "true" : "false");
		return;
	case KEY_ENDPOINTS:
	case KEY_FOLDERS:
		for (size_t i = 0; i < list->count; i++)
			buf_addf(out, "%s%s", i > 0 ? ", " : "", list->items[i]);
		return;
	case KEY_INT:
	case KEY_BYTES:
	case KEY_DURATION:
	case KEY_ENUM:
		config_value_number(k, *number, text);
		buf_add_str(out, text);
		return;
	}
}
