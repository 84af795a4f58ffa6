/* SPDX-License-Identifier: Apache-2.0 */
#include "path.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "utf8.h"

/* one place for the second half of every refusal */
#define ALLOWED                                                                                    \
	"a path is 1 to 1024 bytes of UTF-8, segments of 1 to 255 bytes joined by \"/\", "         \
	"without \".\" or \"..\" segments, control bytes or backslashes"

static enum rc
refuse(struct err *err, const char *what, size_t at)
{
	return err_set(
		err, RC_INVALID, "invalid-path", "the path has %s at byte %zu; " ALLOWED, what, at);
}

/* NULL if the byte may stand in a path. */
static const char *
byte_problem(uint8_t byte)
{
	if (byte == 0)
		return "a NUL byte";
	if (byte < 0x20 || byte == 0x7f)
		return "a control byte";
	if (byte == '\\')
		return "a backslash";
	return NULL;
}

static const char *
segment_problem(const char *p, size_t len)
{
	if (len == 0)
		return "an empty segment";
	if (len == 1 && p[0] == '.')
		return "a \".\" segment";
	if (len == 2 && p[0] == '.' && p[1] == '.')
		return "a \"..\" segment";
	if (len > PATH_SEGMENT_BYTES_MAX)
		return "a segment longer than 255 bytes";
	return NULL;
}

/* Where the first ill-formed sequence of p starts; len if there is none. */
static size_t
utf8_problem_at(const char *p, size_t len)
{
	size_t i = 0;

	while (i < len) {
		size_t n = 1;
		while (n < 4 && n < len - i && !utf8_valid(p + i, n))
			n++;
		if (!utf8_valid(p + i, n))
			return i;
		i += n;
	}
	return len;
}

enum rc
path_check(const char *p, size_t len, struct err *err)
{
	if (len == 0)
		return err_set(err, RC_INVALID, "invalid-path", "the path is empty; " ALLOWED);
	if (len > PATH_BYTES_MAX)
		return err_set(
			err, RC_INVALID, "invalid-path", "the path has %zu bytes; " ALLOWED, len);
	size_t start = 0;
	for (size_t i = 0; i <= len; i++) {
		const char *problem = i < len ? byte_problem((uint8_t)p[i]) : NULL;
		if (problem != NULL)
			return refuse(err, problem, i);
		if (i < len && p[i] != '/')
			continue;
		problem = segment_problem(p + start, i - start);
		if (problem != NULL)
			return refuse(err, problem, start);
		start = i + 1;
	}
	if (!utf8_valid(p, len))
		return refuse(err, "bytes that are not UTF-8", utf8_problem_at(p, len));
	return RC_OK;
}

static bool
is_continuation(char c)
{
	return ((uint8_t)c & 0xc0) == 0x80;
}

static void
show_part(char *out, const char *p, size_t len, bool utf8)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)p[i];
		bool plain = byte >= 0x20 && byte != 0x7f && byte != '\\' && byte != '"';
		out[i] = plain && (utf8 || byte < 0x80) ? p[i] : '?';
	}
	out[len] = '\0';
}

const char *
path_show(char *out, const char *p, size_t len)
{
	const size_t room = PATH_SHOW_BYTES - 1;
	/* only what is shown is looked at twice; a caller may hand us much more than a path */
	bool utf8 = len <= PATH_BYTES_MAX && utf8_valid(p, len);

	if (len <= room) {
		show_part(out, p, len, utf8);
		return out;
	}
	/* the end of a path says more than its start */
	size_t head = 40;
	size_t tail = room - head - 3;
	while (utf8 && head > 0 && is_continuation(p[head]))
		head--;
	while (utf8 && tail > 0 && is_continuation(p[len - tail]))
		tail--;
	show_part(out, p, head, utf8);
	memcpy(out + head, "...", 3);
	show_part(out + head + 3, p + len - tail, tail, utf8);
	return out;
}
