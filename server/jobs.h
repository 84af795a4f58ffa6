/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_JOBS_H
#define DG_JOBS_H

#include "err.h"

/* jobs: what the server does by itself: progress ticks, expiry, sweeping of dropped repositories,
 * removal of packs that were replaced, looking whether database and disk are there, and saving and
 * telling what the tuner learnt, on one thread; recompression, on threads of its own. */

struct config;
struct jobs;
struct pack_dir;
struct pack_readers;
struct server_ctx;

struct jobs_options {
	struct server_ctx *srv; /* readiness and recompress are written, everything else read */
	const struct config *config;
	struct pack_dir *packs;
	struct pack_readers *readers;
	const char *data_dir;
};

/* options are copied, what they point at outlives the jobs. */
enum rc jobs_start(const struct jobs_options *options, struct jobs **out, struct err *err);
/* Ask and wait for the end. NULL is allowed. */
void jobs_stop(struct jobs *j);

#endif
