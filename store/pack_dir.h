/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PACK_DIR_H
#define DG_PACK_DIR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

/* pack_dir: the directory of all packs, `<path>/<xx>/<16 hex digits of the pack id>.pack`, where xx
 * is the low byte of the id.
 *
 * The 256 shard directories are made and synced once, on the first open, and stay open after: the
 * hot path makes no directory and resolves no long path. Costs 257 file descriptors.
 * Threads: a struct pack_dir is immutable after open; every function may be called by any thread.
 * Durable: after pack_dir_open the directories are there for good. A file is durable in its shard
 * only after its own sync and the shard's: see pack_writer_sync. */

struct pack_dir;

/* Open the directory at path, making it (its parent must exist) and its shards where missing.
 * Owned by the caller. Blocks on disk. RC_IO, RC_FULL, RC_NOMEM. */
enum rc pack_dir_open(const char *path, struct pack_dir **out, struct err *err);
/* After all writers and readers of it are freed. NULL is allowed. */
void pack_dir_free(struct pack_dir *dir);

/* Unlink a pack and sync its shard. Who has it open can go on reading.
 * RC_NOT_FOUND: no such pack, for good. RC_IO: it may be there or not after a crash; call again. */
enum rc pack_remove(struct pack_dir *dir, uint64_t pack_id, struct err *err);

/* Answers RC_OK to go on; anything else (err filled) ends the walk, which then returns it. */
typedef enum rc pack_dir_list_fn(void *arg, uint64_t pack_id, struct err *err);

/* Call fn for every pack file, in no order; other names are skipped. Packs made or removed
 * meanwhile may be missed or seen. RC_IO, RC_NOMEM, or what fn returned. */
enum rc pack_dir_list(struct pack_dir *dir, pack_dir_list_fn *fn, void *arg, struct err *err);

/* Bytes that an ordinary user may still write to the file system. RC_IO. */
enum rc pack_dir_space(const struct pack_dir *dir, uint64_t *free_bytes, struct err *err);

/* The rest is for the other pack modules. */

/* As openat(2) of the pack's file: a descriptor owned by the caller, or -1 and errno. Always
 * O_CLOEXEC; a file it creates has mode 0640 less the umask. */
int pack_dir_openat(const struct pack_dir *dir, uint64_t pack_id, int flags);
/* As unlinkat(2). */
int pack_dir_unlinkat(const struct pack_dir *dir, uint64_t pack_id);
/* A new descriptor of the shard that holds (or will hold) the pack, owned by the caller, or -1 and
 * errno. The kernel reports a failed write-back once per open file: whoever must know whether a
 * directory entry became durable opens this before making the entry, and syncs this. */
int pack_dir_open_shard(const struct pack_dir *dir, uint64_t pack_id);
/* err_errno with the pack's path. */
enum rc pack_dir_errno(const struct pack_dir *dir, uint64_t pack_id, int errnum, const char *doing,
	struct err *err);
/* RC_CORRUPT, kind "corrupt-data", the path, offset and why in the detail. */
enum rc pack_dir_corrupt(const struct pack_dir *dir, uint64_t pack_id, uint64_t offset,
	const char *why, struct err *err);
/* Read len bytes at offset, going on after short reads and EINTR; *got < len only at the end of
 * the file. 0, or the errno. */
int pack_dir_pread(int fd, uint8_t *data, size_t len, uint64_t offset, size_t *got);

#endif
