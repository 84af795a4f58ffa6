/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CHECKSUM_H
#define DG_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* checksum: XXH3, 64 bits: finds torn and rotten bytes, much faster than they can be read.
 *
 * The values are on disk and never change. It is no defence against anyone: for that, sha256.h.
 * Threads: any. */

/* data is borrowed for the call and may be NULL if len is 0. */
uint64_t checksum64(const void *data, size_t len);
/* Another seed, an unrelated value; seed 0 is checksum64. */
uint64_t checksum64_seeded(const void *data, size_t len, uint64_t seed);

#endif
