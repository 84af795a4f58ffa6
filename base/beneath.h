/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_BENEATH_H
#define DG_BENEATH_H

/* beneath: open what lies below a directory, and nothing else.
 *
 * The kernel judges every step of the path while it takes it (openat2), so that nobody who swaps a
 * directory for a link in between leads it elsewhere: an absolute path, ".." above the directory, a
 * link that leaves it and the magic links of /proc end in EXDEV or ELOOP. Needs Linux 5.6; without
 * it, or where a filter forbids the call, everything fails with ENOSYS or EPERM.
 * Threads: any. */

enum beneath_way {
	BENEATH_LINKS, /* follow relative symbolic links that stay below, cross mounts */
	BENEATH_PLAIN, /* no symbolic link anywhere (ELOOP), no mount point (EXDEV) */
};

/* flags as of open(2), without creating; O_CLOEXEC, O_NOCTTY and O_NONBLOCK are added, so that
 * neither a fifo nor a terminal nor a lease holds the caller. Returns a descriptor, owned by the
 * caller, or -1 and errno. Blocks on the file system alone. */
int beneath_open(int dir, const char *path, int flags, enum beneath_way way);

#endif
