/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_METER_H
#define DG_METER_H

#include <stdatomic.h>
#include <stdint.h>

/* meter: running counts of what ingest did for one owner (a stage), read live by progress.
 *
 * "received" and "durable" are two clocks: the first counts bytes taken from clients, the second
 * bytes whose chunks are in a committed transaction. Each counter only grows.
 * Threads: any; relaxed atomics, a reader sees each counter exact but not all of one instant. */

enum meter_stage {
	METER_RECEIVE, /* copying body bytes and cutting, HTTP or unpacking thread */
	METER_HASH,
	METER_LOOKUP,
	METER_COMPRESS,
	METER_WRITE,
	METER_SYNC,
	METER_SQL,
	METER_STAGES,
};

struct meter {
	_Atomic uint64_t received_bytes;
	_Atomic uint64_t chunked_bytes;
	_Atomic uint64_t hashed_bytes;
	_Atomic uint64_t dedup_bytes;
	_Atomic uint64_t new_bytes;
	_Atomic uint64_t
		stored_bytes; /* what the new bytes take in packs, frame headers included */
	_Atomic uint64_t durable_bytes;
	_Atomic uint64_t chunks;
	_Atomic uint64_t new_chunks;
	_Atomic uint64_t files_received;
	_Atomic uint64_t files_durable;
	_Atomic uint64_t stage_ns[METER_STAGES]; /* wall time spent, summed over threads */
	uint64_t group; /* the committer's: the last group that was counted here */
};

static inline void
meter_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t
meter_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)counter, memory_order_relaxed);
}

#endif
