/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_COND_H
#define DG_COND_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* cond: condition variables whose deadlines are on the monotonic clock, in nanoseconds as
 * clock_mono_ns tells it. */

/* Destroy with pthread_cond_destroy. */
void cond_init(pthread_cond_t *cond);
/* mtx is held. 0: woken, perhaps for no reason; ETIMEDOUT: until_ns is over. */
int cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mtx, uint64_t until_ns);
/* A moment, for other calls that take one. */
struct timespec cond_timespec(uint64_t ns);

#endif
