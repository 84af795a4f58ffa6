/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_ERR_H
#define DG_ERR_H

#include <stdbool.h>

/* err: how a fallible function says what went wrong.
 *
 * A fallible function returns enum rc and takes a struct err as its last argument, never NULL.
 * On RC_OK the err is untouched. The first failure fills it; outer layers may add detail where
 * there is none yet, and never overwrite what is there. api/problem.c alone turns it into HTTP.
 * Threads: a struct err belongs to one thread at a time. Nothing here allocates. */

enum rc {
	RC_OK = 0,
	RC_NOT_FOUND,   /* the named thing does not exist */
	RC_EXISTS,      /* it exists already, and that is a refusal */
	RC_CONFLICT,    /* the state of the thing does not allow it (lost compare-and-swap, busy) */
	RC_INVALID,     /* the caller's input is wrong */
	RC_DENIED,      /* the caller may not */
	RC_TOO_LARGE,   /* over a named limit */
	RC_AGAIN,       /* not now: try again at once or when told */
	RC_FULL,        /* no space, quota or inodes */
	RC_IO,          /* the system refused to read or write */
	RC_CORRUPT,     /* stored bytes are not what was stored */
	RC_UNAVAILABLE, /* a thing we need (the database) is away; may come back */
	RC_NOMEM,       /* no memory */
	RC_BUG,         /* our own mistake, met at run time */
};

struct err {
	enum rc rc;
	const char *kind; /* static slug of the problem type, e.g. "path-invalid"; NULL = from rc */
	char text[384];   /* for the client: what was wrong, where, what is allowed */
	char detail[384]; /* for the log: errno, SQLSTATE, file path */
};

#define ERR_INIT                                                                                   \
	{                                                                                          \
		.rc = RC_OK                                                                        \
	}

/* Fill err (rc, kind, client text) unless it already holds a failure. kind is a static string
 * or NULL. Returns rc, so that `return err_set(…)` reads well. */
enum rc err_set(struct err *err, enum rc rc, const char *kind, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Add what only the log should see, if nothing is there yet. Returns err->rc. */
enum rc err_detail(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* err_set + err_detail from errno: "could not <doing>" for the client, strerror and path for the
 * log. ENOSPC, EDQUOT and EFBIG give RC_FULL with kind "disk-full", ENOMEM gives RC_NOMEM, all
 * others RC_IO. */
enum rc err_errno(struct err *err, int errnum, const char *doing, const char *path);

/* Is it a failure of this kind? */
bool err_is(const struct err *err, const char *kind);

/* Forget what err holds. */
void err_clear(struct err *err);

/* "RC_IO" and so on; a static string. */
const char *rc_name(enum rc rc);

#endif
