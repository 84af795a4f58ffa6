/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "known.h"

#define HANG_SECONDS 60
#define NO_TICKET    UINT64_MAX

static struct known *
make(size_t cache_bytes)
{
	struct known *k = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(known_open(cache_bytes, &k, &err), RC_OK);
	assert_int_equal(known_pending(k), 0);
	return k;
}

static struct sha256
hash_of(uint64_t n)
{
	uint8_t text[8];
	struct sha256 h;

	put_u64(text, n);
	sha256_of(text, sizeof text, &h);
	return h;
}

static void
learn(struct known *k, uint64_t repo, const struct sha256 *h)
{
	known_learn(k, repo, h, known_epoch(k));
}

static enum known_answer
peek(struct known *k, uint64_t repo, const struct sha256 *h, uint64_t *ticket)
{
	*ticket = NO_TICKET;
	return known_peek(k, repo, h, ticket);
}

static enum known_answer
claim(struct known *k, uint64_t repo, const struct sha256 *h, uint64_t mine, uint64_t *ticket)
{
	*ticket = NO_TICKET;
	return known_claim(k, repo, h, mine, ticket);
}

/* ---- one thread ---- */

static void
a_claim_is_pending_until_settled(void **state)
{
	struct known *k = make(0);
	struct sha256 h = hash_of(1);
	uint64_t ticket;
	(void)state;

	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_NO);
	assert_int_equal(claim(k, 1, &h, 0, &ticket), KNOWN_CLAIMED);
	assert_int_equal(known_pending(k), 1);
	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_PENDING);
	assert_int_equal(ticket, 0);
	/* also for who has it, and for others */
	assert_int_equal(claim(k, 1, &h, 0, &ticket), KNOWN_PENDING);
	assert_int_equal(ticket, 0);
	assert_int_equal(claim(k, 1, &h, 9, &ticket), KNOWN_PENDING);
	assert_int_equal(ticket, 0);
	known_settle(k, 1, &h, 0, 1);
	assert_int_equal(known_pending(k), 0);
	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_DURABLE);
	assert_int_equal(claim(k, 1, &h, 9, &ticket), KNOWN_DURABLE);
	assert_int_equal(known_pending(k), 0);
	known_free(k);
	known_free(NULL);
}

static void
a_failed_claim_leaves_nothing(void **state)
{
	struct known *k = make(0);
	struct sha256 h = hash_of(1);
	uint64_t ticket;
	(void)state;

	for (uint64_t i = 1; i < 4; i++) {
		assert_int_equal(claim(k, 1, &h, i, &ticket), KNOWN_CLAIMED);
		known_settle(k, 1, &h, i, 0);
		assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_NO);
		assert_int_equal(known_pending(k), 0);
		known_settle(k, 1, &h, i, 0);
		assert_int_equal(known_pending(k), 0);
	}
	known_free(k);
}

static void
only_its_ticket_ends_a_claim(void **state)
{
	struct known *k = make(0);
	struct sha256 h = hash_of(1);
	uint64_t ticket;
	(void)state;

	assert_int_equal(claim(k, 1, &h, 5, &ticket), KNOWN_CLAIMED);
	known_settle(k, 1, &h, 4, 0);
	known_settle(k, 2, &h, 5, 0);
	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_PENDING);
	learn(k, 1, &h);
	known_forget_all(k);
	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_PENDING);
	assert_int_equal(ticket, 5);
	assert_int_equal(known_pending(k), 1);
	known_settle(k, 1, &h, 5, 0);
	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_NO);
	known_free(k);
}

static void
learnt_and_forgotten(void **state)
{
	struct known *k = make(0);
	struct sha256 h = hash_of(1), other = hash_of(2);
	uint64_t ticket;
	(void)state;

	known_forget_all(k);
	learn(k, 1, &h);
	learn(k, 1, &h);
	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_DURABLE);
	assert_int_equal(peek(k, 2, &h, &ticket), KNOWN_NO);
	assert_int_equal(peek(k, 1, &other, &ticket), KNOWN_NO);
	known_forget_all(k);
	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_NO);
	assert_int_equal(claim(k, 1, &h, 1, &ticket), KNOWN_CLAIMED);
	known_free(k);
}

/* Somebody asked the database, and before the answer was noted the chunk turned out to be bad. */
static void
an_old_answer_is_not_learnt(void **state)
{
	struct known *k = make(0);
	struct sha256 h = hash_of(1), other = hash_of(2);
	uint64_t ticket;
	(void)state;

	uint64_t epoch = known_epoch(k);
	known_forget_all(k);
	known_learn(k, 1, &h, epoch);
	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_NO);
	epoch = known_epoch(k);
	known_learn(k, 1, &other, epoch);
	known_learn(k, 1, &h, epoch);
	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_DURABLE);
	assert_int_equal(peek(k, 1, &other, &ticket), KNOWN_DURABLE);
	known_forget_all(k);
	known_learn(k, 1, &h, epoch);
	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_NO);
	known_free(k);
}

static void
all_is_forgotten_but_claims(void **state)
{
	struct known *k = make(0);
	uint64_t ticket;
	(void)state;

	for (uint64_t i = 0; i < 300; i++) {
		struct sha256 h = hash_of(i);
		if (i % 3 == 0)
			assert_int_equal(claim(k, 1, &h, i, &ticket), KNOWN_CLAIMED);
		else
			learn(k, 1 + i % 3, &h);
	}
	known_forget_all(k);
	for (uint64_t i = 0; i < 300; i++) {
		struct sha256 h = hash_of(i);
		assert_int_equal(peek(k, 1 + i % 3, &h, &ticket), i % 3 ? KNOWN_NO : KNOWN_PENDING);
	}
	known_free(k);
}

/* Hashes that differ in their last bytes only meet in every table. */
static void
the_whole_hash_counts(void **state)
{
	struct known *k = make(0);
	uint64_t ticket;
	(void)state;

	for (int byte = 8; byte < 32; byte++) {
		struct sha256 h = hash_of(7), twin = h;
		twin.b[byte] ^= 0x80;
		learn(k, 1, &h);
		assert_int_equal(peek(k, 1, &twin, &ticket), KNOWN_NO);
		assert_int_equal(claim(k, 1, &twin, 3, &ticket), KNOWN_CLAIMED);
		assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_DURABLE);
		known_forget_all(k);
		assert_int_equal(claim(k, 1, &h, 4, &ticket), KNOWN_CLAIMED);
		known_settle(k, 1, &h, 4, 0);
		assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_NO);
		assert_int_equal(peek(k, 1, &twin, &ticket), KNOWN_PENDING);
		assert_int_equal(ticket, 3);
		known_settle(k, 1, &twin, 3, 0);
	}
	known_free(k);
}

static void
claims_are_never_forgotten(void **state)
{
	const uint64_t count = 8000;
	struct known *k = make(0);
	uint64_t ticket;
	(void)state;

	for (uint64_t i = 0; i < count; i++) {
		struct sha256 h = hash_of(i);
		assert_int_equal(claim(k, 1 + i % 3, &h, i, &ticket), KNOWN_CLAIMED);
	}
	assert_int_equal(known_pending(k), count);
	for (uint64_t i = 0; i < count; i++) {
		struct sha256 h = hash_of(i);
		assert_int_equal(peek(k, 1 + i % 3, &h, &ticket), KNOWN_PENDING);
		assert_int_equal(ticket, i);
		assert_int_equal(peek(k, 1 + (i + 1) % 3, &h, &ticket), KNOWN_NO);
	}
	for (uint64_t i = 0; i < count; i += 2) {
		struct sha256 h = hash_of(i);
		known_settle(k, 1 + i % 3, &h, i, 0);
	}
	assert_int_equal(known_pending(k), count / 2);
	known_free(k); /* with the rest of the claims */
}

/* The cache is bounded, keeps what was learnt last, and never makes anything up. */
static void
the_cache_is_bounded(void **state)
{
	const uint64_t count = 50000;
	struct known *k = make((size_t)256 << 10); /* some 6,000 entries */
	uint64_t ticket, kept = 0, kept_last = 0;
	(void)state;

	for (uint64_t i = 0; i < count; i++) {
		struct sha256 h = hash_of(i);
		learn(k, 1, &h);
		assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_DURABLE);
	}
	for (uint64_t i = 0; i < count; i++) {
		struct sha256 h = hash_of(i);
		bool is = peek(k, 1, &h, &ticket) == KNOWN_DURABLE;
		kept += is;
		kept_last += is && i >= count - 1000;
	}
	assert_true(kept > 3000 && kept < 7000);
	assert_true(kept_last > 900);
	for (uint64_t i = count; i < 2 * count; i++) {
		struct sha256 h = hash_of(i);
		assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_NO);
	}
	known_free(k);
}

/* A quarter of what fits: chance overfills no set, so that nothing is asked for again. */
static void
nothing_leaves_a_cache_with_room(void **state)
{
	const uint64_t count = 6000;
	struct known *k = make((size_t)1 << 20); /* some 24,000 entries */
	uint64_t ticket;
	(void)state;

	for (uint64_t i = 0; i < count; i++) {
		struct sha256 h = hash_of(i);
		learn(k, 1, &h);
	}
	for (uint64_t i = 0; i < count; i++) {
		struct sha256 h = hash_of(i);
		assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_DURABLE);
	}
	known_free(k);
}

static void
what_is_asked_for_stays(void **state)
{
	const uint64_t hot = 1000, count = 100000;
	struct known *k = make((size_t)256 << 10); /* some 6,000 entries */
	uint64_t ticket, kept = 0;
	(void)state;

	for (uint64_t i = 0; i < hot; i++) {
		struct sha256 h = hash_of(i);
		learn(k, 1, &h);
	}
	for (uint64_t i = hot; i < count; i++) {
		struct sha256 h = hash_of(i);
		learn(k, 1, &h);
		h = hash_of(i % hot);
		(void)peek(k, 1, &h, &ticket);
	}
	for (uint64_t i = 0; i < hot; i++) {
		struct sha256 h = hash_of(i);
		kept += peek(k, 1, &h, &ticket) == KNOWN_DURABLE;
	}
	assert_true(kept > hot * 9 / 10);
	known_free(k);
}

/* The row was committed, read, found bad and forgotten before its writer was told. */
static void
a_claim_from_before_is_not_remembered(void **state)
{
	struct known *k = make(0);
	struct sha256 h = hash_of(1), other = hash_of(2);
	uint64_t ticket;
	(void)state;

	assert_int_equal(claim(k, 1, &h, 5, &ticket), KNOWN_CLAIMED);
	known_forget_all(k);
	assert_int_equal(claim(k, 1, &other, 5, &ticket), KNOWN_CLAIMED);
	known_settle(k, 1, &h, 5, 1);
	known_settle(k, 1, &other, 5, 1);
	assert_int_equal(peek(k, 1, &h, &ticket), KNOWN_NO);
	assert_int_equal(peek(k, 1, &other, &ticket), KNOWN_DURABLE);
	assert_int_equal(known_pending(k), 0);
	known_free(k);
}

static void
learnt_ahead(void **state)
{
	struct known *k = make(0);
	struct sha256 h[4] = {hash_of(1), hash_of(2), hash_of(3), hash_of(4)};
	uint64_t ticket, epoch = known_epoch(k);
	(void)state;

	learn(k, 1, &h[0]);
	known_learn_ahead(k, 1, &h[0], epoch, false);
	known_learn_ahead(k, 1, &h[1], epoch, false);
	known_learn_ahead(k, 1, &h[2], epoch, true);
	assert_int_equal(known_ahead_hits(k), 0);
	assert_int_equal(peek(k, 1, &h[0], &ticket), KNOWN_DURABLE);
	assert_int_equal(known_ahead_hits(k), 0); /* it was known without */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(peek(k, 1, &h[1], &ticket), KNOWN_DURABLE);
		assert_int_equal(known_ahead_hits(k), 1 + (uint64_t)i);
		/* an edge is told once, to whoever comes first */
		if (i == 0)
			assert_int_equal(claim(k, 1, &h[2], 3, &ticket), KNOWN_EDGE);
		assert_int_equal(peek(k, 1, &h[2], &ticket), KNOWN_DURABLE);
		assert_int_equal(known_ahead_hits(k), 2);
	}
	/* one that is known already can become an edge */
	known_learn_ahead(k, 1, &h[0], epoch, true);
	assert_int_equal(peek(k, 1, &h[0], &ticket), KNOWN_EDGE);
	assert_int_equal(known_ahead_hits(k), 2);
	known_forget_all(k);
	known_learn_ahead(k, 1, &h[3], epoch, true);
	assert_int_equal(peek(k, 1, &h[3], &ticket), KNOWN_NO);
	/* what lay in its place before leaves no mark */
	epoch = known_epoch(k);
	for (uint64_t i = 0; i < 20000; i++) {
		struct sha256 g = hash_of(100 + i);
		known_learn_ahead(k, 1, &g, epoch, true);
	}
	for (uint64_t i = 0; i < 20000; i++) {
		struct sha256 g = hash_of(100000 + i);
		learn(k, 1, &g);
		assert_int_equal(peek(k, 1, &g, &ticket), KNOWN_DURABLE);
	}
	assert_int_equal(known_ahead_hits(k), 2);
	known_free(k);
}

/* ---- against a model ---- */

#define MODEL_HASHES 200
#define MODEL_REPOS  2

struct model {
	bool is_claimed, is_durable;
	uint64_t ticket;
};

static void
check_answer(const struct model *m, enum known_answer answer, uint64_t ticket)
{
	if (m->is_claimed) {
		assert_int_equal(answer, KNOWN_PENDING);
		assert_int_equal(ticket, m->ticket);
	} else if (answer == KNOWN_DURABLE) {
		assert_true(m->is_durable);
	} else {
		assert_int_not_equal(answer, KNOWN_PENDING);
	}
}

static void
step(struct known *k, struct model *m, uint64_t repo, const struct sha256 *h, uint64_t dice)
{
	uint64_t mine = dice >> 8 & 15, ticket;
	enum known_answer answer;

	switch (dice % 6) {
	case 0:
		learn(k, repo, h);
		m->is_durable = true;
		break;
	case 1:
	case 2:
		known_settle(k, repo, h, mine, dice >> 16 & 1);
		m->is_claimed = m->is_claimed && m->ticket != mine;
		m->is_durable = m->is_durable || (dice >> 16 & 1);
		break;
	case 3:
	case 4:
		answer = claim(k, repo, h, mine, &ticket);
		if (answer == KNOWN_CLAIMED) {
			assert_false(m->is_claimed);
			*m = (struct model){
				.is_claimed = true, .ticket = mine, .is_durable = m->is_durable};
		} else {
			assert_int_not_equal(answer, KNOWN_NO);
			check_answer(m, answer, ticket);
		}
		break;
	default:
		answer = peek(k, repo, h, &ticket);
		check_answer(m, answer, ticket);
		break;
	}
}

static void
any_order_agrees_with_the_model(void **state)
{
	static struct model models[MODEL_REPOS][MODEL_HASHES];
	struct known *k = make(0);
	struct sha256 hashes[MODEL_HASHES];
	uint64_t seed = 42;
	size_t pending = 0;
	(void)state;

	for (uint64_t i = 0; i < MODEL_HASHES; i++) {
		hashes[i] = hash_of(i / 4);
		/* groups of four share shard, bucket and set */
		hashes[i].b[31] ^= (uint8_t)(i % 4);
	}
	for (int i = 0; i < 100000; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		size_t repo = seed >> 33 & 1, h = (seed >> 34) % MODEL_HASHES;
		if (i % 1000 == 999) {
			known_forget_all(k);
			for (size_t m = 0; m < MODEL_REPOS * MODEL_HASHES; m++)
				models[m / MODEL_HASHES][m % MODEL_HASHES].is_durable = false;
		}
		step(k, &models[repo][h], repo + 1, &hashes[h], seed >> 42);
	}
	for (size_t i = 0; i < MODEL_REPOS * MODEL_HASHES; i++)
		pending += models[i / MODEL_HASHES][i % MODEL_HASHES].is_claimed;
	assert_int_equal(known_pending(k), pending);
	known_free(k);
}

/* ---- threads ---- */

#define THREADS 8
#define CLAIMS  401 /* prime: any step visits all */
#define ROUNDS  12

struct race {
	struct known *k;
	pthread_barrier_t barrier;
	struct sha256 hashes[CLAIMS];
	/* of the round that runs: who said that it claimed, and whose the others were told it is */
	atomic_int claimed[CLAIMS];
	_Atomic uint64_t winner[CLAIMS];
	atomic_int wrong;
};

struct racer {
	struct race *race;
	int id;
	pthread_t thread;
};

/* All claim the same hashes, each in an order of its own. */
static void
claim_all(struct race *r, int id, int round, bool *mine, uint64_t *told)
{
	uint64_t my_ticket = (uint64_t)round * THREADS + (uint64_t)id;

	for (int i = 0; i < CLAIMS; i++) {
		int at = (i * (2 * id + 1) + id * 37) % CLAIMS;
		enum known_answer answer = claim(r->k, 1, &r->hashes[at], my_ticket, &told[at]);
		mine[at] = answer == KNOWN_CLAIMED;
		if (answer == KNOWN_CLAIMED) {
			atomic_fetch_add(&r->claimed[at], 1);
			atomic_store(&r->winner[at], my_ticket);
		} else if (answer != KNOWN_PENDING) {
			atomic_fetch_add(&r->wrong, 1);
		}
	}
}

static void *
race_main(void *arg)
{
	struct racer *me = arg;
	struct race *r = me->race;
	bool mine[CLAIMS];
	uint64_t told[CLAIMS], ticket;

	for (int round = 0; round < ROUNDS; round++) {
		claim_all(r, me->id, round, mine, told);
		pthread_barrier_wait(&r->barrier);
		for (int i = 0; i < CLAIMS; i++) {
			if (atomic_load(&r->claimed[i]) != 1 ||
				(!mine[i] && told[i] != atomic_load(&r->winner[i])))
				atomic_fetch_add(&r->wrong, 1);
		}
		pthread_barrier_wait(&r->barrier);
		/* the winners fail or succeed, others look on */
		for (int i = 0; i < CLAIMS; i++) {
			if (mine[i]) {
				atomic_store(&r->claimed[i], 0);
				known_settle(r->k, 1, &r->hashes[i],
					(uint64_t)round * THREADS + (uint64_t)me->id, i % 2);
			} else {
				(void)peek(r->k, 1, &r->hashes[i], &ticket);
			}
		}
		known_forget_all(r->k); /* so that the next round can claim them */
		pthread_barrier_wait(&r->barrier);
	}
	return NULL;
}

static void
of_many_claims_one_wins(void **state)
{
	struct race *r = calloc(1, sizeof *r);
	struct racer racers[THREADS];
	(void)state;

	assert_non_null(r);
	r->k = make(0);
	pthread_barrier_init(&r->barrier, NULL, THREADS);
	for (uint64_t i = 0; i < CLAIMS; i++)
		r->hashes[i] = hash_of(i);
	for (int i = 0; i < THREADS; i++) {
		racers[i] = (struct racer){.race = r, .id = i};
		assert_int_equal(pthread_create(&racers[i].thread, NULL, race_main, &racers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(racers[i].thread, NULL);
	assert_int_equal(r->wrong, 0);
	assert_int_equal(known_pending(r->k), 0);
	pthread_barrier_destroy(&r->barrier);
	known_free(r->k);
	free(r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_claim_is_pending_until_settled),
		cmocka_unit_test(a_failed_claim_leaves_nothing),
		cmocka_unit_test(only_its_ticket_ends_a_claim),
		cmocka_unit_test(learnt_and_forgotten),
		cmocka_unit_test(an_old_answer_is_not_learnt),
		cmocka_unit_test(all_is_forgotten_but_claims),
		cmocka_unit_test(the_whole_hash_counts),
		cmocka_unit_test(claims_are_never_forgotten),
		cmocka_unit_test(the_cache_is_bounded),
		cmocka_unit_test(nothing_leaves_a_cache_with_room),
		cmocka_unit_test(what_is_asked_for_stays),
		cmocka_unit_test(a_claim_from_before_is_not_remembered),
		cmocka_unit_test(learnt_ahead),
		cmocka_unit_test(any_order_agrees_with_the_model),
		cmocka_unit_test(of_many_claims_one_wins),
	};

	alarm(HANG_SECONDS);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
