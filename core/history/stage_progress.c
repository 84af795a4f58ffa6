/* SPDX-License-Identifier: Apache-2.0 */
/* What a stage is doing, in numbers that mean one thing each: "received" counts body bytes taken
 * from clients, "durable" bytes whose chunks are in a committed transaction. A ticker turns the
 * counters into a rate and a sequence number; who waits for news waits for the sequence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "path.h"
#include "stage_internal.h"

#define COUNTERS_VERSION 1
#define RATE_HALF_LIFE_S 2.0

/* ---- counters in the row ---- */

static _Atomic uint64_t *
counter(struct stage *s, int i)
{
	struct meter *m = &s->meter;
	_Atomic uint64_t *const all[] = {&m->chunked_bytes, &m->hashed_bytes, &m->dedup_bytes,
		&m->new_bytes, &m->stored_bytes, &m->durable_bytes, &m->chunks, &m->new_chunks,
		&m->files_durable, &m->stage_ns[0], &m->stage_ns[1], &m->stage_ns[2],
		&m->stage_ns[3], &m->stage_ns[4], &m->stage_ns[5], &m->stage_ns[6]};

	return i < (int)(sizeof all / sizeof *all) ? all[i] : NULL;
}

void
stage_counters_save(struct stage *s, struct buf *out)
{
	buf_add_u8(out, COUNTERS_VERSION);
	pthread_mutex_lock(&s->mtx);
	const uint64_t kinds[] = {s->small_files, s->small_bytes, s->large_files, s->large_bytes};
	pthread_mutex_unlock(&s->mtx);
	for (size_t i = 0; i < 4; i++)
		buf_add_varint(out, kinds[i]);
	for (int i = 0; counter(s, i) != NULL; i++)
		buf_add_varint(out, meter_get(counter(s, i)));
}

static void
at_durable(struct stage *s)
{
	uint64_t durable = meter_get(&s->meter.durable_bytes);

	atomic_store(&s->meter.received_bytes, durable);
	atomic_store(&s->meter.files_received, meter_get(&s->meter.files_durable));
	atomic_store(&s->body_received, durable);
	s->ended_bytes = durable;
	s->tick_received = durable;
}

void
stage_counters_replayed(struct stage *s)
{
	const uint64_t *n = s->replayed.n;
	struct meter *m = &s->meter;

	atomic_store(&m->files_durable, n[0]);
	atomic_store(&m->durable_bytes, n[1]);
	atomic_store(&m->chunked_bytes, n[1]);
	atomic_store(&m->hashed_bytes, n[1]);
	atomic_store(&m->dedup_bytes, n[2]);
	atomic_store(&m->new_bytes, n[3]);
	atomic_store(&m->stored_bytes, n[4]);
	atomic_store(&m->chunks, n[5]);
	atomic_store(&m->new_chunks, n[6]);
	at_durable(s);
}

/* Bytes that had been received and were not durable are gone with the process that received them.
 */
void
stage_counters_load(struct stage *s, const uint8_t *data, size_t len)
{
	struct cur c;

	cur_init(&c, data, len);
	if (len == 0 || cur_u8(&c) != COUNTERS_VERSION)
		return;
	s->small_files = cur_varint(&c);
	s->small_bytes = cur_varint(&c);
	s->large_files = cur_varint(&c);
	s->large_bytes = cur_varint(&c);
	for (int i = 0; counter(s, i) != NULL; i++) {
		uint64_t v = cur_varint(&c);
		if (!cur_ok(&c))
			return;
		atomic_store(counter(s, i), v);
	}
	at_durable(s);
}

/* ---- work that comes in phases ---- */

void
stage_live_reach(struct stage_live *live, enum stage_phase phase, uint32_t permille)
{
	uint32_t now = (uint32_t)phase << 16 | permille;
	uint32_t was = atomic_load_explicit(&live->reached, memory_order_relaxed);

	while (was < now && !atomic_compare_exchange_weak(&live->reached, &was, now))
		;
}

/* Under the lock: what alone is under way in the stage and knows how far it is, or NULL. */
static const struct stage_live *
phased_alone(const struct stage *s)
{
	return s->live_count == 1 && s->lives.next->phased ? s->lives.next : NULL;
}

static uint32_t
reached(const struct stage_live *live)
{
	return live == NULL ? 0
			    : atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)&live->reached,
				      memory_order_relaxed);
}

/* ---- the ticker's part ---- */

/* Everything progress shows, folded into one number that changes when it does. */
static uint64_t
fingerprint(struct stage *s)
{
	const struct meter *m = &s->meter;
	uint64_t f = 1469598103934665603u;
	const uint64_t parts[] = {meter_get(&s->body_received), meter_get(&m->hashed_bytes),
		meter_get(&m->stored_bytes), meter_get(&m->durable_bytes),
		meter_get(&m->files_durable), s->live_count, (uint64_t)s->state,
		stage_map_count(s->map), reached(phased_alone(s))};

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		f = (f ^ parts[i]) * 1099511628211u;
	return f;
}

/* Under the lock: a new number if anything that progress shows has changed. */
static void
refresh(struct stage *s)
{
	uint64_t mark = fingerprint(s);

	if (mark == s->tick_mark)
		return;
	s->tick_mark = mark;
	s->progress_seq++;
	s->updated_us = clock_wall_us();
}

/* Bytes a second: smoothed by the ticker; before its first look at an upload, what came since. */
static double
rate_now(const struct stage *s, uint64_t received, uint64_t now_ns)
{
	double dt = (double)(now_ns - s->tick_ns) / 1e9;

	if (s->live_count == 0)
		return 0;
	if (s->rate_bps > 0 || dt < 0.001)
		return s->rate_bps;
	return (double)(received - s->tick_received) / dt;
}

bool
stage_progress_tick(struct stage *s, uint64_t now_ns)
{
	pthread_mutex_lock(&s->mtx);
	uint64_t received = meter_get(&s->body_received);
	double dt = (double)(now_ns - s->tick_ns) / 1e9;
	if (dt > 0.01) {
		double rate = (double)(received - s->tick_received) / dt;
		double keep = 1.0 / (1.0 + dt / RATE_HALF_LIFE_S);
		/* the first number is the measured one, not one that climbs from zero */
		s->rate_bps = s->rate_bps == 0 ? rate : s->rate_bps * keep + rate * (1 - keep);
		if (s->rate_bps < 1)
			s->rate_bps = 0;
		s->tick_received = received;
		s->tick_ns = now_ns;
	}
	refresh(s);
	bool changed = s->progress_seq != s->told_seq;
	s->told_seq = s->progress_seq;
	if (s->live_count > 0)
		s->used_ns = now_ns;
	pthread_mutex_unlock(&s->mtx);
	return changed;
}

static uint64_t
delta(const struct ingest_stats *a, const struct ingest_stats *b, int stage)
{
	return b->busy_ns[stage] - a->busy_ns[stage];
}

/* Which part of the server is the slow one: none if memory for uploads is mostly free (then the
 * client is), else the one that was busy for the largest part of the time since the last tick. */
void
stages_bottleneck_tick(struct stages *ss)
{
	struct ingest_stats now;
	uint64_t t = clock_mono_ns();

	ingest_stats(ss->options.ingest, &now);
	const struct ingest_stats *was = &ss->last;
	const char *slow = "client";
	if (now.received_bytes == was->received_bytes && now.durable_bytes == was->durable_bytes) {
		slow = "none";
	} else if (now.slab_waiting > 0 || now.slab_used_bytes * 2 > now.slab_max_bytes) {
		uint64_t cpu = delta(was, &now, METER_HASH) + delta(was, &now, METER_COMPRESS);
		uint64_t disk = delta(was, &now, METER_WRITE) + delta(was, &now, METER_SYNC);
		uint64_t sql = delta(was, &now, METER_LOOKUP) + delta(was, &now, METER_SQL);
		slow = disk > cpu && disk > sql ? "disk" : sql > cpu ? "database" : "cpu";
	}
	atomic_store(&ss->bottleneck, slow);
	ss->last = now;
	ss->last_ns = t;
}

/* ---- asking ---- */

static void
fill_uploads(struct stage *s, struct progress *out)
{
	size_t n = 0;

	for (struct stage_live *l = s->lives.next; l != &s->lives; l = l->next) {
		out->upload_count++;
		if (n == PROGRESS_UPLOADS_MAX)
			continue;
		snprintf(out->uploads[n].path, sizeof out->uploads[n].path, "%s", l->label);
		out->uploads[n].received = meter_get(&l->received_bytes);
		out->uploads[n].total = l->total_bytes;
		n++;
	}
}

/* Bytes of bodies that have ended plus what those under way announced. */
static uint64_t
total_of(struct stage *s)
{
	uint64_t total = s->ended_bytes;

	for (struct stage_live *l = s->lives.next; l != &s->lives; l = l->next) {
		if (l->total_bytes == UINT64_MAX)
			return UINT64_MAX;
		total += l->total_bytes;
	}
	return total;
}

/* Received of total, half of it held back until it is durable, so that 100 means done. */
static double
percent_of(const struct progress *p, uint64_t ingested)
{
	if (p->total == UINT64_MAX || p->total == 0)
		return p->stage.state == STAGE_COMMITTED ? 100 : -1;
	double got = (double)p->received / (double)p->total;
	double safe = ingested > 0 ? (double)p->durable / (double)ingested : 1;
	return 50 * (got > 1 ? 1 : got) * (1 + (safe > 1 ? 1 : safe));
}

/* From the numbers alone. */
static void
judge_phase(struct progress *out)
{
	if (out->stage.state != STAGE_OPEN)
		out->phase = PHASE_FINALIZING;
	else if (out->stage.workload == WORKLOAD_UNKNOWN && out->hashed == 0)
		out->phase = PHASE_ANALYZING;
	else
		out->phase = out->upload_count == 0 && out->stage.files > 0 ? PHASE_FINALIZING
									    : PHASE_PROCESSING;
}

/* As the work that is under way says itself. What reads from the server's own disk waits for no
 * client. */
static void
take_phase(struct progress *out, uint32_t reached_now)
{
	uint32_t permille = reached_now & 0xffff;

	out->phase = (enum stage_phase)(reached_now >> 16);
	out->percent = permille <= 1000 ? (double)permille / 10 : -1;
	if (strcmp(out->bottleneck, "client") == 0)
		out->bottleneck = "disk";
}

enum rc
stage_progress(struct stage *s, struct progress *out, struct err *err)
{
	const struct meter *m = &s->meter;

	memset(out, 0, sizeof *out);
	out->uploads = calloc(PROGRESS_UPLOADS_MAX, sizeof *out->uploads);
	if (out->uploads == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	stage_info(s, &out->stage);
	/* the later clocks first: durable is never shown ahead of received */
	out->durable = meter_get(&m->durable_bytes);
	out->compressed = meter_get(&m->stored_bytes);
	out->new_bytes = meter_get(&m->new_bytes);
	out->deduplicated = meter_get(&m->dedup_bytes);
	out->hashed = meter_get(&m->hashed_bytes);
	out->chunked = meter_get(&m->chunked_bytes);
	uint64_t ingested = meter_get(&m->received_bytes);
	out->files_received = meter_get(&m->files_received);
	out->files_total = UINT64_MAX;
	pthread_mutex_lock(&s->mtx);
	const struct stage_live *phased = phased_alone(s);
	const bool is_phased = phased != NULL;
	const uint32_t reached_now = reached(phased);
	if (is_phased && phased->planned)
		out->files_total =
			phased->files_before + phased->plan.small_files + phased->plan.large_files;
	fill_uploads(s, out);
	out->total = total_of(s);
	out->received = meter_get(&s->body_received);
	out->rate_bps = rate_now(s, out->received, clock_mono_ns());
	refresh(s);
	out->seq = s->progress_seq;
	out->updated_us = s->updated_us;
	pthread_mutex_unlock(&s->mtx);
	judge_phase(out);
	out->percent = percent_of(out, ingested);
	out->eta_s = -1;
	if (out->total != UINT64_MAX && out->rate_bps > 0 && out->total >= out->received)
		out->eta_s = (double)(out->total - out->received) / out->rate_bps;
	out->bottleneck = out->upload_count > 0 ? atomic_load(&s->ss->bottleneck) : "none";
	if (is_phased)
		take_phase(out, reached_now);
	return RC_OK;
}

void
progress_done(struct progress *p)
{
	free(p->uploads);
	p->uploads = NULL;
}

uint64_t
stage_progress_seq(struct stage *s)
{
	pthread_mutex_lock(&s->mtx);
	refresh(s);
	uint64_t seq = s->progress_seq;
	pthread_mutex_unlock(&s->mtx);
	return seq;
}

/* ---- watching ---- */

void
stage_watch(struct stages *ss, struct stage_watch *w)
{
	pthread_mutex_lock(&ss->watch_mtx);
	w->prev = ss->watches.prev;
	w->next = &ss->watches;
	w->prev->next = w;
	ss->watches.prev = w;
	pthread_mutex_unlock(&ss->watch_mtx);
}

void
stage_unwatch(struct stages *ss, struct stage_watch *w)
{
	pthread_mutex_lock(&ss->watch_mtx);
	while (ss->calling == w)
		pthread_cond_wait(&ss->watch_idle, &ss->watch_mtx);
	w->prev->next = w->next;
	w->next->prev = w->prev;
	w->next = w->prev = NULL;
	pthread_mutex_unlock(&ss->watch_mtx);
}

/* The lock is let go for each call; a watch that is being called cannot leave the ring, so the walk
 * goes on from it. */
void
stage_watchers_tell(struct stages *ss, struct stage *s)
{
	pthread_mutex_lock(&ss->watch_mtx);
	for (struct stage_watch *w = ss->watches.next; w != &ss->watches; w = w->next) {
		if (w->stage != NULL && w->stage != s)
			continue;
		ss->calling = w;
		pthread_mutex_unlock(&ss->watch_mtx);
		w->fn(w);
		pthread_mutex_lock(&ss->watch_mtx);
		ss->calling = NULL;
		pthread_cond_broadcast(&ss->watch_idle);
	}
	pthread_mutex_unlock(&ss->watch_mtx);
}
