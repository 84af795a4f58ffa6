/* SPDX-License-Identifier: Apache-2.0 */
#include "router.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

#define SEGMENTS_MAX 16 /* of a template */

/* A piece of a raw path or of a template, between slashes. */
struct span {
	char *p;
	size_t len;
};

/* The raw path, split once for all templates. */
struct path {
	struct span segments[SEGMENTS_MAX];
	size_t count; /* more than SEGMENTS_MAX: the others are not kept */
	char *end;
};

struct template_segment {
	const char *p; /* the parameter's name */
	size_t len;
};

/* What matching one template found; the spans are still raw. */
struct match {
	const struct op *op;
	struct span spans[REQUEST_PARAMS_MAX];
	struct template_segment names[REQUEST_PARAMS_MAX];
	size_t param_count;
	uint32_t rank; /* one bit a segment from the left, set for a literal */
};

static const char *const method_names[METHOD_COUNT] = {
	[METHOD_GET] = "GET",
	[METHOD_HEAD] = "HEAD",
	[METHOD_PUT] = "PUT",
	[METHOD_POST] = "POST",
	[METHOD_DELETE] = "DELETE",
	[METHOD_OPTIONS] = "OPTIONS",
};

/* ---- matching ---- */

static void
split(char *target, struct path *out)
{
	char *p = target;

	out->count = 0;
	while (*p == '/') {
		size_t len = strcspn(++p, "/");
		if (out->count < SEGMENTS_MAX)
			out->segments[out->count] = (struct span){.p = p, .len = len};
		out->count++;
		p += len;
	}
	out->end = p;
}

/* The parameter of a template that starts at t, into m; *t is moved behind it. False: the path has
 * nothing to give it. */
static bool
match_param(const char **t, const struct path *path, size_t at, struct match *m, bool *is_rest)
{
	struct template_segment name = {.p = *t + 1, .len = strcspn(*t, "/") - 2};
	struct span span = path->segments[at];

	*t = name.p + name.len + 1;
	*is_rest = name.len > 3 && memcmp(name.p + name.len - 3, "...", 3) == 0;
	if (*is_rest) {
		name.len -= 3;
		span.len = (size_t)(path->end - span.p);
	}
	if (span.len == 0 || m->param_count == REQUEST_PARAMS_MAX)
		return false;
	m->names[m->param_count] = name;
	m->spans[m->param_count++] = span;
	return true;
}

static bool
match_template(const struct op *op, const struct path *path, struct match *m)
{
	const char *t = op->path;
	bool is_rest = false;
	size_t at = 0;

	m->op = op;
	m->param_count = 0;
	m->rank = 0;
	for (; *t == '/' && !is_rest; at++) {
		if (at == SEGMENTS_MAX || at >= path->count)
			return false;
		t++;
		if (*t == '{') {
			if (!match_param(&t, path, at, m, &is_rest))
				return false;
			continue;
		}
		/* the root, "/", is a template of one empty literal */
		const struct span *s = &path->segments[at];
		if (strncmp(t, s->p, s->len) != 0 || (t[s->len] != '/' && t[s->len] != '\0'))
			return false;
		t += s->len;
		m->rank |= UINT32_C(1) << (31 - at);
	}
	return is_rest || at == path->count;
}

static bool
serves(const struct op *op, enum method method)
{
	return op->method == method || (method == METHOD_HEAD && op->method == METHOD_GET);
}

/* a is the better answer to method than b (which may be none). */
static bool
is_better(const struct match *a, const struct match *b, enum method method)
{
	if (b->op == NULL || a->rank != b->rank)
		return b->op == NULL || a->rank > b->rank;
	return a->op->method == method && b->op->method != method;
}

static void
write_allow(const bool *methods, char *out)
{
	size_t len = 0;

	for (int m = 0; m < METHOD_COUNT; m++) {
		if (!methods[m])
			continue;
		if (len > 0) {
			memcpy(out + len, ", ", 2);
			len += 2;
		}
		memcpy(out + len, method_names[m], strlen(method_names[m]));
		len += strlen(method_names[m]);
	}
	out[len] = '\0';
}

/* The best template for path and method into *best (op NULL: none); false if no method knows the
 * path. */
static bool
find_best(const struct op *const *ops, enum method method, char *target, struct match *best,
	char *allow)
{
	bool methods[METHOD_COUNT] = {false};
	bool known = false;
	struct path path;
	struct match m;

	best->op = NULL;
	split(target, &path);
	for (; *ops != NULL; ops++) {
		if (!match_template(*ops, &path, &m))
			continue;
		known = true;
		methods[(*ops)->method] = true;
		if (serves(*ops, method) && is_better(&m, best, method))
			*best = m;
	}
	if (known) {
		methods[METHOD_OPTIONS] = true;
		methods[METHOD_HEAD] |= methods[METHOD_GET];
		write_allow(methods, allow);
	}
	return known;
}

/* ---- decoding ---- */

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Percent-decode in place and end with NUL (the byte after the span is a separator that is no
 * longer needed). Returns NULL, or what is wrong and in *bad at which byte of the raw text. */
static const char *
decode(struct span *s, bool plus_is_space, size_t *bad)
{
	size_t out = 0;

	for (size_t i = 0; i < s->len; i++, out++) {
		char c = s->p[i];
		if (plus_is_space && c == '+')
			c = ' ';
		if (c == '%') {
			int hi = i + 2 < s->len ? hex_digit(s->p[i + 1]) : -1;
			int lo = i + 2 < s->len ? hex_digit(s->p[i + 2]) : -1;
			*bad = i;
			if (hi < 0 || lo < 0)
				return "a '%' that two hexadecimal digits do not follow";
			if (hi == 0 && lo == 0)
				return "a NUL byte (%00)";
			c = (char)(hi << 4 | lo);
			i += 2;
		}
		s->p[out] = c;
	}
	s->len = out;
	s->p[out] = '\0';
	*bad = 0;
	return utf8_valid(s->p, out) ? NULL : "bytes that are not UTF-8 in the part that starts";
}

static enum rc
decode_params(struct match *m, const char *path, struct route *out, struct err *err)
{
	for (size_t i = 0; i < m->param_count; i++) {
		struct span *s = &m->spans[i];
		size_t start = (size_t)(s->p - path);
		size_t bad;
		const char *wrong = decode(s, false, &bad);
		assert(m->names[i].len < ROUTER_NAME_BYTES);
		memcpy(out->names[i], m->names[i].p, m->names[i].len); /* zeros follow */
		if (wrong != NULL)
			return err_set(err, RC_INVALID, "invalid-path",
				"{%s} of the URL path holds %s at byte %zu of the path",
				out->names[i], wrong, start + bad);
		out->params[out->param_count++] =
			(struct request_param){.name = out->names[i], .value = s->p, .len = s->len};
	}
	return RC_OK;
}

/* ---- query ---- */

static const char *
known_name(const struct op *op, const char *name)
{
	for (const char *const *q = op->query; q != NULL && *q != NULL; q++)
		if (strcmp(*q, name) == 0)
			return *q;
	return NULL;
}

static enum rc
refuse_query(struct route *out, const char *what, const char *name, struct err *err)
{
	char names[200] = "none";
	size_t len = 0;

	snprintf(out->field, sizeof out->field, "%.64s", name);
	for (const char *const *q = out->op->query; q != NULL && *q != NULL && len < sizeof names;
		q++) {
		int n = snprintf(names + len, sizeof names - len, "%s%s", len > 0 ? ", " : "", *q);
		len += (size_t)n;
	}
	return err_set(err, RC_INVALID, "invalid-query",
		"query parameter \"%.64s\" %s; allowed here: %s", name, what, names);
}

static enum rc
add_pair(struct span name, struct span value, struct route *out, struct err *err)
{
	size_t bad;
	const char *wrong = decode(&name, true, &bad);

	if (wrong != NULL)
		return refuse_query(out, "has a name that is not well encoded", "?", err);
	const char *known = known_name(out->op, name.p);
	if (known == NULL)
		return refuse_query(out, "is not known here", name.p, err);
	for (size_t i = 0; i < out->query_count; i++)
		if (out->query[i].name == known)
			return refuse_query(out, "is there more than once", known, err);
	wrong = decode(&value, true, &bad);
	if (wrong != NULL) {
		snprintf(out->field, sizeof out->field, "%.64s", known);
		return err_set(err, RC_INVALID, "invalid-query",
			"the value of query parameter \"%s\" holds %s, at byte %zu", known, wrong,
			bad);
	}
	if (out->query_count == ROUTER_QUERY_MAX)
		return refuse_query(out, "is one too many", known, err);
	out->query[out->query_count++] =
		(struct request_param){.name = known, .value = value.p, .len = value.len};
	return RC_OK;
}

static enum rc
parse_query(char *query, struct route *out, struct err *err)
{
	while (query != NULL) {
		char *pair = query;
		size_t len = strcspn(pair, "&");
		query = pair[len] == '&' ? pair + len + 1 : NULL;
		if (len == 0)
			continue;
		pair[len] = '\0';
		size_t name_len = strcspn(pair, "=");
		struct span name = {.p = pair, .len = name_len};
		struct span value = {.p = pair + name_len, .len = 0};
		if (name_len < len)
			value = (struct span){.p = pair + name_len + 1, .len = len - name_len - 1};
		if (add_pair(name, value, out, err) != RC_OK)
			return err->rc;
	}
	return RC_OK;
}

/* ---- all of it ---- */

enum rc
router_find(const struct op *const *ops, enum method method, char *target, struct route *out,
	struct err *err)
{
	struct match best;
	char *query = strchr(target, '?');

	memset(out, 0, sizeof *out);
	if (query != NULL)
		*query++ = '\0';
	if (method == METHOD_OPTIONS && strcmp(target, "*") == 0) {
		snprintf(out->allow, sizeof out->allow, "GET, HEAD, PUT, POST, DELETE, OPTIONS");
		return RC_OK;
	}
	if (!find_best(ops, method, target, &best, out->allow))
		return err_set(err, RC_NOT_FOUND, "route-not-found",
			"there is nothing at \"%.200s\"; see /openapi.yaml for what there is",
			target);
	if (best.op == NULL && method == METHOD_OPTIONS)
		return RC_OK;
	if (best.op == NULL)
		return err_set(err, RC_DENIED, "method-not-allowed",
			"this path does not take that method; it takes %s", out->allow);
	out->op = best.op;
	if (decode_params(&best, target, out, err) != RC_OK)
		return err->rc;
	return parse_query(query, out, err);
}
