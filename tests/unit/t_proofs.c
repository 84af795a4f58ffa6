/* SPDX-License-Identifier: Apache-2.0 */
#include "proofs.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint8_t data[100000];

static struct proofs *
open_proofs(size_t bytes)
{
	struct err err = ERR_INIT;
	struct proofs *p = NULL;

	assert_int_equal(proofs_open(bytes, &p, &err), RC_OK);
	return p;
}

static const struct sha256 name = {.b = {1, 2, 3}};

static bool
have_as(const struct proofs *p, const struct proof_chunk *c, const struct sha256 *as)
{
	struct proof proof = proofs_of(p, c, as);

	return proofs_have(p, &proof);
}

static bool
have(const struct proofs *p, const struct proof_chunk *c)
{
	return have_as(p, c, &name);
}

static void
add(struct proofs *p, const struct proof_chunk *c)
{
	struct proof proof = proofs_of(p, c, &name);

	proofs_add(p, &proof);
}

/* Any other byte, length, place or name is not what was proven. */
static void
nothing_else_is_proven(void **state)
{
	struct proofs *p = open_proofs(4096);
	struct proof_chunk c = {7, 4096, 70000, data, 5000};
	(void)state;

	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	assert_false(have(p, &c));
	add(p, &c);
	assert_true(have(p, &c));
	for (size_t i = 0; i < c.len; i += 37) {
		data[i] ^= 0x40;
		assert_false(have(p, &c));
		data[i] ^= 0x40;
	}
	struct proof_chunk others[] = {c, c, c, c, c};
	others[0].pack_id++;
	others[1].frame_offset += 16;
	others[2].raw_offset++;
	others[3].len--;
	others[4].data++;
	for (int i = 0; i < 5; i++)
		assert_false(have(p, &others[i]));
	struct sha256 other_name = name;
	other_name.b[31] ^= 1;
	assert_false(have_as(p, &c, &other_name));
	assert_true(have(p, &c));
	proofs_free(p);
	/* the key is another one each time */
	p = open_proofs(4096);
	assert_false(have(p, &c));
	proofs_free(p);
}

/* A full table forgets, and what it remembers is right. */
static void
a_full_table_forgets(void **state)
{
	struct proofs *p = open_proofs(1024); /* 128 words */
	size_t kept = 0;
	(void)state;

	for (uint64_t i = 0; i < 1000; i++) {
		struct proof_chunk c = {1, i * 16, 0, data + i, 64};
		assert_false(have(p, &c));
		add(p, &c);
		assert_true(have(p, &c));
	}
	for (uint64_t i = 0; i < 1000; i++) {
		struct proof_chunk c = {1, i * 16, 0, data + i, 64};
		kept += have(p, &c);
	}
	assert_true(kept > 100 && kept <= 128);
	proofs_free(p);
	p = open_proofs(0);
	struct proof_chunk c = {1, 16, 0, data, 64};
	add(p, &c);
	assert_false(have(p, &c));
	proofs_free(p);
	proofs_free(NULL);
}

static void
check_hashes_once_and_finds_the_bad(void **state)
{
	struct proofs *p = open_proofs(1 << 16);
	struct proof_chunk chunks[PROOFS_CHECK_MAX];
	struct sha256 hashes[PROOFS_CHECK_MAX];
	const struct sha256 *names[PROOFS_CHECK_MAX];
	bool ok[PROOFS_CHECK_MAX];
	(void)state;

	for (size_t i = 0; i < PROOFS_CHECK_MAX; i++) {
		chunks[i] = (struct proof_chunk){3, 0, i * 1000, data + i * 1000, 1000 + i};
		sha256_of(chunks[i].data, chunks[i].len, &hashes[i]);
		names[i] = &hashes[i];
	}
	hashes[5].b[0] ^= 1;
	for (int round = 0; round < 2; round++) {
		struct proofs_verdict v = {0};
		proofs_check(p, chunks, names, PROOFS_CHECK_MAX, ok, &v);
		assert_int_equal(v.hashed, round == 0 ? PROOFS_CHECK_MAX - 1 : 0);
		assert_int_equal(v.proven, round == 0 ? 0 : PROOFS_CHECK_MAX - 1);
		assert_int_equal(v.bad, 1);
		for (size_t i = 0; i < PROOFS_CHECK_MAX; i++)
			assert_int_equal(ok[i], i != 5);
	}
	proofs_free(p);
}

/* A row that names another chunk's place is found out, though the bytes there were checked. */
static void
a_wrong_name_is_never_proven(void **state)
{
	struct proofs *p = open_proofs(1 << 16);
	const struct proof_chunk chunk = {3, 0, 0, data, 1000};
	const struct sha256 *names[1];
	struct sha256 right, wrong;
	struct proofs_verdict v = {0};
	bool ok[1];
	(void)state;

	sha256_of(chunk.data, chunk.len, &right);
	wrong = right;
	wrong.b[0] ^= 1;
	names[0] = &right;
	proofs_check(p, &chunk, names, 1, ok, &v);
	assert_true(ok[0]);
	names[0] = &wrong;
	proofs_check(p, &chunk, names, 1, ok, &v);
	assert_false(ok[0]);
	assert_int_equal(v.bad, 1);
	proofs_free(p);
}

static void *
churn(void *arg)
{
	struct proofs *p = arg;

	for (uint64_t i = 0; i < 20000; i++) {
		struct proof_chunk c = {1, i % 300 * 16, 0, data + i % 300, 32};
		struct proof_chunk never = c;
		never.raw_offset = 5;
		add(p, &c);
		if (have(p, &never))
			return NULL;
	}
	return p;
}

static void
threads_may_do_all_at_once(void **state)
{
	struct proofs *p = open_proofs(1024);
	pthread_t threads[4];
	void *result;
	(void)state;

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, churn, p), 0);
	for (size_t i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		assert_non_null(result);
	}
	proofs_free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_else_is_proven),
		cmocka_unit_test(a_full_table_forgets),
		cmocka_unit_test(check_hashes_once_and_finds_the_bad),
		cmocka_unit_test(a_wrong_name_is_never_proven),
		cmocka_unit_test(threads_may_do_all_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
