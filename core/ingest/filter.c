/* SPDX-License-Identifier: Apache-2.0 */
/* The filter answers "certainly new" without the database. It is filled in the background after
 * start from the keys of table chunk; until then every chunk that is not known is asked for, which
 * is slower and just as right. What is committed meanwhile is added by the committer, so nothing is
 * missing when the filter is published. */
#include <stdlib.h>
#include <time.h>

#include "db_filter.h"
#include "ingest_internal.h"

#define FILTER_BITS     12
#define FILTER_KEYS_MIN ((uint64_t)1 << 20)

static void
nap_ms(struct ingest *in, int ms)
{
	for (; ms > 0 && !atomic_load(&in->stopping); ms -= 50) {
		struct timespec nap = {.tv_nsec = 50000000};
		nanosleep(&nap, NULL);
	}
}

static bool
take(void *arg, const struct chunk_key *keys, size_t count)
{
	struct ingest *in = arg;

	for (size_t i = 0; i < count; i++)
		bloom_add(in->filter_filling, &keys[i].hash, (uint32_t)keys[i].repo_id);
	return !atomic_load(&in->stopping);
}

void *
filter_main(void *arg)
{
	struct ingest *in = arg;

	while (!atomic_load(&in->stopping)) {
		struct err err = ERR_INIT;
		if (db_filter_keys(in->options.db, take, in, &err) == RC_OK) {
			atomic_store(&in->filter, in->filter_filling);
			atomic_store(&in->filter_ready, true);
			break;
		}
		nap_ms(in, 1000); /* the database is away */
	}
	return NULL;
}

enum rc
filter_open(struct ingest *in, struct err *err)
{
	uint64_t rows = 0;
	uint64_t most = in->options.filter_bytes_max * 8 / FILTER_BITS;

	enum rc rc = db_filter_estimate(in->options.db, &rows, err);
	if (rc != RC_OK)
		return rc;
	uint64_t keys = rows * 2 < FILTER_KEYS_MIN ? FILTER_KEYS_MIN : rows * 2;
	return bloom_open(keys > most ? most : keys, FILTER_BITS, &in->filter_filling, err);
}
