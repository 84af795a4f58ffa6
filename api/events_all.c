/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "event_stream.h"
#include "ops.h"
#include "parse.h"
#include "problem.h"
#include "services.h"

#define BATCH_BYTES ((size_t)48 << 10) /* rendered in one go on the HTTP thread */

/* How far a stage had got when this stream last looked. */
struct mark {
	uint64_t stage_id;
	uint64_t seq;
};

/* One look: the marks of all stages, and those that have changed, with a reference to each. */
struct look {
	struct mark *marks;
	size_t mark_count, mark_cap;
	struct stage **changed;
	size_t changed_count, changed_cap;
	bool failed;
};

struct feed {
	struct stages *stages;
	struct mark *marks; /* sorted by stage_id */
	size_t mark_count;
	bool has_looked;
	struct stage **queue; /* to be sent, from next on */
	size_t count, next;
	uint64_t number; /* of the last event */
};

struct visit {
	const struct feed *feed;
	struct look look;
};

/* ---- looking ---- */

static int
compare_marks(const void *a, const void *b)
{
	const struct mark *x = a, *y = b;

	return x->stage_id < y->stage_id ? -1 : x->stage_id > y->stage_id;
}

/* One more place in an array that grows by doubling; the array itself is in *data. */
static bool
grow(void **data, size_t count, size_t *cap, size_t size)
{
	if (count < *cap)
		return true;
	size_t bigger = *cap > 0 ? *cap * 2 : 16;
	void *p = realloc(*data, bigger * size);
	if (p == NULL)
		return false;
	*data = p;
	*cap = bigger;
	return true;
}

static bool
has_changed(const struct feed *f, const struct mark *now, struct stage *s)
{
	struct stage_info info;

	if (f->has_looked) {
		const struct mark *was = f->mark_count > 0 ? bsearch(now, f->marks, f->mark_count,
								     sizeof *now, compare_marks)
							   : NULL;
		return was == NULL || was->seq != now->seq;
	}
	stage_info(s, &info);
	return info.state == STAGE_OPEN || info.state == STAGE_COMMITTING;
}

static void
visit(void *arg, struct stage *s)
{
	struct visit *v = arg;
	struct look *l = &v->look;
	const struct mark now = {.stage_id = stage_id(s), .seq = stage_progress_seq(s)};
	void *marks = l->marks, *changed = l->changed;

	if (!grow(&marks, l->mark_count, &l->mark_cap, sizeof *l->marks))
		l->failed = true;
	else
		((struct mark *)marks)[l->mark_count++] = now;
	l->marks = marks;
	if (!has_changed(v->feed, &now, s))
		return;
	if (!grow(&changed, l->changed_count, &l->changed_cap, sizeof(struct stage *))) {
		l->failed = true;
	} else {
		stage_ref(s);
		((struct stage **)changed)[l->changed_count++] = s;
	}
	l->changed = changed;
}

static void
free_queue(struct feed *f)
{
	for (; f->next < f->count; f->next++)
		stage_unref(f->queue[f->next]);
	free(f->queue);
	f->queue = NULL;
	f->count = f->next = 0;
}

/* Queue what has changed. Without memory for all marks the next look will see changes again. */
static void
look(struct feed *f)
{
	struct visit v = {.feed = f};

	stages_active(f->stages, visit, &v);
	free_queue(f);
	f->queue = v.look.changed;
	f->count = v.look.changed_count;
	free(f->marks);
	f->marks = v.look.marks;
	f->mark_count = v.look.mark_count;
	if (f->mark_count > 0)
		qsort(f->marks, f->mark_count, sizeof *f->marks, compare_marks);
	f->has_looked = !v.look.failed || f->has_looked;
}

/* ---- sending ---- */

static void
send_next(struct feed *f, struct buf *out)
{
	struct stage *s = f->queue[f->next++];
	struct progress p;
	struct err err = ERR_INIT;

	if (stage_progress(s, &p, &err) == RC_OK) {
		if (p.stage.state != STAGE_GONE)
			event_add_progress(out, ++f->number, &p);
		progress_done(&p);
	}
	stage_unref(s);
}

static enum event_next
next(void *arg, struct buf *out)
{
	struct feed *f = arg;

	if (f->next == f->count)
		look(f);
	while (f->next < f->count && out->len < BATCH_BYTES)
		send_next(f, out);
	return f->next < f->count ? EVENT_MORE : EVENT_IDLE;
}

static void
release(void *arg)
{
	struct feed *f = arg;

	free_queue(f);
	free(f->marks);
	free(f);
}

static void
run(struct request *rq)
{
	struct feed *f = calloc(1, sizeof *f);
	struct err err = ERR_INIT;

	if (f == NULL) {
		err_set(&err, RC_NOMEM, "no-memory", "out of memory");
		reply_problem(rq, &err);
	} else {
		f->stages = rq->srv->stages;
		const struct event_stream_options o = {.next = next, .release = release, .arg = f};
		event_stream_reply(rq, &o);
	}
	request_complete(rq);
}

const struct op op_events_all = {
	.id = "events_all",
	.method = METHOD_GET,
	.path = "/v1/events",
	.admit = parse_admit,
	.run = run,
};
