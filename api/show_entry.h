/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SHOW_ENTRY_H
#define DG_SHOW_ENTRY_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "content.h"
#include "sha256.h"
#include "tree.h"

/* show_entry: files and small values as JSON. Functions that give a json_t give a new reference, or
 * NULL if there is no memory, which json_object_set_new and json_pack pass on. Threads: any. */

#define SHOW_FILE_ID_BYTES 80
/* "chunk:<hex>" or "recipe:<hex>" into out (SHOW_FILE_ID_BYTES). */
void show_file_id_text(const struct content *c, char *out);
json_t *show_file_id(const struct content *c);
json_t *show_hash(const struct sha256 *h);
/* RFC 3339 with microseconds. */
json_t *show_time(int64_t wall_us);
/* What follows writes JSON text, because a value of each of a thousand entries of a page costs more
 * than all that is done to find them. Paths are checked ones (path.h). */
void show_path_text(struct buf *out, const char *path, size_t len);
/* Fields, a comma before each: size, file_id, mode ("0644"), mtime (RFC 3339 with as many decimals
 * as it takes; null for 0, which means that nobody said it). */
void show_entry_fields(struct buf *out, const struct tree_entry *e);
/* An object: path, type "file", and those fields. */
void show_entry_text(struct buf *out, const struct tree_entry *e);
/* An object: path, type "prefix". */
void show_prefix_text(struct buf *out, const char *name, size_t len);

#endif
