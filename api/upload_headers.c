/* SPDX-License-Identifier: Apache-2.0 */
#include "upload_headers.h"

#include <string.h>
#include <strings.h>

#include "hex.h"

#define SPACES "\t "

/* ---- Content-Range ---- */

static bool
take_number(const char **p, uint64_t *out)
{
	size_t digits = strspn(*p, "0123456789");

	if (digits == 0 || !parse_u64(*p, digits, out))
		return false;
	*p += digits;
	return true;
}

static bool
take_char(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

enum rc
upload_headers_range(const char *value, struct upload_range *out, struct err *err)
{
	struct upload_range r = {.total = UPLOAD_TOTAL_UNKNOWN};
	const char *p = value;

	bool ok = strncasecmp(p, "bytes ", 6) == 0;
	p += ok ? 6 : 0;
	ok = ok && take_number(&p, &r.first) && take_char(&p, '-') && take_number(&p, &r.last) &&
	     take_char(&p, '/') && (take_char(&p, '*') || take_number(&p, &r.total)) && *p == '\0';
	if (!ok)
		return err_set(err, RC_INVALID, "invalid-header",
			"Content-Range must be \"bytes FIRST-LAST/TOTAL\", where TOTAL may be *");
	if (r.first > r.last || (r.total != UPLOAD_TOTAL_UNKNOWN && r.last >= r.total))
		return err_set(err, RC_INVALID, "invalid-header",
			"Content-Range is no range: FIRST <= LAST < TOTAL must hold");
	*out = r;
	return RC_OK;
}

/* ---- digests ---- */

/* Past the value of a dictionary member with its parameters: to the comma behind it, or the end.
 * Commas in quoted text do not count. */
static const char *
skip_member(const char *p)
{
	bool quoted = false;

	for (; *p != '\0' && (quoted || *p != ','); p++) {
		if (*p == '"')
			quoted = !quoted;
		else if (quoted && *p == '\\' && p[1] != '\0')
			p++;
	}
	return p;
}

/* ":BASE64:" of 32 bytes, perhaps with parameters behind it. */
static bool
take_digest(const char *p, struct sha256 *out)
{
	if (!take_char(&p, ':'))
		return false;
	const char *end = strchr(p, ':');
	if (end == NULL || !base64_decode(p, (size_t)(end - p), out->b, sizeof out->b))
		return false;
	end += 1 + strspn(end + 1, SPACES);
	return *end == '\0' || *end == ',' || *end == ';';
}

static enum rc
take_repr_digest(const char *p, bool *given, struct sha256 *out, struct err *err)
{
	static const char key_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789_-.*";

	for (;;) {
		p += strspn(p, SPACES);
		if (*p == '\0')
			return RC_OK;
		size_t len = strspn(p, key_chars);
		bool ok = len > 0 && strchr("=;, \t", p[len]) != NULL; /* the end counts as well */
		if (ok && len == 7 && memcmp(p, "sha-256", 7) == 0) {
			ok = p[7] == '=' && take_digest(p + 8, out);
			*given = true;
		}
		if (!ok)
			return err_set(err, RC_INVALID, "invalid-header",
				"Repr-Digest must be sha-256=:BASE64: with the Base64 of 32 bytes");
		p = skip_member(p + len);
		p += *p == ',';
	}
}

enum rc
upload_headers_digest(const char *repr_digest, const char *checksum, bool *given,
	struct sha256 *out, struct err *err)
{
	struct sha256 repr, hex;
	bool has_repr = false;

	*given = false;
	if (repr_digest != NULL) {
		enum rc rc = take_repr_digest(repr_digest, &has_repr, &repr, err);
		if (rc != RC_OK)
			return rc;
	}
	if (checksum != NULL && !sha256_parse(checksum, strlen(checksum), &hex))
		return err_set(err, RC_INVALID, "invalid-header",
			"X-Checksum-Sha256 must be 64 hexadecimal digits");
	if (has_repr && checksum != NULL && !sha256_equal(&repr, &hex))
		return err_set(err, RC_INVALID, "digest-mismatch",
			"Repr-Digest and X-Checksum-Sha256 ask for different digests");
	if (has_repr || checksum != NULL) {
		*given = true;
		*out = has_repr ? repr : hex;
	}
	return RC_OK;
}

/* ---- types and codings ---- */

enum rc
upload_headers_coding(const char *value, enum upload_coding *out, struct err *err)
{
	if (value == NULL || strcasecmp(value, "identity") == 0)
		*out = UPLOAD_IDENTITY;
	else if (strcasecmp(value, "gzip") == 0)
		*out = UPLOAD_GZIP;
	else if (strcasecmp(value, "zstd") == 0)
		*out = UPLOAD_ZSTD;
	else
		return err_set(err, RC_INVALID, "unsupported-encoding",
			"Content-Encoding may be identity, gzip or zstd, one of them");
	return RC_OK;
}

bool
upload_headers_is_type(const char *value, const char *type)
{
	size_t len = strcspn(value, ";" SPACES);

	return len == strlen(type) && strncasecmp(value, type, len) == 0;
}

enum rc
upload_headers_archive(
	const char *type, const char *coding, struct upload_archive *out, struct err *err)
{
	static const struct {
		const char *type;
		struct upload_archive means;
	} types[] = {
		{"application/octet-stream", {true, true, true, true, false}},
		{"application/x-www-form-urlencoded", {true, true, true, true, false}},
		{"application/x-tar", {true, false, false, false, false}},
		{"application/zip", {false, true, false, false, false}},
		{"application/gzip", {true, false, true, false, true}},
		{"application/zstd", {true, false, false, true, true}},
	};
	enum upload_coding around;
	size_t i = 0;

	enum rc rc = upload_headers_coding(coding, &around, err);
	if (rc != RC_OK)
		return rc;
	if (type != NULL)
		while (i < sizeof types / sizeof *types &&
			!upload_headers_is_type(type, types[i].type))
			i++;
	if (i == sizeof types / sizeof *types)
		return err_set(err, RC_INVALID, "unsupported-media-type",
			"an archive is application/x-tar, application/gzip or application/zstd (a "
			"compressed tar), application/zip, or application/octet-stream");
	*out = types[i].means;
	if (around != UPLOAD_IDENTITY) {
		/* one filter, and that is the one around it */
		out->gzip = around == UPLOAD_GZIP;
		out->zstd = around == UPLOAD_ZSTD;
		out->deny_plain = true;
	}
	return RC_OK;
}

static enum rc
bad_boundary(size_t bytes_max, struct err *err)
{
	return err_set(err, RC_INVALID, "form-invalid",
		"the Content-Type of a form must name its boundary, 1 to %zu characters",
		bytes_max);
}

/* A parameter's value, plain or quoted, into out. Past it, or NULL: it is none, or too long. */
static const char *
take_value(const char *p, char *out, size_t bytes_max)
{
	size_t len = 0;
	bool quoted = take_char(&p, '"');

	for (; quoted ? *p != '"' : strchr(";" SPACES, *p) == NULL; p++) {
		if (quoted && *p == '\\')
			p++;
		if (*p == '\0')
			return NULL;
		if (len < bytes_max)
			out[len] = *p;
		len++;
	}
	if (len > bytes_max)
		return NULL;
	out[len] = '\0';
	return p + quoted;
}

static bool
is_boundary(const char *text)
{
	static const char chars[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "'()+_,-./:=? ";
	size_t len = strlen(text);

	return len > 0 && strspn(text, chars) == len && text[len - 1] != ' ';
}

enum rc
upload_headers_boundary(const char *value, char *out, size_t bytes_max, struct err *err)
{
	char other[256];
	const char *p = value + strcspn(value, ";");

	while (take_char(&p, ';')) {
		p += strspn(p, SPACES);
		size_t name = strcspn(p, "=;" SPACES);
		bool is_it = name == 8 && strncasecmp(p, "boundary", 8) == 0;
		p += name;
		if (take_char(&p, '='))
			p = is_it ? take_value(p, out, bytes_max)
				  : take_value(p, other, sizeof other - 1);
		else if (is_it)
			p = NULL;
		if (p == NULL || (is_it && !is_boundary(out)))
			return bad_boundary(bytes_max, err);
		if (is_it)
			return RC_OK;
		p += strspn(p, SPACES);
	}
	return bad_boundary(bytes_max, err);
}
