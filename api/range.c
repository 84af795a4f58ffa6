/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

#include <string.h>
#include <strings.h>

#include "clock.h"

/* ---- entity tags ---- */

/* One entity tag, quotes included. */
struct tag {
	const char *p;
	size_t len;
	bool weak;
};

static bool
is_space(char c)
{
	return c == ' ' || c == '\t';
}

/* The next tag of a list, or false at its end or where it is not well-formed. */
static bool
next_tag(const char **at, struct tag *out)
{
	const char *p = *at;

	while (is_space(*p) || *p == ',')
		p++;
	out->weak = strncmp(p, "W/", 2) == 0;
	if (out->weak)
		p += 2;
	if (*p != '"')
		return false;
	size_t len = 1 + strcspn(p + 1, "\"");
	if (p[len] != '"')
		return false;
	*out = (struct tag){.p = p, .len = len + 1, .weak = out->weak};
	p += len + 1;
	*at = p;
	return *p == '\0' || *p == ',' || is_space(*p);
}

static bool
is_tag(const struct tag *t, const char *etag)
{
	return t->len == strlen(etag) && memcmp(t->p, etag, t->len) == 0;
}

static bool
is_star(const char *list)
{
	list += strspn(list, " \t");
	return *list == '*' && list[1 + strspn(list + 1, " \t")] == '\0';
}

/* Whether the list names etag, which is strong: a weak tag in the list counts only if weak_too. */
static bool
lists_tag(const char *list, const char *etag, bool weak_too)
{
	struct tag t;

	if (is_star(list))
		return true;
	while (next_tag(&list, &t))
		if (is_tag(&t, etag) && (weak_too || !t.weak))
			return true;
	return false;
}

/* ---- conditions ---- */

/* Whether the header holds a date, and the file is not younger. */
static bool
is_not_younger(const char *date, int64_t modified_s, bool if_unreadable)
{
	int64_t limit = clock_parse_http_date(date);

	return limit < 0 ? if_unreadable : modified_s <= limit;
}

enum range_verdict
range_check_conditions(const struct range_conditions *c, const struct range_validators *now)
{
	if (c->if_match != NULL) {
		if (!lists_tag(c->if_match, now->etag, false))
			return RANGE_PRECONDITION_FAILED;
	} else if (c->if_unmodified_since != NULL) {
		if (!is_not_younger(c->if_unmodified_since, now->modified_s, true))
			return RANGE_PRECONDITION_FAILED;
	}
	if (c->if_none_match != NULL) {
		if (lists_tag(c->if_none_match, now->etag, true))
			return RANGE_NOT_MODIFIED;
	} else if (c->if_modified_since != NULL) {
		if (is_not_younger(c->if_modified_since, now->modified_s, false))
			return RANGE_NOT_MODIFIED;
	}
	return RANGE_GO_ON;
}

bool
range_if_range_holds(const char *if_range, const struct range_validators *now)
{
	struct tag t;
	const char *at = if_range;

	if (if_range == NULL)
		return true;
	if (*at != '"' && strncmp(at, "W/", 2) != 0) {
		int64_t date = clock_parse_http_date(at);
		return date >= 0 && date == now->modified_s;
	}
	return next_tag(&at, &t) && *at == '\0' && !t.weak && is_tag(&t, now->etag);
}

/* ---- ranges ---- */

/* Digits at *at; numbers that do not fit count as UINT64_MAX, which is beyond every file. */
static bool
take_number(const char **at, uint64_t *out)
{
	const char *p = *at;
	uint64_t v = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		uint64_t digit = (uint64_t)(*p - '0');
		v = v > (UINT64_MAX - digit) / 10 ? UINT64_MAX : v * 10 + digit;
	}
	bool any = p > *at;
	*at = p;
	*out = v;
	return any;
}

/* One range as it was asked for; a suffix is "the last n bytes". */
struct spec {
	uint64_t first;
	uint64_t last;
	bool is_suffix;
};

static bool
take_spec(const char **at, struct spec *out)
{
	bool has_first = take_number(at, &out->first);

	if (**at != '-')
		return false;
	(*at)++;
	bool has_last = take_number(at, &out->last);
	out->is_suffix = !has_first;
	if (!has_last)
		out->last = UINT64_MAX;
	return (has_first || has_last) && (out->is_suffix || out->first <= out->last);
}

/* false: nothing of it lies in the file. */
static bool
resolve(const struct spec *s, uint64_t size, struct range *out)
{
	uint64_t end = size; /* behind the last byte */

	if (size == 0 || (s->is_suffix ? s->last == 0 : s->first >= size))
		return false;
	if (s->is_suffix) {
		out->first = s->last < size ? size - s->last : 0;
	} else {
		out->first = s->first;
		end = s->last < size ? s->last + 1 : size;
	}
	out->last = end - 1;
	return true;
}

enum range_kind
range_parse(const char *header, uint64_t size, struct range out[RANGES_MAX], size_t *count)
{
	size_t specs = 0;
	struct spec s;

	*count = 0;
	if (header == NULL || strncasecmp(header, "bytes=", 6) != 0)
		return RANGE_WHOLE;
	for (const char *at = header + 6;; at++) {
		at += strspn(at, " \t");
		if (++specs > RANGES_MAX || !take_spec(&at, &s))
			return RANGE_WHOLE;
		if (resolve(&s, size, &out[*count])) {
			if (*count > 0 && out[*count].first <= out[*count - 1].last)
				return RANGE_WHOLE;
			(*count)++;
		}
		at += strspn(at, " \t");
		if (*at == '\0')
			break;
		if (*at != ',')
			return RANGE_WHOLE;
	}
	return *count > 0 ? RANGE_PARTS : RANGE_UNSATISFIABLE;
}
