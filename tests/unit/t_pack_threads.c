/* SPDX-License-Identifier: Apache-2.0 */
/* One thread appends, flushes and seals; one syncs; two read what is flushed; one scans. Then:
 * several append to one pack. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pack_fixture.h"

#define PACKS   6
#define FRAMES  20
#define READERS 2
#define ALL     (PACKS * FRAMES)

/* What the threads share. cmocka's asserts belong to the main thread: the others count. */
struct shared {
	struct fixture *f;
	struct pack_writer *writers[PACKS];
	struct test_frame frames[ALL];
	atomic_uint flushed;     /* frames that can be read */
	atomic_uint open_writer; /* index + 1 of the pack that is written now */
	atomic_bool done;
	atomic_uint failures;
	atomic_uint reads;
};

static void
expect(struct shared *s, bool right)
{
	if (!right)
		atomic_fetch_add(&s->failures, 1);
}

static void *
owner_main(void *arg)
{
	struct shared *s = arg;

	for (unsigned p = 0; p < PACKS; p++) {
		struct err err = ERR_INIT;
		struct pack_writer *w = s->writers[p];
		atomic_store(&s->open_writer, p + 1);
		for (unsigned i = 0; i < FRAMES; i++) {
			struct test_frame *t = &s->frames[p * FRAMES + i];
			t->place.pack_id = pack_writer_id(w);
			expect(s, pack_writer_append(w, &t->frame, &t->place.offset,
					  &t->place.bytes, &err) == RC_OK);
			if (i % 4 == 3) {
				expect(s, pack_writer_flush(w, &err) == RC_OK);
				atomic_store(&s->flushed, p * FRAMES + i + 1);
			}
		}
		if (p % 3 == 2)
			pack_writer_abandon(w);
		else
			expect(s, pack_writer_seal(w, &err) == RC_OK);
	}
	atomic_store(&s->done, true);
	return NULL;
}

static void *
syncer_main(void *arg)
{
	struct shared *s = arg;

	while (!atomic_load(&s->done)) {
		struct err err = ERR_INIT;
		unsigned open = atomic_load(&s->open_writer);
		if (open == 0)
			continue;
		enum rc rc = pack_writer_sync(s->writers[open - 1], &err);
		expect(s, rc == RC_OK || (rc == RC_CONFLICT && (open - 1) % 3 == 2));
	}
	return NULL;
}

static void *
reader_main(void *arg)
{
	struct shared *s = arg;
	struct buf buf;
	unsigned at = 0;

	buf_init(&buf, PACK_FRAME_BYTES_MAX);
	for (bool last = false; !last;) {
		last = atomic_load(&s->done);
		unsigned flushed = atomic_load(&s->flushed);
		for (unsigned i = 0; i < flushed; i++) {
			struct err err = ERR_INIT;
			struct pack_frame_view view;
			/* jump between packs, so that files come and go */
			const struct test_frame *t = &s->frames[at++ * 23 % flushed];
			expect(s, pack_read_frame(s->f->readers, &t->place, NULL, &buf, &view,
					  &err) == RC_OK &&
					  test_frame_is(t, &view));
			if (at % 50 == 0)
				pack_readers_forget(s->f->readers, t->place.pack_id);
			atomic_fetch_add(&s->reads, 1);
		}
	}
	buf_done(&buf);
	return NULL;
}

static void *
scanner_main(void *arg)
{
	struct shared *s = arg;

	for (unsigned p = 0; !atomic_load(&s->done); p = (p + 1) % PACKS) {
		struct err err = ERR_INIT;
		struct pack_scan_stats stats;
		unsigned flushed = atomic_load(&s->flushed);
		unsigned least = flushed > p * FRAMES ? flushed - p * FRAMES : 0;
		enum rc rc = pack_scan(
			s->f->dir, pack_writer_id(s->writers[p]), NULL, NULL, &stats, &err);
		expect(s, rc == RC_OK && stats.frames >= (least < FRAMES ? least : FRAMES));
	}
	return NULL;
}

static void
test_all_at_once(void **state)
{
	static struct shared s;
	pthread_t threads[3 + READERS];
	unsigned count = 0;

	s.f = *state;
	for (unsigned p = 0; p < PACKS; p++)
		s.writers[p] = fixture_writer(s.f);
	for (uint32_t i = 0; i < ALL; i++)
		test_frame_make(&s.frames[i], i + 1, i % 2 ? CODEC_RAW : CODEC_ZSTD, 1 + i % 7,
			1 + i * 37 % 9000);
	for (unsigned i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[count++], NULL, reader_main, &s), 0);
	assert_int_equal(pthread_create(&threads[count++], NULL, syncer_main, &s), 0);
	assert_int_equal(pthread_create(&threads[count++], NULL, scanner_main, &s), 0);
	assert_int_equal(pthread_create(&threads[count++], NULL, owner_main, &s), 0);
	while (count > 0)
		assert_int_equal(pthread_join(threads[--count], NULL), 0);
	assert_int_equal(s.failures, 0);
	assert_true(s.reads >= ALL);
	for (unsigned p = 0; p < PACKS; p++)
		pack_writer_free(s.writers[p]);
	for (unsigned i = 0; i < ALL; i++) {
		test_frame_check(&s.frames[i], s.f->readers);
		test_frame_free(&s.frames[i]);
	}
}

/* ---- several append to one pack while others flush and sync ---- */

#define APPENDERS 3
#define EACH      60

struct appender {
	struct pack_writer *writer;
	struct test_frame frames[EACH];
	bool flushes;
	unsigned failures;
	pthread_t thread;
};

static void *
append_main(void *arg)
{
	struct appender *a = arg;

	for (unsigned i = 0; i < EACH; i++) {
		struct err err = ERR_INIT;
		struct test_frame *t = &a->frames[i];
		t->place.pack_id = pack_writer_id(a->writer);
		a->failures += pack_writer_append(a->writer, &t->frame, &t->place.offset,
				       &t->place.bytes, &err) != RC_OK;
		if (a->flushes && i % 16 == 5)
			a->failures += pack_writer_flush(a->writer, &err) != RC_OK;
		/* what came back from a sync can be read */
		if (i % 10 == 3) {
			a->failures += pack_writer_sync_all(a->writer, &err) != RC_OK;
			a->failures += pack_writer_bytes(a->writer) < t->place.offset;
		}
	}
	return NULL;
}

static void
test_many_append(void **state)
{
	static struct appender all[APPENDERS];
	struct fixture *f = *state;
	struct pack_writer *w = fixture_writer(f);
	const struct test_frame *frames[APPENDERS * EACH + 1];
	struct pack_scan_stats stats;

	for (uint32_t k = 0; k < APPENDERS; k++) {
		all[k] = (struct appender){.writer = w, .flushes = k == 0};
		for (uint32_t i = 0; i < EACH; i++)
			test_frame_make(&all[k].frames[i], 1000 * (k + 1) + i,
				i % 2 ? CODEC_RAW : CODEC_ZSTD, 1 + i % 5, 1 + i * 977 % 30000);
		assert_int_equal(pthread_create(&all[k].thread, NULL, append_main, &all[k]), 0);
	}
	for (uint32_t k = 0; k < APPENDERS; k++) {
		pthread_join(all[k].thread, NULL);
		assert_int_equal(all[k].failures, 0);
	}
	assert_int_equal(pack_writer_frames(w), APPENDERS * EACH);
	fixture_seal(w);
	/* in the order of their places */
	size_t n = 0;
	for (uint32_t k = 0; k < APPENDERS; k++) {
		for (uint32_t i = 0; i < EACH; i++) {
			size_t at = n++;
			for (; at > 0 &&
				frames[at - 1]->place.offset > all[k].frames[i].place.offset;
				at--)
				frames[at] = frames[at - 1];
			frames[at] = &all[k].frames[i];
		}
	}
	frames[n] = NULL;
	fixture_scan(f, frames[0]->place.pack_id, frames, &stats);
	assert_int_equal(stats.frames, n);
	assert_int_equal(stats.damaged_bytes + stats.torn_bytes, 0);
	for (uint32_t k = 0; k < APPENDERS; k++) {
		for (uint32_t i = 0; i < EACH; i++) {
			test_frame_check(&all[k].frames[i], f->readers);
			test_frame_free(&all[k].frames[i]);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_at_once),
		cmocka_unit_test(test_many_append),
	};
	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
