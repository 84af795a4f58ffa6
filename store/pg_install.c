/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_install.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "err.h"
#include "pg_process.h"

static bool
has_programs(const char *bin_dir)
{
	char path[PG_PATH_BYTES + 16];

	snprintf(path, sizeof path, "%s/postgres", bin_dir);
	if (access(path, X_OK) != 0)
		return false;
	snprintf(path, sizeof path, "%s/initdb", bin_dir);
	return access(path, X_OK) == 0;
}

/* Output of a short command, without the newline; "" if it fails. */
static void
ask(const char *program, const char *argument, char *out, size_t out_bytes)
{
	struct err ignored = ERR_INIT;
	struct pg_run run = {.timeout_ms = 10000, .out = out, .out_bytes = out_bytes};
	char name[PG_PATH_BYTES];
	char option[32];
	char *argv[] = {name, option, NULL};
	int status = 0;

	snprintf(name, sizeof name, "%s", program);
	snprintf(option, sizeof option, "%s", argument);
	if (pg_process_run(program, argv, &run, &status, &ignored) != RC_OK || status != 0)
		out[0] = '\0';
	out[strcspn(out, "\n")] = '\0';
}

/* "postgres (PostgreSQL) 15.20 (Debian 15.20-0)" -> 15; 0 if it says something else. */
static unsigned
major_of(const char *bin_dir)
{
	static const char word[] = "(PostgreSQL) ";
	char program[PG_PATH_BYTES + 16];
	char text[256];

	snprintf(program, sizeof program, "%s/postgres", bin_dir);
	ask(program, "--version", text, sizeof text);
	const char *at = strstr(text, word);
	return at != NULL ? (unsigned)pg_files_number(at + strlen(word)) : 0;
}

bool
pg_install_is_supported(unsigned major)
{
	return major >= PG_INSTALL_MAJOR_MIN && major <= PG_INSTALL_MAJOR_MAX;
}

static bool
is_wanted(unsigned major, unsigned wanted)
{
	return pg_install_is_supported(major) && (wanted == 0 || major == wanted);
}

/* pg_config of the PATH names one more folder, for systems that keep PostgreSQL elsewhere. */
static void
bin_dir_of_pg_config(char *out, size_t out_bytes)
{
	const char *path = getenv("PATH");
	char program[PG_PATH_BYTES];

	out[0] = '\0';
	while (path != NULL && *path != '\0') {
		size_t len = strcspn(path, ":");
		int n = snprintf(program, sizeof program, "%.*s/pg_config", (int)len, path);
		if (path[0] == '/' && n > 0 && (size_t)n < sizeof program &&
			access(program, X_OK) == 0) {
			ask(program, "--bindir", out, out_bytes);
			return;
		}
		path += len + (path[len] == ':' ? 1 : 0);
	}
}

bool
pg_install_find(const char *bin_dir, unsigned wanted, struct pg_install *install)
{
	char other[PG_PATH_BYTES];

	if (bin_dir != NULL) {
		snprintf(install->bin_dir, sizeof install->bin_dir, "%s", bin_dir);
		install->major = has_programs(bin_dir) ? major_of(bin_dir) : 0;
		return is_wanted(install->major, wanted);
	}
	install->major = 0;
	for (unsigned m = PG_INSTALL_MAJOR_MAX; m >= PG_INSTALL_MAJOR_MIN && install->major == 0;
		m--) {
		snprintf(
			install->bin_dir, sizeof install->bin_dir, "/usr/lib/postgresql/%u/bin", m);
		if (is_wanted(m, wanted) && has_programs(install->bin_dir))
			install->major = m;
	}
	bin_dir_of_pg_config(other, sizeof other);
	if (other[0] == '/' && strcmp(other, install->bin_dir) != 0 && has_programs(other)) {
		unsigned major = major_of(other);
		if (is_wanted(major, wanted) && major > install->major) {
			install->major = major;
			memcpy(install->bin_dir, other, sizeof other);
		}
	}
	return install->major != 0;
}
