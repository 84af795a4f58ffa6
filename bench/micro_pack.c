/* SPDX-License-Identifier: Apache-2.0 */
/* micro_pack: frames built and appended to packs, which are synced and sealed as ingest does it, in
 * memory (what it costs the CPU) and on a disk in both ways of writing (what that takes). */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"
#include "micro.h"
#include "pack_writer.h"

#define PACK_BYTES    ((uint64_t)64 << 20)
#define SYNC_BYTES    ((uint64_t)32 << 20) /* what the committer waits for at most */
#define FRAME_CHUNKS  (MICRO_FRAME_BYTES / MICRO_PIECE_BYTES)
#define MEMORY_FOLDER "/dev/shm"
#define PATH_BYTES    512

struct packs {
	char path[PATH_BYTES];
	struct pack_dir *dir;
	struct pack_chunk chunks[FRAME_CHUNKS];
	struct iovec payload;
	bool direct;
	uint64_t last_id;
};

static void
frame_append(struct packs *p, struct pack_writer *w)
{
	struct pack_frame frame = {.codec = CODEC_RAW,
		.chunks = p->chunks,
		.chunk_count = FRAME_CHUNKS,
		.raw_bytes = MICRO_FRAME_BYTES,
		.stored = &p->payload,
		.stored_count = 1,
		.stored_bytes = MICRO_FRAME_BYTES};
	struct err err = ERR_INIT;
	uint64_t offset;
	uint64_t bytes;

	micro_must(pack_writer_append(w, &frame, &offset, &bytes, &err) == RC_OK, err.text);
}

/* One pack, from its creation to its end. */
static uint64_t
pass_pack(void *state)
{
	struct packs *p = state;
	static const uint8_t uuid[PACK_UUID_BYTES] = {1};
	struct pack_writer_options options = PACK_WRITER_OPTIONS_INIT;
	struct pack_writer *w = NULL;
	struct err err = ERR_INIT;
	uint64_t synced = 0;
	uint64_t bytes = 0;

	options.bytes_max = PACK_BYTES;
	options.direct = p->direct;
	micro_must(pack_writer_open(p->dir, ++p->last_id, uuid, &options, &w, &err) == RC_OK,
		err.text);
	while (pack_writer_has_room(w, pack_frame_bytes_of(FRAME_CHUNKS, MICRO_FRAME_BYTES))) {
		frame_append(p, w);
		bytes += MICRO_FRAME_BYTES;
		if (bytes - synced < SYNC_BYTES)
			continue;
		micro_must(
			pack_writer_flush(w, &err) == RC_OK && pack_writer_sync(w, &err) == RC_OK,
			err.text);
		synced = bytes;
	}
	micro_must(pack_writer_seal(w, &err) == RC_OK, err.text);
	micro_must(!p->direct || pack_writer_is_direct(w), "no direct writes in that folder");
	pack_writer_free(w);
	micro_must(pack_remove(p->dir, p->last_id, &err) == RC_OK, err.text);
	return bytes;
}

static void
packs_init(struct packs *p, const struct micro *m, const char *folder)
{
	const uint8_t *noise = micro_input_at(m, 3)->data;
	struct err err = ERR_INIT;

	memset(p, 0, sizeof *p);
	snprintf(p->path, sizeof p->path, "%s/micro-packs-XXXXXX", folder);
	micro_must(mkdtemp(p->path) != NULL, "cannot make a folder for packs");
	micro_must(pack_dir_open(p->path, &p->dir, &err) == RC_OK, err.text);
	for (size_t i = 0; i < FRAME_CHUNKS; i++) {
		micro_hash(i, &p->chunks[i].hash);
		p->chunks[i].length = MICRO_PIECE_BYTES;
	}
	/* iovec has no const; nobody writes there. */
	p->payload.iov_base = (void *)(uintptr_t)noise;
	p->payload.iov_len = MICRO_FRAME_BYTES;
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	(void)st;
	(void)kind;
	(void)walk;
	return remove(path);
}

static void
packs_done(struct packs *p)
{
	pack_dir_free(p->dir);
	nftw(p->path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

void
micro_packs(struct micro *m)
{
	struct packs p;

	if (!micro_wants(m, "pack"))
		return;
	if (access(MEMORY_FOLDER, W_OK) == 0) {
		packs_init(&p, m, MEMORY_FOLDER);
		micro_stage(m, "pack in memory", "byte", 0, pass_pack, &p, NULL);
		packs_done(&p);
	}
	if (micro_dir(m) == NULL)
		return;
	packs_init(&p, m, micro_dir(m));
	micro_stage(m, "pack on disk, buffered", "byte", 0, pass_pack, &p, NULL);
	p.direct = true;
	micro_stage(m, "pack on disk, direct", "byte", 0, pass_pack, &p, NULL);
	packs_done(&p);
}
