/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_FOLDER_FIXTURE_H
#define DG_FOLDER_FIXTURE_H

#include <stddef.h>

/* folder_fixture: a folder full of files for a test, /tmp/…/folder, and room beside it for what
 * must not be found. Failures fail the test. */

extern char folder_top[64];  /* holds the folder and what lies beside it */
extern char folder_path[80]; /* the folder */
extern int folder_fd;        /* open on it */

/* Become nobody for good if we are root, so that permissions count. First in main. */
void folder_be_nobody(void);
/* cmocka setup and teardown of a test: an empty folder, and nothing of it left. */
int folder_setup(void **state);
int folder_teardown(void **state);
/* A file with these bytes; directories are made on the way. "../x" lies beside the folder. */
void folder_put(const char *path, const void *data, size_t len);
void folder_put_text(const char *path, const char *text);
void folder_mkdir(const char *path);
/* A hundred directories, one in the other: "n0/n1/…/" and name. Returns the path. */
const char *folder_put_deep(const char *name);

#endif
