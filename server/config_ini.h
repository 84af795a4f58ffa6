/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_CONFIG_INI_H
#define DG_CONFIG_INI_H

#include <stdbool.h>

#include "config.h"
#include "err.h"

/* config_ini: the settings file. For config.c only.
 *
 * Lines are empty, comments that start with '#' or ';', "[section]" or "name = value". A key stands
 * in its own section, or as name or section.name before the first section. A value goes to the end
 * of its line without the spaces around it, and without double quotes around all of it; there are
 * no comments after values, since a URL may hold '#'. */

/* Read the file at path into c. RC_INVALID: text names file, line and what is wrong with it. RC_IO:
 * it cannot be read, or is missing and must_exist. */
enum rc config_ini_load(const char *path, bool must_exist, struct config *c, struct err *err);

#endif
