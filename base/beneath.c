/* SPDX-License-Identifier: Apache-2.0 */
#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AGAIN_TRIES                                                                                \
	8 /* the kernel could not be sure because of a rename elsewhere, and says so               \
	   */

int
beneath_open(int dir, const char *path, int flags, enum beneath_way way)
{
	struct open_how how = {
		/* of a descriptor that is only a place the kernel takes no more than that */
		.flags = (uint64_t)(unsigned)flags | O_CLOEXEC |
			 ((flags & O_PATH) != 0 ? 0 : O_NOCTTY | O_NONBLOCK),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS |
			   (way == BENEATH_PLAIN ? RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV : 0),
	};
	long fd = -1;

	for (int i = 0; i < AGAIN_TRIES; i++) {
		fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return (int)fd;
}
