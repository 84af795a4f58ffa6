/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CLUSTER_FIXTURE_H
#define DG_CLUSTER_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "db.h"
#include "pg_cluster.h"

/* cluster_fixture: a private PostgreSQL for a test program, made by pg_cluster itself in a fresh
 * folder under /tmp. Started as root, the program becomes the system user "digstore" (created if
 * missing) for good. Failures end the program with a message. */

#define FIXTURE_PATH_BYTES 256u

struct cluster_fixture {
	char dir[FIXTURE_PATH_BYTES]; /* the data directory */
	bool was_root;
	const char *small_disk; /* folder on a tmpfs of FIXTURE_SMALL_DISK_BYTES, or NULL */
	struct pg_cluster *cluster;
	struct db *db;
};

#define FIXTURE_SMALL_DISK_BYTES (UINT64_C(144) << 20)

/* Become an unprivileged user, make dir. Call first in main, before any thread exists. */
void fixture_init(struct cluster_fixture *fx, bool wants_small_disk);
/* Start the cluster in fx->dir, with no pool. */
void fixture_start(struct cluster_fixture *fx);
/* A pool of 4 on it, with a statement timeout. */
struct db *fixture_pool(const struct cluster_fixture *fx, unsigned statement_timeout_ms);
/* Close what is open and remove dir. */
void fixture_done(struct cluster_fixture *fx);

struct pg_cluster_options fixture_options(const char *data_dir);

/* Run statements of trusted text in one transaction. */
void fixture_sql(struct db *db, const char *sql);
/* The single bigint that a query gives. */
int64_t fixture_number(struct db *db, const char *sql);
/* Wait up to seconds for it; false if it never came. */
bool fixture_wait(bool (*is_so)(void *arg), void *arg, unsigned seconds);
/* The postmaster's pid, from data_dir/pg/<major>/postmaster.pid; 0 if there is none. */
int fixture_postmaster(const char *data_dir);

#endif
