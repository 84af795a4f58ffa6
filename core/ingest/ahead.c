/* SPDX-License-Identifier: Apache-2.0 */
/* Several uploads, or the workers of the server that first stored an upload, may go through several
 * packs at the same time. So each pack that was touched lately has a track: what of it was read,
 * and where its edges are. A stretch that ends with the pack goes on in the next pack of the
 * repository that has no track yet; one that has belongs to another stream.
 *
 * Tracks are guesses too. Entries may have left the cache since: then hits are told for what was
 * read, and it is read again. */
#include "ahead.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "db_chunk.h"
#include "db_pack.h"

#define TRACKS     64
#define EDGE_EVERY 16 /* rows: an upload that skips a few meets the next one */
#define PACKS_MAX  16 /* that one stretch goes through: they may be tiny */
#define NEXT_PACKS 16
#define END        UINT64_MAX
/* Rows that may be read for nothing; each one that somebody asks for pays for as many more. Without
 * credit edges are left alone, and it takes more hits to begin: chunks that were picked out of many
 * packs would otherwise cost more than asking for them. */
#define CREDIT_MAX ((int64_t)65536)
#define CREDIT_HIT 4
#define HITS_POOR  64u

struct event {
	uint64_t repo_id;
	uint64_t pack_id; /* 0: an edge */
	uint64_t offset;
	uint64_t now; /* before the question */
	unsigned hits;
	struct sha256 hash;
};

struct track {
	uint64_t repo_id;
	uint64_t pack_id;   /* 0: free */
	uint64_t from, to;  /* frames at from up to before to were read; from == to: none */
	uint64_t edge_from; /* edges before this are done with */
	uint64_t read_at;   /* when they had been learnt: see ahead_now */
	size_t rows;        /* of the last stretch */
	unsigned hits;      /* since then, of what the database had to be asked for */
	uint64_t front;     /* where the last of them were */
	uint64_t used;
};

struct ahead {
	struct db *db;
	struct known *known;
	pthread_t thread;

	/* guarded by mtx */
	pthread_mutex_t mtx;
	pthread_cond_t work;
	struct event events[AHEAD_QUEUE_MAX];
	size_t event_count;
	bool busy;
	atomic_bool stop;

	/* owned by the thread */
	struct event taken[AHEAD_QUEUE_MAX];
	struct track tracks[TRACKS];
	uint64_t clock; /* of uses */
	uint64_t epoch; /* of the known chunks when the tracks were made */
	int64_t credit;
	uint64_t paid; /* known_ahead_hits that are in it */

	_Atomic uint64_t now; /* counts stretches of packs */
	_Atomic uint64_t rows;
};

/* ---- tracks ---- */

static struct track *
find_track(struct ahead *a, uint64_t pack_id)
{
	for (int i = 0; i < TRACKS; i++)
		if (a->tracks[i].pack_id == pack_id) {
			a->tracks[i].used = ++a->clock;
			return &a->tracks[i];
		}
	return NULL;
}

static struct track *
track_of(struct ahead *a, uint64_t repo_id, uint64_t pack_id)
{
	struct track *t = find_track(a, pack_id);

	if (t != NULL)
		return t;
	t = &a->tracks[0];
	for (int i = 1; i < TRACKS; i++)
		if (a->tracks[i].used < t->used)
			t = &a->tracks[i];
	*t = (struct track){
		.repo_id = repo_id, .pack_id = pack_id, .edge_from = END, .used = ++a->clock};
	return t;
}

/* ---- reading ---- */

/* One stretch on its way. */
struct stretch {
	uint64_t repo_id;
	size_t rows;    /* wanted */
	size_t done;    /* learnt; behind the half of rows, or of PACKS_MAX, there are edges */
	int packs;      /* read before this one */
	uint64_t epoch; /* of the known chunks before the first statement */
};

static void
learn(struct ahead *a, struct stretch *s, struct track *t, const struct chunk_in_pack *rows,
	size_t count)
{
	for (size_t i = 0; i < count; i++, s->done++) {
		bool edge = (s->done >= s->rows / 2 && s->done % EDGE_EVERY == 0) ||
			    (s->packs >= PACKS_MAX / 2 && i == 0);
		if (edge && t->edge_from > rows[i].frame_offset)
			t->edge_from = rows[i].frame_offset;
		known_learn_ahead(a->known, rows[i].repo_id, &rows[i].hash, s->epoch, edge);
	}
	a->credit -= (int64_t)count;
	atomic_fetch_add_explicit(&a->rows, count, memory_order_relaxed);
}

/* What is missing of the stretch, out of one pack. */
static enum rc
read_pack(struct ahead *a, struct stretch *s, uint64_t pack_id, uint64_t from, struct err *err)
{
	struct chunk_in_pack *rows = NULL;
	size_t want = s->rows - s->done, count = 0;

	enum rc rc = db_chunk_in_pack(a->db, pack_id, from, want, &rows, &count, err);
	if (rc != RC_OK)
		return rc;
	struct track *t = track_of(a, s->repo_id, pack_id);
	if (t->to != from)
		t->from = from;
	t->to = count >= want ? rows[count - 1].frame_offset + 1 : END;
	t->edge_from = END;
	t->hits = 0;
	t->rows = s->rows;
	learn(a, s, t, rows, count);
	t->read_at = atomic_fetch_add(&a->now, 1) + 1;
	free(rows);
	return RC_OK;
}

/* The next pack of the repository that nobody goes through; 0: none. */
static enum rc
next_pack(struct ahead *a, uint64_t repo_id, uint64_t *pack_id, struct err *err)
{
	uint64_t ids[NEXT_PACKS];
	size_t count = 0;

	enum rc rc = db_pack_list(a->db, repo_id, *pack_id, ids, NEXT_PACKS, &count, err);
	*pack_id = 0;
	for (size_t i = 0; rc == RC_OK && i < count && *pack_id == 0; i++) {
		const struct track *t = find_track(a, ids[i]);
		if (t == NULL || t->from == t->to)
			*pack_id = ids[i];
	}
	return rc;
}

/* An error ends it: there will be other hints. */
static void
read_stretch(struct ahead *a, const struct track *first, uint64_t from, size_t rows)
{
	struct stretch s = {.repo_id = first->repo_id, .rows = rows, .epoch = a->epoch};
	uint64_t pack_id = first->pack_id;
	struct err err = ERR_INIT;

	for (; s.packs < PACKS_MAX && pack_id != 0 && !atomic_load(&a->stop); s.packs++) {
		if (from != END && read_pack(a, &s, pack_id, from, &err) != RC_OK)
			return;
		if (s.done >= s.rows || next_pack(a, s.repo_id, &pack_id, &err) != RC_OK)
			return;
		from = 0;
	}
}

/* ---- events ---- */

static size_t
twice(size_t rows)
{
	return rows * 2 < AHEAD_ROWS_MAX ? rows * 2 : AHEAD_ROWS_MAX;
}

static void
on_seen(struct ahead *a, const struct event *e)
{
	struct track *t = track_of(a, e->repo_id, e->pack_id);

	/* the question was on its way while the answer was learnt here */
	if (e->offset >= t->from && e->offset < t->to && e->now < t->read_at)
		return;
	t->hits += e->hits;
	t->front = e->offset;
}

/* After all events were seen, so that what is read begins where the uploads are now. One that has
 * run away from what was read for it is faster than we thought. */
static void
follow(struct ahead *a)
{
	for (int i = 0; i < TRACKS && !atomic_load(&a->stop); i++) {
		const struct track *t = &a->tracks[i];
		if (t->hits < (a->credit > 0 ? AHEAD_HITS : HITS_POOR))
			continue;
		bool onward = t->from != t->to && t->front >= t->to;
		read_stretch(a, t, t->front, onward ? twice(t->rows) : AHEAD_ROWS_MIN);
	}
}

static void
on_edge(struct ahead *a, const struct event *e, const struct chunk_place *at)
{
	struct track *t = track_of(a, e->repo_id, at->pack_id);

	if (a->credit <= 0)
		return;
	if (t->from == t->to) { /* its track was lost */
		read_stretch(a, t, at->frame_offset, AHEAD_ROWS_MIN);
		return;
	}
	if (at->frame_offset < t->edge_from)
		return;
	t->edge_from = END;
	read_stretch(a, t, t->to, twice(t->rows));
}

/* Edges of one repository, one after the other in a. */
static size_t
on_edges(struct ahead *a, const struct event *e, size_t left)
{
	const struct sha256 *hashes[AHEAD_QUEUE_MAX];
	struct chunk_place places[AHEAD_QUEUE_MAX];
	struct err err = ERR_INIT;
	size_t n = 0;

	while (n < left && e[n].pack_id == 0 && e[n].repo_id == e[0].repo_id) {
		hashes[n] = &e[n].hash;
		n++;
	}
	if (db_chunk_known(a->db, e[0].repo_id, hashes, n, places, &err) != RC_OK)
		return n;
	for (size_t i = 0; i < n; i++)
		if (places[i].pack_id != 0)
			on_edge(a, &e[i], &places[i]);
	return n;
}

static void
count_credit(struct ahead *a)
{
	uint64_t hits = known_ahead_hits(a->known);

	a->credit += (int64_t)(hits - a->paid) * CREDIT_HIT;
	if (a->credit > CREDIT_MAX)
		a->credit = CREDIT_MAX;
	a->paid = hits;
}

static void
handle(struct ahead *a, size_t count)
{
	uint64_t epoch = known_epoch(a->known);

	if (epoch != a->epoch)
		memset(a->tracks, 0, sizeof a->tracks); /* what was read is forgotten */
	a->epoch = epoch;
	count_credit(a);
	for (size_t i = 0; i < count && !atomic_load(&a->stop);) {
		if (a->taken[i].pack_id == 0)
			i += on_edges(a, &a->taken[i], count - i);
		else
			on_seen(a, &a->taken[i++]);
	}
	follow(a);
}

static void *
ahead_main(void *arg)
{
	struct ahead *a = arg;

	pthread_mutex_lock(&a->mtx);
	while (!atomic_load(&a->stop)) {
		size_t count = a->event_count;
		if (count == 0) {
			pthread_cond_wait(&a->work, &a->mtx);
			continue;
		}
		memcpy(a->taken, a->events, count * sizeof *a->taken);
		a->event_count = 0;
		a->busy = true;
		pthread_mutex_unlock(&a->mtx);
		handle(a, count);
		pthread_mutex_lock(&a->mtx);
		a->busy = false;
	}
	pthread_mutex_unlock(&a->mtx);
	return NULL;
}

static void
post(struct ahead *a, const struct event *e)
{
	pthread_mutex_lock(&a->mtx);
	if (a->event_count < AHEAD_QUEUE_MAX)
		a->events[a->event_count++] = *e;
	pthread_cond_signal(&a->work);
	pthread_mutex_unlock(&a->mtx);
}

uint64_t
ahead_now(const struct ahead *a)
{
	return atomic_load(&a->now);
}

void
ahead_seen(struct ahead *a, uint64_t now, uint64_t repo_id, const struct chunk_place *last,
	unsigned hits)
{
	post(a, &(struct event){.repo_id = repo_id,
			.pack_id = last->pack_id,
			.offset = last->frame_offset,
			.now = now,
			.hits = hits});
}

void
ahead_edge(struct ahead *a, uint64_t repo_id, const struct sha256 *hash)
{
	post(a, &(struct event){.repo_id = repo_id, .hash = *hash});
}

uint64_t
ahead_rows(const struct ahead *a)
{
	return atomic_load_explicit(&a->rows, memory_order_relaxed);
}

bool
ahead_is_idle(struct ahead *a)
{
	pthread_mutex_lock(&a->mtx);
	bool idle = a->event_count == 0 && !a->busy;
	pthread_mutex_unlock(&a->mtx);
	return idle;
}

/* ---- life ---- */

enum rc
ahead_open(struct db *db, struct known *known, struct ahead **out, struct err *err)
{
	struct ahead *a = calloc(1, sizeof *a);

	*out = NULL;
	if (a == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	a->db = db;
	a->known = known;
	a->credit = CREDIT_MAX;
	pthread_mutex_init(&a->mtx, NULL);
	pthread_cond_init(&a->work, NULL);
	int e = pthread_create(&a->thread, NULL, ahead_main, a);
	if (e != 0) {
		pthread_cond_destroy(&a->work);
		pthread_mutex_destroy(&a->mtx);
		free(a);
		return err_errno(err, e, "start reading ahead", NULL);
	}
	*out = a;
	return RC_OK;
}

void
ahead_close(struct ahead *a)
{
	if (a == NULL)
		return;
	pthread_mutex_lock(&a->mtx);
	atomic_store(&a->stop, true);
	pthread_cond_signal(&a->work);
	pthread_mutex_unlock(&a->mtx);
	pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->work);
	pthread_mutex_destroy(&a->mtx);
	free(a);
}
