/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SHA256_KERNEL_H
#define DG_SHA256_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* sha256_kernel: the compression function of SHA-256, three times. For sha256.c only.
 *
 * h is the state as eight words a..h in the order of FIPS 180-4, updated in place; the blocks are
 * of 64 bytes, one after the other, at any alignment. No padding here.
 * Threads: any. */

void sha256_blocks_portable(uint32_t h[8], const uint8_t *p, size_t blocks);

/* Whether the next two may be called. */
bool sha256_has_shani(void);
void sha256_blocks_shani(uint32_t h[8], const uint8_t *p, size_t blocks);
/* The same number of blocks of two messages, interleaved. */
void sha256_blocks_shani_x2(
	uint32_t ha[8], const uint8_t *a, uint32_t hb[8], const uint8_t *b, size_t blocks);

#endif
