/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PG_CLUSTER_H
#define DG_PG_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "log.h"

/* pg_cluster: the private PostgreSQL of a data directory: made, started, watched, stopped by us.
 *
 * It uses the programs of the distribution, listens on a Unix socket only, lets in only the user
 * we run as, and ends when we end, even by kill -9. Everything lies in <data_dir>/pg: the cluster
 * in <major>/, lock, ballast, log/postgresql.log (at most 8 MiB, the older part in .log.1) and,
 * unless told otherwise, the socket in run/. The operator's own settings go into
 * <major>/local.conf. Memory: shared_buffers is 64 MiB; a connection takes some MiB more. It is
 * apart from the server's own memory.
 *
 * Threads: open, tick, next_tick_ms, pidfd, stop and free are for one thread, and that one must be
 * the main thread (PostgreSQL is stopped when the thread that started it ends). It reaps its own
 * child by pid; SIGCHLD must not be ignored. state, status and url are for any thread. */

#define PG_CLUSTER_BALLAST_BYTES  (UINT64_C(64) << 20)
#define PG_CLUSTER_START_MS       60000u
#define PG_CLUSTER_STOP_MS        60000u
#define PG_CLUSTER_BACKOFF_MIN_MS 100u
#define PG_CLUSTER_BACKOFF_MAX_MS 5000u
#define PG_CLUSTER_FAILURES_MAX   5u /* that many within the window: stays down */
#define PG_CLUSTER_FAILURES_MS    60000u
/* Free space that a restart on a full disk waits for: three files of the write-ahead log. */
#define PG_CLUSTER_RESTART_BYTES   (UINT64_C(48) << 20)
#define PG_CLUSTER_HOUSEKEEPING_MS 10000u

struct pg_cluster;

struct pg_cluster_options {
	const char *data_dir;      /* must exist and belong to us */
	const char *runtime_dir;   /* for the socket; NULL: <data_dir>/pg/run */
	const char *bin_dir;       /* PostgreSQL's programs; NULL: search */
	uint64_t ballast_bytes;    /* file given up when the disk is full; 0: none */
	unsigned connections_max;  /* of our pool, 1 to 1000; the server gets a few more */
	unsigned start_timeout_ms; /* until it answers; not counted while it recovers; 0: default */
	unsigned stop_timeout_ms;  /* until a fast stop becomes an immediate one; 0: default */
	enum log_level log_level;  /* LOG_LEVEL_DEBUG makes PostgreSQL say more */
	/* Asked every few milliseconds while open waits; true gives up. NULL: never. */
	bool (*should_stop)(void *arg);
	void *stop_arg;
};

enum pg_cluster_state {
	PG_CLUSTER_STARTING, /* running, not answering yet */
	PG_CLUSTER_READY,
	PG_CLUSTER_DOWN,   /* ended; tick starts it again when the back-off or the disk allows */
	PG_CLUSTER_FAILED, /* ended too often: stays down */
};

struct pg_cluster_status {
	enum pg_cluster_state state;
	unsigned restarts; /* since open */
	char why[256];     /* how it ended last; "" if it never did */
	char log[1024];    /* PostgreSQL's last lines then */
};

/* Make the cluster if there is none (1-2 s), end a postmaster that a crash left, start, wait until
 * it answers. options is borrowed for the call; the caller owns *cluster. Blocks.
 * RC_DENIED root-refused, no-user: we are root, or nobody the system knows.
 * RC_INVALID: an option is out of range.
 * RC_CONFLICT data-dir-in-use: another process has this cluster open.
 * RC_CONFLICT cluster-unknown: pg/ holds something we do not understand; nothing was touched.
 * RC_NOT_FOUND postgres-missing: no suitable PostgreSQL is installed.
 * RC_UNAVAILABLE postgres-failed: it did not start, the detail has its last log lines.
 * RC_UNAVAILABLE interrupted: should_stop. RC_FULL, RC_IO, RC_NOMEM, RC_TOO_LARGE.
 * After a failure nothing of it runs. */
enum rc pg_cluster_open(
	const struct pg_cluster_options *options, struct pg_cluster **cluster, struct err *err);
/* Stop it if it runs, and free. NULL is allowed. */
void pg_cluster_free(struct pg_cluster *c);

/* The connection string for db_open; borrowed until pg_cluster_free. */
const char *pg_cluster_url(const struct pg_cluster *c);

/* Readable when PostgreSQL has ended; -1 when it is down, or if the kernel has no pidfds. Another
 * one after each restart: ask again after every tick. Borrowed. */
int pg_cluster_pidfd(const struct pg_cluster *c);
/* Milliseconds until tick wants to be called, as for poll; -1: not by itself. */
int pg_cluster_next_tick_ms(struct pg_cluster *c);
/* To be called when the pidfd is readable or next_tick_ms has passed; any time is right. Does not
 * wait for PostgreSQL. Starts it again after an end; after "no space left" gives up the ballast,
 * or waits for space; takes the ballast back when there is space again; bounds the log.
 * RC_UNAVAILABLE postgres-failed: state FAILED (each time). Else RC_OK, see pg_cluster_state. */
enum rc pg_cluster_tick(struct pg_cluster *c, struct err *err);

enum pg_cluster_state pg_cluster_state(struct pg_cluster *c);
void pg_cluster_status(struct pg_cluster *c, struct pg_cluster_status *out);
/* "starting", "ready", "down", "failed". */
const char *pg_cluster_state_name(enum pg_cluster_state state);

/* Fast stop (sessions are ended, everything is on disk), after stop_timeout_ms an immediate one,
 * then SIGKILL. tick does not start it again. Blocks. Close the pool first.
 * RC_UNAVAILABLE postgres-failed: it had to be killed; the next start recovers. */
enum rc pg_cluster_stop(struct pg_cluster *c, struct err *err);

#endif
