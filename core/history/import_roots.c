/* SPDX-License-Identifier: Apache-2.0 */
#include "import_roots.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "beneath.h"
#include "path.h"

struct root {
	char *path; /* without slashes at its end: "" is the root of all */
	size_t path_len;
	int fd; /* O_PATH */
};

struct import_roots {
	size_t count;
	struct root items[];
};

/* ---- at start ---- */

/* Whether a is b or holds it; both are resolved. */
static bool
holds(const char *a, const char *b)
{
	size_t len = strlen(a);

	return strcmp(a, "/") == 0 ||
	       (strncmp(a, b, len) == 0 && (b[len] == '/' || b[len] == '\0'));
}

static enum rc
check_apart(const char *path, const char *data_dir, struct err *err)
{
	char root[PATH_MAX], data[PATH_MAX];

	if (realpath(path, root) == NULL)
		return err_set(err, RC_INVALID, NULL, "import_roots: cannot find %s", path);
	/* a data directory that we cannot find from here cannot be imported from here either */
	if (realpath(data_dir, data) == NULL || (!holds(root, data) && !holds(data, root)))
		return RC_OK;
	return err_set(err, RC_INVALID, NULL,
		"import_roots: %s and the data directory %s may not lie in one another", path,
		data_dir);
}

static enum rc
open_root(struct root *r, const char *path, struct err *err)
{
	size_t len = strlen(path);

	while (len > 0 && path[len - 1] == '/')
		len--;
	r->fd = -1;
	r->path_len = len;
	r->path = strndup(path, len);
	if (r->path == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	r->fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int probe = r->fd >= 0 ? beneath_open(r->fd, ".", O_PATH | O_DIRECTORY, BENEATH_PLAIN) : -1;
	if (probe >= 0) {
		close(probe);
		return RC_OK;
	}
	int e = errno;
	if (r->fd >= 0 && (e == ENOSYS || e == EPERM))
		err_set(err, RC_INVALID, NULL,
			"import_roots: imports need openat2, which this kernel (5.6 or newer has "
			"it) "
			"or a filter of system calls denies");
	else
		err_set(err, RC_INVALID, NULL,
			"import_roots: %s is no directory that the user of the server may enter",
			path);
	return err_detail(err, "errno %d", e);
}

enum rc
import_roots_open(const char *const *paths, size_t count, const char *data_dir,
	struct import_roots **out, struct err *err)
{
	struct import_roots *roots = calloc(1, sizeof *roots + count * sizeof roots->items[0]);

	*out = NULL;
	if (roots == NULL)
		return err_set(err, RC_NOMEM, "no-memory", "out of memory");
	for (size_t i = 0; i < count; i++) {
		roots->count++;
		enum rc rc = open_root(&roots->items[i], paths[i], err);
		if (rc == RC_OK)
			rc = check_apart(paths[i], data_dir, err);
		if (rc != RC_OK) {
			import_roots_free(roots);
			return rc;
		}
	}
	*out = roots;
	return RC_OK;
}

void
import_roots_free(struct import_roots *roots)
{
	if (roots == NULL)
		return;
	for (size_t i = 0; i < roots->count; i++) {
		if (roots->items[i].fd >= 0)
			close(roots->items[i].fd);
		free(roots->items[i].path);
	}
	free(roots);
}

size_t
import_roots_count(const struct import_roots *roots)
{
	return roots->count;
}

/* ---- paths of clients ---- */

static enum rc
refuse(const char *what, struct err *err)
{
	return err_set(err, RC_INVALID, "invalid-field",
		"field \"path\" %s; it is the absolute path of a directory, without \".\" or "
		"\"..\"",
		what);
}

static enum rc
check_path(const char *path, struct err *err)
{
	size_t len = strlen(path);

	if (path[0] != '/')
		return refuse("is not absolute", err);
	if (len > IMPORT_PATH_BYTES_MAX)
		return refuse("is longer than 4095 bytes", err);
	for (size_t at = 0; at < len;) {
		size_t n = strcspn(path + at + 1, "/");
		const char *segment = path + at + 1;
		at += 1 + n;
		if (n == 0 && at < len)
			return refuse("has an empty segment", err);
		if (n == 1 && segment[0] == '.')
			return refuse("has a \".\" segment", err);
		if (n == 2 && segment[0] == '.' && segment[1] == '.')
			return refuse("has a \"..\" segment", err);
	}
	return RC_OK;
}

/* The root that holds path, the innermost one if several do. */
static const struct root *
root_of(const struct import_roots *roots, const char *path)
{
	const struct root *best = NULL;

	for (size_t i = 0; i < roots->count; i++) {
		const struct root *r = &roots->items[i];
		if (strncmp(path, r->path, r->path_len) == 0 &&
			(path[r->path_len] == '/' || path[r->path_len] == '\0') &&
			(best == NULL || r->path_len > best->path_len))
			best = r;
	}
	return best;
}

static enum rc
not_opened(int errnum, const char *path, struct err *err)
{
	char shown[PATH_SHOW_BYTES];

	path_show(shown, path, strlen(path));
	switch (errnum) {
	case ENOENT:
		err_set(err, RC_NOT_FOUND, "path-not-found",
			"there is no directory \"%s\" on the server", shown);
		break;
	case ENOTDIR:
		return refuse("is no directory", err);
	case EXDEV:
	case ELOOP:
		err_set(err, RC_DENIED, "import-denied",
			"\"%s\" leads out of the folder that may be imported from, by way of a "
			"symbolic link",
			shown);
		break;
	case EACCES:
	case EPERM:
		err_set(err, RC_DENIED, "import-denied",
			"the user that the server runs as may not read \"%s\"", shown);
		break;
	case ENAMETOOLONG:
		return refuse("has a segment that is too long", err);
	default:
		err_errno(err, errnum, "open the directory on the server", path);
		break;
	}
	return err_detail(err, "errno %d", errnum);
}

enum rc
import_roots_find(const struct import_roots *roots, const char *path, int *fd, struct err *err)
{
	char shown[PATH_SHOW_BYTES];

	*fd = -1;
	enum rc rc = check_path(path, err);
	if (rc != RC_OK)
		return rc;
	if (roots->count == 0)
		return err_set(err, RC_DENIED, "import-denied",
			"this server imports nothing: its setting import_roots names no folder");
	const struct root *root = root_of(roots, path);
	if (root == NULL)
		return err_set(err, RC_DENIED, "import-denied",
			"\"%s\" does not lie below a folder that import_roots of this server names",
			path_show(shown, path, strlen(path)));
	const char *rest = path + root->path_len;
	while (*rest == '/')
		rest++;
	*fd = beneath_open(
		root->fd, *rest != '\0' ? rest : ".", O_RDONLY | O_DIRECTORY, BENEATH_LINKS);
	return *fd >= 0 ? RC_OK : not_opened(errno, path, err);
}
