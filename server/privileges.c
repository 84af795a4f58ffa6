/* SPDX-License-Identifier: Apache-2.0 */
#include "privileges.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN_DIR         "/run/digstore"
#define OPEN_MAX_WANTED 1048576

static enum rc
make_dirs(const char *path, struct err *err)
{
	char part[PATH_MAX];
	size_t len = strlen(path);

	if (len >= sizeof part)
		return err_set(err, RC_NOT_FOUND, NULL, "the data directory's path is too long");
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		/* the last one is the store: closed to others; parents as usual */
		if (mkdir(part, path[i] == '\0' ? 0700 : 0755) != 0 && errno != EEXIST) {
			int e = errno;
			err_set(err, RC_NOT_FOUND, NULL, "could not make the data directory %s",
				path);
			return err_detail(err, "mkdir %s: errno %d", part, e);
		}
	}
	return RC_OK;
}

static bool
is_empty(const char *path)
{
	DIR *d = opendir(path);
	bool empty = d != NULL;

	for (const struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
		empty = empty && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
	if (d != NULL)
		closedir(d);
	return empty;
}

static enum rc
own_dir(const char *path, const struct passwd *pw, struct err *err)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return err_errno(err, errno, "look at the data directory", path);
	if (st.st_uid == pw->pw_uid)
		return RC_OK;
	if (!is_empty(path)) {
		err_set(err, RC_DENIED, NULL,
			"the data directory %s belongs to another user; start as that user, or "
			"give it to %s "
			"with: chown -R %s %s",
			path, pw->pw_name, pw->pw_name, path);
		return RC_DENIED;
	}
	if (chown(path, pw->pw_uid, pw->pw_gid) != 0)
		return err_errno(err, errno, "give the data directory to its user", path);
	return RC_OK;
}

/* Can the user get there? Asked in a child, because becoming the user is for good. */
static bool
reachable(const char *path, const struct passwd *pw)
{
	uid_t was = geteuid();
	gid_t gid = getegid();

	if (setegid(pw->pw_gid) != 0 || seteuid(pw->pw_uid) != 0) {
		if (setegid(gid) != 0)
			return false;
		return false;
	}
	bool ok = faccessat(AT_FDCWD, path, R_OK | W_OK | X_OK, AT_EACCESS) == 0;
	if (seteuid(was) != 0 || setegid(gid) != 0)
		return false;
	return ok;
}

/* A mount of our own: other processes do not see it, and it ends with us. */
static enum rc
mount_private(const char *path, char **usable, struct err *err)
{
	static const char target[] = RUN_DIR "/data";

	mkdir(RUN_DIR, 0755);
	mkdir(target, 0755);
	if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		mount(path, target, NULL, MS_BIND, NULL) == 0) {
		*usable = strdup(target);
		return *usable != NULL ? RC_OK : err_set(err, RC_NOMEM, NULL, "out of memory");
	}
	int e = errno;
	err_set(err, RC_DENIED, NULL,
		"a directory above %s is closed to others; choose another data directory, for "
		"example "
		"--data-dir /var/lib/digstore",
		path);
	return err_detail(err, "private mount: errno %d", e);
}

static enum rc
become(const struct passwd *pw, struct err *err)
{
	struct rlimit files = {OPEN_MAX_WANTED, OPEN_MAX_WANTED};

	/* only root may raise the hard limit; if even that is refused the lower one will do */
	setrlimit(RLIMIT_NOFILE, &files);
	if (initgroups(pw->pw_name, pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 ||
		setuid(pw->pw_uid) != 0)
		return err_errno(err, errno, "become the unprivileged user", pw->pw_name);
	return RC_OK;
}

enum rc
privileges_drop(const char *user, const char *data_dir, char **usable, struct err *err)
{
	char *absolute = NULL;
	enum rc rc;

	if (data_dir[0] == '/') {
		absolute = strdup(data_dir);
	} else {
		char cwd[PATH_MAX];
		const char *rest = strncmp(data_dir, "./", 2) == 0 ? data_dir + 2 : data_dir;
		if (getcwd(cwd, sizeof cwd) == NULL)
			return err_errno(err, errno, "find the working directory", NULL);
		if (asprintf(&absolute, "%s/%s", cwd, rest) < 0)
			absolute = NULL;
	}
	if (absolute == NULL)
		return err_set(err, RC_NOMEM, NULL, "out of memory");
	rc = make_dirs(absolute, err);
	if (rc == RC_OK && geteuid() == 0) {
		const struct passwd *pw = getpwnam(user);
		if (pw == NULL || pw->pw_uid == 0)
			rc = err_set(err, RC_NOT_FOUND, NULL,
				"started as root, and there is no unprivileged user \"%s\" to "
				"become; make one with: "
				"useradd --system --home-dir /nonexistent --shell "
				"/usr/sbin/nologin %s",
				user, user);
		if (rc == RC_OK)
			rc = own_dir(absolute, pw, err);
		if (rc == RC_OK && !reachable(absolute, pw)) {
			char *mounted = NULL;
			rc = mount_private(absolute, &mounted, err);
			if (rc == RC_OK) {
				free(absolute);
				absolute = mounted;
			}
		}
		if (rc == RC_OK)
			rc = become(pw, err);
	}
	if (rc != RC_OK) {
		free(absolute);
		return rc;
	}
	*usable = absolute;
	return RC_OK;
}
