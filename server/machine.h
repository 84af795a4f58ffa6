/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_MACHINE_H
#define DG_MACHINE_H

#include <stdint.h>

/* machine: what this process may use. */

/* Bytes of memory: that of the machine, or what its control groups (version 2) may use, whichever
 * is less. Reads /proc and /sys, which are memory. */
uint64_t machine_memory_bytes(void);

#endif
