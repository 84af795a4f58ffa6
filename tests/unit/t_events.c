/* SPDX-License-Identifier: Apache-2.0 */
#include "event_stream.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_request.h"
#include "ops.h"
#include "stage.h"
#include "watch.h"

/* ---- stages that change when the test says so, in the place of core's ---- */

#define STAGE_COUNT 3

struct stage {
	const char *name;
	uint64_t id;
	_Atomic uint64_t seq;
	_Atomic int state;
	atomic_int refs;
};

static struct repo repo = {.name = "r"};
static struct stage all_stages[STAGE_COUNT];
static atomic_int stage_count;

static pthread_mutex_t mtx = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static struct stage_watch ring = {.next = &ring, .prev = &ring};
static struct stage_watch *calling;

void
stage_watch(struct stages *ss, struct stage_watch *w)
{
	(void)ss;
	pthread_mutex_lock(&mtx);
	w->next = &ring;
	w->prev = ring.prev;
	w->prev->next = ring.prev = w;
	pthread_mutex_unlock(&mtx);
}

void
stage_unwatch(struct stages *ss, struct stage_watch *w)
{
	(void)ss;
	pthread_mutex_lock(&mtx);
	while (calling == w)
		pthread_cond_wait(&idle, &mtx);
	w->prev->next = w->next;
	w->next->prev = w->prev;
	pthread_mutex_unlock(&mtx);
}

/* What the ticker does when a stage has changed. */
static void
tell(struct stage *s)
{
	pthread_mutex_lock(&mtx);
	for (struct stage_watch *w = ring.next; w != &ring; w = w->next) {
		if (w->stage != NULL && w->stage != s)
			continue;
		calling = w;
		pthread_mutex_unlock(&mtx);
		w->fn(w);
		pthread_mutex_lock(&mtx);
		calling = NULL;
		pthread_cond_broadcast(&idle);
	}
	pthread_mutex_unlock(&mtx);
}

static void
change(struct stage *s, enum stage_state state)
{
	atomic_store(&s->state, (int)state);
	atomic_fetch_add(&s->seq, 1);
	tell(s);
}

void
stage_ref(struct stage *s)
{
	atomic_fetch_add(&s->refs, 1);
}

void
stage_unref(struct stage *s)
{
	if (s != NULL)
		atomic_fetch_sub(&s->refs, 1);
}

const char *
stage_name(const struct stage *s)
{
	return s->name;
}

struct repo *
stage_repo(const struct stage *s)
{
	(void)s;
	return &repo;
}

uint64_t
stage_id(const struct stage *s)
{
	return s->id;
}

uint64_t
stage_progress_seq(struct stage *s)
{
	return atomic_load(&s->seq);
}

void
stage_info(struct stage *s, struct stage_info *out)
{
	memset(out, 0, sizeof *out);
	snprintf(out->name, sizeof out->name, "%s", s->name);
	snprintf(out->repo, sizeof out->repo, "%s", repo.name);
	out->state = (enum stage_state)atomic_load(&s->state);
}

enum rc
stage_progress(struct stage *s, struct progress *out, struct err *err)
{
	(void)err;
	memset(out, 0, sizeof *out);
	/* the sequence first, as a state that is newer than it will be told again */
	out->seq = stage_progress_seq(s);
	stage_info(s, &out->stage);
	out->bottleneck = "none";
	out->percent = out->eta_s = -1;
	out->files_total = UINT64_MAX;
	out->uploads = calloc(1, sizeof *out->uploads);
	assert_non_null(out->uploads);
	out->upload_count = 1;
	snprintf(out->uploads[0].path, sizeof out->uploads[0].path, "a/\"b\"");
	out->uploads[0].total = UINT64_MAX;
	return RC_OK;
}

void
progress_done(struct progress *p)
{
	free(p->uploads);
}

void
stages_active(struct stages *ss, void (*fn)(void *arg, struct stage *s), void *arg)
{
	(void)ss;
	for (int i = 0; i < atomic_load(&stage_count); i++)
		fn(arg, &all_stages[i]);
}

enum rc
repo_find(struct repos *rs, const char *name, struct repo **out, struct err *err)
{
	(void)rs;
	(void)name;
	(void)err;
	*out = &repo;
	return RC_OK;
}

enum rc
stage_find(struct stages *ss, struct repo *r, const char *name, struct stage **out, struct err *err)
{
	(void)ss;
	(void)r;
	for (int i = 0; i < atomic_load(&stage_count); i++) {
		if (strcmp(all_stages[i].name, name) == 0) {
			*out = &all_stages[i];
			stage_ref(*out);
			return RC_OK;
		}
	}
	return err_set(err, RC_NOT_FOUND, "stage-not-found", "no %s", name);
}

enum rc
rev_resolve(struct history *h, const struct repo *r, const char *rev, struct commit *out,
	bool *is_ref, struct err *err)
{
	(void)h;
	(void)r;
	(void)rev;
	(void)out;
	(void)is_ref;
	return err_set(err, RC_NOT_FOUND, "rev-not-found", "none");
}

enum rc
rev_find_head(struct history *h, const struct repo *r, const char *rev, struct rev_head *out,
	struct err *err)
{
	(void)h;
	(void)r;
	(void)rev;
	(void)out;
	return err_set(err, RC_NOT_FOUND, "rev-not-found", "none");
}

static int
setup(void **state)
{
	static const char *const names[STAGE_COUNT] = {"s", "b", "c"};

	(void)state;
	memset(all_stages, 0, sizeof all_stages);
	for (int i = 0; i < STAGE_COUNT; i++) {
		all_stages[i].name = names[i];
		all_stages[i].id = 100 - (uint64_t)i;
		atomic_store(&all_stages[i].seq, 5);
	}
	atomic_store(&stage_count, 2);
	return 0;
}

static int
check(void **state)
{
	(void)state;
	assert_int_equal(watch_count(), 0);
	assert_true(ring.next == &ring);
	for (int i = 0; i < STAGE_COUNT; i++)
		assert_int_equal(atomic_load(&all_stages[i].refs), 0);
	return 0;
}

/* ---- long polls ---- */

static void
begin(struct fake *f, const struct op *op, const char *stage, const char *since, const char *wait)
{
	fake_init(f, METHOD_GET);
	f->rq.op = op;
	fake_param(f, "repo", "r");
	if (stage != NULL)
		fake_param(f, "stage", stage);
	if (since != NULL)
		fake_query(f, "since", since);
	if (wait != NULL)
		fake_query(f, "wait", wait);
}

static void
expect_seq(struct fake *f, int64_t seq)
{
	assert_true(fake_wait_complete(f));
	assert_int_equal(f->replies, 1);
	assert_int_equal(f->status, 200);
	json_t *answer = fake_json(f);
	assert_int_equal(json_integer_value(json_object_get(answer, "seq")), seq);
	json_decref(answer);
}

static void
polls_answer_at_once(void **state)
{
	static struct fake f;

	(void)state;
	begin(&f, &op_stage_progress, "s", NULL, NULL);
	op_stage_progress.run(&f.rq);
	expect_seq(&f, 5);
	assert_string_equal(fake_answer_header(&f, "ETag"), "\"5\"");
	assert_string_equal(fake_answer_header(&f, "Digstore-Stage"), "s");
	assert_string_equal(fake_answer_header(&f, "Cache-Control"), "no-store");
	fake_done(&f);
	begin(&f, &op_stage_progress, "s", "4", "60");
	op_stage_progress.run(&f.rq);
	expect_seq(&f, 5);
	fake_done(&f);
	begin(&f, &op_stage_progress, "s", NULL, NULL);
	fake_header(&f, "If-None-Match", "\"5\"");
	op_stage_progress.run(&f.rq);
	assert_int_equal(f.status, 304);
	fake_done(&f);
	begin(&f, &op_stage_progress, "nope", NULL, "60");
	op_stage_progress.run(&f.rq);
	assert_int_equal(f.status, 404);
	assert_int_equal(f.completions, 1);
	fake_done(&f);
}

static void
bad_poll_queries(void **state)
{
	static const char *const bad[] = {"61", "-1", "x", ""};
	static struct fake f;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		begin(&f, &op_stage_progress, "s", NULL, bad[i]);
		op_stage_progress.run(&f.rq);
		assert_int_equal(f.status, 400);
		assert_string_equal(fake_kind(&f), "invalid-query");
		fake_done(&f);
	}
	begin(&f, &op_stage_progress, "s", "18446744073709551616", NULL);
	op_stage_progress.run(&f.rq);
	assert_int_equal(f.status, 400);
	fake_done(&f);
}

static void
polls_wait_for_news(void **state)
{
	static struct fake f;

	(void)state;
	for (int i = 0; i < 2; i++) {
		begin(&f, &op_stage_progress, "s", i == 0 ? NULL : "7", "60");
		op_stage_progress.run(&f.rq);
		assert_int_equal(f.replies, 0);
		assert_int_equal(watch_count(), 1);
		change(&all_stages[1], STAGE_OPEN); /* of another stage */
		assert_int_equal(f.completions, 0);
		change(&all_stages[0], STAGE_OPEN);
		if (i == 1) { /* 7 is not above 7 */
			sched_yield();
			assert_int_equal(f.completions, 0);
			change(&all_stages[0], STAGE_OPEN);
		}
		expect_seq(&f, i == 0 ? 6 : 8);
		fake_done(&f);
	}
}

static void
polls_end_in_time(void **state)
{
	static struct fake f;

	(void)state;
	begin(&f, &op_stage_progress, "s", "999999999", "1");
	op_stage_progress.run(&f.rq);
	expect_seq(&f, 5);
	fake_done(&f);
}

static void
polls_of_a_stage_that_goes(void **state)
{
	static struct fake f;

	(void)state;
	begin(&f, &op_stage_progress, "s", NULL, "60");
	op_stage_progress.run(&f.rq);
	change(&all_stages[0], STAGE_GONE);
	assert_true(fake_wait_complete(&f));
	assert_int_equal(f.status, 404);
	assert_string_equal(fake_kind(&f), "stage-not-found");
	fake_done(&f);
}

static void
too_many_watchers(void **state)
{
	static struct fake f;

	(void)state;
	begin(&f, &op_stage_progress, "s", NULL, "60");
	f.srv.limits.watchers_max = 0;
	op_stage_progress.run(&f.rq);
	assert_int_equal(f.status, 503);
	assert_string_equal(fake_kind(&f), "overloaded");
	fake_done(&f);
	begin(&f, &op_stage_events, "s", NULL, NULL);
	f.srv.limits.watchers_max = 0;
	op_stage_events.run(&f.rq);
	assert_int_equal(f.status, 503);
	fake_done(&f);
}

static atomic_bool ticks;

static void *
ticker(void *arg)
{
	(void)arg;
	while (atomic_load(&ticks)) {
		change(&all_stages[0], STAGE_OPEN);
		sched_yield();
	}
	return NULL;
}

static void
polls_and_streams_race_with_news(void **state)
{
	static struct fake fakes[8];
	uint8_t out[4096];
	pthread_t thread;
	ssize_t last;

	(void)state;
	atomic_store(&ticks, true);
	assert_int_equal(pthread_create(&thread, NULL, ticker, NULL), 0);
	for (int round = 0; round < 60; round++) {
		for (int i = 0; i < 8; i++) {
			const struct op *op = i % 2 ? &op_stage_progress : &op_stage_events;
			begin(&fakes[i], op, "s", NULL, i % 2 ? "60" : NULL);
			op->run(&fakes[i].rq);
		}
		for (int i = 0; i < 8; i++) {
			if (i % 2 == 0)
				fake_pull(&fakes[i], out, sizeof out, 1000, 1, &last);
			assert_true(fake_wait_complete(&fakes[i]));
			assert_int_equal(fakes[i].status, 200);
			fake_done(&fakes[i]);
		}
	}
	atomic_store(&ticks, false);
	pthread_join(thread, NULL);
}

/* ---- events ---- */

/* Pull what is there now as text. */
static const char *
pull(struct fake *f, ssize_t *last)
{
	static char text[65536];

	size_t n = fake_pull(f, (uint8_t *)text, sizeof text - 1, 100, 50, last);
	text[n] = '\0';
	return text;
}

static void
expect_event(const char **at, const char *id, const char *stage, const char *state)
{
	char head[100], member[100];
	int n = snprintf(head, sizeof head, "event: progress\nid: %s\ndata: ", id);

	if (strncmp(*at, head, (size_t)n) != 0)
		fail_msg("no \"%s\" in \"%s\"", head, *at);
	const char *end = strstr(*at, "\n\n");
	assert_non_null(end);
	json_t *json = json_loadb(*at + n, (size_t)(end - *at) - (size_t)n, 0, NULL);
	assert_non_null(json);
	snprintf(member, sizeof member, "%s", json_string_value(json_object_get(json, "stage")));
	assert_string_equal(member, stage);
	assert_string_equal(json_string_value(json_object_get(json, "state")), state);
	json_decref(json);
	*at = end + 2;
}

static void
events_of_a_stage(void **state)
{
	static const char retry[] = "retry: 1000\n\n";
	static struct fake f;
	ssize_t last;

	(void)state;
	begin(&f, &op_stage_events, "s", NULL, NULL);
	op_stage_events.run(&f.rq);
	assert_int_equal(f.completions, 1);
	assert_string_equal(f.type, "text/event-stream");
	assert_true(f.stream_len == UINT64_MAX);
	assert_string_equal(fake_answer_header(&f, "Cache-Control"), "no-store");
	const char *at = pull(&f, &last);
	assert_int_equal(last, SOURCE_LATER);
	assert_memory_equal(at, retry, sizeof retry - 1);
	at += sizeof retry - 1;
	expect_event(&at, "5", "s", "open");
	assert_string_equal(at, "");
	tell(&all_stages[0]); /* nothing new */
	assert_string_equal(pull(&f, &last), "");
	change(&all_stages[0], STAGE_OPEN);
	change(&all_stages[0], STAGE_COMMITTING); /* both at once for who comes late */
	at = pull(&f, &last);
	expect_event(&at, "7", "s", "committing");
	assert_string_equal(at, "");
	change(&all_stages[0], STAGE_COMMITTED);
	at = pull(&f, &last);
	expect_event(&at, "8", "s", "committed");
	assert_int_equal(last, SOURCE_END);
	fake_done(&f);
}

static void
events_of_a_stage_that_goes(void **state)
{
	static struct fake f;
	ssize_t last;

	(void)state;
	begin(&f, &op_stage_events, "s", NULL, NULL);
	op_stage_events.run(&f.rq);
	pull(&f, &last);
	change(&all_stages[0], STAGE_GONE);
	assert_string_equal(pull(&f, &last), "");
	assert_int_equal(last, SOURCE_END);
	fake_done(&f);
}

static void
events_of_the_server(void **state)
{
	static struct fake f;
	ssize_t last;

	(void)state;
	atomic_store(&all_stages[1].state, STAGE_COMMITTED); /* over: not shown at first */
	begin(&f, &op_events_all, NULL, NULL, NULL);
	op_events_all.run(&f.rq);
	const char *at = pull(&f, &last) + strlen("retry: 1000\n\n");
	expect_event(&at, "1", "s", "open");
	assert_string_equal(at, "");
	atomic_store(&stage_count, 3);
	change(&all_stages[2], STAGE_OPEN);
	at = pull(&f, &last);
	expect_event(&at, "2", "c", "open");
	assert_string_equal(at, "");
	change(&all_stages[0], STAGE_COMMITTED);
	change(&all_stages[2], STAGE_OPEN);
	at = pull(&f, &last);
	expect_event(&at, "3", "s", "committed");
	expect_event(&at, "4", "c", "open");
	assert_string_equal(at, "");
	assert_int_equal(last, SOURCE_LATER);
	fake_done(&f);
}

static void
progress_in_pages(void **state)
{
	static struct fake f;

	(void)state;
	atomic_store(&stage_count, 3);
	fake_init(&f, METHOD_GET);
	fake_query(&f, "limit", "2");
	op_progress_list.run(&f.rq);
	json_t *page = fake_json(&f);
	json_t *items = json_object_get(page, "items");
	assert_int_equal(json_array_size(items), 2);
	json_t *first = json_array_get(items, 0), *second = json_array_get(items, 1);
	assert_string_equal(json_string_value(json_object_get(first, "stage")), "b");
	assert_string_equal(json_string_value(json_object_get(second, "stage")), "c");
	static char cursor[300];
	snprintf(cursor, sizeof cursor, "%s",
		json_string_value(json_object_get(page, "next_cursor")));
	json_decref(page);
	fake_done(&f);
	fake_init(&f, METHOD_GET);
	fake_query(&f, "cursor", cursor);
	op_progress_list.run(&f.rq);
	page = fake_json(&f);
	items = json_object_get(page, "items");
	assert_int_equal(json_array_size(items), 1);
	first = json_array_get(items, 0);
	assert_string_equal(json_string_value(json_object_get(first, "stage")), "s");
	assert_true(json_is_null(json_object_get(page, "next_cursor")));
	json_decref(page);
	fake_done(&f);
}

/* Last: there is no way back. */
static void
stopping_ends_all(void **state)
{
	static struct fake poll, events;
	ssize_t last;

	(void)state;
	begin(&poll, &op_stage_progress, "s", NULL, "60");
	op_stage_progress.run(&poll.rq);
	begin(&events, &op_stage_events, "s", NULL, NULL);
	op_stage_events.run(&events.rq);
	pull(&events, &last);
	assert_int_equal(last, SOURCE_LATER);
	watch_stop();
	expect_seq(&poll, 5);
	assert_string_equal(pull(&events, &last), "");
	assert_int_equal(last, SOURCE_END);
	fake_done(&poll);
	fake_done(&events);
	begin(&poll, &op_stage_progress, "s", NULL, "60");
	op_stage_progress.run(&poll.rq);
	assert_int_equal(poll.status, 503);
	assert_string_equal(fake_kind(&poll), "shutting-down");
	fake_done(&poll);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(polls_answer_at_once, setup, check),
		cmocka_unit_test_setup_teardown(bad_poll_queries, setup, check),
		cmocka_unit_test_setup_teardown(polls_wait_for_news, setup, check),
		cmocka_unit_test_setup_teardown(polls_end_in_time, setup, check),
		cmocka_unit_test_setup_teardown(polls_of_a_stage_that_goes, setup, check),
		cmocka_unit_test_setup_teardown(too_many_watchers, setup, check),
		cmocka_unit_test_setup_teardown(polls_and_streams_race_with_news, setup, check),
		cmocka_unit_test_setup_teardown(events_of_a_stage, setup, check),
		cmocka_unit_test_setup_teardown(events_of_a_stage_that_goes, setup, check),
		cmocka_unit_test_setup_teardown(events_of_the_server, setup, check),
		cmocka_unit_test_setup_teardown(progress_in_pages, setup, check),
		cmocka_unit_test_setup_teardown(stopping_ends_all, setup, check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
