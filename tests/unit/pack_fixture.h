/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PACK_FIXTURE_H
#define DG_PACK_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pack_dir.h"
#include "pack_format.h"
#include "pack_reader.h"
#include "pack_scan.h"
#include "pack_writer.h"

/* pack_fixture: what the tests of packs share: a pack directory in a temporary place that removes
 * itself, and frames with contents made from a seed. Whatever fails, fails the test. */

struct fixture {
	char root[200];
	struct pack_dir *dir;
	struct pack_readers *readers;
	uint64_t last_id;
};

extern const uint8_t fixture_uuid[PACK_UUID_BYTES];

/* cmocka group setup and teardown; *state is a struct fixture. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* A new temporary directory into path (200 bytes), and its removal with all that is in it. */
void fixture_mkdtemp(char *path);
void fixture_rmtree(const char *path);

/* A frame and the bytes it borrows. */
struct test_frame {
	struct pack_frame frame;
	struct pack_chunk *chunks;
	uint8_t *payload;
	struct iovec parts[3];
	struct pack_place place;
};

/* chunk_count chunks of chunk_bytes each; CODEC_ZSTD stores half as many bytes, which are no zstd:
 * packs do not look into them. */
void test_frame_make(struct test_frame *t, uint32_t seed, enum codec_id codec, uint32_t chunk_count,
	uint32_t chunk_bytes);
void test_frame_free(struct test_frame *t);
/* Append; must succeed. */
void test_frame_append(struct test_frame *t, struct pack_writer *w);
/* Does the view show the frame as it was appended? */
bool test_frame_is(const struct test_frame *t, const struct pack_frame_view *view);
/* Read it where it was put and compare. */
void test_frame_check(const struct test_frame *t, struct pack_readers *readers);
/* Read it, and expect failure with this code. */
void test_frame_check_fails(const struct test_frame *t, struct pack_readers *readers, enum rc rc);

/* A writer of a new id, default options but for small packs. */
struct pack_writer *fixture_writer(struct fixture *f);
/* Flush, sync, seal, free; all must succeed. */
void fixture_seal(struct pack_writer *w);

void fixture_path(const struct fixture *f, uint64_t pack_id, char *out, size_t out_bytes);
/* The bytes of a pack's file, owned by the caller. */
uint8_t *fixture_file(const struct fixture *f, uint64_t pack_id, size_t *len);
/* Put other bytes at offset of a pack's file, sealed or not. */
void fixture_poke(
	const struct fixture *f, uint64_t pack_id, uint64_t offset, const void *data, size_t len);
void fixture_truncate(const struct fixture *f, uint64_t pack_id, uint64_t bytes);

/* Scan and demand that exactly the frames given (NULL ends the list) are found, in that order, and
 * that every byte of the file is accounted for. */
void fixture_scan(const struct fixture *f, uint64_t pack_id, const struct test_frame *const *frames,
	struct pack_scan_stats *stats);

#endif
