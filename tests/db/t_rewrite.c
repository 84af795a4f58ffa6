/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks move to new packs, old packs go: rows, files, and what others do meanwhile. */
#include <errno.h>
#include <pthread.h>
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

#include "cluster_fixture.h"
#include "db_repo.h"
#include "db_retired.h"
#include "pack_maker.h"
#include "retire.h"
#include "rewrite.h"
#include "source.h"

static struct cluster_fixture fx;
static struct maker m;

#define OK(call)                                                                                   \
	do {                                                                                       \
		if ((call) != RC_OK)                                                               \
			fail_msg("%s: %s %s [%s]", #call, rc_name(err.rc), err.text, err.detail);  \
	} while (0)

static const struct maker_frame three[] = {
	{.data = MAKER_TEXT, .seed = 1, .chunk_count = 3, .chunk_bytes = 5000, .level = 1},
	{.data = MAKER_TEXT, .seed = 2, .chunk_count = 2, .chunk_bytes = 7000, .level = 0},
	{.data = MAKER_RANDOM, .seed = 3, .chunk_count = 4, .chunk_bytes = 9000, .level = 0},
};
#define THREE_CHUNKS 9

/* ---- a rewrite that copies frames as they are ---- */

static struct source_tools
tools(void)
{
	return (struct source_tools){fx.db, m.dir, m.readers};
}

#define EXPECTED_BYTES ((uint64_t)1 << 20)
static uint64_t expected_bytes = EXPECTED_BYTES;

static struct rewrite *
begin(unsigned repo, uint64_t pack_bytes)
{
	struct rewrite_options options = {
		.db = fx.db,
		.packs = m.dir,
		.readers = m.readers,
		.repo_id = repo,
		.pack_bytes = pack_bytes,
		.expected_bytes = expected_bytes,
	};
	struct rewrite *w = NULL;
	struct err err = ERR_INIT;

	maker_uuid(repo, options.repo_uuid);
	OK(rewrite_open(&options, &w, &err));
	return w;
}

static enum rc
copy_frame(struct rewrite *w, const struct source *s, const struct source_frame *f, struct err *err)
{
	const struct pack_place place = {s->pack_id, f->offset, f->bytes};
	struct rewrite_place from[64];
	struct pack_frame_view view;
	struct buf buf;

	buf_init(&buf, PACK_FRAME_BYTES_MAX);
	enum rc rc = pack_read_frame(m.readers, &place, NULL, &buf, &view, err);
	struct iovec part = {(void *)(uintptr_t)view.stored, view.stored_bytes};
	const struct pack_frame frame = {
		.codec = view.codec,
		.chunks = s->chunks + f->first,
		.chunk_count = f->chunk_count,
		.raw_bytes = f->raw_bytes,
		.stored = &part,
		.stored_count = 1,
		.stored_bytes = view.stored_bytes,
	};
	for (uint32_t i = 0; i < f->chunk_count; i++)
		from[i] = (struct rewrite_place){s->pack_id, f->offset};
	if (rc == RC_OK)
		rc = rewrite_add(w, &frame, from, err);
	buf_done(&buf);
	return rc;
}

static enum rc
copy_pack(struct rewrite *w, uint64_t id, unsigned repo, struct err *err)
{
	const struct source_tools t = tools();
	struct source *s = NULL;

	enum rc rc = source_open(&t, id, repo, &s, err);
	for (size_t i = 0; rc == RC_OK && i < s->frame_count; i++)
		rc = copy_frame(w, s, &s->frames[i], err);
	source_free(s);
	return rc;
}

static enum rc
finish_asking(struct rewrite *w, uint64_t id, enum rc (*permit)(void *arg, struct err *err),
	struct rewrite_result *out, struct err *err)
{
	const struct rewrite_end end = {
		.permit = permit,
		.sources = &id,
		.source_count = 1,
		.source_bytes = maker_file_bytes(&m, id),
		.squeeze = PACK_RECOMPRESSED,
		.cpu_us = 77,
	};

	return rewrite_finish(w, &end, out, err);
}

static enum rc
finish(struct rewrite *w, uint64_t id, struct rewrite_result *out, struct err *err)
{
	return finish_asking(w, id, NULL, out, err);
}

/* All of it. */
static struct rewrite_result
rewrite(uint64_t id, unsigned repo)
{
	struct rewrite *w = begin(repo, (uint64_t)8 << 20);
	struct rewrite_result result;
	struct err err = ERR_INIT;

	OK(copy_pack(w, id, repo, &err));
	OK(finish(w, id, &result, &err));
	assert_true(rewrite_free(w));
	return result;
}

static struct retire_report
retire(uint64_t grace_us)
{
	const struct retire_options options = {fx.db, m.dir, m.readers, grace_us};
	struct retire_report report;
	struct err err = ERR_INIT;

	OK(retire_packs(&options, &report, &err));
	return report;
}

static int64_t
count(const char *sql)
{
	return fixture_number(fx.db, sql);
}

/* ---- moving ---- */

static void
test_chunks_move_and_the_pack_goes(void **state)
{
	(void)state;
	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	uint64_t bytes = maker_file_bytes(&m, old);
	struct rewrite_result r = rewrite(old, MAKER_REPO_A);
	assert_int_equal(r.packs, 1);
	assert_int_equal(r.frames, 3);
	assert_int_equal(r.chunks, THREE_CHUNKS);
	assert_int_equal(r.moved, THREE_CHUNKS);
	assert_int_equal(r.bytes, maker_file_bytes(&m, r.last_pack));
	maker_check(&m);
	struct maker_row row = maker_row(&m, r.last_pack);
	assert_int_equal(row.state, PACK_SEALED);
	assert_int_equal(row.squeeze, PACK_RECOMPRESSED);
	assert_int_equal(row.raw_bytes, 3 * 5000 + 2 * 7000 + 4 * 9000);
	assert_int_equal(row.bytes_before, bytes);
	assert_int_equal(maker_row(&m, old).state, PACK_RETIRED);
	assert_int_equal(count("SELECT count(*) FROM recompression WHERE packs_before = 1"
			       " AND packs_after = 1 AND frames = 3 AND cpu_us = 77"
			       " AND raw_bytes = 65000 AND bytes_before > 0 AND bytes_after > 0"),
		1);
	/* not before its grace is over */
	struct retire_report report = retire((uint64_t)3600 * 1000000);
	assert_int_equal(report.removed + report.kept, 0);
	assert_true(maker_has_file(&m, old));
	report = retire(0);
	assert_int_equal(report.removed, 1);
	assert_int_equal(report.bytes, bytes);
	assert_false(maker_has_file(&m, old));
	assert_false(maker_row(&m, old).is_there);
	maker_check(&m);
	report = retire(0);
	assert_int_equal(report.removed + report.kept, 0);
}

static void
test_closed_packs_too(void **state)
{
	(void)state;
	uint64_t old = maker_closed_pack(&m, MAKER_REPO_A, three, 3);
	struct rewrite_result r = rewrite(old, MAKER_REPO_A);
	assert_int_equal(r.moved, THREE_CHUNKS);
	assert_int_equal(retire(0).removed, 1);
	maker_check(&m);
}

/* Frames that do not fit into one new pack, one of them larger than a pack should be. */
static void
test_several_new_packs(void **state)
{
	static const struct maker_frame frames[] = {
		{.data = MAKER_RANDOM, .seed = 1, .chunk_count = 10, .chunk_bytes = 70000},
		{.data = MAKER_RANDOM, .seed = 2, .chunk_count = 10, .chunk_bytes = 70000},
		{.data = MAKER_RANDOM, .seed = 3, .chunk_count = 20, .chunk_bytes = 70000},
	};
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, frames, 3);
	struct rewrite *w = begin(MAKER_REPO_A, (uint64_t)1 << 20);
	struct rewrite_result r;
	struct err err = ERR_INIT;
	OK(copy_pack(w, old, MAKER_REPO_A, &err));
	assert_int_equal(maker_file_count(&m), 4);
	OK(finish(w, old, &r, &err));
	assert_true(rewrite_free(w));
	assert_int_equal(r.packs, 3);
	assert_int_equal(r.moved, 40);
	assert_int_equal(
		count("SELECT sum(bytes_before)::bigint FROM pack"), maker_file_bytes(&m, old));
	assert_int_equal(count("SELECT sum(raw_bytes)::bigint FROM pack"), 40 * 70000);
	assert_int_equal(retire(0).removed, 1);
	maker_check(&m);
}

static void
test_a_pack_nobody_names(void **state)
{
	static const struct maker_frame frames[] = {{.data = MAKER_TEXT,
		.seed = 9,
		.chunk_count = 3,
		.chunk_bytes = 100,
		.no_rows = true}};
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, frames, 1);
	struct rewrite *w = begin(MAKER_REPO_A, (uint64_t)8 << 20);
	struct rewrite_result r;
	struct err err = ERR_INIT;
	OK(finish(w, old, &r, &err));
	assert_true(rewrite_free(w));
	assert_int_equal(r.packs + r.moved, 0);
	assert_int_equal(count("SELECT packs_before FROM recompression"), 0);
	assert_int_equal(retire(0).removed, 1);
	assert_int_equal(maker_file_count(&m), 0);
}

/* A source that needs more new packs than there may be gets larger ones. */
static void
test_many_times_the_size_of_a_pack(void **state)
{
	static const struct maker_frame frame = {
		.data = MAKER_RANDOM, .chunk_count = 10, .chunk_bytes = 70000};
	struct maker_frame frames[30];
	struct rewrite_result r;
	struct err err = ERR_INIT;
	(void)state;

	for (unsigned i = 0; i < 30; i++) {
		frames[i] = frame;
		frames[i].seed = i + 1;
	}
	uint64_t old = maker_pack(&m, MAKER_REPO_A, frames, 30);
	expected_bytes = maker_file_bytes(&m, old);
	struct rewrite *w = begin(MAKER_REPO_A, (uint64_t)1 << 20);
	expected_bytes = EXPECTED_BYTES;
	OK(copy_pack(w, old, MAKER_REPO_A, &err));
	OK(finish(w, old, &r, &err));
	assert_true(rewrite_free(w));
	assert_in_range(r.packs, 2, 16);
	assert_int_equal(r.moved, 300);
	maker_check(&m);
}

static const char *stuck_name; /* of a file that cannot be removed */

int
unlinkat(int fd, const char *name, int flags)
{
	if (stuck_name != NULL && strcmp(name, stuck_name) == 0) {
		errno = EPERM;
		return -1;
	}
	return (int)syscall(SYS_unlinkat, fd, name, flags);
}

/* Nobody can remove the first pack's file: the others go all the same. */
static void
test_a_pack_that_cannot_be_removed(void **state)
{
	const struct retire_options options = {fx.db, m.dir, m.readers, 0};
	struct retire_report report;
	struct err err = ERR_INIT;
	char path[4096];
	(void)state;

	uint64_t stuck = maker_pack(&m, MAKER_REPO_A, &three[0], 1);
	uint64_t free_to_go = maker_pack(&m, MAKER_REPO_A, &three[1], 1);
	rewrite(stuck, MAKER_REPO_A);
	rewrite(free_to_go, MAKER_REPO_A);
	maker_path(&m, stuck, path, sizeof path);
	stuck_name = strrchr(path, '/') + 1;
	enum rc rc = retire_packs(&options, &report, &err);
	stuck_name = NULL;
	assert_int_equal(rc, RC_IO);
	assert_int_equal(report.removed, 1);
	assert_false(maker_has_file(&m, free_to_go));
	assert_true(maker_has_file(&m, stuck));
	assert_int_equal(retire(0).removed, 1);
	maker_check(&m);
}

/* ---- reading back ---- */

static unsigned flips;

static enum rc
flip_the_new_pack(void *arg, struct err *err)
{
	(void)arg;
	(void)err;
	if (flips++ == 0)
		maker_flip(&m, (uint64_t)count("SELECT max(id) FROM pack"), 4096 + 2000);
	return RC_OK;
}

static void
test_a_new_pack_that_the_disk_has_spoilt(void **state)
{
	struct rewrite_result r;
	struct err err = ERR_INIT;
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	struct rewrite *w = begin(MAKER_REPO_A, (uint64_t)8 << 20);
	OK(copy_pack(w, old, MAKER_REPO_A, &err));
	flips = 0;
	assert_int_equal(finish_asking(w, old, flip_the_new_pack, &r, &err), RC_CORRUPT);
	assert_true(flips > 0);
	assert_true(rewrite_free(w));
	assert_int_equal(maker_file_count(&m), 1);
	assert_int_equal(maker_row(&m, old).state, PACK_SEALED);
	maker_check(&m);
}

/* Bytes that went wrong in memory: every checksum of the new pack is right. */
static void
test_wrong_bytes_with_right_checksums(void **state)
{
	static const struct maker_frame wrong[] = {
		{.data = MAKER_TEXT, .seed = 1, .chunk_count = 3, .chunk_bytes = 5000, .level = 1},
		{.data = MAKER_RANDOM,
			.seed = 2,
			.chunk_count = 2,
			.chunk_bytes = 7000,
			.bad_bytes = true},
	};
	struct rewrite_result r;
	struct err err = ERR_INIT;
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, wrong, 2);
	struct rewrite *w = begin(MAKER_REPO_A, (uint64_t)8 << 20);
	OK(copy_pack(w, old, MAKER_REPO_A, &err));
	assert_int_equal(finish(w, old, &r, &err), RC_CORRUPT);
	assert_string_equal(err.kind, "corrupt-data");
	assert_true(rewrite_free(w));
	assert_int_equal(maker_file_count(&m), 1);
	assert_int_equal(maker_row(&m, old).state, PACK_SEALED);
}

static enum rc
no(void *arg, struct err *err)
{
	(void)arg;
	return err_set(err, RC_AGAIN, NULL, "the end");
}

static void
test_no_permit_to_read_back(void **state)
{
	struct rewrite_result r;
	struct err err = ERR_INIT;
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	struct rewrite *w = begin(MAKER_REPO_A, (uint64_t)8 << 20);
	OK(copy_pack(w, old, MAKER_REPO_A, &err));
	assert_int_equal(finish_asking(w, old, no, &r, &err), RC_AGAIN);
	assert_true(rewrite_free(w));
	assert_int_equal(maker_file_count(&m), 1);
	maker_check(&m);
}

/* ---- what others do meanwhile ---- */

/* Between the copy and the swap a reader marks a frame, an upload heals another chunk, and rows
 * go: none of that is undone. */
static void
test_rows_that_changed_stay_as_they_are(void **state)
{
	(void)state;
	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	struct rewrite *w = begin(MAKER_REPO_A, (uint64_t)8 << 20);
	struct rewrite_result r;
	struct err err = ERR_INIT;
	OK(copy_pack(w, old, MAKER_REPO_A, &err));

	struct sha256 marked = maker_hash(&three[0], 0);
	struct chunk_row row = maker_locate(&m, MAKER_REPO_A, &marked);
	OK(db_chunk_mark_bad(fx.db, &row, &err));
	struct sha256 healed = maker_hash(&three[1], 1);
	row = maker_locate(&m, MAKER_REPO_A, &healed);
	OK(db_chunk_mark_bad(fx.db, &row, &err));
	uint64_t upload = maker_pack(&m, MAKER_REPO_A, &three[1], 1);
	struct sha256 gone = maker_hash(&three[2], 3);
	fixture_sql(fx.db, "DELETE FROM chunk WHERE hash = (SELECT hash FROM chunk WHERE"
			   " length = 9000 ORDER BY raw_offset DESC LIMIT 1)");

	OK(finish(w, old, &r, &err));
	assert_true(rewrite_free(w));
	assert_int_equal(r.chunks, THREE_CHUNKS);
	assert_int_equal(r.moved, 3);
	assert_int_equal(maker_locate(&m, MAKER_REPO_A, &marked).length, 0);
	assert_int_equal(maker_locate(&m, MAKER_REPO_A, &healed).pack_id, upload);
	assert_int_equal(maker_locate(&m, MAKER_REPO_A, &gone).length, 0);
	/* bad rows name the old pack: it stays until somebody has healed them */
	struct retire_report report = retire(0);
	assert_int_equal(report.kept, 1);
	assert_true(maker_has_file(&m, old));
	maker_check(&m);
	maker_pack(&m, MAKER_REPO_A, &three[0], 1);
	report = retire(0);
	assert_int_equal(report.removed, 1);
	maker_check(&m);
	assert_int_equal(count("SELECT count(*) FROM chunk WHERE state = 0"), 8);
}

/* A reader that failed at the old place marks it after the swap: it hits nothing. */
static void
test_a_late_mark_hits_nothing(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	struct sha256 hash = maker_hash(&three[0], 0);
	struct chunk_row row = maker_locate(&m, MAKER_REPO_A, &hash);
	rewrite(old, MAKER_REPO_A);
	OK(db_chunk_mark_bad(fx.db, &row, &err));
	assert_int_equal(count("SELECT count(*) FROM chunk WHERE state <> 0"), 0);
}

static void
test_only_one_of_two_rewrites_counts(void **state)
{
	struct rewrite_result r;
	struct err err = ERR_INIT;
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	struct rewrite *one = begin(MAKER_REPO_A, (uint64_t)8 << 20);
	struct rewrite *two = begin(MAKER_REPO_A, (uint64_t)8 << 20);
	OK(copy_pack(one, old, MAKER_REPO_A, &err));
	OK(copy_pack(two, old, MAKER_REPO_A, &err));
	OK(finish(two, old, &r, &err));
	struct rewrite_result unused;
	assert_int_equal(finish(one, old, &unused, &err), RC_CONFLICT);
	assert_string_equal(err.kind, "pack-conflict");
	assert_true(rewrite_free(one));
	assert_true(rewrite_free(two));
	assert_int_equal(maker_file_count(&m), 2);
	maker_check(&m);
	/* nor does a third one of what is gone */
	assert_int_equal(retire(0).removed, 1);
	struct rewrite *three_ = begin(MAKER_REPO_A, (uint64_t)8 << 20);
	err_clear(&err);
	assert_int_equal(copy_pack(three_, old, MAKER_REPO_A, &err), RC_NOT_FOUND);
	assert_true(rewrite_free(three_));
	maker_check(&m);
}

static void
test_a_rewrite_that_is_not_finished_leaves_nothing(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	assert_true(rewrite_free(begin(MAKER_REPO_A, (uint64_t)8 << 20)));
	struct rewrite *w = begin(MAKER_REPO_A, (uint64_t)8 << 20);
	OK(copy_pack(w, old, MAKER_REPO_A, &err));
	assert_int_equal(maker_file_count(&m), 2);
	assert_int_equal(count("SELECT count(*) FROM pack WHERE state = 4"), 1);
	assert_true(rewrite_free(w));
	assert_true(rewrite_free(NULL));
	assert_int_equal(maker_file_count(&m), 1);
	maker_check(&m);
	/* what was left behind is found; what was committed is not touched */
	rewrite(old, MAKER_REPO_A);
	fixture_sql(fx.db, "INSERT INTO pack (repo_id, state) SELECT 1, 4 FROM generate_series(1, "
			   "70)");
	uint64_t settled = 0;
	OK(rewrite_clean(fx.db, m.dir, &settled, &err));
	assert_int_equal(settled, 70);
	assert_int_equal(count("SELECT count(*) FROM pack"), 2);
	maker_check(&m);
}

/* Moving on and on, while chunks are looked up, stored a second time, marked and healed. */
struct others {
	pthread_t thread;
	atomic_bool stop;
	struct chunk_row copies[2][THREE_CHUNKS]; /* by repository: second copies of all chunks */
	_Atomic uint64_t rounds;
};

static enum rc
run_store(struct db_tx *tx, void *arg, struct err *err)
{
	const struct chunk_row *rows = arg;
	const struct chunk_row *sorted[THREE_CHUNKS];

	for (size_t i = 0; i < THREE_CHUNKS; i++)
		sorted[i] = &rows[i];
	qsort(sorted, THREE_CHUNKS, sizeof *sorted, chunk_row_cmp);
	return db_chunk_upsert(tx, sorted, THREE_CHUNKS, err);
}

/* What nobody marks is known at every moment. */
static void
expect_known(struct others *o)
{
	const struct sha256 *hashes[THREE_CHUNKS];
	struct chunk_place places[THREE_CHUNKS];
	struct err err = ERR_INIT;

	for (size_t i = 0; i < THREE_CHUNKS; i++)
		hashes[i] = &o->copies[0][i].hash;
	OK(db_chunk_known(fx.db, MAKER_REPO_A, hashes, THREE_CHUNKS, places, &err));
	for (size_t i = 0; i < THREE_CHUNKS; i++)
		assert_true(places[i].pack_id > 0);
}

static void *
others_main(void *arg)
{
	struct others *o = arg;
	struct err err = ERR_INIT;

	for (unsigned i = 0; !atomic_load(&o->stop); i++) {
		expect_known(o);
		OK(db_run(fx.db, run_store, o->copies[0], &err));
		struct chunk_row row =
			maker_locate(&m, MAKER_REPO_B, &o->copies[1][i % THREE_CHUNKS].hash);
		if (row.length > 0)
			OK(db_chunk_mark_bad(fx.db, &row, &err));
		OK(db_run(fx.db, run_store, o->copies[1], &err));
		atomic_fetch_add(&o->rounds, 1);
	}
	return NULL;
}

/* A pack of copies that nobody names yet, and that is open as far as anybody knows. */
static void
make_copies(struct others *o, unsigned repo)
{
	const struct source_tools t = tools();
	struct maker_frame frames[3];
	struct source *s = NULL;
	struct err err = ERR_INIT;

	memcpy(frames, three, sizeof frames);
	for (size_t i = 0; i < 3; i++)
		frames[i].no_rows = true;
	uint64_t id = maker_pack(&m, repo, frames, 3);
	OK(source_open(&t, id, repo, &s, &err));
	for (size_t f = 0, n = 0; f < s->frame_count; f++) {
		uint64_t raw_offset = 0;
		for (uint32_t i = 0; i < s->frames[f].chunk_count; i++, n++) {
			o->copies[repo - 1][n] = (struct chunk_row){
				.repo_id = repo,
				.hash = s->chunks[n].hash,
				.pack_id = id,
				.frame_offset = s->frames[f].offset,
				.frame_bytes = s->frames[f].bytes,
				.raw_offset = raw_offset,
				.length = s->chunks[n].length,
			};
			raw_offset += s->chunks[n].length;
		}
	}
	source_free(s);
	fixture_sql(fx.db, "UPDATE pack SET state = 0 WHERE id = (SELECT max(id) FROM pack)");
}

static void
test_rows_are_written_meanwhile(void **state)
{
	struct others o = {.stop = false};
	size_t wrong = 0;
	(void)state;

	uint64_t a = maker_pack(&m, MAKER_REPO_A, three, 3);
	uint64_t b = maker_pack(&m, MAKER_REPO_B, three, 3);
	make_copies(&o, MAKER_REPO_A);
	make_copies(&o, MAKER_REPO_B);
	assert_int_equal(pthread_create(&o.thread, NULL, others_main, &o), 0);
	for (int i = 0; i < 40 || atomic_load(&o.rounds) < 40; i++) {
		struct rewrite_result r = rewrite(a, MAKER_REPO_A);
		/* nobody takes these away from where they are */
		assert_int_equal(r.moved, THREE_CHUNKS);
		a = r.last_pack;
		b = rewrite(b, MAKER_REPO_B).last_pack;
		retire(0);
	}
	atomic_store(&o.stop, true);
	pthread_join(o.thread, NULL);
	while (retire(0).removed > 0)
		;
	assert_int_equal(maker_true_rows(&m, &wrong), 2 * THREE_CHUNKS);
	assert_int_equal(wrong, 0);
	fixture_sql(fx.db, "UPDATE pack SET state = 1 WHERE state = 0");
	maker_check(&m);
	assert_int_equal(maker_file_count(&m), 4);
}

/* ---- dropped repositories ---- */

static void
drop(void)
{
	fixture_sql(fx.db, "UPDATE repo SET name = NULL, dropped_at = now() WHERE id = 1");
}

static void
test_a_dropped_repository_gets_no_new_packs(void **state)
{
	struct rewrite_result r;
	struct err err = ERR_INIT;
	bool is_live = true;
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	struct rewrite *late = begin(MAKER_REPO_A, (uint64_t)8 << 20);
	struct rewrite *w = begin(MAKER_REPO_A, (uint64_t)8 << 20);
	OK(copy_pack(w, old, MAKER_REPO_A, &err));
	drop();
	OK(db_repo_is_live(fx.db, 1, &is_live, &err));
	assert_false(is_live);
	assert_int_equal(copy_pack(late, old, MAKER_REPO_A, &err), RC_NOT_FOUND);
	assert_string_equal(err.kind, "repo-not-found");
	err_clear(&err);
	/* the sweep leaves the pack that is being written, and so the repository, to us */
	uint64_t ids[8];
	size_t n = 0;
	OK(db_pack_list(fx.db, 1, 0, ids, 8, &n, &err));
	assert_int_equal(n, 1);
	assert_int_equal(ids[0], old);
	fixture_sql(fx.db, "DELETE FROM chunk WHERE repo_id = 1");
	OK(pack_remove(m.dir, old, &err));
	pack_readers_forget(m.readers, old);
	OK(db_repo_delete(fx.db, 1, &err));
	assert_int_equal(count("SELECT count(*) FROM repo WHERE id = 1"), 1);
	assert_int_equal(count("SELECT count(*) FROM pack WHERE state <> 4"), 0);
	assert_int_equal(copy_pack(w, old, MAKER_REPO_A, &err), RC_NOT_FOUND);
	err_clear(&err);
	const struct rewrite_end end = {.sources = &old, .source_count = 1};
	assert_int_equal(rewrite_finish(w, &end, &r, &err), RC_NOT_FOUND);
	err_clear(&err);
	assert_true(rewrite_free(w));
	assert_true(rewrite_free(late));
	assert_int_equal(maker_file_count(&m), 0);
	OK(db_repo_delete(fx.db, 1, &err));
	assert_int_equal(count("SELECT count(*) FROM repo WHERE id = 1"), 0);
	assert_int_equal(count("SELECT count(*) FROM pack"), 0);
	OK(db_repo_is_live(fx.db, 1, &is_live, &err));
	assert_false(is_live);
}

/* Retired packs of a dropped repository are the sweep's. */
static void
test_a_dropped_repository_keeps_its_retired_packs(void **state)
{
	(void)state;
	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	rewrite(old, MAKER_REPO_A);
	drop();
	struct retire_report report = retire(0);
	assert_int_equal(report.removed + report.kept, 0);
	assert_true(maker_has_file(&m, old));
}

/* ---- the last copy ---- */

/* The database is a backup from before the old packs went; what replaced them is missing. */
static void
test_the_last_copy_is_not_removed(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	struct rewrite_result r = rewrite(old, MAKER_REPO_A);
	pack_readers_forget(m.readers, r.last_pack);
	OK(pack_remove(m.dir, r.last_pack, &err));
	struct retire_report report = retire(0);
	assert_int_equal(report.kept, 1);
	assert_int_equal(report.removed, 0);
	assert_true(maker_has_file(&m, old));
}

static void
test_a_copy_that_may_heal_is_not_removed(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	rewrite(old, MAKER_REPO_A);
	struct sha256 hash = maker_hash(&three[2], 0);
	struct chunk_row row = maker_locate(&m, MAKER_REPO_A, &hash);
	OK(db_chunk_mark_bad(fx.db, &row, &err));
	assert_int_equal(retire(0).kept, 1);
	assert_true(maker_has_file(&m, old));
}

static void
test_damaged_packs_are_not_removed(void **state)
{
	(void)state;
	uint64_t old = maker_closed_pack(&m, MAKER_REPO_A, three, 3);
	rewrite(old, MAKER_REPO_A);
	maker_flip(&m, old, 4096 + 300);
	pack_readers_forget(m.readers, old);
	assert_int_equal(retire(0).kept, 1);
	assert_true(maker_has_file(&m, old));
}

/* A process died between file and row. */
static void
test_a_row_without_a_file_goes(void **state)
{
	struct err err = ERR_INIT;
	(void)state;

	uint64_t old = maker_pack(&m, MAKER_REPO_A, three, 3);
	rewrite(old, MAKER_REPO_A);
	pack_readers_forget(m.readers, old);
	OK(pack_remove(m.dir, old, &err));
	assert_int_equal(retire(0).removed, 1);
	assert_false(maker_row(&m, old).is_there);
	maker_check(&m);
	/* but not while a row names it */
	old = maker_pack(&m, MAKER_REPO_B, three, 3);
	fixture_sql(fx.db, "UPDATE pack SET state = 3 WHERE repo_id = 2");
	pack_readers_forget(m.readers, old);
	OK(pack_remove(m.dir, old, &err));
	assert_int_equal(retire(0).kept, 1);
	assert_true(maker_row(&m, old).is_there);
}

/* Rows that name it come up in the very transaction that would delete its row. */
static enum rc
must_not_be_called(void *arg, uint64_t id, struct err *err)
{
	(void)arg;
	(void)id;
	return err_set(err, RC_BUG, NULL, "removed");
}

static void
test_removal_looks_again(void **state)
{
	struct err err = ERR_INIT;
	struct source *s = NULL;
	(void)state;

	uint64_t id = maker_pack(&m, MAKER_REPO_A, three, 3);
	const struct source_tools t = tools();
	OK(source_open(&t, id, MAKER_REPO_A, &s, &err));
	struct db_retired_removal r = {
		.pack = {.id = id, .repo_id = MAKER_REPO_A},
		.chunks = s->chunks,
		.chunk_count = s->chunk_count,
		.remove = must_not_be_called,
	};
	/* not retired: nothing happens */
	OK(db_retired_remove(fx.db, &r, &err));
	assert_true(r.removed);
	fixture_sql(fx.db, "UPDATE pack SET state = 3");
	OK(db_retired_remove(fx.db, &r, &err));
	assert_false(r.removed);
	fixture_sql(fx.db, "UPDATE chunk SET state = 1");
	OK(db_retired_remove(fx.db, &r, &err));
	assert_false(r.removed);
	source_free(s);
}

/* More packs than one call looks at, some of which stay. */
static void
test_many_retired_packs(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 11; i++) {
		struct maker_frame f = three[0];
		f.seed = 100 + i;
		rewrite(maker_pack(&m, i % 2 + 1, &f, 1), i % 2 + 1);
	}
	struct retire_report report = retire(0);
	assert_true(report.removed > 0 && report.removed < 11 && report.more);
	uint64_t removed = report.removed;
	while (report.more) {
		report = retire(0);
		removed += report.removed;
	}
	assert_int_equal(removed, 11);
	maker_check(&m);
	assert_int_equal(maker_file_count(&m), 11);
}

/* ---- sources ---- */

static void
test_what_is_alive_in_a_pack(void **state)
{
	static const struct maker_frame frames[] = {
		{.data = MAKER_TEXT, .seed = 1, .chunk_count = 3, .chunk_bytes = 5000, .level = 1},
		{.data = MAKER_TEXT,
			.seed = 5,
			.chunk_count = 2,
			.chunk_bytes = 6000,
			.no_rows = true},
		{.data = MAKER_RANDOM, .seed = 6, .chunk_count = 2000, .chunk_bytes = 40},
	};
	const struct source_tools t = tools();
	struct source *s = NULL;
	struct err err = ERR_INIT;
	(void)state;

	for (int sealed = 0; sealed < 2; sealed++) {
		uint64_t id = sealed ? maker_pack(&m, MAKER_REPO_A, frames, 3)
				     : maker_closed_pack(&m, MAKER_REPO_B, frames, 3);
		unsigned repo = sealed ? MAKER_REPO_A : MAKER_REPO_B;
		OK(source_open(&t, id, repo, &s, &err));
		assert_false(s->is_damaged);
		assert_int_equal(s->frame_count, 3);
		assert_int_equal(s->chunk_count, 2005);
		assert_int_equal(s->raw_bytes, 15000 + 12000 + 80000);
		OK(source_mark_live(&t, s, &err));
		assert_int_equal(s->live_count, 2003);
		assert_int_equal(s->live_bytes, 15000 + 80000);
		assert_int_equal(s->frames[0].live_count, 3);
		assert_int_equal(s->frames[1].live_count, 0);
		assert_int_equal(s->frames[2].live_count, 2000);
		assert_int_equal(s->frames[2].first, 5);
		source_free(s);
	}
	/* a second copy of chunks that have a place already */
	uint64_t id = maker_pack(&m, MAKER_REPO_A, frames, 1);
	OK(source_open(&t, id, MAKER_REPO_A, &s, &err));
	OK(source_mark_live(&t, s, &err));
	assert_int_equal(s->live_count, 0);
	source_free(s);
	assert_int_equal(source_open(&t, id + 1, MAKER_REPO_A, &s, &err), RC_NOT_FOUND);
	assert_null(s);
	source_free(NULL);
}

static int
start_afresh(void **state)
{
	(void)state;
	maker_clear(&m);
	return 0;
}

#define TEST(fn) cmocka_unit_test_setup(fn, start_afresh)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_chunks_move_and_the_pack_goes),
		TEST(test_closed_packs_too),
		TEST(test_several_new_packs),
		TEST(test_a_pack_nobody_names),
		TEST(test_many_times_the_size_of_a_pack),
		TEST(test_a_pack_that_cannot_be_removed),
		TEST(test_a_new_pack_that_the_disk_has_spoilt),
		TEST(test_wrong_bytes_with_right_checksums),
		TEST(test_no_permit_to_read_back),
		TEST(test_rows_that_changed_stay_as_they_are),
		TEST(test_a_late_mark_hits_nothing),
		TEST(test_only_one_of_two_rewrites_counts),
		TEST(test_a_rewrite_that_is_not_finished_leaves_nothing),
		TEST(test_rows_are_written_meanwhile),
		TEST(test_a_dropped_repository_gets_no_new_packs),
		TEST(test_a_dropped_repository_keeps_its_retired_packs),
		TEST(test_the_last_copy_is_not_removed),
		TEST(test_a_copy_that_may_heal_is_not_removed),
		TEST(test_damaged_packs_are_not_removed),
		TEST(test_a_row_without_a_file_goes),
		TEST(test_removal_looks_again),
		TEST(test_many_retired_packs),
		TEST(test_what_is_alive_in_a_pack),
	};

	fixture_init(&fx, false);
	maker_open(&m, &fx);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	maker_close(&m);
	fixture_done(&fx);
	return failed;
}
