/* SPDX-License-Identifier: Apache-2.0 */
#include "rev_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "commit.h"
#include "rand.h"

#define SETS       256
#define WAYS       4
#define DOUBTS_MAX 64
#define NAME_BYTES (REF_NAME_BYTES_MAX + 1)

_Static_assert(NAME_BYTES >= SHA256_HEX_BYTES, "a commit id is a name too");

struct known {
	uint64_t repo_id; /* 0: empty */
	char rev[NAME_BYTES];
	struct rev_head head;
};

struct set {
	struct known ways[WAYS]; /* the one used last first */
};

struct doubt {
	uint64_t repo_id;
	char ref[NAME_BYTES];
};

struct rev_cache {
	uint64_t seed; /* immutable */
	pthread_mutex_t mtx;
	/* guarded by mtx */
	uint64_t epoch;
	struct doubt doubts[DOUBTS_MAX];
	unsigned doubt_count;
	bool doubt_all; /* more refs are in doubt than there is room to say */
	struct set sets[SETS];
};

enum rc
rev_cache_open(struct rev_cache **out, struct err *err)
{
	struct rev_cache *c = calloc(1, sizeof *c);

	*out = NULL;
	if (c == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	c->seed = rand_u64();
	pthread_mutex_init(&c->mtx, NULL);
	*out = c;
	return RC_OK;
}

void
rev_cache_free(struct rev_cache *c)
{
	if (c == NULL)
		return;
	pthread_mutex_destroy(&c->mtx);
	free(c);
}

static struct set *
set_of(struct rev_cache *c, uint64_t repo_id, const char *rev)
{
	return &c->sets[checksum64_seeded(rev, strlen(rev), c->seed ^ repo_id) % SETS];
}

/* Its index in the set, or WAYS. */
static unsigned
way_of(const struct set *s, uint64_t repo_id, const char *rev)
{
	unsigned i = 0;

	while (i < WAYS && (s->ways[i].repo_id != repo_id || strcmp(s->ways[i].rev, rev) != 0))
		i++;
	return i;
}

bool
rev_cache_find(struct rev_cache *c, uint64_t repo_id, const char *rev, struct rev_head *out)
{
	struct set *s = set_of(c, repo_id, rev);

	pthread_mutex_lock(&c->mtx);
	unsigned i = way_of(s, repo_id, rev);
	bool found = i < WAYS;
	if (found)
		*out = s->ways[i].head;
	if (found && i > 0) {
		struct known k = s->ways[i];
		memmove(&s->ways[1], &s->ways[0], i * sizeof k);
		s->ways[0] = k;
	}
	pthread_mutex_unlock(&c->mtx);
	return found;
}

uint64_t
rev_cache_epoch(struct rev_cache *c)
{
	pthread_mutex_lock(&c->mtx);
	uint64_t epoch = c->epoch;
	pthread_mutex_unlock(&c->mtx);
	return epoch;
}

/* Its index among the doubts, or doubt_count. */
static unsigned
doubt_of(const struct rev_cache *c, uint64_t repo_id, const char *ref)
{
	unsigned i = 0;

	while (i < c->doubt_count &&
		(c->doubts[i].repo_id != repo_id || strcmp(c->doubts[i].ref, ref) != 0))
		i++;
	return i;
}

void
rev_cache_keep(struct rev_cache *c, uint64_t repo_id, const char *rev, const struct rev_head *head,
	uint64_t epoch)
{
	struct set *s = set_of(c, repo_id, rev);

	if (strlen(rev) >= NAME_BYTES)
		return;
	pthread_mutex_lock(&c->mtx);
	if (epoch == c->epoch && !c->doubt_all && doubt_of(c, repo_id, rev) == c->doubt_count &&
		way_of(s, repo_id, rev) == WAYS) {
		memmove(&s->ways[1], &s->ways[0], (WAYS - 1) * sizeof s->ways[0]);
		s->ways[0] = (struct known){.repo_id = repo_id, .head = *head};
		memcpy(s->ways[0].rev, rev, strlen(rev) + 1);
	}
	pthread_mutex_unlock(&c->mtx);
}

/* With the lock held. */
static void
forget(struct rev_cache *c, uint64_t repo_id, const char *ref)
{
	struct set *s = set_of(c, repo_id, ref);
	unsigned i = way_of(s, repo_id, ref);

	c->epoch++;
	if (i < WAYS)
		s->ways[i].repo_id = 0;
}

void
rev_cache_moved(struct rev_cache *c, uint64_t repo_id, const char *ref)
{
	pthread_mutex_lock(&c->mtx);
	forget(c, repo_id, ref);
	/* a transaction that moved it came after any that was in doubt, and ended that one */
	unsigned i = doubt_of(c, repo_id, ref);
	if (i < c->doubt_count)
		c->doubts[i] = c->doubts[--c->doubt_count];
	pthread_mutex_unlock(&c->mtx);
}

void
rev_cache_doubt(struct rev_cache *c, uint64_t repo_id, const char *ref)
{
	pthread_mutex_lock(&c->mtx);
	forget(c, repo_id, ref);
	if (doubt_of(c, repo_id, ref) < c->doubt_count) {
		/* it is doubted already */
	} else if (c->doubt_count == DOUBTS_MAX || strlen(ref) >= NAME_BYTES) {
		c->doubt_all = true;
		memset(c->sets, 0, sizeof c->sets);
	} else {
		struct doubt *d = &c->doubts[c->doubt_count++];
		d->repo_id = repo_id;
		memcpy(d->ref, ref, strlen(ref) + 1);
	}
	pthread_mutex_unlock(&c->mtx);
}
