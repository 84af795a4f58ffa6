/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PG_LAYOUT_H
#define DG_PG_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"
#include "pg_files.h"

/* pg_layout: where the private cluster's files are: lock, socket folder, log, ballast. Only for
 * pg_*.c. Threads: the main thread; the paths and the url do not change after pg_layout_open. */

#define PG_LAYOUT_LOG_BYTES_MAX (UINT64_C(8) << 20)

struct pg_layout {
	char root[PG_PATH_BYTES]; /* <data_dir>/pg, resolved */
	char data[PG_PATH_BYTES]; /* <root>/<major> */
	char pid_file[PG_PATH_BYTES];
	char socket_dir[PG_PATH_BYTES];
	char log_path[PG_PATH_BYTES];
	char ballast[PG_PATH_BYTES];
	char *url;
	bool removes_socket_dir;
	int lock_fd;
	int log_fd;      /* appends */
	off_t log_start; /* of the log of this run */
};

void pg_layout_init(struct pg_layout *l);
/* Give up the lock, remove a socket folder made in /tmp. */
void pg_layout_done(struct pg_layout *l);
/* Make <data_dir>/pg and lock it. RC_CONFLICT data-dir-in-use, RC_IO, RC_FULL, RC_TOO_LARGE. */
enum rc pg_layout_open_root(struct pg_layout *l, const char *data_dir, struct err *err);
/* All other paths, once the major is known; opens the log. A socket path that would be too long
 * moves to a folder of our own in /tmp. RC_IO, RC_FULL, RC_NOMEM, RC_TOO_LARGE. */
enum rc pg_layout_open(
	struct pg_layout *l, unsigned major, const char *runtime_dir, struct err *err);

/* The end of what was logged since log_start. */
void pg_layout_log_tail(const struct pg_layout *l, char *out, size_t out_bytes);
/* The last whole lines of text that fit into out. */
void pg_layout_last_lines(const char *text, char *out, size_t out_bytes);
/* A log above PG_LAYOUT_LOG_BYTES_MAX moves to <log>.1. */
void pg_layout_bound_log(struct pg_layout *l);

/* Make the ballast file if it is missing and there is twice the room. 0 bytes: none. */
void pg_layout_keep_ballast(const struct pg_layout *l, uint64_t bytes);
/* False if there was none. */
bool pg_layout_drop_ballast(const struct pg_layout *l);

#endif
