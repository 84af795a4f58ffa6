/* SPDX-License-Identifier: Apache-2.0 */
#include "media_type.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char unknown[] = "application/octet-stream";

static void
expect(const char *path, const char *type)
{
	const char *got = media_type_of(path, strlen(path));

	if (strcmp(got, type) != 0)
		fail_msg("\"%s\" is %s, not %s", path, got, type);
}

static void
known_extensions(void **state)
{
	(void)state;
	expect("a.txt", "text/plain");
	expect("a/b/c.json", "application/json");
	expect("index.HTML", "text/html");
	expect("x.tar.gz", "application/gzip");
	expect("x.7z", "application/x-7z-compressed");
	expect("x.zst", "application/zstd");
	expect("a.b/c.woff2", "font/woff2");
	expect(".a.png", "image/png");
	expect("a..c", "text/plain");
}

static void
names_that_say_nothing(void **state)
{
	static const char *const names[] = {"", "a", "txt", ".txt", "a/.txt", "a.", "a.txt/b",
		"a.txt/", ".", "..", "a.tx", "a.txtt", "a.bin", "a.averylongextension",
		"a.averylongextensionindeed", "a.\xc3\xa4", "\xc3\xa4", "a.t xt"};

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		expect(names[i], unknown);
}

/* The table is searched by halves, so every entry must be where the search looks. */
static void
all_entries_are_found(void **state)
{
	static const char *const some[] = {"7z", "aac", "apk", "asc", "avi", "avif", "bmp", "br",
		"bz2", "c", "cc", "cfg", "conf", "cpp", "css", "csv", "deb", "diff", "dmg", "doc",
		"docx", "epub", "flac", "gif", "go", "gz", "h", "hpp", "htm", "html", "ico", "ics",
		"ini", "iso", "jar", "java", "jpeg", "jpg", "js", "json", "jsonl", "log", "m4a",
		"m4v", "md", "mjs", "mkv", "mov", "mp3", "mp4", "mpeg", "mpg", "odp", "ods", "odt",
		"ogg", "ogv", "opus", "otf", "parquet", "patch", "pdf", "pem", "png", "ppt", "pptx",
		"py", "rar", "rpm", "rs", "rst", "rtf", "sh", "sql", "svg", "tar", "tgz", "tif",
		"tiff", "toml", "ttf", "txt", "wasm", "wav", "webm", "webp", "whl", "woff", "woff2",
		"xhtml", "xls", "xlsx", "xml", "xz", "yaml", "yml", "zip", "zst"};
	char name[32];

	(void)state;
	for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
		snprintf(name, sizeof name, "f.%s", some[i]);
		if (strcmp(media_type_of(name, strlen(name)), unknown) == 0)
			fail_msg("%s is not found", some[i]);
	}
}

static void
no_byte_beyond_the_name_is_read(void **state)
{
	char *name = test_malloc(5);

	(void)state;
	memcpy(name, "a.txt", 5);
	assert_string_equal(media_type_of(name, 5), "text/plain");
	assert_string_equal(media_type_of(name, 4), unknown);
	test_free(name);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_extensions),
		cmocka_unit_test(names_that_say_nothing),
		cmocka_unit_test(all_entries_are_found),
		cmocka_unit_test(no_byte_beyond_the_name_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
