/* SPDX-License-Identifier: Apache-2.0 */
/* Packs that went cold get smaller by themselves, and nobody notices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "cluster_fixture.h"
#include "db_recipe.h"
#include "pack_maker.h"
#include "reader.h"
#include "recipe.h"
#include "recompress.h"
#include "retire.h"

#define PACK_BYTES  ((uint64_t)4 << 20)
#define WAIT        120 /* seconds; what is waited for takes some hundred milliseconds */
#define HOUR_US     ((uint64_t)3600 * 1000000)
#define IDLE_NS     ((uint64_t)20 * 1000000)
#define CHUNK_BYTES 30000

static struct cluster_fixture fx;
static struct maker m;

/* What the server does, as the tests say. */
static struct {
	atomic_bool busy;
	_Atomic uint64_t events;
	atomic_int looks;
	/* what was reported */
	atomic_int done, left, failed, bad_frames;
	enum rc last_rc;
} world;

#define OK(call)                                                                                   \
	do {                                                                                       \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s %s [%s]", #call, rc_name(err.rc), err.text, err.detail);  \
	} while (0)

/* Reads of packs, counted: nothing is to be read twice without need. */
static _Atomic uint64_t bytes_read;

ssize_t
pread(int fd, void *data, size_t len, off_t offset)
{
	ssize_t n = syscall(SYS_pread64, fd, data, len, offset);

	if (n > 0)
		atomic_fetch_add(&bytes_read, (uint64_t)n);
	return n;
}

/* ---- the server around it ---- */

static void
look(void *arg, struct recompress_activity *out)
{
	(void)arg;
	atomic_fetch_add(&world.looks, 1);
	*out = (struct recompress_activity){atomic_load(&world.busy), atomic_load(&world.events)};
}

static void
report(void *arg, const struct recompress_event *e)
{
	(void)arg;
	atomic_fetch_add(&world.bad_frames, (int)e->bad_frames);
	switch (e->outcome) {
	case RECOMPRESS_DONE:
		atomic_fetch_add(&world.done, 1);
		break;
	case RECOMPRESS_LEFT:
		atomic_fetch_add(&world.left, 1);
		break;
	case RECOMPRESS_FAILED:
		world.last_rc = e->err->rc;
		atomic_fetch_add(&world.failed, 1);
		break;
	}
}

static struct recompress_options
options(void)
{
	return (struct recompress_options){
		.db = fx.db,
		.packs = m.dir,
		.level = 12,
		.cpu_percent = 100,
		.after_us = HOUR_US / 2,
		.idle_ns = IDLE_NS,
		.pack_bytes = PACK_BYTES,
		.look = look,
		.report = report,
	};
}

static struct recompress *
start_with(const struct recompress_options *o)
{
	struct recompress *r = NULL;
	struct err err = ERR_INIT;

	OK(recompress_open(o, &r, &err));
	return r;
}

static struct recompress *
start(void)
{
	const struct recompress_options o = options();

	return start_with(&o);
}

static struct recompress_stats
stats_of(struct recompress *r)
{
	struct recompress_stats s;

	recompress_stats(r, &s);
	return s;
}

static bool
has_nothing_to_do(void *arg)
{
	struct recompress_stats s = stats_of(arg);

	return s.reason == RECOMPRESS_NOTHING_TO_DO && s.is_known && !s.is_run;
}

static void
wait_for_the_end(struct recompress *r)
{
	assert_true(fixture_wait(has_nothing_to_do, r, WAIT));
}

/* Start, let it do all there is, stop. */
static struct recompress_stats
do_all(void)
{
	struct recompress *r = start();

	wait_for_the_end(r);
	struct recompress_stats s = stats_of(r);
	recompress_close(r);
	return s;
}

static struct retire_report
retire(void)
{
	const struct retire_options o = {fx.db, m.dir, m.readers, 0};
	struct retire_report report;
	struct err err = ERR_INIT;

	OK(retire_packs(&o, &report, &err));
	return report;
}

static int64_t
count(const char *sql)
{
	return fixture_number(fx.db, sql);
}

/* ---- packs ---- */

static struct maker_frame
text(unsigned seed, int level)
{
	return (struct maker_frame){.data = MAKER_TEXT,
		.seed = seed,
		.chunk_count = 9,
		.chunk_bytes = CHUNK_BYTES,
		.level = level};
}

static struct maker_frame
noise(unsigned seed)
{
	return (struct maker_frame){
		.data = MAKER_RANDOM, .seed = seed, .chunk_count = 9, .chunk_bytes = CHUNK_BYTES};
}

/* Half a pack of frames: text at a level (0: raw), every n-th one random. */
static uint64_t
make_pack(unsigned repo, unsigned seed, unsigned frames, int level, unsigned random_every)
{
	struct maker_frame list[64];

	assert_true(frames <= 64);
	for (unsigned i = 0; i < frames; i++)
		list[i] = random_every > 0 && i % random_every == 0 ? noise(seed * 100 + i)
								    : text(seed * 100 + i, level);
	return maker_pack(&m, repo, list, frames);
}

static int
start_afresh(void **state)
{
	(void)state;
	maker_clear(&m);
	memset(&world, 0, sizeof world);
	atomic_store(&bytes_read, 0);
	return 0;
}

/* ---- it gets smaller ---- */

static void
test_raw_and_light_packs_get_smaller(void **state)
{
	(void)state;
	uint64_t raw = make_pack(MAKER_REPO_A, 1, 8, 0, 0);
	uint64_t light = make_pack(MAKER_REPO_B, 2, 14, 1, 0);
	uint64_t before = maker_file_bytes(&m, raw) + maker_file_bytes(&m, light);
	int64_t rows = count("SELECT count(*) FROM chunk");
	struct recompress_stats s = do_all();
	maker_check(&m);
	assert_int_equal(count("SELECT count(*) FROM chunk WHERE state = 0"), rows);
	assert_int_equal(maker_row(&m, raw).state, PACK_RETIRED);
	assert_int_equal(maker_row(&m, light).state, PACK_RETIRED);
	assert_int_equal(s.packs, 2);
	assert_int_equal(s.new_packs, 2);
	assert_int_equal(s.failures + s.skipped + s.left_packs, 0);
	assert_int_equal(s.bytes_before, before);
	assert_int_equal(s.total_bytes_before, before);
	assert_int_equal(s.total_bytes_after, s.bytes_after);
	assert_int_equal(s.retired_packs, 2);
	assert_int_equal(s.retired_bytes, before);
	assert_true(s.cpu_ns > 0 && s.total_cpu_us > 0);
	assert_true(s.bytes_after < before / 2);
	assert_int_equal(world.done, 2);
	assert_int_equal(world.left + world.failed, 0);
	/* frames of up to 1 MiB, and nothing larger */
	assert_int_equal(count("SELECT max(raw_offset + length)::bigint FROM chunk"),
		(1048576 / CHUNK_BYTES) * CHUNK_BYTES);
	assert_int_equal(retire().removed, 2);
	assert_int_equal(maker_file_count(&m), 2);
	assert_int_equal(count("SELECT sum(bytes)::bigint FROM pack"), s.bytes_after);
	maker_check(&m);
	/* and never again */
	s = do_all();
	assert_int_equal(s.packs, 0);
	assert_int_equal(s.total_bytes_before, before);
	assert_int_equal(count("SELECT count(*) FROM pack WHERE squeeze = 1"), 2);
}

static void
test_mixed_packs_keep_what_is_random(void **state)
{
	(void)state;
	uint64_t id = make_pack(MAKER_REPO_A, 3, 12, 0, 3);
	struct recompress_stats s = do_all();
	maker_check(&m);
	assert_int_equal(s.packs, 1);
	assert_int_equal(maker_row(&m, id).state, PACK_RETIRED);
	struct maker_row row = maker_row(&m, id + 1);
	assert_int_equal(row.squeeze, PACK_RECOMPRESSED);
	assert_int_equal(row.raw_bytes, 12 * 9 * CHUNK_BYTES);
	/* random frames went as they are, of a quarter of a MiB */
	assert_int_equal(
		count("SELECT count(DISTINCT frame_offset) FROM chunk WHERE frame_bytes > 270000"
		      " AND frame_bytes < 271000"),
		4);
}

static void
test_packs_without_a_footer(void **state)
{
	struct maker_frame frames[8];
	(void)state;

	for (unsigned i = 0; i < 8; i++)
		frames[i] = text(i, i % 2);
	uint64_t id = maker_closed_pack(&m, MAKER_REPO_A, frames, 8);
	struct recompress_stats s = do_all();
	assert_int_equal(s.packs, 1);
	assert_int_equal(maker_row(&m, id).state, PACK_RETIRED);
	assert_int_equal(retire().removed, 1);
	maker_check(&m);
}

/* Only what a row names is copied; a pack without any is not even read. */
static void
test_dead_chunks_are_left_behind(void **state)
{
	struct maker_frame frames[8];
	(void)state;

	for (unsigned i = 0; i < 8; i++) {
		frames[i] = i < 6 ? text(i, 1) : noise(i);
		frames[i].no_rows = i % 2 == 0;
	}
	maker_pack(&m, MAKER_REPO_A, frames, 8);
	/* a random frame of which some chunks are dead */
	fixture_sql(fx.db, "DELETE FROM chunk WHERE raw_offset = 30000 OR raw_offset = 0");
	int64_t rows = count("SELECT count(*) FROM chunk");
	for (unsigned i = 0; i < 8; i++)
		frames[i].no_rows = true;
	uint64_t dead = maker_pack(&m, MAKER_REPO_B, frames, 8);
	struct recompress_stats s = do_all();
	assert_int_equal(s.packs, 2);
	assert_int_equal(s.new_packs, 1);
	assert_int_equal(maker_row(&m, dead).state, PACK_RETIRED);
	assert_int_equal(count("SELECT count(*) FROM chunk WHERE state = 0"), rows);
	assert_int_equal(
		count("SELECT raw_bytes FROM pack WHERE squeeze = 1"), 4 * 7 * CHUNK_BYTES);
	assert_int_equal(retire().removed, 2);
	maker_check(&m);
}

/* ---- it leaves alone ---- */

static void
test_random_packs_are_looked_at_once(void **state)
{
	(void)state;
	uint64_t id = make_pack(MAKER_REPO_A, 4, 14, 0, 1);
	struct recompress_stats s = do_all();
	assert_int_equal(s.packs, 0);
	assert_int_equal(s.skipped, 1);
	assert_int_equal(world.left, 1);
	struct maker_row row = maker_row(&m, id);
	assert_int_equal(row.state, PACK_SEALED);
	assert_int_equal(row.squeeze, PACK_LEFT_ALONE);
	assert_int_equal(row.raw_bytes, 14 * 9 * CHUNK_BYTES);
	assert_true(atomic_load(&bytes_read) > 0);
	atomic_store(&bytes_read, 0);
	s = do_all();
	assert_int_equal(s.packs + s.skipped, 0);
	assert_int_equal(atomic_load(&bytes_read), 0);
	/* not even when somebody insists */
	struct recompress *r = start();
	struct err err = ERR_INIT;
	OK(recompress_control(r, RECOMPRESS_RUN, &err));
	wait_for_the_end(r);
	recompress_close(r);
	assert_int_equal(atomic_load(&bytes_read), 0);
	assert_int_equal(maker_file_count(&m), 1);
	maker_check(&m);
}

/* A tenth of a per cent would be gained: rows, caches and files stay as they are. */
static void
test_hardly_any_gain_is_none(void **state)
{
	struct maker_frame frames[15];
	(void)state;

	for (unsigned i = 0; i < 14; i++)
		frames[i] = noise(i);
	frames[14] = text(1, 1);
	frames[14].chunk_bytes = 2000;
	uint64_t id = maker_pack(&m, MAKER_REPO_A, frames, 15);
	/* and a pack that is nearly all header and footer */
	frames[0].chunk_bytes = 500;
	uint64_t tiny = maker_pack(&m, MAKER_REPO_B, frames, 1);
	do_all();
	assert_int_equal(maker_row(&m, id).squeeze, PACK_LEFT_ALONE);
	assert_int_equal(maker_row(&m, id).state, PACK_SEALED);
	assert_int_equal(maker_row(&m, tiny).squeeze, PACK_LEFT_ALONE);
	assert_int_equal(maker_file_count(&m), 2);
	maker_check(&m);
}

/* It looked compressible and was not: found out on the way, and not tried again. */
static void
test_a_wrong_guess_is_left_too(void **state)
{
	(void)state;
	uint64_t id = make_pack(MAKER_REPO_A, 5, 12, 19, 0);
	do_all();
	struct maker_row row = maker_row(&m, id);
	if (row.state != PACK_RETIRED) {
		assert_int_equal(row.squeeze, PACK_LEFT_ALONE);
		assert_int_equal(maker_file_count(&m), 1);
	}
	assert_int_equal(count("SELECT count(*) FROM pack WHERE state = 4"), 0);
	maker_check(&m);
}

static void
test_warm_open_and_dropped_packs_are_not_touched(void **state)
{
	(void)state;
	uint64_t warm = make_pack(MAKER_REPO_A, 6, 4, 0, 0);
	fixture_sql(fx.db, "UPDATE pack SET closed_at = now()");
	uint64_t open = make_pack(MAKER_REPO_A, 7, 4, 0, 0);
	fixture_sql(fx.db, "UPDATE pack SET state = 0 WHERE id = (SELECT max(id) FROM pack)");
	uint64_t dropped = make_pack(MAKER_REPO_B, 8, 4, 0, 0);
	fixture_sql(fx.db, "UPDATE repo SET name = NULL, dropped_at = now() WHERE id = 2");
	struct recompress_stats s = do_all();
	assert_int_equal(s.packs, 0);
	assert_int_equal(s.left_packs, 1);
	assert_int_equal(s.left_bytes, maker_file_bytes(&m, warm));
	assert_int_equal(maker_row(&m, warm).state, PACK_SEALED);
	assert_int_equal(maker_row(&m, open).state, PACK_OPEN);
	assert_int_equal(maker_row(&m, dropped).state, PACK_SEALED);
	assert_int_equal(maker_row(&m, dropped).gain, -1);
}

static void
test_packs_that_are_damaged_or_missing(void **state)
{
	struct maker_frame frames[4] = {text(1, 0), text(2, 0), text(3, 0), text(4, 0)};
	struct err err = ERR_INIT;
	(void)state;

	uint64_t missing = make_pack(MAKER_REPO_A, 9, 4, 0, 0);
	OK(pack_remove(m.dir, missing, &err));
	uint64_t damaged = maker_closed_pack(&m, MAKER_REPO_B, frames, 4);
	maker_flip(&m, damaged, 4096 + 8);
	struct recompress_stats s = do_all();
	assert_int_equal(s.packs + s.failures, 0);
	assert_int_equal(s.skipped, 2);
	assert_int_equal(maker_row(&m, missing).squeeze, PACK_LEFT_ALONE);
	assert_int_equal(maker_row(&m, damaged).squeeze, PACK_LEFT_ALONE);
	assert_int_equal(count("SELECT count(*) FROM chunk WHERE state <> 0"), 0);
}

/* ---- damage ---- */

/* Frames that do not verify are marked where they are; all that is good moves. */
static void
test_bad_frames_stay_and_are_marked(void **state)
{
	struct maker_frame frames[10];
	size_t wrong = 0;
	(void)state;

	for (unsigned i = 0; i < 10; i++)
		frames[i] = text(i, i % 2);
	frames[3].bad_bytes = true; /* zstd: does not expand */
	frames[6].bad_bytes = true; /* raw: one chunk has other bytes than its hash says */
	uint64_t id = maker_pack(&m, MAKER_REPO_A, frames, 10);
	struct sha256 flipped = maker_hash(&frames[8], 4);
	struct chunk_row row = maker_locate(&m, MAKER_REPO_A, &flipped);
	maker_flip(&m, id, row.frame_offset + 5000); /* the checksum is wrong */
	struct recompress_stats s = do_all();
	assert_int_equal(s.packs, 1);
	assert_int_equal(world.bad_frames, 3);
	assert_int_equal(maker_true_rows(&m, &wrong), 7 * 9 + 8);
	assert_int_equal(wrong, 0);
	assert_int_equal(count("SELECT count(*) FROM chunk WHERE state = 1"), 2 * 9 + 1);
	/* the old pack is needed as long as they are not healed */
	assert_int_equal(maker_row(&m, id).state, PACK_RETIRED);
	assert_int_equal(retire().kept, 1);
	frames[3].bad_bytes = false;
	frames[6].bad_bytes = false;
	maker_pack(&m, MAKER_REPO_A, (struct maker_frame[]){frames[3], frames[6], frames[8]}, 3);
	assert_int_equal(retire().removed, 1);
	maker_check(&m);
	assert_int_equal(maker_true_rows(&m, &wrong), 90);
}

/* A row names a chunk in a pack that holds no such chunk: nothing can be saved, or lost. */
static void
test_a_row_that_lies(void **state)
{
	size_t wrong = 0;
	(void)state;

	uint64_t id = make_pack(MAKER_REPO_A, 10, 8, 0, 0);
	fixture_sql(fx.db, "UPDATE chunk SET hash = set_byte(hash, 5, 255 - get_byte(hash, 5))"
			   " WHERE (frame_offset, raw_offset) = (4096, 30000)");
	struct recompress_stats s = do_all();
	assert_int_equal(s.packs, 1);
	assert_int_equal(maker_true_rows(&m, &wrong), 8 * 9 - 1);
	assert_int_equal(wrong, 1);
	assert_int_equal(maker_row(&m, id).state, PACK_RETIRED);
}

/* All that could have been gained is damaged: the pack stays, and is marked all the same. */
static void
test_damage_in_a_pack_that_is_left(void **state)
{
	struct maker_frame frames[20];
	(void)state;

	for (unsigned i = 0; i < 20; i++) {
		frames[i] = i % 3 == 0 ? noise(i) : text(i, 0);
		frames[i].bad_bytes = i % 3 != 0;
		if (frames[i].bad_bytes)
			frames[i].chunk_count = 1;
	}
	uint64_t id = maker_pack(&m, MAKER_REPO_A, frames, 20);
	do_all();
	assert_int_equal(world.bad_frames, 13);
	assert_int_equal(count("SELECT count(*) FROM chunk WHERE state = 1"), 13);
	assert_int_equal(maker_row(&m, id).state, PACK_SEALED);
	assert_int_equal(maker_row(&m, id).squeeze, PACK_LEFT_ALONE);
	assert_int_equal(maker_file_count(&m), 1);
}

static void
test_a_pack_with_much_damage_is_left(void **state)
{
	struct maker_frame frames[48];
	(void)state;

	for (unsigned i = 0; i < 48; i++) {
		frames[i] = text(i, 1);
		frames[i].bad_bytes = i < 40;
	}
	uint64_t id = maker_pack(&m, MAKER_REPO_A, frames, 48);
	struct recompress_stats s = do_all();
	assert_int_equal(s.packs + s.failures, 0);
	assert_int_equal(maker_row(&m, id).squeeze, PACK_LEFT_ALONE);
	assert_int_equal(maker_row(&m, id).state, PACK_SEALED);
	assert_int_equal(count("SELECT count(*) FROM chunk WHERE state = 1"), 32 * 9);
	assert_int_equal(maker_file_count(&m), 1);
}

/* ---- merging ---- */

static void
test_small_packs_are_merged(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 6; i++)
		make_pack(MAKER_REPO_A, 20 + i, 1, (int)i % 2, i == 2);
	uint64_t other = make_pack(MAKER_REPO_B, 30, 1, 0, 1);
	struct recompress_stats s = do_all();
	assert_int_equal(s.packs, 6);
	assert_int_equal(s.new_packs, 1);
	/* a repository's packs are nobody else's */
	assert_int_equal(maker_row(&m, other).squeeze, PACK_LEFT_ALONE);
	assert_int_equal(maker_row(&m, other).state, PACK_SEALED);
	assert_int_equal(retire().removed + retire().removed, 6);
	maker_check(&m);
	/* the next small ones join it, as long as it is not much larger than they are */
	uint64_t merged = (uint64_t)count("SELECT id FROM pack WHERE squeeze = 1");
	make_pack(MAKER_REPO_A, 40, 1, 1, 0);
	s = do_all();
	assert_int_equal(maker_row(&m, merged).state, PACK_SEALED);
	for (unsigned i = 0; i < 6; i++)
		make_pack(MAKER_REPO_A, 50 + i, 2, 1, 1);
	do_all();
	assert_int_equal(maker_row(&m, merged).state, PACK_RETIRED);
	while (retire().removed > 0)
		;
	maker_check(&m);
}

/* Two random small packs gain nothing but that there is one file less. */
static void
test_small_random_packs_are_merged(void **state)
{
	(void)state;
	make_pack(MAKER_REPO_A, 60, 2, 0, 1);
	make_pack(MAKER_REPO_A, 61, 2, 0, 1);
	struct recompress_stats s = do_all();
	assert_int_equal(s.packs, 2);
	assert_int_equal(s.new_packs, 1);
	assert_true(s.bytes_after < s.bytes_before);
	maker_check(&m);
}

/* ---- it is told what to do ---- */

static bool
is_paused(void *arg)
{
	return stats_of(arg).state == RECOMPRESS_PAUSED;
}

static void
test_pause_resume_and_run(void **state)
{
	struct recompress_options o = options();
	struct err err = ERR_INIT;
	(void)state;

	make_pack(MAKER_REPO_A, 70, 6, 0, 0);
	o.after_us = 10 * HOUR_US;
	struct recompress *r = start_with(&o);
	wait_for_the_end(r);
	assert_int_equal(stats_of(r).left_packs, 1); /* warm */
	OK(recompress_control(r, RECOMPRESS_PAUSE, &err));
	assert_true(is_paused(r));
	assert_int_equal(stats_of(r).reason, RECOMPRESS_ASKED);
	OK(recompress_control(r, RECOMPRESS_RESUME, &err));
	assert_false(is_paused(r));
	wait_for_the_end(r);
	assert_int_equal(stats_of(r).packs, 0);
	OK(recompress_control(r, RECOMPRESS_PAUSE, &err));
	OK(recompress_control(r, RECOMPRESS_RUN, &err)); /* also ends the pause */
	assert_true(stats_of(r).is_run);
	wait_for_the_end(r);
	assert_int_equal(stats_of(r).packs, 1);
	assert_false(stats_of(r).is_run);
	recompress_close(r);
	maker_check(&m);
}

static void
test_off_is_off(void **state)
{
	struct recompress_options o = options();
	struct err err = ERR_INIT;
	(void)state;

	make_pack(MAKER_REPO_A, 71, 6, 0, 0);
	o.cpu_percent = 0;
	struct recompress *r = start_with(&o);
	assert_int_equal(stats_of(r).state, RECOMPRESS_OFF);
	assert_int_equal(stats_of(r).reason, RECOMPRESS_DISABLED);
	assert_int_equal(stats_of(r).threads, 0);
	for (int a = RECOMPRESS_RUN; a <= RECOMPRESS_RESUME; a++) {
		err_clear(&err);
		assert_int_equal(
			recompress_control(r, (enum recompress_action)a, &err), RC_CONFLICT);
		assert_string_equal(err.kind, "recompression-off");
	}
	recompress_close(r);
	recompress_close(NULL);
	assert_int_equal(atomic_load(&world.looks), 0);
}

static bool
lacks_space(void *arg)
{
	struct recompress_stats s = stats_of(arg);

	return s.state == RECOMPRESS_WAITING && s.reason == RECOMPRESS_NO_SPACE;
}

static void
test_no_space_no_work(void **state)
{
	struct recompress_options o = options();
	(void)state;

	make_pack(MAKER_REPO_A, 72, 6, 0, 0);
	o.free_bytes_min = UINT64_MAX;
	struct recompress *r = start_with(&o);
	assert_true(fixture_wait(lacks_space, r, WAIT));
	recompress_close(r);
	assert_int_equal(maker_file_count(&m), 1);
}

/* ---- it yields ---- */

static bool
is_working(void *arg)
{
	struct recompress_stats s = stats_of(arg);

	return s.state == RECOMPRESS_RUNNING && maker_file_count(&m) > 2;
}

static bool
is_waiting(void *arg)
{
	struct recompress_stats s = stats_of(arg);

	return s.state == RECOMPRESS_WAITING && s.reason == RECOMPRESS_BUSY;
}

static void
test_it_waits_while_the_server_is_busy(void **state)
{
	struct recompress_options o = options();
	(void)state;

	/* enough to be met in the middle */
	make_pack(MAKER_REPO_A, 80, 60, 1, 0);
	make_pack(MAKER_REPO_B, 81, 60, 0, 0);
	atomic_store(&world.busy, true);
	o.level = 19;
	struct recompress *r = start_with(&o);
	assert_true(fixture_wait(is_waiting, r, WAIT));
	assert_int_equal(maker_file_count(&m), 2);
	atomic_store(&world.busy, false);
	assert_true(fixture_wait(is_working, r, WAIT));
	atomic_store(&world.busy, true);
	assert_true(fixture_wait(is_waiting, r, WAIT));
	/* while it waits nothing goes on: no more CPU, and what was done is kept */
	int64_t rewriting = count("SELECT id FROM pack WHERE state = 4");
	uint64_t cpu = stats_of(r).cpu_ns;
	int looks = atomic_load(&world.looks);
	while (atomic_load(&world.looks) < looks + 10)
		usleep(1000);
	assert_int_equal(stats_of(r).cpu_ns, cpu);
	assert_true(is_waiting(r));
	assert_int_equal(stats_of(r).packs, 0);
	assert_true(stats_of(r).yields > 0);
	atomic_store(&world.busy, false);
	/* something happens, and is over: it waits until nothing has for a while */
	for (int i = 0; i < 20; i++) {
		atomic_fetch_add(&world.events, 1);
		usleep(3000);
	}
	wait_for_the_end(r);
	assert_int_equal(stats_of(r).packs, 2);
	assert_int_equal(stats_of(r).failures, 0);
	assert_true(maker_row(&m, (uint64_t)rewriting).state == PACK_SEALED);
	recompress_close(r);
	maker_check(&m);
}

static void
test_it_stops_in_the_middle(void **state)
{
	(void)state;
	make_pack(MAKER_REPO_A, 82, 60, 1, 0);
	make_pack(MAKER_REPO_B, 83, 60, 0, 0);
	for (int turn = 0; turn < 3; turn++) {
		struct recompress_options o = options();
		o.level = 19;
		struct recompress *r = start_with(&o);
		assert_true(fixture_wait(is_working, r, WAIT));
		if (turn == 1)
			atomic_store(&world.busy, true);
		recompress_close(r);
		atomic_store(&world.busy, false);
		assert_int_equal(maker_file_count(&m), 2);
		maker_check(&m);
	}
	assert_int_equal(do_all().packs, 2);
	maker_check(&m);
}

static bool
has_let_go(void *arg)
{
	(void)arg;
	return maker_file_count(&m) == 2 && count("SELECT count(*) FROM pack WHERE state = 4") == 0;
}

/* The repository is dropped while its pack is half done: nothing of it is left, and work goes on.
 */
static void
test_a_repository_dropped_in_the_middle(void **state)
{
	(void)state;
	make_pack(MAKER_REPO_A, 84, 60, 0, 0);
	uint64_t other = make_pack(MAKER_REPO_B, 85, 2, 1, 0);
	struct recompress_options o = options();
	o.level = 19;
	struct recompress *r = start_with(&o);
	assert_true(fixture_wait(is_working, r, WAIT));
	atomic_store(&world.busy, true); /* whether it works or waits */
	fixture_sql(fx.db, "UPDATE repo SET name = NULL, dropped_at = now() WHERE id = 1");
	assert_true(fixture_wait(has_let_go, r, WAIT));
	atomic_store(&world.busy, false);
	wait_for_the_end(r);
	assert_int_equal(stats_of(r).packs, 1);
	assert_int_equal(stats_of(r).failures + (uint64_t)world.failed, 0);
	assert_int_equal(maker_row(&m, other).state, PACK_RETIRED);
	recompress_close(r);
	assert_int_equal(count("SELECT count(*) FROM pack WHERE repo_id = 1"), 1);
}

/* ---- readers ---- */

struct recipe_query {
	struct recipe_part_row part;
};

static enum rc
run_recipe(struct db_tx *tx, void *arg, struct err *err)
{
	const struct recipe_query *q = arg;

	return db_recipe_part_put(tx, &q->part, 1, err);
}

/* A recipe of all chunks of the frames, in order; the bytes too. */
static uint8_t *
make_recipe(const struct maker_frame *frames, size_t count_, size_t *len)
{
	struct buf part;
	struct err err = ERR_INIT;
	uint8_t *data = malloc(count_ * 9 * CHUNK_BYTES);

	*len = 0;
	buf_init(&part, 1 << 20);
	recipe_part_begin(&part, 1);
	for (size_t f = 0; f < count_; f++)
		for (unsigned i = 0; i < 9; i++) {
			struct sha256 hash = maker_hash(&frames[f], i);
			recipe_part_add(&part, &hash, CHUNK_BYTES);
			maker_chunk(&frames[f], i, data + *len);
			*len += CHUNK_BYTES;
		}
	struct recipe_query q = {
		{.recipe_id = 5, .start = 0, .entries = part.data, .entries_bytes = part.len}};
	OK(db_run(fx.db, run_recipe, &q, &err));
	buf_done(&part);
	return data;
}

/* A file is being read while its pack is replaced and the old one removed, without any grace. */
static void
test_a_reader_in_the_middle_of_a_file(void **state)
{
	struct maker_frame frames[6];
	const struct repo repo = {.id = MAKER_REPO_A};
	struct read_service *rs = NULL;
	struct reader *r = NULL;
	struct read_stats stats;
	struct err err = ERR_INIT;
	size_t len = 0, got = 0;
	(void)state;

	for (unsigned i = 0; i < 6; i++)
		frames[i] = text(i, 0);
	uint64_t id = maker_pack(&m, MAKER_REPO_A, frames, 6);
	uint8_t *data = make_recipe(frames, 6, &len);
	uint8_t *out = malloc(len);
	const struct read_options o = {.db = fx.db, .packs = m.readers, .cache_bytes = 1 << 20};
	OK(read_service_open(&o, &rs, &err));
	OK(reader_open_recipe(rs, &repo, 5, len, &r, &err));
	OK(reader_read(r, out, 100000, &got, &err));
	assert_int_equal(got, 100000);
	do_all();
	assert_int_equal(retire().removed, 1);
	assert_false(maker_has_file(&m, id));
	for (size_t n = 1; n > 0; got += n)
		OK(reader_read(r, out + got, len - got, &n, &err));
	assert_int_equal(got, len);
	assert_memory_equal(out, data, len);
	read_service_stats(rs, &stats);
	assert_int_equal(stats.chunks_bad, 0);
	assert_int_equal(count("SELECT count(*) FROM chunk WHERE state <> 0"), 0);
	reader_free(r);
	read_service_free(rs);
	free(out);
	free(data);
}

/* ---- a database that fails ---- */

static bool
has_failed(void *arg)
{
	struct recompress_stats s = stats_of(arg);

	return s.reason == RECOMPRESS_NO_DATABASE && s.failures > 0;
}

static void
test_the_database_goes_away(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	make_pack(MAKER_REPO_A, 90, 6, 0, 0);
	/* the connection ends at the last statement of the swap */
	fixture_sql(fx.db, "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS"
			   " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; "
			   "END';"
			   "CREATE TRIGGER away BEFORE UPDATE ON recompression"
			   " EXECUTE FUNCTION away()");
	struct recompress *r = start();
	assert_true(fixture_wait(has_failed, r, WAIT));
	assert_int_equal(stats_of(r).packs, 0);
	fixture_sql(fx.db, "DROP TRIGGER away ON recompression; DROP FUNCTION away()");
	OK(recompress_control(r, RECOMPRESS_RUN, &err)); /* and does not wait to try again */
	wait_for_the_end(r);
	assert_int_equal(stats_of(r).packs, 1);
	recompress_close(r);
	assert_int_equal(maker_file_count(&m), 2);
	maker_check(&m);
}

#define TEST(fn) cmocka_unit_test_setup(fn, start_afresh)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_raw_and_light_packs_get_smaller),
		TEST(test_mixed_packs_keep_what_is_random),
		TEST(test_packs_without_a_footer),
		TEST(test_dead_chunks_are_left_behind),
		TEST(test_random_packs_are_looked_at_once),
		TEST(test_hardly_any_gain_is_none),
		TEST(test_a_wrong_guess_is_left_too),
		TEST(test_warm_open_and_dropped_packs_are_not_touched),
		TEST(test_packs_that_are_damaged_or_missing),
		TEST(test_bad_frames_stay_and_are_marked),
		TEST(test_a_row_that_lies),
		TEST(test_damage_in_a_pack_that_is_left),
		TEST(test_a_pack_with_much_damage_is_left),
		TEST(test_small_packs_are_merged),
		TEST(test_small_random_packs_are_merged),
		TEST(test_pause_resume_and_run),
		TEST(test_off_is_off),
		TEST(test_no_space_no_work),
		TEST(test_it_waits_while_the_server_is_busy),
		TEST(test_it_stops_in_the_middle),
		TEST(test_a_repository_dropped_in_the_middle),
		TEST(test_a_reader_in_the_middle_of_a_file),
		TEST(test_the_database_goes_away),
	};

	fixture_init(&fx, false);
	maker_open(&m, &fx);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	maker_close(&m);
	fixture_done(&fx);
	return failed;
}
