/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_IMPORT_REPORT_H
#define DG_IMPORT_REPORT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

/* import_report: what an import could not take, and why. Everything is counted, the first
 * IMPORT_REPORT_MAX are also named.
 *
 * A path is what the file system calls it, from the imported directory on: bytes that need be
 * neither UTF-8 nor allowed in a tree. Threads: any, under a lock for a few instructions. */

#define IMPORT_REPORT_MAX  100  /* says what kind of thing is wrong; a longer list is find(1)'s */
#define IMPORT_REPORT_PATH 1300 /* the longest path of a tree and one more segment */

/* In the form of a row, so the numbers never change. */
enum import_reason {
	/* neither file nor directory: refused or skipped as the client wants */
	IMPORT_SYMLINK = 0,
	IMPORT_DEVICE = 1,
	IMPORT_FIFO = 2,
	IMPORT_SOCKET = 3,
	IMPORT_MOUNT_POINT = 4, /* something else is mounted there */
	/* failures */
	IMPORT_INVALID_PATH = 5, /* its name may not stand in a tree */
	IMPORT_PATH_TOO_LONG = 6,
	IMPORT_DENIED = 7,
	IMPORT_VANISHED = 8,
	IMPORT_CHANGED = 9, /* while it was read, or between being found and being read */
	IMPORT_IO = 10,
	IMPORT_REASONS,
};

/* "symlink", "permission-denied", …; static. */
const char *import_reason_name(enum import_reason reason);
bool import_reason_is_special(enum import_reason reason);
/* The reason for a failed open, stat or read of something below the imported directory; false if it
 * is our own trouble (memory, descriptors) and no property of the thing. */
bool import_reason_of_errno(int errnum, enum import_reason *out);

struct import_trouble {
	enum import_reason reason;
	size_t path_len;
	const char *path; /* NUL-terminated, the report's */
};

struct import_report {
	pthread_mutex_t mtx;
	/* guarded by mtx */
	uint64_t counts[IMPORT_REASONS];
	struct import_trouble *items;
	size_t count;
};

/* RC_NOMEM. */
enum rc import_report_init(struct import_report *r, struct err *err);
void import_report_done(struct import_report *r);
/* path (copied, cut at IMPORT_REPORT_PATH) was left out. What finds no memory is counted only. */
void import_report_add(
	struct import_report *r, enum import_reason reason, const char *path, size_t path_len);
/* Special things and failures, counted. */
void import_report_totals(struct import_report *r, uint64_t *special, uint64_t *failed);
/* RC_INVALID kind "import-incomplete" if anything is in it that is not skipped; its text names the
 * first such thing and says how many there are. */
enum rc import_report_judge(
	struct import_report *r, bool skip_special, bool skip_failed, struct err *err);

/* Append as: varint number of reasons, a varint each, varint number of items, and for each u8
 * reason, varint length, path. */
void import_report_encode(struct import_report *r, struct buf *out);
/* Read into an empty report. Reasons that are not known are dropped. RC_CORRUPT, RC_NOMEM. */
enum rc import_report_decode(struct import_report *r, struct cur *c, struct err *err);
/* What has been reported so far, into an empty report. */
void import_report_copy(struct import_report *from, struct import_report *to);

#endif
