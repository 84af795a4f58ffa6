/* SPDX-License-Identifier: Apache-2.0 */
#include "cond.h"

#define SECOND_NS UINT64_C(1000000000)

void
cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

struct timespec
cond_timespec(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS)};
}

int
cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mtx, uint64_t until_ns)
{
	struct timespec until = cond_timespec(until_ns);

	return pthread_cond_timedwait(cond, mtx, &until);
}
