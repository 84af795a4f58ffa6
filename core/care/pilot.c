/* SPDX-License-Identifier: Apache-2.0 */
#include "pilot.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "cond.h"
#include "hex.h"
#include "ingest.h"
#include "pilot_impl.h"
#include "rand.h"
#include "reader.h"

#define SECOND_NS ((uint64_t)1000000000)
#define MS_NS     ((uint64_t)1000000)
/* A window that took so many times as long as it should: the machine slept, or swaps. */
#define LATE_TIMES 2

/* ---- readings ---- */

/* The second number of /proc/self/statm, in pages. */
static uint64_t
rss_bytes(const struct pilot *p)
{
	char text[128];
	uint64_t pages = 0;
	ssize_t len = p->statm_fd >= 0 ? pread(p->statm_fd, text, sizeof text - 1, 0) : -1;

	if (len <= 0)
		return 0;
	text[len] = '\0';
	const char *at = text + strcspn(text, " ");
	at += strspn(at, " ");
	if (!parse_u64(at, strspn(at, "0123456789"), &pages))
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t
cpu_ns(void)
{
	struct timespec ts = {0};

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

static void
read_ingest(struct pilot *p, struct monitor_reading *r)
{
	struct ingest_stats s;

	ingest_stats(p->options.ingest, &s);
	ingest_commit_wait(p->options.ingest, &r->waits[MONITOR_COMMIT_WAIT]);
	r->counters[MONITOR_BYTES_IN] = s.received_bytes;
	r->counters[MONITOR_FILES_IN] = s.group_files;
	r->counters[MONITOR_NEW_BYTES] = s.new_bytes;
	r->counters[MONITOR_STORED_BYTES] = s.stored_bytes;
	r->counters[MONITOR_GROUPS] = s.groups;
	r->counters[MONITOR_SYNC_NS] = s.busy_ns[METER_SYNC];
	r->counters[MONITOR_SQL_NS] = s.busy_ns[METER_SQL];
	r->levels[MONITOR_INGEST_QUEUE] = s.queue_len;
	r->levels[MONITOR_COMMIT_QUEUE] = s.commit_queue;
	r->levels[MONITOR_UPLOADS_WAITING] = s.slab_waiting;
	r->levels[MONITOR_SLAB_BYTES] = s.slab_used_bytes;
}

static void
take_reading(struct pilot *p)
{
	struct monitor_reading *r = &p->reading;
	struct pilot_front front = {0};
	struct read_stats reads;

	p->options.front(p->options.front_arg, &front);
	read_service_stats(p->options.reads, &reads);
	read_ingest(p, r);
	r->counters[MONITOR_BYTES_OUT] = front.bytes_out;
	r->counters[MONITOR_REQUESTS] = front.requests;
	r->counters[MONITOR_PACK_READ_BYTES] = reads.bytes_read;
	r->counters[MONITOR_CPU_NS] = cpu_ns();
	r->levels[MONITOR_REQUESTS_ACTIVE] = front.requests_active;
	r->levels[MONITOR_OPERATIONS_QUEUED] = front.operations_queued;
	r->levels[MONITOR_RSS_BYTES] = rss_bytes(p);
	r->levels[MONITOR_READ_CACHE_BYTES] = reads.frame_bytes + reads.layout_bytes;
	r->waits[MONITOR_UPLOAD_WAIT] = front.upload_wait;
	r->waits[MONITOR_READ_WAIT] = front.read_wait;
	r->waits[MONITOR_CHANGE_WAIT] = front.change_wait;
	r->wall_us = clock_wall_us();
	r->mono_ns = clock_mono_ns();
	p->faulty = p->faulty || front.faulty;
}

/* ---- windows ---- */

static uint64_t
growth(const struct pilot *p, enum monitor_counter counter)
{
	uint64_t from = p->window_begin.counters[counter];
	uint64_t to = p->reading.counters[counter];

	return to > from ? to - from : 0;
}

static struct load_window
make_window(const struct pilot *p)
{
	uint64_t ns = p->reading.mono_ns - p->window_begin.mono_ns;
	struct histogram_view waits = p->reading.waits[MONITOR_COMMIT_WAIT];

	histogram_subtract(&waits, &p->window_begin.waits[MONITOR_COMMIT_WAIT]);
	return (struct load_window){
		.seconds = (double)ns / 1e9,
		.bytes_in = growth(p, MONITOR_BYTES_IN),
		.files_in = growth(p, MONITOR_FILES_IN),
		.bytes_out = growth(p, MONITOR_BYTES_OUT),
		.new_bytes = growth(p, MONITOR_NEW_BYTES),
		.stored_bytes = growth(p, MONITOR_STORED_BYTES),
		.cpu_ns = growth(p, MONITOR_CPU_NS),
		.rss_bytes = p->reading.levels[MONITOR_RSS_BYTES],
		.wait_us = histogram_quantile(&waits, 950),
		.faulty = p->faulty || ns > LATE_TIMES * p->options.window_ms * MS_NS,
	};
}

static void
begin_window(struct pilot *p)
{
	p->window_begin = p->reading;
	p->settling = false;
	p->faulty = false;
	p->edge_ns = p->reading.mono_ns + p->options.window_ms * MS_NS;
}

static void
begin_settling(struct pilot *p)
{
	p->settling = true;
	p->edge_ns = p->reading.mono_ns +
		     (uint64_t)((double)(p->options.window_ms * MS_NS) * LEARNER_SETTLE);
}

/* Set the knobs as the tuner says; true if one of them moved. With mtx. */
static bool
turn_knobs(struct pilot *p)
{
	int64_t values[LEARNER_KNOBS_MAX];
	bool moved = false;

	tuner_settings(&p->tuner, values);
	for (size_t i = 0; i < p->options.knob_count; i++) {
		moved = moved || knob_get(p->knobs[i]) != knob_clamp(p->knobs[i], values[i]);
		knob_set(p->knobs[i], values[i]);
	}
	return moved;
}

/* With mtx. */
static void
at_edge(struct pilot *p)
{
	if (p->settling) {
		begin_window(p);
		return;
	}
	struct load_window w = make_window(p);
	tuner_take(&p->tuner, &w, p->reading.wall_us);
	if (turn_knobs(p))
		begin_settling(p);
	else
		begin_window(p);
}

/* ---- the thread ---- */

static void
look(struct pilot *p)
{
	take_reading(p);
	pthread_mutex_lock(&p->mtx);
	if (p->reading.mono_ns >= p->second_ns) {
		monitor_add(p->monitor, &p->reading);
		p->second_ns += SECOND_NS;
		if (p->second_ns <= p->reading.mono_ns) /* it fell behind: do not run after it */
			p->second_ns = p->reading.mono_ns + SECOND_NS;
	}
	if (p->settings_changed) {
		p->settings_changed = false;
		turn_knobs(p);
		begin_settling(p);
	} else if (p->reading.mono_ns >= p->edge_ns) {
		at_edge(p);
	}
	pthread_mutex_unlock(&p->mtx);
}

static void *
pilot_main(void *arg)
{
	struct pilot *p = arg;

	take_reading(p);
	p->second_ns = p->reading.mono_ns;
	begin_window(p);
	pthread_mutex_lock(&p->mtx);
	while (!p->stop) {
		pthread_mutex_unlock(&p->mtx);
		look(p);
		uint64_t until = p->second_ns < p->edge_ns ? p->second_ns : p->edge_ns;
		pthread_mutex_lock(&p->mtx);
		if (!p->stop && !p->settings_changed)
			cond_wait_until(&p->wake, &p->mtx, until);
	}
	pthread_mutex_unlock(&p->mtx);
	return NULL;
}

/* ---- life ---- */

static struct pilot *
make_pilot(const struct pilot_options *o)
{
	struct pilot *p = calloc(1, sizeof *p);

	if (p == NULL)
		return NULL;
	p->options = *o;
	if (p->options.knob_count > PILOT_KNOBS_MAX)
		p->options.knob_count = PILOT_KNOBS_MAX;
	memcpy(p->knobs, o->knobs, p->options.knob_count * sizeof p->knobs[0]);
	p->options.knobs = p->knobs;
	p->mode_source = o->mode_is_given ? PILOT_MODE_CONFIGURED : PILOT_MODE_DEFAULT;
	p->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	pthread_mutex_init(&p->mtx, NULL);
	cond_init(&p->wake);
	pthread_cond_init(&p->saved, NULL);
	return p;
}

static void
free_pilot(struct pilot *p)
{
	monitor_free(p->monitor);
	if (p->statm_fd >= 0)
		close(p->statm_fd);
	pthread_mutex_destroy(&p->mtx);
	pthread_cond_destroy(&p->wake);
	pthread_cond_destroy(&p->saved);
	free(p);
}

static void
init_tuner(struct pilot *p)
{
	const struct knob *list[PILOT_KNOBS_MAX];

	for (size_t i = 0; i < p->options.knob_count; i++)
		list[i] = p->knobs[i];
	const struct tuner_options t = {
		.knobs = list,
		.knob_count = p->options.knob_count,
		.mode = p->options.mode,
		.rss_bytes = (double)p->options.rss_bytes,
		.seed = rand_u64(),
	};
	tuner_init(&p->tuner, &t);
}

enum rc
pilot_open(const struct pilot_options *o, struct pilot **out, struct err *err)
{
	struct pilot *p = make_pilot(o);

	if (p == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	init_tuner(p);
	enum rc rc = monitor_open(&p->monitor, err);
	if (rc == RC_OK)
		rc = pilot_load(p, err);
	if (rc == RC_OK) {
		int e = pthread_create(&p->thread, NULL, pilot_main, p);
		rc = e == 0 ? RC_OK : err_errno(err, e, "start the pilot", NULL);
	}
	if (rc != RC_OK) {
		free_pilot(p);
		return rc;
	}
	*out = p;
	return RC_OK;
}

void
pilot_close(struct pilot *p)
{
	struct err err = ERR_INIT;

	if (p == NULL)
		return;
	pthread_mutex_lock(&p->mtx);
	p->stop = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->mtx);
	pthread_join(p->thread, NULL);
	tuner_set_mode(&p->tuner, TUNER_OFF, clock_wall_us());
	turn_knobs(p);
	pilot_save_now(p, &err); /* if it fails, at most a minute is lost */
	free_pilot(p);
}

/* ---- looking ---- */

size_t
pilot_news(struct pilot *p, struct decision *out, size_t max)
{
	pthread_mutex_lock(&p->mtx);
	size_t n = decisions_after(&p->tuner.decisions, p->told_decision, out, max);
	if (n > 0)
		p->told_decision = out[n - 1].number;
	pthread_mutex_unlock(&p->mtx);
	return n;
}

size_t
pilot_rows(struct pilot *p, enum monitor_resolution resolution, int64_t since_us,
	struct monitor_row *out, size_t max)
{
	pthread_mutex_lock(&p->mtx);
	size_t n = monitor_rows(p->monitor, resolution, since_us, out, max);
	pthread_mutex_unlock(&p->mtx);
	return n;
}

void
pilot_brief(struct pilot *p, struct pilot_brief *out)
{
	out->knob_count = p->options.knob_count;
	for (size_t i = 0; i < out->knob_count; i++)
		out->knobs[i] = p->knobs[i];
	pthread_mutex_lock(&p->mtx);
	out->mode = p->tuner.mode;
	out->class = p->tuner.class;
	out->trials = p->tuner.decisions.trials;
	memcpy(out->decisions, p->tuner.decisions.counts, sizeof out->decisions);
	pthread_mutex_unlock(&p->mtx);
}

void
pilot_view(struct pilot *p, struct pilot_view *out)
{
	out->window_ms = p->options.window_ms;
	for (size_t i = 0; i < p->options.knob_count; i++)
		out->values[i] = knob_get(p->knobs[i]);
	pthread_mutex_lock(&p->mtx);
	out->tuner = p->tuner;
	out->mode_source = p->mode_source;
	pthread_mutex_unlock(&p->mtx);
}
