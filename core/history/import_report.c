/* SPDX-License-Identifier: Apache-2.0 */
#include "import_report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "path.h"

static const struct {
	const char *name;
	const char *text; /* for a message */
} reasons[IMPORT_REASONS] = {
	[IMPORT_SYMLINK] = {"symlink", "it is a symbolic link"},
	[IMPORT_DEVICE] = {"device", "it is a device"},
	[IMPORT_FIFO] = {"fifo", "it is a fifo"},
	[IMPORT_SOCKET] = {"socket", "it is a socket"},
	[IMPORT_MOUNT_POINT] = {"mount-point", "something else is mounted there"},
	[IMPORT_INVALID_PATH] = {"invalid-path", "its name may not stand in a tree"},
	[IMPORT_PATH_TOO_LONG] = {"path-too-long", "its path is too long"},
	[IMPORT_DENIED] = {"permission-denied", "the server may not read it"},
	[IMPORT_VANISHED] = {"vanished", "it vanished while the import ran"},
	[IMPORT_CHANGED] = {"changed", "it changed while the import ran"},
	[IMPORT_IO] = {"io-error", "reading it failed"},
};

const char *
import_reason_name(enum import_reason reason)
{
	return reasons[reason].name;
}

bool
import_reason_is_special(enum import_reason reason)
{
	return reason <= IMPORT_MOUNT_POINT;
}

bool
import_reason_of_errno(int errnum, enum import_reason *out)
{
	switch (errnum) {
	case ENOENT:
		*out = IMPORT_VANISHED;
		return true;
	case EACCES:
	case EPERM:
		*out = IMPORT_DENIED;
		return true;
	case ELOOP: /* a link stands where a directory or a file was found */
	case ENOTDIR:
	case EISDIR:
	case ENXIO:  /* a socket, or a device without driver */
	case EAGAIN: /* somebody has a lease on it: a writer */
		*out = IMPORT_CHANGED;
		return true;
	case EXDEV:
		*out = IMPORT_MOUNT_POINT;
		return true;
	case ENAMETOOLONG:
		*out = IMPORT_PATH_TOO_LONG;
		return true;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case ENOSYS:
		return false;
	default:
		*out = IMPORT_IO;
		return true;
	}
}

/* ---- collecting ---- */

enum rc
import_report_init(struct import_report *r, struct err *err)
{
	memset(r, 0, sizeof *r);
	r->items = calloc(IMPORT_REPORT_MAX, sizeof *r->items);
	if (r->items == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	pthread_mutex_init(&r->mtx, NULL);
	return RC_OK;
}

void
import_report_done(struct import_report *r)
{
	if (r == NULL || r->items == NULL)
		return;
	for (size_t i = 0; i < r->count; i++)
		free((char *)(uintptr_t)r->items[i].path);
	free(r->items);
	r->items = NULL;
	r->count = 0;
	pthread_mutex_destroy(&r->mtx);
}

/* Under the lock, or while nobody else has it. */
static void
add_item(struct import_report *r, enum import_reason reason, const char *path, size_t path_len)
{
	size_t len = path_len < IMPORT_REPORT_PATH ? path_len : IMPORT_REPORT_PATH;

	if (r->count == IMPORT_REPORT_MAX)
		return;
	char *copy = malloc(len + 1);
	if (copy == NULL)
		return;
	memcpy(copy, path, len);
	copy[len] = '\0';
	r->items[r->count++] = (struct import_trouble){reason, len, copy};
}

void
import_report_add(
	struct import_report *r, enum import_reason reason, const char *path, size_t path_len)
{
	pthread_mutex_lock(&r->mtx);
	r->counts[reason]++;
	add_item(r, reason, path, path_len);
	pthread_mutex_unlock(&r->mtx);
}

void
import_report_totals(struct import_report *r, uint64_t *special, uint64_t *failed)
{
	*special = *failed = 0;
	pthread_mutex_lock(&r->mtx);
	for (int i = 0; i < IMPORT_REASONS; i++)
		*(import_reason_is_special((enum import_reason)i) ? special : failed) +=
			r->counts[i];
	pthread_mutex_unlock(&r->mtx);
}

static bool
is_skipped(enum import_reason reason, bool skip_special, bool skip_failed)
{
	return import_reason_is_special(reason) ? skip_special : skip_failed;
}

enum rc
import_report_judge(struct import_report *r, bool skip_special, bool skip_failed, struct err *err)
{
	char shown[PATH_SHOW_BYTES];
	uint64_t n = 0;
	enum rc rc = RC_OK;

	pthread_mutex_lock(&r->mtx);
	for (int i = 0; i < IMPORT_REASONS; i++)
		if (!is_skipped((enum import_reason)i, skip_special, skip_failed))
			n += r->counts[i];
	const struct import_trouble *first = NULL;
	for (size_t i = 0; i < r->count && first == NULL; i++)
		if (!is_skipped(r->items[i].reason, skip_special, skip_failed))
			first = &r->items[i];
	if (n == 1 && first != NULL)
		rc = err_set(err, RC_INVALID, "import-incomplete",
			"\"%s\" could not be taken, so nothing was: %s",
			path_show(shown, first->path, first->path_len),
			reasons[first->reason].text);
	else if (n > 0)
		rc = err_set(err, RC_INVALID, "import-incomplete",
			"%" PRIu64 " things could not be taken, so nothing was; one is \"%s\": %s",
			n, first != NULL ? path_show(shown, first->path, first->path_len) : "?",
			first != NULL ? reasons[first->reason].text : "it is not named");
	pthread_mutex_unlock(&r->mtx);
	return rc;
}

/* ---- as bytes ---- */

void
import_report_encode(struct import_report *r, struct buf *out)
{
	pthread_mutex_lock(&r->mtx);
	buf_add_varint(out, IMPORT_REASONS);
	for (int i = 0; i < IMPORT_REASONS; i++)
		buf_add_varint(out, r->counts[i]);
	buf_add_varint(out, r->count);
	for (size_t i = 0; i < r->count; i++) {
		buf_add_u8(out, (uint8_t)r->items[i].reason);
		buf_add_varint(out, r->items[i].path_len);
		buf_add(out, r->items[i].path, r->items[i].path_len);
	}
	pthread_mutex_unlock(&r->mtx);
}

enum rc
import_report_decode(struct import_report *r, struct cur *c, struct err *err)
{
	uint64_t known = cur_varint(c);

	for (uint64_t i = 0; i < known && cur_ok(c); i++) {
		uint64_t n = cur_varint(c);
		if (i < IMPORT_REASONS)
			r->counts[i] = n;
	}
	uint64_t count = cur_varint(c);
	for (uint64_t i = 0; i < count && cur_ok(c); i++) {
		uint8_t reason = cur_u8(c);
		uint64_t len = cur_varint(c);
		const uint8_t *path = len <= IMPORT_REPORT_PATH ? cur_bytes(c, (size_t)len) : NULL;
		if (path == NULL)
			return err_set(err, RC_CORRUPT, "corrupt-data",
				"the record of this import is damaged");
		if (reason < IMPORT_REASONS)
			add_item(r, (enum import_reason)reason, (const char *)path, (size_t)len);
	}
	return cur_ok(c) ? RC_OK
			 : err_set(err, RC_CORRUPT, "corrupt-data",
				   "the record of this import is damaged");
}

void
import_report_copy(struct import_report *from, struct import_report *to)
{
	pthread_mutex_lock(&from->mtx);
	memcpy(to->counts, from->counts, sizeof to->counts);
	for (size_t i = 0; i < from->count; i++)
		add_item(to, from->items[i].reason, from->items[i].path, from->items[i].path_len);
	pthread_mutex_unlock(&from->mtx);
}
