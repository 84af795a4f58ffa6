/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guard.h"

#define HEADERS_MAX 80

/* headers: "Name:value" texts, NULL-terminated; a value goes to the end. */
static enum rc
check(const char *method, const char *target, const char *version, const char *const *headers,
	struct guard_facts *facts, struct err *err)
{
	struct guard_header h[HEADERS_MAX];
	struct guard_input in = {
		.method = method, .target = target, .version = version, .headers = h};

	for (; headers[in.header_count] != NULL; in.header_count++) {
		const char *text = headers[in.header_count];
		const char *colon = strchr(text, ':');
		h[in.header_count] = (struct guard_header){
			text, (size_t)(colon - text), colon + 1, strlen(colon + 1)};
	}
	*err = (struct err)ERR_INIT;
	memset(facts, 0xee, sizeof *facts);
	return guard_check(&in, facts, err);
}

#define CHECK(method, target, version, facts, err, ...)                                            \
	check(method, target, version, (const char *const[]){__VA_ARGS__, NULL}, facts, err)

static void
expect_refusal(const char *kind, const char *const *headers)
{
	struct guard_facts f;
	struct err err;

	if (check("PUT", "/x", "HTTP/1.1", headers, &f, &err) == RC_OK)
		fail_msg("accepted: %s", headers[0]);
	assert_string_equal(err.kind, kind);
	assert_true(err.text[0] != '\0');
}

#define REFUSED(kind, ...) expect_refusal(kind, (const char *const[]){__VA_ARGS__, NULL})

static void
test_good_requests(void **state)
{
	struct guard_facts f;
	struct err err;

	(void)state;
	assert_int_equal(CHECK("GET", "/", "HTTP/1.1", &f, &err, "Host:h"), RC_OK);
	assert_int_equal(f.method, METHOD_GET);
	assert_false(f.chunked || f.has_length || f.expect_continue || f.http_1_0);
	assert_int_equal(CHECK("PUT", "/a?b=c", "HTTP/1.1", &f, &err, "hOST:[::1]:8420",
				 "content-length:18446744073709551"),
		RC_OK);
	assert_true(f.has_length);
	assert_true(f.length == UINT64_C(18446744073709551));
	assert_int_equal(CHECK("POST", "/\xc3\xa4", "HTTP/1.1", &f, &err, "Host:h",
				 "Transfer-Encoding:Chunked", "Expect:100-Continue", "X:a\tb\xff"),
		RC_OK);
	assert_true(f.chunked && f.expect_continue);
	assert_int_equal(CHECK("GET", "/", "HTTP/1.0", &f, &err, "Expect:100-continue"), RC_OK);
	assert_true(f.http_1_0);
	assert_false(f.expect_continue);
	assert_int_equal(CHECK("OPTIONS", "*", "HTTP/1.1", &f, &err, "Host:h"), RC_OK);
	assert_int_equal(CHECK("PATCH", "/", "HTTP/1.1", &f, &err, "Host:h"), RC_OK);
	assert_int_equal(f.method, METHOD_COUNT);
	assert_int_equal(CHECK("get", "/", "HTTP/1.1", &f, &err, "Host:h"), RC_OK);
	assert_int_equal(f.method, METHOD_COUNT);
	/* headers that may be repeated */
	assert_int_equal(
		CHECK("GET", "/", "HTTP/1.1", &f, &err, "Host:h", "Accept:a", "Accept:b"), RC_OK);
}

static void
test_smuggling(void **state)
{
	(void)state;
	REFUSED("malformed-request", "Host:h", "Content-Length:0", "Content-Length:40");
	REFUSED("malformed-request", "Host:h", "Content-Length:0", "content-length:0");
	REFUSED("malformed-request", "Host:h", "Content-Length:5", "Transfer-Encoding:chunked");
	REFUSED("malformed-request", "Host:h", "Transfer-Encoding:chunked",
		"Transfer-Encoding:chunked");
	REFUSED("not-implemented", "Host:h", "Transfer-Encoding:xchunked");
	REFUSED("not-implemented", "Host:h", "Transfer-Encoding:gzip, chunked");
	REFUSED("not-implemented", "Host:h", "Transfer-Encoding:chunked ");
	REFUSED("not-implemented", "Host:h", "Transfer-Encoding:");
	REFUSED("malformed-request", "Host:h", "Transfer-Encoding :chunked");
	REFUSED("malformed-request", "Host:h", "Content-Length:+3");
	REFUSED("malformed-request", "Host:h", "Content-Length:-1");
	REFUSED("malformed-request", "Host:h", "Content-Length:0x3");
	REFUSED("malformed-request", "Host:h", "Content-Length:3, 3");
	REFUSED("malformed-request", "Host:h", "Content-Length:");
	REFUSED("malformed-request", "Host:h", "Content-Length:18446744073709551616");
}

static void
test_each_single_header(void **state)
{
	static const char *const names[] = {"Authorization", "Range", "Expect", "Content-Type",
		"Content-Range", "Content-Encoding", "If-Match", "If-None-Match", "If-Range",
		"If-Modified-Since", "If-Unmodified-Since", "Idempotency-Key", "Repr-Digest",
		"X-Checksum-Sha256"};
	char twice[64];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(twice, sizeof twice, "%s:100-continue", names[i]);
		REFUSED("malformed-request", "Host:h", twice, twice);
	}
	REFUSED("malformed-request", "Host:h", "Host:h");
}

static void
test_bad_names_values_and_hosts(void **state)
{
	(void)state;
	REFUSED("malformed-request", "Host:h", ":empty name");
	REFUSED("malformed-request", "Host:h", "a b:x");
	REFUSED("malformed-request", "Host:h", "a\tb:x");
	REFUSED("malformed-request", "Host:h", "a\xc3\xa4:x");
	REFUSED("malformed-request", "Host:h", "a(b:x");
	REFUSED("malformed-request", "Host:h", "X:a\rb");
	REFUSED("malformed-request", "Host:h", "X:a\nb");
	REFUSED("malformed-request", "Host:h", "X:\x7f");
	REFUSED("malformed-request", "Host:h", "X:\x01");
	REFUSED("malformed-request", "Accept:no host");
	REFUSED("malformed-request", "Host:a/b");
	REFUSED("malformed-request", "Host:a@b");
	REFUSED("malformed-request", "Host:a b");
	REFUSED("malformed-request", "Host:a,b");
	REFUSED("expectation-failed", "Host:h", "Expect:tea");
}

static void
test_request_lines(void **state)
{
	static const struct {
		const char *method, *target, *version, *kind;
	} bad[] = {
		{"G\x01T", "/", "HTTP/1.1", "malformed-request"},
		{"", "/", "HTTP/1.1", "malformed-request"},
		{"GET", "", "HTTP/1.1", "malformed-request"},
		{"GET", "*", "HTTP/1.1", "malformed-request"},
		{"GET", "http://h/", "HTTP/1.1", "malformed-request"},
		{"GET", "h:80", "HTTP/1.1", "malformed-request"},
		{"GET", "/a b", "HTTP/1.1", "malformed-request"},
		{"GET", "/a\x7f", "HTTP/1.1", "malformed-request"},
		{"GET", "/a#b", "HTTP/1.1", "malformed-request"},
		{"GET", "/", "HTTP/1.2", "malformed-request"},
		{"GET", "/", "HTTP/2.0", "malformed-request"},
		{"GET", "/", "", "malformed-request"},
	};
	struct guard_facts f;
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (CHECK(bad[i].method, bad[i].target, bad[i].version, &f, &err, "Host:h") ==
			RC_OK)
			fail_msg("accepted: %zu", i);
		assert_string_equal(err.kind, bad[i].kind);
	}
	assert_int_not_equal(
		CHECK("PUT", "/", "HTTP/1.0", &f, &err, "Transfer-Encoding:chunked"), RC_OK);
}

static void
test_limits(void **state)
{
	static char target[GUARD_TARGET_BYTES_MAX + 2];
	static char big[GUARD_HEADER_BYTES_MAX + 2];
	const char *many[GUARD_HEADERS_MAX + 2] = {NULL};
	struct guard_facts f;
	struct err err;

	(void)state;
	memset(target, '/', GUARD_TARGET_BYTES_MAX);
	assert_int_equal(CHECK("GET", target, "HTTP/1.1", &f, &err, "Host:h"), RC_OK);
	target[GUARD_TARGET_BYTES_MAX] = '/';
	assert_int_equal(CHECK("GET", target, "HTTP/1.1", &f, &err, "Host:h"), RC_TOO_LARGE);
	assert_string_equal(err.kind, "uri-too-long");

	/* "Host" "h" and "X" cost 4 bytes each besides their text */
	memset(big, 'x', sizeof big - 1);
	big[1] = ':';
	size_t most = GUARD_HEADER_BYTES_MAX - 9 - 4 + 1; /* the colon is no text */
	big[most] = '\0';
	assert_int_equal(CHECK("GET", "/", "HTTP/1.1", &f, &err, "Host:h", big), RC_OK);
	big[most] = 'x';
	big[most + 1] = '\0';
	assert_int_equal(CHECK("GET", "/", "HTTP/1.1", &f, &err, "Host:h", big), RC_TOO_LARGE);
	assert_string_equal(err.kind, "headers-too-large");

	many[0] = "Host:h";
	for (int i = 1; i < GUARD_HEADERS_MAX; i++)
		many[i] = "X:y";
	assert_int_equal(check("GET", "/", "HTTP/1.1", many, &f, &err), RC_OK);
	many[GUARD_HEADERS_MAX] = "X:y";
	assert_int_equal(check("GET", "/", "HTTP/1.1", many, &f, &err), RC_TOO_LARGE);
	assert_string_equal(err.kind, "headers-too-large");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_requests),
		cmocka_unit_test(test_smuggling),
		cmocka_unit_test(test_each_single_header),
		cmocka_unit_test(test_bad_names_values_and_hosts),
		cmocka_unit_test(test_request_lines),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
