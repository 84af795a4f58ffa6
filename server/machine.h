/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_MACHINE_H
#define DG_MACHINE_H

#include <stdint.h>

/* machine: what this process may use. */

/* Bytes of memory: that of the machine, or what its control groups (version 2) may use, whichever
 * is less. Reads /proc and /sys, which are memory. */
uint64_t machine_memory_bytes(void);

/* Have threads share the allocator's pools (glibc: arenas), one for two cores. With one a thread,
 * as it would be, what a thread has freed is of no use to the others: a third of all memory. Before
 * the first thread; does nothing if the environment says how many (MALLOC_ARENA_MAX). */
void machine_share_pools(void);

#endif
