/* SPDX-License-Identifier: Apache-2.0 */
#include "reply_file.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "hex.h"
#include "media_type.h"
#include "problem.h"
#include "rand.h"
#include "range.h"
#include "reader.h"
#include "services.h"
#include "show_entry.h"
#include "stream.h"

#define BOUNDARY_BYTES  16 /* random ones, so that no file can hold it on purpose */
#define PART_HEAD_BYTES 320

/* What is sent: the bytes of ranges, and with more than one of them a head before each. */
struct file_source {
	struct reader *reader;
	const char *type; /* static */
	uint64_t size;    /* of the file */
	struct range ranges[RANGES_MAX];
	size_t count;
	char boundary[2 * BOUNDARY_BYTES + 1];
	/* where it is */
	size_t part;   /* the range that comes next, or is sent; count: behind all */
	bool in_part;  /* its head is out */
	uint64_t left; /* bytes of it to come */
};

/* ---- the body ---- */

/* The head before range i, or behind the last one the end of the multipart. Returns its length. */
static size_t
part_head(const struct file_source *f, size_t i, char *out)
{
	const char *before = i > 0 ? "\r\n" : "";
	int n;

	if (i == f->count)
		n = snprintf(out, PART_HEAD_BYTES, "\r\n--%s--\r\n", f->boundary);
	else
		n = snprintf(out, PART_HEAD_BYTES,
			"%s--%s\r\nContent-Type: %s\r\nContent-Range: bytes %" PRIu64 "-%" PRIu64
			"/%" PRIu64 "\r\n\r\n",
			before, f->boundary, f->type, f->ranges[i].first, f->ranges[i].last,
			f->size);
	return (size_t)n;
}

static uint64_t
body_bytes(const struct file_source *f)
{
	char head[PART_HEAD_BYTES];
	uint64_t bytes = 0;

	for (size_t i = 0; i < f->count; i++)
		bytes += f->ranges[i].last - f->ranges[i].first + 1;
	for (size_t i = 0; f->count > 1 && i <= f->count; i++)
		bytes += part_head(f, i, head);
	return bytes;
}

/* Go into the next range. */
static enum rc
begin_part(struct file_source *f, struct buf *out, struct err *err)
{
	char head[PART_HEAD_BYTES];

	if (f->count > 1)
		buf_add(out, head, part_head(f, f->part, head));
	if (f->part == f->count)
		return RC_OK;
	f->in_part = true;
	f->left = f->ranges[f->part].last - f->ranges[f->part].first + 1;
	/* the reader was opened at the first one */
	return f->part > 0 ? reader_seek(f->reader, f->ranges[f->part].first, err) : RC_OK;
}

static enum rc
copy_part(struct file_source *f, struct buf *out, size_t max, struct err *err)
{
	size_t want = f->left < max ? (size_t)f->left : max;
	size_t got = 0;
	uint8_t *at = buf_grow(out, want);

	if (at == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	enum rc rc = reader_read(f->reader, at, want, &got, err);
	if (rc == RC_OK && got == 0)
		rc = err_set(err, RC_CORRUPT, "corrupt-data", "the content ends too early");
	out->len -= want - got;
	f->left -= got;
	if (f->left == 0) {
		f->in_part = false;
		f->part++;
	}
	return rc;
}

/* A head goes out whole or with the next piece: every piece but the last is longer than one. */
static enum rc
fill(void *arg, struct buf *out, size_t want, struct err *err)
{
	struct file_source *f = arg;
	size_t end = out->len + want;
	char head[PART_HEAD_BYTES];
	enum rc rc = RC_OK;

	while (rc == RC_OK && out->len < end) {
		if (f->in_part) {
			rc = copy_part(f, out, end - out->len, err);
			continue;
		}
		bool is_over = f->part > f->count || (f->part == f->count && f->count == 1);
		if (is_over || (f->count > 1 && part_head(f, f->part, head) > end - out->len))
			break;
		rc = begin_part(f, out, err);
		f->part += f->part == f->count; /* the end is out */
	}
	return rc;
}

static void
release(void *arg)
{
	struct file_source *f = arg;

	reader_free(f->reader);
	free(f);
}

/* ---- the head ---- */

struct validators {
	char etag[SHOW_FILE_ID_BYTES + 2];
	int64_t modified_us;
};

static void
add_headers(struct request *rq, const struct validators *v)
{
	char date[CLOCK_RFC3339_BYTES];

	clock_http_date(v->modified_us, date);
	reply_header(rq, "ETag", "%s", v->etag);
	reply_header(rq, "Last-Modified", "%s", date);
	reply_header(rq, "Accept-Ranges", "bytes");
	/* a stored page that a browser shows must not act in the name of this server */
	reply_header(rq, "Content-Security-Policy", "sandbox");
}

static enum range_verdict
check_conditions(struct request *rq, const struct range_validators *now)
{
	const struct range_conditions c = {
		.if_match = request_header(rq, "If-Match"),
		.if_none_match = request_header(rq, "If-None-Match"),
		.if_modified_since = request_header(rq, "If-Modified-Since"),
		.if_unmodified_since = request_header(rq, "If-Unmodified-Since"),
	};

	return range_check_conditions(&c, now);
}

static void
refuse_precondition(struct request *rq)
{
	struct err err = ERR_INIT;

	err_set(&err, RC_CONFLICT, "precondition-failed",
		"the file is not the one that If-Match or If-Unmodified-Since asks for");
	reply_problem(rq, &err);
}

static void
refuse_range(struct request *rq, uint64_t size)
{
	struct err err = ERR_INIT;

	err_set(&err, RC_INVALID, "range-not-satisfiable", "the file has %" PRIu64 " bytes", size);
	reply_header(rq, "Content-Range", "bytes */%" PRIu64, size);
	reply_problem(rq, &err);
}

static void
refuse_read(struct request *rq, const struct reply_file *f, const struct err *err)
{
	json_t *path = json_stringn(f->path, f->path_len);

	reply_problem_with(rq, err, json_pack("{s:o}", "path", path));
}

/* A HEAD has the length of a body that is never asked for. */
static ssize_t
no_body(void *source, uint8_t *out, size_t max)
{
	(void)source;
	(void)out;
	(void)max;
	return SOURCE_ABORT;
}

/* ---- all of it ---- */

static struct file_source *
source_new(const struct reply_file *f, const struct range *ranges, size_t count)
{
	struct file_source *s = calloc(1, sizeof *s);
	uint8_t random[BOUNDARY_BYTES];

	if (s == NULL)
		return NULL;
	s->type = media_type_of(f->path, f->path_len);
	s->size = f->content.size;
	s->count = count;
	memcpy(s->ranges, ranges, count * sizeof *ranges);
	if (count > 1) {
		rand_bytes(random, sizeof random);
		hex_encode(random, sizeof random, s->boundary);
	}
	return s;
}

static void
add_content_range(struct request *rq, const struct range *r, uint64_t size)
{
	reply_header(rq, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, r->first,
		r->last, size);
}

/* Send the ranges of a file that is not empty; status is 200 or 206. */
static void
send_ranges(struct request *rq, const struct reply_file *f, const struct validators *v, int status,
	const struct range *ranges, size_t count)
{
	struct file_source *s = source_new(f, ranges, count);
	struct err err = ERR_INIT;
	char type[64 + sizeof s->boundary];

	enum rc rc = s != NULL ? reader_open(rq->srv->reads, f->repo, &f->content, ranges[0].first,
					 &s->reader, &err)
			       : err_set(&err, RC_NOMEM, "no-memory", "out of memory");
	if (rc == RC_OK) {
		const struct stream_options o = {
			.fill = fill, .release = release, .arg = s, .bytes = body_bytes(s)};
		snprintf(type, sizeof type, "multipart/byteranges; boundary=%s", s->boundary);
		const char *plain = s->type;
		s = NULL; /* handed over */
		rc = stream_reply(rq, status, count > 1 ? type : plain, &o, &err);
	}
	free(s);
	if (rc != RC_OK) {
		refuse_read(rq, f, &err);
		return;
	}
	add_headers(rq, v);
	if (status == 206 && count == 1)
		add_content_range(rq, &ranges[0], f->content.size);
}

/* All bytes of a range, malloc'ed; NULL if they are not at hand. */
static uint8_t *
read_now(struct request *rq, const struct reply_file *f, const struct range *r, size_t len)
{
	struct err ignored = ERR_INIT; /* who may wait finds it again, and tells */
	struct reader *reader = NULL;
	uint8_t *data = malloc(len);
	size_t done = 0;
	size_t got = 1;

	if (data == NULL)
		return NULL;
	enum rc rc =
		reader_open_now(rq->srv->reads, f->repo, &f->content, r->first, &reader, &ignored);
	while (rc == RC_OK && done < len && got > 0) {
		rc = reader_read(reader, data + done, len - done, &got, &ignored);
		done += got;
	}
	reader_free(reader);
	if (rc == RC_OK && done == len)
		return data;
	free(data);
	return NULL;
}

static bool
send_range_now(struct request *rq, const struct reply_file *f, const struct validators *v,
	int status, const struct range *r)
{
	uint64_t len = r->last - r->first + 1;
	uint8_t *data = len <= STREAM_WHOLE_BYTES ? read_now(rq, f, r, (size_t)len) : NULL;

	if (data == NULL)
		return false;
	reply_take(rq, status, media_type_of(f->path, f->path_len), data, (size_t)len);
	add_headers(rq, v);
	if (status == 206)
		add_content_range(rq, r, f->content.size);
	return true;
}

static void
send_whole(struct request *rq, const struct reply_file *f, const struct validators *v)
{
	const char *type = media_type_of(f->path, f->path_len);
	const struct range all = {.first = 0, .last = f->content.size - 1};

	if (f->content.size > 0 && rq->method != METHOD_HEAD) {
		send_ranges(rq, f, v, 200, &all, 1);
		return;
	}
	if (f->content.size > 0)
		reply_stream(rq, 200, type, f->content.size, no_body, NULL, NULL);
	else
		reply_bytes(rq, 200, type, "", 0);
	add_headers(rq, v);
}

/* What the conditions and ranges of the request ask for. */
struct wanted {
	struct validators v;
	enum range_verdict conditions;
	enum range_kind parse; /* RANGE_GO_ON only */
	struct range ranges[RANGES_MAX];
	size_t count;
};

static void
read_request(struct request *rq, const struct reply_file *f, struct wanted *w)
{
	const char *header = rq->method == METHOD_HEAD ? NULL : request_header(rq, "Range");
	char id[SHOW_FILE_ID_BYTES];

	show_file_id_text(&f->content, id);
	snprintf(w->v.etag, sizeof w->v.etag, "\"%s\"", id);
	w->v.modified_us = f->mtime_ns != 0 ? f->mtime_ns / 1000 : f->else_us;
	int64_t seconds = w->v.modified_us / 1000000 - (w->v.modified_us % 1000000 < 0);
	const struct range_validators now = {.etag = w->v.etag, .modified_s = seconds};
	w->conditions = check_conditions(rq, &now);
	if (header != NULL && !range_if_range_holds(request_header(rq, "If-Range"), &now))
		header = NULL;
	w->count = 0;
	w->parse = range_parse(header, f->content.size, w->ranges, &w->count);
}

static void
send_body(struct request *rq, const struct reply_file *f, const struct wanted *w)
{
	switch (w->parse) {
	case RANGE_WHOLE:
		send_whole(rq, f, &w->v);
		return;
	case RANGE_PARTS:
		send_ranges(rq, f, &w->v, 206, w->ranges, w->count);
		return;
	case RANGE_UNSATISFIABLE:
		refuse_range(rq, f->content.size);
		return;
	}
}

static void
answer(struct request *rq, const struct reply_file *f, const struct wanted *w)
{
	switch (w->conditions) {
	case RANGE_GO_ON:
		send_body(rq, f, w);
		return;
	case RANGE_NOT_MODIFIED:
		reply_empty(rq, 304);
		add_headers(rq, &w->v);
		return;
	case RANGE_PRECONDITION_FAILED:
		refuse_precondition(rq);
		return;
	}
}

void
reply_file(struct request *rq, const struct reply_file *f)
{
	struct wanted w;

	read_request(rq, f, &w);
	answer(rq, f, &w);
}

/* Only an answer with bytes of the file may have to wait. */
static bool
has_bytes(const struct request *rq, const struct reply_file *f, const struct wanted *w)
{
	return w->conditions == RANGE_GO_ON && w->parse != RANGE_UNSATISFIABLE &&
	       rq->method != METHOD_HEAD && f->content.size > 0;
}

bool
reply_file_now(struct request *rq, const struct reply_file *f)
{
	struct wanted w;

	read_request(rq, f, &w);
	if (has_bytes(rq, f, &w)) {
		const struct range all = {.first = 0, .last = f->content.size - 1};
		if (w.parse == RANGE_PARTS && w.count > 1)
			return false;
		return w.parse == RANGE_PARTS ? send_range_now(rq, f, &w.v, 206, &w.ranges[0])
					      : send_range_now(rq, f, &w.v, 200, &all);
	}
	answer(rq, f, &w);
	return true;
}
