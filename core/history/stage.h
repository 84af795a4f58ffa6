/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_STAGE_H
#define DG_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "err.h"
#include "ingest.h"
#include "repo.h"
#include "tree.h"
#include "tree_edit.h"

/* stage: the open basket a commit is made from.
 *
 * In memory a stage is a map from path to entry; in the database it is a log of batches of put and
 * remove records (stage_batch), written in the ingest committer's transactions and replayed when
 * the stage is first asked for after a start. What the map shows is what the log holds: an entry
 * appears only after the transaction with its record was committed.
 *
 * States and who moves them:
 *   open -> committing   stage_begin_commit (no upload may be under way)
 *   committing -> open   stage_end_commit after a failure
 *   committing -> committed  the commit's transaction; stage_end_commit
 *   open -> expired      stages_tick, when expires_at has passed and no upload is under way
 *   open -> gone         stage_abandon (no upload may be under way), or its row was found deleted
 * Threads: any; each stage has a lock that is held for memory accesses only. Functions that say
 * "blocks" run SQL or wait for it. */

#define STAGE_NAME_BYTES_MAX 100

struct db;
struct stages;
struct stage;

enum stage_state {
	STAGE_OPEN = 0,
	STAGE_COMMITTING = 1,
	STAGE_COMMITTED = 2,
	STAGE_FAILED = 3,
	STAGE_EXPIRED = 4,
	STAGE_GONE = 5, /* in memory only */
};

enum stage_workload {
	WORKLOAD_UNKNOWN, /* nothing has come yet */
	WORKLOAD_MANY_SMALL,
	WORKLOAD_FEW_LARGE,
	WORKLOAD_MIXED,
};

#define STAGE_SMALL_BYTES ((uint64_t)64 << 10) /* a file up to this is small */

/* Files by size, and what they make of a workload. */
struct stage_sizes {
	uint64_t small_files, small_bytes;
	uint64_t large_files, large_bytes;
};
enum stage_workload stage_workload_of(const struct stage_sizes *sizes);

struct stages_options {
	struct db *db;
	struct ingest *ingest;
	uint64_t ttl_us;     /* life of a stage that does not say how long */
	uint64_t ttl_max_us; /* longest a stage may ask for */
	size_t memory_max;   /* of one stage's files; 0: any */
};

enum rc stages_open(const struct stages_options *options, struct stages **out, struct err *err);
void stages_free(struct stages *ss);
/* Expire, forget idle ones, keep rates going. Called every 250 ms by one thread. Blocks. */
void stages_tick(struct stages *ss);

/* ---- finding; every stage found must be given back with stage_unref ---- */

/* From memory only, NULL if it is not there. Does not block. */
struct stage *stage_cached(struct stages *ss, const struct repo *repo, const char *name);
/* RC_NOT_FOUND kind "stage-not-found". Replays the log if need be. Blocks. */
enum rc stage_find(struct stages *ss, struct repo *repo, const char *name, struct stage **out,
	struct err *err);
/* Find or create an open stage. name NULL: a new one with a name of ours. ttl_us 0: the default.
 * *created says which (may be NULL). Blocks. */
enum rc stage_open(struct stages *ss, struct repo *repo, const char *name, uint64_t ttl_us,
	struct stage **out, bool *created, struct err *err);
void stage_ref(struct stage *s);
void stage_unref(struct stage *s);
/* RC_OK if files may be put now; else kind stage-expired (RC_NOT_FOUND), stage-committed,
 * stage-committing (RC_CONFLICT) or stage-not-found. */
enum rc stage_check_open(struct stage *s, struct err *err);
/* RC_TOO_LARGE kind "stage-full": the paths and ids of what is staged take memory_max already. What
 * is under way then may go over it. */
enum rc stage_check_room(struct stage *s, struct err *err);

/* ---- looking ---- */

const char *stage_name(const struct stage *s);
struct repo *stage_repo(const struct stage *s);
struct meter *stage_meter(struct stage *s);

struct stage_info {
	char name[STAGE_NAME_BYTES_MAX + 1];
	char repo[REPO_NAME_BYTES_MAX + 1];
	enum stage_state state;
	enum stage_workload workload;
	int64_t created_us, expires_us;
	uint64_t files, bytes;   /* staged now */
	uint64_t uploads;        /* under way */
	struct sha256 commit_id; /* STAGE_COMMITTED */
};
void stage_info(struct stage *s, struct stage_info *out);

/* One staged file; out->path is the caller's path. RC_NOT_FOUND kind "path-not-found". */
enum rc stage_file_find(struct stage *s, const char *path, size_t path_len, struct tree_entry *out,
	struct err *err);
/* Staged files with the prefix, after `after` (by memcmp order; none if after_len is 0), up to
 * limit: fn is called with the stage locked and must not call back; the entry is borrowed for the
 * call. Returns whether there are more. */
bool stage_file_list(struct stage *s, const char *prefix, size_t prefix_len, const char *after,
	size_t after_len, size_t limit, void (*fn)(void *arg, const struct tree_entry *e),
	void *arg);
/* Stages of a repository in memory or database, by name after `after`. Blocks. */
enum rc stage_list(struct stages *ss, struct repo *repo, const char *after, size_t limit,
	void (*fn)(void *arg, const struct stage_info *info), void *arg, struct err *err);
/* Every stage that has or had work in this process lately: fn gets a borrowed stage. */
void stages_active(struct stages *ss, void (*fn)(void *arg, struct stage *s), void *arg);

/* ---- putting ---- */

/* Something under way that progress shows and that keeps a commit from slipping between: an upload
 * of one file, an archive, a form, an import. The caller's memory, zeroed; label stays until the
 * end. */
struct stage_live {
	const char *label;    /* path, or what it is */
	bool is_path;         /* a path: "import" may be one too */
	uint64_t total_bytes; /* of the body; UINT64_MAX unknown */
	bool phased;          /* it knows itself how far it is: stage_live_plan, stage_live_reach */
	_Atomic uint64_t received_bytes;
	/* the stage's own */
	_Atomic uint32_t reached;
	bool planned;
	struct stage_sizes plan;
	uint64_t files_before; /* that had been received when it began */
	struct stage_live *next, *prev;
};

/* Enter; fails like stage_check_open. */
enum rc stage_live_begin(struct stage *s, struct stage_live *live, struct err *err);
/* Body bytes have come. Any thread, does not lock. */
void stage_live_received(struct stage *s, struct stage_live *live, uint64_t bytes);
/* Of one that is phased: what it found that it will put, once; total_bytes follows from it. */
void stage_live_plan(struct stage *s, struct stage_live *live, const struct stage_sizes *sizes);
void stage_live_end(struct stage *s, struct stage_live *live);

/* One file on its way into a stage. Allocated by the caller, zeroed. done is called once, on the
 * committer thread, when the record is durable (or not); the put is the caller's again then, and
 * holds no reference to the stage any more. */
struct stage_put {
	struct ingest_file file; /* first */
	struct stage *stage;
	char path[1025];
	size_t path_len;
	uint32_t mode;
	int64_t mtime_ns;
	uint64_t total_bytes;   /* of the whole file; UINT64_MAX unknown */
	uint64_t resumed_bytes; /* that were there before */
	bool resumable;         /* keep what came if it is cut off */
	bool unchanged; /* set before done: the path held the same content, mode and mtime */
	bool shared;    /* set by stage_put_begin: another put of the path was under way; resumable
			 * is off then, and what a cut upload left is not touched */
	void (*done)(struct stage_put *put, enum rc rc, const struct err *err);
	void *owner;
	/* the stage's own */
	struct stage_live live;
};

/* Enter the put (path, path_len, mode, mtime_ns, total_bytes, resumable, done, owner and
 * file.want_sha are set; body_bytes of it will come now, UINT64_MAX unknown). Takes a reference to
 * the stage. Fails like stage_check_open; then done is not called. The caller goes on with
 * ingest_begin(w, &put->file, …) (or stage_put_resume and ingest_continue). */
enum rc stage_put_begin(
	struct stage *s, struct stage_put *put, uint64_t body_bytes, struct err *err);
/* The put will not be handed to ingest after all: done is not called. */
void stage_put_cancel(struct stage_put *put);

/* What a cut upload left: fills put->file (recipe_id, recipe_bytes, id, sha, first, …),
 * put->resumed_bytes, put->file.tail. RC_NOT_FOUND kind "path-not-found": nothing. Blocks. Only
 * with put entered by stage_put_begin, before ingest_continue. */
enum rc stage_put_resume(struct stage_put *put, struct err *err);
/* The same for a HEAD: durable offset and total (UINT64_MAX unknown). RC_NOT_FOUND. Blocks. */
enum rc stage_upload_offset(struct stage *s, const char *path, size_t path_len, uint64_t *offset,
	uint64_t *total, struct err *err);
/* An upload of this path is under way. */
bool stage_path_busy(struct stage *s, const char *path, size_t path_len);

/* Many records at once (archives, forms, removals), one durable step. */
struct stage_change {
	const char *path;
	size_t path_len;
	bool remove;
	struct content content;
	uint32_t mode;
	int64_t mtime_ns;
};
/* Write the changes (borrowed for the call) and wait until they are durable. The caller has
 * a stage_live there. Blocks; never call on the committer or an HTTP thread. */
enum rc stage_apply(
	struct stage *s, const struct stage_change *changes, size_t count, struct err *err);
/* The same for changes whose contents cost that much to take in: what progress and receipts say of
 * it survives a restart. */
enum rc stage_apply_costly(struct stage *s, const struct stage_change *changes, size_t count,
	const struct ingest_receipt *cost, struct err *err);

/* Delete the stage and what it lists. RC_CONFLICT stage-committing, stage-busy (uploads under way);
 * after any failure it is as before. Blocks. */
enum rc stage_abandon(struct stages *ss, struct stage *s, struct err *err);

/* ---- committing (core/history/commit.c) ---- */

/* Close it for a commit. RC_CONFLICT: stage-busy (uploads under way), stage-empty (allow_empty
 * false), stage-committed, stage-committing; RC_NOT_FOUND stage-expired. */
enum rc stage_begin_commit(struct stage *s, bool allow_empty, struct err *err);
/* All staged entries as edits sorted by path, with their paths in one piece of memory, owned by the
 * caller (free()). Only between stage_begin_commit and stage_end_commit. RC_NOMEM. */
enum rc stage_edits(struct stage *s, struct tree_edit **out, size_t *count, struct err *err);
void stage_end_commit(struct stage *s, const struct sha256 *commit_id /* NULL: open again */);
/* Whether the commit happened is not known: forget what is in memory, the next use reads the row.
 */
void stage_doubt(struct stage *s);
uint64_t stage_id(const struct stage *s);

/* ---- progress ---- */

enum stage_phase {
	PHASE_ANALYZING,
	PHASE_PROCESSING,
	PHASE_FINALIZING,
};

#define PROGRESS_PERMILLE_UNKNOWN 1001u
/* How far a phased live thing is as a whole, 0 to 1000 or PROGRESS_PERMILLE_UNKNOWN; it never goes
 * back, so those who tell it may overtake each other. While nothing else is under way in the stage,
 * this is the progress of the stage. Any thread, does not lock. */
void stage_live_reach(struct stage_live *live, enum stage_phase phase, uint32_t permille);

#define PROGRESS_UPLOADS_MAX 32

struct progress_upload {
	char path[1025];
	uint64_t received;
	uint64_t total; /* UINT64_MAX unknown */
};

struct progress {
	struct stage_info stage;
	enum stage_phase phase;
	double percent; /* < 0: cannot be told */
	uint64_t files_received;
	uint64_t files_total; /* UINT64_MAX unknown */
	uint64_t received;    /* body bytes */
	uint64_t chunked, hashed, deduplicated, new_bytes, compressed, durable;
	uint64_t total;         /* UINT64_MAX unknown */
	double rate_bps;        /* bytes per second received, over the last seconds */
	double eta_s;           /* < 0 unknown */
	const char *bottleneck; /* "client", "cpu", "disk", "database", "none" */
	uint64_t seq;
	int64_t updated_us;
	size_t upload_count; /* all that are under way; at most PROGRESS_UPLOADS_MAX are in uploads
			      */
	struct progress_upload *uploads; /* progress_done frees */
};
enum rc stage_progress(struct stage *s, struct progress *out, struct err *err);
void progress_done(struct progress *p);
/* Sequence of the last change that progress shows. */
uint64_t stage_progress_seq(struct stage *s);

/* Be told when progress changes: fn(arg) on the ticker thread, no lock held, must not block. One
 * call a change, until stage_unwatch. stage NULL: any stage. */
struct stage_watch {
	struct stage *stage;
	void (*fn)(struct stage_watch *w);
	struct stage_watch *next, *prev;
};
void stage_watch(struct stages *ss, struct stage_watch *w);
/* After it returns fn is not running and will not be called. Not from within fn. */
void stage_unwatch(struct stages *ss, struct stage_watch *w);

#endif
