/* SPDX-License-Identifier: Apache-2.0 */
#include "background.h"

#include <linux/ioprio.h>
#include <malloc.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICEST 19

bool
background_enter(void)
{
	const struct sched_param param = {.sched_priority = 0};
	pid_t self = (pid_t)syscall(SYS_gettid);
	bool ok = sched_setscheduler(self, SCHED_IDLE, &param) == 0;

	/* for file systems that look at it, and where SCHED_IDLE is refused */
	if (setpriority(PRIO_PROCESS, (id_t)self, NICEST) != 0)
		ok = false;
	if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, self,
		    IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)) != 0)
		ok = false;
	return ok;
}

void
background_give_memory(void)
{
	malloc_trim(0);
}
