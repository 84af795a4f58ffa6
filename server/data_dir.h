/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_DATA_DIR_H
#define DG_DATA_DIR_H

#include "err.h"

/* data_dir: one server at a time, and only a version that understands what is there. */

/* Take the lock file and check (or write) the version file. The lock is held until the process
 * ends. RC_CONFLICT kind "data-dir-in-use": another server has it. RC_CONFLICT kind "format-newer":
 * a newer version wrote it; nothing was touched. RC_IO, RC_FULL. */
enum rc data_dir_open(const char *path, struct err *err);

#endif
