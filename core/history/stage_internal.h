/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_STAGE_INTERNAL_H
#define DG_STAGE_INTERNAL_H

/* What the stage*.c files share with each other and nobody else. */

#include <pthread.h>
#include <stdatomic.h>

#include "db.h"
#include "db_stage.h"
#include "stage.h"
#include "stage_log.h"
#include "stage_map.h"

#define STAGE_BUCKETS      4096
#define STAGE_COUNTERS_MAX 512

enum stage_uploads {
	STAGE_UPLOADS_SOME = 1,
	STAGE_UPLOADS_UNKNOWN, /* a run before this one may have left some */
};

struct stage {
	/* immutable */
	struct stages *ss;
	struct repo *repo;
	uint64_t id;
	char name[STAGE_NAME_BYTES_MAX + 1];
	int64_t created_us, expires_us;

	atomic_int refs;             /* the registry's is one of them */
	atomic_int may_have_uploads; /* half ones, in the database: 0, or enum stage_uploads */
	struct meter meter;
	_Atomic uint64_t body_received; /* of all bodies, ended ones too */

	pthread_mutex_t mtx;
	/* guarded by mtx */
	enum stage_state state;
	struct stage_map *map;
	struct stage_live lives; /* ring */
	uint64_t live_count;
	uint64_t ended_bytes; /* body bytes of uploads that ended */
	uint64_t small_files, large_files, large_bytes, small_bytes;
	struct stage_sizes planned; /* by what is under way */
	struct sha256 commit_id;
	uint64_t used_ns;

	/* committer thread */
	uint64_t seq;               /* last batch known to be in the log */
	uint64_t seq_tried;         /* last batch a transaction was given */
	struct stage_cost replayed; /* what the log said, while it is read */

	/* ticker thread writes, guarded by mtx */
	double rate_bps;
	uint64_t tick_received, tick_ns, tick_mark;
	uint64_t progress_seq, told_seq;
	uint64_t saved_mark; /* fingerprint when the counters were saved last */
	int64_t updated_us;

	/* the registry's, guarded by its lock */
	struct stage *next;
	bool listed;
};

struct stages {
	struct stages_options options;
	pthread_mutex_t mtx;
	struct stage *buckets[STAGE_BUCKETS];
	/* watches */
	pthread_mutex_t watch_mtx;
	pthread_cond_t watch_idle;
	struct stage_watch watches; /* ring */
	struct stage_watch *calling;
	/* ticker */
	uint64_t due_ns;
	struct ingest_stats last;
	uint64_t last_ns;
	_Atomic(const char *) bottleneck;
};

/* stage_progress.c: counters survive a restart in the stage's row. */
void stage_counters_save(struct stage *s, struct buf *out);
/* The log knows better than the row what was put. */
void stage_counters_replayed(struct stage *s);
void stage_counters_load(struct stage *s, const uint8_t *data, size_t len);
/* One step of rates and sequence for a stage; true if something changed. */
bool stage_progress_tick(struct stage *s, uint64_t now_ns);
void stages_bottleneck_tick(struct stages *ss);
void stage_watchers_tell(struct stages *ss, struct stage *s);

#endif
