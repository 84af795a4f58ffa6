/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor.h"

#include <stdlib.h>
#include <string.h>

#define MINUTE_US ((int64_t)60 * 1000000)

/* How a figure is made of two readings. */
enum kind {
	RATE,      /* growth of a counter a second */
	CORES,     /* growth of a counter of nanoseconds, in thousandths of the time gone by */
	PER_GROUP, /* growth of a counter of nanoseconds for each group, in microseconds */
	LEVEL,     /* mean of the levels seen */
	QUANTILE,  /* of the waits that ended between them */
};

struct rule {
	struct monitor_figure figure;
	enum kind kind;
	unsigned of; /* counter, level or wait */
	unsigned per_mille;
};

/* The order is that of the saved rows: only ever add at the end. */
static const struct rule rules[] = {
	{{"bytes_in", "bytes/s", "bytes of contents received"}, RATE, MONITOR_BYTES_IN, 0},
	{{"bytes_out", "bytes/s", "bytes of answers sent"}, RATE, MONITOR_BYTES_OUT, 0},
	{{"files_in", "files/s", "files made durable"}, RATE, MONITOR_FILES_IN, 0},
	{{"requests", "requests/s", "requests answered"}, RATE, MONITOR_REQUESTS, 0},
	{{"new_bytes", "bytes/s", "bytes in chunks that were new"}, RATE, MONITOR_NEW_BYTES, 0},
	{{"stored_bytes", "bytes/s", "bytes written to packs"}, RATE, MONITOR_STORED_BYTES, 0},
	{{"pack_read_bytes", "bytes/s", "bytes read from packs"}, RATE, MONITOR_PACK_READ_BYTES, 0},
	{{"groups", "groups/s", "group commits"}, RATE, MONITOR_GROUPS, 0},
	{{"group_sync", "us", "time to sync packs, a group"}, PER_GROUP, MONITOR_SYNC_NS, 0},
	{{"group_sql", "us", "time of the transaction, a group"}, PER_GROUP, MONITOR_SQL_NS, 0},
	{{"cpu", "millicores", "processor time of this process"}, CORES, MONITOR_CPU_NS, 0},
	{{"ingest_queue", "blocks", "blocks that wait for a worker"}, LEVEL, MONITOR_INGEST_QUEUE,
		0},
	{{"commit_queue", "batches", "batches that wait for a group commit"}, LEVEL,
		MONITOR_COMMIT_QUEUE, 0},
	{{"uploads_waiting", "uploads", "uploads that wait for memory"}, LEVEL,
		MONITOR_UPLOADS_WAITING, 0},
	{{"requests_active", "requests", "requests under way"}, LEVEL, MONITOR_REQUESTS_ACTIVE, 0},
	{{"operations_queued", "operations", "operations that wait for a thread"}, LEVEL,
		MONITOR_OPERATIONS_QUEUED, 0},
	{{"rss", "bytes", "memory in RAM"}, LEVEL, MONITOR_RSS_BYTES, 0},
	{{"slab", "bytes", "upload memory in use"}, LEVEL, MONITOR_SLAB_BYTES, 0},
	{{"read_cache", "bytes", "frames and lists of chunks held in memory"}, LEVEL,
		MONITOR_READ_CACHE_BYTES, 0},
	{{"commit_wait_p50", "us", "a group that is waited for, median"}, QUANTILE,
		MONITOR_COMMIT_WAIT, 500},
	{{"commit_wait_p99", "us", "a group that is waited for, slowest 1 %"}, QUANTILE,
		MONITOR_COMMIT_WAIT, 990},
	{{"upload_wait_p50", "us", "last byte of an upload to its answer, median"}, QUANTILE,
		MONITOR_UPLOAD_WAIT, 500},
	{{"upload_wait_p99", "us", "last byte of an upload to its answer, slowest 1 %"}, QUANTILE,
		MONITOR_UPLOAD_WAIT, 990},
	{{"read_wait_p50", "us", "GET to the first byte of its answer, median"}, QUANTILE,
		MONITOR_READ_WAIT, 500},
	{{"read_wait_p99", "us", "GET to the first byte of its answer, slowest 1 %"}, QUANTILE,
		MONITOR_READ_WAIT, 990},
	{{"change_wait_p99", "us", "other requests to their answers, slowest 1 %"}, QUANTILE,
		MONITOR_CHANGE_WAIT, 990},
};
_Static_assert(sizeof rules / sizeof rules[0] == MONITOR_FIGURES, "a row has another length");

struct rows {
	struct monitor_row *rows;
	size_t max, count, next; /* next is the oldest once count is max */
};

struct monitor {
	struct rows kept[MONITOR_RESOLUTIONS];
	struct monitor_row seconds[MONITOR_SECONDS_MAX];
	struct monitor_row minutes[MONITOR_MINUTES_MAX];
	struct monitor_reading last;  /* mono_ns 0: there was none */
	struct monitor_reading begin; /* of the minute that runs */
	uint64_t level_sums[MONITOR_LEVELS];
	uint64_t level_count;
};

enum rc
monitor_open(struct monitor **out, struct err *err)
{
	struct monitor *m = calloc(1, sizeof *m);

	if (m == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	m->kept[MONITOR_SECOND] = (struct rows){.rows = m->seconds, .max = MONITOR_SECONDS_MAX};
	m->kept[MONITOR_MINUTE] = (struct rows){.rows = m->minutes, .max = MONITOR_MINUTES_MAX};
	*out = m;
	return RC_OK;
}

void
monitor_free(struct monitor *m)
{
	free(m);
}

/* ---- figures ---- */

struct span {
	const struct monitor_reading *from, *to;
	const uint64_t *level_sums;
	uint64_t level_count;
	struct histogram_view waits[MONITOR_WAITS]; /* between the two */
};

static uint64_t
growth(const struct span *s, unsigned counter)
{
	uint64_t from = s->from->counters[counter];
	uint64_t to = s->to->counters[counter];

	return to > from ? to - from : 0;
}

/* Rounded; doubles, because nanoseconds times a thousand overflow after some months. */
static uint64_t
scaled(uint64_t n, double factor)
{
	return (uint64_t)((double)n * factor + 0.5);
}

static uint64_t
figure(const struct span *s, const struct rule *r)
{
	double ns = (double)(s->to->mono_ns - s->from->mono_ns);
	uint64_t groups = growth(s, MONITOR_GROUPS);

	switch (r->kind) {
	case RATE:
		return scaled(growth(s, r->of), 1e9 / ns);
	case CORES:
		return scaled(growth(s, r->of), 1e3 / ns);
	case PER_GROUP:
		return groups > 0 ? growth(s, r->of) / groups / 1000 : MONITOR_NONE;
	case LEVEL:
		return s->level_sums[r->of] / s->level_count;
	case QUANTILE:
		return s->waits[r->of].count > 0
			       ? histogram_quantile(&s->waits[r->of], r->per_mille)
			       : MONITOR_NONE;
	}
	return MONITOR_NONE;
}

static void
keep(struct rows *kept, const struct monitor_row *row)
{
	kept->rows[kept->next] = *row;
	kept->next = (kept->next + 1) % kept->max;
	if (kept->count < kept->max)
		kept->count++;
}

static void
add_row(struct rows *kept, struct span *s, int64_t at_us)
{
	struct monitor_row row = {.at_us = at_us};

	for (unsigned i = 0; i < MONITOR_WAITS; i++) {
		s->waits[i] = s->to->waits[i];
		histogram_subtract(&s->waits[i], &s->from->waits[i]);
	}
	for (size_t i = 0; i < MONITOR_FIGURES; i++)
		row.values[i] = figure(s, &rules[i]);
	keep(kept, &row);
}

/* ---- readings ---- */

static void
end_minute(struct monitor *m, const struct monitor_reading *r)
{
	struct span s = {.from = &m->begin,
		.to = r,
		.level_sums = m->level_sums,
		.level_count = m->level_count};

	add_row(&m->kept[MONITOR_MINUTE], &s, r->wall_us / MINUTE_US * MINUTE_US);
	m->begin = *r;
	memset(m->level_sums, 0, sizeof m->level_sums);
	m->level_count = 0;
}

void
monitor_add(struct monitor *m, const struct monitor_reading *r)
{
	if (m->last.mono_ns == 0) {
		m->begin = *r;
	} else if (r->mono_ns > m->last.mono_ns) {
		struct span s = {
			.from = &m->last, .to = r, .level_sums = r->levels, .level_count = 1};
		add_row(&m->kept[MONITOR_SECOND], &s, r->wall_us);
		for (unsigned i = 0; i < MONITOR_LEVELS; i++)
			m->level_sums[i] += r->levels[i];
		m->level_count++;
		if (r->wall_us / MINUTE_US != m->begin.wall_us / MINUTE_US)
			end_minute(m, r);
	}
	m->last = *r;
}

void
monitor_restore(struct monitor *m, const struct monitor_row *row)
{
	keep(&m->kept[MONITOR_MINUTE], row);
}

/* ---- looking ---- */

size_t
monitor_rows(const struct monitor *m, enum monitor_resolution resolution, int64_t since_us,
	struct monitor_row *out, size_t max)
{
	const struct rows *kept = &m->kept[resolution];
	size_t n = 0;

	/* from the newest back, then turned round */
	for (size_t i = 1; i <= kept->count && n < max; i++) {
		const struct monitor_row *row =
			&kept->rows[(kept->next + kept->max - i) % kept->max];
		if (row->at_us > since_us)
			out[n++] = *row;
	}
	for (size_t i = 0; i < n / 2; i++) {
		struct monitor_row other = out[i];
		out[i] = out[n - 1 - i];
		out[n - 1 - i] = other;
	}
	return n;
}

const struct monitor_figure *
monitor_figure(size_t i)
{
	return &rules[i].figure;
}
