/* SPDX-License-Identifier: Apache-2.0 */
#include "known.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"

#define SHARDS   64
#define WAYS     16   /* a set: wide, or chance fills some sets while others stay empty */
#define TAG_BYTE 31   /* the places are made of the first eight bytes */
#define SETS_MIN 4    /* a shard: some 4,000 entries */
#define BUCKETS  1024 /* of claims, a shard; chains stay short up to some 100,000 claims in all */

struct claim {
	struct claim *next;
	uint64_t repo_id;
	uint64_t ticket;
	uint64_t epoch; /* when it was claimed */
	struct sha256 hash;
};

/* Durable chunks whose hashes meet here. The tags, a byte of each hash, say which entries are worth
 * a look: a question touches the first line of the set, and mostly one or no other. */
struct set {
	uint8_t tags[WAYS];
	/* bits, one a way: asked for since the hand was here; learnt ahead and not asked for yet;
	 * an edge */
	uint16_t used, ahead, edge;
	uint8_t hand;         /* the next victim, if it was not used */
	uint64_t repos[WAYS]; /* 0 is an empty way: identities start at 1 */
	struct sha256 hashes[WAYS];
};

struct shard {
	pthread_mutex_t mtx;
	struct claim *buckets[BUCKETS];
	struct set *sets;
};

struct known {
	size_t set_count; /* a shard's */
	atomic_size_t pending;
	_Atomic uint64_t epoch;
	_Atomic uint64_t ahead_hits;
	struct shard shards[SHARDS];
};

enum rc
known_open(size_t cache_bytes, struct known **out, struct err *err)
{
	struct known *k = calloc(1, sizeof *k);

	if (k == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	k->set_count = cache_bytes / (SHARDS * sizeof(struct set));
	if (k->set_count < SETS_MIN)
		k->set_count = SETS_MIN;
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &k->shards[i];
		pthread_mutex_init(&s->mtx, NULL);
		s->sets = calloc(k->set_count, sizeof *s->sets);
		if (s->sets == NULL) {
			known_free(k);
			return err_set(err, RC_NOMEM, "no-memory", "out of memory");
		}
	}
	*out = k;
	return RC_OK;
}

void
known_free(struct known *k)
{
	if (k == NULL)
		return;
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &k->shards[i];
		for (int b = 0; b < BUCKETS; b++) {
			while (s->buckets[b] != NULL) {
				struct claim *c = s->buckets[b];
				s->buckets[b] = c->next;
				free(c);
			}
		}
		free(s->sets);
	}
	free(k);
}

/* Hash bytes are uniform already; the repository is mixed in so that equal chunks of two
 * repositories do not share a set. */
static uint64_t
mix(uint64_t repo_id, const struct sha256 *hash)
{
	return get_u64(hash->b) ^ repo_id * 0x9E3779B97F4A7C15u;
}

static struct shard *
shard_of(struct known *k, uint64_t h)
{
	return &k->shards[h % SHARDS];
}

static struct claim **
find_claim(struct shard *s, uint64_t h, uint64_t repo_id, const struct sha256 *hash)
{
	struct claim **at = &s->buckets[h / SHARDS % BUCKETS];

	while (*at != NULL && ((*at)->repo_id != repo_id || !sha256_equal(&(*at)->hash, hash)))
		at = &(*at)->next;
	return at;
}

static struct set *
set_of(struct known *k, struct shard *s, uint64_t h)
{
	return &s->sets[(h >> 32) * k->set_count >> 32];
}

/* The way, or -1. */
static int
find_way(const struct set *set, uint64_t repo_id, const struct sha256 *hash)
{
	uint8_t tag = hash->b[TAG_BYTE];

	for (int i = 0; i < WAYS; i++)
		if (set->tags[i] == tag && set->repos[i] == repo_id &&
			sha256_equal(&set->hashes[i], hash))
			return i;
	return -1;
}

/* The second chance: what was asked for since the hand was here stays one round more. */
static int
victim(struct set *set)
{
	while (set->used & 1u << set->hand) {
		set->used &= (uint16_t) ~(1u << set->hand);
		set->hand = (uint8_t)((set->hand + 1) % WAYS);
	}
	int way = set->hand;
	set->hand = (uint8_t)((set->hand + 1) % WAYS);
	return way;
}

/* The way where it is now. */
static int
add_durable(struct set *set, uint64_t repo_id, const struct sha256 *hash)
{
	int way = find_way(set, repo_id, hash);

	if (way >= 0)
		return way;
	way = victim(set);
	set->tags[way] = hash->b[TAG_BYTE];
	set->repos[way] = repo_id;
	set->hashes[way] = *hash;
	set->ahead &= (uint16_t) ~(1u << way);
	set->edge &= (uint16_t) ~(1u << way);
	return way;
}

static enum known_answer
ask_durable(struct known *k, struct set *set, uint64_t repo_id, const struct sha256 *hash)
{
	int way = find_way(set, repo_id, hash);

	if (way < 0)
		return KNOWN_NO;
	uint16_t bit = (uint16_t)(1u << way);
	bool is_edge = set->edge & bit;
	if (set->ahead & bit)
		atomic_fetch_add_explicit(&k->ahead_hits, 1, memory_order_relaxed);
	set->used |= bit;
	set->ahead &= (uint16_t)~bit;
	set->edge &= (uint16_t)~bit;
	return is_edge ? KNOWN_EDGE : KNOWN_DURABLE;
}

static enum known_answer
look(struct known *k, struct shard *s, uint64_t h, uint64_t repo_id, const struct sha256 *hash,
	uint64_t *ticket)
{
	struct claim *c = *find_claim(s, h, repo_id, hash);

	if (c != NULL) {
		*ticket = c->ticket;
		return KNOWN_PENDING;
	}
	return ask_durable(k, set_of(k, s, h), repo_id, hash);
}

enum known_answer
known_peek(struct known *k, uint64_t repo_id, const struct sha256 *hash, uint64_t *ticket)
{
	uint64_t h = mix(repo_id, hash);
	struct shard *s = shard_of(k, h);

	pthread_mutex_lock(&s->mtx);
	enum known_answer answer = look(k, s, h, repo_id, hash, ticket);
	pthread_mutex_unlock(&s->mtx);
	return answer;
}

enum known_answer
known_claim(struct known *k, uint64_t repo_id, const struct sha256 *hash, uint64_t my_ticket,
	uint64_t *ticket)
{
	uint64_t h = mix(repo_id, hash);
	struct shard *s = shard_of(k, h);

	pthread_mutex_lock(&s->mtx);
	enum known_answer answer = look(k, s, h, repo_id, hash, ticket);
	if (answer == KNOWN_NO) {
		struct claim *c = malloc(sizeof *c);
		if (c != NULL) {
			struct claim **bucket = &s->buckets[h / SHARDS % BUCKETS];
			*c = (struct claim){
				*bucket, repo_id, my_ticket, atomic_load(&k->epoch), *hash};
			*bucket = c;
			atomic_fetch_add_explicit(&k->pending, 1, memory_order_relaxed);
			answer = KNOWN_CLAIMED;
		}
	}
	pthread_mutex_unlock(&s->mtx);
	return answer;
}

void
known_settle(
	struct known *k, uint64_t repo_id, const struct sha256 *hash, uint64_t ticket, int durable)
{
	uint64_t h = mix(repo_id, hash);
	struct shard *s = shard_of(k, h);

	pthread_mutex_lock(&s->mtx);
	struct claim **at = find_claim(s, h, repo_id, hash);
	struct claim *c = *at;
	if (c != NULL && c->ticket == ticket) {
		*at = c->next;
		atomic_fetch_sub_explicit(&k->pending, 1, memory_order_relaxed);
	} else {
		c = NULL;
	}
	/* what was forgotten since the claim may have been this very chunk, already found bad */
	if (c != NULL && durable && c->epoch == atomic_load(&k->epoch))
		add_durable(set_of(k, s, h), repo_id, hash);
	pthread_mutex_unlock(&s->mtx);
	free(c);
}

uint64_t
known_epoch(struct known *k)
{
	return atomic_load(&k->epoch);
}

void
known_learn(struct known *k, uint64_t repo_id, const struct sha256 *hash, uint64_t epoch)
{
	uint64_t h = mix(repo_id, hash);
	struct shard *s = shard_of(k, h);

	pthread_mutex_lock(&s->mtx);
	if (atomic_load(&k->epoch) == epoch)
		add_durable(set_of(k, s, h), repo_id, hash);
	pthread_mutex_unlock(&s->mtx);
}

void
known_learn_ahead(
	struct known *k, uint64_t repo_id, const struct sha256 *hash, uint64_t epoch, bool edge)
{
	uint64_t h = mix(repo_id, hash);
	struct shard *s = shard_of(k, h);

	pthread_mutex_lock(&s->mtx);
	if (atomic_load(&k->epoch) == epoch) {
		struct set *set = set_of(k, s, h);
		bool is_there = find_way(set, repo_id, hash) >= 0;
		uint16_t bit = (uint16_t)(1u << add_durable(set, repo_id, hash));
		if (!is_there)
			set->ahead |= bit;
		if (edge)
			set->edge |= bit;
	}
	pthread_mutex_unlock(&s->mtx);
}

uint64_t
known_ahead_hits(struct known *k)
{
	return atomic_load_explicit(&k->ahead_hits, memory_order_relaxed);
}

void
known_forget_all(struct known *k)
{
	atomic_fetch_add(&k->epoch, 1);
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &k->shards[i];
		pthread_mutex_lock(&s->mtx);
		memset(s->sets, 0, k->set_count * sizeof *s->sets);
		pthread_mutex_unlock(&s->mtx);
	}
}

size_t
known_pending(struct known *k)
{
	return atomic_load_explicit(&k->pending, memory_order_relaxed);
}
