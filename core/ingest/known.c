/* SPDX-License-Identifier: Apache-2.0 */
#include "known.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"

#define SHARDS  64
#define WAYS    4
#define BUCKETS 1024 /* of claims, a shard; chains stay short up to some 100,000 claims in all */

struct claim {
	struct claim *next;
	uint64_t repo_id;
	uint64_t ticket;
	struct sha256 hash;
};

/* repo_id 0 is an empty slot: identities start at 1. */
struct slot {
	uint64_t repo_id;
	struct sha256 hash;
};

struct shard {
	pthread_mutex_t mtx;
	struct claim *buckets[BUCKETS];
	struct slot *slots; /* set_count sets of WAYS */
	uint8_t *hands;     /* a set's next victim */
};

struct known {
	size_t set_count; /* a shard's, power of two */
	atomic_size_t pending;
	_Atomic uint64_t epoch;
	struct shard shards[SHARDS];
};

enum rc
known_open(size_t cache_bytes, struct known **out, struct err *err)
{
	struct known *k = calloc(1, sizeof *k);
	size_t want = cache_bytes / (SHARDS * WAYS * sizeof(struct slot));

	if (k == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	for (k->set_count = 16; k->set_count * 2 <= want;)
		k->set_count *= 2;
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &k->shards[i];
		pthread_mutex_init(&s->mtx, NULL);
		s->slots = calloc(k->set_count * WAYS, sizeof *s->slots);
		s->hands = calloc(k->set_count, 1);
		if (s->slots == NULL || s->hands == NULL) {
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
		free(s->slots);
		free(s->hands);
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

static struct slot *
find_slot(struct known *k, struct shard *s, uint64_t h, uint64_t repo_id, const struct sha256 *hash)
{
	struct slot *set = s->slots + (h >> 16 & (k->set_count - 1)) * WAYS;

	for (int i = 0; i < WAYS; i++)
		if (set[i].repo_id == repo_id && sha256_equal(&set[i].hash, hash))
			return &set[i];
	return NULL;
}

static void
add_slot(struct known *k, struct shard *s, uint64_t h, uint64_t repo_id, const struct sha256 *hash)
{
	size_t set = h >> 16 & (k->set_count - 1);

	if (find_slot(k, s, h, repo_id, hash) != NULL)
		return;
	struct slot *slot = &s->slots[set * WAYS + s->hands[set]];
	s->hands[set] = (uint8_t)((s->hands[set] + 1) % WAYS);
	slot->repo_id = repo_id;
	slot->hash = *hash;
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
	return find_slot(k, s, h, repo_id, hash) != NULL ? KNOWN_DURABLE : KNOWN_NO;
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
			*c = (struct claim){*bucket, repo_id, my_ticket, *hash};
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
	if (durable)
		add_slot(k, s, h, repo_id, hash);
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
		add_slot(k, s, h, repo_id, hash);
	pthread_mutex_unlock(&s->mtx);
}

void
known_forget_all(struct known *k)
{
	atomic_fetch_add(&k->epoch, 1);
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &k->shards[i];
		pthread_mutex_lock(&s->mtx);
		memset(s->slots, 0, k->set_count * WAYS * sizeof *s->slots);
		pthread_mutex_unlock(&s->mtx);
	}
}

size_t
known_pending(struct known *k)
{
	return atomic_load_explicit(&k->pending, memory_order_relaxed);
}
