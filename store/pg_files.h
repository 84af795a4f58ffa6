/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PG_FILES_H
#define DG_PG_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

/* pg_files: the few things the private cluster needs of a file system. Only for pg_*.c.
 * All return RC_IO, RC_FULL or RC_NOMEM by err_errno unless said. Threads: any. */

#define PG_PATH_BYTES 1024u

/* printf into a path buffer of PG_PATH_BYTES. RC_TOO_LARGE if it does not fit. */
enum rc pg_files_path(char *out, struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool pg_files_exists(const char *path);
/* Create a folder of mode 0700 and make its name durable; one that exists is fine. */
enum rc pg_files_mkdir(const char *path, struct err *err);
/* Replace a file as a whole, durably. Does not touch a file that has this text already, so that
 * an unchanged file needs no disk space. */
enum rc pg_files_write(const char *path, const char *text, size_t len, struct err *err);
/* Up to bytes_max - 1 bytes from offset (negative: from the end), NUL-terminated, into out.
 * An absent file reads as empty. Returns the length. */
size_t pg_files_read(const char *path, off_t offset, char *out, size_t bytes_max);
/* The number at the start of text, as PostgreSQL writes pids and versions; 0 if there is none. */
uint64_t pg_files_number(const char *text);
enum rc pg_files_sync_dir(const char *path, struct err *err);
/* fsync every file and folder below path and path itself. */
enum rc pg_files_sync_tree(const char *path, struct err *err);
/* Remove path and all below it; symbolic links are removed, not followed. Absent is fine. */
enum rc pg_files_remove_tree(const char *path, struct err *err);
/* Bytes that an unprivileged user may still write; UINT64_MAX if unknown. */
uint64_t pg_files_free_bytes(const char *path);
/* A file whose blocks are really allocated. RC_FULL leaves no file. */
enum rc pg_files_allocate(const char *path, uint64_t bytes, struct err *err);

#endif
