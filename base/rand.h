/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_RAND_H
#define DG_RAND_H

#include <stddef.h>
#include <stdint.h>

/* rand: unpredictable bytes from the kernel. Never fails once the system has booted; aborts if the
 * kernel has no getrandom. */
void rand_bytes(void *out, size_t len);
uint64_t rand_u64(void);

#endif
