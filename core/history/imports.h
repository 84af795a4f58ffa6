/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_IMPORTS_H
#define DG_IMPORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "commit.h"
#include "err.h"
#include "import_record.h"
#include "import_report.h"
#include "import_roots.h"
#include "ingest.h"
#include "path.h"
#include "repo.h"
#include "stage.h"

/* imports: directories of this machine become staged files, or a commit, as jobs beside requests.
 *
 *   client -> import_start: slot, stage entered, row written -> the line
 *   runner (one of IMPORTS_RUNNING_MAX) takes it:
 *     analyzing    import_walk, by a team of threads: what there is, by size; what cannot be taken
 *     processing   import_read, by a team: into ingest, until it is durable
 *     finalizing   all files staged in one durable step; with a ref, the commit
 *   -> row written -> forgotten in memory
 *
 * A stage gets all files of an import or none: until the last step nothing of it is in the stage,
 * whether it fails, is cancelled, or the server ends. What was read before is in the store all the
 * same, so importing again is quick.
 *
 * States and who moves them:
 *   waiting -> running      a runner
 *   running -> done, failed the runner
 *   waiting -> cancelled    import_delete; waiting -> interrupted imports_stop
 *   running -> cancelled, interrupted  the runner, told by import_delete or imports_stop; too late
 *                           once the last step has begun
 *   (a row left behind) -> interrupted, or done if the commit was made: imports_open
 *
 * Threads: any. The lock is held for memory accesses only; functions that say "blocks" run SQL or
 * wait for the file system. */

/* Each keeps disk and cores busy by itself; the second lets a small one pass a large one. */
#define IMPORTS_RUNNING_MAX 2
/* What a client has to be told soon enough that nothing of it will run in the next hours. */
#define IMPORTS_WAITING_MAX 32
/* Of the operations' threads, how many may hang in a file system that does not answer; the others
 * wait for so long and are then told to try again. */
#define IMPORTS_LOOKING_MAX     2
#define IMPORTS_LOOKING_WAIT_MS 200

struct db;
struct imports;

enum import_state {
	IMPORT_WAITING = 0,
	IMPORT_RUNNING = 1,
	IMPORT_DONE = 2,
	IMPORT_FAILED = 3,
	IMPORT_CANCELLED = 4,
	IMPORT_INTERRUPTED = 5,
	IMPORT_STATES,
};

/* An import as it is now, or as its row says. */
struct import_info {
	uint64_t id;
	enum import_state state;
	enum stage_phase phase;       /* while running */
	uint32_t permille;            /* PROGRESS_PERMILLE_UNKNOWN: cannot be told */
	enum stage_workload workload; /* once analysed */
	const char *repo;             /* borrowed until the end of the server */
	char path[IMPORT_PATH_BYTES_MAX + 1];
	char prefix[PATH_BYTES_MAX + 2]; /* "" or "some/dir/" */
	char stage[STAGE_NAME_BYTES_MAX + 1];
	char ref[REF_NAME_BYTES_MAX + 1]; /* "": none */
	bool skip_failed, skip_special;
	int64_t created_us, started_us, ended_us; /* 0: not yet, or not known */
	bool has_record;
	struct import_record record; /* while running: so far, without receipt */
	uint64_t special, failed;    /* that could not be taken */
	bool has_commit;
	struct sha256 commit_id;
	struct err err; /* IMPORT_FAILED: why; kind may point into error_kind */
	char error_kind[64];
	struct import_report report; /* import_info_done frees it */
};
void import_info_done(struct import_info *info);

struct imports_options {
	struct db *db;
	struct ingest *ingest;
	struct stages *stages;
	struct history *history;
	const struct import_roots *roots;
	unsigned threads; /* of one import, 1 to IMPORT_TEAM_MAX */
	uint64_t entries_max;
	uint64_t bytes_max;
	/* The receipt of a stage as the canonical JSON object that a commit keeps. */
	void (*write_receipt)(struct stage *s, struct buf *out);
	/* An import has ended and what became of it was written down, if that could be. Any thread;
	 * info is borrowed. */
	void (*ended)(const struct import_info *info);
};

/* options is copied, what it points at outlives the service. Settles what a process before left
 * behind and starts the runners (none without roots). Blocks. */
enum rc imports_open(const struct imports_options *options, struct imports **out, struct err *err);
/* Nothing begins any more; what waits or runs is interrupted, and its end waited for. Looking still
 * works. Blocks. NULL is allowed. */
void imports_stop(struct imports *is);
/* After imports_stop. NULL is allowed. */
void imports_free(struct imports *is);
/* Write down what could not be when it ended. Called now and then by one thread. Blocks. */
void imports_tick(struct imports *is);
/* Forget imports that ended before. Blocks. */
enum rc imports_expire(struct imports *is, int64_t before_us, struct err *err);

/* Open the directory that a client names, see import_roots_find; RC_AGAIN kind "overloaded": too
 * many are being looked at, by a file system that does not answer. Blocks. */
enum rc imports_open_dir(struct imports *is, const char *path, int *dir, struct err *err);

/* What is asked for. Texts are copied. */
struct import_request {
	int dir;             /* handed over */
	struct stage *stage; /* a reference, handed over */
	const char *path;
	const char *prefix; /* "" or "some/dir/" */
	bool skip_failed, skip_special;
	/* NULL: the files are staged only. Else the stage is there for this import alone, is
	 * committed at the end, and abandoned if that does not come to pass; members ref, author,
	 * message, metadata, mode and expected_parent count. */
	const struct commit_request *commit;
};
/* Get in line; *out is what it looks like. Fails like stage_check_open; RC_AGAIN kind "overloaded":
 * too many wait; RC_UNAVAILABLE kind "shutting-down"; what the database fails with. Blocks. */
enum rc import_start(struct imports *is, const struct import_request *request,
	struct import_info *out, struct err *err);
/* RC_NOT_FOUND kind "import-not-found"; RC_CORRUPT. Blocks. */
enum rc import_find(struct imports *is, const struct repo *repo, uint64_t id,
	struct import_info *out, struct err *err);
/* Imports of a repository with an id below `before`, the newest first, up to limit: fn for each,
 * info borrowed. Blocks. */
enum rc import_list(struct imports *is, const struct repo *repo, uint64_t before, size_t limit,
	void (*fn)(void *arg, const struct import_info *info), void *arg, struct err *err);
/* One that waits or runs is cancelled: *forgotten false, *out is what it looks like (it may take a
 * moment to end). One that has ended is forgotten: *forgotten true, *out is empty. RC_NOT_FOUND
 * kind "import-not-found". Blocks. */
enum rc import_delete(struct imports *is, const struct repo *repo, uint64_t id, bool *forgotten,
	struct import_info *out, struct err *err);

struct imports_stats {
	unsigned waiting, running;
	uint64_t ended[IMPORT_STATES];     /* since the start, by how */
	uint64_t files;                    /* taken by those that are done */
	uint64_t read_bytes;               /* also by those that run */
	uint64_t left_out[IMPORT_REASONS]; /* by those that have ended */
};
void imports_stats(struct imports *is, struct imports_stats *out);

#endif
