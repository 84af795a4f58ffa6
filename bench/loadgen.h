/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_LOADGEN_H
#define DG_LOADGEN_H

/* loadgen: a small HTTP/1.1 client for the benchmarks: one thread, epoll, a few keep-alive
 * connections, one request at a time on each.
 *
 * It exists because a client in a scripting language would need more of the machine than the
 * server that is measured. It is fair among its connections: none sends more than a piece in a
 * turn. A source says what to send next; loadgen sends it, counts, and times every request from its
 * first byte out to its last byte in. It understands answers with a Content-Length (or none, for
 * 1xx, 204 and 304); a chunked answer is counted as a failure. A connection that the server closes
 * between two requests is opened again and the request is sent once more; that is counted. Threads:
 * everything here belongs to the thread that calls loadgen_run. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Enough for a path of 1,024 bytes, each written as %XX, and a few headers. */
#define LOADGEN_HEAD_BYTES_MAX  8192
#define LOADGEN_CONNECTIONS_MAX 1024
#define LOADGEN_BODY_PARTS      2

struct loadgen_part {
	const uint8_t *data;
	size_t bytes;
};

/* One request, filled by the source. head is the whole head with its final empty line. The parts
 * of the body follow each other; they are borrowed until the answer is complete, and unused ones
 * have no bytes. expect_bytes is the length the answer must have, or UINT64_MAX for any. tag is the
 * source's own. */
struct loadgen_request {
	char head[LOADGEN_HEAD_BYTES_MAX];
	size_t head_bytes;
	struct loadgen_part body[LOADGEN_BODY_PARTS];
	uint64_t expect_bytes;
	uint64_t tag;
};

/* Where requests come from.
 * next: fill request for connection conn; false when there are no more (or the source failed
 * and remembers so). answer may be NULL; else it sees each piece of a successful answer's body
 * at its offset and returns false to have the request counted as failed. */
struct loadgen_source {
	bool (*next)(void *arg, unsigned conn, struct loadgen_request *request);
	bool (*answer)(void *arg, uint64_t tag, uint64_t offset, const uint8_t *data, size_t bytes);
	void *arg;
};

struct loadgen_options {
	const char *host; /* an IPv4 address on the loopback */
	uint16_t port;
	unsigned connections;
	unsigned timeout_s;   /* for the whole run */
	unsigned status_want; /* the one good status, or 0 for every 2xx */
	size_t request_count; /* at most so many requests: sizes the table of latencies */
};

struct loadgen_connection_stats {
	size_t requests;
	uint64_t busy_ns;
	uint64_t slowest_ns;
};

struct loadgen_stats {
	size_t requests; /* answered, well or not */
	size_t failed;
	size_t reconnects;
	uint64_t sent_bytes; /* of bodies */
	uint64_t received_bytes;
	uint64_t wall_ns;
	uint32_t *latency_us;    /* one a request, in order of completion */
	uint32_t *first_byte_us; /* the same up to the first byte of the answer's body */
	size_t statuses[600];
	struct loadgen_connection_stats *connections;
	unsigned connection_count;
	char first_failure[512]; /* what the first bad answer said */
};

/* Send all that source gives; fill stats, which loadgen_stats_done must free, also on failure.
 * False when the run could not go on (no connection, time over, no memory): stats->first_failure
 * says why. Bad answers alone do not stop a run: look at stats->failed. Blocks. */
bool loadgen_run(const struct loadgen_options *options, const struct loadgen_source *source,
	struct loadgen_stats *stats);

void loadgen_stats_done(struct loadgen_stats *stats);

#endif
