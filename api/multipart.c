/* SPDX-License-Identifier: Apache-2.0 */
/* The delimiter is CR LF "--" boundary, and a boundary holds no CR. So what has matched so far and
 * then fails is data as a whole, the byte that failed may begin a new match, and there is nothing
 * to remember but how much has matched: those bytes are the delimiter's own beginning. */
#include "multipart.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DELIMITER_BYTES_MAX (4 + MULTIPART_BOUNDARY_BYTES_MAX)
#define SPACES              "\t "

enum state {
	PREAMBLE,
	DATA,
	REPLAY,    /* matched bytes turned out to be data, and are not all taken yet */
	DELIMITER, /* behind the boundary */
	LAST_DASH, /* one "-" behind it */
	PADDING,   /* spaces behind it */
	DELIM_LF,  /* CR behind it */
	HEAD,      /* in the head's lines */
	EPILOGUE,
	FAILED,
};

struct multipart {
	const struct multipart_ops *ops;
	void *arg;
	enum state state;
	char delimiter[DELIMITER_BYTES_MAX + 1];
	size_t delimiter_len;
	size_t matched;  /* PREAMBLE, DATA: bytes of the delimiter */
	size_t replayed; /* REPLAY: of matched */
	bool in_part;
	char head[MULTIPART_HEAD_BYTES_MAX + 1];
	size_t head_len;
	size_t line_start;
	unsigned headers;
	/* of the part whose head is being read */
	bool is_form_data;
	bool has_name, has_extended;
	char name[MULTIPART_HEAD_BYTES_MAX + 1];
	size_t name_len;
};

enum rc
multipart_open(const char *boundary, const struct multipart_ops *ops, void *arg,
	struct multipart **out, struct err *err)
{
	size_t len = strlen(boundary);

	if (len == 0 || len > MULTIPART_BOUNDARY_BYTES_MAX || strpbrk(boundary, "\r\n") != NULL)
		return err_set(err, RC_INVALID, "form-invalid",
			"the boundary of the form must have 1 to %d characters",
			MULTIPART_BOUNDARY_BYTES_MAX);
	struct multipart *m = calloc(1, sizeof *m);
	if (m == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	m->ops = ops;
	m->arg = arg;
	memcpy(m->delimiter, "\r\n--", 4);
	memcpy(m->delimiter + 4, boundary, len);
	m->delimiter_len = 4 + len;
	m->state = PREAMBLE;
	m->matched = 2; /* the body's beginning is as good as a line end */
	*out = m;
	return RC_OK;
}

void
multipart_free(struct multipart *m)
{
	free(m);
}

static enum rc
invalid(struct err *err, const char *what)
{
	return err_set(err, RC_INVALID, "form-invalid", "the form is not valid: %s", what);
}

/* ---- the head of a part ---- */

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %XX at p, or -1. */
static int
escaped(const char *p)
{
	if (p[0] != '%' || hex_digit(p[1]) < 0 || hex_digit(p[2]) < 0)
		return -1;
	return hex_digit(p[1]) << 4 | hex_digit(p[2]);
}

/* The text of a quoted string (p is behind the first quote) into out, which has room for it. Past
 * the closing quote, or NULL. */
static const char *
take_quoted(const char *p, char *out, size_t *len)
{
	*len = 0;
	while (*p != '"') {
		int c = escaped(p);
		if (*p == '\0')
			return NULL;
		if (c == '"' || c == '\r' || c == '\n') {
			p += 3;
		} else {
			p += *p == '\\' && (p[1] == '"' || p[1] == '\\');
			c = *p++;
		}
		out[(*len)++] = (char)c;
	}
	return p + 1;
}

static const char *
take_token(const char *p, char *out, size_t *len)
{
	*len = strcspn(p, ";\"" SPACES);
	memcpy(out, p, *len);
	return *len > 0 ? p + *len : NULL;
}

/* UTF-8''percent-encoded. */
static const char *
take_extended(const char *p, char *out, size_t *len)
{
	if (strncasecmp(p, "utf-8'", 6) != 0)
		return NULL;
	p += 6 + strcspn(p + 6, "';" SPACES); /* a language may stand here */
	if (*p++ != '\'')
		return NULL;
	*len = 0;
	while (strchr(";" SPACES, *p) == NULL) {
		int c = escaped(p);
		if (c == 0 || (c < 0 && *p == '%'))
			return NULL;
		out[(*len)++] = (char)(c < 0 ? *p : c);
		p += c < 0 ? 1 : 3;
	}
	return p;
}

/* One parameter of Content-Disposition from p on, which is at its name. Past it, or NULL. */
static const char *
take_parameter(struct multipart *m, const char *p)
{
	char ignored[MULTIPART_HEAD_BYTES_MAX];
	size_t key = strcspn(p, "=;" SPACES);
	bool plain = key == 8 && strncasecmp(p, "filename", 8) == 0;
	bool extended = key == 9 && strncasecmp(p, "filename*", 9) == 0;
	const char *value = p + key;
	size_t len;

	if (key == 0 || *value++ != '=' || (plain && m->has_name) || (extended && m->has_extended))
		return NULL;
	/* of the two spellings the extended one counts, wherever it stands */
	bool keep = extended || (plain && !m->has_extended);
	char *out = keep ? m->name : ignored;
	if (extended)
		p = take_extended(value, out, &len);
	else if (*value == '"')
		p = take_quoted(value + 1, out, &len);
	else
		p = take_token(value, out, &len);
	if (p == NULL)
		return NULL;
	m->has_name = m->has_name || plain;
	m->has_extended = m->has_extended || extended;
	if (keep) {
		m->name[len] = '\0';
		m->name_len = len;
	}
	return p;
}

static enum rc
take_disposition(struct multipart *m, const char *p, struct err *err)
{
	size_t type = strcspn(p, ";" SPACES);

	if (m->is_form_data)
		return invalid(err, "a part has two Content-Disposition headers");
	if (type != 9 || strncasecmp(p, "form-data", 9) != 0)
		return invalid(err, "the Content-Disposition of a part is not form-data");
	m->is_form_data = true;
	for (p += type;;) {
		p += strspn(p, SPACES);
		if (*p == '\0')
			return RC_OK;
		if (*p++ != ';')
			break;
		p += strspn(p, SPACES);
		if (*p == '\0')
			return RC_OK;
		p = take_parameter(m, p);
		if (p == NULL)
			break;
	}
	return invalid(err, "the Content-Disposition of a part cannot be read");
}

static enum rc
check_coding(const char *value, struct err *err)
{
	static const char *const plain[] = {"binary", "8bit", "7bit"};
	size_t len = strcspn(value, SPACES);

	for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
		if (len == strlen(plain[i]) && strncasecmp(value, plain[i], len) == 0)
			return RC_OK;
	return invalid(err, "a part has a Content-Transfer-Encoding; send it as it is");
}

static bool
is_name(const char *line, size_t len, const char *name)
{
	return len == strlen(name) && strncasecmp(line, name, len) == 0;
}

/* One header line, NUL-terminated. */
static enum rc
take_header(struct multipart *m, const char *line, struct err *err)
{
	size_t name = strcspn(line, ": \t");
	const char *value = line + name + 1;

	if (++m->headers > MULTIPART_HEADERS_MAX)
		return invalid(err, "a part has too many headers");
	if (name == 0 || line[name] != ':')
		return invalid(err, "a header of a part has no name");
	value += strspn(value, SPACES);
	if (is_name(line, name, "Content-Disposition"))
		return take_disposition(m, value, err);
	if (is_name(line, name, "Content-Transfer-Encoding"))
		return check_coding(value, err);
	if (is_name(line, name, "Content-Type") && strncasecmp(value, "multipart/", 10) == 0)
		return invalid(err, "a part is a multipart itself");
	return RC_OK;
}

static void
begin_head(struct multipart *m)
{
	m->state = HEAD;
	m->head_len = m->line_start = 0;
	m->headers = 0;
	m->is_form_data = m->has_name = m->has_extended = false;
	m->name_len = 0;
}

static enum rc
end_head(struct multipart *m, struct err *err)
{
	struct multipart_part part = {0};

	if (!m->is_form_data)
		return invalid(err, "a part has no Content-Disposition");
	if (m->has_name || m->has_extended)
		part = (struct multipart_part){m->name, m->name_len};
	m->state = DATA;
	m->in_part = true;
	m->matched = 0;
	return m->ops->begin(m->arg, &part, err);
}

/* One byte of the head. */
static enum rc
push_head(struct multipart *m, uint8_t c, struct err *err)
{
	bool after_cr = m->head_len > m->line_start && m->head[m->head_len - 1] == '\r';

	if (m->head_len == MULTIPART_HEAD_BYTES_MAX)
		return invalid(err, "the headers of a part are too long");
	if (after_cr != (c == '\n') || (c < 0x20 && c != '\r' && c != '\n' && c != '\t') ||
		c == 0x7f)
		return invalid(err, "a header of a part has a byte that may not be there");
	m->head[m->head_len++] = (char)c;
	if (c != '\n')
		return RC_OK;
	const char *line = m->head + m->line_start;
	m->head[m->head_len - 2] = '\0';
	m->line_start = m->head_len;
	if (*line == '\0')
		return end_head(m, err);
	return take_header(m, line, err);
}

/* ---- data and delimiters ---- */

static enum rc
end_part(struct multipart *m, struct err *err)
{
	bool was_in_part = m->in_part;

	m->state = DELIMITER;
	m->in_part = false;
	return was_in_part ? m->ops->end(m->arg, err) : RC_OK;
}

/* Bytes that are no delimiter. Returns how many were taken. */
static size_t
give(struct multipart *m, const uint8_t *data, size_t len)
{
	return m->in_part ? m->ops->data(m->arg, data, len) : len;
}

/* The rest of what had matched; false: not all of it was taken. */
static bool
replay(struct multipart *m)
{
	size_t len = m->matched - m->replayed;

	m->replayed += give(m, (const uint8_t *)m->delimiter + m->replayed, len);
	if (m->replayed < m->matched)
		return false;
	m->matched = m->replayed = 0;
	m->state = m->in_part ? DATA : PREAMBLE;
	return true;
}

/* Data, or the bytes before the first part, up to where the state changes. Returns how many of the
 * bytes were taken; *stuck: data() would take no more. */
static size_t
push_data(struct multipart *m, const uint8_t *data, size_t len, bool *stuck, struct err *err)
{
	size_t n = 0;

	if (m->matched == 0) {
		const uint8_t *cr = memchr(data, '\r', len);
		size_t plain = cr != NULL ? (size_t)(cr - data) : len;
		n = plain > 0 ? give(m, data, plain) : 0;
		if (n < plain) {
			*stuck = true;
			return n;
		}
	}
	while (n < len && m->matched < m->delimiter_len &&
		data[n] == (uint8_t)m->delimiter[m->matched]) {
		m->matched++;
		n++;
	}
	if (m->matched == m->delimiter_len)
		end_part(m, err);
	else if (n < len && m->matched > 0)
		m->state = REPLAY;
	return n;
}

/* One byte behind a boundary. */
static enum rc
push_delimiter(struct multipart *m, uint8_t c, struct err *err)
{
	switch (m->state) {
	case DELIMITER:
		if (c == '-') {
			m->state = LAST_DASH;
			return RC_OK;
		}
		m->state = PADDING;
		break;
	case LAST_DASH:
		if (c != '-')
			break;
		m->state = EPILOGUE;
		return RC_OK;
	case DELIM_LF:
		if (c != '\n')
			break;
		begin_head(m);
		return RC_OK;
	case PREAMBLE:
	case DATA:
	case REPLAY:
	case PADDING:
	case HEAD:
	case EPILOGUE:
	case FAILED:
		break;
	}
	if (m->state == PADDING && (c == ' ' || c == '\t'))
		return RC_OK;
	if (m->state != PADDING || c != '\r')
		return invalid(err, "a boundary is followed by something else than a line end");
	m->state = DELIM_LF;
	return RC_OK;
}

/* One step; returns how many bytes it took. */
static size_t
step(struct multipart *m, const uint8_t *data, size_t len, bool *stuck, struct err *err)
{
	switch (m->state) {
	case REPLAY:
		*stuck = !replay(m);
		return 0;
	case PREAMBLE:
	case DATA:
		return push_data(m, data, len, stuck, err);
	case DELIMITER:
	case LAST_DASH:
	case PADDING:
	case DELIM_LF:
		push_delimiter(m, *data, err);
		return 1;
	case HEAD:
		push_head(m, *data, err);
		return 1;
	case EPILOGUE:
	case FAILED:
		break;
	}
	return len;
}

enum rc
multipart_push(struct multipart *m, const uint8_t *data, size_t len, size_t *taken, struct err *err)
{
	struct err failure = ERR_INIT;
	bool stuck = false;
	size_t n = 0;

	*taken = 0;
	if (m->state == FAILED)
		return invalid(err, "it was refused before");
	while (n < len && !stuck && failure.rc == RC_OK)
		n += step(m, data + n, len - n, &stuck, &failure);
	if (failure.rc != RC_OK) {
		m->state = FAILED;
		*err = failure;
		return failure.rc;
	}
	*taken = n;
	return RC_OK;
}

enum rc
multipart_finish(const struct multipart *m, struct err *err)
{
	if (m->state == EPILOGUE)
		return RC_OK;
	if (m->state == PREAMBLE || (m->state == REPLAY && !m->in_part))
		return invalid(err, "its boundary is nowhere in the body");
	return invalid(err, "the body ends before the last boundary");
}
