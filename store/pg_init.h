/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PG_INIT_H
#define DG_PG_INIT_H

#include <stdbool.h>

#include "err.h"
#include "log.h"
#include "pg_files.h"
#include "pg_install.h"
#include "pg_process.h"

/* pg_init: which PostgreSQL serves the private cluster, and how a cluster comes into being. Only
 * for pg_*.c.
 *
 * The folder <data_dir>/pg ("root") holds: the cluster <major>/, while it is being made
 * <major>.new/, and lock, ballast, log/, run/. A cluster is made in <major>.new/data next to a
 * marker file, made durable, and then renamed to <major>: it is there whole or not at all.
 * Nothing that is not understood is ever changed or removed. */

#define PG_INIT_ROLE               "digstore" /* role and database */
#define PG_INIT_TIMEOUT_MS         300000u
#define PG_INIT_OUTPUT_BYTES       2048u
#define PG_INIT_SHARED_BUFFERS_MIB 64u /* the server process has its own memory promise */

/* Look into root and choose the programs; *has_cluster: root/<major> is there already. bin_dir as
 * in pg_install_find.
 * Removes a <major>.new of our own that a killed init left behind.
 * RC_CONFLICT cluster-unknown: root holds something else; nothing was touched.
 * RC_NOT_FOUND postgres-missing: no PostgreSQL of the right major is installed. */
enum rc pg_init_choose(const char *root, const char *bin_dir, struct pg_install *install,
	bool *has_cluster, struct err *err);

/* Make root/<major>. Durable. RC_UNAVAILABLE postgres-failed: initdb failed; interrupted: stop
 * said so; RC_FULL. After a failure nothing is left, or what the next pg_init_choose removes. */
enum rc pg_init_create(const char *root, const struct pg_install *install,
	const struct pg_stop *stop, struct err *err);

/* Write postgresql.conf, pg_hba.conf and pg_ident.conf into data where they differ. */
struct pg_settings {
	unsigned major;
	unsigned connections_max;
	enum log_level log_level;
};
enum rc pg_init_configure(const char *data, const struct pg_settings *s, struct err *err);

/* The name of the user we run as. RC_DENIED root-refused: root; no-user: no passwd entry. */
enum rc pg_init_user(char *out, size_t out_bytes, struct err *err);

#endif
