/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_IMPORT_JOB_H
#define DG_IMPORT_JOB_H

/* What imports.c, import_start.c, import_info.c and import_run.c share with each other and nobody
 * else. */

#include <pthread.h>
#include <stdatomic.h>

#include "import_walk.h"
#include "imports.h"

#define IMPORT_SKIPS_FAILED  1 /* bits of the column skips */
#define IMPORT_SKIPS_SPECIAL 2

/* One import, from import_start until its row says how it ended. */
struct import {
	/* immutable once it is in line */
	struct imports *is;
	struct repo *repo;
	uint64_t id;
	int64_t created_us;
	char *texts; /* all strings, one allocation */
	const char *path, *prefix;
	bool skip_failed, skip_special;
	bool pushes;
	struct commit_request commit; /* if pushes */

	/* the runner's; before and after it those of whoever enters and ends it */
	int dir;
	struct stage *stage; /* a reference */
	struct stage_live live;
	bool is_live;
	struct ingest_receipt receipt;
	uint64_t taken_files;
	bool has_commit;
	struct sha256 commit_id;

	/* any thread */
	atomic_int refs; /* the service's list has one */
	atomic_bool stop;
	atomic_uint reached; /* phase << 16 | permille */
	atomic_int workload; /* enum stage_workload */
	struct import_tally tally;
	struct import_report report;

	/* guarded by the service's lock */
	enum import_state state;
	bool cancelled; /* a client told it to stop, not the end of the server */
	int64_t started_us, ended_us;
	struct err err;
	bool saving;              /* somebody writes its row */
	bool forgotten;           /* nobody may see it any more */
	struct import *next;      /* in the list */
	struct import *next_line; /* in line */
};

struct imports {
	/* immutable after open */
	struct imports_options o;
	pthread_t runners[IMPORTS_RUNNING_MAX];
	unsigned runner_count;
	/* any thread */
	atomic_uint looking;
	_Atomic uint64_t files, read_bytes;
	_Atomic uint64_t ended[IMPORT_STATES];
	_Atomic uint64_t left_out[IMPORT_REASONS];
	pthread_mutex_t mtx;
	pthread_cond_t work;
	/* guarded by mtx */
	struct import *list; /* not ended, or not written down yet */
	struct import *line, **line_end;
	unsigned waiting; /* in line or about to be */
	unsigned running;
	bool stopping;
};

/* Give a reference back; not under the lock. NULL is allowed. */
void import_unref(struct import *job);

/* ---- imports.c ---- */

/* It has run with rc, or will not (then stop is set): its row is written. The caller has a
 * reference of its own. Blocks. */
void import_end(struct import *job, enum rc rc, const struct err *err);
/* A stage that was only there for the import goes with it. One whose commit may have been made, or
 * that somebody else has begun to use, stays. Blocks. */
void import_abandon(struct import *job);

/* ---- import_info.c ---- */

/* Under the lock: the import of that number in memory, or NULL. */
struct import *imports_lookup(struct imports *is, const struct repo *repo, uint64_t id);
/* Under the lock: everything but the report. */
void import_fill_info(struct import *job, struct import_info *out);
/* Not under the lock: the report of job, whose reference is given back. RC_NOMEM. */
enum rc import_take_report(struct import *job, struct import_info *out, struct err *err);

/* ---- import_run.c ---- */

/* Runner: all of the import, from the walk to the commit. After RC_OK receipt, taken_files and
 * commit are set. Where it was told to stop it may return any failure. It is not live any more. */
enum rc import_run(struct import *job, struct err *err);

#endif
