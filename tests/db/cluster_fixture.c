/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fts.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

#define USER "digstore"

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static void
add_user(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		execl("/usr/sbin/useradd", "useradd", "--system", "--home-dir", "/nonexistent",
			"--no-create-home", "--shell", "/usr/sbin/nologin", USER, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		die("cannot run useradd");
}

/* Several test programs may do this at once, and useradd locks the file. */
static struct passwd *
find_user(void)
{
	for (int i = 0; i < 50; i++) {
		struct passwd *pw = getpwnam(USER);
		if (pw != NULL)
			return pw;
		add_user();
		poll(NULL, 0, 100);
	}
	die("cannot create the system user " USER);
}

static void
become(const struct passwd *pw)
{
	if (initgroups(pw->pw_name, pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 ||
		setuid(pw->pw_uid) != 0)
		die("cannot become " USER);
	/* the change of user switched these off; leak checkers and /proc/self need them */
	prctl(PR_SET_DUMPABLE, 1);
	if (chdir("/") != 0)
		die("chdir");
}

/* In a mount namespace of our own, so that it goes away with us; over a folder that every system
 * has, so that no mount point stays behind. */
static bool
mount_small_disk(const char *at, const struct passwd *pw)
{
	char options[128];

	snprintf(options, sizeof options, "size=%llu,mode=0755,uid=%u,gid=%u",
		(unsigned long long)FIXTURE_SMALL_DISK_BYTES, (unsigned)pw->pw_uid,
		(unsigned)pw->pw_gid);
	return unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", at, "tmpfs", 0, options) == 0;
}

void
fixture_init(struct cluster_fixture *fx, bool wants_small_disk)
{
	*fx = (struct cluster_fixture){.was_root = geteuid() == 0};
	setenv("DIGSTORE_ABORT_ON_BUG", "1", 1);
	snprintf(fx->dir, sizeof fx->dir, "/tmp/digstore-test-XXXXXX");
	if (mkdtemp(fx->dir) == NULL)
		die("mkdtemp: %s", fx->dir);
	if (!fx->was_root)
		return;
	const struct passwd *pw = find_user();
	if (wants_small_disk && mount_small_disk("/mnt", pw))
		fx->small_disk = "/mnt";
	if (chown(fx->dir, pw->pw_uid, pw->pw_gid) != 0)
		die("chown %s", fx->dir);
	become(pw);
}

struct pg_cluster_options
fixture_options(const char *data_dir)
{
	return (struct pg_cluster_options){
		.data_dir = data_dir, .connections_max = 8, .log_level = LOG_LEVEL_WARN};
}

void
fixture_start(struct cluster_fixture *fx)
{
	struct err err = ERR_INIT;
	struct pg_cluster_options options = fixture_options(fx->dir);

	if (pg_cluster_open(&options, &fx->cluster, &err) != RC_OK)
		die("pg_cluster_open: %s [%s]", err.text, err.detail);
}

struct db *
fixture_pool(const struct cluster_fixture *fx, unsigned statement_timeout_ms)
{
	struct err err = ERR_INIT;
	struct db *db;
	struct db_options options = {.url = pg_cluster_url(fx->cluster),
		.connections_max = 4,
		.connect_timeout_ms = 2000,
		.statement_timeout_ms = statement_timeout_ms,
		.checkout_timeout_ms = 2000};

	if (db_open(&options, &db, &err) != RC_OK)
		die("db_open: %s [%s]", err.text, err.detail);
	return db;
}

static void
remove_tree(char *path)
{
	char *const paths[] = {path, NULL};
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	const FTSENT *e;

	while (tree != NULL && (e = fts_read(tree)) != NULL)
		if (e->fts_info != FTS_D)
			remove(e->fts_path);
	if (tree != NULL)
		fts_close(tree);
}

void
fixture_done(struct cluster_fixture *fx)
{
	db_free(fx->db);
	pg_cluster_free(fx->cluster);
	fx->db = NULL;
	fx->cluster = NULL;
	remove_tree(fx->dir);
}

static enum rc
run_script(struct db_tx *tx, void *arg, struct err *err)
{
	return db_exec_script(tx, arg, err);
}

void
fixture_sql(struct db *db, const char *sql)
{
	struct err err = ERR_INIT;

	if (db_run(db, run_script, (void *)(uintptr_t)sql, &err) != RC_OK)
		die("%s: %s [%s]", sql, err.text, err.detail);
}

struct number_query {
	struct db_stmt stmt;
	int64_t number;
};

static enum rc
run_number(struct db_tx *tx, void *arg, struct err *err)
{
	struct number_query *q = arg;
	struct db_result *r;
	enum rc rc = db_exec(tx, &q->stmt, NULL, &r, err);

	if (rc == RC_OK) {
		q->number = db_get_i64(r, 0, 0);
		db_result_free(r);
	}
	return rc;
}

int64_t
fixture_number(struct db *db, const char *sql)
{
	static unsigned serial;
	struct err err = ERR_INIT;
	char name[32];
	/* statements are known by address and must outlive the pool: leaked on purpose */
	static struct number_query *kept[256];

	if (serial == 256)
		die("too many queries");
	struct number_query *q = calloc(1, sizeof *q);
	kept[serial] = q;
	snprintf(name, sizeof name, "fixture_%u", serial++);
	q->stmt = (struct db_stmt){.name = strdup(name), .sql = sql};
	if (db_run_readonly(db, run_number, q, &err) != RC_OK)
		die("%s: %s [%s]", sql, err.text, err.detail);
	return kept[serial - 1]->number;
}

bool
fixture_wait(bool (*is_so)(void *arg), void *arg, unsigned seconds)
{
	uint64_t deadline_ns = clock_mono_ns() + seconds * UINT64_C(1000000000);

	while (!is_so(arg)) {
		if (clock_mono_ns() >= deadline_ns)
			return false;
		poll(NULL, 0, 5);
	}
	return true;
}

int
fixture_postmaster(const char *data_dir)
{
	char path[FIXTURE_PATH_BYTES + 64];
	int pid = 0;

	for (unsigned major = 13; major <= 18 && pid == 0; major++) {
		snprintf(path, sizeof path, "%s/pg/%u/postmaster.pid", data_dir, major);
		FILE *f = fopen(path, "r");
		if (f == NULL)
			continue;
		if (fscanf(f, "%d", &pid) != 1)
			pid = 0;
		fclose(f);
	}
	return pid;
}
