/* SPDX-License-Identifier: Apache-2.0 */
/* Opens everything from the bottom up, waits for a signal, closes everything from the top down. The
 * main thread also looks after the private PostgreSQL: its child gets a signal when this very
 * thread ends, so it must be the one that started it. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "config.h"
#include "data_dir.h"
#include "db.h"
#include "endpoint.h"
#include "http.h"
#include "imports.h"
#include "jobs.h"
#include "log.h"
#include "machine.h"
#include "metrics_histogram.h"
#include "migrate.h"
#include "ops.h"
#include "pack_dir.h"
#include "pack_reader.h"
#include "pg_cluster.h"
#include "pilot.h"
#include "privileges.h"
#include "rebuild.h"
#include "recover.h"
#include "services.h"
#include "show_import.h"
#include "show_stage.h"
#include "unpack_threads.h"
#include "watch.h"

#define LISTENERS_MAX        16
#define READER_FDS           128
#define KNOWN_BYTES          ((size_t)16 << 20)
#define FILTER_BYTES_MAX     ((size_t)64 << 20)
#define NODE_CACHE_BYTES     ((size_t)16 << 20)
#define INGEST_WORKERS_EXTRA 2
#define ARCHIVE_RATIO_MAX    1000
#define ARCHIVE_THREADS      16
#define WATCHERS_MAX         1024
/* However few cores: while one thread waits for a disk another has something to do. */
#define IMPORT_THREADS_MIN 4
#define DB_CONNECT_MS      5000
#define DB_STATEMENT_MS    15000
#define DB_CHECKOUT_MS     10000
#define STOP_POLL_MS       100

/* Everything that is open, in the order it was opened. */
struct server {
	struct config config;
	bool rebuild;
	char *data_dir;
	struct import_roots *import_roots;
	struct http_listener listeners[LISTENERS_MAX];
	size_t listener_count;
	int signals;
	bool stopping; /* a signal asked for the end */
	struct pg_cluster *cluster;
	struct db *db;
	struct pack_dir *packs;
	struct pack_readers *readers;
	struct work *work;
	_Atomic(struct http *) http; /* metrics may be asked for while it starts */
	struct jobs *jobs;
	bool unpacking;
	struct server_ctx ctx;
};

/* ---- starting ---- */

static enum rc
fail(const char *what, const struct err *err)
{
	log_event(LOG_LEVEL_ERROR, "start_failed", "what=%s text=\"%s\"%s%s%s", what, err->text,
		err->detail[0] != '\0' ? " detail=\"" : "", err->detail,
		err->detail[0] != '\0' ? "\"" : "");
	return err->rc;
}

/* Without access control only this machine may talk to the server. */
static enum rc
open_listeners(struct server *s, struct err *err)
{
	for (size_t i = 0; i < s->config.listen.count && i < LISTENERS_MAX; i++) {
		struct http_listener *l = &s->listeners[s->listener_count];
		enum rc rc = endpoint_parse(s->config.listen.items[i], &l->at, err);
		if (rc == RC_OK)
			rc = endpoint_listen(&l->at, &l->fd, err);
		if (rc != RC_OK)
			return rc;
		s->listener_count++;
	}
	return RC_OK;
}

/* As the user that will read below them. */
static enum rc
open_import_roots(struct server *s, struct err *err)
{
	const struct config_list *roots = &s->config.import_roots;

	return import_roots_open((const char *const *)roots->items, roots->count, s->data_dir,
		&s->import_roots, err);
}

static void
block_signals(struct server *s)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Take what signals came; true once an end was asked for. */
static bool
signal_came(struct server *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info)
		if (info.ssi_signo != SIGHUP)
			s->stopping = true;
	return s->stopping;
}

static bool
should_stop(void *arg)
{
	return signal_came(arg);
}

/* More than cores, because a worker that writes a pack waits for the disk. */
static unsigned
ingest_workers(const struct server *s)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t n = s->config.ingest_threads;

	if (n == 0)
		n = (cores < 1 ? 1 : (uint64_t)cores) + INGEST_WORKERS_EXTRA;
	return n > INGEST_WORKERS_MAX ? INGEST_WORKERS_MAX : (unsigned)n;
}

static enum rc
open_database(struct server *s, struct err *err)
{
	const struct config *c = &s->config;
	unsigned connections =
		(unsigned)c->op_threads + ingest_workers(s) + IMPORTS_RUNNING_MAX + 9;
	const char *url = c->database_url;

	if (url[0] == '\0') {
		struct pg_cluster_options options = {
			.data_dir = s->data_dir,
			.ballast_bytes = PG_CLUSTER_BALLAST_BYTES,
			.connections_max = connections,
			.log_level = (enum log_level)c->log_level,
			.should_stop = should_stop,
			.stop_arg = s,
		};
		enum rc rc = pg_cluster_open(&options, &s->cluster, err);
		if (rc != RC_OK)
			return rc;
		url = pg_cluster_url(s->cluster);
	}
	struct db_options options = {
		.url = url,
		.connections_max = connections,
		.connect_timeout_ms = DB_CONNECT_MS,
		.statement_timeout_ms = DB_STATEMENT_MS,
		.checkout_timeout_ms = DB_CHECKOUT_MS,
	};
	enum rc rc = db_open(&options, &s->db, err);
	if (rc == RC_OK)
		rc = db_check_durable(s->db, err);
	if (rc == RC_OK)
		rc = migrate_run(s->db, migration_list, migration_list_count, err);
	return rc;
}

static enum rc
open_packs(struct server *s, struct err *err)
{
	char path[4096];
	struct recover_report report;

	snprintf(path, sizeof path, "%s/blobs", s->data_dir);
	enum rc rc = pack_dir_open(path, &s->packs, err);
	if (rc == RC_OK)
		rc = pack_readers_open(s->packs, READER_FDS, &s->readers, err);
	if (rc == RC_OK)
		rc = recover_packs(s->db, s->packs, &report, err);
	if (rc != RC_OK)
		return rc;
	if (report.closed + report.sealed + report.removed + report.missing + report.unlisted +
			report.unfinished >
		0)
		log_event(report.missing + report.damaged + report.unlisted > 0 ? LOG_LEVEL_ERROR
										: LOG_LEVEL_INFO,
			"packs_recovered",
			"closed=%llu sealed=%llu removed=%llu cut_bytes=%llu damaged=%llu "
			"missing=%llu "
			"unlisted=%llu unfinished=%llu",
			(unsigned long long)report.closed, (unsigned long long)report.sealed,
			(unsigned long long)report.removed, (unsigned long long)report.cut_bytes,
			(unsigned long long)report.damaged, (unsigned long long)report.missing,
			(unsigned long long)report.unlisted, (unsigned long long)report.unfinished);
	return RC_OK;
}

/* Nobody waits for the answer of an import, so its end is told here, with what a client is not to
 * know. */
static void
import_ended(const struct import_info *info)
{
	bool ours = info->err.rc >= RC_FULL;

	log_event(ours ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "import_ended",
		"repo=%s id=%llu state=%s stage=%s ref=%s files=%llu bytes=%llu left_out=%llu "
		"text=\"%s\" detail=\"%s\"",
		info->repo, (unsigned long long)info->id, show_import_state(info->state),
		info->stage, info->ref[0] != '\0' ? info->ref : "-",
		(unsigned long long)info->record.read_files,
		(unsigned long long)info->record.read_bytes,
		(unsigned long long)(info->special + info->failed), info->err.text,
		info->err.detail);
}

static enum rc
open_imports(struct server *s, struct err *err)
{
	const struct config *c = &s->config;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct imports_options options = {
		.db = s->db,
		.ingest = s->ctx.ingest,
		.stages = s->ctx.stages,
		.history = &s->ctx.history,
		.roots = s->import_roots,
		.threads = cores < IMPORT_THREADS_MIN ? IMPORT_THREADS_MIN : (unsigned)cores,
		.entries_max = c->import_entries_max,
		.bytes_max = c->import_bytes_max,
		.write_receipt = show_stage_receipt,
		.ended = import_ended,
	};

	return imports_open(&options, &s->ctx.imports, err);
}

static enum rc
open_core(struct server *s, struct err *err)
{
	const struct config *c = &s->config;
	struct server_ctx *x = &s->ctx;
	char filter_path[4096];
	struct ingest_options ingest = {
		.db = s->db,
		.packs = s->packs,
		.workers = ingest_workers(s),
		.slab_bytes = c->slab_memory_bytes,
		.known_bytes = KNOWN_BYTES,
		.filter_bytes_max = FILTER_BYTES_MAX,
		.filter_path = filter_path,
		.pack_bytes = c->pack_bytes,
		.pack_direct = c->pack_direct,
		.level = (int)c->compress_level_max,
	};
	enum rc rc;

	snprintf(filter_path, sizeof filter_path, "%s/filter", s->data_dir);
	x->db = s->db;
	if ((rc = repos_open(s->db, (uint32_t)c->chunk_target_bytes, &x->repos, err)) != RC_OK ||
		(rc = ingest_open(&ingest, &x->ingest, err)) != RC_OK)
		return rc;
	struct stages_options stages = {
		.db = s->db,
		.ingest = x->ingest,
		.ttl_us = c->stage_ttl_ms * 1000,
		.ttl_max_us = c->stage_ttl_max_ms * 1000,
		.memory_max = (size_t)c->stage_memory_bytes,
	};
	struct read_options reads = {
		.db = s->db,
		.ingest = x->ingest,
		.packs = s->readers,
		.cache_bytes = c->read_memory_bytes,
	};
	if ((rc = stages_open(&stages, &x->stages, err)) != RC_OK ||
		(rc = node_cache_open(NODE_CACHE_BYTES, &x->history.nodes, err)) != RC_OK ||
		(rc = rev_cache_open(&x->history.revs, err)) != RC_OK ||
		(rc = read_service_open(&reads, &x->reads, err)) != RC_OK)
		return rc;
	x->history.db = s->db;
	x->history.stages = x->stages;
	x->limits = (struct server_limits){
		.upload_bytes_max = c->upload_bytes_max,
		.archive_entries_max = c->archive_entries_max,
		.archive_expanded_bytes_max = c->archive_expanded_bytes_max,
		.archive_ratio_max = ARCHIVE_RATIO_MAX,
		.archive_threads_max = ARCHIVE_THREADS,
		.watchers_max = WATCHERS_MAX,
	};
	return open_imports(s, err);
}

static void
add_latencies(struct http *http, struct buf *out)
{
	static const char name[] = "digstore_http_request_seconds";
	static const char *const labels[HTTP_KINDS] = {
		[HTTP_UPLOAD] = "kind=\"upload\"",
		[HTTP_READ] = "kind=\"read\"",
		[HTTP_CHANGE] = "kind=\"change\"",
	};
	struct histogram_view v;

	metrics_histogram_head(
		out, name, "Time from the last byte of a request to the first of its answer.");
	for (int i = 0; http != NULL && i < HTTP_KINDS; i++) {
		http_latency(http, (enum http_kind)i, &v);
		metrics_histogram(out, name, labels[i], &v);
	}
}

static void
server_metrics(void *arg, struct buf *out)
{
	struct server *s = arg;
	struct http *http = atomic_load(&s->http);
	struct http_stats h = {0};

	if (http != NULL)
		h = http_stats(http);

	buf_addf(out, "# TYPE digstore_http_connections gauge\ndigstore_http_connections %zu\n",
		h.connections);
	buf_addf(out,
		"# TYPE digstore_http_requests_active gauge\ndigstore_http_requests_active %zu\n",
		h.requests_active);
	buf_addf(out,
		"# TYPE digstore_http_connections_total counter\n"
		"digstore_http_connections_total %llu\n",
		(unsigned long long)h.connections_accepted);
	buf_addf(out,
		"# TYPE digstore_http_connections_cut_total counter\n"
		"digstore_http_connections_cut_total %llu\n",
		(unsigned long long)h.connections_cut);
	buf_add_str(out, "# TYPE digstore_http_responses_total counter\n");
	for (int i = 1; i <= 5; i++)
		buf_addf(out, "digstore_http_responses_total{code=\"%dxx\"} %llu\n", i,
			(unsigned long long)h.status[i]);
	buf_addf(out,
		"# TYPE digstore_http_body_bytes_total counter\n"
		"digstore_http_body_bytes_total{direction=\"in\"} %llu\n"
		"digstore_http_body_bytes_total{direction=\"out\"} %llu\n",
		(unsigned long long)h.body_bytes_in, (unsigned long long)h.body_bytes_out);
	struct work_stats w = work_stats(s->work);
	buf_addf(out, "# TYPE digstore_work_queued gauge\ndigstore_work_queued %zu\n", w.queued);
	buf_addf(out, "# TYPE digstore_work_running gauge\ndigstore_work_running %zu\n", w.running);
	add_latencies(http, out);
	struct db_counters d;
	db_counters(s->db, &d);
	buf_addf(out,
		"# TYPE digstore_database_connections gauge\n"
		"digstore_database_connections %u\n",
		d.connections);
	buf_addf(out,
		"# TYPE digstore_database_errors_total counter\n"
		"digstore_database_errors_total %llu\n",
		(unsigned long long)d.errors);
	buf_addf(out,
		"# TYPE digstore_database_retries_total counter\n"
		"digstore_database_retries_total %llu\n",
		(unsigned long long)d.retries);
}

static void
add_knobs(struct pilot_options *o, struct knob **list, struct knob *knobs, size_t count)
{
	o->knobs = list;
	if (o->knob_count + count > PILOT_KNOBS_MAX)
		bug("more knobs than the pilot takes: %zu are left out",
			o->knob_count + count - PILOT_KNOBS_MAX);
	for (size_t i = 0; i < count && o->knob_count < PILOT_KNOBS_MAX; i++)
		list[o->knob_count++] = &knobs[i];
}

/* What the pilot cannot see from core. On its thread. */
static void
read_front(void *arg, struct pilot_front *out)
{
	struct server *s = arg;
	struct http *http = atomic_load(&s->http);

	out->faulty = atomic_load(&s->ctx.readiness.database) != NULL ||
		      atomic_load(&s->ctx.readiness.storage) != NULL;
	out->operations_queued = work_stats(s->work).queued;
	if (http == NULL)
		return;
	struct http_stats h = http_stats(http);
	out->bytes_out = h.body_bytes_out;
	out->requests_active = h.requests_active;
	for (int i = 1; i <= 5; i++)
		out->requests += h.status[i];
	http_latency(http, HTTP_UPLOAD, &out->upload_wait);
	http_latency(http, HTTP_READ, &out->read_wait);
	http_latency(http, HTTP_CHANGE, &out->change_wait);
}

static enum rc
open_pilot(struct server *s, struct err *err)
{
	const struct config *c = &s->config;
	struct knob *list[PILOT_KNOBS_MAX];
	struct pilot_options o = {
		.db = s->db,
		.ingest = s->ctx.ingest,
		.reads = s->ctx.reads,
		.front = read_front,
		.front_arg = s,
		.window_ms = c->tuner_window_ms,
		.rss_bytes = c->tuner_memory_max_bytes,
		.mode = (enum tuner_mode)c->tuner,
		.mode_is_given = config_is_given(c, "tuner"),
	};

	if (o.rss_bytes == 0)
		o.rss_bytes = machine_memory_bytes() / 4 * 3;
	add_knobs(&o, list, ingest_knobs(s->ctx.ingest), INGEST_KNOBS);
	add_knobs(&o, list, read_service_knobs(s->ctx.reads), READ_KNOBS);
	if (knob_fix(list, o.knob_count, c->knobs_fixed, err) != RC_OK)
		return err->rc;
	return pilot_open(&o, &s->ctx.pilot, err);
}

static enum rc
open_front(struct server *s, struct err *err)
{
	const struct config *c = &s->config;
	struct work_options work = {
		.threads = (int)c->op_threads, .queue_max = c->op_queue_max, .owner = &s->ctx};
	struct jobs_options jobs = {
		.srv = &s->ctx,
		.config = &s->config,
		.packs = s->packs,
		.readers = s->readers,
		.data_dir = s->data_dir,
	};
	enum rc rc;

	s->ctx.server_metrics = server_metrics;
	s->ctx.server_metrics_arg = s;
	if ((rc = work_open(&work, &s->work, err)) != RC_OK)
		return rc;
	s->ctx.work = s->work;
	if ((rc = unpack_threads_start(&s->ctx, err)) != RC_OK)
		return rc;
	s->unpacking = true;
	if ((rc = open_pilot(s, err)) != RC_OK)
		return rc;
	if ((rc = jobs_start(&jobs, &s->jobs, err)) != RC_OK)
		return rc;
	struct http_options http = {
		.listeners = s->listeners,
		.listener_count = s->listener_count,
		.ops = routes,
		.srv = &s->ctx,
		.work = s->work,
		.threads = (int)c->http_threads,
		.connections_max = c->connections_max,
		.connection_timeout_ms = c->connection_timeout_ms,
		.connection_memory_bytes = c->connection_memory_bytes,
		.header_timeout_ms = c->header_timeout_ms,
		.body_rate_min_bytes = c->body_rate_min_bytes,
		.body_rate_grace_ms = c->body_rate_grace_ms,
		.linger_timeout_ms = c->linger_timeout_ms,
		.linger_bytes = c->linger_bytes,
		.upload_bytes_max = c->upload_bytes_max,
	};
	char text[ENDPOINT_TEXT_BYTES];
	for (size_t i = 0; i < s->listener_count; i++) {
		endpoint_text(s->listeners[i].fd, text);
		log_event(LOG_LEVEL_INFO, "listening", "at=%s", text);
	}
	struct http *started = NULL;
	rc = http_start(&http, &started, err);
	atomic_store(&s->http, started);
	return rc;
}

/* What somebody who started it by hand wants to know. stdout only: logs go to stderr. */
static void
say_ready(const struct server *s, const char *at)
{
	if (strncmp(at, "unix:", 5) == 0) {
		printf("digstored %s is ready on %s, data in %s\n", PACKAGE_VERSION, at,
			s->data_dir);
	} else {
		printf("digstored %s is ready on http://%s\n"
		       "data in %s, %s\n\n"
		       "Try, in another terminal:\n"
		       "  curl -T /etc/os-release "
		       "http://%s/v1/repos/demo/trees/main/files/os-release\n"
		       "  tar ch --hard-dereference -C /usr/share/common-licenses . | "
		       "curl -T - http://%s/v1/repos/demo/trees/main/archive\n"
		       "  curl http://%s/v1/repos/demo/trees/main/files\n",
			PACKAGE_VERSION, at, s->config.data_dir,
			s->cluster != NULL ? "with a private PostgreSQL"
					   : "with the given PostgreSQL",
			at, at, at);
	}
	fflush(stdout);
}

static enum rc
start(struct server *s)
{
	struct err err = ERR_INIT;
	char at[ENDPOINT_TEXT_BYTES];

	if (!s->rebuild && open_listeners(s, &err) != RC_OK)
		return fail("listen", &err);
	if (s->listener_count > 0)
		endpoint_text(s->listeners[0].fd, at);
	if (privileges_drop(s->config.user, s->config.data_dir, &s->data_dir, &err) != RC_OK)
		return fail("privileges", &err);
	if (data_dir_open(s->data_dir, &err) != RC_OK)
		return fail("data_dir", &err);
	if (!s->rebuild && open_import_roots(s, &err) != RC_OK)
		return fail("import_roots", &err);
	block_signals(s);
	if (open_database(s, &err) != RC_OK)
		return fail("database", &err);
	if (open_packs(s, &err) != RC_OK)
		return fail("packs", &err);
	if (s->rebuild)
		return RC_OK;
	if (open_core(s, &err) != RC_OK)
		return fail("core", &err);
	if (open_front(s, &err) != RC_OK)
		return fail("http", &err);
	say_ready(s, at);
	return RC_OK;
}

/* ---- running ---- */

static void
watch_cluster(struct server *s)
{
	struct err err = ERR_INIT;
	enum pg_cluster_state was = pg_cluster_state(s->cluster);

	pg_cluster_tick(s->cluster, &err);
	enum pg_cluster_state is = pg_cluster_state(s->cluster);
	if (is == was)
		return;
	struct pg_cluster_status status;
	pg_cluster_status(s->cluster, &status);
	log_event(is == PG_CLUSTER_READY || is == PG_CLUSTER_STARTING ? LOG_LEVEL_WARN
								      : LOG_LEVEL_ERROR,
		"postgresql", "state=%s restarts=%u why=\"%s\" log=\"%s\"",
		pg_cluster_state_name(is), status.restarts, status.why, status.log);
}

static void
run(struct server *s)
{
	while (!signal_came(s)) {
		struct pollfd fds[2] = {
			{.fd = s->signals, .events = POLLIN},
			{.fd = s->cluster != NULL ? pg_cluster_pidfd(s->cluster) : -1,
				.events = POLLIN},
		};
		int timeout = s->cluster != NULL ? pg_cluster_next_tick_ms(s->cluster) : -1;
		if (poll(fds, 2, timeout) < 0 && errno != EINTR)
			break;
		if (s->cluster != NULL)
			watch_cluster(s);
	}
}

/* ---- stopping ---- */

/* Wait for requests under way, and for a second signal, which means now. */
static void
drain(struct server *s)
{
	uint64_t until = clock_mono_ns() + s->config.drain_timeout_ms * 1000000u;

	s->stopping = false;
	while (clock_mono_ns() < until && !signal_came(s))
		if (http_drain(s->http, STOP_POLL_MS) == 0)
			break;
}

/* Order: no new work; what is under way ends or is cut; whoever could still answer a request is
 * joined (workers, unpacking threads, ingest) before the HTTP side is freed; then the stores, then
 * the database. */
static void
stop(struct server *s)
{
	struct err err = ERR_INIT;

	atomic_store(&s->ctx.readiness.draining, true);
	if (s->http != NULL) {
		log_event(LOG_LEVEL_INFO, "stopping", "requests=%zu",
			http_stats(s->http).requests_active);
		http_quiesce(s->http);
		watch_stop();
		imports_stop(s->ctx.imports); /* they are as long as they are: cut, not drained */
		drain(s);
		http_stop(s->http);
	}
	if (s->unpacking)
		unpack_threads_stop(&s->ctx);
	if (s->work != NULL)
		work_drain(s->work);
	jobs_stop(s->jobs);
	pilot_close(s->ctx.pilot);
	imports_stop(s->ctx.imports);
	ingest_close(s->ctx.ingest);
	http_free(s->http);
	work_free(s->work);
	read_service_free(s->ctx.reads);
	node_cache_free(s->ctx.history.nodes);
	rev_cache_free(s->ctx.history.revs);
	imports_free(s->ctx.imports);
	stages_free(s->ctx.stages);
	repos_free(s->ctx.repos);
	pack_readers_free(s->readers);
	pack_dir_free(s->packs);
	db_free(s->db);
	if (s->cluster != NULL && pg_cluster_stop(s->cluster, &err) != RC_OK)
		log_event(LOG_LEVEL_WARN, "postgresql", "text=\"%s\" detail=\"%s\"", err.text,
			err.detail);
	pg_cluster_free(s->cluster);
	import_roots_free(s->import_roots);
	free(s->data_dir);
	config_done(&s->config);
}

/* ---- commands ---- */

static int
rebuild(struct server *s)
{
	struct err err = ERR_INIT;
	struct rebuild_report r;

	if (rebuild_index(s->db, s->packs, &r, &err) != RC_OK) {
		fail("rebuild", &err);
		return 1;
	}
	printf("packs %llu, frames %llu, chunks %llu of %llu bytes, repeated %llu\n"
	       "damaged frames %llu, damaged bytes %llu, packs of unknown repositories %llu, "
	       "chunks no pack holds any more %llu\n",
		(unsigned long long)r.packs, (unsigned long long)r.frames,
		(unsigned long long)r.chunks, (unsigned long long)r.bytes,
		(unsigned long long)r.duplicates, (unsigned long long)r.damaged_frames,
		(unsigned long long)r.damaged_bytes, (unsigned long long)r.unknown_packs,
		(unsigned long long)r.lost_chunks);
	return rebuild_is_clean(&r) ? 0 : 1;
}

static void
print(struct buf *b)
{
	fwrite(b->data, 1, b->len, stdout);
	buf_done(b);
}

int
main(int argc, char **argv)
{
	extern char **environ;
	static struct server s;
	struct err err = ERR_INIT;
	enum config_action action = CONFIG_RUN;
	struct config_input input = {argc, argv, environ, CONFIG_FILE_DEFAULT};
	struct buf out;

	if (config_load(&input, &s.config, &action, &err) != RC_OK) {
		fprintf(stderr, "digstored: %s\n", err.text);
		return 2;
	}
	buf_init(&out, (size_t)1 << 20);
	switch (action) {
	case CONFIG_HELP:
		config_help(&out);
		print(&out);
		break;
	case CONFIG_VERSION:
		printf("digstored %s\n", PACKAGE_VERSION);
		break;
	case CONFIG_PRINT:
		config_print(&s.config, &out);
		print(&out);
		break;
	case CONFIG_CHECK:
		printf("the configuration is fine\n");
		break;
	case CONFIG_REBUILD:
	case CONFIG_RUN:
		break;
	}
	if (action != CONFIG_RUN && action != CONFIG_REBUILD) {
		config_done(&s.config);
		return 0;
	}
	machine_share_pools();
	log_set_level((enum log_level)s.config.log_level);
	s.rebuild = action == CONFIG_REBUILD;
	s.ctx.version = PACKAGE_VERSION;
	s.ctx.started_us = clock_wall_us();
	int status = 0;
	if (start(&s) != RC_OK)
		status = s.stopping ? 0 : 1;
	else if (s.rebuild)
		status = rebuild(&s);
	else
		run(&s);
	stop(&s);
	return status;
}
