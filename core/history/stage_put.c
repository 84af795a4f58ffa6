/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that changes what a stage holds rides in the ingest committer's transactions: one
 * batch of records a stage and group, however many files were put. The map is changed when the
 * transaction has been committed, by the committer, so map and log always agree.
 *
 * A batch number that a transaction was given is never used again, even if the transaction failed:
 * after a COMMIT whose answer was lost it may be in the log all the same. */
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "clock.h"
#include "path.h"
#include "stage_internal.h"
#include "stage_log.h"

#define BATCH_BYTES_MAX ((size_t)8 << 20)
#define BATCH_BYTES     ((size_t)4 << 20) /* then the next record begins another batch */
#define ID_STATE_BYTES  (SHA256_STREAM_BYTES + 32)

/* Many records at once, waited for. */
struct change_rider {
	struct ingest_rider rider;
	struct stage *stage;
	const struct stage_change *changes;
	size_t count;
	const struct ingest_receipt *cost; /* NULL: none */
	pthread_mutex_t mtx;
	pthread_cond_t cond;
	bool finished;
	enum rc rc;
	struct err err;
};

static enum rc persist(
	struct db_tx *tx, struct ingest_rider **riders, size_t count, struct err *err);
static void put_done(struct ingest_rider *rider, enum rc rc, const struct err *err);
static void change_done(struct ingest_rider *rider, enum rc rc, const struct err *err);

static const struct ingest_rider_ops put_ops = {.persist = persist, .done = put_done};
static const struct ingest_rider_ops change_ops = {.persist = persist, .done = change_done};

static struct stage *
stage_of(struct ingest_rider *r)
{
	return r->ops == &put_ops ? ((struct stage_put *)r)->stage
				  : ((struct change_rider *)r)->stage;
}

/* ---- the transaction ---- */

static void
save_id_state(const struct ingest_file *f, uint8_t *out)
{
	sha256_stream_save(&f->id, out);
	memcpy(out + SHA256_STREAM_BYTES, f->first.b, sizeof f->first.b);
}

/* No row was written for the stage: its own is not there any more, or not open, because the
 * repository was swept, or another process committed. */
static void
told(void *arg, uint64_t rows)
{
	struct stage *s = arg;

	if (rows > 0)
		return;
	pthread_mutex_lock(&s->mtx);
	s->state = STAGE_GONE;
	pthread_mutex_unlock(&s->mtx);
}

static enum rc
write_upload(struct db_tx *tx, struct stage_put *put, bool suspended, struct err *err)
{
	struct ingest_file *f = &put->file;
	uint8_t id_state[ID_STATE_BYTES];
	uint8_t sha_state[SHA256_STREAM_BYTES];
	struct upload_row row = {
		.stage_id = put->stage->id,
		.path = put->path,
		.path_len = put->path_len,
		.recipe_id = f->recipe_id,
		.chunk_bytes = f->recipe_bytes,
		.chunks = f->recipe_chunks,
		.tail = suspended ? f->tail : NULL,
		.tail_len = suspended ? f->tail_bytes : 0,
		.has_total = put->total_bytes != UINT64_MAX,
		.total = put->total_bytes,
		.id_state = id_state,
		.id_state_len = sizeof id_state,
	};

	save_id_state(f, id_state);
	/* in the middle of an upload the running SHA-256 is ahead of what is durable */
	if (suspended && f->want_sha) {
		sha256_stream_save(&f->sha, sha_state);
		row.sha_state = sha_state;
		row.sha_state_len = sizeof sha_state;
	}
	put->stage->may_have_uploads = true;
	return db_upload_put(tx, &row, told, put->stage, err);
}

static enum rc
checkpoint(struct db_tx *tx, struct ingest_file *f, struct err *err)
{
	struct stage_put *put = (struct stage_put *)f;

	if (!put->resumable)
		return RC_OK;
	return write_upload(tx, put, false, err);
}

static void
log_put(struct buf *b, const struct stage_put *put)
{
	const struct content *c = &put->file.content;
	struct stage_entry e = {
		.path = put->path,
		.path_len = (uint16_t)put->path_len,
		.kind = c->kind,
		.mode = put->mode,
		.mtime_ns = put->mtime_ns,
		.size = c->size,
		.id = c->id,
	};

	stage_log_put(b, &e);
}

static void
change_entry(const struct stage_change *c, struct stage_entry *e)
{
	*e = (struct stage_entry){
		.path = c->path,
		.path_len = (uint16_t)c->path_len,
		.kind = c->content.kind,
		.mode = c->mode,
		.mtime_ns = c->mtime_ns,
		.size = c->content.size,
		.id = c->content.id,
	};
}

/* A stage's batch as it grows; large ones are cut, so that none is too large to be read again. */
struct log_batch {
	struct db_tx *tx;
	struct stage *s;
	struct buf b;
	size_t empty;           /* length without a record */
	struct stage_cost cost; /* of the records since the last flush */
};

static void
add_cost(struct log_batch *l, uint64_t files, const struct ingest_receipt *r)
{
	const uint64_t n[STAGE_COSTS] = {files, r->logical_bytes, r->dedup_bytes, r->new_bytes,
		r->stored_bytes, r->chunks, r->new_chunks};

	for (int i = 0; i < STAGE_COSTS; i++)
		l->cost.n[i] += n[i];
}

static bool
is_gone(struct stage *s)
{
	pthread_mutex_lock(&s->mtx);
	bool gone = s->state == STAGE_GONE;
	pthread_mutex_unlock(&s->mtx);
	return gone;
}

static enum rc
log_flush(struct log_batch *l, struct err *err)
{
	if (!buf_ok(&l->b))
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	if (l->b.len == l->empty)
		return RC_OK;
	stage_log_cost(&l->b, &l->cost);
	if (!buf_ok(&l->b))
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	memset(&l->cost, 0, sizeof l->cost);
	struct stage_batch_row row = {
		.stage_id = l->s->id,
		.seq = ++l->s->seq_tried,
		.records = l->b.data,
		.records_bytes = l->b.len,
		.checksum = checksum64(l->b.data, l->b.len),
	};
	enum rc rc = db_stage_batch_put(l->tx, &row, told, l->s, err);
	l->b.len = l->empty;
	return rc;
}

static enum rc
log_room(struct log_batch *l, struct err *err)
{
	return l->b.len < BATCH_BYTES ? RC_OK : log_flush(l, err);
}

/* A removal also forgets the part of an upload that was cut. */
static enum rc
write_changes(struct log_batch *l, const struct change_rider *r, struct err *err)
{
	static const struct ingest_receipt nothing = {0};
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < r->count; i++) {
		const struct stage_change *c = &r->changes[i];
		struct stage_entry e;
		rc = log_room(l, err);
		if (rc == RC_OK && c->remove) {
			stage_log_remove(&l->b, c->path, c->path_len);
			if (r->stage->may_have_uploads)
				rc = db_upload_delete(
					l->tx, r->stage->id, c->path, c->path_len, 0, err);
		} else if (rc == RC_OK) {
			change_entry(c, &e);
			stage_log_put(&l->b, &e);
			add_cost(l, 1, &nothing);
		}
	}
	if (rc == RC_OK && r->cost != NULL)
		add_cost(l, 0, r->cost);
	return rc;
}

/* Records of one rider into the stage's batch; half uploads have a row of their own. */
static enum rc
write_rider(struct log_batch *l, struct ingest_rider *rider, struct err *err)
{
	if (rider->ops != &put_ops)
		return write_changes(l, (struct change_rider *)rider, err);
	struct stage_put *put = (struct stage_put *)rider;
	if (put->file.partial)
		return put->resumable ? write_upload(l->tx, put, true, err) : RC_OK;
	enum rc rc = log_room(l, err);
	if (rc != RC_OK)
		return rc;
	log_put(&l->b, put);
	add_cost(l, 1, &put->file.receipt);
	if (!put->stage->may_have_uploads || put->shared)
		return RC_OK;
	return db_upload_delete(l->tx, put->stage->id, put->path, put->path_len,
		put->file.content.kind == CONTENT_RECIPE ? put->file.recipe_id : 0, err);
}

/* All riders of one stage from riders[from] on (they need not be neighbours; done marks them). */
static enum rc
write_stage(struct db_tx *tx, struct ingest_rider **riders, size_t count, size_t from, bool *done,
	struct err *err)
{
	struct log_batch l = {.tx = tx, .s = stage_of(riders[from])};
	enum rc rc = RC_OK;

	buf_init(&l.b, BATCH_BYTES_MAX);
	stage_log_begin(&l.b);
	l.empty = l.b.len;
	for (size_t i = from; rc == RC_OK && i < count; i++) {
		if (done[i] || stage_of(riders[i]) != l.s)
			continue;
		done[i] = true;
		if (!is_gone(l.s))
			rc = write_rider(&l, riders[i], err);
	}
	if (rc == RC_OK)
		rc = log_flush(&l, err);
	buf_done(&l.b);
	return rc;
}

static enum rc
persist(struct db_tx *tx, struct ingest_rider **riders, size_t count, struct err *err)
{
	bool *done = calloc(count, sizeof *done);
	enum rc rc = RC_OK;

	if (done == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	for (size_t i = 0; rc == RC_OK && i < count; i++)
		if (!done[i])
			rc = write_stage(tx, riders, count, i, done, err);
	free(done);
	return rc;
}

/* ---- after the transaction ---- */

/* The log has it and the map cannot: what the stage would show is not what it holds, so it shows
 * nothing until it is read again. */
static void
map_failed(struct stage *s)
{
	s->state = STAGE_FAILED;
}

static void
count_file(struct stage *s, uint64_t size)
{
	if (size <= STAGE_SMALL_BYTES) {
		s->small_files++;
		s->small_bytes += size;
	} else {
		s->large_files++;
		s->large_bytes += size;
	}
}

static enum rc
enter(struct stage *s, const struct stage_entry *e, bool *unchanged, struct err *err)
{
	enum rc rc = stage_map_put(s->map, e, unchanged, err);

	if (rc != RC_OK)
		map_failed(s);
	else
		count_file(s, e->size);
	return rc;
}

/* Under the lock: nothing was written for a stage that had ended. */
static enum rc
check_alive(struct stage *s, struct err *err)
{
	if (s->state == STAGE_OPEN)
		return RC_OK;
	return err_set(err, RC_NOT_FOUND, "stage-not-found",
		"stage \"%s\" was ended while the upload was under way", s->name);
}

static void
put_done(struct ingest_rider *rider, enum rc rc, const struct err *err)
{
	struct stage_put *put = (struct stage_put *)rider;
	struct stage *s = put->stage;
	struct err local = *err;

	pthread_mutex_lock(&s->mtx);
	if (rc == RC_OK)
		rc = check_alive(s, &local);
	if (rc == RC_OK && !put->file.partial) {
		struct stage_entry e = {
			.path = put->path,
			.path_len = (uint16_t)put->path_len,
			.kind = put->file.content.kind,
			.mode = put->mode,
			.mtime_ns = put->mtime_ns,
			.size = put->file.content.size,
			.id = put->file.content.id,
		};
		rc = enter(s, &e, &put->unchanged, &local);
	}
	pthread_mutex_unlock(&s->mtx);
	stage_live_end(s, &put->live);
	put->done(put, rc, &local);
	stage_unref(s);
}

static void
change_done(struct ingest_rider *rider, enum rc rc, const struct err *err)
{
	struct change_rider *r = (struct change_rider *)rider;
	struct stage *s = r->stage;

	if (rc != RC_OK)
		r->err = *err;
	pthread_mutex_lock(&s->mtx);
	if (rc == RC_OK)
		rc = check_alive(s, &r->err);
	for (size_t i = 0; rc == RC_OK && i < r->count; i++) {
		struct stage_entry e;
		if (r->changes[i].remove) {
			stage_map_remove(s->map, r->changes[i].path, r->changes[i].path_len);
			continue;
		}
		change_entry(&r->changes[i], &e);
		rc = enter(s, &e, NULL, &r->err);
	}
	pthread_mutex_unlock(&s->mtx);
	pthread_mutex_lock(&r->mtx);
	r->rc = rc;
	r->finished = true;
	pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->mtx);
}

/* ---- what callers do ---- */

static bool
is_put_of(const struct stage_live *l, const char *path, size_t path_len)
{
	return l->is_path && strlen(l->label) == path_len && memcmp(l->label, path, path_len) == 0;
}

/* The row of a half upload, and the parts of the recipe that it names, belong to the put of the
 * path that came first; those beside it must neither replace nor delete them. */
static bool
is_behind_another(struct stage *s, const struct stage_live *live)
{
	const struct stage_live *l;

	pthread_mutex_lock(&s->mtx);
	for (l = s->lives.next; l != live && !is_put_of(l, live->label, strlen(live->label));
		l = l->next)
		;
	pthread_mutex_unlock(&s->mtx);
	return l != live;
}

enum rc
stage_put_begin(struct stage *s, struct stage_put *put, uint64_t body_bytes, struct err *err)
{
	put->stage = s;
	put->live.label = put->path;
	put->live.is_path = true;
	put->live.total_bytes = body_bytes;
	enum rc rc = stage_live_begin(s, &put->live, err);
	if (rc != RC_OK)
		return rc;
	put->shared = is_behind_another(s, &put->live);
	if (put->shared)
		put->resumable = false;
	stage_ref(s);
	put->file.rider.ops = &put_ops;
	put->file.meter = &s->meter;
	put->file.checkpoint = put->resumable ? checkpoint : NULL;
	return RC_OK;
}

void
stage_put_cancel(struct stage_put *put)
{
	stage_live_end(put->stage, &put->live);
	stage_unref(put->stage);
}

enum rc
stage_apply(struct stage *s, const struct stage_change *changes, size_t count, struct err *err)
{
	return stage_apply_costly(s, changes, count, NULL, err);
}

enum rc
stage_apply_costly(struct stage *s, const struct stage_change *changes, size_t count,
	const struct ingest_receipt *cost, struct err *err)
{
	struct change_rider r = {
		.rider.ops = &change_ops,
		.stage = s,
		.changes = changes,
		.count = count,
		.cost = cost,
	};

	pthread_mutex_init(&r.mtx, NULL);
	pthread_cond_init(&r.cond, NULL);
	ingest_submit(s->ss->options.ingest, &r.rider);
	pthread_mutex_lock(&r.mtx);
	while (!r.finished)
		pthread_cond_wait(&r.cond, &r.mtx);
	pthread_mutex_unlock(&r.mtx);
	pthread_cond_destroy(&r.cond);
	pthread_mutex_destroy(&r.mtx);
	if (r.rc != RC_OK)
		*err = r.err;
	return r.rc;
}

enum rc
stage_put_resume(struct stage_put *put, struct err *err)
{
	struct ingest_file *f = &put->file;
	struct upload_row row;
	struct buf mem;

	buf_init(&mem, (size_t)1 << 20);
	enum rc rc = db_upload_find(put->stage->ss->options.db, put->stage->id, put->path,
		put->path_len, &row, &mem, err);
	if (rc != RC_OK)
		goto out;
	if (row.id_state_len != ID_STATE_BYTES || !sha256_stream_load(&f->id, row.id_state)) {
		rc = err_set(err, RC_CORRUPT, "corrupt-data",
			"what has arrived of this file is damaged");
		goto out;
	}
	memcpy(f->first.b, row.id_state + SHA256_STREAM_BYTES, sizeof f->first.b);
	f->recipe_id = row.recipe_id;
	f->recipe_bytes = row.chunk_bytes;
	f->recipe_chunks = row.chunks;
	f->sha_known = row.sha_state_len == SHA256_STREAM_BYTES &&
		       sha256_stream_load(&f->sha, row.sha_state);
	if (row.tail_len > 0) {
		f->tail = malloc(row.tail_len);
		if (f->tail == NULL) {
			rc = err_set(err, RC_NOMEM, "no-memory", "out of memory");
			goto out;
		}
		memcpy(f->tail, row.tail, row.tail_len);
		f->tail_bytes = row.tail_len;
	}
	put->resumed_bytes = f->floor_bytes = row.chunk_bytes + row.tail_len;
out:
	buf_done(&mem);
	return rc;
}

enum rc
stage_upload_offset(struct stage *s, const char *path, size_t path_len, uint64_t *offset,
	uint64_t *total, struct err *err)
{
	struct upload_row row;
	struct buf mem;

	buf_init(&mem, (size_t)1 << 20);
	enum rc rc = db_upload_find(s->ss->options.db, s->id, path, path_len, &row, &mem, err);
	if (rc == RC_OK) {
		*offset = row.chunk_bytes + row.tail_len;
		*total = row.has_total ? row.total : UINT64_MAX;
	}
	buf_done(&mem);
	return rc;
}

bool
stage_path_busy(struct stage *s, const char *path, size_t path_len)
{
	bool busy = false;

	pthread_mutex_lock(&s->mtx);
	for (struct stage_live *l = s->lives.next; l != &s->lives && !busy; l = l->next)
		busy = is_put_of(l, path, path_len);
	pthread_mutex_unlock(&s->mtx);
	return busy;
}
