/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PG_INSTALL_H
#define DG_PG_INSTALL_H

#include <stdbool.h>

#include "pg_files.h"

/* pg_install: which PostgreSQL programs this machine has. Only for pg_*.c. */

#define PG_INSTALL_MAJOR_MIN 13u
#define PG_INSTALL_MAJOR_MAX 18u

struct pg_install {
	unsigned major;
	char bin_dir[PG_PATH_BYTES];
};

bool pg_install_is_supported(unsigned major);
/* The newest supported major, or exactly the wanted one if that is not 0: in bin_dir, or if that is
 * NULL in /usr/lib/postgresql and where pg_config says. False if there is none. Starts short
 * programs; main thread only. */
bool pg_install_find(const char *bin_dir, unsigned wanted, struct pg_install *install);

#endif
