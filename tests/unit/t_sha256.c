/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "buf.h"
#include "sha256.h"

#define DATA_BYTES (1u << 20)

static const enum sha256_backend backends[] = {SHA256_SHANI, SHA256_OPENSSL, SHA256_PORTABLE};
#define BACKEND_COUNT (sizeof backends / sizeof backends[0])

static uint8_t data[DATA_BYTES];

static uint64_t
next_u64(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static int
fill_data(void **state)
{
	uint64_t seed = 1;
	(void)state;

	for (size_t i = 0; i < DATA_BYTES; i += 8)
		put_u64(data + i, next_u64(&seed));
	return 0;
}

static struct sha256
truth(const uint8_t *p, size_t len)
{
	struct sha256 h;

	assert_int_equal(EVP_Digest(p, len, h.b, NULL, EVP_sha256(), NULL), 1);
	return h;
}

static void
assert_hash(const struct sha256 *got, const struct sha256 *want)
{
	assert_memory_equal(got->b, want->b, sizeof want->b);
}

/* Run check with every backend this CPU has. */
static void
each_backend(void (*check)(void))
{
	for (size_t b = 0; b < BACKEND_COUNT; b++)
		if (sha256_force_backend(backends[b]))
			check();
	sha256_force_backend(SHA256_AUTO);
}

static void
check_published(void)
{
	static const struct {
		const char *text;
		const char *hex;
	} known[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	};
	struct sha256 h;
	char hex[SHA256_HEX_BYTES];

	for (size_t i = 0; i < 3; i++) {
		sha256_of(known[i].text, strlen(known[i].text), &h);
		sha256_hex(&h, hex);
		assert_string_equal(hex, known[i].hex);
	}
}

static void
published_vectors(void **state)
{
	struct sha256_stream s;
	struct sha256 h;
	char a[1000];
	char hex[SHA256_HEX_BYTES];
	(void)state;

	each_backend(check_published);
	memset(a, 'a', sizeof a);
	sha256_stream_init(&s);
	for (int i = 0; i < 1000; i++)
		sha256_stream_update(&s, a, sizeof a);
	sha256_stream_final(&s, &h);
	sha256_hex(&h, hex);
	assert_string_equal(
		hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void
check_lengths(void)
{
	struct sha256 got;
	uint64_t seed = 2;

	for (size_t len = 0; len <= 4096; len++) {
		struct sha256 want = truth(data + len % 61, len);
		sha256_of(data + len % 61, len, &got);
		assert_hash(&got, &want);
	}
	for (int i = 0; i < 40; i++) {
		size_t at = next_u64(&seed) % 1000;
		size_t len = next_u64(&seed) % 200000;
		struct sha256 want = truth(data + at, len);
		sha256_of(data + at, len, &got);
		assert_hash(&got, &want);
	}
}

static void
all_lengths_as_openssl(void **state)
{
	(void)state;
	each_backend(check_lengths);
}

static void
no_bytes(void **state)
{
	struct sha256 got;
	struct sha256_job job = {NULL, 0, &got};
	(void)state;

	for (size_t b = 0; b < BACKEND_COUNT; b++) {
		if (!sha256_force_backend(backends[b]))
			continue;
		sha256_of(NULL, 0, &got);
		assert_hash(&got, &sha256_empty);
		memset(&got, 0xff, sizeof got);
		sha256_many(&job, 1);
		assert_hash(&got, &sha256_empty);
		sha256_many(NULL, 0);
	}
	sha256_force_backend(SHA256_AUTO);
}

#define JOBS_MAX 70

static void
check_jobs(size_t n, size_t len_max, uint64_t *seed)
{
	struct sha256_job jobs[JOBS_MAX] = {{NULL, 0, NULL}};
	struct sha256 got[JOBS_MAX + 1];

	memset(got, 0xee, sizeof got);
	for (size_t i = 0; i < n; i++)
		jobs[i] = (struct sha256_job){data + next_u64(seed) % 1000,
			next_u64(seed) % 3 == 0 ? next_u64(seed) % 130 : next_u64(seed) % len_max,
			&got[i]};
	sha256_many(jobs, n);
	for (size_t i = 0; i < n; i++) {
		struct sha256 want = truth(jobs[i].data, jobs[i].len);
		assert_hash(&got[i], &want);
	}
	assert_int_equal(got[n].b[0], 0xee);
}

static void
check_many(void)
{
	uint64_t seed = 3;

	for (size_t n = 0; n <= JOBS_MAX; n++) {
		check_jobs(n, 200, &seed);
		check_jobs(n, 5000, &seed);
	}
	check_jobs(5, 300000, &seed);
}

static void
many_of_mixed_lengths(void **state)
{
	(void)state;
	each_backend(check_many);
}

/* Two messages whose lengths meet the padding's edges in every combination. */
static void
check_pairs(void)
{
	struct sha256 got[2];

	for (size_t a = 0; a < 200; a += 1 + (a % 64 < 50 && a % 64 > 2 ? 10 : 0)) {
		for (size_t b = 0; b < 200; b++) {
			struct sha256_job jobs[2] = {{data, a, &got[0]}, {data + 777, b, &got[1]}};
			struct sha256 want_a = truth(data, a);
			struct sha256 want_b = truth(data + 777, b);
			sha256_many(jobs, 2);
			assert_hash(&got[0], &want_a);
			assert_hash(&got[1], &want_b);
		}
	}
}

static void
pairs_at_padding_edges(void **state)
{
	(void)state;
	each_backend(check_pairs);
}

static void
check_stream_splits(void)
{
	uint64_t seed = 4;
	struct sha256_stream s;
	struct sha256 got;

	for (int round = 0; round < 100; round++) {
		size_t len = next_u64(&seed) % 3000;
		size_t step = 1 + next_u64(&seed) % 200;
		struct sha256 want = truth(data, len);
		sha256_stream_init(&s);
		for (size_t at = 0; at < len;) {
			size_t piece = next_u64(&seed) % step;
			piece = piece < len - at ? piece : len - at;
			sha256_stream_update(&s, data + at, piece);
			at += piece;
		}
		sha256_stream_update(&s, NULL, 0);
		sha256_stream_final(&s, &got);
		assert_hash(&got, &want);
		sha256_stream_final(&s, &got);
		assert_hash(&got, &want);
	}
}

static void
stream_pieces_do_not_matter(void **state)
{
	(void)state;
	each_backend(check_stream_splits);
}

/* Saved under one backend, loaded under another: the form is the machine's business only. */
static void
stream_saved_at_every_point(void **state)
{
	enum { LEN = 400 };
	struct sha256 want = truth(data, LEN);
	uint8_t saved[SHA256_STREAM_BYTES];
	uint8_t again[SHA256_STREAM_BYTES];
	(void)state;

	for (size_t at = 0; at <= LEN; at++) {
		struct sha256_stream s;
		struct sha256_stream t;
		struct sha256 got;
		sha256_force_backend(SHA256_PORTABLE);
		sha256_stream_init(&s);
		memset(s.block, 0xa5, sizeof s.block); /* rubbish must not be saved */
		sha256_stream_update(&s, data, at);
		sha256_stream_save(&s, saved);
		sha256_force_backend(SHA256_AUTO);
		memset(&t, 0xff, sizeof t);
		assert_true(sha256_stream_load(&t, saved));
		assert_int_equal(t.bytes, at);
		sha256_stream_save(&t, again);
		assert_memory_equal(again, saved, sizeof saved);
		sha256_stream_update(&t, data + at, LEN - at);
		sha256_stream_final(&t, &got);
		assert_hash(&got, &want);
	}
}

static void
assert_load_refused(const uint8_t *saved)
{
	struct sha256_stream s;
	struct sha256 got;

	memset(&s, 0xff, sizeof s);
	assert_false(sha256_stream_load(&s, saved));
	sha256_stream_final(&s, &got);
	assert_hash(&got, &sha256_empty);
}

static void
bad_saved_streams_are_refused(void **state)
{
	struct sha256_stream s;
	uint8_t saved[SHA256_STREAM_BYTES];
	uint8_t bad[SHA256_STREAM_BYTES];
	(void)state;

	sha256_stream_init(&s);
	sha256_stream_update(&s, data, 10);
	sha256_stream_save(&s, saved);
	memset(bad, 0, sizeof bad);
	assert_load_refused(bad);
	memset(bad, 0xff, sizeof bad);
	assert_load_refused(bad);
	for (size_t i = 0; i < 4; i++) { /* magic */
		memcpy(bad, saved, sizeof bad);
		bad[i] ^= 1;
		assert_load_refused(bad);
	}
	for (size_t i = 12; i < 44; i++) { /* state that ten bytes cannot have changed */
		memcpy(bad, saved, sizeof bad);
		bad[i] ^= 0x80;
		assert_load_refused(bad);
	}
	for (size_t i = 44 + 10; i < sizeof bad; i++) { /* bytes behind the tenth */
		memcpy(bad, saved, sizeof bad);
		bad[i] ^= 1;
		assert_load_refused(bad);
	}
	memcpy(bad, saved, sizeof bad); /* more bits than the length field holds */
	bad[11] = 0x20;
	assert_load_refused(bad);
	bad[11] = 0x1f;
	assert_true(sha256_stream_load(&s, bad));
}

static void
compare_and_text(void **state)
{
	struct sha256 a = truth(data, 1);
	struct sha256 b = a;
	char hex[SHA256_HEX_BYTES];
	(void)state;

	assert_true(sha256_equal(&a, &b));
	assert_int_equal(sha256_cmp(&a, &b), 0);
	for (size_t i = 0; i < 32; i++) {
		b = a;
		b.b[i] ^= 0x80;
		assert_false(sha256_equal(&a, &b));
		assert_true((sha256_cmp(&a, &b) < 0) == (a.b[i] < b.b[i]));
		assert_true((sha256_cmp(&b, &a) < 0) == (b.b[i] < a.b[i]));
	}
	sha256_hex(&a, hex);
	assert_int_equal(strlen(hex), 64);
	assert_true(sha256_parse(hex, 64, &b));
	assert_true(sha256_equal(&a, &b));
	for (size_t i = 0; i < 64; i++)
		if (hex[i] >= 'a')
			hex[i] = (char)(hex[i] - 'a' + 'A');
	assert_true(sha256_parse(hex, 64, &b));
	assert_true(sha256_equal(&a, &b));
	assert_false(sha256_parse(hex, 63, &b));
	assert_false(sha256_parse(hex, 65, &b));
	assert_false(sha256_parse(hex, 0, &b));
	for (size_t i = 0; i < 64; i++) {
		char kept = hex[i];
		hex[i] = i % 2 ? 'g' : '\0';
		assert_false(sha256_parse(hex, 64, &b));
		hex[i] = kept;
	}
}

static void *
hash_in_thread(void *arg)
{
	const struct sha256 *want = arg;

	for (int i = 0; i < 50; i++) {
		struct sha256 got[3];
		struct sha256_job jobs[3] = {
			{data, 5000, &got[0]}, {data, 5000, &got[1]}, {data, 5000, &got[2]}};
		sha256_many(jobs, 3);
		for (int k = 0; k < 3; k++)
			if (!sha256_equal(&got[k], want))
				return arg;
	}
	return NULL;
}

static void
check_threads(void)
{
	struct sha256 want = truth(data, 5000);
	pthread_t threads[4];
	void *failed;

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hash_in_thread, &want), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
}

static void
many_threads(void **state)
{
	(void)state;
	each_backend(check_threads);
}

static void
backend_names(void **state)
{
	(void)state;
	assert_true(sha256_force_backend(SHA256_OPENSSL));
	assert_string_equal(sha256_backend(), "openssl");
	assert_true(sha256_force_backend(SHA256_PORTABLE));
	assert_string_equal(sha256_backend(), "portable");
	if (sha256_force_backend(SHA256_SHANI))
		assert_string_equal(sha256_backend(), "sha-ni x2");
	assert_true(sha256_force_backend(SHA256_AUTO));
	assert_string_not_equal(sha256_backend(), "portable");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(published_vectors),
		cmocka_unit_test(all_lengths_as_openssl),
		cmocka_unit_test(no_bytes),
		cmocka_unit_test(many_of_mixed_lengths),
		cmocka_unit_test(pairs_at_padding_edges),
		cmocka_unit_test(stream_pieces_do_not_matter),
		cmocka_unit_test(stream_saved_at_every_point),
		cmocka_unit_test(bad_saved_streams_are_refused),
		cmocka_unit_test(compare_and_text),
		cmocka_unit_test(many_threads),
		cmocka_unit_test(backend_names),
	};

	return cmocka_run_group_tests(tests, fill_data, NULL);
}
