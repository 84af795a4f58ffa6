/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SERVICES_H
#define DG_SERVICES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "commit.h"
#include "err.h"
#include "imports.h"
#include "ingest.h"
#include "pilot.h"
#include "reader.h"
#include "recompress.h"
#include "repo.h"
#include "stage.h"

/* services: everything an operation may use, opened by server/main.c in this order and closed in
 * the reverse one. Immutable once requests are taken, except where it says so. */

/* What readiness says about one part; written by whoever looks after it. */
struct readiness {
	_Atomic(const char *) database; /* NULL: fine; else a static text why not */
	_Atomic(const char *) storage;
	atomic_bool draining;
};

struct server_limits {
	uint64_t upload_bytes_max; /* one body */
	uint64_t archive_entries_max;
	uint64_t archive_expanded_bytes_max;
	uint64_t archive_ratio_max;
	unsigned archive_threads_max; /* archives unpacked at the same time */
	unsigned watchers_max;        /* long polls and event streams */
};

struct server_ctx {
	const char *version;
	int64_t started_us;
	struct server_limits limits;
	struct db *db;
	struct repos *repos;
	struct stages *stages;
	struct ingest *ingest;
	struct history history;
	struct imports *imports;
	struct read_service *reads;
	struct pilot *pilot;
	struct recompress *recompress; /* set before requests are taken */
	struct readiness readiness;
	/* Appends server-level metrics (connections, requests by status) in Prometheus text. */
	void (*server_metrics)(void *arg, struct buf *out);
	void *server_metrics_arg;
	/* request_defer's pool, server/ only */
	void *work;
};

#endif
