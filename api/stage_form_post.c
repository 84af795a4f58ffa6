/* SPDX-License-Identifier: Apache-2.0 */
/* Parts are cut and stored while they come, on the HTTP thread; what they are called is written
 * down when all of them are there, in one step on a worker, so that a broken form stages nothing.
 *
 * The form is held by the request and by each file that is in the engine: who lets go last, on
 * whatever thread, ends it. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "multipart.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "put_prefix.h"
#include "services.h"
#include "show_stage.h"
#include "upload.h"
#include "upload_headers.h"

#define PARTS_MAX 10000

static const char *const query[] = {"prefix", NULL};

/* One part, until the form ends: small, because a form has many. */
struct form_part {
	struct form_part *next;
	struct content content; /* once its file is done */
	size_t path_len;
	char path[]; /* NUL-terminated */
};

/* While it is in the engine. */
struct form_file {
	struct ingest_file file; /* first */
	struct form *form;
	struct form_part *part;
};

struct form {
	struct request *rq;
	struct stage *stage; /* a reference */
	struct stage_live live;
	bool entered;
	uint32_t mode;
	int64_t mtime_ns;
	char prefix[PUT_PREFIX_BYTES];
	struct multipart *parser;
	struct ingest_writer *writer;
	bool is_open; /* a file is in the writer */
	/* one thread at a time: the HTTP thread, then the worker; freed with the form */
	struct form_part *parts; /* newest first */
	size_t part_count;
	/* guarded by mtx */
	pthread_mutex_t mtx;
	pthread_cond_t settled;
	size_t pending; /* files in the engine */
	struct err err; /* the first failure of one */
	struct ingest_receipt cost;

	atomic_size_t refs;
};

/* ---- life ---- */

/* Before the answer: what the client does next must not find the stage busy. */
static void
leave(struct form *f)
{
	if (f->entered)
		stage_live_end(f->stage, &f->live);
	f->entered = false;
}

static void
unref(struct form *f)
{
	if (atomic_fetch_sub(&f->refs, 1) != 1)
		return;
	leave(f);
	while (f->parts != NULL) {
		struct form_part *part = f->parts;
		f->parts = part->next;
		free(part);
	}
	stage_unref(f->stage);
	pthread_cond_destroy(&f->settled);
	pthread_mutex_destroy(&f->mtx);
	free(f);
}

/* Committer thread. */
static void
file_done(struct ingest_rider *rider, enum rc rc, const struct err *err)
{
	struct form_file *file = (struct form_file *)rider;
	struct form *f = file->form;

	pthread_mutex_lock(&f->mtx);
	if (rc != RC_OK && f->err.rc == RC_OK)
		f->err = *err;
	file->part->content = file->file.content;
	ingest_receipt_add(&f->cost, &file->file.receipt);
	if (--f->pending == 0)
		pthread_cond_signal(&f->settled);
	pthread_mutex_unlock(&f->mtx);
	free(file);
	unref(f);
}

/* Files of a form ride along without a record of their own. */
static const struct ingest_rider_ops file_ops = {.done = file_done};

static void
refuse(struct form *f, const struct err *err)
{
	leave(f);
	reply_stage_problem(f->rq, f->stage, err);
}

/* ---- parts ---- */

/* The path of a part into out (PATH_BYTES_MAX + 1). */
static enum rc
part_path(const struct form *f, const struct multipart_part *part, char *out, size_t *len,
	struct err *err)
{
	size_t prefix = strlen(f->prefix);

	if (part->filename == NULL)
		return err_set(err, RC_INVALID, "form-invalid",
			"every part of the form must have a file name, which is its path");
	/* the name by itself, so that no prefix makes a bad one good */
	enum rc rc = path_check(part->filename, part->filename_len, err);
	if (rc != RC_OK)
		return rc;
	if (prefix + part->filename_len > PATH_BYTES_MAX)
		return err_set(err, RC_INVALID, "invalid-path",
			"with the prefix the path of a part has more than %d bytes",
			PATH_BYTES_MAX);
	memcpy(out, f->prefix, prefix);
	memcpy(out + prefix, part->filename, part->filename_len);
	*len = prefix + part->filename_len;
	out[*len] = '\0';
	return RC_OK;
}

static enum rc
begin_part(void *arg, const struct multipart_part *part, struct err *err)
{
	struct form *f = arg;
	char path[PATH_BYTES_MAX + 1];
	size_t len = 0;

	if (f->part_count == PARTS_MAX)
		return err_set(err, RC_INVALID, "form-invalid",
			"the form has more than %d parts; send an archive", PARTS_MAX);
	enum rc rc = part_path(f, part, path, &len, err);
	if (rc != RC_OK)
		return rc;
	struct form_part *new_part = calloc(1, sizeof *new_part + len + 1);
	struct form_file *file = calloc(1, sizeof *file);
	if (new_part == NULL || file == NULL) {
		free(new_part);
		free(file);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	memcpy(new_part->path, path, len + 1);
	new_part->path_len = len;
	new_part->next = f->parts;
	f->parts = new_part;
	f->part_count++;
	file->form = f;
	file->part = new_part;
	file->file.rider.ops = &file_ops;
	file->file.meter = stage_meter(f->stage);
	atomic_fetch_add(&f->refs, 1); /* until file_done */
	pthread_mutex_lock(&f->mtx);
	f->pending++;
	pthread_mutex_unlock(&f->mtx);
	ingest_begin(f->writer, &file->file, UINT64_MAX);
	f->is_open = true;
	return RC_OK;
}

static size_t
part_data(void *arg, const uint8_t *data, size_t len)
{
	struct form *f = arg;

	return ingest_write(f->writer, data, len);
}

static enum rc
end_part(void *arg, struct err *err)
{
	struct form *f = arg;
	bool failed = ingest_failed(f->writer, err);

	f->is_open = false;
	ingest_finish(f->writer);
	return failed ? err->rc : RC_OK;
}

static const struct multipart_ops part_ops = {begin_part, part_data, end_part};

/* ---- admission ---- */

static bool
judge(struct request *rq, char *boundary, struct err *err)
{
	const char *type = request_header(rq, "Content-Type");
	enum upload_coding coding;

	if (type == NULL || !upload_headers_is_type(type, "multipart/form-data")) {
		err_set(err, RC_INVALID, "unsupported-media-type",
			"a form is multipart/form-data; with curl, use -F");
		return false;
	}
	if (upload_headers_coding(request_header(rq, "Content-Encoding"), &coding, err) != RC_OK)
		return false;
	if (coding != UPLOAD_IDENTITY) {
		err_set(err, RC_INVALID, "unsupported-encoding",
			"a form must come without Content-Encoding");
		return false;
	}
	return upload_headers_boundary(type, boundary, MULTIPART_BOUNDARY_BYTES_MAX, err) == RC_OK;
}

static struct form *
form_new(struct request *rq, const char *boundary, struct err *err)
{
	struct form *f = calloc(1, sizeof *f);

	if (f == NULL) {
		err_set(err, RC_NOMEM, "no-memory", "out of memory");
		return NULL;
	}
	pthread_mutex_init(&f->mtx, NULL);
	pthread_cond_init(&f->settled, NULL);
	atomic_store(&f->refs, 1);
	f->rq = rq;
	if (multipart_open(boundary, &part_ops, f, &f->parser, err) == RC_OK)
		return f;
	unref(f);
	return NULL;
}

static void
on_room(void *arg)
{
	request_wake(arg);
}

static enum rc
enter(struct form *f, struct err *err)
{
	struct request *rq = f->rq;
	bool created;

	enum rc rc = upload_open_stage(
		rq, request_param(rq, "stage")->value, 0, &f->stage, &created, err);
	if (f->stage != NULL)
		reply_header(rq, "Digstore-Stage", "%s", stage_name(f->stage));
	if (rc != RC_OK)
		return rc;
	f->live.label = "form";
	f->live.total_bytes = rq->length_known ? rq->body_bytes : UINT64_MAX;
	rc = stage_check_room(f->stage, err);
	if (rc == RC_OK)
		rc = stage_live_begin(f->stage, &f->live, err);
	if (rc != RC_OK)
		return rc;
	f->entered = true;
	return ingest_writer_open(
		rq->srv->ingest, &stage_repo(f->stage)->space, on_room, rq, &f->writer, err);
}

static void
admit(struct request *rq)
{
	char boundary[MULTIPART_BOUNDARY_BYTES_MAX + 1];
	struct err err = ERR_INIT;

	if (!parse_names(rq))
		return;
	struct form *f = judge(rq, boundary, &err) ? form_new(rq, boundary, &err) : NULL;
	rq->ctx = f;
	if (f == NULL)
		reply_problem(rq, &err);
	/* mode and mtime as of a file about which nothing is said: the query has neither */
	else if (put_prefix_take(rq, f->prefix) && parse_mode(rq, &f->mode) &&
		 parse_mtime(rq, &f->mtime_ns) && enter(f, &err) != RC_OK)
		refuse(f, &err);
}

/* ---- the body ---- */

static size_t
body_piece(struct request *rq, const uint8_t *data, size_t len)
{
	struct form *f = rq->ctx;
	struct err err = ERR_INIT;
	size_t taken;

	enum rc rc = multipart_push(f->parser, data, len, &taken, &err);
	stage_live_received(f->stage, &f->live, taken);
	if (rc == RC_OK && f->is_open && ingest_failed(f->writer, &err))
		rc = err.rc;
	if (rc != RC_OK)
		refuse(f, &err);
	return taken;
}

/* ---- the end, on a worker ---- */

static enum rc
wait_for_files(struct form *f, struct err *err)
{
	ingest_flush(f->writer);
	pthread_mutex_lock(&f->mtx);
	while (f->pending > 0)
		pthread_cond_wait(&f->settled, &f->mtx);
	if (f->err.rc != RC_OK)
		*err = f->err;
	pthread_mutex_unlock(&f->mtx);
	return err->rc;
}

static enum rc
stage_parts(struct form *f, struct err *err)
{
	size_t i = f->part_count;
	struct stage_change *changes = calloc(i + 1, sizeof *changes);

	if (changes == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	/* of two with one name the last shall win */
	for (struct form_part *part = f->parts; part != NULL; part = part->next)
		changes[--i] = (struct stage_change){
			.path = part->path,
			.path_len = part->path_len,
			.content = part->content,
			.mode = f->mode,
			.mtime_ns = f->mtime_ns,
		};
	enum rc rc = f->part_count > 0
			     ? stage_apply_costly(f->stage, changes, f->part_count, &f->cost, err)
			     : RC_OK;
	free(changes);
	return rc;
}

static void
answer(struct form *f)
{
	struct batch_result batch = {
		.files = f->part_count,
		.total_ns = clock_mono_ns() - f->rq->started_ns,
		.receipt = f->cost,
	};

	for (const struct form_part *part = f->parts; part != NULL; part = part->next)
		batch.bytes += part->content.size;
	leave(f);
	reply_json(f->rq, 201, show_batch(f->stage, &batch));
}

static void
run(struct request *rq)
{
	struct form *f = rq->ctx;
	struct err err = ERR_INIT;

	enum rc rc = multipart_finish(f->parser, &err);
	if (rc == RC_OK)
		rc = wait_for_files(f, &err);
	if (rc == RC_OK)
		rc = stage_parts(f, &err);
	if (rc == RC_OK)
		answer(f);
	else
		refuse(f, &err);
	request_complete(rq);
}

static void
close_form(struct request *rq, bool completed)
{
	struct form *f = rq->ctx;

	(void)completed;
	if (f == NULL)
		return;
	/* an open file is dropped; file_done comes when the engine has let go of it */
	ingest_writer_close(f->writer);
	multipart_free(f->parser);
	unref(f);
}

const struct op op_stage_form_post = {
	.id = "stage_form_post",
	.method = METHOD_POST,
	.path = "/v1/repos/{repo}/stages/{stage}/form",
	.body = BODY_STREAM,
	.query = query,
	.admit = admit,
	.body_piece = body_piece,
	.run = run,
	.close = close_form,
};
