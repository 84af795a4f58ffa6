/* SPDX-License-Identifier: Apache-2.0 */
#include "archive_upload.h"

#include <stdlib.h>

#include "parse.h"
#include "problem.h"
#include "services.h"
#include "show_stage.h"

#define STATE_FAILED 0x1u /* by the thread: err is set */
#define STATE_ENDED  0x2u /* by the HTTP thread: request_complete is owed */

static void run_job(struct unpack_job *job);
static void refuse_job(struct unpack_job *job, const struct err *err);

/* ---- judging ---- */

static bool
judge(struct archive_upload *u)
{
	static const char *const special[] = {"refuse", "skip", NULL};
	struct request *rq = u->rq;
	struct err err = ERR_INIT;
	unsigned choice = 0;

	enum rc rc = upload_headers_archive(request_header(rq, "Content-Type"),
		request_header(rq, "Content-Encoding"), &u->form, &err);
	if (rc == RC_OK)
		rc = upload_headers_digest(request_header(rq, "Repr-Digest"),
			request_header(rq, "X-Checksum-Sha256"), &u->has_digest, &u->digest, &err);
	if (rc != RC_OK) {
		reply_problem(rq, &err);
		return false;
	}
	if (!put_prefix_take(rq, u->prefix) || !parse_choice(rq, "special", special, &choice))
		return false;
	u->skip_special = choice == 1;
	return true;
}

struct archive_upload *
archive_upload_new(struct request *rq, const struct archive_upload_ops *ops)
{
	struct err err = ERR_INIT;
	struct archive_upload *u;

	if (!parse_names(rq))
		return NULL;
	u = calloc(1, sizeof *u);
	if (u == NULL) {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
		return NULL;
	}
	u->ops = ops;
	u->rq = rq;
	u->srv = rq->srv;
	u->job.run = run_job;
	u->job.refuse = refuse_job;
	atomic_store(&u->refs, 1);
	if (!judge(u)) {
		free(u);
		return NULL;
	}
	return u;
}

static void
unref(struct archive_upload *u)
{
	if (atomic_fetch_sub(&u->refs, 1) != 1)
		return;
	body_pipe_free(u->pipe);
	stage_unref(u->stage);
	free(u);
}

static void
on_room(void *arg)
{
	request_wake(arg);
}

bool
archive_upload_enter(struct archive_upload *u, struct stage *s)
{
	struct err err = ERR_INIT;

	u->stage = s;
	reply_header(u->rq, "Digstore-Stage", "%s", stage_name(s));
	u->live.label = "archive";
	u->live.total_bytes = u->rq->length_known ? u->rq->body_bytes : UINT64_MAX;
	enum rc rc = stage_check_room(s, &err);
	if (rc == RC_OK)
		rc = body_pipe_open(on_room, u->rq, &u->pipe, &err);
	if (rc == RC_OK)
		rc = stage_live_begin(s, &u->live, &err);
	if (rc != RC_OK) {
		archive_upload_refuse(u, &err);
		return false;
	}
	u->entered = true;
	atomic_fetch_add(&u->refs, 1); /* the thread's, or of the line */
	unpack_threads_push(&u->job);
	if (!(atomic_load(&u->state) & STATE_FAILED))
		return true;
	archive_upload_refuse(u, &u->err); /* no thread, no memory: before the body is asked for */
	return false;
}

/* ---- the thread ---- */

static ssize_t
read_body(void *arg, const uint8_t **data, struct err *err)
{
	struct archive_upload *u = arg;

	ssize_t n = body_pipe_read(u->pipe, data, err);
	if (n > 0 && u->has_digest)
		sha256_stream_update(&u->sha, *data, (size_t)n);
	return n;
}

/* The archive is as it should be: is its body whole, and the one that was meant? */
static enum rc
accept_body(void *arg, struct err *err)
{
	struct archive_upload *u = arg;
	char is[SHA256_HEX_BYTES], wanted[SHA256_HEX_BYTES];
	const uint8_t *data;
	struct sha256 sha;
	ssize_t n;

	while ((n = read_body(u, &data, err)) > 0)
		;
	if (n < 0)
		return err->rc;
	sha256_stream_final(&u->sha, &sha);
	if (!u->has_digest || sha256_equal(&sha, &u->digest))
		return RC_OK;
	sha256_hex(&sha, is);
	sha256_hex(&u->digest, wanted);
	return err_set(err, RC_INVALID, "digest-mismatch",
		"the body has the SHA-256 %s, the request says %s", is, wanted);
}

/* Nothing was staged. Whoever comes second, this or the end of the body, answers. */
static void
fail(struct archive_upload *u, const struct err *err)
{
	u->err = *err;
	unsigned before = atomic_fetch_or(&u->state, STATE_FAILED);
	if (before & STATE_ENDED) {
		archive_upload_refuse(u, err);
		request_complete(u->rq);
	} else {
		body_pipe_stop(u->pipe);
	}
	if (u->ops->forsaken != NULL)
		u->ops->forsaken(u);
}

static enum rc
unpack(struct archive_upload *u, struct archive_in_result *result, struct err *err)
{
	const struct server_limits *limits = &u->srv->limits;
	const struct archive_in_options options = {
		.stage = u->stage,
		.ingest = u->srv->ingest,
		.prefix = u->prefix,
		.entries_max = limits->archive_entries_max,
		.expanded_bytes_max = limits->archive_expanded_bytes_max,
		.ratio_max = limits->archive_ratio_max,
		.allow_gzip = u->form.gzip,
		.allow_zstd = u->form.zstd,
		.allow_tar = u->form.tar,
		.allow_zip = u->form.zip,
		.deny_plain = u->form.deny_plain,
		.last_wins = true,
		.skip_special = u->skip_special,
		.refused = u->refused,
		.read = read_body,
		.arg = u,
		.accept = accept_body,
	};

	sha256_stream_init(&u->sha);
	enum rc rc = body_pipe_attach(u->pipe, err);
	return rc == RC_OK ? archive_in_run(&options, result, err) : rc;
}

static void
run_job(struct unpack_job *job)
{
	struct archive_upload *u = (struct archive_upload *)job;
	struct archive_in_result result;
	struct err err = ERR_INIT;

	enum rc rc = unpack(u, &result, &err);
	stage_live_end(u->stage, &u->live);
	if (rc == RC_OK) {
		/* the end of the body was seen, so the answer is ours */
		u->ops->finish(u, &result);
		request_complete(u->rq);
	} else {
		fail(u, &err);
	}
	unref(u);
}

static void
refuse_job(struct unpack_job *job, const struct err *err)
{
	struct archive_upload *u = (struct archive_upload *)job;

	stage_live_end(u->stage, &u->live);
	fail(u, err);
	unref(u);
}

/* ---- the HTTP thread ---- */

size_t
archive_upload_piece(struct archive_upload *u, const uint8_t *data, size_t len)
{
	if (atomic_load(&u->state) & STATE_FAILED) {
		archive_upload_refuse(u, &u->err);
		return 0;
	}
	size_t taken = body_pipe_write(u->pipe, data, len);
	stage_live_received(u->stage, &u->live, taken);
	return taken;
}

void
archive_upload_end(struct archive_upload *u)
{
	unsigned before = atomic_fetch_or(&u->state, STATE_ENDED);

	if (before & STATE_FAILED) {
		archive_upload_refuse(u, &u->err);
		request_complete(u->rq);
	} else {
		body_pipe_end(u->pipe);
	}
}

void
archive_upload_close(struct archive_upload *u)
{
	struct err err = ERR_INIT;

	if (u == NULL)
		return;
	if (u->entered) {
		err_set(&err, RC_INVALID, "body-mismatch", "the archive was cut off");
		body_pipe_cut(u->pipe, &err);
		body_pipe_deafen(u->pipe);
		if (unpack_threads_take_back(&u->job))
			refuse_job(&u->job, &err);
	}
	unref(u);
}

/* ---- answers ---- */

void
archive_upload_refuse(struct archive_upload *u, const struct err *err)
{
	if (err_is(err, "archive-entry-refused"))
		reply_problem_with(
			u->rq, err, json_pack("{s:o}", "entry", problem_text(u->refused)));
	else
		reply_stage_problem(u->rq, u->stage, err);
}
