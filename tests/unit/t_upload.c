/* SPDX-License-Identifier: Apache-2.0 */
#include "upload_headers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* SHA-256 of "hello world" */
#define HELLO_HEX    "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
#define HELLO_BASE64 "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek="
#define EMPTY_HEX    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* ---- Content-Range ---- */

static void
range_is(const char *value, uint64_t first, uint64_t last, uint64_t total)
{
	struct upload_range r;
	struct err err = ERR_INIT;

	if (upload_headers_range(value, &r, &err) != RC_OK)
		fail_msg("refused: %s: %s", value, err.text);
	assert_true(r.first == first && r.last == last && r.total == total);
}

static void
range_refused(const char *value)
{
	struct upload_range r = {7, 7, 7};
	struct err err = ERR_INIT;

	if (upload_headers_range(value, &r, &err) != RC_INVALID)
		fail_msg("taken: %s", value);
	assert_string_equal(err.kind, "invalid-header");
	assert_true(r.first == 7 && r.last == 7 && r.total == 7);
}

static void
ranges(void **state)
{
	(void)state;
	range_is("bytes 0-4/5", 0, 4, 5);
	range_is("Bytes 0-0/1", 0, 0, 1);
	range_is("bytes 007-8/10", 7, 8, 10);
	range_is("bytes 10-99/*", 10, 99, UPLOAD_TOTAL_UNKNOWN);
	range_is("bytes 0-9223372036854775806/9223372036854775807", 0, INT64_MAX - 1, INT64_MAX);
	static const char *const none[] = {
		"",
		"bytes",
		"bytes ",
		"bytes 0-4",
		"bytes 0-4/",
		"bytes 0-/5",
		"bytes -4/5",
		"bytes /5",
		"bytes */5",
		"bytes 0-4/5 ",
		"bytes  0-4/5",
		"bytes\t0-4/5",
		"bytes 0 -4/5",
		"bytes=0-4/5",
		"0-4/5",
		"items 0-4/5",
		"bytes 0-4/5, 6-7/8",
		"bytes 0-4/**",
		"bytes +0-4/5",
		"bytes 0x0-4/5",
		"bytes a-b/c",
		"bytes 5-4/10",
		"bytes 0-10/10",
		"bytes 0-0/0",
		"bytes 0-99999999999999999999/5",
		"bytes 99999999999999999999-1/5",
		"bytes 0-4/99999999999999999999",
	};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		range_refused(none[i]);
}

/* ---- digests ---- */

static void
digest_is(const char *repr, const char *checksum, const char *hex)
{
	struct sha256 out;
	struct err err = ERR_INIT;
	char text[SHA256_HEX_BYTES];
	bool given = hex == NULL;

	if (upload_headers_digest(repr, checksum, &given, &out, &err) != RC_OK)
		fail_msg("refused: %s, %s: %s", repr, checksum, err.text);
	assert_int_equal(given, hex != NULL);
	if (hex == NULL)
		return;
	sha256_hex(&out, text);
	assert_string_equal(text, hex);
}

static void
digest_refused(const char *repr, const char *checksum, const char *kind)
{
	struct sha256 out;
	struct err err = ERR_INIT;
	bool given;

	if (upload_headers_digest(repr, checksum, &given, &out, &err) != RC_INVALID)
		fail_msg("taken: %s, %s", repr, checksum);
	assert_string_equal(err.kind, kind);
}

static void
digests(void **state)
{
	(void)state;
	digest_is(NULL, NULL, NULL);
	digest_is(NULL, HELLO_HEX, HELLO_HEX);
	digest_is(NULL, "B94D27B9934D3E08A52E52D7DA7DABFAC484EFE37A5380EE9088F7ACE2EFCDE9",
		HELLO_HEX);
	digest_is("sha-256=:" HELLO_BASE64 ":", NULL, HELLO_HEX);
	digest_is("sha-256=:" HELLO_BASE64 ":", HELLO_HEX, HELLO_HEX);
	digest_is(" sha-512=:AAAA: ,\tsha-256=:" HELLO_BASE64 ":  ", NULL, HELLO_HEX);
	digest_is("sha-256=:" HELLO_BASE64 ":;p=\"a,b\", md5=:AAAA:", NULL, HELLO_HEX);
	digest_is("x=\"a, sha-256=:AAAA:, \\\" \", sha-256=:" HELLO_BASE64 ":", NULL, HELLO_HEX);
	digest_is("unixsum=30637, sha-512;q=1", NULL, NULL);
	digest_is("", NULL, NULL);
	digest_is("sha-2560=:AAAA:", NULL, NULL);
}

static void
digests_that_are_none(void **state)
{
	static const char *const repr[] = {
		"sha-256",
		"sha-256=",
		"sha-256=abc",
		"sha-256=:",
		"sha-256=::",
		"sha-256=:AAAA:",
		"sha-256=:!!!!:",
		"sha-256=:" HELLO_BASE64,
		"sha-256=" HELLO_BASE64 ":",
		"sha-256=:" HELLO_BASE64 ":x",
		"sha-256 =:" HELLO_BASE64 ":",
		"sha-256=:" HELLO_HEX ":",
		"SHA-256=:" HELLO_BASE64 ":",
		"sha-256=:" HELLO_BASE64 ":, sha-256=:AAAA:",
		"=:AAAA:",
		", sha-256=:" HELLO_BASE64 ":",
		"(a b)",
	};
	static const char *const checksum[] = {
		"",
		"00",
		HELLO_HEX "0",
		" " HELLO_HEX,
		HELLO_HEX " ",
		"0x" HELLO_HEX,
		"g94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
	};

	(void)state;
	for (size_t i = 0; i < sizeof repr / sizeof *repr; i++)
		digest_refused(repr[i], NULL, "invalid-header");
	for (size_t i = 0; i < sizeof checksum / sizeof *checksum; i++)
		digest_refused(NULL, checksum[i], "invalid-header");
	digest_refused("sha-256=:" HELLO_BASE64 ":", EMPTY_HEX, "digest-mismatch");
}

/* ---- codings and types ---- */

static void
codings(void **state)
{
	static const char *const none[] = {
		"", "br", "deflate", "gzip, zstd", "gzip,", " gzip", "identity, gzip", "x-gzip"};
	enum upload_coding coding;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(upload_headers_coding(NULL, &coding, &err), RC_OK);
	assert_int_equal(coding, UPLOAD_IDENTITY);
	assert_int_equal(upload_headers_coding("Identity", &coding, &err), RC_OK);
	assert_int_equal(coding, UPLOAD_IDENTITY);
	assert_int_equal(upload_headers_coding("GZIP", &coding, &err), RC_OK);
	assert_int_equal(coding, UPLOAD_GZIP);
	assert_int_equal(upload_headers_coding("zstd", &coding, &err), RC_OK);
	assert_int_equal(coding, UPLOAD_ZSTD);
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		err = (struct err)ERR_INIT;
		assert_int_equal(upload_headers_coding(none[i], &coding, &err), RC_INVALID);
		assert_string_equal(err.kind, "unsupported-encoding");
	}
}

static void
types(void **state)
{
	(void)state;
	assert_true(upload_headers_is_type("application/zip", "application/zip"));
	assert_true(upload_headers_is_type("Application/ZIP;a=b", "application/zip"));
	assert_true(upload_headers_is_type("application/zip ; a", "application/zip"));
	assert_false(upload_headers_is_type("application/zipx", "application/zip"));
	assert_false(upload_headers_is_type("application/zi", "application/zip"));
	assert_false(upload_headers_is_type("", "application/zip"));
}

static void
archive_is(const char *type, const char *coding, const char *means)
{
	struct upload_archive a;
	struct err err = ERR_INIT;
	char text[8];

	if (upload_headers_archive(type, coding, &a, &err) != RC_OK)
		fail_msg("refused: %s, %s: %s", type, coding, err.text);
	snprintf(text, sizeof text, "%s%s%s%s%s", a.tar ? "t" : "", a.zip ? "z" : "",
		a.gzip ? "g" : "", a.zstd ? "s" : "", a.deny_plain ? "!" : "");
	assert_string_equal(text, means);
}

static void
archives(void **state)
{
	static const char *const none[] = {"", "image/png", "application/x-7z-compressed",
		"nonsense", "multipart/form-data; boundary=x", "application/x-tar-gz"};
	struct upload_archive a;
	struct err err = ERR_INIT;

	(void)state;
	archive_is(NULL, NULL, "tzgs");
	archive_is("application/octet-stream", "identity", "tzgs");
	archive_is("application/x-www-form-urlencoded", NULL, "tzgs");
	archive_is("Application/X-Tar; x=y", NULL, "t");
	archive_is("application/zip", NULL, "z");
	archive_is("application/gzip", NULL, "tg!");
	archive_is("application/zstd", NULL, "ts!");
	archive_is("application/x-tar", "gzip", "tg!");
	archive_is("application/zip", "zstd", "zs!");
	archive_is(NULL, "zstd", "tzs!");
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		err = (struct err)ERR_INIT;
		assert_int_equal(upload_headers_archive(none[i], NULL, &a, &err), RC_INVALID);
		assert_string_equal(err.kind, "unsupported-media-type");
	}
	err = (struct err)ERR_INIT;
	assert_int_equal(upload_headers_archive("application/zip", "br", &a, &err), RC_INVALID);
	assert_string_equal(err.kind, "unsupported-encoding");
}

/* ---- boundaries ---- */

static void
boundary_is(const char *value, const char *boundary)
{
	struct err err = ERR_INIT;
	char out[71];

	if (upload_headers_boundary(value, out, 70, &err) != RC_OK)
		fail_msg("refused: %s: %s", value, err.text);
	assert_string_equal(out, boundary);
}

static void
boundary_refused(const char *value)
{
	struct err err = ERR_INIT;
	char out[71];

	if (upload_headers_boundary(value, out, 70, &err) != RC_INVALID)
		fail_msg("taken: %s", value);
	assert_string_equal(err.kind, "form-invalid");
}

#define SEVENTY "1234567890123456789012345678901234567890123456789012345678901234567890"

static void
boundaries(void **state)
{
	static const char *const none[] = {
		"multipart/form-data",
		"multipart/form-data;",
		"multipart/form-data; charset=utf-8",
		"multipart/form-data; boundary",
		"multipart/form-data; boundary=",
		"multipart/form-data; boundary=\"\"",
		"multipart/form-data; boundary=\"a",
		"multipart/form-data; boundary=\"a\\",
		"multipart/form-data; boundary=\"a \"",
		"multipart/form-data; boundary=a@b",
		"multipart/form-data; boundary=\"a\\\"b\"",
		"multipart/form-data; boundary=" SEVENTY "1",
		"multipart/form-data; boundary=\"" SEVENTY "1\"",
		"multipart/form-data boundary=a",
		"multipart/form-data; a=\"; boundary=b",
	};

	(void)state;
	boundary_is("multipart/form-data; boundary=a", "a");
	boundary_is("multipart/form-data;BOUNDARY=a;x=y", "a");
	boundary_is("multipart/form-data; charset=utf-8 ; boundary=\"a b\"", "a b");
	boundary_is("multipart/form-data; x=\"boundary=no; \"; boundary=yes", "yes");
	boundary_is("multipart/form-data; boundary=\"\\a\\-\"", "a-");
	boundary_is("multipart/form-data; boundary=" SEVENTY, SEVENTY);
	boundary_is("multipart/form-data; boundary='()+_,-./:=?", "'()+_,-./:=?");
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		boundary_refused(none[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges),
		cmocka_unit_test(digests),
		cmocka_unit_test(digests_that_are_none),
		cmocka_unit_test(codings),
		cmocka_unit_test(types),
		cmocka_unit_test(archives),
		cmocka_unit_test(boundaries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
