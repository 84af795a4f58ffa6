/* SPDX-License-Identifier: Apache-2.0 */
#include "parse.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hex.h"
#include "name.h"
#include "path.h"
#include "problem.h"

#define SECOND_NS         INT64_C(1000000000)
#define MTIME_SECONDS_MIN INT64_C(-9214560000) /* 1678-01-01 */
#define MTIME_SECONDS_MAX INT64_C(9214646399)  /* the last second of 2261 */

/* ---- pure forms ---- */

bool
hash_from_text(const char *text, size_t len, struct sha256 *out)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] >= 'A' && text[i] <= 'F')
			return false;
	return sha256_parse(text, len, out);
}

bool
mode_from_text(const char *text, uint32_t *out)
{
	size_t len = strlen(text);
	uint32_t mode = 0;

	if (len == 4 && text[0] == '0')
		text++;
	else if (len != 3)
		return false;
	for (size_t i = 0; i < 3; i++) {
		if (text[i] < '0' || text[i] > '7')
			return false;
		mode = mode << 3 | (uint32_t)(text[i] - '0');
	}
	*out = mode;
	return true;
}

/* Exactly n digits at *at, which is moved behind them. */
static bool
take_digits(const char **at, size_t n, int *out)
{
	int v = 0;

	for (size_t i = 0; i < n; i++, (*at)++) {
		if (**at < '0' || **at > '9')
			return false;
		v = v * 10 + (**at - '0');
	}
	*out = v;
	return true;
}

static bool
take_char(const char **at, const char *any_of)
{
	if (**at == '\0' || strchr(any_of, **at) == NULL)
		return false;
	(*at)++;
	return true;
}

/* "" or "." and 1 to 9 digits. */
static bool
take_fraction(const char **at, int64_t *ns)
{
	int64_t unit = SECOND_NS;

	*ns = 0;
	if (!take_char(at, "."))
		return true;
	for (; **at >= '0' && **at <= '9'; (*at)++) {
		if (unit == 1)
			return false;
		unit /= 10;
		*ns += (**at - '0') * unit;
	}
	return unit != SECOND_NS;
}

static bool
take_offset(const char **at, int *seconds)
{
	int hours, minutes;
	int sign = **at == '-' ? -1 : 1;

	*seconds = 0;
	if (take_char(at, "Zz"))
		return true;
	if (!take_char(at, "+-") || !take_digits(at, 2, &hours) || !take_char(at, ":") ||
		!take_digits(at, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*seconds = sign * (hours * 3600 + minutes * 60);
	return true;
}

static bool
join_mtime(int64_t seconds, int64_t ns, int64_t *out)
{
	if (seconds < MTIME_SECONDS_MIN || seconds > MTIME_SECONDS_MAX)
		return false;
	*out = seconds * SECOND_NS + ns;
	return true;
}

/* A leap second is the same instant as the first of the next minute: POSIX time has no other. */
static bool
rfc3339(const char *at, int64_t *out)
{
	struct tm tm = {0};
	int64_t ns;
	int offset;

	if (!take_digits(&at, 4, &tm.tm_year) || !take_char(&at, "-") ||
		!take_digits(&at, 2, &tm.tm_mon) || !take_char(&at, "-") ||
		!take_digits(&at, 2, &tm.tm_mday) || !take_char(&at, "Tt ") ||
		!take_digits(&at, 2, &tm.tm_hour) || !take_char(&at, ":") ||
		!take_digits(&at, 2, &tm.tm_min) || !take_char(&at, ":") ||
		!take_digits(&at, 2, &tm.tm_sec) || !take_fraction(&at, &ns) ||
		!take_offset(&at, &offset) || *at != '\0')
		return false;
	if (tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return false;
	int leap = tm.tm_sec == 60;
	tm.tm_sec -= leap;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	struct tm normal = tm;
	int64_t seconds = (int64_t)timegm(&normal) + leap - offset;
	if (normal.tm_mon != tm.tm_mon || normal.tm_mday != tm.tm_mday)
		return false; /* no such day */
	return join_mtime(seconds, ns, out);
}

static bool
unix_seconds(const char *at, int64_t *out)
{
	bool negative = take_char(&at, "-");
	size_t len = strspn(at, "0123456789");
	uint64_t seconds;
	int64_t ns;

	if (len > 12 || !parse_u64(at, len, &seconds))
		return false;
	at += len;
	if (!take_fraction(&at, &ns) || *at != '\0')
		return false;
	return negative ? join_mtime(-(int64_t)seconds, -ns, out)
			: join_mtime((int64_t)seconds, ns, out);
}

bool
mtime_from_text(const char *text, int64_t *out)
{
	return unix_seconds(text, out) || rfc3339(text, out);
}

/* ---- refusing ---- */

static void
refuse(struct request *rq, const struct err *err, const char *field)
{
	json_t *extra = json_object();

	json_object_set_new(extra, "field", json_string(field));
	reply_problem_with(rq, err, extra);
}

void
parse_refuse_query(struct request *rq, const char *field, const char *fmt, ...)
{
	struct err err = ERR_INIT;
	char text[sizeof err.text];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	err_set(&err, RC_INVALID, "invalid-query", "%s", text);
	refuse(rq, &err, field);
}

/* ---- names ---- */

enum rc
parse_rev_check(const char *rev, size_t len, struct err *err)
{
	return name_is_rev(rev, len) ? RC_OK : name_check_ref(rev, len, err);
}

static enum rc
check_commit_id(const struct request_param *p, struct err *err)
{
	if (name_is_rev(p->value, p->len))
		return RC_OK;
	return err_set(err, RC_INVALID, "invalid-name",
		"a commit is named by 8 to 64 hexadecimal digits, the first ones of its id");
}

static bool
import_id_from(const struct request_param *p, uint64_t *out)
{
	return p->value[0] != '0' && parse_u64(p->value, p->len, out) && *out <= INT64_MAX;
}

static enum rc
check_import_id(const struct request_param *p, struct err *err)
{
	uint64_t id;

	if (import_id_from(p, &id))
		return RC_OK;
	return err_set(
		err, RC_INVALID, "invalid-name", "an import is named by the number it was given");
}

static enum rc
check_param(const struct request *rq, const struct request_param *p, struct err *err)
{
	bool reads = rq->method == METHOD_GET || rq->method == METHOD_HEAD;

	if (strcmp(p->name, "repo") == 0)
		return name_check_repo(p->value, p->len, err);
	if (strcmp(p->name, "stage") == 0)
		return name_check_stage(p->value, p->len, err);
	if (strcmp(p->name, "path") == 0)
		return path_check(p->value, p->len, err);
	if (strcmp(p->name, "id") == 0)
		return check_commit_id(p, err);
	if (strcmp(p->name, "import") == 0)
		return check_import_id(p, err);
	if (strcmp(p->name, "ref") == 0 || (strcmp(p->name, "rev") == 0 && !reads))
		return name_check_ref(p->value, p->len, err);
	return parse_rev_check(p->value, p->len, err);
}

bool
parse_names(struct request *rq)
{
	struct err err = ERR_INIT;

	for (size_t i = 0; i < rq->param_count; i++) {
		if (check_param(rq, &rq->params[i], &err) != RC_OK) {
			refuse(rq, &err, rq->params[i].name);
			return false;
		}
	}
	return true;
}

void
parse_admit(struct request *rq)
{
	parse_names(rq);
}

bool
parse_admit_fast(struct request *rq)
{
	parse_names(rq);
	return true;
}

/* ---- things ---- */

bool
parse_repo(struct request *rq, struct repo **out)
{
	struct err err = ERR_INIT;

	if (repo_find(rq->srv->repos, request_param(rq, "repo")->value, out, &err) == RC_OK)
		return true;
	reply_problem(rq, &err);
	return false;
}

bool
parse_stage(struct request *rq, struct repo *repo, struct stage **out)
{
	const char *name = request_param(rq, "stage")->value;
	struct err err = ERR_INIT;
	struct stage_info info;
	struct stage *s = NULL;

	enum rc rc = stage_find(rq->srv->stages, repo, name, &s, &err);
	if (rc == RC_OK) {
		stage_info(s, &info);
		if (info.state == STAGE_GONE)
			rc = err_set(&err, RC_NOT_FOUND, "stage-not-found",
				"there is no stage \"%s\" any more", name);
	}
	if (rc != RC_OK) {
		stage_unref(s);
		reply_problem(rq, &err);
		return false;
	}
	*out = s;
	return true;
}

/* Hex digits in small letters; anything else as it is. */
static const char *
plain_rev(const char *rev, char lower[SHA256_HEX_BYTES])
{
	size_t len = strlen(rev);

	if (!name_is_rev(rev, len))
		return rev;
	for (size_t i = 0; i <= len; i++)
		lower[i] = rev[i] >= 'A' && rev[i] <= 'F' ? (char)(rev[i] | 0x20) : rev[i];
	return lower;
}

uint64_t
parse_import_id(struct request *rq)
{
	uint64_t id = 0;

	import_id_from(request_param(rq, "import"), &id);
	return id;
}

enum rc
parse_rev_find(struct server_ctx *srv, struct repo *repo, const char *rev, struct commit *out,
	struct err *err)
{
	char lower[SHA256_HEX_BYTES];
	bool is_ref;

	return rev_resolve(&srv->history, repo, plain_rev(rev, lower), out, &is_ref, err);
}

bool
parse_rev_head(struct request *rq, struct repo *repo, const char *rev, struct rev_head *out)
{
	char lower[SHA256_HEX_BYTES];
	struct err err = ERR_INIT;

	if (rev_find_head(&rq->srv->history, repo, plain_rev(rev, lower), out, &err) == RC_OK)
		return true;
	reply_problem(rq, &err);
	return false;
}

bool
parse_rev_head_now(struct request *rq, struct repo *repo, const char *rev, struct rev_head *out)
{
	char lower[SHA256_HEX_BYTES];

	return rev_cache_find(rq->srv->history.revs, repo->id, plain_rev(rev, lower), out);
}

bool
parse_rev(struct request *rq, struct repo *repo, const char *rev, struct commit *out)
{
	struct err err = ERR_INIT;

	if (parse_rev_find(rq->srv, repo, rev, out, &err) == RC_OK)
		return true;
	reply_problem(rq, &err);
	return false;
}

/* ---- query values ---- */

bool
parse_number(struct request *rq, const char *name, uint64_t min, uint64_t max, uint64_t *out,
	bool *given)
{
	const char *text = request_query(rq, name);
	uint64_t v;

	if (given != NULL)
		*given = text != NULL;
	if (text == NULL)
		return true;
	if (!parse_u64(text, strlen(text), &v) || v < min || v > max) {
		parse_refuse_query(rq, name,
			"%s must be a whole number from %" PRIu64 " to %" PRIu64, name, min, max);
		return false;
	}
	*out = v;
	return true;
}

bool
parse_limit(struct request *rq, size_t *out)
{
	uint64_t v = PARSE_LIMIT_DEFAULT;

	if (!parse_number(rq, "limit", 1, PARSE_LIMIT_MAX, &v, NULL))
		return false;
	*out = (size_t)v;
	return true;
}

bool
parse_choice(struct request *rq, const char *name, const char *const *words, unsigned *out)
{
	const char *text = request_query(rq, name);
	char all[128] = "";
	size_t len = 0;

	if (text == NULL)
		return true;
	for (unsigned i = 0; words[i] != NULL; i++) {
		if (strcmp(text, words[i]) == 0) {
			*out = i;
			return true;
		}
		if (len < sizeof all)
			len += (size_t)snprintf(all + len, sizeof all - len, "%s\"%s\"",
				i > 0 ? ", " : "", words[i]);
	}
	parse_refuse_query(
		rq, name, "%s must be %s%s", name, words[1] != NULL ? "one of " : "", all);
	return false;
}

bool
parse_prefix(struct request *rq, const char **out, size_t *len)
{
	const char *text = request_query(rq, "prefix");

	if (text == NULL)
		text = "";
	size_t n = strlen(text);
	if (n > PATH_BYTES_MAX) {
		parse_refuse_query(rq, "prefix", "prefix has %zu bytes; a path has at most %d", n,
			PATH_BYTES_MAX);
		return false;
	}
	*out = text;
	*len = n;
	return true;
}

bool
parse_hash(struct request *rq, const char *name, struct sha256 *out, bool *given)
{
	const char *text = request_query(rq, name);

	*given = text != NULL;
	if (text == NULL || hash_from_text(text, strlen(text), out))
		return true;
	parse_refuse_query(
		rq, name, "%s must be a commit id: 64 lower-case hexadecimal digits", name);
	return false;
}

bool
parse_mode(struct request *rq, uint32_t *out)
{
	const char *text = request_query(rq, "file_mode");

	*out = PARSE_MODE_DEFAULT;
	if (text == NULL || mode_from_text(text, out))
		return true;
	parse_refuse_query(rq, "file_mode", "file_mode must be octal permission bits, like 0644");
	return false;
}

bool
parse_mtime(struct request *rq, int64_t *out)
{
	const char *text = request_query(rq, "mtime");

	*out = 0;
	if (text == NULL || mtime_from_text(text, out))
		return true;
	parse_refuse_query(rq, "mtime",
		"mtime must be a time like 2026-02-28T09:30:00Z or seconds since 1970 with up to 9 "
		"decimals, between the years 1678 and 2261");
	return false;
}
