/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_IMPORT_ROOTS_H
#define DG_IMPORT_ROOTS_H

#include <stddef.h>

#include "err.h"

/* import_roots: the folders of this machine that clients may import from.
 *
 * Each is opened once, at start, and held: a root that is renamed, or over which something is
 * mounted later, stays what it was. A path of a client is compared with the roots as text and then
 * opened below the root's descriptor, so it cannot leave it: neither by "..", which is refused, nor
 * by a link, of which only relative ones that stay below are followed. No root may hold the data
 * directory or lie in it: what the server stores of one repository is no business of another, and
 * what it writes while it reads would have no end. Threads: any, after open. */

#define IMPORT_PATH_BYTES_MAX 4095 /* of a path that is imported: the kernel's own limit */

struct import_roots;

/* paths are absolute, without "." and ".." segments. count may be 0. RC_INVALID: one is no
 * directory that can be opened, overlaps data_dir, or the kernel has no openat2; RC_NOMEM. */
enum rc import_roots_open(const char *const *paths, size_t count, const char *data_dir,
	struct import_roots **out, struct err *err);
void import_roots_free(struct import_roots *roots);
size_t import_roots_count(const struct import_roots *roots);

/* Open the directory at path for reading: *fd is the caller's. RC_INVALID kind "invalid-field":
 * path is relative, too long, has empty, "." or ".." segments, or is no directory; RC_DENIED kind
 * "import-denied": there are no roots, it is not below one, a link leads out, or this process may
 * not read it; RC_NOT_FOUND kind "path-not-found"; RC_IO. Blocks on the file system. */
enum rc import_roots_find(
	const struct import_roots *roots, const char *path, int *fd, struct err *err);

#endif
