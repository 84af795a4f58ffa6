/* SPDX-License-Identifier: Apache-2.0 */
#include "reply_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_request.h"
#include "reader.h"
#include "watch.h"

#define SIZE 700001

/* ---- a reader of one file, in the place of core's ---- */

struct reader {
	uint64_t at;
	uint64_t size;
};

/* How the answers are asked for; all must be the same. */
static enum way {
	SLOW,         /* on a worker */
	FAST,         /* first without waiting, which no read can do */
	FAST_AT_HAND, /* which every read can do */
} way;
static bool was_fast; /* the last answer was given without waiting */

static int readers;         /* open ones */
static uint64_t bad_from;   /* bytes from here on do not verify */
static size_t most = 10007; /* bytes a read */

static uint8_t
byte_at(uint64_t i)
{
	return (uint8_t)(i * 2654435761u >> 11 ^ i);
}

enum rc
reader_open(struct read_service *rs, const struct repo *repo, const struct content *content,
	uint64_t offset, struct reader **out, struct err *err)
{
	(void)rs;
	(void)repo;
	(void)err;
	assert_true(offset < content->size);
	*out = calloc(1, sizeof **out);
	assert_non_null(*out);
	(*out)->at = offset;
	(*out)->size = content->size;
	readers++;
	return RC_OK;
}

enum rc
reader_open_now(struct read_service *rs, const struct repo *repo, const struct content *content,
	uint64_t offset, struct reader **out, struct err *err)
{
	if (way != FAST_AT_HAND)
		return err_set(err, RC_AGAIN, NULL, "not without waiting");
	return reader_open(rs, repo, content, offset, out, err);
}

enum rc
reader_read(struct reader *r, uint8_t *out, size_t max, size_t *got, struct err *err)
{
	size_t n = r->size - r->at < max ? (size_t)(r->size - r->at) : max;

	n = n < most ? n : most;
	if (r->at + n > bad_from)
		return err_set(err, RC_CORRUPT, "corrupt-data", "a chunk does not match its hash");
	for (size_t i = 0; i < n; i++)
		out[i] = byte_at(r->at++);
	*got = n;
	return RC_OK;
}

enum rc
reader_seek(struct reader *r, uint64_t offset, struct err *err)
{
	(void)err;
	r->at = offset;
	return RC_OK;
}

void
reader_free(struct reader *r)
{
	readers -= r != NULL;
	free(r);
}

/* ---- asking ---- */

#define ETAG "\"recipe:0000000000000000000000000000000000000000000000000000000000000000\""
#define DATE "Tue, 14 Nov 2023 22:13:20 GMT"

static struct fake f;

static void
ask(enum method method, const char *path, uint64_t size, const char *name, const char *value)
{
	const struct reply_file file = {
		.path = path,
		.path_len = strlen(path),
		.content = {.kind = CONTENT_RECIPE, .size = size},
		.else_us = INT64_C(1700000000999999),
	};

	fake_init(&f, method);
	if (name != NULL)
		fake_header(&f, name, value);
	was_fast = way != SLOW && reply_file_now(&f.rq, &file);
	if (was_fast)
		return;
	/* nothing was done */
	assert_false(reply_is_set(&f.rq));
	assert_null(fake_answer_header(&f, "ETag"));
	assert_int_equal(readers, 0);
	reply_file(&f.rq, &file);
}

static void
done(void)
{
	fake_done(&f);
	assert_true(fake_wait_idle());
	assert_int_equal(readers, 0);
}

static size_t
pull(uint8_t *out, size_t max)
{
	ssize_t last;
	size_t n = fake_pull(&f, out, max, 60000, 10000, &last);

	assert_int_equal(last, SOURCE_END);
	return n;
}

static void
expect_header(const char *name, const char *value)
{
	const char *got = fake_answer_header(&f, name);

	if (value == NULL ? got != NULL : got == NULL || strcmp(got, value) != 0)
		fail_msg("%s is %s, not %s", name, got != NULL ? got : "absent",
			value != NULL ? value : "absent");
}

static void
expect_bytes(const uint8_t *data, uint64_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != byte_at(from + i))
			fail_msg("byte %llu is wrong", (unsigned long long)(from + i));
}

/* ---- tests ---- */

static void
whole_files(void **state)
{
	static const uint64_t sizes[] = {0, 1, 1000, 131072, 131073, SIZE};
	uint8_t *out = test_malloc(SIZE + 1);

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		ask(METHOD_GET, "a/b.txt", sizes[i], NULL, NULL);
		assert_int_equal(f.status, 200);
		assert_int_equal(was_fast, (way == FAST_AT_HAND && sizes[i] <= 131072) ||
						   (way == FAST && sizes[i] == 0));
		assert_string_equal(f.type, "text/plain");
		assert_int_equal(pull(out, SIZE + 1), sizes[i]);
		expect_bytes(out, 0, (size_t)sizes[i]);
		expect_header("ETag", ETAG);
		expect_header("Last-Modified", DATE);
		expect_header("Accept-Ranges", "bytes");
		expect_header("Content-Range", NULL);
		assert_true(!f.is_stream || f.stream_len == sizes[i]);
		done();
		ask(METHOD_HEAD, "a/b.txt", sizes[i], "Range", "bytes=0-1");
		assert_int_equal(f.status, 200);
		assert_int_equal(readers, 0);
		assert_true(f.is_stream ? f.stream_len == sizes[i] : f.len == sizes[i]);
		expect_header("ETag", ETAG);
		done();
	}
	test_free(out);
}

static void
one_range(void **state)
{
	uint8_t *out = test_malloc(SIZE + 1);

	(void)state;
	ask(METHOD_GET, "x", SIZE, "Range", "bytes=5-9");
	assert_int_equal(f.status, 206);
	assert_int_equal(was_fast, way == FAST_AT_HAND);
	assert_int_equal(pull(out, SIZE), 5);
	expect_bytes(out, 5, 5);
	expect_header("Content-Range", "bytes 5-9/700001");
	expect_header("ETag", ETAG);
	done();
	ask(METHOD_GET, "x", SIZE, "Range", "bytes=-400000");
	assert_int_equal(f.status, 206);
	assert_int_equal(f.stream_len, 400000);
	assert_int_equal(pull(out, SIZE), 400000);
	expect_bytes(out, 300001, 400000);
	expect_header("Content-Range", "bytes 300001-700000/700001");
	done();
	ask(METHOD_GET, "x", SIZE, "Range", "bytes=700001-");
	assert_int_equal(f.status, 416);
	assert_string_equal(fake_kind(&f), "range-not-satisfiable");
	expect_header("Content-Range", "bytes */700001");
	expect_header("ETag", NULL);
	done();
	test_free(out);
}

/* Take one part off a multipart body and compare it; returns what follows. */
static const uint8_t *
expect_part(const uint8_t *at, const char *boundary, bool is_first, uint64_t first, uint64_t last)
{
	char head[400];
	int n = snprintf(head, sizeof head,
		"%s--%s\r\nContent-Type: text/html\r\nContent-Range: bytes %llu-%llu/%d\r\n\r\n",
		is_first ? "" : "\r\n", boundary, (unsigned long long)first,
		(unsigned long long)last, SIZE);

	assert_memory_equal(at, head, (size_t)n);
	expect_bytes(at + n, first, (size_t)(last - first + 1));
	return at + n + (last - first + 1);
}

static void
several_ranges(void **state)
{
	static const uint64_t lengths[] = {1, 70000, 7, 200000};
	uint8_t *out = test_malloc(2 * SIZE);
	char header[200], tail[100];

	(void)state;
	for (size_t l = 0; l < 4; l++) {
		snprintf(header, sizeof header, "bytes=0-%llu,250000-%llu,600000-600000,-3",
			(unsigned long long)lengths[l] - 1,
			(unsigned long long)249999 + lengths[l]);
		ask(METHOD_GET, "x.html", SIZE, "Range", header);
		assert_int_equal(f.status, 206);
		static const char type[] = "multipart/byteranges; boundary=";
		assert_memory_equal(f.type, type, sizeof type - 1);
		const char *boundary = f.type + sizeof type - 1;
		size_t n = pull(out, 2 * SIZE);
		assert_true(f.is_stream ? f.stream_len == n : f.len == n);
		expect_header("Content-Range", NULL);
		const uint8_t *at = expect_part(out, boundary, true, 0, lengths[l] - 1);
		at = expect_part(at, boundary, false, 250000, 249999 + lengths[l]);
		at = expect_part(at, boundary, false, 600000, 600000);
		at = expect_part(at, boundary, false, SIZE - 3, SIZE - 1);
		int len = snprintf(tail, sizeof tail, "\r\n--%s--\r\n", boundary);
		assert_int_equal(out + n - at, len);
		assert_memory_equal(at, tail, (size_t)len);
		done();
	}
	test_free(out);
}

static void
conditions(void **state)
{
	(void)state;
	ask(METHOD_GET, "x", SIZE, "If-None-Match", "W/" ETAG);
	assert_int_equal(f.status, 304);
	assert_int_equal(was_fast, way != SLOW);
	assert_int_equal(f.len, 0);
	expect_header("ETag", ETAG);
	done();
	ask(METHOD_HEAD, "x", SIZE, "If-Match", "\"other\"");
	assert_int_equal(f.status, 412);
	assert_string_equal(fake_kind(&f), "precondition-failed");
	done();
	ask(METHOD_GET, "x", SIZE, "If-Modified-Since", DATE);
	assert_int_equal(f.status, 304);
	done();
}

static void
broken_files(void **state)
{
	uint8_t *out = test_malloc(SIZE);
	ssize_t last;

	(void)state;
	bad_from = 100;
	ask(METHOD_GET, "x", SIZE, NULL, NULL);
	assert_int_equal(f.status, 500);
	assert_string_equal(fake_kind(&f), "corrupt-data");
	expect_header("ETag", NULL);
	done();
	bad_from = 600000;
	ask(METHOD_GET, "x", SIZE, NULL, NULL);
	assert_int_equal(f.status, 200);
	size_t n = fake_pull(&f, out, SIZE, 50000, 10000, &last);
	assert_int_equal(last, SOURCE_ABORT);
	assert_true(n < SIZE);
	expect_bytes(out, 0, n);
	done();
	bad_from = UINT64_MAX;
	test_free(out);
}

static int
start(void **state)
{
	(void)state;
	bad_from = UINT64_MAX;
	return 0;
}

static int
stop(void **state)
{
	(void)state;
	watch_stop();
	fake_stop();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_files),
		cmocka_unit_test(one_range),
		cmocka_unit_test(several_ranges),
		cmocka_unit_test(conditions),
		cmocka_unit_test(broken_files),
	};
	int failed = 0;

	for (way = SLOW; way <= FAST_AT_HAND; way++)
		failed += cmocka_run_group_tests(tests, start, stop);
	return failed;
}
