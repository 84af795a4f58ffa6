/* SPDX-License-Identifier: Apache-2.0 */
#include "upload.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "buf.h"
#include "clock.h"
#include "parse.h"
#include "problem.h"
#include "reader.h"
#include "services.h"
#include "show_entry.h"
#include "show_stage.h"

#define SETTLE_NS        ((uint64_t)3000 * 1000000) /* a cut upload becomes durable in this */
#define ANSWER_BYTES_MAX ((size_t)16 << 10) /* twice a path, quotes escaped, and a receipt */
#define HASH_BYTES       ((size_t)256 << 10)
#define GONE_TRIES       50
#define GONE_PAUSE_NS    10000000
#define LENGTH_UNKNOWN   UINT64_MAX

/* ---- judging ---- */

static void
reply_too_large(struct request *rq)
{
	uint64_t limit = rq->srv->limits.upload_bytes_max;
	struct err err = ERR_INIT;

	err_set(&err, RC_TOO_LARGE, "body-too-large",
		"the file would be larger than the %" PRIu64 " bytes that this server takes",
		limit);
	reply_problem_with(rq, &err, json_pack("{s:I}", "limit", (json_int_t)limit));
}

static enum rc
check_coding(struct request *rq, struct err *err)
{
	enum upload_coding coding;

	enum rc rc = upload_headers_coding(request_header(rq, "Content-Encoding"), &coding, err);
	if (rc == RC_OK && coding != UPLOAD_IDENTITY)
		rc = err_set(err, RC_INVALID, "unsupported-encoding",
			"a file is stored as it comes: send it without Content-Encoding");
	return rc;
}

static uint64_t
range_bytes(const struct upload *u)
{
	return u->range.last - u->range.first + 1;
}

static enum rc
take_range(struct upload *u, struct err *err)
{
	const char *value = request_header(u->rq, "Content-Range");

	if (value == NULL)
		return RC_OK;
	if (!u->takes_pieces)
		return err_set(err, RC_INVALID, "invalid-header",
			"a push takes whole files only; put pieces into a stage and commit it");
	enum rc rc = upload_headers_range(value, &u->range, err);
	if (rc != RC_OK)
		return rc;
	u->has_range = true;
	if (u->rq->length_known && u->rq->body_bytes != range_bytes(u))
		return err_set(err, RC_INVALID, "body-mismatch",
			"the body has %" PRIu64 " bytes, Content-Range says %" PRIu64,
			u->rq->body_bytes, range_bytes(u));
	return RC_OK;
}

static bool
judge(struct upload *u)
{
	const struct request_param *path = request_param(u->rq, "path");
	uint64_t limit = u->srv->limits.upload_bytes_max;
	struct err err = ERR_INIT;

	enum rc rc = check_coding(u->rq, &err);
	if (rc == RC_OK)
		rc = take_range(u, &err);
	if (rc == RC_OK)
		rc = upload_headers_digest(request_header(u->rq, "Repr-Digest"),
			request_header(u->rq, "X-Checksum-Sha256"), &u->has_digest, &u->digest,
			&err);
	if (rc != RC_OK) {
		reply_problem(u->rq, &err);
		return false;
	}
	if ((u->rq->length_known && u->rq->body_bytes > limit) ||
		(u->has_range &&
			(u->range.last >= limit || (u->range.total != UPLOAD_TOTAL_UNKNOWN &&
							   u->range.total > limit)))) {
		reply_too_large(u->rq);
		return false;
	}
	memcpy(u->put.path, path->value, path->len); /* checked: it fits */
	u->put.path_len = path->len;
	return parse_mode(u->rq, &u->put.mode) && parse_mtime(u->rq, &u->put.mtime_ns);
}

struct upload *
upload_new(struct request *rq, const struct upload_ops *ops, bool takes_pieces)
{
	struct err err = ERR_INIT;
	struct upload *u;

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
	u->takes_pieces = u->keeps = takes_pieces;
	atomic_store(&u->refs, 1);
	if (!judge(u)) {
		free(u);
		return NULL;
	}
	return u;
}

static void
unref(struct upload *u)
{
	if (atomic_fetch_sub(&u->refs, 1) != 1)
		return;
	stage_unref(u->stage);
	free(u->tail);
	free(u);
}

/* ---- the stage ---- */

/* The name of a deleted stage is free once its row is gone, which takes a moment. */
static enum rc
open_again(struct request *rq, struct repo *repo, const char *name, uint64_t ttl_us,
	struct stage **out, bool *created, struct err *err)
{
	const struct timespec pause = {.tv_nsec = GONE_PAUSE_NS};
	enum rc rc;

	for (int i = 0;; i++) {
		rc = stage_open(rq->srv->stages, repo, name, ttl_us, out, created, err);
		if (rc == RC_OK)
			rc = stage_check_open(*out, err);
		if (!err_is(err, "stage-not-found") || i == GONE_TRIES)
			break;
		stage_unref(*out);
		*out = NULL;
		err_clear(err);
		nanosleep(&pause, NULL);
	}
	if (err_is(err, "stage-not-found")) {
		err_clear(err);
		rc = err_set(
			err, RC_CONFLICT, "stage-busy", "stage \"%s\" is just being deleted", name);
	}
	return rc;
}

enum rc
upload_open_stage(struct request *rq, const char *name, uint64_t ttl_us, struct stage **out,
	bool *created, struct err *err)
{
	struct repo *repo;
	bool repo_created;

	*out = NULL;
	*created = false;
	enum rc rc = repo_create(rq->srv->repos, request_param(rq, "repo")->value, 0, NULL, &repo,
		&repo_created, err);
	if (rc == RC_OK)
		rc = open_again(rq, repo, name, ttl_us, out, created, err);
	return rc;
}

/* ---- pieces ---- */

static enum rc
mismatch(struct upload *u, uint64_t offset, uint64_t total, struct err *err)
{
	u->offset = offset;
	u->put.total_bytes = total;
	return err_set(err, RC_CONFLICT, "offset-mismatch",
		"bytes %" PRIu64 "-%" PRIu64
		" do not go on where the upload stands, at byte %" PRIu64,
		u->range.first, u->range.last, offset);
}

/* Nothing is half there: the beginning of a new upload, or the end of one that is complete. */
static enum rc
plan_without_part(struct upload *u, bool *goes_on, struct err *err)
{
	struct err none = ERR_INIT;

	*goes_on = false;
	if (u->range.first == 0)
		return RC_OK;
	if (stage_file_find(u->stage, u->put.path, u->put.path_len, &u->entry, &none) != RC_OK ||
		u->entry.content.size != u->range.total)
		return mismatch(u, 0, u->range.total, err);
	u->plan = UPLOAD_REPEATED;
	u->is_staged = true;
	return RC_OK;
}

/* How the piece meets what is there. Blocks. */
static enum rc
plan_piece(struct upload *u, bool *goes_on, struct err *err)
{
	const struct upload_range *r = &u->range;
	uint64_t offset, total;

	*goes_on = false;
	u->plan = UPLOAD_PIECE;
	enum rc rc =
		stage_upload_offset(u->stage, u->put.path, u->put.path_len, &offset, &total, err);
	if (rc == RC_NOT_FOUND) {
		err_clear(err);
		return plan_without_part(u, goes_on, err);
	}
	if (rc != RC_OK)
		return rc;
	bool known = total != UPLOAD_TOTAL_UNKNOWN;
	if (known && r->total != UPLOAD_TOTAL_UNKNOWN && r->total != total)
		return mismatch(u, offset, total, err);
	if (!known)
		total = r->total;
	if (r->last < offset) {
		u->offset = offset;
		u->put.total_bytes = total;
		/* all bytes came before, but only now it is said that they are all */
		*goes_on = total == offset && r->last + 1 == total;
		u->passes_over = *goes_on;
		u->plan = *goes_on ? UPLOAD_WHOLE : UPLOAD_REPEATED;
		return RC_OK;
	}
	if (r->first != offset || r->last >= total)
		return mismatch(u, offset, total, err);
	u->put.total_bytes = total;
	if (r->last + 1 == total)
		u->plan = UPLOAD_WHOLE;
	*goes_on = true;
	return RC_OK;
}

/* The SHA-256 of what came before, for a digest that covers the whole file. Blocks. */
static enum rc
hash_part(struct upload *u, struct err *err)
{
	struct ingest_file *f = &u->put.file;
	struct reader *reader = NULL;
	uint8_t *data = malloc(HASH_BYTES);
	size_t got = 0;
	enum rc rc = RC_OK;

	if (data == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	sha256_stream_init(&f->sha);
	if (f->recipe_bytes > 0)
		rc = reader_open_recipe(u->srv->reads, stage_repo(u->stage), f->recipe_id,
			f->recipe_bytes, &reader, err);
	while (rc == RC_OK && reader != NULL) {
		rc = reader_read(reader, data, HASH_BYTES, &got, err);
		if (rc != RC_OK || got == 0)
			break;
		sha256_stream_update(&f->sha, data, got);
	}
	sha256_stream_update(&f->sha, u->tail, u->tail_bytes);
	f->sha_known = true;
	reader_free(reader);
	free(data);
	return rc;
}

/* Blocks. */
static enum rc
resume(struct upload *u, struct err *err)
{
	struct ingest_file *f = &u->put.file;

	enum rc rc = stage_put_resume(&u->put, err);
	if (rc != RC_OK)
		return rc;
	u->tail = f->tail;
	u->tail_bytes = f->tail_bytes;
	f->tail = NULL; /* moved */
	f->tail_bytes = 0;
	if (u->has_digest && u->plan == UPLOAD_WHOLE && !f->sha_known)
		rc = hash_part(u, err);
	f->want_sha = u->has_digest && f->sha_known;
	return rc;
}

/* ---- entering ---- */

static void on_done(struct stage_put *put, enum rc rc, const struct err *err);

bool
upload_blocks(const struct upload *u)
{
	return u->has_range;
}

static void
on_room(void *arg)
{
	request_wake(arg);
}

/* "bytes 0-" up to the last byte of the total is a whole upload, with or without saying so. */
static bool
is_piece(const struct upload *u)
{
	return u->has_range && (u->range.first > 0 || u->range.last + 1 != u->range.total);
}

/* Open a writer for the entered put. */
static enum rc
start(struct upload *u, bool goes_on, struct err *err)
{
	uint64_t expected = LENGTH_UNKNOWN;
	const struct ingest_space *space = &stage_repo(u->stage)->space;

	enum rc rc = ingest_writer_open(u->srv->ingest, space, on_room, u->rq, &u->writer, err);
	if (rc != RC_OK)
		return rc;
	if (u->has_range)
		expected = range_bytes(u) + u->tail_bytes;
	else if (u->rq->length_known)
		expected = u->rq->body_bytes;
	atomic_fetch_add(&u->refs, 1); /* the engine's, until on_done */
	u->is_open = true;
	if (goes_on)
		ingest_continue(u->writer, &u->put.file, expected);
	else
		ingest_begin(u->writer, &u->put.file, expected);
	return RC_OK;
}

/* Who goes on right after a cut comes before the part that was cut is durable: wait for it a
 * little. On an op worker: pieces are never admitted on an HTTP thread. */
static enum rc
enter_alone(struct upload *u, struct stage *s, uint64_t body_bytes, struct err *err)
{
	uint64_t until = clock_mono_ns() + SETTLE_NS;
	struct timespec nap = {.tv_nsec = 20000000};

	for (;;) {
		u->put.resumable = u->keeps; /* entering beside another turns it off */
		enum rc rc = stage_put_begin(s, &u->put, body_bytes, err);
		if (rc != RC_OK || !is_piece(u) || !u->put.shared || clock_mono_ns() >= until)
			return rc;
		stage_put_cancel(&u->put);
		nanosleep(&nap, NULL);
	}
}

bool
upload_enter(struct upload *u, struct stage *s)
{
	struct stage_put *put = &u->put;
	struct err err = ERR_INIT;
	bool goes_on = false;

	u->stage = s;
	reply_header(u->rq, "Digstore-Stage", "%s", stage_name(s));
	put->done = on_done;
	put->file.want_sha = u->has_digest;
	put->total_bytes = u->has_range          ? u->range.total
			   : u->rq->length_known ? u->rq->body_bytes
						 : LENGTH_UNKNOWN;
	enum rc rc = stage_check_room(s, &err);
	if (rc == RC_OK)
		rc = enter_alone(
			u, s, u->rq->length_known ? u->rq->body_bytes : LENGTH_UNKNOWN, &err);
	if (rc != RC_OK) {
		upload_refuse(u, &err);
		return false;
	}
	if (is_piece(u) && put->shared)
		rc = err_set(&err, RC_CONFLICT, "stage-busy",
			"another upload of this file is under way");
	else if (is_piece(u))
		rc = plan_piece(u, &goes_on, &err);
	if (rc == RC_OK && goes_on)
		rc = resume(u, &err);
	if (rc == RC_OK && u->plan != UPLOAD_REPEATED)
		rc = start(u, goes_on, &err);
	if (!u->is_open)
		stage_put_cancel(put);
	if (rc != RC_OK)
		upload_refuse(u, &err);
	return rc == RC_OK;
}

/* ---- the body ---- */

static void
refuse_now(struct upload *u, const struct err *err)
{
	u->refused = true;
	upload_refuse(u, err);
}

static void
set_wrong_length(const struct upload *u, struct err *err)
{
	err_set(err, RC_INVALID, "body-mismatch",
		"the body has %s bytes than the %" PRIu64 " of Content-Range",
		u->body_bytes < range_bytes(u) ? "fewer" : "more", range_bytes(u));
}

/* What is left of the piece before; false: no room now. */
static bool
write_tail(struct upload *u)
{
	if (u->tail_written < u->tail_bytes)
		u->tail_written += ingest_write_tail(
			u->writer, u->tail + u->tail_written, u->tail_bytes - u->tail_written);
	return u->tail_written == u->tail_bytes;
}

size_t
upload_piece(struct upload *u, const uint8_t *data, size_t len)
{
	struct err err = ERR_INIT;
	size_t taken = len;

	if (u->has_range && len > range_bytes(u) - u->body_bytes) {
		u->body_bytes += len;
		set_wrong_length(u, &err);
		refuse_now(u, &err);
		return 0;
	}
	if (u->plan != UPLOAD_REPEATED) {
		if (!write_tail(u))
			return 0;
		if (!u->passes_over)
			taken = ingest_write(u->writer, data, len);
		stage_live_received(u->stage, &u->put.live, taken);
		if (ingest_failed(u->writer, &err))
			refuse_now(u, &err);
	}
	u->body_bytes += taken;
	return taken;
}

/* ---- the end ---- */

/* Part with the file: what was decided about it is with the engine now. */
static void
let_go(struct upload *u)
{
	u->is_open = false;
	ingest_flush(u->writer);
}

static enum rc
check_whole(struct upload *u, struct err *err)
{
	struct sha256 sha;
	char is[SHA256_HEX_BYTES], wanted[SHA256_HEX_BYTES];

	if (u->has_range && u->body_bytes != range_bytes(u)) {
		set_wrong_length(u, err);
		return err->rc;
	}
	if (u->plan != UPLOAD_WHOLE || !u->has_digest)
		return RC_OK;
	sha256_stream_final(&u->put.file.sha, &sha);
	if (sha256_equal(&sha, &u->digest))
		return RC_OK;
	sha256_hex(&sha, is);
	sha256_hex(&u->digest, wanted);
	return err_set(err, RC_INVALID, "digest-mismatch",
		"the content has the SHA-256 %s, the request says %s", is, wanted);
}

static void answer_repeated(struct upload *u);

void
upload_end(struct upload *u)
{
	struct err err = ERR_INIT;

	enum rc rc = check_whole(u, &err);
	if (u->plan == UPLOAD_REPEATED) {
		if (rc == RC_OK)
			answer_repeated(u);
		else
			upload_refuse(u, &err);
		request_complete(u->rq);
		return;
	}
	u->owes_answer = true;
	if (rc != RC_OK)
		ingest_abort(u->writer, &err);
	else if (u->plan == UPLOAD_PIECE)
		ingest_suspend(u->writer);
	else
		ingest_finish(u->writer);
	let_go(u);
}

static void
on_done(struct stage_put *put, enum rc rc, const struct err *err)
{
	struct upload *u = (struct upload *)put;

	if (u->owes_answer)
		u->ops->settle(u, rc, err);
	else if (u->ops->forsaken != NULL)
		u->ops->forsaken(u);
	free(put->file.tail);
	put->file.tail = NULL;
	unref(u);
}

void
upload_close(struct upload *u)
{
	struct err err = ERR_INIT;

	if (u == NULL)
		return;
	if (u->is_open) {
		/* without one byte more there is nothing to keep that was not kept before */
		if (u->put.resumable && !u->refused && u->body_bytes > 0) {
			ingest_suspend(u->writer);
		} else {
			err_set(&err, RC_INVALID, "body-mismatch", "the upload was cut off");
			ingest_abort(u->writer, &err);
		}
		let_go(u);
	}
	ingest_writer_close(u->writer);
	unref(u);
}

/* ---- answers ---- */

static json_t *
total_or_null(uint64_t total)
{
	return total == UPLOAD_TOTAL_UNKNOWN ? json_null() : json_integer((json_int_t)total);
}

void
upload_refuse(struct upload *u, const struct err *err)
{
	if (!err_is(err, "offset-mismatch")) {
		reply_stage_problem(u->rq, u->stage, err);
		return;
	}
	reply_header(u->rq, "Upload-Offset", "%" PRIu64, u->offset);
	reply_problem_with(u->rq, err,
		json_pack("{s:I, s:o}", "upload_offset", (json_int_t)u->offset, "upload_length",
			total_or_null(u->put.total_bytes)));
}

/* repo, stage and path, which begin both shapes. */
static void
begin_answer(struct buf *b, const struct upload *u)
{
	buf_init(b, ANSWER_BYTES_MAX);
	buf_reserve(b, 1024);
	buf_addf(b, "{\"repo\":\"%s\",\"stage\":\"%s\",\"path\":", stage_repo(u->stage)->name,
		stage_name(u->stage));
	show_path_text(b, u->put.path, u->put.path_len);
}

static void
send_answer(struct upload *u, int status, struct buf *b)
{
	struct err err = ERR_INIT;
	size_t len;

	buf_add_str(b, "}\n");
	if (buf_ok(b)) {
		uint8_t *data = buf_take(b, &len);
		reply_take(u->rq, status, "application/json", data, len);
	} else {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(u->rq, &err);
	}
	buf_done(b);
}

static void
answer_file(struct upload *u, int status, const struct tree_entry *e,
	const struct ingest_receipt *receipt)
{
	char id[SHOW_FILE_ID_BYTES];
	struct buf b;

	show_file_id_text(&e->content, id);
	if (status == 201)
		reply_header(u->rq, "ETag", "\"%s\"", id);
	reply_header(u->rq, "Upload-Offset", "%" PRIu64, e->content.size);
	begin_answer(&b, u);
	show_entry_fields(&b, e);
	buf_add_str(&b, ",\"receipt\":");
	show_receipt_text(&b, receipt, clock_mono_ns() - u->rq->started_ns);
	send_answer(u, status, &b);
}

static void
answer_part(struct upload *u, uint64_t offset)
{
	uint64_t total = u->put.total_bytes;
	struct buf b;

	reply_header(u->rq, "Upload-Offset", "%" PRIu64, offset);
	if (total != UPLOAD_TOTAL_UNKNOWN)
		reply_header(u->rq, "Upload-Length", "%" PRIu64, total);
	begin_answer(&b, u);
	buf_addf(&b, ",\"upload_offset\":%" PRIu64 ",\"upload_length\":", offset);
	if (total != UPLOAD_TOTAL_UNKNOWN)
		buf_addf(&b, "%" PRIu64, total);
	else
		buf_add_str(&b, "null");
	send_answer(u, 200, &b);
}

static void
answer_repeated(struct upload *u)
{
	static const struct ingest_receipt nothing;

	if (u->is_staged)
		answer_file(u, 200, &u->entry, &nothing);
	else
		answer_part(u, u->offset);
}

void
upload_answer(struct upload *u)
{
	const struct stage_put *put = &u->put;
	const struct ingest_file *f = &put->file;
	const struct tree_entry e = {
		put->path, put->path_len, f->content, put->mode, put->mtime_ns};

	if (f->partial)
		answer_part(u, f->recipe_bytes + f->tail_bytes);
	else
		answer_file(u, put->unchanged ? 200 : 201, &e, &f->receipt);
}
