/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "clock.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "range.h"
#include "services.h"
#include "show_progress.h"
#include "watch.h"

#define WAIT_SECONDS_MAX 60
#define ETAG_BYTES       32

/* A request that waits for news, in the request's memory. Whoever ends it, the operation itself or
 * the timer thread, does so once and touches it no more. */
struct poll {
	struct request *rq;
	struct stage *stage; /* our reference */
	uint64_t since;
	uint64_t deadline_ns;
	struct stage_watch watch;
	struct watch_timer timer;
};

/* ---- answering ---- */

static void
reply_gone(struct request *rq, const char *name)
{
	struct err err = ERR_INIT;

	err_set(&err, RC_NOT_FOUND, "stage-not-found", "there is no stage \"%s\" any more", name);
	reply_problem(rq, &err);
}

static void
reply_state(struct request *rq, const struct progress *p)
{
	char etag[ETAG_BYTES];
	const struct range_conditions c = {.if_none_match = request_header(rq, "If-None-Match")};
	const struct range_validators now = {.etag = etag};

	snprintf(etag, sizeof etag, "\"%" PRIu64 "\"", p->seq);
	reply_header(rq, "Digstore-Stage", "%s", p->stage.name);
	reply_header(rq, "ETag", "%s", etag);
	reply_header(rq, "Cache-Control", "no-store");
	if (range_check_conditions(&c, &now) == RANGE_NOT_MODIFIED)
		reply_empty(rq, 304);
	else
		reply_json(rq, 200, show_progress(p));
}

static void
reply_progress(struct request *rq, struct stage *s)
{
	struct progress p;
	struct err err = ERR_INIT;

	if (stage_progress(s, &p, &err) != RC_OK) {
		reply_problem(rq, &err);
		return;
	}
	if (p.stage.state == STAGE_GONE)
		reply_gone(rq, p.stage.name);
	else
		reply_state(rq, &p);
	progress_done(&p);
}

/* ---- waiting ---- */

static void
end_poll(struct poll *p)
{
	struct request *rq = p->rq;

	/* in this order: the watch may hurry the timer until it is gone */
	stage_unwatch(rq->srv->stages, &p->watch);
	watch_timer_cancel(&p->timer);
	watch_leave();
	reply_progress(rq, p->stage);
	stage_unref(p->stage);
	request_complete(rq);
}

static void
on_news(struct stage_watch *w)
{
	struct poll *p = (struct poll *)((char *)w - offsetof(struct poll, watch));

	watch_timer_hurry(&p->timer);
}

/* The timer is set again before looking: news that come after the look hurry it, news that came
 * before are seen. */
static void
on_time(struct watch_timer *t)
{
	struct poll *p = (struct poll *)((char *)t - offsetof(struct poll, timer));
	struct stage_info info;

	bool goes_on = watch_timer_set(t, p->deadline_ns) && clock_mono_ns() < p->deadline_ns;
	stage_info(p->stage, &info);
	if (!goes_on || info.state == STAGE_GONE || stage_progress_seq(p->stage) > p->since)
		end_poll(p);
}

/* RC_OK: the poll goes on by itself, has the stage's reference and will complete the request. */
static enum rc
begin_poll(struct request *rq, struct stage *s, uint64_t since, uint64_t wait_s, struct err *err)
{
	struct poll *p = request_alloc(rq, sizeof *p);

	if (p == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	enum rc rc = watch_enter(rq->srv, err);
	if (rc != RC_OK)
		return rc;
	p->rq = rq;
	p->stage = s;
	p->since = since;
	p->deadline_ns = clock_mono_ns() + wait_s * UINT64_C(1000000000);
	p->watch.stage = s;
	p->watch.fn = on_news;
	p->timer.fn = on_time;
	stage_watch(rq->srv->stages, &p->watch);
	/* the first look is the timer's: from here on p is not ours */
	if (!watch_timer_set(&p->timer, 0))
		end_poll(p);
	return RC_OK;
}

/* ---- the operation ---- */

struct poll_query {
	uint64_t since;
	bool has_since;
	uint64_t wait_s;
};

static bool
read_query(struct request *rq, struct poll_query *q)
{
	*q = (struct poll_query){.wait_s = 0};
	return parse_number(rq, "since", 0, INT64_MAX, &q->since, &q->has_since) &&
	       parse_number(rq, "wait", 0, WAIT_SECONDS_MAX, &q->wait_s, NULL);
}

/* Answer, or false: a poll will. */
static bool
answer(struct request *rq)
{
	struct poll_query q;
	struct repo *repo;
	struct stage *s;
	struct err err = ERR_INIT;

	if (!read_query(rq, &q) || !parse_repo(rq, &repo) || !parse_stage(rq, repo, &s))
		return true;
	uint64_t seq = stage_progress_seq(s);
	if (q.wait_s > 0 && (!q.has_since || seq <= q.since)) {
		if (begin_poll(rq, s, q.has_since ? q.since : seq, q.wait_s, &err) == RC_OK)
			return false;
		reply_problem(rq, &err);
	} else {
		reply_progress(rq, s);
	}
	stage_unref(s);
	return true;
}

static void
run(struct request *rq)
{
	if (answer(rq))
		request_complete(rq);
}

static const char *const query[] = {"since", "wait", NULL};

const struct op op_stage_progress = {
	.id = "stage_progress",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/stages/{stage}/progress",
	.query = query,
	.waits = true,
	.admit = parse_admit,
	.run = run,
};
