/* SPDX-License-Identifier: Apache-2.0 */
#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum rc
err_set(struct err *err, enum rc rc, const char *kind, const char *fmt, ...)
{
	va_list ap;

	if (err->rc != RC_OK)
		return err->rc;
	err->rc = rc;
	err->kind = kind;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof err->text, fmt, ap);
	va_end(ap);
	err->detail[0] = '\0';
	return rc;
}

enum rc
err_detail(struct err *err, const char *fmt, ...)
{
	va_list ap;

	if (err->rc == RC_OK || err->detail[0] != '\0')
		return err->rc;
	va_start(ap, fmt);
	vsnprintf(err->detail, sizeof err->detail, fmt, ap);
	va_end(ap);
	return err->rc;
}

enum rc
err_errno(struct err *err, int errnum, const char *doing, const char *path)
{
	const char *why =
		strerrordesc_np(errnum); /* needs no buffer and no locale; NULL if unknown */

	switch (errnum) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		err_set(err, RC_FULL, "disk-full", "could not %s: no space left for data", doing);
		break;
	case ENOMEM:
		err_set(err, RC_NOMEM, "no-memory", "could not %s: out of memory", doing);
		break;
	default:
		err_set(err, RC_IO, "io-error", "could not %s", doing);
		break;
	}
	err_detail(err, "%s: %s (errno %d)", path ? path : "-", why ? why : "?", errnum);
	return err->rc;
}

bool
err_is(const struct err *err, const char *kind)
{
	return err->kind != NULL && strcmp(err->kind, kind) == 0;
}

void
err_clear(struct err *err)
{
	err->rc = RC_OK;
	err->kind = NULL;
	err->text[0] = '\0';
	err->detail[0] = '\0';
}

const char *
rc_name(enum rc rc)
{
	switch (rc) {
	case RC_OK:
		return "RC_OK";
	case RC_NOT_FOUND:
		return "RC_NOT_FOUND";
	case RC_EXISTS:
		return "RC_EXISTS";
	case RC_CONFLICT:
		return "RC_CONFLICT";
	case RC_INVALID:
		return "RC_INVALID";
	case RC_DENIED:
		return "RC_DENIED";
	case RC_TOO_LARGE:
		return "RC_TOO_LARGE";
	case RC_AGAIN:
		return "RC_AGAIN";
	case RC_FULL:
		return "RC_FULL";
	case RC_IO:
		return "RC_IO";
	case RC_CORRUPT:
		return "RC_CORRUPT";
	case RC_UNAVAILABLE:
		return "RC_UNAVAILABLE";
	case RC_NOMEM:
		return "RC_NOMEM";
	case RC_BUG:
		return "RC_BUG";
	}
	return "RC_?";
}
