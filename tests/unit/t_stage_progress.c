/* SPDX-License-Identifier: Apache-2.0 */
/* What progress says of work that comes in phases, alone in its stage and beside other uploads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "stage_internal.h"

static struct stages stages;
static struct stage stage;
static struct repo repo;

static int
setup(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	memset(&stage, 0, sizeof stage);
	stage.ss = &stages;
	stage.repo = &repo;
	stage.expires_us = INT64_MAX;
	stage.lives.next = stage.lives.prev = &stage.lives;
	pthread_mutex_init(&stage.mtx, NULL);
	atomic_store(&stages.bottleneck, "none");
	return stage_map_open(&stage.map, &err) == RC_OK ? 0 : -1;
}

static int
teardown(void **state)
{
	(void)state;
	assert_ptr_equal(stage.lives.next, &stage.lives);
	stage_map_free(stage.map);
	pthread_mutex_destroy(&stage.mtx);
	return 0;
}

static struct progress
look(void)
{
	struct progress p;
	struct err err = ERR_INIT;

	assert_int_equal(stage_progress(&stage, &p, &err), RC_OK);
	progress_done(&p);
	return p;
}

static void
begin(struct stage_live *live)
{
	struct err err = ERR_INIT;

	assert_int_equal(stage_live_begin(&stage, live, &err), RC_OK);
}

static void
phases_are_those_of_the_work(void **state)
{
	struct stage_live live = {.label = "import", .total_bytes = UINT64_MAX, .phased = true};
	const struct stage_sizes sizes = {.small_files = 900, .small_bytes = 90000};

	(void)state;
	atomic_store(&stage.meter.files_received, 7);
	begin(&live);
	stage_live_reach(&live, PHASE_ANALYZING, PROGRESS_PERMILLE_UNKNOWN);
	struct progress p = look();
	assert_int_equal(p.phase, PHASE_ANALYZING);
	assert_true(p.percent < 0);
	assert_int_equal(p.total, UINT64_MAX);
	assert_int_equal(p.files_total, UINT64_MAX);
	assert_int_equal(p.stage.workload, WORKLOAD_UNKNOWN);
	uint64_t seq = p.seq;

	stage_live_plan(&stage, &live, &sizes);
	stage_live_reach(&live, PHASE_PROCESSING, 205);
	stage_live_received(&stage, &live, 45000);
	p = look();
	assert_int_equal(p.phase, PHASE_PROCESSING);
	assert_true(p.percent > 20.4 && p.percent < 20.6);
	assert_int_equal(p.total, 90000);
	assert_int_equal(p.received, 45000);
	assert_int_equal(p.files_total, 907);
	assert_int_equal(p.stage.workload, WORKLOAD_MANY_SMALL);
	assert_true(p.seq > seq);
	seq = p.seq;
	assert_int_equal(look().seq, seq);

	/* who comes late takes nothing back */
	stage_live_reach(&live, PHASE_PROCESSING, 204);
	assert_int_equal(look().seq, seq);

	/* nothing but the phase */
	stage_live_reach(&live, PHASE_FINALIZING, 950);
	p = look();
	assert_int_equal(p.phase, PHASE_FINALIZING);
	assert_true(p.seq > seq);

	stage_live_end(&stage, &live);
	p = look();
	assert_int_equal(p.stage.workload, WORKLOAD_UNKNOWN);
	assert_int_equal(p.files_total, UINT64_MAX);
	assert_int_equal(p.total, 45000);
}

/* Then nobody can speak for the whole stage, and the numbers say it. */
static void
beside_an_upload_the_numbers_count(void **state)
{
	struct stage_live import = {.label = "import", .total_bytes = UINT64_MAX, .phased = true};
	struct stage_live upload = {.label = "a", .total_bytes = 1000};
	const struct stage_sizes sizes = {.large_files = 1, .large_bytes = 9000000};

	(void)state;
	begin(&import);
	begin(&upload);
	stage_live_plan(&stage, &import, &sizes);
	stage_live_reach(&import, PHASE_FINALIZING, 999);
	stage_live_received(&stage, &upload, 1000);
	struct progress p = look();
	assert_int_equal(p.phase, PHASE_PROCESSING);
	assert_int_equal(p.total, 9001000);
	assert_true(p.percent < 1);
	assert_int_equal(p.files_total, UINT64_MAX);
	assert_int_equal(p.stage.workload, WORKLOAD_FEW_LARGE);
	stage_live_end(&stage, &upload);
	assert_int_equal(look().phase, PHASE_FINALIZING);
	stage_live_end(&stage, &import);
}

static void
a_disk_is_no_client(void **state)
{
	struct stage_live import = {.label = "import", .total_bytes = UINT64_MAX, .phased = true};

	(void)state;
	begin(&import);
	atomic_store(&stages.bottleneck, "client");
	assert_string_equal(look().bottleneck, "disk");
	atomic_store(&stages.bottleneck, "cpu");
	assert_string_equal(look().bottleneck, "cpu");
	stage_live_end(&stage, &import);
}

static void
workload_follows_the_bytes(void **state)
{
	static const struct {
		struct stage_sizes sizes;
		enum stage_workload workload;
	} cases[] = {
		{{0, 0, 0, 0}, WORKLOAD_UNKNOWN},
		{{1, 0, 0, 0}, WORKLOAD_MANY_SMALL},
		{{20000, 145000000, 10, 36250000}, WORKLOAD_MANY_SMALL},
		{{20000, 145000000, 10, 36250001}, WORKLOAD_MIXED},
		{{20000, 145000000, 10, 2320000000}, WORKLOAD_FEW_LARGE},
		{{16, 1000000, 10, 2000000}, WORKLOAD_FEW_LARGE},
		{{17, 1000000, 10, 2000000}, WORKLOAD_MIXED},
		{{0, 0, 1, 5000000000}, WORKLOAD_FEW_LARGE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(stage_workload_of(&cases[i].sizes), cases[i].workload);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(phases_are_those_of_the_work),
		T(beside_an_upload_the_numbers_count),
		T(a_disk_is_no_client),
		T(workload_follows_the_bytes),
	};

	return cmocka_run_group_tests_name("stage_progress", tests, NULL, NULL);
}
