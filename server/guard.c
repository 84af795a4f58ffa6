/* SPDX-License-Identifier: Apache-2.0 */
#include "guard.h"

#include <string.h>
#include <strings.h>

#include "hex.h"

static const char *const method_names[METHOD_COUNT] = {
	[METHOD_GET] = "GET",
	[METHOD_HEAD] = "HEAD",
	[METHOD_PUT] = "PUT",
	[METHOD_POST] = "POST",
	[METHOD_DELETE] = "DELETE",
	[METHOD_OPTIONS] = "OPTIONS",
};

/* Headers that decide where the body ends, who asks, or what is meant: the first and the last of
 * two would be different requests. */
static const char *const single_headers[] = {
	"Authorization",
	"Content-Encoding",
	"Content-Length",
	"Content-Range",
	"Content-Type",
	"Expect",
	"Host",
	"Idempotency-Key",
	"If-Match",
	"If-Modified-Since",
	"If-None-Match",
	"If-Range",
	"If-Unmodified-Since",
	"Origin",
	"Range",
	"Repr-Digest",
	"Transfer-Encoding",
	"X-Checksum-Sha256",
};
#define SINGLE_COUNT (sizeof single_headers / sizeof single_headers[0])

const char *
guard_method_name(enum method method)
{
	return method < METHOD_COUNT ? method_names[method] : "?";
}

/* tchar of RFC 9110. */
static bool
is_token(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		bool alnum =
			(c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
		if (!alnum && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
			return false;
	}
	return len > 0;
}

static bool
equals(const char *s, size_t len, const char *word)
{
	return strlen(word) == len && strncasecmp(s, word, len) == 0;
}

static enum rc
refuse(struct err *err, const char *text)
{
	return err_set(err, RC_INVALID, "malformed-request", "%s", text);
}

static enum rc
check_method(const char *method, struct guard_facts *out, struct err *err)
{
	if (!is_token(method, strlen(method)))
		return refuse(err, "the request method holds characters that no method may have");
	out->method = METHOD_COUNT;
	for (int m = 0; m < METHOD_COUNT; m++)
		if (strcmp(method, method_names[m]) == 0)
			out->method = (enum method)m;
	return RC_OK;
}

/* Bytes above 0x7f are let through: curl sends a path as it was typed. */
static enum rc
check_target(const char *target, enum method method, struct err *err)
{
	if (strnlen(target, GUARD_TARGET_BYTES_MAX + 1) > GUARD_TARGET_BYTES_MAX)
		return err_set(err, RC_TOO_LARGE, "uri-too-long",
			"the request target is longer than %d bytes", GUARD_TARGET_BYTES_MAX);
	for (const char *p = target; *p != '\0'; p++)
		if ((unsigned char)*p <= 0x20 || *p == 0x7f || *p == '#')
			return err_set(err, RC_INVALID, "malformed-request",
				"the request target holds byte 0x%02x at offset %zu; "
				"percent-encode it",
				(unsigned char)*p, (size_t)(p - target));
	if (method == METHOD_OPTIONS && strcmp(target, "*") == 0)
		return RC_OK;
	if (target[0] != '/')
		return refuse(err, "the request target must start with '/': this is no proxy");
	return RC_OK;
}

static enum rc
check_version(const char *version, struct guard_facts *out, struct err *err)
{
	if (strcmp(version, "HTTP/1.1") == 0)
		out->http_1_0 = false;
	else if (strcmp(version, "HTTP/1.0") == 0)
		out->http_1_0 = true;
	else
		return refuse(err, "only HTTP/1.0 and HTTP/1.1 are spoken here");
	return RC_OK;
}

static enum rc
check_bytes(const struct guard_header *h, struct err *err)
{
	if (!is_token(h->name, h->name_len))
		return refuse(err, "a header has a name that no header may have");
	for (size_t i = 0; i < h->value_len; i++) {
		unsigned char c = (unsigned char)h->value[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return err_set(err, RC_INVALID, "malformed-request",
				"the value of header %.*s holds the control byte 0x%02x",
				(int)(h->name_len < 64 ? h->name_len : 64), h->name, c);
	}
	return RC_OK;
}

/* Index into single_headers, or -1. */
static int
single_index(const struct guard_header *h)
{
	for (size_t i = 0; i < SINGLE_COUNT; i++)
		if (equals(h->name, h->name_len, single_headers[i]))
			return (int)i;
	return -1;
}

/* host [ ":" port ]; no user, no path, no list. */
static enum rc
check_host(const struct guard_header *h, struct err *err)
{
	for (size_t i = 0; i < h->value_len; i++)
		if (h->value[i] == '\0' || strchr(" \t/\\@?#,<>\"{}|^`", h->value[i]) != NULL)
			return refuse(err, "the Host header is no host name with an optional port");
	return RC_OK;
}

static enum rc
check_length(const struct guard_header *h, struct guard_facts *out, struct err *err)
{
	if (!parse_u64(h->value, h->value_len, &out->length))
		return refuse(
			err, "Content-Length must be one decimal number of at most 19 digits");
	out->has_length = true;
	return RC_OK;
}

static enum rc
check_value(const struct guard_header *h, struct guard_facts *out, struct err *err)
{
	if (equals(h->name, h->name_len, "Host"))
		return check_host(h, err);
	if (equals(h->name, h->name_len, "Content-Length"))
		return check_length(h, out, err);
	if (equals(h->name, h->name_len, "Transfer-Encoding")) {
		if (!equals(h->value, h->value_len, "chunked"))
			return err_set(err, RC_INVALID, "not-implemented",
				"the only transfer encoding known here is \"chunked\"");
		out->chunked = true;
	}
	if (equals(h->name, h->name_len, "Expect")) {
		if (!equals(h->value, h->value_len, "100-continue"))
			return err_set(err, RC_INVALID, "expectation-failed",
				"the only expectation known here is \"100-continue\"");
		out->expect_continue = true;
	}
	return RC_OK;
}

static enum rc
check_headers(
	const struct guard_input *in, struct guard_facts *out, bool *has_host, struct err *err)
{
	bool seen[SINGLE_COUNT] = {false};
	size_t bytes = 0;

	if (in->header_count > GUARD_HEADERS_MAX)
		return err_set(err, RC_TOO_LARGE, "headers-too-large",
			"the request has more than %d headers", GUARD_HEADERS_MAX);
	for (size_t i = 0; i < in->header_count; i++) {
		const struct guard_header *h = &in->headers[i];
		bytes += h->name_len + h->value_len + 4;
		if (bytes > GUARD_HEADER_BYTES_MAX)
			return err_set(err, RC_TOO_LARGE, "headers-too-large",
				"the request headers are longer than %d bytes",
				GUARD_HEADER_BYTES_MAX);
		if (check_bytes(h, err) != RC_OK)
			return err->rc;
		int single = single_index(h);
		if (single < 0)
			continue;
		if (seen[single])
			return err_set(err, RC_INVALID, "malformed-request",
				"header %s is there more than once", single_headers[single]);
		seen[single] = true;
		if (strcmp(single_headers[single], "Host") == 0)
			*has_host = true;
		if (check_value(h, out, err) != RC_OK)
			return err->rc;
	}
	return RC_OK;
}

enum rc
guard_check(const struct guard_input *in, struct guard_facts *out, struct err *err)
{
	struct guard_facts f;
	bool has_host = false;

	memset(&f, 0, sizeof f);
	if (check_method(in->method, &f, err) != RC_OK ||
		check_version(in->version, &f, err) != RC_OK ||
		check_target(in->target, f.method, err) != RC_OK ||
		check_headers(in, &f, &has_host, err) != RC_OK)
		return err->rc;
	if (f.chunked && f.has_length)
		return refuse(
			err, "a request has a Content-Length or a Transfer-Encoding, not both");
	if (f.chunked && f.http_1_0)
		return refuse(err, "HTTP/1.0 has no Transfer-Encoding");
	if (!has_host && !f.http_1_0)
		return refuse(err, "an HTTP/1.1 request needs a Host header");
	if (f.http_1_0)
		f.expect_continue = false;
	*out = f;
	return RC_OK;
}
