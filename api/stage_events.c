/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdlib.h>

#include "event_stream.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"

struct feed {
	struct stage *stage; /* our reference */
	uint64_t seq;        /* of the last event */
	bool has_sent;
};

static bool
is_final(enum stage_state state)
{
	return state != STAGE_OPEN && state != STAGE_COMMITTING;
}

static enum event_next
next(void *arg, struct buf *out)
{
	struct feed *f = arg;
	struct progress p;
	struct err err = ERR_INIT;
	enum event_next answer = EVENT_IDLE;

	/* no memory: the next news will find some, or the silence ends with a comment */
	if (stage_progress(f->stage, &p, &err) != RC_OK)
		return EVENT_IDLE;
	if (p.stage.state == STAGE_GONE) {
		answer = EVENT_END;
	} else if (!f->has_sent || p.seq > f->seq) {
		event_add_progress(out, p.seq, &p);
		f->has_sent = true;
		f->seq = p.seq;
		if (is_final(p.stage.state))
			answer = EVENT_END;
	}
	progress_done(&p);
	return answer;
}

static void
release(void *arg)
{
	struct feed *f = arg;

	stage_unref(f->stage);
	free(f);
}

static void
answer(struct request *rq)
{
	struct repo *repo;
	struct stage *s;
	struct err err = ERR_INIT;

	if (!parse_repo(rq, &repo) || !parse_stage(rq, repo, &s))
		return;
	struct feed *f = calloc(1, sizeof *f);
	if (f == NULL) {
		stage_unref(s);
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
		return;
	}
	f->stage = s;
	reply_header(rq, "Digstore-Stage", "%s", stage_name(s));
	const struct event_stream_options o = {
		.stage = s, .next = next, .release = release, .arg = f};
	event_stream_reply(rq, &o);
}

static void
run(struct request *rq)
{
	answer(rq);
	request_complete(rq);
}

const struct op op_stage_events = {
	.id = "stage_events",
	.method = METHOD_GET,
	.path = "/v1/repos/{repo}/stages/{stage}/events",
	.admit = parse_admit,
	.run = run,
};
