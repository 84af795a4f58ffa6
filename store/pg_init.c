/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_init.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"

#define MARKER      "digstore-init"
#define MARKER_TEXT "A PostgreSQL cluster is being made here by Digstore; it may be removed.\n"
#define CONF_BYTES  8192u
#define REMOVE_MS   10000u

enum rc
pg_init_user(char *out, size_t out_bytes, struct err *err)
{
	struct passwd pw;
	struct passwd *found = NULL;
	char text[4096];

	if (geteuid() == 0)
		return err_set(err, RC_DENIED, "root-refused",
			"PostgreSQL does not run as root: start the server as another user");
	if (getpwuid_r(geteuid(), &pw, text, sizeof text, &found) != 0 || found == NULL)
		return err_set(err, RC_DENIED, "no-user",
			"PostgreSQL needs a user with a name, but user id %u has no entry in "
			"/etc/passwd",
			(unsigned)geteuid());
	/* the map file could take a name with these for something else */
	if (strlen(pw.pw_name) >= out_bytes || strpbrk(pw.pw_name, "/\"\n") != NULL)
		return err_set(err, RC_DENIED, "no-user", "the user name is not usable");
	memcpy(out, pw.pw_name, strlen(pw.pw_name) + 1);
	return RC_OK;
}

/* ---- what is in the folder ---- */

struct findings {
	unsigned majors[4]; /* folders with a plain number as name */
	unsigned major_count;
	unsigned leftovers[4]; /* <number>.new */
	unsigned leftover_count;
	char stranger[256]; /* a name we do not know */
};

/* "15" and "15.new" -> 15; 0 for other names. */
static unsigned
number_of(const char *name, const char *suffix)
{
	size_t digits = strspn(name, "0123456789");

	if (digits == 0 || digits > 4 || name[0] == '0' || strcmp(name + digits, suffix) != 0)
		return 0;
	return (unsigned)pg_files_number(name);
}

static bool
is_known(const char *name)
{
	static const char *const known[] = {
		".", "..", "lock", "ballast", "log", "run", "lost+found"};

	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (strcmp(name, known[i]) == 0)
			return true;
	return false;
}

static void
note(struct findings *f, const char *name)
{
	unsigned major = number_of(name, "");
	unsigned leftover = number_of(name, ".new");

	if (is_known(name))
		return;
	if (major != 0 && f->major_count < 4)
		f->majors[f->major_count++] = major;
	else if (leftover != 0 && f->leftover_count < 4)
		f->leftovers[f->leftover_count++] = leftover;
	else
		snprintf(f->stranger, sizeof f->stranger, "%s", name);
}

static enum rc
look(const char *root, struct findings *f, struct err *err)
{
	DIR *dir = opendir(root);
	const struct dirent *e;

	*f = (struct findings){.major_count = 0};
	if (dir == NULL)
		return err_errno(err, errno, "read a folder", root);
	while ((e = readdir(dir)) != NULL)
		note(f, e->d_name);
	closedir(dir);
	return RC_OK;
}

static enum rc
refuse(const char *root, const char *what, struct err *err)
{
	return err_set(err, RC_CONFLICT, "cluster-unknown",
		"%.200s: %.120s; nothing was changed there", root, what);
}

static bool
has_only_ours(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *e;
	bool ok = dir != NULL;

	while (dir != NULL && (e = readdir(dir)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
			strcmp(e->d_name, MARKER) != 0 && strcmp(e->d_name, "data") != 0)
			ok = false;
	if (dir != NULL)
		closedir(dir);
	return ok;
}

/* initdb was killed with its parent, but its own children notice a little later and may still write
 * there: so a removal that fails is tried again. */
static enum rc
remove_data(const char *data, struct err *err)
{
	uint64_t deadline_ns = clock_mono_ns() + (uint64_t)REMOVE_MS * 1000000;

	for (;;) {
		struct err why = ERR_INIT;
		if (pg_files_remove_tree(data, &why) == RC_OK)
			return RC_OK;
		if (clock_mono_ns() >= deadline_ns) {
			*err = why;
			return why.rc;
		}
		poll(NULL, 0, 20);
	}
}

/* The marker goes last, so that a removal that is itself interrupted can be finished. */
static enum rc
remove_leftover(const char *root, unsigned major, struct err *err)
{
	char path[PG_PATH_BYTES];
	char data[PG_PATH_BYTES];
	char marker[PG_PATH_BYTES];
	char text[sizeof MARKER_TEXT + 1];
	struct stat st;

	enum rc rc = pg_files_path(path, err, "%s/%u.new", root, major);
	if (rc == RC_OK)
		rc = pg_files_path(data, err, "%s/%u.new/data", root, major);
	if (rc == RC_OK)
		rc = pg_files_path(marker, err, "%s/%u.new/" MARKER, root, major);
	if (rc != RC_OK)
		return rc;
	if (lstat(path, &st) != 0)
		return errno == ENOENT ? RC_OK : err_errno(err, errno, "read a folder", path);
	if (S_ISDIR(st.st_mode) && rmdir(path) == 0)
		return RC_OK; /* killed before the marker was written */
	pg_files_read(marker, 0, text, sizeof text);
	if (!S_ISDIR(st.st_mode) || strcmp(text, MARKER_TEXT) != 0 || !has_only_ours(path)) {
		char what[64];
		snprintf(what, sizeof what, "%u.new was not made by Digstore", major);
		return refuse(root, what, err);
	}
	rc = remove_data(data, err);
	if (rc == RC_OK && (unlink(marker) != 0 || rmdir(path) != 0))
		rc = err_errno(err, errno, "remove a folder", path);
	return rc == RC_OK ? pg_files_sync_dir(root, err) : rc;
}

/* root/<major> must be what it says. */
static enum rc
check_cluster(const char *root, unsigned major, struct err *err)
{
	char path[PG_PATH_BYTES];
	char text[16];
	char what[120];

	enum rc rc = pg_files_path(path, err, "%s/%u/PG_VERSION", root, major);
	if (rc != RC_OK)
		return rc;
	pg_files_read(path, 0, text, sizeof text);
	text[strcspn(text, "\n")] = '\0';
	if (number_of(text, "") != major) {
		snprintf(what, sizeof what,
			"%u is no cluster of PostgreSQL %u (PG_VERSION is \"%s\")", major, major,
			text);
		return refuse(root, what, err);
	}
	if (pg_install_is_supported(major))
		return RC_OK;
	snprintf(what, sizeof what, "PostgreSQL %u is not supported, only %u to %u", major,
		PG_INSTALL_MAJOR_MIN, PG_INSTALL_MAJOR_MAX);
	return refuse(root, what, err);
}

static enum rc
missing(const char *bin_dir, unsigned wanted, struct err *err)
{
	const char *where = bin_dir != NULL ? bin_dir : "/usr/lib/postgresql and pg_config";

	if (wanted != 0)
		return err_set(err, RC_NOT_FOUND, "postgres-missing",
			"the database was made by PostgreSQL %u, and that is not installed (looked "
			"in %.150s): install postgresql-%u",
			wanted, where, wanted);
	return err_set(err, RC_NOT_FOUND, "postgres-missing",
		"no PostgreSQL from %u to %u is installed (looked in %.150s): install the package "
		"postgresql, or give a database URL",
		PG_INSTALL_MAJOR_MIN, PG_INSTALL_MAJOR_MAX, where);
}

enum rc
pg_init_choose(const char *root, const char *bin_dir, struct pg_install *install, bool *has_cluster,
	struct err *err)
{
	struct findings f;

	*install = (struct pg_install){.major = 0};
	enum rc rc = look(root, &f, err);
	if (rc != RC_OK)
		return rc;
	if (f.major_count > 1)
		return refuse(root, "it holds more than one cluster", err);
	unsigned wanted = f.major_count == 1 ? f.majors[0] : 0;
	if (wanted == 0 && f.stranger[0] != '\0') {
		char what[120];
		snprintf(what, sizeof what, "it holds \"%.64s\", which is no cluster", f.stranger);
		return refuse(root, what, err);
	}
	if (wanted != 0)
		rc = check_cluster(root, wanted, err);
	if (rc == RC_OK && !pg_install_find(bin_dir, wanted, install))
		rc = missing(bin_dir, wanted, err);
	for (unsigned i = 0; rc == RC_OK && i < f.leftover_count; i++)
		rc = remove_leftover(root, f.leftovers[i], err);
	*has_cluster = wanted != 0;
	return rc;
}

/* ---- configuration ---- */

static const char conf_head[] =
	"# Written by Digstore, which rewrites it when it differs. Your own settings go into\n"
	"# local.conf in this folder, which is read last.\n"
	"listen_addresses = ''\n"
	"unix_socket_permissions = 0700\n"
	"cluster_name = 'digstore'\n"
	"# durable\n"
	"fsync = on\n"
	"full_page_writes = on\n"
	"synchronous_commit = on\n"
	"wal_sync_method = fdatasync\n"
	"restart_after_crash = on\n"
	"# write-ahead log: no replication, no archive\n"
	"wal_level = minimal\n"
	"max_wal_senders = 0\n"
	"wal_compression = on\n"
	"max_wal_size = 1GB\n"
	"checkpoint_timeout = 15min\n"
	"checkpoint_completion_target = 0.9\n"
	"# modest: Digstore's queries are short and by key\n"
	"jit = off\n"
	"huge_pages = off\n"
	"max_parallel_workers_per_gather = 0\n"
	"max_parallel_maintenance_workers = 0\n"
	"# the same everywhere\n"
	"lc_messages = 'C'\n"
	"timezone = 'UTC'\n"
	"log_timezone = 'UTC'\n"
	"# standard error is a file that Digstore keeps small\n"
	"logging_collector = off\n"
	"log_destination = 'stderr'\n"
	"log_line_prefix = '%m [%p] '\n";

static const char hba_conf[] = "# Written by Digstore: its own user, through the Unix socket.\n"
			       "local all " PG_INIT_ROLE " peer map=digstore\n";

static enum rc
write_conf(const char *data, const char *name, const char *text, struct err *err)
{
	char path[PG_PATH_BYTES];
	enum rc rc = pg_files_path(path, err, "%s/%s", data, name);

	return rc == RC_OK ? pg_files_write(path, text, strlen(text), err) : rc;
}

/* The operator's file: made once, so that PostgreSQL does not complain that it is missing. */
static enum rc
write_local_conf(const char *data, struct err *err)
{
	static const char text[] = "# Your own settings for PostgreSQL. Digstore reads this file "
				   "last and never changes it.\n";
	char path[PG_PATH_BYTES];
	enum rc rc = pg_files_path(path, err, "%s/local.conf", data);

	if (rc != RC_OK || pg_files_exists(path))
		return rc;
	return pg_files_write(path, text, strlen(text), err);
}

static enum rc
write_postgresql_conf(const char *data, const struct pg_settings *s, struct err *err)
{
	struct buf b;

	buf_init(&b, CONF_BYTES);
	buf_add_str(&b, conf_head);
	buf_addf(&b, "log_min_messages = %s\n",
		s->log_level == LOG_LEVEL_DEBUG ? "info" : "warning");
	/* a few more than the pool, for psql and for the moment when a dropped one still ends */
	buf_addf(&b, "max_connections = %u\n", s->connections_max + 5);
	buf_addf(&b, "shared_buffers = %uMB\n", PG_INIT_SHARED_BUFFERS_MIB);
	/* small containers have no usable /dev/shm */
	buf_addf(&b, "dynamic_shared_memory_type = %s\n",
		access("/dev/shm", W_OK | X_OK) == 0 ? "posix" : "mmap");
	if (s->major >= 14)
		buf_add_str(&b, "client_connection_check_interval = 10s\n");
	buf_add_str(&b, "include_if_exists = 'local.conf'\n");
	enum rc rc = write_conf(data, "postgresql.conf", buf_cstr(&b), err);
	buf_done(&b);
	return rc;
}

enum rc
pg_init_configure(const char *data, const struct pg_settings *s, struct err *err)
{
	char user[64];
	char ident[160];

	enum rc rc = pg_init_user(user, sizeof user, err);
	if (rc != RC_OK)
		return rc;
	snprintf(ident, sizeof ident, "digstore \"%s\" " PG_INIT_ROLE "\n", user);
	rc = write_postgresql_conf(data, s, err);
	if (rc == RC_OK)
		rc = write_conf(data, "pg_hba.conf", hba_conf, err);
	if (rc == RC_OK)
		rc = write_conf(data, "pg_ident.conf", ident, err);
	if (rc == RC_OK)
		rc = write_local_conf(data, err);
	return rc;
}

/* ---- a new cluster ---- */

/* Run one of PostgreSQL's programs; what it said last becomes the detail of a failure. */
static enum rc
run_tool(const char *program, char *const *argv, const char *input, const struct pg_stop *stop,
	struct err *err)
{
	char out[PG_INIT_OUTPUT_BYTES];
	char how[32];
	struct pg_run run = {.input = input,
		.timeout_ms = PG_INIT_TIMEOUT_MS,
		.stop = stop,
		.out = out,
		.out_bytes = sizeof out};
	int status = 0;

	enum rc rc = pg_process_run(program, argv, &run, &status, err);
	if (rc == RC_OK && status != 0) {
		pg_process_describe(status, how, sizeof how);
		if (strstr(out, "No space left") != NULL)
			rc = err_set(
				err, RC_FULL, "disk-full", "no space left to create the database");
		else
			rc = err_set(err, RC_UNAVAILABLE, "postgres-failed",
				"the database could not be created: %.200s failed with %s", program,
				how);
	}
	if (rc != RC_OK) {
		size_t len = strlen(out);
		size_t skip = len > sizeof err->detail - 1 ? len - (sizeof err->detail - 1) : 0;
		err_detail(err, "%s", out + skip);
	}
	return rc;
}

static enum rc
run_initdb(const struct pg_install *install, const char *data, const struct pg_stop *stop,
	struct err *err)
{
	char program[PG_PATH_BYTES];
	char dir[PG_PATH_BYTES];

	enum rc rc = pg_files_path(program, err, "%s/initdb", install->bin_dir);
	if (rc != RC_OK)
		return rc;
	snprintf(dir, sizeof dir, "%s", data);
	/* The locale C keeps indexes valid across upgrades of the C library. -N: we sync the whole
	 * tree ourselves, later. -n: we tidy up ourselves, and know what we may remove. */
	char *argv[] = {program, (char[]){"-D"}, dir, (char[]){"-U"}, (char[]){PG_INIT_ROLE},
		(char[]){"-E"}, (char[]){"UTF8"}, (char[]){"--locale=C"}, (char[]){"-k"},
		(char[]){"-A"}, (char[]){"peer"}, (char[]){"-N"}, (char[]){"-n"}, NULL};
	return run_tool(program, argv, NULL, stop, err);
}

/* In single-user mode, so that the cluster has everything before it gets its name. */
static enum rc
create_database(const struct pg_install *install, const char *data, const struct pg_stop *stop,
	struct err *err)
{
	char program[PG_PATH_BYTES];
	char dir[PG_PATH_BYTES];

	enum rc rc = pg_files_path(program, err, "%s/postgres", install->bin_dir);
	if (rc != RC_OK)
		return rc;
	snprintf(dir, sizeof dir, "%s", data);
	/* without exit_on_error a failed statement would still end with code 0 */
	char *argv[] = {program, (char[]){"--single"}, (char[]){"-D"}, dir, (char[]){"-c"},
		(char[]){"exit_on_error=on"}, (char[]){"postgres"}, NULL};
	return run_tool(program, argv, "CREATE DATABASE " PG_INIT_ROLE "\n", stop, err);
}

static enum rc
fill(const struct pg_install *install, const char *data, const struct pg_stop *stop,
	struct err *err)
{
	struct pg_settings settings = {
		.major = install->major, .connections_max = 1, .log_level = LOG_LEVEL_WARN};

	enum rc rc = run_initdb(install, data, stop, err);
	if (rc == RC_OK)
		rc = pg_init_configure(data, &settings, err);
	if (rc == RC_OK)
		rc = create_database(install, data, stop, err);
	if (rc == RC_OK)
		rc = pg_files_sync_tree(data, err);
	return rc;
}

enum rc
pg_init_create(const char *root, const struct pg_install *install, const struct pg_stop *stop,
	struct err *err)
{
	char aside[PG_PATH_BYTES];
	char data[PG_PATH_BYTES];
	char final[PG_PATH_BYTES];
	struct err ignored = ERR_INIT;

	enum rc rc = pg_files_path(aside, err, "%s/%u.new", root, install->major);
	if (rc == RC_OK)
		rc = pg_files_path(data, err, "%s/data", aside);
	if (rc == RC_OK)
		rc = pg_files_path(final, err, "%s/%u", root, install->major);
	if (rc == RC_OK)
		rc = pg_files_mkdir(aside, err);
	if (rc == RC_OK)
		rc = write_conf(aside, MARKER, MARKER_TEXT, err);
	if (rc != RC_OK)
		return rc;
	rc = fill(install, data, stop, err);
	if (rc == RC_OK && rename(data, final) != 0)
		rc = err_errno(err, errno, "rename a folder", final);
	if (rc == RC_OK)
		rc = pg_files_sync_dir(root, err);
	/* whether it went well or not, only the scaffold is left now */
	enum rc cleaned = remove_leftover(root, install->major, rc == RC_OK ? err : &ignored);
	return rc == RC_OK ? cleaned : rc;
}
