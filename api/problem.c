/* SPDX-License-Identifier: Apache-2.0 */
#include "problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define RETRY_BUSY_SECONDS 2  /* overload and a database that restarts pass within seconds */
#define RETRY_FULL_SECONDS 30 /* somebody has to make room */

static const struct problem_kind kinds[] = {
	{"invalid-request", 400, "The request is not valid"},
	{"invalid-path", 400, "The path is not valid"},
	{"invalid-name", 400, "The name is not valid"},
	{"invalid-query", 400, "A query parameter is not valid"},
	{"invalid-header", 400, "A header is not valid"},
	{"invalid-json", 400, "The body is not valid JSON"},
	{"invalid-field", 400, "A field is not valid"},
	{"body-mismatch", 400, "The body is not what was announced"},
	{"malformed-request", 400, "The request is malformed"},
	{"form-invalid", 400, "The form is not valid"},
	{"access-denied", 403, "Access denied"},
	{"import-denied", 403, "The directory may not be imported"},
	{"repo-not-found", 404, "There is no such repository"},
	{"stage-not-found", 404, "There is no such stage"},
	{"ref-not-found", 404, "There is no such ref"},
	{"rev-not-found", 404, "There is no such revision"},
	{"commit-not-found", 404, "There is no such commit"},
	{"path-not-found", 404, "There is no such path"},
	{"import-not-found", 404, "There is no such import"},
	{"route-not-found", 404, "There is nothing at this URL"},
	{"method-not-allowed", 405, "The method is not allowed here"},
	{"request-timeout", 408, "The request took too long"},
	{"stage-empty", 409, "The stage is empty"},
	{"stage-committed", 409, "The stage is committed already"},
	{"stage-busy", 409, "The stage is busy"},
	{"stage-committing", 409, "The stage is being committed"},
	{"offset-mismatch", 409, "The piece does not start where the upload stands"},
	{"parent-mismatch", 409, "The ref has moved"},
	{"ref-conflict", 409, "The ref has another value"},
	{"merge-conflict", 409, "The commits change the same paths"},
	{"path-conflict", 409, "The path conflicts with another"},
	{"repo-mismatch", 409, "The repository has other properties"},
	{"recompression-off", 409, "Recompression is off"},
	{"stage-expired", 410, "The stage has expired"},
	{"precondition-failed", 412, "A precondition failed"},
	{"body-too-large", 413, "The body is too large"},
	{"json-too-large", 413, "The JSON body is too large"},
	{"archive-too-large", 413, "The archive is too large"},
	{"stage-full", 413, "The stage is full"},
	{"import-too-large", 413, "The directory is too large"},
	{"uri-too-long", 414, "The request target is too long"},
	{"unsupported-media-type", 415, "The media type is not supported"},
	{"unsupported-encoding", 415, "The content encoding is not supported"},
	{"range-not-satisfiable", 416, "The range is not satisfiable"},
	{"expectation-failed", 417, "The expectation cannot be met"},
	{"digest-mismatch", 422, "The content has another digest"},
	{"invalid-archive", 422, "The archive is not valid"},
	{"archive-entry-refused", 422, "An entry of the archive is refused"},
	{"import-incomplete", 422, "Not everything could be imported"},
	{"idempotency-mismatch", 422, "The idempotency key was used for another request"},
	{"rev-ambiguous", 422, "The revision is ambiguous"},
	{"headers-too-large", 431, "The request headers are too large"},
	{"io-error", 500, "Reading or writing failed"},
	{"corrupt-data", 500, "Stored data is corrupt"},
	{"internal", 500, "Internal error"},
	{"not-implemented", 501, "Not implemented"},
	{"database-unavailable", 503, "The database is unavailable"},
	{"overloaded", 503, "The server is overloaded"},
	{"shutting-down", 503, "The server is shutting down"},
	{"no-memory", 503, "The server is out of memory"},
	{"disk-full", 507, "The disk is full"},
	{NULL, 0, NULL},
};

const struct problem_kind *
problem_kinds(void)
{
	return kinds;
}

static const struct problem_kind *
find(const char *slug)
{
	for (const struct problem_kind *k = kinds; k->slug != NULL; k++)
		if (strcmp(k->slug, slug) == 0)
			return k;
	return NULL;
}

/* For errors that reached the top without a kind. A thing that is missing, there already or in the
 * wrong state should have said which thing, so those get the mildest name that has the status. */
static const char *
slug_of_rc(enum rc rc)
{
	switch (rc) {
	case RC_NOT_FOUND:
		return "path-not-found";
	case RC_EXISTS:
	case RC_CONFLICT:
		return "path-conflict";
	case RC_INVALID:
		return "invalid-request";
	case RC_DENIED:
		return "access-denied";
	case RC_TOO_LARGE:
		return "body-too-large";
	case RC_AGAIN:
		return "overloaded";
	case RC_FULL:
		return "disk-full";
	case RC_IO:
		return "io-error";
	case RC_CORRUPT:
		return "corrupt-data";
	case RC_UNAVAILABLE:
		return "database-unavailable";
	case RC_NOMEM:
		return "no-memory";
	case RC_OK:
	case RC_BUG:
		break;
	}
	return "internal";
}

/* What the layers below tell apart and a client need not. */
static const char *
public_slug(const struct err *err)
{
	static const char *const alias[][2] = {
		{"commit-unknown", "database-unavailable"},
		{"database-io", "io-error"},
		{"database-corrupt", "corrupt-data"},
		{"corrupt-tree", "corrupt-data"},
		{"database-reference", "internal"},
		{"database-duplicate", "internal"},
		{"database-denied", "internal"},
		{"tree-too-large", "archive-too-large"},
	};

	if (err->kind == NULL)
		return slug_of_rc(err->rc);
	for (size_t i = 0; i < sizeof alias / sizeof *alias; i++)
		if (strcmp(alias[i][0], err->kind) == 0)
			return alias[i][1];
	return err->kind;
}

const struct problem_kind *
problem_of(const struct err *err)
{
	const struct problem_kind *k = find(public_slug(err));

	if (k == NULL) {
		bug("unknown problem kind %s", err->kind);
		k = find("internal");
	}
	return k;
}

/* Bytes of the UTF-8 sequence at p, 0 if it is none; jansson itself judges the rest. */
static size_t
sequence(const char *p, size_t len)
{
	for (size_t n = 1; n <= 4 && n <= len; n++) {
		json_t *probe = json_stringn(p, n);
		if (probe == NULL)
			continue;
		json_decref(probe);
		return n;
	}
	return 0;
}

json_t *
problem_text(const char *text)
{
	json_t *whole = json_string(text);
	size_t len = strlen(text);

	if (whole != NULL)
		return whole;
	char *copy = strdup(text);
	if (copy == NULL)
		return NULL;
	for (size_t i = 0; i < len;) {
		size_t n = sequence(copy + i, len - i);
		if (n == 0)
			copy[i] = '?';
		i += n > 0 ? n : 1;
	}
	whole = json_string(copy);
	free(copy);
	return whole;
}

/* The answer when there is no memory to render a better one. */
static bool
reply_plain_500(struct request *rq)
{
	static const char body[] = "{\"type\":\"urn:digstore:problem:internal\","
				   "\"title\":\"Internal error\",\"status\":500}\n";

	return reply_bytes(rq, 500, "application/problem+json", body, sizeof body - 1);
}

/* body is stolen. */
static bool
reply_dump(struct request *rq, int status, const char *type, json_t *body)
{
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
	size_t len = text != NULL ? strlen(text) : 0;

	json_decref(body);
	char *line = text != NULL ? realloc(text, len + 2) : NULL;
	if (line == NULL) {
		free(text);
		log_event(LOG_LEVEL_WARN, "render_failed", "id=%s status=%d", rq->id, status);
		return reply_plain_500(rq);
	}
	line[len] = '\n';
	line[len + 1] = '\0';
	return reply_take(rq, status, type, (uint8_t *)line, len + 1);
}

bool
reply_json(struct request *rq, int status, json_t *body)
{
	return reply_dump(rq, status, "application/json", body);
}

/* Turning work away is no failure, and comes in floods. */
static enum log_level
level_of(const struct problem_kind *k)
{
	bool turned_away = strcmp(k->slug, "overloaded") == 0 ||
			   strcmp(k->slug, "shutting-down") == 0 || k->status == 501;

	return turned_away ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN;
}

static void
log_failure(const struct request *rq, const struct problem_kind *k, const struct err *err)
{
	log_event(level_of(k), "request_failed",
		"id=%s op=%s target=%.200s status=%d kind=%s text=\"%s\" detail=\"%s\"", rq->id,
		rq->op != NULL ? rq->op->id : "-", rq->target != NULL ? rq->target : "-", k->status,
		k->slug, err->text, err->detail);
}

/* "allowed": ["GET", "PUT"] -> Allow: GET, PUT */
static void
add_allow(struct request *rq, const json_t *allowed)
{
	char allow[128] = "";
	size_t len = 0;
	size_t i;
	json_t *method;

	json_array_foreach(allowed, i, method)
	{
		const char *name = json_string_value(method);
		if (name == NULL || len + strlen(name) + 3 > sizeof allow)
			continue;
		len += (size_t)snprintf(
			allow + len, sizeof allow - len, "%s%s", len > 0 ? ", " : "", name);
	}
	reply_header(rq, "Allow", "%s", allow);
}

static json_t *
render(const struct request *rq, const struct problem_kind *k, const struct err *err)
{
	json_t *detail = problem_text(err->text[0] != '\0' ? err->text : k->title);
	json_t *type = json_sprintf("urn:digstore:problem:%s", k->slug);
	json_t *instance = json_sprintf("urn:digstore:request:%s", rq->id);

	return json_pack("{s:o, s:s, s:i, s:o, s:o, s:s}", "type", type, "title", k->title,
		"status", k->status, "detail", detail, "instance", instance, "request_id", rq->id);
}

bool
reply_problem_with(struct request *rq, const struct err *err, json_t *extra)
{
	const struct problem_kind *k = problem_of(err);
	bool first = !reply_is_set(rq);

	if (first && k->status >= 500)
		log_failure(rq, k, err);
	if (first && k->status == 503)
		reply_header(rq, "Retry-After", "%d", RETRY_BUSY_SECONDS);
	if (first && k->status == 507)
		reply_header(rq, "Retry-After", "%d", RETRY_FULL_SECONDS);
	if (first && json_is_array(json_object_get(extra, "allowed")))
		add_allow(rq, json_object_get(extra, "allowed"));
	json_t *body = render(rq, k, err);
	if (body != NULL && extra != NULL)
		json_object_update_missing(body, extra);
	json_decref(extra);
	return reply_dump(rq, k->status, "application/problem+json", body);
}

bool
reply_problem(struct request *rq, const struct err *err)
{
	return reply_problem_with(rq, err, NULL);
}

bool
reply_not_allowed(struct request *rq, const struct err *err, const char *allow)
{
	json_t *allowed = json_array();

	while (*allow != '\0') {
		size_t len = strcspn(allow, ", ");
		if (len > 0)
			json_array_append_new(allowed, json_stringn(allow, len));
		allow += len + strspn(allow + len, ", ");
	}
	return reply_problem_with(rq, err, json_pack("{s:o}", "allowed", allowed));
}
