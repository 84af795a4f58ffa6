/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PACK_MAKER_H
#define DG_PACK_MAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster_fixture.h"
#include "db_chunk.h"
#include "db_pack.h"
#include "pack_dir.h"
#include "pack_reader.h"

/* pack_maker: a migrated database with two repositories, and packs with known contents in it, as
 * uploads leave them; and looking whether the tables tell the truth about the files. Failures end
 * the test. */

#define MAKER_REPO_A 1u
#define MAKER_REPO_B 2u

enum maker_data {
	MAKER_TEXT,   /* compresses well, better at high levels */
	MAKER_RANDOM, /* not at all */
};

struct maker_frame {
	enum maker_data data;
	unsigned seed; /* other chunks for every seed */
	unsigned chunk_count;
	unsigned chunk_bytes;
	int level;      /* of zstd; 0: raw */
	bool no_rows;   /* nobody names these chunks */
	bool bad_bytes; /* right checksums around wrong bytes: zstd does not expand, of a raw frame
			   the first chunk is wrong */
};

struct maker {
	struct cluster_fixture *fx;
	struct pack_dir *dir;
	struct pack_readers *readers;
};

void maker_open(struct maker *m, struct cluster_fixture *fx);
void maker_close(struct maker *m);
/* No packs, files or chunks any more; both repositories are there. */
void maker_clear(struct maker *m);

void maker_uuid(unsigned repo, uint8_t *out);
/* A sealed pack, rows committed, closed an hour ago. */
uint64_t maker_pack(struct maker *m, unsigned repo, const struct maker_frame *frames, size_t count);
/* As a crash leaves it and recovery closes it: without a footer. */
uint64_t maker_closed_pack(
	struct maker *m, unsigned repo, const struct maker_frame *frames, size_t count);
/* The bytes and the hash of the i-th chunk of a frame. */
void maker_chunk(const struct maker_frame *f, unsigned i, uint8_t *out);
struct sha256 maker_hash(const struct maker_frame *f, unsigned i);

/* Live rows that lead to bytes with their hash; those that do not are counted in *wrong. */
size_t maker_true_rows(struct maker *m, size_t *wrong);
/* Every live row is true, every pack that has a row has its file and the other way round, sealed
 * and closed packs are of the size they say, and there is nothing half done. */
void maker_check(struct maker *m);

struct maker_row {
	bool is_there;
	uint64_t repo_id;
	int state;
	uint64_t bytes;
	int squeeze;
	int64_t gain; /* -1: NULL, as the following */
	int64_t raw_bytes;
	int64_t bytes_before;
};
struct maker_row maker_row(struct maker *m, uint64_t id);

void maker_path(struct maker *m, uint64_t id, char *out, size_t len);
bool maker_has_file(struct maker *m, uint64_t id);
uint64_t maker_file_bytes(struct maker *m, uint64_t id);
size_t maker_file_count(struct maker *m);
/* Flip a bit. */
void maker_flip(struct maker *m, uint64_t id, uint64_t offset);
/* Where the chunk of that hash is; length 0: it has no live row. */
struct chunk_row maker_locate(struct maker *m, unsigned repo, const struct sha256 *hash);

#endif
