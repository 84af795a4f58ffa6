/* SPDX-License-Identifier: Apache-2.0 */
/* Who uses the filter writes down when it began, and the thread that replaces one waits, after it
 * has put the other in its place, until everybody who began before has left: then nobody knows the
 * old one any more. By the same means it knows, before it reads the keys, that every transaction
 * whose keys are missing in the new filter has ended: its rows are there to be read, or will never
 * be, or the answer to its COMMIT was lost, and for those db_filter_keys waits. */
#include "filter.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bloom.h"
#include "clock.h"
#include "cond.h"
#include "db_filter.h"
#include "filter_file.h"
#include "ingest.h"
#include "rand.h"

_Static_assert(FILTER_USERS_MAX == INGEST_WORKERS_MAX + 1, "workers and the committer");

#define RETRY_SECONDS 1 /* the database is away */
#define NAP_NS        1000000

/* A line each, written by one thread and read by the filling one. */
struct user {
	_Alignas(64) _Atomic uint64_t since; /* epoch in which it entered; 0: it is not inside */
};

struct filter {
	struct user users[FILTER_USERS_MAX];
	/* immutable after open */
	struct db *db;
	size_t bytes_max;
	char *path;
	uint8_t id[DB_FILTER_ID_BYTES];
	bool loaded;

	_Atomic(struct bloom *) whole;   /* answers; NULL until it holds all keys */
	_Atomic(struct bloom *) filling; /* gets what is added as well */
	_Atomic uint64_t epoch;          /* from 1 */
	_Atomic uint64_t gone;           /* rows, since the last fill */
	_Atomic uint64_t fills;
	atomic_bool stop;

	/* guarded by mtx */
	pthread_mutex_t mtx;
	pthread_cond_t work;
	bool wanted;   /* fill one */
	bool building; /* one is being filled */
	/* and the two pointers are changed with mtx held, for those who look without being users */

	struct bloom *left; /* the thread's: it was told to stop before it could free this */
	pthread_t thread;
	bool started;
};

/* ---- users ---- */

/* In this order everywhere: the epoch is written down before the pointers are read, and read after
 * they were changed. */
void
filter_enter(struct filter *f, unsigned user)
{
	atomic_store(&f->users[user].since, atomic_load(&f->epoch));
}

/* What the largest filter is made for, whole blocks below bytes_max. */
static uint64_t
keys_max(const struct filter *f)
{
	return f->bytes_max / BLOOM_BLOCK_BYTES * (BLOOM_BLOCK_BYTES * 8) / FILTER_BITS;
}

static bool
is_outgrown(const struct filter *f, const struct bloom *b)
{
	return b != NULL && bloom_is_full(b) && bloom_expected(b) < keys_max(f);
}

void
filter_leave(struct filter *f, unsigned user)
{
	bool grow = is_outgrown(f, atomic_load(&f->whole)) && atomic_load(&f->filling) == NULL;

	atomic_store(&f->users[user].since, 0);
	if (!grow)
		return;
	pthread_mutex_lock(&f->mtx);
	if (!f->building) {
		f->wanted = true;
		pthread_cond_signal(&f->work);
	}
	pthread_mutex_unlock(&f->mtx);
}

bool
filter_excludes(struct filter *f, uint64_t repo_id, const struct sha256 *hash)
{
	struct bloom *b = atomic_load(&f->whole);

	return b != NULL && !bloom_may_have(b, hash, (uint32_t)repo_id);
}

/* filling first: once that is empty again, what it held answers. */
void
filter_add(struct filter *f, uint64_t repo_id, const struct sha256 *hash)
{
	struct bloom *filling = atomic_load(&f->filling);
	struct bloom *whole = atomic_load(&f->whole);

	if (filling != NULL)
		bloom_add(filling, hash, (uint32_t)repo_id);
	if (whole != NULL && whole != filling)
		bloom_add(whole, hash, (uint32_t)repo_id);
}

void
filter_rebuild(struct filter *f)
{
	pthread_mutex_lock(&f->mtx);
	f->wanted = true;
	pthread_cond_signal(&f->work);
	pthread_mutex_unlock(&f->mtx);
}

void
filter_keys_gone(struct filter *f, uint64_t keys)
{
	struct filter_stats s;

	filter_stats(f, &s);
	if (atomic_fetch_add(&f->gone, keys) + keys > s.keys / 4)
		filter_rebuild(f);
}

/* ---- filling ---- */

/* Until nobody is inside who entered before now; false: told to stop first. */
static bool
wait_for_users(struct filter *f)
{
	uint64_t now = atomic_fetch_add(&f->epoch, 1) + 1;

	for (unsigned i = 0; i < FILTER_USERS_MAX; i++) {
		uint64_t since;
		while ((since = atomic_load(&f->users[i].since)) != 0 && since < now) {
			struct timespec nap = {.tv_nsec = NAP_NS};
			if (atomic_load(&f->stop))
				return false;
			nanosleep(&nap, NULL);
		}
	}
	return true;
}

/* whole first: see filter_add. */
static void
set_pointers(struct filter *f, struct bloom *whole, struct bloom *filling)
{
	pthread_mutex_lock(&f->mtx);
	atomic_store(&f->whole, whole);
	atomic_store(&f->filling, filling);
	pthread_mutex_unlock(&f->mtx);
}

/* After it was taken away from where users find it. */
static void
retire(struct filter *f, struct bloom *b)
{
	if (wait_for_users(f))
		bloom_free(b);
	else
		f->left = b;
}

static bool
take(void *arg, const struct chunk_key *keys, size_t count)
{
	struct filter *f = arg;
	struct bloom *b = atomic_load(&f->filling);

	for (size_t i = 0; i < count; i++)
		bloom_add(b, &keys[i].hash, (uint32_t)keys[i].repo_id);
	return !atomic_load(&f->stop);
}

static enum rc
open_fitting(struct filter *f, struct bloom **out, struct err *err)
{
	uint64_t most = keys_max(f);
	uint64_t rows = 0;

	enum rc rc = db_filter_estimate(f->db, &rows, err);
	if (rc != RC_OK)
		return rc;
	uint64_t keys = rows < most / FILTER_ROOM ? rows * FILTER_ROOM : most;
	if (keys < FILTER_KEYS_MIN)
		keys = FILTER_KEYS_MIN;
	return bloom_open(keys < most ? keys : most, FILTER_BITS, out, err);
}

/* false: not now, the database is away or there is no memory. */
static bool
fill(struct filter *f)
{
	struct err err = ERR_INIT;
	struct bloom *fresh = NULL;

	if (open_fitting(f, &fresh, &err) != RC_OK)
		return false;
	uint64_t gone = atomic_load(&f->gone);
	struct bloom *whole = atomic_load(&f->whole);
	set_pointers(f, whole, fresh);
	if (!wait_for_users(f) || db_filter_keys(f->db, take, f, &err) != RC_OK) {
		set_pointers(f, whole, NULL);
		retire(f, fresh);
		return false;
	}
	set_pointers(f, fresh, NULL);
	atomic_fetch_sub(&f->gone, gone);
	atomic_fetch_add(&f->fills, 1);
	retire(f, whole);
	return true;
}

static void
pause_before_retry(struct filter *f)
{
	uint64_t until_ns = clock_mono_ns() + RETRY_SECONDS * UINT64_C(1000000000);

	while (!atomic_load(&f->stop) && cond_wait_until(&f->work, &f->mtx, until_ns) == 0)
		;
}

static void *
filter_main(void *arg)
{
	struct filter *f = arg;

	pthread_mutex_lock(&f->mtx);
	while (!atomic_load(&f->stop)) {
		if (!f->wanted) {
			pthread_cond_wait(&f->work, &f->mtx);
			continue;
		}
		f->wanted = false;
		f->building = true;
		pthread_mutex_unlock(&f->mtx);
		bool done = fill(f);
		pthread_mutex_lock(&f->mtx);
		f->building = false;
		if (!done) {
			f->wanted = true;
			pause_before_retry(f);
		}
	}
	pthread_mutex_unlock(&f->mtx);
	return NULL;
}

/* ---- from run to run ---- */

static void
load(struct filter *f, const uint8_t *before)
{
	struct err ignored = ERR_INIT;
	struct bloom *saved = NULL;

	if (f->path == NULL)
		return;
	if (filter_file_load(f->path, before, f->bytes_max, &saved, &ignored) == RC_OK) {
		atomic_store(&f->whole, saved);
		f->loaded = true;
		f->wanted = is_outgrown(f, saved);
	}
	filter_file_remove(f->path);
}

static void
init_sync(struct filter *f)
{

	pthread_mutex_init(&f->mtx, NULL);
	cond_init(&f->work);
}

enum rc
filter_open(const struct filter_options *options, struct filter **out, struct err *err)
{
	uint8_t before[DB_FILTER_ID_BYTES];
	struct filter *f = aligned_alloc(_Alignof(struct filter), sizeof *f);

	*out = NULL;
	if (f == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	memset(f, 0, sizeof *f);
	init_sync(f);
	f->db = options->db;
	f->bytes_max = options->bytes_max;
	atomic_init(&f->epoch, 1);
	f->wanted = true;
	rand_bytes(f->id, sizeof f->id);
	if (options->path != NULL && (f->path = strdup(options->path)) == NULL) {
		filter_close(f);
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	}
	enum rc rc = db_filter_begin(f->db, f->id, before, err);
	if (rc != RC_OK) {
		filter_close(f);
		return rc;
	}
	load(f, before);
	*out = f;
	return RC_OK;
}

enum rc
filter_start(struct filter *f, struct err *err)
{
	int e = pthread_create(&f->thread, NULL, filter_main, f);

	f->started = e == 0;
	return e == 0 ? RC_OK : err_errno(err, e, "start the filter", NULL);
}

void
filter_close(struct filter *f)
{
	struct err ignored = ERR_INIT;

	if (f == NULL)
		return;
	if (f->started) {
		pthread_mutex_lock(&f->mtx);
		atomic_store(&f->stop, true);
		pthread_cond_signal(&f->work);
		pthread_mutex_unlock(&f->mtx);
		pthread_join(f->thread, NULL);
	}
	struct bloom *whole = atomic_load(&f->whole);
	/* without a file the next run reads the keys: nobody needs to be told */
	if (f->path != NULL && whole != NULL)
		filter_file_save(f->path, f->id, whole, &ignored);
	bloom_free(whole);
	bloom_free(f->left);
	pthread_cond_destroy(&f->work);
	pthread_mutex_destroy(&f->mtx);
	free(f->path);
	free(f);
}

void
filter_stats(struct filter *f, struct filter_stats *out)
{
	*out = (struct filter_stats){.fills = atomic_load(&f->fills)};
	pthread_mutex_lock(&f->mtx);
	const struct bloom *whole = atomic_load(&f->whole);
	const struct bloom *filling = atomic_load(&f->filling);
	if (whole != NULL) {
		out->ready = true;
		out->loaded = f->loaded && out->fills == 0;
		out->limited = bloom_is_full(whole) && !is_outgrown(f, whole);
		out->keys = bloom_count(whole);
		out->expected = bloom_expected(whole);
		out->bytes = bloom_bytes(whole);
	}
	if (filling != NULL)
		out->bytes += bloom_bytes(filling);
	pthread_mutex_unlock(&f->mtx);
}
