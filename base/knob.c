/* SPDX-License-Identifier: Apache-2.0 */
#include "knob.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "hex.h"

#define BETWEEN " ,"

static struct knob *
find(struct knob *const *knobs, size_t count, const char *name, size_t len)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(knobs[i]->name) == len && strncmp(knobs[i]->name, name, len) == 0)
			return knobs[i];
	return NULL;
}

static bool
parse_value(const char *text, size_t len, int64_t *out)
{
	bool is_negative = len > 0 && text[0] == '-';
	uint64_t n;

	if (!parse_u64(text + is_negative, len - is_negative, &n) || n > INT64_MAX)
		return false;
	*out = is_negative ? -(int64_t)n : (int64_t)n;
	return true;
}

static enum rc
fix_one(struct knob *const *knobs, size_t count, const char *word, size_t len, struct err *err)
{
	const char *equals = memchr(word, '=', len);
	size_t name_len = equals != NULL ? (size_t)(equals - word) : len;
	int shown = (int)(len < 60 ? len : 60);
	struct knob *k = find(knobs, count, word, name_len);
	int64_t value;

	if (k == NULL)
		return err_set(
			err, RC_INVALID, NULL, "\"%.*s\": there is no such knob", shown, word);
	if (equals == NULL || !parse_value(equals + 1, len - name_len - 1, &value))
		return err_set(err, RC_INVALID, NULL,
			"\"%.*s\": a knob is fixed by NAME=VALUE with a whole number", shown, word);
	if (value != knob_clamp(k, value))
		return err_set(err, RC_INVALID, NULL,
			"%s = %" PRId64 " is out of range: %" PRId64 " to %" PRId64, k->name, value,
			k->min, k->max);
	k->min = k->max = k->fallback = value;
	knob_set(k, value);
	return RC_OK;
}

enum rc
knob_fix(struct knob *const *knobs, size_t count, const char *text, struct err *err)
{
	enum rc rc = RC_OK;

	for (text += strspn(text, BETWEEN); *text != '\0' && rc == RC_OK;) {
		size_t len = strcspn(text, BETWEEN);
		rc = fix_one(knobs, count, text, len, err);
		text += len;
		text += strspn(text, BETWEEN);
	}
	return rc;
}
