/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DG_PROOFS_H
#define DG_PROOFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "sha256.h"

/* proofs: which bytes, at which places of packs, were compared with their SHA-256 before.
 *
 * After a chunk was compared, a 64-bit keyed checksum over its place, its name and its bytes is
 * remembered.
 * When the chunk is read again, from the disk or expanded anew, and its checksum is among those
 * remembered, its SHA-256 would be the same: the checksum costs a sixth of it. Bytes that rotted
 * meanwhile pass with a chance of 2^-61 (eight words are looked at).
 * The key is random and never leaves the process, so nobody can make bytes that pass.
 * The table forgets at random and is never wrong for it. Memory: 8 bytes a chunk.
 * Threads: any, no locks; a word is written and read at once. */

struct proofs;

/* bytes: of the table, rounded up to a power of two; 0 remembers nothing. RC_NOMEM. */
enum rc proofs_open(size_t bytes, struct proofs **out, struct err *err);
/* NULL is allowed. */
void proofs_free(struct proofs *p);

/* A chunk as it was read: where it is, and its raw bytes. */
struct proof_chunk {
	uint64_t pack_id;
	uint64_t frame_offset;
	uint64_t raw_offset; /* in the frame's raw bytes */
	const uint8_t *data;
	size_t len;
};

/* What stands for the chunk of that name. */
struct proof {
	uint64_t place; /* says where in the table the sum may be: only words of that line count */
	uint64_t sum;
};
struct proof proofs_of(
	const struct proofs *p, const struct proof_chunk *c, const struct sha256 *name);
/* It was compared before. */
bool proofs_have(const struct proofs *p, const struct proof *proof);
/* Its SHA-256 was compared just now. */
void proofs_add(struct proofs *p, const struct proof *proof);

/* Are count chunks what their names say? By what is remembered, or by their SHA-256, which is then
 * remembered. ok[i] tells. *verdict is added to. */
#define PROOFS_CHECK_MAX 64
struct proofs_verdict {
	uint64_t hashed; /* right, by SHA-256 */
	uint64_t proven; /* right, by what was remembered */
	uint64_t bad;
};
void proofs_check(struct proofs *p, const struct proof_chunk *chunks,
	const struct sha256 *const *names, size_t count, bool *ok, struct proofs_verdict *verdict);

#endif
