/* SPDX-License-Identifier: Apache-2.0 */
#include "multipart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "buf.h"

#define BOUNDARY  "XbX"
#define LOG_BYTES ((size_t)4 << 20)

/* What came out of the parser, as a text: "<name>data|" for each part. */
struct sink {
	struct buf log;
	size_t room;    /* bytes that data() takes before it is stuck; SIZE_MAX: any */
	size_t at_once; /* most bytes of one data() */
	enum rc begin_rc, end_rc;
	unsigned parts;
};

static enum rc
on_begin(void *arg, const struct multipart_part *part, struct err *err)
{
	struct sink *s = arg;

	s->parts++;
	buf_add_u8(&s->log, '<');
	if (part->filename != NULL) {
		assert_int_equal(strlen(part->filename), part->filename_len);
		buf_add(&s->log, part->filename, part->filename_len);
	} else {
		buf_add_str(&s->log, "NONE");
	}
	buf_add_u8(&s->log, '>');
	if (s->begin_rc != RC_OK)
		return err_set(err, s->begin_rc, "invalid-path", "no");
	return RC_OK;
}

static size_t
on_data(void *arg, const uint8_t *data, size_t len)
{
	struct sink *s = arg;
	size_t n = len < s->at_once ? len : s->at_once;

	assert_true(len > 0);
	n = n < s->room ? n : s->room;
	if (s->room != SIZE_MAX)
		s->room -= n;
	buf_add(&s->log, data, n);
	return n;
}

static enum rc
on_end(void *arg, struct err *err)
{
	struct sink *s = arg;

	buf_add_u8(&s->log, '|');
	if (s->end_rc != RC_OK)
		return err_set(err, s->end_rc, "disk-full", "no");
	return RC_OK;
}

static const struct multipart_ops ops = {on_begin, on_data, on_end};

static void
sink_init(struct sink *s)
{
	*s = (struct sink){.room = SIZE_MAX, .at_once = SIZE_MAX};
	buf_init(&s->log, LOG_BYTES);
}

/* Push all of it in pieces of at most step bytes, the first one of first bytes. */
static enum rc
run(struct sink *s, const char *boundary, const char *body, size_t len, size_t first, size_t step,
	struct err *err)
{
	struct multipart *m = NULL;
	enum rc rc = multipart_open(boundary, &ops, s, &m, err);
	size_t at = 0;

	assert_int_equal(rc, RC_OK);
	while (rc == RC_OK && at < len) {
		size_t n = at == 0 && first > 0 ? first : step;
		size_t taken;
		n = n < len - at ? n : len - at;
		/* memory of its own, so that a read beyond it is seen */
		uint8_t *piece = malloc(n);
		assert_non_null(piece);
		memcpy(piece, body + at, n);
		rc = multipart_push(m, piece, n, &taken, err);
		free(piece);
		assert_true(taken <= n);
		if (rc == RC_OK && taken < n) {
			assert_true(s->room == 0 || s->at_once != SIZE_MAX);
			s->room = s->room == 0 ? 1 : s->room;
		}
		at += taken;
	}
	if (rc == RC_OK)
		rc = multipart_finish(m, err);
	multipart_free(m);
	return rc;
}

/* The body gives the log, wherever it is split. */
static void
gives_bytes(const char *body, size_t len, const char *log, size_t log_len)
{
	for (size_t split = 0; split <= len; split++) {
		struct err err = ERR_INIT;
		struct sink s;
		sink_init(&s);
		if (run(&s, BOUNDARY, body, len, split, len > 0 ? len : 1, &err) != RC_OK)
			fail_msg("split at %zu: %s", split, err.text);
		assert_int_equal(s.log.len, log_len);
		assert_memory_equal(s.log.data, log, log_len);
		buf_done(&s.log);
	}
	for (size_t step = 1; step <= 7; step++) {
		struct err err = ERR_INIT;
		struct sink s;
		sink_init(&s);
		s.at_once = step;
		assert_int_equal(run(&s, BOUNDARY, body, len, 0, step, &err), RC_OK);
		assert_int_equal(s.log.len, log_len);
		assert_memory_equal(s.log.data, log, log_len);
		buf_done(&s.log);
	}
	/* a sink that is stuck before every byte */
	struct err err = ERR_INIT;
	struct sink s;
	sink_init(&s);
	s.room = 0;
	assert_int_equal(run(&s, BOUNDARY, body, len, 0, len, &err), RC_OK);
	assert_int_equal(s.log.len, log_len);
	assert_memory_equal(s.log.data, log, log_len);
	buf_done(&s.log);
}

static void
gives(const char *body, const char *log)
{
	gives_bytes(body, strlen(body), log, strlen(log));
}

/* The body is refused, wherever it is split, and always for the same reason. */
static void
refused_bytes(const char *body, size_t len, const char *what)
{
	for (size_t split = 0; split <= len; split++) {
		struct err err = ERR_INIT;
		struct sink s;
		sink_init(&s);
		enum rc rc = run(&s, BOUNDARY, body, len, split, len > 0 ? len : 1, &err);
		buf_done(&s.log);
		if (rc != RC_INVALID)
			fail_msg("split at %zu: taken: %s", split, body);
		assert_string_equal(err.kind, "form-invalid");
		if (strstr(err.text, what) == NULL)
			fail_msg("\"%s\" does not say \"%s\"", err.text, what);
	}
}

static void
refused(const char *body, const char *what)
{
	refused_bytes(body, strlen(body), what);
}

#define PART(name, data)                                                                           \
	"--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"f\"; filename=\"" name           \
	"\"\r\n\r\n" data "\r\n"
#define HEAD(line)        "--" BOUNDARY "\r\n" line "\r\n\r\n"
#define DISPOSITION(rest) HEAD("Content-Disposition: form-data" rest)
#define END               "--" BOUNDARY "--\r\n"

static void
plain_forms(void **state)
{
	(void)state;
	gives(END, "");
	gives(PART("a", "1") END, "<a>1|");
	gives(PART("a", "") END, "<a>|");
	gives(PART("a", "1") PART("b/c", "22") PART("a", "") END, "<a>1|<b/c>22|<a>|");
	gives("--" BOUNDARY "--", "");
	gives(PART("a", "1") "--" BOUNDARY "--", "<a>1|");
	gives("before\r\n--\r\n-- " BOUNDARY "\r\n" PART("a", "1") END "after\r\n" PART("b", "2"),
		"<a>1|");
	gives("\r\n" PART("a", "1") END, "<a>1|");
}

static void
padding_is_only_before_a_line_end(void **state)
{
	(void)state;
	gives("--" BOUNDARY " \t\r\nContent-Disposition: form-data; filename=a\r\n\r\nx\r\n" END,
		"<a>x|");
	refused("--" BOUNDARY " x\r\n", "line end");
	refused("--" BOUNDARY "x\r\n", "line end");
	refused("--" BOUNDARY "\n", "line end");
	refused("--" BOUNDARY "\r\r", "line end");
	refused("--" BOUNDARY "-\r\n", "line end");
	refused("--" BOUNDARY " --\r\n", "line end");
	refused(PART("a", "data\r\n--" BOUNDARY "y") END, "line end");
}

static void
data_that_looks_like_a_boundary(void **state)
{
	(void)state;
	gives(PART("a", "\r\n--Xb") END, "<a>\r\n--Xb|");
	gives(PART("a", "\r\n--XbY\r\n-\r\r\n\r\n--") END, "<a>\r\n--XbY\r\n-\r\r\n\r\n--|");
	gives(PART("a", "--" BOUNDARY) END, "<a>--" BOUNDARY "|");
	gives(PART("a", "\n--" BOUNDARY) END, "<a>\n--" BOUNDARY "|");
	gives(PART("a", "\r--" BOUNDARY "\r") END, "<a>\r--" BOUNDARY "\r|");
	gives(PART("a", "\r\n-\r\n--X\r\n--Xb\r\r\n") END, "<a>\r\n-\r\n--X\r\n--Xb\r\r\n|");
	gives_bytes(PART("a", "\0\xff\0") END, sizeof(PART("a", "\0\xff\0") END) - 1,
		"<a>\0\xff\0|", 7);
}

static void
names(void **state)
{
	(void)state;
	gives(PART("a\\\"b", "") END, "<a\"b>|");
	gives(PART("a\\\\b", "") END, "<a\\b>|");
	gives(PART("C:\\dir\\f", "") END, "<C:\\dir\\f>|");
	gives(PART("a%22b", "") END, "<a\"b>|");
	gives(PART("a%0D%0ab", "") END, "<a\r\nb>|");
	gives(PART("100%25 %2f %zz %", "") END, "<100%25 %2f %zz %>|");
	gives(PART("gr\xc3\xbc\xc3\x9f"
		   "e; filename=x",
		      "") END,
		"<gr\xc3\xbc\xc3\x9f"
		"e; filename=x>|");
	gives(PART("", "") END, "<>|");
	gives(DISPOSITION("; name=x") "\r\n" END, "<NONE>|");
	gives(DISPOSITION("") "\r\n" END, "<NONE>|");
	gives(DISPOSITION(";") "\r\n" END, "<NONE>|");
	gives(DISPOSITION(" ;\tfilename=b ; size=7") "\r\n" END, "<b>|");
}

static void
extended_names(void **state)
{
	(void)state;
	gives(DISPOSITION("; filename*=UTF-8''a%20b%c3%bC") "\r\n" END, "<a b\xc3\xbc>|");
	gives(DISPOSITION("; filename*=utf-8'en'x; filename=y") "\r\n" END, "<x>|");
	gives(DISPOSITION("; filename=\"y\"; filename*=utf-8''x") "\r\n" END, "<x>|");
	refused(DISPOSITION("; filename*=latin1''x"), "cannot be read");
	refused(DISPOSITION("; filename*=utf-8'x"), "cannot be read");
	refused(DISPOSITION("; filename*=utf-8''%0"), "cannot be read");
	refused(DISPOSITION("; filename*=utf-8''%00"), "cannot be read");
	refused(DISPOSITION("; filename*=utf-8''a; filename*=utf-8''b"), "cannot be read");
}

static void
headers(void **state)
{
	(void)state;
	gives(HEAD("content-type: image/png\r\nX: y\r\nCONTENT-DISPOSITION:form-data;filename=a\r\n"
		   "Content-Transfer-Encoding: Binary ") "1\r\n" END,
		"<a>1|");
	refused("--" BOUNDARY "\r\n\r\nx\r\n" END, "no Content-Disposition");
	refused(HEAD("Content-Disposition: attachment; filename=f"), "not form-data");
	refused(HEAD("Content-Disposition: form-dataX; filename=f"), "not form-data");
	refused(HEAD("Content-Disposition: form-data\r\nContent-Disposition: form-data"), "two");
	refused(DISPOSITION("; filename=\"a"), "cannot be read");
	refused(DISPOSITION("; filename=\"a\\\""), "cannot be read");
	refused(DISPOSITION("; filename=\"a\"b"), "cannot be read");
	refused(DISPOSITION("; filename=a; filename=b"), "cannot be read");
	refused(DISPOSITION("; filename"), "cannot be read");
	refused(DISPOSITION("; filename="), "cannot be read");
	refused(DISPOSITION("; =a"), "cannot be read");
	refused(DISPOSITION(" filename=a"), "cannot be read");
	refused(DISPOSITION("\r\nContent-Transfer-Encoding: base64"), "Encoding");
	refused(DISPOSITION("\r\nContent-Transfer-Encoding: "), "Encoding");
	refused(DISPOSITION("\r\nContent-Type: Multipart/mixed; boundary=x"), "multipart itself");
	refused(HEAD("no colon"), "no name");
	refused(HEAD(": empty"), "no name");
	refused(HEAD("X : y"), "no name");
	refused(HEAD("X: y\r\n folded"), "no name");
	refused(HEAD("X: y\nZ: a"), "byte");
	refused(HEAD("X: y\rZ: a"), "byte");
	refused(HEAD("X: y\r\rZ"), "byte");
	refused(HEAD("X: \x01"), "byte");
	refused(HEAD("X: \x7f"), "byte");
	refused_bytes(
		"--" BOUNDARY "\r\nX: \0\r\n", sizeof("--" BOUNDARY "\r\nX: \0\r\n") - 1, "byte");
}

static void
cut_forms(void **state)
{
	const char whole[] = PART("a", "12\r\n3") PART("b", "") "--" BOUNDARY "--";
	struct err err;

	(void)state;
	for (size_t len = 0; len < sizeof whole - 1; len++) {
		struct sink s;
		sink_init(&s);
		err = (struct err)ERR_INIT;
		assert_int_equal(run(&s, BOUNDARY, whole, len, 0, 1 + len % 5, &err), RC_INVALID);
		assert_string_equal(err.kind, "form-invalid");
		buf_done(&s.log);
	}
	refused("", "nowhere");
	refused("no form at all", "nowhere");
	refused("\r\n--Xb", "nowhere");
	refused("--" BOUNDARY, "ends before");
}

/* Lines of 10 bytes. */
static char *
many_headers(size_t count)
{
	char *body = malloc(64 + count * 16);

	assert_non_null(body);
	size_t at =
		(size_t)snprintf(body, 64, "--" BOUNDARY "\r\nContent-Disposition: form-data\r\n");
	for (size_t i = 0; i < count; i++)
		at += (size_t)snprintf(body + at, 16, "H%06zu: v\r\n", i);
	memcpy(body + at, "\r\n", 3);
	return body;
}

static void
limits(void **state)
{
	struct err err = ERR_INIT;
	struct sink s;

	(void)state;
	char *body = many_headers(MULTIPART_HEADERS_MAX - 1);
	sink_init(&s);
	run(&s, BOUNDARY, body, strlen(body), 0, 100, &err);
	assert_int_equal(s.parts, 1);
	buf_done(&s.log);
	free(body);
	body = many_headers(MULTIPART_HEADERS_MAX);
	refused(body, "too many headers");
	free(body);

	char *head = malloc(MULTIPART_HEAD_BYTES_MAX + 64);
	assert_non_null(head);
	size_t at = (size_t)snprintf(head, 64, "--" BOUNDARY "\r\nX: ");
	memset(head + at, 'y', MULTIPART_HEAD_BYTES_MAX);
	sink_init(&s);
	err = (struct err)ERR_INIT;
	assert_int_equal(
		run(&s, BOUNDARY, head, at + MULTIPART_HEAD_BYTES_MAX, 0, 333, &err), RC_INVALID);
	assert_non_null(strstr(err.text, "too long"));
	buf_done(&s.log);
	free(head);
}

static void
boundaries(void **state)
{
	char longest[MULTIPART_BOUNDARY_BYTES_MAX + 2];
	char body[512];
	struct err err = ERR_INIT;
	struct multipart *m = NULL;
	struct sink s;

	(void)state;
	memset(longest, '-', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	assert_int_equal(multipart_open(longest, &ops, &s, &m, &err), RC_INVALID);
	longest[sizeof longest - 2] = '\0';
	int len = snprintf(body, sizeof body,
		"--%s\r\nContent-Disposition: form-data; filename=a\r\n\r\n--%.60s\r\n-\r\n--%s--",
		longest, longest, longest);
	sink_init(&s);
	assert_int_equal(run(&s, longest, body, (size_t)len, 0, 3, &err), RC_OK);
	assert_int_equal(s.log.len, strlen("<a>--") + 60 + strlen("\r\n-|"));
	buf_done(&s.log);
	err = (struct err)ERR_INIT;
	assert_int_equal(multipart_open("", &ops, &s, &m, &err), RC_INVALID);
	err = (struct err)ERR_INIT;
	assert_int_equal(multipart_open("a\r\nb", &ops, &s, &m, &err), RC_INVALID);
	multipart_free(NULL);
}

static void
callbacks_that_fail(void **state)
{
	const char body[] = PART("a", "1") PART("b", "2") END;
	struct multipart *m = NULL;
	struct err err = ERR_INIT;
	struct sink s;
	size_t taken;

	(void)state;
	sink_init(&s);
	s.begin_rc = RC_INVALID;
	assert_int_equal(run(&s, BOUNDARY, body, sizeof body - 1, 0, 5, &err), RC_INVALID);
	assert_string_equal(err.kind, "invalid-path");
	assert_int_equal(s.parts, 1);
	buf_done(&s.log);

	sink_init(&s);
	s.end_rc = RC_FULL;
	err = (struct err)ERR_INIT;
	assert_int_equal(multipart_open(BOUNDARY, &ops, &s, &m, &err), RC_OK);
	assert_int_equal(
		multipart_push(m, (const uint8_t *)body, sizeof body - 1, &taken, &err), RC_FULL);
	assert_string_equal(err.kind, "disk-full");
	err = (struct err)ERR_INIT;
	assert_int_equal(multipart_push(m, (const uint8_t *)END, 3, &taken, &err), RC_INVALID);
	assert_int_equal(taken, 0);
	err = (struct err)ERR_INIT;
	assert_int_equal(multipart_finish(m, &err), RC_INVALID);
	multipart_free(m);
	buf_done(&s.log);
}

static void
large_parts(void **state)
{
	const char head[] = "--" BOUNDARY "\r\nContent-Disposition: form-data; filename=a\r\n\r\n";
	const size_t len = 300000;
	struct err err = ERR_INIT;
	struct sink s;

	(void)state;
	char *body = malloc(sizeof head + len + sizeof "\r\n" END);
	assert_non_null(body);
	memcpy(body, head, sizeof head - 1);
	for (size_t i = 0; i < len; i++)
		body[sizeof head - 1 + i] = "\r\n-Xb"[(i * 7 + i / 11) % 5];
	memcpy(body + sizeof head - 1 + len, "\r\n" END, sizeof "\r\n" END);
	sink_init(&s);
	size_t all = sizeof head - 1 + len + sizeof "\r\n" END - 1;
	enum rc rc = run(&s, BOUNDARY, body, all, 0, 4093, &err);
	if (rc != RC_OK)
		fail_msg("%s", err.text);
	assert_int_equal(s.log.len, len + 4);
	assert_memory_equal(s.log.data + 3, body + sizeof head - 1, len);
	buf_done(&s.log);
	free(body);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_forms),
		cmocka_unit_test(padding_is_only_before_a_line_end),
		cmocka_unit_test(data_that_looks_like_a_boundary),
		cmocka_unit_test(names),
		cmocka_unit_test(extended_names),
		cmocka_unit_test(headers),
		cmocka_unit_test(cut_forms),
		cmocka_unit_test(limits),
		cmocka_unit_test(boundaries),
		cmocka_unit_test(callbacks_that_fail),
		cmocka_unit_test(large_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
