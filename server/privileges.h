/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PRIVILEGES_H
#define DG_PRIVILEGES_H

#include "err.h"

/* privileges: from root to an unprivileged user, once, before any thread exists.
 *
 * Digstore and its PostgreSQL need no privilege but, at times, a low port: that is bound before.
 * When started by anybody but root nothing happens here except making the data directory. */

/* Make data_dir (and its parents) if missing, give it to the user, and become that user. *usable is
 * the path to use from now on, owned by the caller (free()): data_dir made absolute, or, if the
 * user cannot reach it because a parent is closed to others (a checkout below /root), a private
 * mount of it below /run/digstore that only this process and its children see. RC_NOT_FOUND: no
 * such user, or no data directory could be made. RC_DENIED: the directory belongs to another user,
 * or cannot be reached. RC_IO. The text says what to do. */
enum rc privileges_drop(const char *user, const char *data_dir, char **usable, struct err *err);

#endif
