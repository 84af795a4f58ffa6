/* SPDX-License-Identifier: Apache-2.0 */
/* A worker appends much to packs of its own, and little to packs that all workers share, so that
 * one write makes durable what many wait for. A pack is sealed by the sealer when its set and every
 * batch in flight have let go of it. */
#include <stdlib.h>

#include "clock.h"
#include "db_pack.h"
#include "ingest_internal.h"
#include "pack_dir.h"

#define PACK_FREE_SHARE  16                  /* of free space, that one new pack may take */
#define PACK_BYTES_SHORT ((uint64_t)4 << 20) /* and however little there is */

void
packs_ref(struct open_pack *p)
{
	atomic_fetch_add(&p->refs, 1);
}

void
packs_unref(struct ingest *in, struct open_pack *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	pthread_mutex_lock(&in->seal_mtx);
	p->next = in->seal_list;
	in->seal_list = p;
	pthread_cond_signal(&in->seal_work);
	pthread_mutex_unlock(&in->seal_mtx);
}

void
packs_note_bytes(struct open_pack *p)
{
	atomic_store_explicit(&p->bytes, pack_writer_bytes(p->writer), memory_order_relaxed);
}

uint64_t
ingest_open_bytes(struct ingest *in, uint64_t repo_id)
{
	uint64_t bytes = 0;

	pthread_mutex_lock(&in->seal_mtx);
	for (struct open_pack *p = in->open_list; p != NULL; p = p->older)
		if (p->space->repo_id == repo_id)
			bytes += atomic_load_explicit(&p->bytes, memory_order_relaxed);
	pthread_mutex_unlock(&in->seal_mtx);
	return bytes;
}

void
packs_set_init(struct pack_set *set)
{
	pthread_mutex_init(&set->mtx, NULL);
}

/* mtx is held. */
static void
drop(struct ingest *in, struct pack_set *set, unsigned at)
{
	struct open_pack *p = set->packs[at];

	set->packs[at] = set->packs[--set->count];
	packs_unref(in, p);
}

void
packs_close_idle(struct ingest *in, struct pack_set *set, uint64_t idle_ns)
{
	pthread_mutex_lock(&set->mtx);
	uint64_t now = clock_mono_ns();
	for (unsigned i = 0; i < set->count;) {
		if (now - set->packs[i]->used_ns >= idle_ns)
			drop(in, set, i);
		else
			i++;
	}
	pthread_mutex_unlock(&set->mtx);
}

/* A pack's bytes are allocated when it is made, and gone for everybody else until it is sealed:
 * where space is short, each takes a share of what is left, however many are open. */
static uint64_t
pack_bytes_now(const struct ingest *in)
{
	uint64_t bytes = in->options.pack_bytes;
	uint64_t free_bytes = 0;
	struct err ignored = ERR_INIT;

	if (pack_dir_space(in->options.packs, &free_bytes, &ignored) != RC_OK)
		return bytes;
	uint64_t share = free_bytes / PACK_FREE_SHARE;
	if (share < PACK_BYTES_SHORT)
		share = PACK_BYTES_SHORT;
	return bytes < share ? bytes : share;
}

/* With one reference. */
static enum rc
open_pack(struct ingest *in, const struct ingest_space *space, struct open_pack **out,
	struct err *err)
{
	struct open_pack *p = calloc(1, sizeof *p);

	if (p == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	p->space = space;
	enum rc rc = db_pack_open(in->options.db, space->repo_id, PACK_OPEN, &p->id, err);
	if (rc == RC_OK) {
		struct pack_writer_options options = PACK_WRITER_OPTIONS_INIT;
		options.direct = in->options.pack_direct;
		options.bytes_max = pack_bytes_now(in);
		rc = pack_writer_open(
			in->options.packs, p->id, space->repo_uuid, &options, &p->writer, err);
	}
	if (rc != RC_OK) {
		struct err ignored = ERR_INIT;
		if (p->id != 0)
			db_pack_delete(in->options.db, p->id, &ignored);
		free(p);
		return rc;
	}
	atomic_store(&p->refs, 1);
	packs_note_bytes(p);
	pthread_mutex_lock(&in->seal_mtx);
	p->older = in->open_list;
	if (p->older != NULL)
		p->older->newer = p;
	in->open_list = p;
	pthread_mutex_unlock(&in->seal_mtx);
	*out = p;
	return RC_OK;
}

static unsigned
least_used(const struct pack_set *set)
{
	unsigned at = 0;

	for (unsigned i = 1; i < set->count; i++)
		if (set->packs[i]->used_ns < set->packs[at]->used_ns)
			at = i;
	return at;
}

/* The set's pack of the space, with a reference, or NULL. One that is full or broken is dropped. */
static struct open_pack *
find(struct ingest *in, struct pack_set *set, const struct ingest_space *space, uint64_t bytes)
{
	struct open_pack *found = NULL;

	pthread_mutex_lock(&set->mtx);
	for (unsigned i = 0; i < set->count && found == NULL;) {
		struct open_pack *p = set->packs[i];
		if (p->space != space) {
			i++;
		} else if (atomic_load(&p->poisoned) || !pack_writer_has_room(p->writer, bytes)) {
			drop(in, set, i);
		} else {
			p->used_ns = clock_mono_ns();
			packs_ref(p);
			found = p;
		}
	}
	pthread_mutex_unlock(&set->mtx);
	return found;
}

/* The set gets a reference of its own. Two threads may have opened one each for the same space:
 * both stay until they are full or idle. */
static void
enter(struct ingest *in, struct pack_set *set, struct open_pack *p)
{
	packs_ref(p);
	pthread_mutex_lock(&set->mtx);
	if (set->count == WORKER_PACKS_MAX)
		drop(in, set, least_used(set));
	p->used_ns = clock_mono_ns();
	set->packs[set->count++] = p;
	pthread_mutex_unlock(&set->mtx);
}

enum rc
packs_get(struct ingest *in, struct pack_set *set, const struct ingest_space *space, uint64_t bytes,
	struct open_pack **out, struct err *err)
{
	struct open_pack *p = find(in, set, space, bytes);
	enum rc rc = RC_OK;

	if (p == NULL) {
		rc = open_pack(in, space, &p, err);
		if (rc == RC_OK)
			enter(in, set, p);
	}
	if (rc == RC_OK)
		*out = p;
	return rc;
}

/* A pack that cannot be sealed (full disk, database away) keeps its frames and its rows; it is only
 * without a footer, as after a crash, and the next start closes it. */
static void
seal(struct ingest *in, struct open_pack *p)
{
	struct err err = ERR_INIT;

	if (!atomic_load(&p->poisoned) && pack_writer_seal(p->writer, &err) == RC_OK)
		db_pack_close(
			in->options.db, p->id, PACK_SEALED, pack_writer_bytes(p->writer), &err);
	pthread_mutex_lock(&in->seal_mtx);
	if (p->newer != NULL)
		p->newer->older = p->older;
	else
		in->open_list = p->older;
	if (p->older != NULL)
		p->older->newer = p->newer;
	pthread_mutex_unlock(&in->seal_mtx);
	pack_writer_free(p->writer);
	free(p);
}

static void *
sealer_main(void *arg)
{
	struct ingest *in = arg;

	pthread_mutex_lock(&in->seal_mtx);
	for (;;) {
		while (in->seal_list == NULL && !in->seal_stop)
			pthread_cond_wait(&in->seal_work, &in->seal_mtx);
		struct open_pack *p = in->seal_list;
		if (p == NULL)
			break;
		in->seal_list = p->next;
		pthread_mutex_unlock(&in->seal_mtx);
		seal(in, p);
		pthread_mutex_lock(&in->seal_mtx);
	}
	pthread_mutex_unlock(&in->seal_mtx);
	return NULL;
}

enum rc
packs_start(struct ingest *in, struct err *err)
{
	pthread_mutex_init(&in->seal_mtx, NULL);
	pthread_cond_init(&in->seal_work, NULL);
	int e = pthread_create(&in->sealer, NULL, sealer_main, in);
	return e == 0 ? RC_OK : err_errno(err, e, "start the sealer", NULL);
}

void
packs_stop(struct ingest *in)
{
	pthread_mutex_lock(&in->seal_mtx);
	in->seal_stop = true;
	pthread_cond_signal(&in->seal_work);
	pthread_mutex_unlock(&in->seal_mtx);
	pthread_join(in->sealer, NULL);
}
