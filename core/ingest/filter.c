/* SPDX-License-Identifier: Apache-2.0 */
/* The filter answers "certainly new" without the database. It is filled in the background after
 * start from the keys of table chunk; until then every chunk that is not known is asked for, which
 * is slower and just as right. What is committed meanwhile is added by the committer, so nothing is
 * missing when the filter is published. */
#include <stdlib.h>
#include <time.h>

#include "ingest_internal.h"

#define FILTER_BITS      12
#define FILTER_KEYS_MIN  ((uint64_t)1 << 20)
#define FILTER_PAGE_KEYS 20000

static void
nap_ms(struct ingest *in, int ms)
{
	for (; ms > 0 && !atomic_load(&in->stopping); ms -= 50) {
		struct timespec nap = {.tv_nsec = 50000000};
		nanosleep(&nap, NULL);
	}
}

/* All keys once, in order. false: stopped. */
static bool
fill(struct ingest *in, struct chunk_key *page)
{
	struct chunk_key after = {.repo_id = 0};
	size_t count;

	do {
		struct err err = ERR_INIT;
		if (atomic_load(&in->stopping))
			return false;
		if (db_chunk_keys(in->options.db, &after, FILTER_PAGE_KEYS, page, &count, &err) !=
			RC_OK) {
			nap_ms(in, 1000); /* the database is away: go on where we were */
			count = FILTER_PAGE_KEYS;
			continue;
		}
		for (size_t i = 0; i < count; i++)
			bloom_add(in->filter_filling, &page[i].hash, (uint32_t)page[i].repo_id);
		if (count > 0)
			after = page[count - 1];
	} while (count == FILTER_PAGE_KEYS);
	return true;
}

void *
filter_main(void *arg)
{
	struct ingest *in = arg;
	struct chunk_key *page = malloc(FILTER_PAGE_KEYS * sizeof *page);

	if (page != NULL && fill(in, page)) {
		atomic_store_explicit(&in->filter, in->filter_filling, memory_order_release);
		atomic_store(&in->filter_ready, true);
	}
	free(page);
	return NULL;
}

enum rc
filter_open(struct ingest *in, struct err *err)
{
	uint64_t rows = 0;
	uint64_t most = in->options.filter_bytes_max * 8 / FILTER_BITS;

	enum rc rc = db_chunk_estimate(in->options.db, &rows, err);
	if (rc != RC_OK)
		return rc;
	uint64_t keys = rows * 2 < FILTER_KEYS_MIN ? FILTER_KEYS_MIN : rows * 2;
	return bloom_open(keys > most ? most : keys, FILTER_BITS, &in->filter_filling, err);
}
