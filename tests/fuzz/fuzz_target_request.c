/* SPDX-License-Identifier: Apache-2.0 */
/* The guard and the router on a request head: "METHOD TARGET VERSION", then "Name:value" lines.
 *
 * Properties: what the guard accepts has one reading (counted here in a second, simpler way); what
 * the router accepts is clean text, and a path rebuilt from the template and the parameters leads
 * to the same operation with the same parameters. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "guard.h"
#include "router.h"
#include "utf8.h"

#define HEADERS_MAX 100
#define PATH_BYTES  16384

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const list_query[] = {"limit", "cursor", "prefix", NULL};

#define OP(name, m, p)                                                                             \
	static const struct op name = {.id = #name, .method = m, .path = p, .query = list_query}

OP(root, METHOD_GET, "/");
OP(repos, METHOD_GET, "/v1/repos");
OP(repo, METHOD_PUT, "/v1/repos/{repo}");
OP(fixed, METHOD_GET, "/v1/repos/fixed");
OP(file_put, METHOD_PUT, "/v1/repos/{repo}/stages/{stage}/files/{path...}");
OP(file_get, METHOD_GET, "/v1/repos/{repo}/trees/{ref}/files/{path...}");
OP(diff, METHOD_GET, "/v1/repos/{repo}/diff/{a}/{b}");
OP(any, METHOD_POST, "/any/{path...}");

static const struct op *const ops[] = {
	&root, &repos, &repo, &fixed, &file_put, &file_get, &diff, &any, NULL};

static void
require(int condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "property broken: %s\n", what);
	abort();
}

/* ---- guard ---- */

static size_t
count_named(const struct guard_input *in, const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < in->header_count; i++)
		n += in->headers[i].name_len == strlen(name) &&
		     strncasecmp(in->headers[i].name, name, strlen(name)) == 0;
	return n;
}

static void
check_guarded(const struct guard_input *in, const struct guard_facts *f)
{
	require(count_named(in, "content-length") == (f->has_length ? 1 : 0), "one length");
	require(count_named(in, "transfer-encoding") == (f->chunked ? 1 : 0), "one encoding");
	require(!(f->chunked && f->has_length), "one framing");
	require(f->http_1_0 || count_named(in, "host") == 1, "one host");
	require(in->target[0] == '/' || strcmp(in->target, "*") == 0, "origin form");
	require(strlen(in->target) <= GUARD_TARGET_BYTES_MAX, "target limit");
	require(in->header_count <= GUARD_HEADERS_MAX, "header limit");
	for (size_t i = 0; i < in->header_count; i++)
		for (size_t k = 0; k < in->headers[i].value_len; k++) {
			unsigned char c = (unsigned char)in->headers[i].value[k];
			require(c == '\t' || (c >= 0x20 && c != 0x7f), "clean values");
		}
}

/* ---- router ---- */

/* The template with every byte of the parameters percent-encoded. */
static void
rebuild(const struct route *r, char *out)
{
	size_t param = 0;
	char *at = out;

	for (const char *t = r->op->path; *t != '\0'; t++) {
		if (*t != '{') {
			*at++ = *t;
			continue;
		}
		const struct request_param *p = &r->params[param++];
		for (size_t i = 0; i < p->len; i++)
			at += snprintf(at, 4, "%%%02X", (unsigned char)p->value[i]);
		t = strchr(t, '}');
	}
	*at = '\0';
}

static void
check_pairs(const struct request_param *p, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		require(strlen(p[i].value) == p[i].len, "no NUL");
		require(utf8_valid(p[i].value, p[i].len), "UTF-8");
	}
}

static void
check_routed(enum method method, const struct route *r)
{
	static char path[PATH_BYTES];
	struct route again;
	struct err err = ERR_INIT;

	check_pairs(r->params, r->param_count);
	check_pairs(r->query, r->query_count);
	if (r->op == NULL)
		return;
	rebuild(r, path);
	require(router_find(ops, method, path, &again, &err) == RC_OK, "rebuilt path is found");
	/* a parameter spelled %66ixed is no literal "fixed" in either reading */
	require(again.op == r->op, "rebuilt path is the same operation");
	require(again.param_count == r->param_count, "rebuilt path has the same parameters");
	for (size_t i = 0; i < r->param_count; i++) {
		require(r->params[i].len > 0, "no empty parameter");
		require(strcmp(again.params[i].value, r->params[i].value) == 0, "same value");
	}
}

/* ---- input ---- */

/* The next line without its '\n', NUL-terminated in place; NULL at the end. */
static char *
next_line(char **at)
{
	char *line = *at;

	if (line == NULL)
		return NULL;
	char *end = strchr(line, '\n');
	*at = end != NULL ? end + 1 : NULL;
	if (end != NULL)
		*end = '\0';
	return line;
}

static char *
split(char *text, char at)
{
	char *p = strchr(text, at);

	if (p == NULL)
		return text + strlen(text);
	*p = '\0';
	return p + 1;
}

static void
run(char *text)
{
	struct guard_header headers[HEADERS_MAX];
	struct guard_input in = {.headers = headers};
	struct guard_facts facts;
	struct route route;
	struct err err = ERR_INIT;
	char *at = text;
	char *line = next_line(&at);
	char *target = split(line, ' ');
	char *version = split(target, ' ');

	in.method = line;
	in.target = target;
	in.version = version;
	while ((line = next_line(&at)) != NULL && in.header_count < HEADERS_MAX) {
		char *value = split(line, ':');
		headers[in.header_count++] =
			(struct guard_header){line, strlen(line), value, strlen(value)};
	}
	if (guard_check(&in, &facts, &err) != RC_OK) {
		require(err.rc != RC_OK && err.kind != NULL && err.text[0] != '\0', "a reason");
		return;
	}
	check_guarded(&in, &facts);
	err = (struct err)ERR_INIT;
	if (router_find(ops, facts.method, target, &route, &err) == RC_OK)
		check_routed(facts.method, &route);
	else
		require(err.kind != NULL && err.text[0] != '\0', "a reason");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (text == NULL)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	run(text);
	free(text);
	return 0;
}
