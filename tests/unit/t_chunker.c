/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "buf.h"
#include "chunker.h"
#include "sha256.h"

#define DATA_BYTES ((1u << 20) + 12345u)
#define CUTS_MAX   512

static const enum chunker_backend backends[] = {
	CHUNKER_SCALAR, CHUNKER_SSE41, CHUNKER_AVX2, CHUNKER_NEON};
#define BACKEND_COUNT (sizeof backends / sizeof backends[0])

static uint64_t
next_u64(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void
fill_random(uint8_t *p, size_t n)
{
	uint64_t state = 1;
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++, v >>= 8) {
		if (i % 8 == 0)
			v = next_u64(&state);
		p[i] = (uint8_t)v;
	}
}

static void
fill_zeros(uint8_t *p, size_t n)
{
	memset(p, 0, n);
}

/* A counter, and zeros up to 16 bytes: three quarters of an array of structs. */
static void
fill_records16(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = i % 16 < 4 ? (uint8_t)(i / 16 >> 8 * (i % 16)) : 0;
}

static void
fill_records64(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = i % 64 < 4 ? (uint8_t)(i / 64 >> 8 * (i % 64)) : (uint8_t)(i % 64 * 7);
}

static void
fill_letters(uint8_t *p, size_t n)
{
	uint64_t state = 2;

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t) "ACGT"[next_u64(&state) >> 62];
}

typedef void fill_fn(uint8_t *p, size_t n);

static fill_fn *const fills[] = {
	fill_random, fill_zeros, fill_records16, fill_records64, fill_letters};
#define FILL_COUNT (sizeof fills / sizeof fills[0])

static struct chunker
make(uint32_t target)
{
	struct err err = ERR_INIT;
	struct chunker c;

	assert_int_equal(chunker_init(&c, target, &err), RC_OK);
	return c;
}

static size_t
cut_all(const struct chunker *c, const uint8_t *p, size_t n, size_t *ends)
{
	size_t count = 0;

	for (size_t at = 0; at < n;) {
		size_t len = chunker_cut(c, p + at, n - at);
		assert_true(len > 0 && len <= n - at && len <= c->max);
		assert_true(len >= c->min || len == n - at);
		at += len;
		assert_true(count < CUTS_MAX);
		ends[count++] = at;
	}
	return count;
}

/* The definition, word for word. */
static size_t
reference_cut(uint32_t target, const uint8_t *p, size_t n)
{
	size_t min = (2 * (size_t)target + 191) / 192 * 64;
	size_t max = 4 * (size_t)target / 192 * 64;
	size_t cut = 0;
	uint32_t least = 0;

	if (n <= min)
		return n;
	for (size_t i = min; i <= (n < max ? n : max); i++) {
		uint32_t h =
			0x9E3779B1u * get_u32(p + i - 4) + 0x85EBCA6Bu * get_u32(p + i - 8) - 1;
		if (cut == 0 || h < least) {
			least = h;
			cut = i;
		}
	}
	return cut;
}

static void
targets_and_bounds(void **state)
{
	static const uint32_t bad[] = {0, 1, 64, 8192, 16383, 16385, 49152, 65535, 65537, 262144,
		1u << 30, 0x80000000u, UINT32_MAX};
	(void)state;

	struct chunker c = make(65536);
	assert_int_equal(c.min, 43712);
	assert_int_equal(c.max, 87360);
	assert_int_equal(c.k0, CHUNKER_K0);
	assert_int_equal(c.k1, CHUNKER_K1);
	for (uint32_t t = 16384; t <= 131072; t *= 2) {
		c = make(t);
		assert_int_equal(c.target, t);
		assert_int_equal(c.min % 64, 0);
		assert_int_equal(c.max % 64, 0);
		assert_true(3 * c.min >= 2 * t && 3 * (c.min - 64) < 2 * t);
		assert_true(3 * c.max <= 4 * t && 3 * (c.max + 64) > 4 * t);
	}
	assert_int_equal(c.max, CHUNKER_CHUNK_BYTES_MAX);
	assert_int_equal(make(CHUNKER_TARGET_DEFAULT).target, 65536);
	assert_int_equal(CHUNKER_ID, 1);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct err err = ERR_INIT;
		assert_int_equal(chunker_init(&c, bad[i], &err), RC_INVALID);
		assert_int_equal(err.rc, RC_INVALID);
	}
}

static void
backends_can_be_forced(void **state)
{
	static const char *const names[BACKEND_COUNT] = {"scalar", "sse4.1", "avx2", "neon"};
	(void)state;

	for (size_t i = 0; i < BACKEND_COUNT; i++)
		if (chunker_force_backend(backends[i]))
			assert_string_equal(chunker_backend(), names[i]);
	assert_true(chunker_force_backend(CHUNKER_SCALAR));
	assert_true(chunker_force_backend(CHUNKER_AUTO));
}

/* SHA-256 of the chunk lengths as little-endian u32, from a separate program that follows the
 * definition. They may never change: every stored recipe depends on them. */
static const struct {
	fill_fn *fill;
	uint32_t target;
	size_t count;
	const char *digest;
} golden[] = {
	{fill_random, 16384, 63,
		"56c2f5067204cefc89ac0f0aab54228dc5684ebb87a4f352570ea8b0a708ab11"},
	{fill_random, 32768, 33,
		"ef2d908d75b841c3543ba12543c9b2c72ef0a8f2e65e982998465034ee2f53bf"},
	{fill_random, 65536, 17,
		"a605d3600bc5637bc706a13707287f3547435dbf66c0f6a8c3c315d853cf8fb7"},
	{fill_random, 131072, 9,
		"1931686cd89d171a8050f91702fab0c4b092efbd414a56e2cadc1dd35bdf9da6"},
	{fill_zeros, 16384, 97, "e60c18e35c08ab4d70f7d1d17a964a615eb214c6792a74dce2374cbe5bb82383"},
	{fill_zeros, 32768, 49, "1fec4360569c601c115f0bfe50d52138acc0eb204c384729b611e3e4fd71c034"},
	{fill_zeros, 65536, 25, "9afaa99dd62eb4f7405e145da32a62ebf3f2f890d4ad7e38b98f4f94b8116a7e"},
	{fill_zeros, 131072, 13,
		"d0af3070e2d6dd6e243e0d3c96aafdbef69eca9f8e248ba5451bdbe24c985570"},
	{fill_records16, 16384, 64,
		"ccc0f8d19a262242e2d140a61a686e502da1a9f8651dc6ba97c1caf29a9d4c12"},
	{fill_records16, 32768, 33,
		"a4cc7dd7f7f973851781e61f2757da7f3429193f5797cd92217eb4b15d2ed202"},
	{fill_records16, 65536, 17,
		"f9000eb6971510b4c74e5fe9d4f636af4d8f380a81fb0c91e913c709447beb24"},
	{fill_records16, 131072, 10,
		"e73f7c732ae14037732dc01e16ac83fa2e6369b2858d63c807b56e7d58ae7a3f"},
	{fill_records64, 16384, 66,
		"4d6c1a0bd5a57f1a9e4732075ff09d01b2ac4d7630fe8c98c205bbb38b97c706"},
	{fill_records64, 32768, 32,
		"28d1d080aa595cf890b11d19fba2b6b71ace04604d4304423b0c36318b344b5b"},
	{fill_records64, 65536, 18,
		"3b541cec1a6f3555ceccf8bd00af4f097bee4762e28044e68b55b5e197ee4d21"},
	{fill_records64, 131072, 8,
		"a6fa5411ac1682f14e672e7439f36c7574b378459368135d70967cb4b2ffd6ac"},
	{fill_letters, 16384, 63,
		"aa8fefa0d212624ca18d8c2f144b23eb641b8c2d55bc11d4e690fdc1e116c34b"},
	{fill_letters, 32768, 32,
		"3a95a487aa12674ba9a4f4f9655a1a4d81f6ee8c945a6c30562f764962dd3d67"},
	{fill_letters, 65536, 18,
		"678922d2ed06b50f9a2754fc81fa820471a93a21086a4b0f460b460e75b80c9f"},
	{fill_letters, 131072, 8,
		"63bbe39e538bf99c7172b229d3cdc0f34c616548c669bdf8c277f576e7031e48"},
};

static void
check_golden(size_t i, uint8_t *data)
{
	struct chunker c = make(golden[i].target);
	size_t ends[CUTS_MAX];
	uint8_t lengths[4 * CUTS_MAX];
	struct sha256 h;
	char hex[SHA256_HEX_BYTES];

	golden[i].fill(data, DATA_BYTES);
	size_t n = cut_all(&c, data, DATA_BYTES, ends);
	assert_int_equal(n, golden[i].count);
	for (size_t k = 0; k < n; k++)
		put_u32(lengths + 4 * k, (uint32_t)(ends[k] - (k > 0 ? ends[k - 1] : 0)));
	sha256_of(lengths, 4 * n, &h);
	sha256_hex(&h, hex);
	assert_string_equal(hex, golden[i].digest);
}

static void
golden_vectors(void **state)
{
	uint8_t *data = test_malloc(DATA_BYTES);
	(void)state;

	for (size_t b = 0; b < BACKEND_COUNT; b++) {
		if (!chunker_force_backend(backends[b]))
			continue;
		for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++)
			check_golden(i, data);
	}
	chunker_force_backend(CHUNKER_AUTO);
	test_free(data);
}

/* Every backend cuts p[0..n) where the definition says. */
static void
check_cut(const struct chunker *set, size_t count, const uint8_t *p, size_t n)
{
	size_t want = reference_cut(set[0].target, p, n);

	for (size_t b = 0; b < count; b++)
		assert_int_equal(chunker_cut(&set[b], p, n), want);
}

static size_t
all_backends(uint32_t target, struct chunker set[BACKEND_COUNT])
{
	size_t count = 0;

	for (size_t b = 0; b < BACKEND_COUNT; b++)
		if (chunker_force_backend(backends[b]))
			set[count++] = make(target);
	chunker_force_backend(CHUNKER_AUTO);
	assert_true(count >= 1);
	return count;
}

static void
every_tail_length(void **state)
{
	struct chunker set[BACKEND_COUNT];
	size_t count = all_backends(16384, set);
	uint8_t *data = test_malloc(DATA_BYTES);
	(void)state;

	for (size_t f = 0; f < FILL_COUNT; f++) {
		fills[f](data, DATA_BYTES);
		for (size_t n = 0; n < 20; n++)
			check_cut(set, count, data, n);
		for (size_t n = set[0].min - 3; n < set[0].min + 300; n++)
			check_cut(set, count, data + n % 7, n);
		for (size_t n = set[0].max - 70; n < set[0].max + 3; n++)
			check_cut(set, count, data + n % 7, n);
	}
	test_free(data);
}

static void
every_alignment(void **state)
{
	struct chunker set[BACKEND_COUNT];
	size_t count = all_backends(16384, set);
	uint8_t *data = test_malloc(DATA_BYTES);
	(void)state;

	for (size_t f = 0; f < FILL_COUNT; f++) {
		fills[f](data, DATA_BYTES);
		for (size_t at = 0; at < 67; at++)
			check_cut(set, count, data + at, 5 * set[0].max);
	}
	test_free(data);
}

/* Periods around the vector widths, and long runs with little islands: many ties. */
static void
ties_go_to_the_first(void **state)
{
	struct chunker set[BACKEND_COUNT];
	size_t count = all_backends(16384, set);
	size_t n = set[0].max;
	uint8_t *data = test_malloc(n);
	uint64_t seed = 9;
	(void)state;

	for (size_t period = 1; period < 140; period++) {
		for (size_t i = 0; i < n; i++)
			data[i] = (uint8_t)(i % period * 37);
		check_cut(set, count, data, n);
		assert_true(chunker_cut(&set[0], data, n) < set[0].min + period);
	}
	for (int fill = 0; fill < 256; fill += 15) {
		memset(data, fill, n);
		assert_int_equal(chunker_cut(&set[0], data, n), set[0].min);
		check_cut(set, count, data, n);
		for (int k = 0; k < 40; k++)
			data[next_u64(&seed) % n] = (uint8_t)next_u64(&seed);
		check_cut(set, count, data, n);
	}
	/* the same best window twice, at every distance to the edges of blocks */
	uint64_t best = 0;
	for (uint64_t v = 1; best == 0; v++)
		if (CHUNKER_K1 * (uint32_t)v + CHUNKER_K0 * (uint32_t)(v * 3) - 1 < 1u << 12)
			best = v | (uint64_t)(uint32_t)(v * 3) << 32;
	for (size_t d = 0; d < 1100; d++) {
		fill_random(data, n);
		put_u64(data + set[0].min + 500 + d, best);
		put_u64(data + set[0].min + 4000, best);
		assert_int_equal(chunker_cut(&set[0], data, n), set[0].min + 508 + d);
		for (size_t b = 1; b < count; b++)
			assert_int_equal(chunker_cut(&set[b], data, n), set[0].min + 508 + d);
	}
	test_free(data);
}

/* With a page behind the data that may not be touched, and one before it. */
static void
nothing_else_is_read(void **state)
{
	struct chunker set[BACKEND_COUNT];
	size_t count = all_backends(16384, set);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t room = (set[0].max + page - 1) / page * page;
	uint8_t *map = mmap(
		NULL, room + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	(void)state;

	assert_ptr_not_equal(map, MAP_FAILED);
	fill_random(map + page, room);
	assert_int_equal(mprotect(map, page, PROT_NONE), 0);
	assert_int_equal(mprotect(map + page + room, page, PROT_NONE), 0);
	for (size_t n = set[0].min; n <= set[0].max; n += n % 64 < 40 ? 1 : 991) {
		check_cut(set, count, map + page, n);
		check_cut(set, count, map + page + room - n, n);
	}
	munmap(map, room + 2 * page);
}

static void
bytes_after_max_do_not_matter(void **state)
{
	struct chunker c = make(16384);
	uint8_t *data = test_malloc(DATA_BYTES);
	(void)state;

	fill_random(data, DATA_BYTES);
	size_t want = chunker_cut(&c, data, DATA_BYTES);
	assert_int_equal(chunker_cut(&c, data, c.max), want);
	memset(data + c.max, 0, 1000);
	assert_int_equal(chunker_cut(&c, data, c.max + 1000), want);
	test_free(data);
}

/* As an upload does it: pieces of any size arrive in a buffer, and it is cut when max bytes are
 * there or the stream has ended. */
static size_t
cut_stream(const struct chunker *c, const uint8_t *p, size_t n, uint64_t *seed, size_t *ends)
{
	uint8_t *held = test_malloc(c->max + 100000);
	size_t have = 0;
	size_t count = 0;
	size_t done = 0;

	for (size_t at = 0; at < n || have > 0;) {
		size_t piece = next_u64(seed) % (next_u64(seed) % 4 == 0 ? 100000 : 300);
		piece = piece < n - at ? piece : n - at;
		memcpy(held + have, p + at, piece);
		at += piece;
		have += piece;
		while (have >= c->max || (at == n && have > 0)) {
			size_t len = chunker_cut(c, held, have);
			have -= len;
			memmove(held, held + len, have);
			done += len;
			ends[count++] = done;
		}
	}
	test_free(held);
	return count;
}

static void
pieces_do_not_move_cuts(void **state)
{
	uint8_t *data = test_malloc(DATA_BYTES);
	size_t want[CUTS_MAX];
	size_t got[CUTS_MAX];
	uint64_t seed = 5;
	(void)state;

	for (size_t f = 0; f < FILL_COUNT; f++) {
		fills[f](data, DATA_BYTES);
		for (uint32_t target = 16384; target <= 131072; target *= 2) {
			struct chunker c = make(target);
			size_t n = cut_all(&c, data, DATA_BYTES, want);
			assert_int_equal(cut_stream(&c, data, DATA_BYTES, &seed, got), n);
			assert_memory_equal(got, want, n * sizeof got[0]);
		}
	}
	test_free(data);
}

/* How far behind an inserted byte the cuts are the old ones again, and stay it. */
static size_t
resync_bytes(const struct chunker *c, const uint8_t *data, uint8_t *edited, size_t at)
{
	size_t old[CUTS_MAX];
	size_t new[CUTS_MAX];

	memcpy(edited, data, at);
	edited[at] = 0x5a;
	memcpy(edited + at + 1, data + at, DATA_BYTES - at);
	size_t i = cut_all(c, data, DATA_BYTES, old);
	size_t k = cut_all(c, edited, DATA_BYTES + 1, new);
	size_t since = DATA_BYTES;
	while (i > 0 && k > 0 && old[i - 1] > at && old[i - 1] + 1 == new[k - 1]) {
		since = old[i - 1];
		i--;
		k--;
	}
	return since - at;
}

/* If a window of zeros always won, records padded with zeros would be cut at min bytes for ever,
 * and an insert would shift all that follows. That is what the -1 is for. */
static void
zero_padded_records_resynchronise(void **state)
{
	struct chunker c = make(16384);
	uint8_t *data = test_malloc(DATA_BYTES);
	uint8_t *edited = test_malloc(DATA_BYTES + 1);
	size_t ends[CUTS_MAX];
	(void)state;

	fill_records16(data, DATA_BYTES);
	size_t n = cut_all(&c, data, DATA_BYTES, ends);
	size_t at_min = ends[0] == c.min;
	for (size_t i = 1; i < n; i++)
		at_min += ends[i] - ends[i - 1] == c.min;
	assert_true(at_min < n / 4);
	for (size_t at = 1000; at < DATA_BYTES / 2; at += 33333)
		assert_true(resync_bytes(&c, data, edited, at) < 12 * (size_t)c.target);
	fill_random(data, DATA_BYTES);
	for (size_t at = 1000; at < DATA_BYTES / 2; at += 33333)
		assert_true(resync_bytes(&c, data, edited, at) < 12 * (size_t)c.target);
	test_free(edited);
	test_free(data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(targets_and_bounds),
		cmocka_unit_test(backends_can_be_forced),
		cmocka_unit_test(golden_vectors),
		cmocka_unit_test(every_tail_length),
		cmocka_unit_test(every_alignment),
		cmocka_unit_test(ties_go_to_the_first),
		cmocka_unit_test(nothing_else_is_read),
		cmocka_unit_test(bytes_after_max_do_not_matter),
		cmocka_unit_test(pieces_do_not_move_cuts),
		cmocka_unit_test(zero_padded_records_resynchronise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
