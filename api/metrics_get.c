/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "hex.h"
#include "log.h"
#include "metrics_histogram.h"
#include "node_cache.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_import.h"
#include "show_progress.h"
#include "stream.h"
#include "watch.h"

/* Prometheus text, made on the HTTP thread: it must be there when the workers wait for a database
 * that is away. Nothing here blocks; /proc is memory. */

#define METRICS_BYTES_MAX ((size_t)1 << 20)
#define STATES            (STAGE_GONE + 1)

/* ---- writing ---- */

static void
head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
gauge(struct buf *out, const char *name, const char *help, uint64_t value)
{
	head(out, name, "gauge", help);
	buf_addf(out, "%s %" PRIu64 "\n", name, value);
}

static void
counter(struct buf *out, const char *name, const char *help, uint64_t value)
{
	head(out, name, "counter", help);
	buf_addf(out, "%s %" PRIu64 "\n", name, value);
}

static void
labelled(struct buf *out, const char *name, const char *label, const char *value, uint64_t n)
{
	buf_addf(out, "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, value, n);
}

/* ---- the process ---- */

/* The n-th (from 0) number of a line of /proc, 0 if it is not there. */
static uint64_t
proc_number(const char *path, int n)
{
	char text[256];
	uint64_t v = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;

	if (fd >= 0)
		close(fd);
	if (len <= 0)
		return 0;
	text[len] = '\0';
	const char *at = text;
	for (; n > 0 && *at != '\0'; n--) {
		at += strcspn(at, " ");
		at += strspn(at, " ");
	}
	return parse_u64(at, strspn(at, "0123456789"), &v) ? v : 0;
}

static uint64_t
count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint64_t n = 0;

	if (dir == NULL)
		return 0;
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n > 3 ? n - 3 : 0; /* ".", ".." and the one that reads */
}

static void
add_process(struct buf *out, const struct server_ctx *srv)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct timespec cpu = {0};

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	head(out, "process_cpu_seconds_total", "counter", "CPU time used, user and system.");
	buf_addf(out, "process_cpu_seconds_total %lld.%06ld\n", (long long)cpu.tv_sec,
		cpu.tv_nsec / 1000);
	gauge(out, "process_virtual_memory_bytes", "Address space.",
		proc_number("/proc/self/statm", 0) * page);
	gauge(out, "process_resident_memory_bytes", "Memory in RAM.",
		proc_number("/proc/self/statm", 1) * page);
	gauge(out, "process_open_fds", "Open file descriptors.", count_fds());
	gauge(out, "process_max_fds", "Most file descriptors.", (uint64_t)sysconf(_SC_OPEN_MAX));
	head(out, "process_start_time_seconds", "gauge", "When the server started, since 1970.");
	buf_addf(out, "process_start_time_seconds %lld.%03d\n",
		(long long)(srv->started_us / 1000000), (int)(srv->started_us % 1000000 / 1000));
}

/* ---- the server ---- */

static void
add_server(struct buf *out, const struct server_ctx *srv)
{
	struct stream_stats streams = stream_stats();

	head(out, "digstore_info", "gauge", "Always 1; the label says which version runs.");
	labelled(out, "digstore_info", "version", srv->version, 1);
	counter(out, "digstore_bugs_total", "Broken invariants met.", bug_count());
	counter(out, "digstore_log_lines_dropped_total", "Log lines that could not be written.",
		log_dropped());
	gauge(out, "digstore_watchers", "Long polls and event streams.", watch_count());
	gauge(out, "digstore_answer_streams", "Downloads that are streamed.", streams.streams);
	gauge(out, "digstore_answer_stream_bytes", "Memory that they hold.", streams.bytes);
}

static void
add_ready(struct buf *out, struct readiness *r)
{
	static const char name[] = "digstore_ready";

	head(out, name, "gauge", "1 if the part is ready for work.");
	labelled(out, name, "part", "database", atomic_load(&r->database) == NULL);
	labelled(out, name, "part", "storage", atomic_load(&r->storage) == NULL);
	labelled(out, name, "part", "accepting", !atomic_load(&r->draining));
}

/* ---- ingest ---- */

static void
add_busy(struct buf *out, const struct ingest_stats *s)
{
	static const char name[] = "digstore_ingest_busy_seconds_total";
	static const char *const steps[METER_STAGES] = {
		[METER_RECEIVE] = "receive",
		[METER_HASH] = "hash",
		[METER_LOOKUP] = "lookup",
		[METER_COMPRESS] = "compress",
		[METER_WRITE] = "write",
		[METER_SYNC] = "sync",
		[METER_SQL] = "database",
	};

	head(out, name, "counter", "Time spent in a step of ingest, summed over threads.");
	for (int i = 0; i < METER_STAGES; i++)
		buf_addf(out, "%s{step=\"%s\"} %" PRIu64 ".%06" PRIu64 "\n", name, steps[i],
			s->busy_ns[i] / 1000000000u, s->busy_ns[i] % 1000000000u / 1000u);
}

static void
add_lookups(struct buf *out, const struct ingest_stats *s)
{
	static const char name[] = "digstore_ingest_lookups_total";

	head(out, name, "counter", "How it was found out whether a chunk is known.");
	labelled(out, name, "by", "filter", s->filter_negative);
	labelled(out, name, "by", "cache", s->known_hits);
	labelled(out, name, "by", "database", s->sql_lookups);
	counter(out, "digstore_ingest_lookup_database_hits_total", "Chunks that the database knew.",
		s->sql_hits);
	counter(out, "digstore_ingest_ahead_rows_total",
		"Known chunks that were read before an upload asked for them.", s->ahead_rows);
	counter(out, "digstore_ingest_ahead_hits_total", "Chunks of these that one asked for.",
		s->ahead_hits);
	gauge(out, "digstore_ingest_filter_ready",
		"1 once the filter of known chunks knows all of them.", s->filter.ready);
	gauge(out, "digstore_ingest_filter_loaded",
		"1 if it was kept from the run before, 0 if it was filled from the database.",
		s->filter.loaded);
	gauge(out, "digstore_ingest_filter_limited",
		"1 if it is full and as large as it may be: more and more is asked for in vain.",
		s->filter.limited);
	gauge(out, "digstore_ingest_filter_keys", "Chunks in it, about.", s->filter.keys);
	gauge(out, "digstore_ingest_filter_keys_expected", "Chunks that it was made for.",
		s->filter.expected);
	gauge(out, "digstore_ingest_filter_bytes", "Memory that it takes.", s->filter.bytes);
	counter(out, "digstore_ingest_filter_fills_total",
		"Times that it was filled from the database.", s->filter.fills);
}

static void
add_ingest(struct buf *out, const struct server_ctx *srv)
{
	struct ingest_stats s;
	struct histogram_view wait;

	ingest_stats(srv->ingest, &s);
	counter(out, "digstore_ingest_received_bytes_total", "Bytes of contents received.",
		s.received_bytes);
	counter(out, "digstore_ingest_new_bytes_total", "Bytes in chunks that were new.",
		s.new_bytes);
	counter(out, "digstore_ingest_stored_bytes_total", "Bytes written to packs.",
		s.stored_bytes);
	counter(out, "digstore_ingest_durable_bytes_total", "Bytes of contents made durable.",
		s.durable_bytes);
	counter(out, "digstore_ingest_groups_total", "Group commits.", s.groups);
	counter(out, "digstore_ingest_group_files_total", "Files in them.", s.group_files);
	counter(out, "digstore_ingest_group_chunks_total", "New chunks in them.", s.group_chunks);
	head(out, "digstore_ingest_frames_total", "counter", "Frames written.");
	labelled(out, "digstore_ingest_frames_total", "codec", "raw", s.frames_raw);
	labelled(out, "digstore_ingest_frames_total", "codec", "zstd", s.frames_zstd);
	head(out, "digstore_ingest_compression_level", "gauge", "Level that the load allows now.");
	buf_addf(out, "digstore_ingest_compression_level %d\n", s.level);
	gauge(out, "digstore_ingest_memory_bytes", "Upload memory in use.", s.slab_used_bytes);
	gauge(out, "digstore_ingest_memory_peak_bytes", "Most upload memory ever in use.",
		s.slab_peak_bytes);
	gauge(out, "digstore_ingest_memory_max_bytes", "Upload memory there is.", s.slab_max_bytes);
	gauge(out, "digstore_ingest_memory_waiting", "Uploads that wait for memory.",
		s.slab_waiting);
	gauge(out, "digstore_ingest_queue_blocks", "Blocks that wait for a worker.", s.queue_len);
	gauge(out, "digstore_ingest_commit_queue", "Batches that wait for a group commit.",
		s.commit_queue);
	gauge(out, "digstore_ingest_pending_chunks", "Chunks on their way to the disk.",
		s.pending_chunks);
	add_lookups(out, &s);
	add_busy(out, &s);
	ingest_commit_wait(srv->ingest, &wait);
	metrics_histogram_head(out, "digstore_ingest_commit_wait_seconds",
		"Time of group commits that somebody waited for.");
	metrics_histogram(out, "digstore_ingest_commit_wait_seconds", "", &wait);
}

/* ---- reading ---- */

static void
add_reads(struct buf *out, const struct server_ctx *srv)
{
	struct read_stats r;
	struct node_cache_stats n;

	read_service_stats(srv->reads, &r);
	node_cache_stats(srv->history.nodes, &n);
	counter(out, "digstore_read_frame_hits_total", "Frames found in memory.", r.frame_hits);
	counter(out, "digstore_read_frame_misses_total", "Frames read and expanded.",
		r.frame_misses);
	counter(out, "digstore_read_layout_hits_total", "Lists of chunks found in memory.",
		r.layout_hits);
	counter(out, "digstore_read_layout_misses_total", "Lists of chunks not found there.",
		r.layout_misses);
	counter(out, "digstore_read_pack_bytes_total", "Bytes read from packs.", r.bytes_read);
	counter(out, "digstore_read_direct_bytes_total",
		"Bytes given out as they were read, without a copy.", r.bytes_direct);
	counter(out, "digstore_read_waits_total", "Reads that waited for the disk.", r.waits);
	counter(out, "digstore_read_chunks_verified_total", "Chunks checked against their hash.",
		r.chunks_verified);
	counter(out, "digstore_read_chunks_proven_total",
		"Chunks checked against a checksum made when their hash was right.",
		r.chunks_proven);
	counter(out, "digstore_read_chunks_bad_total", "Chunks that did not verify.", r.chunks_bad);
	head(out, "digstore_read_cache_bytes", "gauge", "Memory that holds frames, by level.");
	labelled(out, "digstore_read_cache_bytes", "level", "hot", r.frame_hot_bytes);
	labelled(out, "digstore_read_cache_bytes", "level", "warm",
		r.frame_bytes - r.frame_hot_bytes);
	gauge(out, "digstore_read_cache_max_bytes", "Most that may hold frames.",
		r.frame_max_bytes);
	gauge(out, "digstore_read_layout_bytes", "Memory that holds lists of chunks.",
		r.layout_bytes);
	gauge(out, "digstore_read_layout_max_bytes", "Most that may hold them.",
		r.layout_max_bytes);
	counter(out, "digstore_tree_node_hits_total", "Tree nodes found in memory.", n.hits);
	counter(out, "digstore_tree_node_misses_total", "Tree nodes read from the database.",
		n.misses);
	counter(out, "digstore_tree_node_evictions_total", "Tree nodes that were let go.",
		n.evictions);
	gauge(out, "digstore_tree_nodes", "Tree nodes held in memory.", n.nodes);
	gauge(out, "digstore_tree_node_bytes", "Memory that they hold.", n.bytes);
}

/* ---- recompression ---- */

static void
add_recompression_state(struct buf *out, const struct recompress_stats *s)
{
	static const char name[] = "digstore_recompression_state";

	head(out, name, "gauge", "1 for the state it is in.");
	for (int i = 0; i < RECOMPRESS_STATES; i++)
		labelled(out, name, "state", recompress_state_name((enum recompress_state)i),
			s->state == (enum recompress_state)i);
}

static void
add_recompression(struct buf *out, const struct server_ctx *srv)
{
	struct recompress_stats s;

	recompress_stats(srv->recompress, &s);
	add_recompression_state(out, &s);
	counter(out, "digstore_recompression_packs_total", "Packs rewritten.", s.packs);
	counter(out, "digstore_recompression_new_packs_total", "Packs they became.", s.new_packs);
	counter(out, "digstore_recompression_bytes_before_total", "Bytes of the packs rewritten.",
		s.bytes_before);
	counter(out, "digstore_recompression_bytes_after_total", "Bytes of what they became.",
		s.bytes_after);
	counter(out, "digstore_recompression_frames_total", "Frames written.", s.frames);
	counter(out, "digstore_recompression_skipped_total", "Packs with nothing to gain.",
		s.skipped);
	counter(out, "digstore_recompression_failures_total", "Attempts that failed.", s.failures);
	counter(out, "digstore_recompression_yields_total", "Times it let go for other work.",
		s.yields);
	head(out, "digstore_recompression_cpu_seconds_total", "counter", "CPU time used.");
	buf_addf(out, "digstore_recompression_cpu_seconds_total %" PRIu64 ".%06" PRIu64 "\n",
		s.cpu_ns / 1000000000u, s.cpu_ns % 1000000000u / 1000u);
	gauge(out, "digstore_recompression_left_packs", "Packs as uploads left them.",
		s.left_packs);
	gauge(out, "digstore_recompression_left_bytes", "Bytes of them.", s.left_bytes);
	gauge(out, "digstore_recompression_left_gain_bytes", "What they are expected to give back.",
		s.left_gain);
	gauge(out, "digstore_replaced_packs", "Packs that were replaced and wait to be removed.",
		s.retired_packs);
	gauge(out, "digstore_replaced_pack_bytes", "Bytes of them.", s.retired_bytes);
}

/* ---- stages ---- */

struct stage_counts {
	uint64_t states[STATES];
	uint64_t uploads;
};

static void
count_stage(void *arg, struct stage *s)
{
	struct stage_counts *c = arg;
	struct stage_info info;

	stage_info(s, &info);
	c->states[info.state]++;
	c->uploads += info.uploads;
}

static void
add_stages(struct buf *out, const struct server_ctx *srv)
{
	struct stage_counts c = {.uploads = 0};

	stages_active(srv->stages, count_stage, &c);
	head(out, "digstore_stages", "gauge", "Stages in memory, by state.");
	for (int i = 0; i < STAGE_GONE; i++)
		labelled(out, "digstore_stages", "state", show_stage_state((enum stage_state)i),
			c.states[i]);
	gauge(out, "digstore_uploads", "Uploads under way.", c.uploads);
}

/* ---- imports ---- */

static void
add_imports(struct buf *out, const struct server_ctx *srv)
{
	static const char ended[] = "digstore_imports_ended_total";
	static const char left_out[] = "digstore_import_left_out_total";
	struct imports_stats s;

	imports_stats(srv->imports, &s);
	gauge(out, "digstore_imports_waiting", "Imports in line.", s.waiting);
	gauge(out, "digstore_imports_running", "Imports that run.", s.running);
	head(out, ended, "counter", "Imports that have ended, by how.");
	for (int i = IMPORT_DONE; i < IMPORT_STATES; i++)
		labelled(out, ended, "state", show_import_state((enum import_state)i), s.ended[i]);
	counter(out, "digstore_import_files_total", "Files that imports have taken.", s.files);
	counter(out, "digstore_import_read_bytes_total", "Bytes that imports have read.",
		s.read_bytes);
	head(out, left_out, "counter", "What imports could not take, by why.");
	for (int i = 0; i < IMPORT_REASONS; i++)
		labelled(out, left_out, "reason", import_reason_name((enum import_reason)i),
			s.left_out[i]);
}

/* ---- tuner ---- */

static void
add_tuner(struct buf *out, const struct server_ctx *srv)
{
	struct pilot_brief b;

	pilot_brief(srv->pilot, &b);
	head(out, "digstore_knob", "gauge", "Where a number stands that may be turned.");
	for (size_t i = 0; i < b.knob_count; i++)
		buf_addf(out, "digstore_knob{name=\"%s\"} %" PRId64 "\n", b.knobs[i]->name,
			knob_get(b.knobs[i]));
	head(out, "digstore_tuner_mode", "gauge", "1 for the mode that is in force.");
	for (int i = 0; i < TUNER_MODES; i++)
		labelled(out, "digstore_tuner_mode", "mode", tuner_mode_name((enum tuner_mode)i),
			(int)b.mode == i);
	head(out, "digstore_tuner_class", "gauge", "1 for the class of load there is.");
	for (int i = 0; i < LOAD_CLASSES; i++)
		labelled(out, "digstore_tuner_class", "class", load_class_name((enum load_class)i),
			(int)b.class == i);
	counter(out, "digstore_tuner_trials_total", "Trials begun.", b.trials);
	head(out, "digstore_tuner_decisions_total", "counter", "How they ended.");
	for (int i = 0; i < DECISION_KINDS; i++)
		labelled(out, "digstore_tuner_decisions_total", "decision",
			decision_name((enum decision_kind)i), b.decisions[i]);
}

/* ---- all of it ---- */

static void
end(struct request *rq)
{
	const struct server_ctx *srv = rq->srv;
	struct err err = ERR_INIT;
	struct buf out;
	size_t len;

	buf_init(&out, METRICS_BYTES_MAX);
	add_process(&out, srv);
	add_server(&out, srv);
	add_ready(&out, &rq->srv->readiness);
	if (srv->server_metrics != NULL)
		srv->server_metrics(srv->server_metrics_arg, &out);
	add_stages(&out, srv);
	add_imports(&out, srv);
	add_ingest(&out, srv);
	add_reads(&out, srv);
	add_tuner(&out, srv);
	add_recompression(&out, srv);
	if (buf_ok(&out)) {
		uint8_t *data = buf_take(&out, &len);
		reply_take(rq, 200, "text/plain; version=0.0.4; charset=utf-8", data, len);
	} else {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
	}
	buf_done(&out);
	request_complete(rq);
}

const struct op op_metrics_get = {
	.id = "metrics_get",
	.method = METHOD_GET,
	.path = "/metrics",
	.end = end,
};
