/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"

#include <string.h>

/* What one kind of name is called and may hold. */
struct grammar {
	const char *noun;
	const char *allowed;
	size_t bytes_max;
	bool upper;
};

static const struct grammar repo_grammar = {
	.noun = "repository name",
	.allowed = "allowed are 1 to 100 bytes of a-z, 0-9, \".\", \"_\" and \"-\", starting with "
		   "a letter or digit, without \"..\" and not ending in \".\"",
	.bytes_max = NAME_REPO_BYTES_MAX,
};

static const struct grammar stage_grammar = {
	.noun = "stage name",
	.allowed = "allowed are 1 to 100 bytes of A-Z, a-z, 0-9, \".\", \"_\" and \"-\", starting "
		   "with a letter or digit",
	.bytes_max = NAME_STAGE_BYTES_MAX,
	.upper = true,
};

static const struct grammar ref_grammar = {
	.noun = "ref name",
	.allowed = "allowed are 1 to 200 bytes: segments of A-Z, a-z, 0-9, \".\", \"_\" and \"-\" "
		   "joined by \"/\", without \"..\", none starting with \".\" or ending in "
		   "\".lock\", not ending in \".\", and not 8 or more hex digits alone",
	.bytes_max = NAME_REF_BYTES_MAX,
	.upper = true,
};

static bool
is_letter_or_digit(const struct grammar *g, char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       (g->upper && c >= 'A' && c <= 'Z');
}

static bool
is_name_byte(const struct grammar *g, char c)
{
	return is_letter_or_digit(g, c) || c == '.' || c == '_' || c == '-';
}

static bool
is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static enum rc
refuse(const struct grammar *g, const char *what, size_t at, struct err *err)
{
	return err_set(err, RC_INVALID, "invalid-name", "the %s has %s at byte %zu; %s", g->noun,
		what, at, g->allowed);
}

static enum rc
check_length(const struct grammar *g, size_t len, struct err *err)
{
	if (len == 0)
		return err_set(err, RC_INVALID, "invalid-name", "the %s is empty; %s", g->noun,
			g->allowed);
	if (len > g->bytes_max)
		return err_set(err, RC_INVALID, "invalid-name", "the %s has %zu bytes; %s", g->noun,
			len, g->allowed);
	return RC_OK;
}

static enum rc
check_plain(const struct grammar *g, const char *p, size_t len, struct err *err)
{
	enum rc rc = check_length(g, len, err);

	if (rc != RC_OK)
		return rc;
	if (!is_letter_or_digit(g, p[0]))
		return refuse(g, "a wrong first byte", 0, err);
	for (size_t i = 1; i < len; i++)
		if (!is_name_byte(g, p[i]))
			return refuse(g, "a byte that is not allowed", i, err);
	return RC_OK;
}

/* RC_OK unless ".." stands somewhere or the name ends in ".". */
static enum rc
check_dots(const struct grammar *g, const char *p, size_t len, struct err *err)
{
	for (size_t i = 0; i + 1 < len; i++)
		if (p[i] == '.' && p[i + 1] == '.')
			return refuse(g, "\"..\"", i, err);
	if (p[len - 1] == '.')
		return refuse(g, "a \".\" as its last byte", len - 1, err);
	return RC_OK;
}

enum rc
name_check_repo(const char *p, size_t len, struct err *err)
{
	enum rc rc = check_plain(&repo_grammar, p, len, err);

	return rc != RC_OK ? rc : check_dots(&repo_grammar, p, len, err);
}

enum rc
name_check_stage(const char *p, size_t len, struct err *err)
{
	return check_plain(&stage_grammar, p, len, err);
}

static const char *
ref_segment_problem(const char *p, size_t len)
{
	static const char lock[] = ".lock";
	const size_t lock_len = sizeof lock - 1;

	if (len == 0)
		return "an empty segment";
	if (p[0] == '.')
		return "a segment that starts with \".\"";
	if (len >= lock_len && memcmp(p + len - lock_len, lock, lock_len) == 0)
		return "a segment that ends in \".lock\"";
	return NULL;
}

enum rc
name_check_ref(const char *p, size_t len, struct err *err)
{
	const struct grammar *g = &ref_grammar;
	enum rc rc = check_length(g, len, err);
	size_t start = 0;
	size_t hex_digits = 0;

	if (rc != RC_OK)
		return rc;
	for (size_t i = 0; i <= len; i++) {
		hex_digits += i < len && is_hex(p[i]);
		if (i < len && is_name_byte(g, p[i]))
			continue;
		if (i < len && p[i] != '/')
			return refuse(g, "a byte that is not allowed", i, err);
		const char *problem = ref_segment_problem(p + start, i - start);
		if (problem != NULL)
			return refuse(g, problem, start, err);
		start = i + 1;
	}
	if (hex_digits == len && len >= NAME_REV_DIGITS_MIN)
		return refuse(g, "only hex digits, like a commit id,", 0, err);
	return check_dots(g, p, len, err);
}

bool
name_is_rev(const char *p, size_t len)
{
	if (len < NAME_REV_DIGITS_MIN || len > 64)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_hex(p[i]))
			return false;
	return true;
}
