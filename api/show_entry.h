/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_SHOW_ENTRY_H
#define DG_SHOW_ENTRY_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "sha256.h"
#include "tree.h"

/* show_entry: files and small values as JSON. Every function gives a new reference, or NULL if
 * there is no memory, which json_object_set_new and json_pack pass on. Threads: any. */

#define SHOW_FILE_ID_BYTES 80
/* "chunk:<hex>" or "recipe:<hex>" into out (SHOW_FILE_ID_BYTES). */
void show_file_id_text(const struct content *c, char *out);
json_t *show_file_id(const struct content *c);
json_t *show_hash(const struct sha256 *h);
/* RFC 3339 with microseconds. */
json_t *show_time(int64_t wall_us);
/* RFC 3339 with as many decimals as it takes; null for 0, which means that nobody said it. */
json_t *show_mtime(int64_t mtime_ns);
/* "0644" */
json_t *show_mode(uint32_t mode);
/* path, type "file", size, file_id, mode, mtime. */
json_t *show_entry(const struct tree_entry *e);
/* path, type "prefix". */
json_t *show_prefix(const char *name, size_t len);
/* {"items": items, "next_cursor": cursor}; both stolen, cursor NULL means null. */
json_t *show_page(json_t *items, json_t *cursor);

#endif
